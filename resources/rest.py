"""Requests to one API: pool, pace, one log-in for all threads, retries, and the bytes of an answer.

For sources whose vendor has no client that serves (reference/extraction-rules.md 1.4), and for
those whose client only logs in or moves bytes. A source says how to authorize a request, what its
error bodies mean, and nothing else; which requests make a month or a window is in its own module.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias, TypeVar
from urllib.parse import unquote_plus, urlencode, urlsplit

import msgspec
import urllib3

from resources.http import (
    CONNECT_TIMEOUT,
    READ_TIMEOUT,
    at_origin,
    retry_after,
    server_time,
)
from resources.traffic import Retry, Traffic, Window
from revrec_pipeline.errors import (
    SourceError,
    SourceSchemaError,
    SourceTimeoutError,
)

#: How often a body that is not what the API promises is asked for again.
BODY_ATTEMPTS = 3
#: Answers that come and go by themselves, whatever the vendor.
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})

_log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Received:
    """One HTTP answer of any status; header names are found in any case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def kind(self) -> str:
        """The content type, for messages."""
        return self.headers.get("Content-Type", "no type")

    @property
    def summary(self) -> str:
        """What came, without a body that may hold customers' data."""
        return f"HTTP {self.status}, {len(self.body)} bytes of {self.kind}"


@dataclass(frozen=True, slots=True)
class Answer:
    """A 2xx answer: bytes as received after transfer decoding."""

    request: str  # method, path and query, readable; no secret
    body: bytes
    headers: Mapping[str, str]
    server_time: datetime
    request_id: str | None


@dataclass(frozen=True, slots=True)
class Passing:
    """An answer that may differ next time: wait and ask again. `otherwise` is for the last try."""

    reason: str
    otherwise: SourceError | None = None
    wait: float | None = None  # the seconds that the vendor asks for, where not in Retry-After
    tries: int | None = None  # at most so many, where all that `Retry` allows are too many


@dataclass(frozen=True, slots=True)
class Expired:
    """The session or token has ended: log in once more and ask again, once.

    `otherwise` is what it means right after that, where it does not mean that nothing will help.
    """

    reason: str
    otherwise: Passing | None = None


#: What an answer means: None is success; a `SourceError` will not pass by itself.
Verdict: TypeAlias = Passing | Expired | SourceError | None
#: Method, URL, headers, body → what was received. It raises `BrokenConnectionError`, nothing else.
Transport: TypeAlias = Callable[[str, str, Mapping[str, str], bytes | None], Received]
#: Method and URL → the headers that authorize this one try (a signature is made anew each time).
Authorize: TypeAlias = Callable[[str, str], Mapping[str, str]]
#: What a request sends. A body that names the session is made anew for each try.
Body: TypeAlias = bytes | Callable[[], bytes] | None


class BrokenConnectionError(Exception):
    """No whole answer came. The text names what happened, and no URL with a secret."""


class Token:
    """A token that all threads of a client share and one of them fetches.

    `fetch` logs in and returns the token with the monotonic time at which to fetch the next one.
    """

    def __init__(self, fetch: Callable[[], tuple[str, float]]) -> None:
        self._fetch = fetch
        self._lock = threading.Lock()
        self._token: str | None = None
        self._until = 0.0

    def get(self) -> str:
        """The token, fetched if there is none or it is about to end."""
        with self._lock:
            if self._token is None or time.monotonic() >= self._until:
                self._token, self._until = self._fetch()
            return self._token

    def forget(self, token: str) -> None:
        """The API refused this token. Of several threads that say so, only the first one counts."""
        with self._lock:
            if self._token == token:
                self._token = None


