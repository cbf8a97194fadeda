"""The delivered state: which documents went out, by file or live, and with what content.

It answers what a batch adds, changes and removes. The rows themselves are in the lake and, when
they were loaded live, in `lines`.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

import pyarrow as pa

from revrec_pipeline.ledger import Rows, Transaction, now
from revrec_pipeline.ledger.outbox import Batch
from revrec_pipeline.model import Route

#: The documents of the months to deliver. `hash` is null for one that is held back: it stays as it
#: is.
INCOMING = pa.schema(
    [
        ("document_id", pa.string()),
        ("period", pa.string()),
        ("hash", pa.string()),
        ("line_count", pa.int32()),
    ]
)
#: What becomes of each: `change` is added, changed, unchanged or removed.
COMPARISON = pa.schema(
    [
        ("document_id", pa.string()),
        ("period", pa.string()),
        ("batch_id", pa.string()),  # for a removed one, the batch that noticed
        ("change", pa.string()),
        ("hash", pa.string()),
        ("line_count", pa.int32()),  # for a removed one, as delivered
    ]
)


def compare(
    tx: Transaction, *, source: str, record_type: str, batches: Mapping[str, str], incoming: Rows
) -> pa.RecordBatchReader:
    """What delivering `incoming` would do, as a COMPARISON ordered by document and month.

    `batches` maps each month that is delivered to its batch id (see `by_period`). A document of
    such a month that was delivered before and is not in `incoming` was removed. A document that two
    months hold, because it moved between two builds, belongs to the one built last; in the other it
    counts as unchanged. Held-back documents are left out: what was delivered of them stays.
    """
    staged = tx.stage(incoming)
    built = tx.stage(
        pa.table(
            {"period": list(batches), "batch_id": list(batches.values())},
            schema=pa.schema([("period", pa.string()), ("batch_id", pa.string())]),
        )
    )
    return tx.read(
        f"""
        WITH arriving AS (
            SELECT document_id, staged.period, hash, line_count, batch.id AS batch_id, sequence,
                row_number() OVER (PARTITION BY document_id ORDER BY sequence DESC) AS place
            FROM {staged} AS staged
            JOIN {built} AS built ON built.period = staged.period
            JOIN batch ON batch.id = built.batch_id
        ), delivered AS (
            SELECT * FROM document WHERE source = :source AND record_type = :record_type
        )
        SELECT arriving.document_id, arriving.period, arriving.batch_id,
            CASE
                WHEN place > 1 OR delivered.sequence > arriving.sequence THEN 'unchanged'
                WHEN delivered.document_id IS NULL THEN 'added'
                WHEN delivered.hash = arriving.hash AND delivered.period = arriving.period
                    THEN 'unchanged'
                ELSE 'changed'
            END AS change,
            arriving.hash, arriving.line_count
        FROM arriving LEFT JOIN delivered ON delivered.document_id = arriving.document_id
        WHERE arriving.hash IS NOT NULL
        UNION ALL
        SELECT delivered.document_id, delivered.period, batch.id, 'removed', delivered.hash,
            delivered.line_count
        FROM delivered
        JOIN {built} AS built ON built.period = delivered.period
        JOIN batch ON batch.id = built.batch_id AND batch.sequence >= delivered.sequence
        WHERE NOT EXISTS (
            SELECT 1 FROM {staged} AS staged WHERE staged.document_id = delivered.document_id
        )
        ORDER BY 1, 2
        """,
        COMPARISON,
        source=source,
        record_type=record_type,
    )


def by_period(claimed: Sequence[Batch]) -> dict[str, str]:
    """Month → batch id."""
    return {batch.period: batch.id for batch in claimed}


def record(
    tx: Transaction,
    *,
    source: str,
    record_type: str,
    route: Route,
    comparison: Rows,
    at: datetime | None = None,
) -> None:
    """Make the comparison the delivered state, and list the removed documents under their batch."""
    staged = tx.stage(comparison)
    scope = {"source": source, "record_type": record_type}
    tx.execute(
        f"""
        INSERT INTO document (source, record_type, document_id, period, hash, line_count, sequence,
            batch_id, route, delivered_at)
        SELECT :source, :record_type, document_id, staged.period, hash, line_count, sequence,
            batch_id, :route, :at
        FROM {staged} AS staged JOIN batch ON batch.id = staged.batch_id
        WHERE change IN ('added', 'changed')
        ON CONFLICT (source, record_type, document_id) DO UPDATE SET period = excluded.period,
            hash = excluded.hash, line_count = excluded.line_count,
            sequence = excluded.sequence, batch_id = excluded.batch_id,
            route = excluded.route, delivered_at = excluded.delivered_at
        """,
        **scope,
        route=route,
        at=at or now(),
    )
    # An unchanged document was confirmed by this build: an older one must not overwrite it later.
    tx.execute(
        f"""
        UPDATE document SET sequence = batch.sequence
        FROM {staged} AS staged JOIN batch ON batch.id = staged.batch_id
        WHERE document.source = :source AND document.record_type = :record_type
            AND document.document_id = staged.document_id AND staged.change = 'unchanged'
            AND document.hash = staged.hash AND document.period = staged.period
            AND document.sequence < batch.sequence
        """,
        **scope,
    )
    tx.execute(
        f"""
        INSERT INTO removed_document (batch_id, document_id, period)
        SELECT batch_id, document_id, period FROM {staged} WHERE change = 'removed'
        ON CONFLICT (batch_id, document_id) DO NOTHING
        """
    )
    tx.execute(
        f"""
        DELETE FROM document WHERE source = :source AND record_type = :record_type
            AND document_id IN (SELECT document_id FROM {staged} WHERE change = 'removed')
        """,
        **scope,
    )
