"""`revrec sync`: a first sync, one in which nothing changed, and one in which something did."""

import re
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from command_line import MONTH, SETTINGS, Commands, Home, Synced
from conversion_files import column, read_archive

from revrec_pipeline.periods import period_of

BUCKETS = ("delivered", "unchanged", "flagged", "excluded")


def assert_ties(job: dict[str, Any]) -> None:
    """Nothing is lost: source = delivered + unchanged + flagged + excluded."""
    counts = job["counts"]
    assert counts["source"] == sum(counts[name] for name in BUCKETS), job
    for currency, amounts in job["amounts"].items():
        parts = sum((Decimal(amounts[name]) for name in BUCKETS), Decimal(0))
        assert Decimal(amounts["source"]) == parts, (job["id"], currency)
    assert sum(job["excluded_by"].values()) == counts["excluded"]
    assert sum(job["flagged_by"].values()) == counts["flagged"]


# -- the first sync ------------------------------------------------------------------------------


def test_a_first_sync_delivers_every_complete_order_into_conversion_files(
    first_sync: Synced,
) -> None:
    invoices, sales = first_sync.home.json("jobs")

    assert (sales["name"], invoices["name"]) == (
        "Salesforce sales (command line)",
        "Stripe invoices (command line)",
    )
    for job in (sales, invoices):
        assert (job["status"], job["route"], job["periods"]) == ("delivered", "conversion", [MONTH])
        assert_ties(job)
        workbook, archive = job["files"]
        assert (Path(workbook).suffix, Path(archive).suffix) == (".xlsx", ".zip")
        assert Path(workbook).is_absolute()
        assert Path(workbook).is_file()
        assert Path(archive).is_file()
        sheet = "OrderDetails" if job is sales else "BillingSchedule"
        assert len(read_archive(Path(archive))[sheet]) - 1 == job["counts"]["delivered"]
    assert sales["counts"] == {
        "source": 22, "delivered": 15, "unchanged": 0, "flagged": 2, "excluded": 5,
    }  # fmt: skip
    assert sales["flagged_by"] == {"IN_MISSING_SERVICE_DATES": 1, "order_held": 1}
    assert sales["excluded_by"] == {"not_closed_won": 5}


def test_a_sync_says_in_words_how_many_rows_are_flagged_and_where_to_look(
    first_sync: Synced,
) -> None:
    assert (
        "2 rows are flagged and hold back the whole order or invoice; "
        "`revrec errors` says what to mend, and where." in first_sync.stdout
    )


def test_in_a_pipe_progress_is_plain_lines_on_standard_error(first_sync: Synced) -> None:
    months = re.sub(r"\(\d+\.\d s\)", "(time)", first_sync.stderr)

    assert months.splitlines()[:3] == [
        "Salesforce, 2026-05 (1 month)",
        "  2026-05  22 rows, 2 flagged, 5 excluded  (time)",
        "Stripe, 2026-05 (1 month)",
    ]
    assert "\x1b" not in first_sync.stdout + first_sync.stderr


def test_several_sources_are_synced_side_by_side_and_their_steps_say_whose_they_are(
    home: Home,
) -> None:
    done = home.run("sync", "--from", MONTH, "--to", MONTH)

    jobs = {job["source"]: job for job in home.json("jobs")}
    assert {name: job["status"] for name, job in jobs.items()} == {
        "salesforce": "delivered",
        "stripe": "delivered",
    }
    months = sorted(line.partition("  (")[0] for line in done.stderr.splitlines())
    assert months[:2] == [
        "  Salesforce: 2026-05  22 rows, 2 flagged, 5 excluded",
        f"  Stripe: 2026-05  {jobs['stripe']['counts']['source']} rows, "
        f"{jobs['stripe']['counts']['flagged']} flagged, "
        f"{jobs['stripe']['counts']['excluded']} excluded",
    ]
    for job in jobs.values():
        assert_ties(job)


# -- nothing changed -----------------------------------------------------------------------------


def test_a_sync_in_which_nothing_changed_delivers_no_row(synced: Home) -> None:
    synced.run("sync", "salesforce")

    job = synced.json("jobs")[0]
    assert (job["source"], job["status"], job["files"]) == ("salesforce", "unchanged", [])
    assert job["counts"]["delivered"] == 0
    assert_ties(job)


def test_listing_a_month_again_delivers_none_of_its_rows_again(synced: Home) -> None:
    synced.run("sync", "salesforce", "--from", MONTH, "--to", MONTH)

    job = synced.json("jobs")[0]
    assert job["status"] == "unchanged"
    assert job["counts"] == {
        "source": 22, "delivered": 0, "unchanged": 15, "flagged": 2, "excluded": 5,
    }  # fmt: skip
    assert_ties(job)


