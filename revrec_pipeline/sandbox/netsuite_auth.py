"""The door of the sandbox's NetSuite: signatures of OAuth 1.0a, and tokens for JWT assertions.

Signatures and assertions are verified by the real time, which is all that a client knows; tokens
end by the sandbox's clock.
"""

import base64
import hmac
import re
import time
from collections.abc import Mapping
from datetime import timedelta
from functools import cache
from hashlib import sha256
from urllib.parse import parse_qsl, quote, unquote

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.responses import JSONResponse, Response

from revrec_pipeline.sandbox.clock import Clock

ACCOUNT = "TSTDRV2026"
HOST = f"https://{ACCOUNT.lower()}.suitetalk.api.netsuite.com"
TOKEN_PATH = "/services/rest/auth/oauth2/v1/token"  # noqa: S105 - a path
CLIENT_ID = "b5c1d0sandboxIntegrationClientId"
CERTIFICATE_ID = "7kQsandboxCertificateId"
CONSUMER_KEY, CONSUMER_SECRET = "ck-sandbox-integration", "cs-sandbox-only"
TOKEN_ID, TOKEN_SECRET = "ti-sandbox-user", "ts-sandbox-only"
LIFETIME = timedelta(hours=1)
#: How far a signature's timestamp may be off.
_TOLERANCE = 300
_ALGORITHMS = ["PS256", "PS384", "PS512", "ES256", "ES384", "ES512"]
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
# The made-up certificate's private key stands here because the process that prints the sandbox's
# settings and the one that serves it need the same; it opens nothing else.
_SECRET_NUMBER = 0xDACFB1FE081248C304B544CEB15D73AEEB191FDB5FE6ADD9C2784B3503CF50DC


@cache
def private_key() -> ec.EllipticCurvePrivateKey:
    """The client's half of the certificate."""
    return ec.derive_private_key(_SECRET_NUMBER, ec.SECP256R1())


def private_key_pem() -> str:
    """The same as PEM."""
    return (
        private_key()
        .private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        .decode("ascii")
    )


def env(origin: str) -> dict[str, str]:
    r"""Credentials for both ways; line breaks of the key are written as `\n`."""
    return {
        "NETSUITE_API_URL": origin,
        "NETSUITE_ACCOUNT_ID": ACCOUNT,
        "NETSUITE_CLIENT_ID": CLIENT_ID,
        "NETSUITE_CERTIFICATE_ID": CERTIFICATE_ID,
        "NETSUITE_PRIVATE_KEY": private_key_pem().replace("\n", "\\n"),
        "NETSUITE_CONSUMER_KEY": CONSUMER_KEY,
        "NETSUITE_CONSUMER_SECRET": CONSUMER_SECRET,
        "NETSUITE_TOKEN_ID": TOKEN_ID,
        "NETSUITE_TOKEN_SECRET": TOKEN_SECRET,
    }


class Door:
    """Who may come in: tokens that were given out, and nonces that have been used."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tokens: dict[str, float] = {}
        self._nonces: set[str] = set()
        self._issued = 0

    def expire(self) -> None:
        """End all tokens now."""
        self._tokens.clear()

    def admits(self, method: str, path: str, query: str, authorization: str) -> bool:
        """Whether a request's Authorization header is good for this method, path and query."""
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() == "bearer":
            return self._tokens.get(value, 0) > self._clock.timestamp()
        return scheme.lower() == "oauth" and self._signed(method, path, query, value)

    def _signed(self, method: str, path: str, query: str, header: str) -> bool:
        given = {name: unquote(value) for name, value in re.findall(r'(\w+)="([^"]*)"', header)}
        signature, realm = given.pop("oauth_signature", ""), given.pop("realm", "")
        fields = sorted(
            (_escape(name), _escape(value)) for name, value in [*given.items(), *parse_qsl(query)]
        )
        base = "&".join(
            [
                method,
                _escape(HOST + path),
                _escape("&".join(f"{name}={value}" for name, value in fields)),
            ]
        )
        key = f"{_escape(CONSUMER_SECRET)}&{_escape(TOKEN_SECRET)}"
        digest = hmac.new(key.encode(), base.encode(), sha256).digest()
        nonce, stamp = given.get("oauth_nonce", ""), given.get("oauth_timestamp", "")
        good = (
            realm == ACCOUNT
            and given.get("oauth_consumer_key") == CONSUMER_KEY
            and given.get("oauth_token") == TOKEN_ID
            and given.get("oauth_signature_method") == "HMAC-SHA256"
            and hmac.compare_digest(signature, base64.b64encode(digest).decode())
            and stamp.isdecimal()
            and abs(int(stamp) - time.time()) <= _TOLERANCE
            and nonce not in self._nonces
        )
        self._nonces.add(nonce)
        return good

    def log_in(self, form: Mapping[str, str]) -> Response:
        """The token endpoint's answer to a form."""
        if form.get("grant_type") != "client_credentials":
            return _refuse("unsupported_grant_type")
        if form.get("client_assertion_type") != _ASSERTION_TYPE:
            return _refuse("invalid_request")
        assertion = form.get("client_assertion", "")
        try:
            header = jwt.get_unverified_header(assertion)
            claims = jwt.decode(
                assertion,
                private_key().public_key(),
                algorithms=_ALGORITHMS,
                audience=HOST + TOKEN_PATH,
                options={"require": ["iss", "aud", "iat", "exp", "scope"]},
            )
        except jwt.InvalidTokenError:
            return _refuse("invalid_grant")
        if header.get("kid") != CERTIFICATE_ID or claims["iss"] != CLIENT_ID:
            return _refuse("invalid_client", 401)
        if claims["exp"] - claims["iat"] > LIFETIME.total_seconds():
            return _refuse("invalid_grant")
        if "rest_webservices" not in claims["scope"]:
            return _refuse("invalid_scope")
        self._issued += 1
        token = sha256(f"{self._issued} {self._clock.now()}".encode()).hexdigest()
        self._tokens[token] = self._clock.timestamp() + LIFETIME.total_seconds()
        return JSONResponse(
            {
                "access_token": token,
                "expires_in": str(int(LIFETIME.total_seconds())),
                "token_type": "bearer",
            }
        )


def _escape(text: str) -> str:
    return quote(text, safe="~")


def _refuse(error: str, status: int = 400) -> Response:
    return JSONResponse({"error": error}, status)
