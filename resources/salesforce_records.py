"""Salesforce records as pages for the lake: by REST or by a Bulk job, counted and indexed.

Which queries are asked is in `salesforce`, which fields are selected in `salesforce_fields`.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from resources import salesforce_bulk as bulk
from resources.at_once import each, in_order
from resources.salesforce_api import (
    CONCURRENCY,
    MAX_URI,
    Answer,
    NotFoundError,
    SalesforceApi,
    reader,
    unreadable,
)
from resources.salesforce_fields import Selection, described, select
from resources.salesforce_login import SOURCE
from revrec_pipeline.errors import SourceSchemaError
from revrec_pipeline.lake import KEYS, Page
from revrec_pipeline.mapping.salesforce_reads import Document, salesforce_object
from revrec_pipeline.mapping.salesforce_settings import SalesforceSettings
from revrec_pipeline.periods import period_of

#: A hint; the API may send fewer records per page, and says when there are no more.
_BATCH = {"Sforce-Query-Options": "batchSize=2000"}

_log = logging.getLogger(__name__)
T = TypeVar("T")


class Identified(msgspec.Struct):
    """A record of which nothing but its id matters here."""

    Id: str


class Found(msgspec.Struct, Generic[T]):
    """One page of a query."""

    totalSize: int  # noqa: N815 - the vendor's spelling
    done: bool
    records: list[T]
    nextRecordsUrl: str | None = None  # noqa: N815


class _Field(msgspec.Struct):
    name: str
    relationshipName: str | None = None  # noqa: N815


class _Description(msgspec.Struct):
    fields: list[_Field]


@dataclass(frozen=True, slots=True)
class Query:
    """All records of a raw object under a condition, which uses the names of Salesforce."""

    name: str
    where: str | None
    expected: int = 0  # how many records, where that is known
    indexed: Document | None = None  # the document that these are: their pages carry keys


class Records:
    """The records of one org, as far as these settings ask for them."""

    def __init__(self, api: SalesforceApi, settings: SalesforceSettings, timezone: str) -> None:
        self._api = api
        self._settings = settings
        self._timezone = timezone
        self._selection: Selection | None = None

    # -- fields ------------------------------------------------------------------------------

    def selection(self) -> Selection:
        """What this org lets us select; asked once per client."""
        if self._selection is None:
            names = described(self._settings)
            org = zip(names, each(self._fields, names, CONCURRENCY), strict=True)
            self._selection = select(
                {name: fields for name, fields in org if fields is not None}, self._settings
            )
            for missing in self._selection.missing:
                _log.info("salesforce: the org has no %s that we may read", missing)
        return self._selection

    def _fields(self, name: str) -> dict[str, str | None] | None:
        """An object's fields with the names of their relationships, if the org has the object."""
        url = self._api.url(f"/sobjects/{name}/describe")
        try:
            _, found = self._api.get(url, reader(_Description))
        except NotFoundError:
            return None
        return {field.name: field.relationshipName for field in found.fields}

    def require(self) -> dict[str, list[str]]:
        """The paths to select by raw object, if the org has all that the settings ask for.

        Raises:
            SourceSchemaError: it has not.
        """
        selection = self.selection()
        if selection.wrong:
            raise SourceSchemaError(SOURCE, selection.wrong[0])
        return selection.paths

    def soql(self, name: str, where: str | None) -> str:
        """The query for the records of a raw object."""
        condition = f" WHERE {where}" if where else ""
        return f"SELECT {', '.join(self.require()[name])} FROM {self.object(name)}{condition}"

    def object(self, name: str) -> str:
        """The Salesforce object of a raw object."""
        return salesforce_object(name, self._settings)

    # -- queries -----------------------------------------------------------------------------

    def count(self, query: "Query") -> int:
        """How many records a query would bring."""
        name, where = query.name, query.where
        soql = f"SELECT COUNT() FROM {self.object(name)} WHERE {where}"
        _, found = self._api.get(self._api.url("/queryAll", q=soql), reader(Found[msgspec.Raw]))
        return found.totalSize

    def pages(self, queries: Sequence["Query"]) -> Iterator[Page]:
        """The pages of queries, which are asked side by side: no job waits for another one."""
        return in_order(self._pages, queries, CONCURRENCY)

    def _pages(self, query: "Query") -> Iterator[Page]:
        """The pages of one query: by a job if there are many records or the URL would be too long.

        airbyte#20703: field lists in URLs ended in HTTP 431.
        """
        name, indexed = query.name, query.indexed
        soql = self.soql(name, query.where)
        too_long = len(self._api.url("/queryAll", q=soql)) > MAX_URI
        if query.expected > self._settings.bulk_threshold or too_long:
            columns = _key_columns(indexed) if indexed else ["Id"]
            for answer, table in bulk.pages(self._api, soql, columns):
                keys = self._keys(answer, table, indexed) if indexed else None
                yield _page(name, answer, table.num_rows, keys=keys, soql=soql)
        elif indexed:
            columns = _key_columns(indexed)
            for answer, headers in self.rest(soql, _shape(columns)):
                values = [[_at(one, path) for one in headers] for path in columns]
                table = pa.table([pa.array(each, pa.string()) for each in values], columns)
                yield _page(name, answer, len(headers), keys=self._keys(answer, table, indexed))
        else:
            for answer, records in self.rest(soql, msgspec.Raw):
                yield _page(name, answer, len(records))

    def rest(self, soql: str, shape: type[T]) -> Iterator[tuple[Answer, list[T]]]:
        """All pages of a query with deleted rows.

        Raises:
            SourceSchemaError: the pages run in a circle, or hold not as many records as they said.
        """
        read = reader(Found[shape])  # type: ignore[valid-type]
        url = self._api.url("/queryAll", q=soql)
        seen: set[str] = set()
        received = 0
        while True:
            answer, found = self._api.get(url, read, headers=_BATCH)
            received += len(found.records)
            yield answer, found.records
            if found.done:
                break
            if found.nextRecordsUrl is None or found.nextRecordsUrl in seen:
                raise SourceSchemaError(
                    SOURCE,
                    f"{answer.request[:200]} is not done and leads to no further page "
                    f"({found.nextRecordsUrl})",
                )
            seen.add(found.nextRecordsUrl)
            url = self._api.url(found.nextRecordsUrl)
        if received != found.totalSize:
            raise SourceSchemaError(
                SOURCE, f"{received} of {found.totalSize} records came for: {soql[:200]}"
            )

    # -- keys --------------------------------------------------------------------------------

    def _keys(self, answer: Answer, table: pa.Table, document: Document) -> pa.RecordBatch:
        """Index rows of a page of documents; REST ends instants with +0000, Bulk with Z.

        Raises:
            SourceSchemaError: a stamp or a date has another form, so it would not sort.
        """
        version = pc.replace_substring(table["SystemModstamp"], "+0000", "Z")
        day = table[document.header.day]
        if document.undated:
            day = pc.if_else(pc.equal(day, ""), pa.scalar(None, pa.string()), day)
        for column, form in (
            (version, r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"),
            (day, r"^\d{4}-\d\d-\d\d$"),
        ):
            if not pc.all(pc.match_substring_regex(column, form), min_count=0).as_py():
                raise unreadable(answer, f"a date is not of the form {form}")
        period = pc.utf8_slice_codeunits(day, 0, 7)
        if document.instead:
            made = table[document.instead].to_pylist()
            period = pc.coalesce(period, pa.chunked_array([self._months(made)]))
        columns = (table["Id"], version, period, period)
        return pa.RecordBatch.from_arrays(
            [column.cast(pa.string()).combine_chunks() for column in columns], schema=KEYS
        )

    def _months(self, instants: list[str]) -> pa.Array:
        """The months of instants on the site's clocks."""
        moments = (datetime.fromisoformat(instant) for instant in instants)
        return pa.array([period_of(moment, self._timezone) for moment in moments], pa.string())


def _key_columns(document: Document) -> list[str]:
    """The paths that keys are made from."""
    columns = ["Id", "SystemModstamp", document.header.day]
    return [*columns, document.instead] if document.instead else columns


def _shape(paths: list[str]) -> type[Any]:
    """A struct of text fields, nested as the REST API nests paths; a parent may be null."""
    fields: dict[str, list[str]] = {}
    for path in paths:
        field, _, rest = path.partition(".")
        fields.setdefault(field, []).extend([rest] if rest else [])
    return msgspec.defstruct(
        "Header",
        [
            (field, str) if field in ("Id", "SystemModstamp") else (field, _type(rest), None)
            for field, rest in fields.items()
        ],
    )


def _type(rest: list[str]) -> Any:
    return _shape(rest) | None if rest else str | None


def _at(record: Any, path: str) -> str | None:
    """The text at a path of such a struct."""
    for field in path.split("."):
        record = None if record is None else getattr(record, field)
    return record  # type: ignore[no-any-return]  # the struct is made at run time


def _page(
    name: str,
    answer: Answer,
    records: int,
    *,
    keys: pa.RecordBatch | None = None,
    soql: str | None = None,
) -> Page:
    """A page for the lake; `soql` is the query of a job, whose result URL does not show it."""
    return Page(
        object=name,
        body=answer.body,
        request=f"{answer.request} of {soql}" if soql else answer.request,
        server_time=answer.server_time,
        records=records,
        keys=keys,
        format="csv" if soql else "json",
        request_id=answer.request_id,
    )
