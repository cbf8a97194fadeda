"""From a source's name to its resource, by convention.

`resources.sage_intacct`, for example, offers `SageIntacctClient`, a `ConnectedClient`, and
`SageIntacctSecrets`, whose `from_env()` refuses a variable that is missing. Nothing else is asked
of it here.
"""

from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import dagster as dg

from resources.client import SourceClient, SourceResource, Surroundings
from resources.stores import LedgerResource
from revrec_pipeline.errors import SettingsError
from revrec_pipeline.ledger import Ledger
from revrec_pipeline.settings import Settings
from revrec_pipeline.sources import SOURCES


def _named(source: str, kind: str) -> Any:
    """The class of a source's module with the name that all sources use."""
    module = import_module(f"resources.{source}")
    return getattr(module, f"{source.title().replace('_', '')}{kind}")


class ApiResource(dg.ConfigurableResource["ApiResource"]):
    """A source's API; its secrets are read from the environment when a client is asked for.

    The ledger's URL may hold a password: give it as `EnvVar`.
    """

    source: str
    timezone: str
    #: Only what somebody has set: a field's name that is a default may be missing at the vendor's,
    #: one that was configured may not.
    settings: dict[str, Any]
    home: str
    ledger_url: str

    def client(self) -> SourceClient:
        """A client of the account that the environment names."""
        client = _named(self.source, "Client").connect(
            secrets_of(self.source).from_env(),
            SOURCES[self.source].settings.model_validate(self.settings),
            Surroundings(
                timezone=self.timezone,
                open_ledger=self._open_ledger,
                counted=Path(self.home, "limits", f"{self.source}.json"),
            ),
        )
        return cast(SourceClient, client)

    def _open_ledger(self) -> Ledger:
        url = self.ledger_url
        if isinstance(url, dg.EnvVar):  # outside of Dagster nobody has resolved it
            url = url.get_value() or ""
        with suppress(OSError):  # opening the ledger says it better
            Path(self.home).mkdir(parents=True, exist_ok=True)
        return LedgerResource(url=url).open()


def resource_of(source: str, settings: Settings) -> SourceResource:
    """The Dagster resource of a source. It reads secrets only when it connects."""
    return ApiResource(
        source=source,
        timezone=settings.site.timezone,
        settings=settings.source(source).model_dump(mode="json", exclude_unset=True),
        home=str(settings.home),
        ledger_url=dg.EnvVar("REVREC_LEDGER_URL") if settings.ledger_url else settings.ledger,
    )


def secrets_of(source: str) -> Any:
    """The model of a source's environment variables."""
    return _named(source, "Secrets")


def why_not_connected(source: str) -> SettingsError | None:
    """None if the secrets of a source are set, else the error that names what is missing."""
    try:
        secrets_of(source).from_env()
    except SettingsError as error:
        return error
    return None
