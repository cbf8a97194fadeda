"""Stripe: invoices and credit notes as billing lines, and invoices as order lines where asked for.

What lives here is the meaning of Stripe's fields in API version 2026-10-28.endive. Facts and their
evidence: reference/stripe.md. How pages are fetched is in `resources.stripe`.
"""

import duckdb

from revrec_pipeline.currency import THREE_DECIMAL, ZERO_DECIMAL
from revrec_pipeline.mapping import Site, Source, SourceSettings
from revrec_pipeline.model import RecordType

#: Stripe's minor units differ from ISO 4217's here: these are sent with two decimals …
SENT_WITH_TWO_DECIMALS = frozenset({"ISK", "UGX"})
#: … and this one, which by ISO 4217 has two, with none.
SENT_WITH_NO_DECIMALS = frozenset({"MGA"})


class StripeSettings(SourceSettings):
    """`[sources.stripe]`."""

    #: Each invoice is also its own sales order, with the invoice's service dates.
    invoice_equals_contract: bool = False
    #: Only paid invoices count, dated by the day of payment (rule `not_paid`).
    paid_invoices_only: bool = False
    #: Invoices over nothing are left out (rule `zero_invoice`).
    discard_zero_invoices: bool = False
    #: Stripe allows 25 requests a second and endpoint.
    requests_per_second: float = 24


def decimals(currency: str) -> int:
    """How many decimals Stripe's amounts in `currency` (ISO 4217, upper case) carry."""
    if currency in SENT_WITH_NO_DECIMALS | (ZERO_DECIMAL - SENT_WITH_TWO_DECIMALS):
        return 0
    return 3 if currency in THREE_DECIMAL else 2


def _record_types(settings: SourceSettings) -> tuple[RecordType, ...]:
    if isinstance(settings, StripeSettings) and settings.invoice_equals_contract:
        return (RecordType.SALES, RecordType.INVOICES)
    return (RecordType.INVOICES,)


def rows(
    connection: duckdb.DuckDBPyConnection,
    record_type: RecordType,
    settings: SourceSettings,
    site: Site,
) -> None:
    """Create the view `rows`; see `mapping.Source.rows`."""
    if not isinstance(settings, StripeSettings):
        raise TypeError(f"these are not Stripe's settings: {type(settings).__name__}")
    # Joins run as they are written, the small side last. A list in a row makes DuckDB expect few
    # rows of documents, and it would hold all of them in memory: 14 instead of 6 CPU s and more
    # than 256 MB for a million lines, measured.
    connection.execute("SET disabled_optimizers = 'build_side_probe_side,join_order'")
    connection.execute(_settings_macros(settings, site))
    connection.execute(_MACROS)
    connection.execute(_INVOICE_LINES)
    if record_type is RecordType.SALES:
        connection.execute(_ORDER_ROWS)
        connection.execute(_INVOICE_TOTALS)
    else:
        connection.execute(_CREDIT_NOTE_LINES)
        connection.execute(_BILLING_ROWS)
        connection.execute(_INVOICE_TOTALS + _CREDIT_NOTE_TOTALS)


def _list(values: frozenset[str] | tuple[str, ...]) -> str:
    quoted = ", ".join("'" + value.replace("'", "''") + "'" for value in sorted(values))
    return f"[{quoted}]::VARCHAR[]"


def _settings_macros(settings: StripeSettings, site: Site) -> str:
    """Settings and units as SQL, so that the statements below are fixed text."""
    no_decimals = SENT_WITH_NO_DECIMALS | (ZERO_DECIMAL - SENT_WITH_TWO_DECIMALS)
    zone = site.timezone.replace("'", "''")
    conversion = f"DATE '{site.conversion_date}'" if site.conversion_date else "NULL::DATE"
    return f"""
    CREATE OR REPLACE MACRO unit_of(currency) AS CASE
        WHEN list_contains({_list(no_decimals)}, currency) THEN 1::DECIMAL(4, 3)
        WHEN list_contains({_list(THREE_DECIMAL)}, currency) THEN 0.001::DECIMAL(4, 3)
        WHEN currency IS NOT NULL THEN 0.01::DECIMAL(4, 3) END;
    CREATE OR REPLACE MACRO day_of(instant) AS
        TRY(timezone('{zone}', make_timestamptz(instant * 1000000))::DATE);
    CREATE OR REPLACE MACRO conversion_date() AS {conversion};
    CREATE OR REPLACE MACRO excluded_products() AS {_list(settings.exclude_products)};
    CREATE OR REPLACE MACRO is_contract() AS {settings.invoice_equals_contract};
    CREATE OR REPLACE MACRO paid_only() AS {settings.paid_invoices_only};
    CREATE OR REPLACE MACRO discards_zero() AS {settings.discard_zero_invoices};
    """


