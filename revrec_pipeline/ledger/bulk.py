"""Arrow on its way into a database: column types, and rows as PostgreSQL's COPY text.

Nothing here knows a table.
"""

from collections.abc import Iterator

import duckdb
import pyarrow as pa

#: Nothing here needs an extension, and a try to download one costs seconds (reference/stack.md).
NO_EXTENSIONS = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
#: Rows that are converted at a time.
ROWS_PER_BLOCK = 8_192


def memory() -> duckdb.DuckDBPyConnection:
    """A DuckDB in memory, in UTC, that never looks for an extension on the network."""
    con = duckdb.connect(config=dict(NO_EXTENSIONS))
    con.execute("SET TimeZone = 'UTC'")
    return con


def sql_type(type_: pa.DataType) -> str:
    """The column type, in both back ends, that holds an Arrow type exactly."""
    if pa.types.is_decimal(type_):
        return f"DECIMAL({type_.precision}, {type_.scale})"
    if pa.types.is_timestamp(type_) and type_.tz is not None:
        return "TIMESTAMPTZ"
    for matches, name in (
        (pa.types.is_string, "TEXT"),
        (pa.types.is_large_string, "TEXT"),
        (pa.types.is_string_view, "TEXT"),
        (pa.types.is_map, "TEXT"),  # as JSON
        (pa.types.is_null, "TEXT"),
        (pa.types.is_int64, "BIGINT"),
        (pa.types.is_int32, "INTEGER"),
        (pa.types.is_date32, "DATE"),
        (pa.types.is_boolean, "BOOLEAN"),
    ):
        if matches(type_):
            return name
    raise TypeError(f"the ledger has no column type for {type_}")


def columns(schema: pa.Schema) -> str:
    """The columns of a schema, for CREATE TABLE."""
    return ", ".join(f"{quoted(field.name)} {sql_type(field.type)}" for field in schema)


def names(schema: pa.Schema) -> str:
    """The column names of a schema, quoted, in order."""
    return ", ".join(quoted(name) for name in schema.names)


def expressions(schema: pa.Schema) -> str:
    """DuckDB's select list for a schema, with maps as JSON text."""
    return ", ".join(
        f"to_json({quoted(field.name)})::VARCHAR"
        if pa.types.is_map(field.type)
        else quoted(field.name)
        for field in schema
    )


def literal(text: str) -> str:
    """A text as SQL."""
    return "'" + text.replace("'", "''") + "'"


def quoted(name: str) -> str:
    """A name as SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def copy_text(arrow: pa.Table | pa.RecordBatchReader) -> Iterator[memoryview]:
    r"""The rows in COPY's text format, block by block.

    Not CSV: before version 18, PostgreSQL ends a CSV load without an error at a line that holds
    nothing but `\.`, also within a quoted text. DuckDB escapes and joins whole columns at a time.
    """

    def escaped(field: pa.Field) -> str:
        text = f"({expressions(pa.schema([field]))})::VARCHAR"
        if sql_type(field.type) == "TEXT":
            for plain, escape in (
                ("'\\'", "'\\\\'"),
                ("chr(10)", "'\\n'"),
                ("chr(13)", "'\\r'"),
                ("chr(9)", "'\\t'"),
            ):
                text = f"replace({text}, {plain}, {escape})"
        return f"coalesce({text}, '\\N')"

    row = ", ".join(escaped(field) for field in arrow.schema)
    with memory() as con:
        con.register("source", arrow)
        found = con.sql(f"SELECT concat_ws(chr(9), {row}) || chr(10) FROM source")
        for batch in found.to_arrow_reader(ROWS_PER_BLOCK):
            yield _joined(batch.column(0))


def _joined(texts: pa.Array) -> memoryview:
    """All texts of an array, one after the other, as they already stand in its buffer."""
    _, offsets, data = texts.buffers()
    bounds = memoryview(offsets).cast("i")
    return memoryview(data)[bounds[texts.offset] : bounds[texts.offset + len(texts)]]
