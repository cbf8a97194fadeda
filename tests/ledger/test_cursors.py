"""Cursors never move backwards, and a touched month is never forgotten before it was rebuilt."""

from datetime import UTC, datetime

from revrec_pipeline.ledger import Ledger, Transaction, cursors, jobs

EARLY, LATE = datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 5, 2, 10, 30, 0, 1, tzinfo=UTC)


def start(tx: Transaction, sync_key: str) -> int:
    return jobs.open_job(
        tx, sync_key=sync_key, source="stripe", record_type="invoices", name="x", trigger="test"
    )


def test_a_cursor_starts_empty_and_never_moves_backwards(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        assert cursors.position(tx, "stripe") is None
        cursors.advance(tx, "stripe", LATE)
        cursors.advance(tx, "stripe", EARLY)
        cursors.advance(tx, "salesforce", EARLY)
    with ledger.transaction() as tx:
        assert cursors.position(tx, "stripe") == LATE
        assert cursors.position(tx, "salesforce") == EARLY


def test_touched_months_are_pending_until_a_sync_takes_them(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        for _ in range(2):
            cursors.touch(tx, "stripe", ["2026-02", "2026-01"], "b")
        cursors.touch(tx, "stripe", ["2026-02"], "a")
        cursors.touch(tx, "salesforce", ["2026-03"], "c")
        assert cursors.pending_periods(tx, "stripe") == ["2026-01", "2026-02"]
        start(tx, "first")
        assert cursors.take(tx, "stripe", "first") == {"2026-01": ["b"], "2026-02": ["a", "b"]}
        assert cursors.take(tx, "stripe", "first") == {}
        assert cursors.pending_periods(tx, "stripe") == []
        assert cursors.pending_periods(tx, "salesforce") == ["2026-03"]


def test_months_that_cannot_be_built_are_not_taken(ledger: Ledger) -> None:
    months = ["2019-03", "2026-01", "2026-02", "2099-01"]
    with ledger.transaction() as tx:
        cursors.touch(tx, "stripe", months, "a")
        start(tx, "first")
        built = ("2026-01", "2026-02")
        assert cursors.pending_periods(tx, "stripe", built) == ["2026-01", "2026-02"]
        assert list(cursors.take(tx, "stripe", "first", built)) == ["2026-01", "2026-02"]
        assert cursors.pending_periods(tx, "stripe") == ["2019-03", "2099-01"]
        # Time goes on: what was dated into the future has come.
        assert list(cursors.take(tx, "stripe", "first", ("2026-01", "2099-01"))) == ["2099-01"]


def test_what_lands_during_a_rebuild_keeps_waiting(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        start(tx, "first")
        cursors.touch(tx, "stripe", ["2026-01"], "a")
        cursors.take(tx, "stripe", "first")
        cursors.touch(tx, "stripe", ["2026-01"], "b")
        cursors.clear(tx, "stripe", "2026-01", ["a"])
        assert cursors.pending_periods(tx, "stripe") == ["2026-01"]
        assert cursors.take(tx, "stripe", "first") == {"2026-01": ["b"]}


def test_months_of_a_sync_that_ended_without_a_rebuild_are_taken_by_the_next(
    ledger: Ledger,
) -> None:
    with ledger.transaction() as tx:
        start(tx, "first")
        cursors.touch(tx, "stripe", ["2026-01", "2026-02"], "a")
        cursors.take(tx, "stripe", "first")
        start(tx, "second")
        assert cursors.take(tx, "stripe", "second") == {}
        cursors.clear(tx, "stripe", "2026-02", ["a"])
        jobs.seal(tx, "first")
        assert cursors.take(tx, "stripe", "second") == {"2026-01": ["a"]}


def test_what_was_noted_of_a_landing_that_never_came_is_forgotten_and_what_was_asked_for_stays(
    ledger: Ledger,
) -> None:
    with ledger.transaction() as tx:
        cursors.touch(tx, "stripe", ["2026-01"], "20260101T000000.000000Z-a")
        cursors.touch(tx, "stripe", ["2026-02"], "20260102T000000.000000Z-b")
        cursors.touch(tx, "stripe", ["2026-03"], "-error:invoices:7")
        cursors.touch(tx, "xero", ["2026-04"], "20260102T000000.000000Z-b")
        cursors.forget_missing(tx, "stripe", ["20260101T000000.000000Z-a"])
        assert cursors.pending_periods(tx, "stripe") == ["2026-01", "2026-03"]
        assert cursors.pending_periods(tx, "xero") == ["2026-04"]
