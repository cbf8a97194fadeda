"""Settings: `revrec.toml` for what may be shown, the environment for where things are.

Secrets are not here: each resource reads its own from the environment when it connects, so that
none can reach a log, run configuration or a file. The file is `$REVREC_CONFIG`, else `revrec.toml`
in the current folder, else `revrec.toml` in the home; without one the defaults below hold.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Iterable
from datetime import date, datetime
from pathlib import Path
from typing import Any, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from revrec_pipeline.errors import SettingsError, UsageError
from revrec_pipeline.mapping import Site, SourceSettings
from revrec_pipeline.periods import parse_period, period_of
from revrec_pipeline.sources import SOURCES


class SiteSettings(BaseModel):
    """`[site]`: what holds for all sources. Fixed once there is history."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: IANA name; decides in which month and on which day an instant falls.
    timezone: str = "UTC"
    #: ISO 4217; the currency of a record whose source has only one.
    home_currency: str = "USD"
    #: First month that may be pulled; the first key of every partitioned asset.
    history_start: str = "2024-01"
    #: Documents before this day are excluded by the rule `before_conversion_date`.
    conversion_date: date | None = None
    #: Whom the Dagster UI names as owner of the assets: e-mail addresses or `team:<name>`.
    owners: tuple[str, ...] = ("team:revenue",)

    def months(self, at: datetime) -> tuple[str, str]:
        """The first and the running month at an instant: the partitions of all assets.

        A change may touch others. What is before them is nobody's; what is later waits its turn.
        """
        return self.history_start, period_of(at, self.timezone)

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"{name!r} is no time zone; write it like America/New_York") from error
        return name

    @field_validator("home_currency")
    @classmethod
    def _currency_code(cls, code: str) -> str:
        if len(code) != 3 or not code.isascii() or not code.isupper():
            raise ValueError(f"{code!r} is no ISO 4217 code; write it like USD")
        return code

    @field_validator("history_start")
    @classmethod
    def _month(cls, text: str) -> str:
        try:
            return parse_period(text)
        except UsageError as error:
            raise ValueError(str(error)) from error


class AlertSettings(BaseModel):
    """`[alerts]`: who is told of a failed run. A webhook is named by `REVREC_ALERT_WEBHOOK`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Addresses that get an e-mail.
    email_to: tuple[str, ...] = ()
    #: The sender's address.
    email_from: str = "revrec@localhost"
    #: The mail server; it must offer STARTTLS when `REVREC_SMTP_PASSWORD` is set.
    smtp_host: str = "localhost"
    smtp_port: int = Field(default=25, ge=1, le=65535)


class RetentionSettings(BaseModel):
    """`[retention]`: what the daily housekeeping removes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Runs of Dagster, with their logs, that ended more days ago than this.
    runs_days: int = Field(default=90, ge=1)
    #: Raw pages that nothing needs any more and are older than this; without it, all are kept.
    raw_days: int | None = Field(default=None, ge=1)


class ImportSettings(BaseModel):
    """`[imports]`: a folder from which files are taken by themselves."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Where files in the template arrive, a path or `s3://bucket/prefix`; without one, none is
    #: watched.
    folder: str | None = None
    #: Cron expression in the site's time zone.
    schedule: str = "0 0 * * *"

    @field_validator("folder")
    @classmethod
    def _place(cls, folder: str | None) -> str | None:
        if folder is None or re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]+(/[^?#]*)?", folder):
            return folder
        if "://" in folder:
            raise ValueError("write a path, or s3://bucket/prefix; credentials do not belong here")
        return str(Path(folder).expanduser().absolute())


#: `[sources]`: one table per source of the registry, each with the settings of its mapping.
_Sources = create_model(
    "_Sources",
    __config__=ConfigDict(extra="forbid", frozen=True),
    **{name: (source.settings, source.settings()) for name, source in SOURCES.items()},  # type: ignore[call-overload]  # fields are only known at run time
)


class _File(TomlConfigSettingsSource):
    """The file, which says nothing of where things are: a ledger's URL may hold a password."""

    def __call__(self) -> dict[str, Any]:
        found = super().__call__()
        for name in sorted(found.keys() & {"home", "ledger_url", "lake_url"}):
            raise SettingsError(
                f"{self.toml_file_path}: {name!r} is no setting of the file; set the environment "
                f"variable REVREC_{name.upper()}"
            )
        return found


