"""Xero: which requests list a month's documents, or what changed since some time.

Pages go by the document's id and not by its time of change: a document that changes while pages
are read would move to the end, and the next page would begin one document too late (ADR 012).
Requests, log-in and limits are in `xero_api`; what the fields mean is in
`revrec_pipeline.mapping.xero`.
"""

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import ClassVar

import msgspec
import pyarrow as pa

from resources.at_once import each, pause
from resources.client import IDS, ConnectedClient, Connection
from resources.http import Sleep
from resources.rest import Answer, Received, json_reader
from resources.xero_api import API_VERSION, CONCURRENCY, SOURCE, XeroApi, XeroSecrets
from revrec_pipeline.errors import SourceAuthError, SourceSchemaError
from revrec_pipeline.lake import KEYS, Page
from revrec_pipeline.mapping.xero import CREDIT_NOTE, INVOICE, XeroSettings
from revrec_pipeline.periods import first_day, next_period, period_of

_log = logging.getLogger(__name__)

#: The most that a page may have. A plan may allow 1,000 requests a day, so pages are large.
PAGE_SIZE = 1000
#: How often a list is read again because documents moved between its pages.
_READINGS = 3


class _Document(msgspec.Struct, kw_only=True):
    """What keys need of a document."""

    id: str
    date_string: str | None = msgspec.field(name="DateString", default=None)
    date: str | None = msgspec.field(name="Date", default=None)
    updated: str | None = msgspec.field(name="UpdatedDateUTC", default=None)


class _Invoice(_Document, kw_only=True):
    id: str = msgspec.field(name="InvoiceID")


class _CreditNote(_Document, kw_only=True):
    id: str = msgspec.field(name="CreditNoteID")


class _Pagination(msgspec.Struct, rename="camel"):
    page: int
    page_count: int
    item_count: int


class _Envelope(msgspec.Struct, kw_only=True):
    pagination: _Pagination
    documents: Sequence[_Document]


class _Invoices(_Envelope, kw_only=True):
    documents: list[_Invoice] = msgspec.field(name="Invoices")


class _CreditNotes(_Envelope, kw_only=True):
    documents: list[_CreditNote] = msgspec.field(name="CreditNotes")


class _Organisation(msgspec.Struct, rename="pascal"):
    name: str


class _Organisations(msgspec.Struct, rename="pascal"):
    organisations: list[_Organisation]


class _Item(msgspec.Struct, rename="pascal"):
    code: str


class _Items(msgspec.Struct, rename="pascal"):
    items: list[_Item]


class _Category(msgspec.Struct, rename="pascal"):
    name: str


class _Categories(msgspec.Struct, rename={"categories": "TrackingCategories"}):
    categories: list[_Category]


@dataclass(frozen=True, slots=True)
class _Kind:
    """One of the two kinds of documents and how to list it."""

    object: str
    path: str
    sales_type: str  # suppliers' documents come from the same list
    shape: type[_Envelope]
    order: str
    summary: Mapping[str, str]  # asks for headers only, where there is such a thing


_KINDS = (
    _Kind(INVOICE, "Invoices", "ACCREC", _Invoices, "InvoiceID ASC", {"summaryOnly": "true"}),
    _Kind(CREDIT_NOTE, "CreditNotes", "ACCRECCREDIT", _CreditNotes, "CreditNoteID ASC", {}),
)


@dataclass(frozen=True, slots=True)
class _List:
    """The documents of a kind under a condition, changed since or at any time."""

    kind: _Kind
    where: str
    modified_since: str | None = None
    summary: bool = False


