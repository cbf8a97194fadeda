"""One request to HubSpot: token, dated paths, pace, limits, and batches that must be complete.

The vendor's client (hubspot-api-client) authorizes and moves bytes, behind `_Transport` alone, so
that hubspot-sdk can take its place once it is released: its own paths end in 2027, and its models
are 22 times slower than the bytes (reference/hubspot.md section 6). Which requests make a month or
a window is in `hubspot`.
"""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, time, timedelta
from typing import Any, ClassVar, Self, TypeVar
from urllib.parse import parse_qsl, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import hubspot
import msgspec
import urllib3
from hubspot.crm.objects.exceptions import ApiException
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from resources.at_once import each, in_order
from resources.http import CONNECT_TIMEOUT, READ_TIMEOUT, Sleep, server_time
from resources.rest import (
    PASSING,
    Answer,
    BrokenConnectionError,
    Passing,
    Received,
    RestApi,
    Verdict,
    json_reader,
)
from resources.traffic import Traffic, Window
from revrec_pipeline.errors import (
    SettingsError,
    SourceAuthError,
    SourceLimitError,
    SourceSchemaError,
)

SOURCE = "hubspot"
#: Dated paths; v4 is unsupported from March 2027, v1 to v3 from September 2027.
API_VERSION = "2026-09"
ORIGIN = "https://api.hubapi.com"
#: Requests in flight. HubSpot limits their rate only; at a third of a second each, six use it up.
CONCURRENCY = 6
#: The seconds over which HubSpot counts an app's requests.
COUNTED_OVER = 10.0
#: Most records per request; a search of more than 10,000 in all is refused, see `search`.
LIST_LIMIT, SEARCH_LIMIT, BATCH_LIMIT, ASSOCIATION_LIMIT = 100, 200, 100, 1000
#: Beside the passing ones of every API: the proxy before HubSpot, and an account that is moved.
_PASSING = PASSING | {477, 521, 522, 523, 524}
_NOTHING_ASSOCIATED = "crm.associations.NO_ASSOCIATIONS_FOUND"

_log = logging.getLogger(__name__)
T = TypeVar("T")
Filters = list[dict[str, Any]]


class HubspotSecrets(BaseSettings):
    """The environment variables of the source."""

    model_config = SettingsConfigDict(env_prefix="HUBSPOT_", extra="ignore", frozen=True)

    #: Token of a private app or a service key; it does not expire.
    access_token: SecretStr = Field(min_length=1)
    #: Origin that every request goes to instead of HubSpot's.
    api_url: str | None = None

    @classmethod
    def from_env(cls) -> Self:
        """Read them.

        Raises:
            SettingsError: `HUBSPOT_ACCESS_TOKEN` is missing.
        """
        try:
            return cls.model_validate({})
        except ValidationError as error:
            raise SettingsError(
                "HUBSPOT_ACCESS_TOKEN is not set; set it to the token of a private app or service "
                "key that may read deals, line items, companies, products and owners"
            ) from error


class MissingScopeError(SourceAuthError):
    """The token may not ask for this."""

    def __init__(self, request: str, scopes: tuple[str, ...]) -> None:
        named = ", ".join(scopes) or "a scope that HubSpot does not name"
        super().__init__(
            SOURCE, f"{request} is not permitted: the token lacks {named}; add it to the app"
        )
        #: The scopes, or what was not permitted where HubSpot names none.
        self.named = [f"scope {one}" for one in scopes] or [str(self)]


# -- shapes ----------------------------------------------------------------------------------


class Record(msgspec.Struct):
    """A record of any type: all of its properties are text or null."""

    id: str
    properties: dict[str, str | None] = {}
    archivedAt: str | None = None  # noqa: N815 - the vendor's spelling
    associations: dict[str, "_Inline"] = {}


class _Associated(msgspec.Struct):
    id: str


class _Inline(msgspec.Struct):
    results: list[_Associated] = []


class _Cursor(msgspec.Struct):
    after: str


class _Paging(msgspec.Struct):
    next: _Cursor | None = None


class _Listed(msgspec.Struct):
    results: list[Record]
    paging: _Paging | None = None


class _Searched(msgspec.Struct):
    total: int
    results: list[Record]


class _Context(msgspec.Struct):
    ids: list[str] = []
    fromObjectId: list[str] = []  # noqa: N815


class _Problem(msgspec.Struct):
    category: str = ""
    subCategory: str = ""  # noqa: N815
    context: _Context = msgspec.field(default_factory=_Context)


class _Batch(msgspec.Struct):
    results: list[Record]
    errors: list[_Problem] = []


class _End(msgspec.Struct):
    id: str


