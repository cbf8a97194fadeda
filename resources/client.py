"""What every source client offers, so that assets and commands treat all sources alike."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import TracebackType
from typing import ClassVar, Protocol, Self

import pyarrow as pa

from revrec_pipeline.lake import Page

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

        A sweep compares them with the lake: it finds what was deleted or appeared without any word
        in the change feed.
        """


class SourceResource(Protocol):
    """The Dagster resource of a source, which is keyed by the source's name."""

    def client(self) -> SourceClient:
        """A client with the secrets of the environment; close it by leaving its `with` block."""
