"""Accounting periods: their existence decides whether a batch loads live or goes to a file.

The first period is set by a person; closing it opens the next month, so exactly one is open from
then on. Changes take the lock under which deliveries are claimed.
"""

from datetime import datetime
from typing import Any

from revrec_pipeline.errors import LedgerError
from revrec_pipeline.ledger import Transaction, as_text, now
from revrec_pipeline.model import Route
from revrec_pipeline.periods import next_period, parse_period

#: The lock under which a route is decided, and everything that decides it changes.
DELIVERY_LOCK = "delivery"


def set_period(tx: Transaction, period: str, *, at: datetime | None = None) -> None:
    """Open `period`. Setting the open one again changes nothing.

    Raises:
        UsageError: it is no month.
        LedgerError: another period is open, or `period` is not after the last closed one.
    """
    parse_period(period)
    tx.lock(DELIVERY_LOCK)
    opened = _open_period(tx)
    closed = tx.one(
        "SELECT max(period) AS period FROM accounting_period WHERE closed_at IS NOT NULL"
    )
    if opened == period:
        return
    if closed and closed["period"] and period <= closed["period"]:
        raise LedgerError(f"{period} is closed: periods are closed up to {closed['period']}")
    if opened:
        raise LedgerError(
            f"{opened} is the open accounting period: `revrec period close` closes it and opens "
            f"{next_period(opened)}"
        )
    _insert(tx, period, at or now())


def close_period(tx: Transaction, *, at: datetime | None = None) -> tuple[str, str]:
    """Close the open period and open the month after it: (closed, opened)."""
    tx.lock(DELIVERY_LOCK)
    period = _open_period(tx)
    if period is None:
        raise LedgerError("no accounting period is set: set the first with `revrec period set`")
    at = at or now()
    tx.execute(
        "UPDATE accounting_period SET closed_at = :at WHERE period = :period", period=period, at=at
    )
    following = next_period(period)
    _insert(tx, following, at)
    return period, following


def list_periods(tx: Transaction) -> list[dict[str, Any]]:
    """`{period, status: open|closed, set_at, closed_at}`, oldest first; times as ISO 8601 text."""
    return [
        {
            "period": row["period"],
            "status": "closed" if row["closed_at"] else "open",
            "set_at": as_text(row["set_at"]),
            "closed_at": as_text(row["closed_at"]),
        }
        for row in tx.rows("SELECT * FROM accounting_period ORDER BY period")
    ]


def is_live(tx: Transaction) -> bool:
    """Whether any period was ever set."""
    return tx.one("SELECT period FROM accounting_period LIMIT 1") is not None


def current_route(tx: Transaction) -> Route:
    """Where a batch that is claimed now goes."""
    return Route.LIVE if is_live(tx) else Route.CONVERSION


def _open_period(tx: Transaction) -> str | None:
    found = tx.one("SELECT period FROM accounting_period WHERE closed_at IS NULL")
    return found["period"] if found else None


def _insert(tx: Transaction, period: str, at: datetime) -> None:
    tx.execute(
        "INSERT INTO accounting_period (period, set_at) VALUES (:period, :at)", period=period, at=at
    )
