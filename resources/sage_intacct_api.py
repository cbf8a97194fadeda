"""One function call to Sage Intacct's XML gateway: envelope, session, retries, errors, the answer.

Every request is a POST to one path, and most failures come with HTTP 200: what an answer means is
read from its body. Which calls make a month or a window is in `sage_intacct`.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Self, TypeVar
from uuid import uuid4
from xml.etree.ElementTree import Element, ParseError
from xml.sax.saxutils import escape

from defusedxml import DefusedXmlException, ElementTree
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from resources.http import Sleep
from resources.rest import PASSING, Answer, Expired, Passing, Received, RestApi, Token, Verdict
from resources.traffic import Traffic
from revrec_pipeline.errors import (
    SettingsError,
    SourceAuthError,
    SourceLimitError,
    SourceSchemaError,
)

SOURCE = "sage_intacct"
ORIGIN = "https://api.intacct.com"
GATEWAY = "/ia/xml/xmlgw.phtml"
#: The version of the request's document type, which every request names.
DTD_VERSION = "3.0"
#: A session is renewed so long before it ends.
_SESSION_MARGIN = 300.0

#: What a failing answer holds. No text of a customer can hold it, for its "<" would be "&lt;".
_FAILURES = (b"<errormessage", b"<status>failure</status>", b"<status>aborted</status>")
_NO_PERMISSION = "PL04000005"
_TOO_FAST = "GW-0010"
#: Stands beside the error that it follows; alone it names none.
_ROLLED_BACK = "XL03000009"
_SIGN_IN = "XL03000006"

_log = logging.getLogger(__name__)
T = TypeVar("T")


class SageIntacctSecrets(BaseSettings):
    """The environment variables of the source."""

    model_config = SettingsConfigDict(env_prefix="SAGE_INTACCT_", extra="ignore", frozen=True)

    company_id: str = Field(min_length=1)
    #: The Web Services sender, which Sage issues and the company must have authorized.
    sender_id: str = Field(min_length=1)
    sender_password: SecretStr = Field(min_length=1)
    #: A Web Services user of the company.
    user_id: str = Field(min_length=1)
    user_password: SecretStr = Field(min_length=1)
    #: An entity to log in to; without one, the top level with the documents of all entities.
    entity_id: str | None = None
    #: Origin that every request goes to instead of Intacct's.
    api_url: str | None = None

    @field_validator("api_url")
    @classmethod
    def _origin(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(("http://", "https://")):
            raise ValueError(f"{url!r} is no origin; write it like http://127.0.0.1:8800")
        return url

    @classmethod
    def from_env(cls) -> Self:
        """Read and check them.

        Raises:
            SettingsError: names the variable that is missing or wrong.
        """
        try:
            return cls.model_validate({})
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            name = f"SAGE_INTACCT_{str(first['loc'][0]).upper()}"
            if first["type"] in ("missing", "string_too_short", "too_short"):
                raise SettingsError(f"{name} is not set") from None
            raise SettingsError(f"{name}: {first['msg'].removeprefix('Value error, ')}") from None


# -- what is asked -------------------------------------------------------------------------------


def tag(name: str, *children: str) -> str:
    """An element around elements."""
    return f"<{name}>{''.join(children)}</{name}>"


def text(name: str, value: str) -> str:
    """An element around text."""
    return tag(name, escape(value))


def compare(operator: str, field: str, *values: str) -> str:
    """One condition of a filter: `equalto`, `in`, `isnull` and so on."""
    return tag(operator, text("field", field), *(text("value", value) for value in values))


def query(
    name: str,
    fields: Iterable[str],
    where: str,
    *,
    order: tuple[str, ...] = ("RECORDNO",),
    page_size: int,
    offset: int = 0,
    document: str | None = None,
) -> str:
    """A query in ascending order.

    `showprivate` is always set: without it, documents of single entities are silently missing.
    `document` is the transaction definition of an order entry object.
    """
    orders = (tag("order", text("field", field), "<ascending/>") for field in order)
    return tag(
        "query",
        text("object", name),
        text("docparid", document) if document else "",
        tag("select", *(text("field", field) for field in fields)),
        tag("filter", where) if where else "",
        tag("orderby", *orders),
        "<options><showprivate>true</showprivate></options>",
        text("pagesize", str(page_size)),
        text("offset", str(offset)),
    )


# -- what comes back -----------------------------------------------------------------------------

Record = dict[str, str | None]


@dataclass(frozen=True, slots=True)
class Found:
    """One page of a query."""

    records: list[Record]
    total: int  # that match from the offset of 0 on
    remaining: int  # after this page


@dataclass(frozen=True, slots=True)
class Formats:
    """How the user reads and writes instants: `MM/DD/YYYY HH:MM:SS` so many hours from UTC."""

    zone: timezone

    def written(self, moment: datetime) -> str:
        """An instant as filters want it."""
        return moment.astimezone(self.zone).strftime("%m/%d/%Y %H:%M:%S")

    def stamp(self, written: str) -> str:
        """An instant as text that sorts; some stamps are a date alone, which is its midnight.

        Raises:
            ValueError: it has another form.
        """
        form = "%m/%d/%Y %H:%M:%S" if " " in written else "%m/%d/%Y"
        moment = datetime.strptime(written, form).replace(tzinfo=self.zone)
        return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read_query(name: str, page_size: int, offset: int = 0) -> Callable[[Element], Found]:
    """Reads the data of a query, and refuses a page that is not as long as it says.

    MemberJunction#2472 lost rows to such pages without a word.
    """

    def read(data: Element) -> Found:
        total, count, remaining = (
            int(data.attrib[key]) for key in ("totalcount", "count", "numremaining")
        )
        records = [{field.tag: field.text or None for field in row} for row in data.findall(name)]
        promised = min(page_size, max(total - offset, 0))
        if len(records) != count or count != promised or count + offset + remaining < total:
            raise ValueError(
                f"it holds {len(records)} records, counts {count} with {remaining} remaining of "
                f"{total}, and should hold {promised}"
            )
        return Found(records, total, remaining)

    return read


def _parsed(body: bytes) -> Element:
    """The answer's root.

    Raises:
        ValueError: the body is no XML, or one that expands entities.
    """
    try:
        root: Element = ElementTree.fromstring(body)
    except (ParseError, DefusedXmlException) as error:
        raise ValueError(f"no XML that may be read ({type(error).__name__})") from error
    return root


def _status(root: Element, place: str) -> str | None:
    found = root.find(f"{place}/status")
    return None if found is None else found.text


# -- what it means -------------------------------------------------------------------------------


def _failure(received: Received) -> tuple[str, list[tuple[str, str]]] | None:
    """Where the gateway says that something failed, and which errors it names."""
    if not any(mark in received.body for mark in _FAILURES):
        return None
    try:
        root = _parsed(received.body)
    except ValueError:
        return None  # whoever reads the body asks for it again
    if _status(root, "control") == "failure" or root.find("errormessage") is not None:
        place = "control"
    elif _status(root, "operation/authentication") == "failure":
        place = "authentication"
    else:
        place = "result"
    errors = [
        (
            error.findtext("errorno") or "no number",
            error.findtext("description2") or error.findtext("description") or "no description",
        )
        for error in root.iter("error")
    ]
    named = [error for error in errors if error[0] != _ROLLED_BACK]
    return place, named or errors or [("no number", "no description")]


def _passing(request: str, received: Received) -> Verdict:
    """Limits and outages, whichever request meets them; None for the gateway's own answer."""
    limit = SourceLimitError(
        SOURCE,
        f"{request} is refused for too many requests, also after waiting; sync again later, or "
        "lower [sources.sage_intacct] concurrency",
        retryable=True,
    )
    if received.status == 429:
        return Passing("HTTP 429", limit)
    if "xml" not in received.kind:
        # Cloudflare and load balancers answer HTML with any status (hotgluexyz/tap-intacct#37).
        return Passing(
            f"{received.summary} instead of XML",
            SourceSchemaError(
                SOURCE,
                f"{request} answered {received.summary} instead of XML; is a proxy or firewall "
                "between us and Intacct?",
            ),
        )
    if received.status in PASSING:
        return Passing(f"HTTP {received.status}")
    failure = _failure(received)
    if failure is not None:
        numbers = {number for number, _ in failure[1]}
        if _TOO_FAST in numbers:
            return Passing(f"too many requests ({_TOO_FAST})", limit)
        if numbers == {_ROLLED_BACK}:
            return Passing(f"rolled back ({_ROLLED_BACK})")
    return None


