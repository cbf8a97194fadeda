"""The sandbox's OAuth server for QuickBooks: refresh tokens that rotate, access tokens that end.

A refresh token stays the same for a day, then the answer brings a new one; the old one is taken for
a while longer, so that who crashed before saving can still come back.
"""

import base64
import binascii
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from revrec_pipeline.sandbox.clock import Clock

CLIENT_ID = "ABsandboxRevRecPipelineClient01"
CLIENT_SECRET = "sandboxQuickbooksClientSecret01"  # noqa: S105 - of the sandbox
REFRESH_TOKEN = "RT1-000-sandbox-first"  # noqa: S105 - of the sandbox
ACCESS_LIFE = timedelta(hours=1)
ROTATION = timedelta(hours=24)
#: How long a replaced refresh token is still taken.
GRACE = timedelta(hours=1)
_REFRESH_LIFE = 8_726_400


@dataclass(slots=True)
class _Refresh:
    issued: datetime
    replaced: datetime | None = None


class TokenServer:
    """All tokens of the one app and company."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        """Back to the first refresh token and no access token."""
        self._numbers = itertools.count(1)
        self._refresh = {REFRESH_TOKEN: _Refresh(self._clock.now())}
        self._access: dict[str, datetime] = {}
        self.rotation = ROTATION
        self.grace = GRACE
        self.answered = 0

    def expire(self) -> None:
        """End all access tokens at once."""
        self._access.clear()

    def admits(self, access: str) -> bool:
        """Whether an access token is known and has not ended."""
        until = self._access.get(access)
        return until is not None and self._clock.now() < until

    def answer(self, authorization: str, form: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
        """Status and body for a request to the token endpoint."""
        if _basic(authorization) != (CLIENT_ID, CLIENT_SECRET):
            return 401, {"error": "invalid_client"}
        if form.get("grant_type") != "refresh_token" or set(form) - {"grant_type", "refresh_token"}:
            return 400, {"error": "unsupported_grant_type"}
        now, given = self._clock.now(), form.get("refresh_token", "")
        known = self._refresh.get(given)
        if known is None or (known.replaced and now - known.replaced > self.grace):
            return 400, {
                "error": "invalid_grant",
                "error_description": "Incorrect or invalid refresh token",
            }
        newest = given
        if known.replaced or now - known.issued >= self.rotation:
            newest = f"RT1-{next(self._numbers):03}-sandbox"
            self._refresh[newest] = _Refresh(now)
            for token, state in self._refresh.items():
                if token != newest and state.replaced is None:
                    state.replaced = now
        access = f"eyJlbmMi.sandbox.{next(self._numbers):05}"
        self._access[access] = now + ACCESS_LIFE
        self.answered += 1
        return 200, {
            "access_token": access,
            "expires_in": int(ACCESS_LIFE.total_seconds()),
            "refresh_token": newest,
            "x_refresh_token_expires_in": _REFRESH_LIFE,
            "token_type": "bearer",
        }


def _basic(header: str) -> tuple[str, str] | None:
    scheme, _, value = header.partition(" ")
    try:
        user, _, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return (user, password) if scheme.lower() == "basic" else None
