"""HubSpot's API: token, scopes, limits, objects, associations, splits, and the portal around them.

How requests are read is in `hubspot_queries`, what happens to records in `hubspot_store`, with
which ones the portal starts in `hubspot_data`. Only the dated paths of 2026-09 are here; v3 and v4
end in 2027.
"""

import itertools
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from revrec_pipeline.sandbox import hubspot_data
from revrec_pipeline.sandbox import hubspot_queries as queries
from revrec_pipeline.sandbox.clock import Clock
from revrec_pipeline.sandbox.hubspot_queries import HubspotError, Json
from revrec_pipeline.sandbox.hubspot_schema import ACCOUNT, OWNERS, PIPELINES, VERSION
from revrec_pipeline.sandbox.source import CommandError

TOKEN = "pat-na2-5a1d0f00-sand-b0x0-revrec-pipeline"  # noqa: S105 - of made-up data
#: Searches a second and account; other requests per ten seconds and app (Professional).
SEARCH_RATE, RATE = 5, 190
#: What the portal may be asked for, by object type; a command takes a scope away.
SCOPES = {
    "deals": "crm.objects.deals.read",
    "line_items": "crm.objects.line_items.read",
    "companies": "crm.objects.companies.read",
    "products": "crm.objects.products.read",
    "invoices": "crm.objects.invoices.read",
    "owners": "crm.objects.owners.read",
    "deal_split": "crm.dealsplits.read_write",
}

_OBJECTS = f"/crm/objects/{VERSION}/{{type}}"
_Answer = Callable[[Request, bytes], Json]


