"""NetSuite: which queries list a month's transactions, or what changed in a window.

A document is a transaction with all of its lines, with the links to the lines that they were made
from, and with the journals that take it back. Pages are cut by key and not by offset: a query
returns 100,000 rows at most, and rows move while they are counted. Stamps are on the clocks of the
integration user, whose distance to UTC is measured once per client. The text of the queries is in
`netsuite_queries`, requests are in `netsuite_api`, and what the columns mean in
`revrec_pipeline.mapping.netsuite`.
"""

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import ClassVar

import pyarrow as pa

from resources import netsuite_queries as queries
from resources.at_once import each, in_order, pause
from resources.client import IDS, ConnectedClient, Connection
from resources.http import Sleep
from resources.netsuite_api import (
    API_VERSION,
    PAGE_SIZE,
    SOURCE,
    NetsuiteApi,
    NetsuiteSecrets,
    QueryError,
    Row,
)
from resources.rest import Answer
from revrec_pipeline.errors import SettingsError, SourceAuthError, SourceSchemaError
from revrec_pipeline.lake import KEYS, Page
from revrec_pipeline.mapping.netsuite import (
    CREDIT,
    INVOICE,
    LINE,
    LINK,
    ORDER,
    VOID,
    NetsuiteSettings,
)
from revrec_pipeline.periods import first_day, next_period

#: More rows than this a query never returns, on however many pages.
ROW_CAP = 100_000
#: The most ids that a list in a condition may have.
IDS_PER_QUERY = 1000
_NEVER = "0001-01-01T00:00:00Z"
#: Clocks everywhere differ from UTC by whole quarters of an hour.
_QUARTER = timedelta(minutes=15)
#: What `deletedrecord` calls our record types, in whichever of its columns and spellings.
_DELETED = {
    "invoice": INVOICE, "custinvc": INVOICE, "cashsale": INVOICE,
    "creditmemo": CREDIT, "custcred": CREDIT, "cashrefund": CREDIT, "cashrfnd": CREDIT,
    "salesorder": ORDER, "salesord": ORDER,
}  # fmt: skip

_log = logging.getLogger(__name__)


class _TooManyError(Exception):
    """A query has more rows than would ever be returned: ask for less at a time."""


@dataclass(frozen=True, slots=True)
class _Parts:
    """What belongs to a page of headers."""

    pages: list[Page]
    modified: dict[str, str]  # transaction → the newest stamp of its lines


