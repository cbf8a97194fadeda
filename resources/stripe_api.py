"""One request to Stripe: key, pinned version, pace, retries, errors and the bytes of the answer.

The official client does log-in, headers and the reading of errors. Its models are not used: they
are 45 to 60 times slower than the bytes (reference/stripe.md section 5), so its HTTP client hands
the bytes past it. Which requests make a month or a window is in `stripe`.
"""

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, NoReturn, Self, TypeVar
from urllib.parse import unquote, urlsplit

import msgspec
import stripe
import urllib3
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from resources.http import (
    CONNECT_TIMEOUT,
    READ_TIMEOUT,
    Sleep,
    retry_after,
    server_time,
)
from resources.traffic import Retry, Traffic, Window
from revrec_pipeline.errors import (
    SettingsError,
    SourceAuthError,
    SourceError,
    SourceLimitError,
    SourceSchemaError,
    SourceTimeoutError,
)

SOURCE = "stripe"
#: Pinned: basil (2025-03-31) moved or removed half of what an invoice's readers used.
API_VERSION = "2026-10-28.endive"
#: Requests in flight. Stripe limits them (`global-concurrency`) without publishing a number; four,
#: at a sixth of a second each, use up the rate of an endpoint.
CONCURRENCY = 4
#: How often a body that is no JSON of the promised shape is asked for again.
_BODY_ATTEMPTS = 3

_log = logging.getLogger(__name__)
T = TypeVar("T")


class StripeSecrets(BaseSettings):
    """The environment variables of the source."""

    model_config = SettingsConfigDict(env_prefix="STRIPE_", extra="ignore", frozen=True)

    #: Secret or restricted key (read on invoices, credit notes and events is enough).
    api_key: SecretStr = Field(min_length=1)
    #: A connected account to read instead of the key's own.
    account: str | None = None
    #: Origin that every request goes to instead of Stripe's.
    api_url: str | None = None

    @classmethod
    def from_env(cls) -> Self:
        """Read them.

        Raises:
            SettingsError: `STRIPE_API_KEY` is missing.
        """
        try:
            return cls.model_validate({})
        except ValidationError as error:
            raise SettingsError(
                "STRIPE_API_KEY is not set; set it to a restricted key that may read invoices, "
                "credit notes and events"
            ) from error


@dataclass(frozen=True, slots=True)
class Answer:
    """A 2xx answer: bytes as received after transfer decoding."""

    request: str  # GET, path and query
    body: bytes
    server_time: datetime
    request_id: str | None


class NotFoundError(SourceError):
    """Stripe knows no such object (`resource_missing`); `param` says which one was asked for."""

    def __init__(self, message: str, param: str | None) -> None:
        super().__init__(SOURCE, message, code="SYNC_SCHEMA_DRIFT")
        self.param = param


@dataclass(slots=True)
class _Received:
    body: bytes
    status: int
    headers: Mapping[str, str]
    target: str


