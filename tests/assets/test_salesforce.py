"""Salesforce under other settings than the defaults, the whole way from the API to the ledger."""

from collections.abc import Callable
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
import pytest
from conftest import Sandbox
from pipeline import Pipeline

from revrec_pipeline.ledger import sync_errors

_ORDERS = '[sources.salesforce]\nline_source = "order"\ncommissions = true\ncommission_rate = 5\n'
_MONTH = "2026-03"


def rows(pipeline: Pipeline, result: dg.ExecuteInProcessResult, asset: str) -> list[dict[str, Any]]:
    """The canonical rows that a run has built."""
    (event,) = (
        event
        for event in result.all_events
        if event.is_step_materialization and event.asset_key == dg.AssetKey(asset.split("/"))
    )
    batch = pipeline.settings.lake_root / str(event.materialization.metadata["batch"].value)
    return pq.read_table(batch / "rows.parquet").to_pylist()


def flagged(pipeline: Pipeline) -> set[tuple[str, str]]:
    """Code and document of every open error."""
    with pipeline.ledger.transaction() as tx:
        return {(error["code"], error["record_id"]) for error in sync_errors.list_errors(tx)}


def test_the_graph_has_the_raw_assets_of_the_settings_and_no_others(
    make_pipeline: Callable[..., Pipeline],
) -> None:
    pipeline = make_pipeline(toml=_ORDERS)
    keys = {
        key.to_user_string()
        for key in pipeline.definitions.resolve_asset_graph().get_all_asset_keys()
        if "salesforce" in key.path
    }
    assert keys == {
        "raw/salesforce/changes",
        "raw/salesforce/sweep",
        "raw/salesforce/order",
        "raw/salesforce/order_item",
        "raw/salesforce/opportunity",
        "raw/salesforce/opportunity_split",
        "raw/salesforce/opportunity_order",
        "raw/salesforce/currency_type",
        "raw/salesforce/dated_conversion_rate",
        "salesforce/sales",
        "salesforce/commissions",
    }


def test_orders_and_commissions_reach_the_conversion_files_and_what_is_deleted_leaves(
    make_pipeline: Callable[..., Pipeline], sandbox: Sandbox
) -> None:
    pipeline = make_pipeline(toml=_ORDERS)
    listed = pipeline.run("sync_salesforce", _MONTH)
    pipeline.route()
    sales = rows(pipeline, listed, "salesforce/sales")
    costs = rows(pipeline, listed, "salesforce/commissions")
    assert {row["document_type"] for row in sales} == {"order"}
    assert {row["excluded_by"] for row in sales} == {None, "deleted", "not_activated"}
    counted = [row for row in costs if row["excluded_by"] is None]
    assert {row["currency"] for row in counted} == {"USD"}
    assert {row["document_currency"] for row in counted} > {"USD", "EUR"}
    assert any(row["order_number"] for row in counted)
    empty = next(row for row in sales if row["line_id"] is None)
    assert ("IN_MISSING_REQUIRED", empty["document_id"]) in flagged(pipeline)
    first = {name: pipeline.job("salesforce", name) for name in ("sales", "commissions")}
    for job in first.values():
        counts = job["counts"]
        assert job["status"] == "delivered"
        assert counts["delivered"] > 0
        assert counts["source"] == counts["delivered"] + counts["flagged"] + counts["excluded"]

    order = next(row["document_id"] for row in sales if row["excluded_by"] is None)
    lost = next(row["document_id"] for row in counted)
    sandbox.command("advance", seconds=3600)
    sandbox.command("delete", source="salesforce", object="Order", id=order, hard=False)
    fields = {"StageName": "Negotiation"}
    sandbox.command("edit", source="salesforce", object="Opportunity", id=lost, fields=fields)
    sandbox.command("advance", seconds=3600)
    pipeline.run("changes_salesforce")
    pipeline.route()
    gone = sum(row["document_id"] == order for row in sales)
    back = sum(row["document_id"] == lost for row in counted)
    for name, fewer in (("sales", gone), ("commissions", back)):
        counts = pipeline.job("salesforce", name)["counts"]
        assert counts["excluded"] - first[name]["counts"]["excluded"] == fewer