# An amount is read as DECIMAL(18, 3): a fraction of a minor unit would be rounded away by BIGINT,
# while here it shows, makes the row's amount NULL, and the row is flagged.
_MONEY = "DECIMAL(18,3)"
_DISCOUNTS = f'[{{"amount":"{_MONEY}"}}]'
_TAXES = f'[{{"amount":"{_MONEY}","tax_behavior":"VARCHAR"}}]'
_LINE = f"""{{"id":"VARCHAR","amount":"{_MONEY}","quantity":"VARCHAR","quantity_decimal":"VARCHAR",
    "period":{{"start":"BIGINT","end":"BIGINT"}},
    "pricing":{{"unit_amount_decimal":"VARCHAR","price_details":{{"product":"VARCHAR"}}}},
    "discount_amounts":{_DISCOUNTS},"taxes":{_TAXES}}}"""
_ORDER_NUMBER = '{"order_number":"VARCHAR"}'
_INVOICE = {
    **dict.fromkeys(
        ("id", "number", "status", "currency", "customer", "customer_name"), '"VARCHAR"'
    ),
    **dict.fromkeys(("created", "effective_at"), '"BIGINT"'),
    **dict.fromkeys(("deleted", "livemode"), '"BOOLEAN"'),
    "total": f'"{_MONEY}"',
    "status_transitions": '{"finalized_at":"BIGINT","paid_at":"BIGINT"}',
    "metadata": _ORDER_NUMBER,
    "parent": f'{{"subscription_details":{{"metadata":{_ORDER_NUMBER}}}}}',
    "lines": f'{{"data":[{_LINE}]}}',
}
_CREDIT_NOTE_LINE = f"""{{"id":"VARCHAR","amount":"{_MONEY}","quantity":"VARCHAR",
    "invoice_line_item":"VARCHAR","discount_amounts":{_DISCOUNTS},"taxes":{_TAXES}}}"""


def _structure(fields: dict[str, str]) -> str:
    return "{" + ",".join(f'"{name}":{kind}' for name, kind in fields.items()) + "}"


_CREDIT_NOTE = {
    **dict.fromkeys(("id", "number", "status", "currency", "customer"), '"VARCHAR"'),
    **dict.fromkeys(("created", "effective_at"), '"BIGINT"'),
    **dict.fromkeys(("deleted", "livemode"), '"BOOLEAN"'),
    "invoice": _structure(_INVOICE),
    "lines": f'{{"data":[{_CREDIT_NOTE_LINE}]}}',
}


def _documents(name: str, fields: dict[str, str]) -> str:
    """The current documents of a kind as `it`, with where they are and which version they are.

    A page holds a list, or one document that was asked for alone. Both are read in one pass: the
    structure has the list's `data` and beside it the fields of a lone document.
    """
    structure = _structure({"data": f"[{_structure(fields)}]", **fields})
    alone = ", ".join(f"{field} := found.{field}" for field in fields)
    return f"""
    SELECT document.landing, document.page, version, it FROM (
        SELECT landing, page, unnest(coalesce(found.data, [struct_pack({alone})])) AS it
        FROM (SELECT landing, page, from_json(body, '{structure}') AS found FROM raw_{name})
    ) AS document
    JOIN (FROM current WHERE object = '{name}') AS winner
        ON winner.id = it.id AND winner.landing = document.landing AND winner.page = document.page
    """