class XeroClient(ConnectedClient[XeroApi]):
    """Sales invoices and credit notes of one organisation."""

    source: ClassVar[str] = SOURCE
    api_version: ClassVar[str] = API_VERSION
    #: No window has an upper bound; what changes while it is read is in the next one as well.
    lag: ClassVar[timedelta] = timedelta(minutes=1)
    lookback: ClassVar[timedelta] = timedelta(minutes=10)

    def __init__(
        self,
        secrets: XeroSecrets,
        *,
        timezone: str,
        settings: XeroSettings,
        sleep: Sleep = pause,
    ) -> None:
        self._timezone = timezone
        self._settings = settings
        self._api = XeroApi(secrets, settings, sleep=sleep)

    # -- who and when ------------------------------------------------------------------------

    def check(self) -> Connection:
        """The organisation, what is left of the day's requests, and what the settings lack."""
        tenant = self._api.tenant
        missing = []
        headers: Mapping[str, str] = {}
        for kind in _KINDS:
            try:
                self._api.get(kind.path, json_reader(kind.shape), page="1", pageSize="1")
            except SourceAuthError:
                missing.append(f"read access to {kind.object.replace('_', ' ')}s")
        name = tenant.name or tenant.id
        try:
            answer, found = self._api.get("Organisation", json_reader(_Organisations))
            headers, name = answer.headers, found.organisations[0].name
            missing += self._unknown()
        except SourceAuthError:
            missing.append("read access to settings")
        left = headers.get("X-DayLimit-Remaining")
        return Connection(
            account_id=tenant.id,
            account_name=name,
            api_version=API_VERSION,
            limits=f"{left} requests left of the day's" if left else None,
            missing=tuple(missing),
        )

    def _unknown(self) -> Iterator[str]:
        """Items and tracking categories that the settings name and the organisation lacks."""
        if self._settings.terms and not self._settings.product_id_field:
            _, found = self._api.get("Items", json_reader(_Items))
            codes = {item.code for item in found.items}
            yield from (f"item {code}" for code in self._settings.terms if code not in codes)
        wanted = self._settings.named("Tracking")
        if wanted:
            _, listed = self._api.get("TrackingCategories", json_reader(_Categories))
            names = {category.name for category in listed.categories}
            yield from (f"tracking category {name}" for name in wanted if name not in names)

    def server_time(self) -> datetime:
        """Xero's clock, asked where no limit of the organisation counts."""
        answer, _ = self._api.organisation()
        return answer.server_time

    # -- documents ---------------------------------------------------------------------------

    def listing(self, period: str) -> Iterator[Page]:
        """Everything dated in the month, whatever its status, with all lines."""
        lists = [_List(kind, _in_month(kind, period)) for kind in _KINDS]
        for kind, answer, found in self._pages(lists):
            yield self._page(kind, answer, found)

    def changes(self, since: datetime, until: datetime) -> Iterator[Page]:
        """Everything changed since, whatever its status: voided and deleted documents stay.

        Xero has no upper bound, so what changed after `until` comes as well, and again in the next
        window; the version guard makes that harmless. It keeps no feed that could run out.
        """
        del until
        # Seconds are all that Xero looks at; the window reaches back to the whole one before.
        modified = since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
        lists = [_List(kind, f'Type=="{kind.sales_type}"', modified) for kind in _KINDS]
        for kind, answer, found in self._pages(lists):
            yield self._page(kind, answer, found)

    def ids(self, period: str) -> Iterator[pa.RecordBatch]:
        """The ids of the month's documents."""
        lists = [_List(kind, _in_month(kind, period), summary=True) for kind in _KINDS]
        for kind, _, found in self._pages(lists):
            yield pa.RecordBatch.from_arrays(
                [
                    pa.array([kind.object] * len(found), pa.string()),
                    pa.array([one.id for one in found], pa.string()),
                ],
                schema=IDS,
            )

    def _pages(self, lists: Sequence["_List"]) -> Iterator[tuple[_Kind, Answer, list[_Document]]]:
        """All pages of lists, of each from the first one again if documents got lost between pages.

        The first page of a list says how many there are; those are then asked for side by side.

        Raises:
            SourceSchemaError: documents are missing after the last reading.
        """
        firsts = list(each(lambda one: self._ask(one, 1), lists, CONCURRENCY))
        for one, first in zip(lists, firsts, strict=True):
            for reading in range(1, _READINGS + 1):
                if reading > 1:
                    first = self._ask(one, 1)
                promised = first[1].pagination.item_count
                seen: set[str] = set()
                for answer, found in self._from_first(one, first):
                    seen.update(document.id for document in found.documents)
                    yield one.kind, answer, list(found.documents)
                if len(seen) >= promised:
                    break
                lost = f"{one.kind.path} brought {len(seen)} of {promised} documents"
                _log.warning("xero: %s, reading %d of %d", lost, reading, _READINGS)
            else:
                raise SourceSchemaError(
                    SOURCE, f"{lost}, also when read again; they change too fast", retryable=True
                )

    def _from_first(
        self, one: "_List", first: tuple[Answer, _Envelope]
    ) -> Iterator[tuple[Answer, _Envelope]]:
        """The first page and all others, also those that the list gets meanwhile."""
        yield first
        last, pages = 1, first[1].pagination.page_count
        while last < pages:
            numbers = range(last + 1, pages + 1)
            last = pages
            for answer, found in each(lambda page: self._ask(one, page), numbers, CONCURRENCY):
                pages = max(pages, found.pagination.page_count)
                yield answer, found

    def _ask(self, one: "_List", page: int) -> tuple[Answer, _Envelope]:
        """One page. `pageSize` alone would be ignored and bring no lines (airbyte#66667)."""
        params = {"where": one.where, "order": one.kind.order, "page": str(page)}
        params |= {"pageSize": str(PAGE_SIZE)}
        params |= one.kind.summary if one.summary else {"unitdp": "4"}
        headers = {"If-Modified-Since": one.modified_since} if one.modified_since else {}
        return self._api.get(one.kind.path, _reader(one.kind, page), headers, **params)

    def _page(self, kind: _Kind, answer: Answer, found: list[_Document]) -> Page:
        versions = [_version(kind, one) for one in found]
        days = [_day(one) for one in found]
        months = [day.strftime("%Y-%m") if day else None for day in days]
        keys = pa.RecordBatch.from_arrays(
            [
                pa.array([one.id for one in found], pa.string()),
                pa.array(versions, pa.string()),
                # A document without a date is in the month of its last change, and in no listing.
                pa.array(
                    [
                        month or period_of(datetime.fromisoformat(version), self._timezone)
                        for month, version in zip(months, versions, strict=True)
                    ],
                    pa.string(),
                ),
                pa.array(months, pa.string()),
            ],
            schema=KEYS,
        )
        return Page(
            object=kind.object,
            body=answer.body,
            request=answer.request,
            server_time=answer.server_time,
            records=len(found),
            keys=keys,
            request_id=answer.request_id,
        )


