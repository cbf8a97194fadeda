"""Xero: sales invoices and credit notes as billing lines, and invoices as order lines if asked for.

What lives here is the meaning of Xero's fields. Facts and their evidence: reference/xero.md. How
pages are fetched is in `resources.xero`.

Amounts stay in the document's currency. Whoever needs the organisation's own divides by
`CurrencyRate`, which is units of the document's currency for one of the organisation's.
"""

from collections.abc import Iterable
from typing import Annotated

import duckdb
from pydantic import AfterValidator, Field, StringConstraints

from revrec_pipeline.mapping import Site, Source, SourceSettings
from revrec_pipeline.mapping.sql import (
    identifier,
    literal,
    quoted_numbers,
    quotient,
    term_end,
    text_list,
)
from revrec_pipeline.model import RecordType

INVOICE, CREDIT_NOTE = "invoice", "credit_note"
#: What the mapping reads of a document (an invoice or a credit note), of its customer and a line.
_DOCUMENT_FIELDS = (
    "Type",
    "Status",
    "LineAmountTypes",
    "CurrencyCode",
    "Date",
    "DateString",
    "FullyPaidOnDate",
    "SubTotal",
    "Total",
)
_CONTACT_FIELDS = ("ContactID", "Name")
_LINE_FIELDS = (
    "LineItemID",
    "Description",
    "Quantity",
    "UnitAmount",
    "LineAmount",
    "ItemCode",
    "TaxType",
    "TaxAmount",
)
#: These hold other objects; no setting may name one.
_NESTED = {
    "invoice": {"allocations", "contact", "lineitems"},
    "contact": set(),
    "lineitem": {"item", "tracking"},
}


def _plain(path: str) -> str:
    owner, _, name = path.partition(".")
    if name.lower() in _NESTED.get(owner.lower(), set()):
        raise ValueError(f"{path} holds no plain value; name a field such as Invoice.Reference")
    return path


_DocumentPath = Annotated[
    str, StringConstraints(pattern=r"^(Invoice|Contact)\.[A-Za-z]+$"), AfterValidator(_plain)
]
_LinePath = Annotated[
    str,
    StringConstraints(pattern=r"^(LineItem\.[A-Za-z]+|Tracking\..{1,100})$"),
    AfterValidator(_plain),
]
_ContactPath = Annotated[str, StringConstraints(pattern=r"^Contact\.[A-Za-z]+$")]
_Path = Annotated[
    str,
    StringConstraints(pattern=r"^((Invoice|Contact|LineItem)\.[A-Za-z]+|Tracking\..{1,100})$"),
    AfterValidator(_plain),
]


class XeroSettings(SourceSettings):
    """`[sources.xero]`."""

    #: Each invoice is also its own sales order. Xero's lines have no service period, so `terms` has
    #: to say how long each item's service lasts.
    invoice_equals_contract: bool = False
    #: Only what is paid in full counts, dated by the day of payment (rule `not_paid`).
    paid_invoices_only: bool = False
    #: Documents over nothing are left out (rule `zero_invoice`).
    discard_zero_invoices: bool = False
    #: Whether billing lines carry their tax.
    tax_enabled: bool = False
    #: Months of service by product code, from the day of the invoice; 0 is delivered on that day.
    terms: dict[str, Annotated[int, Field(ge=0, le=1200)]] = Field(default_factory=dict)
    #: Where a document keeps the number of its order, as `Invoice.Reference`. People type it: a
    #: reference that is no identifier is flagged.
    order_number_field: _DocumentPath | None = None
    #: Where a customer keeps the CRM's id of it, as `Contact.ContactNumber`; that becomes the
    #: customer's id. Without it, Xero's own id is.
    customer_id_field: _ContactPath | None = None
    #: Where a line keeps its product code, as `Tracking.Product` or `LineItem.AccountCode`: many
    #: organisations have no items. Without it, the item's code is.
    product_id_field: _LinePath | None = None
    #: Further columns: heading → `Tracking.<category>`, `LineItem.<field>`, `Invoice.<field>` (of
    #: a credit note: the field of the same name) or `Contact.<field>`.
    custom_fields: dict[str, _Path] = Field(default_factory=dict)
    #: What the custom connection may read. One from before 29 April 2026 has broad scopes:
    #: `accounting.transactions.read` instead of `accounting.invoices.read`.
    scopes: tuple[str, ...] = ("accounting.invoices.read", "accounting.settings.read")
    #: Xero allows 60 a minute and organisation, to all that one app does.
    requests_per_minute: int = Field(default=60, ge=1)

    def named(self, owner: str) -> list[str]:
        """The fields of `Invoice`, `Contact` or `LineItem`, or the categories, that settings name.

        Each once; case does not tell two of them apart, as it does not in DuckDB.
        """
        alone = (self.order_number_field, self.customer_id_field, self.product_id_field)
        paths = [*self.custom_fields.values(), *filter(None, alone)]
        found: dict[str, str] = {}
        for path in paths:
            start, _, name = path.partition(".")
            if start == owner:
                found.setdefault(name.lower(), name)
        return list(found.values())


