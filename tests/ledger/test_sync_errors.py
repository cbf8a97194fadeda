"""A sync error stays until it does not come back, or until somebody deals with it."""

from dataclasses import asdict, fields, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from revrec_pipeline.errors import UsageError
from revrec_pipeline.ledger import Ledger, Transaction, cursors, sync_errors
from revrec_pipeline.ledger.sync_errors import Waiver
from revrec_pipeline.model import Severity, SyncError

SCHEMA = pa.schema([(field.name, pa.string()) for field in fields(SyncError)])
MONDAY, TUESDAY, WEDNESDAY = (datetime(2026, 5, day, 9, tzinfo=UTC) for day in (4, 5, 6))

MISSING = SyncError(
    stage="input",
    code="IN_MISSING_REQUIRED",
    severity=Severity.ERROR,
    owner="source",
    source="salesforce",
    record_type="sales",
    period="2026-01",
    record_id="006A",
    line_id="00k1",
    field="Product Code",
    message="Product Code is missing (opportunity 006A, line 00k1)",
    url="https://x.example/006A",
)
OTHER_LINE = replace(MISSING, line_id="00k2")
NO_LINE = replace(MISSING, line_id=None)
LIMIT = replace(
    MISSING, stage="sync", code="SYNC_RATE_LIMIT", record_id=None, line_id=None, field=None
)


def record(
    tx: Transaction, *errors: SyncError, at: datetime = MONDAY, job_id: int = 1, **options: Any
) -> None:
    options = {"period": "2026-01"} | options
    sync_errors.record(
        tx,
        job_id=job_id,
        source="salesforce",
        record_type="sales",
        errors=pa.Table.from_pylist([asdict(error) for error in errors], schema=SCHEMA),
        at=at,
        **options,
    )


def shown(tx: Transaction, *, include_all: bool = True) -> list[tuple[Any, ...]]:
    return [
        (
            row["code"],
            row["line_id"],
            row["status"],
            row["first_seen"][8:10],
            row["last_seen"][8:10],
        )
        for row in sync_errors.list_errors(tx, include_all=include_all)
    ]


