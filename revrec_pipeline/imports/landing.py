"""Documents in a file's sheets, landed in the lake as pages like those of any other source.

An order is its order number, an invoice its invoice number, a cost its reference number; where the
sheet names another system in `Sync Source`, with that before it, for two systems may count alike.
The newest landing of a document counts, so a file adds to what earlier files brought and replaces
the documents that it holds again, whole. A document is in the month of its earliest line.

A delivery is its reference number. Without one, all that a customer got of a product on a day (for
the order and item that the rows name) is one document: a file that has the day again replaces it.

What the sheets Customer, Product and Tax say of a line is joined to it here: no line carries it.
Each customer and product is a document of its own as well, in the first month of history, for it
has no day; except where the sheet only repeats what a system's lines in the same file carry.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa

from revrec_pipeline.conversion.template import Template
from revrec_pipeline.engine import engine
from revrec_pipeline.imports.reading import ReadSheet
from revrec_pipeline.imports.refusals import FileRefusedError
from revrec_pipeline.lake import CHANGES, KEYS, Lake, Landing, Page
from revrec_pipeline.mapping.file import BUSINESS_DATE, OBJECTS, day
from revrec_pipeline.mapping.sql import literal
from revrec_pipeline.model import OWN_SOURCES, SYNC_SOURCE, RecordType

#: What makes rows one document, by its header in the template.
KEY_COLUMN: dict[RecordType, str] = {
    RecordType.SALES: "Order Number",
    RecordType.INVOICES: "Invoice Number",
    RecordType.COMMISSIONS: "Reference Number",
    RecordType.DELIVERIES: "Reference Number",
    RecordType.CUSTOMERS: "Account ID",
    RecordType.PRODUCTS: "Product Code",
}
#: What a delivery without a reference number is known by.
_DELIVERY_KEY = ("Customer ID", "Order Number", "Order Item Number", "Product Code")
#: What a conversion file says of customers and products that its lines name.
_CARRIED = {
    RecordType.CUSTOMERS: ("Customer ID", {"Account ID", "Customer Name", SYNC_SOURCE}),
    RecordType.PRODUCTS: (
        "Product Code",
        {"Product Id", "Product Code", "Product Name", "Product Family", "Product Type",
         SYNC_SOURCE},
    ),
}  # fmt: skip
_ROWS_PER_PAGE = 1_000
_TAX_KEY = ("Order Number", "Order Item Number", "Invoice Number", "Tax Date", "Currency")
_BILLING_KEY = ("Order Number", "Order Item Number", "Invoice Number", "Billing Date", "Currency")


@dataclass(frozen=True, slots=True)
class Landed:
    """What a file brought: its landing, and the months to build of each record type."""

    landing: Landing
    months: Mapping[RecordType, tuple[str, ...]]


def land(
    lake: Lake,
    source: str,
    file: str,
    sheets: Mapping[str, ReadSheet],
    template: Template,
    folder: Path,
    *,
    run_id: str,
    fallback: str,
) -> Landed:
    """Land the rows; `fallback` is the month of documents of which no line has a day.

    Raises:
        FileRefusedError: a row cannot be told apart, or a tax belongs to no billing line; nothing
            was landed.
    """
    asked = [kind for kind in RecordType if template.sheet_of(kind).name in sheets]
    if not asked:
        alone = f"nothing but rows of {', '.join(sorted(sheets))}" if sheets else "no rows"
        raise FileRefusedError(
            file, [f"it holds {alone}; a tax is imported with the billing line that it is on"]
        )
    with engine(folder / "spill") as db:
        kinds = [
            kind for kind in asked if _find_documents(db, file, kind, sheets, template, fallback)
        ]
        at = datetime.now(UTC)
        version = f"{at:%Y%m%dT%H%M%S.%fZ}"
        landing = lake.land(
            source,
            CHANGES,
            (page for kind in kinds for page in _pages(db, file, kind, version, at)),
            run_id=run_id,
            api_version="template",
            objects=OBJECTS.values(),
        )
    return Landed(landing, {kind: _touched(lake, source, landing, kind) for kind in kinds})


def numbers(
    sheets: Mapping[str, ReadSheet], template: Template, kind: RecordType, folder: Path
) -> Path | None:
    """A Parquet file of what a system could know, too; None without such a sheet.

    `source` ('' if the row names none), `key`, `item` and `place`, the first row of these.
    """
    sheet = sheets.get(template.sheet_of(kind).name)
    if sheet is None:
        return None
    cells = _Cells(sheet)
    own = ", ".join(literal(name) for name in OWN_SOURCES)
    file = folder / f"{kind}-numbers.parquet"
    with engine(folder / "spill") as db:
        db.execute(
            f"""
            COPY (
                SELECT {cells.sync_source} AS source, {cells.cell(KEY_COLUMN[kind])} AS key,
                    {cells.cell("Order Item Number")} AS item, min(row) AS place
                FROM {cells.table} WHERE {cells.sync_source} NOT IN ({own}) GROUP BY ALL
            ) TO {literal(str(file))} (FORMAT parquet)
            """
        )
    return file


@dataclass(frozen=True, slots=True)
class _Cells:
    """A sheet's cells as SQL."""

    sheet: ReadSheet

    @property
    def table(self) -> str:
        return f"read_parquet({literal(str(self.sheet.file))})"

    def has(self, header: str) -> bool:
        return any(name == header for name, _ in self.sheet.columns)

    def cell(self, header: str) -> str:
        for place, (name, _) in enumerate(self.sheet.columns):
            if name == header:
                return f"c{place}"
        return "NULL::VARCHAR"

    @property
    def sync_source(self) -> str:
        return f"coalesce(trim({self.cell(SYNC_SOURCE)}), '')"

    def as_map(self) -> str:
        """All cells by header; empty ones only of custom fields, which keep their column so."""
        entries = [
            (f"struct_pack(key := {literal(name)}, value := c{place})", column is None)
            for place, (name, column) in enumerate(self.sheet.columns)
        ]
        filled = ", ".join(entry for entry, custom in entries if not custom)
        customs = ", ".join(entry for entry, custom in entries if custom)
        known = f"list_filter([{filled}], lambda e: e.value IS NOT NULL)"
        return f"map_from_entries({f'list_concat({known}, [{customs}])' if customs else known})"


