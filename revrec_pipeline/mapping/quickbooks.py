"""QuickBooks Online: sales forms as billing lines, and as order lines where one is a contract.

What lives here is the meaning of Intuit's fields in minor version 75: which lines count, what voids
a document, where codes and numbers are kept. How discounts and taxes reach the lines is in
`quickbooks_money`; how pages are fetched is in `resources.quickbooks`. Facts and their evidence:
reference/quickbooks.md.
"""

from dataclasses import dataclass
from typing import Annotated

import duckdb
from pydantic import Field, StringConstraints

from revrec_pipeline.mapping import Site, Source, SourceSettings
from revrec_pipeline.mapping.quickbooks_money import MACROS, SOLD_LINES
from revrec_pipeline.mapping.sql import literal, quoted_numbers, quotient, term_end, text_list
from revrec_pipeline.model import RecordType


@dataclass(frozen=True, slots=True)
class SalesForm:
    """One kind of document."""

    entity: str  # the vendor's name
    prefix: str  # of document ids: the vendor's ids are unique within a kind only
    sign: int  # credits show positive amounts
    page: str  # of the vendor's own web application
    is_sale: bool  # whether it can be a contract


#: By raw object.
FORMS: dict[str, SalesForm] = {
    "invoice": SalesForm("Invoice", "INV", 1, "invoice", is_sale=True),
    "sales_receipt": SalesForm("SalesReceipt", "SR", 1, "salesreceipt", is_sale=True),
    "credit_memo": SalesForm("CreditMemo", "CM", -1, "creditmemo", is_sale=False),
    "refund_receipt": SalesForm("RefundReceipt", "RR", -1, "refundreceipt", is_sale=False),
}
ITEM, TAX_RATE = "item", "tax_rate"


def document_id(name: str, number: str) -> str:
    """The id of a document, as `INV-130`, from its raw object and the vendor's id."""
    return f"{FORMS[name].prefix}-{number}"


#: How the custom field of a sales form is written in `custom_fields`.
CUSTOM_FIELD = "CustomField."

_ItemField = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9]*$")]
_Path = Annotated[
    str,
    StringConstraints(
        pattern=r"^(CustomField\..+|(Line\.)?[A-Za-z][A-Za-z0-9]*(\.[A-Za-z][A-Za-z0-9]*)*)$"
    ),
]
_Months = Annotated[int, Field(ge=0, le=1200)]


class QuickbooksSettings(SourceSettings):
    """`[sources.quickbooks]`."""

    #: Each invoice and sales receipt is also its own sales order.
    invoice_equals_contract: bool = False
    #: Months of service by product code; 0 is delivered on the day. Lines know no last day.
    terms: dict[str, _Months] = Field(default_factory=dict)
    #: Only forms without an open balance count (rule `not_paid`).
    paid_invoices_only: bool = False
    #: Forms over nothing are left out (rule `zero_invoice`).
    discard_zero_invoices: bool = False
    #: Fill the tax of each line.
    tax_enabled: bool = False
    #: The field of the item that holds the product code, as `Sku`; without it the item's id.
    product_id_field: _ItemField | None = None
    #: The custom field that holds the customer's id in the CRM; without it QuickBooks' own id.
    customer_id_field: str | None = None
    #: The custom field that holds the number of the sales order.
    order_number_field: str | None = None
    #: Locations (name or id) whose forms are left out (rule `excluded_business_entity`).
    exclude_business_entities: tuple[str, ...] = ()
    #: Further columns: heading → `CustomField.<name>`, a field of the form as `DepartmentRef.name`,
    #: or one of the line as `Line.SalesItemLineDetail.ClassRef.name`.
    custom_fields: dict[str, _Path] = Field(default_factory=dict)
    #: Intuit allows an app 10 requests a second of a company's, and a company 500 a minute.
    requests_per_second: float = Field(default=10, gt=0)

    def custom_field_names(self) -> set[str]:
        """The custom fields of sales forms that these settings name."""
        named = {self.customer_id_field, self.order_number_field}
        named.update(
            path.removeprefix(CUSTOM_FIELD)
            for path in self.custom_fields.values()
            if path.startswith(CUSTOM_FIELD)
        )
        return {name for name in named if name}


def _record_types(settings: SourceSettings) -> tuple[RecordType, ...]:
    if isinstance(settings, QuickbooksSettings) and settings.invoice_equals_contract:
        return (RecordType.SALES, RecordType.INVOICES)
    return (RecordType.INVOICES,)


