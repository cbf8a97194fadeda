"""What bringing files takes: `python -m bench.imports [ROWS …]` (50,000, 200,000 and 1,048,577).

For each size one file of orders with three lines each, in twelve months, as a zip of CSV: taken
while no period is set, so that conversion files are written; then loaded live into another home and
exported. Each step is the real command in a process of its own. docs/benchmark.md has results.
"""

import csv
import io
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

#: The last one is a row more than a sheet holds.
SIZES = (50_000, 200_000, 1_048_577)
_HEADERS = (
    "Customer ID", "Customer Name", "Order Number", "Order Item Number", "Product Code",
    "Order Start Date", "Service Start Date", "Service End Date", "Quantity", "Unit Price",
    "List Price", "Currency",
)  # fmt: skip
_LINES, _MONTHS = 3, 12


def rows(count: int, *, months: int = _MONTHS) -> Iterator[list[str]]:
    """Lines of orders, one order after the other."""
    for number in range(count):
        order, line = divmod(number, _LINES)
        month = order * months // (count // _LINES + 1)
        day = f"2026-{month + 1:02}-{order % 28 + 1:02}"
        yield [
            f"C{order % 5000:06}", f"Customer {order % 5000} Ltd", f"SO-{order:07}", str(line + 1),
            f"P{number % 40:03}", day, day, "2027-12-31", str(number % 7 + 1),
            f"{number % 9973}.25", f"{number % 9973 + 1}.5", "USD",
        ]  # fmt: skip


def write(file: Path, count: int, *, months: int = _MONTHS) -> Path:
    """A zip with that many rows of `OrderDetails`."""
    with (
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as container,
        container.open("OrderDetails.csv", "w", force_zip64=True) as member,
    ):
        text = io.TextIOWrapper(member, "utf-8", newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(_HEADERS)
        writer.writerows(rows(count, months=months))
        text.flush()
    return file


def measured(home: Path, *arguments: str) -> tuple[float, float, int]:
    """Run a command of `revrec`: wall seconds, CPU seconds, peak resident memory in MB."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "revrec_pipeline.cli", *arguments],
        env=os.environ | {"REVREC_HOME": str(home)},
        stdout=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"revrec {' '.join(arguments)} failed")
    return time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss >> 10


def main() -> None:
    """Measure every size, and print a table."""
    sizes = [int(each) for each in sys.argv[1:]] or SIZES
    print("| rows | step | wall s | CPU s | peak MB |\n| ---: | --- | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for size in sizes:
            file = write(folder / f"{size}.zip", size)
            by_file, live = folder / f"{size}-file", folder / f"{size}-live"
            measured(live, "period", "set", "2026-01")
            for step, home, arguments in (
                ("import, conversion files", by_file, ("import", str(file))),
                ("import, live load", live, ("import", str(file))),
                ("export .xlsx", live, ("export", "--to", str(folder / f"{size}-e.xlsx"))),
                ("export .zip", live, ("export", "--to", str(folder / f"{size}-e.zip"))),
            ):
                wall, cpu, peak = measured(home, *arguments)
                print(f"| {size:,} | {step} | {wall:.1f} | {cpu:.1f} | {peak} |", flush=True)


if __name__ == "__main__":
    main()
