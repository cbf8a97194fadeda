"""A job's life and its JSON."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from revrec_pipeline.ledger import Ledger, Transaction, jobs, outbox
from revrec_pipeline.ledger.job_view import amount_text
from revrec_pipeline.ledger.outbox import Total
from revrec_pipeline.model import Route

from . import given
from .given import START, minutes


def view(tx: Transaction, job_id: int) -> dict[str, Any]:
    (found,) = jobs.jobs(tx, job_id)
    return found


def test_the_runs_of_a_sync_share_one_job_and_numbers_have_no_gaps(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        assert [given.job(tx, key) for key in ("a", "a", "b", "a", "b", "c")] == [1, 1, 2, 1, 2, 3]


def test_a_job_shows_every_key_of_the_design(ledger: Ledger) -> None:
    totals = [
        Total("source", 9, Decimal("90.5"), "USD"),
        Total("source", 1, Decimal("1000"), "JPY"),
        Total("excluded", 2, Decimal("20.5"), "USD", "void"),
        Total("excluded", 1, Decimal(0), "USD", "draft"),
        Total("flagged", 1, Decimal("10"), "USD", "IN_MISSING_REQUIRED"),
        Total("flagged", 1, Decimal("10"), "USD", "order_held"),
    ]
    with ledger.transaction() as tx:
        job_id = given.job(tx, sealed=False)
        for period, run_id in (("", "run-0"), ("2026-02", "run-2"), ("2026-01", "run-1")):
            jobs.start_run(tx, job_id, period, run_id, at=START)
        given.batch(tx, job_id, "2026-01", totals=totals)
        jobs.end_run(tx, job_id, "", "run-0", at=minutes(1))
        jobs.end_run(tx, job_id, "2026-01", "run-1", at=minutes(1))
        jobs.end_run(tx, job_id, "2026-02", "run-2", at=minutes(1))
        jobs.seal(tx, "sync-1", at=minutes(2))
        outbox.claim(
            tx, job_id, claimed_by="me", route=Route.CONVERSION, lease_seconds=60, at=minutes(3)
        )
        delivered = [
            Total("delivered", 3, Decimal("30"), "USD"),
            Total("delivered", 1, Decimal("1000"), "JPY"),
            Total("unchanged", 1, Decimal("20"), "USD"),
            Total("removed", 1, Decimal("7"), "EUR"),
        ]
        outbox.complete(tx, job_id, claimed_by="me", totals={"1-2026-01": delivered}, at=minutes(4))
        for kind in ("zip", "xlsx"):
            jobs.record_file(
                tx,
                job_id,
                path=f"files/1.{kind}",
                kind=kind,
                sha256="0f",
                size=10,
                rows=4,
                at=START,
            )
        found = view(tx, job_id)
        files = jobs.files(tx, job_id)
    assert found == {
        "id": 1,
        "name": "Stripe invoices (sync-1)",
        "source": "stripe",
        "record_type": "invoices",
        "route": "conversion",
        "status": "delivered",
        "started_at": "2026-05-04T09:00:00Z",
        "ended_at": "2026-05-04T09:04:00Z",
        "periods": ["2026-01", "2026-02"],
        "counts": {"source": 10, "delivered": 4, "unchanged": 1, "flagged": 2, "excluded": 3},
        "amounts": {
            "JPY": {
                "source": "1000",
                "delivered": "1000",
                "unchanged": "0",
                "flagged": "0",
                "excluded": "0",
            },
            "USD": {
                "source": "90.50",
                "delivered": "30.00",
                "unchanged": "20.00",
                "flagged": "20.00",
                "excluded": "20.50",
            },
        },
        "excluded_by": {"draft": 1, "void": 2},
        "flagged_by": {"IN_MISSING_REQUIRED": 1, "order_held": 1},
        "failures": [],
        "trigger": "test",
        "sync_key": "sync-1",
        "files": ["files/1.xlsx", "files/1.zip"],
        "removed": [],
    }
    assert files[0] == {
        "path": "files/1.xlsx",
        "kind": "xlsx",
        "sha256": "0f",
        "bytes": 10,
        "rows": 4,
        "created_at": "2026-05-04T09:00:00Z",
    }


def test_a_job_is_running_ready_and_delivered_in_turn(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        job_id = given.job(tx, sealed=False)
        seen = [view(tx, job_id)["status"]]
        jobs.start_run(tx, job_id, "2026-01", "run-1")
        given.batch(tx, job_id)
        jobs.end_run(tx, job_id, "2026-01", "run-1")
        seen.append(view(tx, job_id)["status"])
        jobs.seal(tx, "sync-1")
        seen.append(view(tx, job_id)["status"])
        assert view(tx, job_id)["ended_at"] is None
        given.deliver(tx, job_id)
        seen.append(view(tx, job_id)["status"])
    assert seen == ["running", "running", "ready", "delivered"]


def test_a_job_that_found_nothing_is_unchanged(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        job_id = given.job(tx, sealed=False)
        jobs.start_run(tx, job_id, "", "run-1")
        jobs.end_run(tx, job_id, "", "run-1")
        assert jobs.seal(tx, "sync-1", at=minutes(1)) == [job_id]
        found = view(tx, job_id)
    assert (found["status"], found["ended_at"]) == ("unchanged", "2026-05-04T09:01:00Z")
    assert (found["counts"]["source"], found["amounts"], found["periods"]) == (0, {}, [])


def test_a_job_of_which_only_removed_documents_went_out_is_delivered(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        job_id = given.job(tx)
        given.batch(tx, job_id, totals=[])
        outbox.claim(tx, job_id, claimed_by="me", route=Route.CONVERSION, lease_seconds=60)
        removed = [Total("removed", 1, Decimal(10), "USD")]
        outbox.complete(tx, job_id, claimed_by="me", totals={"1-2026-01": removed})
        assert view(tx, job_id)["status"] == "delivered"


def test_a_job_with_a_failed_month_is_failed_also_when_others_were_delivered(
    ledger: Ledger,
) -> None:
    with ledger.transaction() as tx:
        job_id = given.job(tx, sealed=False)
        for period in ("2026-01", "2026-02", ""):
            jobs.start_run(tx, job_id, period, f"run-{period}")
        given.batch(tx, job_id)
        jobs.end_run(tx, job_id, "2026-01", "run-2026-01")
        jobs.end_run(tx, job_id, "2026-02", "run-2026-02", failure="stripe: said no")
        jobs.end_run(tx, job_id, "", "run-", failure="stripe: not today")
        jobs.seal(tx, "sync-1")
        given.deliver(tx, job_id)
        found = view(tx, job_id)
    assert found["status"] == "failed"
    assert found["counts"]["delivered"] == 2
    assert found["failures"] == [
        {"period": None, "message": "stripe: not today"},
        {"period": "2026-02", "message": "stripe: said no"},
    ]


def test_a_month_that_is_run_again_opens_its_job_again_and_mends_it(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        job_id = given.job(tx, sealed=False)
        jobs.start_run(tx, job_id, "2026-01", "run-1")
        jobs.end_run(tx, job_id, "2026-01", "run-1", failure="no")
        jobs.seal(tx, "sync-1")
        jobs.start_run(tx, job_id, "2026-01", "run-2")
        assert view(tx, job_id)["status"] == "running"
        jobs.end_run(tx, job_id, "2026-01", "run-2")
        jobs.end_run(tx, job_id, "2026-01", "run-1", failure="the late word of the old run")
        jobs.seal(tx, "sync-1")
        assert view(tx, job_id)["status"] == "unchanged"


def test_a_run_that_never_reported_its_end_counts_as_failed_when_the_sync_is_sealed(
    ledger: Ledger,
) -> None:
    with ledger.transaction() as tx:
        job_id = given.job(tx, sealed=False)
        jobs.start_run(tx, job_id, "2026-01", "run-1")
        jobs.seal(tx, "sync-1")
        (failure,) = view(tx, job_id)["failures"]
        assert view(tx, job_id)["status"] == "failed"
    assert failure["message"].startswith("the run ended without a word")


def test_jobs_are_listed_with_the_newest_first(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        for key in "abc":
            given.job(tx, key)
        assert [row["id"] for row in jobs.jobs(tx)] == [3, 2, 1]
        assert jobs.jobs(tx, 4) == []


def test_a_job_under_a_lease_is_left_to_its_holder(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        job_id = jobs.open_job(
            tx,
            sync_key="mine",
            source="stripe",
            record_type="invoices",
            name="x",
            trigger="command line",
            lease_seconds=60,
            at=START,
        )
        given.job(tx, "free", sealed=False)
        assert [row["sync_key"] for row in jobs.unsealed(tx, at=START)] == ["free"]
        assert [row["sync_key"] for row in jobs.unsealed(tx, at=minutes(2))] == ["mine", "free"]
        jobs.renew_lease(tx, job_id, 600, at=START)
        assert [row["sync_key"] for row in jobs.unsealed(tx, at=minutes(2))] == ["free"]
        assert len(jobs.unsealed(tx, limit=1, at=START + timedelta(days=1))) == 1
        jobs.seal(tx, "mine")
        assert [row["sync_key"] for row in jobs.unsealed(tx, at=minutes(20))] == ["free"]


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        ("10.5000", "USD", "10.50"),
        ("10.5001", "USD", "10.5001"),
        ("1000.0000", "JPY", "1000"),
        ("1.5000", "KWD", "1.500"),
        ("-0.0100", "EUR", "-0.01"),
        ("99999999999999.9900", "USD", "99999999999999.99"),
        ("0", "XXX", "0.00"),
    ],
)
def test_an_amount_is_written_with_its_currencys_decimals_and_never_rounded(
    amount: str, currency: str, text: str
) -> None:
    assert amount_text([Decimal(amount)], currency) == text
