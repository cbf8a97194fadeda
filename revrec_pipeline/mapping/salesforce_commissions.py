"""Salesforce opportunity splits, or the records of a custom object, as expense lines.

What is here: which splits count, how a percentage becomes an amount to the cent, and how amounts
reach the home currency. Which fields are read is in `salesforce_reads`.
"""

import duckdb

from revrec_pipeline.mapping import Site
from revrec_pipeline.mapping.salesforce_line_sources import OPPORTUNITY
from revrec_pipeline.mapping.salesforce_pages import create_records
from revrec_pipeline.mapping.salesforce_reads import (
    COMMISSION,
    CURRENCY,
    CURRENCY_TYPE,
    DATED_RATE,
    OPPORTUNITY_CONTRACT,
    OPPORTUNITY_ORDER,
    SPLIT,
    commission_order_number,
    lookup_name,
    payee_name,
    standard_paths,
)
from revrec_pipeline.mapping.salesforce_sales import MY_DOMAIN, first_rule, web_page, won
from revrec_pipeline.mapping.salesforce_settings import SalesforceSettings
from revrec_pipeline.mapping.sql import converted, identifier, literal, ratio
from revrec_pipeline.model import RecordType

#: A share is a whole number of this part of a minor unit: 100 percent, each with six decimals.
_WHOLE = 100_000_000


def commission_rows(
    db: duckdb.DuckDBPyConnection, settings: SalesforceSettings, site: Site
) -> None:
    """Create the view `rows`: one row per split, and one for an opportunity without splits.

    With a custom object there is one row per record of it.
    """
    custom = settings.commission_object is not None
    header = COMMISSION if custom else OPPORTUNITY
    paths = {name: list(standard) for name, standard in standard_paths(settings).items()}
    paths[header] += [CURRENCY]
    place, number = commission_order_number(settings)
    paths[place] += [number]
    if custom:
        paths[COMMISSION] += [*settings.commission_fields.values(), payee_name(settings)]
    else:
        paths[OPPORTUNITY] += [settings.commission_amount_field]
    for name in {header, place, CURRENCY_TYPE, DATED_RATE, *(() if custom else (SPLIT,))}:
        create_records(db, name, list(dict.fromkeys(paths[name])))
    _create_order_numbers(db, place, number)
    if custom:
        _create_custom(db, settings, site, place, number)
    else:
        _create_splits(db, settings, site, place, number)
    _create_rates(db)
    home = literal(site.home_currency)
    same = f"cost.currency = {home}"
    home_rate, rate = "home_rate.rate", "foreign_rate.rate"
    db.execute(
        f"""
        CREATE VIEW rows AS
        SELECT
            'salesforce' AS source,
            '{RecordType.COMMISSIONS}' AS record_type,
            cost.period,
            cost.document_type,
            cost.document_id,
            cost.line_id,
            cost.version AS source_version,
            cost.landing AS raw_batch,
            cost.page AS raw_page,
            cost.url,
            cost.excluded_by,
            cost.order_number,
            NULL::VARCHAR AS order_item_number,
            NULL::VARCHAR AS product_code,
            cost.line_id AS reference_number,
            {literal(settings.commission_expense_code)} AS expense_code,
            cost.expense_date,
            CASE WHEN {same} THEN cost.amount
                ELSE {converted("cost.amount", home_rate, rate, home)} END AS amount,
            {home} AS currency,
            CASE WHEN {same} THEN 1::DECIMAL(28, 12)
                ELSE {ratio(home_rate, rate)} END AS exchange_rate,
            cost.amount AS document_amount,
            cost.currency AS document_currency,
            cost.payee_id,
            cost.payee_name,
            NULL::DATE AS start_date,
            NULL::DATE AS end_date,
            cost.description,
            MAP {{}}::MAP(VARCHAR, VARCHAR) AS custom_fields
        FROM cost
        LEFT JOIN rate AS foreign_rate ON {_rate_of("foreign_rate", "cost.currency")}
        LEFT JOIN rate AS home_rate ON {_rate_of("home_rate", home)}
        """
    )


