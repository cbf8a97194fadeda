"""Xero's API: log-in, tenants, scopes, limits, lists and single documents, errors.

What documents look like is in `xero_objects`, which there are in `xero_data`, what happens to them
in `xero_store`, and what filters and orders mean in `xero_where`.
"""

import base64
import itertools
import math
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from revrec_pipeline.sandbox import company, xero_data
from revrec_pipeline.sandbox.clock import Clock
from revrec_pipeline.sandbox.source import CommandError
from revrec_pipeline.sandbox.xero_objects import (
    ORGANISATION_NAME,
    TENANT,
    Line,
    Object,
    contact,
    document,
    encode,
    guid,
    items,
    organisation,
    stamp,
    tracking_categories,
    utc,
    wire,
)
from revrec_pipeline.sandbox.xero_where import QueryParseError, in_order, parse_order, parse_where

CLIENT_ID = "0A1B2C3D4E5F60718293A4B5C6D7E8F9"
CLIENT_SECRET = "sandbox-Xero_secret-7f3a9c51"  # noqa: S105 - the sandbox's own
#: What the custom connection was given; the broad scopes are those of connections before 2026.
SCOPES = frozenset(
    {
        "accounting.invoices.read",
        "accounting.payments.read",
        "accounting.contacts.read",
        "accounting.settings.read",
        "accounting.transactions.read",
    }
)
TOKEN_LIFE = timedelta(minutes=30)
PER_MINUTE, PER_DAY = 60, 5000
PAGE_SIZE, MAX_PAGE_SIZE = 100, 1000
_ROOT = "/api.xro/2.0"
_READERS = {
    "Invoices": ("accounting.invoices", "accounting.transactions"),
    "CreditNotes": ("accounting.invoices", "accounting.transactions"),
    "Items": ("accounting.settings",),
    "Organisation": ("accounting.settings",),
    "TrackingCategories": ("accounting.settings",),
}
_KINDS = {"Invoices": "Invoice", "CreditNotes": "CreditNote"}


