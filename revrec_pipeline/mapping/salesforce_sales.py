"""Salesforce opportunities, orders, quotes or contracts, with their lines, as order lines.

What is here: when a document counts as sold, and how service dates, quantities and prices follow
from its lines. Which fields are read is in `salesforce_reads`, how a page becomes records in
`salesforce_pages`; which of the fields an org has, and how pages are fetched, is in
`resources.salesforce`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import duckdb

from revrec_pipeline.mapping import Site
from revrec_pipeline.mapping.salesforce_line_sources import LineSource
from revrec_pipeline.mapping.salesforce_pages import create_records
from revrec_pipeline.mapping.salesforce_reads import CURRENCY, Place, line_source
from revrec_pipeline.mapping.salesforce_reads import lookups as lookups_of
from revrec_pipeline.mapping.salesforce_settings import SalesforceSettings
from revrec_pipeline.mapping.sql import identifier, literal, quotient, term_end
from revrec_pipeline.model import RecordType

# The request of a page carries the instance's own URL, also where requests are sent elsewhere.
MY_DOMAIN = r"nullif(regexp_extract(request, ' https://([^/]+?)(\.my)?\.salesforce\.com/', 1), '')"


@dataclass(frozen=True, slots=True)
class _Terms:
    """What line sources differ in, as SQL over `document` and `line`.

    Dates and months are text, `quantity` and `price` DECIMAL(28, 12), `amount` is DECIMAL(18, 4).
    """

    document_type: str  # the vendor's word
    page: str  # the object in the address of its web page
    order_number: str
    order_name: str
    customer_id: str
    product_id: str
    account_owner: str
    opportunity_id: str
    list_price: str
    quantity: str
    price: str  # per unit; it counts where the quantity is 0
    amount: str
    starts: str
    ends: tuple[str, ...]
    months: str
    #: Condition → the rule that excludes by it, in the order in which they are asked.
    sold: tuple[tuple[str, str], ...] = ()
    line: tuple[tuple[str, str], ...] = ()


def sales_rows(db: duckdb.DuckDBPyConnection, settings: SalesforceSettings, site: Site) -> None:
    """Create the view `rows`: one row per line, and one for a document without lines."""
    sales = line_source(settings)
    lookups = {
        setting: places
        for setting, places in lookups_of(settings).items()
        if not setting.startswith("commission_")
    }
    paths = {
        sales.header: [*sales.header_paths, CURRENCY],
        sales.line: list(sales.line_paths),
    }
    for places in lookups.values():
        for name, path in places:
            if path not in paths[name]:
                paths[name].append(path)
    for name, wanted in paths.items():
        create_records(db, name, wanted)
    found = {setting: _first_of(places, sales) for setting, places in lookups.items()}
    terms = _TERMS[settings.line_source](settings, found)
    product_code = found.get("product_id_field") or f'line."{sales.product}.ProductCode"'
    headings = [literal(heading) for heading in settings.custom_fields]
    values = [_plain(found[f"custom_fields.{heading}"]) for heading in settings.custom_fields]
    db.execute(
        f"""
        CREATE VIEW rows AS
        WITH document AS (
            SELECT header.*, current.version,
                coalesce({CURRENCY}, {literal(site.home_currency)}) AS currency,
                try_cast({identifier(sales.day)} AS DATE) AS order_date,
                {MY_DOMAIN} AS my_domain
            FROM salesforce_{sales.header} AS header
            JOIN current ON current.object = '{sales.header}' AND current.id = header."Id"
                AND current.landing = header.landing AND current.page = header.page
        ), line AS (
            SELECT * FROM salesforce_{sales.line}
        ), pair AS (
            SELECT document, line, {terms.quantity} AS units, {terms.price} AS price,
                {terms.amount} AS total
            FROM document
            LEFT JOIN line
                ON line.{identifier(sales.parent)} = document."Id"
                AND line.landing = document.landing
        )
        SELECT
            'salesforce' AS source,
            '{RecordType.SALES}' AS record_type,
            left(document.{identifier(sales.day)}, 7) AS period,
            {literal(terms.document_type)} AS document_type,
            document."Id" AS document_id,
            line."Id" AS line_id,
            document.version AS source_version,
            document.landing AS raw_batch,
            coalesce(line.page, document.page)::INTEGER AS raw_page,
            {web_page("document.my_domain", terms.page, 'document."Id"')} AS url,
            {_excluded_by(terms, product_code, settings, site)} AS excluded_by,
            {found.get("customer_id_field") or terms.customer_id} AS customer_id,
            document.{identifier(f"{sales.account}.Name")} AS customer_name,
            {found.get("order_number_field") or terms.order_number} AS order_number,
            line."Id" AS order_item_number,
            {terms.order_name} AS order_name,
            {terms.product_id} AS product_id,
            {product_code} AS product_code,
            line."{sales.product}.Name" AS product_name,
            line."{sales.product}.Family" AS product_family,
            {found["product_type_field"]} AS product_type,
            document.order_date AS order_start_date,
            CASE WHEN line."Id" IS NOT NULL
                THEN coalesce(try_cast({terms.starts} AS DATE), document.order_date)
                END AS service_start_date,
            {_ends(found.get("line_end_date_field"), terms)} AS service_end_date,
            units AS quantity,
            try_cast({terms.list_price} AS DECIMAL(28, 12)) AS list_price,
            CASE WHEN units = 0 THEN price ELSE {quotient("total", "units")} END AS unit_price,
            total AS amount,
            document.currency AS currency,
            {terms.account_owner} AS account_owner,
            {terms.opportunity_id} AS opportunity_id,
            {found.get("original_order_number", "NULL::VARCHAR")} AS reference_invoice_number,
            map([{", ".join(headings)}], [{", ".join(values)}])::MAP(VARCHAR, VARCHAR)
                AS custom_fields
        FROM pair
        """
    )
    # What was deleted and counts nevertheless is in no total.
    if sales.total and settings.exclude_deleted:
        db.execute(_totals(sales, sales.total))


def _totals(sales: LineSource, field: str) -> str:
    """For `controls`: what Salesforce itself says of a document.

    It sums the prices of the lines that are neither deleted nor optional. An opportunity's amount
    is typed by hand only while it has no lines, and then there is nothing to compare it with.
    """
    return f"""
    CREATE VIEW document_total AS
    SELECT header."Id" AS document_id, NULL::BIGINT AS lines,
        try_cast(header.{identifier(field)} AS DECIMAL(18, 4)) AS amount,
        ['deleted', 'optional_line'] AS outside
    FROM salesforce_{sales.header} AS header
    JOIN current ON current.object = '{sales.header}' AND current.id = header."Id"
        AND current.landing = header.landing AND current.page = header.page
    """


# -- what a field means ----------------------------------------------------------------------


def _opportunity(settings: SalesforceSettings, found: Mapping[str, str]) -> _Terms:
    return _Terms(
        document_type="opportunity",
        page="Opportunity",
        order_number='document."Id"',
        order_name='document."Name"',
        customer_id='document."AccountId"',
        product_id='line."Product2Id"',
        account_owner='document."Owner.Name"',
        opportunity_id='document."Id"',
        list_price='line."ListPrice"',
        quantity=_number('line."Quantity"'),
        price=_number('line."UnitPrice"'),
        amount='try_cast(line."TotalPrice" AS DECIMAL(18, 4))',
        starts='line."ServiceDate"',
        ends=(),
        months=found["term_field"],
        sold=((f"{won(settings, 'document.', '')} IS NOT true", "not_closed_won"),),
    )


def _order(_settings: SalesforceSettings, found: Mapping[str, str]) -> _Terms:
    """A reduction order has lines with negative quantities, and names the order that it reduces."""
    return _Terms(
        document_type="order",
        page="Order",
        order_number='document."OrderNumber"',
        order_name='document."Name"',
        customer_id='document."AccountId"',
        product_id='line."Product2Id"',
        account_owner='document."Owner.Name"',
        opportunity_id='document."OpportunityId"',
        list_price='line."ListPrice"',
        quantity=_number('line."Quantity"'),
        price=_number('line."UnitPrice"'),
        amount='try_cast(line."TotalPrice" AS DECIMAL(18, 4))',
        starts='coalesce(line."ServiceDate", document."EffectiveDate")',
        ends=('line."EndDate"', 'document."EndDate"'),
        months=found["term_field"],
        # The label `Status` may be anything; the code behind it may not.
        sold=(("document.\"StatusCode\" IS DISTINCT FROM 'Activated'", "not_activated"),),
    )


def _quote(settings: SalesforceSettings, found: Mapping[str, str]) -> _Terms:
    """Every line has its own net total: bundles, options and segments add up as they are.

    An amendment repeats the lines of the contract; the difference to the prior quantity is what it
    sells, and the net total is that of the difference. A net price is prorated already.
    """
    amends = "document.\"SBQQ__Type__c\" = 'Amendment'"
    all_, prior = _number('line."SBQQ__Quantity__c"'), _number('line."SBQQ__PriorQuantity__c"')
    quantity = f"{all_} - coalesce(CASE WHEN {amends} THEN {prior} END, 0)"
    # What is sold once is not over when the quote's subscriptions are.
    recurs = 'line."SBQQ__SubscriptionPricing__c" IS NOT NULL'
    term = 'coalesce(line."SBQQ__SubscriptionTerm__c", document."SBQQ__SubscriptionTerm__c")'
    opportunity = "SBQQ__Opportunity2__r."
    return _Terms(
        document_type="quote",
        page="SBQQ__Quote__c",
        order_number='document."Name"',
        order_name=f'document."{opportunity}Name"',
        customer_id='document."SBQQ__Account__c"',
        product_id='line."SBQQ__Product__c"',
        account_owner='document."SBQQ__SalesRep__r.Name"',
        opportunity_id='document."SBQQ__Opportunity2__c"',
        list_price='line."SBQQ__ListPrice__c"',
        quantity=f"({quantity})::DECIMAL(28, 12)",
        price=_number('line."SBQQ__NetPrice__c"'),
        amount='try_cast(line."SBQQ__NetTotal__c" AS DECIMAL(18, 4))',
        starts='coalesce(line."SBQQ__EffectiveStartDate__c", line."SBQQ__StartDate__c", '
        'document."SBQQ__StartDate__c")',
        ends=(
            'line."SBQQ__EffectiveEndDate__c"',
            'line."SBQQ__EndDate__c"',
            f'CASE WHEN {recurs} THEN document."SBQQ__EndDate__c" END',
        ),
        months=f"coalesce(CASE WHEN {recurs} THEN {term} END, {found['term_field']})",
        sold=(
            ("document.\"SBQQ__Primary__c\" IS DISTINCT FROM 'true'", "not_primary"),
            (f"document.\"{opportunity}IsDeleted\" = 'true'", "deleted"),
            (f"{won(settings, 'document.', opportunity)} IS NOT true", "not_closed_won"),
        ),
        line=(
            ("line.\"SBQQ__Optional__c\" = 'true'", "optional_line"),
            (f"{amends} AND units = 0", "unchanged_line"),
        ),
    )


def _subscription(_settings: SalesforceSettings, found: Mapping[str, str]) -> _Terms:
    """Rows of a chain (sold, amended, cancelled) each count; a later one may be negative."""
    quantity, price = (_number(f'line."SBQQ__{name}__c"') for name in ("Quantity", "NetPrice"))
    return _Terms(
        document_type="contract",
        page="Contract",
        order_number='document."ContractNumber"',
        order_name="NULL::VARCHAR",
        customer_id='document."AccountId"',
        product_id='line."SBQQ__Product__c"',
        account_owner='document."Owner.Name"',
        opportunity_id='document."SBQQ__Opportunity__c"',
        list_price='line."SBQQ__ListPrice__c"',
        quantity=quantity,
        price=price,
        # The net price is prorated already; a product of 38 digits is no amount.
        amount=f"TRY(money(TRY({quantity} * {price}), document.currency)::DECIMAL(18, 4))",
        starts='coalesce(line."SBQQ__StartDate__c", document."StartDate")',
        ends=('line."SBQQ__EndDate__c"', 'document."EndDate"'),
        months=found["term_field"],
        sold=(
            (
                "document.\"StatusCode\" IN ('Draft', 'InApproval') "
                'OR document."StatusCode" IS NULL',
                "not_activated",
            ),
        ),
        # In one org 22 % of all rows that live had such a date: only one before the start counts.
        line=(('line."SBQQ__TerminatedDate__c" < line."SBQQ__StartDate__c"', "terminated"),),
    )


_TERMS: Mapping[str, Callable[[SalesforceSettings, Mapping[str, str]], _Terms]] = {
    "opportunity_line": _opportunity,
    "order": _order,
    "cpq_quote": _quote,
    "cpq_subscription": _subscription,
}


def won(settings: SalesforceSettings, record: str, path: str) -> str:
    """Whether an opportunity counts as sold; its fields stand below `path` of `record`."""
    if settings.closed_stages:
        stages = ", ".join(map(literal, settings.closed_stages))
        return f'({record}"{path}StageName" IN ({stages}))'
    # Stages have any name; these two flags are what the administrator says about the stage.
    return f"({record}\"{path}IsWon\" = 'true' AND {record}\"{path}IsClosed\" = 'true')"


def web_page(my_domain: str, name: str, id_: str) -> str:
    """The address of a record in Lightning."""
    root = f"'https://' || {my_domain} || '.lightning.force.com/lightning/r/{name}/'"
    return f"{root} || {id_} || '/view'"


def _number(text: str) -> str:
    return f"try_cast({text} AS DECIMAL(28, 12))"


def _excluded_by(terms: _Terms, product_code: str, settings: SalesforceSettings, site: Site) -> str:
    rules = []
    if settings.exclude_deleted:
        deleted = "document.\"IsDeleted\" = 'true' OR line.\"IsDeleted\" = 'true'"
        rules.append((deleted, "deleted"))
    rules += [
        (condition, rule)
        for condition, rule in terms.sold
        if rule != "deleted" or settings.exclude_deleted
    ]
    if site.conversion_date:
        day = f"DATE {literal(site.conversion_date)}"
        rules.append((f"document.order_date < {day}", "before_conversion_date"))
    rules += terms.line  # first, for what is optional is in no total of the document
    if settings.exclude_products:
        codes = ", ".join(map(literal, settings.exclude_products))
        rules.append((f"{product_code} IN ({codes})", "excluded_product"))
    return first_rule(rules)


def first_rule(rules: list[tuple[str, str]]) -> str:
    """The name of the first rule whose condition holds."""
    cases = " ".join(f"WHEN {condition} THEN {literal(rule)}" for condition, rule in rules)
    return f"CASE {cases} END"


def _ends(end: str | None, terms: _Terms) -> str:
    """The last day of service, included: the line's own field, else by the term in months."""
    known = [f"try_cast({text} AS DATE)" for text in (end, *terms.ends) if text]
    return f"coalesce({', '.join([*known, term_end('service_start_date', terms.months)])})"


def _first_of(places: tuple[Place, ...], sales: LineSource) -> str:
    owners = {sales.header: "document", sales.line: "line"}
    return f"coalesce({', '.join(f'{owners[name]}.{identifier(path)}' for name, path in places)})"


def _plain(value: str) -> str:
    """A custom value in the one form that REST and Bulk pages share.

    Bulk writes numbers as Java does (12.0, 1.2E7) and instants with Z, REST writes 12 or 12.0 and
    +0000, and CSV does not tell numbers from text: hence by form.
    """
    digits = f"rtrim(rtrim(try_cast({value} AS DECIMAL(38, 12))::VARCHAR, '0'), '.')"
    return f"""CASE
        WHEN regexp_full_match({value}, '-?\\d+\\.0') THEN left({value}, -2)
        WHEN regexp_full_match({value}, '-?\\d(\\.\\d+)?[eE][+-]?\\d+')
            THEN coalesce({digits}, {value})
        WHEN regexp_full_match({value}, '\\d{{4}}-\\d\\d-\\d\\dT[\\d:.]+\\+0000')
            THEN left({value}, -5) || 'Z'
        ELSE {value} END"""
