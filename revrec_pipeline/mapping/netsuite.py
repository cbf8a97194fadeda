"""NetSuite: invoices and credits as billing lines, sales orders or invoices as order lines.

What is here: the settings, which columns are read, when a document counts, and what its columns
mean. Which lines of a transaction are sales, and how discounts and taxes are spread over them, is
in `netsuite_lines`; how pages are fetched is in `resources.netsuite`. Facts and their evidence:
reference/netsuite.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, Self, TypeAlias

import duckdb
from pydantic import Field, StringConstraints, model_validator

from revrec_pipeline.mapping import Site, Source, SourceSettings
from revrec_pipeline.mapping.netsuite_lines import create_lines
from revrec_pipeline.mapping.sql import identifier, literal, quotient, term_end, text_list
from revrec_pipeline.model import RecordType

INVOICE, CREDIT, ORDER = "invoice", "credit_memo", "sales_order"
LINE, LINK, VOID = "transaction_line", "line_link", "void_journal"

#: Transaction type → raw object. Cash sales are invoices that were paid at once.
OBJECTS: Mapping[str, str] = {
    "CustInvc": INVOICE,
    "CashSale": INVOICE,
    "CustCred": CREDIT,
    "CashRfnd": CREDIT,
    "SalesOrd": ORDER,
}

#: The SuiteQL tables whose columns settings may name, with the alias that queries give them.
TABLES: Mapping[str, str] = {
    "transaction": "t",
    "transactionline": "tl",
    "customer": "c",
    "item": "i",
}
#: Those of them whose columns come with the header.
HEADER_TABLES = ("transaction", "customer")
Table: TypeAlias = Literal["transaction", "transactionline", "customer", "item"]

#: A custom field's prefix tells its table; a standard column is written with it.
_PREFIXES: Mapping[str, Table] = {
    "custbody": "transaction",
    "custcol": "transactionline",
    "custentity": "customer",
    "custitem": "item",
}
_Path = Annotated[
    str,
    StringConstraints(
        pattern=r"^(cust(body|col|entity|item)[a-z0-9_]+"
        r"|(transaction|transactionline|customer|item)\.[a-z][a-z0-9_]*)$"
    ),
]


def place(path: str) -> tuple[Table, str]:
    """Table and column of a path such as `custcol_start` or `transaction.memo`."""
    for table in ("transaction", "transactionline", "customer", "item"):
        if path.startswith(f"{table}."):
            return table, path.removeprefix(f"{table}.")
    return next(table for prefix, table in _PREFIXES.items() if path.startswith(prefix)), path


@dataclass(frozen=True, slots=True)
class Named:
    """A column that settings name, and the form in which it is asked for."""

    table: Table
    column: str
    form: Literal["value", "day", "text"]  # as it is; YYYY-MM-DD; what people see

    @classmethod
    def by(cls, setting: str, path: str) -> Self:
        """What a setting asks for."""
        if setting.startswith("custom_fields."):
            return cls(*place(path), "text")
        return cls(*place(path), "day" if setting in _DAYS else "value")

    @property
    def alias(self) -> str:
        """The name under which pages show it."""
        return f"{self.form}_{self.table}_{self.column}"


_DAYS = ("service_start_field", "service_end_field")


class NetsuiteSettings(SourceSettings):
    """`[sources.netsuite]`. Columns are named like `custcol_start` or `transaction.memo`."""

    #: Sales orders are order lines; the source then yields sales beside invoices.
    sales_orders: bool = False
    #: Statuses of sales orders that count as sold: letters or texts. Without any, an order counts
    #: once it is approved, unless it is cancelled.
    closed_stages: tuple[str, ...] = ()
    #: Each invoice is also its own sales order, with the invoice's service dates.
    invoice_equals_contract: bool = False
    #: Only paid invoices count, dated by the day on which they were closed (rule `not_paid`).
    paid_invoices_only: bool = False
    #: Invoices over nothing are left out (rule `zero_invoice`).
    discard_zero_invoices: bool = False
    #: Shipping is revenue; else its lines are left out (rule `shipping`).
    include_shipping: bool = False
    #: Taxes of billing lines are told, too.
    tax_enabled: bool = False
    #: Subsidiaries, by name or id, whose lines are left out (rule `excluded_business_entity`).
    exclude_business_entities: tuple[str, ...] = ()
    #: First and last day of service of a line.
    service_start_field: _Path = "transactionline.revrecstartdate"
    service_end_field: _Path = "transactionline.revrecenddate"
    #: Months of service, where a line has no last day.
    term_field: _Path | None = None
    #: RevRec's product type.
    product_type_field: _Path | None = None
    #: Where the CRM's id of the customer is kept; it becomes the customer's id.
    customer_id_field: _Path | None = None
    #: Where the CRM's code of the product is kept; it becomes the product code.
    product_id_field: _Path | None = None
    #: Where an invoice keeps the number of its order.
    order_number_field: _Path | None = None
    #: Further columns: heading → column.
    custom_fields: dict[str, _Path] = Field(default_factory=dict)
    #: Requests at a time. An account has 15 for all of its integrations, older ones 5, of which one
    #: is left to the others; and 10 more per SuiteCloud Plus licence.
    concurrency: int = Field(default=4, ge=1, le=100)

    @model_validator(mode="after")
    def _one_kind_of_contract(self) -> Self:
        if self.sales_orders and self.invoice_equals_contract:
            raise ValueError(
                "sales_orders and invoice_equals_contract exclude each other: every sale would "
                "count twice"
            )
        return self

    def named(self) -> dict[str, Named]:
        """Setting → column, of each that a setting names."""
        paths = {name: getattr(self, name) for name in _FIELDS}
        paths |= {f"custom_fields.{name}": path for name, path in self.custom_fields.items()}
        return {name: Named.by(name, path) for name, path in paths.items() if path is not None}


_FIELDS = (
    *_DAYS,
    "term_field",
    "product_type_field",
    "customer_id_field",
    "product_id_field",
    "order_number_field",
)


def _record_types(settings: SourceSettings) -> tuple[RecordType, ...]:
    if isinstance(settings, NetsuiteSettings) and (
        settings.sales_orders or settings.invoice_equals_contract
    ):
        return (RecordType.SALES, RecordType.INVOICES)
    return (RecordType.INVOICES,)


def rows(
    db: duckdb.DuckDBPyConnection, record_type: RecordType, settings: SourceSettings, site: Site
) -> None:
    """Create the view `rows`: one row per sold line, and one for a document without any."""
    if not isinstance(settings, NetsuiteSettings):
        raise TypeError(f"these are not NetSuite's settings: {type(settings).__name__}")
    objects: tuple[str, ...] = (INVOICE, CREDIT)
    if record_type is RecordType.SALES:
        objects = (ORDER,) if settings.sales_orders else (INVOICE,)
    named = settings.named().values()
    create_lines(
        db,
        objects,
        site,
        header_names=[one.alias for one in named if one.table in HEADER_TABLES],
        line_names=[one.alias for one in named if one.table not in HEADER_TABLES],
    )
    make = _order_rows if record_type is RecordType.SALES else _billing_rows
    db.execute(make(settings, site))
    db.execute(_TOTALS)


SOURCE = Source(
    name="netsuite",
    title="NetSuite",
    objects=(INVOICE, CREDIT, ORDER, LINE, LINK, VOID),
    # Where an invoice is a contract, its order lines come from the same lines as its billing lines.
    documents={
        INVOICE: (RecordType.INVOICES,),
        CREDIT: (RecordType.INVOICES,),
        ORDER: (RecordType.SALES,),
    },
    settings=NetsuiteSettings,
    record_types=_record_types,
    rows=rows,
    apart=(RecordType.SALES, RecordType.INVOICES),
)


# -- rows ------------------------------------------------------------------------------------

# For `controls`: what NetSuite itself says of a document. `foreigntotal` holds the taxes. Neither
# an invoice nor a credit can be over less than nothing, and whether a credit's total has a sign is
# not documented; the ledger has one. Without the column, the receivable tells the same.
_TOTALS = f"""
CREATE VIEW document_total AS
SELECT document.id AS document_id, NULL::BIGINT AS lines,
    TRY((coalesce(CASE object WHEN '{CREDIT}' THEN -abs(total) ELSE total END, receivable)
        - coalesce(taxes, 0))::DECIMAL(18, 4)) AS amount,
    []::VARCHAR[] AS outside
