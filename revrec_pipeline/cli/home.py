"""What most commands need: the settings, the ledger and the lake of this environment."""

from revrec_pipeline.lake import Lake
from revrec_pipeline.ledger import Ledger, open_ledger
from revrec_pipeline.settings import Settings

#: What `trigger` says of the jobs of a command, and how long a command speaks for them.
TRIGGER, LEASE_SECONDS = "command line", 120.0


def open_home() -> tuple[Settings, Ledger, Lake]:
    """Read the settings and open both stores; the home is made if it is new."""
    settings = Settings.load()
    settings.make_home()
    return settings, open_ledger(settings.ledger), Lake(settings.lake_root)
