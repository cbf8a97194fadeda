"""Delivered units count against order lines: which lines, and what does not fit.

    a line      is in question if it has the delivery's customer and product, and the order and item
                that the delivery names; where it names no order, only while it is open on that day:
                sold by then, and its service not over
    oldest      the earliest order date, then start of service, then order number and item
    units       go to the oldest line in question that has units left, and on to the next one;
                what no line has left is assigned to none, and is a finding
    in turn     deliveries by day; of one day those that name an item, then an order, come first
    taking back negative units, from the newest line in question that has units delivered

A pure function of the orders and deliveries that were delivered, of all sources, so it does not
matter in which order they came. A delivery of a later day never moves one of an earlier day; an
order or a delivery that came late does. The result is kept in `ledger.assignments`.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from decimal import Context, Decimal, localcontext
from typing import Any

import duckdb
import pyarrow as pa

from revrec_pipeline.codes import CODES, DELIVERED_NE_SOLD, UNMATCHED_DELIVERY
from revrec_pipeline.ledger.assignments import ASSIGNED
from revrec_pipeline.model import RecordType

_ROWS_AT_A_TIME = 20_480
# Sums of DECIMAL(28, 12) have more digits than Python's 28.
_EXACT = Context(prec=60)

_SOLD = """
SELECT source, document_id, line_id, customer_id, product_code, order_number, opportunity_id,
    order_item_number, quantity, least(order_start_date, service_start_date) AS first_day,
    service_end_date AS last_day
FROM order_line
SEMI JOIN (SELECT DISTINCT customer_id, product_code FROM delivery_line) AS wanted
    USING (customer_id, product_code)
WHERE quantity > 0
ORDER BY order_start_date, service_start_date, order_number, length(order_item_number),
    order_item_number, source, document_id, line_id
"""
_DELIVERED = """
SELECT source, period, document_id, line_id, customer_id, product_code, order_number,
    order_item_number, delivery_date, units_delivered, coalesce(reference_number, '') AS reference
FROM delivery_line
ORDER BY delivery_date, order_item_number IS NULL, order_number IS NULL, reference_number,
    document_id, length(line_id), line_id, source
