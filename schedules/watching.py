"""Watching over the pipeline: alerts on failed runs, the hourly standing check, housekeeping.

What counts as broken is in `revrec_pipeline.ledger.standing`, what may be removed in
`revrec_pipeline.retention`, how people are told in `resources.alerts`.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.definitions.assets.job.asset_job import is_reserved_asset_job_name
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from assets.context import IN_PROCESS_TAG
from assets.watching import HEALTH
from resources.alerts import alert
from resources.stores import LakeResource, LedgerResource
from revrec_pipeline import retention
from revrec_pipeline.settings import Settings
from revrec_pipeline.sources import SOURCES

_PARTITION_TAG = "dagster/partition"
_ENDED = [
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
]
#: Runs removed in one go: each costs some deletions in Dagster's storage.
_AT_ONCE = 1_000


def failure_sensor(settings: Settings) -> dg.SensorDefinition:
    """Tells people of a failed run; a command's run fails before the eyes of who started it."""

    @dg.run_failure_sensor(
        name="alert_on_failure",
        default_status=dg.DefaultSensorStatus.RUNNING,
        monitor_all_code_locations=False,
        description="Logs a failed run, and tells it to the webhook and the addresses of [alerts].",
    )
    def alert_on_failure(context: dg.RunFailureSensorContext) -> None:
        run = context.dagster_run
        if IN_PROCESS_TAG in run.tags:
            return
        month = run.tags.get(_PARTITION_TAG)
        subject = f"{_what(run)}{f' {month}' if month else ''} failed"
        alert(settings.alerts, subject, f"{_reason(context)}\nRun {run.run_id}")

    return alert_on_failure


def _what(run: dg.DagsterRun) -> str:
    """The run's job; for assets that were chosen in the UI, which has none, their sources."""
    if not is_reserved_asset_job_name(run.job_name):
        return run.job_name
    paths = [key.path for key in run.asset_selection or ()]
    return ", ".join(sorted({path[1] if path[0] == "raw" else path[0] for path in paths}))


def _reason(context: dg.RunFailureSensorContext) -> str:
    """What the failed step said, in one line."""
    for event in context.get_step_failure_events():
        data = event.step_failure_data
        if data.user_failure_data and data.user_failure_data.description:
            return data.user_failure_data.description
        if data.error:
            return data.error.message.strip()
    return context.failure_event.message or "no reason given"


def health_job() -> UnresolvedAssetJobDefinition:
    """The standing check as a job."""
    return dg.define_asset_job(
        "check_health",
        selection=dg.AssetSelection.assets(dg.AssetKey(HEALTH)),
        description="Look for failed months and for what waits too long.",
    )


def housekeeping_job(settings: Settings) -> dg.JobDefinition:
    """Removes old runs, and raw landings that nothing needs, as `[retention]` says."""

    @dg.op
    def remove_old_runs(context: dg.OpExecutionContext) -> int:
        before = datetime.now(UTC) - timedelta(days=settings.retention.runs_days)
        removed = 0
        for run_id in _old_runs(context.instance, before):
            context.instance.delete_run(run_id)
            removed += 1
        context.log.info("removed %d runs that were created before %s", removed, before)
        return removed

    @dg.op
    def remove_old_landings(
        context: dg.OpExecutionContext, lake: LakeResource, ledger: LedgerResource
    ) -> int:
        days, removed = settings.retention.raw_days, 0
        for source in SOURCES if days is not None else ():
            with ledger.open().transaction() as tx:
                needed = retention.referenced(tx, source)
            for landing in retention.removable(lake.open(), source, needed, days=days or 0):
                retention.remove(lake.open(), landing)
                context.log.info("removed %s", landing.folder)
                removed += 1
        return removed

    @dg.job(
        name="housekeeping",
        description="Remove runs older than [retention] runs_days, and raw landings that nothing "
        "needs and that are older than raw_days.",
    )
    def housekeeping() -> None:
        remove_old_runs()
        remove_old_landings()

    return housekeeping


def _old_runs(instance: dg.DagsterInstance, before: datetime) -> Iterator[str]:
    """Ended runs from before, but of each job and month the newest: the UI's colours hang on it."""
    kept: set[tuple[str, str | None]] = set()
    newest = instance.get_run_records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS]))
    keep = set()
    for record in newest:  # newest first
        run = record.dagster_run
        what = (run.job_name, run.tags.get(_PARTITION_TAG))
        if what not in kept:
            kept.add(what)
            keep.add(run.run_id)
    old = dg.RunsFilter(statuses=_ENDED, created_before=before)
    for record in instance.get_run_records(old, limit=_AT_ONCE, ascending=True):
        if record.dagster_run.run_id not in keep:
            yield record.dagster_run.run_id


def watching_schedules(
    settings: Settings, health: UnresolvedAssetJobDefinition, housekeeping: dg.JobDefinition
) -> list[dg.ScheduleDefinition]:
    """Both run from the start: they call no API."""
    timezone = settings.site.timezone
    return [
        dg.ScheduleDefinition(
            name="hourly_health",
            job=health,
            cron_schedule="5 * * * *",
            execution_timezone=timezone,
            default_status=dg.DefaultScheduleStatus.RUNNING,
            description="The standing check, every hour.",
        ),
        dg.ScheduleDefinition(
            name="daily_housekeeping",
            job=housekeeping,
            cron_schedule="30 3 * * *",
            execution_timezone=timezone,
            default_status=dg.DefaultScheduleStatus.RUNNING,
            description="Housekeeping, every night.",
        ),
    ]
