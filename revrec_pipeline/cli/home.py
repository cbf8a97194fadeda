"""What most commands need: the settings, the ledger and the lake of this environment."""

from revrec_pipeline.lake import Lake
from revrec_pipeline.ledger import Ledger, open_ledger
from revrec_pipeline.settings import Settings


def open_home() -> tuple[Settings, Ledger, Lake]:
    """Read the settings and open both stores; the home is made if it is new."""
    settings = Settings.load()
    settings.make_home()
    return settings, open_ledger(settings.ledger), Lake(settings.lake_root)
