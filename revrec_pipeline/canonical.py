"""One month of one source and record type: from raw landings to a checked batch in the lake.

A pure function of the lake's landings, the settings and what people let through: no clock, no
network, no ledger. Here it is decided which version of a document counts (the version guard) and
which documents are held back. What a vendor's fields mean is in `mapping`, what recorded customers
and products add in `references`, what a row must satisfy in `checks`, what must tie in `controls`,
what becomes of the batch in `delivery`.

    canonical/<source>/<record type>/<2026-01>/<hash>/rows.parquet    all rows, also excluded ones
                                                     /held.parquet    documents that an error holds
                                                     /errors.parquet  the failures: see ERRORS
                                                     /documents.parquet  see `controls.STORED`
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from hashlib import file_digest
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from revrec_pipeline import checks, controls, references
from revrec_pipeline.codes import CONTROL_DIFFERENCE
from revrec_pipeline.controls import Damage
from revrec_pipeline.engine import engine
from revrec_pipeline.errors import LakeError
from revrec_pipeline.lake import Lake, Landing, newest_listings
from revrec_pipeline.ledger.sync_errors import Waiver
from revrec_pipeline.mapping import Site, Source, SourceSettings
from revrec_pipeline.model import (
    AMOUNT,
    CANONICAL,
    OWN_SOURCES,
    RecordType,
    SyncError,
    without_amount,
)

ERRORS = pa.schema([(column.name, pa.string()) for column in fields(SyncError)])
#: Rows and amount by bucket (source, excluded, flagged), rule and currency. `rule` names what
#: excluded or flagged the row (`order_held`: another line of its document failed). A row without a
#: currency counts under ISO 4217's XXX, a row without an amount with 0. The bucket `own_total` has
#: documents for rows and for their amount what the vendor itself says that they are over; its rule
#: is `differs` where their lines say otherwise.
TOTALS = pa.schema(
    [
        ("bucket", pa.string()),
        ("rule", pa.string()),
        ("currency", pa.string()),
        ("rows", pa.int64()),
        ("amount", AMOUNT),
    ]
)
_PREVIEW_ROWS = 10


@dataclass(frozen=True, slots=True)
class Built:
    """A checked month, ready for the ledger's outbox."""

    path: Path  # the batch's folder, below the lake's root
    content_hash: str
    totals: pa.Table  # schema TOTALS
    errors: pa.Table  # schema ERRORS
    preview: pa.Table  # first rows that count
    failed_rows: dict[str, int]  # asset check → rows that fail it
    lost: tuple[str, ...]  # current documents that the mapping gave no row
    damaged: tuple[Damage, ...]  # raw pages that are not as they landed
    landings: tuple[str, ...]  # what it was built from; newer ones may have arrived since

    @property
    def faulty(self) -> str | None:
        """Why nothing of the month may be delivered: what we lost, not what a row lacks."""
        if self.lost:
            return f"documents without rows: {', '.join(self.lost)}"
        if self.damaged:
            return f"raw pages are not as they landed: {'; '.join(map(str, self.damaged))}"
        return None


