"""The floor: a bare download of the same bytes, and DuckDB reading them from one NDJSON file."""

import http.client
import sys
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

import duckdb

from bench.contestant import report

_CANONICAL = """
CREATE TABLE line AS
SELECT id AS document_id, number AS invoice_number, customer AS customer_id, customer_name,
    upper(currency) AS currency, make_timestamptz(status_transitions.finalized_at * 1000000)::DATE
        AS billing_date, line.id AS line_id, line.pricing.price_details.product AS product_code,
    ((line.amount - coalesce(list_sum([d.amount FOR d IN line.discount_amounts]), 0))
        ::DECIMAL(18, 0) * 0.01::DECIMAL(3, 2))::DECIMAL(18, 4) AS amount,
    make_timestamptz(line.period.start * 1000000)::DATE AS service_start_date,
    make_timestamptz((line.period."end" - 1) * 1000000)::DATE AS service_end_date,
    line.quantity_decimal::DECIMAL(28, 12) AS quantity
FROM (SELECT *, unnest(lines.data) AS line FROM read_json(?, format = 'newline_delimited'))
"""


def _download(origin: str) -> None:
    parts = urlsplit(origin)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port)

    def get(target: str) -> bytes:
        connection.request("GET", target)
        return connection.getresponse().read()

    after, long = "", []
    while True:
        body = get(f"/v1/invoices?limit=100{after}")
        # The last id is cut out of the bytes: parsing the page would not be bare.
        tail = body[body.rindex(b'"id": "in_') + 7 :]
        last = tail[: tail.index(b'"')].decode()
        long += [int(last.removeprefix("in_")) // 100 * 100]
        if b'"has_more": true' not in body[:90]:
            break
        after = f"&starting_after={last}"
    for number in long:
        get(f"/v1/invoices/in_{number:010d}/lines?limit=100")


def main(origin: str, folder: str, ndjson: str) -> None:
    """Download, then read."""

    def work() -> tuple[int, Decimal]:
        _download(origin)
        with duckdb.connect(str(Path(folder, "floor.duckdb")), config={"threads": 2}) as db:
            db.execute(_CANONICAL, [ndjson])
            ((lines, net),) = db.execute("SELECT count(*), sum(amount) FROM line").fetchall()
        return lines, net

    report(work)


if __name__ == "__main__":
    main(*sys.argv[1:])
