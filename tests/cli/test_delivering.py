"""How long a command waits for deliveries."""

from pathlib import Path

import pytest
from conftest import Sandbox

from revrec_pipeline.cli import syncing
from revrec_pipeline.cli.home import open_home
from revrec_pipeline.cli.progress import progress
from revrec_pipeline.cli.runs import Runner
from revrec_pipeline.sources import SOURCES

MONTH = "2026-05"


def test_a_delivery_of_its_own_may_take_longer_than_a_command_waits_for_those_of_others(
    tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 5 million lines it was delivered, and told as failed."""
    (tmp_path / "revrec.toml").write_text(f'[site]\nhistory_start = "{MONTH}"\n')
    for name, value in sandbox.only("stripe").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("REVREC_HOME", str(tmp_path))
    monkeypatch.setenv("REVREC_CONFIG", str(tmp_path / "revrec.toml"))
    monkeypatch.setattr(syncing, "_PATIENCE_SECONDS", 0.0)
    settings, ledger, lake = open_home()

    with progress() as shown:
        outcome = syncing.sync_source(
            Runner(settings), ledger, lake, SOURCES["stripe"], syncing.Span(MONTH, MONTH), shown
        )

    assert outcome.failures == []
    with ledger.transaction() as tx:
        (batch,) = tx.rows("SELECT state FROM batch")
    assert batch["state"] == "delivered"
