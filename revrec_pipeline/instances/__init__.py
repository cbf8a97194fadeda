"""Dagster's home below ours, in one of two ready configurations: embedded or PostgreSQL.

`dagster.yaml` knows no conditions, so there are two files and a common part; PostgreSQL is taken
when `DAGSTER_PG_HOST` is set. What Dagster stores is its own: runs, events, ticks. The ledger is
elsewhere.
"""

import os
from importlib.resources import files
from string import Template

from revrec_pipeline.errors import SettingsError
from revrec_pipeline.settings import Settings

_POSTGRES = ("DAGSTER_PG_HOST", "DAGSTER_PG_USERNAME", "DAGSTER_PG_PASSWORD", "DAGSTER_PG_DB")


def prepare(settings: Settings) -> None:
    """Write `<home>/dagster/dagster.yaml` and point `DAGSTER_HOME` at its folder.

    Raises:
        SettingsError: the home cannot be written, or PostgreSQL is half configured.
    """
    home = settings.home / "dagster"
    text = _configuration()
    try:
        home.mkdir(parents=True, exist_ok=True)
        target = home / "dagster.yaml"
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            partial = home / f".dagster.yaml.{os.getpid()}"
            partial.write_text(text, encoding="utf-8")
            partial.replace(target)
    except OSError as error:
        raise SettingsError(
            f"REVREC_HOME {settings.home} cannot be written: {error.strerror}"
        ) from error
    os.environ["DAGSTER_HOME"] = str(home)
    # What a run plans (twenty records and more) is stored at once.
    os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", "100")


def _configuration() -> str:
    given = [name for name in _POSTGRES if os.environ.get(name)]
    if given and len(given) < len(_POSTGRES):
        missing = next(name for name in _POSTGRES if name not in given)
        raise SettingsError(f"{missing} is not set, but {given[0]} is; set all of {_POSTGRES}")
    kind = "postgres" if given else "embedded"
    port = os.environ.get("DAGSTER_PG_PORT", "5432")
    if not port.isdigit():
        raise SettingsError(f"DAGSTER_PG_PORT: {port!r} is not a number")
    folder = files(__package__)
    own, common = (
        (folder / name).read_text(encoding="utf-8") for name in (f"{kind}.yaml", "common.yaml")
    )
    return Template(own + common).substitute(DAGSTER_PG_PORT=port)
