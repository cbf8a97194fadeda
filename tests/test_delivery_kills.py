"""Deliveries are killed at random points, a period is set midway: nothing is lost or doubled."""

import os
import random
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest
from batches import Books
from batches import ledger as ledger
from batches import ledger_url as ledger_url
from canonical_rows import billing_line, order_line
from conversion_files import column, read_archive

from revrec_pipeline.ledger import Ledger, jobs

KILLS = 20
JOBS_PER_SOURCE = 2
SOURCES = ("stripe", "chargebee", "xero", "netsuite")

# Imports once, then forks a deliverer for each line that it reads (the seconds of its lease); says
# its id, and when it has ended.
FORKS = """
import os, sys, time
from pathlib import Path

from revrec_pipeline.delivery import deliver
from revrec_pipeline.errors import LedgerBusyError
from revrec_pipeline.ledger import open_ledger, outbox
from revrec_pipeline.model import Route

url, lake = sys.argv[1], Path(sys.argv[2])

def deliver_all(lease_seconds):
    ledger = open_ledger(url)
    while True:
        with ledger.transaction() as tx:
            ready = outbox.ready_jobs(tx)
        if not ready:
            return
        for job in ready:
            try:
                deliver(ledger, lake, job["id"], Route(job["route"]), claimed_by=str(os.getpid()),
                        lease_seconds=lease_seconds)
            except LedgerBusyError:
                time.sleep(0.05)

for line in sys.stdin:
    child = os.fork()
    if child:
        print(child, flush=True)
        os.waitpid(child, 0)
        print("ended", flush=True)
    else:
        try:
            deliver_all(float(line))
        finally:
            os._exit(0)
"""


@dataclass
class Forks:
    """A process that starts deliverers quickly."""

    process: subprocess.Popen[str]
    lease_seconds: float = 60.0

    def start(self) -> int:
        """The id of a deliverer that starts now."""
        assert self.process.stdin
        self.process.stdin.write(f"{self.lease_seconds}\n")
        self.process.stdin.flush()
        return int(self._line())

    def ended(self, within: float) -> bool:
        """Whether the deliverer ends by itself within so many seconds."""
        assert self.process.stdout
        if not select.select([self.process.stdout], [], [], within)[0]:
            return False
        assert self._line() == "ended"
        return True

    def _line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()


@contextmanager
def forks(url: str, lake: Path) -> Iterator[Forks]:
    process = subprocess.Popen(
        [sys.executable, "-c", FORKS, url, str(lake)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        yield Forks(process)
    finally:
        process.kill()
        process.wait()


@pytest.mark.timeout(900)  # 96 s on two cores with a load of 7; its length follows the machine
def test_killed_deliveries_deliver_every_batch_and_document_exactly_once(
    ledger: Ledger,
    ledger_url: str,
    tmp_path: Path,
) -> None:
    books = Books(ledger, tmp_path / "lake")
    expected = sync(books, "calm", ["stripe"], jobs_each=3)
    chance = random.Random(20)
    kills = 0
    with forks(ledger_url, books.lake) as deliverers:
        duration = undisturbed(deliverers) / 3
        deliverers.lease_seconds = 2 * duration + 1
        while kills < KILLS:
            if not count(books, "state = 'ready'"):
                expected |= sync(books, str(len(expected)), SOURCES)
            if kills == KILLS // 2:
                books.set_period()
            pid = deliverers.start()
            # Long enough to reach every point of a delivery, however slow the machine is.
            if deliverers.ended(within=chance.uniform(0, 2 * duration)):
                continue  # there was little left to deliver
            os.kill(pid, signal.SIGKILL)
            assert deliverers.ended(within=10)
            # Only a kill in the middle of a delivery counts: one that leaves a claim behind.
            kills += count(books, f"state = 'claimed' AND claimed_by = '{pid}'") > 0
        expected |= sync(books, "last", SOURCES)
        drain(books, deliverers)
    check(books, expected)


def undisturbed(deliverers: Forks) -> float:
    """The seconds that it takes to deliver everything when nobody is killed."""
    begin = time.monotonic()
    deliverers.start()
    assert deliverers.ended(within=120)
    return time.monotonic() - begin


def sync(
    books: Books, wave: str, sources: Sequence[str], jobs_each: int = JOBS_PER_SOURCE
) -> dict[int, list[str]]:
    """Jobs of one to three months each; returns the documents of each."""
    expected = {}
    for source in sources:
        for number in range(jobs_each):
            months = [f"20{20 + number}-{month:02}" for month in range(1, 2 + number % 3)]
            make = order_line if source == "netsuite" else billing_line
            name = f"{source}-{wave}"  # a source of its own, for months are replaced as a whole
            ids = [f"{name}-{month}-{n}" for month in months for n in range(3)]
            rows = {
                month: [
                    make(id_, f"{id_}-{line}", source=name, period=month)
                    for id_ in ids
                    if month in id_
                    for line in range(2)
                ]
                for month in months
            }
            expected[books.synced(rows)] = ids
    return expected


def count(books: Books, condition: str) -> int:
    """How many batches there are like that."""
    with books.ledger.transaction() as tx:
        found = tx.one(f"SELECT count(*) AS batches FROM batch WHERE {condition}")
    assert found is not None
    return int(found["batches"])


def drain(books: Books, deliverers: Forks) -> None:
    """Deliver what is left, now undisturbed."""
    deadline = time.monotonic() + 120
    while count(books, "state <> 'delivered'"):
        assert time.monotonic() < deadline, "the outbox does not empty"
        deliverers.start()
        assert deliverers.ended(within=60)
        time.sleep(0.2)


def check(books: Books, expected: dict[int, list[str]]) -> None:
    """Every document went out once, by the way that its batch says."""
    documents = books.documents()
    loaded = Counter(
        id_ for table in ("billing_line", "order_line") for id_, *_ in books.loaded(table)
    )
    by_file: Counter[str] = Counter()
    ways = Counter()
    for job, ids in expected.items():
        (route,) = {route for _, route in books.states(job).values()}
        ways[route] += 1
        assert {documents[id_][1] for id_ in ids} == {route}
        with books.ledger.transaction() as tx:
            files = jobs.files(tx, job)
        assert len(files) == (2 if route == "conversion" else 0)
        for file in files:
            content = (books.lake / file["path"]).read_bytes()
            assert sha256(content).hexdigest() == file["sha256"]
            if file["kind"] == "zip":
                by_file.update(numbers(books.lake / file["path"]))
        found = books.job(job)
        assert found["counts"]["delivered"] == found["counts"]["source"] == 2 * len(ids)
        for id_ in ids:  # both lines, by one way only
            assert (by_file[id_], loaded[id_]) == ((2, 0) if route == "conversion" else (0, 2))
    assert len(documents) == sum(len(ids) for ids in expected.values())
    assert ways["conversion"] > 0
    assert ways["live"] > 0


def numbers(archive: Path) -> list[str]:
    """The documents of the lines in an archive."""
    cells = read_archive(archive)
    return column(cells, "OrderDetails", "Order Number") + [
        number.removeprefix("A-") for number in column(cells, "BillingSchedule", "Invoice Number")
    ]
