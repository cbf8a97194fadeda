"""Dagster's event log in SQLite files, with half of its CPU time taken out.

Dagster keeps a file for each run, and an index over all of them. It connects anew for every
statement or two, and creates every file by DDL and Alembic. Here connections stay open, what
belongs to an event or to a batch of events is one transaction in each file, and new files are
copies of the first. The files are the same, so that either class reads what the other wrote.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Self

from dagster import AssetKey, AssetRecordsFilter, EventLogEntry, EventRecordsResult, StringSource
from dagster._config.config_schema import UserConfigSchema
from dagster._core.events import ASSET_EVENTS
from dagster._core.storage.event_log.sqlite.sqlite_event_log import (
    INDEX_SHARD_NAME,
    SqliteEventLogStorage,
)
from dagster._serdes import ConfigurableClassData
from sqlalchemy import Connection

from revrec_pipeline.instances.sqlite_files import SqliteFiles


class EventLog(SqliteEventLogStorage):
    """`SqliteEventLogStorage` that keeps its connections; named in `embedded.yaml`."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._files = SqliteFiles(most=2)  # the index and the run
        self._new_file: bytes | None = None
        self._tables: set[str] = set()
        self._last: tuple[Any, EventRecordsResult] | None = None
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

    def store_event(self, event: EventLogEntry) -> None:
        """Store one event."""
        self.store_event_batch([event])

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store events, all or none; those of a run come before what the index says of them."""
        with ExitStack() as transactions:
            transactions.enter_context(self.index_connection())  # committed last
            for run_id in {event.run_id for event in events}:
                transactions.enter_context(self.run_connection(run_id))
            for event in events:
                if event.dagster_event_type in ASSET_EVENTS:
                    self._last = None
                super().store_event(event)

    def fetch_materializations(
        self,
        records_filter: AssetKey | AssetRecordsFilter,
        limit: int,
        cursor: str | None = None,
        ascending: bool = False,
    ) -> EventRecordsResult:
        """Materializations; each check of a month asks twice for that of the month."""
        with self.index_connection() as connection:
            # Changes whenever another connection, also of another process, has written.
            others = connection.exec_driver_sql("PRAGMA data_version").scalar()
            asked = (connection, others, records_filter, limit, cursor, ascending)
            if self._last is None or self._last[0] != asked:
                found = super().fetch_materializations(records_filter, limit, cursor, ascending)
                self._last = asked, found
            return self._last[1]

    def has_table(self, table_name: str) -> bool:
        """Whether the index has it; asked for with every check of every run."""
        if table_name not in self._tables and super().has_table(table_name):
            self._tables.add(table_name)
        return table_name in self._tables

    def delete_events_for_run(self, conn: Connection, run_id: str) -> None:
        """Remove a run's events."""
        self._last = None
        super().delete_events_for_run(conn, run_id)

    def wipe_asset(self, asset_key: AssetKey) -> None:
        """Remove an asset's events."""
        self._last = None
        super().wipe_asset(asset_key)

    def wipe(self) -> None:
        """Remove all events."""
        self._files.close()
        super().wipe()

    def dispose(self) -> None:
        """Let go of the files."""
        super().dispose()
        self._files.close()

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        file = self.path_for_shard(shard)
        if shard not in self._initialized_dbs:
            with self._files.alone(file):
                self._create(shard)
            self._initialized_dbs.add(shard)
        with self._files.transaction(file) as connection:
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
        self._initdb(self._files.engine)
        if not known and shard != INDEX_SHARD_NAME:
            with closing(sqlite3.connect(file)) as connection:
                self._new_file = connection.serialize()
