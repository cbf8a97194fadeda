"""NetSuite's API: the door, SuiteQL queries and their paging, errors.

The tables and what is posted to them are in `netsuite_books`, SuiteQL in `netsuite_sql`, who may
come in in `netsuite_auth`, which documents there are in `netsuite_data`.
"""

import asyncio
from collections.abc import Mapping
from decimal import Decimal
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl
from zoneinfo import ZoneInfo

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from revrec_pipeline.sandbox import company, netsuite_auth, netsuite_data
from revrec_pipeline.sandbox.clock import Clock
from revrec_pipeline.sandbox.netsuite_books import Books, Sold
from revrec_pipeline.sandbox.netsuite_sql import SuiteQLError
from revrec_pipeline.sandbox.source import CommandError

SUITEQL_PATH = "/services/rest/query/v1/suiteql"
MAX_LIMIT = 1000
_MAX_PAGES = 1000
#: Requests at a time that an account of the first tier has, for all of its integrations.
_CONCURRENCY = 15
_RFC = "https://www.w3.org/Protocols/rfc2616/rfc2616-sec10.html#sec10.4"
_BAD_LOGIN = (
    "Invalid login attempt. For more details, see the Login Audit Trail in the NetSuite UI at "
    "Setup > Users/Roles > User Management > View Login Audit Trail."
)
#: What accounts without a feature lack.
FEATURES: Mapping[str, tuple[str, ...]] = {
    "currencies": ("transaction.currency", "transactionline.foreignamount", "currency",
                   "transaction.exchangerate", "transaction.foreigntotal"),
    "revenue_recognition": ("transactionline.revrecstartdate", "transactionline.revrecenddate"),
    "subsidiaries": ("transactionline.subsidiary", "subsidiary"),
    "kits": ("transactionline.kitcomponent",),
    "links": ("previoustransactionlinelink", "nexttransactionlinelink"),
    "deleted_records": ("deletedrecord",),
}  # fmt: skip


