"""From a built month to the outbox: the batch, its errors, and the end of its run."""

from revrec_pipeline.canonical import Built
from revrec_pipeline.ledger import Transaction, cursors, jobs, outbox, sync_errors
from revrec_pipeline.mapping import Source
from revrec_pipeline.model import RecordType


def hand_over(
    tx: Transaction,
    built: Built,
    source: Source,
    record_type: RecordType,
    period: str,
    job_id: int,
    run_id: str,
) -> None:
    """Put the batch into the outbox, with its errors; one that does not tie stays out."""
    if not built.faulty:
        outbox.put_batch(
            tx,
            job_id=job_id,
            source=source.name,
            record_type=record_type,
            period=period,
            content_hash=built.content_hash,
            path=str(built.path),
            totals=[outbox.Total(**row) for row in built.totals.to_pylist()],
        )
        cursors.clear(tx, source.name, period, built.landings)
    sync_errors.record(
        tx,
        job_id=job_id,
        source=source.name,
        record_type=record_type,
        period=period,
        errors=built.errors,
        stages=("input", "processing"),  # of pulls nothing is known here
    )
    jobs.end_run(tx, job_id, period, run_id, failure=built.faulty)
