"""Chargebee's API v2: keys, limits, lists and their paging, single documents, errors.

What the objects look like is in `chargebee_objects`, which there are in `chargebee_data`, what
happens to them in `chargebee_store`, and which parameters lists take in `chargebee_params`.
"""

import base64
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from revrec_pipeline.sandbox import chargebee_data
from revrec_pipeline.sandbox.chargebee_objects import SITE, Line, Object
from revrec_pipeline.sandbox.chargebee_params import Accepted, ChargebeeError, lines_asked, page
from revrec_pipeline.sandbox.clock import Clock
from revrec_pipeline.sandbox.source import CommandError

API_KEY = "test_sandboxRevRecPipelineReadOnlyKey"
#: Requests a minute that a site on the Performance plan may make.
RATE_LIMIT = 1000
#: Documents with more lines than this are shown without any in lists.
LISTED_LINES = 30

_DOCUMENT = {
    "id": "string",
    "customer_id": "string",
    "subscription_id": "string",
    "status": "enum",
    "price_type": "enum",
    "date": "timestamp",
    "total": "number",
    "updated_at": "timestamp",
    "voided_at": "timestamp",
    "channel": "enum",
}
_BY_DATE = frozenset({"date", "updated_at"})
_BY_CREATION = frozenset({"created_at", "updated_at"})
_LISTS = {
    "invoices": Accepted(
        {**_DOCUMENT, "recurring": "boolean", "paid_at": "timestamp", "amount_due": "number"},
        _BY_DATE,
    ),
    "credit_notes": Accepted(
        {**_DOCUMENT, "reference_invoice_id": "string", "type": "enum", "reason_code": "enum"},
        _BY_DATE,
    ),
    "subscriptions": Accepted(
        {
            "id": "string",
            "customer_id": "string",
            "status": "enum",
            "created_at": "timestamp",
            "updated_at": "timestamp",
        },
        _BY_CREATION,
    ),
    "customers": Accepted(
        {
            "id": "string",
            "company": "string",
            "email": "string",
            "created_at": "timestamp",
            "updated_at": "timestamp",
        },
        _BY_CREATION,
    ),
    "item_prices": Accepted(
        {
            "id": "string",
            "item_id": "string",
            "currency_code": "string",
            "status": "enum",
            "updated_at": "timestamp",
        },
        frozenset({"name", "id", "updated_at"}),
        deleted=False,
    ),
}
_TERMS = Accepted()
_LINE_LISTS = ("line_items", "line_item_discounts", "line_item_taxes")

Answer = Callable[[Request], Object]