def test_full_lists_every_month_since_history_start_although_changes_could_be_pulled(
    synced: Home,
) -> None:
    month = period_of(datetime.now(UTC), "America/New_York")
    synced.configure(SETTINGS.replace("2025-01", month))

    done = synced.run("sync", "salesforce", "--full")

    assert done.stderr.splitlines()[0] == f"Salesforce, {month} (1 month)"
    assert synced.json("jobs")[0]["periods"] == [month]


# -- something changed ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Changed:
    """A home in which one line got another price and an incomplete record was mended."""

    home: Home
    order: str  # the changed line's order
    lines: int  # how many lines it has
    mended: str  # the order that was incomplete
    dry_run: str
    jobs_after_dry_run: list[dict[str, Any]]
    errors_before: list[dict[str, Any]]


@pytest.fixture(scope="module")
def changed(
    first_sync: Synced, _sandbox: Commands, tmp_path_factory: pytest.TempPathFactory
) -> Changed:
    _sandbox.command("reset")
    home = first_sync.home.copy(tmp_path_factory.mktemp("changed"))
    sheet = read_archive(Path(home.json("jobs")[1]["files"][1]))
    orders = column(sheet, "OrderDetails", "Order Number")
    order, lines = Counter(orders).most_common(1)[0]
    line = column(sheet, "OrderDetails", "Order Item Number")[orders.index(order)]
    before = home.json("errors")
    (error,) = (e for e in before if e["code"] == "IN_MISSING_SERVICE_DATES")

    def edit(name: str, fields: dict[str, Any]) -> None:
        _sandbox.command(
            "edit", source="salesforce", object="OpportunityLineItem", id=name, fields=fields
        )

    edit(line, {"UnitPrice": "17.25"})
    edit(error["line_id"], {"Term__c": 12})
    _sandbox.command("advance", seconds=3600)
    dry_run = home.run("sync", "salesforce", "--dry-run").stdout
    after_dry_run = home.json("jobs")
    home.run("sync", "salesforce")
    return Changed(home, order, lines, error["record_id"], dry_run, after_dry_run, before)


def test_a_dry_run_says_what_would_be_added_and_changed_and_delivers_nothing(
    changed: Changed, first_sync: Synced
) -> None:
    said = [line.split() for line in changed.dry_run.splitlines()]

    assert ["salesforce", "sales:", "2", "documents", "would", "change"] in said
    assert ["changed", changed.order, MONTH, str(changed.lines)] in said
    assert ["added", changed.mended, MONTH, "2"] in said
    assert changed.dry_run.endswith("Dry run: nothing was delivered.\n")
    ids = [job["id"] for job in changed.jobs_after_dry_run]
    assert ids == [job["id"] for job in first_sync.home.json("jobs")]


def test_one_changed_line_delivers_all_lines_of_its_order_and_of_no_other(
    changed: Changed,
) -> None:
    job = changed.home.json("jobs")[0]

    assert (job["status"], job["route"]) == ("delivered", "conversion")
    assert job["counts"]["delivered"] == changed.lines + 2
    assert_ties(job)
    sheet = read_archive(Path(job["files"][1]))
    assert Counter(column(sheet, "OrderDetails", "Order Number")) == {
        changed.order: changed.lines,
        changed.mended: 2,
    }
    assert "17.25" in column(sheet, "OrderDetails", "Unit Price")


def test_a_record_that_was_mended_in_the_source_resolves_its_error(changed: Changed) -> None:
    before = [e["id"] for e in changed.errors_before if e["record_id"] == changed.mended]

    everything = changed.home.json("errors", "--all")

    assert [e["id"] for e in everything if e["status"] == "resolved"] == before
    assert changed.home.json("errors") == [e for e in everything if e["status"] == "open"]


def test_a_change_of_a_month_before_the_history_is_landed_and_not_built(
    sandbox: Commands, tmp_path: Path
) -> None:
    """Its month is no partition; Xero's story changes an invoice of 2025-12."""
    home = Home(tmp_path, sandbox.only("xero"))
    home.configure(SETTINGS.replace("2025-01", MONTH))
    home.run("sync", "--from", MONTH, "--to", MONTH)
    sandbox.command("story")
    sandbox.command("advance", seconds=3600)
    said = home.run("sync").stderr
    (months,) = re.findall(r"months to rebuild: (.+)", said)
    assert min(months.split(", ")) == MONTH
    assert home.json("jobs")[0]["status"] == "delivered"
