"""Rows of files that people bring, and of what they type, to canonical rows.

The raw objects are the template's sheets. A page is JSON: one object for each row, with the
document that `imports.landing` found it to belong to (`id`, `line`, `period`), its place in the
sheet (`row`), the cells as text by the template's header (`cells`), and what other sheets of the
same file say of it (`named`). What a text means is decided here: a date, a number, or neither. A
cell that is neither becomes a row of the view `bad_cell`, never a silent null.

A column of the template that no canonical one fills, and a column beyond the template, becomes a
custom field; so does `Sync Source`, which tells where a row first came from.
"""

from collections.abc import Mapping
from functools import partial

import duckdb

from revrec_pipeline.conversion.template import Column, load_template
from revrec_pipeline.mapping import Site, Source, SourceSettings
from revrec_pipeline.mapping.sql import literal
from revrec_pipeline.model import AMOUNT, CANONICAL, RATE, RecordType

#: Raw object of each record type.
OBJECTS: dict[RecordType, str] = {
    RecordType.SALES: "order_details",
    RecordType.INVOICES: "billing_schedule",
    RecordType.COMMISSIONS: "expense",
    RecordType.DELIVERIES: "professional_services_delivery",
    RecordType.CUSTOMERS: "customer",
    RecordType.PRODUCTS: "product",
}
#: The date that decides in which month a document is; customers and products have none.
BUSINESS_DATE: dict[RecordType, str] = {
    RecordType.SALES: "order_start_date",
    RecordType.INVOICES: "billing_date",
    RecordType.COMMISSIONS: "expense_date",
    RecordType.DELIVERIES: "delivery_date",
}
#: A page, for DuckDB's `from_json`.
BODY = (
    '[{"id":"VARCHAR","line":"VARCHAR","period":"VARCHAR","row":"INTEGER",'
    '"cells":"MAP(VARCHAR,VARCHAR)","named":"MAP(VARCHAR,VARCHAR)"}]'
)
_PAGES_AT_A_TIME = 16
# Excel counts days from 1899-12-30; these are the serial numbers of 1954 to 2119.
_SERIALS = "BETWEEN 20000 AND 80000"
# More decimals than a comparison of 38 digits holds would be cut off before they are compared.
_NUMBER = r"[+-]?(\d+(\.\d{0,16})?|\.\d{1,16})"
_DATE = r"\d{4}-\d{2}-\d{2}([ T]00:00(:00(\.0+)?)?)?"


class FileSettings(SourceSettings):
    """A file has no settings: the template says what its columns are."""


def day(cell: str) -> str:
    """A cell as a date: `YYYY-MM-DD`, or Excel's serial number of a day; else null."""
    text = f"trim({cell})"
    return (
        f"CASE WHEN regexp_full_match({text}, {literal(_DATE)}) "
        f"THEN TRY_CAST(left({text}, 10) AS DATE) "
        rf"WHEN regexp_full_match({text}, '\d{{5}}') AND {text}::INTEGER {_SERIALS} "
        f"THEN DATE '1899-12-30' + {text}::INTEGER END"
    )


def _number(cell: str, kind: str) -> str:
    """A cell as an exact number; null where the text is none, or has more digits than fit."""
    text = f"trim({cell})"
    wide = f"TRY_CAST({text} AS DECIMAL(38, 16))"
    return (
        f"CASE WHEN regexp_full_match({text}, {literal(_NUMBER)}) "
        f"AND TRY_CAST({text} AS {kind}) = {wide} THEN TRY_CAST({text} AS {kind}) END"
    )


def rows(
    source: str,
    db: duckdb.DuckDBPyConnection,
    record_type: RecordType,
    settings: SourceSettings,
    site: Site,
) -> None:
    """Create `rows`, and `bad_cell` with the cells that are not what their column holds.

    A sheet of text only has no such cells, and no such view.
    """
    del settings
    columns = load_template().sheet_of(record_type).columns
    object_ = OBJECTS[record_type]
    _open_rows(db, object_)
    canonical = {column.canonical: _cell(column, record_type) for column in columns}
    values = {
        name: canonical.get(name) or f"NULL::{_kind(record_type, name)}"
        for name in CANONICAL[record_type].names
    }
    values |= _own(record_type, site)
    business = BUSINESS_DATE.get(record_type)
    before = (
        f"CASE WHEN {values[business]} < DATE {literal(site.conversion_date)} "
        "THEN 'before_conversion_date' END"
        if site.conversion_date and business
        else "NULL::VARCHAR"
    )
    values |= {
        "source": literal(source),
        "record_type": literal(str(record_type)),
        "period": "period",
        "document_type": literal(load_template().sheet_of(record_type).name),
        "document_id": "document_id",
        "line_id": "line_id",
        # A landing's rows sort as they stood in the sheet.
        "source_version": "concat(version, ' row ', lpad(position::VARCHAR, 7, '0'))",
        "raw_batch": "landing",
        "raw_page": "page::INTEGER",
        "url": "NULL::VARCHAR",
        "excluded_by": before,
        "custom_fields": _custom(columns),
    }
    selected = ", ".join(f"{value} AS {name}" for name, value in values.items())
    db.execute(f"CREATE VIEW rows AS SELECT {selected} FROM file_row")
    if bad := _bad_cells(columns):
        db.execute(f"CREATE VIEW bad_cell AS {bad}")


