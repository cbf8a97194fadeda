"""Live-loaded rows are what the canonical rows were, and nothing that went away is forgotten."""

from datetime import date
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from revrec_pipeline.ledger import Ledger, bulk, lines
from revrec_pipeline.model import CANONICAL, RecordType

from .given import minutes

LINE: dict[str, Any] = {
    "source": "stripe",
    "record_type": "invoices",
    "period": "2026-01",
    "document_type": "invoice",
    "document_id": "in_1",
    "line_id": "il_1",
    "source_version": "1767225600",
    "raw_batch": "20260104T090000Z-1",
    "raw_page": 3,
    "url": "https://dashboard.stripe.com/invoices/in_1",
    "excluded_by": None,
    "customer_id": "0042",
    "customer_name": 'Åsa "&" Söner\nAB',
    "order_number": None,
    "order_item_number": "NA",
    "contract_date": None,
    "product_id": "null",
    "product_code": "",
    "product_name": "Seats, 100 %",
    "billing_date": date(2026, 1, 31),
    "invoice_number": "0000123",
    "amount": Decimal("-12345678901234.5600"),
    "currency": "EUR",
    "service_start_date": date(2026, 1, 1),
    "service_end_date": date(2026, 12, 31),
    "quantity": Decimal("0.000000000001"),
    "reference_invoice_number": None,
    "reference_line_id": None,
    "tax_amount": Decimal("0.0100"),
    "tax_name": 'VAT, "20%"',
    "custom_fields": [("region", "EMEA"), ("empty", ""), ("none", None)],
}
INVOICES = RecordType.INVOICES


def billing(*changes: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist([LINE | change for change in changes], schema=CANONICAL[INVOICES])


def stored(ledger: Ledger) -> dict[tuple[str, str], tuple[str, Any]]:
    """(document, line) → (batch, removed at)."""
    with ledger.transaction() as tx:
        found = tx.rows("SELECT * FROM billing_line")
    return {
        (row["document_id"], row["line_id"]): (row["batch_id"], row["removed_at"]) for row in found
    }


def active(ledger: Ledger) -> list[dict[str, Any]]:
    with ledger.transaction() as tx:
        reader = lines.read_active(tx, INVOICES)
    assert reader.schema == CANONICAL[INVOICES]
    return list(reader.read_all().to_pylist())


def test_a_loaded_line_comes_back_exactly(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        assert lines.upsert(tx, INVOICES, billing({}), job_id=7, at=minutes(1)) == 1
    assert active(ledger) == [LINE]
    with ledger.transaction() as tx:
        found = tx.one("SELECT job_id, batch_id, loaded_at, removed_at FROM billing_line")
    assert found == {
        "job_id": 7,
        "batch_id": "7-2026-01",
        "loaded_at": minutes(1),
        "removed_at": None,
    }


@pytest.mark.parametrize("record_type", list(CANONICAL))
def test_a_line_of_which_little_is_known_comes_back_exactly(
    ledger: Ledger, record_type: RecordType
) -> None:
    schema = CANONICAL[record_type]
    required = [
        "source", "record_type", "period", "document_type", "document_id", "line_id",
        "source_version", "raw_batch", "raw_page",
    ]  # fmt: skip
    line = dict.fromkeys(schema.names) | {name: LINE[name] for name in required}
    table = pa.Table.from_pylist([line], schema=schema)
    with ledger.transaction() as tx:
        lines.upsert(tx, record_type, table, job_id=1)
    with ledger.transaction() as tx:
        reader = lines.read_active(tx, record_type)
    assert reader.read_all().to_pylist() == [line]


def test_loading_again_loads_nothing_twice(ledger: Ledger) -> None:
    for job_id in (1, 1, 2):
        with ledger.transaction() as tx:
            lines.upsert(tx, INVOICES, billing({}, {"line_id": "il_2"}), job_id=job_id)
    assert stored(ledger) == {
        ("in_1", "il_1"): ("2-2026-01", None),
        ("in_1", "il_2"): ("2-2026-01", None),
    }


def test_a_changed_document_replaces_its_lines_and_a_line_that_left_is_marked(
    ledger: Ledger,
) -> None:
    with ledger.transaction() as tx:
        loaded = billing({}, {"line_id": "il_2"}, {"document_id": "in_2"})
        lines.upsert(tx, INVOICES, loaded, job_id=1)
    with ledger.transaction() as tx:
        changed = billing({"amount": Decimal("5.0000"), "period": "2026-02"}, {"line_id": "il_3"})
        lines.upsert(tx, INVOICES, changed, job_id=2, at=minutes(2))
    assert stored(ledger) == {
        ("in_1", "il_1"): ("2-2026-02", None),
        ("in_1", "il_2"): ("1-2026-01", minutes(2)),
        ("in_1", "il_3"): ("2-2026-01", None),
        ("in_2", "il_1"): ("1-2026-01", None),
    }
    assert next(row["amount"] for row in active(ledger)) == Decimal("5.0000")
    assert len(active(ledger)) == 3


def test_a_removed_document_leaves_the_export_and_may_come_back(ledger: Ledger) -> None:
    gone = pa.table({"document_id": ["in_1", "unknown"]})
    with ledger.transaction() as tx:
        loaded = billing({}, {"line_id": "il_2"}, {"document_id": "in_2"})
        lines.upsert(tx, INVOICES, loaded, job_id=1)
        assert lines.remove(tx, INVOICES, source="xero", documents=gone) == 0
        assert lines.remove(tx, INVOICES, source="stripe", documents=gone, at=minutes(1)) == 2
        assert lines.remove(tx, INVOICES, source="stripe", documents=gone, at=minutes(2)) == 0
    assert [row["document_id"] for row in active(ledger)] == ["in_2"]
    assert stored(ledger)["in_1", "il_2"] == ("1-2026-01", minutes(1))
    with ledger.transaction() as tx:
        lines.upsert(tx, INVOICES, billing({}), job_id=2, at=minutes(3))
    assert stored(ledger)["in_1", "il_1"] == ("2-2026-01", None)
    assert stored(ledger)["in_1", "il_2"] == ("1-2026-01", minutes(1))


def test_lines_are_read_in_the_order_of_bytes_in_blocks(ledger: Ledger) -> None:
    count = bulk.ROWS_PER_BLOCK + 10
    loaded = billing(*({"document_id": name} for name in ("b", "B", "a", "ä", "_", "10", "9")))
    many = billing(*({"document_id": "m", "line_id": f"{n:06d}"} for n in range(count)))
    with ledger.transaction() as tx:
        lines.upsert(tx, INVOICES, loaded, job_id=1)
        lines.upsert(tx, INVOICES, many.to_reader(), job_id=1)
    read = active(ledger)
    assert list(dict.fromkeys(row["document_id"] for row in read)) == [
        "10", "9", "B", "_", "a", "b", "m", "ä",
    ]  # fmt: skip
    assert [row["line_id"] for row in read if row["document_id"] == "m"] == [
        f"{n:06d}" for n in range(count)
    ]
    assert all(row["custom_fields"] == LINE["custom_fields"] for row in read)
