"""HubSpot: which requests list a month's deals and invoices, or what changed in a window.

A document is a deal or an invoice with its line items, company, products and splits. Searches bring
ids only, for the index lags behind the records (airbyte PR #69203); the records then come in
batches. Archived ones come from a listing of their own. Nothing is filtered by stage or status:
what counts is decided in `revrec_pipeline.mapping.hubspot`. Requests are in `hubspot_api`, what the
portal lets us read in `hubspot_fields`.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import ClassVar

import pyarrow as pa

from resources.at_once import each, in_order, pause
from resources.client import IDS, ConnectedClient, Connection
from resources.http import Sleep
from resources.hubspot_api import (
    API_VERSION,
    CONCURRENCY,
    SOURCE,
    Filters,
    HubspotApi,
    HubspotSecrets,
    Record,
    chunks,
    merged_into,
)
from resources.hubspot_fields import (
    Pipelines,
    Selection,
    check_stages,
    documents,
    missing_scopes,
    select,
)
from resources.rest import Answer
from revrec_pipeline.errors import SettingsError, SourceSchemaError
from revrec_pipeline.lake import KEYS, Page
from revrec_pipeline.mapping.hubspot import HubspotSettings
from revrec_pipeline.mapping.hubspot_records import (
    ACCOUNT,
    ASSOCIATION,
    COMPANY,
    DEAL,
    LINE,
    OWNER,
    PIPELINE,
    PLURALS,
    PRODUCT,
    SPLIT,
)
from revrec_pipeline.periods import bounds, first_day, next_period, period_of

#: Archived records can be restored for 90 days, and are gone after that.
ARCHIVE_KEPT = timedelta(days=90)
_MODIFIED = "hs_lastmodifieddate"
#: Values that one filter of a search may list.
_IN_LIMIT = 100

_log = logging.getLogger(__name__)


class HubspotClient(ConnectedClient[HubspotApi]):
    """Deals and invoices of one portal."""

    source: ClassVar[str] = SOURCE
    api_version: ClassVar[str] = API_VERSION
    #: The search index lags; Estuary trusts only what is an hour old, and the lookback is a day.
    lag: ClassVar[timedelta] = timedelta(minutes=15)
    lookback: ClassVar[timedelta] = timedelta(hours=24)

    def __init__(
        self,
        secrets: HubspotSecrets,
        *,
        timezone: str,
        settings: HubspotSettings,
        sleep: Sleep = pause,
    ) -> None:
        self._timezone = timezone
        self._settings = settings
        self._kinds = documents(settings)
        self._api = HubspotApi(
            secrets,
            requests_per_second=settings.requests_per_second,
            searches_per_second=settings.searches_per_second,
            sleep=sleep,
        )
        self._selection: Selection | None = None

    # -- who and when ------------------------------------------------------------------------

    def check(self) -> Connection:
        """The portal, what is left of its day, and which properties and scopes are missing.

        Raises:
            SettingsError: a setting names a property or a stage that the portal does not have.
        """
        answer, details = self._api.details()
        missing = missing_scopes(self._api, self._settings)
        if not missing:
            selection = self._describe()
            if selection.wrong:
                raise SettingsError(selection.wrong[0])
            check_stages(self._api, self._settings.closed_stages)
            missing = selection.missing
        left = answer.headers.get("X-HubSpot-RateLimit-Daily-Remaining")
        return Connection(
            account_id=str(details.portalId),
            account_name=f"{details.uiDomain} {details.portalId}",
            api_version=API_VERSION,
            limits=f"{left} requests left today" if left else None,
            missing=tuple(missing),
        )

    def server_time(self) -> datetime:
        """The portal's clock."""
        return self._api.details()[0].server_time

    # -- a month -----------------------------------------------------------------------------

    def listing(self, period: str) -> Iterator[Page]:
        """All deals that close in the month and all invoices of it, archived ones included.

        A list cannot be filtered by date, so the ids come from a search.
        """
        portal, _ = self._api.details()
        self._describe()
        found = each(lambda name: self._ids(name, period), self._kinds, CONCURRENCY)
        stamps = dict(zip(self._kinds, found, strict=True))
        wanted = {name: self._in_month(name, period) for name in self._kinds}
        yield from self._pull(stamps, wanted, portal)

    def ids(self, period: str) -> Iterator[pa.RecordBatch]:
        """The ids of what a listing of the month would bring, but for what is archived.

        Nothing else tells that an archived document was restored: it has its old stamp. To a sweep
        it is unknown, for it does not count on archived ones; so the month is listed again.
        """
        for name in self._kinds:
            found = list(self._ids(name, period))
            columns = [pa.array([name] * len(found), pa.string()), pa.array(found, pa.string())]
            yield pa.RecordBatch.from_arrays(columns, schema=IDS)

    def _in_month(self, name: str, period: str) -> Callable[[Record], bool]:
        return lambda one: self._period(name, one) == period

    def _ids(self, name: str, period: str) -> dict[str, str]:
        """The month's documents: id → stamp, as the index has them.

        One without a business date is in the month of its creation.
        """
        start, end = bounds(period, self._timezone)
        instants = _milliseconds(start), _milliseconds(end)
        if name == DEAL:
            dated, created, days = "closedate", "createdate", instants
        else:
            dated, created = "hs_invoice_date", "hs_createdate"
            days = _midnight(period), _midnight(next_period(period))
        groups = [
            _between(dated, *days),
            [
                {"propertyName": dated, "operator": "NOT_HAS_PROPERTY"},
                *_between(created, *instants),
            ],
        ]
        return self._stamps(name, groups)

    def _stamps(self, name: str, groups: Iterable[Filters]) -> dict[str, str]:
        found = self._api.search(PLURALS[name], groups, (_MODIFIED,))
        return {one.id: one.properties.get(_MODIFIED) or "" for one in found}

    # -- a window ----------------------------------------------------------------------------

    def changes(self, since: datetime, until: datetime) -> Iterator[Page]:
        """Every document that changed, or whose lines, products, company or splits did.

        Neither a changed line nor an archived one touches its deal, and archiving touches not even
        the record itself (airbyte#19838, #27199, #30465).
        """
        portal, _ = self._api.details()
        if until - since > ARCHIVE_KEPT:
            _log.warning(
                "hubspot: the window begins on %s; what was archived more than %d days ago is gone "
                "from HubSpot, so sync those months again with --from",
                since.date(),
                ARCHIVE_KEPT.days,
            )
        window = _between(_MODIFIED, _milliseconds(since), _milliseconds(until))

        def archived_now(one: Record) -> bool:
            return one.archivedAt is not None and since <= _instant(one.archivedAt) < until

        self._describe()
        owners = self._owners_of_changes(window, archived_now)
        found = each(lambda name: self._stamps(name, [window]), self._kinds, CONCURRENCY)
        stamps = dict(zip(self._kinds, found, strict=True))
        for name, changed in stamps.items():
            changed |= dict.fromkeys(sorted(owners[name] - changed.keys()), "")
        yield from self._pull(stamps, dict.fromkeys(self._kinds, archived_now), portal)

    def _owners_of_changes(
        self, window: Filters, archived_now: Callable[[Record], bool]
    ) -> dict[str, set[str]]:
        """Ids of the deals and invoices that something changed around, by raw object."""
        kinds = (LINE, PRODUCT, COMPANY)
        changed = each(lambda kind: self._found(kind, window), kinds, CONCURRENCY)
        lines, products, companies = changed
        sold = [
            {"propertyName": "hs_product_id", "operator": "IN", "values": some}
            for some in chunks(products, _IN_LIMIT)
        ]
        for more in each(lambda one: self._found(LINE, [one]), sold, CONCURRENCY):
            lines += more
        found: dict[str, set[str]] = {name: set() for name in self._kinds}
        around = [
            (name, kind, ids)
            for name in self._kinds
            for kind, ids in ((LINE, lines), (COMPANY, companies))
        ]
        for name, owners in in_order(self._owners, around, CONCURRENCY):
            found[name] |= owners
        associated = ",".join(PLURALS[name] for name in self._kinds)
        for _, records in self._api.listed(PLURALS[LINE], ("hs_sku",), associations=associated):
            for record in filter(archived_now, records):
                for name in self._kinds:
                    inline = record.associations.get(PLURALS[name])
                    found[name].update(one.id for one in (inline.results if inline else ()))
        if self._settings.commissions:
            for split in self._api.search(PLURALS[SPLIT], [window], ("hs_deal_id",)):
                deal = split.properties.get("hs_deal_id")
                found[DEAL].update([deal] if deal else [])
        return found

    def _found(self, kind: str, filters: Filters) -> list[str]:
        """The ids that a search finds."""
        return [one.id for one in self._api.search(PLURALS[kind], [filters])]

    def _owners(self, around: tuple[str, str, list[str]]) -> Iterator[tuple[str, set[str]]]:
        """The documents that some lines or companies belong to."""
        name, kind, ids = around
        for _, ends in self._api.associations(PLURALS[kind], PLURALS[name], ids):
            yield name, {one for each_end in ends.values() for one in each_end}

    # -- documents ---------------------------------------------------------------------------

    def _archived(self, name: str, wanted: Callable[[Record], bool]) -> Iterator[Page]:
        """Pages of archived documents that hold at least one that is wanted."""
        for answer, records in self._api.listed(PLURALS[name], self._select(name)):
            found = [one for one in records if wanted(one)]
            if found:
                yield self._page(name, answer, len(records), self._keys(name, found))

    def _pull(
        self,
        stamps: Mapping[str, dict[str, str]],
        archived: Mapping[str, Callable[[Record], bool]],
        portal: Answer,
    ) -> Iterator[Page]:
        """Documents by id, archived ones as wanted, and what surrounds them; kinds side by side."""
        seen = {name: _Seen() for name in self._kinds}
        yield from _side_by_side(
            *(partial(self._archived, name, archived[name]) for name in self._kinds),
            *(partial(self._documents, name, stamps[name], seen[name]) for name in self._kinds),
        )
        companies = {one for each_kind in seen.values() for one in each_kind.companies}
        products = {one for each_kind in seen.values() for one in each_kind.products}
        yield from _side_by_side(
            partial(self._records, COMPANY, sorted(companies)),
            partial(self._records, PRODUCT, sorted(products)),  # archived ones are what was sold
            partial(self._people, left=False),
            partial(self._people, left=True),  # people leave, their deals stay
            self._pipelines,
        )
        yield self._page(ACCOUNT, portal, 1)

    def _documents(self, name: str, stamps: dict[str, str], seen: "_Seen") -> Iterator[Page]:
        """Documents by id with all that belongs to them, and tombstones of those that are gone.

        A tombstone has the stamp that the index has: should HubSpot show the document again, its
        next landing counts. Where the index has none, an id sweep finds what is gone.
        """
        plural = PLURALS[name]
        gone: list[str] = []
        for answer, found, missing in self._api.batch(plural, stamps, self._select(name)):
            yield self._page(name, answer, len(found), self._keys(name, found))
            gone += missing
        # Archived since the search, or since the index was brought up to date.
        for answer, found, lost in self._api.batch(plural, gone, self._select(name), archived=True):
            tombstones = [(one, _stamp(_instant(stamps[one]))) for one in lost if stamps[one]]
            yield self._page(name, answer, len(found), self._keys(name, found, tombstones))
            if lost:
                _log.info("hubspot: %d %s are gone for good, as %s", len(lost), plural, lost[0])
        lost_or_archived = set(gone)
        there = [one for one in stamps if one not in lost_or_archived]
        targets = [LINE, COMPANY] if name == DEAL else [LINE, COMPANY, DEAL]
        ends: dict[str, list[str]] = {target: [] for target in targets}
        parts = [partial(self._ends, name, target, there, ends[target]) for target in targets]
        if name == DEAL and self._settings.commissions:
            parts.append(partial(self._splits, there))
        yield from _side_by_side(*parts)
        seen.companies.update(ends[COMPANY])
        yield from self._records(LINE, ends[LINE], seen)

    def _ends(self, name: str, target: str, there: list[str], ends: list[str]) -> Iterator[Page]:
        """The associations of documents, whose other ends are added to `ends`."""
        for answer, found in self._api.associations(PLURALS[name], PLURALS[target], there):
            ends += [one for each_record in found.values() for one in each_record]
            yield self._page(ASSOCIATION, answer, len(found))

    def _splits(self, deals: list[str]) -> Iterator[Page]:
        for answer, count in self._api.splits(deals):
            yield self._page(SPLIT, answer, count)

    def _records(self, name: str, ids: list[str], seen: "_Seen | None" = None) -> Iterator[Page]:
        """Records by id, also archived ones; of lines, `seen` learns the products."""
        wanted = ids
        for archived in (False, True):
            gone: list[str] = []
            for answer, found, missing in self._api.batch(
                PLURALS[name], wanted, self._select(name), archived=archived
            ):
                yield self._page(name, answer, len(found))
                gone += missing
                if seen is not None:
                    named = (one.properties.get("hs_product_id") for one in found)
                    seen.products.update(filter(None, named))
            wanted = gone
        if wanted:
            _log.info(
                "hubspot: %d %s were deleted while they were read", len(wanted), PLURALS[name]
            )

    def _people(self, *, left: bool) -> Iterator[Page]:
        for answer, count in self._api.owners(archived=left):
            yield self._page(OWNER, answer, count)

    def _pipelines(self) -> Iterator[Page]:
        answer, pipelines = self._api.get("/crm/pipelines/{}/deals", Pipelines)
        yield self._page(PIPELINE, answer, len(pipelines.results))

    def _page(
        self, name: str, answer: Answer, records: int, keys: pa.RecordBatch | None = None
    ) -> Page:
        return Page(
            object=name,
            body=answer.body,
            request=answer.request,
            server_time=answer.server_time,
            records=records,
            keys=keys,
            request_id=answer.request_id,
        )

    def _select(self, name: str) -> list[str]:
        selection = self._describe()
        if selection.wrong:
            raise SourceSchemaError(SOURCE, selection.wrong[0])
        return selection.properties[name]

    def _describe(self) -> Selection:
        """What the portal has of what we want; asked once per client."""
        if self._selection is None:
            self._selection = select(self._api, self._settings)
            for missing in self._selection.missing:
                _log.info("hubspot: the portal has no %s", missing)
        return self._selection

    # -- keys --------------------------------------------------------------------------------

    def _keys(
        self, name: str, found: Iterable[Record], tombstones: Iterable[tuple[str, str]] = ()
    ) -> pa.RecordBatch:
        """Index rows of documents. Records that were merged into one of them are gone.

        Archiving leaves the stamp alone, and so does restoring: of equal stamps the newest landing
        counts, so both are seen.
        """
        rows: list[tuple[str, str, str | None, str | None]] = []
        for one in found:
            version = _stamp(_instant(one.properties.get(_MODIFIED) or ""))
            period = self._period(name, one)
            # Of archived documents sweeps know nothing; see `ids`.
            rows.append((one.id, version, period, None if one.archivedAt else period))
            rows += [(loser, version, None, None) for loser in merged_into(one)]
        rows += [(identifier, version, None, None) for identifier, version in tombstones]
        columns = list(zip(*rows, strict=True)) or [()] * len(KEYS)
        return pa.RecordBatch.from_arrays(
            [pa.array(column, pa.string()) for column in columns], schema=KEYS
        )

    def _period(self, name: str, one: Record) -> str:
        """The accounting month; `mapping.hubspot_rows` must agree."""
        read = one.properties.get
        if name == DEAL:
            moment = _moment(read("closedate")) or _instant(read("createdate") or "")
            return period_of(moment, self._timezone)
        dated = _moment(read("hs_invoice_date"))
        if dated is not None:
            return period_of(dated, "UTC")  # a date is midnight UTC
        return period_of(_instant(read("hs_createdate") or ""), self._timezone)


