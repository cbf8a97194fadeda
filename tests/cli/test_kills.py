"""`kill -9` of a sync at any moment, then a sync: as if nothing had happened."""

import json
import random
import select
import signal
import time
from collections import Counter
from decimal import Decimal
from typing import Any

import pytest
from command_line import MONTH, Commands, Home, Live
from conversion_files import read_archive

KILLS = 3
ONE_MONTH = ("--from", MONTH, "--to", MONTH)


def delivered(jobs: list[dict[str, Any]]) -> dict[str, Any]:
    """Over all jobs: rows delivered by source, and amounts by currency."""
    found: Counter[str] = Counter()
    for job in jobs:
        found[job["source"]] += job["counts"]["delivered"]
        for currency, amounts in job["amounts"].items():
            found[f"{job['source']} {currency}"] += Decimal(amounts["delivered"])
    return {what: total for what, total in found.items() if total}


def kill_after(home: Home, seconds: float) -> None:
    """Start a sync and kill it so long after its first words."""
    process = home.start("sync", *ONE_MONTH)
    assert process.stderr
    ready, _, _ = select.select([process.stderr], [], [], 60)
    assert ready
    time.sleep(seconds)
    process.kill()
    process.communicate()


def test_a_sync_that_is_killed_while_it_pulls_does_not_keep_the_next_one_from_the_api(
    home: Home, sandbox: Commands
) -> None:
    sandbox.fault("stripe", "slow", path="/v1/invoices", seconds=60)
    process = home.start("sync", "stripe", *ONE_MONTH)
    while "/v1/invoices" not in sandbox.requests("stripe"):
        assert process.poll() is None
        time.sleep(0.1)
    process.kill()
    process.communicate()

    home.run("sync", "stripe", *ONE_MONTH)
    (killed, done) = reversed(home.json("jobs"))
    assert (killed["status"], done["status"]) == ("failed", "delivered")
    assert home.left_behind() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_sync_ends_at_once_and_the_next_one_goes_on(
    home: Home, sandbox: Commands, number: signal.Signals
) -> None:
    """Dagster takes an interrupt for a failed step; the months after it were pulled as well."""
    process = home.start("sync", "stripe", "--from", "2025-01", "--to", MONTH)
    while sandbox.requests("stripe").get("/v1/invoices", 0) < 3:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 1
    assert stderr.splitlines()[-1].startswith("error: interrupted; the next run continues")
    broken = json.loads(home.run("broken", "--json", code=1).stdout)
    waiting = [row["period"] for row in broken if row["what"] == "not listed"]
    assert waiting[-1] == MONTH
    assert len(waiting) > 10
    assert home.left_behind() == []


@pytest.mark.timeout(600)
def test_killed_anywhere_and_run_again_a_sync_ends_in_the_same_ledger(
    home: Home, sandbox: Commands, live: Live
) -> None:
    home.run("period", "set", "2026-06")
    undisturbed = live.seconds
    seed = random.randrange(10**6)
    moments = random.Random(seed)

    for number in range(KILLS):
        # One in each third of a sync, so that both sources are hit.
        kill_after(home, undisturbed * (number + moments.random()) / KILLS)
    home.run("sync", *ONE_MONTH)

    why = f"the kills of random seed {seed}"
    jobs = home.json("jobs")
    assert delivered(jobs) == delivered(live.home.json("jobs")), why
    assert {job["status"] for job in jobs} <= {"failed", "delivered", "unchanged"}, why
    assert home.left_behind() == [], why
    target = home.folder / "ledger.zip"
    home.run("export", "--to", str(target))
    assert read_archive(target) == live.exported, why
    shown = ("source", "record_id", "line_id", "code", "message", "status")
    assert [[e[key] for key in shown] for e in home.json("errors")] == [
        [e[key] for key in shown] for e in live.home.json("errors")
    ], why