class _Transport(stripe.HTTPClient):
    """A pooled urllib3 that keeps an answer's bytes and shows the official client only errors.

    urllib3 moves 488 MB in 0.6 s, requests in 1.3 s; the client would parse each body once more.
    """

    name: ClassVar[str] = "urllib3"

    def __init__(self) -> None:
        super().__init__()
        self._local = threading.local()
        self._pool = urllib3.PoolManager(
            maxsize=CONCURRENCY,
            block=False,
            retries=False,
            timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT, read=READ_TIMEOUT),
            cert_reqs="CERT_REQUIRED",
            ca_certs=stripe.ca_bundle_path,
        )

    @property
    def received(self) -> _Received:
        """What this thread's last request received."""
        found: _Received = self._local.received
        return found

    def request(  # type: ignore[override]  # the base class promises text, and reads bytes as well
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        post_data: Any = None,
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """One try; a broken connection becomes the official client's own error."""
        parts = urlsplit(url)
        try:
            response = self._pool.request(
                method,
                url,
                headers={**(headers or {}), "Accept-Encoding": "gzip"},
                body=post_data,
                redirect=False,
            )
        except urllib3.exceptions.HTTPError as error:
            reason = type(error).__name__
            if isinstance(error, urllib3.exceptions.NewConnectionError):
                reason = f"nothing answers at {parts.scheme}://{parts.netloc}"
            raise stripe.APIConnectionError(reason) from error  # type: ignore[no-untyped-call]
        target = f"{parts.path}?{unquote(parts.query)}" if parts.query else parts.path
        self._local.received = _Received(response.data, response.status, response.headers, target)
        shown = b"{}" if 200 <= response.status < 300 else response.data
        return shown, response.status, response.headers

    def close(self) -> None:
        """Close all connections."""
        self._pool.clear()


class StripeApi:
    """GET requests of one account, from any thread."""

    def __init__(self, secrets: StripeSecrets, *, requests_per_second: float, sleep: Sleep) -> None:
        self._transport = _Transport()
        self.traffic = Traffic(
            CONCURRENCY, Window.per_second(requests_per_second, sleep), sleep=sleep
        )
        self._client = stripe.StripeClient(
            secrets.api_key.get_secret_value(),
            stripe_account=secrets.account,
            stripe_version=API_VERSION,
            base_addresses={"api": secrets.api_url.rstrip("/")} if secrets.api_url else {},
            # Retries are ours: the client never retries a plain 429 and ignores Retry-After.
            max_network_retries=0,
            http_client=self._transport,
        )

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()

    def get(self, path: str, shape: type[T], **params: Any) -> tuple[Answer, T]:
        """GET a path: the bytes, and of them what `shape` names.

        Raises:
            NotFoundError: there is no such object.
            SourceError: any other failure, after the retries that it deserves.
        """
        for attempt in range(1, _BODY_ATTEMPTS + 1):
            received = self._receive(path, params)
            try:
                return _read(received, shape)
            except SourceSchemaError as error:
                if attempt == _BODY_ATTEMPTS:
                    raise
                _log.warning("%s; asking again", error)
        raise AssertionError("the last try returns or raises")

    def _receive(self, path: str, params: Mapping[str, Any]) -> _Received:
        """The bytes of a 2xx answer, after waiting out limits, outages and broken connections."""
        request = f"GET {path}"
        with Retry(SOURCE, request, _log, self.traffic) as retry:
            while True:
                try:
                    with retry.turn():
                        self._client.raw_request("get", path, **params)
                except stripe.StripeError as error:
                    if not _passes(error):
                        _refuse(request, error)
                    if not retry.wait(_reason(error), retry_after(error.headers or {})):
                        _give_up(request, error)
                else:
                    return self._transport.received


def _passes(error: stripe.StripeError) -> bool:
    """Whether trying again may help: 429, 409 (a lock), 5xx, a broken connection."""
    if isinstance(error, stripe.RateLimitError | stripe.APIConnectionError):
        return True
    return error.http_status == 409 or (error.http_status or 0) >= 500


def _reason(error: stripe.StripeError) -> str:
    """What happened, for the log: never a body, which may hold customers' data."""
    if isinstance(error, stripe.APIConnectionError):
        return f"the connection failed: {error.user_message}"
    headers: Mapping[str, str] = error.headers or {}
    code = error.error.code if error.error else None  # RateLimitError.code is never set
    why = headers.get("Stripe-Rate-Limited-Reason") or code or "no reason given"
    return f"HTTP {error.http_status} ({why}; request {headers.get('Request-Id', 'unknown')})"


def _refuse(request: str, error: stripe.StripeError) -> NoReturn:
    """Raise what an answer that will not change means."""
    message = error.user_message or "no reason given"
    if isinstance(error, stripe.AuthenticationError):
        raise SourceAuthError(
            SOURCE, f"the API refused the key ({message}); check STRIPE_API_KEY"
        ) from error
    if isinstance(error, stripe.PermissionError):
        raise SourceAuthError(
            SOURCE,
            f"{request} is not permitted ({message}); give the key read access to it, or check "
            "STRIPE_ACCOUNT",
        ) from error
    if error.code == "resource_missing":
        raise NotFoundError(f"{request}: {message}", getattr(error, "param", None)) from error
    if isinstance(error, stripe.InvalidRequestError):
        raise SourceSchemaError(SOURCE, f"{request} was refused: {message}") from error
    raise SourceSchemaError(
        SOURCE, f"{request} answered HTTP {error.http_status} and no JSON of Stripe's"
    ) from error


def _give_up(request: str, error: stripe.StripeError) -> NoReturn:
    """Raise what is left after the last try."""
    if isinstance(error, stripe.RateLimitError):
        raise SourceLimitError(
            SOURCE,
            f"{request} is limited for too long ({_reason(error)}); lower requests_per_second",
            retryable=True,
        ) from error
    raise SourceTimeoutError(
        SOURCE, f"{request} failed on every try, last because {_reason(error)}"
    ) from error


def _read(received: _Received, shape: type[T]) -> tuple[Answer, T]:
    """Decode what is needed of a body.

    Raises:
        SourceSchemaError: it is not JSON of the promised shape.
    """
    request = f"GET {received.target}"
    kind = received.headers.get("Content-Type", "nothing")
    try:
        if not kind.startswith("application/json"):
            raise msgspec.DecodeError(f"it is {kind}")
        decoded = msgspec.json.decode(received.body, type=shape)
    except msgspec.MsgspecError as error:
        raise SourceSchemaError(
            SOURCE,
            f"{request} answered HTTP {received.status}, {kind}, {len(received.body)} bytes that "
            f"are not what the API promises: {error}",
        ) from error
    request_id = received.headers.get("Request-Id")
    when = server_time(SOURCE, received.headers)
    return Answer(request, received.body, when, request_id), decoded
