"""Chargebee: invoices and credit notes as billing lines, and as order lines where asked for.

What lives here is the meaning of the fields of Chargebee Billing's API v2 (Product Catalog 2.0, and
1.0 as far as its invoices look alike). Facts and their evidence: reference/chargebee.md. Where
things are on a page is in `chargebee_records`, how pages are fetched in `resources.chargebee`.
"""

from collections.abc import Mapping
from typing import Annotated, Self

import duckdb
from pydantic import Field, StringConstraints, model_validator

from revrec_pipeline.currency import THREE_DECIMAL, ZERO_DECIMAL
from revrec_pipeline.mapping import Site, Source, SourceSettings
from revrec_pipeline.mapping.chargebee_records import CONTEXT, NESTED, create_records
from revrec_pipeline.mapping.sql import day_of, identifier, literal, quotient, text_list
from revrec_pipeline.model import RecordType

_ApiName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
_ApiPath = Annotated[
    str,
    StringConstraints(
        pattern=r"^((line_item|invoice|subscription|customer|item_price)\.)?[a-z][a-z0-9_]*$"
    ),
]


class ChargebeeSettings(SourceSettings):
    """`[sources.chargebee]`.

    A field is written as the API names it, `cf_region`, and looked up on the invoice or credit
    note, then on its subscription, customer and item price; `customer.cf_region` looks there only.
    """

    #: Invoices are also sales orders: each is its own, with its lines' service dates.
    invoice_equals_contract: bool = False
    #: Whether that holds for subscriptions with contract terms, too. Without it, what is invoiced
    #: within a contract term is one order.
    invoice_period_equals_contract_term: bool = True
    #: Only paid invoices count, dated by the day of payment (rule `not_paid`), and of credit notes
    #: only refunded ones, dated by the day of refund (rule `not_refunded`).
    paid_invoices_only: bool = False
    #: Invoices over nothing are left out (rule `zero_invoice`).
    discard_zero_invoices: bool = False
    #: Deleted invoices and credit notes, which keep their amounts, are left out (rule `deleted`).
    exclude_deleted: bool = True
    #: Ids of business entities whose documents are left out (rule `excluded_business_entity`).
    exclude_business_entities: tuple[str, ...] = ()
    #: Billing lines carry their tax, for the sheet `Tax`.
    tax_enabled: bool = False
    #: Where invoices keep the number of their order.
    order_number_field: _ApiPath = "cf_order_number"
    #: Field of the customer with its id in the CRM, which becomes the customer's id.
    customer_id_field: _ApiName | None = None
    #: Field of the item price with the CRM's product code, such as `item_id`.
    product_id_field: _ApiName | None = None
    #: Where the first and the last day of service are kept, if not in the line's own period.
    service_start_date_field: _ApiPath | None = None
    service_end_date_field: _ApiPath | None = None
    #: Further columns: heading → field.
    custom_fields: dict[str, _ApiPath] = Field(default_factory=dict)
    #: Chargebee allows 150 to test sites and the Starter plan, 1,000 to Performance, 3,500 to
    #: Enterprise.
    requests_per_minute: int = Field(default=150, ge=5)

    @model_validator(mode="after")
    def _contract_terms_are_orders(self) -> Self:
        if self.invoice_period_equals_contract_term:
            return self
        if not self.invoice_equals_contract:
            raise ValueError(
                "invoice_period_equals_contract_term = false makes orders of contract terms; set "
                "invoice_equals_contract = true as well"
            )
        if self.paid_invoices_only:
            raise ValueError(
                "paid_invoices_only takes each paid invoice as a contract of its own; leave out "
                "invoice_period_equals_contract_term = false"
            )
        return self

    @property
    def contract_terms(self) -> bool:
        """Whether contract terms decide which order an invoice line belongs to."""
        return not self.invoice_period_equals_contract_term

    def fields(self) -> dict[str, tuple[str, ...]]:
        """For each owner of fields, those that these settings name."""
        found: dict[str, dict[str, None]] = {owner: {} for owner in _OWNERS}
        for path in (
            self.order_number_field,
            self.service_start_date_field,
            self.service_end_date_field,
            *self.custom_fields.values(),
        ):
            for owner, field in _places(path) if path else ():
                found[owner][field] = None
        if self.customer_id_field:
            found["customer"][self.customer_id_field] = None
        if self.product_id_field:
            found["item_price"][self.product_id_field] = None
        return {owner: tuple(fields) for owner, fields in found.items()}