def build(
    lake: Lake,
    source: Source,
    record_type: RecordType,
    period: str,
    settings: SourceSettings,
    site: Site,
    waived: Sequence[Waiver] = (),
) -> Built:
    """Build, check and store one month from what has landed.

    An error in `waived` lets its row through with the default of its code.

    Raises:
        LakeError: the month was pulled under settings that asked for less than these do.
    """
    source = source.under(settings)
    known = lake.landings(source.name)
    landings = relevant(known, period)
    with lake.reading(), lake.scratch() as folder, engine(folder / "spill") as db:
        _choose_versions(db, lake, known, landings, period)
        used = _open_pages(db, lake, source, landings, period)
        damaged = controls.damaged(lake, used, source.objects)
        source.rows(db, record_type, settings, site)
        found = db.sql("SELECT * FROM rows LIMIT 0").to_arrow_table().schema
        if differences := checks.structure_differences(record_type, found):
            raise TypeError(f"mapping {source.name}, {record_type}: {'; '.join(differences)}")
        batch = folder / "batch"
        batch.mkdir()
        rows = batch / "rows.parquet"
        columns = ", ".join(CANONICAL[record_type].names)
        _waive(db, waived)
        given = _with_defaults(db, site)
        given = references.filled(db, lake, record_type, site.home_currency, given)
        db.execute(
            f"COPY (SELECT {columns} FROM {given}) TO '{rows}' "
            "(FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, ROW_GROUP_SIZE 50000)"
        )
        db.execute(
            f"CREATE VIEW stored AS SELECT *{without_amount(record_type)}, "
            "file_row_number AS position "
            f"FROM read_parquet('{rows}', file_row_number = true)"
        )
        _check(db, record_type)
        errors, totals = db.sql(_ERRORS).to_arrow_table(), db.sql(_TOTALS).to_arrow_table()
        errors = pa.concat_tables(
            [errors.cast(ERRORS), _damage(source, record_type, period, damaged)]
        )
        pq.write_table(
            db.sql("SELECT document_id FROM held").to_arrow_table(), batch / "held.parquet"
        )
        pq.write_table(errors, batch / "errors.parquet")
        db.execute(
            f"COPY ({controls.STORED.format(rows='stored', held='held')}) TO "
            f"'{batch / controls.DOCUMENTS}' (FORMAT parquet)"
        )
        with rows.open("rb") as content:
            digest = file_digest(content, "sha256")
        for each in waived:  # the same rows, of which others may go out
            digest.update(repr(each).encode())
        content_hash = digest.hexdigest()
        path = Path("canonical", source.name, record_type, period, content_hash[:16])
        built = Built(
            path=path,
            content_hash=content_hash,
            totals=totals.cast(TOTALS),
            errors=errors,
            preview=db.sql(
                f"SELECT {columns} FROM stored WHERE excluded_by IS NULL LIMIT {_PREVIEW_ROWS}"
            ).to_arrow_table(),
            failed_rows=dict(db.execute(_FAILED_ROWS).fetchall()),
            lost=tuple(
                id_
                for (id_,) in db.execute(_LOST, {"objects": source.feeding(record_type)}).fetchall()
            ),
            damaged=tuple(damaged),
            landings=tuple(landing.id for landing in landings),
        )
        lake.publish(batch, path)
    return built


def relevant(landings: list[Landing], period: str) -> list[Landing]:
    """The landings that must be asked which documents the month has, and in which version.

    Of the full listings of a window only the newest counts: what is gone from it is gone. A landing
    that touched the month may have brought an old version of a document whose newer one, in another
    month, had landed before; so the months that it touched beside this one are asked, too. And one
    that brought documents of the month as they were before has their newest versions.
    """
    newest = newest_listings(landings)
    counting = [
        landing for landing in landings if newest.get(landing.window, landing.id) == landing.id
    ]
    months = {landing.id: {*landing.touched, *landing.periods} for landing in counting}
    linked = {month for asked in months.values() if period in asked for month in asked}
    return [landing for landing in counting if linked & months[landing.id]]


def _choose_versions(
    db: duckdb.DuckDBPyConnection,
    lake: Lake,
    known: list[Landing],
    landings: list[Landing],
    period: str,
) -> None:
    """Create `current`: for each document of the month, the version that counts and where it is.

    The newest version by the source's own stamp wins, and of equal ones the newest landing. A
    change that landed before the newest full listing of its window is not asked any more: a
    document that the listing lacks has been deleted since.
    """
    db.execute("CREATE TABLE listing (window_name VARCHAR, landing VARCHAR)")
    lake.keys(landings)  # read below, once all of them are known to be whole
    listings = list(newest_listings(known).items())
    if listings:
        db.executemany("INSERT INTO listing VALUES (?, ?)", listings)
    db.execute(
        f"""
        CREATE TABLE current AS
        WITH versions AS (
            SELECT object, id, version, period, keys.landing, page
            FROM {_read_all(lake, landings, "keys", _NO_KEYS)} AS keys
            LEFT JOIN listing AS newest ON newest.window_name = keys."window"
            WHERE newest.landing IS NULL OR keys.landing >= newest.landing
        ), winners AS (
            SELECT object, id, max(row(version, landing, page, period)) AS winner
            FROM versions GROUP BY object, id
        )
        SELECT object, id, winner[1] AS version, winner[2] AS landing, winner[3] AS page
        FROM winners WHERE winner[4] = $period
        """,
        {"period": period},
    )


