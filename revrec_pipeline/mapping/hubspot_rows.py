"""SQL that makes canonical rows of HubSpot's records: order, billing and expense lines.

What lives here is arithmetic and rules: terms, billing periods, when a deal is sold, how splits
share an amount. Which properties stand behind the names is in `hubspot`.
"""

from decimal import Decimal

from revrec_pipeline.mapping import Site
from revrec_pipeline.mapping.hubspot_records import (
    COMPANY,
    DEAL,
    INVOICE,
    LINE,
    PLURALS,
    PRODUCT,
    SPLIT,
)
from revrec_pipeline.mapping.sql import literal, quotient, text_list
from revrec_pipeline.model import RecordType

_DEALS, _INVOICES, _LINES = PLURALS[DEAL], PLURALS[INVOICE], PLURALS[LINE]
#: What the splits of a deal sum to, in 10^-12: HubSpot keeps 8 decimals of each.
_SPLITS_IN_FULL = f"{10**12 - 10**6} AND {10**12 + 10**6}"

# P3Y, P36M, P52W, P1Y6M, or a plain number of months. HubSpot bills by months or by weeks.
_TERM_MACROS = """
CREATE OR REPLACE MACRO period_parts(words) AS regexp_extract(words,
    '^P(?:(\\d+)Y)?(?:(\\d+)M)?(?:(\\d+)W)?(?:(\\d+)D)?$', ['y', 'm', 'w', 'd']);
CREATE OR REPLACE MACRO part(words) AS coalesce(try_cast(words AS INTEGER), 0);
CREATE OR REPLACE MACRO months_in(words) AS CASE
    WHEN number_of(words) = trunc(number_of(words)) THEN TRY(number_of(words)::INTEGER)
    ELSE part(period_parts(words).y) * 12 + part(period_parts(words).m) END;
CREATE OR REPLACE MACRO days_in(words) AS CASE WHEN number_of(words) IS NULL
    THEN part(period_parts(words).w) * 7 + part(period_parts(words).d) ELSE 0 END;
CREATE OR REPLACE MACRO end_of(first_day, months, days) AS
    CASE WHEN months > 0 AND days >= 0 OR months = 0 AND days > 0 THEN
        (first_day + to_months(months) + to_days(days) - INTERVAL 1 DAY)::DATE END;
CREATE OR REPLACE MACRO cycle_months(frequency) AS CASE frequency
    WHEN 'monthly' THEN 1 WHEN 'quarterly' THEN 3 WHEN 'per_six_months' THEN 6
    WHEN 'annually' THEN 12 WHEN 'per_two_years' THEN 24 WHEN 'per_three_years' THEN 36
    WHEN 'per_four_years' THEN 48 WHEN 'per_five_years' THEN 60 END;
CREATE OR REPLACE MACRO cycle_days(frequency) AS CASE frequency
    WHEN 'weekly' THEN 7 WHEN 'biweekly' THEN 14 END;
-- How often a line is billed in its term. A term that is no whole number of billing periods, and a
-- frequency that HubSpot has invented since, give none, and the line is flagged.
CREATE OR REPLACE MACRO payments(frequency, months, days) AS CASE
    WHEN frequency IS NULL THEN 1
    WHEN days = 0 AND months > 0 AND months % cycle_months(frequency) = 0
        THEN months // cycle_months(frequency)
    WHEN months = 0 AND days > 0 AND days % cycle_days(frequency) = 0
        THEN days // cycle_days(frequency) END;
"""