def _record_types(settings: SourceSettings) -> tuple[RecordType, ...]:
    if isinstance(settings, XeroSettings) and settings.invoice_equals_contract:
        return (RecordType.SALES, RecordType.INVOICES)
    return (RecordType.INVOICES,)


def rows(
    db: duckdb.DuckDBPyConnection, record_type: RecordType, settings: SourceSettings, site: Site
) -> None:
    """Create the view `rows`: one row per line, and one for a document without lines."""
    if not isinstance(settings, XeroSettings):
        raise TypeError(f"these are not Xero's settings: {type(settings).__name__}")
    db.execute(_MACROS)
    _create_lines(db, INVOICE, settings, site)
    if record_type is RecordType.SALES:
        db.execute(f"CREATE VIEW rows AS {_order_rows()}")
        db.execute(f"CREATE VIEW document_total AS {_totals(INVOICE)}")
    else:
        _create_lines(db, CREDIT_NOTE, settings, site)
        db.execute(
            f"CREATE VIEW rows AS {_billing_rows(INVOICE, settings)} "
            f"UNION ALL {_billing_rows(CREDIT_NOTE, settings)}"
        )
        db.execute(
            f"CREATE VIEW document_total AS {_totals(INVOICE)} UNION ALL {_totals(CREDIT_NOTE)}"
        )


SOURCE = Source(
    name="xero",
    title="Xero",
    objects=(INVOICE, CREDIT_NOTE),
    documents={
        INVOICE: (RecordType.INVOICES, RecordType.SALES),
        CREDIT_NOTE: (RecordType.INVOICES,),
    },
    settings=XeroSettings,
    record_types=_record_types,
    rows=rows,
    apart=(RecordType.SALES, RecordType.INVOICES),
)


# -- what a field means ----------------------------------------------------------------------

_MACROS = """
-- A date is text in one of two forms. `DateString` is the day on the organisation's calendar, and
-- so is the stamp's day in UTC, whatever offset it carries. The epoch and what is before it mean
-- that there is no date (tap-xero #64, #74); `resources.xero` must agree.
CREATE OR REPLACE MACRO stamp_day(text) AS
    TRY(make_timestamp(try_cast(regexp_extract(text, '^/Date\\((-?\\d+)', 1) AS BIGINT) * 1000)
        ::DATE);
CREATE OR REPLACE MACRO any_day(text) AS
    coalesce(try_cast(left(text, 10) AS DATE), stamp_day(text));
CREATE OR REPLACE MACRO day_of_text(text) AS
    CASE WHEN any_day(text) > DATE '1970-01-01' THEN any_day(text) END;
CREATE OR REPLACE MACRO money_of(text) AS try_cast(text AS DECIMAL(18, 4));
CREATE OR REPLACE MACRO number_of(text) AS try_cast(text AS DECIMAL(28, 12));
-- `LineAmount` has lost the line's discount already; there is no discount of the document.
CREATE OR REPLACE MACRO net_of(line, amounts) AS CASE
    WHEN amounts IN ('Exclusive', 'NoTax') THEN money_of(line.LineAmount)
    WHEN amounts = 'Inclusive'
    THEN TRY((money_of(line.LineAmount) - money_of(line.TaxAmount))::DECIMAL(18, 4)) END;
-- Such a line has no quantity, price, amount or account either.
CREATE OR REPLACE MACRO only_says(line) AS line IS NOT NULL AND line.LineAmount IS NULL
    AND line.Quantity IS NULL AND line.UnitAmount IS NULL;
"""

