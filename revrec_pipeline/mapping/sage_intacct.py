"""Sage Intacct: AR invoices and adjustments as billing lines, order entry documents as order lines.

What is here: when a document counts, in which currency and with which sign, and how document
discounts and tax rows reach the lines. Facts and their evidence: reference/sage-intacct.md. Which
fields are read is in `sage_intacct_settings`, how a page becomes records in `sage_intacct_pages`,
how pages are fetched in `resources.sage_intacct`.
"""

import duckdb

from revrec_pipeline.mapping import Needs, Site, Source, SourceSettings
from revrec_pipeline.mapping.sage_intacct_pages import create_records
from revrec_pipeline.mapping.sage_intacct_settings import (
    ADJUSTMENT,
    INVOICE,
    LINES,
    OBJECTS,
    ORDER,
    STANDARD,
    SageIntacctSettings,
)
from revrec_pipeline.mapping.sql import identifier, literal, quotient, term_end, text_list
from revrec_pipeline.model import RecordType


def _record_types(settings: SourceSettings) -> tuple[RecordType, ...]:
    if not isinstance(settings, SageIntacctSettings):
        raise TypeError(f"these are not Intacct's settings: {type(settings).__name__}")
    if settings.invoice_equals_contract or settings.documents:
        return (RecordType.SALES, RecordType.INVOICES)
    return (RecordType.INVOICES,)


def _needs(settings: SourceSettings) -> Needs:
    """Order entry is read where orders come from it; an invoice is a sale where it is a contract.

    A company without order entry has no such objects, or no permission for them.
    """
    if not isinstance(settings, SageIntacctSettings):
        raise TypeError(f"these are not Intacct's settings: {type(settings).__name__}")
    sold = (RecordType.SALES,) if settings.invoice_equals_contract else ()
    feeds = {
        INVOICE: (RecordType.INVOICES, *sold),
        ADJUSTMENT: (RecordType.INVOICES,),
        ORDER: (RecordType.SALES,),
    }
    objects = tuple(name for kind in settings.kinds for name in (kind, LINES[kind]))
    return objects, {kind: feeds[kind] for kind in settings.kinds}


def rows(
    db: duckdb.DuckDBPyConnection, record_type: RecordType, settings: SourceSettings, site: Site
) -> None:
    """Create the view `rows`; see `mapping.Source.rows`."""
    if record_type not in _record_types(settings) or not isinstance(settings, SageIntacctSettings):
        raise TypeError(f"sage_intacct has no {record_type} with these settings")
    objects, _ = _needs(settings)
    paths = {name: list(STANDARD[name]) for name in objects}
    for places in settings.lookups().values():
        for name, path in places:
            if path not in paths[name]:
                paths[name].append(path)
    for name, wanted in paths.items():
        create_records(db, name, OBJECTS[name], wanted)
    db.execute(_macros(settings, site))
    if record_type is RecordType.SALES and settings.documents:
        db.execute(_order_rows(settings))
        return
    db.execute(_receivables(INVOICE, settings))
    if record_type is RecordType.SALES:
        db.execute(f"CREATE VIEW rows AS {_contract_rows(settings)}")
        db.execute(f"CREATE VIEW document_total AS {_totals(INVOICE, settings)}")
        return
    db.execute(_receivables(ADJUSTMENT, settings))
    db.execute(
        f"CREATE VIEW rows AS {_billing_rows(INVOICE, settings)} "
        f"UNION ALL {_billing_rows(ADJUSTMENT, settings)}"
    )
    db.execute(
        f"CREATE VIEW document_total AS {_totals(INVOICE, settings)} "
        f"UNION ALL {_totals(ADJUSTMENT, settings)}"
    )


# -- what documents have in common ---------------------------------------------------------------

#: Written, but nobody has approved them yet, or nobody will.
_NOT_POSTED = ("declined", "partially approved", "submitted")