# -- opportunity splits ------------------------------------------------------------------------


def _create_splits(
    db: duckdb.DuckDBPyConnection,
    settings: SalesforceSettings,
    site: Site,
    place: str,
    number: str,
) -> None:
    """Create `cost` of opportunities and their splits.

    Salesforce's own amount counts where there is one. Splits with a percentage only divide the
    opportunity's amount to its minor units: each has the whole units of its share, and those with
    the largest remainders get one more, until their sum is that of their percentages. So splits of
    100 % add up to the opportunity.
    """
    order_number = f"document.{identifier(number)}" if place == OPPORTUNITY else "number.number"
    linked = "" if place == OPPORTUNITY else _NUMBER_JOIN.format('document."Id"')
    deleted = "split.\"IsDeleted\" = 'true'"
    typed = f'split."SplitType.DeveloperName" = {literal(settings.commission_split_type)}'
    counts = f"{typed} AND NOT ({deleted})" if settings.exclude_deleted else typed
    rules = [('split."Id" IS NULL', "no_split")]
    if settings.exclude_deleted:
        rules.insert(0, (f"document.\"IsDeleted\" = 'true' OR {deleted}", "deleted"))
    rules += [
        (f"{typed} IS NOT true", "other_split_type"),
        (f"{won(settings, 'document.', '')} IS NOT true", "not_closed_won"),
        *_conversion_rule("document.expense_date", site),
    ]
    whole = f"document.{identifier(settings.commission_amount_field)}"
    given = _paid('split."SplitAmount"', settings)
    db.execute(
        f"""
        CREATE VIEW cost AS
        WITH document AS (
            SELECT header.*, current.version, {MY_DOMAIN} AS my_domain,
                coalesce({CURRENCY}, {literal(site.home_currency)}) AS currency,
                try_cast("CloseDate" AS DATE) AS expense_date
            FROM salesforce_{OPPORTUNITY} AS header
            JOIN current ON current.object = '{OPPORTUNITY}' AND current.id = header."Id"
                AND current.landing = header.landing AND current.page = header.page
        ), divided AS (
            SELECT split."Id" AS split_id, split."OpportunityId" AS opportunity_id,
                {_paid(whole, settings)} AS value,
                CASE minor_digits(document.currency) WHEN 0 THEN 1 WHEN 3 THEN 1000 ELSE 100 END
                    AS units,
                (abs(value)::DECIMAL(28, 4) * units)::HUGEINT
                    * (try_cast(split."SplitPercentage" AS DECIMAL(18, 6))
                        * 1000000)::HUGEINT AS share
            FROM salesforce_{SPLIT} AS split
            JOIN document ON split."OpportunityId" = document."Id"
                AND split.landing = document.landing
            WHERE {counts} AND split."SplitAmount" IS NULL
        ), ranked AS (
            SELECT *, row_number() OVER (
                    PARTITION BY opportunity_id ORDER BY share % {_WHOLE} DESC, split_id) AS rank,
                (sum(share) OVER (PARTITION BY opportunity_id) + {_WHOLE // 2})::HUGEINT
                    // {_WHOLE}
                    - sum(share // {_WHOLE}) OVER (PARTITION BY opportunity_id) AS left_over
            FROM divided
        ), amount AS (
            SELECT split_id, ((share // {_WHOLE} + (rank <= left_over)::INTEGER)
                * sign(value)::INTEGER
                * (10000 // units) * 0.0001::DECIMAL(4, 4))::DECIMAL(18, 4) AS amount
            FROM ranked
        )
        SELECT
            left(document."CloseDate", 7) AS period,
            'opportunity' AS document_type,
            document."Id" AS document_id,
            split."Id" AS line_id,
            document.version,
            document.landing,
            coalesce(split.page, document.page)::INTEGER AS page,
            {web_page("document.my_domain", "Opportunity", 'document."Id"')} AS url,
            {first_rule(rules)} AS excluded_by,
            {order_number} AS order_number,
            document.expense_date,
            document.currency,
            coalesce({given}, amount.amount) AS amount,
            split."SplitOwnerId" AS payee_id,
            split."SplitOwner.Name" AS payee_name,
            split."SplitNote" AS description
        FROM document
        LEFT JOIN salesforce_{SPLIT} AS split
            ON split."OpportunityId" = document."Id" AND split.landing = document.landing
        LEFT JOIN amount ON amount.split_id = split."Id"
        {linked}
        """
    )