_NO_KEYS = (
    "(SELECT NULL::VARCHAR AS object, NULL::INTEGER AS page, NULL::VARCHAR AS id, "
    'NULL::VARCHAR AS version, NULL::VARCHAR AS period, NULL::VARCHAR AS "window", '
    "NULL::VARCHAR AS landing WHERE false)"
)
_NO_PAGES = (
    "(SELECT NULL::VARCHAR AS landing, NULL::INTEGER AS page, NULL::VARCHAR AS parent, "
    "NULL::VARCHAR AS format, NULL::VARCHAR AS request, NULL::VARCHAR AS body WHERE false)"
)


def _open_pages(
    db: duckdb.DuckDBPyConnection,
    lake: Lake,
    source: Source,
    landings: list[Landing],
    period: str,
) -> list[Landing]:
    """Create a view `raw_<object>` over the pages of the landings that hold a current document.

    Returns these landings. One without one of the objects would give documents without some of
    their rows, and their delivered rows would be taken back; so it is refused.
    """
    wanted = {name for (name,) in db.execute("SELECT DISTINCT landing FROM current").fetchall()}
    used = [landing for landing in landings if landing.id in wanted]
    for name in source.objects:
        if any(name not in landing.objects for landing in used):
            raise LakeError(
                f"{source.title} {period} was pulled without {name}, which [sources.{source.name}] "
                f"asks for by now; list it again: revrec sync {source.name} --from {period} --to "
                f"{period}"
            )
        db.execute(
            f"CREATE VIEW raw_{name} AS SELECT landing, page, parent, format, request, body "
            f"FROM {_read_all(lake, used, name, _NO_PAGES)}"
        )
    return used


def _read_all(lake: Lake, landings: list[Landing], name: str, nothing: str) -> str:
    """A table expression over the same file of several landings, with the landing's id."""
    if not landings:
        return nothing
    files = ", ".join(
        _literal(lake.root / landing.folder / f"{name}.parquet") for landing in landings
    )
    pages = f"read_parquet([{files}], filename = true)"
    return f"(SELECT *, parse_path(filename)[-2] AS landing FROM {pages})"


