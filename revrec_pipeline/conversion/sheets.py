"""Canonical rows become cells: one staged file a sheet, from which both formats are written.

Staging sorts once, with spill, and fixes every cell's text, so that workbook and archive cannot
differ. What lives here: order, text forms and their limits. What stands in which column is in
`template`.

Cells are text. Numbers are plain decimals without trailing zeros, exact; dates are `YYYY-MM-DD`;
empty text is an empty cell. Line ends become line feeds, and characters that XML 1.0 forbids are
dropped: no workbook can hold them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from revrec_pipeline.conversion.template import Column, ColumnType, Sheet, Template
from revrec_pipeline.errors import LakeError, SettingsError
from revrec_pipeline.model import (
    CANONICAL,
    ORDER_LINE,
    OWN_SOURCES,
    REFERENCES,
    SYNC_SOURCE,
    RecordType,
)

#: Excel's limit for the text of a cell, in UTF-16 units.
CELL_LENGTH = 32_767
#: A row group is what a reader holds at a time.
_ROWS_PER_GROUP = 20_480
_FORBIDDEN = r"[\x00-\x08\x0B\x0C\x0E-\x1F\x{FFFE}\x{FFFF}]"
#: What orders and invoices say of customers and products; the first column identifies one.
_REFERENCES = {
    RecordType.CUSTOMERS: ("customer_id", "customer_name"),
    RecordType.PRODUCTS: (
        "product_id",
        "product_code",
        "product_name",
        "product_family",
        "product_type",
    ),
}
_LINEAGE = ORDER_LINE.names[: ORDER_LINE.get_field_index("excluded_by") + 1]
#: Lines of a document stay together, in a fixed order. Rows of a file (see `mapping.file`) keep the
#: order that they had there: `came` is null for all others.
_ORDER = "source, came, period, document_id, line_id"
#: Files keep the system that a row first came from among the custom fields, with all other columns
#: of the template that no canonical column fills.
_ROWS = """(
    SELECT * REPLACE (
            CASE WHEN source IN {own} THEN coalesce(custom_fields['{sync_source}'], source)
                ELSE source END AS source
        ),
        CASE WHEN source IN {own} THEN coalesce(source_version, '') ELSE '' END AS came,
        source IN {own} AS is_own, concat(source, ' ', document_id) AS document
    FROM {relation}
)"""


@dataclass(frozen=True, slots=True)
class StagedColumn:
    """A column of a staged sheet; its cells are in the file's column `name`."""

    name: str
    header: str
    type: ColumnType

    @property
    def is_number(self) -> bool:
        """Whether its cells are numbers in a workbook."""
        return self.type in {"money", "decimal"}