class _Target(msgspec.Struct):
    toObjectId: str | int  # noqa: N815 - v4 sent numbers, 2026-09 promises text


class _Association(msgspec.Struct):
    source: _End = msgspec.field(name="from")
    to: list[_Target] = []
    paging: _Paging | None = None


class _Associations(msgspec.Struct):
    results: list[_Association]
    errors: list[_Problem] = []


class _Owners(msgspec.Struct):
    results: list[msgspec.Raw]
    paging: _Paging | None = None


class _Refusal(msgspec.Struct):
    message: str = "no reason given"
    category: str = ""
    policyName: str = ""  # noqa: N815
    context: dict[str, Any] = {}


class Details(msgspec.Struct):
    """Who the portal says it is."""

    portalId: int  # noqa: N815
    timeZone: str = "UTC"  # noqa: N815
    uiDomain: str = "app.hubspot.com"  # noqa: N815


# -- bytes -----------------------------------------------------------------------------------


class _Transport:
    """The vendor's client: one request by its pool, with its token, past its models."""

    #: `Accept-Encoding` is `identity` unless we say otherwise.
    _HEADERS: ClassVar[dict[str, str]] = {"Accept": "application/json"}

    def __init__(self, token: str) -> None:
        client = hubspot.Client.create(access_token=token, retry=False)
        # One object for all requests: each walk along the client's attributes opens a new pool.
        self._api = client.crm.objects.basic_api.api_client

    def __call__(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> Received:
        """One try."""
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        try:
            response = self._api.call_api(
                parts.path,
                method,
                query_params=parse_qsl(parts.query),
                header_params={**self._HEADERS, **headers},
                body=json.loads(body) if body else None,
                auth_settings=["oauth2"],
                _preload_content=False,
                _request_timeout=(CONNECT_TIMEOUT, READ_TIMEOUT),
                _host=origin,
            )
            return Received(response.status, response.headers, response.data)
        except ApiException as error:
            if not error.status:
                raise BrokenConnectionError(f"no secure connection to {origin}") from error
            text = error.body if isinstance(error.body, str) else ""
            return Received(error.status, error.headers, text.encode())
        except urllib3.exceptions.NewConnectionError as error:
            raise BrokenConnectionError(f"nothing answers at {origin}") from error
        except (urllib3.exceptions.HTTPError, UnicodeDecodeError) as error:
            raise BrokenConnectionError(
                f"the connection failed ({type(error).__name__})"
            ) from error

    def close(self) -> None:
        """Close all connections."""
        self._api.rest_client.pool_manager.clear()
        self._api.close()


class HubspotApi:
    """Requests of one portal."""

    def __init__(
        self,
        secrets: HubspotSecrets,
        *,
        requests_per_second: float,
        searches_per_second: float,
        sleep: Sleep,
    ) -> None:
        self._transport = _Transport(secrets.access_token.get_secret_value())
        self._searches = Window.per_second(searches_per_second, sleep)
        self.traffic = Traffic(
            CONCURRENCY,
            Window.per_second(requests_per_second, sleep, over=COUNTED_OVER),
            sleep=sleep,
        )
        self._zone: ZoneInfo | None = None
        self._rest = RestApi(
            SOURCE,
            ORIGIN,
            api_url=secrets.api_url,
            authorize=lambda _method, _url: {},  # the vendor's client does
            judge=self._judge,
            traffic=self.traffic,
            request_id_header="X-HubSpot-Correlation-Id",
            transport=self._transport,
        )

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()
        self._rest.close()

    # -- requests ----------------------------------------------------------------------------

    def get(self, path: str, shape: type[T], **params: str) -> tuple[Answer, T]:
        """GET a path of this version; `{}` in it stands for the version."""
        return self._rest.get(path.format(API_VERSION), shape, **params)

    def details(self) -> tuple[Answer, Details]:
        """Who we are; from then on it is known in whose time zone the day of a limit ends."""
        answer, found = self.get("/account-info/{}/details", Details)
        try:
            self._zone = ZoneInfo(found.timeZone)
        except (ZoneInfoNotFoundError, ValueError):
            _log.info("hubspot: the portal's time zone %r is unknown here", found.timeZone)
        return answer, found

    def listed(
        self, kind: str, properties: Iterable[str], *, associations: str = ""
    ) -> Iterator[tuple[Answer, list[Record]]]:
        """All archived records of a type; there is no filter, and no search finds them.

        Raises:
            SourceSchemaError: the pages run in a circle.
        """
        params = {
            "limit": str(LIST_LIMIT),
            "archived": "true",
            "properties": ",".join(properties),
            **({"associations": associations} if associations else {}),
        }
        path, seen = f"/crm/objects/{API_VERSION}/{kind}", set[str]()
        while True:
            answer, found = self._rest.get(path, _Listed, **params)
            yield answer, found.results
            if found.paging is None or found.paging.next is None:
                return
            after = found.paging.next.after
            if after in seen:
                raise SourceSchemaError(SOURCE, f"{answer.request} leads to a page before it")
            seen.add(after)
            params["after"] = after

    def owners(self, *, archived: bool) -> Iterator[tuple[Answer, int]]:
        """The owners of the portal, or those who have left it, and how many a page holds."""
        params = {"limit": "500", "archived": str(archived).lower()}
        while True:
            answer, found = self.get("/crm/owners/{}", _Owners, **params)
            yield answer, len(found.results)
            if found.paging is None or found.paging.next is None:
                return
            params["after"] = found.paging.next.after

    def search(
        self, kind: str, groups: Iterable[Filters], properties: Iterable[str] = ()
    ) -> Iterator[Record]:
        """Every record that matches all filters of one group, in the order of ids.

        Each page is a search of its own for ids above the last one, never an offset: a search ends
        in HTTP 400 beyond 10,000 results (airbyte PR #10700), also where all of them share one
        millisecond, and records that change meanwhile do not shift it.

        Raises:
            SourceSchemaError: a page does not go on where the one before it ended, or ends before
                the total that it names.
        """
        last, path = "0", f"/crm/objects/{API_VERSION}/{kind}/search"
        while True:
            beyond = {"propertyName": "hs_object_id", "operator": "GT", "value": last}
            body = {
                "filterGroups": [{"filters": [*group, beyond]} for group in groups],
                "sorts": [{"propertyName": "hs_object_id", "direction": "ASCENDING"}],
                "properties": list(properties),
                "limit": SEARCH_LIMIT,
            }
            answer, found = self._post(path, body, _Searched, counted=self._searches)
            ids = [int(one.id) for one in found.results]
            if any(one <= before for before, one in zip([int(last), *ids], ids, strict=False)):
                raise SourceSchemaError(
                    SOURCE, f"{answer.request} answers records again that came before {last}"
                )
            yield from found.results
            if found.total <= len(ids):
                return
            if not ids:
                raise SourceSchemaError(
                    SOURCE, f"{answer.request} finds {found.total} records and shows none"
                )
            last = found.results[-1].id

    def batch(
        self, kind: str, ids: Iterable[str], properties: Iterable[str], *, archived: bool = False
    ) -> Iterator[tuple[Answer, list[Record], list[str]]]:
        """Records by id, and which ids are no longer there; archived ones are only on demand.

        HTTP 207 may lack records without a reason; such an answer is asked for again.
        """
        path = f"/crm/objects/{API_VERSION}/{kind}/batch/read"
        if archived:
            path += "?archived=true"
        names = list(properties)

        def read(chunk: list[str]) -> tuple[Answer, list[Record], list[str]]:
            body = {"inputs": [{"id": one} for one in chunk], "properties": names}
            answer, found = self._post(path, body, _Batch, lambda it: _explained(it, chunk))
            there = {one.id for one in found.results}
            return answer, found.results, [one for one in chunk if one not in there]

        return each(read, chunks(ids, BATCH_LIMIT), CONCURRENCY)

    def associations(
        self, left: str, right: str, ids: Iterable[str]
    ) -> Iterator[tuple[Answer, dict[str, list[str]]]]:
        """For each record the ids of what is associated with it; one may go over several pages.

        The lists inside of records end after 100 (airbyte#56447), so they are never used.
        """
        path = f"/crm/associations/{API_VERSION}/{left}/{right}/batch/read"

        def read(chunk: list[str]) -> Iterator[tuple[Answer, dict[str, list[str]]]]:
            inputs: list[dict[str, str]] = [{"id": one} for one in chunk]
            while inputs:
                asked = [one["id"] for one in inputs]
                answer, found = self._post(
                    path,
                    {"inputs": inputs},
                    _Associations,
                    lambda it, of=asked: _all_associated(it, of),
                )
                yield (
                    answer,
                    {one.source.id: [str(to.toObjectId) for to in one.to] for one in found.results},
                )
                inputs = [
                    {"id": one.source.id, "after": one.paging.next.after}
                    for one in found.results
                    if one.paging is not None and one.paging.next is not None
                ]

        # More at a time are an error (airbyte#48834).
        return in_order(read, chunks(ids, ASSOCIATION_LIMIT), CONCURRENCY)

    def splits(self, deals: Iterable[str]) -> Iterator[tuple[Answer, int]]:
        """The splits of deals, and of how many; deals that are not split are left out."""
        path = f"/deal-splits/{API_VERSION}/batch/read"

        def read(chunk: list[str]) -> tuple[Answer, int]:
            body = {"inputs": [{"id": one} for one in chunk]}
            answer, found = self._post(path, body, _Batch)
            return answer, len(found.results)

        return each(read, chunks(deals, BATCH_LIMIT), CONCURRENCY)

    def _post(
        self,
        path: str,
        body: dict[str, Any],
        shape: type[T],
        complete: Any = None,
        *,
        counted: Window | None = None,
    ) -> tuple[Answer, T]:
        """A POST that reads; `complete` raises `ValueError` for an answer that lacks something."""
        reader = json_reader(shape)

        def read(received: Received) -> T:
            found = reader(received)
            if complete is not None:
                complete(found)
            return found

        sent = msgspec.json.encode(body)
        return self._rest.call("POST", path, read, body=sent, counted=counted)

    # -- what an answer means ----------------------------------------------------------------

    def _judge(self, request: str, received: Received) -> Verdict:
        if 200 <= received.status < 300:
            return None
        try:
            said = msgspec.json.decode(received.body, type=_Refusal)
        except msgspec.MsgspecError:
            said = _Refusal()
        if received.status == 429:
            return self._limited(request, received, said)
        if received.status in _PASSING:
            return Passing(f"HTTP {received.status} ({said.category or 'no reason given'})")
        if received.status == 401:
            return SourceAuthError(
                SOURCE, f"the API refused the token ({said.message}); check HUBSPOT_ACCESS_TOKEN"
            )
        if received.status == 403:
            scopes = said.context.get("missingScopes") or said.context.get("requiredScopes") or []
            return MissingScopeError(request, tuple(map(str, scopes)))
        return SourceSchemaError(
            SOURCE, f"{request} was refused with HTTP {received.status}: {said.message}"
        )

    def _limited(self, request: str, received: Received, said: _Refusal) -> Verdict:
        """Bursts pass within seconds; the day's limit does not, and has the same status."""
        if said.policyName == "DAILY":
            resets = self._next_midnight(server_time(SOURCE, received.headers))
            when = f"at {resets:%Y-%m-%d %H:%M %Z}" if resets else "at midnight there"
            return SourceLimitError(
                SOURCE,
                f"the daily limit of the portal is used up; it resets {when}, so sync again then",
                retryable=False,
                resets_at=resets,
            )
        policy = said.policyName or "no policy named"
        return Passing(
            f"HTTP 429 ({policy})",
            SourceLimitError(
                SOURCE,
                f"{request} is limited for too long ({policy}); lower requests_per_second or "
                "searches_per_second",
                retryable=True,
            ),
        )

    def _next_midnight(self, now: datetime) -> datetime | None:
        """When the day ends in the portal's time zone, once that is known."""
        if self._zone is None:
            return None
        tomorrow = now.astimezone(self._zone).date() + timedelta(days=1)
        return datetime.combine(tomorrow, time(), self._zone)


def chunks(ids: Iterable[str], size: int) -> list[list[str]]:
    """Ids in their order, without repetitions, so many at a time."""
    distinct = list(dict.fromkeys(ids))
    return [distinct[start : start + size] for start in range(0, len(distinct), size)]


def _explained(found: _Batch, asked: list[str]) -> None:
    """Refuse a batch that lacks records without saying that they are gone.

    A merged record's id is answered with the record that it went into, under that one's id.
    """
    there = {one.id for one in found.results}
    there.update(
        identifier
        for problem in found.errors
        if problem.category == "OBJECT_NOT_FOUND"
        for identifier in problem.context.ids
    )
    for one in found.results:
        there.update(merged_into(one))
    missing = [one for one in asked if one not in there]
    if missing:
        raise ValueError(f"{len(missing)} of {len(asked)} records are missing, as {missing[0]}")


def _all_associated(found: _Associations, asked: list[str]) -> None:
    """Refuse associations that lack a record without saying that it has none."""
    told = {one.source.id for one in found.results}
    told.update(
        identifier
        for problem in found.errors
        if problem.subCategory == _NOTHING_ASSOCIATED
        for identifier in problem.context.fromObjectId
    )
    missing = [one for one in asked if one not in told]
    if missing:
        raise ValueError(f"{len(missing)} of {len(asked)} records are missing, as {missing[0]}")


def merged_into(record: Record) -> list[str]:
    """The ids of records that were merged into this one, and are gone."""
    ids = (record.properties.get("hs_merged_object_ids") or "").split(";")
    return [one.strip() for one in ids if one.strip() and one.strip() != record.id]