def _literal(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _waive(db: duckdb.DuckDBPyConnection, waived: Sequence[Waiver]) -> None:
    """Create `waiver` and, of rows that are given the home currency, `defaulted`."""
    db.execute(
        "CREATE TABLE waiver (document_id VARCHAR, line_id VARCHAR, code VARCHAR, heading VARCHAR)"
    )
    if waived:
        db.executemany(
            "INSERT INTO waiver VALUES (?, ?, ?, ?)",
            [[each.record_id, each.line_id, each.code, each.field] for each in waived],
        )
    db.execute("CREATE TABLE defaulted (document_id VARCHAR, line_id VARCHAR)")
    if any(each.code == "IN_CURRENCY_MISSING" for each in waived):
        db.execute(
            "INSERT INTO defaulted SELECT document_id, line_id FROM rows "
            "WHERE currency IS NULL AND (document_id, line_id) IN "
            "(SELECT document_id, line_id FROM waiver WHERE code = 'IN_CURRENCY_MISSING')"
        )


def _with_defaults(db: duckdb.DuckDBPyConnection, site: Site) -> str:
    """The rows, those that a person let through without a currency in the home currency."""
    if not db.execute("SELECT count(*) FROM defaulted").fetchall()[0][0]:
        return "rows"
    return f"""(
        SELECT * REPLACE (CASE WHEN currency IS NULL AND (document_id, line_id) IN (FROM defaulted)
            THEN {_text(site.home_currency)} ELSE currency END AS currency) FROM rows
    )"""


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _damage(
    source: Source, record_type: RecordType, period: str, damaged: Sequence[Damage]
) -> pa.Table:
    """One error for each record on pages that are not as they landed."""
    code = checks.CODES[CONTROL_DIFFERENCE]
    rows = [
        {
            "stage": code.stage,
            "code": CONTROL_DIFFERENCE,
            "severity": code.severity.value,
            "owner": code.owner,
            "source": source.name,
            "record_type": str(record_type),
            "period": period,
            "record_id": record,
            "field": each.object,
            "message": f"{each}; restore the lake's file, or sync {source.name} --from {period} "
            f"--to {period}",
        }
        for each in damaged
        for record in each.records
    ]
    return pa.Table.from_pylist(rows, schema=ERRORS)


def _check(db: duckdb.DuckDBPyConnection, record_type: RecordType) -> None:
    """Create `failed` (row, field, code) and `held`, the documents that an error holds back.

    `waived` are those failures that a person let through, `control` what does not tie.
    """
    db.execute(
        "CREATE TABLE code (code VARCHAR, check_name VARCHAR, severity VARCHAR, "
        "stage VARCHAR, owner VARCHAR, words VARCHAR, instead VARCHAR)"
    )
    db.executemany(
        "INSERT INTO code VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (
                name, code.check, code.severity, code.stage, code.owner, code.words, code.default,
            )
            for name, code in checks.CODES.items()
        ],
    )  # fmt: skip
    db.execute("CREATE TABLE heading (field VARCHAR, heading VARCHAR)")
    db.executemany("INSERT INTO heading VALUES (?, ?)", list(checks.headings(record_type).items()))
    db.execute("CREATE TABLE failed (position BIGINT, field VARCHAR, code VARCHAR)")
    for batch in checks.failures(db, record_type, "stored"):
        db.register("batch", batch)
        db.execute("INSERT INTO failed SELECT position, field, code FROM batch")
        db.unregister("batch")
    # A document without lines lacks every field of a line; that is one thing to mend, not eight.
    db.execute(
        "DELETE FROM failed WHERE field <> 'line_id' "
        "AND position IN (SELECT position FROM stored WHERE line_id IS NULL)"
    )
    db.execute(
        "INSERT INTO failed SELECT position, 'currency', 'IN_CURRENCY_MISSING' "
        "FROM stored SEMI JOIN defaulted USING (document_id, line_id)"
    )
    db.execute(
        """
        CREATE TABLE waived AS SELECT position, field, code
        FROM failed JOIN heading USING (field) JOIN stored USING (position)
        JOIN waiver USING (document_id, line_id, code, heading)
        """
    )
    db.execute("CREATE TABLE control (position BIGINT, field VARCHAR, message VARCHAR)")
    controls.compare(db)
    db.execute(f"INSERT INTO control {controls.DIFFERENCES}")
    db.execute(f"INSERT INTO failed SELECT position, field, '{CONTROL_DIFFERENCE}' FROM control")
    _tell_bad_cells(db)
    db.execute(
        "CREATE TABLE held AS SELECT DISTINCT document_id FROM stored "
        f"SEMI JOIN (SELECT position FROM {_COUNTING} JOIN code USING (code) "
        "WHERE severity = 'error') AS bad USING (position) ORDER BY ALL"
    )