def _macros(settings: SageIntacctSettings, site: Site) -> str:
    """Settings and shared meanings as SQL."""
    conversion = f"DATE {literal(site.conversion_date)}" if site.conversion_date else "NULL::DATE"
    orders = "true"
    if settings.closed_stages:
        orders = f"list_contains({text_list(settings.closed_stages)}, state)"
    return f"""
    CREATE MACRO day(written) AS try_strptime(written, '%m/%d/%Y')::DATE;
    -- Where BASECURR is empty, the company has one currency and no need to name it.
    CREATE MACRO currency_of(document, base) AS
        CASE WHEN base IS NULL THEN coalesce(document, {literal(site.home_currency)})
             ELSE document END;
    -- TRX_ fields are in the document's currency, the others in the base currency.
    CREATE MACRO in_document(transaction, converted, document, base) AS try_cast(coalesce(
        transaction,
        CASE WHEN base IS NULL OR base = document THEN converted END) AS DECIMAL(18, 4));
    CREATE MACRO early_rule(state, entity) AS CASE
        WHEN lower(state) = 'draft' THEN 'draft'
        WHEN list_contains({text_list(_NOT_POSTED)}, lower(state)) THEN 'not_posted'
        -- The reversal is a document of its own: neither counts, so that nothing is left of both.
        WHEN lower(state) IN ('reversed', 'reversal') THEN 'reversed'
        WHEN list_contains({text_list(settings.exclude_business_entities)}, entity)
            THEN 'excluded_business_entity' END;
    CREATE MACRO date_rule(counted_on) AS
        CASE WHEN counted_on < {conversion} THEN 'before_conversion_date' END;
    CREATE MACRO stage_rule(state) AS CASE WHEN NOT {orders} THEN 'not_closed_won' END;
    CREATE MACRO product_rule(item) AS
        CASE WHEN list_contains({text_list(settings.exclude_products)}, item)
            THEN 'excluded_product' END;
    """


def _lineage(record_type: RecordType, kind: str, customer: str) -> str:
    return f"""
        'sage_intacct' AS source, '{record_type}' AS record_type,
        strftime(document.created_on, '%Y-%m') AS period,
        '{kind}' AS document_type, document.it."RECORDNO" AS document_id,
        line.it."RECORDNO" AS line_id, document.version AS source_version,
        document.landing AS raw_batch, coalesce(line.page, document.page)::INTEGER AS raw_page,
        document.it."RECORD_URL" AS url,
        coalesce(document.rule, line.rule, product_rule(line.it."ITEMID")) AS excluded_by,
        {customer} AS customer_id"""


def _value(settings: SageIntacctSettings, setting: str, kind: str, fallback: str) -> str:
    """The value of the field that a setting names, on this kind of document, else `fallback`.

    Where the field is named and empty, the value is null: a guess would be matched to a wrong
    order, customer or product.
    """
    places = settings.lookups().get(setting)
    if places is None:
        return fallback
    owners = {kind: "document", LINES[kind]: "line"}
    found = [f"{owners[name]}.it.{identifier(path)}" for name, path in places if name in owners]
    return f"coalesce({', '.join(found)})" if found else "NULL::VARCHAR"


def _custom_fields(settings: SageIntacctSettings, kind: str) -> str:
    headings = ", ".join(map(literal, settings.custom_fields))
    values = ", ".join(
        _value(settings, f"custom_fields.{heading}", kind, "NULL")
        for heading in settings.custom_fields
    )
    return f"map([{headings}]::VARCHAR[], [{values}]::VARCHAR[])::MAP(VARCHAR, VARCHAR)"


def _ends(settings: SageIntacctSettings, kind: str, start: str) -> str:
    """The last day of service: the line's own, else by the term in months."""
    end = 'day(line.it."REVRECENDDATE")'
    if settings.term_field is None:
        return end
    return f"coalesce({end}, {term_end(start, _value(settings, 'term_field', kind, 'NULL'))})"


# -- invoices and adjustments --------------------------------------------------------------------


