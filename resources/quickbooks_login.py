"""Log-in to QuickBooks Online: the secrets, and a refresh token that rotates.

The refresh token changes about once a day, and the one before it stops working soon. So the newest
is in the ledger (`revrec_pipeline.ledger.source_tokens`), saved before the access token beside it
is used, and whoever renews it holds a lease, for no transaction may last as long as a request. The
refresh token of the environment begins this; after that it is the last resort.
"""

import base64
import logging
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Self
from urllib.parse import urlencode

import msgspec
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from resources.http import Sleep
from resources.rest import PASSING, Passing, Received, RestApi, Token, Verdict, json_reader
from resources.traffic import Traffic
from revrec_pipeline.errors import (
    SettingsError,
    SourceAuthError,
    SourceSchemaError,
    SourceTimeoutError,
)
from revrec_pipeline.ledger import Ledger, now
from revrec_pipeline.ledger.source_tokens import LEASE, Account, Tokens, new_holder

SOURCE = "quickbooks"
_ORIGIN = "https://oauth.platform.intuit.com"
_PATH = "/oauth2/v1/tokens/bearer"
#: An access token lasts an hour; a new one is fetched so long before its end.
_MARGIN = timedelta(minutes=2)
#: Several tries must fit into a lease.
_READ_TIMEOUT = 30.0
#: How often to look whether another process has renewed the tokens.
_POLL = 0.25

_log = logging.getLogger(__name__)


class QuickbooksSecrets(BaseSettings):
    """The environment variables of the source."""

    model_config = SettingsConfigDict(
        env_prefix="QUICKBOOKS_", extra="ignore", frozen=True, env_ignore_empty=True
    )

    #: Keys of the app on developer.intuit.com.
    client_id: str = Field(min_length=1)
    client_secret: SecretStr = Field(min_length=1)
    #: What connecting the app to the company gave first; later ones are kept in the ledger.
    refresh_token: SecretStr = Field(min_length=1)
    #: The company; digits.
    realm_id: str = Field(pattern=r"^\d+$")
    #: Origin that every request goes to instead of Intuit's.
    api_url: str | None = None

    @classmethod
    def from_env(cls) -> Self:
        """Read them.

        Raises:
            SettingsError: one is missing or has another form; the message shows no value.
        """
        try:
            return cls.model_validate({})
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            name = f"QUICKBOOKS_{str(first['loc'][-1]).upper()}"
            if first["type"] == "missing":
                raise SettingsError(
                    f"{name} is not set; QuickBooks needs QUICKBOOKS_CLIENT_ID, "
                    "QUICKBOOKS_CLIENT_SECRET, QUICKBOOKS_REFRESH_TOKEN and QUICKBOOKS_REALM_ID"
                ) from None
            raise SettingsError(f"{name} has the wrong form: {first['msg']}") from None


class _RefusedTokenError(SourceAuthError):
    """The refresh token is unknown, replaced too long ago, or has ended."""


class _Answer(msgspec.Struct):
    access_token: str
    refresh_token: str
    expires_in: int


