"""What every source client offers, so that assets and commands treat all sources alike."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

import pyarrow as pa

from resources.traffic import Traffic
from revrec_pipeline.lake import Page
from revrec_pipeline.ledger import Ledger

#: What an id sweep compares with the lake: the raw object and the id of each document.
IDS = pa.schema([("object", pa.string()), ("id", pa.string())])


@dataclass(frozen=True, slots=True)
class Connection:
    """What a source answered when asked who it is."""

    account_id: str
    account_name: str
    api_version: str
    limits: str | None = None  # what is left of the vendor's quota, in its own words
    missing: tuple[
        str, ...
    ] = ()  # fields or permissions that the settings need and the source lacks


class SourceClient(Protocol):
    """A connected source. Every method may raise `SourceError`."""

    source: ClassVar[str]
    #: The version that every request pins.
    api_version: ClassVar[str]
    #: How late a change may become visible: no window ends closer to the source's now.
    lag: ClassVar[timedelta]
    #: How far a window reaches back into the one before it.
    lookback: ClassVar[timedelta]

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def check(self) -> Connection:
        """Log in and ask who we are."""

    def server_time(self) -> datetime:
        """The source's clock; windows are cut by it, never by ours."""

    def listing(self, period: str) -> Iterator[Page]:
        """Every document of one month, complete with its lines."""

    def changes(self, since: datetime, until: datetime) -> Iterator[Page]:
        """Every document changed in `[since, until)`, with its lines; deleted ones included."""

    def ids(self, period: str) -> Iterator[pa.RecordBatch]:
        """The ids (schema IDS) of all documents that a listing of the month would bring, cheaply.

        Without archived ones, where the lake's keys of those name no window either.

        A sweep compares them with the lake: it finds what was deleted or appeared without any word
        in the change feed.
        """


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a client may need beside its source's secrets and settings."""

    timezone: str
    open_ledger: Callable[[], Ledger]
    #: Where a client leaves to the next one what it has counted; see `Traffic.remember`.
    counted: Path


class ApiClient(Protocol):
    """What a client's connection to its vendor offers."""

    @property
    def traffic(self) -> Traffic:
        """How fast the account is asked."""

    def close(self) -> None:
        """Close all connections."""


Api = TypeVar("Api", bound=ApiClient)


class ConnectedClient(Generic[Api]):
    """What all clients do alike: being made by convention, and their `with` block.

    A client that needs more of its surroundings than the time zone overrides `_made`.
    """

    _api: Api
    _counted: Path | None = None

    @classmethod
    def connect(cls, secrets: Any, settings: Any, surroundings: Surroundings) -> Self:
        """A client for these secrets and settings, which goes on counting requests."""
        client = cls._made(secrets, settings, surroundings)
        client._counted = surroundings.counted
        return client

    @classmethod
    def _made(cls, secrets: Any, settings: Any, surroundings: Surroundings) -> Self:
        make: Callable[..., Self] = cls
        return make(secrets, timezone=surroundings.timezone, settings=settings)

    def __enter__(self) -> Self:
        if self._counted is not None:
            self._api.traffic.recall(self._counted)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._counted is not None:
            self._api.traffic.remember(self._counted)
        self._api.close()


class SourceResource(Protocol):
    """The Dagster resource of a source, which is keyed by the source's name."""

    def client(self) -> SourceClient:
        """A client with the secrets of the environment; close it by leaving its `with` block."""
