"""Run all contestants on one data set and print how they compare.

python -m bench [--invoices 100000] [--rounds 1] [--quick] [--scale 5]
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import bad_rows, data, latency

_HERE = Path(__file__).resolve().parent.parent
_OWN = sys.executable
_DLT = str(_HERE / ".venv-bench" / "bin" / "python")

#: Name, interpreter, module, further argument; the order of one round.
CONTESTANTS: tuple[tuple[str, str, str, str | None], ...] = (
    ("this pipeline", _OWN, "bench.ours", "steps"),
    ("the same in Dagster", _OWN, "bench.ours", "dagster"),
    ("floor", _OWN, "bench.floor", "full.ndjson"),
    ("dlt rest_api", _DLT, "bench.dlt_rest", None),
    ("client + pandas", _OWN, "bench.client_pandas", None),
)


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The server in a process of its own; its CPU seconds are printed when it ends."""
    command = [_OWN, "-m", "bench.server", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=_HERE) as server:
        assert server.stdout  # noqa: S101 - asked for above
        try:
            yield server.stdout.readline().strip()
        finally:
            server.terminate()
            print(f"The server used {float(server.stdout.read()):.1f} CPU s in all rounds.")


def measure(python: str, module: str, arguments: list[str]) -> dict[str, Any]:
    """Run one contestant; adds the peak memory of its process tree, in MB."""
    peak = 0
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [python, "-m", module, *arguments],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=_HERE,
            env={**os.environ, "PYTHONPATH": str(_HERE)},
        )
        done = threading.Event()

        def watch() -> None:
            nonlocal peak
            while not done.wait(0.1):
                peak = max(peak, _tree_memory(process.pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        output, _ = process.communicate()
        done.set()
        watcher.join()
        if process.returncode:
            log.seek(0)
            sys.exit(f"{module} failed:\n{log.read()[-3000:]}")
    return {**json.loads(output.splitlines()[-1]), "memory": peak / 1e6}


def _tree_memory(root: int) -> int:
    """Resident bytes of a process and all of its descendants."""
    total, waiting = 0, [root]
    while waiting:
        pid = waiting.pop()
        folder = Path(f"/proc/{pid}")
        try:
            pages = int((folder / "statm").read_text().split()[1])
            for task in (folder / "task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += pages * os.sysconf("SC_PAGE_SIZE")
    return total


def main() -> None:
    """Make the data, run the rounds, print the table."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--invoices", type=int, default=100_000, help="a multiple of 100")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="5,000 invoices")
    parser.add_argument("--scale", type=int, help="only ours, with this many times the invoices")
    options = parser.parse_args()
    count = 5_000 if options.quick else options.invoices
    with tempfile.TemporaryDirectory(prefix="revrec-bench-") as temporary:
        work = Path(temporary)
        chosen = CONTESTANTS
        if options.scale:
            print_table(_rounds(work / "one", count, CONTESTANTS[:2], 1), count)
            chosen, count = CONTESTANTS[:2], count * options.scale
        results = _rounds(work / "data", count, chosen, options.rounds)
        print_table(results, count)
        print_costs(work / "year", 6 * count)
        latency.main()
        bad_rows.run(bad_rows.SIZES[:1] if options.quick else bad_rows.SIZES)


def print_costs(folder: Path, count: int) -> None:
    """What a sync costs by how much has changed since the last one, of a year's invoices."""
    print(f"Making {count:,} invoices of twelve months …", flush=True)
    data.write(folder, count, data.YEAR)
    with serving(folder) as origin:
        found = measure(_OWN, "bench.cost", [origin, str(folder), str(count // 100)])
    found.pop("memory")
    everything = found["everything"]
    print(f"\n{'Changed':36}{'requests':>9}{'share':>8}{'CPU s':>8}{'share':>8}{'rows':>11}")
    for changed, cost in found.items():
        shares = {name: cost[name] / everything[name] for name in ("requests", "cpu")}
        print(
            f"{changed:36}{cost['requests']:>9,}{shares['requests']:>8.1%}{cost['cpu']:>8.1f}"
            f"{shares['cpu']:>8.1%}{cost['delivered']:>11,}"
        )
    print("From the command to the delivered file, with runs, events and checks in Dagster.\n")


def _rounds(
    folder: Path, count: int, contestants: tuple[tuple[str, str, str, str | None], ...], rounds: int
) -> dict[str, dict[str, Any]]:
    """The best round of each by CPU; all must agree on lines and net amount."""
    print(f"Making {count:,} invoices …", flush=True)
    data.write(folder, count)
    size = (folder / "records.bin").stat().st_size
    print(f"{size / 1e6:,.0f} MB, {size / count:,.0f} bytes an invoice", flush=True)
    lines, net = sum(map(data.line_count, range(count))), f"{data.net_total(count):.2f}"
    best: dict[str, dict[str, Any]] = {}
    with serving(folder) as origin:
        for turn in range(rounds):
            for name, python, module, argument in contestants:
                own = folder / f"own-{turn}"
                own.mkdir()
                given = str(folder / argument) if argument == "full.ndjson" else argument
                extra = [given] if given else []
                found = measure(python, module, [origin, str(own), *extra])
                shutil.rmtree(own)
                print(f"  {name}: {found['cpu']:.1f} CPU s, {found['wall']:.1f} s", flush=True)
                if (found["lines"], found["net"]) != (lines, net):
                    sys.exit(
                        f"{name} has {found['lines']} lines, {found['net']}; not {lines}, {net}"
                    )
                if name not in best or found["cpu"] < best[name]["cpu"]:
                    best[name] = found
    return best


def print_table(results: dict[str, dict[str, Any]], count: int) -> None:
    """One line per contestant, with its CPU against ours."""
    ours = results["this pipeline"]["cpu"]
    print(f"\n{count:,} invoices, {results['this pipeline']['lines']:,} lines")
    print(f"{'':20}{'lines/s':>10}{'wall s':>9}{'CPU s':>9}{'peak MB':>9}{'CPU / ours':>12}")
    for name, found in results.items():
        print(
            f"{name:20}{found['lines'] / found['wall']:>10,.0f}{found['wall']:>9.1f}"
            f"{found['cpu']:>9.1f}{found['memory']:>9.0f}{found['cpu'] / ours:>12.2f}"
        )
    print("First request to READY batch or loaded table; imports are not counted.\n")


if __name__ == "__main__":
    main()
