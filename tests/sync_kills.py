"""`make kills`: `kill -9` of syncs, runs and the daemon's work at any moment, over all sources.

It takes six to twelve minutes, half as long as all other tests, so `make test` leaves it out.

The first wave ends in conversion files; then a period is set, and the second loads live. What was
killed is done once more and left alone. Then the ledger is what it is in a home that nobody
disturbed: the same export, byte for byte, and the same errors; so are the conversion files; and no
run hangs.
"""

import json
import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from conftest import Sandbox
from forked import Forks, forks

from revrec_pipeline.ledger import Ledger, accounting_periods, jobs, open_ledger
from revrec_pipeline.sources import SOURCES

MONTH = "2026-05"
SETTINGS = """\
[site]
timezone = "America/New_York"
history_start = "2026-04"
"""


@dataclass(frozen=True)
class Home:
    """A home, in which nothing was done yet."""

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
        return self

    @property
    def ledger(self) -> Ledger:
        """Its ledger, as the commands have it."""
        return open_ledger(f"duckdb:///{self.folder / 'home' / 'ledger.duckdb'}")

    def load_live(self) -> None:
        """Set a period; until then there are conversion files."""
        with self.ledger.transaction() as tx:
            accounting_periods.set_period(tx, MONTH)

    def files(self) -> dict[str, str]:
        """The hash of each conversion file, by name."""
        with self.ledger.transaction() as tx:
            files = [Path(file) for job in jobs.jobs(tx) for file in job["files"]]
        lake = self.folder / "home" / "lake"
        hashes = {one.name: sha256((lake / one).read_bytes()).hexdigest() for one in files}
        assert len(hashes) == len(files), f"something was delivered twice: {sorted(files)}"
        return hashes

    def waiting(self) -> list[int]:
        """Jobs with batches that nobody has delivered yet."""
        with self.ledger.transaction() as tx:
            return [job["id"] for job in jobs.jobs(tx) if job["status"] == "ready"]

    def hanging(self) -> list[str]:
        """Runs that have no end."""
        with closing(sqlite3.connect(self.folder / "home/dagster/history/runs.db")) as runs:
            ended = "('SUCCESS', 'FAILURE', 'CANCELED')"
            found = runs.execute(f"SELECT run_id FROM runs WHERE status NOT IN {ended}")
            return [run_id for (run_id,) in found]

    def do(self, children: Forks, kind: str, *arguments: str) -> float:
        """Do something undisturbed; returns the seconds that it took."""
        began = time.monotonic()
        children.start(kind, self.environment, *arguments)
        code = children.ended(within=240)
        faults = (self.folder / "log.faults").read_text()
        assert code == 0, (self.folder / "log").read_text()[-3000:] + faults
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
    assert kill(sandbox, children, tmp_path, each=7, waves=2) >= 100


def kill(sandbox: Sandbox, children: Forks, folder: Path, *, each: int, waves: int) -> int:
    """Kill every source's syncs, `each` times in a wave, and compare; returns how many kills."""
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    calm = Home(folder / "calm", sandbox.env).prepare()
    killed = Home(folder / "killed", sandbox.env).prepare()
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
    for wave in (listings, changes)[:waves]:
        if wave is changes:
            sandbox.command("story")
            sandbox.command("advance", seconds=4 * 3600)  # Sage Intacct lags by two
            calm.load_live()
            killed.load_live()
        for name, what in zip(SOURCES, wave, strict=True):
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
            if killed.waiting():
                # What a tick asked for that was killed, another asks for ten minutes later; a
                # command delivers it at once.
                killed.do(children, "command", "sync", name)
                assert killed.waiting() == []
        assert killed.told(children) == calm.told(children), f"seed {seed}"
        assert killed.files() == calm.files(), f"seed {seed}"
        assert killed.hanging() == []
    assert len(calm.files()) >= 2 * len(SOURCES)  # a workbook and an archive of each
    return kills