#: Who may have a field, in the order in which they are asked, with where its record is below.
_OWNERS: Mapping[str, tuple[str, ...]] = {
    "line_item": ("line",),
    "invoice": ("it", "credited"),  # a credit note, then the invoice that it credits
    "subscription": ("subscription",),
    "customer": ("customer",),
    "item_price": ("item_price",),
}


def _places(path: str) -> list[tuple[str, str]]:
    owner, _, field = path.rpartition(".")
    if owner:
        return [(owner, field)]
    return [(name, field) for name in _OWNERS if name != "line_item"]


def _found(path: str | None) -> str:
    """The value of a field as SQL text; NULL where none is named."""
    if path is None:
        return "NULL::VARCHAR"
    values = [
        f"{record}.{identifier(field)}::VARCHAR"
        for owner, field in _places(path)
        for record in _OWNERS[owner]
    ]
    return f"nullif(trim(coalesce({', '.join(values)})), '')"


def _record_types(settings: SourceSettings) -> tuple[RecordType, ...]:
    if isinstance(settings, ChargebeeSettings) and settings.invoice_equals_contract:
        return (RecordType.SALES, RecordType.INVOICES)
    return (RecordType.INVOICES,)


def rows(
    db: duckdb.DuckDBPyConnection, record_type: RecordType, settings: SourceSettings, site: Site
) -> None:
    """Create the view `rows`; see `mapping.Source.rows`."""
    if not isinstance(settings, ChargebeeSettings):
        raise TypeError(f"these are not Chargebee's settings: {type(settings).__name__}")
    # Joins run as they are written, the small side last: see `mapping.stripe`.
    db.execute("SET disabled_optimizers = 'build_side_probe_side,join_order'")
    create_records(db, settings.fields())
    db.execute(_macros(settings, site))
    chosen = _ORDER_ROWS if record_type is RecordType.SALES else _BILLING_ROWS
    # One statement: each view upon views would be bound once more.
    db.execute(f"CREATE VIEW rows AS {_lines(settings)} {chosen}")
    db.execute(_TOTALS)