_MACROS = """
-- Of a list of amounts the sum, or NULL when one of them is missing or no number.
CREATE OR REPLACE MACRO total_of(amounts) AS CASE
    WHEN amounts IS NULL OR len(amounts) = 0 THEN 0
    WHEN list_count(amounts) = len(amounts) THEN list_sum(amounts) END;
-- `amount` is before discounts, those of the invoice too, and contains inclusive taxes.
CREATE OR REPLACE MACRO net_of(line) AS line.amount
    - total_of([discount.amount FOR discount IN line.discount_amounts])
    - total_of([tax.amount FOR tax IN line.taxes IF tax.tax_behavior = 'inclusive']);
CREATE OR REPLACE MACRO major(minor, unit) AS
    CASE WHEN minor = trunc(minor) THEN TRY((minor::DECIMAL(18, 0) * unit)::DECIMAL(18, 4)) END;
-- A period is half-open although the API reference calls its end inclusive: end equals the next
-- start. A one-off item's start equals its end.
CREATE OR REPLACE MACRO last_day(period) AS day_of(greatest(period."end" - 1, period.start));
CREATE OR REPLACE MACRO accounted_at(it) AS
    CASE WHEN it.status = 'draft' THEN it.created
         ELSE coalesce(it.effective_at, it.status_transitions.finalized_at, it.created) END;
CREATE OR REPLACE MACRO order_of(it) AS
    CASE WHEN is_contract() THEN coalesce(it.number, it.id)
         ELSE coalesce(it.metadata.order_number,
                       it.parent.subscription_details.metadata.order_number) END;
CREATE OR REPLACE MACRO page_of(it, kind) AS concat('https://dashboard.stripe.com/',
    CASE WHEN it.livemode = false THEN 'test/' ELSE '' END, kind, '/', it.id);
CREATE OR REPLACE MACRO product_rule(product) AS
    CASE WHEN list_contains(excluded_products(), product) THEN 'excluded_product' END;
"""

# One row per line of each current invoice; one with a null line for an invoice without lines. The
# list inside an invoice ends after ten lines; of a longer one all lines are on pages of their own.
_INVOICE_LINES = f"""
CREATE OR REPLACE VIEW invoice_head AS
SELECT landing, page, version, it.id, it.number, it.customer, it.customer_name,
    day_of(accounted_at(it)) AS invoiced_on,
    CASE WHEN paid_only() THEN coalesce(day_of(it.status_transitions.paid_at), invoiced_on)
         ELSE invoiced_on END AS billed_on,
    upper(it.currency) AS currency, unit_of(upper(it.currency)) AS unit,
    order_of(it) AS order_number, page_of(it, 'invoices') AS url,
    CASE WHEN it.deleted THEN 'deleted'
         WHEN it.status IN ('draft', 'void') THEN it.status
         WHEN billed_on < conversion_date() THEN 'before_conversion_date'
         WHEN paid_only() AND it.status <> 'paid' THEN 'not_paid'
         WHEN discards_zero() AND it.total = 0 THEN 'zero_invoice'
         WHEN len(it.lines.data) = 0 AND it.total = 0 THEN 'no_lines' END AS rule,
    it.lines.data AS lines
FROM ({_documents("invoice", _INVOICE)});

CREATE OR REPLACE VIEW invoice_line_page AS
SELECT landing, parent, from_json(body, '{{"data":[{_LINE}]}}').data AS lines
FROM raw_invoice_line;

CREATE OR REPLACE VIEW invoice_line AS
SELECT * EXCLUDE (lines), unnest(CASE WHEN len(lines) > 0 THEN lines ELSE [NULL] END) AS line
FROM (
    SELECT head.* EXCLUDE (lines), coalesce(long.lines, head.lines) AS lines
    FROM invoice_head AS head LEFT JOIN invoice_line_page AS long
        ON long.landing = head.landing AND long.parent = head.id
);
"""

