"""The code location: everything that Dagster loads, put together from settings and nothing else."""

import warnings
from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster import PreviewWarning

from assets.canonical import canonical_months
from assets.delivery import ROUTES, delivery_asset
from assets.raw import raw_changes, raw_months, raw_sweep
from assets.watching import health_asset
from resources.registry import resource_of
from resources.stores import LakeResource, LedgerResource
from revrec_pipeline.settings import Settings
from revrec_pipeline.sources import SOURCES
from schedules.importing import import_file_job, import_folder_job, import_schedules
from schedules.jobs import canonical_keys, delivery_jobs, rebuild_job, source_jobs, sync_all_job
from schedules.partitions import accounting_months
from schedules.schedules import source_schedules
from schedules.sensors import routing_sensor
from schedules.watching import (
    failure_sensor,
    health_job,
    housekeeping_job,
    watching_schedules,
)

# `partitions_def` on checks is a preview in Dagster 1.13. Without it a partitioned asset has one
# check status for all months, the last one's (dagster #17005). The exact pin and
# tests/test_definitions.py guard it.
warnings.filterwarnings("ignore", category=PreviewWarning, message=".*partitions_def.*")


def build_definitions(
    settings: Settings, *, resource_overrides: Mapping[str, Any] | None = None
) -> dg.Definitions:
    """A fresh `Definitions` for these settings; connects to nothing."""
    months = accounting_months(settings.site)
    sources = [source.under(settings.source(name)) for name, source in SOURCES.items()]
    upstream = [key for source in sources for key in canonical_keys(source, settings)]
    jobs = [job for source in sources for job in source_jobs(source, settings)]
    rebuilds = [rebuild_job(source, settings) for source in sources]
    deliveries = delivery_jobs()
    health, housekeeping = health_job(), housekeeping_job(settings)
    import_folder = import_folder_job(settings)
    schedules = [each for source in sources for each in source_schedules(source, settings)]
    resources: dict[str, Any] = {
        "lake": LakeResource(root=str(settings.lake_root)),
        "ledger": LedgerResource(
            url=dg.EnvVar("REVREC_LEDGER_URL") if settings.ledger_url else settings.ledger
        ),
        **{name: resource_of(name, settings) for name in SOURCES},
    }
    return dg.Definitions(
        assets=[
            *(raw_months(source, settings, months) for source in sources),
            *(raw_changes(source, settings) for source in sources),
            *(raw_sweep(source, settings) for source in sources),
            *(
                canonical_months(source, record_type, settings, months)
                for source in sources
                for record_type in source.record_types(settings.source(source.name))
            ),
            *(delivery_asset(route, settings, upstream) for route in ROUTES),
            health_asset(settings),
        ],
        jobs=[
            *jobs,
            *rebuilds,
            sync_all_job(sources, settings),
            *deliveries,
            health,
            housekeeping,
            import_file_job(settings),
            import_folder,
        ],
        schedules=[
            *schedules,
            *watching_schedules(settings, health, housekeeping),
            *import_schedules(settings, import_folder),
        ],
        sensors=[routing_sensor([*rebuilds, *deliveries], settings.site), failure_sensor(settings)],
        resources={**resources, **(resource_overrides or {})},
        executor=dg.in_process_executor,
    )


@dg.definitions
def defs() -> dg.Definitions:
    """What `workspace.yaml` loads, with the settings of this environment."""
    return build_definitions(Settings.load())
