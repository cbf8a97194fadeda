"""Jobs: what a person runs in the launchpad or a sensor asks for.

Small steps run in the run's own process: the multiprocess executor costs 2 to 3 s a step, a step in
process 0.03 s. `sync_all` alone may run sources side by side.
"""

from typing import Any

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from assets.delivery import ROUTES
from assets.raw import SWEEP
from revrec_pipeline.lake import CHANGES
from revrec_pipeline.mapping import Source
from revrec_pipeline.model import Route
from revrec_pipeline.settings import Settings


def sync_job_name(source: str) -> str:
    """The job that lists and builds one month of a source: "Run Job"."""
    return f"sync_{source}"


def changes_job_name(source: str) -> str:
    """The job that pulls what changed since the last window."""
    return f"changes_{source}"


def sweep_job_name(source: str) -> str:
    """The job that compares the source's ids with the lake."""
    return f"sweep_{source}"


def rebuild_job_name(source: str) -> str:
    """The job that builds one month from the lake, without an API call."""
    return f"rebuild_{source}"


def delivery_job_name(route: Route) -> str:
    """The job that delivers one job of the outbox."""
    return f"deliver_{ROUTES[route]}"


def delivery_config(route: Route, job_id: int) -> dict[str, Any]:
    """The run configuration that tells a delivery which job to deliver."""
    return {"ops": {ROUTES[route]: {"config": {"job_id": job_id}}}}


SYNC_ALL = "sync_all"


def canonical_keys(source: Source, settings: Settings) -> list[dg.AssetKey]:
    """The canonical assets that the settings ask of a source."""
    return [
        dg.AssetKey([source.name, str(record_type)])
        for record_type in source.record_types(settings.source(source.name))
    ]


def raw_keys(source: Source) -> list[dg.AssetKey]:
    """The raw assets of a source that have months."""
    return [dg.AssetKey(["raw", source.name, name]) for name in source.objects]


def source_jobs(source: Source, settings: Settings) -> list[UnresolvedAssetJobDefinition]:
    """The jobs of one source that call its API."""
    tags = {"revrec/source": source.name}
    return [
        dg.define_asset_job(
            sync_job_name(source.name),
            selection=dg.AssetSelection.assets(
                *raw_keys(source), *canonical_keys(source, settings)
            ),
            description=f"Run Job: list a month of {source.title}, build and check it. "
            "Its batches are routed when the run, or the backfill, has ended.",
            tags=tags,
        ),
        dg.define_asset_job(
            changes_job_name(source.name),
            selection=dg.AssetSelection.assets(dg.AssetKey(["raw", source.name, CHANGES])),
            description=f"Pull what changed in {source.title} since the last pull; the months that "
            "it touches are then rebuilt from the lake.",
            tags=tags,
        ),
        dg.define_asset_job(
            sweep_job_name(source.name),
            selection=dg.AssetSelection.assets(dg.AssetKey(["raw", source.name, SWEEP])),
            description=f"Compare the ids that {source.title} has with the lake: finds deletions "
            "that no feed reports. The months that differ are rebuilt.",
            tags=tags,
        ),
    ]


def rebuild_job(source: Source, settings: Settings) -> UnresolvedAssetJobDefinition:
    """The job that the routing sensor asks for when a pull has touched a month."""
    return dg.define_asset_job(
        rebuild_job_name(source.name),
        selection=dg.AssetSelection.assets(*canonical_keys(source, settings)),
        description=f"Build and check a month of {source.title} from the lake, with no request to "
        "the API.",
        tags={"revrec/source": source.name},
    )


def sync_all_job(sources: list[Source], settings: Settings) -> UnresolvedAssetJobDefinition:
    """One month of every source, side by side."""
    keys = [key for s in sources for key in (*raw_keys(s), *canonical_keys(s, settings))]
    return dg.define_asset_job(
        SYNC_ALL,
        selection=dg.AssetSelection.assets(*keys),
        description="Run Job for every source: list a month, build and check it.",
        executor_def=dg.multiprocess_executor.configured(
            {
                "max_concurrent": max(2, len(sources)),
                # Forking from a loaded server is 3.3 times cheaper than spawning.
                "start_method": {
                    "forkserver": {"preload_modules": ["revrec_pipeline.definitions"]}
                },
            }
        ),
    )


def delivery_jobs() -> list[UnresolvedAssetJobDefinition]:
    """One job per route."""
    return [
        dg.define_asset_job(
            delivery_job_name(route),
            selection=dg.AssetSelection.assets(dg.AssetKey(name)),
            description=f"Deliver one job of the outbox to {name}; the routing sensor asks for it.",
        )
        for route, name in ROUTES.items()
    ]
