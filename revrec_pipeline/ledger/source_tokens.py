"""OAuth tokens that rotate: the newest ones of each account, and whose turn it is to renew them.

A vendor that hands out a new refresh token stops taking the old one soon after. So the new one is
saved before anything is done with it, and only one process at a time may ask for it. That takes
longer than a transaction may: whoever renews takes a *lease* on the account's row, asks the vendor
outside of any transaction, and saves under the lease. A process that dies in between leaves the old
token and a lease behind, which ends by itself, or at once when its process is seen to be gone.

Tokens are stored sealed with a key made from the client's secret, which is in the environment only:
neither a copy of the ledger nor a statement in a driver's error shows them. How a vendor is asked
is in the source's log-in module.
"""

import base64
import hmac
import json
import os
import socket
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from secrets import token_hex

from cryptography.fernet import Fernet, InvalidToken

from revrec_pipeline.ledger import Transaction, now

#: Longer than the vendor's slowest answer, after which nobody waits for the holder any more.
LEASE = timedelta(minutes=3)


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a vendor handed out last."""

    access: str = field(repr=False)
    refresh: str = field(repr=False)
    expires_at: datetime  # of the access token
    #: The refresh token of the environment when these were saved. Another one there means that
    #: somebody has connected the account anew.
    given: str = field(repr=False)


class Account:
    """One account of one source, and the key that seals its tokens."""

    def __init__(self, source: str, account: str, secret: str) -> None:
        self.source = source
        self.account = account
        key = hmac.digest(secret.encode(), f"revrec {source} {account}".encode(), "sha256")
        self._box = Fernet(base64.urlsafe_b64encode(key))

    def read(self, tx: Transaction) -> Tokens | None:
        """The newest tokens; None if there are none, or another secret has sealed them."""
        found = tx.one(
            "SELECT sealed FROM source_token WHERE source = :source AND account = :account",
            source=self.source,
            account=self.account,
        )
        return self._unseal(found["sealed"]) if found and found["sealed"] else None

    def lease(self, tx: Transaction, holder: str, *, at: datetime | None = None) -> bool:
        """Take the lease unless somebody has it who is alive and in time."""
        at = at or now()
        tx.lock(f"source_token {self.source} {self.account}")
        found = tx.one(
            "SELECT leased_by, leased_until FROM source_token "
            "WHERE source = :source AND account = :account",
            source=self.source,
            account=self.account,
        )
        holding = found["leased_by"] if found and found["leased_by"] else None
        if found and holding and found["leased_until"] > at and not _is_gone(holding):
            return False
        tx.execute(
            """
            INSERT INTO source_token (source, account, leased_by, leased_until)
            VALUES (:source, :account, :holder, :until)
            ON CONFLICT (source, account) DO UPDATE SET
                leased_by = excluded.leased_by, leased_until = excluded.leased_until
            """,
            source=self.source,
            account=self.account,
            holder=holder,
            until=at + LEASE,
        )
        return True

    def save(
        self, tx: Transaction, holder: str, tokens: Tokens, *, at: datetime | None = None
    ) -> bool:
        """Save new tokens and give the lease back; False, and nothing saved, when it was lost.

        Whoever lost it was slower than the lease, and another process has renewed meanwhile.
        """
        written = tx.execute(
            """
            UPDATE source_token
            SET sealed = :sealed, saved_at = :at, leased_by = NULL, leased_until = NULL
            WHERE source = :source AND account = :account AND leased_by = :holder
            """,
            source=self.source,
            account=self.account,
            holder=holder,
            sealed=self._seal(tokens),
            at=at or now(),
        )
        return written == 1

    def release(self, tx: Transaction, holder: str) -> None:
        """Give the lease back without new tokens."""
        tx.execute(
            """
            UPDATE source_token SET leased_by = NULL, leased_until = NULL
            WHERE source = :source AND account = :account AND leased_by = :holder
            """,
            source=self.source,
            account=self.account,
            holder=holder,
        )

    def _seal(self, tokens: Tokens) -> str:
        plain = {
            "access": tokens.access,
            "refresh": tokens.refresh,
            "expires_at": tokens.expires_at.astimezone(UTC).isoformat(),
            "given": tokens.given,
        }
        return self._box.encrypt(json.dumps(plain).encode()).decode()

    def _unseal(self, sealed: str) -> Tokens | None:
        try:
            plain = json.loads(self._box.decrypt(sealed.encode()))
        except InvalidToken:
            return None
        return Tokens(
            plain["access"],
            plain["refresh"],
            datetime.fromisoformat(plain["expires_at"]),
            plain["given"],
        )


def new_holder() -> str:
    """A name for one renewal by this process, which tells others where to look whether it lives."""
    return f"{socket.gethostname()}:{os.getpid()}:{token_hex(8)}"


def _is_gone(holder: str) -> bool:
    """Whether the holder was a process of this machine that has ended."""
    host, pid, _ = holder.rsplit(":", 2)
    if host != socket.gethostname():
        return False
    try:
        os.kill(int(pid), 0)  # signal 0 is sent to nobody
    except ProcessLookupError:
        return True
    except PermissionError:  # somebody else's, so it lives
        return False
    return False
