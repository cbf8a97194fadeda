"""A pull against a vendor that takes 120 ms to answer: a cursor, an offset and a bulk API.

The sandbox answers each request late and counts how many it held at once, and in a second and a
minute. The same is listed twice, one request after the other and as the vendor's rule allows. What
a vendor allows is in the module of its client, with the rule's source.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import requests

import resources.quickbooks
from resources.registry import resource_of
from revrec_pipeline.periods import period_range
from revrec_pipeline.sandbox.server import running, sandbox_env
from revrec_pipeline.settings import Settings

LATENCY = 0.12
MONTHS = ("2025-01", "2025-06")
#: The month that is filled where a list of several pages is wanted.
FULL = "2025-06"
Command = Callable[..., dict[str, Any]]


def _no_more(command: Command) -> None:
    """The sandbox's own documents are enough."""


def _invoices_all_month(command: Command) -> None:
    """650 invoices, on ten pages with those that are there."""
    first = int(datetime(2025, 6, 1, 12, tzinfo=UTC).timestamp())
    for number in range(650):
        fields = {"customer": "lumen", "amount": 100, "id": f"BENCH-{number:04d}"}
        fields["date"] = first + number * 3_900
        command("add", source="chargebee", object="invoice", fields=fields)


def _forms_of_a_day(command: Command) -> None:
    """2,000 invoices; pages have 100 here, lest the sandbox's own time be what is measured."""
    fields = {"day": f"{FULL}-14", "amount": "10", "count": 2000}
    command("add", source="quickbooks", object="Invoice", fields=fields)


@dataclass(frozen=True)
class Case:
    """A source, the kind of its paging, and the rules that bound how fast it may be asked."""

    source: str
    paging: str
    fill: Callable[[Command], None]
    rule: str
    toml: str = ""


CASES = (
    Case(
        "chargebee",
        "cursor",
        _invoices_all_month,
        "150 a minute (test site, Starter); at once: no number is published, we ask for 4",
    ),
    Case(
        "quickbooks",
        "offset",
        _forms_of_a_day,
        "10 at once and 10 a second for a company and an app; 500 a minute",
    ),
    Case(
        "salesforce",
        "bulk",
        _no_more,
        "25 long requests at once for all users, of which we take 10; all query jobs at once",
        "[sources.salesforce]\nbulk_threshold = 0\ncommissions = true\n",
    ),
)


@contextmanager
def _settings(origin: str, toml: str) -> Iterator[Settings]:
    """Settings of a new home: what one run has counted of a limit must not hold up the next."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory() as home:
        file = os.path.join(home, "revrec.toml")  # noqa: PTH118 - a name for the environment
        with open(file, "w", encoding="utf-8") as written:  # noqa: PTH123
            written.write(f'[site]\ntimezone = "UTC"\nhistory_start = "2023-07"\n{toml}')
        os.environ.update(sandbox_env(origin) | {"REVREC_CONFIG": file, "REVREC_HOME": home})
        try:
            yield Settings.load()
        finally:
            os.environ.clear()
            os.environ.update(before)


@dataclass(frozen=True)
class Measured:
    """What one listing took, and what the vendor saw of it."""

    wall: float
    asked: int
    allowed: int
    at_once: int
    in_second: int
    in_minute: int


def _list(origin: str, case: Case, *, one_by_one: bool) -> Measured:
    def command(op: str, **fields: Any) -> dict[str, Any]:
        answer = requests.post(f"{origin}/_control", json={"op": op, **fields}, timeout=60)
        answer.raise_for_status()
        return dict(answer.json())

    command("reset")
    case.fill(command)
    command("fault", source=case.source, kind="slow", seconds=LATENCY, times=10**6)
    with (
        _settings(origin, case.toml) as settings,
        resource_of(case.source, settings).client() as client,
    ):
        traffic = client._api.traffic  # type: ignore[attr-defined]
        if one_by_one:
            traffic.concurrency = 1
        client.server_time()  # logs in, which no limit counts
        time.sleep(1.1)
        began = time.monotonic()
        for month in period_range(*MONTHS):
            for _ in client.listing(month):
                pass
        wall = time.monotonic() - began
    state = requests.get(f"{origin}/_control", timeout=30).json()
    return Measured(
        wall,
        sum(state["requests"][case.source].values()),
        traffic.concurrency,
        state["most_at_once"][case.source],
        state["most_in"]["1"][case.source],
        state["most_in"]["60"][case.source],
    )


def main() -> None:
    """List the months of each case twice and print what it took."""
    resources.quickbooks.PAGE_SIZE = 100
    print(f"\nWith {LATENCY * 1000:.0f} ms for each answer, {MONTHS[0]} to {MONTHS[1]}")
    print(
        f"{'':22}{'requests':>9}{'at once':>9}{'reached':>9}{'in 1 s':>8}{'in 60 s':>9}"
        f"{'per s':>7}{'one by one s':>14}{'at once s':>11}{'faster':>8}   the rule"
    )
    with running() as origin:
        for case in CASES:
            slow = _list(origin, case, one_by_one=True)
            fast = _list(origin, case, one_by_one=False)
            print(
                f"{case.source + ' (' + case.paging + ')':22}{fast.asked:>9}{fast.allowed:>9}"
                f"{fast.at_once:>9}{fast.in_second:>8}{fast.in_minute:>9}"
                f"{fast.asked / fast.wall:>7.1f}{slow.wall:>14.1f}"
                f"{fast.wall:>11.1f}{slow.wall / fast.wall:>7.1f}x   {case.rule}"
            )
    print("Reached, in 1 s, in 60 s: the most that the sandbox saw.\n")
