"""Canonical assets as people see them in the UI: metadata, and checks that say what fails."""

from typing import Any

import dagster as dg
from pipeline import Pipeline

from revrec_pipeline.checks import CHECKS
from revrec_pipeline.model import CANONICAL, RecordType


def built(pipeline: Pipeline, month: str) -> dict[str, dg.MetadataValue[Any]]:
    """The metadata of Stripe's invoices of a month."""
    result = pipeline.run("sync_stripe", month)
    (event,) = (
        event
        for event in result.all_events
        if event.is_step_materialization and event.asset_key == dg.AssetKey(["stripe", "invoices"])
    )
    return dict(event.materialization.metadata)


def records(table: Any) -> list[dict[str, Any]]:
    """The rows of a table's metadata."""
    return [record.data for record in table.records]


def test_control_totals_tie_and_are_decimal_text(pipeline: Pipeline) -> None:
    found = built(pipeline, "2025-05")
    totals = records(found["control_totals"])
    source = [row for row in totals if row["bucket"] == "source"]
    assert sum(int(row["rows"]) for row in source) == 28
    assert found["dagster/partition_row_count"].value == 28
    assert all(isinstance(row["amount"], str) for row in totals)
    assert {row["rule"] for row in totals} == {"", "void", "IN_MISSING_REQUIRED", "order_held"}
    buckets = ["source"] * 5 + ["flagged"] * 2 + ["excluded"] + ["own_total"] * 5
    assert [row["bucket"] for row in totals] == buckets
    assert {row["currency"]: row["amount"] for row in source} == {
        "EUR": "4332.75",
        "GBP": "2085.33",
        "ISK": "203280",
        "JPY": "310350",
        "USD": "30229.64",
    }


def test_the_preview_shows_rows_that_count(pipeline: Pipeline) -> None:
    preview = records(built(pipeline, "2025-05")["preview"])
    assert len(preview) == 10
    assert all(row["document_id"].startswith(("in_", "cn_")) for row in preview)


def test_the_asset_carries_the_columns_of_its_model(pipeline: Pipeline) -> None:
    asset = pipeline.definitions.resolve_assets_def(dg.AssetKey(["stripe", "invoices"]))
    schema = asset.metadata_by_key[asset.key]["dagster/column_schema"]
    assert [column.name for column in schema.columns] == CANONICAL[RecordType.INVOICES].names
    columns = {column.name: column for column in schema.columns}
    assert columns["product_code"].description == "BillingSchedule: Product Code"
    assert columns["product_code"].constraints.other == ["required"]
    # A flagged row may lack it, so no constraint of the file itself.
    assert columns["product_code"].constraints.nullable
    assert columns["url"].description == "the record in the source system's own web page"


def test_every_check_answers_every_time_and_the_red_one_shows_its_rows(pipeline: Pipeline) -> None:
    """A check without an answer only warns, and lets downstream go on (Dagster 1.13)."""
    result = pipeline.run("sync_stripe", "2025-05")
    found = {each.check_name: each for each in result.get_asset_check_evaluations()}
    assert list(found) == list(CHECKS)
    assert [name for name, each in found.items() if not each.passed] == ["required_fields"]
    red = found["required_fields"]
    assert (red.partition, red.severity) == ("2025-05", dg.AssetCheckSeverity.ERROR)
    (row,) = records(red.metadata["rows"])
    assert (row["code"], row["field"]) == ("IN_MISSING_REQUIRED", "Product Code")
    assert row["record_id"] in str(red.metadata["links"].value)
    assert red.metadata["failing_rows"].value == 1


def test_warnings_do_not_turn_a_month_red(pipeline: Pipeline) -> None:
    """A missing list price is supplied during the close, not mended in the source."""
    result = pipeline.run("sync_salesforce", "2026-05")
    found = {each.check_name: each for each in result.get_asset_check_evaluations()}
    assert found["known_references"].severity is dg.AssetCheckSeverity.WARN


def test_the_same_pages_give_the_same_data_version(pipeline: Pipeline) -> None:
    pipeline.run("sync_stripe", "2025-05")
    versions = []
    for _ in range(2):
        pipeline.run("rebuild_stripe", "2025-05")
        record = pipeline.instance.get_latest_data_version_record(
            dg.AssetKey(["stripe", "invoices"]), partition_key="2025-05"
        )
        assert record
        assert record.asset_materialization
        versions.append((record.asset_materialization.tags or {})["dagster/data_version"])
    assert versions[0] == versions[1]