def _find_documents(
    db: duckdb.DuckDBPyConnection,
    file: str,
    kind: RecordType,
    sheets: Mapping[str, ReadSheet],
    template: Template,
    fallback: str,
) -> bool:
    """Create `<record type>_row`: row, id, line, period, cells and named of each row.

    Returns whether there is any.
    """
    sheet = template.sheet_of(kind)
    cells = _Cells(sheets[sheet.name])
    key = cells.cell(KEY_COLUMN[kind])
    if kind is RecordType.DELIVERIES:
        key = f"coalesce(nullif(trim({key}), ''), {_delivery_key(cells)})"
    nameless = db.execute(
        f"SELECT row FROM {cells.table} WHERE coalesce(trim({key}), '') = '' ORDER BY row LIMIT 6"
    ).fetchall()
    if nameless:
        raise FileRefusedError(
            file,
            [
                f"sheet {sheet.name}, row {row}, column {KEY_COLUMN[kind]!r} is empty, and nothing "
                "else tells the row apart"
                for (row,) in nameless
            ],
            "IN_MISSING_REQUIRED",
        )
    day_of = "NULL::DATE"
    if business := BUSINESS_DATE.get(kind):
        header = next(column.header for column in sheet.columns if column.canonical == business)
        day_of = day(cells.cell(header))
    own = ", ".join(literal(name) for name in ("", *OWN_SOURCES))
    number = cells.cell("Order Item Number") if kind is RecordType.SALES else "NULL::VARCHAR"
    joins, named = _named(db, file, kind, cells, sheets)
    db.execute(
        f"""
        CREATE TABLE {kind}_row AS
        WITH told AS (
            SELECT *, CASE WHEN {cells.sync_source} IN ({own}) THEN {key}
                ELSE concat({cells.sync_source}, ':', {key}) END AS id
            FROM {cells.table} WHERE {_said_here(kind, cells, sheets, template)}
        ), placed AS (
            SELECT *, row_number() OVER (PARTITION BY id ORDER BY row) AS place,
                min({day_of}) OVER (PARTITION BY id) AS first_day
            FROM told
        )
        SELECT placed.row, placed.id, coalesce({number}, placed.place::VARCHAR) AS line,
            coalesce(strftime(placed.first_day, '%Y-%m'), {literal(fallback)}) AS period,
            {cells.as_map()} AS cells, {named} AS named
        FROM placed {joins}
        """
    )
    return bool(db.execute(f"SELECT count(*) FROM {kind}_row").fetchall()[0][0])


def _delivery_key(cells: _Cells) -> str:
    """What tells a delivery without a reference number apart; no identifier holds a slash."""
    date_ = cells.cell("Delivery Date")
    parts = [f"trim({cells.cell(header)})" for header in _DELIVERY_KEY]
    parts.append(f"coalesce({day(date_)}::VARCHAR, trim({date_}))")
    filled = ", ".join(f"nullif({part}, '')" for part in parts)
    return f"concat_ws('/', {filled})"


