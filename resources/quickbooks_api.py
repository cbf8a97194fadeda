"""One request to QuickBooks Online: version, pace, what a fault means, and pages of queries.

Faults come in several forms: keys in either case, codes with or without zeros before them, XML
although JSON was asked for, and pages of a gateway. Which queries make a month or a window is in
`quickbooks`, log-in is in `quickbooks_login`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from resources.http import Sleep, retry_after
from resources.quickbooks_login import SOURCE, Login, QuickbooksSecrets
from resources.rest import PASSING, Answer, Expired, Passing, Received, RestApi, Verdict
from resources.traffic import Traffic, Window
from revrec_pipeline.errors import SourceAuthError, SourceLimitError, SourceSchemaError
from revrec_pipeline.ledger import Ledger

API_VERSION = "75"
ORIGIN = "https://quickbooks.api.intuit.com"
#: Requests in flight. Newer pages of Intuit's say 40, older ones 10 for a company and an app.
CONCURRENCY = 10
#: Requests that a company may be sent in a minute, by all apps.
PER_MINUTE = 500
#: A throttled app is let in again after a minute; there is not always a Retry-After.
THROTTLE_PAUSE = 60.0
_THROTTLED = "3001"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Fault:
    """The first error of a fault; empty texts where the body has none."""

    code: str
    message: str
    detail: str

    @property
    def words(self) -> str:
        """For people: message, detail and code."""
        text = ": ".join(part for part in (self.message, self.detail) if part)
        return f"{text or 'no reason given'} ({self.code or 'no code'})"


class QuickbooksApi:
    """GET requests of one company, from any thread."""

    def __init__(
        self,
        secrets: QuickbooksSecrets,
        open_ledger: Callable[[], Ledger],
        *,
        requests_per_second: float,
        sleep: Sleep,
    ) -> None:
        self._realm = secrets.realm_id
        self._login = Login(secrets, open_ledger, sleep=sleep)
        self.traffic = Traffic(
            CONCURRENCY,
            Window.per_second(requests_per_second, sleep),
            Window(PER_MINUTE, 60, sleep),
            sleep=sleep,
        )
        self._rest = RestApi(
            SOURCE,
            ORIGIN,
            api_url=secrets.api_url,
            authorize=self._authorize,
            judge=self._judge,
            expired=self._login.refused,
            traffic=self.traffic,
            request_id_header="intuit_tid",
        )

    def close(self) -> None:
        """Close all connections."""
        self._rest.close()
        self._login.close()

    def get(self, path: str, shape: type[T], **params: str) -> tuple[Answer, T]:
        """GET a path of the company: the bytes, and of them what `shape` names.

        Raises:
            SourceError: any failure that stays, after the retries that it deserves.
        """
        return self._rest.get(
            f"/v3/company/{self._realm}/{path}", shape, **params, minorversion=API_VERSION
        )

    def _authorize(self, _method: str, _url: str) -> Mapping[str, str]:
        token = self._login.access_token()
        return {"Authorization": f"Bearer {token}", "Accept": "application/json"}

    def _judge(self, request: str, received: Received) -> Verdict:
        """What an answer means; 401 is the token, 403 the company, or else a limit."""
        if 200 <= received.status < 300:
            return None
        fault = read_fault(received)
        tid = received.headers.get("intuit_tid", "unknown")
        reason = f"HTTP {received.status} ({fault.words if fault else received.kind}; {tid})"
        if received.status == 429 or (fault and fault.code == _THROTTLED):
            return Passing(
                reason,
                SourceLimitError(
                    SOURCE,
                    f"{request} is limited for too long; lower requests_per_second or wait ({tid})",
                    retryable=True,
                ),
                wait=retry_after(received.headers) or THROTTLE_PAUSE,
            )
        if received.status in PASSING or received.status >= 500:
            return Passing(reason)
        if received.status == 401:
            return Expired(reason)
        if received.status == 403 and fault:
            return SourceAuthError(
                SOURCE,
                f"the app may not read company {self._realm} ({fault.words}; {tid}); check "
                "QUICKBOOKS_REALM_ID, and that the app is connected to that company",
            )
        if fault:
            return SourceSchemaError(SOURCE, f"{request} was refused: {fault.words}; {tid}")
        return SourceSchemaError(SOURCE, f"{request} answered {received.summary} ({tid})")


_XML = {
    "code": re.compile(rb'<Error\b[^>]*\bcode="([^"]*)"'),
    "message": re.compile(rb"<Message>([^<]*)</Message>"),
    "detail": re.compile(rb"<Detail>([^<]*)</Detail>"),
}
_CODE_IN_TEXT = re.compile(r"errorCode=(\d+)")


def read_fault(received: Received) -> Fault | None:
    """The fault in a body of any of the forms; None when it is none of Intuit's."""
    texts = _xml_fault(received.body) if b"<Fault" in received.body else _json_fault(received.body)
    if texts is None:
        return None
    in_text = _CODE_IN_TEXT.search(texts["message"])
    code = texts["code"] or (in_text[1] if in_text else "")
    return Fault(code.lstrip("0") or code, _line(texts["message"]), _line(texts["detail"]))


def _xml_fault(body: bytes) -> dict[str, str] | None:
    """By pattern: a parser would also do what a hostile document asks for."""
    found = {name: pattern.search(body) for name, pattern in _XML.items()}
    return {
        name: match[1].decode(errors="replace") if match else "" for name, match in found.items()
    }


def _json_fault(body: bytes) -> dict[str, str] | None:
    try:
        fault = _small(msgspec.json.decode(body)).get("fault")
    except msgspec.MsgspecError:
        return None
    errors = _small(fault).get("error")
    if not isinstance(errors, list) or not errors:
        return None
    first = _small(errors[0])
    return {name: str(first.get(name) or "") for name in ("code", "message", "detail")}


def _small(found: Any) -> dict[str, Any]:
    """An object with its keys in small letters; empty for anything else."""
    if not isinstance(found, dict):
        return {}
    return {str(name).lower(): value for name, value in found.items()}


def _line(text: str) -> str:
    return " ".join(text.split())