def rows(
    db: duckdb.DuckDBPyConnection, record_type: RecordType, settings: SourceSettings, site: Site
) -> None:
    """Create the view `rows`; see `mapping.Source.rows`."""
    if not isinstance(settings, QuickbooksSettings):
        raise TypeError(f"these are not QuickBooks' settings: {type(settings).__name__}")
    db.execute(MACROS)
    db.execute(_settings_macros(settings, site))
    objects = [
        name for name, form in FORMS.items() if form.is_sale or record_type is RecordType.INVOICES
    ]
    db.execute(_forms(objects))
    db.execute(_heads(settings, site))
    db.execute(_ENTRIES)
    db.execute(_lists(settings))
    db.execute(f"CREATE OR REPLACE VIEW quickbooks_sold AS {SOLD_LINES}")
    db.execute(_lines(settings, record_type))
    db.execute(_ORDER_ROWS if record_type is RecordType.SALES else _billing_rows(settings))
    db.execute(_TOTALS)


def _settings_macros(settings: QuickbooksSettings, site: Site) -> str:
    conversion = f"DATE '{site.conversion_date}'" if site.conversion_date else "NULL::DATE"
    months = ", ".join(literal(str(number)) for number in settings.terms.values())
    terms = f"map({text_list(settings.terms)}, [{months}]::VARCHAR[])"
    return f"""
    CREATE OR REPLACE MACRO conversion_date() AS {conversion};
    CREATE OR REPLACE MACRO excluded_products() AS {text_list(settings.exclude_products)};
    CREATE OR REPLACE MACRO excluded_locations() AS
        {text_list(settings.exclude_business_entities)};
    CREATE OR REPLACE MACRO is_contract() AS {settings.invoice_equals_contract};
    CREATE OR REPLACE MACRO paid_only() AS {settings.paid_invoices_only};
    CREATE OR REPLACE MACRO discards_zero() AS {settings.discard_zero_invoices};
    CREATE OR REPLACE MACRO months_of(product) AS {terms}[product];
    """


# -- from pages to documents ---------------------------------------------------------------------


def _listed(name: str, entity: str) -> str:
    """The objects of the pages of a kind, each as JSON with its numbers quoted.

    A page of change data capture, kept for the deletions in it, has another shape and yields none.
    """
    shape = f'{{"QueryResponse":{{"{entity}":["JSON"]}}}}'
    return f"""
    SELECT landing, page, unnest(found.QueryResponse."{entity}") AS json FROM (
        SELECT landing, page, from_json({quoted_numbers("body")}, '{shape}') AS found
        FROM raw_{name}
    )
    """


def _forms(objects: list[str]) -> str:
    kinds = " UNION ALL ".join(
        f"SELECT '{name}' AS object, '{FORMS[name].prefix}' AS prefix, {FORMS[name].sign} AS sign, "
        f"'{FORMS[name].page}' AS web_page, * FROM ({_listed(name, FORMS[name].entity)})"
        for name in objects
    )
    return f"CREATE OR REPLACE VIEW quickbooks_form AS {kinds}"


_TEXT = '"VARCHAR"'
_REFERENCE = '{"value":"VARCHAR","name":"VARCHAR"}'


def _structure(fields: dict[str, str]) -> str:
    return "{" + ",".join(f'"{name}":{kind}' for name, kind in fields.items()) + "}"


_HEAD = _structure(
    {
        **dict.fromkeys(
            ("Id", "DocNumber", "TxnDate", "PrivateNote", "TotalAmt", "Balance"), _TEXT
        ),
        **dict.fromkeys(("RemainingCredit", "GlobalTaxCalculation"), _TEXT),
        **dict.fromkeys(("CustomerRef", "CurrencyRef", "DepartmentRef"), _REFERENCE),
        "CustomField": '[{"Name":"VARCHAR","StringValue":"VARCHAR"}]',
        "TxnTaxDetail": _structure(
            {
                "TotalTax": _TEXT,
                "TaxLine": f'[{{"TaxLineDetail":{{"TaxRateRef":{_REFERENCE}}}}}]',
            }
        ),
        "Line": '["JSON"]',
    }
)
_LINE = _structure(
    {
        **dict.fromkeys(("Id", "Amount", "DetailType"), _TEXT),
        "SalesItemLineDetail": _structure(
            {
                **dict.fromkeys(("ItemRef", "TaxCodeRef"), _REFERENCE),
                **dict.fromkeys(("Qty", "UnitPrice", "ServiceDate", "TaxInclusiveAmt"), _TEXT),
            }
        ),
    }
)


