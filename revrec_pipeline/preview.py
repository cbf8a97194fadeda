"""What a delivery would do, without doing it: `revrec sync --dry-run`."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from revrec_pipeline import batch_files, batch_rows
from revrec_pipeline.engine import engine
from revrec_pipeline.lake import Lake
from revrec_pipeline.ledger import Ledger, documents, jobs, outbox
from revrec_pipeline.ledger.outbox import Batch
from revrec_pipeline.model import CANONICAL, RecordType, Route, without_amount


class _RollBack(Exception):  # noqa: N818 - not an error: it ends a transaction that must not last
    pass


@dataclass(frozen=True, slots=True)
class Preview:
    """What would be delivered; all tables are ordered."""

    #: change (added, changed, removed), document_id, period, line_count.
    documents: pa.Table
    #: Of changed documents, each value that differs: document_id, line_id, field, before, after.
    #: The field of a line that is new or gone is `line`.
    fields: pa.Table
    #: change, currency, and the amount before and after.
    totals: pa.Table


def preview(
    ledger: Ledger,
    lake: Lake,
    source: str,
    record_type: RecordType,
    months: Mapping[str, Path],
) -> Preview:
    """What delivering these months would add, change or remove.

    `months` maps a month to its batch's folder in the lake. It compares as a delivery does, in a
    transaction that is rolled back.
    """
    batches = [
        Batch(
            id=f"preview-{period}",
            job_id=0,
            source=source,
            record_type=record_type,
            period=period,
            route=Route.CONVERSION,
            sequence=0,
            content_hash=path.name,
            path=str(path),
        )
        for period, path in sorted(months.items())
    ]
    found: list[tuple[pa.Table, list[Path]]] = []
    with lake.scratch() as scratch, engine(scratch / "spill") as db:
        batch_rows.open_documents(db, lake.root, batches)
        arriving = batch_rows.incoming(db, scratch / "arriving.parquet")
        with suppress(_RollBack), ledger.transaction() as tx:
            job_id = jobs.open_job(
                tx,
                sync_key="preview",
                source=source,
                record_type=record_type,
                name="preview",
                trigger="preview",
            )
            built = {}
            for batch in batches:
                outbox.put_batch(
                    tx,
                    job_id=job_id,
                    source=source,
                    record_type=record_type,
                    period=batch.period,
                    content_hash=batch.content_hash,
                    path=batch.path,
                    totals=(),
                )
                built[batch.period] = outbox.batch_id(job_id, batch.period)
            comparison = documents.compare(
                tx, source=source, record_type=record_type, batches=built, incoming=arriving
            ).read_all()
            delivered = tx.rows(
                "SELECT DISTINCT path FROM document JOIN batch ON batch.id = document.batch_id "
                "WHERE document.source = :source AND document.record_type = :record_type "
                "ORDER BY path",
                source=source,
                record_type=record_type,
            )
            folders = [lake.root / row["path"] for row in delivered]
            there = [one for one in folders if batch_files.is_there(lake.root, one)]
            found.append((comparison, there))
            raise _RollBack
        comparison, folders = found[0]
        pq.write_table(comparison, scratch / "comparison.parquet")
        batch_rows.choose(db, lake.root, record_type, scratch / "comparison.parquet")
        _open_both_sides(db, lake, record_type, folders)
        return Preview(
            db.sql(
                "SELECT change, document_id, period, line_count FROM comparison "
                "WHERE change <> 'unchanged' ORDER BY ALL"
            ).to_arrow_table(),
            db.sql(_fields(record_type)).to_arrow_table(),
            db.sql(_TOTALS).to_arrow_table(),
        )


def _open_both_sides(
    db: duckdb.DuckDBPyConnection, lake: Lake, record_type: RecordType, delivered: list[Path]
) -> None:
    """Create the rows `before` and `after` of the documents that would change."""
    rows = "(SELECT NULL::VARCHAR AS folder, * FROM outgoing LIMIT 0)"
    if delivered:
        stored = batch_files.table(lake.root, delivered, "rows")
        rows = f"(SELECT *{without_amount(record_type)} FROM {stored})"
    # A document's newest delivered rows: files of several batches may hold it.
    db.execute(
        f"""
        CREATE TABLE before AS
        SELECT rows.*, change FROM {rows} AS rows
        JOIN (FROM comparison WHERE change IN ('changed', 'removed')) AS one USING (document_id)
        WHERE excluded_by IS NULL
        QUALIFY rank() OVER (
            PARTITION BY document_id ORDER BY source_version DESC, raw_batch DESC, folder DESC
        ) = 1
        """
    )
    db.execute(
        """
        CREATE TABLE after AS SELECT outgoing.*, change FROM outgoing
        JOIN (FROM comparison WHERE change IN ('added', 'changed')) AS one
            USING (batch_id, document_id)
        """
    )


_TOTALS = """
SELECT change, currency, sum(was)::DECIMAL(18, 4) AS before, sum(becomes)::DECIMAL(18, 4) AS after
FROM (
    SELECT change, coalesce(currency, 'XXX') AS currency, amount AS was, 0 AS becomes FROM before
    UNION ALL
    SELECT change, coalesce(currency, 'XXX'), 0, amount FROM after
) GROUP BY ALL ORDER BY ALL
"""


def _fields(record_type: RecordType) -> str:
    names = [name for name in CANONICAL[record_type].names if name not in batch_rows.UNHASHED]
    names.remove("line_id")
    texts = ", ".join(f"coalesce({name}::VARCHAR, '') AS {name}" for name in names)

    def side(table: str) -> str:
        return f"""
            (UNPIVOT (
                SELECT document_id, line_id, 'yes' AS line, {texts} FROM {table}
                WHERE change = 'changed'
            ) ON line, {", ".join(names)} INTO NAME field VALUE value)
        """

    return f"""
        WITH was AS {side("before")}, becomes AS {side("after")}, new_line AS (
            SELECT document_id, line_id FROM becomes WHERE field = 'line'
            EXCEPT SELECT document_id, line_id FROM was WHERE field = 'line'
        ), gone_line AS (
            SELECT document_id, line_id FROM was WHERE field = 'line'
            EXCEPT SELECT document_id, line_id FROM becomes WHERE field = 'line'
        )
        SELECT document_id, line_id, field, nullif(was.value, '') AS before,
            nullif(becomes.value, '') AS after
        FROM was JOIN becomes USING (document_id, line_id, field)
        WHERE was.value IS DISTINCT FROM becomes.value
        UNION ALL SELECT document_id, line_id, 'line', NULL, 'new' FROM new_line
        UNION ALL SELECT document_id, line_id, 'line', 'there', NULL FROM gone_line
        ORDER BY ALL
    """
