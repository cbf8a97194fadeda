"""The ledger in PostgreSQL: transactions over a few connections that are kept open.

Isolation is READ COMMITTED. What must not happen twice at a time takes an advisory lock by name,
which the transaction's end gives back.
"""

import os
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, Literal

import psycopg2
import psycopg2.errors
import psycopg2.extensions
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from revrec_pipeline.errors import LedgerBusyError, LedgerError, SettingsError
from revrec_pipeline.ledger import bulk
from revrec_pipeline.ledger.migrate import migrate
from revrec_pipeline.ledger.parameters import bind

_KEPT = 4
_LOST = (psycopg2.OperationalError, psycopg2.InterfaceError)


class PostgresLedger:
    """A ledger in a PostgreSQL database, given as libpq's keywords."""

    def __init__(self, parameters: Mapping[str, str]) -> None:
        self._parameters = {"connect_timeout": "10", "application_name": "revrec", **parameters}
        user = parameters.get("user")
        self._name = (
            f"postgresql://{user + '@' if user else ''}"
            f"{parameters['host']}:{parameters['port']}/{parameters['dbname']}"
        )
        self._idle: deque[Any] = deque(maxlen=_KEPT)
        self._pid = os.getpid()

    @contextmanager
    def transaction(self, *, deadline: float = 30.0) -> Iterator["PostgresTransaction"]:
        """See `Ledger.transaction`."""
        con = self._begin(deadline)
        try:
            yield PostgresTransaction(con, self._name)
            with _the_world(self._name):
                con.commit()
        except BaseException:
            with suppress(*_LOST):
                con.rollback()
            raise
        finally:
            self._give_back(con)

    def close(self) -> None:
        """Close idle connections."""
        while (con := self._kept()) is not None:
            con.close()

    def _begin(self, deadline: float) -> Any:
        """A connection in a transaction: a kept one if the server still knows it, or a new one."""
        timeout = f"SET LOCAL lock_timeout = {max(1, round(deadline * 1000))}"
        while (con := self._kept()) is not None:
            try:
                con.cursor().execute(timeout)
            except _LOST:
                con.close()
            else:
                return con
        with _the_world(self._name):
            con = self._connect()
            con.cursor().execute(timeout)
            return con

    def _connect(self) -> Any:
        try:
            con = psycopg2.connect(**self._parameters)
        except psycopg2.ProgrammingError as error:  # an option that libpq does not know
            raise SettingsError(f"REVREC_LEDGER_URL: {_line(error)}") from error
        con.set_client_encoding("UTF8")
        tx = PostgresTransaction(con, self._name)
        tx.execute("SET TIME ZONE 'UTC'")
        migrate(tx, self._name)
        con.commit()
        return con

    def _kept(self) -> Any | None:
        if self._pid != os.getpid():
            # After a fork the sockets are the parent's. psycopg2 does not speak on them from here.
            self._idle, self._pid = deque(maxlen=_KEPT), os.getpid()
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _give_back(self, con: Any) -> None:
        if not con.closed and self._pid == os.getpid():
            self._idle.append(con)


class PostgresTransaction:
    """See `Transaction`."""

    dialect: ClassVar[Literal["duckdb", "postgresql"]] = "postgresql"

    def __init__(self, con: Any, name: str) -> None:
        self._con = con
        self._name = name
        self._names = (f"staged_{number}" for number in count(1))

    def rows(self, sql: str, **params: Any) -> list[dict[str, Any]]:
        """See `Transaction.rows`."""
        with self._run(sql, params) as cursor:
            if cursor.description is None:
                return []
            names = [column.name for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def one(self, sql: str, **params: Any) -> dict[str, Any] | None:
        """See `Transaction.one`."""
        return next(iter(self.rows(sql, **params)), None)

    def execute(self, sql: str, **params: Any) -> int:
        """See `Transaction.execute`."""
        with self._run(sql, params) as cursor:
            return max(0, int(cursor.rowcount))

    def load(self, table: str, arrow: pa.Table | pa.RecordBatchReader) -> int:
        """See `Transaction.load`."""
        statement = f"COPY {bulk.quoted(table)} ({bulk.names(arrow.schema)}) FROM STDIN"
        with _the_world(self._name), self._con.cursor() as cursor:
            cursor.copy_expert(statement, _Blocks(bulk.copy_text(arrow)))
            return int(cursor.rowcount)

    def stage(self, rows: pa.Table | pa.RecordBatchReader | Path) -> str:
        """See `Transaction.stage`."""
        if isinstance(rows, Path):
            with pq.ParquetFile(rows) as content:
                batches = content.iter_batches(bulk.ROWS_PER_BLOCK)
                return self.stage(pa.RecordBatchReader.from_batches(content.schema_arrow, batches))
        name = next(self._names)
        self.execute(f"CREATE TEMPORARY TABLE {name} ({bulk.columns(rows.schema)}) ON COMMIT DROP")
        self.load(name, rows)
        self.execute(f"ANALYZE {name}")  # else the planner takes a big table for a small one
        return name

    def read(self, sql: str, schema: pa.Schema, **params: Any) -> pa.RecordBatchReader:
        """See `Transaction.read`."""
        spool = tempfile.TemporaryFile()  # noqa: SIM115 - the reader keeps it
        with _the_world(self._name), self._con.cursor() as cursor:
            query = cursor.mogrify(*bind(sql, params, "psycopg2")).decode()
            cursor.copy_expert(f"COPY ({query}) TO STDOUT (FORMAT csv, HEADER true)", spool)
        spool.seek(0)
        return csv.open_csv(
            spool,
            read_options=csv.ReadOptions(block_size=16 << 20),  # a row must fit
            parse_options=csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
            convert_options=csv.ConvertOptions(
                column_types=schema,
                include_columns=schema.names,
                null_values=[""],  # unquoted; an empty text comes quoted
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                true_values=["t"],
                false_values=["f"],
            ),
        )

    def lock(self, name: str) -> None:
        """See `Transaction.lock`."""
        self.rows("SELECT pg_advisory_xact_lock(hashtext('revrec'), hashtext(:name))", name=name)

    @contextmanager
    def _run(self, sql: str, params: Mapping[str, Any]) -> Iterator[Any]:
        with _the_world(self._name), self._con.cursor() as cursor:
            cursor.execute(*bind(sql, params, "psycopg2"))
            yield cursor


class _Blocks:
    """Blocks of bytes as the file that COPY reads from."""

    def __init__(self, blocks: Iterator[memoryview]) -> None:
        self._blocks = blocks
        self._rest = memoryview(b"")

    def read(self, size: int) -> bytes:
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return b""
            self._rest = block
        piece, self._rest = self._rest[:size], self._rest[size:]
        return bytes(piece)


@contextmanager
def _the_world(name: str) -> Iterator[None]:
    """What the world did, in one line; what is wrong with a statement stays what it is."""
    try:
        yield
    except (psycopg2.errors.LockNotAvailable, psycopg2.errors.DeadlockDetected) as error:
        raise LedgerBusyError(
            f"the ledger {name} is held by another process; try again when that is done"
        ) from error
    except (*_LOST, psycopg2.errors.InsufficientPrivilege) as error:
        raise LedgerError(f"the ledger {name}: {_line(error)}") from error


def _line(error: psycopg2.Error) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
