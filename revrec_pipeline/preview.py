"""What a delivery would do, without doing it: `revrec sync --dry-run`."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pyarrow as pa

from revrec_pipeline import batch_rows
from revrec_pipeline.engine import engine
from revrec_pipeline.lake import Lake
from revrec_pipeline.ledger import Ledger, documents, jobs, outbox
from revrec_pipeline.ledger.outbox import Batch
from revrec_pipeline.model import RecordType, Route


class _RollBack(Exception):  # noqa: N818 - not an error: it ends a transaction that must not last
    pass


def preview(
    ledger: Ledger,
    lake: Lake,
    source: str,
    record_type: RecordType,
    months: Mapping[str, Path],
) -> pa.Table:
    """The documents that delivering these months would add, change or remove.

    `months` maps a month to its batch's folder in the lake. The columns are `change`,
    `document_id`, `period` and `line_count`. It compares as a delivery does, in a transaction that
    is rolled back.
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
    comparison: list[pa.Table] = []
    with lake.scratch() as scratch, engine(scratch / "spill") as db:
        batch_rows.open_rows(db, lake.root, batches)
        arriving = batch_rows.incoming(db, record_type)
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
            comparison.append(
                documents.compare(
                    tx, source=source, record_type=record_type, batches=built, incoming=arriving
                )
            )
            raise _RollBack
        db.register("comparison", comparison[0])
        return db.sql(
            "SELECT change, document_id, period, line_count FROM comparison "
            "WHERE change <> 'unchanged' ORDER BY ALL"
        ).to_arrow_table()
