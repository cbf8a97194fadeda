"""Delivery assets: what the UI says of a delivery; delivering is in `tests/test_delivery`."""

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import dagster as dg
from pipeline import Pipeline

from revrec_pipeline.ledger import accounting_periods, outbox, sync_errors
from revrec_pipeline.model import Route


def delivered(pipeline: Pipeline) -> dict[str, Any]:
    """Launch what the sensor asks for, and give the metadata of the delivery."""
    (request,) = pipeline.tick()
    pipeline.launch(request)
    assert request.job_name
    asset = dg.AssetKey(request.job_name.removeprefix("deliver_"))
    event = pipeline.instance.get_latest_materialization_event(asset)
    assert event
    assert event.asset_materialization
    return {name: value.value for name, value in event.asset_materialization.metadata.items()}


def test_a_conversion_file_names_its_job_its_rows_and_its_files(pipeline: Pipeline) -> None:
    pipeline.run("sync_stripe", "2025-05")
    found = delivered(pipeline)
    files = [Path(found.pop(f"file_{kind}")) for kind in ("xlsx", "zip")]
    assert all(file.is_file() for file in files)
    summary, controls = found.pop("summary"), found.pop("controls")
    written = files[0].with_name("summary.md").read_text(encoding="utf-8")
    assert written.startswith(summary)
    assert summary.startswith("# Job 1: Stripe invoices")
    for picture in re.findall(r"!\[.+\]\((.+)\)", written):
        drawn = ElementTree.parse(files[0].with_name(picture)).getroot()
        assert drawn.tag == "{http://www.w3.org/2000/svg}svg"
    rows = [record.data for record in controls.records]
    assert {row["month"] for row in rows} == {"2025-05"}
    assert {row["difference"].partition(" ")[2] for row in rows} == {"(0 rows)"}
    assert found == {
        "job": 1,
        "state": "delivered",
        "months": 1,
        "documents_added": 13,
        "rows_delivered": 24,
        "rows_unchanged": 0,
        "rows_removed": 0,
        "findings_between_systems": 0,  # of invoices alone nothing can be said
    }


def test_a_delivery_writes_the_summary_that_a_killed_one_did_not(pipeline: Pipeline) -> None:
    pipeline.run("sync_stripe", "2025-05")
    file = Path(delivered(pipeline)["file_zip"])
    for rest in file.parent.glob("*.md"), file.parent.glob("*.svg"):
        for left in rest:
            left.unlink()
    pipeline.run("sync_stripe", "2025-06")
    delivered(pipeline)
    assert file.with_name("summary.md").read_text().startswith("# Job 1: Stripe invoices")
    assert len(list(file.parent.glob("*.svg"))) == 2


def test_deliveries_of_two_systems_are_compared_and_what_does_not_fit_is_a_warning(
    pipeline: Pipeline,
) -> None:
    for source in ("stripe", "salesforce"):
        pipeline.run(f"sync_{source}", "2026-05")
        found = delivered(pipeline)
    assert found["findings_between_systems"] > 0
    with pipeline.ledger.transaction() as tx:
        warnings = [row for row in sync_errors.list_errors(tx) if row["stage"] == "sync"]
    assert len(warnings) == found["findings_between_systems"]
    assert {row["severity"] for row in warnings} == {"warning"}


def test_a_file_of_matches_that_is_wrong_is_told_and_stops_no_delivery(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    (tmp_path / "matches.csv").write_text("customer\n")
    pipeline.run("sync_stripe", "2025-05")
    found = delivered(pipeline)
    assert found["state"] == "delivered"
    assert found["between_systems"].startswith("not compared: ")
    assert "lacks the column 'source'" in found["between_systems"]


def test_a_live_load_has_no_file(pipeline: Pipeline) -> None:
    with pipeline.ledger.transaction() as tx:
        accounting_periods.set_period(tx, "2025-05")
    pipeline.run("sync_stripe", "2025-05")
    found = delivered(pipeline)
    assert (found["state"], found["rows_delivered"]) == ("delivered", 24)
    assert not [name for name in found if name.startswith("file")]


def test_a_delivery_waits_in_the_queue_while_another_one_of_its_kind_goes_on(
    pipeline: Pipeline,
) -> None:
    """Two jobs of one source and record type must not compare with the same delivered state."""
    for month in ("2025-05", "2025-06"):
        pipeline.run("sync_stripe", month)
    _, second = pipeline.tick()
    with pipeline.ledger.transaction() as tx:
        assert outbox.claim(tx, 1, claimed_by="a", route=Route.CONVERSION, lease_seconds=3)
    pipeline.launch(second)
    assert [job["status"] for job in pipeline.jobs()] == ["ready", "delivered"]
