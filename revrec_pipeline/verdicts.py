"""Which rows of a built month fail, which documents that holds back, and what is told of it.

Everything is SQL over `stored`, the rows with their `position`; `checks` says what a row must
satisfy, `controls` what must tie. `judge` comes first, the queries below read what it creates.
"""

import duckdb
import pyarrow as pa

from revrec_pipeline import checks, controls
from revrec_pipeline.codes import CONTROL_DIFFERENCE
from revrec_pipeline.model import OWN_SOURCES, RecordType


def judge(db: duckdb.DuckDBPyConnection, record_type: RecordType) -> None:
    """Create `failed` (row, field, code) and `held`, the documents that an error holds back.

    `waived` are those failures that a person let through, `control` what does not tie.
    """
    db.register(
        "code",
        pa.Table.from_pylist(
            [
                {
                    "code": name,
                    "check_name": code.check,
                    "severity": code.severity.value,
                    "stage": code.stage,
                    "owner": code.owner,
                    "words": code.words,
                    "instead": code.default,
                }
                for name, code in checks.CODES.items()
            ]
        ),
    )
    named = checks.headings(record_type).items()
    db.register(
        "named", pa.Table.from_pylist([{"field": name, "heading": said} for name, said in named])
    )
    db.execute("CREATE TABLE heading AS FROM named")
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
    has = "SELECT count(*) FROM duckdb_columns() WHERE table_name = 'bad_cell'"
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
#: How many rows of each document fail an asset check.
FAILED = f"""
SELECT document_id, check_name, count(DISTINCT position) AS rows
FROM {_COUNTING} JOIN code USING (code) JOIN stored USING (position) GROUP BY ALL ORDER BY ALL
"""
# A row of a file is found by its place there, every other one by its document.
_PLACE = f"""
    CASE WHEN row.source IN {OWN_SOURCES}
        THEN concat(' (sheet ', row.document_type, ', row ',
            ltrim(split_part(row.source_version, ' row ', 2), '0'), ', ', row.document_id, ')')
        ELSE concat(' (', row.document_type, ' ', row.document_id, ', line ', row.line_id, ')') END
"""
ERRORS = f"""
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
"""
TOTALS = f"""
WITH named AS (
    SELECT document_id, coalesce(currency, 'XXX') AS currency, coalesce(amount, 0) AS amount,
        excluded_by, CASE WHEN held.document_id IS NOT NULL AND excluded_by IS NULL
             THEN coalesce(worst.code, 'order_held') END AS flagged_by
    FROM stored
    LEFT JOIN held USING (document_id)
    LEFT JOIN (
        SELECT position, min(code) AS code FROM {_COUNTING} JOIN code USING (code)
        WHERE severity = 'error' GROUP BY position
    ) AS worst USING (position)
)
SELECT document_id, bucket, rule, currency, count(*) AS rows,
    sum(amount)::DECIMAL(18, 4) AS amount
FROM (
    SELECT document_id, 'source' AS bucket, '' AS rule, currency, amount FROM named
    UNION ALL SELECT document_id, 'excluded', excluded_by, currency, amount FROM named
        WHERE excluded_by IS NOT NULL
    UNION ALL SELECT document_id, 'flagged', flagged_by, currency, amount FROM named
        WHERE flagged_by IS NOT NULL
    UNION ALL SELECT document_id, 'own_total', rule, currency, amount
        FROM ({controls.OWN_TOTALS})
) GROUP BY ALL ORDER BY ALL
"""