def _receivables(kind: str, settings: SageIntacctSettings) -> str:
    """Create `<kind>_document` and `<kind>_item`: headers with their rule, rows with net amounts.

    Headers and rows are tables, so that each page is parsed once. Sums are taken over the few
    columns that they need: a window over whole records took more than 256 MB for a dozen of them.
    """
    billed_on = "created_on"
    if settings.paid_invoices_only:
        billed_on = 'coalesce(day(it."WHENPAID"), created_on)'
    paid = "CASE WHEN lower(it.\"STATE\") <> 'paid' THEN 'not_paid' END"
    zero = "CASE WHEN total = 0 THEN 'zero_invoice' END"
    order_entry = 'it."MODULEKEY" = \'8.SO\' AND it."RECORDID" IS NOT NULL'
    return f"""
    CREATE TABLE {kind}_header AS
    SELECT header.landing, header.page, header.it, current.version,
        day(it."WHENCREATED") AS created_on,
        currency_of(it."CURRENCY", it."BASECURR") AS currency,
        in_document(it."TRX_TOTALENTERED", it."TOTALENTERED", it."CURRENCY", it."BASECURR")
            AS total
    FROM intacct_{kind} AS header
    JOIN current ON current.object = '{kind}' AND current.id = it."RECORDNO"
        AND current.landing = header.landing AND current.page = header.page;

    -- Editing an order entry document deletes its AR invoice and writes it again under a new
    -- RECORDNO. Word of the deletion may come after the new one: it must not count twice until
    -- then.
    CREATE VIEW {kind}_newest AS
    SELECT it."MEGAENTITYID" AS entity, it."RECORDID" AS number,
        max(it."RECORDNO"::BIGINT) AS newest
    FROM {kind}_header WHERE {order_entry} GROUP BY ALL;

    CREATE VIEW {kind}_document AS
    SELECT header.*, {billed_on} AS billed_on,
        coalesce(
            CASE WHEN it."RECORDNO"::BIGINT < newest AND {order_entry} THEN 'replaced' END,
            early_rule(it."STATE", it."MEGAENTITYID"), date_rule({billed_on}),
            {paid if settings.paid_invoices_only else "NULL"},
            {zero if settings.discard_zero_invoices and kind == INVOICE else "NULL"}) AS rule
    FROM {kind}_header AS header
    LEFT JOIN {kind}_newest
        ON number = it."RECORDID" AND entity IS NOT DISTINCT FROM it."MEGAENTITYID";

    CREATE TABLE {kind}_row AS
    SELECT line.landing, line.page, line.it,
        line.it."RECORDKEY" AS parent, line.it."RECORDNO" AS number,
        in_document(line.it."TRX_AMOUNT", line.it."AMOUNT",
            header.it."CURRENCY", header.it."BASECURR") AS recorded,
        header.currency, header.total,
        line.it."PARENTENTRY" IS NOT NULL AS is_tax,
        line.it."PARENTENTRY" IS NULL
            AND lower(coalesce(line.it."SUBTOTAL", 'false')) NOT IN ('false', 'f') AS is_subtotal
    FROM intacct_{LINES[kind]} AS line
    JOIN {kind}_header AS header
        ON header.landing = line.landing AND header.it."RECORDNO" = line.it."RECORDKEY";

    CREATE VIEW {kind}_tax AS
    SELECT landing, it."PARENTENTRY" AS number, sum(recorded)::DECIMAL(18, 4) AS tax,
        string_agg(DISTINCT it."ENTRYDESCRIPTION", ', ' ORDER BY it."ENTRYDESCRIPTION")
            AS tax_name
    FROM {kind}_row WHERE is_tax GROUP BY ALL;

    CREATE TABLE {kind}_sum AS
    SELECT *, {_sign(kind, settings)} AS direction,
        -- A subtotal against the sign of the items takes something off the document.
        CASE sign(items) WHEN 1 THEN below WHEN -1 THEN above END AS discount
    FROM (
        SELECT landing, parent, any_value(total) AS total, sum(recorded) AS recorded_total,
            sum(recorded) FILTER (NOT is_tax AND NOT is_subtotal) AS items,
            sum(recorded) FILTER (is_subtotal AND recorded > 0) AS above,
            sum(recorded) FILTER (is_subtotal AND recorded < 0) AS below
        FROM {kind}_row GROUP BY landing, parent
    );

    CREATE TABLE {kind}_share AS
    SELECT landing, number,
        (({_portion("running")} - {_portion("before")}) * unit)::DECIMAL(26, 0)
            * 0.0001::DECIMAL(4, 4) AS share
    FROM (
        SELECT *, abs(items) * unit AS base, running - recorded AS before
        FROM (
            SELECT landing, number, recorded, unit, items, discount,
                sum(recorded) OVER (PARTITION BY landing, parent
                    ORDER BY position, number::BIGINT ROWS UNBOUNDED PRECEDING)::HUGEINT AS running
            FROM (
                SELECT landing, parent, number, {_whole("recorded")} AS recorded,
                    {_whole("items")} AS items, {_whole("discount")} AS discount,
                    try_cast(it."LINE_NO" AS BIGINT) AS position,
                    (CASE minor_digits(currency) WHEN 0 THEN 10000 WHEN 3 THEN 10 ELSE 100 END)
                        ::HUGEINT AS unit
                FROM {kind}_row JOIN (FROM {kind}_sum WHERE discount <> 0)
                    USING (landing, parent)
                WHERE NOT is_tax AND NOT is_subtotal
            )
        )
    );

    CREATE VIEW {kind}_item AS
    SELECT landing, page, it, parent,
        is_subtotal AND sign(recorded) = sign(discount) AS is_discount,
        CASE WHEN is_discount THEN 0 ELSE (recorded + coalesce(share, 0)) * direction
            END::DECIMAL(18, 4) AS amount,
        (tax * direction)::DECIMAL(18, 4) AS tax_amount, tax_name,
        CASE WHEN is_tax THEN 'tax' WHEN is_discount THEN 'document_discount'
             WHEN is_subtotal THEN 'subtotal' END AS rule
    FROM {kind}_row
    JOIN {kind}_sum USING (landing, parent)
    LEFT JOIN {kind}_share USING (landing, number)
    LEFT JOIN {kind}_tax USING (landing, number);
    """


