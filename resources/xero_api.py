"""Requests to Xero: log-in of a custom connection, the organisation, limits, errors, raw bytes.

The official client (xero-python) builds and sends every request, log-in included. Its models are
not used: an unknown status or currency fails a whole page (xero-python #203, #205, #206). Its token
handling is not used either: it never renews a token of client credentials, and eight threads renew
an expired one five to seven times. Which requests make a month or a window is in `xero`.
"""

import threading
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Self, TypeVar
from urllib.parse import parse_qsl, urlencode

import msgspec
import urllib3
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from xero_python.api_client import ApiClient
from xero_python.api_client.configuration import Configuration
from xero_python.exceptions import ApiSSLException, HTTPStatusException

from resources.http import (
    CONNECT_TIMEOUT,
    READ_TIMEOUT,
    Sleep,
    retry_after,
    server_time,
)
from resources.rest import (
    PASSING,
    Answer,
    BrokenConnectionError,
    Expired,
    Passing,
    Received,
    RestApi,
    Token,
    Verdict,
    json_reader,
)
from resources.traffic import Traffic, Window
from revrec_pipeline.errors import (
    SettingsError,
    SourceAuthError,
    SourceLimitError,
    SourceSchemaError,
)
from revrec_pipeline.mapping.xero import XeroSettings

SOURCE = "xero"
API_VERSION = "2.0"
ROOT = f"/api.xro/{API_VERSION}"
#: Requests at a time that Xero allows an app in an organisation (reference/xero.md 2.6).
CONCURRENCY = 5
#: A token lives for 30 minutes; a request should not begin in the last one.
_TOKEN_MARGIN = 60.0

T = TypeVar("T")


class XeroSecrets(BaseSettings):
    """The environment variables of the source."""

    model_config = SettingsConfigDict(env_prefix="XERO_", extra="ignore", frozen=True)

    #: Client id of the custom connection.
    client_id: str = Field(min_length=1)
    #: Its secret.
    client_secret: SecretStr = Field(min_length=1)
    #: The organisation to read, where the app is connected to several.
    tenant_id: str | None = None
    #: Origin that every request goes to instead of Xero's, log-in included.
    api_url: str | None = None

    @classmethod
    def from_env(cls) -> Self:
        """Read them.

        Raises:
            SettingsError: one of the two that are needed is missing.
        """
        try:
            return cls.model_validate({})
        except ValidationError as error:
            missing = f"XERO_{str(error.errors()[0]['loc'][0]).upper()}"
            raise SettingsError(
                f"{missing} is not set; set it to that of the custom connection at "
                "developer.xero.com"
            ) from error


class _Token(msgspec.Struct):
    access_token: str
    expires_in: float


class Tenant(msgspec.Struct, rename={"id": "tenantId", "name": "tenantName", "kind": "tenantType"}):
    """An organisation that the app is connected to."""

    id: str
    name: str | None = None
    kind: str = "ORGANISATION"


