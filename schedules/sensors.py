"""The routing sensor: from ended runs to rebuilt months to delivered batches.

It is level-triggered over the ledger's outbox and keeps no cursor: an asset sensor was measured to
see 1 of 36 backfilled months (dagster #32853), and a cursor loses what commits out of order.
Whatever a crash leaves undone, the next tick finds again. Runs are at least once; the ledger makes
delivery exactly once.
"""

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._core.execution.backfill import BULK_ACTION_TERMINAL_STATUSES
from dagster._core.storage.tags import WILL_RETRY_TAG

from assets.context import BACKFILL_TAG, IN_PROCESS_TAG, ROOT_RUN_TAG, SYNC_TAG, TRIGGER_TAG
from resources.stores import LedgerResource
from revrec_pipeline.errors import LedgerBusyError
from revrec_pipeline.ledger import Ledger, cursors, jobs, outbox
from revrec_pipeline.model import OWN_SOURCES, Route
from revrec_pipeline.settings import SiteSettings
from schedules.jobs import delivery_config, delivery_job_name, rebuild_job_name

ROUTING_SENSOR = "route_batches"
# A tick is killed without output after 60 s; this leaves room for the launch of its runs.
_BUDGET_SECONDS = 25.0
# How long one transaction of a tick may wait for the ledger.
_PATIENCE_SECONDS = 5.0
# How long a requested delivery may wait in the queue before it is asked for again.
_REQUEST_LEASE_SECONDS = 600.0
# After so long a retry that Dagster promised is not coming; its daemon looks every 5 s.
_FORGOTTEN_SECONDS = 120.0
# For so long it is asked for again and again.
_REMINDED_FOR = timedelta(days=1)
# What the daemon puts on a run that a sensor asked for.
_RUN_KEY_TAG = "dagster/run_key"
# What may still bring something: all but those that are over, and failed ones for their retry.
_OVER = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.CANCELED)
_UNSUCCESSFUL = [status for status in dg.DagsterRunStatus if status not in _OVER]


