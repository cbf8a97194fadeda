"""Files that became jobs: which content, who brought it, when, and where the original is kept.

A file is known by its content, not by its name. Its jobs share the row's `sync_key`.
"""

from datetime import datetime
from typing import Any

from revrec_pipeline.ledger import Arrow, Transaction, as_text, now


def record(
    tx: Transaction,
    *,
    sha256: str,
    source: str,
    sync_key: str,
    name: str,
    path: str,
    size: int,
    who: str,
    at: datetime | None = None,
) -> None:
    """Note that this content was taken; `path` is the original's, below the lake's root."""
    tx.execute(
        """
        INSERT INTO imported_file (sha256, source, sync_key, name, path, bytes, who, imported_at)
        VALUES (:sha256, :source, :sync_key, :name, :path, :size, :who, :at)
        ON CONFLICT (sync_key) DO NOTHING
        """,
        sha256=sha256,
        source=source,
        sync_key=sync_key,
        name=name,
        path=path,
        size=size,
        who=who,
        at=at or now(),
    )


def earlier(tx: Transaction, source: str, sha256: str) -> dict[str, Any] | None:
    """The last time that this content was taken: `{name, who, at, job_ids}`."""
    found = tx.one(
        """
        SELECT name, who, imported_at, sync_key FROM imported_file
        WHERE source = :source AND sha256 = :sha256 ORDER BY imported_at DESC LIMIT 1
        """,
        source=source,
        sha256=sha256,
    )
    if found is None:
        return None
    return {
        "name": found["name"],
        "who": found["who"],
        "at": as_text(found["imported_at"]),
        "job_ids": _job_ids(tx, found["sync_key"]),
    }


#: The number that people know a document of these tables by.
_NUMBERS = {"order_line": "order_number", "billing_line": "invoice_number"}


def loaded_by_systems(tx: Transaction, table: str, named: Arrow) -> list[dict[str, Any]]:
    """Which of these documents (`source`, `key`, `place`) their own system has loaded live.

    `{source, key, place}` of some of them, in the order of the file.
    """
    if table not in _NUMBERS:
        return []
    staged = tx.stage(named)
    return tx.rows(
        f"""
        SELECT named.source, named.key, named.place FROM {staged} AS named WHERE EXISTS (
            SELECT 1 FROM {table} AS line WHERE line.source = named.source
                AND line.{_NUMBERS[table]} = named.key AND line.removed_at IS NULL
        ) ORDER BY length(named.place), named.place LIMIT 20
        """
    )


def original_of(tx: Transaction, job_id: int) -> dict[str, Any] | None:
    """The original of a job: `{name, path, sha256, bytes, who, at}`; None for a job of a system."""
    found = tx.one(
        """
        SELECT name, path, sha256, bytes, who, imported_at FROM imported_file
        WHERE sync_key = (SELECT sync_key FROM job WHERE id = :job_id)
        """,
        job_id=job_id,
    )
    if found is None:
        return None
    return {**found, "at": as_text(found.pop("imported_at"))}


def _job_ids(tx: Transaction, sync_key: str) -> list[int]:
    found = tx.rows("SELECT id FROM job WHERE sync_key = :sync_key ORDER BY id", sync_key=sync_key)
    return [row["id"] for row in found]
