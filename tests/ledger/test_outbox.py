"""A batch is delivered once, by one process, to one place, and never after a later build."""

from datetime import timedelta
from decimal import Decimal

import pytest

from revrec_pipeline.errors import LedgerBusyError, LedgerError
from revrec_pipeline.ledger import Ledger, Transaction, accounting_periods, jobs, outbox
from revrec_pipeline.ledger.outbox import Batch, Total
from revrec_pipeline.model import Route

from . import given
from .given import START, minutes


def claim(
    tx: Transaction, job_id: int, by: str = "me", route: Route = Route.CONVERSION, at: float = 0
) -> list[Batch]:
    return outbox.claim(tx, job_id, claimed_by=by, route=route, lease_seconds=60, at=minutes(at))


def complete(
    tx: Transaction, job_id: int, by: str = "me", periods: tuple[str, ...] = ("2026-01",)
) -> bool:
    totals = {
        f"{job_id}-{period}": [Total("delivered", 2, Decimal(20), "USD")] for period in periods
    }
    return outbox.complete(tx, job_id, claimed_by=by, totals=totals)


def test_a_claim_tells_all_of_a_batch(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        job_id = given.job(tx)
        given.batch(tx, job_id, "2026-02")
        given.batch(tx, job_id, "2026-01", content="b")
        first, second = claim(tx, job_id)
    assert first == Batch(
        id="1-2026-01",
        job_id=1,
        source="stripe",
        record_type="invoices",
        period="2026-01",
        route=Route.CONVERSION,
        sequence=2,
        content_hash="b",
        path="canonical/stripe/2026-01/b",
    )
    assert (second.id, second.sequence) == ("1-2026-02", 1)


# What a build puts in


def test_the_same_content_is_put_once(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        job_id = given.job(tx)
        assert given.batch(tx, job_id)
        assert not given.batch(tx, job_id)
        claim(tx, job_id)
        assert not given.batch(tx, job_id)
        complete(tx, job_id)
        assert not given.batch(tx, job_id)
        assert given.states(tx, job_id) == {"2026-01": ("delivered", "conversion")}


def test_other_content_takes_the_place_of_what_waits_with_its_totals(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        job_id = given.job(tx)
        given.batch(tx, job_id)
        assert given.batch(tx, job_id, content="b", totals=given.source_rows(5))
        assert jobs.jobs(tx, job_id)[0]["counts"]["source"] == 5
        (claimed,) = claim(tx, job_id)
        assert (claimed.content_hash, claimed.sequence) == ("b", 2)


def test_other_content_of_a_delivered_batch_makes_it_ready_again(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        job_id = given.job(tx)
        given.batch(tx, job_id)
        given.deliver(tx, job_id)
        assert given.batch(tx, job_id, content="b")
        assert given.states(tx, job_id) == {"2026-01": ("ready", None)}
        assert jobs.jobs(tx, job_id)[0]["counts"]["delivered"] == 0


def test_other_content_must_wait_while_the_batch_is_being_delivered(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        job_id = given.job(tx)
        given.batch(tx, job_id)
        claim(tx, job_id, "run-7")
        with pytest.raises(
            LedgerBusyError, match=r"1-2026-01 is being delivered by run-7 until 2026-05-04T09:01"
        ):
            given.batch(tx, job_id, content="b", at=minutes(0.5))
        assert given.batch(tx, job_id, content="b", at=minutes(2))


def test_content_that_a_later_delivery_replaced_is_news_when_it_is_built_again(
    ledger: Ledger,
) -> None:
    with ledger.transaction() as tx:
        first = given.job(tx, "first")
        given.batch(tx, first, content="a")
        given.deliver(tx, first)
        second = given.job(tx, "second")
        given.batch(tx, second, content="b")
        given.deliver(tx, second)
        assert given.batch(tx, first, content="a")
        assert given.deliver(tx, first) == ["1-2026-01"]


# Who may claim


def test_batches_wait_until_all_runs_of_the_sync_have_ended(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        job_id = given.job(tx, sealed=False)
        given.batch(tx, job_id)
        assert claim(tx, job_id) == []
        assert [row["sealed"] for row in outbox.ready_jobs(tx)] == [False]
        jobs.seal(tx, "sync-1")
        assert [row["sealed"] for row in outbox.ready_jobs(tx)] == [True]
        assert len(claim(tx, job_id)) == 1


def test_a_claimed_batch_cannot_be_claimed_by_another_but_again_by_its_claimant(
    ledger: Ledger,
) -> None:
    with ledger.transaction() as tx:
        job_id = given.job(tx)
        given.batch(tx, job_id)
        mine = claim(tx, job_id)
        with pytest.raises(LedgerBusyError, match="job 1 are being delivered by me until"):
            claim(tx, job_id, "you")
        assert claim(tx, job_id) == mine


def test_two_jobs_of_one_source_and_record_type_are_not_delivered_at_once(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        first, second = given.job(tx, "a"), given.job(tx, "b")
        other = given.job(tx, "c", source="xero")
        given.batch(tx, first, "2026-01")
        given.batch(tx, second, "2026-02")
        given.batch(tx, other, "2026-01", source="xero")
        claim(tx, first)
        with pytest.raises(LedgerBusyError, match="stripe invoices of job 1"):
            claim(tx, second, "you")
        assert len(claim(tx, other, "you")) == 1
        complete(tx, first)
        assert len(claim(tx, second, "you")) == 1


def test_a_lost_lease_lets_the_next_one_deliver_and_the_loser_not(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        job_id = given.job(tx)
        given.batch(tx, job_id)
        claim(tx, job_id, "slow")
        assert len(claim(tx, job_id, "next", at=2)) == 1
        with pytest.raises(LedgerError, match="claim on job 1 was lost"):
            complete(tx, job_id, "slow")
        with pytest.raises(LedgerError, match="claim on job 1 was lost"):
            outbox.renew(tx, job_id, claimed_by="slow", lease_seconds=60)
        outbox.release(tx, job_id, claimed_by="slow")
        assert complete(tx, job_id, "next")


def test_a_renewed_lease_lasts_longer(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        job_id = given.job(tx)
        given.batch(tx, job_id)
        claim(tx, job_id)
        outbox.renew(tx, job_id, claimed_by="me", lease_seconds=600, at=START)
        with pytest.raises(LedgerBusyError):
            claim(tx, job_id, "you", at=9)
        assert len(claim(tx, job_id, "you", at=11)) == 1


def test_a_lease_that_ended_is_still_good_while_nobody_took_over(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        job_id = given.job(tx)
        given.batch(tx, job_id)
        outbox.claim(
            tx,
            job_id,
            claimed_by="me",
            route=Route.CONVERSION,
            lease_seconds=1,
            at=START - timedelta(days=1),
        )
        assert complete(tx, job_id)


def test_a_released_batch_can_be_claimed_at_once(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        job_id = given.job(tx)
        given.batch(tx, job_id)
        claim(tx, job_id)
        outbox.release(tx, job_id, claimed_by="me")
        assert len(claim(tx, job_id, "you")) == 1


# Where it goes


def test_a_period_that_was_set_before_the_claim_sends_the_batch_the_other_way(
    ledger: Ledger,
) -> None:
    with ledger.transaction() as tx:
        job_id = given.job(tx)
        given.batch(tx, job_id)
        assert [row["route"] for row in outbox.ready_jobs(tx)] == ["conversion"]
        accounting_periods.set_period(tx, "2026-05")
        assert claim(tx, job_id) == []
        assert given.states(tx, job_id) == {"2026-01": ("ready", None)}
        assert [row["route"] for row in outbox.ready_jobs(tx)] == ["live"]
        assert [batch.route for batch in claim(tx, job_id, route=Route.LIVE)] == [Route.LIVE]
        assert jobs.jobs(tx, job_id)[0]["route"] == "live"


def test_a_period_that_is_set_while_a_file_is_written_changes_nothing(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        job_id = given.job(tx)
        given.batch(tx, job_id)
        claim(tx, job_id)
        accounting_periods.set_period(tx, "2026-05")
        assert complete(tx, job_id)
        assert given.states(tx, job_id) == {"2026-01": ("delivered", "conversion")}


@pytest.mark.parametrize("given_back", [True, False])
def test_whoever_takes_over_a_claimed_batch_takes_its_route_too(
    ledger: Ledger, given_back: bool
) -> None:
    with ledger.transaction() as tx:
        job_id = given.job(tx)
        given.batch(tx, job_id)
        claim(tx, job_id, "killed")
        if given_back:
            outbox.release(tx, job_id, claimed_by="killed")
        accounting_periods.set_period(tx, "2026-05")
        assert [row["route"] for row in outbox.ready_jobs(tx, at=minutes(2))] == ["conversion"]
        assert claim(tx, job_id, route=Route.LIVE, at=2) == []
        assert len(claim(tx, job_id, route=Route.CONVERSION, at=2)) == 1


def test_months_of_one_job_may_go_two_ways_one_after_the_other(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        job_id = given.job(tx)
        given.batch(tx, job_id, "2026-01")
        claim(tx, job_id, "killed")
        accounting_periods.set_period(tx, "2026-05")
        given.batch(tx, job_id, "2026-02")
        assert [batch.period for batch in claim(tx, job_id, at=2)] == ["2026-01"]
        complete(tx, job_id)
        assert [row["route"] for row in outbox.ready_jobs(tx)] == ["live"]
        assert [batch.period for batch in claim(tx, job_id, route=Route.LIVE, at=3)] == ["2026-02"]


# What it ends as


def test_completing_twice_tells_that_it_was_done(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        job_id = given.job(tx)
        given.batch(tx, job_id)
        claim(tx, job_id)
        assert complete(tx, job_id)
        assert not complete(tx, job_id)
        assert jobs.jobs(tx, job_id)[0]["counts"]["delivered"] == 2


def test_a_delivery_names_every_batch_of_its_claim(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        job_id = given.job(tx)
        given.batch(tx, job_id, "2026-01")
        given.batch(tx, job_id, "2026-02")
        claim(tx, job_id)
        with pytest.raises(LedgerError, match="lost"):
            complete(tx, job_id)
        assert complete(tx, job_id, periods=("2026-01", "2026-02"))


@pytest.mark.parametrize(
    ("rows", "amount", "currency", "words"),
    [
        (1, "20", "USD", "1 of its source rows and 0.0000 USD are not"),
        (2, "19.99", "USD", "0 of its source rows and 0.0100 USD are not"),
        (2, "20", "EUR", "-2 of its source rows and -20.0000 EUR are not"),
    ],
)
def test_a_delivery_that_loses_a_row_or_a_cent_is_refused(
    ledger: Ledger, rows: int, amount: str, currency: str, words: str
) -> None:
    totals = [
        Total("source", 3, Decimal(30), "USD"),
        Total("excluded", 1, Decimal(10), "USD", "void"),
    ]
    with ledger.transaction() as tx:
        job_id = given.job(tx)
        given.batch(tx, job_id, totals=totals)
        claim(tx, job_id)
    delivered = {"1-2026-01": [Total("delivered", rows, Decimal(amount), currency)]}
    with ledger.transaction() as tx, pytest.raises(LedgerError) as raised:
        outbox.complete(tx, job_id, claimed_by="me", totals=delivered)
    assert words in str(raised.value)
    with ledger.transaction() as tx:
        assert given.states(tx, job_id) == {"2026-01": ("claimed", "conversion")}


def test_a_batch_built_before_the_last_delivered_one_is_superseded_and_accounted_for(
    ledger: Ledger,
) -> None:
    totals = [
        Total("source", 3, Decimal(30), "USD"),
        Total("flagged", 1, Decimal(10), "USD", "IN_BAD_NUMBER"),
        Total("source", 1, Decimal(5), "EUR"),
    ]
    with ledger.transaction() as tx:
        old, new = given.job(tx, "old"), given.job(tx, "new")
        given.batch(tx, old, "2026-01", totals=totals)
        given.batch(tx, old, "2026-02")
        given.batch(tx, new, "2026-01", content="b")
        given.deliver(tx, new)
        assert [batch.period for batch in claim(tx, old)] == ["2026-02"]
        assert given.states(tx, old)["2026-01"] == ("superseded", None)
        complete(tx, old, periods=("2026-02",))
        (found,) = jobs.jobs(tx, old)
    assert found["status"] == "delivered"
    assert found["counts"] == {
        "source": 6,
        "delivered": 2,
        "unchanged": 3,
        "flagged": 1,
        "excluded": 0,
    }
    assert found["amounts"]["EUR"]["unchanged"] == "5.00"


# What the sensor asks


def test_a_requested_job_is_shown_again_when_its_lease_ends_with_the_next_attempt(
    ledger: Ledger,
) -> None:
    with ledger.transaction() as tx:
        job_id = given.job(tx)
        given.batch(tx, job_id)
        assert [row["attempt"] for row in outbox.ready_jobs(tx)] == [0]
        assert outbox.request_delivery(tx, job_id, lease_seconds=60, at=START) == 1
        assert outbox.ready_jobs(tx, at=minutes(0.5)) == []
        assert [row["attempt"] for row in outbox.ready_jobs(tx, at=minutes(2))] == [1]
        assert outbox.request_delivery(tx, job_id, lease_seconds=60, at=minutes(2)) == 2


def test_a_job_whose_delivery_was_killed_is_shown_when_its_claim_ends(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        job_id = given.job(tx)
        given.batch(tx, job_id)
        outbox.request_delivery(tx, job_id, lease_seconds=3600, at=START)
        claim(tx, job_id)
        assert outbox.ready_jobs(tx, at=minutes(0.5)) == []
        assert len(outbox.ready_jobs(tx, at=minutes(2))) == 1


def test_the_outbox_is_read_in_pages_oldest_first(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        for key in "abc":
            given.batch(tx, given.job(tx, key))
        assert [row["id"] for row in outbox.ready_jobs(tx, limit=2)] == [1, 2]
        assert outbox.ready_jobs(tx)[0] == {
            "id": 1,
            "sync_key": "a",
            "source": "stripe",
            "record_type": "invoices",
            "name": "Stripe invoices (a)",
            "attempt": 0,
            "sealed": True,
            "route": "conversion",
        }