def lines(*, own_term: str, product_term: str, product_type: str, product_code: str) -> str:
    """The views `line` (one row per parent and line item) and the terms behind it.

    `amount` and `price` are those of one billing period; HubSpot has taken discounts off the
    amount. A line that names no quantity counts as one unit, as in HubSpot's own formula.
    """
    term = f"coalesce({own_term}, line_item.hs_recurring_billing_period, {product_term})"
    return f"""
{_TERM_MACROS}
CREATE OR REPLACE VIEW line AS
SELECT *, payments(frequency, months, days) AS payments FROM (
    SELECT link.landing, link.source_type AS parent_type, link.source_id AS parent_id,
        line_item.id AS id, line_item.page AS page, line_item.archived AS archived,
        line_item, product,
        line_item.hs_product_id AS product_id, {product_code} AS product_code,
        line_item.name AS product_name, {product_type} AS product_type,
        coalesce(number_of(line_item.quantity), 1::DECIMAL(28, 12)) AS units,
        number_of(line_item.price) AS price, number_of(line_item.amount) AS net,
        upper(line_item.hs_line_item_currency_code) AS currency,
        line_item.recurringbillingfrequency AS frequency,
        months_in({term}) AS months, days_in({term}) AS days
    FROM link
    JOIN (SELECT DISTINCT ON (landing, id) * FROM {LINE}_record ORDER BY landing, id, page DESC)
        AS line_item ON line_item.landing = link.landing AND line_item.id = link.target_id
    LEFT JOIN (SELECT DISTINCT ON (landing, id) * FROM {PRODUCT}_record ORDER BY landing, id, page)
        AS product
        ON product.landing = link.landing AND product.id = line_item.hs_product_id
    WHERE link.target_type = '{_LINES}'
);
"""


def _documents(name: str) -> str:
    """The current records of a kind, with their company."""
    return f"""
    {name}_record AS header
    JOIN (FROM current WHERE object = '{name}') AS winner ON winner.id = header.id
        AND winner.landing = header.landing AND winner.page = header.page
    JOIN portal ON portal.landing = header.landing
    LEFT JOIN customer ON customer.landing = header.landing
        AND customer.source_type = '{PLURALS[name]}' AND customer.source_id = header.id
    LEFT JOIN (SELECT DISTINCT ON (landing, id) * FROM {COMPANY}_record ORDER BY landing, id, page)
        AS company ON company.landing = header.landing AND company.id = customer.company_id
    """


def _before_conversion(site: Site, day: str) -> str:
    if site.conversion_date is None:
        return ""
    return f"WHEN {day} < DATE {literal(site.conversion_date)} THEN 'before_conversion_date'"


def deals(site: Site, *, closed_stages: tuple[str, ...], customer_id: str) -> str:
    """The view `document`: the current deals, and whether they count."""
    sold = "coalesce(stage.won, header.hs_is_closed_won = 'true')"
    if closed_stages:
        names = "coalesce(stage.names, [header.dealstage])"
        sold = f"list_has_any({names}, {text_list(closed_stages)})"
    return f"""
CREATE OR REPLACE VIEW document AS
SELECT header.landing, header.page, header.id, winner.version, header, company,
    day_of(header.closedate) AS closed_on,
    strftime(coalesce(closed_on, day_of(header.createdate)), '%Y-%m') AS period,
    concat('https://', portal.domain, '/contacts/', portal.portal_id, '/record/0-3/', header.id)
        AS url,
    {customer_id} AS customer_id, company.name AS customer_name, owner.name AS owner_name,
    upper(coalesce(header.deal_currency_code, portal.only_currency)) AS currency,
    portal.company_currency,
    CASE WHEN header.archived THEN 'deleted'
         WHEN ({sold}) IS NOT true THEN 'not_closed_won'
         {_before_conversion(site, "closed_on")} END AS rule
FROM {_documents(DEAL)}
LEFT JOIN stage ON stage.landing = header.landing AND stage.id = header.dealstage
    AND stage.pipeline_id = header.pipeline
LEFT JOIN owner ON owner.landing = header.landing AND owner.id = header.hubspot_owner_id;
"""


def _lineage(record_type: RecordType, document_type: str, rule: str) -> str:
    return f"""
    'hubspot' AS source, '{record_type}' AS record_type, document.period,
    '{document_type}' AS document_type, document.id AS document_id, line.id AS line_id,
    document.version AS source_version, document.landing AS raw_batch,
    coalesce(line.page, document.page)::INTEGER AS raw_page, document.url,
    coalesce(document.rule, {rule}) AS excluded_by"""


