"""Chargebee: which requests list a month's documents, or what changed in a window.

A month is the invoices and credit notes dated in it, a window those updated in it; both with the
deleted ones, and both followed by what their lines refer to: customers, item prices, subscriptions
and the invoices that credit notes credit. Requests and paging are in `chargebee_api`; what the
fields mean is in `revrec_pipeline.mapping.chargebee`.
"""

import json
import logging
import math
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from types import TracebackType
from typing import Any, ClassVar, Self
from urllib.parse import quote

import dagster as dg
import msgspec
import pyarrow as pa

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
from resources.client import IDS, Connection
from resources.http import Sleep
from resources.rest import Answer
from revrec_pipeline.errors import SourceSchemaError
from revrec_pipeline.lake import KEYS, Page
from revrec_pipeline.mapping.chargebee import ChargebeeSettings
from revrec_pipeline.periods import bounds, period_of
from revrec_pipeline.settings import Settings

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


class ChargebeeClient:
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
        sleep: Sleep = time.sleep,
    ) -> None:
        self._timezone = timezone
        self._site = secrets.site
        self._contract_terms = settings.contract_terms
        self._api = ChargebeeApi(
            secrets, requests_per_minute=settings.requests_per_minute, sleep=sleep
        )
        self._workers = ThreadPoolExecutor(CONCURRENCY, thread_name_prefix="chargebee")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._workers.shutdown(cancel_futures=True)
        self._api.close()

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
        referred = _Referred()
        for kind in _SHAPES:
            yield from self._documents(kind, referred, self._dated(period))
        yield from self._context(referred)

    def changes(self, since: datetime, until: datetime) -> Iterator[Page]:
        """Everything updated in the window, deleted ones included, with all lines.

        A window that reaches back to when nothing was stamped brings what has no stamp, too.
        """
        # Stamps are whole seconds, and the vendor's range holds both of its ends.
        first, last = math.floor(since.timestamp()), math.ceil(until.timestamp()) - 1
        if last < first:
            return
        filters = [{"updated_at[between]": f"[{first},{last}]", "sort_by[asc]": "updated_at"}]
        if since < STAMPED_SINCE:
            filters.append({"updated_at[is_present]": "false"})
        referred = _Referred()
        for kind in _SHAPES:
            for asked in filters:
                yield from self._documents(kind, referred, asked)
        yield from self._context(referred)

    def ids(self, period: str) -> Iterator[pa.RecordBatch]:
        """Ids of the month's documents; Chargebee has no shorter list than the full one."""
        for kind, shape in _SHAPES.items():
            for _, found in self._api.pages(f"/{kind}s", shape, **self._dated(period)):
                ids = [element.document.id for element in found]
                yield pa.RecordBatch.from_arrays(
                    [pa.array([kind] * len(ids), pa.string()), pa.array(ids, pa.string())],
                    schema=IDS,
                )

    def _dated(self, period: str) -> dict[str, str]:
        """The filter for a month, from its first to its last second on the site's clocks."""
        start, end = bounds(period, self._timezone)
        between = f"[{int(start.timestamp())},{int(end.timestamp()) - 1}]"
        return {"date[between]": between, "sort_by[asc]": "date", "include_deleted": "true"}

    def _documents(self, kind: str, referred: _Referred, asked: dict[str, str]) -> Iterator[Page]:
        """All pages of a list, each followed by the lines that it does not show."""
        params = {**asked, "include_deleted": "true"}
        for answer, found in self._api.pages(f"/{kind}s", _SHAPES[kind], **params):
            documents = [element.document for element in found]
            for document in documents:
                referred.add(document)
            yield _page(kind, answer, len(documents), keys=self._keys(documents))
            yield from self._hidden_lines(kind, documents, referred)

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
        waiting = iter(hidden)
        while batch := list(islice(waiting, CONCURRENCY)):  # a few at a time: each is large
            for found in self._workers.map(lambda one: self._lines(kind, one), batch):
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
        for answer, invoices in self._by_id("/invoices", _Invoice, referred.invoices, deleted=True):
            documents = [element.document for element in invoices]
            for document in documents:
                referred.add(document)
            yield _page("credited_invoice", answer, len(documents))
            yield from self._hidden_lines("invoice", documents, referred)
        for answer, customers in self._by_id(
            "/customers", msgspec.Raw, referred.customers, deleted=True
        ):
            yield _page("customer", answer, len(customers))
        try:
            for answer, prices in self._by_id("/item_prices", msgspec.Raw, referred.item_prices):
                yield _page("item_price", answer, len(prices))
        except UnavailableError as error:
            _log.info("%s; lines go without names of item prices", error)
        for answer, subscriptions in self._by_id(
            "/subscriptions", _SubscriptionElement, referred.subscriptions, deleted=True
        ):
            yield _page("subscription", answer, len(subscriptions))
            if self._contract_terms:
                for element in subscriptions:
                    if element.subscription.contract_term is not None:
                        yield from self._terms(element.subscription.id)

    def _terms(self, subscription: str) -> Iterator[Page]:
        """All contract terms of a subscription, which itself shows the current one only."""
        path = f"/subscriptions/{quote(subscription, safe='')}/contract_terms"
        for answer, terms in self._api.pages(path, msgspec.Raw):
            yield _page("contract_term", answer, len(terms))

    def _by_id(
        self, path: str, shape: type[Any], ids: Iterable[str], *, deleted: bool = False
    ) -> Iterator[tuple[Answer, list[Any]]]:
        """The records with these ids; item prices are archived and never deleted."""
        also = {"include_deleted": "true"} if deleted else {}
        for some in _batches(sorted(ids)):
            listed = json.dumps(some, ensure_ascii=False, separators=(",", ":"))
            yield from self._api.pages(path, shape, **{"id[in]": listed, **also})


def _batches(ids: Iterable[str]) -> Iterator[list[str]]:
    """Ids in lists that fit into a request's line and into one page."""
    batch: list[str] = []
    length = 0
    for identifier in ids:
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


class ChargebeeResource(dg.ConfigurableResource["ChargebeeResource"]):
    """Chargebee for Dagster; secrets are read from the environment when a client is asked for."""

    timezone: str
    settings: dict[str, Any]

    def client(self) -> ChargebeeClient:
        """A client of the site that the environment names."""
        return ChargebeeClient(
            ChargebeeSecrets.from_env(),
            timezone=self.timezone,
            settings=ChargebeeSettings.model_validate(self.settings),
        )


def resource(settings: Settings) -> ChargebeeResource:
    """The resource for these settings."""
    return ChargebeeResource(
        timezone=settings.site.timezone,
        settings=settings.source(SOURCE).model_dump(mode="json", exclude_unset=True),
    )
