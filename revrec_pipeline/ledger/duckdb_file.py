"""The ledger in a DuckDB file: attach, one transaction, detach.

DuckDB lets one process hold a file, so nobody may keep it: a transaction attaches the file, and
whoever finds it taken waits with a growing, jittered back-off. The file's lock is also what makes
transactions serial; they need no other. (Measured in reference/dagster.md section 11.)

What a process does keep is the engine, an empty database in memory: starting one costs 25 CPU ms,
attaching a file to it 6.
"""

import atexit
import os
import random
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, Literal

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from revrec_pipeline.engine import MEMORY_LIMIT
from revrec_pipeline.errors import LedgerBusyError, LedgerError
from revrec_pipeline.ledger import bulk
from revrec_pipeline.ledger.migrate import migrate
from revrec_pipeline.ledger.parameters import bind

_LOCKED = "Could not set lock on file"
# Seen in 2 of 2,000 transactions while others opened and closed the file.
_CUT_SHORT = "Could not read enough bytes"
# What a full disk looks like, when it is the checkpoint of a large commit that meets it.
_NOT_COMMITTED = "Failed to commit"
_HOLDER = re.compile(r"held in (?P<program>.+?) \(PID (?P<pid>\d+)\)")
_FIRST_WAIT, _LONGEST_WAIT = 0.005, 0.25
# What does not fit goes to `<file>.tmp`. Merging a million lines took as long as without a limit.
_BOUNDED = {"memory_limit": MEMORY_LIMIT, "threads": "2"}

# Two connections of one process to one file would share a database, and with it the transaction's
# fate; and a fork in the middle of a transaction would leave the child a database it does not hold.
_one_at_a_time = threading.RLock()
_inside = False
_engine: duckdb.DuckDBPyConnection | None = None
_engine_of: str | None = None


def _prepare_fork() -> None:
    _one_at_a_time.acquire()
    if not _inside:
        _stop_engine()  # a fork does not copy its threads, and a child could not even end it


def _stop_engine() -> None:
    global _engine
    if _engine is not None:
        _engine.close()
    _engine = None


os.register_at_fork(
    before=_prepare_fork,
    after_in_parent=_one_at_a_time.release,
    after_in_child=_one_at_a_time.release,
)
# DuckDB's binding complains on standard error of what is open when the interpreter ends.
atexit.register(_stop_engine)


class DuckDBLedger:
    """A ledger in one file. It holds nothing open between transactions."""

    def __init__(self, path: str) -> None:
        self._path = path

    @contextmanager
    def transaction(self, *, deadline: float = 30.0) -> Iterator["DuckDBTransaction"]:
        """See `Ledger.transaction`."""
        until = time.monotonic() + deadline
        with self._alone(deadline):
            con = self._connect(until)
            tx = DuckDBTransaction(con, self._path)
            try:
                versions = _versions(tx)
                tx.execute("BEGIN")
                migrate(tx, self._path, versions)
                yield tx
                tx.execute("COMMIT")
                tx.execute("USE memory")
                tx.execute("DETACH ledger")
            except BaseException:
                with suppress(duckdb.Error):  # a failed COMMIT has rolled back already
                    con.rollback()
                _stop_engine()  # it lets go of the file, whatever state that is in
                raise
            finally:
                con.close()

    def close(self) -> None:
        """There is nothing to give back."""

    @contextmanager
    def _alone(self, deadline: float) -> Iterator[None]:
        global _inside
        if not _one_at_a_time.acquire(timeout=deadline):
            raise LedgerBusyError(
                f"the ledger {self._path} is held by another thread of this process; try again"
            )
        try:
            if _inside:
                raise RuntimeError("a transaction of the ledger was begun inside of another")
            _inside = True
            try:
                yield
            finally:
                _inside = False
        finally:
            _one_at_a_time.release()

    def _connect(self, until: float) -> duckdb.DuckDBPyConnection:
        wait, path = _FIRST_WAIT, self._path.replace("'", "''")
        while True:
            con = _engines_connection(self._path)
            try:
                con.execute(f"ATTACH '{path}' AS ledger (TYPE duckdb)")
                con.execute("USE ledger")
            except duckdb.IOException as error:
                con.close()
                if _LOCKED not in str(error) and _CUT_SHORT not in str(error):
                    raise LedgerError(f"the ledger {self._path}: {_line(error)}") from error
                if time.monotonic() >= until:
                    raise self._busy(error) from error
            else:
                return con
            # Not for secrecy: jitter keeps the waiting processes from knocking together.
            time.sleep(min(random.uniform(wait / 2, wait), max(0.0, until - time.monotonic())))  # noqa: S311
            wait = min(wait * 2, _LONGEST_WAIT)

    def _busy(self, error: duckdb.Error) -> LedgerBusyError:
        if _CUT_SHORT in str(error):
            return LedgerBusyError(
                f"the ledger {self._path} is being written by others, or is damaged; "
                f"try again ({_line(error)})"
            )
        holder = _HOLDER.search(str(error))
        by = f" by process {holder['pid']} ({holder['program']})" if holder else ""
        return LedgerBusyError(f"the ledger {self._path} is held{by}; try again when that is done")


