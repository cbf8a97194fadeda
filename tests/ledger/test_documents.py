"""What a delivery adds, changes and removes, compared with what was delivered before."""

from typing import Any

import pyarrow as pa

from revrec_pipeline.ledger import Ledger, Transaction, documents, jobs
from revrec_pipeline.ledger.documents import COMPARISON, INCOMING
from revrec_pipeline.model import Route

from . import given
from .given import START, minutes

Document = tuple[str, str, str | None]  # id, month, hash


class Deliveries:
    """Builds one job after the other and tells what each would do."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._count = 0

    def build(self, *periods: str) -> dict[str, str]:
        """A new job with a batch of each of these months; month → batch id."""
        self._count += 1
        job_id = given.job(self._tx, f"sync-{self._count}")
        for period in periods:
            given.batch(self._tx, job_id, period)
        return {period: f"{job_id}-{period}" for period in periods}

    def compare(self, batches: dict[str, str], *incoming: Document) -> pa.Table:
        rows = [
            {"document_id": id_, "period": period, "hash": hash_, "line_count": len(id_)}
            for id_, period, hash_ in incoming
        ]
        return documents.compare(
            self._tx,
            source="stripe",
            record_type="invoices",
            batches=batches,
            incoming=pa.Table.from_pylist(rows, schema=INCOMING),
        ).read_all()

    def deliver(self, batches: dict[str, str], *incoming: Document) -> dict[tuple[str, str], str]:
        """Deliver; (document, month) → change."""
        comparison = self.compare(batches, *incoming)
        documents.record(
            self._tx,
            source="stripe",
            record_type="invoices",
            route=Route.LIVE,
            comparison=comparison,
            at=START,
        )
        return changes(comparison)

    def delivered(self) -> list[dict[str, Any]]:
        return self._tx.rows("SELECT * FROM document ORDER BY document_id")


def changes(comparison: pa.Table) -> dict[tuple[str, str], str]:
    return {(row["document_id"], row["period"]): row["change"] for row in comparison.to_pylist()}


JAN, FEB = "2026-01", "2026-02"


def test_first_everything_is_added_and_the_same_again_is_unchanged(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        company = Deliveries(tx)
        first = company.build(JAN)
        assert company.deliver(first, ("in_1", JAN, "a"), ("in_2", JAN, "b")) == {
            ("in_1", JAN): "added",
            ("in_2", JAN): "added",
        }
        again = company.build(JAN)
        assert company.deliver(again, ("in_1", JAN, "a"), ("in_2", JAN, "b")) == {
            ("in_1", JAN): "unchanged",
            ("in_2", JAN): "unchanged",
        }


def test_what_was_delivered_is_written_down_once(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        company = Deliveries(tx)
        company.deliver(company.build(JAN), ("in_1", JAN, "a"))
        company.deliver(company.build(JAN), ("in_1", JAN, "a"))
        assert company.delivered() == [
            {
                "source": "stripe",
                "record_type": "invoices",
                "document_id": "in_1",
                "period": JAN,
                "hash": "a",
                "line_count": 4,
                "sequence": 2,
                "batch_id": "1-2026-01",
                "route": "live",
                "delivered_at": START,
            }
        ]


def test_a_comparison_names_the_batch_the_content_and_the_lines(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        company = Deliveries(tx)
        company.deliver(company.build(JAN), ("in_1", JAN, "a"), ("in_200", JAN, "b"))
        comparison = company.compare(company.build(JAN), ("in_1", JAN, "c"))
    assert comparison.schema == COMPARISON
    assert comparison.to_pylist() == [
        {
            "document_id": "in_1",
            "period": JAN,
            "batch_id": "2-2026-01",
            "change": "changed",
            "hash": "c",
            "line_count": 4,
        },
        {
            "document_id": "in_200",
            "period": JAN,
            "batch_id": "2-2026-01",
            "change": "removed",
            "hash": "b",
            "line_count": 6,
        },
    ]


def test_a_comparison_that_was_not_recorded_changed_nothing(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        company = Deliveries(tx)
        company.compare(company.build(JAN), ("in_1", JAN, "a"))
        assert company.delivered() == []


def test_a_removed_document_is_listed_and_may_come_back(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        company = Deliveries(tx)
        company.deliver(company.build(JAN), ("in_1", JAN, "a"), ("in_2", JAN, "b"))
        batches = company.build(JAN)
        assert company.deliver(batches, ("in_1", JAN, "a"))["in_2", JAN] == "removed"
        assert jobs.jobs(tx, 2)[0]["removed"] == ["in_2"]
        assert [row["document_id"] for row in company.delivered()] == ["in_1"]
        assert company.deliver(company.build(JAN), ("in_1", JAN, "a"), ("in_2", JAN, "b")) == {
            ("in_1", JAN): "unchanged",
            ("in_2", JAN): "added",
        }


def test_a_month_without_documents_removes_what_it_had_and_no_other_month(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        company = Deliveries(tx)
        company.deliver(company.build(JAN, FEB), ("in_1", JAN, "a"), ("in_2", FEB, "b"))
        assert company.deliver(company.build(JAN)) == {("in_1", JAN): "removed"}
        assert [row["document_id"] for row in company.delivered()] == ["in_2"]


def test_a_held_back_document_is_neither_delivered_nor_removed(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        company = Deliveries(tx)
        company.deliver(company.build(JAN), ("in_1", JAN, "a"))
        assert company.deliver(company.build(JAN), ("in_1", JAN, None), ("in_2", JAN, None)) == {}
        assert [row["hash"] for row in company.delivered()] == ["a"]


def test_a_document_that_moves_is_changed_when_both_months_are_delivered_together(
    ledger: Ledger,
) -> None:
    with ledger.transaction() as tx:
        company = Deliveries(tx)
        company.deliver(company.build(JAN, FEB), ("in_1", JAN, "a"))
        assert company.deliver(company.build(JAN, FEB), ("in_1", FEB, "a")) == {
            ("in_1", FEB): "changed"
        }
        assert [row["period"] for row in company.delivered()] == [FEB]


def test_a_document_that_moves_is_never_lost_whichever_month_goes_first(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        company = Deliveries(tx)
        company.deliver(company.build(JAN), ("in_1", JAN, "a"), ("in_2", JAN, "a"))
        assert company.deliver(company.build(FEB), ("in_1", FEB, "a")) == {("in_1", FEB): "changed"}
        assert company.deliver(company.build(JAN)) == {("in_2", JAN): "removed"}
        assert company.deliver(company.build(FEB), ("in_1", FEB, "a"), ("in_2", FEB, "a")) == {
            ("in_1", FEB): "unchanged",
            ("in_2", FEB): "added",
        }


def test_of_two_months_that_hold_a_document_the_one_built_last_has_it(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        company = Deliveries(tx)
        both = company.build(FEB, JAN)  # January is built after February
        assert company.deliver(both, ("in_1", JAN, "new"), ("in_1", FEB, "old")) == {
            ("in_1", JAN): "added",
            ("in_1", FEB): "unchanged",
        }
        assert [(row["period"], row["hash"]) for row in company.delivered()] == [(JAN, "new")]


def test_an_older_build_that_is_delivered_late_overwrites_nothing(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        company = Deliveries(tx)
        company.deliver(company.build(JAN), ("in_1", JAN, "a"), ("in_2", JAN, "a"))
        late = company.build(FEB)
        company.deliver(company.build(JAN), ("in_1", JAN, "b"), ("in_2", JAN, "a"))
        assert company.deliver(late, ("in_1", FEB, "c"), ("in_2", FEB, "c")) == {
            ("in_1", FEB): "unchanged",
            ("in_2", FEB): "unchanged",
        }
        assert [(row["period"], row["hash"]) for row in company.delivered()] == [
            (JAN, "b"),
            (JAN, "a"),
        ]


def test_an_older_build_that_is_delivered_late_removes_nothing_newer(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        company = Deliveries(tx)
        late, early = company.build(JAN), company.build(JAN)
        company.deliver(early, ("in_1", JAN, "a"))
        assert company.deliver(late) == {}


def test_recording_twice_is_recording_once(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        company = Deliveries(tx)
        company.deliver(company.build(JAN), ("in_1", JAN, "a"), ("in_2", JAN, "a"))
        comparison = company.compare(company.build(JAN), ("in_2", JAN, "b"), ("in_3", JAN, "c"))
        states = []
        for _ in range(2):
            documents.record(
                tx,
                source="stripe",
                record_type="invoices",
                route=Route.CONVERSION,
                comparison=comparison,
                at=minutes(1),
            )
            states.append(company.delivered())
        assert states[0] == states[1]
        assert [row["document_id"] for row in states[0]] == ["in_2", "in_3"]
        assert jobs.jobs(tx, 2)[0]["removed"] == ["in_1"]


def test_sources_and_record_types_do_not_meet(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        company = Deliveries(tx)
        batches = company.build(JAN)
        company.deliver(batches, ("1", JAN, "a"))
        for source, record_type in (("stripe", "sales"), ("xero", "invoices")):
            comparison = documents.compare(
                tx,
                source=source,
                record_type=record_type,
                batches=batches,
                incoming=INCOMING.empty_table(),
            ).read_all()
            assert changes(comparison) == {}
