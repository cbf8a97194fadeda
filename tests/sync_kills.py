"""`make kills`: `kill -9` of syncs, runs and the daemon's work at any moment, over all sources.

It takes six to twelve minutes, half as long as all other tests, so `make test` leaves it out.

After each wave of kills the next attempt is left alone, and the ledger is what it is in a home that
nobody disturbed: the same export, byte for byte, and the same errors.
"""

import json
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import Sandbox
from forked import Forks, forks

from revrec_pipeline.ledger import accounting_periods, open_ledger
from revrec_pipeline.sources import SOURCES

#: At least so many in all; each wave of a source takes its share.
KILLS = 100
MONTH = "2026-05"
SETTINGS = """\
[site]
timezone = "America/New_York"
history_start = "2026-04"
"""


@dataclass(frozen=True)
class Home:
    """A home whose ledger has an accounting period, so that everything loads live."""

    folder: Path
    env: dict[str, str]

    @property
    def environment(self) -> dict[str, str]:
        """What its commands get."""
        return {
            **self.env,
            "REVREC_HOME": str(self.folder / "home"),
            "REVREC_CONFIG": str(self.folder / "revrec.toml"),
            "FORKED_LOG": str(self.folder / "log"),
        }

    def prepare(self) -> "Home":
        (self.folder / "home").mkdir(parents=True)
        (self.folder / "revrec.toml").write_text(SETTINGS)
        ledger = open_ledger(f"duckdb:///{self.folder / 'home' / 'ledger.duckdb'}")
        with ledger.transaction() as tx:
            accounting_periods.set_period(tx, MONTH)
        return self

    def do(self, children: Forks, kind: str, *arguments: str) -> float:
        """Do something undisturbed; returns the seconds that it took."""
        began = time.monotonic()
        children.start(kind, self.environment, *arguments)
        code = children.ended(within=240)
        if code == -signal.SIGSEGV:
            # Seen once in 480 children: a fork of a process with threads. One more kill.
            children.start(kind, self.environment, *arguments)
            code = children.ended(within=240)
        assert code == 0, (self.folder / "log").read_text()[-3000:]
        return time.monotonic() - began

    def told(self, children: Forks) -> tuple[bytes, list[Any]]:
        """All that the ledger tells: the export's bytes, and the errors."""
        target, listed = self.folder / "ledger.zip", self.folder / "errors.json"
        self.do(children, "command", "export", "--to", str(target))
        log = self.folder / "log"
        log.write_text("")
        self.do(children, "command", "errors", "--all", "--json")
        listed.write_text(log.read_text())
        shown = ("source", "record_type", "record_id", "line_id", "code", "message", "status")
        errors = [[str(e[k]) for k in shown] for e in json.loads(listed.read_text())]
        # A pull that was killed leaves an error of the pull, which the next one resolves.
        return target.read_bytes(), sorted(e for e in errors if not e[4].startswith("SYNC_"))


@pytest.fixture(scope="module")
def children() -> Iterator[Forks]:
    with forks() as process:
        yield process


@pytest.mark.timeout(2400)
def test_killed_a_hundred_times_the_ledger_is_that_of_an_undisturbed_run(
    sandbox: Sandbox, children: Forks, tmp_path: Path
) -> None:
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    calm = Home(tmp_path / "calm", sandbox.env).prepare()
    killed = Home(tmp_path / "killed", sandbox.env).prepare()
    each = -(-KILLS // (2 * len(SOURCES)))
    kills = 0
    listings, changes = [], []
    for number, name in enumerate(SOURCES):
        by_command = (
            ("command", "sync", name, "--from", MONTH, "--to", MONTH),
            ("command", "sync", name),
        )
        by_daemon = ("daemon", f"sync_{name}", MONTH), ("daemon", f"changes_{name}")
        # Each source is killed in a command and in the daemon's work, at one of the two.
        first, second = (by_command, by_daemon) if number % 2 else (by_daemon, by_command)
        listings.append(first[0])
        changes.append(second[1])
    for wave in (listings, changes):
        if wave is changes:
            sandbox.command("story")
            sandbox.command("advance", seconds=4 * 3600)  # Sage Intacct lags by two
        for what in wave:
            seconds = calm.do(children, *what)
            due = kills + each
            while kills < due:
                began = time.monotonic()
                child = children.start(what[0], killed.environment, *what[1:])
                if children.ended(within=chance.uniform(0, seconds)) is None:
                    kills += children.kill(child)
                else:  # what is left to do takes less time
                    seconds = min(seconds, time.monotonic() - began)
            killed.do(children, *what)
        assert killed.told(children) == calm.told(children), f"seed {seed}"
    assert kills >= KILLS
