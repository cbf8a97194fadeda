"""`revrec errors`: listing, exporting, ignoring and resolving."""

import csv
import json
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from command_line import MONTH, Home, Synced

from revrec_pipeline.cli import errors

KEYS = [
    "id", "job_id", "stage", "code", "severity", "owner", "source", "record_type", "record_id",
    "line_id", "field", "message", "url", "status", "first_seen", "last_seen",
]  # fmt: skip


def test_errors_as_json_name_record_field_owner_and_link(first_sync: Synced) -> None:
    (error,) = (e for e in first_sync.home.json("errors") if e["severity"] == "error")

    assert set(KEYS) <= error.keys()
    shown = [error[key] for key in ("stage", "code", "owner", "source", "record_type", "status")]
    assert shown == [
        "input", "IN_MISSING_SERVICE_DATES", "source", "salesforce", "sales", "open",
    ]  # fmt: skip
    assert error["field"] == "Service End Date"
    assert error["record_id"] in error["url"]
    assert error["line_id"] in error["message"]


def test_for_people_each_error_stands_with_its_message_and_its_link_on_lines_of_their_own(
    first_sync: Synced,
) -> None:
    (error,) = (e for e in first_sync.home.json("errors") if e["severity"] == "error")

    lines = first_sync.home.run("errors").stdout.splitlines()

    assert [line.strip() for line in lines[:3]] == [
        f"{error['id']}  error, salesforce sales {MONTH}, IN_MISSING_SERVICE_DATES",
        error["message"],
        error["url"],
    ]
    assert "  docs/errors/IN_MISSING_SERVICE_DATES.md" in lines


def test_an_ignored_error_is_hidden_until_all_are_asked_for(synced: Home) -> None:
    (error,) = (e for e in synced.json("errors") if e["severity"] == "error")

    said = synced.run("errors", "ignore", str(error["id"]), "--reason", "a test deal").stdout

    assert said.splitlines() == [
        f"Error {error['id']} is ignored.",
        "From the next sync on its order is let through: the row goes out without the date, and "
        "the product's delivery rule in RevRec decides when it is delivered.",
    ]

    assert error["id"] not in [e["id"] for e in synced.json("errors")]
    shown = next(e for e in synced.json("errors", "--all") if e["id"] == error["id"])
    assert (shown["status"], shown["reason"]) == ("ignored", "a test deal")
    assert "(a test deal)" in synced.run("errors", "--all").stdout


def test_a_resolved_error_is_hidden_and_a_csv_holds_what_json_holds(
    synced: Home, tmp_path: Path
) -> None:
    first = synced.json("errors")[0]
    synced.run("errors", "resolve", str(first["id"]))
    target = tmp_path / "errors.csv"

    done = synced.run("errors", "--csv", str(target), "--all")

    everything = synced.json("errors", "--all")
    assert done.stdout == f"{target} ({len(everything)} errors)\n"
    with target.open(encoding="utf-8", newline="") as file:
        written = list(csv.DictReader(file))
    assert [set(KEYS) <= row.keys() for row in written] == [True] * len(everything)
    assert [(row["id"], row["message"]) for row in written] == [
        (str(error["id"]), error["message"]) for error in everything
    ]
    assert [row["status"] for row in written if row["id"] == str(first["id"])] == ["resolved"]


@pytest.mark.parametrize("verb", [("resolve",), ("ignore", "--reason", "x"), ("show",)])
def test_an_error_that_is_not_there_is_refused(first_sync: Synced, verb: tuple[str, ...]) -> None:
    assert first_sync.home.refuses("errors", verb[0], "4711", *verb[1:]) == (
        "there is no sync error 4711; `revrec errors` lists them"
    )


def service_dates(home: Home) -> dict[str, Any]:
    """The error of the opportunity whose line has no last day of service."""
    (error,) = (e for e in home.json("errors", "--all") if e["severity"] == "error")
    return dict(error)


