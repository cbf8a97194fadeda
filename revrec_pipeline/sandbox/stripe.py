"""Stripe's API: keys, versions, limits, lists and their paging, single objects, errors.

What the objects look like is in `stripe_objects`, which there are in `stripe_data`, what happens to
them in `stripe_store`, and how lists are filtered and cut in `stripe_lists`.
"""

import base64
import itertools
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from revrec_pipeline.sandbox import company, stripe_catalog, stripe_data
from revrec_pipeline.sandbox.clock import Clock
from revrec_pipeline.sandbox.source import CommandError
from revrec_pipeline.sandbox.stripe_lists import page
from revrec_pipeline.sandbox.stripe_objects import (
    ACCOUNT,
    API_VERSION,
    Line,
    Object,
    list_object,
    object_id,
)
from revrec_pipeline.sandbox.stripe_params import Accepted, Parameters, StripeError

API_KEY = "sk_test_sandbox51RevRecPipelineKey"
#: Requests a second and endpoint that a test-mode account may make.
RATE_LIMIT = 25
#: Lines inside an invoice or credit note; the rest is on the document's own list of lines.
NESTED_LINES = 10
EVENT_RETENTION = timedelta(days=30)

_RATE_MESSAGE = (
    "Request rate limit exceeded. You can learn more about rate limits here "
    "https://stripe.com/docs/rate-limits."
)
_CREATED = frozenset({"created"})
_LISTS = {
    "invoices": Accepted(
        filters=frozenset({"collection_method", "customer", "status", "subscription"}),
        ranges=frozenset({"created", "due_date"}),
        statuses=("draft", "open", "paid", "uncollectible", "void"),
    ),
    "credit_notes": Accepted(
        filters=frozenset({"customer", "invoice"}),
        ranges=_CREATED,
        expandable=frozenset({"data.invoice"}),
    ),
    "events": Accepted(
        filters=frozenset({"type", "delivery_success"}), ranges=_CREATED, lists=frozenset({"types"})
    ),
    "products": Accepted(filters=frozenset({"active"}), ranges=_CREATED),
    "prices": Accepted(
        filters=frozenset({"active", "currency", "product", "type"}), ranges=_CREATED
    ),
    "subscriptions": Accepted(filters=frozenset({"customer", "price", "status"}), ranges=_CREATED),
}
_ONE = {
    "invoices": Accepted(paged=False),
    "credit_notes": Accepted(paged=False, expandable=frozenset({"invoice"})),
}
_LINES = Accepted()
_NAMES = {"invoices": "invoice", "credit_notes": "credit note"}
_PREFIXES = {"invoices": "in", "credit_notes": "cn"}

Answer = Callable[[Request], Object]