class HubspotSandbox:
    """One HubSpot portal."""

    name = "hubspot"
    at_once = None  # it limits the rate, see `limit`

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._numbers = itertools.count(1)
        self._portal = hubspot_data.build()
        self._portal.changed = False
        self.reset()

    # -- what the sandbox asks of a source ---------------------------------------------------

    def routes(self) -> list[BaseRoute]:
        """HubSpot's paths."""
        table: tuple[tuple[str, str, _Answer], ...] = (
            ("GET", f"/account-info/{VERSION}/details", lambda _request, _body: ACCOUNT),
            ("GET", f"/crm/properties/{VERSION}/{{type}}", self._properties),
            ("GET", f"/crm/pipelines/{VERSION}/{{type}}", self._pipelines),
            ("GET", f"/crm/owners/{VERSION}", self._owners),
            ("POST", f"{_OBJECTS}/search", self._search),
            ("POST", f"{_OBJECTS}/batch/read", self._batch_read),
            ("GET", f"{_OBJECTS}/{{id}}", self._one),
            ("GET", _OBJECTS, self._list),
            (
                "POST",
                f"/crm/associations/{VERSION}/{{type}}/{{other}}/batch/read",
                self._associations,
            ),
            ("POST", f"/deal-splits/{VERSION}/batch/read", self._splits),
        )
        own: list[BaseRoute] = [
            Route(path, self._endpoint(answer), methods=[method]) for method, path, answer in table
        ]
        for prefix in ("/crm", "/account-info", "/deal-splits"):
            anything = self._endpoint(_no_such_path)
            own.append(Route(f"{prefix}/{{path:path}}", anything, methods=["GET", "POST"]))
        return own

    def env(self, origin: str) -> dict[str, str]:
        """The token of the portal's private app."""
        return {"HUBSPOT_ACCESS_TOKEN": TOKEN, "HUBSPOT_API_URL": origin}

    def reset(self) -> None:
        """Back to the first data, with limits on and all scopes granted."""
        if self._portal.changed:
            self._portal = hubspot_data.build()
            self._portal.changed = False
        self._portal.index_lag = timedelta()
        self._granted = set(SCOPES.values())
        self._hidden: set[str] = set()
        self._search_rate: int | None = SEARCH_RATE
        self._rate: int | None = RATE
        self._searches: deque[float] = deque()
        self._calls: deque[float] = deque()

    def control(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """`story`, `limit`, `scope`, `index_lag`, `hide`, and `add`, `edit` … of any object."""
        portal, now = self._portal, self._clock.now()
        match command:
            case {"op": "story"}:
                return hubspot_data.tell_story(portal, now)
            case {"op": "limit"}:
                self._search_rate = command.get("searches_per_second")
                self._rate = command.get("per_ten_seconds")
            case {"op": "scope", "missing": str(scope)}:
                self._granted.discard(scope)
            case {"op": "index_lag", "seconds": seconds}:
                portal.index_lag = timedelta(seconds=float(seconds))
            case {"op": "hide", "property": str(name)}:
                self._hidden.add(name)
            case {"op": "add", "object": str(kind), "fields": dict(fields)}:
                return {"id": self._add(kind, fields, int(command.get("count", 1)))}
            case {"op": "edit", "object": str(kind), "id": str(one), "fields": dict(fields)}:
                portal.update(kind, one, fields, now)
            case {"op": "delete", "object": str(kind), "id": str(one)}:
                portal.archive(kind, one, now)
            case {"op": "restore", "object": str(kind), "id": str(one)}:
                portal.restore(kind, one)
            case {"op": "purge", "object": str(kind), "id": str(one)}:
                portal.purge(kind, one)
            case {"op": "void", "id": str(one)}:
                portal.update("invoices", one, {"hs_invoice_status": "voided"}, now)
            case {"op": "merge", "object": str(kind), "id": str(winner), "loser": str(loser)}:
                portal.merge(kind, winner, loser, now)
            case {"op": "link", "object": str(kind), "id": str(one), "other": str(other)}:
                portal.link(kind, one, str(command["to"]), other)
            case {"op": "find", "object": str(kind), "property": str(name), "value": str(value)}:
                return {"id": portal.find(kind, name, value)}
            case _:
                raise CommandError(f"hubspot: no operation {command.get('op')!r} like this")
        return {"ok": True}

    def fault_body(self, kind: str) -> Response:
        """HubSpot's own failures."""
        match kind:
            case "429":
                return self._limited("TEN_SECONDLY_ROLLING", "ten_secondly_rolling")
            case "429_search":
                return self._limited("SECONDLY", "secondly")
            case "429_daily":
                return self._limited("DAILY", "daily")
            case "401":
                error = HubspotError(401, "INVALID_AUTHENTICATION", _UNAUTHENTICATED)
            case "403":
                error = _missing_scope("crm.objects.invoices.read")
            case "500":
                error = HubspotError(500, "INTERNAL_ERROR", "internal error")
            case "502":
                return Response("<html>Bad Gateway</html>", 502, media_type="text/html")
            case "477":
                error = HubspotError(477, "MIGRATION_IN_PROGRESS", "The account is being moved")
            case "207_partial":
                partial = {"status": "error", "category": "INTERNAL_ERROR", "message": "try again"}
                return self._response(queries.batch_answer([], [partial]), 207)
            case "no_results":
                return self._response({"paging": {}})
            case _:
                raise CommandError(f"hubspot: no fault {kind!r}")
        return self._refusal(error)

    # -- requests ----------------------------------------------------------------------------

    def _endpoint(self, answer: _Answer) -> Callable[[Request], Awaitable[Response]]:
        async def respond(request: Request) -> Response:
            body = await request.body()
            try:
                refused = self._admit(request)
                if refused is not None:
                    return refused
                found = answer(request, body)
            except HubspotError as error:
                return self._refusal(error)
            response = self._response(found, 207 if "errors" in found else 200)
            if not request.url.path.endswith("/search"):  # searches have no such headers
                left = 0 if self._rate is None else self._rate - len(self._calls)
                response.headers["X-HubSpot-RateLimit-Max"] = str(self._rate or 0)
                response.headers["X-HubSpot-RateLimit-Remaining"] = str(left)
                response.headers["X-HubSpot-RateLimit-Interval-Milliseconds"] = "10000"
                response.headers["X-HubSpot-RateLimit-Daily"] = "625000"
                response.headers["X-HubSpot-RateLimit-Daily-Remaining"] = "624000"
            return response

        return respond

    def _admit(self, request: Request) -> Response | None:
        """Token and rate, in HubSpot's order; the answer of a limit that is reached."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or token != TOKEN:
            raise HubspotError(401, "INVALID_AUTHENTICATION", _UNAUTHENTICATED)
        now = time.monotonic()
        if request.url.path.endswith("/search"):
            if not _counts(self._searches, self._search_rate, now, 1):
                return self._limited("SECONDLY", "secondly")
        elif not _counts(self._calls, self._rate, now, 10):
            return self._limited("TEN_SECONDLY_ROLLING", "ten_secondly_rolling")
        return None

    def _may(self, name: str) -> None:
        if SCOPES[name] not in self._granted:
            raise _missing_scope(SCOPES[name])

    def _response(self, body: Json, status: int = 200, correlation: str = "") -> Response:
        text = json.dumps(body, separators=(",", ":"), ensure_ascii=False)
        headers = {"X-HubSpot-Correlation-Id": correlation or self._correlation()}
        return Response(text.encode(), status, headers, "application/json")

    def _correlation(self) -> str:
        return f"019a{next(self._numbers):08x}-sandbox"

    def _refusal(self, error: HubspotError) -> Response:
        correlation = self._correlation()
        body = {**error.body, "correlationId": correlation}
        return self._response(body, error.status, correlation)

    def _limited(self, policy: str, words: str) -> Response:
        """HTTP 429; there is no Retry-After, and the policy alone tells a burst from the day."""
        correlation = self._correlation()
        body = {
            "status": "error",
            "message": f"You have reached your {words} limit.",
            "errorType": "RATE_LIMIT",
            "correlationId": correlation,
            "policyName": policy,
            "groupName": "publicapi:private-apps:api-calls",
        }
        return self._response(body, 429, correlation)

    # -- answers -----------------------------------------------------------------------------

    def _properties(self, request: Request, _body: bytes) -> Json:
        kind = queries.object_type(request.path_params["type"])
        self._may(kind.name)
        return {
            "results": [
                {"name": name, "label": name, "type": of, "fieldType": "text", "options": []}
                for name, of in kind.properties.items()
                if name not in self._hidden
            ]
        }

    def _pipelines(self, request: Request, _body: bytes) -> Json:
        queries.object_type(request.path_params["type"])
        self._may("deals")
        return {
            "results": [
                {
                    "label": label,
                    "displayOrder": order,
                    "id": identifier,
                    "stages": [
                        {
                            "label": stage_label,
                            "displayOrder": place,
                            "metadata": {
                                "isClosed": str(closed).lower(),
                                "probability": probability,
                            },
                            "id": stage,
                            "createdAt": "1970-01-01T00:00:00Z",
                            "updatedAt": "1970-01-01T00:00:00Z",
                            "archived": False,
                        }
                        for place, (stage, stage_label, closed, probability) in enumerate(stages)
                    ],
                    "createdAt": "1970-01-01T00:00:00Z",
                    "updatedAt": "1970-01-01T00:00:00Z",
                    "archived": False,
                }
                for order, (identifier, (label, stages)) in enumerate(PIPELINES.items())
            ]
        }

    def _owners(self, request: Request, _body: bytes) -> Json:
        self._may("owners")
        left = request.query_params.get("archived", "false").lower() == "true"
        return {
            "results": [
                {
                    "id": identifier,
                    "email": f"{first}.{last}@fernhill.example".lower(),
                    "type": "PERSON",
                    "firstName": first,
                    "lastName": last,
                    "userId": int(identifier) - 80000000,
                    "createdAt": "2023-06-01T09:00:00.000Z",
                    "updatedAt": "2023-06-01T09:00:00.000Z",
                    "archived": archived,
                }
                for identifier, (first, last, archived) in OWNERS.items()
                if archived == left
            ]
        }

    def _list(self, request: Request, _body: bytes) -> Json:
        kind = queries.object_type(request.path_params["type"])
        self._may(kind.name)
        return queries.listed(self._portal, kind, request.query_params, request.url.path)

    def _one(self, request: Request, _body: bytes) -> Json:
        kind = queries.object_type(request.path_params["type"])
        self._may(kind.name)
        record = self._portal.records[kind.name].get(request.path_params["id"])
        if record is None or record.archived_at is not None:
            raise HubspotError(404, "OBJECT_NOT_FOUND", "resource not found")
        wanted = [n for text in request.query_params.getlist("properties") for n in text.split(",")]
        return queries.show(self._portal, kind, record, wanted)

    def _batch_read(self, request: Request, body: bytes) -> Json:
        kind = queries.object_type(request.path_params["type"])
        self._may(kind.name)
        archived = request.query_params.get("archived", "false").lower() == "true"
        return queries.batch_read(self._portal, kind, body, archived=archived)

    def _search(self, request: Request, body: bytes) -> Json:
        kind = queries.object_type(request.path_params["type"])
        self._may(kind.name)
        return queries.search(self._portal, kind, body, self._clock.now())

    def _associations(self, request: Request, body: bytes) -> Json:
        left = queries.object_type(request.path_params["type"])
        right = queries.object_type(request.path_params["other"])
        self._may(left.name)
        self._may(right.name)
        return queries.associations(self._portal, left, right, body)

    def _splits(self, _request: Request, body: bytes) -> Json:
        self._may("deal_split")
        asked: queries.Batch = queries.read_body(body, queries.Batch)
        if not asked.inputs or len(asked.inputs) > queries.BATCH_LIMIT:
            raise queries.invalid(f"A batch has 1 to {queries.BATCH_LIMIT} inputs")
        kind = queries.object_type("deal_split")
        names = ("hs_deal_split_percentage", "hubspot_owner_id")
        wanted = {one.id for one in asked.inputs}
        found: dict[str, list[Json]] = {}
        for record in self._portal.records["deal_split"].values():
            deal = record.properties["hs_deal_id"] or ""
            if deal in wanted and record.archived_at is None:
                shown = queries.show(self._portal, kind, record, names)
                found.setdefault(deal, []).append(shown)
        results: list[Json] = [{"id": deal, "splits": splits} for deal, splits in found.items()]
        return queries.batch_answer(results, [])

    def _add(self, kind: str, fields: Mapping[str, str | None], count: int) -> str:
        """Records with these properties; `deal` and `invoice` name what they are lines of."""
        if kind not in self._portal.records:
            raise CommandError(f"hubspot: no objects {kind}")
        own = {name: value for name, value in fields.items() if name not in {"deal", "invoice"}}
        identifier = ""
        for _ in range(count):
            identifier = self._portal.insert(kind, own, self._clock.now())
            for parent in ("deal", "invoice"):
                if parent in fields:
                    self._portal.link(f"{parent}s", str(fields[parent]), kind, identifier)
        return identifier


_UNAUTHENTICATED = (
    "Authentication credentials not found. This API supports OAuth 2.0 authentication and you can "
    "find more details at https://developers.hubspot.com/docs/methods/auth/oauth-overview"
)


def _counts(calls: deque[float], rate: int | None, now: float, seconds: float) -> bool:
    """Count a request unless the rate is used up."""
    if rate is None:
        return True
    while calls and calls[0] <= now - seconds:
        calls.popleft()
    if len(calls) >= rate:
        return False
    calls.append(now)
    return True


def _missing_scope(scope: str) -> HubspotError:
    return HubspotError(
        403,
        "MISSING_SCOPES",
        "This app hasn't been granted all required scopes to make this call.",
        {"missingScopes": [scope]},
    )


def _no_such_path(request: Request, _body: bytes) -> Json:
    raise HubspotError(404, "OBJECT_NOT_FOUND", f"No such path: {request.url.path}")
