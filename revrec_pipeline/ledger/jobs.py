"""Jobs and their runs: what somebody or a schedule started, and when it is over.

A job is one sync of one source and record type. Its runs are one for each month ('' for a pull that
has no month). What its batches go through is in `outbox`, what people see of a job in `job_view`.
"""

from datetime import datetime, timedelta
from typing import Any

from revrec_pipeline.ledger import Transaction, as_text, now
from revrec_pipeline.ledger.job_view import controls, jobs

__all__ = [
    "controls",
    "end_run",
    "files",
    "jobs",
    "open_job",
    "record_file",
    "renew_lease",
    "seal",
    "start_run",
    "unsealed",
]


def open_job(
    tx: Transaction,
    *,
    sync_key: str,
    source: str,
    record_type: str,
    name: str,
    trigger: str,
    lease_seconds: float | None = None,
    at: datetime | None = None,
) -> int:
    """The id of the job of this sync, source and record type; opened if it is new.

    `sync_key` is what all runs of a sync share (the backfill's id, the run's id, the command's
    key). With a lease, the caller sees to seal and deliver the job; the sensor leaves it alone
    until then.
    """
    at = at or now()
    key = {"sync_key": sync_key, "source": source, "record_type": record_type}
    find = (
        "SELECT id FROM job WHERE sync_key = :sync_key AND source = :source "
        "AND record_type = :record_type"
    )
    if tx.one(find, **key) is None:  # asked first, for a conflict would burn a number
        tx.execute(
            """
            INSERT INTO job (sync_key, source, record_type, name, trigger, attempt, started_at)
            VALUES (:sync_key, :source, :record_type, :name, :trigger, 0, :at)
            ON CONFLICT (sync_key, source, record_type) DO NOTHING
            """,
            **key,
            name=name,
            trigger=trigger,
            at=at,
        )
    found = tx.one(find, **key)
    assert found is not None  # noqa: S101 - inserted above
    job_id = int(found["id"])
    if lease_seconds is not None:
        renew_lease(tx, job_id, lease_seconds, at=at)
    return job_id


def start_run(
    tx: Transaction, job_id: int, period: str, run_id: str, *, at: datetime | None = None
) -> None:
    """A run of this job and month has begun. A sealed job is open again."""
    tx.execute(
        """
        INSERT INTO job_run (job_id, period, run_id, state, started_at)
        VALUES (:job_id, :period, :run_id, 'running', :at)
        ON CONFLICT (job_id, period) DO UPDATE SET run_id = excluded.run_id,
            state = excluded.state, message = NULL, started_at = excluded.started_at,
            ended_at = NULL
        """,
        job_id=job_id,
        period=period,
        run_id=run_id,
        at=at or now(),
    )
    tx.execute(
        "UPDATE job SET sealed_at = NULL WHERE id = :job_id AND sealed_at IS NOT NULL",
        job_id=job_id,
    )


def end_run(
    tx: Transaction,
    job_id: int,
    period: str,
    run_id: str,
    *,
    failure: str | None = None,
    at: datetime | None = None,
) -> None:
    """The run is over; `failure` is the one line that says why it failed.

    The end of a run whose place another run has taken changes nothing.
    """
    tx.execute(
        """
        UPDATE job_run SET state = :state, message = :message, ended_at = :at
        WHERE job_id = :job_id AND period = :period AND run_id = :run_id
        """,
        job_id=job_id,
        period=period,
        run_id=run_id,
        state="failed" if failure else "done",
        message=failure,
        at=at or now(),
    )


def renew_lease(
    tx: Transaction, job_id: int, lease_seconds: float, *, at: datetime | None = None
) -> None:
    """Keep the job for this long from now."""
    tx.execute(
        "UPDATE job SET lease_until = :until WHERE id = :job_id",
        job_id=job_id,
        until=(at or now()) + timedelta(seconds=lease_seconds),
    )


def unsealed(
    tx: Transaction, *, limit: int = 50, at: datetime | None = None
) -> list[dict[str, Any]]:
    """Jobs that nobody has sealed or keeps under a lease: `{id, sync_key, source, record_type}`."""
    return tx.rows(
        """
        SELECT id, sync_key, source, record_type FROM job
        WHERE sealed_at IS NULL AND (lease_until IS NULL OR lease_until <= :at)
        ORDER BY id LIMIT :limit
        """,
        at=at or now(),
        limit=limit,
    )


def seal(tx: Transaction, sync_key: str, *, at: datetime | None = None) -> list[int]:
    """All runs of this sync have ended: its jobs may be delivered. Returns the jobs sealed now.

    A run that never reported its end was killed, and counts as failed.
    """
    at = at or now()
    found = tx.rows(
        """
        UPDATE job SET sealed_at = :at, lease_until = NULL
        WHERE sync_key = :sync_key AND sealed_at IS NULL RETURNING id
        """,
        sync_key=sync_key,
        at=at,
    )
    sealed = sorted(row["id"] for row in found)
    tx.execute(
        """
        UPDATE job_run SET state = 'failed', ended_at = :at,
            message = 'the run ended without a word, so it was killed; run this month again'
        WHERE job_id = ANY(:sealed) AND state = 'running'
        """,
        sealed=sealed,
        at=at,
    )
    return sealed


def record_file(
    tx: Transaction,
    job_id: int,
    *,
    path: str,
    kind: str,
    sha256: str,
    size: int,
    rows: int,
    at: datetime | None = None,
) -> None:
    """A conversion file of this job, in place of the one at that path; `size` in bytes."""
    tx.execute(
        """
        INSERT INTO job_file (job_id, path, kind, sha256, bytes, rows, created_at)
        VALUES (:job_id, :path, :kind, :sha256, :size, :rows, :at)
        ON CONFLICT (job_id, path) DO UPDATE SET kind = excluded.kind, sha256 = excluded.sha256,
            bytes = excluded.bytes, rows = excluded.rows, created_at = excluded.created_at
        """,
        job_id=job_id,
        path=path,
        kind=kind,
        sha256=sha256,
        size=size,
        rows=rows,
        at=at or now(),
    )


def files(tx: Transaction, job_id: int) -> list[dict[str, Any]]:
    """`{path, kind, sha256, bytes, rows, created_at}`, by path."""
    found = tx.rows(
        """
        SELECT path, kind, sha256, bytes, rows, created_at
        FROM job_file WHERE job_id = :job_id ORDER BY path
        """,
        job_id=job_id,
    )
    return [{**row, "created_at": as_text(row["created_at"])} for row in found]