class StripeSandbox:
    """One Stripe account in test mode."""

    name = "stripe"
    at_once = None  # it caps them, and does not say where

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._numbers = itertools.count(1)
        self._store = stripe_data.build()
        self._first_events = len(self._store.events)
        self.reset()

    # -- what the sandbox asks of a source ---------------------------------------------------

    def routes(self) -> list[BaseRoute]:
        """Stripe's paths below /v1."""
        table: dict[str, Answer] = {
            "/v1/account": lambda _: stripe_catalog.account(),
            **{f"/v1/{name}": self._list for name in _LISTS},
            **{f"/v1/{name}/{{id}}": self._one for name in _ONE},
            **{f"/v1/{name}/{{id}}/lines": self._lines for name in _ONE},
            "/v1/{path:path}": _unrecognized,
        }
        return [
            Route(path, self._endpoint(path, answer), methods=["GET", "POST", "DELETE"])
            for path, answer in table.items()
        ]

    def env(self, origin: str) -> dict[str, str]:
        """The key of the test account."""
        return {"STRIPE_API_KEY": API_KEY, "STRIPE_API_URL": origin}

    def reset(self) -> None:
        """Back to the first data, with the rate limit on."""
        if len(self._store.events) != self._first_events:  # every change leaves an event
            self._store = stripe_data.build()
        self._store.is_upgraded = False
        self._rate: int | None = RATE_LIMIT
        self._calls: dict[str, deque[float]] = {}

    def control(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """`story`, `limit`, `upgrade`; on an invoice `edit`, `delete`, `add` or a Stripe verb."""
        now = self._clock.timestamp()
        match command:
            case {"op": "story"}:
                return stripe_data.tell_story(self._store, now)
            case {"op": "upgrade"}:  # the account's default version, which its events show
                self._store.is_upgraded = True
            case {"op": "limit"}:
                self._rate = command.get("per_second")
            case {"op": "add", "object": "invoice", "fields": fields}:
                return {"id": self._add(fields, now)}
            case {"op": "add", "object": "credit_note", "id": invoice, "fields": fields}:
                shares = {0: Decimal(str(fields.get("share", 1)))}
                return {"id": self._store.credit(f"{invoice}-{now}", invoice, now, shares=shares)}
            case {"op": "edit", "object": "invoice", "id": invoice, "fields": fields}:
                self._store.edit(invoice, fields, now)
            case {"op": "delete", "object": "invoice", "id": invoice}:
                self._store.delete(invoice, now)
            case {"op": "finalize" | "pay" | "void" | "mark_uncollectible" as verb, "id": invoice}:
                getattr(self._store, verb)(invoice, now)
            case {"op": "void_credit_note", "id": credit_note}:
                self._store.void_credit_note(credit_note, now)
            case _:
                raise CommandError(f"stripe: no operation {command.get('op')!r} like this")
        return {"ok": True}

    def fault_body(self, kind: str) -> Response:
        """Stripe's own failures."""
        match kind:
            case "429":
                error = StripeError(
                    429,
                    _RATE_MESSAGE,
                    code="rate_limit",
                    headers={"Stripe-Rate-Limited-Reason": "global-rate"},
                )
            case "lock_timeout":
                message = "This object cannot be accessed right now because it is in use."
                error = StripeError(429, message, code="lock_timeout")
            case "401":
                error = StripeError(401, "Invalid API Key provided: sk_test_****")
            case "403":
                message = "The provided key does not have the required permissions."
                error = StripeError(403, message, code="more_permissions_required")
            case "404":
                error = StripeError(404, "No such invoice: 'in_x'", code="resource_missing")
            case "500":
                return self._response({"error": {"message": "", "type": "api_error"}}, 500)
            case _:
                raise CommandError(f"stripe: no fault {kind!r}")
        return self._refusal(error)

    # -- requests ----------------------------------------------------------------------------

    def _endpoint(self, path: str, answer: Answer) -> Callable[[Request], Awaitable[Response]]:
        async def respond(request: Request) -> Response:
            try:
                self._admit(request, path)
                return self._response(answer(request))
            except StripeError as error:
                return self._refusal(error)

        return respond

    def _admit(self, request: Request, endpoint: str) -> None:
        """Key, account, version, method, rate: in Stripe's order."""
        key = _api_key(request.headers.get("authorization", ""))
        if not key:
            message = "You did not provide an API key. Provide it as 'Authorization: Bearer KEY'."
            raise StripeError(401, message)
        if key != API_KEY:
            raise StripeError(401, f"Invalid API Key provided: {key[:8]}****{key[-4:]}")
        account = request.headers.get("stripe-account")
        if account not in {None, ACCOUNT}:
            message = f"The provided key does not have access to account '{account}'."
            raise StripeError(403, message, code="account_invalid")
        version = request.headers.get("stripe-version", "")
        if version != API_VERSION:
            raise StripeError(400, f"Invalid Stripe API version: {version}")
        if request.method != "GET":
            message = f"Unrecognized request URL ({request.method}: {request.url.path})."
            raise StripeError(404, message)
        self._pace(endpoint)

    def _pace(self, endpoint: str) -> None:
        if self._rate is None:
            return
        calls, now = self._calls.setdefault(endpoint, deque()), time.monotonic()
        while calls and calls[0] <= now - 1:
            calls.popleft()
        if len(calls) >= self._rate:
            headers = {"Stripe-Rate-Limited-Reason": "endpoint-rate"}
            raise StripeError(429, _RATE_MESSAGE, code="rate_limit", headers=headers)
        calls.append(now)

    def _response(self, body: Object, status: int = 200) -> Response:
        request_id = object_id("req", next(self._numbers))[:18]
        return Response(
            json.dumps(body, indent=2, ensure_ascii=False).encode(),
            status,
            {"Request-Id": request_id, "Stripe-Version": API_VERSION},
            "application/json",
        )

    def _refusal(self, error: StripeError) -> Response:
        request_id = object_id("req", next(self._numbers))[:18]
        response = self._response(error.body(request_id, self._clock.timestamp()), error.status)
        response.headers["Request-Id"] = request_id
        response.headers.update(error.headers)
        return response

    # -- answers -----------------------------------------------------------------------------

    def _list(self, request: Request) -> Object:
        name = request.url.path.rpartition("/")[2]
        asked = _LISTS[name].read(request.query_params)
        shown, more = page(self._newest_first(name), asked, _NAMES.get(name, name[:-1]))
        data = [self._show(one, "data.", asked) for one in shown]
        return list_object(f"/v1/{name}", data, has_more=more)

    def _newest_first(self, name: str) -> list[Object]:
        match name:
            case "invoices":
                found = list(self._store.invoices.values())
            case "credit_notes":
                found = list(self._store.credit_notes.values())
            case "events":
                oldest = (self._clock.now() - EVENT_RETENTION).timestamp()
                found = [event for event in self._store.events if event["created"] >= oldest]
            case "products":
                found = stripe_catalog.products()
            case "prices":
                found = stripe_catalog.prices()
            case _:
                found = stripe_catalog.subscriptions()
        return sorted(found, key=lambda one: (one["created"], one["id"]), reverse=True)

    def _one(self, request: Request) -> Object:
        name = request.url.path.split("/")[2]
        asked = _ONE[name].read(request.query_params)
        return self._show(self._stored(name, request.path_params["id"]), "", asked)

    def _lines(self, request: Request) -> Object:
        name = request.url.path.split("/")[2]
        asked = _LINES.read(request.query_params)
        lines = self._stored(name, request.path_params["id"])["lines"]
        shown, more = page(lines, asked, "line item")
        return list_object(request.url.path, shown, has_more=more, total=len(lines))

    def _stored(self, name: str, identifier: str) -> Object:
        found = self._store.invoices if name == "invoices" else self._store.credit_notes
        if identifier not in found:
            raise StripeError(
                404,
                f"No such {_NAMES[name]}: '{identifier}'",
                code="resource_missing",
                param=_NAMES[name].replace(" ", "_"),
            )
        return found[identifier]

    def _show(self, one: Object, place: str, asked: Parameters) -> Object:
        """An object with its lines cut to ten and what `expand` asks for."""
        if one["object"] not in {"invoice", "credit_note"}:
            return one
        lines = one["lines"]
        nested = list_object(
            f"/v1/{one['object']}s/{one['id']}/lines",
            lines[:NESTED_LINES],
            has_more=len(lines) > NESTED_LINES,
            total=len(lines),
        )
        shown = {**one, "lines": nested}
        if f"{place}invoice" in asked.lists.get("expand", []):
            shown["invoice"] = self._show(self._store.invoices[one["invoice"]], "", Parameters())
        return shown

    def _add(self, fields: Mapping[str, Any], now: int) -> str:
        """A draft for a customer of the company with one line of the given minor amount."""
        when = int(fields.get("created", now))
        line = Line(int(fields["amount"]), "Added by command", when, when, fields.get("product"))
        customer = company.customer(fields["customer"])
        seed = str(fields.get("seed", f"added-{len(self._store.invoices)}"))
        lines = [line] * int(fields.get("lines", 1))
        return self._store.draft(seed, customer, when, lines)


def _api_key(header: str) -> str:
    """The key of a Bearer or Basic header."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[0]
        except ValueError:
            return ""
    return value if scheme.lower() == "bearer" else ""


def _unrecognized(request: Request) -> Object:
    message = f"Unrecognized request URL ({request.method}: {request.url.path})."
    raise StripeError(404, message)
