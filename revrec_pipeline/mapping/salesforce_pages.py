"""Salesforce pages as records: JSON of the REST API and CSV of the Bulk API 2.0 in one form.

A record's values are text here; what they mean is in `salesforce_sales`, `salesforce_commissions`.
"""

import json
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.csv
from duckdb.func import PythonUDFType

from revrec_pipeline.mapping.sql import identifier, literal, quoted_numbers


def create_records(db: duckdb.DuckDBPyConnection, name: str, paths: list[str]) -> None:
    """Create the view `salesforce_<name>` over `raw_<name>`.

    Its columns are landing, page, request, and a text column for each path; null where a record or
    the org has no such field.
    """
    structure: dict[str, Any] = {}
    for path in paths:
        *parents, field = path.split(".")
        place = structure
        for parent in parents:
            place = place.setdefault(parent, {})
        place[field] = "VARCHAR"
    page = literal(json.dumps({"records": [structure]}))
    columns = ", ".join(f"{identifier(path)} VARCHAR" for path in paths)
    db.create_function(
        f"salesforce_{name}_csv",
        lambda bodies: _csv_records(bodies, paths),
        ["VARCHAR"],
        f"STRUCT({columns})[]",
        type=PythonUDFType.ARROW,
    )
    from_json = ", ".join(
        f"nullif(record.{'.'.join(map(identifier, path.split('.')))}, '') AS {identifier(path)}"
        for path in paths
    )
    from_csv = ", ".join(f"record.{identifier(path)} AS {identifier(path)}" for path in paths)
    db.execute(
        f"""
        CREATE VIEW salesforce_{name} AS
        SELECT landing, page, request, {from_json} FROM (
            SELECT landing, page, request,
                unnest(from_json({quoted_numbers("body")}, {page})
                    .records) AS record
            FROM raw_{name} WHERE format = 'json')
        UNION ALL
        SELECT landing, page, request, {from_csv} FROM (
            SELECT landing, page, request, unnest(salesforce_{name}_csv(body)) AS record
            FROM raw_{name} WHERE format = 'csv')
        """
    )


def _csv_records(bodies: pa.ChunkedArray, paths: list[str]) -> pa.Array:
    """One list of records per CSV page, all values text; `""` is null, `NA` and `001` are text."""
    offsets, pages = [0], []
    for body in bodies:
        page = _csv_page(body.as_buffer(), paths)
        pages.append(page)
        offsets.append(offsets[-1] + page.num_rows)
    table = pa.concat_tables(pages).combine_chunks()
    records = pa.StructArray.from_arrays(
        [_only_chunk(table.column(path)) for path in paths], names=paths
    )
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), records)


def _csv_page(body: pa.Buffer, paths: list[str]) -> pa.Table:
    kinds = dict.fromkeys(paths, pa.string())
    if body.size == 0:
        return pa.schema(list(kinds.items())).empty_table()
    return pyarrow.csv.read_csv(
        pa.BufferReader(body),
        pyarrow.csv.ReadOptions(use_threads=False, block_size=body.size),
        pyarrow.csv.ParseOptions(newlines_in_values=True),
        pyarrow.csv.ConvertOptions(
            column_types=kinds,
            include_columns=paths,
            include_missing_columns=True,
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=True,
        ),
    )


def _only_chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks else pa.array([], pa.string())