def _said_here(
    kind: RecordType, cells: _Cells, sheets: Mapping[str, ReadSheet], template: Template
) -> str:
    """Which rows are documents: all, but for a system's customers and products that lines carry.

    A conversion file names every customer and product of its lines. A live load of the same job
    records none, and importing the file gives what that gives.
    """
    if kind not in _CARRIED:
        return "true"
    header, carried = _CARRIED[kind]
    more = [
        f"coalesce(trim(c{place}), '') = ''"
        for place, (name, _) in enumerate(cells.sheet.columns)
        if name not in carried
    ]
    lines = [
        _Cells(sheets[name])
        for name in (
            template.sheet_of(each).name for each in (RecordType.SALES, RecordType.INVOICES)
        )
        if name in sheets
    ]
    if not lines:
        return "true"
    named = " UNION ALL ".join(
        f"SELECT {line.sync_source}, {line.cell(header)} FROM {line.table}" for line in lines
    )
    repeated = [
        f"{cells.sync_source} <> ''",
        *more,
        f"({cells.sync_source}, {cells.cell(KEY_COLUMN[kind])}) IN ({named})",
    ]
    return f"NOT coalesce({' AND '.join(repeated)}, false)"


def _named(
    db: duckdb.DuckDBPyConnection,
    file: str,
    kind: RecordType,
    cells: _Cells,
    sheets: Mapping[str, ReadSheet],
) -> tuple[str, str]:
    """What other sheets say of a line: the joins, and a map of it."""
    joins, entries = [], {"currency_column": "yes" if cells.has("Currency") else "no"}
    values = {name: literal(value) for name, value in entries.items()}
    if kind not in (RecordType.SALES, RecordType.INVOICES):
        return "", "MAP {}::MAP(VARCHAR, VARCHAR)"
    if "Product" in sheets:
        products = _Cells(sheets["Product"])
        source = cells.sync_source if products.has(SYNC_SOURCE) else "''"
        id_, code = products.cell("Product Id"), products.cell("Product Code")
        db.execute(
            f"""
            CREATE TABLE {kind}_product AS
            SELECT {products.sync_source} AS source, {id_} AS id, {code} AS code,
                arg_max({products.cell("Product Name")}, row) AS name,
                arg_max({products.cell("Product Type")}, row) AS type
            FROM {products.table} GROUP BY ALL;
            CREATE TABLE {kind}_product_code AS
            SELECT source, code, arg_max(name, id IS NULL) AS name,
                arg_max(type, id IS NULL) AS type, CASE WHEN count(*) = 1 THEN any_value(id) END
                AS id
            FROM {kind}_product GROUP BY source, code;
            CREATE TABLE {kind}_product_id AS
            SELECT source, id, any_value(name) AS name, any_value(type) AS type
            FROM {kind}_product WHERE id IS NOT NULL GROUP BY source, id
            """
        )
        joins.append(
            f"LEFT JOIN {kind}_product_code AS by_code ON by_code.source = {source} "
            f"AND by_code.code = {cells.cell('Product Code')} "
            f"LEFT JOIN {kind}_product_id AS by_id ON by_id.source = {source} "
            f"AND by_id.id = {cells.cell('Product Id')}"
        )
        known = "by_id.id IS NOT NULL"
        values["product_name"] = f"CASE WHEN {known} THEN by_id.name ELSE by_code.name END"
        values["product_type"] = f"CASE WHEN {known} THEN by_id.type ELSE by_code.type END"
        values["product_id"] = "by_code.id"
    if kind is RecordType.INVOICES and "Customer" in sheets:
        customers = _Cells(sheets["Customer"])
        source = cells.sync_source if customers.has(SYNC_SOURCE) else "''"
        db.execute(
            f"""
            CREATE TABLE customer AS
            SELECT {customers.sync_source} AS source, {customers.cell("Account ID")} AS id,
                arg_max({customers.cell("Customer Name")}, row) AS name
            FROM {customers.table} GROUP BY ALL
            """
        )
        joins.append(
            f"LEFT JOIN customer ON customer.source = {source} "
            f"AND customer.id = {cells.cell('Customer ID')}"
        )
        values["customer_name"] = "customer.name"
    if kind is RecordType.INVOICES and "Tax" in sheets:
        _find_taxes(db, file, cells, _Cells(sheets["Tax"]))
        joins.append("LEFT JOIN tax ON tax.billing_row = placed.row")
        values["tax_amount"], values["tax_name"] = "tax.amount", "tax.name"
    keys = ", ".join(literal(name) for name in values)
    return " ".join(joins), f"map([{keys}], [{', '.join(values.values())}])"


