"""Sage Intacct: which queries list a month's documents, or what changed in a window.

A document is an AR invoice, an AR adjustment or an order entry document with all of its lines.
Lines have no reliable stamp, so all lines of a changed document are read again. Pages follow each
other by RECORDNO, for an offset shifts when rows change below it. Nothing is filtered by state;
what counts is decided in `revrec_pipeline.mapping.sage_intacct`. Calls are in `sage_intacct_api`,
the choice of fields in `sage_intacct_fields`.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import ClassVar
from xml.etree.ElementTree import Element

import pyarrow as pa

from resources.at_once import each, in_order, pause
from resources.client import IDS, ConnectedClient, Connection
from resources.http import Sleep
from resources.rest import Answer
from resources.sage_intacct_api import (
    DTD_VERSION,
    SOURCE,
    Formats,
    IntacctApi,
    Record,
    SageIntacctSecrets,
    compare,
    query,
    read_query,
    tag,
    text,
)
from resources.sage_intacct_fields import Selection, described, read_objects, select
from revrec_pipeline.errors import SettingsError, SourceAuthError, SourceSchemaError
from revrec_pipeline.lake import KEYS, Page
from revrec_pipeline.mapping.sage_intacct_settings import (
    LINES,
    OBJECTS,
    ORDER,
    PARENT,
    SageIntacctSettings,
)
from revrec_pipeline.periods import first_day, next_period

#: The largest page of a query.
PAGE_SIZE = 2000
#: Documents whose lines are asked for at once: a condition takes a few hundred keys at most.
DOCUMENTS_PER_QUERY = 200
#: The log of deletions: what happened to an object, not what it was.
_AUDIT, _AUDIT_FIELDS = (
    "AUDITHISTORY",
    ("ID", "OBJECTTYPE", "OBJECTKEY", "ACCESSMODE", "ACCESSTIME"),
)
_NAMES = {
    "ARINVOICE": "AR invoices",
    "ARINVOICEITEM": "AR invoice lines",
    "ARADJUSTMENT": "AR adjustments",
    "ARADJUSTMENTITEM": "AR adjustment lines",
    "SODOCUMENT": "order entry transactions",
    "SODOCUMENTENTRY": "order entry transaction lines",
    _AUDIT: "the audit history",
}

_log = logging.getLogger(__name__)


class SageIntacctClient(ConnectedClient[IntacctApi]):
    """Invoices, adjustments and orders of one company, or of one entity of it."""

    source: ClassVar[str] = SOURCE
    api_version: ClassVar[str] = DTD_VERSION
    #: Changes become visible within two hours, by the vendor's own words …
    lag: ClassVar[timedelta] = timedelta(hours=2)
    #: … and those of the audit history within two and a half.
    lookback: ClassVar[timedelta] = timedelta(hours=2, minutes=30)

    def __init__(
        self,
        secrets: SageIntacctSecrets,
        *,
        timezone: str,
        settings: SageIntacctSettings,
        sleep: Sleep = pause,
    ) -> None:
        del timezone  # document dates have no zone, and are not shifted
        self._secrets = secrets
        self._settings = settings
        self._api = IntacctApi(secrets, concurrency=settings.concurrency, sleep=sleep)
        self._selected: Selection | None = None
        self._formats: Formats | None = None

    # -- who and when ------------------------------------------------------------------------

    def check(self) -> Connection:
        """The company, and what the user may not read or the company does not have.

        Raises:
            SettingsError: a setting names a field or a transaction definition that is not there.
        """
        self._user_formats()
        missing = []
        for name in (*(OBJECTS[raw] for raw in read_objects(self._settings)), _AUDIT):
            try:
                self._probe(name)
            except SourceAuthError:
                missing.append(f"read access to {_NAMES[name]} ({name})")
        self._check_documents()
        selection = self._selection()
        if selection.wrong:
            raise SettingsError(selection.wrong[0])
        company, entity = self._secrets.company_id, self._secrets.entity_id
        return Connection(
            account_id=f"{company}/{entity}" if entity else company,
            account_name=f"{company}, entity {entity}" if entity else company,
            api_version=DTD_VERSION,
            missing=(*missing, *selection.missing),
        )

    def server_time(self) -> datetime:
        """The gateway's clock."""
        answer, self._formats = self._api.formats()
        return answer.server_time

    def _user_formats(self) -> Formats:
        if self._formats is None:
            _, self._formats = self._api.formats()
        return self._formats

    def _probe(self, name: str) -> None:
        # Order entry objects are asked for by transaction definition; any will do.
        document = next(iter(self._settings.documents), None) if name.startswith("SO") else None
        key = "ID" if name == _AUDIT else "RECORDNO"
        function = query(name, [key], "", order=(key,), page_size=1, document=document)
        self._api.run(function, read_query(name, 1))

    def _check_documents(self) -> None:
        if not self._settings.documents:
            return
        name = "SODOCUMENTPARAMS"
        function = query(name, ["RECORDNO", "DOCID"], "", page_size=PAGE_SIZE)
        _, found = self._api.run(function, read_query(name, PAGE_SIZE))
        known = sorted(record["DOCID"] or "" for record in found.records)
        for document in self._settings.documents:
            if document not in known:
                raise SettingsError(
                    f"[sources.sage_intacct] {document!r} is no order entry transaction "
                    f"definition; there are {', '.join(known)}"
                )

    # -- a month -----------------------------------------------------------------------------

    def listing(self, period: str) -> Iterator[Page]:
        """Every document dated in the month, with all lines."""
        yield from self._documents(_dated_in(period))

    def ids(self, period: str) -> Iterator[pa.RecordBatch]:
        """The RECORDNO of every document dated in the month."""
        for kind, _, _, records in self._listed(_dated_in(period), lambda _: ("RECORDNO",)):
            numbers = [record["RECORDNO"] for record in records]
            yield pa.RecordBatch.from_arrays(
                [
                    pa.array([kind] * len(numbers), pa.string()),
                    pa.array(numbers, pa.string()),
                ],
                schema=IDS,
            )

    # -- a window ----------------------------------------------------------------------------

    def changes(self, since: datetime, until: datetime) -> Iterator[Page]:
        """Tombstones of what was deleted in the window, then every document that changed in it.

        A document that was never edited has no WHENMODIFIED; the audit's own stamp of its creation
        counts for it. The log of deletions does not know AR adjustments; only `ids` tells of those.
        """
        formats = self._user_formats()
        low, high = formats.written(since), formats.written(until)
        yield from in_order(
            lambda kind: self._tombstones(kind, low, high),
            self._settings.kinds,
            self._settings.concurrency,
        )
        where = tag(
            "or",
            tag("and", *_between("WHENMODIFIED", low, high)),
            tag("and", compare("isnull", "WHENMODIFIED"), *_between("AUWHENCREATED", low, high)),
        )
        yield from self._documents(where)

    def _tombstones(self, kind: str, low: str, high: str) -> Iterator[Page]:
        """What the audit history says was deleted; it only grows, so an offset does not shift."""
        where = tag(
            "and",
            compare("equalto", "OBJECTTYPE", OBJECTS[kind].lower()),
            compare("equalto", "ACCESSMODE", "D"),
            *_between("ACCESSTIME", low, high),
        )
        offset, remaining = 0, 1
        while remaining:
            function = query(
                _AUDIT,
                _AUDIT_FIELDS,
                where,
                order=("ACCESSTIME", "ID"),
                page_size=PAGE_SIZE,
                offset=offset,
            )
            answer, found = self._api.run(function, read_query(_AUDIT, PAGE_SIZE, offset))
            offset, remaining = offset + len(found.records), found.remaining
            if found.records:
                yield self._page(kind, answer, self._deleted(answer, found.records))

    def _deleted(self, answer: Answer, records: list[Record]) -> list["_Key"]:
        """Keys of tombstones: a key may be written `123--REC`, and `D` sorts behind a stamp."""
        keys = []
        for record in records:
            number = (record["OBJECTKEY"] or "").partition("--")[0]
            keys.append(_Key(number, self._stamp(answer, record["ACCESSTIME"]) + "D", None))
        return keys

    # -- documents ---------------------------------------------------------------------------

    def _definitions(self, kind: str) -> tuple[str | None, ...]:
        """The transaction definitions to ask for; order entry objects want one in each query."""
        return self._settings.documents if kind == ORDER else (None,)

    def _documents(self, where: str) -> Iterator[Page]:
        """All pages of documents, each followed by the lines of its documents."""
        lines_of: set[str] = set()  # documents whose lines are there
        for kind, document, answer, records in self._listed(where, self._fields):
            yield self._page(kind, answer, [self._key(answer, record) for record in records])
            name = LINES[kind]
            numbers = [record["RECORDNO"] or "" for record in records]
            missing = [number for number in numbers if f"{name} {number}" not in lines_of]
            lines_of.update(f"{name} {number}" for number in numbers)
            yield from self._lines(name, missing, document)

    def _listed(
        self, where: str, fields: Callable[[str], tuple[str, ...]]
    ) -> Iterator[tuple[str, str | None, Answer, list[Record]]]:
        """All pages of documents with their kind and transaction definition, kinds side by side."""

        def pages(
            asked: tuple[str, str | None, tuple[str, ...]],
        ) -> Iterator[tuple[str, str | None, Answer, list[Record]]]:
            kind, document, names = asked
            for answer, records in self._pages(OBJECTS[kind], names, where, document):
                yield kind, document, answer, records

        asked = [
            (kind, document, fields(kind))
            for kind in self._settings.kinds
            for document in self._definitions(kind)
        ]
        return in_order(pages, asked, self._settings.concurrency)

    def _lines(self, name: str, numbers: list[str], document: str | None) -> Iterator[Page]:
        """All lines of these documents."""
        chunks = [
            numbers[start : start + DOCUMENTS_PER_QUERY]
            for start in range(0, len(numbers), DOCUMENTS_PER_QUERY)
        ]
        for pages in each(
            lambda keys: self._chunk(name, keys, document), chunks, self._settings.concurrency
        ):
            yield from pages

    def _chunk(self, name: str, numbers: list[str], document: str | None) -> list[Page]:
        where = compare("in", PARENT[name], *numbers)
        return [
            _page(name, answer, len(records))
            for answer, records in self._pages(OBJECTS[name], self._fields(name), where, document)
        ]

    def _pages(
        self, name: str, fields: tuple[str, ...], where: str, document: str | None
    ) -> Iterator[tuple[Answer, list[Record]]]:
        """All pages of a query, by ascending RECORDNO.

        Raises:
            SourceSchemaError: a page does not continue where the one before it ended.
        """
        last, remaining = 0, 1
        while remaining:
            beyond = compare("greaterthan", "RECORDNO", str(last))
            condition = tag("and", beyond, where) if last else where
            function = query(name, fields, condition, page_size=PAGE_SIZE, document=document)
            answer, found = self._api.run(function, read_query(name, PAGE_SIZE))
            remaining = found.remaining
            if not found.records:
                return
            for record in found.records:
                number = record.get("RECORDNO") or ""
                if not number.isdigit() or int(number) <= last:
                    raise SourceSchemaError(
                        SOURCE,
                        f"a page of {name} brings RECORDNO {number!r} after {last}; pages must "
                        "ascend, or rows would be lost",
                    )
                last = int(number)
            yield answer, found.records

    # -- keys --------------------------------------------------------------------------------

    def _key(self, answer: Answer, record: Record) -> "_Key":
        created = record.get("WHENCREATED") or ""
        try:
            dated = datetime.strptime(created, "%m/%d/%Y")  # noqa: DTZ007 - a date has no zone
        except ValueError as error:
            raise SourceSchemaError(
                SOURCE,
                f"{created!r} in {_short(answer)} is no date like 01/31/2026; the user must read "
                "dates as MM/DD/YYYY",
            ) from error
        stamp = record.get("WHENMODIFIED") or record.get("AUWHENCREATED")
        return _Key(record["RECORDNO"] or "", self._stamp(answer, stamp), f"{dated:%Y-%m}")

    def _stamp(self, answer: Answer, written: str | None) -> str:
        try:
            return self._user_formats().stamp(written or "")
        except ValueError as error:
            raise SourceSchemaError(
                SOURCE,
                f"{written!r} in {_short(answer)} is no instant like 01/31/2026 17:05:00",
            ) from error

    def _page(self, kind: str, answer: Answer, keys: list["_Key"]) -> Page:
        columns = (
            [key.id for key in keys],
            [key.version for key in keys],
            [key.period for key in keys],
            [key.period for key in keys],
        )
        batch = pa.RecordBatch.from_arrays(
            [pa.array(column, pa.string()) for column in columns], schema=KEYS
        )
        return _page(kind, answer, len(keys), batch)

    # -- fields ------------------------------------------------------------------------------

    def _fields(self, name: str) -> tuple[str, ...]:
        selection = self._selection()
        if selection.wrong:
            raise SettingsError(selection.wrong[0])
        if selection.needed:
            raise SourceSchemaError(
                SOURCE, f"the company has no {selection.needed[0]} that we may read"
            )
        return selection.fields[name]

    def _selection(self) -> Selection:
        """What this company lets us select; asked once per client."""
        if self._selected is None:
            known = {name: self._lookup(name) for name in described(self._settings)}
            self._selected = select(known, self._settings)
            for missing in self._selected.missing:
                _log.info("sage_intacct: the company has no %s that we may read", missing)
        return self._selected

    def _lookup(self, name: str) -> set[str]:
        """The fields of an object."""

        def read(data: Element) -> set[str]:
            found = {each.text or "" for each in data.iterfind("Type/Fields/Field/ID")}
            if not found:
                raise ValueError("it names no field")
            return found

        _, found = self._api.run(tag("lookup", text("object", name)), read)
        return found


@dataclass(frozen=True, slots=True)
class _Key:
    """A row of KEYS; a tombstone has no period."""

    id: str
    version: str
    period: str | None


def _dated_in(period: str) -> str:
    """A filter on the document date, which is what WHENCREATED is."""
    start, end = first_day(period), first_day(next_period(period))
    return tag("and", *_between("WHENCREATED", _day(start), _day(end)))


def _day(day: date) -> str:
    return day.strftime("%m/%d/%Y")


def _between(name: str, low: str, high: str) -> tuple[str, str]:
    """Two conditions: from `low` on, and before `high`.

    A strict low side loses what shares the last second (hotgluexyz/tap-intacct).
    """
    return compare("greaterthanorequalto", name, low), compare("lessthan", name, high)


def _short(answer: Answer) -> str:
    return answer.request[:200]


def _page(name: str, answer: Answer, records: int, keys: pa.RecordBatch | None = None) -> Page:
    return Page(
        object=name,
        body=answer.body,
        request=answer.request,
        server_time=answer.server_time,
        records=records,
        keys=keys,
        format="xml",
    )
