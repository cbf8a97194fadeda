"""Constant memory, and a disk that is full."""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import gettempdir

import pytest

WRITE = """
import resource, sys
from pathlib import Path

from revrec_pipeline.conversion import write_files
from revrec_pipeline.engine import engine
from revrec_pipeline.errors import LakeError
from revrec_pipeline.model import BILLING_LINE, RecordType

folder, rows, file_size = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
values = {
    "source": "'stripe'", "period": "'2026-01'", "record_type": "'invoices'",
    "document_id": "'in_' || md5((i // 5)::VARCHAR)", "line_id": "'il_' || md5(i::VARCHAR)",
    "customer_id": "'cus_' || i % 9000", "customer_name": "'Customer number ' || i % 9000",
    "invoice_number": "'in_' || md5((i // 5)::VARCHAR)", "product_code": "'prod_' || i % 40",
    "billing_date": "DATE '2026-01-01'", "amount": "(i % 100000)::DECIMAL(18, 4)",
    "custom_fields": "MAP {'Region': 'EMEA', 'Team': 'T' || i % 7}", "currency": "'USD'",
}
columns = ", ".join(f"{values.get(name, 'NULL')} AS {name}" for name in BILLING_LINE.names)
scratch = folder / "scratch"
scratch.mkdir()
with engine(folder / "spill") as connection:
    # The sort takes what it may, 256 MB; with less to take, it is the writers that are measured.
    connection.execute("SET memory_limit = '128MB'")
    connection.execute(f"CREATE VIEW rows AS SELECT {columns} FROM range({rows}) AS t(i)")
    if file_size:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    targets = [folder / "files" / "job.xlsx", folder / "files" / "job.zip"]
    try:
        write_files(connection, {RecordType.INVOICES: "rows"}, targets, scratch=scratch)
    except LakeError as error:
        print(error)
        sys.exit(1)
status = Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]
print(status)
"""


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    small, large = (int(run(tmp_path, rows).stdout) for rows in (50_000, 200_000))
    assert (tmp_path / "200000" / "files" / "job.xlsx").stat().st_size > 8_000_000
    assert large - small < 40_000, f"{small} kB for 50,000 rows, {large} kB for 200,000"


# The limit strikes in a staged sheet (DuckDB) and in the writer's temporary file (Rust).
@pytest.mark.parametrize("file_size", [100_000, 1_000_000])
def test_a_full_disk_is_one_line_and_leaves_no_file(tmp_path: Path, file_size: int) -> None:
    done = run(tmp_path, 20_000, file_size=file_size)
    assert done.returncode == 1, done.stderr
    (line,) = done.stdout.splitlines()
    folder = tmp_path / "20000" / "files"
    assert line == (
        f"cannot write in {folder}: File too large; it and the temporary folder {gettempdir()} "
        "need room and write permission, then run the same command again"
    )
    assert not folder.exists()


def run(folder: Path, rows: int, *, file_size: int = 0) -> subprocess.CompletedProcess[str]:
    """Write this many rows in a process of its own, whose files may have `file_size` bytes."""
    work = folder / str(rows)
    work.mkdir()
    return subprocess.run(
        [sys.executable, "-c", WRITE, str(work), str(rows), str(file_size)],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
