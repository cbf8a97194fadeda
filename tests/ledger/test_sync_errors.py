"""A sync error stays until it does not come back, or until somebody deals with it."""

from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from revrec_pipeline.errors import UsageError
from revrec_pipeline.ledger import Ledger, Transaction, sync_errors
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
                "first_seen": "2026-05-04T09:00:00Z",
                "last_seen": "2026-05-04T09:00:00Z",
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
        sync_errors.ignore(tx, 1, "a test order")
        record(tx, MISSING, at=TUESDAY)
        assert sync_errors.list_errors(tx) == []
        (found,) = sync_errors.list_errors(tx, include_all=True)
        assert (found["status"], found["reason"]) == ("ignored", "a test order")
        record(tx)
        assert shown(tx) == [("IN_MISSING_REQUIRED", "00k1", "ignored", "04", "05")]


def test_a_resolved_error_opens_again_when_it_recurs(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        record(tx, MISSING)
        sync_errors.resolve(tx, 1)
        assert sync_errors.list_errors(tx) == []
        record(tx, MISSING, at=TUESDAY)
        assert shown(tx) == [("IN_MISSING_REQUIRED", "00k1", "open", "04", "05")]


def test_an_unknown_error_is_refused_by_number(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        with pytest.raises(UsageError, match="no sync error 42"):
            sync_errors.ignore(tx, 42, "why")
        with pytest.raises(UsageError, match="no sync error 42"):
            sync_errors.resolve(tx, 42)