class Login:
    """The access token of one company, for all threads of a client and beside other processes.

    `open_ledger` is called when a token is asked for first; `clock` is only replaced by tests.
    """

    def __init__(
        self,
        secrets: QuickbooksSecrets,
        open_ledger: Callable[[], Ledger],
        *,
        sleep: Sleep,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._open_ledger = open_ledger
        self._sleep = sleep
        self._clock = clock
        self._given = secrets.refresh_token.get_secret_value()
        secret = secrets.client_secret.get_secret_value()
        self._account = Account(SOURCE, secrets.realm_id, secret)
        pair = base64.b64encode(f"{secrets.client_id}:{secret}".encode()).decode()
        self._api = RestApi(
            SOURCE,
            _ORIGIN,
            api_url=secrets.api_url,
            authorize=lambda _method, _url: {
                "Authorization": f"Basic {pair}",
                "Accept": "application/json",
            },
            judge=_judge,
            traffic=Traffic(1, sleep=sleep),
            request_id_header="intuit_tid",
            read_timeout=_READ_TIMEOUT,
        )
        self._token = Token(self._fetch)
        self._last = threading.local()
        self._refused: str | None = None

    def close(self) -> None:
        """Close all connections."""
        self._api.close()

    def access_token(self) -> str:
        """The access token, renewed when it has ended or the API has refused it.

        Raises:
            SourceError: it cannot be renewed.
            LedgerError: the ledger cannot be read or written.
        """
        self._last.token = self._token.get()
        return str(self._last.token)

    def refused(self) -> None:
        """The API refused the token that this thread was given last."""
        token = getattr(self._last, "token", None)
        if token is not None:
            self._refused = token
            self._token.forget(token)

    # -- one renewal, whoever does it --------------------------------------------------------

    def _fetch(self) -> tuple[str, float]:
        """A usable access token, and the monotonic time until which to use it."""
        tokens = self._shared()
        left = (tokens.expires_at - _MARGIN - self._clock()).total_seconds()
        return tokens.access, time.monotonic() + left

    def _shared(self) -> Tokens:
        """The ledger's tokens if they are good, else new ones from us or from another process."""
        ledger, holder = self._open_ledger(), new_holder()
        began = self._clock()
        while True:
            with ledger.transaction() as tx:
                kept = self._account.read(tx)
                if kept is not None and self._is_good(kept):
                    return kept
                mine = self._account.lease(tx, holder, at=self._clock())
            if mine and (tokens := self._renew(ledger, holder, kept)):
                return tokens
            if self._clock() - began > 2 * LEASE:
                raise SourceTimeoutError(
                    SOURCE, "other processes have been renewing the tokens for minutes; try again"
                )
            self._sleep(_POLL)

    def _is_good(self, kept: Tokens) -> bool:
        fresh = self._clock() < kept.expires_at - _MARGIN
        return fresh and kept.access != self._refused

    def _renew(self, ledger: Ledger, holder: str, kept: Tokens | None) -> Tokens | None:
        """New tokens, saved; None when the lease ended meanwhile, so that others have newer ones.

        A crash between the answer and saving leaves the old refresh token in the ledger, which is
        still taken for a while: the next renewal heals it.
        """
        try:
            tokens = self._ask(kept)
        except BaseException:
            with ledger.transaction() as tx:
                self._account.release(tx, holder)
            raise
        with ledger.transaction() as tx:
            saved = self._account.save(tx, holder, tokens, at=self._clock())
        if not saved:
            _log.warning("quickbooks: renewing took longer than its lease; reading the ledger's")
        return tokens if saved else None

    def _ask(self, kept: Tokens | None) -> Tokens:
        """Ask for new tokens, with the newest refresh token first."""
        refused: _RefusedTokenError | None = None
        for place, refresh in self._candidates(kept):
            form = urlencode({"grant_type": "refresh_token", "refresh_token": refresh})
            asked_at = self._clock()
            try:
                _, answer = self._api.call(
                    "POST",
                    _PATH,
                    json_reader(_Answer),
                    body=form.encode(),
                    headers={"Content-Type": "application/x-www-form-urlencoded"},
                )
            except _RefusedTokenError as error:
                _log.warning("quickbooks: the refresh token of %s was refused", place)
                refused = error
                continue
            return Tokens(
                answer.access_token,
                answer.refresh_token,
                asked_at + timedelta(seconds=answer.expires_in),
                self._given,
            )
        raise refused or AssertionError("there is always the environment's token")

    def _candidates(self, kept: Tokens | None) -> Iterator[tuple[str, str]]:
        """Refresh tokens, the likeliest first.

        Another token in the environment than the one that the ledger's began with is a new one:
        somebody has connected the app again.
        """
        stored = [("the ledger", kept.refresh)] if kept else []
        given = ("the environment", self._given)
        reconnected = kept is not None and kept.given != self._given
        ordered = [given, *stored] if reconnected else [*stored, given]
        seen: set[str] = set()
        for place, refresh in ordered:
            if refresh not in seen:
                seen.add(refresh)
                yield place, refresh


def _judge(request: str, received: Received) -> Verdict:
    """What the token endpoint says. Its words are not repeated: they may hold the token."""
    if 200 <= received.status < 300:
        return None
    if received.status in PASSING or received.status >= 500:
        return Passing(f"HTTP {received.status}")
    reason = _reason(received)
    if reason == "invalid_grant":
        return _RefusedTokenError(
            SOURCE,
            "Intuit refused the refresh token (invalid_grant); connect the app to the company "
            "again and set QUICKBOOKS_REFRESH_TOKEN",
        )
    if reason == "invalid_client" or received.status == 401:
        return SourceAuthError(
            SOURCE,
            "Intuit refused the app (invalid_client); check QUICKBOOKS_CLIENT_ID and "
            "QUICKBOOKS_CLIENT_SECRET",
        )
    return SourceSchemaError(SOURCE, f"{request} answered {received.summary}")


def _reason(received: Received) -> str | None:
    try:
        found = msgspec.json.decode(received.body, type=dict[str, object])
    except msgspec.MsgspecError:
        return None
    return str(found.get("error"))
