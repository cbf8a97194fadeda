"""Several processes on one ledger, and processes that die in the middle of a transaction."""

import multiprocessing
import random
import time
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess

import pyarrow as pa

from revrec_pipeline.errors import LedgerBusyError
from revrec_pipeline.ledger import Ledger, accounting_periods, open_ledger, outbox
from revrec_pipeline.ledger.outbox import Total
from revrec_pipeline.model import Route

from . import given

PROCESSES = 4
ROWS = 50
JOBS = 24
# A ledger may be used after a fork, and a fork costs 5 ms; a new interpreter, 700 ms.
_fork = multiprocessing.get_context("fork")


def start(
    work: Callable[[str, str, Connection], None], url: str, name: str
) -> tuple[ForkProcess, Connection]:
    """Do this work in a process of its own; what it tells comes through the connection."""
    receiving, sending = _fork.Pipe(duplex=False)
    worker = _fork.Process(target=work, args=(url, name, sending))
    worker.start()
    sending.close()  # so that the death of the worker ends the wait for its word
    return worker, receiving


def fill(ledger: Ledger, count: int) -> None:
    """So many sealed jobs with one batch each, of different sources: they may be claimed at once.

    `receipt` has no key: what is written twice shows.
    """
    with ledger.transaction() as tx:
        tx.execute("CREATE TABLE receipt (batch_id TEXT, number BIGINT, route TEXT)")
        for number in range(count):
            source = f"source-{number}"
            job_id = given.job(tx, source, source=source)
            given.batch(tx, job_id, source=source)


def claim_everything(url: str, name: str, claims: Connection) -> None:
    """Claim batch after batch and tell which; the work of one of several processes."""
    ledger = open_ledger(url)
    while True:
        with ledger.transaction() as tx:
            ready = outbox.ready_jobs(tx)
        if not ready:
            break
        try:
            with ledger.transaction() as tx:
                told = [
                    batch.id
                    for job in random.sample(ready, min(2, len(ready)))
                    for batch in outbox.claim(
                        tx, job["id"], claimed_by=name, route=Route.CONVERSION, lease_seconds=600
                    )
                ]
        except LedgerBusyError:
            continue  # another was faster with one of them: none of them is ours
        claims.send(told)
    claims.send(None)


def test_of_four_processes_that_claim_each_batch_goes_to_one(
    ledger: Ledger, ledger_url: str
) -> None:
    fill(ledger, 20)
    workers = [start(claim_everything, ledger_url, f"worker-{n}") for n in range(PROCESSES)]
    claimed: Counter[str] = Counter()
    for _, claims in workers:
        while (told := claims.recv()) is not None:
            claimed.update(told)
    for worker, _ in workers:
        worker.join()
    assert claimed == {f"{number}-2026-01": 1 for number in range(1, 21)}


def deliver_everything(url: str, name: str, moments: Connection) -> None:
    """Deliver batch after batch in one transaction each, and say so while it is open."""
    ledger = open_ledger(url)
    while True:
        with ledger.transaction() as tx:
            jobs = outbox.ready_jobs(tx)
        for job in random.sample(jobs, min(1, len(jobs))):
            with ledger.transaction() as tx:
                claimed = outbox.claim(
                    tx, job["id"], claimed_by=name, route=Route(job["route"]), lease_seconds=0.05
                )
            for batch in claimed:
                with ledger.transaction() as tx:
                    totals = {batch.id: [Total("delivered", 2, Decimal(20), "USD")]}
                    if outbox.complete(tx, batch.job_id, claimed_by=name, totals=totals):
                        receipt = pa.table(
                            {
                                "batch_id": [batch.id] * ROWS,
                                "number": list(range(ROWS)),
                                "route": [batch.route.value] * ROWS,
                            }
                        )
                        tx.load("receipt", receipt)
                    moments.send("inside")
        if not jobs:
            break


def test_ten_kills_inside_transactions_lose_and_double_nothing(
    ledger: Ledger, ledger_url: str
) -> None:
    """A period is set midway: every batch goes whole, once, and one way."""
    fill(ledger, JOBS)
    dice = random.Random(20261123)
    for kill in range(10):
        worker, moments = start(deliver_everything, ledger_url, f"worker-{kill}")
        for _ in range(dice.randint(1, 2)):
            assert moments.recv() == "inside"
        time.sleep(dice.uniform(0, 0.01))
        worker.kill()
        worker.join()
        if kill == 4:
            with ledger.transaction() as tx:
                accounting_periods.set_period(tx, "2026-05")
    time.sleep(0.1)  # the lease of what the last kill left
    worker, _ = start(deliver_everything, ledger_url, "the last")
    worker.join()
    with ledger.transaction() as tx:
        wrong = tx.rows(
            """
            SELECT batch.id, batch.state, count(receipt.number) AS rows
            FROM batch LEFT JOIN receipt ON receipt.batch_id = batch.id
                AND receipt.route = batch.route
            GROUP BY batch.id, batch.state
            HAVING batch.state <> 'delivered' OR count(receipt.number) <> :rows
            """,
            rows=ROWS,
        )
        receipts = tx.one("SELECT count(*) AS rows, count(DISTINCT route) AS routes FROM receipt")
    assert wrong == []
    assert receipts == {"rows": JOBS * ROWS, "routes": 2}