def _paid(amount: str, settings: SalesforceSettings) -> str:
    """What is paid of an amount, in whole minor units of the document's currency."""
    rate = f"{settings.commission_rate:.4f}::DECIMAL(7, 4)"
    # A product of two narrow decimals overflows instead of becoming wide.
    paid = f"try_cast({amount} AS DECIMAL(18, 4))::DECIMAL(28, 4) * {rate} * 0.01::DECIMAL(2, 2)"
    return f"money({paid}, document.currency)::DECIMAL(18, 4)"


# -- a custom object ---------------------------------------------------------------------------


def _create_custom(
    db: duckdb.DuckDBPyConnection,
    settings: SalesforceSettings,
    site: Site,
    place: str,
    number: str,
) -> None:
    """Create `cost` of the records of a custom object.

    What has been paid stays a cost when its opportunity is lost or opened again: the money is out
    until a record that is marked as claw-back brings it in, which is negative whatever its sign.
    """
    fields = settings.commission_fields
    lookup = lookup_name(settings, "opportunity")
    opportunity = f"document.{identifier(fields['opportunity'])}"
    order_number = f"document.{identifier(number)}" if place == COMMISSION else "number.number"
    linked = "" if place == COMMISSION else _NUMBER_JOIN.format(opportunity)
    kept = [f"document.{identifier(fields['paid_date'])}"] if "paid_date" in fields else []
    amount = f"try_cast(document.{identifier(fields['amount'])} AS DECIMAL(18, 4))"
    clawed = "false"
    if "clawback" in fields:
        clawed = f"(document.{identifier(fields['clawback'])} = 'true') IS true"
        amount = f"CASE WHEN {clawed} THEN -abs({amount}) ELSE {amount} END"
    sold = won(settings, "document.", f"{lookup}.")
    gone = f"document.{identifier(f'{lookup}.IsDeleted')} = 'true'"
    open_ = f"{opportunity} IS NOT NULL AND ({sold} IS NOT true OR {gone})"
    paid = "".join(f" AND {date} IS NULL" for date in kept)
    rules = [(f"{open_}{paid} AND NOT {clawed}", "not_closed_won")]
    if settings.exclude_deleted:
        rules.insert(0, ("document.\"IsDeleted\" = 'true'", "deleted"))
    rules += _conversion_rule("document.expense_date", site)
    date = identifier(fields["date"])
    payee_field = identifier(fields["payee"])
    note = identifier(fields["description"]) if "description" in fields else None
    made = f'timezone({literal(site.timezone)}, document."CreatedDate"::TIMESTAMPTZ)'
    db.execute(
        f"""
        CREATE VIEW cost AS
        WITH document AS (
            SELECT header.*, current.version, {MY_DOMAIN} AS my_domain,
                coalesce({CURRENCY}, {literal(site.home_currency)}) AS currency,
                try_cast({date} AS DATE) AS expense_date
            FROM salesforce_{COMMISSION} AS header
            JOIN current ON current.object = '{COMMISSION}' AND current.id = header."Id"
                AND current.landing = header.landing AND current.page = header.page
        )
        SELECT
            coalesce(left(document.{date}, 7), strftime({made}, '%Y-%m')) AS period,
            'commission' AS document_type,
            document."Id" AS document_id,
            document."Id" AS line_id,
            document.version,
            document.landing,
            document.page::INTEGER AS page,
            {web_page("document.my_domain", str(settings.commission_object), 'document."Id"')}
                AS url,
            {first_rule(rules)} AS excluded_by,
            {order_number} AS order_number,
            document.expense_date,
            document.currency,
            money({amount}, document.currency)::DECIMAL(18, 4) AS amount,
            document.{payee_field} AS payee_id,
            coalesce(document.{identifier(payee_name(settings))}, document.{payee_field})
                AS payee_name,
            {f"document.{note}" if note else "NULL::VARCHAR"} AS description
        FROM document
        {linked}
        """
    )