def _told(errors: list[tuple[str, str]]) -> str:
    return "; ".join(f"{number}: {' '.join(words.split())}" for number, words in errors)


def _other(request: str, received: Received) -> Verdict:
    if received.status == 200:
        return None
    return SourceSchemaError(SOURCE, f"{request} answered {received.summary}")


class IntacctApi:
    """Calls of one company, from any thread."""

    def __init__(self, secrets: SageIntacctSecrets, *, concurrency: int, sleep: Sleep) -> None:
        self._secrets = secrets
        self._session = Token(self._log_in)
        self._used = threading.local()  # the session that this thread's last request named
        self._endpoint = f"{ORIGIN}{GATEWAY}"
        self.traffic = Traffic(concurrency, sleep=sleep)
        self._login = RestApi(
            SOURCE,
            ORIGIN,
            api_url=secrets.api_url,
            authorize=_content_type,
            judge=self._judge_login,
            traffic=Traffic(1, sleep=sleep),
        )
        self._api = RestApi(
            SOURCE,
            ORIGIN,
            api_url=secrets.api_url,
            authorize=_content_type,
            judge=self._judge,
            expired=lambda: self._session.forget(self._used.session),
            traffic=self.traffic,
        )

    def close(self) -> None:
        """Close all connections."""
        self._login.close()
        self._api.close()

    def run(self, function: str, read: Callable[[Element], T]) -> tuple[Answer, T]:
        """Call one function that reads; `read` makes something of its data.

        Raises:
            SourceError: any failure that stays, after the retries that it deserves.
        """
        control = uuid4().hex

        def body() -> bytes:
            self._used.session = session = self._session.get()
            return self._envelope(control, text("sessionid", session), function)

        self._session.get()  # it tells the endpoint
        return self._api.call(
            "POST",
            self._endpoint,
            lambda received: read(_data(received, control)),
            body=body,
            name=f"POST {GATEWAY} {function}",
        )

    def formats(self) -> tuple[Answer, Formats]:
        """How the user reads instants, with the answer that says so.

        Raises:
            SettingsError: dates do not come as MM/DD/YYYY with 24 hours.
        """
        function = tag("readUserFormatting", text("userId", self._secrets.user_id))
        answer, found = self.run(function, _read_formatting)
        clock, order, offset = found
        if (clock, order) != ("24", "/mdY"):
            raise SettingsError(
                f"SAGE_INTACCT_USER_ID: the user reads dates as {order!r} with a clock of {clock} "
                "hours; set MM/DD/YYYY and 24 hours in its preferences"
            )
        return answer, Formats(timezone(offset))

    def _log_in(self) -> tuple[str, float]:
        secrets, control = self._secrets, uuid4().hex
        login = tag(
            "login",
            text("userid", secrets.user_id),
            text("companyid", secrets.company_id),
            text("password", secrets.user_password.get_secret_value()),
            text("locationid", secrets.entity_id) if secrets.entity_id else "",
        )
        _, (session, endpoint, seconds) = self._login.call(
            "POST",
            GATEWAY,
            lambda received: _read_session(received, control),
            body=self._envelope(control, login, "<getAPISession/>"),
        )
        self._endpoint = endpoint
        return session, time.monotonic() + seconds - _SESSION_MARGIN

    def _envelope(self, control: str, authentication: str, function: str) -> bytes:
        secrets = self._secrets
        content = f'<function controlid="{control}">{function}</function>'
        request = tag(
            "request",
            tag(
                "control",
                text("senderid", secrets.sender_id),
                text("password", secrets.sender_password.get_secret_value()),
                text("controlid", control),
                "<uniqueid>false</uniqueid>",
                text("dtdversion", DTD_VERSION),
                "<includewhitespace>false</includewhitespace>",
            ),
            tag("operation", tag("authentication", authentication), tag("content", content)),
        )
        return f'<?xml version="1.0" encoding="UTF-8"?>{request}'.encode()

    def _judge_login(self, request: str, received: Received) -> Verdict:
        passing = _passing(request, received)
        failure = _failure(received)
        if passing is not None or failure is None:
            return passing or _other(request, received)
        place, errors = failure
        if place == "control":
            check = (
                "SAGE_INTACCT_SENDER_ID and SAGE_INTACCT_SENDER_PASSWORD, and whether the company "
                "has authorized this sender (Company > Setup > Security, Web Services "
                "authorizations)"
            )
        else:
            check = "SAGE_INTACCT_COMPANY_ID, SAGE_INTACCT_USER_ID and SAGE_INTACCT_USER_PASSWORD"
            if self._secrets.entity_id:
                check = f"SAGE_INTACCT_ENTITY_ID ({self._secrets.entity_id}), {check}"
        return SourceAuthError(SOURCE, f"the log-in was refused ({_told(errors)}); check {check}")

    def _judge(self, request: str, received: Received) -> Verdict:
        passing = _passing(request, received)
        failure = _failure(received)
        if passing is not None or failure is None:
            return passing or _other(request, received)
        place, errors = failure
        numbers = {number for number, _ in errors}
        if place == "authentication" or _SIGN_IN in numbers:
            return Expired(f"the session is refused ({_told(errors)})")
        if _NO_PERMISSION in numbers:
            return SourceAuthError(
                SOURCE,
                f"the user {self._secrets.user_id} may not read this ({_told(errors)}); give its "
                "role the permission in Intacct",
            )
        return SourceSchemaError(SOURCE, f"the gateway refused a request ({_told(errors)})")


