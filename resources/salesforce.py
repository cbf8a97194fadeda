"""Salesforce: which queries list a month's opportunities, or what changed in a window.

A document is an opportunity with all of its lines. A change of its account, of a line or of a
line's product is a change of the document, since their fields come with it. Deleted records are
always included, and nothing is filtered by stage: what counts as sold is decided in
`revrec_pipeline.mapping.salesforce`. Requests are in `salesforce_api`, jobs in `salesforce_bulk`,
the choice of fields in `salesforce_fields`.
"""

import logging
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, ClassVar, Generic, Self, TypeVar

import dagster as dg
import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from resources import salesforce_bulk as bulk
from resources.client import Connection
from resources.http import Sleep
from resources.salesforce_api import MAX_URI, Answer, SalesforceApi, reader, unreadable
from resources.salesforce_fields import OBJECTS, Selection, described, select
from resources.salesforce_login import API_VERSION, SOURCE, SalesforceSecrets
from revrec_pipeline.errors import SettingsError, SourceSchemaError
from revrec_pipeline.lake import KEYS, Page
from revrec_pipeline.mapping.salesforce import HEADER, LINE, SalesforceSettings
from revrec_pipeline.periods import first_day, next_period
from revrec_pipeline.settings import Settings

#: What a page's index needs of an opportunity.
_KEY_COLUMNS = ["Id", "SystemModstamp", "CloseDate"]
#: A hint; the API may send fewer records per page, and says when there are no more.
_BATCH = {"Sforce-Query-Options": "batchSize=2000"}
#: Ids in one job's query: SOQL may have 100,000 characters, an id takes 21 of them.
_IDS_PER_JOB = 4_000
#: Below so many ids per request, a job is the better way.
_FEWEST_IDS = 50

_log = logging.getLogger(__name__)
T = TypeVar("T")


class _Header(msgspec.Struct):
    """What keys need of an opportunity."""

    Id: str
    SystemModstamp: str
    CloseDate: str


class _Line(msgspec.Struct):
    Id: str


class _Reference(msgspec.Struct):
    """The opportunity's id, as an opportunity or as a line shows it."""

    Id: str | None = None
    OpportunityId: str | None = None


class _Organization(msgspec.Struct):
    Id: str
    Name: str


class _Found(msgspec.Struct, Generic[T]):
    """One page of a query."""

    totalSize: int  # noqa: N815 - the vendor's spelling
    done: bool
    records: list[T]
    nextRecordsUrl: str | None = None  # noqa: N815


class _Field(msgspec.Struct):
    name: str


class _Description(msgspec.Struct):
    fields: list[_Field]