class NetsuiteClient(ConnectedClient[NetsuiteApi]):
    """Invoices, credits and, where asked for, sales orders of one account."""

    source: ClassVar[str] = SOURCE
    api_version: ClassVar[str] = API_VERSION
    #: NetSuite publishes none; transactions are saved by scripts that run for minutes.
    lag: ClassVar[timedelta] = timedelta(minutes=5)
    #: When the user's clocks jump, stamps of an hour are an hour off; another one is the overlap.
    lookback: ClassVar[timedelta] = timedelta(hours=2)

    def __init__(
        self,
        secrets: NetsuiteSecrets,
        *,
        timezone: str,
        settings: NetsuiteSettings,
        sleep: Sleep = pause,
    ) -> None:
        del timezone  # transaction dates have no zone, and are not shifted
        self._account = secrets.realm
        self._settings = settings
        self._objects = (INVOICE, CREDIT, ORDER) if settings.sales_orders else (INVOICE, CREDIT)
        self._api = NetsuiteApi(secrets, concurrency=settings.concurrency, sleep=sleep)
        self._selection: queries.Selection | None = None
        self._offset: timedelta | None = None

    # -- who and when ------------------------------------------------------------------------

    def check(self) -> Connection:
        """The account, and what its edition or the integration's role keeps from us.

        Raises:
            SettingsError: a setting names a column that the account does not have.
        """
        selection = self._select()
        if selection.wrong:
            raise SettingsError(selection.wrong[0])
        return Connection(
            account_id=self._account,
            account_name=self._company(),
            api_version=API_VERSION,
            missing=selection.missing,
        )

    def _company(self) -> str:
        """The name of the first subsidiary, where there are any."""
        try:
            _, found = self._api.query(
                "SELECT s.id AS id, s.name AS name FROM subsidiary s ORDER BY s.id"
            )
        except QueryError:
            return self._account
        return found.items[0].name if found.items else self._account

    def server_time(self) -> datetime:
        """The account's clock."""
        moment, self._offset = self._measure()
        return moment

    def _measure(self) -> tuple[datetime, timedelta]:
        """The account's clock, and how far the integration user's clocks are from UTC."""
        answer, found = self._api.query(
            "SELECT TO_CHAR(CURRENT_TIMESTAMP, 'YYYY-MM-DD HH24:MI:SS') AS modified FROM dual"
        )
        here = _stamp(answer, found.items[0].modified).replace(tzinfo=UTC)
        offset = round((here - answer.server_time) / _QUARTER) * _QUARTER
        if abs(offset) > timedelta(hours=14):
            raise SourceSchemaError(SOURCE, f"the integration user's clocks are {offset} from UTC")
        return answer.server_time, offset

    def _utc(self, answer: Answer, stamp: str) -> str:
        """A stamp of the user's clocks in UTC, as text that sorts.

        A document without a stamp, as imports may leave it, has the lowest version there is.
        """
        if not stamp:
            return _NEVER
        return (_stamp(answer, stamp) - self._distance()).strftime("%Y-%m-%dT%H:%M:%SZ")

    def _distance(self) -> timedelta:
        if self._offset is None:
            self._offset = self._measure()[1]
        return self._offset

    def _select(self) -> queries.Selection:
        """What this account lets us ask for; tried once per client."""
        if self._selection is None:
            self._selection = queries.select(self._api.query, self._settings)
            for missing in self._selection.missing:
                _log.info("netsuite: the account does not show %s", missing)
        return self._selection

    def _usable(self) -> queries.Selection:
        selection = self._select()
        if selection.wrong:
            raise SourceSchemaError(SOURCE, selection.wrong[0])
        return selection

    # -- a month -----------------------------------------------------------------------------

    def listing(self, period: str) -> Iterator[Page]:
        """All transactions dated in the month, with all lines."""
        select = self._usable().headers()

        def headers(name: str) -> Iterator[tuple[str, Answer, list[Row]]]:
            for answer, rows in self._by_key(select, _in_month(name, period), "t.id", _id):
                yield name, answer, rows

        yield from self._documents(headers)

    def ids(self, period: str) -> Iterator[pa.RecordBatch]:
        """The ids of all transactions dated in the month."""
        select = "SELECT t.id AS id FROM transaction t"

        def listed(name: str) -> Iterator[tuple[str, list[Row]]]:
            for _, rows in self._by_key(select, _in_month(name, period), "t.id", _id):
                yield name, rows

        for name, rows in in_order(listed, self._objects, self._settings.concurrency):
            columns = [[name] * len(rows), [row.id for row in rows]]
            yield pa.RecordBatch.from_arrays(
                [pa.array(column, pa.string()) for column in columns], schema=IDS
            )

    # -- a window ----------------------------------------------------------------------------

    def changes(self, since: datetime, until: datetime) -> Iterator[Page]:
        """Every transaction that was saved, or whose lines, customer or items were; and deletions.

        A line that was deleted leaves no trace but the header's new stamp; so all lines of every
        changed transaction are read again.
        """
        selection = self._usable()
        yield from self._deletions(since, until)

        def headers(name: str) -> Iterator[tuple[str, Answer, list[Row]]]:
            changed = sorted(self._changed(selection, name, since, until), key=int)
            for answer, rows in self._by_ids(selection.headers(), changed):
                yield name, answer, rows

        yield from self._documents(headers)

    def _by_ids(self, select: str, ids: list[str]) -> Iterator[tuple[Answer, list[Row]]]:
        for start in range(0, len(ids), IDS_PER_QUERY):
            listed = ", ".join(ids[start : start + IDS_PER_QUERY])
            yield from self._by_key(select, f"t.id IN ({listed})", "t.id", _id)

    def _changed(
        self, selection: queries.Selection, name: str, since: datetime, until: datetime
    ) -> set[str]:
        def of(watched: tuple[str, str]) -> set[str]:
            joins, stamp = watched
            where = f"t.type IN ({queries.types_of(name)}) AND {self._window(stamp, since, until)}"
            select = f"SELECT DISTINCT t.id AS id FROM transaction t{joins}"
            return {row.id for _, rows in self._by_key(select, where, "t.id", _id) for row in rows}

        watched = list(selection.changed())
        return set().union(*each(of, watched, self._settings.concurrency))

    def _window(self, stamp: str, since: datetime, until: datetime) -> str:
        """The stamp is in the window, to the second: airbyte#79653 cut stamps to days."""
        low, high = (self._here(moment) for moment in (since, until))
        return f"{stamp} >= {queries.instant(low)} AND {stamp} < {queries.instant(high)}"

    def _here(self, moment: datetime) -> datetime:
        """An instant on the user's clocks."""
        return moment.astimezone(UTC).replace(tzinfo=None) + self._distance()

    def _deletions(self, since: datetime, until: datetime) -> Iterator[Page]:
        """Tombstones of our documents, from the list of all deletions."""
        sql = self._select().deletions(self._window("d.deleteddate", since, until))
        if sql is None:
            _log.warning(
                "netsuite: deletions cannot be read; a sweep of ids finds them later. Give the "
                "integration's role the permission Deleted Records"
            )
            return
        try:
            found = list(self._by_offset(sql))
        except _TooManyError:
            if until - since <= timedelta(seconds=1):
                raise SourceSchemaError(
                    SOURCE, f"more than {ROW_CAP} records were deleted in the second of {since}"
                ) from None
            middle = since + (until - since) / 2
            yield from self._deletions(since, middle)
            yield from self._deletions(middle, until)
            return
        except SourceAuthError as error:
            _log.warning("netsuite: deletions cannot be read (%s)", error)
            return
        for answer, rows in found:
            for name in self._objects:
                ours = [row for row in rows if name in (_deleted(row.type), _deleted(row.name))]
                if ours:
                    stamps = [self._utc(answer, row.modified) for row in ours]
                    keys = _keys([row.id for row in ours], stamps, [None] * len(ours))
                    yield _page(name, answer, len(ours), keys)

    # -- documents ---------------------------------------------------------------------------

    def _documents(
        self, headers: Callable[[str], Iterator[tuple[str, Answer, list[Row]]]]
    ) -> Iterator[Page]:
        """Pages of headers of all kinds, each followed by all that belongs to its documents.

        While headers are read on, lines are read; a few pages at a time are held.
        """
        at_once = self._settings.concurrency
        pages = in_order(headers, self._objects, at_once)
        for (name, answer, rows), parts in each(
            lambda page: (page, self._parts(page[2])), pages, at_once
        ):
            yield from self._landed(name, answer, rows, parts)

    def _landed(
        self, name: str, answer: Answer, headers: list[Row], parts: _Parts
    ) -> Iterator[Page]:
        versions = [
            # Headers and lines are saved independently of each other.
            self._utc(answer, max(row.modified, parts.modified.get(row.id, "")))
            for row in headers
        ]
        keys = _keys(
            [row.id for row in headers], versions, [row.trandate[:7] or None for row in headers]
        )
        yield _page(name, answer, len(headers), keys)
        yield from parts.pages

    def _parts(self, headers: list[Row]) -> _Parts:
        """Lines, links and voiding journals of some documents."""
        selection = self._usable()
        ids = [row.id for row in headers]
        modified: dict[str, str] = {}
        if not ids:
            return _Parts([], modified)
        parts: tuple[Callable[[], list[Page]], ...] = (
            lambda: self._lines(ids, modified),
            lambda: self._listed(LINK, selection.links, ids),
            lambda: self._listed(VOID, selection.voids, ids),
        )
        found = each(lambda part: part(), parts, self._settings.concurrency)
        return _Parts([page for pages in found for page in pages], modified)

    def _lines(self, ids: list[str], modified: dict[str, str]) -> list[Page]:
        """The lines of some documents; `modified` learns the newest stamp of each one's."""
        where = f"tl.transaction IN ({', '.join(ids)})"
        pages = []
        for answer, rows in self._by_key(self._usable().lines(), where, "tl.uniquekey", _key):
            pages.append(_page(LINE, answer, len(rows)))
            for row in rows:
                modified[row.transaction] = max(modified.get(row.transaction, ""), row.modified)
        return pages

    def _listed(
        self, name: str, query: Callable[[str], str | None], ids: Sequence[str]
    ) -> list[Page]:
        """All rows of a query over some ids; over half of them at a time where there are many."""
        sql = query(", ".join(ids))
        if sql is None:
            return []
        try:
            return [_page(name, answer, len(rows)) for answer, rows in self._by_offset(sql) if rows]
        except _TooManyError:
            if len(ids) == 1:
                raise SourceSchemaError(
                    SOURCE, f"transaction {ids[0]} has more than {ROW_CAP} rows of {name}"
                ) from None
            half = len(ids) // 2
            return self._listed(name, query, ids[:half]) + self._listed(name, query, ids[half:])

    # -- rows --------------------------------------------------------------------------------

    def _by_key(
        self, select: str, where: str, key: str, value: Callable[[Row], str]
    ) -> Iterator[tuple[Answer, list[Row]]]:
        """All rows, in the order of a key, each page asked for from where the last one ended.

        Raises:
            SourceSchemaError: pages repeat rows, or there are fewer rows than there should be.
        """
        last: str | None = None
        promised = received = 0
        while True:
            beyond = f" AND {key} > {last}" if last is not None else ""
            answer, found = self._api.query(f"{select} WHERE {where}{beyond} ORDER BY {key}")
            if last is None:
                promised = found.total
            elif found.items and int(value(found.items[0])) <= int(last):
                raise SourceSchemaError(
                    SOURCE, f"a page repeats {key} {value(found.items[0])} of the page before it"
                )
            received += len(found.items)
            if found.items or last is None:
                yield answer, found.items
            if not found.items or len(found.items) >= found.total:
                break
            last = value(found.items[-1])
        if received < promised:
            self._recount(select, where, key, received)

    def _recount(self, select: str, where: str, key: str, received: int) -> None:
        """Fewer rows came than were promised: that is right only if some are gone since."""
        origin = select[re.search(r"\bFROM\b", select).start() :]  # type: ignore[union-attr]
        _, found = self._api.query(f"SELECT COUNT(DISTINCT {key}) AS id {origin} WHERE {where}")
        if received < int(found.items[0].id):
            raise SourceSchemaError(
                SOURCE,
                f"{received} of {found.items[0].id} rows came for: {where[:200]}",
                retryable=True,
            )

    def _by_offset(self, sql: str) -> Iterator[tuple[Answer, list[Row]]]:
        """All rows of a query whose rows have no one key.

        Raises:
            _TooManyError: there are more than a query returns.
        """
        offset = 0
        while True:
            answer, found = self._api.query(sql, offset)
            if found.total > ROW_CAP:
                raise _TooManyError
            yield answer, found.items
            offset += PAGE_SIZE
            if offset >= found.total:
                return