# -- what both need ----------------------------------------------------------------------------


def _conversion_rule(day: str, site: Site) -> list[tuple[str, str]]:
    if site.conversion_date is None:
        return []
    return [(f"{day} < DATE {literal(site.conversion_date)}", "before_conversion_date")]


_NUMBER_JOIN = (
    "LEFT JOIN order_number AS number "
    "ON number.opportunity_id = {} AND number.landing = document.landing"
)


def _create_order_numbers(db: duckdb.DuckDBPyConnection, place: str, number: str) -> None:
    """Create `order_number`: of an opportunity's orders or contracts, the first that is active."""
    links = {
        OPPORTUNITY_ORDER: ("OpportunityId", "EffectiveDate"),
        OPPORTUNITY_CONTRACT: ("SBQQ__Opportunity__c", "StartDate"),
    }
    if place not in links:
        return
    opportunity, day = map(identifier, links[place])
    db.execute(
        f"""
        CREATE VIEW order_number AS
        SELECT landing, {opportunity} AS opportunity_id,
            min(row({day}, "Id", {identifier(number)}))[3] AS number
        FROM salesforce_{place}
        WHERE "IsDeleted" IS DISTINCT FROM 'true' AND "StatusCode" NOT IN ('Draft', 'InApproval')
        GROUP BY ALL
        """
    )


def _create_rates(db: duckdb.DuckDBPyConnection) -> None:
    """Create `rate`: units of a currency per unit of the corporate one, by landing and days.

    An org with dated rates has one for each day and currency, and what it calls the current rate is
    not that of an older day; only the corporate currency itself may have none.
    """
    db.execute(
        f"""
        CREATE VIEW rate AS
        WITH dated AS (
            SELECT landing, "IsoCode" AS currency,
                try_cast("ConversionRate" AS DECIMAL(18, 9)) AS rate,
                try_cast("StartDate" AS DATE) AS from_day,
                try_cast("NextStartDate" AS DATE) AS to_day
            FROM salesforce_{DATED_RATE}
        ), fixed AS (
            SELECT landing, "IsoCode" AS currency,
                try_cast("ConversionRate" AS DECIMAL(18, 9)) AS rate,
                "IsCorporate" = 'true' AS is_corporate
            FROM salesforce_{CURRENCY_TYPE}
        )
        SELECT DISTINCT landing, currency, rate, from_day, to_day FROM dated
        WHERE rate > 0
            AND currency NOT IN (SELECT currency FROM fixed WHERE is_corporate)
        UNION
        SELECT landing, currency, rate, NULL, NULL FROM fixed
        WHERE rate > 0
            AND (is_corporate OR landing NOT IN (SELECT landing FROM dated))
        """
    )


def _rate_of(rate: str, currency: str) -> str:
    """The join of a rate's row with a row of `cost`."""
    return (
        f"{rate}.landing = cost.landing AND {rate}.currency = {currency} "
        f"AND ({rate}.from_day IS NULL OR cost.expense_date >= {rate}.from_day) "
        f"AND ({rate}.to_day IS NULL OR cost.expense_date < {rate}.to_day)"
    )
