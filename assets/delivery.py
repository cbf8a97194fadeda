"""Delivery assets: `conversion_file` and `live_load`, one job of the outbox at a time.

Which of the two a job takes is decided by the routing sensor and, finally, under the ledger's lock.
What delivering means is in `revrec_pipeline.delivery`.
"""

from typing import Any

import dagster as dg

from resources.stores import LakeResource, LedgerResource
from revrec_pipeline import between, summary
from revrec_pipeline import matches as match_file
from revrec_pipeline.delivery import Delivery, deliver
from revrec_pipeline.errors import LedgerBusyError, RevrecError
from revrec_pipeline.ledger import jobs
from revrec_pipeline.model import Route
from revrec_pipeline.settings import Settings

#: A claim lives this long without a sign of life; then the next attempt takes it over.
LEASE_SECONDS = 300.0
# Deliveries of one source and record type go one after another; the one before may have been
# killed, and then its claim must end first.
_WAIT_SECONDS = 5
_WAITS = int(LEASE_SECONDS / _WAIT_SECONDS) + 4

ROUTES: dict[Route, str] = {
    Route.CONVERSION: "conversion_file",
    Route.LIVE: "live_load",
}
_WORDS = {
    Route.CONVERSION: "The workbook and the zip that a person downloads, reviews and uploads; "
    "written while no accounting period is set.",
    Route.LIVE: "Order lines and billing lines upserted into the ledger; taken as soon as an "
    "accounting period is set.",
}


class DeliveryConfig(dg.Config):
    """Which job of the outbox to deliver; `revrec jobs` lists them."""

    job_id: int


def delivery_asset(
    route: Route, settings: Settings, upstream: list[dg.AssetKey]
) -> dg.AssetsDefinition:
    """The asset of one route."""

    @dg.asset(
        name=ROUTES[route],
        group_name="delivery",
        deps=upstream,
        description=_WORDS[route],
        kinds={"excel"} if route is Route.CONVERSION else {_ledger_kind(settings)},
        owners=list(settings.site.owners),
        tags={"revrec/layer": "delivery"},
        code_version="1",
    )
    def deliver_job(
        context: dg.AssetExecutionContext,
        config: DeliveryConfig,
        lake: LakeResource,
        ledger: LedgerResource,
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster reads the annotation
        try:
            delivery = deliver(
                ledger.open(),
                lake.open().root,
                config.job_id,
                route,
                claimed_by=context.run.run_id,
                lease_seconds=LEASE_SECONDS,
            )
        except LedgerBusyError as busy:
            raise dg.RetryRequested(max_retries=_WAITS, seconds_to_wait=_WAIT_SECONDS) from busy
        except RevrecError as error:
            raise dg.Failure(description=str(error), allow_retries=False) from error
        return dg.MaterializeResult(
            metadata={
                **_metadata(lake, config.job_id, delivery),
                **_compared(context, settings, lake, ledger, config.job_id, delivery),
                **_summary(lake, ledger, config.job_id, delivery),
            }
        )

    return deliver_job


def _ledger_kind(settings: Settings) -> str:
    return "duckdb" if settings.ledger.startswith("duckdb:") else "postgres"


def _metadata(lake: LakeResource, job_id: int, delivery: Delivery) -> dict[str, Any]:
    root = lake.open().root
    metadata: dict[str, Any] = {
        "job": job_id,
        "state": delivery.state,
        "months": len(delivery.batches),
        **{f"documents_{change}": count for change, count in sorted(delivery.documents.items())},
        **{f"rows_{name}": delivery.rows(name) for name in ("delivered", "unchanged", "removed")},
    }
    if delivery.taken_over:
        metadata["lines_of_files_taken_over"] = delivery.taken_over
    for file in delivery.files:
        metadata[f"file_{file.suffix.removeprefix('.')}"] = dg.MetadataValue.path(str(root / file))
    return metadata


def _compared(
    context: dg.AssetExecutionContext,
    settings: Settings,
    lake: LakeResource,
    ledger: LedgerResource,
    job_id: int,
    delivery: Delivery,
) -> dict[str, Any]:
    """Compare what is delivered now between systems; what does not fit becomes a warning.

    The delivery stands, whatever comes of this: the next one compares again, also one without
    changes, for the one before may have been killed between its delivery and this.
    """
    if delivery.state != "delivered":
        return {}
    try:
        matches = match_file.read(match_file.path(settings))
        found = between.record(ledger.open(), lake.open(), matches, job_id)
    except RevrecError as error:
        context.log.warning("not compared between systems: %s", error)
        return {"between_systems": f"not compared: {error}"}
    return {"findings_between_systems": found}


def _summary(
    lake: LakeResource, ledger: LedgerResource, job_id: int, delivery: Delivery
) -> dict[str, Any]:
    """The job's summary and controls; the summary also beside the job's files, if it has any."""
    if delivery.state != "delivered":
        return {}
    text = summary.summarize(ledger.open(), job_id)
    with ledger.open().transaction() as tx:
        controls = jobs.controls(tx, job_id)
    if delivery.files:
        summary.write(ledger.open(), lake.open(), delivery.files[0].parent, text)
    summary.write_missing(ledger.open(), lake.open())
    buckets = ("source", "delivered", "unchanged", "flagged", "excluded")
    columns = ("month", "currency", *buckets, "difference")
    return {
        "summary": dg.MetadataValue.md(text),
        "controls": dg.MetadataValue.table(
            records=[
                dg.TableRecord(
                    {
                        "month": each["period"],
                        "currency": each["currency"],
                        **{
                            name: f"{each['amounts'][name]} ({each['rows'][name]} rows)"
                            for name in buckets
                        },
                        "difference": f"{each['difference']['amount']} "
                        f"({each['difference']['rows']} rows)",
                    }
                )
                for each in controls
            ],
            schema=dg.TableSchema([dg.TableColumn(name, "string") for name in columns]),
        ),
    }