def _macros(settings: ChargebeeSettings, site: Site) -> str:
    """Units, days and rules as SQL."""
    zone = literal(site.timezone)
    conversion = f"DATE {literal(site.conversion_date)}" if site.conversion_date else "NULL::DATE"
    deleted = "it.deleted" if settings.exclude_deleted else "false"
    return f"""
    CREATE OR REPLACE MACRO unit_of(currency) AS CASE
        WHEN list_contains({text_list(sorted(ZERO_DECIMAL))}, currency) THEN 1::DECIMAL(4, 3)
        WHEN list_contains({text_list(sorted(THREE_DECIMAL))}, currency) THEN 0.001::DECIMAL(4, 3)
        WHEN currency IS NOT NULL THEN 0.01::DECIMAL(4, 3) END;
    -- Text in minor units; what was left out is nothing, what is no number is NULL.
    CREATE OR REPLACE MACRO minor_of(number) AS
        CASE WHEN number IS NULL THEN 0 ELSE TRY_CAST(number AS DECIMAL(18, 3)) END;
    CREATE OR REPLACE MACRO major(minor, unit) AS CASE WHEN minor = trunc(minor)
        THEN TRY((minor::DECIMAL(18, 0) * unit)::DECIMAL(18, 4)) END;
    CREATE OR REPLACE MACRO total_of(amounts) AS CASE
        WHEN amounts IS NULL OR len(amounts) = 0 THEN 0
        WHEN list_count(amounts) = len(amounts) THEN list_sum(amounts) END;
    CREATE OR REPLACE MACRO instant_of(seconds) AS TRY(make_timestamptz(seconds * 1000000));
    CREATE OR REPLACE MACRO day_of(seconds) AS TRY({day_of("instant_of(seconds)", site.timezone)});
    CREATE OR REPLACE MACRO time_of(seconds, zone) AS timezone(zone, instant_of(seconds))::TIME;
    CREATE OR REPLACE MACRO same_time(one, other) AS
        time_of(one, {zone}) = time_of(other, {zone})
        OR time_of(one, 'UTC') = time_of(other, 'UTC');
    -- The last day of a period, which ends in one of three ways: at the time of day at which it
    -- began, one second before that, or at another time of its last day (23:59:59 where billing
    -- goes by the calendar, or a period that was cut short).
    CREATE OR REPLACE MACRO last_day(since, until) AS CASE
        WHEN until = since THEN day_of(until)
        WHEN same_time(until, since) THEN day_of(until) - 1
        WHEN same_time(until + 1, since) THEN day_of(until + 1) - 1
        ELSE day_of(until) END;
    -- A custom field's date: text, or an instant.
    CREATE OR REPLACE MACRO date_of(value) AS
        coalesce(TRY_CAST(left(value, 10) AS DATE), day_of(TRY_CAST(value AS BIGINT)));
    CREATE OR REPLACE MACRO name_of(it) AS coalesce(nullif(trim(it.company), ''),
        nullif(trim(concat_ws(' ', it.first_name, it.last_name)), ''));
    CREATE OR REPLACE MACRO dated(it) AS day_of(coalesce(it.date, it.generated_at, it.updated_at));
    CREATE OR REPLACE MACRO billed(kind, it) AS CASE
        WHEN {settings.paid_invoices_only} AND kind = 'invoice'
            THEN coalesce(day_of(it.paid_at), dated(it))
        WHEN {settings.paid_invoices_only} THEN coalesce(day_of(it.refunded_at), dated(it))
        ELSE dated(it) END;
    CREATE OR REPLACE MACRO document_rule(kind, it, line) AS CASE
        WHEN {deleted} THEN 'deleted'
        WHEN it.status = 'voided' THEN 'void'
        -- The lines of a pending invoice still change, and so may its date.
        WHEN it.status = 'pending' THEN 'pending'
        WHEN it.type = 'store' THEN 'store_credit'
        WHEN billed(kind, it) < {conversion} THEN 'before_conversion_date'
        WHEN list_contains({text_list(settings.exclude_business_entities)}, it.business_entity_id)
            THEN 'excluded_business_entity'
        WHEN {settings.paid_invoices_only} AND kind = 'invoice'
            AND it.status IS DISTINCT FROM 'paid' THEN 'not_paid'
        WHEN {settings.paid_invoices_only} AND kind = 'credit_note'
            AND it.status IS DISTINCT FROM 'refunded' THEN 'not_refunded'
        WHEN {settings.discard_zero_invoices} AND kind = 'invoice' AND it.total = '0'
            THEN 'zero_invoice'
        WHEN line IS NULL AND it.total = '0' THEN 'no_lines' END;
    CREATE OR REPLACE MACRO product_rule(product) AS
        CASE WHEN list_contains({text_list(settings.exclude_products)}, product)
             THEN 'excluded_product' END;
    """