def _custom_field(name: str) -> str:
    """The value of a form's custom field, NULL when it is empty or not there."""
    return (
        f"nullif(trim([one.StringValue FOR one IN it.CustomField IF one.Name = {literal(name)}]"
        "[1]), '')"
    )


def _heads(settings: QuickbooksSettings, site: Site) -> str:
    """One row per current document.

    A void keeps the document, sets amounts and quantities to zero and begins the private note with
    "Voided"; one published answer still had its amounts. An amount of zero alone voids nothing.
    """
    customer = "it.CustomerRef.value"
    if settings.customer_id_field:
        customer = _custom_field(settings.customer_id_field)
    order = "NULL::VARCHAR"
    if settings.order_number_field:
        order = _custom_field(settings.order_number_field)
    return f"""
    CREATE OR REPLACE VIEW quickbooks_head AS
    SELECT *,
        CASE WHEN regexp_matches(it.PrivateNote, '(?i)^\\s*voided\\b') OR is_emptied THEN 'void'
             WHEN billed_on < conversion_date() THEN 'before_conversion_date'
             WHEN list_contains(excluded_locations(), it.DepartmentRef.value)
                OR list_contains(excluded_locations(), it.DepartmentRef.name)
             THEN 'excluded_business_entity'
             WHEN paid_only() AND
                try_cast(coalesce(it.RemainingCredit, it.Balance) AS DECIMAL(18, 4)) <> 0
             THEN 'not_paid'
             WHEN discards_zero() AND total = 0 THEN 'zero_invoice'
             WHEN total = 0 AND NOT has_sales THEN 'no_lines' END AS rule
    FROM (
        SELECT *,
            {customer} AS customer_id,
            nullif(trim(it.CustomerRef.name), '') AS customer_name,
            {order} AS named_order,
            try_cast(it.TxnDate AS DATE) AS billed_on,
            nullif(trim(it.DocNumber), '') AS number,
            -- Only a company with several currencies shows one.
            coalesce(upper(it.CurrencyRef.value), {literal(site.home_currency)}) AS currency,
            ten_thousandths(it.TotalAmt) AS total,
            CASE WHEN it.TxnTaxDetail.TotalTax IS NULL THEN 0::HUGEINT
                 ELSE ten_thousandths(it.TxnTaxDetail.TotalTax) END AS tax_total,
            it.GlobalTaxCalculation IS NOT DISTINCT FROM 'TaxInclusive' AS is_inclusive,
            concat('https://app.qbo.intuit.com/app/', web_page, '?txnId=', it.Id) AS url,
            len([one FOR one IN lines IF one->>'$.DetailType' = 'SalesItemLineDetail']) > 0
                AS has_sales,
            has_sales AND total = 0 AND len([one FOR one IN lines
                IF one->>'$.DetailType' = 'SalesItemLineDetail' AND (
                    coalesce(ten_thousandths(one->>'$.Amount'), 1) <> 0
                    OR coalesce(try_cast(one->>'$.SalesItemLineDetail.Qty' AS DECIMAL(28, 12)), 1)
                        <> 0)
                ]) = 0 AS is_emptied
        FROM (
            SELECT form.*, current.version, current.id AS document_id,
                -- Of a bundle only the nested lines count: its own amount is their sum, or nothing.
                -- One recorded bundle names no type.
                flatten([
                    CASE WHEN json_exists(one, '$.GroupLineDetail')
                         THEN coalesce(json_extract(one, '$.GroupLineDetail.Line[*]'), [])
                         ELSE [one] END
                    FOR one IN form.it.Line
                ]) AS lines
            FROM (SELECT *, from_json(json, '{_HEAD}') AS it FROM quickbooks_form) AS form
            JOIN current ON current.object = form.object
                AND current.id = concat(form.prefix, '-', form.it.Id)
                AND current.landing = form.landing AND current.page = form.page
        )
    )
    """


# -- lines ---------------------------------------------------------------------------------------