class XeroApi:
    """GET requests of one organisation, from any thread."""

    def __init__(self, secrets: XeroSecrets, settings: XeroSettings, *, sleep: Sleep) -> None:
        self._secrets = secrets
        self._scopes = settings.scopes
        self._token = Token(self._log_in)
        self._used = threading.local()
        self._tenant: Tenant | None = None
        self._choosing = threading.Lock()
        self.traffic = Traffic(
            CONCURRENCY, Window(settings.requests_per_minute, 60, sleep), sleep=sleep
        )
        transport = _Transport()
        shared: dict[str, Any] = {
            "api_url": secrets.api_url,
            "transport": transport,
            "request_id_header": "Xero-Correlation-Id",
        }
        self._identity = RestApi(
            SOURCE,
            "https://identity.xero.com",
            authorize=lambda _method, _url: {},
            judge=self._judge_log_in,
            traffic=Traffic(1, sleep=sleep),
            **shared,
        )
        # What the app is connected to is asked outside of the organisation's limits.
        self._connections = RestApi(
            SOURCE,
            "https://api.xero.com",
            authorize=self._bearer,
            judge=self._judge,
            expired=self._expired,
            traffic=Traffic(1, sleep=sleep),
            **shared,
        )
        self._accounting = RestApi(
            SOURCE,
            "https://api.xero.com",
            authorize=self._bearer_for_tenant,
            judge=self._judge,
            expired=self._expired,
            traffic=self.traffic,
            **shared,
        )
        self._transport = transport

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()

    def get(
        self,
        path: str,
        read: Callable[[Received], T],
        headers: Mapping[str, str] | None = None,
        **params: str,
    ) -> tuple[Answer, T]:
        """GET a path below the accounting API; see `RestApi.call`.

        Raises:
            SourceError: any failure that stays.
        """
        query = f"?{urlencode(params)}" if params else ""
        return self._accounting.call("GET", f"{ROOT}/{path}{query}", read, headers=headers)

    # -- the organisation --------------------------------------------------------------------

    def organisation(self) -> tuple[Answer, Tenant]:
        """The organisation that is read, as Xero says now.

        Raises:
            SourceAuthError: there is none, or there are several and none is named.
        """
        answer, found = self._connections.call("GET", "/connections", json_reader(list[Tenant]))
        self._tenant = self._chosen([one for one in found if one.kind == "ORGANISATION"])
        return answer, self._tenant

    @property
    def tenant(self) -> Tenant:
        """The organisation that is read; of several threads one asks for it."""
        with self._choosing:
            return self._tenant or self.organisation()[1]

    def _chosen(self, tenants: list[Tenant]) -> Tenant:
        named = self._secrets.tenant_id
        names = ", ".join(f"{one.name or 'unnamed'} ({one.id})" for one in tenants) or "none"
        if named:
            for one in tenants:
                if one.id == named:
                    return one
            raise SourceAuthError(
                SOURCE,
                f"the app is not connected to the organisation {named}, only to: {names}; correct "
                "XERO_TENANT_ID",
            )
        if not tenants:
            raise SourceAuthError(
                SOURCE,
                "the app is connected to no organisation; connect it at developer.xero.com, under "
                "Connection management",
            )
        if len(tenants) > 1:
            raise SourceAuthError(
                SOURCE,
                f"the app is connected to several organisations: {names}; set XERO_TENANT_ID to "
                "one of them",
            )
        return tenants[0]

    # -- log-in ------------------------------------------------------------------------------

    def _log_in(self) -> tuple[str, float]:
        secrets = self._secrets
        form = {
            "grant_type": "client_credentials",
            "client_id": secrets.client_id,
            "client_secret": secrets.client_secret.get_secret_value(),
            "scope": " ".join(self._scopes),
        }
        _, token = self._identity.call(
            "POST",
            "/connect/token",
            json_reader(_Token),
            body=urlencode(form).encode(),
            headers={
                "Accept": "application/json",
                "Content-Type": "application/x-www-form-urlencoded",
            },
        )
        return token.access_token, time.monotonic() + token.expires_in - _TOKEN_MARGIN

    def _bearer(self, _method: str, _url: str) -> dict[str, str]:
        # Each thread remembers the token that it used: another one may have a newer one by now.
        self._used.token = self._token.get()
        # Without `Accept` the answer is XML.
        return {"Authorization": f"Bearer {self._used.token}", "Accept": "application/json"}

    def _bearer_for_tenant(self, method: str, url: str) -> dict[str, str]:
        tenant = self.tenant.id  # may itself log in
        return {**self._bearer(method, url), "xero-tenant-id": tenant}

    def _expired(self) -> None:
        self._token.forget(self._used.token)

    # -- what an answer means ----------------------------------------------------------------

    def _judge_log_in(self, request: str, received: Received) -> Verdict:
        if 200 <= received.status < 300:
            return None
        if received.status in PASSING:
            return Passing(received.summary)
        complaint = _complaint(received)
        if complaint == "invalid_scope":
            scopes = ", ".join(self._scopes)
            return SourceAuthError(
                SOURCE,
                f"the custom connection lacks one of the scopes {scopes}; give it them at "
                "developer.xero.com, or correct `scopes` in [sources.xero]",
            )
        if complaint in {"invalid_client", "unauthorized_client", "invalid_grant"}:
            return SourceAuthError(
                SOURCE,
                f"the log-in was refused ({complaint}); check XERO_CLIENT_ID and "
                "XERO_CLIENT_SECRET, which must be those of a custom connection",
            )
        return SourceSchemaError(SOURCE, f"{request} was refused: {complaint}")

    def _judge(self, request: str, received: Received) -> Verdict:
        status = received.status
        if 200 <= status < 300:
            return None
        if status == 429:
            return _limit(request, received)
        if status in PASSING:
            return Passing(received.summary)
        complaint = _complaint(received)
        if status == 401 and complaint != "AuthorizationUnsuccessful":
            return Expired(f"the token was refused ({complaint})")
        if status == 401:
            return SourceAuthError(
                SOURCE,
                f"{request} is not permitted ({complaint}); give the custom connection the scope "
                "for it at developer.xero.com and name it in `scopes` in [sources.xero]",
            )
        if status == 403:
            return SourceAuthError(
                SOURCE,
                f"{request} is forbidden ({complaint}); the organisation may be disconnected: "
                "check XERO_TENANT_ID and the app's connection at developer.xero.com",
            )
        return SourceSchemaError(SOURCE, f"{request} was refused: {complaint}")


