"""The stores as Dagster resources: the lake's folder and the ledger's database."""

from functools import cache
from pathlib import Path

import dagster as dg

from revrec_pipeline.lake import Lake
from revrec_pipeline.ledger import Ledger, open_ledger


class LakeResource(dg.ConfigurableResource["LakeResource"]):
    """The lake: raw pages, canonical batches and conversion files."""

    root: str

    def open(self) -> Lake:
        """The lake at `root`."""
        return Lake(Path(self.root))


class LedgerResource(dg.ConfigurableResource["LedgerResource"]):
    """The ledger. Its URL may hold a password: give it as `EnvVar`, and no log or page shows it."""

    url: str

    def open(self) -> Ledger:
        """The ledger, migrated to this version's schema."""
        return _open_once(self.url)


@cache
def _open_once(url: str) -> Ledger:
    """One ledger per process: opening migrates, which costs a transaction."""
    return open_ledger(url)
