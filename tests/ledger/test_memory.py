"""Loading many lines takes as much memory as loading some: a limit holds, no index grows."""

import subprocess
import sys
from pathlib import Path

# Rows of an order, three lines each, made by DuckDB; prints the peak of resident memory in MB.
LOADS = """
import resource, sys
from pathlib import Path

import duckdb

from revrec_pipeline.ledger import bulk, lines, open_ledger
from revrec_pipeline.model import CANONICAL, RecordType

count, folder = int(sys.argv[1]), Path(sys.argv[2])
given = {
    "source": "'salesforce'", "record_type": "'sales'", "period": "'2026-01'",
    "document_type": "'order'", "document_id": "'006' || (n // 3)", "line_id": "'00k' || n",
    "source_version": "'2026-01-01'", "raw_batch": "'20260101'", "raw_page": "n // 1000",
    "customer_name": "'Customer ' || (n % 5000)", "order_number": "'SO-' || (n // 3)",
    "amount": "n", "currency": "'USD'", "custom_fields": "MAP {'Region': 'R' || (n % 7)}",
}
def kind(name, type_):
    return "MAP(VARCHAR, VARCHAR)" if name == "custom_fields" else bulk.sql_type(type_)
cells = ", ".join(
    f"({given.get(field.name, 'NULL')})::{kind(field.name, field.type)} AS {field.name}"
    for field in CANONICAL[RecordType.SALES]
)
with duckdb.connect(config={"memory_limit": "100MB", "threads": "2"}) as db:
    db.execute(f"COPY (SELECT {cells} FROM range({count}) AS t(n)) TO '{folder / 'rows.parquet'}' "
               "(FORMAT parquet, ROW_GROUP_SIZE 20480)")
ledger = open_ledger(f"duckdb:///{folder / 'ledger.duckdb'}")
for job in (1, 2):  # new lines, and the same ones again
    with ledger.transaction() as tx:
        assert lines.upsert(tx, RecordType.SALES, folder / "rows.parquet", job_id=job) == count
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)
"""


def peak(folder: Path, count: int) -> int:
    """The memory that a process of its own takes to load so many lines, twice."""
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", LOADS, str(count), str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1])  # after what DuckDB says of its progress


def test_ten_times_the_lines_do_not_take_ten_times_the_memory(tmp_path: Path) -> None:
    """While DuckDB kept a unique index, a million lines took 1.7 GB, 300,000 took 730 MB."""
    some, many = peak(tmp_path / "some", 30_000), peak(tmp_path / "many", 300_000)
    assert many < some + 150, (some, many)
