"""Dagster's list of runs in a SQLite file, by a connection that stays open."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from dagster import StringSource
from dagster._config.config_schema import UserConfigSchema
from dagster._core.storage.runs.sqlite.sqlite_run_storage import SqliteRunStorage
from dagster._serdes import ConfigurableClassData
from sqlalchemy import Connection

from revrec_pipeline.instances.sqlite_files import SqliteFiles


class RunStorage(SqliteRunStorage):
    """`SqliteRunStorage` that keeps its connection; named in `embedded.yaml`."""

    def __init__(self, conn_string: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._files = SqliteFiles(most=1)
        super().__init__(conn_string, inst_data)

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """`DAGSTER_HOME`; the file lies where Dagster's own class has it."""
        return {"home": StringSource}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> Self:
        """What Dagster calls with the block of `dagster.yaml`."""
        return cls.from_local(str(Path(config_value["home"], "history")), inst_data)

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """One transaction."""
        with self._files.transaction(self._conn_string.removeprefix("sqlite:///")) as connection:
            yield connection

    def dispose(self) -> None:
        """Let go of the file."""
        super().dispose()
        self._files.close()