#: Every line of every document. Discounts, subtotals and nested lines may have no id of their own:
#: then the position names a line. Shipping is an item with a name instead of an id.
_ENTRIES = f"""
CREATE OR REPLACE VIEW quickbooks_entry AS
SELECT *,
    coalesce(nullif(trim(line.Id), ''), concat('position-', position)) AS line_id,
    line.DetailType AS detail,
    ten_thousandths(line.Amount) AS gross,
    ten_thousandths(line.SalesItemLineDetail.TaxInclusiveAmt) AS with_tax,
    line.SalesItemLineDetail.ItemRef.value IS NOT DISTINCT FROM 'SHIPPING_ITEM_ID' AS is_shipping,
    coalesce(line.SalesItemLineDetail.TaxCodeRef.value, 'NON') <> 'NON' AS is_taxable
FROM (
    SELECT * EXCLUDE (line_json), line_json, from_json(line_json, '{_LINE}') AS line FROM (
        SELECT object, document_id, landing, currency, total, tax_total, is_inclusive,
            generate_subscripts(lines, 1) AS position, unnest(lines) AS line_json
        FROM quickbooks_head
    )
);
"""


def _lists(settings: QuickbooksSettings) -> str:
    """What items and tax rates say, as of the same landing."""
    field = settings.product_id_field or "Id"
    return f"""
    CREATE OR REPLACE VIEW quickbooks_item AS
    SELECT landing, json->>'$.Id' AS id, any_value(nullif(trim(json->>'$.{field}'), '')) AS code
    FROM ({_listed(ITEM, "Item")}) GROUP BY ALL;

    CREATE OR REPLACE VIEW quickbooks_tax_names AS
    SELECT landing, map(list(id), list(name)) AS names FROM (
        SELECT landing, json->>'$.Id' AS id, any_value(json->>'$.Name') AS name
        FROM ({_listed(TAX_RATE, "TaxRate")}) GROUP BY ALL
    ) GROUP BY landing;
    """


def _lines(settings: QuickbooksSettings, record_type: RecordType) -> str:
    """One row per line that sells something, and one for a document without any."""
    item = "line.SalesItemLineDetail.ItemRef.value"
    code = item
    if settings.product_id_field:
        code = f"CASE WHEN sold.is_shipping THEN {item} ELSE item.code END"
    return f"""
    CREATE OR REPLACE VIEW quickbooks_line AS
    SELECT 'quickbooks' AS source, '{record_type}' AS record_type,
        strftime(head.billed_on, '%Y-%m') AS period, head.object AS document_type,
        head.document_id, sold.line_id, head.version AS source_version,
        head.landing AS raw_batch, head.page AS raw_page, head.url,
        coalesce(head.rule,
            CASE WHEN list_contains(excluded_products(), {code}) THEN 'excluded_product' END
        ) AS excluded_by,
        head.customer_id, head.customer_name, head.named_order, head.number, head.billed_on,
        head.currency, head.sign, head.it,
        {item} AS product_id, {code} AS product_code,
        line.SalesItemLineDetail.ItemRef.name AS product_name,
        money_of(head.sign * sold.net) AS amount,
        money_of(head.sign * sold.tax * sold.step) AS tax_amount,
        try_cast(line.SalesItemLineDetail.Qty AS DECIMAL(28, 12)) AS quantity,
        try_cast(line.SalesItemLineDetail.UnitPrice AS DECIMAL(28, 12)) AS list_price,
        try_cast(line.SalesItemLineDetail.ServiceDate AS DATE) AS served_on,
        {_last_day(code)} AS last_day,
        tax_names.names AS tax_names,
        {_custom_columns(settings)} AS custom_fields
    FROM quickbooks_head AS head
    LEFT JOIN quickbooks_sold AS sold
        ON sold.object = head.object AND sold.document_id = head.document_id
    LEFT JOIN quickbooks_item AS item ON item.landing = head.landing AND item.id = {item}
    LEFT JOIN quickbooks_tax_names AS tax_names ON tax_names.landing = head.landing
    """


def _last_day(code: str) -> str:
    """The last day of service by the product's term; a line itself knows only the first one."""
    first = "coalesce(try_cast(line.SalesItemLineDetail.ServiceDate AS DATE), head.billed_on)"
    months = f"months_of({code})"
    return f"CASE WHEN {months} = '0' THEN {first} ELSE {term_end(first, months)} END"


def _custom_columns(settings: QuickbooksSettings) -> str:
    if not settings.custom_fields:
        return "NULL::MAP(VARCHAR, VARCHAR)"
    values = []
    for path in settings.custom_fields.values():
        if path.startswith(CUSTOM_FIELD):
            values.append(_custom_field(path.removeprefix(CUSTOM_FIELD)).replace("it.", "head.it."))
        elif path.startswith("Line."):
            values.append(f"sold.line_json->>'$.{path.removeprefix('Line.')}'")
        else:
            values.append(f"head.json->>'$.{path}'")
    headings = text_list(settings.custom_fields)
    return f"map({headings}, [{', '.join(values)}]::VARCHAR[])::MAP(VARCHAR, VARCHAR)"


