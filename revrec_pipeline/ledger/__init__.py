"""The ledger: periods, jobs, batches, errors and live-loaded rows, behind one small interface.

Two back ends, a DuckDB file and PostgreSQL, with one schema (`migrations/`) and one wording of
every statement. What lives in this module is the interface and how a URL becomes a ledger; what the
tables mean is in the modules beside it, each a set of plain functions over a `Transaction`.
"""

from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, TypeAlias
from urllib.parse import parse_qsl, unquote, urlsplit

import pyarrow as pa

from revrec_pipeline.errors import SettingsError

#: What a bulk load accepts.
Arrow: TypeAlias = pa.Table | pa.RecordBatchReader
#: What may be staged: Arrow, or a Parquet file of any length.
Rows: TypeAlias = Arrow | Path

_HOW = "write duckdb:///folder/ledger.duckdb or postgresql://user:password@host:5432/database"


class Transaction(Protocol):
    """One transaction. Statements are SQL for both back ends, with `:name` parameters.

    A statement that is wrong raises the driver's own error, for that is a bug; what the world does
    to a transaction (a lost connection, a full disk) raises `LedgerError` with one line.
    """

    #: Whose SQL this is, where the two differ.
    dialect: ClassVar[Literal["duckdb", "postgresql"]]

    def rows(self, sql: str, **params: Any) -> list[dict[str, Any]]:
        """Every row that the statement returns."""

    def one(self, sql: str, **params: Any) -> dict[str, Any] | None:
        """The first row, or None."""

    def execute(self, sql: str, **params: Any) -> int:
        """Run a statement; returns how many rows it wrote."""

    def load(self, table: str, arrow: Arrow) -> int:
        """Append rows to `table` by column name; maps become JSON text. Returns how many."""

    def stage(self, rows: Rows) -> str:
        """The name of a new temporary table, gone with the transaction, that holds these rows.

        Rows of a file are streamed: memory does not grow with them.
        """

    def read(self, sql: str, schema: pa.Schema, **params: Any) -> pa.RecordBatchReader:
        """The rows of a query as `schema`, exact, in constant memory.

        They are spooled to a temporary file first, so the reader outlives the transaction.
        """

    def lock(self, name: str) -> None:
        """Wait until no other transaction holds `name`; held until this transaction ends."""


class Ledger(Protocol):
    """A database that gives out short transactions. Safe to share by threads, and after a fork."""

    def transaction(self, *, deadline: float = 30.0) -> AbstractContextManager[Transaction]:
        """One short transaction: committed when the block ends, rolled back when it raises.

        Never fetch, compute or write a file inside of it: on a DuckDB file it keeps everybody else
        out. Whoever cannot get in (or, in PostgreSQL, cannot get a lock) within `deadline` seconds
        gets a `LedgerBusyError`. A commit that raised may have happened: write idempotently.
        """

    def close(self) -> None:
        """Give back idle connections. The ledger may be used again."""


def now() -> datetime:
    """The time that the ledger writes when the caller gives none: UTC, to the microsecond."""
    return datetime.now(UTC)


def as_text(moment: datetime | None) -> str | None:
    """A time as the JSON that people see writes it: ISO 8601, in UTC, whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None


def open_ledger(url: str) -> Ledger:
    """The ledger at `url`, its schema created or brought up to date.

    `duckdb:///folder/ledger.duckdb` names an absolute path (with three slashes or four), because
    the command line, the daemon and its runs stand in different folders.

    Raises:
        SettingsError: the URL is none of these; the message never shows it.
        LedgerBusyError: other processes held the file for 30 seconds.
        LedgerError: it cannot be reached, or was written by a newer version of this program.
    """
    # Each back end brings its driver along, and a process needs one of them.
    if url.startswith("duckdb:///"):
        from revrec_pipeline.ledger.duckdb_file import DuckDBLedger

        ledger: Ledger = DuckDBLedger("/" + url.removeprefix("duckdb:///").lstrip("/"))
    else:
        from revrec_pipeline.ledger.postgres import PostgresLedger

        ledger = PostgresLedger(_connection_parameters(url))
    with ledger.transaction():
        pass  # the first transaction migrates
    return ledger


def _connection_parameters(url: str) -> dict[str, str]:
    """The URL as libpq's keywords. No message repeats a part: any may be the password."""
    try:
        parts = urlsplit(url)
        port = parts.port or 5432
    except ValueError:
        raise SettingsError(
            f"REVREC_LEDGER_URL: the port is not a number; {_HOW}, and percent-encode "
            "'/', '@', ':', '?' and '#' in the password"
        ) from None
    database = unquote(parts.path.lstrip("/"))
    if parts.scheme not in {"postgresql", "postgres"}:
        raise SettingsError(f"REVREC_LEDGER_URL is no ledger; {_HOW}")
    if not parts.hostname or not database or "/" in database or "@" in database:
        raise SettingsError(f"REVREC_LEDGER_URL names no host or no database; {_HOW}")
    parameters = {
        **dict(parse_qsl(parts.query)),
        "host": parts.hostname,
        "port": str(port),
        "dbname": database,
    }
    if parts.username:
        parameters["user"] = unquote(parts.username)
    if parts.password:
        parameters["password"] = unquote(parts.password)
    return parameters


__all__ = ["Arrow", "Ledger", "Rows", "Transaction", "as_text", "now", "open_ledger"]
