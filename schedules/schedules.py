"""Schedules: the incremental pull and the id sweep of a source, by the cron of its settings.

They run in the site's time zone, from the moment on at which the source is connected. A tick that
was missed is caught up once: the daemon skips all but the last one.
"""

from collections.abc import Iterator

import dagster as dg

from assets.context import TRIGGER_TAG, UNTIL_TAG
from resources.registry import why_not_connected
from revrec_pipeline.mapping import Source
from revrec_pipeline.periods import start_of_day
from revrec_pipeline.settings import Settings
from schedules.jobs import changes_job_name, sweep_job_name


def source_schedules(source: Source, settings: Settings) -> Iterator[dg.ScheduleDefinition]:
    """The schedules that the settings ask for."""
    own = settings.source(source.name)
    if own.schedule:
        yield _schedule(
            f"{source.name}_schedule",
            changes_job_name(source.name),
            own.schedule,
            source,
            settings,
            f"Pull what changed in {source.title} until the end of yesterday",
        )
    if own.sweep_schedule:
        yield _schedule(
            f"{source.name}_sweep_schedule",
            sweep_job_name(source.name),
            own.sweep_schedule,
            source,
            settings,
            f"Compare the ids of {source.title} with the lake",
        )


def _schedule(
    name: str, job: str, cron: str, source: Source, settings: Settings, what: str
) -> dg.ScheduleDefinition:
    timezone = settings.site.timezone
    connected = why_not_connected(source.name) is None

    def request(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        # RevRec's scheduled syncs end with yesterday, and so do not change with the hour of the
        # tick; by hand, a sync ends now.
        until = start_of_day(context.scheduled_execution_time, timezone)
        return dg.RunRequest(tags={TRIGGER_TAG: "schedule", UNTIL_TAG: until.isoformat()})

    return dg.ScheduleDefinition(
        name=name,
        job_name=job,
        cron_schedule=cron,
        execution_timezone=timezone,
        execution_fn=request,
        default_status=dg.DefaultScheduleStatus.RUNNING
        if connected
        else dg.DefaultScheduleStatus.STOPPED,
        description=f"{what}, at {cron} ({timezone}).",
    )
