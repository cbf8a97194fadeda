"""The documents and rows of claimed batches: which go out, what they say, what they sum to.

What lives here is SQL over the batches' files. Which document is new, changed or gone is decided in
`ledger.documents`, where its rows go in `delivery`, what lies in which file in `batch_files`.

`open_documents` creates the view `document`: OUTGOING, plus `batch_id` and `period`. `choose` adds
`outgoing`: the canonical columns of every row of new and changed documents, plus `batch_id`.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa

from revrec_pipeline import batch_files, controls
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
        ("folder", pa.string()),  # of the batch that was delivered, if it is there
    ]
)


def open_documents(
    db: duckdb.DuckDBPyConnection, lake_root: Path, batches: Sequence[Batch]
) -> None:
    """Create the table `claimed` and, over the batches' files, the view `document`: OUTGOING.

    Raises:
        LakeError: a file is missing.
    """
    folders = {batch.id: lake_root / batch.path for batch in batches}
    for batch in batches:
        for name in ("rows", "held", "outgoing", "totals"):
            for file in batch_files.files(lake_root, folders[batch.id], name):
                if not file.is_file():
                    raise LakeError(
                        f"{file} is missing from the lake; restore it, or sync {batch.source} for "
                        f"{batch.period} again"
                    )
    db.execute("CREATE TABLE claimed (batch_id VARCHAR, period VARCHAR, folder VARCHAR)")
    db.executemany(
        "INSERT INTO claimed VALUES (?, ?, ?)",
        [[batch.id, batch.period, str(folders[batch.id])] for batch in batches],
    )
    db.execute(
        "CREATE VIEW document AS SELECT batch_id, period, found.* EXCLUDE (folder) "
        f"FROM {batch_files.table(lake_root, folders.values(), 'outgoing')} AS found "
        "JOIN claimed USING (folder)"
    )


def incoming(db: duckdb.DuckDBPyConnection, file: Path) -> Path:
    """Write the documents to deliver with the hashes of what they say, and the held ones without.

    `file` becomes Parquet with the columns of `ledger.documents.INCOMING`.
    """
    db.execute(
        "COPY (SELECT DISTINCT document_id, period, hash, line_count FROM document) "
        f"TO {_literal(file)} (FORMAT parquet)"
    )
    return file


def choose(
    db: duckdb.DuckDBPyConnection, lake_root: Path, record_type: RecordType, comparison: Path
) -> int:
    """Create `outgoing` and `comparison`; returns the number of lines that go out.

    The file holds a COMPARISON of `ledger.documents`.
    """
    db.execute(f"CREATE VIEW comparison AS FROM read_parquet({_literal(comparison)})")
    db.execute(
        "CREATE TABLE chosen AS SELECT folder, document_id, batch_id, claimed.period "
        "FROM comparison JOIN claimed USING (batch_id) WHERE change IN ('added', 'changed')"
    )
    rows, held = (_of_chosen(db, lake_root, name) for name in ("rows", "held"))
    names = ", ".join(name for name in CANONICAL[record_type].names if name != "period")
    db.execute(
        f"""
        CREATE VIEW outgoing AS
        SELECT batch_id, chosen.period, {names}{without_amount(record_type)}
        FROM (SELECT * EXCLUDE (period) FROM {rows}) AS counted
        JOIN chosen USING (folder, document_id)
        ANTI JOIN {held} AS held USING (folder, document_id)
        WHERE excluded_by IS NULL
        """
    )
    return int(db.execute("SELECT count(*) FROM outgoing").fetchall()[0][0])


def changed_since_stored(
    db: duckdb.DuckDBPyConnection, lake_root: Path, record_type: RecordType
) -> dict[Path, list[str]]:
    """Of what goes out, by the folder of its batch, the documents that are not what was stored.

    Their rows are no more, fewer or others.
    """
    rows, held, totals = (
        f"(FROM {_of_chosen(db, lake_root, name)} SEMI JOIN chosen USING (folder, document_id))"
        for name in ("rows", "held", "totals")
    )
    rows = f"(SELECT *{without_amount(record_type)} FROM {rows})"
    return controls.differing(db, controls.stored(rows, held), controls.promised(totals))


def _of_chosen(db: duckdb.DuckDBPyConnection, lake_root: Path, name: str) -> str:
    """The files of this name that have the chosen documents, as `batch_files.table`."""
    found = db.execute("SELECT DISTINCT folder FROM claimed ORDER BY ALL").fetchall()
    folders = [Path(folder) for (folder,) in found]
    alone = batch_files.complete_without_base(db, lake_root, folders, "chosen")
    return batch_files.table(lake_root, folders, name, alone=alone)


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
    lake_root: Path,
    record_type: RecordType,
    removed: pa.Table,
    delivered_from: Mapping[str, Path],
) -> dict[str, list[Total]]:
    """Rows and amounts delivered, unchanged and removed, by batch, after `choose`.

    `removed` is the part of the comparison with removed documents, `delivered_from` the folder of
    the batch that each went out of. One whose rows are no longer there counts its lines without an
    amount, under ISO 4217's XXX.
    """
    found = db.execute(
        """
        SELECT batch_id, if(change = 'unchanged', 'unchanged', 'delivered') AS bucket,
            currency, sum(rows)::BIGINT, sum(amount)::DECIMAL(18, 4)
        FROM document JOIN comparison USING (batch_id, document_id)
        WHERE change <> 'removed' GROUP BY ALL ORDER BY ALL
        """
    ).fetchall()
    result: defaultdict[str, list[Total]] = defaultdict(list)
    for batch_id, bucket, currency, rows, amount in [
        *found,
        *_removed(db, lake_root, record_type, removed, delivered_from),
    ]:
        result[batch_id].append(Total(bucket, rows, amount, currency))
    return dict(result)


def _removed(
    db: duckdb.DuckDBPyConnection,
    lake_root: Path,
    record_type: RecordType,
    removed: pa.Table,
    delivered_from: Mapping[str, Path],
) -> list[tuple[str, str, str, int, Decimal]]:
    there = {
        folder for folder in set(delivered_from.values()) if batch_files.is_there(lake_root, folder)
    }
    gone = [
        {
            "document_id": row["document_id"],
            "batch_id": row["batch_id"],
            "line_count": row["line_count"],
            "folder": str(folder)
            if (folder := delivered_from.get(row["document_id"])) in there
            else None,
        }
        for row in removed.to_pylist()
    ]
    if not gone:
        return []
    db.register("gone", pa.Table.from_pylist(gone, schema=_REMOVED))
    folders = {Path(row["folder"]) for row in gone if row["folder"]}
    rows = _NO_ROWS
    if folders:
        wanted = "(SELECT folder, document_id FROM gone WHERE folder IS NOT NULL)"
        alone = batch_files.complete_without_base(db, lake_root, folders, wanted)
        found = batch_files.table(lake_root, folders, "rows", alone=alone)
        rows = f"(SELECT *{without_amount(record_type)} FROM {found})"
    return db.execute(
        f"""
        WITH known AS (
            SELECT gone.batch_id, gone.document_id, currency, amount
            FROM {rows} AS rows JOIN gone USING (folder, document_id) WHERE excluded_by IS NULL
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


def outgoing(record_type: RecordType, rows: str, held: str) -> str:
    """`batch_files.OUTGOING` of `rows`, of which the documents in `held` are held back.

    Both are table expressions; `rows` has an amount and a currency.
    """
    # Sums of the lines' hashes do not depend on their order, and keep the aggregate's state small.
    return f"""
        SELECT document_id,
            md5(concat_ws(' ', sum(high) OVER said, sum(low) OVER said, sum(rows) OVER said))
                AS hash,
            (sum(rows) OVER said)::INTEGER AS line_count, currency, rows, amount
        FROM (
            SELECT document_id, currency, sum(high) AS high, sum(low) AS low, count(*) AS rows,
                sum(amount)::DECIMAL(18, 4) AS amount
            FROM (
                SELECT document_id, currency, amount,
                    ('0x' || substr(digest, 1, 16))::UBIGINT AS high,
                    ('0x' || substr(digest, 17))::UBIGINT AS low
                FROM (
                    SELECT document_id, coalesce(currency, '{_NO_CURRENCY}') AS currency,
                        coalesce(amount, 0) AS amount, md5({_content(record_type)}) AS digest
                    FROM {rows} AS line ANTI JOIN {held} AS held USING (document_id)
                    WHERE excluded_by IS NULL
                )
            ) GROUP BY document_id, currency
        ) WINDOW said AS (PARTITION BY document_id)
        UNION ALL
        SELECT document_id, NULL, 0, '{_NO_CURRENCY}', 0, 0 FROM {held}
        ORDER BY document_id, currency
    """


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


_NO_ROWS = (
    "(SELECT NULL::VARCHAR AS folder, NULL::VARCHAR AS document_id, NULL::VARCHAR AS currency, "
    "0::DECIMAL(18, 4) AS amount, NULL::VARCHAR AS excluded_by WHERE false)"
)


def _literal(file: str | Path) -> str:
    return "'" + str(file).replace("'", "''") + "'"
