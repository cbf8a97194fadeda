"""QuickBooks Online's API: log-in, queries, change data capture, limits and faults.

What a query may say is in `quickbooks_query`, the documents are in `quickbooks_data` and
`quickbooks_objects`, the tokens in `quickbooks_tokens`.
"""

import itertools
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from revrec_pipeline.sandbox.clock import Clock
from revrec_pipeline.sandbox.quickbooks_data import Books, tell_story
from revrec_pipeline.sandbox.quickbooks_objects import REALM, Form, Line, Object, stamp
from revrec_pipeline.sandbox.quickbooks_query import QueryError, parse
from revrec_pipeline.sandbox.quickbooks_tokens import (
    CLIENT_ID,
    CLIENT_SECRET,
    REFRESH_TOKEN,
    TokenServer,
)
from revrec_pipeline.sandbox.source import CommandError

#: Requests a second that one app may make of one company.
RATE_LIMIT = 10
#: How far change data capture reaches back, and how many objects it shows at most.
CDC_REACH = timedelta(days=30)
CDC_MOST = 1000
_CAPTURED = ("Invoice", "SalesReceipt", "CreditMemo", "RefundReceipt")
_JSON = msgspec.json.Encoder(decimal_format="number")
_TOKENS = "/oauth2/v1/tokens/bearer"
_LIMIT_DETAIL = "The request limit was reached. Please try again later."