def test_a_month_that_was_listed_for_another_line_source_must_be_listed_again(
    make_pipeline: Callable[..., Pipeline], sandbox: Sandbox
) -> None:
    """Else the orders that changed would stand for the whole month, and the rest be taken back."""
    pipeline = make_pipeline()
    listed = pipeline.run("sync_salesforce", _MONTH)
    assert rows(pipeline, listed, "salesforce/sales")
    switched = make_pipeline(toml=_ORDERS)
    result = switched.run("rebuild_salesforce", _MONTH, may_fail=True)
    failures = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    message = str(failures[0].user_failure_data and failures[0].user_failure_data.description)
    assert message == (
        f"Salesforce {_MONTH} was pulled without order, which [sources.salesforce] asks for by "
        f"now; list it again: revrec sync salesforce --from {_MONTH} --to {_MONTH}"
    )
    again = switched.run("sync_salesforce", _MONTH)
    assert {row["document_type"] for row in rows(switched, again, "salesforce/sales")} == {"order"}


def test_a_commission_without_a_rate_is_flagged_until_the_rate_is_entered(
    make_pipeline: Callable[..., Pipeline], sandbox: Sandbox
) -> None:
    pipeline = make_pipeline(toml="[sources.salesforce]\ncommissions = true\n")
    listed = pipeline.run("sync_salesforce", "2025-09")
    waiting = {
        row["document_id"]
        for row in rows(pipeline, listed, "salesforce/commissions")
        if row["document_currency"] == "KWD" and row["excluded_by"] is None
    }
    pipeline.route()
    missing = {record for code, record in flagged(pipeline) if code == "PR_MISSING_FX_RATE"}
    assert missing == waiting != set()
    sandbox.command("advance", seconds=3600)
    fields = {
        "IsoCode": "KWD",
        "StartDate": "2025-09-01",
        "NextStartDate": "2025-10-01",
        "ConversionRate": 0.306,
    }
    sandbox.command("add", source="salesforce", object="DatedConversionRate", fields=fields)
    sandbox.command("advance", seconds=3600)
    pipeline.run("changes_salesforce")
    pipeline.route()
    assert not {record for code, record in flagged(pipeline) if code == "PR_MISSING_FX_RATE"}
    assert pipeline.job("salesforce", "commissions")["counts"]["delivered"] >= len(waiting)


def test_a_sweep_after_a_switch_lists_the_months_again_and_buries_nothing(
    make_pipeline: Callable[..., Pipeline],
) -> None:
    """The opportunities of the earlier landing are no documents any more, and not gone either."""
    make_pipeline().run("sync_salesforce", _MONTH)
    switched = make_pipeline(toml=_ORDERS)
    result = switched.run("sweep_salesforce")
    (event,) = (event for event in result.all_events if event.is_step_materialization)
    found = {name: value.value for name, value in event.materialization.metadata.items()}
    assert (found["records"], found["listed_again"]) == (0, _MONTH)


@pytest.mark.parametrize("line_source", ["cpq_quote", "cpq_subscription"])
def test_cpq_months_are_built_without_losing_a_document(
    make_pipeline: Callable[..., Pipeline], line_source: str
) -> None:
    toml = f'[sources.salesforce]\nline_source = "{line_source}"\n'
    pipeline = make_pipeline(toml=toml)
    listed = pipeline.run("sync_salesforce", _MONTH)
    found = rows(pipeline, listed, "salesforce/sales")
    assert None in {row["excluded_by"] for row in found}
    assert {row["document_type"] for row in found} <= {"quote", "contract"}
    pipeline.route()
    job = pipeline.job("salesforce", "sales")
    assert (job["status"], job["failures"]) == ("delivered", [])