_TRACKING = '[{"Name":"VARCHAR","Option":"VARCHAR"}]'
_ITEM = '{"ItemID":"VARCHAR","Name":"VARCHAR","Code":"VARCHAR"}'
_ALLOCATION = '{"IsDeleted":"BOOLEAN","Invoice":{"InvoiceNumber":"VARCHAR"}}'
_NAMES = {INVOICE: "Invoice", CREDIT_NOTE: "CreditNote"}
_PAGES = {INVOICE: "View.aspx?InvoiceID=", CREDIT_NOTE: "ViewCreditNote.aspx?creditNoteID="}


def _create_lines(
    db: duckdb.DuckDBPyConnection, kind: str, settings: XeroSettings, site: Site
) -> None:
    """Create the view `<kind>_line`: one row per line of the current documents of a kind."""
    name = _NAMES[kind]
    line = _structure([*_LINE_FIELDS, *settings.named("LineItem")], Item=_ITEM, Tracking=_TRACKING)
    contact = _structure([*_CONTACT_FIELDS, *settings.named("Contact")])
    head = _structure(
        [f"{name}ID", f"{name}Number", *_DOCUMENT_FIELDS, *settings.named("Invoice")],
        Contact=contact,
        LineItems=f"[{line}]",
        **({"Allocations": f"[{_ALLOCATION}]"} if kind == CREDIT_NOTE else {}),
    )
    order_number = settings.order_number_field
    db.execute(
        f"""
        CREATE OR REPLACE VIEW {kind}_head AS
        SELECT document.landing, document.page, version, it.{name}ID AS id,
            nullif(trim(it.{name}Number), '') AS number, it,
            coalesce(day_of_text(it.DateString), day_of_text(it.Date)) AS dated_on,
            {_billed_on(settings)} AS billed_on,
            {_allocated_to() if kind == CREDIT_NOTE else "NULL::VARCHAR"} AS allocated_to,
            nullif(trim({_value(order_number) if order_number else "NULL"}), '') AS named_order,
            nullif(trim({_value(settings.customer_id_field or "Contact.ContactID")}), '')
                AS customer_id,
            {_document_rule(settings, site)} AS rule
        FROM (
            SELECT landing, page, unnest(found.{name}s) AS it
            FROM (
                SELECT landing, page,
                    from_json({quoted_numbers("body")}, '{{"{name}s":[{head}]}}') AS found
                FROM raw_{kind}
            )
        ) AS document
        JOIN (FROM current WHERE object = '{kind}') AS winner ON winner.id = it.{name}ID
            AND winner.landing = document.landing AND winner.page = document.page;

        CREATE OR REPLACE VIEW {kind}_line AS
        SELECT *,
            net_of(line, it.LineAmountTypes) AS net,
            nullif(trim({_product_code(settings)}), '') AS code,
            number_of(line.Quantity) AS quantity,
            {_months("code", settings)} AS months,
            CASE WHEN months = 0 THEN dated_on ELSE {term_end("dated_on", "months")} END AS ends_on,
            {_custom_fields(settings)} AS custom_fields,
            coalesce(rule, {_line_rule(settings)}) AS excluded_by,
            -- A document without a date is in the month of its last change.
            strftime(coalesce(dated_on,
                timezone({literal(site.timezone)}, version::TIMESTAMPTZ)::DATE), '%Y-%m') AS period,
            'https://go.xero.com/AccountsReceivable/{_PAGES[kind]}' || id AS url
        FROM (
            SELECT *, unnest(CASE WHEN len(it.LineItems) > 0 THEN it.LineItems ELSE [NULL] END)
                AS line
            FROM {kind}_head
        );
        """
    )


