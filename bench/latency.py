"""A pull against a vendor that takes 120 ms to answer: a cursor, an offset and a bulk API.

The sandbox answers each request late and counts how many it held at once. Of every source the same
months are listed. What a vendor allows is in the module of its client, with the rule's source.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import requests

from resources.registry import resource_of
from revrec_pipeline.periods import period_range
from revrec_pipeline.sandbox.server import running, sandbox_env
from revrec_pipeline.settings import Settings

LATENCY = 0.12
MONTHS = ("2025-01", "2025-06")


@dataclass(frozen=True)
class Case:
    """A source, the kind of its paging, and the rule that bounds how fast it may be asked."""

    source: str
    paging: str
    rule: str
    toml: str = ""


CASES = (
    Case("chargebee", "cursor", "one page after the other; 150 requests a minute (test site)"),
    Case("quickbooks", "offset", "10 at once; 500 a minute, asked for at 8 a second"),
    Case(
        "salesforce",
        "bulk",
        "one query job at a time, polled; 25 long requests at once",
        "[sources.salesforce]\nbulk_threshold = 0\n",
    ),
)


@contextmanager
def _settings(origin: str, toml: str, folder: str) -> Iterator[Settings]:
    before = dict(os.environ)
    file = os.path.join(folder, "revrec.toml")  # noqa: PTH118 - a name for the environment
    with open(file, "w", encoding="utf-8") as written:  # noqa: PTH123
        written.write(f'[site]\ntimezone = "America/New_York"\nhistory_start = "2023-07"\n{toml}')
    os.environ.update(sandbox_env(origin) | {"REVREC_CONFIG": file, "REVREC_HOME": folder})
    try:
        yield Settings.load()
    finally:
        os.environ.clear()
        os.environ.update(before)


def main(folder: str) -> None:
    """List the months of each case and print what it took."""
    print(f"\nWith {LATENCY * 1000:.0f} ms for each answer, {MONTHS[0]} to {MONTHS[1]}")
    print(f"{'':24}{'requests':>9}{'at once':>9}{'wall s':>8}{'waited for':>12}   the rule")
    with running() as origin:
        for case in CASES:
            control = f"{origin}/_control"
            slow = {"op": "fault", "source": case.source, "kind": "slow", "seconds": LATENCY}
            requests.post(control, json={"op": "reset"}, timeout=30).raise_for_status()
            requests.post(control, json=slow | {"times": 10**6}, timeout=30).raise_for_status()
            with (
                _settings(origin, case.toml, folder) as settings,
                resource_of(case.source, settings).client() as client,
            ):
                began = time.monotonic()
                for month in period_range(*MONTHS):
                    for _ in client.listing(month):
                        pass
                wall = time.monotonic() - began
            state = requests.get(control, timeout=30).json()
            asked = sum(state["requests"][case.source].values())
            share = asked * LATENCY / wall
            print(
                f"{case.source + ' (' + case.paging + ')':24}{asked:>9}"
                f"{state['most_at_once'][case.source]:>9}{wall:>8.1f}{share:>12.2f}   {case.rule}"
            )
    print("Waited for: requests times latency, as a share of the wall time. 1 is a pull that does")
    print("nothing but wait, one request at a time; more means that requests ran side by side.\n")