class NetsuiteSandbox:
    """One production account with three subsidiaries."""

    name = "netsuite"
    at_once = None  # see `configure`: it goes by licence, and only queries count

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._changed = True
        self.reset()

    def reset(self) -> None:
        """Back to the first books; all tokens end and all nonces are forgotten."""
        if self._changed:
            self._books = Books(self._clock)
            netsuite_data.build(self._books)
            self._changed = False
        self._configure({})
        self._door = netsuite_auth.Door(self._clock)
        self._running = 0

    def env(self, origin: str) -> dict[str, str]:
        """A certificate's credentials, and an access token's beside them."""
        return netsuite_auth.env(origin)

    def routes(self) -> list[BaseRoute]:
        """The query service, the token endpoint, and NetSuite's answer to any other path."""
        return [
            Route(SUITEQL_PATH, self._suiteql, methods=["POST"]),
            Route(netsuite_auth.TOKEN_PATH, self._token, methods=["POST"]),
            Route("/services/rest/{rest:path}", _not_found, methods=None),
        ]

    # -- control -----------------------------------------------------------------------------

    def control(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """`story`, `add`, `void`, `edit`, `delete`, also of one line (`edit_line`, `delete_line`).

        Documents are named by `number` or `id`, lines by `position` (from 0) in their document.
        `reverse` voids by a journal of a `day`, `bulk` adds `count` invoices on a `day`,
        `edit_master` changes a customer or an item, `erase_stamps` takes a document's modified
        dates, and `deletion` records that some record was deleted. `configure` sets the `zone` of
        the user's clocks, the features that the account goes `without`, how many requests it may
        have at a time (`concurrency`) and how long each takes (`latency`); `expire` ends all
        tokens.
        """
        books = self._books
        self._changed |= command.get("op") not in ("configure", "expire")
        try:
            match command.get("op"):
                case "story":
                    return netsuite_data.story(books)
                case "add":
                    return self._add(command)
                case "edit":
                    books.edit(self._document(command), command["fields"])
                case "edit_line":
                    books.edit_line(self._line(command), command["fields"])
                case "edit_master":
                    books.edit_master(command["table"], command["id"], command["fields"])
                case "delete":
                    books.delete(self._document(command))
                case "delete_line":
                    books.delete_line(self._line(command))
                case "void":
                    books.void(self._document(command))
                case "erase_stamps":
                    books.erase_stamps(self._document(command))
                case "reverse":
                    return {"id": str(books.reverse(self._document(command), command["day"]))}
                case "bulk":
                    books.bulk(command["count"], command["day"])
                case "deletion":
                    books.record_deletion(command["id"], command["script"], command["type"], None)
                case "configure":
                    self._configure(command)
                case "expire":
                    self._door.expire()
                case operation:
                    raise CommandError(f"netsuite: no operation {operation!r}")
        except (KeyError, IndexError, StopIteration) as error:
            raise CommandError(f"netsuite: the command lacks or mistakes {error}") from error
        return {"ok": True}

    def _document(self, command: Mapping[str, Any]) -> int:
        return int(command["id"]) if "id" in command else self._books.find(command["number"])

    def _line(self, command: Mapping[str, Any]) -> int:
        return self._books.lines(self._document(command))[int(command["position"])]

    def _add(self, command: Mapping[str, Any]) -> dict[str, Any]:
        lines = [
            Sold(item, _decimal(quantity), _decimal(amount))
            for item, quantity, amount in command["lines"]
        ]
        added = self._books.add(
            command.get("type", "CustInvc"),
            command["number"],
            company.customer(command["customer"]),
            command["day"],
            lines,
            at=self._clock.now(),
            **command.get("fields", {}),
        )
        if command.get("unstamped"):
            self._books.erase_stamps(added)
        return {"id": str(added)}

    def _configure(self, command: Mapping[str, Any]) -> None:
        tables = self._books.tables
        tables.zone = ZoneInfo(command.get("zone", "UTC"))
        tables.hidden = {column for name in command.get("without", ()) for column in FEATURES[name]}
        tables.hidden |= set(command.get("columns", ()))
        self._concurrency = command.get("concurrency", _CONCURRENCY)
        self._latency = command.get("latency", 0.0)

    def fault_body(self, kind: str) -> Response:
        """NetSuite's own failures."""
        match kind:
            case "429":
                message = "Concurrent request limit exceeded. Request blocked."
                return _problem(429, "CONCURRENCY_LIMIT_EXCEEDED", message)
            case "limit":  # as RESTlets say it
                code = "SSS_REQUEST_LIMIT_EXCEEDED"
                return JSONResponse({"error": {"code": code, "message": "Blocked."}}, 400)
            case "401":
                return _problem(401, "INVALID_LOGIN", _BAD_LOGIN)
            case "403":
                message = "Permission Violation: You need a higher permission."
                return _problem(403, "INSUFFICIENT_PERMISSION", message)
            case "500":
                message = "An unexpected error occurred. Error ID: kmv0sandbox"
                return _problem(500, "UNEXPECTED_ERROR", message)
            case "503":
                return _problem(503, "SERVICE_UNAVAILABLE", "The account is unavailable.")
            case _:
                raise CommandError(f"netsuite: no fault {kind!r}")

    # -- requests ----------------------------------------------------------------------------

    async def _token(self, request: Request) -> Response:
        form = (await request.body()).decode("ascii", "replace")
        return self._door.log_in(dict(parse_qsl(form)))

    async def _suiteql(self, request: Request) -> Response:
        body = await request.body()
        if self._running >= self._concurrency:
            return self.fault_body("429")
        self._running += 1
        try:
            if self._latency:
                await asyncio.sleep(self._latency)
            return self._answer(request, body)
        finally:
            self._running -= 1

    def _answer(self, request: Request, body: bytes) -> Response:
        path, query = request.url.path, request.url.query
        authorization = request.headers.get("authorization", "")
        if not self._door.admits(request.method, path, query, authorization):
            return self.fault_body("401")
        if request.headers.get("prefer") != "transient":
            message = "The required request header 'Prefer' is missing or has an invalid value."
            return _problem(400, "INVALID_HEADER", message)
        try:
            limit, offset = _paging(dict(parse_qsl(query, keep_blank_values=True)))
            suiteql = msgspec.json.decode(body, type=dict[str, str])["q"]
            total, rows = self._books.tables.query(suiteql, limit, offset)
        except (msgspec.MsgspecError, KeyError):
            return _problem(400, "INVALID_CONTENT", "The request body has no query 'q'.")
        except SuiteQLError as error:
            detail = f"Invalid search query. Detailed unprocessed description follows. {error}"
            return _problem(400, "INVALID_PARAMETER", detail)
        except ValueError as error:
            return _problem(400, "INVALID_PARAMETER", str(error))
        return JSONResponse(_page(rows, total, limit, offset))


def _paging(parameters: dict[str, str]) -> tuple[int, int]:
    """Limit and offset of a request.

    Raises:
        ValueError: NetSuite would refuse them.
    """
    limit, offset = parameters.pop("limit", str(MAX_LIMIT)), parameters.pop("offset", "0")
    if parameters:
        raise ValueError(f"Invalid query parameter '{min(parameters)}'.")
    if not (limit.isdecimal() and offset.isdecimal() and 1 <= int(limit) <= MAX_LIMIT):
        raise ValueError(f"Invalid value of 'limit' or 'offset'. The limit is {MAX_LIMIT}.")
    if int(offset) % int(limit):
        raise ValueError("The value of 'offset' must be divisible by the value of 'limit'.")
    if int(offset) // int(limit) >= _MAX_PAGES:
        raise ValueError(f"The result has no more than {_MAX_PAGES} pages.")
    return int(limit), int(offset)


def _page(rows: list[dict[str, str]], total: int, limit: int, offset: int) -> dict[str, Any]:
    base = f"{netsuite_auth.HOST}{SUITEQL_PATH}?limit={limit}"
    more = offset + len(rows) < total and bool(rows)
    links = [{"rel": "self", "href": f"{base}&offset={offset}"}]
    if more:
        last = (total - 1) // limit * limit
        links = [
            {"rel": "next", "href": f"{base}&offset={offset + limit}"},
            {"rel": "last", "href": f"{base}&offset={last}"},
            *links,
        ]
    return {
        "links": links,
        "count": len(rows),
        "hasMore": more,
        "items": [{"links": [], **row} for row in rows],
        "offset": offset,
        "totalResults": total,
    }


def _problem(status: int, code: str, detail: str) -> Response:
    body = {
        "type": f"{_RFC}.{status - 399 if 400 < status < 418 else 1}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "o:errorDetails": [{"detail": detail, "o:errorCode": code}],
    }
    media_type = "application/vnd.oracle.resource+json; type=error"
    return JSONResponse(body, status, media_type=media_type)


def _decimal(value: object) -> Decimal | None:
    return None if value is None else Decimal(str(value))


async def _not_found(_request: Request) -> Response:
    return _problem(404, "NONEXISTENT_ID", "The record instance does not exist.")