@dataclass(frozen=True, slots=True)
class StagedSheet:
    """A sheet's cells in a Parquet file, in their order.

    Beside its columns the file has `document`: rows of one value must not be torn apart.
    """

    name: str
    columns: tuple[StagedColumn, ...]
    file: Path | None  # None: only the header
    rows: int
    lines: bool  # whether these rows are the documents' lines, not what they refer to


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A workbook or an archive."""

    path: Path
    lines: int  # how many lines of documents it holds


def stage(
    connection: duckdb.DuckDBPyConnection,
    rows: Mapping[RecordType, str],
    folder: Path,
    template: Template,
) -> list[StagedSheet]:
    """Write the cells of every sheet into `folder`.

    `rows` names, for each record type, a table or view of `connection` with the canonical columns.

    Raises:
        SettingsError: a custom field has the name of a template column.
        LakeError: a text is too long for a cell; names sheet, row and column.
    """
    staged = []
    for number, sheet in enumerate(template.sheets):
        query, columns = _query(connection, sheet, rows)
        # A tax stands beside a line that BillingSchedule has already, and so may a customer.
        lines = sheet.rows in rows
        if query is None:
            staged.append(StagedSheet(sheet.name, columns, None, 0, lines))
            continue
        file = folder / f"sheet-{number}.parquet"
        count = connection.execute(
            f"COPY ({query}) TO {literal(file)} (FORMAT parquet, COMPRESSION zstd, "
            f"COMPRESSION_LEVEL 1, ROW_GROUP_SIZE {_ROWS_PER_GROUP})"
        ).fetchall()[0][0]
        result = StagedSheet(sheet.name, columns, file, count, lines)
        _refuse_long_text(connection, result)
        staged.append(result)
    return staged


def literal(path: Path) -> str:
    """A path as an SQL string."""
    return "'" + str(path).replace("'", "''") + "'"


def quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def _query(
    connection: duckdb.DuckDBPyConnection, sheet: Sheet, rows: Mapping[RecordType, str]
) -> tuple[str | None, tuple[StagedColumn, ...]]:
    """The SQL of a sheet's cells (None without rows) and its columns."""
    columns = [
        StagedColumn(f"c{number}", column.header, column.type)
        for number, column in enumerate(sheet.columns)
    ]
    cells = [_cell(column) for column in sheet.columns]
    if sheet.rows is None or not rows:
        return None, tuple(columns)
    rows = {
        record_type: _ROWS.format(own=OWN_SOURCES, sync_source=SYNC_SOURCE, relation=relation)
        for record_type, relation in rows.items()
    }
    if sheet.rows in REFERENCES:
        kind = RecordType(sheet.rows)
        relation, document, order = f"({_named(kind, rows)})", "NULL::VARCHAR", "ALL"
        for field in _custom_fields(connection, rows[kind], sheet) if kind in rows else ():
            columns.append(StagedColumn(f"c{len(columns)}", field, "text"))
            cells.append(_text(f"custom_fields[{_string(field)}]"))
    else:
        taxes = sheet.rows == "taxes"
        relation = rows.get(RecordType.INVOICES if taxes else RecordType(sheet.rows), "")
        if not relation:
            return None, tuple(columns)
        if taxes:
            relation = f"(SELECT * FROM {relation} WHERE tax_amount IS NOT NULL)"
        document, order = "document", _ORDER
        if not taxes:
            cells = [
                _text(f"custom_fields[{_string(column.header)}]")
                if column.canonical is None
                else cell
                for column, cell in zip(sheet.columns, cells, strict=True)
            ]
        for field in () if taxes else _custom_fields(connection, relation, sheet):
            columns.append(StagedColumn(f"c{len(columns)}", field, "text"))
            cells.append(_text(f"custom_fields[{_string(field)}]"))
    selected = ", ".join(
        f"{cell} AS {column.name}" for cell, column in zip(cells, columns, strict=True)
    )
    return (
        f"SELECT {selected}, {document} AS document FROM {relation} ORDER BY {order}",
        tuple(columns),
    )


def _cell(column: Column) -> str:
    if column.canonical is None:
        return "NULL::VARCHAR"
    name = quoted(column.canonical)
    match column.type:
        case "money" | "decimal":
            return f"rtrim(rtrim({name}::VARCHAR, '0'), '.')"
        case "date" | "bool":
            return f"{name}::VARCHAR"
        case _:
            return _text(name)


def _text(expression: str) -> str:
    lines = rf"regexp_replace({expression}, '\r\n?', chr(10), 'g')"
    return f"nullif(regexp_replace({lines}, '{_FORBIDDEN}', '', 'g'), '')"


