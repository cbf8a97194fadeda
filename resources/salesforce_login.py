"""Log-in to Salesforce: the secrets, the HTTP session, and both OAuth flows by simple-salesforce.

SOAP log-in with user name, password and security token is not offered: it is gone from API version
65 on.
"""

import logging
from collections.abc import Callable
from typing import Any, Self, TypeVar

import jwt
import requests
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from requests.adapters import HTTPAdapter
from simple_salesforce.api import Salesforce
from simple_salesforce.exceptions import SalesforceAuthenticationFailed

from resources.http import CONNECT_TIMEOUT, READ_TIMEOUT, Sleep, at_origin
from resources.traffic import Retry, Traffic
from revrec_pipeline.errors import (
    SettingsError,
    SourceAuthError,
    SourceSchemaError,
    SourceTimeoutError,
)

SOURCE = "salesforce"
API_VERSION = "68.0"

_log = logging.getLogger(__name__)
T = TypeVar("T")


class SalesforceSecrets(BaseSettings):
    """The environment variables of the source."""

    model_config = SettingsConfigDict(
        env_prefix="SALESFORCE_", extra="ignore", frozen=True, env_ignore_empty=True
    )

    #: My Domain: `acme.my`, or all of `https://acme.my.salesforce.com`.
    domain: str
    client_id: str = Field(min_length=1)
    #: For the client credentials flow; it is used when it is set.
    client_secret: SecretStr | None = None
    #: For the JWT bearer flow, with the private key as PEM; its line breaks may be written `\n`.
    username: str | None = None
    private_key: SecretStr | None = None
    #: Origin that every request goes to instead of Salesforce's.
    api_url: str | None = None

    @field_validator("domain")
    @classmethod
    def _my_domain(cls, text: str) -> str:
        host = text.strip().removeprefix("https://").split("/")[0].removesuffix(".salesforce.com")
        if host in ("login", "test"):
            raise ValueError("it must be the org's own domain, as in Setup > My Domain")
        return host if "." in host else f"{host}.my"

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
            secrets = cls.model_validate({})
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            name = f"SALESFORCE_{str(first['loc'][0]).upper()}"
            if first["type"] == "missing":
                raise SettingsError(f"{name} is not set") from None
            reason = first["msg"].removeprefix("Value error, ")
            raise SettingsError(f"{name}: {reason}") from None
        if secrets.client_secret is None:
            for name in ("username", "private_key"):
                if getattr(secrets, name) is None:
                    raise SettingsError(
                        f"SALESFORCE_{name.upper()} is not set; set it for the JWT flow, or set "
                        "SALESFORCE_CLIENT_SECRET for the client credentials flow"
                    )
        return secrets


class _Adapter(HTTPAdapter):
    """Sends every request to one origin, if there is one, and never without a timeout.

    simple-salesforce hard-codes `https://` in all of its URLs, so nothing above can do it.
    """

    def __init__(self, origin: str | None, connections: int) -> None:
        self._origin = origin
        super().__init__(pool_maxsize=connections)

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:  # type: ignore[override]
        """One try."""
        request.url = at_origin(request.url or "", self._origin)
        options["timeout"] = (CONNECT_TIMEOUT, READ_TIMEOUT)
        return super().send(request, **options)


def new_session(secrets: SalesforceSecrets, connections: int) -> requests.Session:
    """Pooled connections for log-in and all calls."""
    session = requests.Session()
    # A proxy or .netrc of the environment has no business with an origin that was named.
    session.trust_env = secrets.api_url is None
    adapter = _Adapter(secrets.api_url, connections)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


def log_in(secrets: SalesforceSecrets, session: requests.Session, *, sleep: Sleep) -> Salesforce:
    """Log in by the flow that the secrets are for.

    Raises:
        SourceAuthError: the org refuses the credentials.
        SourceError: any other failure that stays.
    """
    if secrets.client_secret is not None:
        secret = secrets.client_secret.get_secret_value()
        return _persist(
            lambda: Salesforce(
                consumer_key=secrets.client_id,
                consumer_secret=secret,
                domain=secrets.domain,
                version=API_VERSION,
                session=session,
            ),
            secrets,
            sleep,
        )
    key = secrets.private_key.get_secret_value() if secrets.private_key else ""
    return _persist(
        lambda: Salesforce(
            username=secrets.username,
            consumer_key=secrets.client_id,
            privatekey=key.replace("\\n", "\n"),
            # The assertion's audience is the log-in host; it is sent to the org's own domain.
            domain="test" if secrets.domain.endswith(".sandbox.my") else "login",
            instance_url=secrets.domain,
            version=API_VERSION,
            session=session,
        ),
        secrets,
        sleep,
    )


def log_in_again(salesforce: Salesforce, secrets: SalesforceSecrets, *, sleep: Sleep) -> None:
    """Replace a session that has ended; there is no public way to."""
    _persist(salesforce._refresh_session, secrets, sleep)


def _persist(attempt: Callable[[], T], secrets: SalesforceSecrets, sleep: Sleep) -> T:
    """Log in, after waiting out outages."""
    request = "POST /services/oauth2/token"
    with Retry(SOURCE, request, _log, Traffic(1, sleep=sleep)) as retry:
        while True:
            try:
                return attempt()
            except SalesforceAuthenticationFailed as error:
                # A number is the status of an answer that was no JSON.
                if not isinstance(error.code, int):
                    raise SourceAuthError(
                        SOURCE,
                        f"the org refused the log-in ({error.code}: {error.auth_message}); check "
                        "SALESFORCE_DOMAIN, SALESFORCE_CLIENT_ID and the secret or key",
                    ) from None
                if not retry.wait(f"HTTP {error.code}, no JSON"):
                    raise SourceSchemaError(
                        SOURCE, f"{request} answered HTTP {error.code} and no JSON"
                    ) from None
            except requests.RequestException as error:
                if not retry.wait(broken(error, secrets)):
                    raise SourceTimeoutError(
                        SOURCE, f"{request} failed on every try: {broken(error, secrets)}"
                    ) from error
            except (jwt.PyJWTError, ValueError) as error:
                raise SettingsError(
                    "SALESFORCE_PRIVATE_KEY is no RSA private key in PEM form"
                ) from error
            except AttributeError as error:  # simple-salesforce reads what is not in the body
                if not retry.wait("no token in the answer"):
                    raise SourceSchemaError(SOURCE, f"{request} answers without a token") from error


def broken(error: requests.RequestException, secrets: SalesforceSecrets) -> str:
    """What happened to a connection; the exception's own text holds URLs and addresses."""
    if isinstance(error, requests.ConnectionError):
        where = secrets.api_url or f"https://{secrets.domain}.salesforce.com"
        return f"no connection to {where} ({type(error).__name__})"
    return type(error).__name__
