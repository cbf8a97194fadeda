"""Raw assets: what the sources' APIs returned, landed in the lake.

`raw/<source>/<object>` is the full listing of one business month; all objects of a source land in
one step, for a document and its lines must come from one pull. `raw/<source>/changes` is one
incremental window, which may touch any month; it has no partition, and a sensor has the touched
months rebuilt. `raw/<source>/sweep` looks for what the feed did not tell. Nothing here knows what a
field means.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from itertools import islice, pairwise
from typing import Any

import dagster as dg
import pyarrow as pa
from dagster._utils.schedules import cron_string_iterator

from assets.context import UNTIL_TAG, failing_loudly, open_jobs, pool_name
from resources.client import IDS, SourceClient, SourceResource
from resources.stores import LakeResource, LedgerResource
from revrec_pipeline import sweep
from revrec_pipeline.canonical import ERRORS
from revrec_pipeline.errors import UsageError
from revrec_pipeline.lake import CHANGES, Landing
from revrec_pipeline.ledger import Transaction, cursors, jobs, source_accounts, sync_errors
from revrec_pipeline.mapping import Source
from revrec_pipeline.model import RecordType
from revrec_pipeline.settings import Settings

# Enough to meet the longest gap of a schedule on working days only.
_TICKS_OF_A_MONTH = 32
#: The last part of the key of the id sweep's asset.
SWEEP = "sweep"


def raw_months(
    source: Source, settings: Settings, months: dg.PartitionsDefinition[str]
) -> dg.AssetsDefinition:
    """The assets `raw/<source>/<object>`, one step per month."""
    record_types = source.record_types(settings.source(source.name))

    @dg.multi_asset(
        name=f"list_{source.name}",
        specs=[
            dg.AssetSpec(
                key=["raw", source.name, name],
                group_name=source.name,
                partitions_def=months,
                description=f"{source.title} {name.replace('_', ' ')} pages of the month, as the "
                "API returned them; append-only.",
                kinds={source.name, "parquet"},
                owners=list(settings.site.owners),
                tags={"revrec/source": source.name, "revrec/layer": "raw"},
                code_version="1",
            )
            for name in source.objects
        ],
        pool=pool_name(source.name),
        required_resource_keys={source.name, "lake", "ledger"},
    )
    def list_month(
        context: dg.AssetExecutionContext,
    ) -> Iterator[dg.MaterializeResult]:  # type: ignore[type-arg]  # Dagster reads the annotation
        lake, ledger = _stores(context)
        period = context.partition_key
        opened = open_jobs(ledger, context.run, source, record_types, period)
        with failing_loudly(context, ledger, source, opened, period):
            with _client(context, source) as client:
                _verify_account(client, ledger)
                began = client.server_time()
                built_here = bool(opened) and _builds(context.run, source, opened)
                context.log.info("listing %s %s", source.title, period)
                landing = lake.open().land(
                    source.name,
                    period,
                    client.listing(period),
                    run_id=context.run.run_id,
                    api_version=client.api_version,
                    objects=source.objects,
                    note=_noting(ledger, source, () if not built_here else (period,)),
                )
            with ledger.open().transaction() as tx:
                _forget_missing(tx, lake, source)
                cursors.listed(tx, source.name, period)
                _resolve_errors(tx, source, opened, period)
                if opened and cursors.position(tx, source.name) is None:
                    # From here on the change feed tells what happens to listed months.
                    cursors.advance(tx, source.name, began - client.lag)
        for name in source.objects:
            yield dg.MaterializeResult(
                asset_key=dg.AssetKey(["raw", source.name, name]),
                metadata=_metadata(lake, landing, name),
                data_version=dg.DataVersion(landing.objects[name]["sha256"]),
            )

    return list_month


def raw_changes(source: Source, settings: Settings) -> dg.AssetsDefinition:
    """The asset `raw/<source>/changes`: the next incremental window."""
    record_types = source.record_types(settings.source(source.name))

    @dg.asset(
        name=CHANGES,
        key_prefix=["raw", source.name],
        group_name=source.name,
        description=f"Everything that changed in {source.title} since the last window, with all "
        "lines of every changed document; the months it touches are rebuilt from the lake.",
        kinds={source.name, "parquet"},
        owners=list(settings.site.owners),
        tags={"revrec/source": source.name, "revrec/layer": "raw"},
        code_version="1",
        freshness_policy=_freshness(settings.source(source.name).schedule, settings),
        pool=pool_name(source.name),
        required_resource_keys={source.name, "lake", "ledger"},
    )
    def pull_changes(
        context: dg.AssetExecutionContext,
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster reads the annotation
        lake, ledger = _stores(context)
        opened = open_jobs(ledger, context.run, source, record_types, "")
        with failing_loudly(context, ledger, source, opened, ""):
            with ledger.open().transaction() as tx:
                position = cursors.position(tx, source.name)
            if position is None:
                raise UsageError(
                    f"{source.title} has never been listed, so there is nothing to continue from; "
                    f"run `revrec sync {source.name}` or a backfill first"
                )
            with _client(context, source) as client:
                _verify_account(client, ledger)
                since, until = _window(source, client, position, context.run.tags.get(UNTIL_TAG))
                context.log.info("%s changes from %s to %s", source.title, since, until)
                landing = lake.open().land(
                    source.name,
                    CHANGES,
                    client.changes(since, until),
                    run_id=context.run.run_id,
                    api_version=client.api_version,
                    objects=source.objects,
                    since=since,
                    until=until,
                    note=_noting(ledger, source),
                )
            with ledger.open().transaction() as tx:
                _forget_missing(tx, lake, source)
                if opened:  # a dry run leaves the window to the next sync
                    cursors.advance(tx, source.name, until)
                _resolve_errors(tx, source, opened, "")
                for job_id in opened.values():
                    jobs.end_run(tx, job_id, "", context.run.run_id)
        return dg.MaterializeResult(
            metadata={
                "since": since.isoformat(),
                "until": until.isoformat(),
                "touched_months": ", ".join(_in(settings, landing.touched)) or "none",
                "pages": sum(o["pages"] for o in landing.objects.values()),
                "records": sum(o["records"] for o in landing.objects.values()),
                "path": dg.MetadataValue.path(str(lake.open().root / landing.folder)),
            }
        )

    return pull_changes


def raw_sweep(source: Source, settings: Settings) -> dg.AssetsDefinition:
    """The asset `raw/<source>/sweep`: the ids of all months, against the lake."""
    record_types = source.record_types(settings.source(source.name))

    @dg.asset(
        name=SWEEP,
        key_prefix=["raw", source.name],
        group_name=source.name,
        description=f"The ids that {source.title} has now, against those in the lake: what is gone "
        "leaves its month, what is new is listed. Finds what no change feed reports; run it weekly "
        "and before each close.",
        kinds={source.name, "parquet"},
        owners=list(settings.site.owners),
        tags={"revrec/source": source.name, "revrec/layer": "raw"},
        code_version="1",
        pool=pool_name(source.name),
        required_resource_keys={source.name, "lake", "ledger"},
    )
    def sweep_ids(
        context: dg.AssetExecutionContext,
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster reads the annotation
        lake, ledger = _stores(context)
        opened = open_jobs(ledger, context.run, source, record_types, "")
        with failing_loudly(context, ledger, source, opened, ""):
            gone, relisted = 0, []
            listed = sorted({one.window for one in lake.open().landings(source.name)} - {CHANGES})
            with _client(context, source) as client:
                _verify_account(client, ledger)
                land = partial(
                    lake.open().land,
                    source.name,
                    run_id=context.run.run_id,
                    api_version=client.api_version,
                    objects=source.objects,
                    note=_noting(ledger, source),
                )
                for period in listed:
                    ids = pa.Table.from_batches(client.ids(period), IDS)
                    found = sweep.compare(lake.open(), source.name, period, ids, source.documents)
                    if found.gone.num_rows:
                        pages = sweep.tombstones(found, client.server_time())
                        land(CHANGES, pages)
                        gone += found.gone.num_rows
                    if found.unknown:
                        land(period, client.listing(period))
                        relisted.append(period)
            with ledger.open().transaction() as tx:
                _forget_missing(tx, lake, source)
                touched = _in(settings, cursors.pending_periods(tx, source.name))
                _resolve_errors(tx, source, opened, "")
                for job_id in opened.values():
                    jobs.end_run(tx, job_id, "", context.run.run_id)
        return dg.MaterializeResult(
            metadata={
                "months": len(listed),
                "records": gone,
                "listed_again": ", ".join(relisted) or "none",
                "touched_months": ", ".join(touched) or "none",
            }
        )

    return sweep_ids


def _noting(
    ledger: LedgerResource, source: Source, built_here: Collection[str] = ()
) -> Callable[[Landing], None]:
    """Records the months of a landing before it appears, but for those that the run builds.

    After it would be too late: a pull that was killed in between left documents that the next one,
    which landed the same, took for known, so nobody rebuilt their months (`make kills` found it).
    """

    def note(landing: Landing) -> None:
        months = [month for month in landing.touched if month not in built_here]
        with ledger.open().transaction() as tx:
            cursors.touch(tx, source.name, months, landing.id)

    return note


def _forget_missing(tx: Transaction, lake: LakeResource, source: Source) -> None:
    landed = [landing.id for landing in lake.open().landings(source.name)]
    cursors.forget_missing(tx, source.name, landed)


def _freshness(cron: str | None, settings: Settings) -> dg.FreshnessPolicy | None:
    """Stale when one tick of the schedule brought no pull, and half of the time to the next passed.

    Not `FreshnessPolicy.cron`: it would be red from each tick until its run has ended.
    """
    if cron is None:
        return None
    ticks = cron_string_iterator(0, cron, settings.site.timezone)
    longest = max(after - before for before, after in pairwise(islice(ticks, _TICKS_OF_A_MONTH)))
    return dg.FreshnessPolicy.time_window(fail_window=longest * 1.5, warn_window=longest * 1.1)


def _stores(context: dg.AssetExecutionContext) -> tuple[LakeResource, LedgerResource]:
    # The source's resource has to be named by key, and Dagster takes keys or parameters, not both.
    return context.resources.lake, context.resources.ledger


def _in(settings: Settings, months: Iterable[str]) -> list[str]:
    """Those of these months that can be built."""
    first, last = settings.site.months(datetime.now(UTC))
    return [month for month in months if first <= month <= last]


def _client(context: dg.AssetExecutionContext, source: Source) -> SourceClient:
    resource: SourceResource = getattr(context.resources, source.name)
    return resource.client()


def _verify_account(client: SourceClient, ledger: LedgerResource) -> None:
    """Refuse another company than the one that the lake holds."""
    with ledger.open().transaction() as tx:
        if source_accounts.is_known(tx, client.source):
            return
    account = client.check()
    with ledger.open().transaction() as tx:
        source_accounts.verify(tx, client.source, account.account_id, account.account_name)


def _builds(run: dg.DagsterRun, source: Source, record_types: Iterable[RecordType]) -> bool:
    """Whether this run builds the month as well; in the UI one may select raw assets alone."""
    built = {dg.AssetKey([source.name, str(record_type)]) for record_type in record_types}
    return run.asset_selection is None or built <= run.asset_selection


def _resolve_errors(
    tx: Transaction, source: Source, opened: dict[RecordType, int], period: str
) -> None:
    """The pull has succeeded: what earlier ones of this month failed with is over."""
    for record_type, job_id in opened.items():
        sync_errors.record(
            tx,
            job_id=job_id,
            source=source.name,
            record_type=record_type,
            period=period or None,
            errors=ERRORS.empty_table(),
            stages=("sync",),
        )


def _window(
    source: Source, client: SourceClient, position: datetime, latest: str | None
) -> tuple[datetime, datetime]:
    """The closed, lagged, overlapping window after `position`, by the source's own clock.

    Rows become visible up to `lag` late (airbyte#27146), and the overlap pulls again what shared
    the last time stamp; the version guard makes pulling twice harmless. `latest` is where a
    scheduled run stops.

    Raises:
        UsageError: the position is in the future, so that changes may have been passed over.
    """
    clock = client.server_time()
    if position > clock:
        raise UsageError(
            f"the last pull of {source.title} ended at {position:%Y-%m-%d %H:%M} UTC, but its "
            f"clock says {clock:%Y-%m-%d %H:%M} UTC: a clock has jumped, and changes may have been "
            f"passed over; run `revrec sync {source.name} --full`, which lists every month again"
        )
    until = clock - client.lag
    if latest:
        until = min(until, datetime.fromisoformat(latest))
    return min(position, until) - client.lookback, until


def _metadata(lake: LakeResource, landing: Landing, name: str) -> dict[str, dg.MetadataValue[Any]]:
    summary = landing.objects[name]
    return {
        "pages": dg.MetadataValue.int(summary["pages"]),
        "dagster/partition_row_count": dg.MetadataValue.int(summary["records"]),
        "bytes": dg.MetadataValue.int(summary["bytes"]),
        "sha256": dg.MetadataValue.text(summary["sha256"]),
        "api_version": dg.MetadataValue.text(landing.api_version),
        "server_time": dg.MetadataValue.text(landing.server_time or "no page"),
        "path": dg.MetadataValue.path(str(lake.open().root / landing.folder / f"{name}.parquet")),
    }
