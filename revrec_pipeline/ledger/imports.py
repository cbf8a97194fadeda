"""Files that became jobs: which content, who brought it, when, and where the original is kept.

A file is known by its content, not by its name. Its jobs share the row's `sync_key`. While content
is being imported, a claim keeps others from importing it, too; a killed import's claim runs out.
"""

from datetime import datetime, timedelta
from typing import Any

from revrec_pipeline.errors import ContentBusyError
from revrec_pipeline.ledger import Rows, Transaction, as_text, now
from revrec_pipeline.model import OWN_SOURCES


def claim(
    tx: Transaction,
    *,
    sha256: str,
    source: str,
    sync_key: str,
    who: str,
    seconds: float,
    at: datetime | None = None,
) -> None:
    """Say that this content is being imported, or go on saying so.

    Raises:
        ContentBusyError: somebody else imports the same content.
    """
    at = at or now()
    tx.lock("imports")
    key = {"source": source, "sha256": sha256}
    held = tx.one(
        """
        SELECT who, claimed_until FROM import_claim WHERE source = :source AND sha256 = :sha256
            AND sync_key <> :sync_key AND claimed_until > :at
        """,
        **key,
        sync_key=sync_key,
        at=at,
    )
    if held:
        raise ContentBusyError(
            f"the same content is being imported by {held['who']}; see `revrec jobs` in a while "
            f"(if that import was killed, try again after {as_text(held['claimed_until'])})"
        )
    tx.execute(
        """
        INSERT INTO import_claim (source, sha256, sync_key, who, claimed_until)
        VALUES (:source, :sha256, :sync_key, :who, :until)
        ON CONFLICT (source, sha256) DO UPDATE SET sync_key = excluded.sync_key,
            who = excluded.who, claimed_until = excluded.claimed_until
        """,
        **key,
        sync_key=sync_key,
        who=who,
        until=at + timedelta(seconds=seconds),
    )


def release(tx: Transaction, sync_key: str) -> None:
    """End the claim of an import that is over."""
    tx.execute("DELETE FROM import_claim WHERE sync_key = :sync_key", sync_key=sync_key)


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
NUMBERS = {
    "order_line": "order_number",
    "billing_line": "invoice_number",
    "expense_line": "reference_number",
}


def loaded_by_systems(tx: Transaction, table: str, named: Rows) -> list[dict[str, Any]]:
    """Which of these rows a system has loaded live: `{source, key, place, named}`, in their order.

    `named` has `source`, `key`, `item` and `place`. A row that names its system is looked for
    there, by its number. One that names none is looked for in every system, by its number and,
    in orders, its item: two systems may count alike, but not that alike. At most 20 are told.
    """
    staged = tx.stage(named)
    item = "AND line.order_item_number = named.item" if table == "order_line" else ""
    return tx.rows(
        f"""
        SELECT line.source, named.key, min(named.place)::INTEGER AS place,
            min(named.source) <> '' AS named
        FROM {staged} AS named JOIN {table} AS line ON line.{NUMBERS[table]} = named.key
        WHERE line.removed_at IS NULL AND line.source NOT IN {OWN_SOURCES} AND (
            line.source = named.source OR (named.source = '' {item})
        ) GROUP BY line.source, named.key ORDER BY 3, 1 LIMIT 20
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