class XeroError(Exception):
    """A refusal: status and body (none for 404 and 429), with headers of its own."""

    def __init__(self, status: int, body: Object | None, **headers: str) -> None:
        super().__init__(status)
        self.status = status
        self.body = body
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class XeroSandbox:
    """One organisation behind one custom connection."""

    name = "xero"
    at_once = (5, "concurrent")  # for an app in an organisation

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._numbers = itertools.count(1)
        self._store = xero_data.build()
        self._first_changes = self._store.changes
        self.reset()

    # -- what the sandbox asks of a source ---------------------------------------------------

    def routes(self) -> list[BaseRoute]:
        """Identity, connections and the accounting API."""
        table: dict[str, Callable[[Request], Object | list[Object]]] = {
            "/connections": self._connections,
            f"{_ROOT}/Organisation": lambda _: self._envelope("Organisations", [organisation()]),
            f"{_ROOT}/Items": lambda _: self._envelope("Items", items()),
            f"{_ROOT}/TrackingCategories": lambda _: self._envelope(
                "TrackingCategories", tracking_categories()
            ),
            f"{_ROOT}/Invoices": self._list,
            f"{_ROOT}/CreditNotes": self._list,
            f"{_ROOT}/Invoices/{{id}}": self._one,
            f"{_ROOT}/CreditNotes/{{id}}": self._one,
            f"{_ROOT}/{{path:path}}": _not_found,
        }
        return [
            Route("/connect/token", self._token, methods=["POST"]),
            *(Route(path, self._endpoint(answer)) for path, answer in table.items()),
        ]

    def env(self, origin: str) -> dict[str, str]:
        """The custom connection's own client."""
        return {
            "XERO_CLIENT_ID": CLIENT_ID,
            "XERO_CLIENT_SECRET": CLIENT_SECRET,
            "XERO_API_URL": origin,
        }

    def reset(self) -> None:
        """Back to the first data, one organisation, all scopes, the vendor's limits."""
        if self._store.changes != self._first_changes:
            self._store = xero_data.build()
        self._tokens: dict[str, tuple[datetime, frozenset[str]]] = {}
        self._calls: deque[datetime] = deque()
        self._per_minute: int | None = PER_MINUTE
        self._per_day: int | None = PER_DAY
        self._scopes = SCOPES
        self._tenants = {TENANT: ORGANISATION_NAME}

    def control(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """`story`, `limit`, `scopes`, `tenants`, `add`, and what happens to one document."""
        now = utc(self._clock.now())
        match command:
            case {"op": "story"}:
                return xero_data.tell_story(self._store, now)
            case {"op": "limit"}:
                self._per_minute = command.get("per_minute")
                self._per_day = command.get("per_day")
            case {"op": "scopes", "granted": granted}:
                self._scopes = frozenset(granted)
            case {"op": "tenants", "names": names}:
                others = {guid("tenant", name): name for name in names}
                self._tenants = others if command.get("only") else {TENANT: ORGANISATION_NAME}
                self._tenants.update(others)
            case {"op": "add", "fields": fields}:
                return {"id": self._add(fields, now)}
            case {"op": "edit" | "garble" as verb, "id": own, "fields": fields}:
                getattr(self._store, verb)(own, fields, now)
            case {"op": "allocate", "id": note, "invoice": invoice, "amount": amount}:
                self._store.allocate(note, invoice, Decimal(amount), now)
            case {"op": "unallocate" | "authorise" | "void" | "delete" | "pay" as verb, "id": own}:
                getattr(self._store, verb)(own, now)
            case _:
                raise CommandError(f"xero: no operation {command.get('op')!r} like this")
        return {"ok": True}

    def fault_body(self, kind: str) -> Response:
        """Xero's own failures."""
        match kind:
            case "429":
                return self._refusal(_limited("minute", Retry_After="7"))
            case "day":
                return self._refusal(_limited("day", Retry_After="41000"))
            case "appminute":
                return self._refusal(_limited("appminute", Retry_After="3"))
            case "concurrent":
                return self._refusal(_limited("concurrent"))
            case "401":
                return self._refusal(_unauthorized("TokenExpired: token expired at 11/23/2026"))
            case "scope":
                return self._refusal(_unauthorized("AuthorizationUnsuccessful"))
            case "403":
                return self._refusal(_forbidden())
            case "400":
                message = "The query is too large; please add filters or paging"
                return self._refusal(_invalid(message))
            case "404":
                return self._refusal(XeroError(404, None))
            case "500":
                return self._refusal(XeroError(500, {"Type": None, "Title": "An error occurred"}))
            case _:
                raise CommandError(f"xero: no fault {kind!r}")

    # -- log-in ------------------------------------------------------------------------------

    async def _token(self, request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode()))
        given = _basic(request.headers.get("authorization", "")) or (
            form.get("client_id", ""),
            form.get("client_secret", ""),
        )
        if given != (CLIENT_ID, CLIENT_SECRET):
            return self._response({"error": "invalid_client"}, 400)
        if form.get("grant_type") != "client_credentials":
            return self._response({"error": "unauthorized_client"}, 400)
        scopes = frozenset(form.get("scope", "").split()) or self._scopes
        if not scopes <= self._scopes:
            return self._response({"error": "invalid_scope"}, 400)
        token = f"sandbox-token-{next(self._numbers)}"
        self._tokens[token] = (self._clock.now() + TOKEN_LIFE, scopes)
        return self._response(
            {
                "access_token": token,
                "expires_in": int(TOKEN_LIFE.total_seconds()),
                "token_type": "Bearer",
                "scope": " ".join(sorted(scopes)),
            }
        )

    # -- requests ----------------------------------------------------------------------------

    def _endpoint(
        self, answer: Callable[[Request], Object | list[Object]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def respond(request: Request) -> Response:
            try:
                self._admit(request)
                body = answer(request)
            except XeroError as error:
                return self._refusal(error)
            if "json" not in request.headers.get("accept", ""):
                return self._headed(Response("<Response/>", 200, media_type="text/xml"))
            return self._response(body)

        return respond

    def _admit(self, request: Request) -> None:
        """Token, tenant, scope, limits: in Xero's order. `/connections` is about no tenant."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or token not in self._tokens:
            raise _unauthorized("AuthenticationUnsuccessful")
        expires, scopes = self._tokens[token]
        if expires <= self._clock.now():
            raise _unauthorized(f"TokenExpired: token expired at {expires:%m/%d/%Y %H:%M:%S}")
        if not request.url.path.startswith(_ROOT):
            return
        tenant = request.headers.get("xero-tenant-id", TENANT)
        if tenant != TENANT or tenant not in self._tenants:
            raise _forbidden()
        wanted = _READERS.get(request.url.path.removeprefix(_ROOT).split("/")[1], ())
        if wanted and not any(scope.removesuffix(".read") in wanted for scope in scopes):
            raise _unauthorized("AuthorizationUnsuccessful")
        self._count()

    def _count(self) -> None:
        """A sliding minute and a sliding day."""
        now = self._clock.now()
        while self._calls and self._calls[0] <= now - timedelta(days=1):
            self._calls.popleft()
        recent = [call for call in self._calls if call > now - timedelta(minutes=1)]
        if self._per_day is not None and len(self._calls) >= self._per_day:
            wait = self._calls[0] + timedelta(days=1) - now
            raise _limited("day", Retry_After=str(math.ceil(wait.total_seconds())))
        if self._per_minute is not None and len(recent) >= self._per_minute:
            wait = recent[0] + timedelta(minutes=1) - now
            raise _limited("minute", Retry_After=str(math.ceil(wait.total_seconds())))
        self._calls.append(now)

    def _response(self, body: Object | list[Object], status: int = 200) -> Response:
        return self._headed(
            Response(encode(body), status, media_type="application/json; charset=utf-8")
        )

    def _refusal(self, error: XeroError) -> Response:
        empty = Response(status_code=error.status)
        found = empty if error.body is None else self._response(error.body, error.status)
        found.headers.update(error.headers)
        return self._headed(found)

    def _headed(self, response: Response) -> Response:
        now = self._clock.now()
        recent = sum(call > now - timedelta(minutes=1) for call in self._calls)
        response.headers.update(
            {
                "Xero-Correlation-Id": guid("request", next(self._numbers)),
                "X-DayLimit-Remaining": str((self._per_day or PER_DAY) - len(self._calls)),
                "X-MinLimit-Remaining": str((self._per_minute or PER_MINUTE) - recent),
                "X-AppMinLimit-Remaining": "9999",
            }
        )
        return response

    # -- answers -----------------------------------------------------------------------------

    def _connections(self, _: Request) -> list[Object]:
        return [
            {
                "id": guid("connection", tenant),
                "authEventId": guid("event", tenant),
                "tenantId": tenant,
                "tenantType": "ORGANISATION",
                "tenantName": name,
                "createdDateUtc": "2026-05-02T03:04:05.1234560",
                "updatedDateUtc": "2026-05-02T03:04:05.1234560",
            }
            for tenant, name in self._tenants.items()
        ]

    def _envelope(self, name: str, found: Sequence[Any], **more: Any) -> Object:
        return {
            "Id": guid("answer", next(self._numbers)),
            "Status": "OK",
            "ProviderName": "revrec_pipeline",
            "DateTimeUTC": stamp(utc(self._clock.now())).replace("+0000", ""),
            **more,
            name: found,
        }

    def _list(self, request: Request) -> Object:
        """A page; without `page`, everything without lines, and `pageSize` is not looked at."""
        name = request.url.path.rpartition("/")[2]
        kind, asked = _KINDS[name], request.query_params
        found = self._filtered(name, kind, request)
        summary = asked.get("summaryOnly") == "true"
        shape: dict[str, Any] = {
            "unit_decimals": 4 if asked.get("unitdp") == "4" else 2,
            "summary": summary,
            "lines": "page" in asked and not summary,
        }
        if "page" not in asked:
            return self._envelope(name, [wire(one, **shape) for one in found])
        page = max(_whole(asked["page"], "page"), 1)
        size = _whole(asked.get("pageSize", str(PAGE_SIZE)), "pageSize")
        if not 1 <= size <= MAX_PAGE_SIZE:
            raise _invalid(f"pageSize must be between 1 and {MAX_PAGE_SIZE}")
        shown = found[(page - 1) * size : page * size]
        pagination = {
            "page": page,
            "pageSize": size,
            "pageCount": -(-len(found) // size),
            "itemCount": len(found),
        }
        return self._envelope(name, [wire(one, **shape) for one in shown], pagination=pagination)

    def _filtered(self, name: str, kind: str, request: Request) -> list[Mapping[str, Any]]:
        asked = request.query_params
        store = self._store.invoices if name == "Invoices" else self._store.credit_notes
        found: list[Mapping[str, Any]] = list(store.values())
        since = _since(request.headers.get("if-modified-since"))
        if since is not None:
            found = [one for one in found if one["UpdatedDateUTC"] >= since]
        statuses = asked.get("Statuses")
        if statuses:
            found = [one for one in found if one["Status"] in statuses.split(",")]
        if asked.get("IDs"):
            found = [one for one in found if one[f"{kind}ID"] in asked["IDs"].split(",")]
        try:
            if asked.get("where"):
                matches = parse_where(asked["where"], kind)
                found = [one for one in found if matches(one)]
            return in_order(found, parse_order(asked.get("order") or "UpdatedDateUTC", kind))
        except QueryParseError as error:
            raise XeroError(
                400, {"ErrorNumber": 16, "Type": "QueryParseException", "Message": str(error)}
            ) from error

    def _one(self, request: Request) -> Object:
        name = request.url.path.split("/")[3]
        asked = request.path_params["id"]
        store = self._store.invoices if name == "Invoices" else self._store.credit_notes
        number = f"{_KINDS[name]}Number"
        numbered = [one for one in store.values() if one[number] == asked]
        found = store.get(asked) or next(iter(numbered), None)
        if found is None:
            raise XeroError(404, None)
        decimals = 4 if request.query_params.get("unitdp") == "4" else 2
        return self._envelope(
            name, [wire(found, lines=True, unit_decimals=decimals, summary=False)]
        )

    def _add(self, fields: Mapping[str, Any], now: datetime) -> str:
        """A document for a customer of the company with one line of the given amount."""
        customer = company.customer(fields["customer"])
        seed = str(fields.get("seed", f"added-{self._store.changes}"))
        line = Line("Added by command", fields.get("code"), Decimal(1), Decimal(fields["amount"]))
        kind = str(fields.get("type", "ACCREC"))
        one = document(
            kind,
            seed,
            contact(customer),
            datetime.fromisoformat(fields["date"]),
            [line] * int(fields.get("lines", 1)),
            number=fields.get("number", seed),
            currency=fields.get("currency", customer.currency),
            amounts=fields.get("amounts", "Exclusive"),
        )
        own = self._store.add(one, now)
        if not fields.get("draft"):
            self._store.authorise(own, now)
        return own


def _not_found(_: Request) -> Object:
    raise XeroError(404, None)


def _unauthorized(detail: str) -> XeroError:
    body = {"Type": None, "Title": "Unauthorized", "Status": 401, "Detail": detail}
    return XeroError(401, {**body, "Instance": guid("instance", detail), "Extensions": {}})


def _forbidden() -> XeroError:
    # Recorded with small initials, where those of 401 are capital.
    body = {"title": "Forbidden", "status": 403, "detail": "AuthenticationUnsuccessful"}
    return XeroError(403, {**body, "type": None, "instance": guid("instance", 403)})


def _invalid(message: str) -> XeroError:
    return XeroError(
        400,
        {
            "ErrorNumber": 10,
            "Type": "ValidationException",
            "Message": "A validation exception occurred",
            "Elements": [{"ValidationErrors": [{"Message": message}]}],
        },
    )


def _limited(problem: str, **headers: str) -> XeroError:
    return XeroError(429, None, X_Rate_Limit_Problem=problem, **headers)


def _whole(text: str, name: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise _invalid(f"{name} must be a whole number") from error


def _since(header: str | None) -> datetime | None:
    """The header's instant to the second; Xero takes it with and without an offset."""
    if not header:
        return None
    try:
        moment = datetime.fromisoformat(header)
    except ValueError:
        return None  # what is no date is not looked at
    plain = utc(moment) if moment.tzinfo else moment
    return plain.replace(microsecond=0)


def _basic(header: str) -> tuple[str, str] | None:
    scheme, _, value = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, _, secret = base64.b64decode(value, validate=True).decode().partition(":")
    except ValueError:
        return "", ""
    return name, secret