class ChargebeeSandbox:
    """One test site."""

    name = "chargebee"
    at_once = None  # it caps them, and does not say where

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._store = chargebee_data.build()
        self._first_changes = self._store.changes
        self.reset()

    # -- what the sandbox asks of a source ---------------------------------------------------

    def routes(self) -> list[BaseRoute]:
        """The paths below /api/v2."""
        table: dict[str, Answer] = {
            **{f"/api/v2/{name}": self._list for name in _LISTS},
            "/api/v2/configurations": _configurations,
            "/api/v2/subscriptions/{id:str}/contract_terms": self._terms,
            "/api/v2/{name:str}/{id:path}": self._one,  # an invoice's number may hold a slash
            "/api/v2/{path:path}": _unknown_path,
        }
        return [
            Route(path, self._endpoint(answer), methods=["GET", "POST"])
            for path, answer in table.items()
        ]

    def env(self, origin: str) -> dict[str, str]:
        """The site and its read-only key."""
        return {
            "CHARGEBEE_SITE": SITE,
            "CHARGEBEE_API_KEY": API_KEY,
            "CHARGEBEE_API_URL": origin,
        }

    def reset(self) -> None:
        """Back to the first data, with the rate limit on."""
        if self._store.changes != self._first_changes:
            self._store = chargebee_data.build()
        self._rate: int | None = RATE_LIMIT
        self._calls: deque[float] = deque()

    def control(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """`story`, `limit`, and on records `add`, `edit`, `delete`, `void`, `pay` and others."""
        now = self._clock.timestamp()
        match command:
            case {"op": "story"}:
                return chargebee_data.tell_story(self._store, now)
            case {"op": "limit"}:
                self._rate = command.get("per_minute")
            case {"op": "add", "object": "invoice", "fields": fields}:
                return {"id": self._add(fields, now)}
            case {"op": "add", "object": "credit_note", "id": invoice, "fields": fields}:
                return {"id": self._credit(invoice, fields, now)}
            case {"op": "edit", "object": kind, "id": identifier, "fields": fields}:
                self._store.edit(kind, identifier, fields, now)
            case {"op": "delete" | "void" as verb, "object": kind, "id": identifier}:
                getattr(self._store, verb)(kind, identifier, now)
            case {"op": "pay", "id": invoice}:
                self._store.pay(invoice, now)
            case {"op": "close", "id": invoice, "date": date}:
                self._store.close(invoice, now, date=date)
            case {"op": "refund", "id": credit_note}:
                self._store.refund(credit_note, now)
            case _:
                raise CommandError(f"chargebee: no operation {command.get('op')!r} like this")
        return {"ok": True}

    def fault_body(self, kind: str) -> Response:
        """Chargebee's own failures."""
        if kind == "502":  # its gateway's, not its own
            return HTMLResponse("<html><body><h1>502 Bad Gateway</h1></body></html>", 502)
        faults = {
            "401": (401, "api_authentication_failed", "Sorry, authentication failed."),
            "403": (403, "api_authorization_failed", "The key lacks the required permissions."),
            "404": (404, "resource_not_found", "Sorry, resource not found."),
            "site_not_found": (404, "site_not_found", "Sorry, this site does not exist."),
            "configuration_incompatible": (
                400,
                "configuration_incompatible",
                "This is not possible with the product catalog of this site.",
            ),
            "429": (429, "api_request_limit_exceeded", _LIMITED),
            "lock_timeout": (429, "lock_timeout", "The record is in use; try again."),
            "500": (500, "internal_error", "Sorry, something went wrong."),
            "503": (503, "internal_temporary_error", "Sorry, something went wrong; try again."),
        }
        if kind not in faults:
            raise CommandError(f"chargebee: no fault {kind!r}")
        status, code, message = faults[kind]
        return _refusal(ChargebeeError(status, code, message, kind="operation_failed"))

    # -- requests ----------------------------------------------------------------------------

    def _endpoint(self, answer: Answer) -> Callable[[Request], Awaitable[Response]]:
        async def respond(request: Request) -> Response:
            try:
                self._admit(request)
                return _response(answer(request))
            except ChargebeeError as error:
                return _refusal(error)

        return respond

    def _admit(self, request: Request) -> None:
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        try:
            key = base64.b64decode(value, validate=True).decode() if scheme == "Basic" else ""
        except ValueError:
            key = ""
        if not key.endswith(":"):
            message = "Sorry,authentication failed.The basic authentication header is not valid."
            raise ChargebeeError(401, "api_authentication_failed", message)
        if key != f"{API_KEY}:":
            message = "Sorry,authentication failed.Invalid api key."
            raise ChargebeeError(401, "api_authentication_failed", message)
        if request.method != "GET":
            message = "Sorry, authorization failed. The key does not have the required permissions."
            raise ChargebeeError(403, "api_authorization_failed", message)
        now = time.monotonic()
        while self._calls and self._calls[0] <= now - 60:
            self._calls.popleft()
        if self._rate is not None and len(self._calls) >= self._rate:
            raise ChargebeeError(
                429, "api_request_limit_exceeded", _LIMITED, kind="operation_failed"
            )
        self._calls.append(now)

    # -- answers -----------------------------------------------------------------------------

    def _list(self, request: Request) -> Object:
        name = request.url.path.rpartition("/")[2]
        asked = _LISTS[name].read(request.query_params)
        found = page(list(self._store.lists[name].values()), asked, self._store.serial)
        found["list"] = [self._element(name, one) for one in found["list"]]
        return found

    def _element(self, name: str, one: Object) -> Object:
        """A record in its envelope, as lists show it."""
        if name == "subscriptions":
            return {
                "subscription": one,
                "customer": self._store.lists["customers"][one["customer_id"]],
            }
        if len(one.get("line_items", ())) > LISTED_LINES:
            one = {**one, **{part: [] for part in _LINE_LISTS}, **_next_lines(0)}
        return {name.removesuffix("s"): one}

    def _one(self, request: Request) -> Object:
        name, identifier = request.path_params["name"], request.path_params["id"]
        one = self._store.lists.get(name, {}).get(identifier)
        if one is None or one.get("deleted"):
            message = f"{identifier} not found"
            raise ChargebeeError(404, "resource_not_found", message, kind="invalid_request")
        if name not in {"invoices", "credit_notes"}:
            return {name.removesuffix("s"): one}
        limit, first = lines_asked(request.query_params)
        lines = one["line_items"][first : first + limit]
        shown = {line["id"] for line in lines}
        parts = {
            part: [entry for entry in one[part] if entry["line_item_id"] in shown]
            for part in _LINE_LISTS[1:]
        }
        following = first + limit
        more = _next_lines(following) if following < len(one["line_items"]) else {}
        return {name.removesuffix("s"): {**one, "line_items": lines, **parts, **more}}

    def _terms(self, request: Request) -> Object:
        terms = self._store.contract_terms.get(request.path_params["id"], [])
        found = page(terms, _TERMS.read(request.query_params), self._store.serial)
        found["list"] = [{"contract_term": one} for one in found["list"]]
        return found

    # -- what commands add -------------------------------------------------------------------

    def _add(self, fields: Mapping[str, Any], now: int) -> str:
        """An invoice for a customer of the company with lines of the given minor amount."""
        when = int(fields.get("date", now))
        lines = [
            Line(int(fields["amount"]), when, when, "Added by command", fields.get("item_price"))
        ] * int(fields.get("lines", 1))
        identifier = str(fields.get("id", f"ADDED-{len(self._store.lists['invoices'])}"))
        self._store.invoice(
            identifier, fields["customer"], when, lines, status=fields.get("status", "payment_due")
        )
        self._store.touch(self._store.find("invoice", identifier), now)
        return identifier

    def _credit(self, invoice: str, fields: Mapping[str, Any], now: int) -> str:
        """A credit note over a share of an invoice's first line."""
        number = len(self._store.lists["credit_notes"])
        identifier = self._store.credit(
            f"ADDED-CN-{number}",
            invoice,
            int(fields.get("date", now)),
            shares={0: Decimal(str(fields.get("share", 1)))},
        )
        self._store.touch(self._store.find("credit_note", identifier), now)
        return identifier


_LIMITED = (
    "Sorry, access has been blocked temporarily due to request count exceeding acceptable limits. "
    "Please try after some time."
)


def _next_lines(first: int) -> Object:
    return {"line_items_next_offset": json.dumps(["0", str(first)], separators=(",", ":"))}


def _response(body: Object, status: int = 200) -> Response:
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return Response(text.encode(), status, media_type="application/json;charset=utf-8")


def _refusal(error: ChargebeeError) -> Response:
    return _response(error.body(), error.status)


def _configurations(request: Request) -> Object:
    del request
    domain = f"{SITE}.chargebee.com"
    return {"configurations": [{"domain": domain, "product_catalog_version": "v2"}]}


def _unknown_path(request: Request) -> Object:
    message = f"Sorry, there is no {request.url.path}"
    raise ChargebeeError(404, "resource_not_found", message, kind="invalid_request")