def _lines(settings: ChargebeeSettings) -> str:
    """A query's `mapped`: one row per line with all that order lines and billing lines share."""
    customer, product = settings.customer_id_field, settings.product_id_field
    customer_id = f"customer.{identifier(customer)}" if customer else "it.customer_id"
    coded = f"item_price.{identifier(product)}" if product else "entity"
    values = ", ".join(_found(path) for path in settings.custom_fields.values())
    headings = text_list(settings.custom_fields)
    custom = f"map({headings}, [{values}])" if settings.custom_fields else "NULL"
    return f"""
    WITH joined AS (
        SELECT shown.* EXCLUDE (subscription_id), {_TERM if settings.contract_terms else _NO_TERM},
            customer.record AS customer, item_price.record AS item_price,
            subscription.record AS subscription,
            {"line_tax.tax_name" if settings.tax_enabled else "NULL::VARCHAR AS tax_name"}
        FROM (
            SELECT document_line.*, credited.record AS credited,
                credited_line.record AS credited_line,
                it.currency_code AS currency, unit_of(it.currency_code) AS unit,
                coalesce(line.entity_id, credited_line.record.entity_id) AS entity,
                -- A consolidated invoice names subscriptions on its lines only.
                coalesce(line.subscription_id, credited_line.record.subscription_id,
                    it.subscription_id) AS subscription_id
            FROM document_line
            LEFT JOIN credited ON credited.landing = document_line.landing
                AND credited.id = it.reference_invoice_id
            LEFT JOIN credited_line ON credited_line.landing = document_line.landing
                AND credited_line.line_id = line.reference_line_item_id AND kind = 'credit_note'
        ) AS shown
        LEFT JOIN customer ON customer.landing = shown.landing AND customer.id = it.customer_id
        LEFT JOIN item_price ON item_price.landing = shown.landing AND item_price.id = entity
        LEFT JOIN subscription
            ON subscription.landing = shown.landing AND subscription.id = shown.subscription_id
        {_TAX_JOIN if settings.tax_enabled else ""}
        {_TERM_JOIN if settings.contract_terms else ""}
    ), mapped AS (
        SELECT kind, landing, page, version, it.id AS document_id, line.id AS line_id, currency,
            CASE WHEN kind = 'invoice' THEN 1 ELSE -1 END AS sign,
            dated(it) AS invoiced_on, billed(kind, it) AS billed_on,
            {customer_id} AS customer_id, name_of(customer) AS customer_name,
            entity AS product_id,
            CASE WHEN line.id IN (it.id || ':round_off_amount', it.id || ':fractional_correction')
                 THEN entity ELSE {coded} END AS product_code,
            coalesce(item_price.external_name, item_price.name) AS product_name,
            item_price.item_family_id AS product_family,
            coalesce(document_rule(kind, it, line), product_rule(product_code)) AS excluded_by,
            {_AMOUNT} AS net,
            {_TAX if settings.tax_enabled else "NULL::DECIMAL(18, 4)"} AS tax, tax_name,
            TRY_CAST(coalesce(line.quantity_in_decimal, line.quantity) AS DECIMAL(28, 12))
                AS quantity,
            coalesce(TRY_CAST(line.unit_amount_in_decimal AS DECIMAL(28, 12)),
                TRY((TRY_CAST(line.unit_amount AS DECIMAL(24, 9)) * unit)::DECIMAL(28, 12)))
                AS list_price,
            coalesce(date_of({_found(settings.service_start_date_field)}), day_of(since))
                AS service_start_date,
            coalesce(date_of({_found(settings.service_end_date_field)}), last_day(since, until))
                AS service_end_date,
            {_found(settings.order_number_field)} AS known_order,
            term.id AS term_id, day_of(term.contract_start) AS term_start,
            it.reference_invoice_id AS credited_invoice,
            line.reference_line_item_id AS credited_line,
            billed('invoice', credited) AS credited_on,
            {settings.invoice_equals_contract} AS is_contract,
            {custom}::MAP(VARCHAR, VARCHAR) AS custom_fields,
            -- The page's request names the site, also where requests are sent elsewhere.
            regexp_extract(request, ' (https://[^/]+)/', 1) || '/d/'
                || CASE WHEN kind = 'invoice' THEN 'invoices/' ELSE 'credit_notes/' END
                || it.id AS url
        FROM (
            -- A credit note's lines have an instant and no period: that is what they credit.
            SELECT *,
                CASE WHEN point THEN credited_line.date_from ELSE line.date_from END AS since,
                CASE WHEN point THEN credited_line.date_to ELSE line.date_to END AS until
            FROM (SELECT *, line.date_from = line.date_to AND credited_line.date_from IS NOT NULL
                      AS point FROM joined)
        )
    )
    """


_TAX_JOIN = """
    LEFT JOIN line_tax ON line_tax.kind = shown.kind AND line_tax.landing = shown.landing
        AND line_tax.document_id = it.id AND line_tax.line_id = line.id"""
# Of the subscription's terms the last one that had begun when the service began.
_TERM_JOIN = """
    ASOF LEFT JOIN contract_term ON contract_term.landing = shown.landing
        AND contract_term.record.subscription_id = shown.subscription_id
        AND contract_term.record.contract_start
            <= coalesce(credited_line.date_from, line.date_from)"""
_TERM = """CASE WHEN coalesce(credited_line.date_from, line.date_from)
        <= contract_term.record.contract_end THEN contract_term.record END AS term"""
_NO_TERM = "NULL::STRUCT(id VARCHAR, contract_start BIGINT) AS term"
# `amount` is before discounts, the document's too, and holds the tax where prices include it. What
# was rounded by a whole minor unit or more against its decimal form is not to be trusted.
_AMOUNT = """CASE
    WHEN line.amount_in_decimal IS NULL
        OR abs(TRY_CAST(line.amount_in_decimal AS DECIMAL(28, 9)) - line.amount * unit) < unit
    THEN major(line.amount
        - (minor_of(line.discount_amount) - total_of([minor_of(credit.discount_amount)
            FOR credit IN credits IF credit.line_item_id = line.id]))
        - CASE WHEN it.price_type = 'tax_inclusive' THEN minor_of(line.tax_amount) ELSE 0 END,
        unit) END"""