def _open_rows(db: duckdb.DuckDBPyConnection, object_: str) -> None:
    """Create `file_row`: the rows of the documents that count, still as text.

    Some pages at a time: DuckDB gathers what a filter leaves into one vector, and the cells of a
    month of 87,000 rows in one vector did not fit in its memory. A table spills.
    """
    db.execute(
        f"""
        CREATE TABLE wanted_page AS
        SELECT landing, page, any_value(version) AS version FROM current
        WHERE object = '{object_}' GROUP BY landing, page
        """
    )
    chosen = f"""
        SELECT version, landing, page, one.id AS document_id, one.line AS line_id, one.period,
            one.row AS position, one.cells AS cells, coalesce(one.named, MAP {{}}) AS named
        FROM (
            SELECT version, landing, page, unnest(from_json(body, '{BODY}')) AS one
            FROM (FROM raw_{object_} WHERE landing = $landing AND page BETWEEN $first AND $last)
            JOIN wanted_page USING (landing, page)
        )
        WHERE (landing, page, one.id) IN (
            SELECT landing, page, id FROM current WHERE object = '{object_}'
        )
    """
    nothing = {"landing": "", "first": 0, "last": -1}
    db.execute(f"CREATE TABLE file_row AS {chosen}", nothing)
    parts = db.execute(
        f"SELECT landing, min(page), max(page) FROM wanted_page "
        f"GROUP BY landing, page // {_PAGES_AT_A_TIME} ORDER BY ALL"
    ).fetchall()
    for landing, first, last in parts:
        db.execute(
            f"INSERT INTO file_row {chosen}", {"landing": landing, "first": first, "last": last}
        )


def _cell(column: Column, record_type: RecordType) -> str | None:
    if column.canonical is None or column.canonical == "source":
        return None
    cell = f"cells[{literal(column.header)}]"
    if column.type == "date":
        return day(cell)
    if column.is_number:
        return _number(cell, _kind(record_type, column.canonical))
    return cell


def _kind(record_type: RecordType, name: str) -> str:
    kind = CANONICAL[record_type].field(name).type
    return {
        str(AMOUNT): "DECIMAL(18, 4)",
        str(RATE): "DECIMAL(28, 12)",
        "date32[day]": "DATE",
        "int32": "INTEGER",
    }.get(str(kind), "VARCHAR")


def _own(record_type: RecordType, site: Site) -> Mapping[str, str]:
    """What the sheet does not hold in so many words."""
    home = literal(site.home_currency)
    # A sheet without the column is all in the home currency; an empty cell in it is a defect.
    currency = (
        "CASE WHEN coalesce(named['currency_column'], 'yes') = 'yes' THEN cells['Currency'] "
        f"ELSE {home} END"
    )
    if record_type is RecordType.COMMISSIONS:
        amount = _number("cells['Amount']", "DECIMAL(18, 4)")
        return {
            "currency": home,
            "exchange_rate": "1::DECIMAL(28, 12)",
            "document_amount": amount,
            "document_currency": home,
        }
    if record_type not in (RecordType.SALES, RecordType.INVOICES):
        return {}
    names = {"product_name": "named['product_name']", "currency": currency}
    if record_type is RecordType.INVOICES:
        tax = _number("named['tax_amount']", "DECIMAL(18, 4)")
        return names | {
            "customer_name": "named['customer_name']",
            "product_id": "named['product_id']",
            "tax_amount": tax,
            "tax_name": f"CASE WHEN {tax} IS NOT NULL THEN named['tax_name'] END",
        }
    quantity = _number("cells['Quantity']", "DECIMAL(28, 12)")
    price = _number("cells['Unit Price']", "DECIMAL(28, 12)")
    return names | {
        "product_type": "named['product_type']",
        "amount": f"TRY_CAST(TRY(money(({quantity}) * ({price}), {currency})) AS DECIMAL(18, 4))",
    }


def _custom(columns: tuple[Column, ...]) -> str:
    """The cells that no canonical column takes, by their headers."""
    taken = ", ".join(
        literal(column.header)
        for column in columns
        if column.canonical is not None and column.canonical != "source"
    )
    return (
        "map_from_entries(list_filter(map_entries(cells), "
        f"lambda e: NOT list_contains([{taken}], e.key)))"
    )


def _bad_cells(columns: tuple[Column, ...]) -> str:
    """`(document_id, line_id, field, heading, code, message)` of each; "" if all hold text."""
    parts = []
    for column in columns:
        cell = f"cells[{literal(column.header)}]"
        if column.type == "date":
            code, value, words = "IN_BAD_DATE", day(cell), "is no date (YYYY-MM-DD)"
        elif column.is_number:
            code, value = "IN_BAD_NUMBER", _number(cell, "DECIMAL(28, 12)")
            if column.canonical is not None and column.type == "money":
                # Prices per unit have more decimals than amounts.
                wide = column.canonical.endswith("price")
                value = _number(cell, "DECIMAL(28, 12)" if wide else "DECIMAL(18, 4)")
            words = "is no number that fits (digits and a decimal point, no separators)"
        else:
            continue
        parts.append(
            f"""
            SELECT document_id, line_id, {literal(column.canonical or column.header)} AS field,
                {literal(column.header)} AS heading, '{code}' AS code,
                concat({literal(column.header + " ")}, chr(39), left({cell}, 40), chr(39),
                    ' {words}') AS message
            FROM file_row WHERE trim({cell}) <> '' AND ({value}) IS NULL
            """
        )
    return " UNION ALL ".join(parts)


def _made(name: str, title: str) -> Source:
    return Source(
        name=name,
        title=title,
        objects=tuple(OBJECTS.values()),
        documents={object_: (record_type,) for record_type, object_ in OBJECTS.items()},
        settings=FileSettings,
        record_types=lambda _: tuple(RecordType),
        rows=partial(rows, name),
    )


#: Files that people bring.
SOURCE = _made("file", "File")
#: What people type.
MANUAL = _made("manual", "Manual")
