"""How far each source has been read, and the months that wait for a rebuild from the lake.

An incremental pull records the months that it touches, lands its window, and moves the source's
cursor, in this order: whatever a kill leaves, no landing is unknown here. Canonical runs take those
months and clear what they rebuilt.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from revrec_pipeline.ledger import Transaction, now

#: How names begin that stand among the landings and are none: rebuilds that somebody asked for.
#: They sort before every landing: a sensor takes the greatest as its mark of what has landed.
ASKED = "-"
#: For sources of our own, whose months are no partitions.
ALL_MONTHS = ("0000-01", "9999-12")


def position(tx: Transaction, source: str) -> datetime | None:
    """The end of the last window that landed; None before the first."""
    found = tx.one("SELECT position FROM source_cursor WHERE source = :source", source=source)
    return found["position"] if found else None


def advance(tx: Transaction, source: str, to: datetime) -> None:
    """Move the cursor to `to`; a cursor never moves backwards."""
    tx.execute(
        """
        INSERT INTO source_cursor (source, position, updated_at) VALUES (:source, :position, :at)
        ON CONFLICT (source) DO UPDATE SET
            position = greatest(source_cursor.position, excluded.position),
            updated_at = excluded.updated_at
        """,
        source=source,
        position=to,
        at=now(),
    )


def set_anew(tx: Transaction, source: str, to: datetime) -> None:
    """Put the cursor on `to`, also backwards: everything has just been listed again."""
    tx.execute("DELETE FROM source_cursor WHERE source = :source", source=source)
    advance(tx, source, to)


def want(tx: Transaction, source: str, periods: Iterable[str]) -> None:
    """Note the months that a sync sets out to list, so that one that is killed is gone on with."""
    for period in periods:
        tx.execute(
            "INSERT INTO wanted_listing VALUES (:source, :period) ON CONFLICT DO NOTHING",
            source=source,
            period=period,
        )


def wanted(tx: Transaction, source: str) -> list[str]:
    """The months that a sync set out to list and has not landed, oldest first."""
    found = tx.rows(
        "SELECT period FROM wanted_listing WHERE source = :source ORDER BY period", source=source
    )
    return [row["period"] for row in found]


def listed(tx: Transaction, source: str, period: str) -> None:
    """The month's listing has landed."""
    tx.execute(
        "DELETE FROM wanted_listing WHERE source = :source AND period = :period",
        source=source,
        period=period,
    )


def touch(tx: Transaction, source: str, periods: Iterable[str], landing: str) -> None:
    """Record that `landing` brought documents of these months."""
    for period in periods:
        tx.execute(
            """
            INSERT INTO touched_period (source, period, landing, touched_at)
            VALUES (:source, :period, :landing, :at)
            ON CONFLICT (source, period, landing) DO NOTHING
            """,
            source=source,
            period=period,
            landing=landing,
            at=now(),
        )


def pending_periods(
    tx: Transaction, source: str, months: tuple[str, str] = ALL_MONTHS
) -> list[str]:
    """The months with a landing that no sync has taken yet, oldest first.

    `months` are the first and last that count: those of the site, for a source of others.
    """
    found = tx.rows(
        """
        SELECT DISTINCT period FROM touched_period
        WHERE source = :source AND sync_key IS NULL AND period BETWEEN :first AND :last
        ORDER BY period
        """,
        source=source,
        first=months[0],
        last=months[1],
    )
    return [row["period"] for row in found]


def take(
    tx: Transaction, source: str, sync_key: str, months: tuple[str, str] = ALL_MONTHS
) -> dict[str, list[str]]:
    """Take every month that no running sync has, for `sync_key`: month → its landings.

    `months` are the first and last that can be built; the others go on waiting.

    Months whose sync was sealed without clearing them (the rebuild failed) are taken again. Open
    the sync's jobs before or in the same transaction: a sync without an unsealed job counts as
    ended.
    """
    taken = tx.rows(
        """
        UPDATE touched_period SET sync_key = :sync_key
        WHERE source = :source AND period BETWEEN :first AND :last AND (
            sync_key IS NULL OR sync_key NOT IN (SELECT sync_key FROM job WHERE sealed_at IS NULL)
        )
        RETURNING period, landing
        """,
        source=source,
        sync_key=sync_key,
        first=months[0],
        last=months[1],
    )
    return _by_month(taken)


def held(tx: Transaction, source: str, sync_key: str) -> dict[str, list[str]]:
    """The months that this sync took and nobody has rebuilt yet: month → the landings it took."""
    return _by_month(
        tx.rows(
            "SELECT period, landing FROM touched_period "
            "WHERE source = :source AND sync_key = :sync_key",
            source=source,
            sync_key=sync_key,
        )
    )


def clear(tx: Transaction, source: str, period: str, landings: Sequence[str]) -> None:
    """The month was rebuilt with these landings; what landed since then keeps waiting."""
    tx.execute(
        """
        DELETE FROM touched_period
        WHERE source = :source AND period = :period AND landing = ANY(:landings)
        """,
        source=source,
        period=period,
        landings=list(landings),
    )


def forget_missing(tx: Transaction, source: str, landings: Sequence[str]) -> None:
    """Drop what was recorded of landings that never came, for their pull was killed.

    `landings` are all that the lake has, and no pull of the source may be about to land another.
    """
    tx.execute(
        f"""
        DELETE FROM touched_period
        WHERE source = :source AND landing <> ALL(:landings) AND landing NOT LIKE '{ASKED}%'
        """,
        source=source,
        landings=list(landings),
    )


def _by_month(rows: Iterable[dict[str, Any]]) -> dict[str, list[str]]:
    months: dict[str, list[str]] = {}
    for row in sorted(rows, key=lambda row: (row["period"], row["landing"])):
        months.setdefault(row["period"], []).append(row["landing"])
    return months