def _line_rule(exclude_products: tuple[str, ...]) -> str:
    return f"""CASE WHEN line.archived THEN 'deleted'
        WHEN list_contains({text_list(exclude_products)}, line.product_code)
        THEN 'excluded_product' END"""


def _over_the_term(per_period: str, kind: str) -> str:
    """An amount of one billing period over all of them; NULL where it does not fit."""
    return f"TRY(({per_period} * line.payments::DECIMAL(10, 0))::{kind})"


def order_rows(custom_fields: str, exclude_products: tuple[str, ...]) -> str:
    """The view `rows` of order lines; price and amount are those of the whole term."""
    amount = _over_the_term("line.net", "DECIMAL(18, 4)")
    list_price = _over_the_term("line.price", "DECIMAL(28, 12)")
    starts = """coalesce(date_of(line.line_item.hs_recurring_billing_start_date),
        (document.closed_on + to_days(
            TRY(number_of(line.line_item.hs_billing_start_delay_days)::INTEGER)))::DATE,
        (document.closed_on + to_months(
            TRY(number_of(line.line_item.hs_billing_start_delay_months)::INTEGER)))::DATE,
        document.closed_on)"""
    # Whether HubSpot's own end date is the last day or the day after is documented nowhere; so it
    # only counts where there is no term.
    ends = """coalesce(end_of(service_start_date, line.months, line.days),
        date_of(line.line_item.hs_recurring_billing_end_date))"""
    return f"""
CREATE OR REPLACE VIEW rows AS
SELECT {_lineage(RecordType.SALES, DEAL, _line_rule(exclude_products))},
    document.customer_id, document.customer_name,
    document.id AS order_number, line.id AS order_item_number,
    document.header.dealname AS order_name,
    line.product_id, line.product_code, line.product_name, NULL::VARCHAR AS product_family,
    line.product_type,
    document.closed_on AS order_start_date,
    CASE WHEN line.id IS NOT NULL THEN {starts} END AS service_start_date,
    {ends} AS service_end_date,
    line.units AS quantity,
    {list_price} AS list_price,
    CASE WHEN line.units = 0 THEN {list_price}
         ELSE {quotient(amount, "line.units")} END AS unit_price,
    {amount} AS amount,
    coalesce(line.currency, document.currency) AS currency,
    document.owner_name AS account_owner, document.id AS opportunity_id,
    NULL::VARCHAR AS reference_invoice_number, {custom_fields} AS custom_fields
FROM document
LEFT JOIN (FROM line WHERE parent_type = '{_DEALS}') AS line
    ON line.landing = document.landing AND line.parent_id = document.id;
"""


def invoices(site: Site, *, order_number: str | None, paid_only: bool, discards_zero: bool) -> str:
    """The view `document`: the current invoices, and whether they count."""
    order = f"coalesce({order_number}, deal.id)" if order_number else "deal.id"
    rules = [
        "WHEN header.archived THEN 'deleted'",
        "WHEN status = 'draft' THEN 'draft'",
        "WHEN status = 'voided' THEN 'void'",
        # A status that HubSpot has invented since: nobody knows whether anything is owed.
        "WHEN status IS NULL OR status NOT IN ('open', 'paid') THEN 'unknown_status'",
        _before_conversion(site, "billed_on"),
    ]
    if paid_only:
        rules.append("WHEN status <> 'paid' THEN 'not_paid'")
    if discards_zero:
        rules.append("WHEN number_of(header.hs_amount_billed) = 0 THEN 'zero_invoice'")
    return f"""
CREATE OR REPLACE VIEW document AS
SELECT header.landing, header.page, header.id, winner.version, header, company,
    lower(header.hs_invoice_status) AS status,
    date_of(header.hs_invoice_date) AS billed_on,
    strftime(coalesce(billed_on, day_of(header.hs_createdate)), '%Y-%m') AS period,
    concat('https://', portal.domain, '/contacts/', portal.portal_id, '/record/0-53/', header.id)
        AS url,
    company.id AS customer_id, company.name AS customer_name,
    {order} AS order_number,
    upper(coalesce(header.hs_currency, portal.only_currency)) AS currency,
    CASE {" ".join(rules)} END AS rule
FROM {_documents(INVOICE)}
LEFT JOIN (
    SELECT landing, source_id, CASE WHEN count(*) = 1 THEN max(target_id) END AS id
    FROM link WHERE source_type = '{_INVOICES}' AND target_type = '{_DEALS}' GROUP BY ALL
) AS deal ON deal.landing = header.landing AND deal.source_id = header.id;
"""


