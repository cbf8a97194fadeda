"""Jobs and batches as a test wants to find them."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from revrec_pipeline.ledger import Transaction, jobs, outbox
from revrec_pipeline.ledger.outbox import Total

START = datetime(2026, 5, 4, 9, tzinfo=UTC)


def minutes(number: float) -> datetime:
    """So many minutes after the start of the test's day."""
    return START + timedelta(minutes=number)


def job(
    tx: Transaction, key: str = "sync-1", *, source: str = "stripe", sealed: bool = True
) -> int:
    """The job of a sync of Stripe invoices."""
    job_id = jobs.open_job(
        tx,
        sync_key=key,
        source=source,
        record_type="invoices",
        name=f"Stripe invoices ({key})",
        trigger="test",
        at=START,
    )
    if sealed:
        jobs.seal(tx, key, at=minutes(5))
    return job_id


def source_rows(rows: int) -> list[Total]:
    """Totals of so many good rows of 10.00 USD."""
    return [Total("source", rows, Decimal(10 * rows), "USD")]


def batch(
    tx: Transaction,
    job_id: int,
    period: str = "2026-01",
    *,
    content: str = "a",
    source: str = "stripe",
    totals: Iterable[Total] | None = None,
    at: datetime = START,
) -> bool:
    """Put a batch; by default two rows of 10.00 USD."""
    return outbox.put_batch(
        tx,
        job_id=job_id,
        source=source,
        record_type="invoices",
        period=period,
        content_hash=content,
        path=f"canonical/{source}/{period}/{content}",
        totals=source_rows(2) if totals is None else totals,
        at=at,
    )


def deliver(tx: Transaction, job_id: int, *, by: str = "run-1", at: datetime = START) -> list[str]:
    """Claim and complete all of a job, every row delivered; returns the batch ids."""
    (ready,) = (row for row in outbox.ready_jobs(tx, at=at) if row["id"] == job_id)
    claimed = outbox.claim(
        tx, job_id, claimed_by=by, route=outbox.Route(ready["route"]), lease_seconds=60, at=at
    )
    totals = {each.id: [Total("delivered", 2, Decimal(20), "USD")] for each in claimed}
    outbox.complete(tx, job_id, claimed_by=by, totals=totals, at=at)
    return [each.id for each in claimed]


def states(tx: Transaction, job_id: int) -> dict[str, tuple[str, str | None]]:
    """Month → (state, route)."""
    return {row["period"]: (row["state"], row["route"]) for row in outbox.batches(tx, job_id)}
