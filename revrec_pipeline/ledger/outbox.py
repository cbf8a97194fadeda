"""The outbox: batches from READY to delivered, each exactly once.

ready → claimed → delivered, or → superseded when a later build of the same month was delivered
first. A claim is a lease: who loses it (killed, too slow) cannot deliver any more, and the next one
takes over. The route is decided at the first claim, under the delivery lock, and stays. What is
written at delivery is in `documents`, `lines` and `revrec_pipeline.delivery`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from revrec_pipeline.errors import LedgerBusyError, LedgerError
from revrec_pipeline.ledger import Transaction, as_text, batch_totals, now
from revrec_pipeline.ledger.accounting_periods import DELIVERY_LOCK, current_route
from revrec_pipeline.ledger.batch_totals import Total
from revrec_pipeline.model import Route

__all__ = [
    "Batch",
    "Total",
    "batch_id",
    "batches",
    "claim",
    "complete",
    "put_batch",
    "ready_jobs",
    "release",
    "renew",
    "request_delivery",
    "undelivered",
]

# A batch that may be claimed: never claimed yet, or by somebody whose lease has ended.
_FREE = "(state = 'ready' OR (state = 'claimed' AND lease_until <= :at))"


@dataclass(frozen=True, slots=True)
class Batch:
    """A claimed batch."""

    id: str
    job_id: int
    source: str
    record_type: str
    period: str
    route: Route
    sequence: int  # order of building
    content_hash: str
    path: str  # in the lake


def batch_id(job_id: int, period: str) -> str:
    """The id of the batch of a job and month: `<job>-<period>`."""
    return f"{job_id}-{period}"


def put_batch(
    tx: Transaction,
    *,
    job_id: int,
    source: str,
    record_type: str,
    period: str,
    content_hash: str,
    path: str,
    totals: Iterable[Total],
    at: datetime | None = None,
) -> bool:
    """Put what a run built into the outbox; False if that content is there or delivered already.

    `content_hash` covers every row, also excluded and flagged ones; `totals` are those of the
    buckets source, flagged and excluded. Other content than before, or content that another job's
    delivery has replaced since, makes the batch READY again, as the one built last.

    Raises:
        LedgerBusyError: other content of this batch is being delivered right now; try again.
    """
    at = at or now()
    tx.lock(DELIVERY_LOCK)
    key = batch_id(job_id, period)
    before = tx.one("SELECT * FROM batch WHERE id = :id", id=key)
    if before and before["content_hash"] == content_hash:
        replaced = before["state"] == "superseded" or _delivered_since(tx, before)
        if not replaced:
            return False
    if before and before["state"] == "claimed" and before["lease_until"] > at:
        raise LedgerBusyError(
            f"batch {key} is being delivered by {before['claimed_by']} until "
            f"{as_text(before['lease_until'])}; run this month again after that"
        )
    tx.execute(
        """
        INSERT INTO batch (id, job_id, source, record_type, period, state, sequence, content_hash,
            path, built_at)
        VALUES (:id, :job_id, :source, :record_type, :period, 'ready', nextval('batch_sequence'),
            :content_hash, :path, :at)
        ON CONFLICT (id) DO UPDATE SET state = 'ready', route = NULL,
            sequence = excluded.sequence, content_hash = excluded.content_hash,
            path = excluded.path, claimed_by = NULL, lease_until = NULL,
            built_at = excluded.built_at, delivered_at = NULL
        """,
        id=key,
        job_id=job_id,
        source=source,
        record_type=record_type,
        period=period,
        content_hash=content_hash,
        path=path,
        at=at,
    )
    tx.execute("DELETE FROM batch_total WHERE batch_id = :id", id=key)
    tx.execute("DELETE FROM removed_document WHERE batch_id = :id", id=key)
    batch_totals.load(tx, {key: totals})
    return True


def ready_jobs(
    tx: Transaction, *, limit: int = 50, at: datetime | None = None
) -> list[dict[str, Any]]:
    """Jobs with batches to deliver that nobody sees to, oldest first.

    `{id, sync_key, source, record_type, name, attempt, sealed: bool, route}`; `route` is what a
    claim must name now. Only a sealed job's batches can be claimed.
    """
    return tx.rows(
        f"""
        SELECT job.id, job.sync_key, job.source, job.record_type, job.name, job.attempt,
            job.sealed_at IS NOT NULL AS sealed, waiting.route
        FROM job
        JOIN (
            SELECT job_id, min(coalesce(route, :route)) AS route FROM batch
            WHERE {_FREE} GROUP BY job_id
        ) AS waiting ON waiting.job_id = job.id
        WHERE job.lease_until IS NULL OR job.lease_until <= :at
        ORDER BY job.id LIMIT :limit
        """,
        route=current_route(tx),
        at=at or now(),
        limit=limit,
    )


def undelivered(
    tx: Transaction, source: str, *, at: datetime | None = None
) -> list[dict[str, Any]]:
    """Sealed jobs of a source that have batches to deliver: `{job_id, route, free: bool}`.

    `free` says that some of them may be claimed now, for `route`.
    """
    return tx.rows(
        f"""
        SELECT job_id, min(coalesce(batch.route, :route)) AS route,
            count(*) FILTER (WHERE {_FREE}) > 0 AS free
        FROM batch JOIN job ON job.id = batch.job_id
        WHERE batch.source = :source AND sealed_at IS NOT NULL AND state IN ('ready', 'claimed')
        GROUP BY job_id ORDER BY job_id
        """.replace("lease_until", "batch.lease_until"),
        source=source,
        route=current_route(tx),
        at=at or now(),
    )


def request_delivery(
    tx: Transaction, job_id: int, *, lease_seconds: float, at: datetime | None = None
) -> int:
    """Note that a run was asked for; returns the attempt's number, for its run key.

    Until the lease ends or the run claims, `ready_jobs` does not show the job again.
    """
    found = tx.rows(
        """
        UPDATE job SET attempt = attempt + 1, lease_until = :until WHERE id = :job_id
        RETURNING attempt
        """,
        job_id=job_id,
        until=(at or now()) + timedelta(seconds=lease_seconds),
    )
    return int(found[0]["attempt"])


def claim(
    tx: Transaction,
    job_id: int,
    *,
    claimed_by: str,
    route: Route,
    lease_seconds: float,
    at: datetime | None = None,
) -> list[Batch]:
    """Take all deliverable batches of a sealed job for `route`; [] if there are none.

    [] too if they must go the other way now: a period was set in the meantime. A batch whose month
    was delivered from a later build becomes superseded instead. The same claimant may claim again.

    Raises:
        LedgerBusyError: another claim on this source and record type is alive.
    """
    at = at or now()
    tx.lock(DELIVERY_LOCK)
    job = tx.one(
        "SELECT source, record_type FROM job WHERE id = :job_id AND sealed_at IS NOT NULL",
        job_id=job_id,
    )
    if job is None:
        return []
    other = tx.one(
        """
        SELECT job_id, claimed_by, lease_until FROM batch
        WHERE source = :source AND record_type = :record_type AND state = 'claimed'
            AND lease_until > :at AND NOT (job_id = :job_id AND claimed_by = :claimed_by)
        LIMIT 1
        """,
        **job,
        at=at,
        job_id=job_id,
        claimed_by=claimed_by,
    )
    if other:
        raise LedgerBusyError(
            f"{job['source']} {job['record_type']} of job {other['job_id']} are being delivered by "
            f"{other['claimed_by']} until {as_text(other['lease_until'])}; try again after that"
        )
    _supersede(tx, job_id, at)
    tx.execute(
        f"""
        UPDATE batch SET state = 'claimed', route = :route, claimed_by = :claimed_by,
            lease_until = :until
        WHERE job_id = :job_id AND coalesce(route, :current) = :route
            AND ({_FREE} OR (state = 'claimed' AND claimed_by = :claimed_by))
        """,
        job_id=job_id,
        route=route,
        current=current_route(tx),
        claimed_by=claimed_by,
        until=at + timedelta(seconds=lease_seconds),
        at=at,
    )
    mine = [
        Batch(**(row | {"route": Route(row["route"])}))
        for row in tx.rows(
            """
            SELECT id, job_id, source, record_type, period, route, sequence, content_hash, path
            FROM batch
            WHERE job_id = :job_id AND state = 'claimed' AND claimed_by = :claimed_by
            ORDER BY period
            """,
            job_id=job_id,
            claimed_by=claimed_by,
        )
    ]
    if mine:
        tx.execute(
            "UPDATE job SET route = :route, lease_until = NULL WHERE id = :job_id",
            route=route,
            job_id=job_id,
        )
    return mine


def renew(
    tx: Transaction,
    job_id: int,
    *,
    claimed_by: str,
    lease_seconds: float,
    at: datetime | None = None,
) -> None:
    """Keep a claim for this long from now. Raises LedgerError if it was lost."""
    tx.lock(DELIVERY_LOCK)
    renewed = tx.execute(
        """
        UPDATE batch SET lease_until = :until
        WHERE job_id = :job_id AND state = 'claimed' AND claimed_by = :claimed_by
        """,
        job_id=job_id,
        claimed_by=claimed_by,
        until=(at or now()) + timedelta(seconds=lease_seconds),
    )
    if not renewed:
        raise _lost(job_id)


def complete(
    tx: Transaction,
    job_id: int,
    *,
    claimed_by: str,
    totals: Mapping[str, Sequence[Total]],
    at: datetime | None = None,
) -> bool:
    """Mark claimed batches delivered, with their totals of delivered, unchanged and removed.

    Call it first in the transaction that writes the delivery. `totals` is by batch id and names
    every batch of the claim. False if this claimant delivered them before: write nothing then.

    Raises:
        LedgerError: the claim was lost, so that another process delivers the batches; or the totals
            do not account for every source row.
    """
    tx.lock(DELIVERY_LOCK)
    found = tx.rows(
        """
        SELECT id, state FROM batch WHERE job_id = :job_id AND claimed_by = :claimed_by
            AND (state = 'claimed' OR (state = 'delivered' AND id = ANY(:ids)))
        """,
        job_id=job_id,
        claimed_by=claimed_by,
        ids=list(totals),
    )
    if {row["id"] for row in found} != totals.keys():
        raise _lost(job_id)
    if all(row["state"] == "delivered" for row in found):
        return False
    batch_totals.load(tx, totals)
    batch_totals.check_balance(tx, list(totals))
    tx.execute(
        """
        UPDATE batch SET state = 'delivered', lease_until = NULL, delivered_at = :at
        WHERE id = ANY(:ids)
        """,
        ids=list(totals),
        at=at or now(),
    )
    return True


def release(tx: Transaction, job_id: int, *, claimed_by: str) -> None:
    """Give claimed batches back; they keep the route of their first claim."""
    tx.lock(DELIVERY_LOCK)
    tx.execute(
        """
        UPDATE batch SET state = 'ready', claimed_by = NULL, lease_until = NULL
        WHERE job_id = :job_id AND state = 'claimed' AND claimed_by = :claimed_by
        """,
        job_id=job_id,
        claimed_by=claimed_by,
    )


def claims(tx: Transaction, source: str | None = None) -> list[dict[str, Any]]:
    """Who delivers batches (of one source, or of all) just now: `{job_id, claimed_by}`."""
    return tx.rows(
        "SELECT DISTINCT job_id, claimed_by FROM batch WHERE state = 'claimed' "
        "AND (:source::TEXT IS NULL OR source = :source) ORDER BY job_id",
        source=source,
    )


def batches(tx: Transaction, job_id: int) -> list[dict[str, Any]]:
    """Every batch of a job, by month, as stored."""
    return tx.rows("SELECT * FROM batch WHERE job_id = :job_id ORDER BY period", job_id=job_id)


def _delivered_since(tx: Transaction, batch: dict[str, Any]) -> bool:
    """Whether a later build of this batch's month was delivered."""
    later = tx.one(
        """
        SELECT id FROM batch WHERE source = :source AND record_type = :record_type
            AND period = :period AND state = 'delivered' AND sequence > :sequence
        LIMIT 1
        """,
        **{name: batch[name] for name in ("source", "record_type", "period", "sequence")},
    )
    return later is not None


def _supersede(tx: Transaction, job_id: int, at: datetime) -> None:
    """Retire batches of months that were delivered from a later build; they change nothing."""
    retired = tx.rows(
        f"""
        UPDATE batch SET state = 'superseded', claimed_by = NULL, lease_until = NULL
        WHERE job_id = :job_id AND {_FREE} AND sequence < (
            SELECT max(later.sequence) FROM batch AS later
            WHERE later.source = batch.source AND later.record_type = batch.record_type
                AND later.period = batch.period AND later.state = 'delivered'
        )
        RETURNING id
        """,
        job_id=job_id,
        at=at,
    )
    batch_totals.count_as_unchanged(tx, [row["id"] for row in retired])


def _lost(job_id: int) -> LedgerError:
    return LedgerError(
        f"the claim on job {job_id} was lost: its lease ended, and another process took it over"
    )
