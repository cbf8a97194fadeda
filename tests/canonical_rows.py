"""Canonical rows for tests: complete, believable lines; a test changes what it is about."""

from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from typing import Any

import pyarrow as pa

from revrec_pipeline.model import CANONICAL, RecordType


def order_line(
    document: str = "006A", line: str | None = "00kA1", **changes: Any
) -> dict[str, Any]:
    """A line of a won Salesforce opportunity: 2 x 600.00 USD for 2026."""
    row = {
        "source": "salesforce",
        "record_type": "sales",
        "period": "2026-01",
        "document_type": "opportunity",
        "document_id": document,
        "line_id": line,
        "source_version": "2026-01-20T10:00:00.000Z",
        "raw_batch": "20260120T100000.000000Z-0000",
        "raw_page": 0,
        "url": f"https://example.my.salesforce.com/{document}",
        "customer_id": "001A",
        "customer_name": "Acme",
        "order_number": document,
        "order_item_number": line,
        "order_name": "Acme renewal",
        "product_id": "01tA",
        "product_code": "0042",
        "product_name": "Platform",
        "product_family": "Subscriptions",
        "product_type": "recurring",
        "order_start_date": date(2026, 1, 15),
        "service_start_date": date(2026, 1, 15),
        "service_end_date": date(2027, 1, 14),
        "quantity": Decimal(2),
        "list_price": Decimal("650"),
        "unit_price": Decimal("600"),
        "amount": Decimal("1200"),
        "currency": "USD",
        "account_owner": "Ada Obi",
        "opportunity_id": document,
        "custom_fields": [],
    }
    return {**row, **changes}


def billing_line(
    document: str = "in_1", line: str | None = "il_1", **changes: Any
) -> dict[str, Any]:
    """A line of a Stripe invoice: 100.00 USD for January 2026."""
    row = {
        "source": "stripe",
        "record_type": "invoices",
        "period": "2026-01",
        "document_type": "invoice",
        "document_id": document,
        "line_id": line,
        "source_version": "1767261600",
        "raw_batch": "20260131T100000.000000Z-0000",
        "raw_page": 0,
        "url": f"https://dashboard.stripe.com/invoices/{document}",
        "customer_id": "cus_1",
        "customer_name": "Acme Inc.",
        "product_id": "prod_1",
        "product_code": "prod_1",
        "product_name": "Platform, monthly",
        "billing_date": date(2026, 1, 1),
        "invoice_number": f"A-{document}",
        "amount": Decimal("100"),
        "currency": "USD",
        "service_start_date": date(2026, 1, 1),
        "service_end_date": date(2026, 1, 31),
        "quantity": Decimal(1),
        "custom_fields": [],
    }
    return {**row, **changes}


def delivery_line(document: str = "D1", line: str | None = "1", **changes: Any) -> dict[str, Any]:
    """Three units that a customer got, as a file brought them."""
    row = {
        "source": "file",
        "record_type": "deliveries",
        "period": "2026-01",
        "document_type": "ProfessionalServicesDelivery",
        "document_id": document,
        "line_id": line,
        "source_version": "20260131T100000.000000Z row 0000002",
        "raw_batch": "20260131T100000.000000Z-0000",
        "raw_page": 0,
        "customer_id": "001A",
        "product_code": "0042",
        "delivery_date": date(2026, 1, 20),
        "units_delivered": Decimal(3),
        "reference_number": document,
        "custom_fields": [],
    }
    return {**row, **changes}


def canonical(record_type: RecordType, rows: Iterable[dict[str, Any]]) -> pa.Table:
    """The rows as a canonical table; what a row does not name is null."""
    schema = CANONICAL[record_type]
    listed = list(rows)
    unknown = {name for row in listed for name in row} - set(schema.names)
    assert not unknown, f"no canonical columns: {unknown}"
    return pa.Table.from_pylist(listed, schema=schema)