class SalesforceClient:
    """Opportunities with their lines of one org."""

    source: ClassVar[str] = SOURCE
    api_version: ClassVar[str] = API_VERSION
    #: airbyte#27146 saw a row become visible five minutes after later ones.
    lag: ClassVar[timedelta] = timedelta(minutes=5)
    lookback: ClassVar[timedelta] = timedelta(minutes=30)

    def __init__(
        self,
        secrets: SalesforceSecrets,
        *,
        timezone: str,
        settings: SalesforceSettings,
        sleep: Sleep = time.sleep,
    ) -> None:
        del timezone  # close dates have no zone, and are not shifted
        self._settings = settings
        self._api = SalesforceApi(secrets, sleep=sleep)
        self._selection: Selection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._api.close()

    # -- who and when ------------------------------------------------------------------------

    def check(self) -> Connection:
        """The org, what is left of its daily requests, and which fields it lacks.

        Raises:
            SettingsError: a setting names a field that the org does not have.
        """
        url = self._api.url("/query", q="SELECT Id, Name FROM Organization")
        _, found = self._api.get(url, reader(_Found[_Organization]))
        selection = self._describe()
        if selection.wrong:
            raise SettingsError(selection.wrong[0])
        answer = self._api.call("GET", self._api.url("/limits"))
        return Connection(
            account_id=found.records[0].Id,
            account_name=found.records[0].Name,
            api_version=API_VERSION,
            limits=answer.headers.get("Sforce-Limit-Info"),
            missing=selection.missing,
        )

    def server_time(self) -> datetime:
        """The org's clock; the list of versions costs no request of the daily quota."""
        return self._api.call("GET", self._api.url("/services/data/")).server_time

    # -- a month -----------------------------------------------------------------------------

    def listing(self, period: str) -> Iterator[Page]:
        """All opportunities that close in the month, with all lines."""
        start, end = first_day(period), first_day(next_period(period))
        for name, close_date in ((HEADER, "CloseDate"), (LINE, "Opportunity.CloseDate")):
            where = f"{close_date} >= {start} AND {close_date} < {end}"
            yield from self._read(name, where, self._count(name, where))

    def _count(self, name: str, where: str) -> int:
        soql = f"SELECT COUNT() FROM {OBJECTS[name]} WHERE {where}"
        _, found = self._api.get(self._api.url("/queryAll", q=soql), reader(_Found[msgspec.Raw]))
        return found.totalSize

    # -- a window ----------------------------------------------------------------------------

    def changes(self, since: datetime, until: datetime) -> Iterator[Page]:
        """Every opportunity that changed, or whose account, lines or lines' products did.

        A line that was deleted for good leaves no trace but the header's new amount; so all lines
        of every changed opportunity are read again.
        """
        ids = sorted(self._changed(since, until))
        yield from self._read_ids(HEADER, "Id", ids)
        yield from self._read_ids(LINE, "OpportunityId", ids)

    def _changed(self, since: datetime, until: datetime) -> set[str]:
        """Ids of the documents that changed in the window; its low side is inclusive.

        A strict `>` loses rows that share the last stamp (supaglue#532).
        """
        changed: set[str] = set()
        for field, name, stamp in (
            ("Id", HEADER, "SystemModstamp"),
            ("Id", HEADER, "Account.SystemModstamp"),
            ("OpportunityId", LINE, "SystemModstamp"),
            ("OpportunityId", LINE, "Product2.SystemModstamp"),
        ):
            soql = (
                f"SELECT {field} FROM {OBJECTS[name]} "
                f"WHERE {stamp} >= {_instant(since)} AND {stamp} < {_instant(until)}"
            )
            for _, found in self._rest(soql, _Reference):
                changed.update(one.OpportunityId or one.Id or "" for one in found)
        return changed

    def _read_ids(self, name: str, field: str, ids: list[str]) -> Iterator[Page]:
        """The records that belong to these documents, as many documents per query as fit."""
        room = MAX_URI - len(self._api.url("/queryAll", q=self._soql(name, f"{field} IN ()")))
        per_query = room // len("%27006000000000000AAA%27%2C")
        many = len(ids) > self._settings.bulk_threshold
        if many or per_query < _FEWEST_IDS:
            per_query = _IDS_PER_JOB
        for start in range(0, len(ids), per_query):
            listed = ",".join(f"'{one}'" for one in ids[start : start + per_query])
            yield from self._read(name, f"{field} IN ({listed})", len(ids) if many else 0)

    # -- records -----------------------------------------------------------------------------

    def _read(self, name: str, where: str, expected: int) -> Iterator[Page]:
        """The pages of one query: by a job if there are many records or the URL would be too long.

        airbyte#20703: field lists in URLs ended in HTTP 431.
        """
        soql = self._soql(name, where)
        too_long = len(self._api.url("/queryAll", q=soql)) > MAX_URI
        if expected > self._settings.bulk_threshold or too_long:
            yield from self._bulk_pages(name, soql)
        elif name == HEADER:
            for answer, headers in self._rest(soql, _Header):
                columns = [
                    [one.Id for one in headers],
                    [one.SystemModstamp for one in headers],
                    [one.CloseDate for one in headers],
                ]
                table = pa.table([pa.array(each, pa.string()) for each in columns], _KEY_COLUMNS)
                yield _page(name, answer, len(headers), keys=_keys(answer, table))
        else:
            for answer, lines in self._rest(soql, _Line):
                yield _page(name, answer, len(lines))

    def _bulk_pages(self, name: str, soql: str) -> Iterator[Page]:
        columns = _KEY_COLUMNS if name == HEADER else ["Id"]
        for answer, table in bulk.pages(self._api, soql, columns):
            keys = _keys(answer, table) if name == HEADER else None
            yield _page(name, answer, table.num_rows, keys=keys, soql=soql)

    def _rest(self, soql: str, shape: type[T]) -> Iterator[tuple[Answer, list[T]]]:
        """All pages of a query with deleted rows.

        Raises:
            SourceSchemaError: the pages run in a circle, or hold not as many records as they said.
        """
        read = reader(_Found[shape])  # type: ignore[valid-type]
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

    # -- fields ------------------------------------------------------------------------------

    def _soql(self, name: str, where: str) -> str:
        selection = self._describe()
        if selection.wrong:
            raise SourceSchemaError(SOURCE, selection.wrong[0])
        return f"SELECT {', '.join(selection.paths[name])} FROM {OBJECTS[name]} WHERE {where}"

    def _describe(self) -> Selection:
        """What this org lets us select; asked once per client."""
        if self._selection is None:
            read = reader(_Description)
            fields = {}
            for name in described(self._settings):
                _, found = self._api.get(self._api.url(f"/sobjects/{name}/describe"), read)
                fields[name] = {field.name for field in found.fields}
            self._selection = select(fields, self._settings)
            for missing in self._selection.missing:
                _log.info("salesforce: the org has no %s that we may read", missing)
        return self._selection


def _instant(moment: datetime) -> str:
    """A SOQL datetime literal, in milliseconds as Salesforce keeps them."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _keys(answer: Answer, table: pa.Table) -> pa.RecordBatch:
    """Index rows of a page of opportunities; REST ends instants with +0000, Bulk with Z.

    Raises:
        SourceSchemaError: a stamp or a close date has another form, so it would not sort.
    """
    version = pc.replace_substring(table["SystemModstamp"], "+0000", "Z")
    close = table["CloseDate"]
    for column, form in (
        (version, r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"),
        (close, r"^\d{4}-\d\d-\d\d$"),
    ):
        if not pc.all(pc.match_substring_regex(column, form), min_count=0).as_py():
            raise unreadable(answer, f"a date is not of the form {form}")
    period = pc.utf8_slice_codeunits(close, 0, 7)
    columns = (table["Id"], version, period, period)
    return pa.RecordBatch.from_arrays(
        [column.cast(pa.string()).combine_chunks() for column in columns], schema=KEYS
    )


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


class SalesforceResource(dg.ConfigurableResource["SalesforceResource"]):
    """Salesforce for Dagster; secrets are read from the environment when a client is asked for."""

    timezone: str
    settings: dict[str, Any]

    def client(self) -> SalesforceClient:
        """A client of the org that the environment names."""
        return SalesforceClient(
            SalesforceSecrets.from_env(),
            timezone=self.timezone,
            settings=SalesforceSettings.model_validate(self.settings),
        )


def resource(settings: Settings) -> SalesforceResource:
    """The resource for these settings.

    Only what somebody has set is passed on: a field's name that is a default may be missing in the
    org, one that was configured may not.
    """
    return SalesforceResource(
        timezone=settings.site.timezone,
        settings=settings.source(SOURCE).model_dump(mode="json", exclude_unset=True),
    )
