"""Salesforce: which queries list a month's documents, or what changed in a window.

A document is an opportunity, an order, a quote or a contract with all of its lines, as
`revrec_pipeline.mapping.salesforce_reads` says for the settings. A change of its account, of a line
or of a line's product is a change of the document, since their fields come with it. Deleted records
are always included, and nothing is filtered by stage or status: what counts as sold is decided in
`revrec_pipeline.mapping`. Records become pages in `salesforce_records`; requests are in
`salesforce_api`, jobs in `salesforce_bulk`, the choice of fields in `salesforce_fields`.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import msgspec
import pyarrow as pa

from resources.at_once import each, pause
from resources.client import IDS, ConnectedClient, Connection
from resources.http import Sleep
from resources.salesforce_api import CONCURRENCY, MAX_URI, SalesforceApi, reader
from resources.salesforce_login import API_VERSION, SOURCE, SalesforceSecrets
from resources.salesforce_records import Found, Identified, Query, Records
from revrec_pipeline.errors import SettingsError
from revrec_pipeline.lake import Page
from revrec_pipeline.mapping.salesforce_reads import (
    CURRENCY,
    CURRENCY_TYPE,
    DATED_RATE,
    Document,
    Part,
    documents,
)
from revrec_pipeline.mapping.salesforce_settings import SalesforceSettings
from revrec_pipeline.model import RecordType
from revrec_pipeline.periods import bounds, first_day, next_period

#: Ids in one job's query: SOQL may have 100,000 characters, an id takes 21 of them.
_IDS_PER_JOB = 4_000
#: Below so many ids per request, a job is the better way.
_FEWEST_IDS = 50


class _Organization(msgspec.Struct):
    Id: str
    Name: str


class _SplitType(msgspec.Struct):
    DeveloperName: str


class _Rate(msgspec.Struct):
    """A dated rate: of a currency, from a day up to another."""

    IsoCode: str
    StartDate: str
    NextStartDate: str


class SalesforceClient(ConnectedClient[SalesforceApi]):
    """The documents of one org with their lines."""

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
        sleep: Sleep = pause,
    ) -> None:
        self._settings = settings
        self._timezone = timezone  # for instants only: dates have no zone, and are not shifted
        self._documents = documents(settings)
        self._api = SalesforceApi(secrets, sleep=sleep)
        self._records = Records(self._api, settings, timezone)

    # -- who and when ------------------------------------------------------------------------

    def check(self) -> Connection:
        """The org, what is left of its daily requests, and which fields it lacks.

        Raises:
            SettingsError: a setting needs a field or an object that the org does not have.
        """
        url = self._api.url("/query", q="SELECT Id, Name FROM Organization")
        _, found = self._api.get(url, reader(Found[_Organization]))
        selection = self._records.selection()
        if selection.wrong:
            raise SettingsError(selection.wrong[0])
        if self._settings.commissions and self._settings.commission_object is None:
            self._check_split_type(self._settings.commission_split_type)
        answer = self._api.call("GET", self._api.url("/limits"))
        return Connection(
            account_id=found.records[0].Id,
            account_name=found.records[0].Name,
            api_version=API_VERSION,
            limits=answer.headers.get("Sforce-Limit-Info"),
            missing=selection.missing,
        )

    def _check_split_type(self, wanted: str) -> None:
        soql = "SELECT DeveloperName FROM OpportunitySplitType"
        types = [
            one.DeveloperName for _, found in self._records.rest(soql, _SplitType) for one in found
        ]
        if wanted not in types:
            raise SettingsError(
                f"[sources.salesforce] commission_split_type is {wanted}; the org's split types "
                f"are {', '.join(sorted(types)) or 'none'}"
            )

    def server_time(self) -> datetime:
        """The org's clock; the list of versions costs no request of the daily quota."""
        return self._api.call("GET", self._api.url("/services/data/")).server_time

    # -- a month -----------------------------------------------------------------------------

    def listing(self, period: str) -> Iterator[Page]:
        """All documents of the month, each with all of its parts."""
        self._records.require()
        queries = [
            Query(
                part.name,
                part.through.format(self._in_month(part, document, period)),
                indexed=document if part is document.header else None,
            )
            for document in self._documents
            for part in (document.header, *document.parts)
        ]
        counts = each(self._records.count, queries, CONCURRENCY)
        counted = [
            replace(query, expected=count) for query, count in zip(queries, counts, strict=True)
        ]
        yield from self._records.pages([*counted, *self._rates()])

    def ids(self, period: str) -> Iterator[pa.RecordBatch]:
        """The ids of the month's documents, 2,000 a request; a job would not be cheaper."""
        self._records.require()
        for document in self._documents:
            header = document.header
            where = self._in_month(header, document, period)
            soql = f"SELECT Id FROM {self._records.object(header.name)} WHERE {where}"
            for _, found in self._records.rest(soql, Identified):
                ids = [one.Id for one in found]
                names = pa.array([header.name] * len(ids), pa.string())
                yield pa.RecordBatch.from_arrays([names, pa.array(ids, pa.string())], schema=IDS)

    def _in_month(self, part: Part, document: Document, period: str) -> str:
        """The condition for the month: of the date, or of the instant that counts without one."""
        day = part.day
        dated = f"{day} >= {first_day(period)} AND {day} < {first_day(next_period(period))}"
        if document.instead is None:
            return dated
        start, end = map(_instant, bounds(period, self._timezone))
        made = document.instead
        return f"({dated}) OR ({day} = null AND {made} >= {start} AND {made} < {end})"

    # -- a window ----------------------------------------------------------------------------

    def changes(self, since: datetime, until: datetime) -> Iterator[Page]:
        """Every document that changed, or whose account, lines or lines' products did.

        A line that was deleted for good leaves no trace but the header's new amount; so all lines
        of every changed document are read again.
        """
        self._records.require()
        queries: list[Query] = []
        for document in self._documents:
            ids = sorted(self._changed(document, since, until))
            for part in (document.header, *document.parts):
                indexed = document if part is document.header else None
                queries += self._by_ids(part, ids, indexed)
        if queries:
            yield from self._records.pages([*queries, *self._rates()])

    def _changed(self, document: Document, since: datetime, until: datetime) -> set[str]:
        """Ids of the documents that changed in the window; its low side is inclusive.

        A strict `>` loses rows that share the last stamp (supaglue#532).
        """
        window = f"{{0}} >= {_instant(since)} AND {{0}} < {_instant(until)}"
        watched = [
            (watch.key, watch.name, watch.through.format(window.format(watch.stamp)))
            for watch in document.watched
        ]
        if RecordType.COMMISSIONS in document.record_types:
            for rate in self._changed_rates(window.format("SystemModstamp")):
                day = document.header.day
                where = (
                    f"{CURRENCY} = '{rate.IsoCode}' AND {day} >= {rate.StartDate} "
                    f"AND {day} < {rate.NextStartDate}"
                )
                watched.append(("Id", document.header.name, where))
        return set().union(*each(self._ids_at, watched, CONCURRENCY))

    def _ids_at(self, watched: tuple[str, str, str]) -> set[str]:
        """The ids that stand at a path of the records of an object under a condition."""
        path, name, where = watched
        soql = f"SELECT {path} FROM {self._records.object(name)} WHERE {where}"
        found: set[str] = set()
        for _, records in self._records.rest(soql, dict[str, Any]):
            found.update(record[path] for record in records if record[path])
        return found

    def _by_ids(self, part: Part, ids: list[str], indexed: Document | None) -> Iterator[Query]:
        """Queries for the records of these documents, as many documents per query as fit."""
        empty = self._records.soql(part.name, part.through.format(f"{part.key} IN ()"))
        room = MAX_URI - len(self._api.url("/queryAll", q=empty))
        per_query = room // len("%27006000000000000AAA%27%2C")
        many = len(ids) > self._settings.bulk_threshold
        if many or per_query < _FEWEST_IDS:
            per_query = _IDS_PER_JOB
        for start in range(0, len(ids), per_query):
            listed = ",".join(f"'{one}'" for one in ids[start : start + per_query])
            where = part.through.format(f"{part.key} IN ({listed})")
            yield Query(part.name, where, len(ids) if many else 0, indexed)

    # -- rates -------------------------------------------------------------------------------

    def _rates(self) -> Iterator[Query]:
        """All rates of the corporate currency, where costs may need them and the org has them."""
        if self._settings.commissions:
            for name in (CURRENCY_TYPE, DATED_RATE):
                if self._records.require()[name]:
                    yield Query(name, None)

    def _changed_rates(self, window: str) -> list[_Rate]:
        """Dated rates that were entered or corrected in the window."""
        if not self._records.require()[DATED_RATE]:
            return []
        soql = self._records.soql(DATED_RATE, window)
        return [rate for _, rates in self._records.rest(soql, _Rate) for rate in rates]


def _instant(moment: datetime) -> str:
    """A SOQL datetime literal, in milliseconds as Salesforce keeps them."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
