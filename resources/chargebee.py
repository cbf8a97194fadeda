"""Chargebee: which requests list a month's documents, or what changed in a window.

A month is the invoices and credit notes dated in it, a window those updated in it; both with the
deleted ones, and both followed by what their lines refer to: customers, item prices, subscriptions
and the invoices that credit notes credit. Requests and paging are in `chargebee_api`; what the
fields mean is in `revrec_pipeline.mapping.chargebee`.
"""

import json
import logging
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, TypeAlias
from urllib.parse import quote

import msgspec
import pyarrow as pa

from resources.at_once import each, in_order, parts, pause
from resources.chargebee_api import (
    API_VERSION,
    CONCURRENCY,
    LINES_PAGE,
    SOURCE,
    ChargebeeApi,
    ChargebeeSecrets,
    ForbiddenError,
    NotFoundError,
    UnavailableError,
)
from resources.client import IDS, ConnectedClient, Connection
from resources.http import Sleep
from resources.rest import Answer
from revrec_pipeline.errors import SourceSchemaError
from revrec_pipeline.lake import KEYS, Page
from revrec_pipeline.mapping.chargebee import ChargebeeSettings
from revrec_pipeline.periods import bounds, period_of

_log = logging.getLogger(__name__)

#: Only what changed since has an `updated_at` (one source says 28 September 2016, another the
#: 30th); no filter on that field finds the rest: PostHog #76090 lost 436 of 7,836 rows.
STAMPED_SINCE = datetime(2016, 10, 1, tzinfo=UTC)
#: The version of what has no stamp: below all others.
UNSTAMPED = "1970-01-01T00:00:00.000Z"
#: A request's line is at most 8 KB with common servers; ids are asked for in lists that fit.
IDS_LENGTH, IDS_COUNT = 4000, 100
#: What the settings may need to read, as `check` names it.
READ = ("invoices", "credit_notes", "customers", "subscriptions", "item_prices")


class _Line(msgspec.Struct):
    entity_type: str | None = None
    entity_id: str | None = None
    subscription_id: str | None = None


class _Document(msgspec.Struct):
    """What keys, paging and context need of an invoice or a credit note."""

    id: str
    date: int | None = None
    generated_at: int | None = None
    updated_at: int | None = None
    resource_version: int | None = None
    customer_id: str | None = None
    subscription_id: str | None = None
    reference_invoice_id: str | None = None
    line_items: list[_Line] = []
    line_items_next_offset: str | None = None


class _Invoice(msgspec.Struct):
    invoice: _Document

    @property
    def document(self) -> _Document:
        return self.invoice


class _CreditNote(msgspec.Struct):
    credit_note: _Document

    @property
    def document(self) -> _Document:
        return self.credit_note


class _ContractTerm(msgspec.Struct):
    id: str


class _Subscription(msgspec.Struct):
    id: str
    contract_term: _ContractTerm | None = None


class _SubscriptionElement(msgspec.Struct):
    subscription: _Subscription


class _Configuration(msgspec.Struct):
    domain: str
    product_catalog_version: str | None = None


class _Configurations(msgspec.Struct):
    configurations: list[_Configuration]


_SHAPES: dict[str, type[_Invoice] | type[_CreditNote]] = {
    "invoice": _Invoice,
    "credit_note": _CreditNote,
}


@dataclass(frozen=True, slots=True)
class _List:
    """Documents of a kind by a time: in a half-open range of seconds, or those without any."""

    kind: str
    by: str
    start: int | None = None
    end: int = 0

    @property
    def params(self) -> dict[str, str]:
        """How a request asks for it; the vendor's range holds both of its ends."""
        if self.start is None:
            return {f"{self.by}[is_present]": "false", "include_deleted": "true"}
        return {
            f"{self.by}[between]": f"[{self.start},{self.end - 1}]",
            "sort_by[asc]": self.by,
            "include_deleted": "true",
        }

    def parts(self) -> list["_List"]:
        """The same documents in as many lists as may be read side by side."""
        if self.start is None:
            return [self]
        ranges = parts(self.start, self.end, CONCURRENCY)
        return [_List(self.kind, self.by, start, end) for start, end in ranges]


#: A page of documents of one kind.
_Listed: TypeAlias = tuple[str, Answer, list[_Document]]