# -- rows ----------------------------------------------------------------------------------------

_LINEAGE = """source, record_type, period, document_type, document_id, line_id, source_version,
    raw_batch, raw_page, url, excluded_by, customer_id, customer_name"""
#: DocNumbers may repeat and line ids begin with 1 in each document: hence both.
_ORDER_ITEM = "concat(document_id, ':', line_id)"

#: An amount that was typed without a quantity is one piece.
_ORDER_ROWS = f"""
CREATE OR REPLACE VIEW rows AS
SELECT {_LINEAGE},
    number AS order_number, CASE WHEN line_id IS NOT NULL THEN {_ORDER_ITEM} END
        AS order_item_number,
    NULL::VARCHAR AS order_name,
    product_id, product_code, product_name,
    NULL::VARCHAR AS product_family, NULL::VARCHAR AS product_type,
    billed_on AS order_start_date,
    CASE WHEN line_id IS NOT NULL THEN coalesce(served_on, billed_on) END AS service_start_date,
    last_day AS service_end_date,
    units AS quantity, list_price,
    CASE WHEN units = 0 AND amount = 0 THEN 0::DECIMAL(28, 12)
         ELSE {quotient("amount", "units")} END AS unit_price,
    amount, currency,
    NULL::VARCHAR AS account_owner, NULL::VARCHAR AS opportunity_id,
    NULL::VARCHAR AS reference_invoice_number, custom_fields
FROM (
    SELECT *, CASE WHEN line_id IS NOT NULL THEN coalesce(quantity, 1)::DECIMAL(28, 12) END AS units
    FROM quickbooks_line
)
"""


def _billing_rows(settings: QuickbooksSettings) -> str:
    """Billing lines. A credit names no invoice, so it has no contract but the order it names."""
    tax, tax_name = "NULL::DECIMAL(18, 4)", "NULL::VARCHAR"
    if settings.tax_enabled:
        tax = "tax_amount"
        tax_name = """CASE WHEN tax_amount <> 0 THEN array_to_string([
            coalesce(tax_names[rate.value], rate.name, 'tax rate ' || rate.value)
            FOR rate IN [one.TaxLineDetail.TaxRateRef FOR one IN it.TxnTaxDetail.TaxLine]
            ], ', ') END"""
    sales = text_list(name for name, form in FORMS.items() if form.is_sale)
    contract = f"is_contract() AND list_contains({sales}, document_type)"
    return f"""
    CREATE OR REPLACE VIEW rows AS
    SELECT {_LINEAGE},
        CASE WHEN {contract} THEN number ELSE named_order END AS order_number,
        CASE WHEN {contract} AND line_id IS NOT NULL THEN {_ORDER_ITEM} END AS order_item_number,
        CASE WHEN {contract} THEN billed_on END AS contract_date,
        product_id, product_code, product_name,
        billed_on AS billing_date, number AS invoice_number, amount, currency,
        CASE WHEN last_day IS NULL THEN served_on ELSE coalesce(served_on, billed_on) END
            AS service_start_date,
        last_day AS service_end_date,
        quantity,
        NULL::VARCHAR AS reference_invoice_number, NULL::VARCHAR AS reference_line_id,
        {tax} AS tax_amount, {tax_name} AS tax_name, custom_fields
    FROM quickbooks_line
    """


# For `controls`: what QuickBooks itself says of a document. `HomeTotalAmt` is in another currency.
_TOTALS = """
CREATE OR REPLACE VIEW document_total AS
SELECT document_id, NULL::BIGINT AS lines, money_of(sign * (total - tax_total)) AS amount,
    []::VARCHAR[] AS outside
FROM quickbooks_head
"""

SOURCE = Source(
    name="quickbooks",
    title="QuickBooks Online",
    objects=(*FORMS, ITEM, TAX_RATE),
    documents={
        name: (RecordType.INVOICES, *((RecordType.SALES,) if form.is_sale else ()))
        for name, form in FORMS.items()
    },
    settings=QuickbooksSettings,
    record_types=_record_types,
    rows=rows,
    apart=(RecordType.SALES, RecordType.INVOICES),
)
