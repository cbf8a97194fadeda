"""Customers and products that somebody recorded, and what rows take from them.

A record is what the sheets Customer and Product of a file said, or what was typed; its newest
landing counts, whichever of the two brought it. A record that names a system in `Sync Source` is
for rows of that system only. A row keeps what it says itself: records fill what is missing, a name,
or what the product's catalog entry gives (family, type, list price, the end of its term).

It reads the lake only, so a month that is built again from the same landings is the same.
"""

from collections.abc import Iterable

import duckdb

from revrec_pipeline.lake import Lake, Landing
from revrec_pipeline.mapping.file import BODY, OBJECTS
from revrec_pipeline.mapping.sql import literal, term_end
from revrec_pipeline.model import OWN_SOURCES, REFERENCES, SYNC_SOURCE, RecordType

#: Errors that a new record may mend: months that have one are built again.
MENDED: dict[RecordType, tuple[str, ...]] = {
    RecordType.CUSTOMERS: ("IN_UNKNOWN_CUSTOMER",),
    RecordType.PRODUCTS: ("IN_MISSING_SERVICE_DATES", "PR_MISSING_SSP"),
}
_CUSTOMER = ("customer_name",)
_PRODUCT = ("product_name", "product_family", "product_type")


def filled(
    db: duckdb.DuckDBPyConnection,
    lake: Lake,
    record_type: RecordType,
    home_currency: str,
    rows: str,
) -> str:
    """The table expression `rows` with what is missing filled from records; itself if none are."""
    if record_type not in (RecordType.SALES, RecordType.INVOICES) or not _open(db, lake):
        return rows
    is_sale = record_type is RecordType.SALES
    values = {name: f"customer.{name}, any_customer.{name}" for name in _CUSTOMER}
    values |= {
        name: f"product.{name}, any_product.{name}"
        for name in (_PRODUCT if is_sale else _PRODUCT[:1])
    }
    if is_sale:
        months = "coalesce(product.term, any_product.term)"
        values["service_end_date"] = term_end("line.service_start_date", months)
        values["list_price"] = ", ".join(
            f"CASE WHEN coalesce({each}.currency, {literal(home_currency)}) = line.currency "
            f"THEN {each}.list_price END"
            for each in ("product", "any_product")
        )
    replaced = ", ".join(
        f"coalesce(line.{name}, {value}) AS {name}" for name, value in values.items()
    )
    origin = (
        f"CASE WHEN source IN {OWN_SOURCES} "
        f"THEN coalesce(custom_fields[{literal(SYNC_SOURCE)}], '') ELSE source END"
    )
    # Which side of a join is read first is DuckDB's choice, and the order of rows must not be.
    return f"""(
        SELECT line.* EXCLUDE (origin) REPLACE ({replaced})
        FROM (SELECT *, {origin} AS origin FROM {rows}) AS line
        LEFT JOIN known_customer AS customer
            ON customer.origin = line.origin AND customer.id = line.customer_id
        LEFT JOIN known_customer AS any_customer
            ON any_customer.origin = '' AND any_customer.id = line.customer_id
        LEFT JOIN known_product AS product
            ON product.origin = line.origin AND product.id = line.product_code
        LEFT JOIN known_product AS any_product
            ON any_product.origin = '' AND any_product.id = line.product_code
        ORDER BY line.document_id, line.source_version, line.line_id
    )"""


def landings(lake: Lake) -> dict[str, tuple[Landing, list[str]]]:
    """The landings that brought records, by id, with the objects of these."""
    found = {}
    for source in OWN_SOURCES:
        for landing in lake.landings(source):
            held = [
                OBJECTS[kind]
                for kind in REFERENCES
                if landing.objects.get(OBJECTS[kind], {}).get("records")
            ]
            if held:
                found[landing.id] = landing, held
    return found


def _open(db: duckdb.DuckDBPyConnection, lake: Lake) -> bool:
    """Create `known_customer` and `known_product`; false, and neither, if nothing was recorded."""
    pages: list[str] = []
    keys: list[str] = []
    for landing, held in landings(lake).values():
        folder = lake.root / landing.folder
        pages += [str(folder / f"{object_}.parquet") for object_ in held]
        keys += lake.keys([landing])
    if not keys:
        return False
    # The versions are instants, so those of files and of entries compare.
    db.execute(
        f"""
        CREATE TABLE known AS
        WITH newest AS (
            SELECT object, id, max(row(version, parse_path(filename)[-2], page)) AS place
            FROM read_parquet({_listed(keys)}, filename = true)
            WHERE object IN ({_objects()}) GROUP BY object, id
        ), said AS (
            SELECT parse_path(filename)[-2] AS landing, parse_filename(filename, true) AS object,
                page, unnest(from_json(body, '{BODY}')) AS one
            FROM read_parquet({_listed(pages)}, filename = true)
        )
        SELECT said.object, one.id AS document, one.row AS position, one.cells AS cells
        FROM said JOIN newest ON newest.object = said.object AND newest.id = one.id
            AND newest.place[2] = said.landing AND newest.place[3] = said.page
        """
    )
    for kind, table, key in (
        (RecordType.CUSTOMERS, "known_customer", "Account ID"),
        (RecordType.PRODUCTS, "known_product", "Product Code"),
    ):
        origin = f"coalesce(trim(cells[{literal(SYNC_SOURCE)}]), '')"
        db.execute(
            f"""
            CREATE TABLE {table} AS
            SELECT CASE WHEN {origin} IN {OWN_SOURCES} THEN '' ELSE {origin} END AS origin,
                cells[{literal(key)}] AS id, {_attributes(kind)}
            FROM known WHERE object = {literal(OBJECTS[kind])}
            QUALIFY row_number() OVER (PARTITION BY origin, id ORDER BY position DESC) = 1
            """
        )
    return True


def _attributes(kind: RecordType) -> str:
    if kind is RecordType.CUSTOMERS:
        return "cells['Customer Name'] AS customer_name"
    return (
        "cells['Product Name'] AS product_name, cells['Product Family'] AS product_family, "
        "cells['Product Type'] AS product_type, cells['Term'] AS term, "
        "cells['Currency'] AS currency, "
        "TRY_CAST(trim(cells['List Price']) AS DECIMAL(28, 12)) AS list_price"
    )


def _objects() -> str:
    return ", ".join(literal(OBJECTS[kind]) for kind in REFERENCES)


def _listed(files: Iterable[str]) -> str:
    return "[" + ", ".join(literal(file) for file in files) + "]"