_LINEAGE = """
    'stripe' AS source, '{record_type}' AS record_type, strftime(invoiced_on, '%Y-%m') AS period,
    '{document_type}' AS document_type, id AS document_id, line.id AS line_id,
    version AS source_version, landing AS raw_batch, page AS raw_page, url,
    coalesce(rule, product_rule({product})) AS excluded_by,
    customer AS customer_id, nullif(trim(customer_name), '') AS customer_name
"""
_LINE_PRODUCT = "line.pricing.price_details.product"

_ORDER_ROWS = f"""
-- In whole 10^-12: dividing DECIMALs would give a DOUBLE.
CREATE OR REPLACE MACRO per_unit(amount, quantity) AS CASE
    WHEN quantity <> 0 AND abs(amount) < 1000000000000
    THEN TRY((((amount * 10000)::HUGEINT * 100000000000000000000::HUGEINT
               // (quantity * 1000000000000)::HUGEINT)::DECIMAL(38, 0)
              * 0.000000000001::DECIMAL(12, 12))::DECIMAL(28, 12))
    WHEN quantity = 0 AND amount = 0 THEN 0 END;

CREATE OR REPLACE VIEW rows AS
SELECT {_LINEAGE.format(record_type="sales", document_type="invoice", product=_LINE_PRODUCT)},
    order_number, line.id AS order_item_number, NULL::VARCHAR AS order_name,
    {_LINE_PRODUCT} AS product_id, {_LINE_PRODUCT} AS product_code, NULL::VARCHAR AS product_name,
    NULL::VARCHAR AS product_family, NULL::VARCHAR AS product_type,
    billed_on AS order_start_date,
    day_of(line.period.start) AS service_start_date, last_day(line.period) AS service_end_date,
    quantity,
    (TRY_CAST(line.pricing.unit_amount_decimal AS DECIMAL(24, 12)) * unit)::DECIMAL(28, 12)
        AS list_price,
    per_unit(amount, quantity) AS unit_price,
    amount, currency,
    NULL::VARCHAR AS account_owner, NULL::VARCHAR AS opportunity_id,
    NULL::VARCHAR AS reference_invoice_number, NULL::MAP(VARCHAR, VARCHAR) AS custom_fields
FROM (
    SELECT *, major(net_of(line), unit) AS amount,
        TRY_CAST(coalesce(line.quantity_decimal, line.quantity) AS DECIMAL(28, 12)) AS quantity
    FROM invoice_line
);
"""

# A credit-note line has neither period nor product: both are those of the invoice line that it
# credits: on the credit note's own page (its invoice is expanded) or, beyond the first ten lines,
# on the invoice's pages of lines. A custom line credits none and is dated like its credit note.
_CREDIT_NOTE_LINES = f"""
CREATE OR REPLACE VIEW credit_note_line_page AS
SELECT landing, parent, from_json(body, '{{"data":[{_CREDIT_NOTE_LINE}]}}').data AS lines
FROM raw_credit_note_line;

CREATE OR REPLACE VIEW credit_note_head AS
SELECT landing, page, version, it.id, it.number, it.customer, it.invoice.customer_name,
    day_of(coalesce(it.effective_at, it.created)) AS invoiced_on, invoiced_on AS billed_on,
    upper(it.currency) AS currency, unit_of(upper(it.currency)) AS unit,
    order_of(it.invoice) AS order_number, page_of(it, 'credit_notes') AS url,
    day_of(accounted_at(it.invoice)) AS contract_date,
    it.invoice.number AS reference_invoice_number, it.invoice.lines.data AS invoice_lines,
    CASE WHEN it.deleted THEN 'deleted'
         WHEN it.status = 'void' THEN it.status
         WHEN billed_on < conversion_date() THEN 'before_conversion_date'
         WHEN paid_only() AND it.invoice.status <> 'paid' THEN 'not_paid' END AS rule,
    it.lines.data AS lines
FROM ({_documents("credit_note", _CREDIT_NOTE)});

CREATE OR REPLACE VIEW credit_note_line AS
SELECT shown.* EXCLUDE (invoice_lines),
    coalesce(
        [one FOR one IN invoice_lines IF one.id = shown.line.invoice_line_item][1].pricing
            .price_details.product, beyond.product) AS product,
    coalesce(
        [one FOR one IN invoice_lines IF one.id = shown.line.invoice_line_item][1].period,
        beyond.period) AS period
FROM (
    SELECT head.* EXCLUDE (lines), unnest(coalesce(long.lines, CASE WHEN len(head.lines) > 0
        THEN head.lines ELSE [NULL] END)) AS line
    FROM credit_note_head AS head LEFT JOIN credit_note_line_page AS long
        ON long.landing = head.landing AND long.parent = head.id
) AS shown
LEFT JOIN (
    SELECT landing, line.id, line.pricing.price_details.product, line.period
    FROM (SELECT landing, unnest(lines) AS line FROM invoice_line_page)
) AS beyond ON beyond.landing = shown.landing AND beyond.id = shown.line.invoice_line_item;
"""

