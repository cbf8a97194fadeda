"""QuickBooks Online: which queries list a month's sales forms, or what changed in a window.

A document comes with all of its lines. Voids are changes like any other; what was deleted is gone
from queries and only change data capture tells of it, for 30 days. What the fields mean is in
`revrec_pipeline.mapping.quickbooks`, requests are in `quickbooks_api`, log-in in
`quickbooks_login`.
"""

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Self

import msgspec
import pyarrow as pa

from resources.at_once import each, pause
from resources.client import IDS, ConnectedClient, Connection, Surroundings
from resources.http import Sleep
from resources.quickbooks_api import API_VERSION, CONCURRENCY, QuickbooksApi
from resources.quickbooks_login import SOURCE, QuickbooksSecrets
from resources.rest import Answer
from revrec_pipeline.errors import SourceSchemaError
from revrec_pipeline.lake import KEYS, Page
from revrec_pipeline.ledger import Ledger
from revrec_pipeline.mapping.quickbooks import (
    FORMS,
    ITEM,
    TAX_RATE,
    QuickbooksSettings,
    document_id,
)
from revrec_pipeline.periods import first_day, next_period

#: The most that a page may have.
PAGE_SIZE = 1000
#: How often a set of documents that changes while it is paged through is read again.
_READS = 3
#: Change data capture reaches back 30 days; what lies near the edge is not relied on.
CAPTURED = timedelta(days=29)
#: More objects are not in one answer, and there is no second page.
CAPTURE_SIZE = 1000
#: Above every SyncToken: a deletion comes after the last edit, even within one second.
_DELETED = "9999999999"
_DAY = re.compile(r"\d{4}-\d\d-\d\d")

#: What queries call the raw objects.
_ENTITIES = {name: form.entity for name, form in FORMS.items()} | {
    ITEM: "Item",
    TAX_RATE: "TaxRate",
}

_NOTHING = msgspec.Raw()

_log = logging.getLogger(__name__)


class _Meta(msgspec.Struct):
    LastUpdatedTime: str


class _Document(msgspec.Struct):
    """What keys need of a document."""

    Id: str
    MetaData: _Meta
    TxnDate: str
    SyncToken: str = "0"


class _Identified(msgspec.Struct):
    Id: str


class _Found(msgspec.Struct):
    """A `QueryResponse`: one key per entity, none of them past the end."""

    Invoice: msgspec.Raw = _NOTHING
    SalesReceipt: msgspec.Raw = _NOTHING
    CreditMemo: msgspec.Raw = _NOTHING
    RefundReceipt: msgspec.Raw = _NOTHING
    Item: msgspec.Raw = _NOTHING
    TaxRate: msgspec.Raw = _NOTHING
    totalCount: int | None = None  # noqa: N815


class _Queried(msgspec.Struct):
    QueryResponse: _Found


class _Captured(msgspec.Struct):
    """An object of change data capture: a stub when it was deleted."""

    Id: str
    MetaData: _Meta
    status: str | None = None


class _Captures(msgspec.Struct):
    QueryResponse: list[_Found]


class _Capture(msgspec.Struct):
    CDCResponse: list[_Captures]


class _Info(msgspec.Struct):
    CompanyName: str


class _Company(msgspec.Struct):
    CompanyInfo: _Info


class _CustomField(msgspec.Struct):
    Name: str
    StringValue: str | None = None


class _CustomFields(msgspec.Struct):
    CustomField: list[_CustomField] = msgspec.field(default_factory=list)


class _SalesForms(msgspec.Struct):
    CustomField: list[_CustomFields] = msgspec.field(default_factory=list)


class _Preferences(msgspec.Struct):
    SalesFormsPrefs: _SalesForms


class _PreferencesFound(msgspec.Struct):
    Preferences: list[_Preferences]


class _PreferencesQueried(msgspec.Struct):
    QueryResponse: _PreferencesFound