def billing_rows(custom_fields: str, exclude_products: tuple[str, ...], *, taxes: bool) -> str:
    """The view `rows` of billing lines; an invoice bills one period, so nothing is multiplied."""
    tax = "TRY(number_of(line.line_item.hs_tax_amount)::DECIMAL(18, 4))" if taxes else "NULL"
    name = "line.line_item.hs_tax_label" if taxes else "NULL"
    return f"""
CREATE OR REPLACE VIEW rows AS
SELECT {_lineage(RecordType.INVOICES, INVOICE, _line_rule(exclude_products))},
    document.customer_id, document.customer_name, document.order_number,
    NULL::VARCHAR AS order_item_number, NULL::DATE AS contract_date,
    line.product_id, line.product_code, line.product_name,
    document.billed_on AS billing_date, document.header.hs_number AS invoice_number,
    TRY(line.net::DECIMAL(18, 4)) AS amount, coalesce(line.currency, document.currency) AS currency,
    date_of(line.line_item.hs_billing_period_start_date) AS service_start_date,
    date_of(line.line_item.hs_billing_period_end_date) AS service_end_date,
    line.units AS quantity, NULL::VARCHAR AS reference_invoice_number,
    NULL::VARCHAR AS reference_line_id, {tax}::DECIMAL(18, 4) AS tax_amount,
    {name}::VARCHAR AS tax_name, {custom_fields} AS custom_fields
FROM document
LEFT JOIN (FROM line WHERE parent_type = '{_INVOICES}') AS line
    ON line.landing = document.landing AND line.parent_id = document.id;
"""


