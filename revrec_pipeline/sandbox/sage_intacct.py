"""Sage Intacct's XML gateway: envelope, sender, log-in, sessions, functions, errors.

How a query is answered is in `sage_intacct_query`, which records there are in `sage_intacct_data`,
what happens to them in `sage_intacct_books`. Failures come as they do from Intacct: with HTTP 200,
and in `control`, in `authentication` or in a function's result.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from xml.etree.ElementTree import Element, ParseError
from xml.sax.saxutils import escape, quoteattr

from defusedxml import DefusedXmlException, ElementTree
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from revrec_pipeline.sandbox import company, sage_intacct_data
from revrec_pipeline.sandbox.clock import Clock
from revrec_pipeline.sandbox.sage_intacct_books import ENTITIES, Line, Value
from revrec_pipeline.sandbox.sage_intacct_query import IntacctError, Page, Query, User
from revrec_pipeline.sandbox.sage_intacct_schema import RELATED, SCHEMA
from revrec_pipeline.sandbox.source import CommandError

PATH = "/ia/xml/xmlgw.phtml"
COMPANY, SENDER, USER = "fernhill", "RevRecSender", "xml_gateway"
SENDER_PASSWORD, USER_PASSWORD = "sender-Pa55!<&>", "user-Pa55!<&>"
SESSION = timedelta(hours=12)
_SIGN_IN = "XL03000006"


@dataclass(frozen=True, slots=True)
class _Session:
    """Somebody who is logged in."""

    id: str
    entity: str | None
    begins: datetime
    ends: datetime


class _ControlError(IntacctError):
    """The request as such is refused."""


class _SignInError(IntacctError):
    """Whoever asks is refused."""


class SageIntacctSandbox:
    """One company with two entities."""

    name = "sage_intacct"
    at_once = (2, "GW-0010")  # of performance tier 1

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._numbers = itertools.count(1)
        self._books = sage_intacct_data.build()
        self.reset()

    # -- what the sandbox asks of a source ---------------------------------------------------

    def routes(self) -> list[BaseRoute]:
        """The gateway; every other path below /ia is a page for people."""
        return [
            Route(PATH, self._gateway, methods=["POST"]),
            Route("/ia/{path:path}", _not_found, methods=["GET", "POST"]),
        ]

    def env(self, origin: str) -> dict[str, str]:
        """The credentials of the gateway's user."""
        return {
            "SAGE_INTACCT_COMPANY_ID": COMPANY,
            "SAGE_INTACCT_SENDER_ID": SENDER,
            "SAGE_INTACCT_SENDER_PASSWORD": SENDER_PASSWORD,
            "SAGE_INTACCT_USER_ID": USER,
            "SAGE_INTACCT_USER_PASSWORD": USER_PASSWORD,
            "SAGE_INTACCT_API_URL": origin,
        }

    def reset(self) -> None:
        """Back to the first data, nobody logged in, and all permissions granted."""
        if self._books.changes:
            self._books = sage_intacct_data.build()
        self._sessions: dict[str, _Session] = {}
        self._user = User()
        self._denied: set[str] = set()
        self._hidden: set[tuple[str, str]] = set()

    def control(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """`story`, changes of documents, and of what the user may do."""
        now = self._clock.now()
        books = self._books
        match command:
            case {"op": "story"}:
                return sage_intacct_data.story(books, now)
            case {"op": "add", "object": "ARINVOICE" | "ARADJUSTMENT" as name, "fields": fields}:
                return {"id": self._add(name, fields, now)}
            case {"op": "edit", "object": name, "id": record, "fields": fields}:
                values = {field: _typed(name, field, value) for field, value in fields.items()}
                books.edit(name, int(record), values, now)
            case {"op": "delete", "object": name, "id": record}:
                books.delete(name, int(record), now)
            case {"op": "edit_order", "id": record, "factor": factor}:
                return {"id": books.rewrite(int(record), Decimal(str(factor)), now)}
            case {"op": "reverse", "id": record, "on": day}:
                return {"id": books.reverse(int(record), date.fromisoformat(day), now)}
            case {"op": "find", "object": name, "number": number}:
                record = books.numbered(name, number)
                lines = [int(str(row["RECORDNO"])) for row in books.lines(name, record)]
                return {"id": record, "lines": lines}
            case {"op": "user", "fields": fields}:
                offset = timedelta(hours=fields.get("offset", -8))
                shown = fields.get("date_format", "/mdY")
                self._user = replace(
                    self._user, date_format=shown, offset=offset, clock=fields.get("clock", "24")
                )
            case {"op": "deny", "object": name}:
                self._denied.add(name)
            case {"op": "hide", "object": name, "field": field}:
                self._hidden.add((name, field))
            case {"op": "expire_sessions"}:
                self._sessions.clear()
            case _:
                raise CommandError(f"sage_intacct: no operation {command.get('op')!r} like this")
        return {"ok": True}

    def fault_body(self, kind: str) -> Response:
        """The gateway's own failures, and those of what stands before it."""
        match kind:
            case "429":
                return HTMLResponse("<html><body><h1>429 Too Many Requests</h1></body></html>", 429)
            case "500" | "502" | "503":
                return HTMLResponse("<html><body><h1>Bad Gateway</h1></body></html>", int(kind))
            case "cloudflare":
                return HTMLResponse("<html><title>Just a moment...</title></html>", 403)
            case "GW-0010":
                return self._refused(_ControlError("GW-0010", "Too many requests, try again later"))
            case "XL03000009":
                words = (
                    "The entire transaction in this operation has been rolled back due to an error."
                )
                result = _result("query", "1", "aborted", _errors("XL03000009", words))
                return self._response(f"<operation>{result}</operation>")
            case "session":
                return self._refused(_SignInError(_SIGN_IN, "Invalid session"))
            case "empty":
                return self._response("<operation/>")
            case "entities":
                bomb = '<!DOCTYPE r [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><response>&b;</response>'
                return Response(bomb, media_type="text/xml")
            case _:
                raise CommandError(f"sage_intacct: no fault {kind!r}")

    # -- requests ----------------------------------------------------------------------------

    async def _gateway(self, request: Request) -> Response:
        try:
            root = _read(request.headers.get("content-type", ""), await request.body())
            _admit(root)
            return self._operate(root, str(request.base_url))
        except (_ControlError, _SignInError) as error:
            return self._refused(error)

    def _operate(self, root: Element, origin: str) -> Response:
        control = root.findtext("control/controlid") or ""
        operation = root.find("operation")
        functions = [] if operation is None else operation.findall("content/function")
        if operation is None or not functions:
            raise _ControlError("XL03000003", "The request has no operation with a function")
        session = self._sign_in(operation)
        results = []
        for function in functions:
            number = function.get("controlid") or ""
            name = function[0].tag if len(function) else ""
            try:
                data = self._call(function, session, origin)
                results.append(_result(name, number, "success", data))
            except IntacctError as error:
                failure = _errors(error.number, str(error))
                results.append(_result(name, number, "failure", failure))
        who = (
            f"<authentication><status>success</status><userid>{USER}</userid>"
            f"<companyid>{COMPANY}</companyid><locationid>{session.entity or ''}</locationid>"
            f"<sessiontimestamp>{_iso(session.begins)}</sessiontimestamp>"
            f"<sessiontimeout>{_iso(session.ends)}</sessiontimeout></authentication>"
        )
        return self._response(f"<operation>{who}{''.join(results)}</operation>", control)

    def _sign_in(self, operation: Element) -> _Session:
        now = self._clock.now()
        known = operation.findtext("authentication/sessionid")
        if known is not None:
            session = self._sessions.get(known)
            if session is None or session.ends <= now:
                raise _SignInError(_SIGN_IN, "Invalid session")
            return session
        login = operation.find("authentication/login")
        if login is None:
            raise _ControlError("XL03000003", "The operation has no authentication")
        given = {each.tag: each.text or "" for each in login}
        if unknown := given.keys() - {"userid", "companyid", "password", "locationid"}:
            raise _ControlError("XL03000003", f"Unexpected element {min(unknown)} in login")
        expected = {"userid": USER, "companyid": COMPANY, "password": USER_PASSWORD}
        if any(given.get(name) != value for name, value in expected.items()):
            raise _SignInError(_SIGN_IN, "Sign-in information is incorrect")
        entity = given.get("locationid") or None
        if entity is not None and entity not in ENTITIES.values():
            raise _SignInError(_SIGN_IN, f"Entity {entity} is not valid for this company")
        session = _Session(f"session{next(self._numbers):06d}..", entity, now, now + SESSION)
        self._sessions[session.id] = session
        return session

    # -- functions ---------------------------------------------------------------------------

    def _call(self, function: Element, session: _Session, origin: str) -> str:
        """The data of one function.

        Raises:
            IntacctError: it fails.
        """
        if len(function) != 1 or not function.get("controlid"):
            raise IntacctError("XL03000003", "A function needs a controlid and one element")
        asked = function[0]
        match asked.tag:
            case "getAPISession":
                return (
                    f"<data><api><sessionid>{session.id}</sessionid>"
                    f"<endpoint>{origin.rstrip('/')}{PATH}</endpoint>"
                    f"<locationid>{session.entity or ''}</locationid></api></data>"
                )
            case "readUserFormatting":
                return self._formatting(asked)
            case "lookup":
                return self._lookup(asked.findtext("object") or "")
            case "query":
                name = asked.findtext("object") or ""
                if name in self._denied:
                    raise IntacctError(
                        "PL04000005",
                        f"You do not have permission for API operation READ_BY_QUERY on {name}",
                    )
                for field in asked.iterfind("select/field"):
                    if (name, field.text) in self._hidden:
                        raise IntacctError(
                            "DL02000001", f"Field {field.text} not found in object {name}."
                        )
                return _page(Query(self._books, self._user, session.entity, asked).page())
            case _:
                raise IntacctError("XL03000007", f"Function {asked.tag} is not here")

    def _formatting(self, asked: Element) -> str:
        if asked.findtext("userId") != USER:
            raise IntacctError("DL02000001", "There is no such user")
        minutes = int(self._user.offset.total_seconds() // 60)
        hours, rest = divmod(abs(minutes), 60)
        return (
            '<data listtype="userformatting" count="1"><userformatting><recordno>48</recordno>'
            f"<locale>en_US</locale><dateformat>{self._user.date_format}</dateformat>"
            f"<gmtoffset>{'-' if minutes < 0 else '+'}{hours:02d}:{rest:02d}</gmtoffset>"
            f"<clock>{self._user.clock}</clock></userformatting></data>"
        )

    def _lookup(self, name: str) -> str:
        if name not in SCHEMA:
            raise IntacctError("DL02000001", f"Object definition {name} not found.")
        fields = "".join(
            f"<Field><ID>{field}</ID><LABEL>{field.title()}</LABEL><REQUIRED>false</REQUIRED>"
            f"<READONLY>false</READONLY><DATATYPE>{kind}</DATATYPE></Field>"
            for field, kind in SCHEMA[name].items()
            if (name, field) not in self._hidden
        )
        related = "".join(
            f"<Relationship><OBJECTPATH>{other}</OBJECTPATH><OBJECTNAME>{other}</OBJECTNAME>"
            f"<RELATIONSHIPTYPE>MANY2ONE</RELATIONSHIPTYPE><RELATEDBY>{own}</RELATEDBY>"
            "</Relationship>"
            for other, (own, _) in RELATED.get(name, {}).items()
        )
        return (
            f'<data listtype="All" count="1"><Type Name="{name}" DocumentType=""><Fields>{fields}'
            f"</Fields><Relationships>{related}</Relationships></Type></data>"
        )

    # -- answers -----------------------------------------------------------------------------

    def _response(self, inner: str, control: str = "", status: str = "success") -> Response:
        body = (
            '<?xml version="1.0" encoding="UTF-8"?>\n<response><control>'
            f"<status>{status}</status><senderid>{SENDER}</senderid>"
            f"<controlid>{escape(control)}</controlid><uniqueid>false</uniqueid>"
            f"<dtdversion>3.0</dtdversion></control>{inner}</response>"
        )
        return Response(body, media_type="text/xml")

    def _refused(self, error: IntacctError) -> Response:
        errors = _errors(error.number, str(error))
        if isinstance(error, _ControlError):
            return self._response(errors, status="failure")
        return self._response(
            "<operation><authentication><status>failure</status><userid></userid><companyid>"
            f"</companyid><locationid></locationid></authentication>{errors}</operation>"
        )

    def _add(self, name: str, fields: Mapping[str, Any], now: datetime) -> int:
        """A document over equal lines; `amount` is a line's, in the customer's currency."""
        day = date.fromisoformat(fields["date"])
        line = Line(fields.get("item", "TRAINING"), Decimal(str(fields["amount"])), day, day)
        self._books.changes += 1
        return self._books.receivable(
            name,
            fields["number"],
            company.customer(fields["customer"]),
            day,
            [line] * int(fields.get("lines", 1)),
            now,
            edited=now if fields.get("edited", True) else None,
        )


def _read(kind: str, body: bytes) -> Element:
    if "xml" not in kind:
        raise _ControlError("XL03000003", f"Content type {kind} is not XML")
    try:
        root: Element = ElementTree.fromstring(body)
    except (ParseError, DefusedXmlException) as error:
        raise _ControlError("XL03000003", "The request is not well-formed") from error
    return root


def _admit(root: Element) -> None:
    """The control block: sender, its password, and the version that the request is written in."""
    given = {each.tag: each.text or "" for each in root.iterfind("control/*")}
    for name in ("senderid", "password", "controlid", "dtdversion"):
        if not given.get(name):
            raise _ControlError("XL03000003", f"The control element has no {name}")
    if given["dtdversion"] != "3.0":
        raise _ControlError("XL03000003", f"dtdversion {given['dtdversion']} is not supported")
    if (given["senderid"], given["password"]) != (SENDER, SENDER_PASSWORD):
        raise _ControlError(_SIGN_IN, "Incorrect Intacct XML Partner ID or password.")


def _result(function: str, control: str, status: str, inner: str) -> str:
    return (
        f"<result><status>{status}</status><function>{function}</function>"
        f"<controlid>{escape(control)}</controlid>{inner}</result>"
    )


def _errors(number: str, words: str) -> str:
    return (
        f"<errormessage><error><errorno>{number}</errorno><description></description>"
        f"<description2>{escape(words)}</description2><correction></correction></error>"
        "</errormessage>"
    )


def _page(page: Page) -> str:
    rows = "".join(
        f"<{page.name}>"
        + "".join(
            f"<{field}>{escape(value)}</{field}>" if value else f"<{field}/>"
            for field, value in zip(page.fields, row, strict=True)
        )
        + f"</{page.name}>"
        for row in page.rows
    )
    counts = (
        f'listtype={quoteattr(page.name)} totalcount="{page.total}" offset="{page.offset}" '
        f'count="{len(page.rows)}" numremaining="{page.remaining}"'
    )
    return f"<data {counts}>{rows}</data>" if rows else f"<data {counts}/>"


def _typed(name: str, field: str, value: Any) -> Value:
    """A value of a command, as the field's data type."""
    kind = SCHEMA.get(name, {}).get(field)
    if value is None or kind is None:
        return None
    match kind:
        case "DATE":
            return date.fromisoformat(value)
        case "INTEGER":
            return int(value)
        case "DECIMAL" | "CURRENCY":
            return Decimal(str(value))
        case _:
            return str(value)


def _iso(moment: datetime) -> str:
    return moment.replace(microsecond=0).isoformat()


async def _not_found(request: Request) -> Response:
    return HTMLResponse(f"<html><body>{escape(request.url.path)} not found</body></html>", 404)