@dataclass(slots=True)
class _Referred:
    """Ids that the documents of one landing refer to, in the order in which they were met."""

    customers: dict[str, None] = field(default_factory=dict)
    subscriptions: dict[str, None] = field(default_factory=dict)
    item_prices: dict[str, None] = field(default_factory=dict)
    invoices: dict[str, None] = field(default_factory=dict)
    #: Documents whose lines this landing has from pages of their own.
    complete: set[tuple[str, str]] = field(default_factory=set)

    def add(self, document: _Document) -> None:
        """Note what a document refers to."""
        for known, identifier in (
            (self.customers, document.customer_id),
            (self.subscriptions, document.subscription_id),
            (self.invoices, document.reference_invoice_id),
        ):
            if identifier is not None:
                known[identifier] = None
        for line in document.line_items:
            if line.subscription_id is not None:
                self.subscriptions[line.subscription_id] = None
            # Sites on Product Catalog 1.0 name plans and addons, which have no item price.
            if line.entity_id is not None and (line.entity_type or "").endswith("_item_price"):
                self.item_prices[line.entity_id] = None


class ChargebeeClient(ConnectedClient[ChargebeeApi]):
    """Invoices and credit notes of one site."""

    source: ClassVar[str] = SOURCE
    api_version: ClassVar[str] = API_VERSION
    #: Lists may lag five minutes behind, says the vendor.
    lag: ClassVar[timedelta] = timedelta(minutes=5)
    lookback: ClassVar[timedelta] = timedelta(minutes=10)

    def __init__(
        self,
        secrets: ChargebeeSecrets,
        *,
        timezone: str,
        settings: ChargebeeSettings,
        sleep: Sleep = pause,
    ) -> None:
        self._timezone = timezone
        self._site = secrets.site
        self._contract_terms = settings.contract_terms
        self._api = ChargebeeApi(
            secrets, requests_per_minute=settings.requests_per_minute, sleep=sleep
        )

    # -- who and when ------------------------------------------------------------------------

    def check(self) -> Connection:
        """The site, and what the key may not read of that which a sync reads."""
        missing = []
        for name in READ:
            try:
                self._api.get(f"/{name}", dict[str, msgspec.Raw], limit="1")
            except ForbiddenError:
                missing.append(f"read access to {name.replace('_', ' ')}")
            except UnavailableError as error:
                _log.info("%s", error)
        try:
            _, found = self._api.get("/configurations", _Configurations)
        except (ForbiddenError, NotFoundError, UnavailableError):
            catalogue = "unknown"
        else:
            versions = [one.product_catalog_version for one in found.configurations]
            catalogue = ", ".join(filter(None, versions)) or "unknown"
        return Connection(
            account_id=self._site,
            account_name=f"{self._site} (product catalogue {catalogue})",
            api_version=API_VERSION,
            missing=tuple(missing),
        )

    def server_time(self) -> datetime:
        """Chargebee's clock."""
        answer, _ = self._api.get("/invoices", dict[str, msgspec.Raw], limit="1")
        return answer.server_time

    # -- documents ---------------------------------------------------------------------------

    def listing(self, period: str) -> Iterator[Page]:
        """Everything dated in the month, with all lines.

        It does not ask by `updated_at`, which documents from before October 2016 lack.
        """
        yield from self._documents(self._dated(period))

    def changes(self, since: datetime, until: datetime) -> Iterator[Page]:
        """Everything updated in the window, deleted ones included, with all lines.

        A window that reaches back to when nothing was stamped brings what has no stamp, too.
        """
        # Stamps are whole seconds.
        first, end = math.floor(since.timestamp()), math.ceil(until.timestamp())
        if first >= end:
            return
        lists = [_List(kind, "updated_at", first, end) for kind in _SHAPES]
        if since < STAMPED_SINCE:
            lists += [_List(kind, "updated_at") for kind in _SHAPES]
        yield from self._documents(lists)

    def ids(self, period: str) -> Iterator[pa.RecordBatch]:
        """Ids of the month's documents; Chargebee has no shorter list than the full one."""
        for kind, _, found in self._listed(self._dated(period)):
            ids = [document.id for document in found]
            yield pa.RecordBatch.from_arrays(
                [pa.array([kind] * len(ids), pa.string()), pa.array(ids, pa.string())],
                schema=IDS,
            )

    def _dated(self, period: str) -> list["_List"]:
        """The lists of a month, from its first to its last second on the site's clocks."""
        start, end = (int(moment.timestamp()) for moment in bounds(period, self._timezone))
        return [_List(kind, "date", start, end) for kind in _SHAPES]

    def _documents(self, lists: list["_List"]) -> Iterator[Page]:
        """All pages of lists, each with the lines that it does not show, and what they refer to."""
        referred = _Referred()
        for kind, answer, documents in self._listed(lists):
            for document in documents:
                referred.add(document)
            yield _page(kind, answer, len(documents), keys=self._keys(documents))
            yield from self._hidden_lines(kind, documents, referred)
        yield from self._context(referred)

    def _listed(self, lists: list["_List"]) -> Iterator[tuple[str, Answer, list[_Document]]]:
        """All pages of lists.

        A page leads to the next one only, so pages of one list cannot be asked for at once. A list
        that does not end with its first page is therefore listed anew in parts, side by side.
        """
        found: list[_Listed | _List] = []
        for asked, (answer, documents, more) in zip(
            lists, each(self._first_page, lists, CONCURRENCY), strict=True
        ):
            found += asked.parts() if more else [(asked.kind, answer, documents)]
        yield from in_order(self._pages_of, found, CONCURRENCY)

    def _first_page(self, asked: "_List") -> tuple[Answer, list[_Document], bool]:
        shape = _SHAPES[asked.kind]
        answer, elements, following = self._api.page(f"/{asked.kind}s", shape, **asked.params)
        return answer, [element.document for element in elements], following is not None

    def _pages_of(self, part: "_Listed | _List") -> Iterator["_Listed"]:
        """The pages of a list, unless it is a page already."""
        if not isinstance(part, _List):
            yield part
            return
        for answer, elements in self._api.pages(
            f"/{part.kind}s", _SHAPES[part.kind], **part.params
        ):
            yield part.kind, answer, [element.document for element in elements]

    def _keys(self, documents: list[_Document]) -> pa.RecordBatch:
        return pa.RecordBatch.from_arrays(
            [
                pa.array([one.id for one in documents], pa.string()),
                pa.array([_version(one) for one in documents], pa.string()),
                pa.array([self._month(_accounted_at(one)) for one in documents], pa.string()),
                # No listing holds a document without a date, so none tells that it is gone.
                pa.array(
                    [None if one.date is None else self._month(one.date) for one in documents],
                    pa.string(),
                ),
            ],
            schema=KEYS,
        )

    def _month(self, instant: int) -> str:
        return period_of(datetime.fromtimestamp(instant, UTC), self._timezone)

    # -- lines of huge documents -------------------------------------------------------------

    def _hidden_lines(
        self, kind: str, documents: Iterable[_Document], referred: _Referred
    ) -> Iterator[Page]:
        """All lines of those documents that a list shows without: invoices of enterprise scale."""
        hidden = [
            document.id
            for document in documents
            if document.line_items_next_offset is not None
            and (kind, document.id) not in referred.complete
        ]
        referred.complete.update((kind, identifier) for identifier in hidden)
        for found in each(lambda one: self._lines(kind, one), hidden, CONCURRENCY):
            for page, document in found:
                referred.add(document)
                yield page

    def _lines(self, kind: str, identifier: str) -> list[tuple[Page, _Document]]:
        """All pages of one document; none when it was deleted since it was listed."""
        pages: list[tuple[Page, _Document]] = []
        shown: set[str] = set()
        cursor: dict[str, str] = {}
        while True:
            try:
                answer, found = self._api.get(
                    f"/{kind}s/{quote(identifier, safe='')}",
                    _SHAPES[kind],
                    line_items_limit=str(LINES_PAGE),
                    **cursor,
                )
            except NotFoundError:
                _log.info("chargebee: %s was deleted before its lines were listed", identifier)
                return []
            document = found.document
            count = len(document.line_items)
            pages.append((_page(f"{kind}_line", answer, count, parent=identifier), document))
            following = document.line_items_next_offset
            if following is None:
                return pages
            if following in shown:
                raise SourceSchemaError(
                    SOURCE, f"{answer.request} leads back to lines that were read already"
                )
            shown.add(following)
            cursor = {"line_items_offset": following}

    # -- what documents refer to -------------------------------------------------------------

    def _context(self, referred: _Referred) -> Iterator[Page]:
        """Credited invoices, customers, item prices, subscriptions and their contract terms."""
        credited = in_order(
            lambda some: self._by_id("/invoices", _Invoice, some, deleted=True),
            list(_batches(referred.invoices)),
            CONCURRENCY,
        )
        for answer, invoices in credited:
            documents = [element.document for element in invoices]
            for document in documents:
                referred.add(document)
            yield _page("credited_invoice", answer, len(documents))
            yield from self._hidden_lines("invoice", documents, referred)
        wanted = [
            *(("customer", some) for some in _batches(referred.customers)),
            *(("item_price", some) for some in _batches(referred.item_prices)),
            *(("subscription", some) for some in _batches(referred.subscriptions)),
        ]
        for name, answer, records in in_order(self._named, wanted, CONCURRENCY):
            yield _page(name, answer, len(records))
            if name == "subscription" and self._contract_terms:
                subscriptions = [
                    msgspec.json.decode(one, type=_SubscriptionElement) for one in records
                ]
                having = [
                    element.subscription.id
                    for element in subscriptions
                    if element.subscription.contract_term is not None
                ]
                yield from in_order(self._terms, having, CONCURRENCY)

    def _named(
        self, wanted: tuple[str, list[str]]
    ) -> Iterator[tuple[str, Answer, list[msgspec.Raw]]]:
        """Records of one name with these ids."""
        name, ids = wanted
        # Item prices are archived and never deleted.
        pages = self._by_id(f"/{name}s", msgspec.Raw, ids, deleted=name != "item_price")
        try:
            for answer, records in pages:
                yield name, answer, records
        except UnavailableError as error:
            if name != "item_price":
                raise
            _log.info("%s; lines go without names of item prices", error)

    def _terms(self, subscription: str) -> Iterator[Page]:
        """All contract terms of a subscription, which itself shows the current one only."""
        path = f"/subscriptions/{quote(subscription, safe='')}/contract_terms"
        for answer, terms in self._api.pages(path, msgspec.Raw):
            yield _page("contract_term", answer, len(terms))

    def _by_id(
        self, path: str, shape: type[Any], ids: list[str], *, deleted: bool
    ) -> Iterator[tuple[Answer, list[Any]]]:
        """The records with these ids, which fit into one request."""
        also = {"include_deleted": "true"} if deleted else {}
        listed = json.dumps(ids, ensure_ascii=False, separators=(",", ":"))
        yield from self._api.pages(path, shape, **{"id[in]": listed, **also})


