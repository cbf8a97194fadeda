"""Schedules: one per source that has a cron expression in `[sources.<source>] schedule`."""

import dagster as dg

from assets.context import TRIGGER_TAG
from revrec_pipeline.mapping import Source
from revrec_pipeline.settings import Settings
from schedules.jobs import changes_job_name


def source_schedule(source: Source, settings: Settings) -> dg.ScheduleDefinition | None:
    """The incremental pull of a source; running, for the settings asked for it."""
    cron = settings.source(source.name).schedule
    if cron is None:
        return None
    return dg.ScheduleDefinition(
        name=f"{source.name}_schedule",
        job_name=changes_job_name(source.name),
        cron_schedule=cron,
        execution_timezone=settings.site.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        tags={TRIGGER_TAG: "schedule"},
        description=f"Pull the changes of {source.title} at {cron}, {settings.site.timezone}.",
    )