def _limit(request: str, received: Received) -> Verdict:
    """A limit of a minute passes; one of a day ends the run."""
    problem = received.headers.get("X-Rate-Limit-Problem", "unknown").lower()
    if problem == "day":
        wait = retry_after(received.headers)
        opens = None
        when = "tomorrow"
        if wait is not None:
            opens = server_time(SOURCE, received.headers) + timedelta(seconds=wait)
            when = f"after {opens:%Y-%m-%d %H:%M} UTC"
        return SourceLimitError(
            SOURCE,
            f"{request}: the requests that Xero allows a day are used up; sync again {when}",
            retryable=False,
            retry_after=wait,
            resets_at=opens,
        )
    reason = f"HTTP 429 (too many requests: {problem})"
    return Passing(
        reason,
        otherwise=SourceLimitError(
            SOURCE,
            f"{request} is limited for too long ({reason}); lower requests_per_minute, or find "
            "out what else uses the app",
            retryable=True,
        ),
    )


def _complaint(received: Received) -> str:
    """What an error body says, in one line; its keys come with and without capitals."""
    try:
        body = msgspec.json.decode(received.body, type=dict[str, Any])
    except msgspec.MsgspecError:
        return received.summary
    said = {name.lower(): value for name, value in body.items()}
    details = [
        str(problem.get("Message"))
        for element in said.get("elements") or ()
        for problem in element.get("ValidationErrors") or ()
    ]
    found = said.get("error") or said.get("detail") or said.get("message") or said.get("title")
    return " ".join("; ".join([str(found or received.summary), *details]).split())


class _Transport:
    """The official client as the thing that sends: pooled, with timeouts, without its retries.

    The client has no timeout of its own, and its pool would try three times without a word.
    """

    def __init__(self) -> None:
        configuration = Configuration()
        configuration.connection_pool_maxsize = CONCURRENCY
        self._client = ApiClient(configuration)
        self._pool: urllib3.PoolManager = self._client.rest_client.pool_manager
        self._pool.connection_pool_kw["retries"] = urllib3.Retry(False)

    def __call__(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> Received:
        try:
            response, status, found = self._client.call_api(
                url,
                method,
                header_params=dict(headers),
                post_params=parse_qsl(body.decode()) if body else None,
                _preload_content=False,
                _request_timeout=(CONNECT_TIMEOUT, READ_TIMEOUT),
            )
            return Received(status, found, response.data)
        except HTTPStatusException as error:
            return Received(error.status, error.headers, error.body)
        except urllib3.exceptions.NewConnectionError as error:
            origin = "/".join(url.split("/", 3)[:3])
            raise BrokenConnectionError(f"nothing answers at {origin}") from error
        except (urllib3.exceptions.HTTPError, ApiSSLException) as error:
            raise BrokenConnectionError(
                f"the connection failed ({type(error).__name__})"
            ) from error

    def close(self) -> None:
        self._pool.clear()