class QuickbooksClient(ConnectedClient[QuickbooksApi]):
    """Sales forms of one company."""

    source: ClassVar[str] = SOURCE
    api_version: ClassVar[str] = API_VERSION
    lag: ClassVar[timedelta] = timedelta(seconds=30)
    lookback: ClassVar[timedelta] = timedelta(minutes=15)

    @classmethod
    def _made(
        cls, secrets: QuickbooksSecrets, settings: QuickbooksSettings, surroundings: Surroundings
    ) -> Self:
        return cls(secrets, open_ledger=surroundings.open_ledger, settings=settings)

    def __init__(
        self,
        secrets: QuickbooksSecrets,
        *,
        open_ledger: Callable[[], Ledger],
        settings: QuickbooksSettings,
        sleep: Sleep = pause,
    ) -> None:
        self._settings = settings
        self._realm = secrets.realm_id
        self._api = QuickbooksApi(
            secrets, open_ledger, requests_per_second=settings.requests_per_second, sleep=sleep
        )

    # -- who and when ------------------------------------------------------------------------

    def check(self) -> Connection:
        """The company, and which custom fields that the settings name it lacks."""
        _, company = self._api.get(f"companyinfo/{self._realm}", _Company)
        missing: list[str] = []
        if named := self._settings.custom_field_names():
            missing = sorted(named - self._custom_fields())
        return Connection(
            account_id=self._realm,
            account_name=company.CompanyInfo.CompanyName,
            api_version=API_VERSION,
            missing=tuple(f"the custom field {name!r} of sales forms" for name in missing),
        )

    def _custom_fields(self) -> set[str]:
        """The names of the company's custom fields on sales forms."""
        _, found = self._api.get("query", _PreferencesQueried, query="SELECT * FROM Preferences")
        return {
            field.StringValue
            for preferences in found.QueryResponse.Preferences
            for group in preferences.SalesFormsPrefs.CustomField
            for field in group.CustomField
            if field.StringValue and ".SalesCustomName" in field.Name
        }

    def server_time(self) -> datetime:
        """Intuit's clock."""
        answer, _ = self._api.get(f"companyinfo/{self._realm}", _Company)
        return answer.server_time

    # -- a month -----------------------------------------------------------------------------

    def listing(self, period: str) -> Iterator[Page]:
        """All sales forms dated in the month."""
        yield from self._documents(_dated_in(period))
        yield from self._lists()

    def ids(self, period: str) -> Iterator[pa.RecordBatch]:
        """The ids of what `listing` brings."""
        where = _dated_in(period)
        counts = self._counts(FORMS, where)
        for name, _, found in self._pages(counts, "Id", where):
            entity = FORMS[name].entity
            ids = [document_id(name, one.Id) for one in _read(found, entity, _Identified)]
            yield pa.RecordBatch.from_arrays(
                [pa.array([name] * len(ids), pa.string()), pa.array(ids, pa.string())],
                schema=IDS,
            )

    # -- a window ----------------------------------------------------------------------------

    def changes(self, since: datetime, until: datetime) -> Iterator[Page]:
        """Every sales form that changed in the window, and a tombstone of each deleted one.

        Queries reach back as far as one likes, so changes of a long gap are all found; deletions
        that change data capture has forgotten are found by a sweep of ids or by listing the month.
        """
        where = (
            f"MetaData.LastUpdatedTime >= '{_instant(since)}' "
            f"AND MetaData.LastUpdatedTime < '{_instant(until)}'"
        )
        yield from self._documents(where)
        reliable = self.server_time() - CAPTURED
        if since < reliable:
            _log.warning(
                "quickbooks: deletions from %s to %s are older than change data capture reaches; "
                "`revrec sync quickbooks --sweep` finds them",
                _instant(since),
                _instant(reliable),
            )
        yield from self._deleted(list(FORMS), max(since, reliable))
        yield from self._lists()

    def _deleted(self, names: list[str], since: datetime) -> Iterator[Page]:
        """Tombstones of what was deleted since then."""
        entities = [FORMS[name].entity for name in names]
        answer, found = self._api.get(
            "cdc", _Capture, entities=",".join(entities), changedSince=_instant(since)
        )
        parts = [part for capture in found.CDCResponse for part in capture.QueryResponse]
        captured = {
            name: [one for part in parts for one in _read(part, FORMS[name].entity, _Captured)]
            for name in names
        }
        if sum(map(len, captured.values())) >= CAPTURE_SIZE:
            if len(names) > 1:  # alone, each may have so many
                for name in names:
                    yield from self._deleted([name], since)
                return
            _log.warning(
                "quickbooks: more than %d %s objects changed since %s, so deletions may "
                "be missing; `revrec sync quickbooks --sweep` finds them",
                CAPTURE_SIZE,
                entities[0],
                _instant(since),
            )
        for name, objects in captured.items():
            gone = [one for one in objects if one.status == "Deleted"]
            if gone:
                keys: list[_Key] = [
                    (one.Id, _version(answer, one.MetaData.LastUpdatedTime, _DELETED), None)
                    for one in gone
                ]
                yield _page(name, answer, len(gone), keys)

    # -- documents ---------------------------------------------------------------------------

    def _documents(self, where: str) -> Iterator[Page]:
        """The pages of all kinds of documents.

        Pages are positions in a set that lives on: a form that is added, or leaves the set, moves
        the ones after it. So what came is compared with the count before and after, and read again.

        Raises:
            SourceSchemaError: it came out differently each time.
        """
        wanted = list(FORMS)
        for _ in range(_READS):
            counts = self._counts(wanted, where)
            seen: dict[str, set[str]] = {name: set() for name in counts}
            pages = dict.fromkeys(counts, 0)
            for name, answer, found in self._pages(counts, "*", where):
                documents = _read(found, FORMS[name].entity, _Document)
                seen[name].update(one.Id for one in documents)
                pages[name] += 1
                yield _page(name, answer, len(documents), [_key(answer, one) for one in documents])
            # One page is one moment; only between pages can something get lost.
            after = counts | self._counts([name for name in pages if pages[name] > 1], where)
            wanted = [name for name in counts if not counts[name] == after[name] == len(seen[name])]
            if not wanted:
                return
            for name in wanted:
                _log.warning(
                    "quickbooks: %d %s objects came, %d were counted before and %d after; reading "
                    "them again",
                    len(seen[name]),
                    FORMS[name].entity,
                    counts[name],
                    after[name],
                )
        name = wanted[0]
        raise SourceSchemaError(
            SOURCE,
            f"{len(seen[name])} of {counts[name]} {FORMS[name].entity} objects came, and so "
            f"{_READS} times, for: {where}",
            retryable=True,
        )

    def _counts(self, names: Iterable[str], where: str) -> dict[str, int]:
        """How many objects there are of each kind."""
        asked = list(names)
        counts = each(lambda name: self._count(_ENTITIES[name], where), asked, CONCURRENCY)
        return dict(zip(asked, counts, strict=True))

    def _count(self, entity: str, where: str) -> int:
        query = f"SELECT COUNT(*) FROM {entity} WHERE {where}"
        answer, found = self._api.get("query", _Queried, query=query)
        if found.QueryResponse.totalCount is None:
            raise SourceSchemaError(SOURCE, f"{answer.request} answers no totalCount")
        return found.QueryResponse.totalCount

    def _pages(
        self, counts: Mapping[str, int], fields: str, where: str
    ) -> Iterator[tuple[str, Answer, _Found]]:
        """So many objects of each kind; a page past the end of the set has no entity at all."""

        def ask(position: tuple[str, int]) -> tuple[str, Answer, _Found]:
            name, start = position
            query = (
                f"SELECT {fields} FROM {_ENTITIES[name]} WHERE {where} ORDERBY Id "
                f"STARTPOSITION {start} MAXRESULTS {PAGE_SIZE}"
            )
            answer, found = self._api.get("query", _Queried, query=query)
            return name, answer, found.QueryResponse

        positions = [
            (name, start) for name in counts for start in range(1, counts[name] + 1, PAGE_SIZE)
        ]
        for name, answer, found in each(ask, positions, CONCURRENCY):
            if _read(found, _ENTITIES[name], msgspec.Raw):
                yield name, answer, found

    def _lists(self) -> Iterator[Page]:
        """Items and tax rates, inactive ones too, where the settings need them."""
        needed = {
            ITEM: self._settings.product_id_field is not None,
            TAX_RATE: self._settings.tax_enabled,
        }
        where = "Active IN (true, false)"
        counts = self._counts([name for name in needed if needed[name]], where)
        for name, answer, found in self._pages(counts, "*", where):
            yield _page(name, answer, len(_read(found, _ENTITIES[name], msgspec.Raw)), None)