def test_an_error_is_listed_with_every_field(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        record(tx, MISSING, job_id=7)
        assert sync_errors.list_errors(tx) == [
            {
                "id": 1,
                "job_id": 7,
                "stage": "input",
                "code": "IN_MISSING_REQUIRED",
                "severity": "error",
                "owner": "source",
                "source": "salesforce",
                "record_type": "sales",
                "period": "2026-01",
                "record_id": "006A",
                "line_id": "00k1",
                "field": "Product Code",
                "message": "Product Code is missing (opportunity 006A, line 00k1)",
                "url": "https://x.example/006A",
                "status": "open",
                "reason": None,
                "ignored_until": None,
                "first_seen": "2026-05-04T09:00:00Z",
                "last_seen": "2026-05-04T09:00:00Z",
                "resolved_at": None,
                "resolved_job_id": None,
            }
        ]


def test_an_error_that_comes_again_keeps_its_first_day_and_its_id(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        record(tx, MISSING)
        record(tx, replace(MISSING, message="said otherwise"), at=TUESDAY, job_id=2)
        (found,) = sync_errors.list_errors(tx)
        assert found["id"] == 1
        assert found["job_id"] == 2
        assert found["message"] == "said otherwise"
        assert shown(tx) == [("IN_MISSING_REQUIRED", "00k1", "open", "04", "05")]


def test_lines_fields_and_missing_lines_are_told_apart_and_repeats_are_not(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        record(tx, MISSING, MISSING, OTHER_LINE, NO_LINE, replace(MISSING, field="Amount"))
        assert len(shown(tx)) == 4


def test_an_error_that_does_not_come_back_is_resolved_and_opens_again_when_it_recurs(
    ledger: Ledger,
) -> None:
    with ledger.transaction() as tx:
        record(tx, MISSING, OTHER_LINE)
        record(tx, OTHER_LINE, at=TUESDAY)
        assert shown(tx) == [
            ("IN_MISSING_REQUIRED", "00k1", "resolved", "04", "04"),
            ("IN_MISSING_REQUIRED", "00k2", "open", "04", "05"),
        ]
        assert len(sync_errors.list_errors(tx)) == 1
        record(tx, MISSING, OTHER_LINE, at=WEDNESDAY)
        assert shown(tx) == [
            ("IN_MISSING_REQUIRED", "00k1", "open", "04", "06"),
            ("IN_MISSING_REQUIRED", "00k2", "open", "04", "06"),
        ]


def test_errors_are_numbered_in_the_order_of_their_records_without_gaps(ledger: Ledger) -> None:
    third = replace(MISSING, record_id="006B")
    with ledger.transaction() as tx:
        record(tx, OTHER_LINE, MISSING)
        record(tx, OTHER_LINE, MISSING, third, at=TUESDAY)
        listed = sync_errors.list_errors(tx)
    assert [(row["id"], row["record_id"], row["line_id"]) for row in listed] == [
        (1, "006A", "00k1"),
        (2, "006A", "00k2"),
        (3, "006B", "00k1"),
    ]


def test_errors_of_another_month_or_source_are_left_alone(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        record(tx, MISSING)
        record(tx, period="2026-02")
        record(tx, period=None)
        assert shown(tx)[0][2] == "open"


def test_a_failed_pull_says_nothing_about_rows_and_its_end_resolves_it(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        record(tx, MISSING)
        record(tx, LIMIT, stages=("sync",), at=TUESDAY)
        assert [row[2] for row in shown(tx)] == ["open", "open"]
        record(tx, MISSING, at=WEDNESDAY)
        assert [row[2] for row in shown(tx)] == ["open", "resolved"]


def test_a_pull_without_a_month_has_errors_of_its_own(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        record(tx, LIMIT, period=None, stages=("sync",))
        assert sync_errors.list_errors(tx)[0]["period"] is None
        record(tx, period=None, stages=("sync",))
        assert sync_errors.list_errors(tx) == []


def test_an_ignored_error_stays_ignored_even_if_it_recurs(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        record(tx, MISSING)
        sync_errors.ignore(tx, 1, "a test order", who="ada", at=MONDAY)
        record(tx, MISSING, at=TUESDAY)
        assert sync_errors.list_errors(tx) == []
        (found,) = sync_errors.list_errors(tx, include_all=True)
        assert (found["status"], found["reason"]) == ("ignored", "a test order")
        record(tx)
        assert shown(tx) == [("IN_MISSING_REQUIRED", "00k1", "ignored", "04", "05")]


def test_a_resolved_error_opens_again_when_it_recurs(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        record(tx, MISSING)
        sync_errors.resolve(tx, 1, who="ada")
        assert sync_errors.list_errors(tx) == []
        record(tx, MISSING, at=TUESDAY)
        assert shown(tx) == [("IN_MISSING_REQUIRED", "00k1", "open", "04", "05")]


def test_an_unknown_error_is_refused_by_number(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        with pytest.raises(UsageError, match="no sync error 42"):
            sync_errors.ignore(tx, 42, "why", who="ada")
        with pytest.raises(UsageError, match="no sync error 42"):
            sync_errors.resolve(tx, 42, who="ada")


NO_CURRENCY = replace(MISSING, code="IN_CURRENCY_MISSING", field="Currency")
UNMATCHED = replace(
    MISSING,
    stage="sync",
    code="SYNC_UNMATCHED_INVOICE",
    severity=Severity.WARNING,
    line_id=None,
    field=None,
)


def turns(tx: Transaction, error_id: int = 1) -> list[tuple[Any, ...]]:
    return [
        (row["action"], row["who"], row["job_id"], row["at"][8:10])
        for row in sync_errors.history(tx, error_id)
    ]


def test_an_error_that_is_gone_names_the_job_that_proved_it(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        record(tx, MISSING, job_id=1)
        record(tx, at=TUESDAY, job_id=2)
        found = sync_errors.get(tx, 1)
        assert (found["status"], found["resolved_job_id"]) == ("resolved", 2)
        assert found["resolved_at"] == "2026-05-05T09:00:00Z"
        record(tx, MISSING, at=WEDNESDAY, job_id=3)
        found = sync_errors.get(tx, 1)
        assert (found["status"], found["resolved_job_id"], found["resolved_at"]) == (
            "open", None, None,
        )  # fmt: skip
        assert turns(tx) == [
            ("found", None, 1, "04"),
            ("resolved", None, 2, "05"),
            ("recurred", None, 3, "06"),
        ]


def test_what_people_did_is_kept_with_who_when_and_why(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        record(tx, MISSING)
        sync_errors.ignore(tx, 1, "a test order", who="ada", until=date(2026, 5, 31), at=MONDAY)
        sync_errors.resolve(tx, 1, who="bo", at=TUESDAY)
        _, ignored, resolved = sync_errors.history(tx, 1)
    assert ignored == {
        "at": "2026-05-04T09:00:00Z",
        "action": "ignored",
        "who": "ada",
        "job_id": None,
        "reason": "a test order",
        "ignored_until": "2026-05-31",
    }
    assert (resolved["action"], resolved["who"], resolved["at"][8:10]) == ("resolved", "bo", "05")


def test_an_ignored_error_is_open_again_on_the_day_after_its_last_one(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        record(tx, MISSING)
        sync_errors.ignore(tx, 1, "until Tuesday", who="ada", until=TUESDAY.date(), at=MONDAY)
        record(tx, MISSING, at=TUESDAY + timedelta(hours=14, minutes=59))
        assert sync_errors.get(tx, 1, at=TUESDAY)["status"] == "ignored"
        record(tx, MISSING, at=WEDNESDAY)
        assert shown(tx)[0][2] == "open"
        assert [turn[0] for turn in turns(tx)] == ["found", "ignored", "expired"]


def test_an_error_is_not_ignored_without_a_reason_or_until_a_day_that_is_over(
    ledger: Ledger,
) -> None:
    with ledger.transaction() as tx:
        record(tx, MISSING)
        with pytest.raises(UsageError, match="for a reason"):
            sync_errors.ignore(tx, 1, " ", who="ada")
        with pytest.raises(UsageError, match="2026-05-04 is over"):
            sync_errors.ignore(tx, 1, "x", who="ada", until=MONDAY.date(), at=TUESDAY)
        assert shown(tx)[0][2] == "open"


def test_only_an_ignored_error_with_a_default_lets_its_order_through(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        record(tx, MISSING, NO_CURRENCY)
        ids = {row["code"]: row["id"] for row in sync_errors.list_errors(tx)}
        held = sync_errors.ignore(tx, ids["IN_MISSING_REQUIRED"], "x", who="ada")
        let = sync_errors.ignore(tx, ids["IN_CURRENCY_MISSING"], "x", who="ada")
        scope = {"source": "salesforce", "record_type": "sales", "period": "2026-01"}
        found = sync_errors.waivers(tx, **scope)
        elsewhere = sync_errors.waivers(tx, **scope | {"period": "2026-02"})
    assert held.startswith("Its order stays held back, for IN_MISSING_REQUIRED has no default")
    assert let == (
        "From the next sync on its order is let through: the row is in the site's home currency."
    )
    assert found.errors == (Waiver("006A", "00k1", "IN_CURRENCY_MISSING", "Currency"),)
    assert elsewhere.errors == ()


def test_what_a_person_decides_has_the_month_built_again_by_the_next_sync(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        record(tx, NO_CURRENCY)
        sync_errors.ignore(tx, 1, "x", who="ada", until=TUESDAY.date(), at=MONDAY)
        assert cursors.pending_periods(tx, "salesforce") == ["2026-01"]
        scope = {"source": "salesforce", "record_type": "sales", "period": "2026-01"}
        asked = sync_errors.waivers(tx, **scope, at=MONDAY).asked_by
        cursors.clear(tx, "salesforce", "2026-01", asked)
        assert cursors.pending_periods(tx, "salesforce") == []
        # The last day is over: the order must be held back again.
        assert sync_errors.waivers(tx, **scope, at=WEDNESDAY).errors == ()
        assert cursors.pending_periods(tx, "salesforce") == ["2026-01"]


def test_two_months_that_could_not_be_pulled_are_two_errors(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        record(tx, LIMIT, stages=("sync",))
        record(tx, LIMIT, stages=("sync",), period="2026-02", at=TUESDAY)
        record(tx, stages=("sync",), period="2026-02", at=WEDNESDAY)
        found = sync_errors.list_errors(tx)
    assert [(row["period"], row["status"]) for row in found] == [("2026-01", "open")]


def test_findings_between_systems_live_beside_the_errors_of_months(ledger: Ledger) -> None:
    def found(*errors: SyncError, at: datetime, job_id: int) -> None:
        table = pa.Table.from_pylist([asdict(error) for error in errors], schema=SCHEMA)
        sync_errors.record_findings(tx, job_id=job_id, errors=table, at=at)

    with ledger.transaction() as tx:
        record(tx, MISSING)
        found(UNMATCHED, replace(UNMATCHED, period="2026-03", record_id="x"), at=MONDAY, job_id=2)
        # A month that is pulled and built anew says nothing of other systems.
        record(tx, at=TUESDAY, stages=("sync",))
        record(tx, MISSING, at=TUESDAY)
        assert [row["status"] for row in sync_errors.list_errors(tx)] == ["open"] * 3
        found(UNMATCHED, at=WEDNESDAY, job_id=4)
        left = sync_errors.list_errors(tx, include_all=True)
    assert [(row["record_id"], row["status"], row["resolved_job_id"]) for row in left] == [
        ("006A", "open", None),
        ("006A", "open", None),
        ("x", "resolved", 4),
    ]


def test_open_errors_are_counted_with_their_age(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        record(tx, MISSING, at=MONDAY)
        record(tx, MISSING, OTHER_LINE, NO_CURRENCY, at=WEDNESDAY)
        assert sync_errors.count(tx, "code", at=WEDNESDAY + timedelta(days=3)) == [
            {
                "code": "IN_MISSING_REQUIRED",
                "errors": 2,
                "warnings": 0,
                "oldest_days": 5,
                "newest_days": 3,
            },
            {
                "code": "IN_CURRENCY_MISSING",
                "errors": 1,
                "warnings": 0,
                "oldest_days": 3,
                "newest_days": 3,
            },
        ]
        assert [row["errors"] for row in sync_errors.count(tx, "owner", at=WEDNESDAY)] == [3]
        with pytest.raises(UsageError, match="not by 'colour'"):
            sync_errors.count(tx, "colour")