def _string(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _custom_fields(
    connection: duckdb.DuckDBPyConnection, relation: str, sheet: Sheet
) -> Sequence[str]:
    """The names of the custom fields that these rows have, sorted."""
    found = connection.execute(
        f"SELECT DISTINCT unnest(map_keys(custom_fields)), is_own FROM {relation}"
    ).fetchall()
    own = {SYNC_SOURCE, *(column.header for column in sheet.columns)}
    names = sorted({name for name, is_own in found if not (is_own and name in own)})
    taken = {column.header.casefold() for column in sheet.columns}
    for name in names:
        if name.casefold() in taken:
            raise SettingsError(
                f"custom field {name!r} has the name of a column of sheet {sheet.name}; "
                "give it another name under custom_fields in revrec.toml"
            )
        taken.add(name.casefold())
    return names


def _named(kind: RecordType, rows: Mapping[RecordType, str]) -> str:
    """Customers or products: those that are recorded, and those that orders and invoices name.

    Of those that lines name one row for each id of a source; without an id, the next column
    identifies it; of several spellings the one in the last row of the last month counts. A record
    takes their place, with what only they say. Files and entries are one source here.
    """
    id_, *attributes = _REFERENCES[kind]
    key = id_ if kind is RecordType.CUSTOMERS else "product_code"
    origin = f"CASE WHEN source IN {OWN_SOURCES} THEN '' ELSE source END AS origin"
    empty = ", ".join(f"NULL::VARCHAR AS {name}" for name in ("origin", "source", id_, *attributes))
    parts = [f"SELECT {empty}, NULL AS place WHERE false"]
    for record_type, relation in sorted(rows.items()):
        if record_type not in (RecordType.SALES, RecordType.INVOICES):
            continue
        known = CANONICAL[record_type].names
        selected = ", ".join(
            name if name in known else f"NULL::VARCHAR AS {name}" for name in (id_, *attributes)
        )
        parts.append(
            f"SELECT {origin}, source, {selected}, row(CASE WHEN source IN {OWN_SOURCES} "
            "THEN source || came ELSE came END, period, document_id, coalesce(line_id, ''), "
            f"record_type) AS place FROM {relation}"
        )
    newest = ", ".join(f"arg_max({name}, place) AS {name}" for name in ("source", *attributes))
    otherwise = f"coalesce({', '.join(attributes)}, NULL)"
    columns = [field for field in CANONICAL[kind] if field.name not in _LINEAGE]
    derived = ", ".join(
        column.name if column.name in (id_, *attributes) else f"NULL AS {column.name}"
        for column in columns
    )
    said = f"""
        WITH said AS ({" UNION ALL BY NAME ".join(parts)}), derived AS (
            SELECT origin, {id_}, {newest} FROM said WHERE coalesce({id_}, {otherwise}) IS NOT NULL
            GROUP BY origin, {id_}, CASE WHEN {id_} IS NULL THEN {otherwise} END
        )
    """
    if kind not in rows:
        return f"{said} SELECT source, {derived} FROM derived"
    added = ", ".join(
        f"CASE WHEN count(DISTINCT {name}) = 1 THEN min({name}) END AS {name}"
        if name == id_
        else f"arg_max({name}, place) AS {name}"
        for name in (id_, *attributes)
        if name != key
    )
    completed = ", ".join(
        f"coalesce(record.{column.name}, added.{column.name}) AS {column.name}"
        if column.name in (id_, *attributes) and column.name != key
        else f"record.{column.name}"
        for column in columns
    )
    return f"""{said}, record AS (
            SELECT *, {origin} FROM {rows[kind]}
            QUALIFY row_number() OVER (PARTITION BY origin, {key} ORDER BY came DESC, source) = 1
        ), added AS (
            SELECT origin, {key}, {added} FROM said GROUP BY origin, {key}
        )
        SELECT record.source, {completed} FROM record
            LEFT JOIN added ON added.origin = record.origin AND added.{key} = record.{key}
        UNION ALL SELECT source, {derived} FROM derived ANTI JOIN record USING (origin, {key})
    """


def _refuse_long_text(connection: duckdb.DuckDBPyConnection, sheet: StagedSheet) -> None:
    """Refuse a text that no cell can hold, before a writer cuts it off or drops the row."""
    texts = [column for column in sheet.columns if column.type in {"id", "text"}]
    file = literal(sheet.file) if sheet.file else ""
    longest = connection.execute(
        f"SELECT {', '.join(f'max(length({column.name}))' for column in texts)} FROM {file}"
    ).fetchall()[0]
    for column, length in zip(texts, longest, strict=True):
        if 2 * (length or 0) <= CELL_LENGTH:
            continue
        beyond = rf"regexp_replace({column.name}, '[^\x{{10000}}-\x{{10FFFF}}]', '', 'g')"
        units = f"length({column.name}) + length({beyond})"  # above U+FFFF they count twice
        found = connection.execute(
            f"SELECT file_row_number, {units} FROM read_parquet({file}, file_row_number = true) "
            f"WHERE {units} > {CELL_LENGTH} ORDER BY ALL LIMIT 1"
        ).fetchall()
        for position, size in found:
            raise LakeError(
                f"sheet {sheet.name}, row {position + 2}, column {column.header}: the text has "
                f"{size:,} characters and a cell holds {CELL_LENGTH:,}; shorten it in the source"
            )
