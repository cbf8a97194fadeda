"""Homes for the tests of the command line; what a home is, is in `command_line`."""

import time
from pathlib import Path

import pytest
from command_line import MONTH, SETTINGS, SOURCES, Commands, Home, Live, Synced
from conversion_files import read_archive


@pytest.fixture
def home(sandbox: Commands, tmp_path: Path) -> Home:
    """A new home, two of whose sources point at the sandbox."""
    made = Home(tmp_path, sandbox.only(*SOURCES))
    made.configure(SETTINGS)
    return made


@pytest.fixture(scope="session")
def first_sync(_sandbox: Commands, tmp_path_factory: pytest.TempPathFactory) -> Synced:
    """One month of both sources, delivered into conversion files. Only to be read."""
    _sandbox.command("reset")
    made = Home(tmp_path_factory.mktemp("first_sync"), _sandbox.only(*SOURCES))
    made.configure(SETTINGS)
    # One after the other, so that jobs have known numbers.
    done = [made.run("sync", source, "--from", MONTH, "--to", MONTH) for source in SOURCES]
    return Synced(made, "".join(d.stdout for d in done), "".join(d.stderr for d in done))


@pytest.fixture
def synced(first_sync: Synced, sandbox: Commands, tmp_path: Path) -> Home:
    """A copy of it, to change."""
    return first_sync.home.copy(tmp_path)


@pytest.fixture(scope="session")
def live(_sandbox: Commands, tmp_path_factory: pytest.TempPathFactory) -> Live:
    """The same month loaded live. Only to be read."""
    _sandbox.command("reset")
    made = Home(tmp_path_factory.mktemp("live"), _sandbox.only(*SOURCES))
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
    target = made.folder / "ledger.zip"
    made.run("export", "--to", str(target))
    return Live(made, seconds, read_archive(target))