def _structure(names: Iterable[str], **nested: str) -> str:
    """The structure of a JSON object: plain fields as text, each once, and nested objects."""
    plain: dict[str, str] = {}
    for name in names:
        plain.setdefault(name.lower(), f'"{name}":"VARCHAR"')
    return "{" + ",".join([*plain.values(), *(f'"{n}":{kind}' for n, kind in nested.items())]) + "}"


def _billed_on(settings: XeroSettings) -> str:
    if settings.paid_invoices_only:
        return "coalesce(day_of_text(it.FullyPaidOnDate), dated_on)"
    return "dated_on"


def _allocated_to() -> str:
    """The invoice that a credit note settles, if it settles one only; it settles no lines."""
    standing = (
        "list_distinct([one.Invoice.InvoiceNumber FOR one IN it.Allocations "
        "IF one.IsDeleted IS NOT true])"
    )
    return f"CASE WHEN len({standing}) = 1 THEN nullif(trim({standing}[1]), '') END"


def _document_rule(settings: XeroSettings, site: Site) -> str:
    """The rule that keeps a whole document out: by its status, for it keeps its amounts."""
    rules = [
        # Bills and credit notes of suppliers come from the same endpoints.
        "WHEN it.Type NOT IN ('ACCREC', 'ACCRECCREDIT') THEN 'purchase'",
        "WHEN it.Status = 'DELETED' THEN 'deleted'",
        "WHEN it.Status = 'VOIDED' THEN 'void'",
        "WHEN it.Status IN ('DRAFT', 'SUBMITTED') THEN lower(it.Status)",
        "WHEN it.Status IS NULL OR it.Status NOT IN ('AUTHORISED', 'PAID') THEN 'unknown_status'",
    ]
    if site.conversion_date:
        day = f"DATE {literal(site.conversion_date)}"
        rules.append(f"WHEN billed_on < {day} THEN 'before_conversion_date'")
    if settings.paid_invoices_only:
        rules.append("WHEN it.Status <> 'PAID' THEN 'not_paid'")
    if settings.discard_zero_invoices:
        rules.append("WHEN money_of(it.Total) = 0 THEN 'zero_invoice'")
    return f"CASE {' '.join(rules)} END"


def _line_rule(settings: XeroSettings) -> str:
    excluded = text_list(settings.exclude_products)
    return (
        "CASE WHEN only_says(line) THEN 'description_only' "
        f"WHEN list_contains({excluded}, code) THEN 'excluded_product' END"
    )


def _product_code(settings: XeroSettings) -> str:
    if settings.product_id_field:
        return _value(settings.product_id_field)
    return "coalesce(line.ItemCode, line.Item.Code)"


def _months(code: str, settings: XeroSettings) -> str:
    known = "".join(f" WHEN {literal(item)} THEN {n}" for item, n in settings.terms.items())
    return f"CASE {code}{known} END" if known else "NULL::INTEGER"


def _custom_fields(settings: XeroSettings) -> str:
    headings = ", ".join(literal(heading) for heading in settings.custom_fields)
    values = ", ".join(_value(path) for path in settings.custom_fields.values())
    return f"map([{headings}], [{values}])::MAP(VARCHAR, VARCHAR)"


def _value(path: str) -> str:
    """The SQL of a path that a setting names."""
    owner, _, name = path.partition(".")
    match owner:
        case "Tracking":
            return f"[one.Option FOR one IN line.Tracking IF one.Name = {literal(name)}][1]"
        case "LineItem":
            return f"line.{identifier(name)}"
        case "Contact":
            return f"it.Contact.{identifier(name)}"
        case _:
            return f"it.{identifier(name)}"


# -- rows ------------------------------------------------------------------------------------

_LINEAGE = """
    'xero' AS source, '{record_type}' AS record_type, period, '{kind}' AS document_type,
    id AS document_id, line.LineItemID AS line_id, version AS source_version,
    landing AS raw_batch, page::INTEGER AS raw_page, url, excluded_by,
    customer_id, nullif(trim(it.Contact.Name), '') AS customer_name
"""


