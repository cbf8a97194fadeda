"""Delivered units go to the oldest open order line, in turn, and never beyond what was sold."""

from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import duckdb
from canonical_rows import canonical, delivery_line, order_line
from hypothesis import given, settings
from hypothesis import strategies as st

from revrec_pipeline.assignment import Assigned, assign
from revrec_pipeline.model import RecordType

Rows = Sequence[dict[str, Any]]
JANUARY = date(2026, 1, 10)


def sold(order: str, units: str, **changes: Any) -> dict[str, Any]:
    """An order line of 2026, sold on the tenth of January."""
    return order_line(
        order,
        "1",
        **{
            "order_number": order,
            "order_item_number": "1",
            "product_code": "HOURS",
            "customer_id": "C1",
            "quantity": Decimal(units),
            "order_start_date": JANUARY,
            "service_start_date": JANUARY,
            "service_end_date": date(2026, 12, 31),
            **changes,
        },
    )


def delivered(reference: str, units: str, day: date = JANUARY, **changes: Any) -> dict[str, Any]:
    return delivery_line(
        reference,
        "1",
        **{
            "product_code": "HOURS",
            "customer_id": "C1",
            "units_delivered": Decimal(units),
            "delivery_date": day,
            **changes,
        },
    )


def assigned(orders: Rows, deliveries: Rows) -> Assigned:
    with duckdb.connect() as db:
        db.register("order_line", canonical(RecordType.SALES, orders))
        db.register("delivery_line", canonical(RecordType.DELIVERIES, deliveries))
        return assign(db)


def units(of: Assigned) -> set[tuple[str, str, str]]:
    """Delivery, order and units."""
    return {
        (row["document_id"], row["order_id"], f"{row['units'].normalize():f}")
        for row in of.units.to_pylist()
    }


def findings(of: Assigned) -> list[tuple[str, str]]:
    return [(finding["code"], finding["message"]) for finding in of.findings]


def test_units_go_to_the_oldest_line_and_on_to_the_next_when_it_is_full() -> None:
    found = assigned(
        [
            sold("O2", "10", order_start_date=date(2026, 1, 2)),
            sold("O1", "4.5", order_start_date=date(2026, 1, 1)),
            sold("other", "10", product_code="DAYS"),
            sold("another", "10", customer_id="C2"),
        ],
        [delivered("D1", "3"), delivered("D2", "3", JANUARY + timedelta(1))],
    )
    assert units(found) == {("D1", "O1", "3"), ("D2", "O1", "1.5"), ("D2", "O2", "1.5")}
    assert findings(found) == []


def test_more_than_was_sold_is_a_finding_and_the_rest_is_assigned_to_nothing() -> None:
    found = assigned([sold("O1", "4"), sold("O2", "1")], [delivered("D1", "7.25")])
    assert units(found) == {("D1", "O1", "4"), ("D1", "O2", "1")}
    assert findings(found) == [
        (
            "SYNC_DELIVERED_NE_SOLD",
            "delivery D1 of 7.25 units on 2026-01-10 is 2.25 more than was left of the 5 that were "
            "sold (orders; customer C1, product HOURS)",
        )
    ]


def test_an_order_that_is_named_gets_its_units_even_if_an_older_one_is_open() -> None:
    orders = [sold("O1", "10", order_start_date=date(2026, 1, 1)), sold("O2", "2")]
    found = assigned(orders, [delivered("D1", "3", order_number="O2")])
    assert units(found) == {("D1", "O2", "2")}
    assert [code for code, _ in findings(found)] == ["SYNC_DELIVERED_NE_SOLD"]


def test_an_item_that_is_named_is_the_only_line() -> None:
    orders = [
        sold("O1", "10"),
        {**sold("O1", "5"), "line_id": "2", "order_item_number": "2"},
    ]
    found = assigned(
        orders, [delivered("D1", "6", order_number="O1", order_item_number="2")]
    ).units.to_pylist()
    assert [(row["order_line_id"], row["units"]) for row in found] == [("2", Decimal(5))]


def test_an_order_of_somebody_else_or_of_another_product_gets_nothing() -> None:
    orders = [sold("O1", "10", customer_id="C2"), sold("O2", "10", product_code="DAYS")]
    found = assigned(
        orders, [delivered("D1", "1", order_number="O1"), delivered("D2", "1", order_number="O2")]
    )
    assert units(found) == set()
    assert [code for code, _ in findings(found)] == ["SYNC_UNMATCHED_DELIVERY"] * 2
    assert findings(found)[0][1] == (
        "delivery D1 of 1 units on 2026-01-10 belongs to no order line that was delivered (order "
        "O1; customer C1, product HOURS)"
    )