def _engines_connection(path: str) -> duckdb.DuckDBPyConnection:
    """A connection of its own to this process's engine, which spills beside the file at `path`."""
    global _engine, _engine_of
    if _engine is None or _engine_of != path:
        _stop_engine()
        spill = {"temp_directory": f"{path}.tmp"}
        _engine = duckdb.connect(config={**bulk.NO_EXTENSIONS, **_BOUNDED, **spill})
        _engine_of = path
    con = _engine.cursor()
    con.execute("SET TimeZone = 'UTC'")
    con.execute("SET enable_progress_bar = false")  # it goes to stdout, after 2 s
    return con


class DuckDBTransaction:
    """See `Transaction`."""

    dialect: ClassVar[Literal["duckdb", "postgresql"]] = "duckdb"

    def __init__(self, con: duckdb.DuckDBPyConnection, path: str) -> None:
        self._con = con
        self._path = path
        self._names = (f"staged_{number}" for number in count(1))

    def rows(self, sql: str, **params: Any) -> list[dict[str, Any]]:
        """See `Transaction.rows`."""
        with _the_world(self._path):
            found = self._con.execute(*bind(sql, params, "duckdb"))
            names = [column[0] for column in found.description or ()]
            return [dict(zip(names, map(_in_utc, row), strict=True)) for row in found.fetchall()]

    def one(self, sql: str, **params: Any) -> dict[str, Any] | None:
        """See `Transaction.one`."""
        return next(iter(self.rows(sql, **params)), None)

    def execute(self, sql: str, **params: Any) -> int:
        """See `Transaction.execute`."""
        return sum(row.get("Count", 0) for row in self.rows(sql, **params))

    def load(self, table: str, arrow: pa.Table | pa.RecordBatchReader) -> int:
        """See `Transaction.load`."""
        schema = arrow.schema
        self._con.register("arriving", arrow)
        try:
            return self.execute(
                f"INSERT INTO {bulk.quoted(table)} ({bulk.names(schema)}) "
                f"SELECT {bulk.expressions(schema)} FROM arriving"
            )
        finally:
            self._con.unregister("arriving")

    def stage(self, rows: pa.Table | pa.RecordBatchReader | Path) -> str:
        """See `Transaction.stage`."""
        name = next(self._names)
        if isinstance(rows, Path):  # which is read where it is
            schema = pq.read_schema(rows)
            self.execute(
                f"CREATE TEMPORARY VIEW {name} ({bulk.names(schema)}) AS "
                f"SELECT {bulk.expressions(schema)} FROM read_parquet({bulk.literal(str(rows))})"
            )
            return name
        self.execute(f"CREATE TEMPORARY TABLE {name} ({bulk.columns(rows.schema)})")
        self.load(name, rows)
        return name

    def read(self, sql: str, schema: pa.Schema, **params: Any) -> pa.RecordBatchReader:
        """See `Transaction.read`."""
        spool = tempfile.TemporaryFile()  # noqa: SIM115 - the reader keeps it
        with _the_world(self._path), pa.ipc.new_stream(spool, schema) as stream:
            query, values = bind(sql, params, "duckdb")
            found = self._con.sql(query, params=values)
            for batch in found.to_arrow_reader(bulk.ROWS_PER_BLOCK):
                stream.write_batch(batch.cast(schema))
        spool.seek(0)
        return pa.ipc.open_stream(spool)

    def lock(self, name: str) -> None:
        """Nothing to do: this transaction holds the whole file."""


def _versions(tx: DuckDBTransaction) -> set[int]:
    """The migrations that the attached file has; nobody can give it others meanwhile.

    Asked for before the transaction, which a failure would end: to ask the catalog first whether
    there is such a table takes four times as long.
    """
    try:
        return {row["version"] for row in tx.rows("SELECT version FROM schema_version")}
    except duckdb.CatalogException:  # a new file
        return set()


@contextmanager
def _the_world(path: str) -> Iterator[None]:
    try:
        yield
    except (duckdb.IOException, duckdb.FatalException, duckdb.OutOfMemoryException) as error:
        raise LedgerError(f"the ledger {path}: {_line(error)}") from error
    except duckdb.TransactionException as error:
        if _NOT_COMMITTED not in str(error):  # then it is a statement that is wrong
            raise
        raise LedgerError(f"the ledger {path}: {_line(error)}") from error


def _line(error: duckdb.Error) -> str:
    return str(error).splitlines()[0]


def _in_utc(value: Any) -> Any:
    return value.astimezone(UTC) if isinstance(value, datetime) else value