class RestApi:
    """Requests of one account, from any thread.

    `origin` is the vendor's; `api_url`, when set, is where every request goes instead. `judge`
    reads status, headers and body of every answer. `expired` is told that a token was refused.
    `traffic` says how many requests may be in flight and at what pace.
    """

    def __init__(
        self,
        source: str,
        origin: str,
        *,
        api_url: str | None,
        authorize: Authorize,
        judge: Callable[[str, Received], Verdict],
        expired: Callable[[], None] = lambda: None,
        traffic: Traffic,
        request_id_header: str | None = None,
        transport: Transport | None = None,
        read_timeout: float = READ_TIMEOUT,
    ) -> None:
        self._source = source
        self._origin = origin.rstrip("/")
        self._api_url = api_url
        self._authorize = authorize
        self._judge = judge
        self._expired = expired
        self._traffic = traffic
        self._request_id_header = request_id_header
        self._pool = urllib3.PoolManager(
            maxsize=traffic.concurrency,
            retries=False,
            timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT, read=read_timeout),
        )
        self._transport = transport or self.transport

    def close(self) -> None:
        """Close all connections."""
        self._pool.clear()

    def get(self, path: str, shape: type[T], **params: str) -> tuple[Answer, T]:
        """GET a path; see `call`."""
        query = f"?{urlencode(params)}" if params else ""
        return self.call("GET", f"{path}{query}", json_reader(shape))

    def call(
        self,
        method: str,
        target: str,
        read: Callable[[Received], T],
        *,
        body: Body = None,
        headers: Mapping[str, str] | None = None,
        name: str | None = None,
        counted: Window | None = None,
    ) -> tuple[Answer, T]:
        """One request that reads: the answer, and of its body what `read` makes of it.

        `target` is a path with its query, or a full URL that the vendor gave. `name` is what the
        log and the lake call the request, where the path alone does not say it (a query in a body).
        A body that cannot be read (`read` raises `ValueError`) is asked for again. `counted` is a
        limit of the vendor's that counts only some requests, this one among them.

        Raises:
            SourceError: any failure that stays, after the retries that it deserves.
        """
        url = target if "://" in target else f"{self._origin}{target}"
        path = urlsplit(url).path
        for attempt in range(1, BODY_ATTEMPTS + 1):
            received = self._receive(method, url, body, headers or {}, counted)
            try:
                return self._answer(name or _readable(method, url), received), read(received)
            except ValueError as error:
                wrong = SourceSchemaError(
                    self._source,
                    f"{method} {path} answered {received.summary} that are not what the API "
                    f"promises: {error}",
                )
                if attempt == BODY_ATTEMPTS:
                    raise wrong from error
                _log.warning("%s; asking again", wrong)
        raise AssertionError("the last try returns or raises")

    def _answer(self, request: str, received: Received) -> Answer:
        header = self._request_id_header
        return Answer(
            request,
            received.body,
            received.headers,
            server_time(self._source, received.headers),
            received.headers.get(header) if header else None,
        )

    def _receive(
        self,
        method: str,
        url: str,
        body: Body,
        headers: Mapping[str, str],
        counted: Window | None,
    ) -> Received:
        """A successful answer, after waiting out limits, outages and broken connections."""
        request = f"{method} {urlsplit(url).path}"
        windows = (counted,) if counted else ()
        with Retry(self._source, request, _log, self._traffic) as retry:
            renewed = False
            tries = 0
            while True:
                tries += 1
                try:
                    with retry.turn(*windows):
                        # Only now: a signature names the second, and tokens end while one waits.
                        own = {"Accept-Encoding": "gzip", **headers}
                        own |= self._authorize(method, url)
                        sent = body() if callable(body) else body
                        received = self._transport(method, at_origin(url, self._api_url), own, sent)
                except BrokenConnectionError as error:
                    if not retry.wait(str(error)):
                        raise SourceTimeoutError(
                            self._source, f"{request} failed on every try, last because {error}"
                        ) from error
                    continue
                verdict = self._judge(request, received)
                if renewed and isinstance(verdict, Expired) and verdict.otherwise is not None:
                    verdict = verdict.otherwise
                match verdict:
                    case None:
                        return received
                    case Expired(reason) if not renewed:
                        _log.info("%s: %s: %s; logging in again", self._source, request, reason)
                        self._expired()
                        renewed = True
                    case Expired(reason):
                        raise SourceError(
                            self._source,
                            f"{request}: {reason}, also right after logging in",
                            code="SYNC_AUTH",
                        )
                    case Passing(reason, otherwise, wait, most):
                        asked = retry_after(received.headers) if wait is None else wait
                        if tries == most or not retry.wait(reason, asked):
                            raise otherwise or SourceTimeoutError(
                                self._source,
                                f"{request} failed on every try, last because {reason}",
                            )
                    case SourceError() as final:
                        raise final

    def transport(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> Received:
        """One try by the pool."""
        parts = urlsplit(url)
        try:
            response = self._pool.request(
                method, url, headers=dict(headers), body=body, redirect=False
            )
        except urllib3.exceptions.NewConnectionError as error:
            raise BrokenConnectionError(
                f"nothing answers at {parts.scheme}://{parts.netloc}"
            ) from error
        except urllib3.exceptions.HTTPError as error:
            raise BrokenConnectionError(
                f"the connection failed ({type(error).__name__})"
            ) from error
        return Received(response.status, response.headers, response.data)


def json_reader(shape: type[T]) -> Callable[[Received], T]:
    """Reads JSON bodies of a shape, and refuses anything else."""
    decoder = msgspec.json.Decoder(shape)

    def read(received: Received) -> T:
        if "json" not in received.kind:
            raise ValueError("it is no JSON")
        try:
            return decoder.decode(received.body)
        except msgspec.MsgspecError as error:
            raise ValueError(str(error)) from error

    return read


def _readable(method: str, url: str) -> str:
    parts = urlsplit(url)
    return f"{method} {parts.path}" + (f"?{unquote_plus(parts.query)}" if parts.query else "")