def _tell_bad_cells(db: duckdb.DuckDBPyConnection) -> None:
    """Create `told`, what a mapping says of cells that are not what their column holds.

    Such a cell is null in its row. That it is missing, too, says nothing new.
    """
    db.execute("CREATE TABLE told (position BIGINT, field VARCHAR, code VARCHAR, message VARCHAR)")
    has = "SELECT count(*) FROM duckdb_views() WHERE view_name = 'bad_cell'"
    if not db.execute(has).fetchall()[0][0]:
        return
    db.execute(
        "INSERT INTO told SELECT position, field, code, message "
        "FROM bad_cell JOIN stored USING (document_id, line_id) WHERE excluded_by IS NULL"
    )
    db.execute(
        "INSERT INTO heading SELECT DISTINCT field, heading FROM bad_cell "
        "WHERE field NOT IN (SELECT field FROM heading)"
    )
    # An amount that quantity and price would give is missing with them.
    db.execute(
        "DELETE FROM failed WHERE (position, field) IN (SELECT position, field FROM told "
        "UNION ALL SELECT position, 'amount' FROM told)"
    )
    db.execute("INSERT INTO failed SELECT DISTINCT position, field, code FROM told")


#: The failures that no person let through.
_COUNTING = "(FROM failed ANTI JOIN waived USING (position, field, code)) AS counting"
_FAILED_ROWS = f"""
SELECT check_name, count(DISTINCT position) FROM {_COUNTING} JOIN code USING (code) GROUP BY ALL
"""
# A row of a file is found by its place there, every other one by its document.
_PLACE = f"""
    CASE WHEN row.source IN {OWN_SOURCES}
        THEN concat(' (sheet ', row.document_type, ', row ',
            ltrim(split_part(row.source_version, ' row ', 2), '0'), ', ', row.document_id, ')')
        ELSE concat(' (', row.document_type, ' ', row.document_id, ', line ', row.line_id, ')') END
"""
_ERRORS = f"""
SELECT code.stage, failed.code, code.severity,
    CASE WHEN row.source IN {OWN_SOURCES} THEN 'file' ELSE code.owner END AS owner,
    row.source, row.record_type, row.period, row.document_id AS record_id, row.line_id,
    heading.heading AS field,
    CASE WHEN failed.code = '{CONTROL_DIFFERENCE}' THEN control.message
        WHEN row.line_id IS NULL
        THEN concat(row.document_type, ' ', row.document_id, ' has no lines')
        ELSE concat(coalesce(told.message, concat(heading.heading, ' ', code.words)), {_PLACE},
            CASE WHEN waived.position IS NOT NULL THEN concat('; ignored, so ', code.instead) END)
    END AS message,
    row.url
FROM failed JOIN code USING (code) JOIN heading USING (field)
JOIN stored AS row USING (position)
LEFT JOIN control ON control.position = failed.position AND control.field = failed.field
LEFT JOIN told ON told.position = failed.position AND told.field = failed.field
    AND told.code = failed.code
LEFT JOIN waived ON waived.position = failed.position AND waived.field = failed.field
    AND waived.code = failed.code
ORDER BY record_id, line_id, failed.code, field
"""
_TOTALS = f"""
WITH named AS (
    SELECT coalesce(currency, 'XXX') AS currency, coalesce(amount, 0) AS amount, excluded_by,
        CASE WHEN held.document_id IS NOT NULL AND excluded_by IS NULL
             THEN coalesce(worst.code, 'order_held') END AS flagged_by
    FROM stored
    LEFT JOIN held USING (document_id)
    LEFT JOIN (
        SELECT position, min(code) AS code FROM {_COUNTING} JOIN code USING (code)
        WHERE severity = 'error' GROUP BY position
    ) AS worst USING (position)
)
SELECT bucket, rule, currency, count(*) AS rows, sum(amount)::DECIMAL(18, 4) AS amount FROM (
    SELECT 'source' AS bucket, '' AS rule, currency, amount FROM named
    UNION ALL SELECT 'excluded', excluded_by, currency, amount FROM named
        WHERE excluded_by IS NOT NULL
    UNION ALL SELECT 'flagged', flagged_by, currency, amount FROM named
        WHERE flagged_by IS NOT NULL
    UNION ALL SELECT 'own_total', rule, currency, amount FROM ({controls.OWN_TOTALS})
) GROUP BY ALL ORDER BY ALL
"""
_LOST = """
SELECT id FROM current
WHERE list_contains($objects, object) AND id NOT IN (SELECT document_id FROM stored) ORDER BY id
"""
