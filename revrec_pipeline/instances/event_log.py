"""Dagster's event log in SQLite files, with a third of its CPU time taken out.

Dagster keeps a file for each run. It makes an engine for every connection, which compiles each
statement anew, and creates every file by DDL and Alembic: together a third of what a month's run
costs. Here one engine opens all files, and new ones are copies of the first. The files are the
same, so that either class reads what the other wrote.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Self

from dagster import StringSource
from dagster._config.config_schema import UserConfigSchema
from dagster._core.storage.event_log.sqlite.sqlite_event_log import (
    INDEX_SHARD_NAME,
    SqliteEventLogStorage,
)
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._serdes import ConfigurableClassData
from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import NullPool


class EventLog(SqliteEventLogStorage):
    """`SqliteEventLogStorage` with one engine; named in `embedded.yaml`."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._shard = INDEX_SHARD_NAME
        self._new_file: bytes | None = None
        self._engine = create_engine("sqlite://", creator=self._open, poolclass=NullPool)
        super().__init__(base_dir, inst_data)

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """`DAGSTER_HOME`; the files lie where Dagster's own class has them."""
        return {"home": StringSource}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> Self:
        """What Dagster calls with the block of `dagster.yaml`."""
        return cls(str(Path(config_value["home"], "history", "runs")), inst_data)

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(
            self.path_for_shard(self._shard),
            timeout=SQLITE_BUSY_TIMEOUT_SECONDS,
            check_same_thread=False,
        )

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        with self._db_lock:  # as the original: one connection at a time in a process
            self._shard = shard
            if shard not in self._initialized_dbs:
                self._create(shard)
                self._initialized_dbs.add(shard)
            with self._engine.connect() as connection, connection.begin():
                yield connection

    def _create(self, shard: str) -> None:
        file = Path(self.path_for_shard(shard))
        if self._new_file and not file.exists():
            with NamedTemporaryFile(dir=file.parent) as draft:
                draft.write(self._new_file)
                draft.flush()
                try:
                    file.hardlink_to(draft.name)
                except FileExistsError:  # another process was quicker
                    pass
                else:
                    return
        known = file.exists()
        self._initdb(self._engine)
        if not known and shard != INDEX_SHARD_NAME:
            with closing(self._open()) as connection:
                self._new_file = connection.serialize()
