"""The sandbox's Salesforce: log-in, REST queries, describe, limits and Bulk API 2.0 query jobs.

Records are in `salesforce_org`, SOQL in `soql`, sessions in `salesforce_auth`, jobs in
`salesforce_bulk`. Served are the paths of one API version; the vendor's REST bodies say `+0000` in
datetimes and its CSV says `Z`, so do these.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route

from revrec_pipeline.sandbox import salesforce_auth as auth
from revrec_pipeline.sandbox import salesforce_data as data
from revrec_pipeline.sandbox import salesforce_wire as wire
from revrec_pipeline.sandbox.clock import Clock
from revrec_pipeline.sandbox.salesforce_bulk import BulkJobs
from revrec_pipeline.sandbox.salesforce_org import Org, record_id
from revrec_pipeline.sandbox.salesforce_schema import API_VERSION, SObject, schema
from revrec_pipeline.sandbox.soql import SoqlError, Statement, translate
from revrec_pipeline.sandbox.source import CommandError

#: Bytes of URI and headers together; more is answered with 414 or 431.
_MAX_REQUEST = 16_384
_DAILY_CALLS = 100_000
_BASE = f"/services/data/v{API_VERSION}"
_OLDEST_VERSION, _NEWEST_VERSION = 31, 68
_Handler = Callable[[Request], Response | Awaitable[Response]]
#: Fields and objects that an org lacks, by the switch that takes them away.
_FEATURES = {
    "single_currency": ("CurrencyIsoCode",),
    "without_term": ("Term__c",),
    "without_product_type": ("Product_Type__c",),
    "without_cpq": ("SBQQ__",),
    "without_orders": ("Order", "OrderItem"),
    "without_splits": ("OpportunitySplit", "OpportunitySplitType"),
    "without_dated_rates": ("DatedConversionRate",),
}


@cache
def _first_org() -> Org:
    """The org that every reset goes back to; filling one takes 100 ms, copying it 1."""
    org = Org(Clock())
    data.fill(org)
    return org


class SalesforceSandbox:
    """One production org on its own My Domain."""

    name = "salesforce"
    at_once = (25, "concurrent")  # of those that last long, as they all may here

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        """Back to the data that the sandbox starts with; all sessions and jobs end."""
        self._org = Org(self._clock, like=_first_org())
        self._sessions = auth.Sessions(self._clock)
        self._jobs = BulkJobs(self._org, self._clock)
        self._schema: dict[str, SObject] = schema()
        self._page_size = 2000
        self._calls = 0
        self._cursors: dict[str, tuple[Statement, list[tuple[Any, ...]]]] = {}

    def env(self, origin: str) -> dict[str, str]:
        """The credentials of the org's external client app."""
        return auth.env(origin)

    # -- control -----------------------------------------------------------------------------

    def control(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """`add`, `edit`, `delete` (`hard`), `undelete`; `story`, `configure`, `expire`, `fail_job`.

        `configure` takes `page_size` and the switches of `_FEATURES`; `expire` ends `sessions` or
        `locators`; `fail_job` gives the next Bulk job a `message` to fail with; `state` tells how
        many Bulk jobs were left behind.
        """
        try:
            match command.get("op"):
                case "add":
                    return {"id": self._org.insert(command["object"], command["fields"])}
                case "edit":
                    self._org.update(command["object"], command["id"], command["fields"])
                case "delete":
                    hard = bool(command.get("hard", False))
                    self._org.delete(command["object"], command["id"], hard=hard)
                case "undelete":
                    self._org.undelete(command["object"], command["id"])
                case "story":
                    return data.story(self._org)
                case "configure":
                    self._configure(command)
                case "expire":
                    ended = {"sessions": self._sessions.expire, "locators": self._cursors.clear}
                    ended[command["what"]]()
                case "fail_job":
                    self._jobs.fail_next = str(command["message"])
                case "state":
                    return {"open_jobs": self._jobs.open}
                case operation:
                    raise CommandError(f"salesforce: no operation {operation!r}")
        except KeyError as error:
            raise CommandError(f"salesforce: the command lacks or mistakes {error}") from error
        return {"ok": True}

    def _configure(self, command: Mapping[str, Any]) -> None:
        self._page_size = int(command.get("page_size", self._page_size))
        hidden = [
            field
            for feature, fields in _FEATURES.items()
            for field in fields
            if command.get(feature)
        ]
        self._schema = schema(hidden=hidden)

    def fault_body(self, kind: str) -> Response:
        """What Salesforce says when it refuses: by status, or by the name of the trouble."""
        match kind:
            case "429" | "concurrent":
                message = "ConcurrentRequests (Concurrent API Requests) Limit exceeded."
                return wire.error(403, "REQUEST_LIMIT_EXCEEDED", message)
            case "daily":
                message = "TotalRequests Limit exceeded."
                return wire.error(403, "REQUEST_LIMIT_EXCEEDED", message)
            case "500" | "503":
                message = "The server is temporarily unavailable."
                return wire.error(503, "SERVER_UNAVAILABLE", message)
            case "session":
                return _session_expired()
            case "locator":
                return _invalid_locator()
            case "timeout":
                message = "Your query request was running for too long."
                return wire.error(400, "QUERY_TIMEOUT", message)
            case "forbidden":
                message = "The REST API is not enabled for this Organization."
                return wire.error(403, "API_DISABLED_FOR_ORG", message)
            case "406":
                return Response(status_code=406)
            case "420":
                return HTMLResponse("<html><body>Enhance your calm</body></html>", 420)
            case _:
                raise CommandError(f"salesforce: no fault {kind!r}")

    # -- routes ------------------------------------------------------------------------------

    def routes(self) -> list[BaseRoute]:
        """The paths of API version 68.0, of the log-in, and one for everything else."""
        own: list[tuple[str, list[str], _Handler]] = [
            ("", ["GET"], self._resources),
            ("/limits", ["GET"], self._limits),
            ("/sobjects", ["GET"], self._objects),
            ("/sobjects/{name}/describe", ["GET"], self._describe),
            ("/query", ["GET"], lambda request: self._query(request, deleted=False)),
            ("/queryAll", ["GET"], lambda request: self._query(request, deleted=True)),
            ("/query/{locator}", ["GET"], self._more),
            ("/queryAll/{locator}", ["GET"], self._more),
            ("/jobs/query", ["POST"], lambda request: self._jobs.create(request, self._schema)),
            ("/jobs/query/{id}", ["GET", "PATCH", "DELETE"], self._job),
            (
                "/jobs/query/{id}/results",
                ["GET"],
                lambda request: self._jobs.results(request.path_params["id"], request),
            ),
        ]
        return [
            Route("/services/oauth2/token", self._token, methods=["POST"]),
            Route("/services/data/", self._versions, methods=["GET"]),
            *(
                Route(f"{_BASE}{path}{slash}", self._guarded(handler), methods=methods)
                for path, methods, handler in own
                for slash in ("", "/")
            ),
            Route("/services/data/v{version}/jobs/query/{rest:path}", self._other_version),
            Route("/services/data/{rest:path}", _not_found, methods=None),
        ]

    def _guarded(self, handler: _Handler) -> Callable[[Request], Awaitable[Response]]:
        """Check size, session and quota before the request is handled."""

        async def handle(request: Request) -> Response:
            uri = len(request.scope["raw_path"]) + len(request.scope["query_string"])
            headers = sum(len(name) + len(value) + 4 for name, value in request.headers.raw)
            if uri > _MAX_REQUEST:
                return HTMLResponse("<h1>URI Too Long</h1>", 414)
            if uri + headers > _MAX_REQUEST:
                return HTMLResponse("<h1>Request Header Fields Too Large</h1>", 431)
            if not self._sessions.valid(request.headers.get("authorization")):
                return _session_expired()
            if self._calls >= _DAILY_CALLS:
                return self.fault_body("daily")
            self._calls += 1
            answer = handler(request)
            response = answer if isinstance(answer, Response) else await answer
            response.headers["Sforce-Limit-Info"] = f"api-usage={self._calls}/{_DAILY_CALLS}"
            return response

        return handle

    async def _token(self, request: Request) -> Response:
        return self._sessions.log_in(request.headers, await request.body())

    async def _versions(self, _request: Request) -> Response:
        """All versions; the only resource that needs no session."""
        versions = range(_OLDEST_VERSION, _NEWEST_VERSION + 1)
        return JSONResponse(
            [
                {"label": f"v{each}", "url": f"/services/data/v{each}.0", "version": f"{each}.0"}
                for each in versions
            ]
        )

    def _resources(self, _request: Request) -> Response:
        names = ("limits", "sobjects", "query", "queryAll", "jobs")
        return JSONResponse({name: f"{_BASE}/{name}" for name in names})

    def _limits(self, _request: Request) -> Response:
        return JSONResponse(
            {
                "DailyApiRequests": {"Max": _DAILY_CALLS, "Remaining": _DAILY_CALLS - self._calls},
                "DailyBulkV2QueryJobs": {"Max": 10_000, "Remaining": 10_000},
            }
        )

    def _objects(self, _request: Request) -> Response:
        objects = [kind.summary() for kind in self._schema.values()]
        return JSONResponse({"encoding": "UTF-8", "maxBatchSize": 200, "sobjects": objects})

    def _describe(self, request: Request) -> Response:
        kind = self._schema.get(request.path_params["name"])
        return JSONResponse(kind.describe()) if kind else _missing()

    def _query(self, request: Request, *, deleted: bool) -> Response:
        soql = request.query_params.get("q")
        if soql is None or len(request.query_params) > 1:
            return wire.error(400, "MALFORMED_QUERY", "A query string has to be specified")
        try:
            statement = translate(soql, self._schema, deleted=deleted)
        except SoqlError as error:
            return wire.error(400, error.code, str(error))
        rows = self._org.select(statement.sql, statement.values)
        if statement.count:
            return JSONResponse({"totalSize": len(rows), "done": True, "records": []})
        cursor = record_id("01g", len(self._cursors) + 1)
        self._cursors[cursor] = (statement, rows)
        return self._page(request, cursor, 0)

    def _more(self, request: Request) -> Response:
        cursor, _, offset = request.path_params["locator"].partition("-")
        if cursor not in self._cursors or not offset.isdecimal():
            return _invalid_locator()
        return self._page(request, cursor, int(offset))

    def _page(self, request: Request, cursor: str, start: int) -> Response:
        """One page; the batch size that was asked for is a hint, pages may be shorter."""
        statement, rows = self._cursors[cursor]
        hint = re.search(r"batchSize=(\d+)", request.headers.get("sforce-query-options", ""))
        wanted = min(max(int(hint[1]), 200), 2000) if hint else 2000
        end = min(start + min(wanted, self._page_size), len(rows))
        page: dict[str, Any] = {"totalSize": len(rows), "done": end == len(rows)}
        if end < len(rows):
            page["nextRecordsUrl"] = f"{_BASE}/query/{cursor}-{end}"
        page["records"] = [wire.record(statement, row) for row in rows[start:end]]
        return JSONResponse(page)

    async def _job(self, request: Request) -> Response:
        job_id = request.path_params["id"]
        match request.method:
            case "PATCH":
                return await self._jobs.change(job_id, request)
            case "DELETE":
                return self._jobs.delete(job_id)
            case _:
                return self._jobs.status(job_id)

    async def _other_version(self, request: Request) -> Response:
        """A job belongs to the API version that created it."""
        message = f"The job was not created with version {request.path_params['version']}"
        return wire.error(409, "INVALID_API_VERSION", message)


def _session_expired() -> Response:
    return wire.error(401, "INVALID_SESSION_ID", "Session expired or invalid")


def _invalid_locator() -> Response:
    return wire.error(400, "INVALID_QUERY_LOCATOR", "invalid query locator")


def _missing() -> Response:
    return wire.error(404, "NOT_FOUND", "The requested resource does not exist")


async def _not_found(_request: Request) -> Response:
    return _missing()