class _Refused(Exception):  # noqa: N818 - an answer, not an error of ours
    """An answer that is a fault."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response


class QuickbooksSandbox:
    """One company, connected to one app."""

    name = "quickbooks"
    at_once = (10, "429")  # for an app in a company

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._requests = itertools.count(1)
        self._tokens = TokenServer(clock)
        self._books = Books()
        self.reset()

    # -- what the sandbox asks of a source ---------------------------------------------------

    def routes(self) -> list[BaseRoute]:
        """The token endpoint and everything below /v3/company."""
        answers: dict[str, Callable[[Request], Awaitable[Object]]] = {
            "query": self._query,
            "cdc": self._cdc,
            "companyinfo/{id}": self._company,
            "{path:path}": self._nothing,
        }
        return [
            Route(_TOKENS, self._token, methods=["POST"]),
            *(
                Route(
                    f"/v3/company/{{realm}}/{path}", self._endpoint(answer), methods=["GET", "POST"]
                )
                for path, answer in answers.items()
            ),
        ]

    def env(self, origin: str) -> dict[str, str]:
        """The app's credentials and the first refresh token."""
        return {
            "QUICKBOOKS_CLIENT_ID": CLIENT_ID,
            "QUICKBOOKS_CLIENT_SECRET": CLIENT_SECRET,
            "QUICKBOOKS_REFRESH_TOKEN": REFRESH_TOKEN,
            "QUICKBOOKS_REALM_ID": REALM,
            "QUICKBOOKS_API_URL": origin,
        }

    def reset(self) -> None:
        """Back to the first data and tokens, with the rate limit on."""
        if self._books.touched:
            self._books = Books()
        self._tokens.reset()
        self._rate: int | None = RATE_LIMIT
        self._calls: deque[float] = deque()

    def control(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """`story`; `add`, `edit`, `replace`, `void`, `delete` a document; `limit` and `tokens`."""
        now = self._clock.now()
        match command:
            case {"op": "story"}:
                return tell_story(self._books, now)
            case {"op": "limit"}:
                self._rate = command.get("per_second")
            case {"op": "tokens"}:
                self._set_tokens(command)
            case {"op": "find", "number": number}:
                entity, found = self._books.find(number)
                return {"object": entity, "id": found}
            case {"op": "add", "object": entity, "fields": fields}:
                return {"ids": self._add(entity, fields, now)}
            case {"op": "replace", "object": entity, "id": number, "fields": fields}:
                self._books.replace(_form(entity, fields, "REPLACED"), number, now)
            case {"op": "edit", "object": entity, "id": number, "fields": fields}:
                self._books.edit(entity, number, fields, now)
            case {"op": "void", "object": entity, "id": number}:
                self._books.void(entity, number, now, keep=bool(command.get("keep_amounts")))
            case {"op": "delete", "object": entity, "id": number}:
                self._books.delete(entity, number, now)
            case _:
                raise CommandError(f"quickbooks: no operation {command.get('op')!r} like this")
        return {"ok": True}

    def fault_body(self, kind: str) -> Response:
        """Intuit's own failures, in the several forms that they arrive in."""
        match kind:
            case "429":
                return self._fault(429, "3001", _throttled(429), _LIMIT_DETAIL, "SERVICE")
            case "429_xml":
                return self._xml(429, _throttled(429))
            case "403_throttle":
                return self._xml(403, _throttled(403))
            case "401":
                return self._unauthorized("Token expired: AB01***")
            case "403":
                return self._forbidden()
            case "500":
                message = "An application error has occurred while processing your request"
                return self._fault(500, "10000", message, "System Failure Error", "SystemFault")
            case "400_padded":
                return self._fault(
                    400, "004001", "Invalid query", "QueryValidationError: odd", "ValidationFault"
                )
            case "invalid_grant":
                return self._json({"error": "invalid_grant"}, 400)
            case _:
                raise CommandError(f"quickbooks: no fault {kind!r}")

    def _set_tokens(self, command: Mapping[str, Any]) -> None:
        if command.get("expire"):
            self._tokens.expire()
        if "rotate_every" in command:
            self._tokens.rotation = timedelta(seconds=float(command["rotate_every"]))
        if "grace" in command:
            self._tokens.grace = timedelta(seconds=float(command["grace"]))

    def _add(self, entity: str, fields: Mapping[str, Any], now: datetime) -> list[str]:
        """So many documents of one line over `amount`, all with one stamp."""
        names = (f"{fields.get('number', 'ADDED')}-{n}" for n in range(int(fields.get("count", 1))))
        return [str(self._books.add(_form(entity, fields, one), now)["Id"]) for one in names]

    # -- requests ----------------------------------------------------------------------------

    async def _token(self, request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode()))
        status, body = self._tokens.answer(request.headers.get("authorization", ""), form)
        return self._json(body, status)

    def _endpoint(
        self, answer: Callable[[Request], Awaitable[Object]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def respond(request: Request) -> Response:
            try:
                self._admit(request)
                return self._json(await answer(request))
            except _Refused as refused:
                return refused.response
            except QueryError as error:
                return self._fault(400, error.code, error.message, error.detail, "ValidationFault")

        return respond

    def _admit(self, request: Request) -> None:
        """Token, company, rate, form of the answer and version, in this order."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or not self._tokens.admits(token):
            raise _Refused(self._unauthorized("Token expired or revoked"))
        if request.path_params["realm"] != REALM:
            raise _Refused(self._forbidden())
        if self._rate is not None:
            now = time.monotonic()
            while self._calls and self._calls[0] <= now - 1:
                self._calls.popleft()
            if len(self._calls) >= self._rate:
                raise _Refused(self.fault_body("429"))
            self._calls.append(now)
        if "application/json" not in request.headers.get("accept", ""):
            raise _Refused(Response(status_code=406))  # the vendor would answer XML

    def _parameters(self, request: Request, *names: str) -> dict[str, str]:
        """The parameters; one that is unknown or missing is refused."""
        found = dict(request.query_params)
        for name in (*names, "minorversion"):
            if name not in found:
                raise _Refused(self._invalid(f"Required parameter {name} is missing"))
        if unknown := set(found) - {*names, "minorversion"}:
            raise _Refused(self._invalid(f"Unsupported parameter {min(unknown)}"))
        if not found["minorversion"].isdigit() or not 1 <= int(found["minorversion"]) <= 75:
            raise _Refused(self._invalid("minorversion is not supported"))
        return found

    # -- answers -----------------------------------------------------------------------------

    async def _query(self, request: Request) -> Object:
        text = self._parameters(request, "query")["query"]
        query = parse(text)
        objects = list(self._books.entities[query.entity].values())
        return {"QueryResponse": query.run(objects), "time": self._time()}

    async def _company(self, request: Request) -> Object:
        self._parameters(request)
        if request.path_params["id"] != REALM:
            raise _Refused(self._forbidden())
        return {"CompanyInfo": self._books.entities["CompanyInfo"]["1"], "time": self._time()}

    async def _cdc(self, request: Request) -> Object:
        asked = self._parameters(request, "entities", "changedSince")
        try:
            since = datetime.fromisoformat(asked["changedSince"])
        except ValueError as error:
            raise _Refused(self._invalid("changedSince is no date and time")) from error
        if since.tzinfo is None or self._clock.now() - since > CDC_REACH:
            raise _Refused(self._invalid("changedSince must be within the last 30 days"))
        room = CDC_MOST
        parts: list[Object] = []
        for entity in asked["entities"].split(","):
            if entity not in _CAPTURED:
                raise _Refused(self._invalid(f"Entity {entity} is not supported by CDC"))
            changed = self._changed(entity, since)[:room]
            room -= len(changed)
            size = len(changed)
            page = {"startPosition": 1, "maxResults": size, "totalCount": size}
            parts.append({entity: changed, **page} if changed else {})
        return {"CDCResponse": [{"QueryResponse": parts}], "time": self._time()}

    def _changed(self, entity: str, since: datetime) -> list[Object]:
        """Deleted objects as stubs, then changed ones in full."""
        gone = [
            {
                "domain": "QBO",
                "status": "Deleted",
                "Id": number,
                "MetaData": {"LastUpdatedTime": stamp(at)},
            }
            for kind, number, at in self._books.deleted
            if kind == entity and at >= since
        ]
        found = self._books.entities[entity].values()
        return gone + [
            one
            for one in found
            if datetime.fromisoformat(one["MetaData"]["LastUpdatedTime"]) >= since
        ]

    async def _nothing(self, request: Request) -> Object:
        raise _Refused(
            self._fault(
                400,
                "500",
                "Unsupported Operation",
                f"Operation {request.url.path} is not supported.",
                "ValidationFault",
            )
        )

    # -- forms of answers --------------------------------------------------------------------

    def _time(self) -> str:
        return self._clock.now().isoformat(timespec="milliseconds")

    def _json(self, body: Object, status: int = 200) -> Response:
        tid = f"1-sandbox-{next(self._requests):08x}"
        content = _JSON.encode(_plain(body))
        return Response(content, status, {"intuit_tid": tid}, "application/json;charset=UTF-8")

    def _fault(self, status: int, code: str, message: str, detail: str, kind: str) -> Response:
        error = {"Message": message, "Detail": detail, "code": code}
        return self._json({"Fault": {"Error": [error], "type": kind}, "time": self._time()}, status)

    def _invalid(self, detail: str) -> Response:
        return self._fault(400, "4001", "Invalid query", detail, "ValidationFault")

    def _small_fault(self, status: int, code: str, name: str, detail: str, kind: str) -> Response:
        """The gateway's faults spell every key small."""
        error = {
            "message": f"message={name}; errorCode={code:0>6}; statusCode={status}",
            "detail": detail,
            "code": code,
            "element": None,
        }
        body = {
            "warnings": None,
            "intuitObject": None,
            "fault": {"error": [error], "type": kind},
            "time": self._clock.timestamp() * 1000,
        }
        return self._json(body, status)

    def _unauthorized(self, detail: str) -> Response:
        return self._small_fault(401, "3200", "AuthenticationFailed", detail, "AUTHENTICATION")

    def _forbidden(self) -> Response:
        return self._small_fault(403, "3100", "ApplicationAuthorizationFailed", "", "AUTHORIZATION")

    def _xml(self, status: int, message: str) -> Response:
        body = (
            '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
            f'<IntuitResponse time="{self._time()}" xmlns="http://schema.intuit.com/finance/v3">'
            f'<Fault type="SERVICE"><Error code="3001"><Message>{message}</Message>'
            f"<Detail>{_LIMIT_DETAIL}</Detail></Error></Fault></IntuitResponse>"
        )
        return Response(body, status, media_type="application/xml;charset=UTF-8")


def _form(entity: str, fields: Mapping[str, Any], number: str) -> Form:
    """A form of equal lines (`lines`, by default one) over `amount` each."""
    if entity not in _CAPTURED:
        raise CommandError(f"quickbooks: {entity} cannot be added")
    line = Line(str(fields.get("item", "SEAT")), amount=Decimal(str(fields["amount"])))
    day, lines = date.fromisoformat(fields["day"]), (line,) * int(fields.get("lines", 1))
    return Form(entity, day, fields.get("customer", "lumen"), lines, number=number)


def _throttled(status: int) -> str:
    return f"message=ThrottleExceeded; errorCode=003001; statusCode={status}"


def _plain(value: Any) -> Any:
    """Numbers as the vendor writes them: 275, and not 275.00."""
    match value:
        case Decimal():
            return int(value) if value == value.to_integral_value() else value.normalize()
        case dict():
            return {name: _plain(each) for name, each in value.items()}
        case list():
            return [_plain(each) for each in value]
        case _:
            return value