def _side_by_side(*streams: Callable[[], Iterator[Page]]) -> Iterator[Page]:
    """The pages of each stream, in the order of the streams."""
    return in_order(lambda stream: stream(), streams, CONCURRENCY)


@dataclass(slots=True)
class _Seen:
    """What the documents of one kind refer to."""

    companies: set[str] = field(default_factory=set)
    products: set[str] = field(default_factory=set)


def _between(name: str, start: str, end: str) -> Filters:
    """Filters for the half-open range; BETWEEN would include its end."""
    return [
        {"propertyName": name, "operator": "GTE", "value": start},
        {"propertyName": name, "operator": "LT", "value": end},
    ]


def _milliseconds(moment: datetime) -> str:
    """Epoch milliseconds, rounded up: a window's low side is inclusive, its high side is not."""
    return str(-(-int(moment.timestamp() * 1_000_000) // 1000))


def _midnight(period: str) -> str:
    """The first instant, in UTC, of a month's first day."""
    day = first_day(period)
    return _milliseconds(datetime(day.year, day.month, day.day, tzinfo=UTC))


def _moment(text: str | None) -> datetime | None:
    """An instant or date, in any form that HubSpot writes; None if there is none."""
    if not text:
        return None
    try:
        if text.lstrip("-").isdigit():
            return datetime.fromtimestamp(int(text) / 1000, UTC)
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _instant(text: str) -> datetime:
    """An instant that every record has.

    Raises:
        SourceSchemaError: it is missing or unreadable, so that records could not be told apart.
    """
    moment = _moment(text)
    if moment is None:
        raise SourceSchemaError(SOURCE, f"a record's time {text!r} cannot be read")
    return moment


def _stamp(moment: datetime) -> str:
    """A version: HubSpot leaves out a fraction of .000, which would not sort."""
    text = moment.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
