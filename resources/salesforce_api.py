"""One request to Salesforce: session, retries, errors and the bytes of the answer.

Calls go through simple-salesforce's session, not through its `_call_salesforce`: when that logs in
again it drops the call's own headers (1.12.10: batch size, `Accept: text/csv`), and it decodes any
401 as JSON. Log-in is in `salesforce_login`, jobs are in `salesforce_bulk`; which queries make a
month or a window is in `salesforce`.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NoReturn, TypeVar
from urllib.parse import unquote_plus, urlencode, urlsplit

import msgspec
import requests
from simple_salesforce.api import Salesforce

from resources.http import Sleep, retry_after, server_time
from resources.salesforce_login import (
    SOURCE,
    SalesforceSecrets,
    broken,
    log_in,
    log_in_again,
    new_session,
)
from resources.traffic import Retry, Traffic
from revrec_pipeline.errors import (
    SourceAuthError,
    SourceError,
    SourceLimitError,
    SourceSchemaError,
    SourceTimeoutError,
)

#: Requests in flight. An org takes 25 that last longer than 20 seconds, of all its users and apps
#: together, and queries may: we leave most of them to the others (reference/salesforce.md).
CONCURRENCY = 10
#: A request's URI and headers may have 16,384 bytes together; a token can have 2,000 of them.
MAX_URI = 12_288
#: How often a body that is not what the API promises is asked for again.
_BODY_ATTEMPTS = 3
#: 406 without a body and 420 with HTML come and go; Airbyte's connector found both.
_PASSING = frozenset({406, 408, 420, 429, 500, 502, 503, 504})

_log = logging.getLogger(__name__)
T = TypeVar("T")


class NotFoundError(SourceSchemaError):
    """404: there is no such resource, or the integration user may not see it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A 2xx answer: bytes as received after transfer decoding."""

    request: str  # method and the full URL at the org's own instance, readable
    body: bytes
    headers: Mapping[str, str]
    server_time: datetime

    @property
    def request_id(self) -> str | None:
        """Salesforce's own name of the request, for its support."""
        return self.headers.get("X-SFDC-Request-Id")


