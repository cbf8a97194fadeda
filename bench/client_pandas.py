"""The official Stripe client, its objects turned into a pandas frame and loaded into DuckDB."""

import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import stripe

from bench.contestant import report


def _rows(client: stripe.StripeClient, invoice: Any) -> list[dict[str, object]]:
    lines = invoice.lines.data
    if invoice.lines.has_more:
        lines = client.v1.invoices.line_items.list(invoice.id, {"limit": 100}).data
    return [
        {
            "document_id": invoice.id,
            "invoice_number": invoice.number,
            "customer_id": invoice.customer,
            "customer_name": invoice.customer_name,
            "currency": invoice.currency.upper(),
            "billing_date": datetime.fromtimestamp(invoice.effective_at, UTC).date(),
            "line_id": line.id,
            "product_code": line.pricing.price_details.product,
            "amount": Decimal(line.amount - sum(d.amount for d in line.discount_amounts)) / 100,
            "service_start_date": datetime.fromtimestamp(line.period.start, UTC).date(),
            "service_end_date": datetime.fromtimestamp(line.period.end - 1, UTC).date(),
            "quantity": Decimal(line.quantity_decimal),
        }
        for line in lines
    ]


def main(origin: str, folder: str) -> None:
    """Iterate over all invoices."""
    client = stripe.StripeClient("sk_test_bench", base_addresses={"api": origin})

    def work() -> tuple[int, Decimal]:
        rows: list[dict[str, object]] = []
        for invoice in client.v1.invoices.list({"limit": 100}).auto_paging_iter():
            rows += _rows(client, invoice)
        frame = pd.DataFrame(rows)
        with duckdb.connect(str(Path(folder, "client.duckdb"))) as db:
            db.register("frame", frame)
            db.execute("CREATE TABLE line AS SELECT * FROM frame")
            ((lines, net),) = db.execute("SELECT count(*), sum(amount) FROM line").fetchall()
        return lines, net

    report(work)


if __name__ == "__main__":
    main(*sys.argv[1:])
