"""From raw records to canonical rows: one module per source, set-based and pure.

A mapping is SQL over the raw pages of one month and the settings, nothing else: no clock, no
network, no ledger. What lives here is the meaning of a vendor's fields. How pages are fetched is in
`resources`, which landing counts is in `revrec_pipeline.canonical`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Self, TypeAlias

import duckdb
from pydantic import BaseModel, ConfigDict

from revrec_pipeline.model import RecordType

#: Raw objects, and those of them that are documents: see `Source`.
Needs: TypeAlias = tuple[tuple[str, ...], Mapping[str, tuple[RecordType, ...]]]


class SourceSettings(BaseModel):
    """`[sources.<source>]` of revrec.toml: each mapping's own. Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Cron expression in the site's time zone; without one, nothing runs by itself.
    schedule: str | None = None
    #: Cron expression of the id sweep, which finds what no change feed reports; none by default.
    sweep_schedule: str | None = None
    #: Products (codes) that carry no revenue and stay out of every batch.
    exclude_products: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Site:
    """What a mapping needs to know of `[site]`."""

    timezone: str
    home_currency: str
    conversion_date: str | None  # documents before this day (YYYY-MM-DD) are excluded


@dataclass(frozen=True, slots=True)
class Source:
    """What the pipeline knows of a source without connecting to it."""

    name: str
    title: str  # as people write it
    #: Raw objects, each an asset `raw/<source>/<object>`.
    objects: tuple[str, ...]
    #: Those of them that are documents (they have an id, a version and a business month), each with
    #: the record types whose rows it yields: a document that yields none has been lost.
    documents: Mapping[str, tuple[RecordType, ...]]
    settings: type[SourceSettings]
    #: The record types that these settings ask for (Stripe yields sales only where an invoice is a
    #: contract).
    record_types: Callable[[SourceSettings], tuple[RecordType, ...]]
    #: Creates, in the given connection, the view `rows` with the columns of the canonical schema.
    #: It reads the views `raw_<object>(landing, page, parent, format, body)` and
    #: `current(object, id, version, landing, page)`, which names the version of each document that
    #: counts.
    rows: Callable[[duckdb.DuckDBPyConnection, RecordType, SourceSettings, Site], None]
    #: Where the settings decide which objects are pulled: `objects` and `documents` under these
    #: settings. Without it they are the same under all settings.
    needs: Callable[[SourceSettings], Needs] | None = None
    #: The record types of which each document's rows come from its own pages and those of its
    #: landing, so that `rows` gives the same rows of it whatever else is in `current`.
    apart: tuple[RecordType, ...] = ()

    def under(self, settings: SourceSettings) -> Self:
        """The source with the objects and documents that these settings ask for, and no others."""
        if self.needs is None:
            return self
        objects, documents = self.needs(settings)
        return replace(self, objects=objects, documents=documents)

    def feeding(self, record_type: RecordType) -> list[str]:
        """The documents that yield rows of a record type."""
        return [name for name, feeds in self.documents.items() if record_type in feeds]
