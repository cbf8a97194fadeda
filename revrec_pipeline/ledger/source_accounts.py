"""Which company each source is connected to.

Two companies under one source's name would be mixed in every month without a trace: so the account
of the first pull is on record, and another one is refused.
"""

from datetime import datetime, timedelta

from revrec_pipeline.errors import SettingsError
from revrec_pipeline.ledger import Transaction, as_text, now

#: How long an account that was verified need not be asked for again: a backfill asks once, not once
#: a month.
VALID_FOR = timedelta(hours=1)


def is_known(tx: Transaction, source: str, *, at: datetime | None = None) -> bool:
    """Whether the account was verified within the last hour."""
    found = tx.one(
        "SELECT source FROM source_account WHERE source = :source AND verified_at > :since",
        source=source,
        since=(at or now()) - VALID_FOR,
    )
    return found is not None


def verify(
    tx: Transaction, source: str, account_id: str, account_name: str, *, at: datetime | None = None
) -> None:
    """Put the account on record, or compare it with the one that is.

    Raises:
        SettingsError: it is another one.
    """
    tx.execute(
        """
        INSERT INTO source_account (source, account_id, account_name, verified_at)
        VALUES (:source, :account_id, :account_name, :at)
        ON CONFLICT (source) DO UPDATE SET
            account_name = excluded.account_name, verified_at = excluded.verified_at
        WHERE source_account.account_id = excluded.account_id
        """,
        source=source,
        account_id=account_id,
        account_name=account_name,
        at=at or now(),
    )
    known = tx.one("SELECT * FROM source_account WHERE source = :source", source=source)
    if known and known["account_id"] != account_id:
        raise SettingsError(
            f"{source}: the secrets belong to account {account_id} ({account_name}), but this "
            f"home's {source} data came from {known['account_id']} ({known['account_name']}, last "
            f"seen {as_text(known['verified_at'])}); use a REVREC_HOME and ledger of its own for "
            "another company"
        )