"""


@dataclass(slots=True)
class _Line:
    """An order line and what was delivered of it."""

    source: str
    document_id: str
    line_id: str
    names: frozenset[str]
    items: frozenset[str]
    first_day: date | None
    last_day: date | None
    sold: Decimal
    delivered: Decimal = Decimal(0)
    #: Units by delivery: its source, document and line.
    by: dict[tuple[str, str, str], Decimal] = field(default_factory=dict)

    def is_open(self, day: date) -> bool:
        """Whether it was sold by this day, and its service is not over."""
        return (self.first_day is None or self.first_day <= day) and (
            self.last_day is None or day <= self.last_day
        )


@dataclass(frozen=True, slots=True)
class Assigned:
    """Schema ASSIGNED, and the findings as rows of `canonical.ERRORS`."""

    units: pa.Table
    findings: list[dict[str, Any]]


def assign(db: duckdb.DuckDBPyConnection) -> Assigned:
    """Assign the deliveries in `delivery_line` to the lines in `order_line`, canonical tables.

    Row by row, for what a delivery may take depends on all before it: a million deliveries take
    some ten seconds, and a ledger without deliveries takes none.
    """
    if not db.execute("SELECT 1 FROM delivery_line LIMIT 1").fetchall():
        return Assigned(_table(()), [])  # most ledgers; their order lines need not be read
    lines: defaultdict[tuple[str, str], list[_Line]] = defaultdict(list)
    for row in _rows(db, _SOLD):
        lines[row["customer_id"], row["product_code"]].append(
            _Line(
                row["source"],
                row["document_id"],
                row["line_id"],
                _filled(row["order_number"], row["document_id"], row["opportunity_id"]),
                _filled(row["order_item_number"], row["line_id"]),
                row["first_day"],
                row["last_day"],
                row["quantity"],
            )
        )
    findings = []
    with localcontext(_EXACT):
        for row in _rows(db, _DELIVERED):
            of_product = lines[row["customer_id"], row["product_code"]]
            in_question = [line for line in of_product if _is_meant(line, row)]
            left = _spread(in_question, row)
            if left:
                findings.append(_finding(row, of_product, in_question, left))
    return Assigned(_table(line for listed in lines.values() for line in listed), findings)


def _rows(db: duckdb.DuckDBPyConnection, query: str) -> Iterable[dict[str, Any]]:
    reader = db.sql(query).to_arrow_reader(_ROWS_AT_A_TIME)
    for batch in reader:
        yield from batch.to_pylist()


def _filled(*names: str | None) -> frozenset[str]:
    return frozenset(name for name in names if name)


def _is_meant(line: _Line, row: dict[str, Any]) -> bool:
    order, item = row["order_number"], row["order_item_number"]
    if item and item not in line.items:
        return False
    # Who names the order knows of it; a late report of its last days is no other order's.
    return order in line.names if order else line.is_open(row["delivery_date"])


def _spread(in_question: list[_Line], row: dict[str, Any]) -> Decimal:
    """Give the units to the lines; returns those that no line takes."""
    left: Decimal = row["units_delivered"]
    delivery = (row["source"], row["document_id"], row["line_id"])
    for line in in_question if left > 0 else reversed(in_question):
        units = min(left, line.sold - line.delivered) if left > 0 else max(left, -line.delivered)
        if units:
            line.delivered += units
            line.by[delivery] = units
            left -= units
        if not left:
            break
    return left


def _finding(
    row: dict[str, Any], of_product: list[_Line], in_question: list[_Line], left: Decimal
) -> dict[str, Any]:
    order, item = row["order_number"], row["order_item_number"]
    whose = f"customer {row['customer_id']}, product {row['product_code']}"
    meant = f"order {order}" if order else "orders"
    if item:
        meant += f", item {item}"
    units = row["units_delivered"]
    what = f"delivery {row['document_id']} of {_plain(units)} units on {row['delivery_date']}"
    if in_question and left < 0:
        code = DELIVERED_NE_SOLD
        words = f"takes back {_plain(-left)} more than was delivered ({meant}; {whose})"
    elif in_question:
        code = DELIVERED_NE_SOLD
        sold = sum((line.sold for line in in_question), Decimal(0))
        words = (
            f"is {_plain(left)} more than was left of the {_plain(sold)} that were sold "
            f"({meant}; {whose})"
        )
    else:
        code = UNMATCHED_DELIVERY
        over = of_product and not order and not item
        words = f"belongs to no order line that was delivered ({meant}; {whose}" + (
            "; none is open on that day)" if over else ")"
        )
    meaning = CODES[code]
    return {
        "stage": meaning.stage,
        "code": code,
        "severity": str(meaning.severity),
        "owner": meaning.owner,
        "source": row["source"],
        "record_type": str(RecordType.DELIVERIES),
        "period": row["period"],
        "record_id": row["document_id"],
        "line_id": row["line_id"],
        "field": "Units Delivered" if code == DELIVERED_NE_SOLD else "Order Number",
        "message": f"{what} {words}",
        "url": None,
    }


def _table(lines: Iterable[_Line]) -> pa.Table:
    rows = [
        (*delivery, line.source, line.document_id, line.line_id, units)
        for line in lines
        for delivery, units in line.by.items()
    ]
    columns = zip(*rows, strict=True) if rows else [[] for _ in ASSIGNED]
    return pa.table(
        [pa.array(list(column), kind.type) for column, kind in zip(columns, ASSIGNED, strict=True)],
        schema=ASSIGNED,
    )


def _plain(units: Decimal) -> str:
    return f"{units.normalize():f}"
