"""Files as jobs of Dagster: one named in the run's configuration, or all that a folder holds.

What a file becomes is decided in `revrec_pipeline.imports`; its batches are routed by the routing
sensor, like those of every other source.
"""

from pathlib import Path

import dagster as dg

from resources.stores import LakeResource, LedgerResource
from revrec_pipeline.errors import RevrecError
from revrec_pipeline.imports.folder import take_files
from revrec_pipeline.imports.run import import_file
from revrec_pipeline.settings import Settings

IMPORT_FILE, IMPORT_FOLDER = "import_file", "import_folder"


class ImportConfig(dg.Config):
    """Which file to take."""

    path: str
    #: What `revrec jobs` calls it; the file's name by default.
    job_name: str = ""
    #: Take it although its content was taken before.
    again: bool = False


def import_file_job(settings: Settings) -> dg.JobDefinition:
    """The job that takes one file."""

    @dg.op
    def take_file(
        context: dg.OpExecutionContext,
        config: ImportConfig,
        lake: LakeResource,
        ledger: LedgerResource,
    ) -> list[int]:
        path = Path(config.path).expanduser()
        try:
            imported = import_file(
                ledger.open(),
                lake.open(),
                settings,
                path,
                job_name=config.job_name or path.name,
                who="Dagster",
                trigger="launchpad",
                again=config.again,
            )
        except RevrecError as error:
            raise dg.Failure(description=str(error), allow_retries=False) from error
        if imported.earlier:
            context.log.info("nothing to do: this content was imported at %(at)s", imported.earlier)
        return list(imported.job_ids.values())

    @dg.job(
        name=IMPORT_FILE,
        description="Take a workbook or a zip of CSV files in the template; its batches are routed "
        "like those of any other source.",
    )
    def import_file_() -> None:
        take_file()

    return import_file_


def import_folder_job(settings: Settings) -> dg.JobDefinition:
    """The job that takes every file of `[imports] folder`."""

    @dg.op
    def take_folder(
        context: dg.OpExecutionContext, lake: LakeResource, ledger: LedgerResource
    ) -> list[str]:
        if settings.imports.folder is None:
            raise dg.Failure(
                description="no folder is watched; set [imports] folder", allow_retries=False
            )
        reports = []
        try:
            for taken in take_files(ledger.open(), lake.open(), settings, settings.imports.folder):
                (context.log.warning if taken.refused else context.log.info)(taken.report)
                reports.append(taken.report)
        except RevrecError as error:
            raise dg.Failure(description=str(error), allow_retries=False) from error
        return reports

    @dg.job(
        name=IMPORT_FOLDER,
        description="Take every file of [imports] folder, each once by its content, and move it to "
        "done/ or rejected/ with a report.",
    )
    def import_folder() -> None:
        take_folder()

    return import_folder


def import_schedules(settings: Settings, job: dg.JobDefinition) -> list[dg.ScheduleDefinition]:
    """The look into the folder, if one is set."""
    if settings.imports.folder is None:
        return []
    return [
        dg.ScheduleDefinition(
            name="import_folder_schedule",
            job=job,
            cron_schedule=settings.imports.schedule,
            execution_timezone=settings.site.timezone,
            default_status=dg.DefaultScheduleStatus.RUNNING,
            description=f"Take the files in {settings.imports.folder}, at "
            f"{settings.imports.schedule} ({settings.site.timezone}).",
        )
    ]