class SalesforceApi:
    """Requests in one session of one org, from any thread."""

    def __init__(self, secrets: SalesforceSecrets, *, sleep: Sleep) -> None:
        self._secrets = secrets
        self.sleep = sleep
        self.traffic = Traffic(CONCURRENCY, sleep=sleep)
        self._session = new_session(secrets, CONCURRENCY)
        self._logging_in = threading.RLock()
        self._connected: Salesforce | None = None

    def close(self) -> None:
        """Close all connections."""
        self._session.close()

    @property
    def _salesforce(self) -> Salesforce:
        with self._logging_in:
            if self._connected is None:
                self._connected = log_in(self._secrets, self._session, sleep=self.sleep)
            return self._connected

    def _renew(self, ended: str) -> None:
        """A new session, unless another thread has brought one since."""
        with self._logging_in:
            if self._salesforce.session_id == ended:
                log_in_again(self._salesforce, self._secrets, sleep=self.sleep)

    # -- requests ----------------------------------------------------------------------------

    @property
    def base(self) -> str:
        """The URL that paths of the pinned version begin with, at the org's own instance."""
        url: str = self._salesforce.base_url
        return url.rstrip("/")

    def url(self, path: str, **params: str) -> str:
        """The full URL of a path: below the pinned version, or as the API gave it from the root."""
        root = urlsplit(self.base)
        url = f"{root.scheme}://{root.netloc}{path}" if path[:10] == "/services/" else None
        query = f"?{urlencode(params)}" if params else ""
        return (url or f"{self.base}{path}") + query

    def get(
        self, url: str, read: Callable[[Answer], T], headers: Mapping[str, str] | None = None
    ) -> tuple[Answer, T]:
        """GET, and read the body; one that cannot be read is asked for again.

        Raises:
            SourceError: after the retries that the failure deserves.
        """
        for attempt in range(1, _BODY_ATTEMPTS + 1):
            answer = self.call("GET", url, headers=headers)
            try:
                return answer, read(answer)
            except SourceSchemaError as error:
                if attempt == _BODY_ATTEMPTS:
                    raise
                _log.warning("%s; asking again", error)
        raise AssertionError("the last try returns or raises")

    def call(
        self,
        method: str,
        url: str,
        *,
        body: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One call, after waiting out limits, outages and broken connections.

        A session that has ended is renewed once, and the call repeated.

        Raises:
            SourceError: any failure that stays.
        """
        parts = urlsplit(url)
        request = f"{method} {parts.path}"
        renewed = False
        with Retry(SOURCE, request, _log, self.traffic) as retry:
            while True:
                try:
                    with retry.turn():
                        session = str(self._salesforce.session_id)
                        response = self._session.request(
                            method,
                            url,
                            json=body,
                            headers={
                                "Authorization": f"Bearer {session}",
                                "Accept": "application/json",
                                "Accept-Encoding": "gzip",
                                **(headers or {}),
                            },
                        )
                except requests.RequestException as error:
                    if not retry.wait(broken(error, self._secrets)):
                        raise SourceTimeoutError(
                            SOURCE, f"{request} failed on every try: {broken(error, self._secrets)}"
                        ) from error
                    continue
                if response.ok:
                    query = f"?{unquote_plus(parts.query)}" if parts.query else ""
                    return Answer(
                        request=f"{method} {parts.scheme}://{parts.netloc}{parts.path}{query}",
                        body=response.content,
                        headers=response.headers,
                        server_time=server_time(SOURCE, response.headers),
                    )
                code, message = _complaint(response)
                reason = f"HTTP {response.status_code} ({code}: {message})"
                if code == "INVALID_SESSION_ID" and not renewed:
                    _log.info("salesforce: %s: the session has ended; logging in again", request)
                    self._renew(session)
                    renewed = True
                elif not _passes(response.status_code, code, message):
                    _refuse(request, response, code, reason)
                elif not retry.wait(reason, retry_after(response.headers)):
                    _give_up(request, code, reason)


class _Complaint(msgspec.Struct):
    message: str = "no message"
    errorCode: str = "no code"  # noqa: N815 - the vendor's spelling


def _complaint(response: requests.Response) -> tuple[str, str]:
    """Code and message of an error body, which is an array of one, in one line."""
    try:
        first = msgspec.json.decode(response.content, type=list[_Complaint])[0]
    except (msgspec.MsgspecError, IndexError):
        return "no code", f"{len(response.content)} bytes of {_kind(response.headers)}"
    return first.errorCode, " ".join(first.message.split())


def _passes(status: int, code: str, message: str) -> bool:
    """Whether trying again within the run may help."""
    if code == "REQUEST_LIMIT_EXCEEDED":
        return "TotalRequests" not in message  # the other one is ConcurrentRequests
    return status in _PASSING


def _refuse(request: str, response: requests.Response, code: str, reason: str) -> NoReturn:
    """Raise what an answer that will not change means."""
    status = response.status_code
    if code == "REQUEST_LIMIT_EXCEEDED" or "per 24 hrs" in reason:
        usage = response.headers.get("Sforce-Limit-Info", "see Setup > Company Information")
        raise SourceLimitError(
            SOURCE,
            f"{request}: a daily limit is used up ({reason}; {usage}); sync again when requests "
            "of the last 24 hours have expired",
            retryable=False,
        )
    if status in (401, 403):
        raise SourceAuthError(
            SOURCE, f"{request} is not permitted: {reason}; give the integration user access"
        )
    if status == 404:
        raise NotFoundError(SOURCE, f"{request}: {reason}")
    if code == "QUERY_TIMEOUT":
        raise SourceTimeoutError(SOURCE, f"{request} took the org too long: {reason}")
    if code == "INVALID_QUERY_LOCATOR":
        raise SourceSchemaError(
            SOURCE, f"{request}: the pages of this query have expired", retryable=True
        )
    raise SourceSchemaError(SOURCE, f"{request} was refused: {reason}")


def _give_up(request: str, code: str, reason: str) -> NoReturn:
    """Raise what is left after the last try."""
    if code == "REQUEST_LIMIT_EXCEEDED":
        raise SourceLimitError(
            SOURCE,
            f"{request}: too many requests at a time for too long ({reason})",
            retryable=True,
        )
    raise SourceTimeoutError(SOURCE, f"{request} failed on every try: {reason}")


def reader(shape: type[T]) -> Callable[[Answer], T]:
    """Reads JSON bodies of a shape; anything else is a `SourceSchemaError`."""
    decoder = msgspec.json.Decoder(shape)

    def read(answer: Answer) -> T:
        try:
            if not _kind(answer.headers).startswith("application/json"):
                raise msgspec.DecodeError("it is no JSON")
            return decoder.decode(answer.body)
        except msgspec.MsgspecError as error:
            raise unreadable(answer, str(error)) from error

    return read


def unreadable(answer: Answer, why: str) -> SourceError:
    """The error for a body that is not what the API promises."""
    return SourceSchemaError(
        SOURCE,
        f"{answer.request.split('?')[0]} answered {len(answer.body)} bytes of "
        f"{_kind(answer.headers)} that are not what the API promises: {why}",
    )


def _kind(headers: Mapping[str, str]) -> str:
    return headers.get("Content-Type", "no type")