class Settings(BaseSettings):
    """Everything that is not a secret. Load it with `Settings.load()`."""

    model_config = SettingsConfigDict(env_prefix="REVREC_", extra="forbid", frozen=True)

    #: `REVREC_HOME`: the lake, the ledger file, Dagster's home and the files.
    home: Path = Path(".revrec")
    #: `REVREC_LEDGER_URL`: `duckdb:///path` or `postgresql://…`; a file in the home by default.
    ledger_url: str | None = None
    #: `REVREC_LAKE_URL`: a folder; `lake` in the home by default.
    lake_url: str | None = None
    site: SiteSettings = SiteSettings()
    alerts: AlertSettings = AlertSettings()
    retention: RetentionSettings = RetentionSettings()
    imports: ImportSettings = ImportSettings()
    sources: _Sources = _Sources()  # type: ignore[valid-type]  # made from the registry

    @field_validator("home")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        return home.expanduser().absolute()

    @field_validator("lake_url")
    @classmethod
    def _folder(cls, url: str | None) -> str | None:
        if url and "://" in url.removeprefix("file://"):
            raise ValueError(
                "only a folder can hold the lake in this version, on a disk where files can be "
                "renamed; give its path"
            )
        return url

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment before file; no `.env` and no secrets folder, which nobody asked for."""
        del init_settings, dotenv_settings, file_secret_settings
        file = _config_file()
        if file is None:
            return (env_settings,)
        return (env_settings, _File(settings_cls, toml_file=file))

    @property
    def lake_root(self) -> Path:
        """The lake's folder."""
        if self.lake_url is None:
            return self.home / "lake"
        return Path(self.lake_url.removeprefix("file://")).expanduser().absolute()

    @property
    def ledger(self) -> str:
        """The ledger's URL."""
        return self.ledger_url or f"duckdb:///{self.home / 'ledger.duckdb'}"

    def make_home(self) -> None:
        """Create the home if it is new.

        Raises:
            SettingsError: it cannot be written.
        """
        try:
            self.home.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(
                f"REVREC_HOME {self.home} cannot be made: {error.strerror}"
            ) from error

    def environment(self) -> dict[str, str]:
        """What a child process in another folder needs to read the same settings."""
        file = _config_file()
        here = {"REVREC_HOME": str(self.home)}
        return here | ({"REVREC_CONFIG": str(file.absolute())} if file else {})

    def source(self, name: str) -> SourceSettings:
        """The settings of one source, its defaults if the file has no such table."""
        settings: SourceSettings = getattr(self.sources, name)
        return settings

    def mapping_site(self) -> Site:
        """What mappings may know of `[site]`."""
        day = self.site.conversion_date
        return Site(
            timezone=self.site.timezone,
            home_currency=self.site.home_currency,
            conversion_date=day.isoformat() if day else None,
        )

    @classmethod
    def load(cls) -> Self:
        """Read file and environment.

        Raises:
            SettingsError: one line with the file, the setting and the reason.
        """
        file = _config_file()
        name = str(file) if file else "the environment"
        try:
            return cls()
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(f"{name} is not valid TOML: {error}") from error
        except UnicodeDecodeError as error:
            raise SettingsError(f"{name} is not UTF-8: {error.reason}") from error
        except OSError as error:
            raise SettingsError(f"{name} cannot be read: {error.strerror}") from error
        except ValidationError as error:
            raise SettingsError(_explain(name, error)) from error


def _config_file() -> Path | None:
    named = os.environ.get("REVREC_CONFIG")
    if named:
        file = Path(named).expanduser()
        if not file.is_file():
            raise SettingsError(f"REVREC_CONFIG names {named}, which is not a file")
        return file
    home = Path(os.environ.get("REVREC_HOME", ".revrec"))
    candidates = (Path("revrec.toml"), home / "revrec.toml")
    return next((file for file in candidates if file.is_file()), None)


def _explain(name: str, error: ValidationError) -> str:
    """The first complaint as one line: file, setting, reason."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = _known_names(first)
        return f"{name}: unknown setting {place!r}{_hint(str(first['loc'][-1]), known)}"
    reason = first["msg"].removeprefix("Value error, ")
    return f"{name}: {place}: {reason}"


_TABLES: dict[str, type[BaseModel]] = {
    "site": SiteSettings,
    "alerts": AlertSettings,
    "retention": RetentionSettings,
    "imports": ImportSettings,
}


def _known_names(complaint: ErrorDetails) -> list[str]:
    """Which settings there are at the place of the complaint."""
    match complaint["loc"]:
        case (str(table), _) if table in _TABLES:
            return list(_TABLES[table].model_fields)
        case ("sources", str(name), _) if name in SOURCES:
            return list(SOURCES[name].settings.model_fields)
        case ("sources", _):
            return list(SOURCES)
        case _:
            return [*_TABLES, "sources"]


def _hint(wrong: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(wrong, known := sorted(known), n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known are {', '.join(known)}"