def _in_month(name: str, period: str) -> str:
    start, end = first_day(period).isoformat(), first_day(next_period(period)).isoformat()
    return (
        f"t.type IN ({queries.types_of(name)}) AND t.trandate >= {queries.day(start)}"
        f" AND t.trandate < {queries.day(end)}"
    )


def _id(row: Row) -> str:
    return row.id


def _key(row: Row) -> str:
    return row.key


def _deleted(name: str) -> str | None:
    """The raw object that a record type of `deletedrecord` belongs to."""
    return _DELETED.get(re.sub(r"[ _]", "", name).lower())


def _stamp(answer: Answer, text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%d %H:%M:%S")  # noqa: DTZ007 - the user's clocks
    except ValueError as error:
        raise SourceSchemaError(
            SOURCE, f"{answer.request[:200]} brought {text!r}, which is no date and time"
        ) from error


def _keys(ids: list[str], versions: list[str], periods: Sequence[str | None]) -> pa.RecordBatch:
    columns = (ids, versions, periods, periods)
    return pa.RecordBatch.from_arrays(
        [pa.array(column, pa.string()) for column in columns], schema=KEYS
    )


def _page(name: str, answer: Answer, records: int, keys: pa.RecordBatch | None = None) -> Page:
    return Page(
        object=name,
        body=answer.body,
        request=answer.request,
        server_time=answer.server_time,
        records=records,
        keys=keys,
        request_id=answer.request_id,
    )