def _sign(kind: str, settings: SageIntacctSettings) -> str:
    """The factor that makes credits negative.

    How rows of an adjustment are signed is nowhere documented, so the header's total decides: its
    rows sum up to it, or to its opposite. If they do neither, `controls` flags the document.
    """
    if kind == INVOICE:
        return "1"
    credit = _credit(settings)
    return (
        f"CASE WHEN recorded_total = -total THEN {-credit} WHEN total IS NOT NULL THEN {credit} END"
    )


def _credit(settings: SageIntacctSettings) -> int:
    """The factor that makes the total of an adjustment one that reduces revenue, or adds to it."""
    return -1 if settings.adjustment_sign == "credit" else 1


def _totals(kind: str, settings: SageIntacctSettings) -> str:
    """For `controls`: what Intacct itself says of an invoice or adjustment.

    `TRX_TOTALENTERED` holds every row, those of taxes and subtotals, too.
    """
    sign = 1 if kind == INVOICE else _credit(settings)
    return f"""
    SELECT it."RECORDNO" AS document_id, NULL::BIGINT AS lines,
        ({sign} * total)::DECIMAL(18, 4) AS amount, []::VARCHAR[] AS outside
    FROM {kind}_header
    """


def _portion(part: str) -> str:
    """What falls on `part` of the items when the document's discount is spread over them.

    In whole minor units, rounded half away from zero. As differences of portions, the shares of all
    lines sum up to the discount. All columns are whole 10^-4, for a quotient of DECIMALs is a
    DOUBLE.
    """
    sign = f"sign({part}) * sign(discount) * sign(items)"
    return f"{sign} * ((2 * abs({part} * discount) + base) // (2 * base))"


def _whole(amount: str) -> str:
    """A DECIMAL of scale 4 in whole 10^-4."""
    return f"replace({amount}::VARCHAR, '.', '')::HUGEINT"


def _joined(kind: str) -> str:
    return f"""
    FROM {kind}_document AS document
    LEFT JOIN {kind}_item AS line
        ON line.landing = document.landing AND line.parent = document.it."RECORDNO" """


