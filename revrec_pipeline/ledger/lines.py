"""Live-loaded rows, one for each line of a document; a customer or product has one line.

Their columns are those of the canonical schemas (`revrec_pipeline.model`), without `excluded_by`,
plus the job and batch that loaded them. A line that went away keeps its row with `removed_at`.
"""

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal

import pyarrow as pa

from revrec_pipeline.errors import LedgerError
from revrec_pipeline.ledger import Arrow, Rows, Transaction, bulk, now
from revrec_pipeline.ledger.imports import NUMBERS
from revrec_pipeline.model import CANONICAL, OWN_SOURCES, RecordType, without_amount

#: The table of each record type.
TABLE = {
    RecordType.SALES: "order_line",
    RecordType.INVOICES: "billing_line",
    RecordType.COMMISSIONS: "expense_line",
    RecordType.DELIVERIES: "delivery_line",
    RecordType.CUSTOMERS: "customer",
    RecordType.PRODUCTS: "product",
}

_KEY = ("source", "record_type", "document_id", "line_id")


def columns(record_type: RecordType) -> list[str]:
    """The columns that a live-loaded row has from the canonical schema, in its order."""
    return [name for name in CANONICAL[record_type].names if name != "excluded_by"]


def upsert(
    tx: Transaction,
    record_type: RecordType,
    lines: Rows,
    *,
    job_id: int,
    at: datetime | None = None,
) -> int:
    """Load whole documents (canonical rows of one source, all lines of each). Returns the lines.

    A line that a loaded document had before and has no more is marked removed.

    Raises:
        LedgerError: two of the rows are one and the same line.
    """
    at = at or now()
    table, names = TABLE[record_type], columns(record_type)
    staged = tx.stage(lines)
    listed, key = ", ".join(names), ", ".join(_KEY)
    # On DuckDB no unique key would notice, for there an index does not fit in memory.
    twice = tx.one(f"SELECT {key} FROM {staged} GROUP BY {key} HAVING count(*) > 1 LIMIT 1")
    if twice:
        raise LedgerError(
            f"line {twice['line_id']} of {twice['source']} {twice['document_id']} is to be loaded "
            "twice, so nothing was; please report this"
        )
    tx.execute(f"DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {staged})")
    # What is left of these documents are the lines that they have no more.
    tx.execute(
        f"""
        UPDATE {table} SET removed_at = :at
        WHERE removed_at IS NULL AND (source, record_type, document_id) IN (
            SELECT source, record_type, document_id FROM {staged}
        )
        """,
        at=at,
    )
    return tx.execute(
        f"""
        INSERT INTO {table} ({listed}, job_id, batch_id, loaded_at)
        SELECT {listed}, :job_id, :job || '-' || period, :at FROM {staged}
        """,
        job_id=job_id,
        job=str(job_id),
        at=at,
    )


def remove(
    tx: Transaction,
    record_type: RecordType,
    *,
    source: str,
    documents: Arrow,
    at: datetime | None = None,
) -> int:
    """Mark all lines of these documents (a column `document_id`) removed. Returns the lines."""
    staged = tx.stage(documents)
    return tx.execute(
        f"""
        UPDATE {TABLE[record_type]} SET removed_at = :at
        WHERE source = :source AND record_type = :record_type AND removed_at IS NULL
            AND document_id IN (SELECT document_id FROM {staged})
        """,
        source=source,
        record_type=record_type,
        at=at or now(),
    )


def take_over(tx: Transaction, record_type: RecordType, lines: Rows, *, at: datetime) -> int:
    """Mark removed what files brought of these documents before their system did.

    A file's rows that name their system have that name and the number as `document_id` (see
    `imports.landing`). Returns the lines.
    """
    table = TABLE[record_type]
    if table not in NUMBERS:  # systems load none of these
        return 0
    staged = tx.stage(lines)
    return tx.execute(
        f"""
        UPDATE {table} SET removed_at = :at
        WHERE source IN {OWN_SOURCES} AND removed_at IS NULL AND document_id IN (
            SELECT concat(source, ':', {NUMBERS[table]}) FROM {staged}
        )
        """,
        at=at,
    )


def loaded(
    tx: Transaction, record_type: RecordType, *, source: str, at: datetime
) -> dict[str, tuple[int, Decimal]]:
    """Rows and amount of each currency (XXX: none) that count and were loaded at this instant."""
    found = tx.rows(
        f"""
        SELECT coalesce(currency, 'XXX') AS currency, count(*) AS rows,
            sum(coalesce(amount, 0)) AS amount
        FROM (SELECT *{without_amount(record_type)} FROM {TABLE[record_type]}) AS line
        WHERE source = :source AND record_type = :record_type AND loaded_at = :at
            AND removed_at IS NULL
        GROUP BY 1
        """,
        source=source,
        record_type=record_type,
        at=at,
    )
    return {row["currency"]: (row["rows"], row["amount"]) for row in found}


def read_active(tx: Transaction, record_type: RecordType) -> pa.RecordBatchReader:
    """The lines that count, in the canonical schema, ordered by source, document and line.

    The reader outlives the transaction; memory stays constant.
    """
    canonical = CANONICAL[record_type]
    stored = pa.schema(
        [
            field.with_type(pa.string()) if pa.types.is_map(field.type) else field
            for field in canonical
        ]
    )
    selected = ", ".join(
        "NULL::TEXT AS excluded_by" if name == "excluded_by" else name for name in stored.names
    )
    # The order of bytes, not that of a language: the same on every server.
    found = tx.read(
        f"""
        SELECT {selected} FROM {TABLE[record_type]} WHERE removed_at IS NULL
        ORDER BY source COLLATE "C", document_id COLLATE "C", line_id COLLATE "C"
        """,
        stored,
    )
    return pa.RecordBatchReader.from_batches(canonical, _with_maps(found, canonical))


def _with_maps(stored: pa.RecordBatchReader, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    selected = ", ".join(
        f"{name}::JSON::MAP(VARCHAR, VARCHAR) AS {name}"
        if pa.types.is_map(schema.field(name).type)
        else name
        for name in schema.names
    )
    with bulk.memory() as con:
        con.register("stored", stored)
        for batch in con.sql(f"SELECT {selected} FROM stored").to_arrow_reader(bulk.ROWS_PER_BLOCK):
            yield batch.cast(schema)