_BILLING_ROWS = f"""
CREATE OR REPLACE VIEW rows AS
SELECT {_LINEAGE.format(record_type="invoices", document_type="invoice", product=_LINE_PRODUCT)},
    order_number, CASE WHEN is_contract() THEN line.id END AS order_item_number,
    CASE WHEN is_contract() THEN billed_on END AS contract_date,
    {_LINE_PRODUCT} AS product_id, {_LINE_PRODUCT} AS product_code, NULL::VARCHAR AS product_name,
    billed_on AS billing_date, number AS invoice_number,
    major(net_of(line), unit) AS amount, currency,
    day_of(line.period.start) AS service_start_date, last_day(line.period) AS service_end_date,
    TRY_CAST(coalesce(line.quantity_decimal, line.quantity) AS DECIMAL(28, 12)) AS quantity,
    NULL::VARCHAR AS reference_invoice_number, NULL::VARCHAR AS reference_line_id,
    NULL::DECIMAL(18, 4) AS tax_amount, NULL::VARCHAR AS tax_name,
    NULL::MAP(VARCHAR, VARCHAR) AS custom_fields
FROM invoice_line
UNION ALL
SELECT {_LINEAGE.format(record_type="invoices", document_type="credit_note", product="product")},
    order_number, CASE WHEN is_contract() THEN line.invoice_line_item END,
    CASE WHEN is_contract() THEN contract_date END,
    product, product, NULL,
    billed_on, number,
    major(-net_of(line), unit), currency,
    CASE WHEN line.invoice_line_item IS NULL THEN billed_on ELSE day_of(period.start) END,
    CASE WHEN line.invoice_line_item IS NULL THEN billed_on ELSE last_day(period) END,
    TRY_CAST(line.quantity AS DECIMAL(28, 12)),
    reference_invoice_number, line.invoice_line_item, NULL, NULL, NULL
FROM credit_note_line;
"""

# For `controls`: what Stripe itself says of a document. Its total before tax is after discounts, as
# the lines' net amounts are; the count holds for all pages of lines. It is read by a structure of
# its own: with those above, every line would be made a second time.
_TOTAL = {
    **dict.fromkeys(("id", "currency"), '"VARCHAR"'),
    "total_excluding_tax": f'"{_MONEY}"',
    "lines": '{"total_count":"BIGINT"}',
}


def _totals(name: str, sign: str) -> str:
    return f"""
    SELECT it.id AS document_id, it.lines.total_count AS lines,
        major({sign}it.total_excluding_tax, unit_of(upper(it.currency))) AS amount,
        []::VARCHAR[] AS outside
    FROM ({_documents(name, _TOTAL)})
    """


_INVOICE_TOTALS = f"CREATE OR REPLACE VIEW document_total AS {_totals('invoice', '')}"
_CREDIT_NOTE_TOTALS = f"UNION ALL {_totals('credit_note', '-')}"

SOURCE = Source(
    name="stripe",
    title="Stripe",
    objects=("invoice", "invoice_line", "credit_note", "credit_note_line"),
    documents={
        "invoice": (RecordType.INVOICES, RecordType.SALES),
        "credit_note": (RecordType.INVOICES,),
    },
    settings=StripeSettings,
    record_types=_record_types,
    rows=rows,
    apart=(RecordType.SALES, RecordType.INVOICES),
)