def _billing_rows(kind: str, settings: SageIntacctSettings) -> str:
    customer = _value(settings, "customer_id_field", kind, 'document.it."CUSTOMERID"')
    start = 'day(line.it."REVRECSTARTDATE")'
    order = _value(settings, "order_number_field", kind, "NULL::VARCHAR")
    item, contract = "NULL::VARCHAR", "NULL::DATE"
    refers = "NULL::VARCHAR"
    if kind == ADJUSTMENT:
        refers = 'document.it."DOCNUMBER"'
    if settings.invoice_equals_contract:
        order = refers if kind == ADJUSTMENT else 'document.it."RECORDID"'
        if kind == INVOICE:
            item, contract = 'line.it."LINE_NO"', "document.billed_on"
    tax, tax_name = "NULL::DECIMAL(18, 4)", "NULL::VARCHAR"
    if settings.tax_enabled:
        tax, tax_name = "line.tax_amount", "line.tax_name"
    return f"""
    SELECT {_lineage(RecordType.INVOICES, kind, customer)},
        nullif(trim(document.it."CUSTOMERNAME"), '') AS customer_name,
        {order} AS order_number, {item} AS order_item_number, {contract} AS contract_date,
        line.it."ITEMID" AS product_id,
        {_value(settings, "product_id_field", kind, 'line.it."ITEMID"')} AS product_code,
        line.it."ITEMNAME" AS product_name,
        document.billed_on AS billing_date, document.it."RECORDID" AS invoice_number,
        line.amount AS amount, document.currency AS currency,
        {start} AS service_start_date, {_ends(settings, kind, start)} AS service_end_date,
        NULL::DECIMAL(28, 12) AS quantity,
        {refers} AS reference_invoice_number, NULL::VARCHAR AS reference_line_id,
        {tax} AS tax_amount, {tax_name} AS tax_name,
        {_custom_fields(settings, kind)} AS custom_fields
    {_joined(kind)}"""


def _contract_rows(settings: SageIntacctSettings) -> str:
    """Invoices as orders. AR lines have no quantity: each is one unit at its amount."""
    customer = _value(settings, "customer_id_field", INVOICE, 'document.it."CUSTOMERID"')
    start = 'coalesce(day(line.it."REVRECSTARTDATE"), document.created_on)'
    one = 'CASE WHEN line.it."RECORDNO" IS NOT NULL THEN 1 END::DECIMAL(28, 12)'
    return f"""
    SELECT {_lineage(RecordType.SALES, INVOICE, customer)},
        nullif(trim(document.it."CUSTOMERNAME"), '') AS customer_name,
        document.it."RECORDID" AS order_number, line.it."LINE_NO" AS order_item_number,
        NULL::VARCHAR AS order_name, line.it."ITEMID" AS product_id,
        {_value(settings, "product_id_field", INVOICE, 'line.it."ITEMID"')} AS product_code,
        line.it."ITEMNAME" AS product_name, NULL::VARCHAR AS product_family,
        {_value(settings, "product_type_field", INVOICE, "NULL::VARCHAR")} AS product_type,
        document.billed_on AS order_start_date,
        {start} AS service_start_date, {_ends(settings, INVOICE, start)} AS service_end_date,
        {one} AS quantity, NULL::DECIMAL(28, 12) AS list_price,
        line.amount::DECIMAL(28, 12) AS unit_price, line.amount AS amount,
        document.currency AS currency, NULL::VARCHAR AS account_owner,
        NULL::VARCHAR AS opportunity_id, NULL::VARCHAR AS reference_invoice_number,
        {_custom_fields(settings, INVOICE)} AS custom_fields
    {_joined(INVOICE)}"""


# -- orders --------------------------------------------------------------------------------------


