"""`revrec errors`: listing, exporting, ignoring and resolving."""

import csv
from pathlib import Path

import pytest
from command_line import MONTH, Home, Synced

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

    assert lines[:3] == [
        f"{error['id']}  error, salesforce sales {MONTH}, IN_MISSING_SERVICE_DATES",
        f"   {error['message']}",
        f"   {error['url']}",
    ]


def test_an_ignored_error_is_hidden_until_all_are_asked_for(synced: Home) -> None:
    (error,) = (e for e in synced.json("errors") if e["severity"] == "error")

    assert synced.run("errors", "ignore", str(error["id"]), "--reason", "a test deal").stdout == (
        f"Error {error['id']} is ignored.\n"
    )

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


@pytest.mark.parametrize("verb", [("resolve",), ("ignore", "--reason", "x")])
def test_an_error_that_is_not_there_is_refused(first_sync: Synced, verb: tuple[str, ...]) -> None:
    assert first_sync.home.refuses("errors", verb[0], "4711", *verb[1:]) == (
        "there is no sync error 4711; `revrec errors` lists them"
    )
