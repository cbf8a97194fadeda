"""SuiteQL over HTTP: the two ways to log in, what an error body means, one page of a query.

Requests, pooling and retries are in `rest`; which queries make a month or a window is in
`netsuite`.
"""

import logging
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlencode

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from oauthlib.oauth1 import SIGNATURE_HMAC_SHA256
from oauthlib.oauth1 import Client as Signer
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from resources.http import Sleep
from resources.rest import (
    Answer,
    Expired,
    Passing,
    Received,
    RestApi,
    Token,
    Verdict,
    json_reader,
)
from resources.traffic import Traffic
from revrec_pipeline.errors import (
    SettingsError,
    SourceAuthError,
    SourceLimitError,
    SourceSchemaError,
    SourceTimeoutError,
)

SOURCE = "netsuite"
#: The only version of the query service.
API_VERSION = "v1"
SUITEQL_PATH = "/services/rest/query/v1/suiteql"
_TOKEN_PATH = "/services/rest/auth/oauth2/v1/token"  # noqa: S105 - a path
#: The most rows of a page.
PAGE_SIZE = 1000
#: A query over a large table may take minutes.
_READ_TIMEOUT = 300.0
#: An assertion is used at once; NetSuite takes those of up to an hour.
_ASSERTION_SECONDS = 300
#: A token is given up this long before it ends.
_EARLY = 60.0
#: Too many requests at a time may be answered as a failed log-in (julbrs/netsuite-api-client#26),
#: and an unknown column as an unexpected error: worth some tries, but not the whole minute.
_FEW_TRIES = 3
_LIMITS = ("CONCURRENCY_LIMIT_EXCEEDED", "SSS_REQUEST_LIMIT_EXCEEDED")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Certificate:
    """OAuth 2.0 client credentials (M2M): an integration, its certificate and the private key."""

    client_id: str
    certificate_id: str
    private_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class AccessToken:
    """Token-based authentication (OAuth 1.0a): an integration, and a user's token for it."""

    consumer_key: str
    consumer_secret: str = field(repr=False)
    token_id: str
    token_secret: str = field(repr=False)