def test_what_was_left_of_a_contract_that_ended_is_not_used_by_the_next_one() -> None:
    """Unconsumed units expire at the contract's end (RevRec, delivery reports)."""
    orders = [
        sold(
            "last year",
            "100",
            order_start_date=date(2025, 1, 1),
            service_start_date=date(2025, 1, 1),
            service_end_date=date(2025, 12, 31),
        ),
        sold("this year", "100", order_start_date=date(2026, 1, 1)),
    ]
    found = assigned(
        orders,
        [
            delivered("on the last day", "1", date(2025, 12, 31)),
            delivered("after", "1", date(2026, 1, 1)),
            delivered("late, but named", "1", date(2026, 1, 2), order_number="last year"),
            delivered("too early", "1", date(2024, 12, 31)),
        ],
    )
    assert units(found) == {
        ("on the last day", "last year", "1"),
        ("after", "this year", "1"),
        ("late, but named", "last year", "1"),
    }
    assert findings(found) == [
        (
            "SYNC_UNMATCHED_DELIVERY",
            "delivery too early of 1 units on 2024-12-31 belongs to no order line that was "
            "delivered (orders; customer C1, product HOURS; none is open on that day)",
        )
    ]


def test_an_order_without_an_end_of_service_stays_open() -> None:
    found = assigned(
        [sold("O1", "10", service_end_date=None)], [delivered("D1", "1", date(2031, 1, 1))]
    )
    assert units(found) == {("D1", "O1", "1")}


def test_of_one_day_those_that_name_their_line_come_first() -> None:
    orders = [sold("O1", "5", order_start_date=date(2026, 1, 1)), sold("O2", "5")]
    found = assigned(
        orders,
        [
            delivered("A", "5"),
            delivered("B", "5", order_number="O1"),
        ],
    )
    assert units(found) == {("A", "O2", "5"), ("B", "O1", "5")}
    assert findings(found) == []


def test_a_later_day_moves_nothing_of_an_earlier_one() -> None:
    orders = [sold("O1", "5", order_start_date=date(2026, 1, 1)), sold("O2", "5")]
    found = assigned(
        orders,
        [
            delivered("A", "5"),
            delivered("B", "5", JANUARY + timedelta(1), order_number="O1"),
        ],
    )
    assert units(found) == {("A", "O1", "5")}
    assert [code for code, _ in findings(found)] == ["SYNC_DELIVERED_NE_SOLD"]


def test_units_that_are_taken_back_come_from_the_newest_line_that_has_any() -> None:
    orders = [sold("O1", "5", order_start_date=date(2026, 1, 1)), sold("O2", "5")]
    found = assigned(
        orders,
        [
            delivered("A", "7"),
            delivered("B", "-3", JANUARY + timedelta(1)),
            delivered("C", "-9", JANUARY + timedelta(2)),
        ],
    )
    assert units(found) == {
        ("A", "O1", "5"),
        ("A", "O2", "2"),
        ("B", "O2", "-2"),
        ("B", "O1", "-1"),
        ("C", "O1", "-4"),
    }
    assert findings(found) == [
        (
            "SYNC_DELIVERED_NE_SOLD",
            "delivery C of -9 units on 2026-01-12 takes back 5 more than was delivered (orders; "
            "customer C1, product HOURS)",
        )
    ]


def test_what_was_reversed_is_not_sold() -> None:
    found = assigned([sold("O1", "-5")], [delivered("D1", "1")])
    assert [code for code, _ in findings(found)] == ["SYNC_UNMATCHED_DELIVERY"]


@settings(max_examples=20, deadline=None)
@given(
    orders=st.lists(st.tuples(st.integers(0, 9), st.integers(1, 20)), max_size=6),
    given_units=st.lists(st.tuples(st.integers(0, 9), st.integers(-5, 20)), max_size=12),
    shuffled=st.randoms(use_true_random=False),
)
def test_no_line_gets_more_than_was_sold_no_unit_is_lost_and_the_order_of_arrival_does_not_matter(
    orders: list[tuple[int, int]], given_units: list[tuple[int, int]], shuffled: Any
) -> None:
    lines = [
        sold(f"O{n}", str(units_), order_start_date=JANUARY + timedelta(day))
        for n, (day, units_) in enumerate(orders)
    ]
    deliveries = [
        delivered(f"D{n}", str(units_), JANUARY + timedelta(day))
        for n, (day, units_) in enumerate(given_units)
    ]
    found = assigned(lines, deliveries)
    rows = found.units.to_pylist()
    for line in lines:
        of_line = sum(row["units"] for row in rows if row["order_id"] == line["document_id"])
        assert 0 <= of_line <= line["quantity"]
    flagged = {finding["record_id"] for finding in found.findings}
    for delivery in deliveries:
        of_delivery = sum(r["units"] for r in rows if r["document_id"] == delivery["document_id"])
        whole = of_delivery == delivery["units_delivered"]
        assert whole != (delivery["document_id"] in flagged)
        assert abs(of_delivery) <= abs(delivery["units_delivered"])
    shuffled.shuffle(lines)
    shuffled.shuffle(deliveries)
    again = assigned(lines, deliveries)
    assert units(again) == units(found)
    assert again.findings == found.findings