def _dated_in(period: str) -> str:
    """Document dates have no zone and are not shifted."""
    first, after = first_day(period), first_day(next_period(period))
    return f"TxnDate >= '{first}' AND TxnDate < '{after}'"


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _read(found: _Found, entity: str, shape: type[Any]) -> list[Any]:
    """The objects of an entity.

    Raises:
        SourceSchemaError: one of them lacks what is needed.
    """
    raw: msgspec.Raw = getattr(found, entity)
    if raw == _NOTHING:
        return []
    try:
        return msgspec.json.decode(raw, type=list[shape])  # type: ignore[valid-type]
    except msgspec.MsgspecError as error:
        raise SourceSchemaError(
            SOURCE, f"a page of {entity} is not what the API promises: {error}"
        ) from error


#: Id, version, month; a deleted document has no month.
_Key = tuple[str, str, str | None]


def _key(answer: Answer, one: _Document) -> _Key:
    if not _DAY.fullmatch(one.TxnDate):
        raise SourceSchemaError(SOURCE, f"{answer.request}: {one.TxnDate!r} of {one.Id} is no day")
    version = _version(answer, one.MetaData.LastUpdatedTime, one.SyncToken)
    return one.Id, version, one.TxnDate[:7]


def _version(answer: Answer, stamp: str, token: str) -> str:
    """A stamp that sorts: the instant in UTC, then the SyncToken, which counts the edits.

    Stamps carry the offset of the moment, which changes twice a year, and have whole seconds.
    """
    moment = _moment(stamp)
    if moment is None or not token.isdigit():
        raise SourceSchemaError(
            SOURCE, f"{answer.request}: {stamp!r} with SyncToken {token!r} is no version"
        )
    return f"{moment:%Y-%m-%dT%H:%M:%S.%fZ}/{token:0>10}"


def _moment(stamp: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(stamp)
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment.tzinfo else None


def _page(name: str, answer: Answer, records: int, keys: list[_Key] | None) -> Page:
    batch = None
    if keys is not None:
        months = pa.array([month for _, _, month in keys], pa.string())
        batch = pa.RecordBatch.from_arrays(
            [
                pa.array([document_id(name, one) for one, _, _ in keys], pa.string()),
                pa.array([version for _, version, _ in keys], pa.string()),
                months,
                months,
            ],
            schema=KEYS,
        )
    return Page(
        object=name,
        body=answer.body,
        request=answer.request,
        server_time=answer.server_time,
        records=records,
        keys=batch,
        request_id=answer.request_id,
    )
