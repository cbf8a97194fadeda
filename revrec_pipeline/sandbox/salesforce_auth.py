"""Log-in to the sandbox's Salesforce: client credentials, JWT bearer, and how long tokens live."""

import base64
import binascii
from datetime import timedelta
from functools import cache
from hashlib import sha256
from urllib.parse import parse_qsl

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response

from revrec_pipeline.sandbox.clock import Clock
from revrec_pipeline.sandbox.salesforce_org import ORG_ID

DOMAIN = "fernhill.my"
INSTANCE_URL = f"https://{DOMAIN}.salesforce.com"
CLIENT_ID = "3MVG9sandboxFernhillConsumerKey"
CLIENT_SECRET = "sandbox-client-secret"  # noqa: S105 - opens the sandbox only
USERNAME = "revrec@fernhill.example"
_USER_ID = "005Hs0000000009IAA"
#: The session length of a new org.
SESSION = timedelta(hours=2)
_JWT_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_AUDIENCES = ("https://login.salesforce.com", "https://test.salesforce.com")


# The key pair of the made-up external client app. Its primes stand here because the process that
# prints the sandbox's settings and the one that serves it need the same key; it opens nothing else.
_P = int(
    "e092c3d35b4683d2f33f2d4f3c5d6cec46551f230f48a1f2465588312972e247"
    "cfcba9a9e495cbef4e1d683e91a8f246ef3431fdbc4e4366198a867e41f63d9e"
    "46ece8fd0ace79d0ebd4ff2c93b276f1733274fcc6d84521c0e1d0b150c6dd6c"
    "a3bb729b39f99b662bf8afd8da112b846b6f46d94a59132bd4265db74cf9b389",
    16,
)
_Q = int(
    "d7ed8d56796f5a5578587b6c0bde55516137fb074bbb26e6f4474cf87b427268"
    "7acf602e59ade7e33d1dd7dd53c24785864a2f88f83c94896dee6a481ece3d31"
    "146507de7c1dc9ad553c9dd47422fae3db244d896aa4667063d905a9911334fa"
    "22838f5d5dca05ea8b78680f0975b30ec8563447c3141845ff0c64823f8aeb45",
    16,
)
_E = 65537


@cache
def _private_key() -> rsa.RSAPrivateKey:
    d = rsa.rsa_recover_private_exponent(_E, _P, _Q)
    return rsa.RSAPrivateNumbers(
        _P,
        _Q,
        d,
        rsa.rsa_crt_dmp1(d, _P),
        rsa.rsa_crt_dmq1(d, _Q),
        rsa.rsa_crt_iqmp(_P, _Q),
        rsa.RSAPublicNumbers(_E, _P * _Q),
    ).private_key()


def private_key_pem() -> str:
    """The client's half of the key pair, as PEM."""
    pem = _private_key().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return pem.decode("ascii")


def env(origin: str) -> dict[str, str]:
    r"""Credentials for both flows; line breaks of the key are written as `\n`."""
    return {
        "SALESFORCE_API_URL": origin,
        "SALESFORCE_DOMAIN": DOMAIN,
        "SALESFORCE_CLIENT_ID": CLIENT_ID,
        "SALESFORCE_CLIENT_SECRET": CLIENT_SECRET,
        "SALESFORCE_USERNAME": USERNAME,
        "SALESFORCE_PRIVATE_KEY": private_key_pem().replace("\n", "\\n"),
    }


class Sessions:
    """Tokens that were given out, and until when each is good."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._valid: dict[str, float] = {}
        self._issued = 0

    def expire(self) -> None:
        """End all sessions now, as an administrator may."""
        self._valid.clear()

    def valid(self, authorization: str | None) -> bool:
        """Whether an Authorization header holds a token of a living session."""
        token = (authorization or "").removeprefix("Bearer ")
        return self._valid.get(token, 0) > self._clock.timestamp()

    def log_in(self, headers: Headers, form: bytes) -> Response:
        """The answer of the token endpoint to a URL-encoded form."""
        fields = dict(parse_qsl(form.decode("ascii", "replace")))
        grant = fields.get("grant_type")
        if grant == "client_credentials":
            return self._client_credentials(headers, fields)
        if grant == _JWT_GRANT:
            return self._jwt_bearer(fields.get("assertion", ""))
        return _refuse("unsupported_grant_type", "grant type not supported")

    def _client_credentials(self, headers: Headers, fields: dict[str, str]) -> Response:
        client_id, secret = fields.get("client_id", ""), fields.get("client_secret", "")
        scheme, _, encoded = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            try:
                decoded = base64.b64decode(encoded, validate=True).decode()
            except (binascii.Error, UnicodeDecodeError):
                decoded = ""
            client_id, _, secret = decoded.partition(":")
        if client_id != CLIENT_ID:
            return _refuse("invalid_client_id", "client identifier invalid")
        if secret != CLIENT_SECRET:
            return _refuse("invalid_client", "invalid client credentials")
        return self._grant()

    def _jwt_bearer(self, assertion: str) -> Response:
        try:
            claims = jwt.decode(
                assertion,
                _private_key().public_key(),
                algorithms=["RS256"],
                audience=_AUDIENCES,
                options={"verify_exp": False, "require": ["iss", "sub", "aud", "exp"]},
            )
            remaining = int(claims["exp"]) - self._clock.timestamp()
        except (jwt.InvalidTokenError, ValueError):
            return _refuse("invalid_grant", "invalid assertion")
        if claims["iss"] != CLIENT_ID:
            return _refuse("invalid_client_id", "client identifier invalid")
        if claims["sub"] != USERNAME:
            return _refuse("invalid_grant", "user hasn't approved this consumer")
        if not 0 < remaining <= 300:
            return _refuse("invalid_grant", "invalid assertion")
        return self._grant()

    def _grant(self) -> Response:
        self._issued += 1
        digest = sha256(f"{self._issued} {self._clock.now()}".encode()).hexdigest()
        token = f"{ORG_ID[:15]}!AQ4AQ{digest}"
        self._valid[token] = self._clock.timestamp() + SESSION.total_seconds()
        return JSONResponse(
            {
                "access_token": token,
                "signature": base64.b64encode(sha256(token.encode()).digest()).decode(),
                "scope": "api",
                "instance_url": INSTANCE_URL,
                "id": f"https://login.salesforce.com/id/{ORG_ID}/{_USER_ID}",
                "token_type": "Bearer",
                "issued_at": str(self._clock.timestamp() * 1000),
            }
        )


def _refuse(error: str, description: str) -> Response:
    return JSONResponse({"error": error, "error_description": description}, 400)
