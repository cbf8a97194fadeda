"""The rows of claimed batches: which may go out, what they say, what they sum to.

What lives here is SQL over the batches' files. Which document is new, changed or gone is decided in
`ledger.documents`, where its rows go in `delivery`.

`open_rows` creates the view `line`: the canonical columns of every row that may be delivered, plus
`batch_id`. `choose` adds `outgoing`: those of documents that are new or changed.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa

from revrec_pipeline.errors import LakeError
from revrec_pipeline.ledger.outbox import Batch, Total
from revrec_pipeline.model import CANONICAL, RecordType, without_amount

#: Not hashed: a new version of a record that says the same is no change.
UNHASHED = frozenset(
    {
        "source",
        "record_type",
        "period",
        "document_type",
        "document_id",
        "source_version",
        "raw_batch",
        "raw_page",
        "url",
        "excluded_by",
    }
)
#: ISO 4217: no currency.
_NO_CURRENCY = "XXX"
_REMOVED = pa.schema(
    [
        ("document_id", pa.string()),
        ("batch_id", pa.string()),  # that noticed
        ("line_count", pa.int64()),
        ("file", pa.string()),  # with the rows that were delivered
    ]
)


def open_rows(db: duckdb.DuckDBPyConnection, lake_root: Path, batches: Sequence[Batch]) -> None:
    """Create the views `line` and `held_document` over the batches' files.

    Raises:
        LakeError: a file is missing.
    """
    db.execute(
        "CREATE TABLE claimed (batch_id VARCHAR, period VARCHAR, rows VARCHAR, held VARCHAR)"
    )
    for batch in batches:
        files = [str(lake_root / batch.path / name) for name in ("rows.parquet", "held.parquet")]
        for file in files:
            if not Path(file).is_file():
                raise LakeError(
                    f"{file} is missing from the lake; restore it, or sync {batch.source} for "
                    f"{batch.period} again"
                )
        db.execute("INSERT INTO claimed VALUES (?, ?, ?, ?)", [batch.id, batch.period, *files])
    db.execute(
        f"""
        CREATE VIEW held_document AS
        SELECT DISTINCT batch_id, period, document_id
        FROM {_read(db, "held")} AS held JOIN claimed ON claimed.held = held.filename
        """
    )
    record_type = _record_type(batches)
    names = ", ".join(name for name in CANONICAL[record_type].names if name != "period")
    db.execute(
        f"""
        CREATE VIEW line AS
        SELECT batch_id, period, {names}{without_amount(record_type)} FROM (
            SELECT rows.* EXCLUDE (period), claimed.period, batch_id
            FROM {_read(db, "rows")} AS rows JOIN claimed ON claimed.rows = rows.filename
        ) AS counted ANTI JOIN held_document USING (batch_id, document_id)
        WHERE excluded_by IS NULL
        """
    )


def incoming(db: duckdb.DuckDBPyConnection, record_type: RecordType, file: Path) -> Path:
    """Write the documents to deliver with the hashes of what they say, and the held ones without.

    `file` becomes Parquet with the columns of `ledger.documents.INCOMING`.
    """
    # Sums of the lines' hashes do not depend on their order, and keep the aggregate's state small.
    db.execute(
        f"""
        COPY (
            SELECT document_id, period,
                md5(concat_ws(' ', sum(high), sum(low), count(*))) AS hash,
                count(*)::INTEGER AS line_count
            FROM (
                SELECT batch_id, period, document_id,
                    ('0x' || substr(digest, 1, 16))::UBIGINT AS high,
                    ('0x' || substr(digest, 17))::UBIGINT AS low
                FROM (
                    SELECT batch_id, period, document_id, md5({_content(record_type)}) AS digest
                    FROM line
                )
            ) GROUP BY batch_id, period, document_id
            UNION ALL
            SELECT document_id, period, NULL, 0 FROM held_document
        ) TO {_literal(file)} (FORMAT parquet)
        """
    )
    return file


def choose(db: duckdb.DuckDBPyConnection, comparison: Path) -> int:
    """Create `outgoing` and `comparison`; returns the number of lines that go out.

    The file holds a COMPARISON of `ledger.documents`.
    """
    db.execute(f"CREATE VIEW comparison AS FROM read_parquet({_literal(comparison)})")
    db.execute(
        """
        CREATE VIEW outgoing AS SELECT line.* FROM line SEMI JOIN (
            FROM comparison WHERE change IN ('added', 'changed')
        ) AS chosen USING (batch_id, document_id)
        """
    )
    return int(db.execute("SELECT count(*) FROM outgoing").fetchall()[0][0])


def removed(db: duckdb.DuckDBPyConnection) -> pa.Table:
    """The documents of `comparison` that are gone, with all of its columns."""
    return db.sql(
        "FROM comparison WHERE change = 'removed' ORDER BY document_id, period"
    ).to_arrow_table()


def changes(db: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """How many documents of `comparison` were added, changed, unchanged and removed."""
    return dict(
        db.execute("SELECT change, count(*) FROM comparison GROUP BY 1 ORDER BY 1").fetchall()
    )


def totals(
    db: duckdb.DuckDBPyConnection,
    record_type: RecordType,
    removed: pa.Table,
    delivered_from: Mapping[str, Path],
) -> dict[str, list[Total]]:
    """Rows and amounts delivered, unchanged and removed, by batch, after `choose`.

    `removed` is the part of the comparison with removed documents, `delivered_from` the file with
    the rows that went out of each. One whose rows are no longer there counts its lines without an
    amount, under ISO 4217's XXX.
    """
    found = db.execute(
        f"""
        SELECT batch_id, if(change = 'unchanged', 'unchanged', 'delivered') AS bucket,
            coalesce(currency, '{_NO_CURRENCY}') AS currency, count(*),
            coalesce(sum(amount), 0)::DECIMAL(18, 4)
        FROM line JOIN comparison USING (batch_id, document_id)
        WHERE change <> 'removed' GROUP BY ALL ORDER BY ALL
        """
    ).fetchall()
    result: defaultdict[str, list[Total]] = defaultdict(list)
    for batch_id, bucket, currency, rows, amount in [
        *found,
        *_removed(db, record_type, removed, delivered_from),
    ]:
        result[batch_id].append(Total(bucket, rows, amount, currency))
    return dict(result)


def _removed(
    db: duckdb.DuckDBPyConnection,
    record_type: RecordType,
    removed: pa.Table,
    delivered_from: Mapping[str, Path],
) -> list[tuple[str, str, str, int, Decimal]]:
    gone = [
        {
            "document_id": row["document_id"],
            "batch_id": row["batch_id"],
            "line_count": row["line_count"],
            "file": str(file) if (file := delivered_from.get(row["document_id"])) else None,
        }
        for row in removed.to_pylist()
    ]
    if not gone:
        return []
    db.register("gone", pa.Table.from_pylist(gone, schema=_REMOVED))
    files = {row["file"] for row in gone if row["file"] and Path(row["file"]).is_file()}
    more = without_amount(record_type) if files else ""
    return db.execute(
        f"""
        WITH known AS (
            SELECT gone.batch_id, gone.document_id, currency, amount
            FROM (SELECT *{more} FROM {_parquet(sorted(files))}) AS rows
            JOIN gone ON gone.file = rows.filename AND gone.document_id = rows.document_id
            WHERE excluded_by IS NULL
        )
        SELECT batch_id, 'removed', currency, sum(lines)::BIGINT, sum(amount)::DECIMAL(18, 4) FROM (
            SELECT batch_id, coalesce(currency, '{_NO_CURRENCY}') AS currency, 1 AS lines,
                coalesce(amount, 0) AS amount
            FROM known
            UNION ALL
            SELECT batch_id, '{_NO_CURRENCY}', line_count, 0
            FROM gone ANTI JOIN known USING (batch_id, document_id)
        ) GROUP BY ALL ORDER BY ALL
        """
    ).fetchall()


def _content(record_type: RecordType) -> str:
    """What a line says, as one text: name, length and value of each column that is not null.

    Columns that come later, and stay empty, change no hash; nor do zeros at the end of a number.
    """
    parts = []
    for column in CANONICAL[record_type]:
        if column.name in UNHASHED:
            continue
        value = f"{column.name}::VARCHAR"
        if pa.types.is_decimal(column.type):
            value = f"rtrim(rtrim({value}, '0'), '.')"
        elif pa.types.is_map(column.type):
            entries = f"list_sort(map_entries({column.name}))"
            text = "e.key || '=' || coalesce(e.value, '')"
            value = f"array_to_string(list_transform({entries}, lambda e: {text}), chr(31))"
        parts.append(
            f"CASE WHEN {value} <> '' THEN "
            f"concat('{column.name}:', length({value}), ':', {value}) END"
        )
    return f"concat_ws(chr(30), {', '.join(parts)})"


def _read(db: duckdb.DuckDBPyConnection, kind: str) -> str:
    return _parquet(
        [file for (file,) in db.execute(f"SELECT {kind} FROM claimed ORDER BY ALL").fetchall()]
    )


def _parquet(files: Iterable[str]) -> str:
    listed = ", ".join(_literal(file) for file in files)
    if not listed:
        return (
            "(SELECT NULL::VARCHAR AS filename, NULL::VARCHAR AS document_id, NULL::VARCHAR AS "
            "currency, 0::DECIMAL(18, 4) AS amount, NULL::VARCHAR AS excluded_by WHERE false)"
        )
    return f"read_parquet([{listed}], filename = true)"


def _literal(file: str | Path) -> str:
    return "'" + str(file).replace("'", "''") + "'"


def _record_type(batches: Sequence[Batch]) -> RecordType:
    return RecordType(batches[0].record_type)