# A line that no tax applies to says 0 and names none; it has no place on the sheet of taxes.
_TAX = """CASE WHEN line.tax_amount <> '0' OR tax_name IS NOT NULL
    THEN major(minor_of(line.tax_amount), unit) END"""

_LINEAGE = """
    'chargebee' AS source, '{record_type}' AS record_type, strftime(invoiced_on, '%Y-%m') AS period,
    kind AS document_type, document_id, line_id, version AS source_version,
    landing AS raw_batch, page AS raw_page, url, excluded_by, customer_id, customer_name
"""

_ORDER_ROWS = f"""
SELECT {_LINEAGE.format(record_type="sales")},
    coalesce(term_id, document_id) AS order_number, line_id AS order_item_number,
    NULL::VARCHAR AS order_name,
    product_id, product_code, product_name, product_family, NULL::VARCHAR AS product_type,
    coalesce(term_start, billed_on) AS order_start_date, service_start_date, service_end_date,
    quantity, list_price,
    CASE WHEN quantity = 0 AND net = 0 THEN 0 ELSE {quotient("net", "quantity")} END AS unit_price,
    net AS amount, currency,
    NULL::VARCHAR AS account_owner, NULL::VARCHAR AS opportunity_id,
    NULL::VARCHAR AS reference_invoice_number, custom_fields
FROM mapped WHERE kind = 'invoice'
"""

_BILLING_ROWS = f"""
SELECT {_LINEAGE.format(record_type="invoices")},
    CASE WHEN NOT is_contract THEN known_order
         ELSE coalesce(term_id, CASE WHEN kind = 'invoice' THEN document_id
                                     ELSE credited_invoice END) END AS order_number,
    CASE WHEN NOT is_contract THEN NULL
         WHEN kind = 'invoice' THEN line_id ELSE credited_line END AS order_item_number,
    CASE WHEN NOT is_contract THEN NULL
         ELSE coalesce(term_start, CASE WHEN kind = 'invoice' THEN billed_on
                                        ELSE credited_on END) END AS contract_date,
    product_id, product_code, product_name,
    billed_on AS billing_date, document_id AS invoice_number,
    (sign * net)::DECIMAL(18, 4) AS amount, currency, service_start_date, service_end_date,
    quantity, credited_invoice AS reference_invoice_number, credited_line AS reference_line_id,
    (sign * tax)::DECIMAL(18, 4) AS tax_amount, tax_name, custom_fields
FROM mapped
"""

# For `controls`: what Chargebee itself says of a document. `total` is after discounts, and holds
# the tax and what the document adds to its lines. Taxes are rounded per line or per invoice, as
# the site is set up: where prices include them, those of the lines are what the lines' amounts
# lack, and else those of the document count; recorded credit notes have no `tax`. What was paid
# with credits before tax is added again, as it is to the lines.
_TOTALS = """
CREATE VIEW document_total AS
SELECT it.id AS document_id, NULL::BIGINT AS lines,
    major((CASE WHEN kind = 'invoice' THEN 1 ELSE -1 END) * (
        CASE WHEN it.total IS NOT NULL THEN minor_of(it.total) END
        - CASE WHEN it.price_type IS DISTINCT FROM 'tax_inclusive' AND it.tax IS NOT NULL
            THEN minor_of(it.tax)
            WHEN it.price_type IS DISTINCT FROM 'tax_inclusive' AND len(it.taxes) > 0
            THEN total_of([minor_of(one.amount) FOR one IN it.taxes])
            ELSE total_of([minor_of(line.tax_amount) FOR line IN line_items]) END
        + total_of([minor_of(one.discount_amount) FOR one IN line_item_discounts
            IF one.discount_type IN ('promotional_credits', 'prorated_credits')])
    ), unit_of(it.currency_code)) AS amount,
    []::VARCHAR[] AS outside
FROM document
"""

SOURCE = Source(
    name="chargebee",
    title="Chargebee",
    objects=("invoice", "credit_note", *NESTED, *CONTEXT),
    documents={
        "invoice": (RecordType.INVOICES, RecordType.SALES),
        "credit_note": (RecordType.INVOICES,),
    },
    settings=ChargebeeSettings,
    record_types=_record_types,
    rows=rows,
    apart=(RecordType.SALES, RecordType.INVOICES),
)