class NetsuiteSecrets(BaseSettings):
    """The environment variables of the source."""

    model_config = SettingsConfigDict(
        env_prefix="NETSUITE_", extra="ignore", frozen=True, env_ignore_empty=True
    )

    #: As in the URL or in Setup > Company: `123456`, `123456-sb1` or `123456_SB1`.
    account_id: str = Field(pattern=r"^[A-Za-z0-9]+([-_][A-Za-z0-9]+)?$")
    #: OAuth 2.0 client credentials (M2M), used when it is set: integration, certificate, key.
    client_id: str | None = None
    certificate_id: str | None = None
    private_key: SecretStr | None = None
    #: Token-based authentication (OAuth 1.0a): integration and access token.
    consumer_key: str | None = None
    consumer_secret: SecretStr | None = None
    token_id: str | None = None
    token_secret: SecretStr | None = None
    #: Origin that every request goes to instead of NetSuite's.
    api_url: str | None = None

    @field_validator("api_url")
    @classmethod
    def _origin(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(("http://", "https://")):
            raise ValueError(f"{url!r} is no origin; write it like http://127.0.0.1:8800")
        return url

    @property
    def certificate(self) -> Certificate | None:
        """The certificate, if all of it is set."""
        if self.client_id and self.certificate_id and self.private_key:
            key = self.private_key.get_secret_value()
            return Certificate(self.client_id, self.certificate_id, key)
        return None

    @property
    def access_token(self) -> AccessToken | None:
        """The access token, if all of it is set."""
        if self.consumer_key and self.consumer_secret and self.token_id and self.token_secret:
            return AccessToken(
                self.consumer_key,
                self.consumer_secret.get_secret_value(),
                self.token_id,
                self.token_secret.get_secret_value(),
            )
        return None

    @property
    def origin(self) -> str:
        """Where the account's API is."""
        return f"https://{self.account_id.lower().replace('_', '-')}.suitetalk.api.netsuite.com"

    @property
    def realm(self) -> str:
        """The account as signatures name it."""
        return self.account_id.upper().replace("-", "_")

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
            name = _variable(str(first["loc"][0]))
            if first["type"] == "missing":
                raise SettingsError(f"{name} is not set") from None
            if first["type"] == "string_pattern_mismatch":
                raise SettingsError(f"{name} is no account; write it like 123456_SB1") from None
            raise SettingsError(f"{name}: {first['msg'].removeprefix('Value error, ')}") from None
        if secrets.certificate is None and secrets.access_token is None:
            raise secrets.incomplete()
        return secrets

    def incomplete(self) -> SettingsError:
        """What to say when neither way is set: which variable the one that was begun lacks."""
        ways = [
            ("client_id", "certificate_id", "private_key"),
            ("consumer_key", "consumer_secret", "token_id", "token_secret"),
        ]
        way, other = sorted(ways, key=lambda names: not any(getattr(self, one) for one in names))
        missing = next(name for name in way if not getattr(self, name))
        return SettingsError(
            f"{_variable(missing)} is not set; set {', '.join(map(_variable, way))} together, or "
            f"{', '.join(map(_variable, other))}"
        )


def _variable(name: str) -> str:
    return f"NETSUITE_{name.upper()}"


class QueryError(SourceSchemaError):
    """NetSuite refuses a query; `detail` is its own reason."""

    def __init__(self, message: str, detail: str) -> None:
        super().__init__(SOURCE, message)
        self.detail = detail


class UnexpectedError(SourceTimeoutError):
    """NetSuite's UNEXPECTED_ERROR, on every try. It is one of its answers to unknown columns."""


class _Detail(msgspec.Struct):
    detail: str = ""
    code: str = msgspec.field(default="", name="o:errorCode")


class _ScriptError(msgspec.Struct):
    code: str = ""
    message: str = ""


class _Problem(msgspec.Struct):
    details: list[_Detail] = msgspec.field(default_factory=list, name="o:errorDetails")
    error: _ScriptError | str | None = None  # RESTlets' and the token endpoint's shape


class _Grant(msgspec.Struct):
    access_token: str
    expires_in: str | int  # NetSuite sends a text


class Row(msgspec.Struct):
    """What paging and keys need of a row; each query shows some of it."""

    id: str = ""
    key: str = ""
    transaction: str = ""
    type: str = ""
    name: str = ""
    trandate: str = ""
    modified: str = ""


class Rows(msgspec.Struct):
    """One page of a query, and how many rows there are in all."""

    items: list[Row]
    total: int = msgspec.field(name="totalResults")


class NetsuiteApi:
    """SuiteQL queries of one account, from any thread."""

    def __init__(self, secrets: NetsuiteSecrets, *, concurrency: int, sleep: Sleep) -> None:
        self._origin = secrets.origin
        self._login = _way_in(secrets, sleep)
        self.traffic = Traffic(concurrency, sleep=sleep)
        self._api = RestApi(
            SOURCE,
            secrets.origin,
            api_url=secrets.api_url,
            authorize=self._login.headers,
            judge=self._judge,
            expired=self._login.expired,
            traffic=self.traffic,
            read_timeout=_READ_TIMEOUT,
        )

    def close(self) -> None:
        """Close all connections."""
        self._api.close()
        self._login.close()

    def query(self, suiteql: str, offset: int = 0) -> tuple[Answer, Rows]:
        """One page of a query.

        Raises:
            QueryError: NetSuite refuses the query.
            UnexpectedError: it fails on every try, without a reason.
            SourceError: any other failure that stays.
        """
        target = f"{SUITEQL_PATH}?{urlencode({'limit': PAGE_SIZE, 'offset': offset})}"
        return self._api.call(
            "POST",
            target,
            json_reader(Rows),
            body=msgspec.json.encode({"q": suiteql}),
            headers={"Content-Type": "application/json", "Prefer": "transient"},
            # The mapping reads the account and the columns that were asked for from this.
            name=f"POST {self._origin}{target} {suiteql}",
        )

    def _judge(self, request: str, received: Received) -> Verdict:
        if 200 <= received.status < 300:
            return None
        code, detail = _reason(received)
        words = f"{code}: {detail}" if detail else code
        if received.status == 429 or code in _LIMITS:
            return Passing(
                f"HTTP {received.status} ({code})",
                SourceLimitError(
                    SOURCE,
                    f"{request} found no free place among the account's concurrent requests; "
                    "lower concurrency, or see Setup > Integration > Integration Governance",
                    retryable=True,
                ),
            )
        if received.status == 401:
            return self._refused(words)
        if received.status == 403:
            return SourceAuthError(
                SOURCE,
                f"{request} is not permitted ({words}); give the integration's role SuiteAnalytics "
                "Workbook, REST Web Services, and view access to transactions, lists and items",
            )
        if code == "UNEXPECTED_ERROR":
            return Passing(
                f"HTTP {received.status} ({code})",
                UnexpectedError(SOURCE, f"{request} failed on every try: {words}"),
                tries=_FEW_TRIES,
            )
        if received.status in (408, 425) or received.status >= 500:
            return Passing(f"HTTP {received.status} ({code})")
        if received.status == 400 and detail:
            return QueryError(f"the query was refused: {detail}", detail)
        return SourceSchemaError(SOURCE, f"{request} answered {received.summary} ({words})")

    def _refused(self, words: str) -> Verdict:
        refused = Passing(
            "HTTP 401, which also means too many requests at a time",
            SourceAuthError(
                SOURCE,
                f"the account refused the credentials ({words}); check {self._login.names}, and "
                "the clock of this machine",
            ),
            tries=_FEW_TRIES,
        )
        if isinstance(self._login, _Tokens):
            return Expired("the access token was refused", otherwise=refused)
        return refused


class _Signature:
    """Token-based authentication: each try is signed anew, for NetSuite takes a nonce only once."""

    names = "NETSUITE_ACCOUNT_ID, NETSUITE_CONSUMER_KEY, NETSUITE_TOKEN_ID and their secrets"

    def __init__(self, token: AccessToken, realm: str) -> None:
        self._realm = realm
        self._signer = Signer(
            token.consumer_key,
            client_secret=token.consumer_secret,
            resource_owner_key=token.token_id,
            resource_owner_secret=token.token_secret,
            signature_method=SIGNATURE_HMAC_SHA256,
            realm=realm,
        )

    def headers(self, method: str, url: str) -> Mapping[str, str]:
        """The signature of one try. It is over NetSuite's own URL, wherever the request goes."""
        verb: Any = method  # declared as one of nine literals
        _, headers, _ = self._signer.sign(url, verb, realm=self._realm)
        return dict(headers)

    def expired(self) -> None:
        """Nothing expires."""

    def close(self) -> None:
        """Nothing is open."""


class _Tokens:
    """OAuth 2.0 client credentials: access tokens for assertions signed with a certificate."""

    names = "NETSUITE_ACCOUNT_ID and the role that the certificate is mapped to"

    def __init__(self, certificate: Certificate, secrets: NetsuiteSecrets, sleep: Sleep) -> None:
        self._certificate = certificate
        self._audience = f"{secrets.origin}{_TOKEN_PATH}"
        self._key, self._algorithm = _private_key(certificate)
        self._token = Token(self._fetch)
        self._used = threading.local()
        self._api = RestApi(
            SOURCE,
            secrets.origin,
            api_url=secrets.api_url,
            authorize=lambda _method, _url: {},
            judge=_judge_login,
            traffic=Traffic(1, sleep=sleep),
        )

    def headers(self, _method: str, _url: str) -> Mapping[str, str]:
        """The token of one try."""
        self._used.token = self._token.get()
        return {"Authorization": f"Bearer {self._used.token}"}

    def expired(self) -> None:
        """The token that this thread used last was refused."""
        self._token.forget(self._used.token)

    def close(self) -> None:
        """Close the connection."""
        self._api.close()

    def _fetch(self) -> tuple[str, float]:
        form = {
            "grant_type": "client_credentials",
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": self._assertion(),
        }
        began = time.monotonic()
        _, grant = self._api.call(
            "POST",
            _TOKEN_PATH,
            json_reader(_Grant),
            body=urlencode(form).encode(),
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )
        return grant.access_token, began + float(grant.expires_in) - _EARLY

    def _assertion(self) -> str:
        now = int(time.time())
        claims = {
            "iss": self._certificate.client_id,
            "scope": ["rest_webservices"],
            "aud": self._audience,
            "iat": now,
            "exp": now + _ASSERTION_SECONDS,
        }
        return jwt.encode(
            claims,
            self._key,
            algorithm=self._algorithm,
            headers={"kid": self._certificate.certificate_id},
        )


def _way_in(secrets: NetsuiteSecrets, sleep: Sleep) -> _Signature | _Tokens:
    if secrets.certificate is not None:
        return _Tokens(secrets.certificate, secrets, sleep)
    if secrets.access_token is not None:
        return _Signature(secrets.access_token, secrets.realm)
    raise secrets.incomplete()


def _private_key(
    certificate: Certificate,
) -> tuple[rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, str]:
    """The certificate's key and the algorithm for it. NetSuite takes PS256 and ES256, no RS256.

    Raises:
        SettingsError: it is no such key.
    """
    text = certificate.private_key.replace("\\n", "\n")
    try:
        key = load_pem_private_key(text.encode(), password=None)
    except (ValueError, TypeError):
        key = None
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= 3072:
        return key, "PS256"
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name == "secp256r1":
        return key, "ES256"
    raise SettingsError(
        "NETSUITE_PRIVATE_KEY is neither an RSA key of 3072 or 4096 bits nor a P-256 key in PEM "
        "form, without a passphrase"
    )


def _judge_login(request: str, received: Received) -> Verdict:
    if 200 <= received.status < 300:
        return None
    code, _ = _reason(received)
    if received.status == 429 or received.status >= 500:
        return Passing(f"HTTP {received.status} ({code})")
    if received.status in (400, 401, 403):
        return SourceAuthError(
            SOURCE,
            f"the account refused the log-in ({code}); check NETSUITE_ACCOUNT_ID, "
            "NETSUITE_CLIENT_ID, NETSUITE_CERTIFICATE_ID and NETSUITE_PRIVATE_KEY, and whether the "
            "certificate has ended (Setup > Integration > OAuth 2.0 Client Credentials)",
        )
    return SourceSchemaError(SOURCE, f"{request} answered {received.summary} ({code})")


def _reason(received: Received) -> tuple[str, str]:
    """Code and detail of an error body, whichever of its shapes it has; on one line."""
    try:
        problem = msgspec.json.decode(received.body, type=_Problem)
    except msgspec.MsgspecError:
        return f"no reason, {received.kind}", ""
    if problem.details:
        detail = re.sub(r"\s+", " ", problem.details[0].detail)[:500]
        return problem.details[0].code or "no code", detail
    if isinstance(problem.error, _ScriptError):
        return problem.error.code or "no code", problem.error.message
    return problem.error or "no code", ""