FROM netsuite_document AS document
LEFT JOIN (
    SELECT landing, transaction, -max(gross) FILTER (kind = 'main') AS receivable,
        sum(gross) FILTER (kind = 'tax') AS taxes
    FROM netsuite_posted GROUP BY ALL
) AS posted ON posted.landing = document.landing AND posted.transaction = document.id
"""


def _order_rows(settings: NetsuiteSettings, site: Site) -> str:
    start = f"coalesce({_day(settings, 'service_start_field')}, billed_on)"
    return f"""
    CREATE VIEW rows AS
    WITH dated AS ({_dated(settings)}), sold AS (
        -- A line without a quantity is one over an amount: it is sold once.
        SELECT * REPLACE (coalesce(units, CASE WHEN key IS NOT NULL THEN 1 END) AS units),
            {start} AS starts
        FROM dated
    )
    SELECT {_lineage(RecordType.SALES, settings, site)},
        tranid AS order_number, key AS order_item_number, tranid AS order_name,
        {_products(settings)}, NULL::VARCHAR AS product_family,
        {_value(settings, "product_type_field")} AS product_type,
        billed_on AS order_start_date,
        CASE WHEN key IS NOT NULL THEN starts END AS service_start_date,
        {_ends(settings, "starts")} AS service_end_date,
        units::DECIMAL(28, 12) AS quantity,
        -- What a unit costs before discounts; `rate` may be a percentage, and in which currency it
        -- stands is not documented.
        {quotient("gross", "units::DECIMAL(28, 12)")} AS list_price,
        {quotient("amount", "units::DECIMAL(28, 12)")} AS unit_price,
        amount, currency,
        NULL::VARCHAR AS account_owner, NULL::VARCHAR AS opportunity_id,
        NULL::VARCHAR AS reference_invoice_number, {_custom(settings)} AS custom_fields
    FROM sold
    """


def _billing_rows(settings: NetsuiteSettings, site: Site) -> str:
    order_number, order_item, contract_date = "from_order", "from_order_line", "from_order_date"
    if settings.invoice_equals_contract:
        order_number = f"CASE object WHEN '{INVOICE}' THEN tranid ELSE from_invoice END"
        order_item = f"CASE object WHEN '{INVOICE}' THEN key ELSE from_invoice_line END"
        contract_date = f"CASE object WHEN '{INVOICE}' THEN billed_on ELSE from_invoice_date END"
    elif settings.order_number_field:
        order_number = f"coalesce({_value(settings, 'order_number_field')}, {order_number})"
    start = _day(settings, "service_start_field")
    tax, tax_name = ("tax", "tax_name") if settings.tax_enabled else ("NULL", "NULL")
    return f"""
    CREATE VIEW rows AS
    WITH dated AS ({_dated(settings)})
    SELECT {_lineage(RecordType.INVOICES, settings, site)},
        {order_number} AS order_number, {order_item} AS order_item_number,
        {contract_date} AS contract_date,
        {_products(settings)},
        billed_on AS billing_date, tranid AS invoice_number, amount, currency,
        {start} AS service_start_date, {_ends(settings, start)} AS service_end_date,
        units::DECIMAL(28, 12) AS quantity,
        CASE object WHEN '{CREDIT}' THEN from_invoice END AS reference_invoice_number,
        CASE object WHEN '{CREDIT}' THEN from_invoice_line END AS reference_line_id,
        {tax}::DECIMAL(18, 4) AS tax_amount, {tax_name}::VARCHAR AS tax_name,
        {_custom(settings)} AS custom_fields
    FROM dated
    """


def _lineage(record_type: RecordType, settings: NetsuiteSettings, site: Site) -> str:
    customer = f"coalesce({_value(settings, 'customer_id_field')}, entity)"
    return f"""
        'netsuite' AS source, '{record_type}' AS record_type, left(trandate, 7) AS period,
        CASE type WHEN 'CustInvc' THEN 'invoice' WHEN 'CashSale' THEN 'cash_sale'
            WHEN 'CustCred' THEN 'credit_memo' WHEN 'CashRfnd' THEN 'cash_refund'
            WHEN 'SalesOrd' THEN 'sales_order' END AS document_type,
        id AS document_id, key AS line_id, version AS source_version, landing AS raw_batch,
        coalesce(line_page, page)::INTEGER AS raw_page,
        'https://' || account || '.app.netsuite.com/app/accounting/transactions/transaction.nl?id='
            || id AS url,
        {_excluded_by(settings, site)} AS excluded_by,
        {customer} AS customer_id,
        coalesce(nullif(trim(companyname), ''), nullif(trim(altname), '')) AS customer_name
    """


def _dated(settings: NetsuiteSettings) -> str:
    """The lines, with the day that counts."""
    day = "try_cast(trandate AS DATE)"
    if settings.paid_invoices_only:
        day = f"coalesce(CASE object WHEN '{INVOICE}' THEN try_cast(closed AS DATE) END, {day})"
    return f"SELECT *, {day} AS billed_on FROM netsuite_line"


def _excluded_by(settings: NetsuiteSettings, site: Site) -> str:
    rules = [
        # With reversing journals as the preference, the journal is all that tells of a void.
        "WHEN voided = 'T' OR voided_by IS NOT NULL THEN 'void'",
        f"WHEN object <> '{ORDER}' AND posting = 'F' THEN 'not_approved'",
        f"WHEN object = '{ORDER}' AND status = 'A' THEN 'not_approved'",
        f"WHEN object = '{ORDER}' AND status = 'C' THEN 'cancelled'",
    ]
    if settings.closed_stages:
        stages = text_list(settings.closed_stages)
        rules.append(
            f"WHEN object = '{ORDER}' AND NOT coalesce(list_contains({stages}, status), false) "
            f"AND NOT coalesce(list_contains({stages}, stage), false) THEN 'not_closed_won'"
        )
    if site.conversion_date:
        day = f"DATE {literal(site.conversion_date)}"
        rules.append(f"WHEN billed_on < {day} THEN 'before_conversion_date'")
    if settings.paid_invoices_only:
        # B: paid in full, or fully applied. Cash sales and refunds are paid by themselves.
        rules.append(
            "WHEN type IN ('CustInvc', 'CustCred') AND status IS DISTINCT FROM 'B' THEN 'not_paid'"
        )
    if settings.discard_zero_invoices:
        rules.append(f"WHEN object <> '{ORDER}' AND total = 0 THEN 'zero_invoice'")
    rules.append("WHEN key IS NULL AND total = 0 THEN 'no_lines'")
    if settings.exclude_business_entities:
        names = text_list(settings.exclude_business_entities)
        rules.append(
            f"WHEN list_contains({names}, subsidiary) OR list_contains({names}, subsidiaryname) "
            "THEN 'excluded_business_entity'"
        )
    if not settings.include_shipping:
        rules.append("WHEN kind = 'shipping' THEN 'shipping'")
    rules.append("WHEN kind = 'payment' THEN 'payment'")
    if settings.exclude_products:
        codes = text_list(settings.exclude_products)
        rules.append(f"WHEN list_contains({codes}, {_code(settings)}) THEN 'excluded_product'")
    return f"CASE {' '.join(rules)} END"


# -- columns ---------------------------------------------------------------------------------


def _value(settings: NetsuiteSettings, setting: str) -> str:
    """The value of the column that a setting names; blanks are none."""
    named = settings.named().get(setting)
    return f"nullif(trim({identifier(named.alias)}), '')" if named else "NULL::VARCHAR"


def _day(settings: NetsuiteSettings, setting: str) -> str:
    return f"try_cast({_value(settings, setting)} AS DATE)"


def _code(settings: NetsuiteSettings) -> str:
    # An item without the CRM's code would go by another one without a word: it is flagged instead.
    return _value(settings, "product_id_field") if settings.product_id_field else "itemcode"


def _products(settings: NetsuiteSettings) -> str:
    return f"""item AS product_id, {_code(settings)} AS product_code,
        coalesce(itemname, itemcode) AS product_name"""


def _ends(settings: NetsuiteSettings, start: str) -> str:
    """The last day of service, included: the line's own, else by the term."""
    end = _day(settings, "service_end_field")
    if settings.term_field is None:
        return end
    return f"coalesce({end}, {term_end(start, _value(settings, 'term_field'))})"


def _custom(settings: NetsuiteSettings) -> str:
    headings = ", ".join(map(literal, settings.custom_fields))
    values = ", ".join(_value(settings, f"custom_fields.{name}") for name in settings.custom_fields)
    return f"map([{headings}], [{values}])::MAP(VARCHAR, VARCHAR)"
