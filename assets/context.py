"""What a step knows of the sync that it belongs to, and how its failure reaches people.

A sync is what somebody or a schedule started, however many runs it took. Its key is the tag that
the command line and the sensors set, else the backfill's id, else the first run's id.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import dagster as dg
import pyarrow as pa

from resources.stores import LedgerResource
from revrec_pipeline.canonical import ERRORS
from revrec_pipeline.errors import RevrecError, SourceError, SourceSchemaError
from revrec_pipeline.ledger import jobs, sync_errors
from revrec_pipeline.mapping import Source
from revrec_pipeline.model import RecordType

SYNC_TAG = "revrec/sync"
TRIGGER_TAG = "revrec/trigger"
DRY_RUN_TAG = "revrec/dry_run"
#: The instant at which a scheduled window ends, as ISO text.
UNTIL_TAG = "revrec/until"
#: Set on runs that a command executes in its own process, where no launcher watches them.
#: Hidden in the UI, as all that begins with `.dagster/`.
IN_PROCESS_TAG = ".dagster/revrec_in_process"
BACKFILL_TAG = "dagster/backfill"
ROOT_RUN_TAG = "dagster/root_run_id"
#: Metadata of a failure: whether the next month would fail in the same way.
NEXT_TOO = "next_month_too"

# The client has already tried for a minute or so; these are for an outage of some minutes.
_RETRIES = 2
_RETRY_SECONDS = 30.0


def sync_key(run: dg.DagsterRun) -> str:
    """The key that all runs of one sync share."""
    if key := run.tags.get(SYNC_TAG):
        return key
    if backfill := run.tags.get(BACKFILL_TAG):
        return f"backfill:{backfill}"
    return f"run:{run.tags.get(ROOT_RUN_TAG, run.run_id)}"


def trigger(run: dg.DagsterRun) -> str:
    """Who started the sync, for people: command line, schedule, change, backfill or launchpad."""
    if named := run.tags.get(TRIGGER_TAG):
        return named
    return "backfill" if BACKFILL_TAG in run.tags else "launchpad"


def is_dry_run(run: dg.DagsterRun) -> bool:
    """Whether this run must leave no trace in the outbox."""
    return DRY_RUN_TAG in run.tags


def pool_name(source: str) -> str:
    """The Dagster pool that keeps the pulls of one source's API apart."""
    return f"{source}_api"


def job_name(source: Source, record_type: RecordType, started_by: str) -> str:
    """What `revrec jobs` and the Dagster UI call the job."""
    return f"{source.title} {record_type} ({started_by})"


def open_jobs(
    ledger: LedgerResource,
    run: dg.DagsterRun,
    source: Source,
    record_types: Iterable[RecordType],
    period: str,
) -> dict[RecordType, int]:
    """Open the job of each record type, and note that this run works on `period` of it.

    A dry run has no job: it must leave no trace in the ledger but what it learnt to touch.
    """
    if is_dry_run(run):
        return {}
    started_by = trigger(run)
    with ledger.open().transaction() as tx:
        opened = {
            record_type: jobs.open_job(
                tx,
                sync_key=sync_key(run),
                source=source.name,
                record_type=record_type,
                name=job_name(source, record_type, started_by),
                trigger=started_by,
            )
            for record_type in record_types
        }
        for job_id in opened.values():
            jobs.start_run(tx, job_id, period, run.run_id)
    return opened


@contextmanager
def failing_loudly(
    context: dg.AssetExecutionContext,
    ledger: LedgerResource,
    source: Source,
    opened: dict[RecordType, int],
    period: str,
) -> Iterator[None]:
    """Turn a failure into a failed run of the job, a sync error, and Dagster's right exception.

    What may pass by itself asks Dagster for a retry of the step, after the time that the source
    named; anything else ends it, since the same input gives the same failure.
    """
    try:
        yield
    except Exception as error:
        if _may_pass(error) and _is_patient(context):
            asked = getattr(error, "retry_after", None)
            wait = _RETRY_SECONDS if asked is None else asked
            raise dg.RetryRequested(max_retries=_RETRIES, seconds_to_wait=wait) from error
        message = str(error) if isinstance(error, RevrecError) else repr(error)
        with ledger.open().transaction() as tx:
            for record_type, job_id in opened.items():
                jobs.end_run(tx, job_id, period, context.run.run_id, failure=message)
                if isinstance(error, SourceError):
                    sync_errors.record(
                        tx,
                        job_id=job_id,
                        source=source.name,
                        record_type=record_type,
                        period=period or None,
                        errors=_as_table(error, source, record_type, period),
                        stages=("sync",),
                    )
        if isinstance(error, RevrecError):
            alone = isinstance(error, SourceSchemaError)
            raise dg.Failure(
                description=message, metadata={NEXT_TOO: not alone}, allow_retries=False
            ) from error
        raise


def _may_pass(error: Exception) -> bool:
    return isinstance(error, SourceError) and error.retryable


def _is_patient(context: dg.AssetExecutionContext) -> bool:
    """Whether another try is left, and nobody sits at a terminal and waits for it."""
    return context.retry_number < _RETRIES and IN_PROCESS_TAG not in context.run.tags


def _as_table(error: SourceError, source: Source, record_type: RecordType, period: str) -> pa.Table:
    row = {
        "stage": "sync",
        "code": error.code,
        "severity": "error",
        "owner": "source",
        "source": source.name,
        "record_type": str(record_type),
        "period": period or None,
        "message": str(error),
    }
    return pa.Table.from_pylist([row], schema=ERRORS)