def expense_rows(custom_fields: str, site: Site, *, percent: float, code: str) -> str:
    """The view `rows` of commissions: so many percent of a deal's amount, shared by its splits.

    A deal's commission is rounded once, to the currency's minor unit; the shares are then cut off
    and the units that are left go to the shares that lost most, so that they sum to it. The same is
    done once more in the home currency. Splits that do not sum to 1 give no amount.
    """
    home = literal(site.home_currency)
    rate = f"{Decimal(str(percent)) / 100:.6f}::DECIMAL(20, 6)"
    return f"""
CREATE OR REPLACE VIEW split AS
SELECT DISTINCT ON (landing, id) landing, page, deal_id, split.id AS id,
    filled(split.properties.hubspot_owner_id) AS owner_id,
    number_of(split.properties.hs_deal_split_percentage) AS share
FROM (
    SELECT landing, page, it.id AS deal_id, unnest(it.splits) AS split
    FROM (SELECT landing, page, unnest(from_json(body, '{{"results":[{{"id":"VARCHAR","splits":[{{
            "id":"VARCHAR","archived":"BOOLEAN","properties":{{"hubspot_owner_id":"VARCHAR",
            "hs_deal_split_percentage":"VARCHAR"}}}}]}}]}}').results) AS it
          FROM raw_{SPLIT})
) WHERE split.archived IS NOT true ORDER BY landing, id, page DESC;

-- Shares as whole numbers of 10^-12, amounts as whole minor units: nothing is a double.
CREATE OR REPLACE MACRO whole(decimal) AS replace(decimal::VARCHAR, '.', '')::HUGEINT;
CREATE OR REPLACE MACRO minor_units(x, currency) AS
    whole(money(x, currency)::DECIMAL(20, 3)) // CASE minor_digits(currency)
        WHEN 0 THEN 1000 WHEN 3 THEN 1 ELSE 10 END;
CREATE OR REPLACE MACRO from_minor(units, currency) AS TRY((units::DECIMAL(14, 0) *
    CASE minor_digits(currency) WHEN 0 THEN 1::DECIMAL(4, 3)
        WHEN 3 THEN 0.001::DECIMAL(4, 3) ELSE 0.01::DECIMAL(4, 3) END)::DECIMAL(18, 4));

-- A table, for it is read twice: once to cut the shares, once to show them.
CREATE OR REPLACE TEMP TABLE shared AS
SELECT *,
    TRY(minor_units(commission, currency)) AS total,
    TRY(minor_units(commission * exchange_rate::DECIMAL(20, 12), {home})) AS home_total
FROM (
    SELECT document.*, split.id AS split_id, split.page AS split_page,
        split.owner_id AS payee_id, whole(split.share) AS share,
        sum(whole(split.share)) OVER deal AS shares,
        -- DuckDB keeps a product of two DECIMALs of up to 18 digits in 18 digits: 1,529,735 times 1
        -- would not fit.
        TRY(money(try_cast(header.amount AS DECIMAL(18, 4)) * {rate}, currency)
            ::DECIMAL(18, 4)) AS commission,
        CASE WHEN currency = {home} THEN 1::DECIMAL(28, 12)
             -- HubSpot's rate leads to the portal's own currency.
             WHEN company_currency = {home} THEN number_of(header.hs_exchange_rate)
             END AS exchange_rate
    FROM document LEFT JOIN split
        ON split.landing = document.landing AND split.deal_id = document.id
    WINDOW deal AS (PARTITION BY document.landing, document.id)
);

CREATE OR REPLACE VIEW cut AS
SELECT *,
    abs(total) * share // shares AS units, abs(total) * share % shares AS lost,
    abs(home_total) * share // shares AS home_units, abs(home_total) * share % shares AS home_lost
FROM shared WHERE shares BETWEEN {_SPLITS_IN_FULL};

CREATE OR REPLACE VIEW share_out AS
SELECT landing, id, split_id,
    from_minor(sign(total)::HUGEINT * (units + gets_one::INTEGER), currency) AS document_amount,
    from_minor(sign(home_total)::HUGEINT * (home_units + home_gets_one::INTEGER), {home}) AS amount
FROM (
    SELECT *,
        row_number() OVER (deal ORDER BY lost DESC, split_id)
            <= abs(total) - sum(units) OVER deal AS gets_one,
        row_number() OVER (deal ORDER BY home_lost DESC, split_id)
            <= abs(home_total) - sum(home_units) OVER deal AS home_gets_one
    FROM cut WINDOW deal AS (PARTITION BY landing, id)
);

CREATE OR REPLACE VIEW rows AS
SELECT 'hubspot' AS source, '{RecordType.COMMISSIONS}' AS record_type, document.period,
    '{DEAL}' AS document_type, document.id AS document_id, document.split_id AS line_id,
    document.version AS source_version, document.landing AS raw_batch,
    coalesce(document.split_page, document.page)::INTEGER AS raw_page, document.url,
    coalesce(document.rule, CASE WHEN document.split_id IS NULL THEN 'no_split' END)
        AS excluded_by,
    document.id AS order_number, NULL::VARCHAR AS order_item_number, NULL::VARCHAR AS product_code,
    document.split_id AS reference_number, {literal(code)} AS expense_code,
    document.closed_on AS expense_date, share_out.amount, {home} AS currency,
    document.exchange_rate, share_out.document_amount, document.currency AS document_currency,
    document.payee_id, owner.name AS payee_name,
    NULL::DATE AS start_date, NULL::DATE AS end_date, document.header.dealname AS description,
    {custom_fields} AS custom_fields
FROM shared AS document
LEFT JOIN share_out ON share_out.landing = document.landing AND share_out.id = document.id
    AND share_out.split_id = document.split_id
LEFT JOIN owner ON owner.landing = document.landing AND owner.id = document.payee_id;
"""