def _in_month(kind: _Kind, period: str) -> str:
    """The filter for a month. Dates are days on the organisation's calendar, in no zone."""
    start, end = first_day(period), first_day(next_period(period))
    return (
        f'Type=="{kind.sales_type}" AND Date>=DateTime({start:%Y,%m,%d}) '
        f"AND Date<DateTime({end:%Y,%m,%d})"
    )


def _reader(kind: _Kind, page: int) -> Callable[[Received], _Envelope]:
    """Reads a page, and refuses another one than was asked for.

    An answer without `pagination` comes from a request that was not taken for a page; its documents
    would have no lines.
    """
    read_shape = json_reader(kind.shape)

    def read(received: Received) -> _Envelope:
        found = read_shape(received)
        if found.pagination.page != page:
            raise ValueError(f"page {found.pagination.page} came instead of page {page}")
        return found

    return read


# -- dates ---------------------------------------------------------------------------------------

_STAMP = re.compile(r"/Date\((-?\d+)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _stamped(text: str) -> datetime | None:
    """The instant of a stamp such as `/Date(1518685950940+0000)/`, whose offset means nothing."""
    stamp = _STAMP.match(text)
    try:
        return _EPOCH + timedelta(milliseconds=int(stamp[1])) if stamp else None
    except OverflowError:
        return None


def _day(document: _Document) -> date | None:
    """The day of a document; `mapping.xero` must agree.

    The epoch and what is before it mean that there is none (tap-xero #64, #74).
    """
    for text in filter(None, (document.date_string, document.date)):
        moment = _stamped(text)
        try:
            day = moment.date() if moment else date.fromisoformat(text[:10])
        except ValueError:
            continue
        if day > _EPOCH.date():
            return day
    return None


def _version(kind: _Kind, document: _Document) -> str:
    """When a document changed, to the millisecond, as text that sorts."""
    moment = _stamped(document.updated or "")
    if moment is None:
        raise SourceSchemaError(
            SOURCE, f"{kind.object} {document.id} does not say when it changed (UpdatedDateUTC)"
        )
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