def _content_type(method: str, url: str) -> dict[str, str]:
    del method, url
    return {"Content-Type": "application/xml"}


def _data(received: Received, control: str) -> Element:
    """The data of the function that was called.

    Raises:
        ValueError: the body is not the answer to this call.
    """
    root = _parsed(received.body)
    result = root.find("operation/result")
    if result is None or _status(root, "operation/result") != "success":
        raise ValueError("it has no result that succeeded")
    if result.findtext("controlid") != control:
        raise ValueError("it answers another call")
    data = result.find("data")
    if data is None:
        raise ValueError("its result has no data")
    return data


def _read_session(received: Received, control: str) -> tuple[str, str, float]:
    """Session, the endpoint for it, and how many seconds it lasts."""
    data = _data(received, control)
    session, endpoint = data.findtext("api/sessionid"), data.findtext("api/endpoint")
    if not session or not endpoint:
        raise ValueError("it has no session or no endpoint")
    authentication = _parsed(received.body).find("operation/authentication")
    begins, ends = (
        datetime.fromisoformat(authentication.findtext(name) or "")
        for name in ("sessiontimestamp", "sessiontimeout")
        if authentication is not None
    )
    return session, endpoint, (ends - begins).total_seconds()


def _read_formatting(data: Element) -> tuple[str, str, timedelta]:
    found = {field.tag: (field.text or "").strip() for field in data.iterfind("userformatting/*")}
    try:
        offset = datetime.strptime(found["gmtoffset"], "%z").utcoffset()
        return found["clock"], found["dateformat"], offset or timedelta()
    except KeyError as error:
        raise ValueError(f"it has no {error}") from error
