"""From a source's name to its resource, by convention.

`resources.sage_intacct`, for example, offers `resource(settings)`, which makes the Dagster
resource, and `SageIntacctSecrets`, whose `from_env()` refuses a variable that is missing. Nothing
else is asked of it here.
"""

from importlib import import_module
from typing import Any, cast

from resources.client import SourceResource
from revrec_pipeline.errors import SettingsError
from revrec_pipeline.settings import Settings


def _module(source: str) -> Any:
    return import_module(f"resources.{source}")


def resource_of(source: str, settings: Settings) -> SourceResource:
    """The Dagster resource of a source. It reads secrets only when it connects."""
    return cast(SourceResource, _module(source).resource(settings))


def secrets_of(source: str) -> Any:
    """The model of a source's environment variables."""
    return getattr(_module(source), f"{source.title().replace('_', '')}Secrets")


def why_not_connected(source: str) -> SettingsError | None:
    """None if the secrets of a source are set, else the error that names what is missing."""
    try:
        secrets_of(source).from_env()
    except SettingsError as error:
        return error
    return None