def routing_sensor(
    targets: Sequence[UnresolvedAssetJobDefinition], site: SiteSettings
) -> dg.SensorDefinition:
    """The sensor that seals ended syncs, has touched months rebuilt, and routes READY batches."""

    @dg.sensor(
        name=ROUTING_SENSOR,
        jobs=targets,
        minimum_interval_seconds=15,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Routes the READY batches of a job, once all of its runs have ended: to "
        "conversion_file while no accounting period is set, to live_load once one is.",
    )
    def route_batches(
        context: dg.SensorEvaluationContext, ledger: LedgerResource
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        deadline = time.monotonic() + _BUDGET_SECONDS
        asked, reason = 0, "no sync has ended and no batch is READY"
        try:
            for request in _requests(context.instance, ledger.open(), site):
                asked += 1
                yield request
                if time.monotonic() > deadline:
                    break
        except LedgerBusyError as busy:
            reason = f"{busy}; the next tick tries again"
        if not asked:  # Dagster refuses a tick that asks for runs and gives a reason as well
            yield dg.SkipReason(reason)

    return route_batches


def _requests(
    instance: dg.DagsterInstance, ledger: Ledger, site: SiteSettings
) -> Iterator[dg.RunRequest]:
    _have_retried(instance)
    with ledger.transaction(deadline=_PATIENCE_SECONDS) as tx:
        waiting = jobs.unsealed(tx)
    syncs: dict[str, list[dict[str, Any]]] = {}
    for job in waiting:
        syncs.setdefault(job["sync_key"], []).append(job)
    for sync_key, opened in syncs.items():
        if has_ended(instance, sync_key):
            yield from _settle(instance, ledger, site, sync_key, opened)
    _release_the_dead(instance, ledger)
    with ledger.transaction(deadline=_PATIENCE_SECONDS) as tx:
        ready = [job for job in outbox.ready_jobs(tx) if job["sealed"]]
    for job in ready:
        with ledger.transaction(deadline=_PATIENCE_SECONDS) as tx:
            attempt = outbox.request_delivery(tx, job["id"], lease_seconds=_REQUEST_LEASE_SECONDS)
        yield dg.RunRequest(
            # A run key is remembered for ever, also that of a failed run: hence the attempt.
            run_key=f"{job['id']}:{attempt}",
            job_name=delivery_job_name(Route(job["route"])),
            run_config=delivery_config(Route(job["route"]), job["id"]),
            tags={"revrec/job": str(job["id"]), "revrec/source": job["source"]},
        )


def _have_retried(instance: dg.DagsterInstance) -> None:
    """Report failures again whose promised retry never came.

    Dagster stores the event of a failure before the run's status. Its daemon of retries may read
    the one before the other is there; then it passes the run by and never looks again, while the
    run's backfill and its sync wait for the retry for ever. Seen on a machine with much to do.
    """
    promised = dg.RunsFilter(
        tags={WILL_RETRY_TAG: "true"},
        statuses=[dg.DagsterRunStatus.FAILURE],
        updated_after=datetime.now(UTC) - _REMINDED_FOR,
    )
    for record in instance.get_run_records(promised):
        run = record.dagster_run
        if (
            run.is_complete_and_waiting_to_retry
            and IN_PROCESS_TAG not in run.tags
            and not _is_of_an_ended_backfill(instance, run)
            and time.time() - (record.end_time or 0) > _FORGOTTEN_SECONDS
        ):
            instance.report_run_failed(run, "the retry of this run never came; asking again")


def _is_of_an_ended_backfill(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Of such a backfill Dagster retries nothing, whatever the tags of its runs promise."""
    if BACKFILL_TAG not in run.tags:
        return False
    backfill = instance.get_backfill(run.tags[BACKFILL_TAG])
    return backfill is None or backfill.status in BULK_ACTION_TERMINAL_STATUSES


def _release_the_dead(instance: dg.DagsterInstance, ledger: Ledger) -> None:
    """Give back what runs had claimed that have ended without delivering it: they were killed.

    Else the next delivery would wait for the end of their lease.
    """
    with ledger.transaction(deadline=_PATIENCE_SECONDS) as tx:
        claims = outbox.claims(tx)
    for claim in claims:
        run = instance.get_run_by_id(claim["claimed_by"])
        if run is not None and run.is_finished:
            with ledger.transaction(deadline=_PATIENCE_SECONDS) as tx:
                outbox.release(tx, claim["job_id"], claimed_by=claim["claimed_by"])


def _settle(
    instance: dg.DagsterInstance,
    ledger: Ledger,
    site: SiteSettings,
    sync_key: str,
    opened: Sequence[dict[str, Any]],
) -> Iterator[dg.RunRequest]:
    """Have the months rebuilt that the sync touched elsewhere; seal it when there are none left.

    A month that is still held after its rebuild has run stays as it is: the rebuild failed, and the
    next sync of the source takes it. One that no run was ever made for is asked for again, since
    the tick that took it was killed.
    """
    with ledger.transaction(deadline=_PATIENCE_SECONDS) as tx:
        held = {}
        # Files have no rebuild job: what people let through of them waits for the next import.
        for source in sorted({job["source"] for job in opened} - set(OWN_SOURCES)):
            cursors.take(tx, source, sync_key, site.months(datetime.now(UTC)))
            held[source] = cursors.held(tx, source, sync_key)
    rebuilds = [
        (source, month, f"{sync_key}:{month}:{max(landings)}")
        for source, months in held.items()
        for month, landings in months.items()
    ]
    rebuilds = [each for each in rebuilds if not _has_run(instance, run_key=each[2])]
    with ledger.transaction(deadline=_PATIENCE_SECONDS) as tx:
        if not rebuilds:
            jobs.seal(tx, sync_key)
        for source, month, run_key in rebuilds:
            for job in opened:
                if job["source"] == source:
                    # Noted now, so that a rebuild that dies before its first step is no secret.
                    jobs.start_run(tx, job["id"], month, run_key)
    for source, month, run_key in rebuilds:
        yield dg.RunRequest(
            run_key=run_key,
            job_name=rebuild_job_name(source),
            partition_key=month,
            tags={SYNC_TAG: sync_key, TRIGGER_TAG: "change", "revrec/period": month},
        )


def _has_run(instance: dg.DagsterInstance, *, run_key: str) -> bool:
    return instance.get_runs_count(dg.RunsFilter(tags={_RUN_KEY_TAG: run_key})) > 0


def has_ended(instance: dg.DagsterInstance, sync_key: str) -> bool:
    """Whether no run of this sync is queued or going, and nothing will start another.

    Runs in the process of a command do not count: whoever asks has seen that the command's lease on
    the job ran out, so they were killed with it and will stay STARTED for ever.
    """
    kind, _, name = sync_key.partition(":")
    tags = [{SYNC_TAG: sync_key}]
    if kind == "backfill":
        backfill = instance.get_backfill(name)
        if backfill is not None and backfill.status not in BULK_ACTION_TERMINAL_STATUSES:
            return False
        tags.append({BACKFILL_TAG: name})
    elif kind == "run":
        run = instance.get_run_by_id(name)
        if run is not None and _goes_on(run):
            return False
        tags.append({ROOT_RUN_TAG: name})
    for wanted in tags:
        for run in instance.get_runs(dg.RunsFilter(tags=wanted, statuses=_UNSUCCESSFUL)):
            if IN_PROCESS_TAG in run.tags:
                # Nor will Dagster try them again, whatever their tags say: it did not launch them.
                if not run.is_finished:
                    instance.report_run_failed(run, "the command that ran this was killed")
            elif _goes_on(run, retried=kind != "backfill"):
                return False
    return True


def _goes_on(run: dg.DagsterRun, *, retried: bool = True) -> bool:
    """Whether a run is queued or going, or was killed and is about to be retried.

    Of a backfill that has ended Dagster retries nothing, whatever the tags of its runs promise.
    """
    return not run.is_finished or (retried and run.is_complete_and_waiting_to_retry)