def _batches(ids: Iterable[str]) -> Iterator[list[str]]:
    """Ids in lists that fit into a request's line and into one page, in their own order."""
    batch: list[str] = []
    length = 0
    for identifier in sorted(ids):
        size = 3 * len(identifier.encode()) + 9  # percent signs at worst, quotes and a comma
        if batch and (length + size > IDS_LENGTH or len(batch) == IDS_COUNT):
            yield batch
            batch, length = [], 0
        batch.append(identifier)
        length += size
    if batch:
        yield batch


def _page(
    name: str,
    answer: Answer,
    records: int,
    *,
    keys: pa.RecordBatch | None = None,
    parent: str | None = None,
) -> Page:
    return Page(
        object=name,
        body=answer.body,
        request=answer.request,
        server_time=answer.server_time,
        records=records,
        keys=keys,
        parent=parent,
    )


def _version(document: _Document) -> str:
    """The vendor's stamp in milliseconds; records of before October 2016 have none."""
    stamp = document.resource_version
    if stamp is None:
        if document.updated_at is None:
            return UNSTAMPED
        stamp = document.updated_at * 1000
    when = datetime.fromtimestamp(stamp // 1000, UTC)
    return f"{when:%Y-%m-%dT%H:%M:%S}.{stamp % 1000:03d}Z"


def _accounted_at(document: _Document) -> int:
    """The instant that decides the accounting month; `mapping.chargebee` must agree.

    Raises:
        SourceSchemaError: the document has no time at all, so no month could hold it.
    """
    for instant in (document.date, document.generated_at, document.updated_at):
        if instant is not None:
            return instant
    raise SourceSchemaError(SOURCE, f"{document.id} has neither a date nor any other time")