def _find_taxes(db: duckdb.DuckDBPyConnection, file: str, billings: _Cells, taxes: _Cells) -> None:
    """Create `tax`: the tax of each billing row that has one.

    Of several lines that all key columns call the same, the first tax is the first line's.
    """
    used = [
        (tax, billing)
        for tax, billing in zip(_TAX_KEY, _BILLING_KEY, strict=True)
        if taxes.has(tax) and billings.has(billing)
    ]

    def key(cells: _Cells, names: list[str]) -> str:
        parts = [
            f"{day(cells.cell(name))}::VARCHAR" if name.endswith("Date") else cells.cell(name)
            for name in names
        ]
        return f"concat_ws(chr(31), {', '.join(f'coalesce({part}, chr(0))' for part in parts)})"

    tax_key, billing_key = (key(taxes, [t for t, _ in used]), key(billings, [b for _, b in used]))
    db.execute(
        f"""
        CREATE TABLE tax AS
        SELECT owed.row, line.row AS billing_row, owed.amount, owed.name
        FROM (
            SELECT row, {tax_key} AS key, {taxes.cell("Tax Amount")} AS amount,
                {taxes.cell("Tax Name")} AS name,
                row_number() OVER (PARTITION BY {tax_key} ORDER BY row) AS place
            FROM {taxes.table}
        ) AS owed LEFT JOIN (
            SELECT row, {billing_key} AS key,
                row_number() OVER (PARTITION BY {billing_key} ORDER BY row) AS place
            FROM {billings.table}
        ) AS line USING (key, place)
        """
    )
    lost = db.execute(
        "SELECT row FROM tax WHERE billing_row IS NULL ORDER BY row LIMIT 6"
    ).fetchall()
    if lost:
        raise FileRefusedError(
            file,
            [f"sheet Tax, row {row} belongs to no line of BillingSchedule" for (row,) in lost],
        )


def _pages(
    db: duckdb.DuckDBPyConnection, file: str, kind: RecordType, version: str, at: datetime
) -> Iterator[Page]:
    """Whole documents of one month, about a thousand rows on a page: a month reads only its own."""
    db.execute(
        f"""
        CREATE TABLE {kind}_page AS
        SELECT id, period, (dense_rank() OVER (ORDER BY period, chunk) - 1)::INTEGER AS page
        FROM (
            SELECT id, period,
                (sum(count) OVER (PARTITION BY period ORDER BY first_row) - 1) // {_ROWS_PER_PAGE}
                AS chunk
            FROM (
                SELECT id, any_value(period) AS period, count(*) AS count, min(row) AS first_row
                FROM {kind}_row GROUP BY id
            )
        );
        CREATE TABLE {kind}_body AS
        SELECT page, row, to_json(struct_pack(id := id, line := line, period := {kind}_row.period,
            row := row, cells := cells, named := named))::VARCHAR AS body
        FROM {kind}_row JOIN {kind}_page USING (id) ORDER BY page, row
        """
    )
    numbers = db.execute(f"SELECT DISTINCT page FROM {kind}_page ORDER BY page").fetchall()
    for (number,) in numbers:
        body, records = db.execute(
            f"SELECT '[' || string_agg(body, ',' ORDER BY row) || ']', count(*) FROM {kind}_body "
            "WHERE page = $page",
            {"page": number},
        ).fetchall()[0]
        keys = db.execute(
            f"SELECT id, period FROM {kind}_page WHERE page = $page ORDER BY id", {"page": number}
        ).fetchall()
        yield Page(
            object=OBJECTS[kind],
            body=body.encode(),
            request=f"import {file}, part {number + 1} of {len(numbers)}",
            server_time=at,
            records=records,
            keys=pa.RecordBatch.from_pylist(
                [
                    {"id": id_, "version": version, "period": period, "window": period}
                    for id_, period in keys
                ],
                schema=KEYS,
            ),
        )


def _touched(lake: Lake, source: str, landing: Landing, kind: RecordType) -> tuple[str, ...]:
    """The months that hold these documents now, and those that held them before."""
    files = lake.keys(lake.landings(source))
    with lake.reading(), duckdb.connect() as db:
        found = db.execute(
            """
            WITH known AS (
                SELECT *, parse_path(filename)[-2] AS landing
                FROM read_parquet($files, filename = true) WHERE object = $object
            )
            SELECT DISTINCT period FROM known WHERE period IS NOT NULL
                AND id IN (SELECT id FROM known WHERE landing = $landing) ORDER BY period
            """,
            {"files": files, "object": OBJECTS[kind], "landing": landing.id},
        ).fetchall()
    return tuple(period for (period,) in found)
