"""Connections to Dagster's SQLite files that a process keeps open.

Dagster makes an engine and a connection for each statement or two: a month's run opened and closed
300. Each closing also moves the write-ahead log into the file, and each opening reads the schema.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import NullPool

# Closing what a fork has copied could take the locks of the parent for its own.
_inherited: list[dict[str, tuple[int, Connection]]] = []


class SqliteFiles:
    """The files used last stay open, so many of them as `most` says. Safe to share by threads."""

    def __init__(self, *, most: int) -> None:
        self.engine = create_engine("sqlite://", creator=self._connect, poolclass=NullPool)
        self._most = most
        self._file = ""
        self._begin()

    @contextmanager
    def transaction(self, file: str) -> Iterator[Connection]:
        """One transaction on a file; inside of another one on the same file, a part of that."""
        if self._process != os.getpid():
            _inherited.append(self._open)
            self._begin()
        with self._lock:
            connection = self._connection(file)
            if connection.in_transaction():
                yield connection
                return
            try:
                with connection.begin():
                    yield connection
            except BaseException:  # whatever state it is in
                self._drop(file)
                raise

    @contextmanager
    def alone(self, file: str) -> Iterator[None]:
        """Have `engine` connect to this file meanwhile."""
        with self._lock:
            self._file = file
            yield

    def close(self) -> None:
        """Let go of all files."""
        with self._lock:
            for file in list(self._open):
                self._drop(file)

    def _begin(self) -> None:
        self._process = os.getpid()
        self._lock = RLock()
        self._open: dict[str, tuple[int, Connection]] = {}  # with the inode; the last used is last

    def _connection(self, file: str) -> Connection:
        # A home may be removed and made anew while Dagster runs on it: `revrec demo` does that.
        if file in self._open and self._open[file][0] != _inode(file):
            self._drop(file)
        if file in self._open:
            self._open[file] = self._open.pop(file)
            return self._open[file][1]
        idle = [name for name, (_, one) in self._open.items() if not one.in_transaction()]
        for name in idle[: max(0, len(self._open) + 1 - self._most)]:
            self._drop(name)
        with self.alone(file):
            connection = self.engine.connect()
        self._open[file] = (_inode(file), connection)
        return connection

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._file, timeout=SQLITE_BUSY_TIMEOUT_SECONDS, check_same_thread=False
        )
        # A commit then waits for no disk. Killed processes lose nothing; a power failure may take
        # the last records of Dagster, and what was delivered is known from the ledger.
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    def _drop(self, file: str) -> None:
        _, connection = self._open.pop(file)
        connection.close()


def _inode(file: str) -> int:
    try:
        return os.stat(file).st_ino  # noqa: PTH116 - 250 times a run
    except FileNotFoundError:
        return 0