def _order_rows(settings: SageIntacctSettings) -> str:
    customer = _value(settings, "customer_id_field", ORDER, 'document.it."CUSTVENDID"')
    start = 'coalesce(day(line.it."REVRECSTARTDATE"), document.created_on)'
    price = (
        'rate_in_document(line.it."TRX_PRICE", line.it."PRICE", '
        'document.it."CURRENCY", document.it."BASECURR")'
    )
    return f"""
    CREATE MACRO rate_in_document(transaction, converted, document, base) AS try_cast(coalesce(
        transaction,
        CASE WHEN base IS NULL OR base = document THEN converted END) AS DECIMAL(28, 12));
    CREATE TABLE order_document AS
    SELECT header.*, current.version, day(it."WHENCREATED") AS created_on,
        currency_of(it."CURRENCY", it."BASECURR") AS currency,
        in_document(it."TRX_TOTAL", it."TOTAL", it."CURRENCY", it."BASECURR") AS total,
        CASE WHEN list_contains({text_list(settings.return_documents)}, it."DOCPARID")
            THEN -1 ELSE 1 END AS direction,
        coalesce(early_rule(it."STATE", it."MEGAENTITYID"), stage_rule(it."STATE"),
            date_rule(created_on)) AS rule
    FROM intacct_{ORDER} AS header
    JOIN current ON current.object = '{ORDER}' AND current.id = header.it."RECORDNO"
        AND current.landing = header.landing AND current.page = header.page;

    CREATE TABLE order_row AS
    SELECT line.landing, line.page, line.it, line.it."DOCHDRNO" AS parent,
        (try_cast(line.it."QUANTITY" AS DECIMAL(28, 12)) * document.direction)::DECIMAL(28, 12)
            AS units,
        in_document(line.it."TRX_VALUE", line.it."TOTAL",
            document.it."CURRENCY", document.it."BASECURR") AS recorded,
        document.total, document.direction
    FROM intacct_{LINES[ORDER]} AS line
    JOIN order_document AS document
        ON document.landing = line.landing AND document.it."RECORDNO" = line.it."DOCHDRNO";

    CREATE VIEW order_sum AS
    SELECT landing, parent, sum(recorded) AS recorded_total FROM order_row GROUP BY ALL;

    -- Discounts on the whole document are subtotals, which are not read. What is less than its
    -- lines has one, so nobody knows the amounts: the order is flagged.
    CREATE VIEW order_item AS
    SELECT landing, page, it, parent, units, NULL::VARCHAR AS rule,
        CASE WHEN total < recorded_total THEN NULL ELSE recorded * direction
            END::DECIMAL(18, 4) AS amount
    FROM order_row JOIN order_sum USING (landing, parent);

    CREATE VIEW rows AS
    SELECT {_lineage(RecordType.SALES, ORDER, customer)},
        nullif(trim(document.it."CUSTVENDNAME"), '') AS customer_name,
        document.it."DOCNO" AS order_number, line.it."LINE_NO" AS order_item_number,
        NULL::VARCHAR AS order_name, line.it."ITEMID" AS product_id,
        {_value(settings, "product_id_field", ORDER, 'line.it."ITEMID"')} AS product_code,
        coalesce(line.it."ITEMNAME", line.it."ITEMDESC") AS product_name,
        NULL::VARCHAR AS product_family,
        {_value(settings, "product_type_field", ORDER, "NULL::VARCHAR")} AS product_type,
        document.created_on AS order_start_date,
        CASE WHEN line.it."RECORDNO" IS NOT NULL THEN {start} END AS service_start_date,
        {_ends(settings, ORDER, start)} AS service_end_date,
        line.units AS quantity, {price} AS list_price,
        CASE WHEN line.units = 0 THEN {price} ELSE {quotient("line.amount", "line.units")}
            END AS unit_price,
        line.amount AS amount, document.currency AS currency,
        NULL::VARCHAR AS account_owner, NULL::VARCHAR AS opportunity_id,
        NULL::VARCHAR AS reference_invoice_number,
        {_custom_fields(settings, ORDER)} AS custom_fields
    FROM order_document AS document
    LEFT JOIN order_item AS line
        ON line.landing = document.landing AND line.parent = document.it."RECORDNO"
    """


SOURCE = Source(
    name="sage_intacct",
    title="Sage Intacct",
    objects=tuple(OBJECTS),
    documents={
        INVOICE: (RecordType.INVOICES, RecordType.SALES),
        ADJUSTMENT: (RecordType.INVOICES,),
        ORDER: (RecordType.SALES,),
    },
    settings=SageIntacctSettings,
    record_types=_record_types,
    rows=rows,
    needs=_needs,
    # Nothing is apart: an invoice that was written again hides the one before, see `_documents`.
)