def test_an_error_shows_its_history_and_the_record_as_it_was_received(first_sync: Synced) -> None:
    error = service_dates(first_sync.home)

    shown = first_sync.home.json("errors", "show", str(error["id"]))

    assert [turn["action"] for turn in shown["history"]] == ["found"]
    assert shown["history"][0]["job_id"] == error["job_id"]
    assert shown["page"] == "docs/errors/IN_MISSING_SERVICE_DATES.md"
    header, line = shown["received"]
    assert (header["object"], line["object"]) == ("opportunity", "opportunity_line_item")
    assert json.loads(header["record"])["Id"] == error["record_id"]
    assert json.loads(line["record"])["Id"] == error["line_id"]
    assert header["request"].startswith("GET https://")
    text = first_sync.home.run("errors", "show", str(error["id"])).stdout
    assert header["record"] in text
    assert f"found by job {error['job_id']}" in text


def test_an_ignored_error_with_a_default_lets_its_order_through_and_who_did_it_is_kept(
    synced: Home,
) -> None:
    error = service_dates(synced)
    home = synced.with_env(REVREC_USER="ada@example.com")
    ignore = ("errors", "ignore", str(error["id"]))
    home.run(*ignore, "--reason", "goods", "--until", "2999-12-31")

    home.run("sync", "salesforce")

    job = home.json("jobs")[0]
    assert (job["counts"]["flagged"], job["counts"]["delivered"]) == (0, 2)
    shown = home.json("errors", "show", str(error["id"]))
    assert (shown["status"], shown["job_id"]) == ("ignored", job["id"])
    assert [(turn["action"], turn["who"], turn["reason"]) for turn in shown["history"]] == [
        ("found", None, None),
        ("ignored", "ada@example.com", "goods"),
    ]
    assert shown["history"][1]["ignored_until"] == "2999-12-31"


def test_until_a_day_that_is_over_or_no_day_is_refused(first_sync: Synced) -> None:
    ignore = ("errors", "ignore", "1", "--reason", "x", "--until")
    assert first_sync.home.refuses(*ignore, "2020-01-01") == (
        "--until 2020-01-01 is over; name the last day on which to ignore the error"
    )
    assert "soon" in first_sync.home.refuses(*ignore, "soon")


def test_open_errors_are_counted_by_source_code_or_owner(first_sync: Synced) -> None:
    found = first_sync.home.json("errors")
    for group in ("source", "code", "owner"):
        counts = first_sync.home.json("errors", "--by", group)
        assert sum(row["errors"] + row["warnings"] for row in counts) == len(found)
        assert {row[group] for row in counts} == {error[group] for error in found}
    shown = first_sync.home.run("errors", "--by", "code").stdout.splitlines()
    assert shown[0].split()[:3] == ["Code", "Errors", "Warnings"]
    assert ["IN_MISSING_SERVICE_DATES", "1", "0", "0", "0"] in [line.split() for line in shown]


def test_errors_come_as_a_workbook_of_their_own(first_sync: Synced, tmp_path: Path) -> None:
    target = tmp_path / "errors.xlsx"

    done = first_sync.home.run("errors", "--xlsx", str(target))

    found = first_sync.home.json("errors")
    assert done.stdout == f"{target} ({len(found)} errors)\n"
    book = openpyxl.load_workbook(target, read_only=True)
    assert book.sheetnames == ["SyncErrors"]
    heading, *rows = book["SyncErrors"].iter_rows(values_only=True)
    column = heading.index("Message")
    assert [row[column] for row in rows] == [error["message"] for error in found]
    assert [row[0] for row in rows] == [str(error["id"]) for error in found]


def test_many_warnings_of_one_code_are_counted_after_the_first_twenty() -> None:
    warning = {"severity": "warning", "code": "SYNC_UNMATCHED_INVOICE"}
    error = {"severity": "error", "code": "IN_BAD_NUMBER"}
    few, left = errors._few([warning] * 25 + [error] * 25)
    assert (few.count(warning), few.count(error)) == (20, 25)
    assert left == {"SYNC_UNMATCHED_INVOICE": 5}
