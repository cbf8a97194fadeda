"""A month of which every tenth row is bad: what checks, errors and the ledger make of it.

Rows come from a query instead of a vendor's pages, so that nothing else is measured: one canonical
build, its batch and errors into the ledger, the same once more (as the next sync does), and what
people read of it. Each size and step runs in a process of its own, hence each peak is its own.

python -m bench.bad_rows
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import duckdb

from revrec_pipeline import canonical
from revrec_pipeline.hand_over import hand_over
from revrec_pipeline.lake import Lake
from revrec_pipeline.ledger import Ledger, jobs, open_ledger, sync_errors
from revrec_pipeline.mapping import Site, Source, SourceSettings
from revrec_pipeline.model import BILLING_LINE, RecordType
from revrec_pipeline.summary import summarize

_SITE = Site(timezone="America/New_York", home_currency="USD", conversion_date=None)
_MONTH = "2026-01"
_INVOICES = RecordType.INVOICES
#: Ten lines of 100.00 a document; of every tenth document no line has a product.
_ROWS = """
CREATE VIEW rows AS SELECT {columns} FROM (
    SELECT 'many' AS source, 'invoices' AS record_type, '2026-01' AS period,
        'invoice' AS document_type, 'in_' || i // 10 AS document_id, 'il_' || i AS line_id,
        '1' AS source_version, 'https://example.com/in_' || i // 10 AS url,
        'cus_' || i % 1000 AS customer_id, 'Customer ' || i % 1000 AS customer_name,
        'PO-' || i // 10 AS order_number,
        CASE WHEN i // 10 % 10 > 0 THEN 'PLAT-' || i % 50 END AS product_code,
        DATE '2026-01-15' AS billing_date, 'A-' || i // 10 AS invoice_number,
        100::DECIMAL(18, 4) AS amount, 'USD' AS currency,
        DATE '2026-01-15' AS service_start_date, DATE '2026-02-14' AS service_end_date,
        1::DECIMAL(28, 12) AS quantity
    FROM range({count}) AS numbers(i)
)
"""


def _source(count: int) -> Source:
    def rows(db: duckdb.DuckDBPyConnection, *_: Any) -> None:
        columns = ", ".join(
            f"{name if f' AS {name}' in _ROWS else 'NULL'}::{kind} AS {name}"
            for name, kind in _kinds().items()
        )
        db.execute(_ROWS.format(columns=columns, count=count))

    return Source("many", "Many", (), {}, SourceSettings, lambda _: (_INVOICES,), rows)


def _kinds() -> dict[str, str]:
    with duckdb.connect() as db:
        db.register("empty", BILLING_LINE.empty_table())
        return {name: str(kind) for name, kind, *_ in db.sql("DESCRIBE empty").fetchall()}


def _build(folder: Path, count: int) -> canonical.Built:
    lake = Lake(folder / "lake")
    return canonical.build(lake, _source(count), _INVOICES, _MONTH, SourceSettings(), _SITE)


def _measured(step: Callable[[], object]) -> dict[str, float]:
    before = time.process_time(), time.perf_counter()
    step()
    return {
        "cpu": time.process_time() - before[0],
        "wall": time.perf_counter() - before[1],
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }


def _hand_over(ledger: Ledger, built: canonical.Built, count: int, key: str) -> None:
    with ledger.transaction() as tx:
        job = jobs.open_job(
            tx, sync_key=key, source="many", record_type=_INVOICES, name="many", trigger="bench"
        )
        jobs.start_run(tx, job, _MONTH, key)
        hand_over(tx, built, _source(count), _INVOICES, _MONTH, job, key)


def _read(ledger: Ledger) -> list[dict[str, Any]]:
    with ledger.transaction() as tx:
        sync_errors.count(tx, "code")
        return sync_errors.list_errors(tx)


SIZES = (200_000, 1_000_000)
STEPS = ("build", "into the ledger", "the same again", "listed", "summary")


def step(name: str, folder: Path, count: int) -> dict[str, float]:
    """Do one step and say what it took."""
    ledger = open_ledger(f"duckdb:///{folder / 'ledger.duckdb'}")
    match name:
        case "build":
            return _measured(lambda: _build(folder, count))
        case "into the ledger" | "the same again":
            built = _build(folder, count)
            return _measured(lambda: _hand_over(ledger, built, count, name))
        case "listed":
            return _measured(lambda: _read(ledger))
        case _:
            return _measured(lambda: summarize(ledger, 1))


def run(sizes: Sequence[int]) -> None:
    """Run the steps for each number of rows and print what each took."""
    print("\nA month of which every tenth row is bad")
    print(f"{'':20}{'rows':>12}{'CPU s':>9}{'wall s':>9}{'peak MB':>9}")
    for count in sizes:
        with tempfile.TemporaryDirectory(prefix="revrec-bench-") as temporary:
            for name in STEPS:
                done = subprocess.run(
                    [sys.executable, "-m", "bench.bad_rows", name, temporary, str(count)],
                    stdout=subprocess.PIPE,
                    text=True,
                    check=True,
                )
                found = json.loads(done.stdout.splitlines()[-1])
                print(
                    f"{name:20}{count:>12,}{found['cpu']:>9.1f}{found['wall']:>9.1f}"
                    f"{found['memory']:>9.0f}",
                    flush=True,
                )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(step(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))))
    else:
        run(SIZES)
