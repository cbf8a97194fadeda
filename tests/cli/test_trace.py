"""`revrec trace`: from an order or invoice to its raw page, and what stopped a record."""

import json
from typing import Any

import pyarrow.parquet as pq
from command_line import MONTH, Home, Synced

from revrec_pipeline.codes import CHECKS


def row(home: Home, source: str, record_type: str, *, counts: bool = True) -> dict[str, Any]:
    """A row of the month's batch that counts, or one that a rule excludes."""
    folder = home.path / "lake" / "canonical" / source / record_type / MONTH
    (file,) = folder.glob("*/rows.parquet")
    held = set(pq.read_table(file.with_name("held.parquet"))["document_id"].to_pylist())
    return next(
        line
        for line in pq.read_table(file).to_pylist()
        if (line["excluded_by"] is None) == counts and line["document_id"] not in held
    )


def error_of(home: Home) -> dict[str, Any]:
    """The error that holds an order back."""
    (error,) = (e for e in home.json("errors") if e["severity"] == "error")
    return dict(error)


def test_a_delivered_invoice_shows_its_rows_its_batch_its_jobs_its_checks_and_its_page(
    first_sync: Synced,
) -> None:
    line = row(first_sync.home, "stripe", "invoices")

    for name in (line["invoice_number"], line["document_id"], line["line_id"]):
        (found,) = first_sync.home.json("trace", name)

    assert (found["source"], found["document_id"]) == ("stripe", line["document_id"])
    assert (found["status"], found["why"]) == ("delivered", None)
    (job,) = found["jobs"]
    (of_source,) = (
        each["id"] for each in first_sync.home.json("jobs") if each["source"] == "stripe"
    )
    assert (job["outcome"], job["route"], job["job_id"]) == ("delivered", "conversion", of_source)
    assert found["delivered"]["batch_id"] == job["batch_id"] == f"{of_source}-{MONTH}"
    assert found["checks"] == dict.fromkeys(CHECKS, "passed")
    assert line["line_id"] in [each["line_id"] for each in found["lines"]]
    page = found["received"][0]
    assert (page["object"], page["landing"]) == (line["document_type"], line["raw_batch"])
    assert json.loads(page["record"])["id"] == line["document_id"]
    assert len(page["sha256"]) == 64
    assert page["request"].startswith("GET ")


def test_a_record_that_was_not_delivered_names_the_error_that_stopped_it(
    first_sync: Synced,
) -> None:
    error = error_of(first_sync.home)

    (found,) = first_sync.home.json("trace", error["record_id"])

    assert (found["status"], found["delivered"]) == ("held", None)
    assert found["why"] == f"held back by error {error['id']}, {error['message']}"
    assert found["checks"]["required_fields"] == "failed: IN_MISSING_SERVICE_DATES"
    assert [each["id"] for each in found["errors"]] == [error["id"]]
    assert [job["outcome"] for job in found["jobs"]] == ["held"]


def test_a_record_that_a_rule_excludes_names_the_rule(first_sync: Synced) -> None:
    line = row(first_sync.home, "salesforce", "sales", counts=False)

    (found,) = first_sync.home.json("trace", line["order_number"])

    assert (found["status"], found["why"]) == (
        "excluded",
        f"excluded by the rule {line['excluded_by']}",
    )
    assert set(found["checks"].values()) == {"not applied"}


def test_for_people_the_same_stands_in_paragraphs(first_sync: Synced) -> None:
    line = row(first_sync.home, "salesforce", "sales")

    shown = first_sync.home.run("trace", line["order_number"]).stdout

    assert shown.startswith(f"salesforce opportunity {line['document_id']} (sales): delivered\n")
    assert line["url"] in shown
    for heading in ("Jobs", "Checks", "Received"):
        assert heading in shown.splitlines()
    assert f"landing {line['raw_batch']}" in shown


def test_what_was_never_built_is_refused(first_sync: Synced) -> None:
    assert first_sync.home.refuses("trace", "nobody") == (
        "nothing is known by 'nobody': no order number, invoice number, document or line that was "
        "ever built; was its month synced?"
    )


def test_each_job_that_built_a_document_says_what_it_did_with_it(synced: Home) -> None:
    line = row(synced, "stripe", "invoices")
    synced.run("sync", "stripe", "--from", MONTH, "--to", MONTH)

    (found,) = synced.json("trace", line["document_id"])

    assert [job["outcome"] for job in found["jobs"]] == ["delivered", "unchanged"]
