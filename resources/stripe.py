"""Stripe: which requests list a month's documents, or what changed in a window.

Stripe can list by `created` only and has no updated field. A month is therefore the documents
created in it, wherever their accounting month is, and a window is read from the event feed, whose
events serve as a list of ids: they show an object as it was, in an older version's shape. Requests
and retries are in `stripe_api`; what the fields mean is in `revrec_pipeline.mapping.stripe`.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, ClassVar, Generic, TypeVar

import msgspec
import pyarrow as pa

from resources.at_once import each, in_order, parts, pause
from resources.client import IDS, ConnectedClient, Connection
from resources.http import Sleep
from resources.stripe_api import (
    API_VERSION,
    CONCURRENCY,
    SOURCE,
    Answer,
    NotFoundError,
    StripeApi,
    StripeSecrets,
)
from revrec_pipeline.errors import SourceAuthError, SourceSchemaError
from revrec_pipeline.lake import KEYS, Page
from revrec_pipeline.mapping.stripe import StripeSettings
from revrec_pipeline.periods import bounds, period_of

_log = logging.getLogger(__name__)

PAGE_SIZE = 100
#: Events are kept for 30 days (airbyte PR #65911 lost rows at that floor); we stop relying on them
#: some days before.
EVENTS_RELIABLE = timedelta(days=25)
#: What is listed again when the feed does not reach back far enough.
RESCAN = timedelta(days=396)
#: At most 20 are allowed. `invoice.upcoming` is not among them: it has no id (airbyte PR #39412).
EVENT_TYPES = (
    "invoice.created",
    "invoice.deleted",
    "invoice.finalization_failed",
    "invoice.finalized",
    "invoice.marked_uncollectible",
    "invoice.overpaid",
    "invoice.paid",
    "invoice.payment_failed",
    "invoice.payment_succeeded",
    "invoice.sent",
    "invoice.updated",
    "invoice.voided",
    "credit_note.created",
    "credit_note.updated",
    "credit_note.voided",
)
#: States that an invoice may leave; listed each time, for status changes that events missed.
OPEN_STATES = ("draft", "open", "uncollectible")

_KINDS = ("invoice", "credit_note")

T = TypeVar("T")


class _Lines(msgspec.Struct):
    has_more: bool
    total_count: int | None = None


class _Transitions(msgspec.Struct):
    finalized_at: int | None = None


class _Document(msgspec.Struct):
    """What keys and paging need of an invoice or a credit note."""

    id: str
    created: int = 0
    status: str | None = None
    effective_at: int | None = None
    status_transitions: _Transitions | None = None
    lines: _Lines | None = None
    invoice: "_Document | None" = None  # of a credit note: expanded
    deleted: bool = False


D = TypeVar("D", "_Document", "_Created")


class _Identified(msgspec.Struct):
    id: str


class _Created(msgspec.Struct):
    id: str
    created: int = 0


class _EventObject(msgspec.Struct):
    object: str
    id: str | None = None
    created: int | None = None


class _EventData(msgspec.Struct):
    object: _EventObject


class _Event(msgspec.Struct):
    id: str
    data: _EventData


class _List(msgspec.Struct, Generic[T]):
    data: list[T]
    has_more: bool


@dataclass(frozen=True, slots=True)
class _Range:
    """Documents of a kind created in a half-open range of seconds."""

    kind: str
    start: int
    end: int
    expanded: bool  # whether credit notes come with their invoices
    before: list[str] = field(default_factory=list)  # ids of a page that is read already

    @property
    def params(self) -> dict[str, Any]:
        """How a request asks for it."""
        created: dict[str, Any] = {"created": {"gte": self.start, "lt": self.end}}
        expanded = self.expanded and self.kind == "credit_note"
        return {**created, "expand": ["data.invoice"]} if expanded else created

    def older_than(self, page: Sequence[_Document | _Created]) -> list["_Range"]:
        """What comes after its first page, in parts, newest first."""
        older = parts(self.start, page[-1].created, CONCURRENCY)
        newest = older.pop()[0] if older else self.start
        rest = replace(self, start=newest, before=[one.id for one in page])
        return [rest, *(replace(self, start=start, end=end) for start, end in reversed(older))]


class _BusinessProfile(msgspec.Struct):
    name: str | None = None


class _Account(msgspec.Struct):
    id: str
    business_profile: _BusinessProfile | None = None
    email: str | None = None


class StripeClient(ConnectedClient[StripeApi]):
    """Invoices and credit notes of one account."""

    source: ClassVar[str] = SOURCE
    api_version: ClassVar[str] = API_VERSION
    #: An event is listed up to a minute after it happened.
    lag: ClassVar[timedelta] = timedelta(minutes=1)
    lookback: ClassVar[timedelta] = timedelta(hours=1)

    def __init__(
        self,
        secrets: StripeSecrets,
        *,
        timezone: str,
        settings: StripeSettings,
        sleep: Sleep = pause,
    ) -> None:
        self._timezone = timezone
        self._api = StripeApi(
            secrets, requests_per_second=settings.requests_per_second, sleep=sleep
        )

    # -- who and when ------------------------------------------------------------------------

    def check(self) -> Connection:
        """The account, and which of the three permissions the key lacks."""
        _, account = self._api.get("/v1/account", _Account)
        missing = []
        for name in ("invoices", "credit_notes", "events"):
            try:
                self._api.get(f"/v1/{name}", _List[_Identified], limit=1)
            except SourceAuthError:
                missing.append(f"read access to {name.replace('_', ' ')}")
        profile = account.business_profile
        return Connection(
            account_id=account.id,
            account_name=(profile and profile.name) or account.email or account.id,
            api_version=API_VERSION,
            missing=tuple(missing),
        )

    def server_time(self) -> datetime:
        """Stripe's clock."""
        answer, _ = self._api.get("/v1/invoices", _List[_Identified], limit=1)
        return answer.server_time

    # -- a month -----------------------------------------------------------------------------

    def listing(self, period: str) -> Iterator[Page]:
        """Everything created in the month, with all lines."""
        start, end = bounds(period, self._timezone)
        yield from self._created(start, end, set())

    def ids(self, period: str) -> Iterator[pa.RecordBatch]:
        """The ids of everything created in the month, 100 a request; no lines are followed."""
        start, end = bounds(period, self._timezone)
        for kind, _, found in self._listed(start, end, _Created):
            ids = [one.id for one in found]
            kinds = pa.array([kind] * len(ids), pa.string())
            yield pa.RecordBatch.from_arrays([kinds, pa.array(ids, pa.string())], schema=IDS)

    def _created(self, start: datetime, end: datetime, complete: set[str]) -> Iterator[Page]:
        for kind, answer, found in self._listed(start, end, _Document):
            yield self._page(kind, answer, found)
            yield from self._cut_off_lines(kind, found, complete)

    def _listed(
        self, start: datetime, end: datetime, shape: type[D]
    ) -> Iterator[tuple[str, Answer, list[D]]]:
        """All pages of what was created in a time, with their kinds, which are read side by side.

        A page leads to the next one only. Where there are more than one, what is older than the
        first one is therefore read in parts, side by side.
        """
        low, high, expanded = int(start.timestamp()), int(end.timestamp()), shape is _Document
        lists = [_Range(kind, low, high, expanded) for kind in _KINDS]
        found: list[tuple[str, Answer, list[D]] | _Range] = []
        for whole, (answer, page) in zip(
            lists, each(lambda one: self._first(one, shape), lists, CONCURRENCY), strict=True
        ):
            found.append((whole.kind, answer, page.data))
            if page.has_more and page.data:
                found += whole.older_than(page.data)

        def pages(
            part: tuple[str, Answer, list[D]] | _Range,
        ) -> Iterator[tuple[str, Answer, list[D]]]:
            if not isinstance(part, _Range):
                yield part
                return
            path, params = f"/v1/{part.kind}s", part.params
            for answer, documents in self._pages(path, shape, before=part.before, **params):
                for one in documents:
                    if not part.start <= one.created < part.end:
                        raise SourceSchemaError(
                            SOURCE, f"{answer.request} brings {one.id} of another time"
                        )
                yield part.kind, answer, documents

        yield from in_order(pages, found, CONCURRENCY)

    def _first(self, whole: "_Range", shape: type[D]) -> tuple[Answer, _List[D]]:
        return self._after([], f"/v1/{whole.kind}s", shape, whole.params)

    def _pages(
        self, path: str, shape: type[T], *, before: list[str] | None = None, **params: Any
    ) -> Iterator[tuple[Answer, list[T]]]:
        """All pages of a list, newest first, or those after the page of these ids.

        Raises:
            SourceSchemaError: a page brings a document of the page before once more.
        """
        before = before or []
        while True:
            answer, found = self._after(before, path, shape, params)
            ids: list[str] = [one.id for one in found.data]  # type: ignore[attr-defined]
            again = set(before).intersection(ids)
            if again:
                raise SourceSchemaError(
                    SOURCE, f"{answer.request} repeats {min(again)} of the page before it"
                )
            yield answer, found.data
            if not found.has_more or not ids:
                return
            before = ids

    def _after(
        self, before: list[str], path: str, shape: type[T], params: dict[str, Any]
    ) -> tuple[Answer, _List[T]]:
        """The page after those ids; the last one may have been deleted since it was listed."""
        page: type[_List[T]] = _List[shape]  # type: ignore[valid-type]
        for cursor in reversed(before):
            try:
                return self._api.get(path, page, limit=PAGE_SIZE, starting_after=cursor, **params)
            except NotFoundError as error:
                if error.param != "starting_after":
                    raise
                _log.info("stripe: %s was deleted while it was listed; going on before it", cursor)
        return self._api.get(path, page, limit=PAGE_SIZE, **params)

    # -- lines beyond the first ten ----------------------------------------------------------

    def _cut_off_lines(
        self, kind: str, found: Iterable[_Document], complete: set[str]
    ) -> Iterator[Page]:
        """All lines of those documents, and of invoices credited in them, that show ten only.

        `complete` are the documents whose lines this landing has already; they are added to it.
        """
        parents: dict[str, tuple[str, _Document]] = {}
        for document in found:
            for name, one in ((kind, document), ("invoice", document.invoice)):
                if one is not None and one.lines is not None and one.lines.has_more:
                    parents[one.id] = (name, one)
        waiting = [item for parent, item in parents.items() if parent not in complete]
        complete.update(parents)
        # A few at a time: an invoice of 24,000 lines (airbyte#48426) is 240 pages to hold.
        for pages in each(lambda item: self._lines(*item), waiting, CONCURRENCY):
            yield from pages

    def _lines(self, kind: str, parent: _Document) -> list[Page]:
        """All lines of one document; none when it is a draft that was deleted meanwhile.

        Raises:
            SourceSchemaError: there are fewer lines than the document promised.
        """
        path = f"/v1/{kind}s/{parent.id}/lines"
        pages: list[Page] = []
        lines = 0
        try:
            for answer, found in self._pages(path, _Identified):
                lines += len(found)
                pages.append(
                    Page(
                        object=f"{kind}_line",
                        body=answer.body,
                        request=answer.request,
                        server_time=answer.server_time,
                        records=len(found),
                        parent=parent.id,
                        request_id=answer.request_id,
                    )
                )
        except NotFoundError:  # PostHog PR #72759: its first ten lines are on the page
            _log.info("stripe: %s was deleted before its lines were listed", parent.id)
            return []
        promised = parent.lines.total_count if parent.lines else None
        if promised is not None and lines < promised and parent.status != "draft":
            raise SourceSchemaError(
                SOURCE, f"GET {path} brought {lines} of the {promised} lines of {parent.id}"
            )
        return pages

    # -- a window ----------------------------------------------------------------------------

    def changes(self, since: datetime, until: datetime) -> Iterator[Page]:
        """Every document with an event in the window, as it is now, and every open invoice.

        A window that begins before the event feed is read as everything created in 13 months.
        """
        listed: set[str] = set()
        complete: set[str] = set()
        for state in OPEN_STATES:
            for answer, found in self._pages("/v1/invoices", _Document, status=state):
                listed.update(one.id for one in found)
                yield self._page("invoice", answer, found)
                yield from self._cut_off_lines("invoice", found, complete)
        if since < self.server_time() - EVENTS_RELIABLE:
            _log.info("stripe: the window begins before the event feed; listing 13 months")
            yield from self._created(until - RESCAN, until, complete)
            return
        changed = [item for item in self._changed(since, until).items() if item[0][1] not in listed]
        for page, document in each(lambda item: self._one(*item), changed, CONCURRENCY):
            yield page
            yield from self._cut_off_lines(page.object, [document], complete)

    def _changed(self, since: datetime, until: datetime) -> dict[tuple[str, str], int | None]:
        """Kind and id of every object with an event in the window, with its time of creation."""
        created = {"gte": int(since.timestamp()), "lt": int(until.timestamp())}
        changed: dict[tuple[str, str], int | None] = {}
        for _, events in self._pages(
            "/v1/events", _Event, types=list(EVENT_TYPES), created=created
        ):
            for event in events:
                subject = event.data.object
                if subject.id is not None:
                    changed[subject.object, subject.id] = subject.created
        return changed

    def _one(self, subject: tuple[str, str], created: int | None) -> tuple[Page, _Document]:
        """One document as it is now, or a tombstone; only drafts can be deleted.

        The tombstone is what Stripe answers to a deletion, with the draft's time of creation, which
        only the event still knows.
        """
        kind, identifier = subject
        params = {"expand": ["invoice"]} if kind == "credit_note" else {}
        path = f"/v1/{kind}s/{identifier}"
        try:
            answer, document = self._api.get(path, _Document, **params)
        except NotFoundError:
            tombstone = {"id": identifier, "object": kind, "deleted": True, "created": created}
            answer = Answer(f"GET {path}", msgspec.json.encode(tombstone), self.server_time(), None)
            document = _Document(id=identifier, deleted=True)
        if document.deleted and created is not None:
            document.created = created
        return self._page(kind, answer, [document]), document

    # -- pages -------------------------------------------------------------------------------

    def _page(self, kind: str, answer: Answer, found: list[_Document]) -> Page:
        # There is no updated field: the newest answer counts.
        version = answer.server_time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        keys = pa.RecordBatch.from_arrays(
            [
                pa.array([one.id for one in found], pa.string()),
                pa.array([version] * len(found), pa.string()),
                pa.array([self._month(_accounted_at(kind, one)) for one in found], pa.string()),
                pa.array([self._month(one.created) for one in found], pa.string()),
            ],
            schema=KEYS,
        )
        return Page(
            object=kind,
            body=answer.body,
            request=answer.request,
            server_time=answer.server_time,
            records=len(found),
            keys=keys,
            request_id=answer.request_id,
        )

    def _month(self, instant: int) -> str | None:
        """The month of an instant on the site's clocks; none for a document we know no time of."""
        return _month_of(instant // _QUARTER, self._timezone) if instant else None


#: Clocks everywhere differ from UTC by whole quarters of an hour.
_QUARTER = 900


@lru_cache(maxsize=100_000)  # without it, 100,000 documents cost 0.6 CPU s
def _month_of(quarter: int, timezone: str) -> str:
    return period_of(datetime.fromtimestamp(quarter * _QUARTER, UTC), timezone)


def _accounted_at(kind: str, document: _Document) -> int:
    """The instant that decides the accounting month; `mapping.stripe` must agree."""
    if kind == "invoice" and document.status == "draft":
        return document.created
    transitions = document.status_transitions
    finalized = transitions.finalized_at if transitions else None
    return document.effective_at or finalized or document.created
