"""dlt's REST source into DuckDB in the best configuration that we found.

The page is mapped to canonical lines in a processing step (one flat table instead of nested ones),
files are Parquet, and extraction and normalisation have two workers each.
"""

import os
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from bench.contestant import report


def main(origin: str, folder: str) -> None:
    """Run one pipeline over all invoices."""
    os.environ |= {
        "DLT_DATA_DIR": folder,
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "RUNTIME__LOG_LEVEL": "ERROR",
        "EXTRACT__WORKERS": "2",
        "NORMALIZE__WORKERS": "2",
        "LOAD__WORKERS": "2",
        "NORMALIZE__LOADER_FILE_FORMAT": "parquet",
        "DATA_WRITER__BUFFER_MAX_ITEMS": "50000",
        "DATA_WRITER__FILE_MAX_ITEMS": "250000",
        "NORMALIZE__DATA_WRITER__DISABLE_COMPRESSION": "true",
        "SCHEMA__NAMING": "direct",
    }
    import dlt
    import duckdb
    import requests
    from dlt.sources.helpers.rest_client.paginators import JSONResponseCursorPaginator
    from dlt.sources.rest_api import rest_api_source

    session = requests.Session()

    def lines_of(invoice: dict[str, Any]) -> Any:
        lines = invoice["lines"]["data"]
        if invoice["lines"]["has_more"]:
            url = f"{origin}/v1/invoices/{invoice['id']}/lines?limit=100"
            lines = session.get(url, timeout=60).json()["data"]
        for line in lines:
            net = line["amount"] - sum(d["amount"] for d in line["discount_amounts"])
            yield {
                "document_id": invoice["id"],
                "invoice_number": invoice["number"],
                "customer_id": invoice["customer"],
                "customer_name": invoice["customer_name"],
                "currency": invoice["currency"].upper(),
                "billing_date": datetime.fromtimestamp(invoice["effective_at"], UTC).date(),
                "line_id": line["id"],
                "product_code": line["pricing"]["price_details"]["product"],
                "amount": Decimal(net) / 100,
                "service_start_date": datetime.fromtimestamp(line["period"]["start"], UTC).date(),
                "service_end_date": datetime.fromtimestamp(line["period"]["end"] - 1, UTC).date(),
                "quantity": Decimal(line["quantity_decimal"]),
            }

    source = rest_api_source(
        {
            "client": {"base_url": f"{origin}/v1/"},
            "resources": [
                {
                    "name": "line",
                    "endpoint": {
                        "path": "invoices",
                        "params": {"limit": 100},
                        "data_selector": "data",
                        "paginator": JSONResponseCursorPaginator(
                            cursor_path="data.[-1].id",
                            cursor_param="starting_after",
                            has_more_path="has_more",
                        ),
                    },
                    "processing_steps": [{"yield_map": lines_of}],
                    "write_disposition": "append",
                    "max_table_nesting": 0,
                }
            ],
        }
    )
    file = Path(folder, "dlt.duckdb")

    def work() -> tuple[int, Decimal]:
        pipeline = dlt.pipeline(
            "bench", destination=dlt.destinations.duckdb(str(file)), dataset_name="bench"
        )
        pipeline.run(source, loader_file_format="parquet")
        with duckdb.connect(str(file)) as db:
            ((lines, net),) = db.execute("SELECT count(*), sum(amount) FROM bench.line").fetchall()
        return lines, Decimal(net)

    report(work)


if __name__ == "__main__":
    main(*sys.argv[1:])
