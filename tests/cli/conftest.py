"""Homes for the tests of the command line; what a home is, is in `command_line`."""

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import MONTH, SETTINGS, SOURCES, Commands, Home, Live, Synced
from conversion_files import read_archive


@pytest.fixture
def home(sandbox: Commands, tmp_path: Path) -> Home:
    """A new home, two of whose sources point at the sandbox."""
    made = Home(tmp_path, sandbox.only(*SOURCES))
    made.configure(SETTINGS)
    return made


def made_once(
    factory: pytest.TempPathFactory, name: str, make: Callable[[Path], list[Any]]
) -> tuple[Path, list[Any]]:
    """A copy of the folder that `make` fills, and what it returns; one worker makes it for all."""
    base = factory.getbasetemp()
    made = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"{name}-made-once"
    told = made.with_suffix(".json")
    with made.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not told.exists():
            shutil.rmtree(made, ignore_errors=True)  # of one that failed
            made.mkdir()
            told.write_text(json.dumps(make(made)))
    own = factory.mktemp(name)
    shutil.copytree(made, own, dirs_exist_ok=True)
    return own, json.loads(told.read_text().replace(str(made), str(own)))


@pytest.fixture(scope="session")
def first_sync(_sandbox: Commands, tmp_path_factory: pytest.TempPathFactory) -> Synced:
    """One month of both sources, delivered into conversion files. Only to be read."""

    def make(folder: Path) -> list[Any]:
        _sandbox.command("reset")
        made = Home(folder, _sandbox.only(*SOURCES))
        made.configure(SETTINGS)
        # One after the other, so that jobs have known numbers.
        done = [made.run("sync", source, "--from", MONTH, "--to", MONTH) for source in SOURCES]
        return ["".join(d.stdout for d in done), "".join(d.stderr for d in done)]

    folder, (stdout, stderr) = made_once(tmp_path_factory, "first_sync", make)
    return Synced(Home(folder, _sandbox.only(*SOURCES)), stdout, stderr)


@pytest.fixture
def synced(first_sync: Synced, sandbox: Commands, tmp_path: Path) -> Home:
    """A copy of it, to change."""
    return first_sync.home.copy(tmp_path)


@pytest.fixture(scope="session")
def live(_sandbox: Commands, tmp_path_factory: pytest.TempPathFactory) -> Live:
    """The same month loaded live. Only to be read."""

    def make(folder: Path) -> list[Any]:
        _sandbox.command("reset")
        made = Home(folder, _sandbox.only(*SOURCES))
        made.configure(SETTINGS)
        made.run("period", "set", "2026-06")
        seconds = 0.0
        for source in SOURCES:
            process = made.start("sync", source, "--from", MONTH, "--to", MONTH)
            assert process.stderr
            process.stderr.readline()
            began = time.monotonic()
            said = process.communicate(timeout=240)
            assert process.returncode == 0, said
            seconds += time.monotonic() - began
        made.run("export", "--to", str(folder / "ledger.zip"))
        return [seconds]

    folder, (seconds,) = made_once(tmp_path_factory, "live", make)
    home = Home(folder, _sandbox.only(*SOURCES))
    return Live(home, seconds, read_archive(folder / "ledger.zip"))