def _order_rows() -> str:
    """Order lines: each invoice is its own order."""
    # Where prices contain tax, the list price has to lose it as well, in the line's own proportion.
    net_list = quotient("TRY((number_of(line.UnitAmount) * net)::DECIMAL(18, 4))", "gross")
    return f"""
    SELECT {_LINEAGE.format(record_type="sales", kind=INVOICE)},
        coalesce(number, id) AS order_number, line.LineItemID AS order_item_number,
        NULL::VARCHAR AS order_name,
        line.Item.ItemID AS product_id, code AS product_code,
        nullif(trim(line.Item.Name), '') AS product_name,
        NULL::VARCHAR AS product_family, NULL::VARCHAR AS product_type,
        billed_on AS order_start_date,
        dated_on AS service_start_date, ends_on AS service_end_date,
        quantity, list_price,
        CASE WHEN quantity = 0 THEN list_price ELSE {quotient("net", "quantity")} END AS unit_price,
        net AS amount, currency, NULL::VARCHAR AS account_owner, NULL::VARCHAR AS opportunity_id,
        NULL::VARCHAR AS reference_invoice_number, custom_fields
    FROM (
        SELECT *, number_of(line.LineAmount) AS gross, it.CurrencyCode AS currency,
            CASE WHEN it.LineAmountTypes = 'Inclusive' THEN {net_list}
                 ELSE number_of(line.UnitAmount) END AS list_price
        FROM {INVOICE}_line
    )
    """


def _billing_rows(kind: str, settings: XeroSettings) -> str:
    """Billing lines of a kind of documents. What is credited is positive at Xero."""
    sign = "-" if kind == CREDIT_NOTE else ""
    contract = settings.invoice_equals_contract
    if kind == INVOICE:
        order = "coalesce(number, id)" if contract else "named_order"
        item = "line.LineItemID" if contract else "NULL::VARCHAR"
        since = "billed_on" if contract else "NULL::DATE"
        # A credit note gives back service that began some time before it, nothing says when.
        begins, ends = "CASE WHEN ends_on IS NOT NULL THEN dated_on END", "ends_on"
    else:
        order = "allocated_to" if contract else "named_order"
        item, since, begins, ends = "NULL::VARCHAR", "NULL::DATE", "NULL::DATE", "NULL::DATE"
    taxed = "line.TaxType <> 'NONE'" if settings.tax_enabled else "false"
    return f"""
    SELECT {_LINEAGE.format(record_type="invoices", kind=kind)},
        {order} AS order_number, {item} AS order_item_number, {since} AS contract_date,
        line.Item.ItemID AS product_id, code AS product_code,
        nullif(trim(line.Item.Name), '') AS product_name,
        billed_on AS billing_date, number AS invoice_number,
        ({sign}net)::DECIMAL(18, 4) AS amount, it.CurrencyCode AS currency,
        {begins} AS service_start_date, {ends} AS service_end_date, quantity,
        allocated_to AS reference_invoice_number, NULL::VARCHAR AS reference_line_id,
        CASE WHEN {taxed} THEN {sign}money_of(line.TaxAmount) END::DECIMAL(18, 4) AS tax_amount,
        CASE WHEN {taxed} THEN line.TaxType END AS tax_name, custom_fields
    FROM {kind}_line
    """


def _totals(kind: str) -> str:
    """For `controls`: what Xero itself says of a document.

    `SubTotal` is before tax, and the sum of the lines where these are. Lines that contain tax sum
    to `Total` instead; how Xero rounds their taxes between line and document is not documented, so
    there the lines' own taxes are taken off.
    """
    sign = "-" if kind == CREDIT_NOTE else ""
    taxes = "[money_of(one.TaxAmount) FOR one IN it.LineItems IF NOT only_says(one)]"
    return f"""
    SELECT id AS document_id, NULL::BIGINT AS lines,
        TRY(({sign}CASE WHEN it.LineAmountTypes = 'Inclusive'
                THEN money_of(it.Total) - CASE WHEN list_count({taxes}) = len({taxes})
                    THEN coalesce(list_sum({taxes}), 0) END
                ELSE money_of(it.SubTotal) END)::DECIMAL(18, 4)) AS amount,
        []::VARCHAR[] AS outside
    FROM {kind}_head
    """
