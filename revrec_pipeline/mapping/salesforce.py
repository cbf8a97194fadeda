"""Salesforce opportunities and their lines as order lines.

What is here: which fields are read, when an opportunity counts as sold, how service dates and
prices per unit follow from a line. How a page becomes records is in `salesforce_pages`; which of
the fields an org has, and how pages are fetched, is in `resources.salesforce`.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

import duckdb
from pydantic import Field, StringConstraints

from revrec_pipeline.mapping import Site, Source, SourceSettings
from revrec_pipeline.mapping.salesforce_pages import create_records
from revrec_pipeline.mapping.sql import identifier, literal, quotient, term_end
from revrec_pipeline.model import RecordType

HEADER, LINE = "opportunity", "opportunity_line_item"

_ApiName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
_ApiPath = Annotated[
    str,
    StringConstraints(
        pattern=r"^((OpportunityLineItem|Opportunity|Product2|Account)\.)?[A-Za-z][A-Za-z0-9_]*$"
    ),
]


class SalesforceSettings(SourceSettings):
    """`[sources.salesforce]`."""

    #: Stages that count as sold; without any, an opportunity counts when it is closed and won.
    closed_stages: tuple[str, ...] = ()
    #: Where order lines come from.
    line_source: Literal["opportunity_line"] = "opportunity_line"
    #: Months of service: a field of the line, else of its product.
    term_field: _ApiName = "Term__c"
    #: RevRec's product type: a field of the line, else of its product.
    product_type_field: _ApiName = "Product_Type__c"
    #: The last day of service, if lines have such a field; it wins over the term.
    line_end_date_field: _ApiName | None = None
    #: Further columns: heading → field of the line, else of the opportunity. A field of one object
    #: is written like `Account.Region__c`.
    custom_fields: dict[str, _ApiPath] = Field(default_factory=dict)
    #: Whether records in the recycle bin are kept out.
    exclude_deleted: bool = True
    #: More rows than this are pulled by a Bulk API 2.0 job, fewer by REST.
    bulk_threshold: int = Field(default=2000, ge=0)

    def lookups(self) -> dict[str, tuple[tuple[str, str], ...]]:
        """For each setting that names a field: (raw object, path) of the places to look, in order.

        An org may lack some of them. Custom fields stand under `custom_fields.<heading>`.
        """
        found: dict[str, tuple[tuple[str, str], ...]] = {
            "term_field": _line_or_product(self.term_field),
            "product_type_field": _line_or_product(self.product_type_field),
        }
        if self.line_end_date_field:
            found["line_end_date_field"] = ((LINE, self.line_end_date_field),)
        for heading, path in self.custom_fields.items():
            found[f"custom_fields.{heading}"] = _places(path)
        return found


def _line_or_product(field: str) -> tuple[tuple[str, str], ...]:
    return (LINE, field), (LINE, f"Product2.{field}")


def _places(path: str) -> tuple[tuple[str, str], ...]:
    owner, _, field = path.rpartition(".")
    match owner:
        case "":
            return (LINE, path), (HEADER, path)
        case "OpportunityLineItem":
            return ((LINE, field),)
        case "Opportunity":
            return ((HEADER, field),)
        case "Account":
            return ((HEADER, path),)
        case _:
            return ((LINE, path),)


#: Paths that every org has, by raw object.
STANDARD: Mapping[str, tuple[str, ...]] = {
    HEADER: (
        "Id",
        "IsDeleted",
        "SystemModstamp",
        "Name",
        "AccountId",
        "Account.Name",
        "Owner.Name",
        "StageName",
        "IsClosed",
        "IsWon",
        "CloseDate",
    ),
    LINE: (
        "Id",
        "IsDeleted",
        "OpportunityId",
        "Product2Id",
        "Product2.ProductCode",
        "Product2.Name",
        "Product2.Family",
        "Quantity",
        "ListPrice",
        "UnitPrice",
        "TotalPrice",
        "ServiceDate",
    ),
}
#: Only orgs with several currencies have it; in others every amount is in the home currency.
CURRENCY = "CurrencyIsoCode"


def rows(
    db: duckdb.DuckDBPyConnection, record_type: RecordType, settings: SourceSettings, site: Site
) -> None:
    """Create the view `rows`: one row per line, and one for an opportunity without lines."""
    if record_type is not RecordType.SALES or not isinstance(settings, SalesforceSettings):
        raise TypeError(f"salesforce has no {record_type} with {type(settings).__name__}")
    lookups = settings.lookups()
    paths = {name: list(standard) for name, standard in STANDARD.items()}
    paths[HEADER].append(CURRENCY)
    for places in lookups.values():
        for name, path in places:
            if path not in paths[name]:
                paths[name].append(path)
    for name, wanted in paths.items():
        create_records(db, name, wanted)
    found = {setting: _first_of(places) for setting, places in lookups.items()}
    headings = [literal(heading) for heading in settings.custom_fields]
    values = [_plain(found[f"custom_fields.{heading}"]) for heading in settings.custom_fields]
    db.execute(
        f"""
        CREATE VIEW rows AS
        WITH document AS (
            SELECT header.*, current.version,
                coalesce({CURRENCY}, {literal(site.home_currency)}) AS currency,
                try_cast("CloseDate" AS DATE) AS close_date,
                {_sold(settings)} AS sold,
                {_MY_DOMAIN} AS my_domain
            FROM salesforce_{HEADER} AS header
            JOIN current ON current.object = '{HEADER}' AND current.id = header."Id"
                AND current.landing = header.landing AND current.page = header.page
        ), line AS (
            SELECT *,
                try_cast("Quantity" AS DECIMAL(28, 12)) AS units,
                try_cast("UnitPrice" AS DECIMAL(28, 12)) AS sales_price,
                try_cast("TotalPrice" AS DECIMAL(18, 4)) AS total
            FROM salesforce_{LINE}
        )
        SELECT
            'salesforce' AS source,
            '{RecordType.SALES}' AS record_type,
            left(document."CloseDate", 7) AS period,
            'opportunity' AS document_type,
            document."Id" AS document_id,
            line."Id" AS line_id,
            document.version AS source_version,
            document.landing AS raw_batch,
            coalesce(line.page, document.page)::INTEGER AS raw_page,
            'https://' || document.my_domain || '.lightning.force.com/lightning/r/Opportunity/'
                || document."Id" || '/view' AS url,
            {_excluded_by(settings, site)} AS excluded_by,
            document."AccountId" AS customer_id,
            document."Account.Name" AS customer_name,
            document."Id" AS order_number,
            line."Id" AS order_item_number,
            document."Name" AS order_name,
            line."Product2Id" AS product_id,
            line."Product2.ProductCode" AS product_code,
            line."Product2.Name" AS product_name,
            line."Product2.Family" AS product_family,
            {found["product_type_field"]} AS product_type,
            document.close_date AS order_start_date,
            CASE WHEN line."Id" IS NOT NULL
                THEN coalesce(try_cast(line."ServiceDate" AS DATE), document.close_date)
                END AS service_start_date,
            {_ends(found.get("line_end_date_field"), found["term_field"])} AS service_end_date,
            line.units AS quantity,
            try_cast(line."ListPrice" AS DECIMAL(28, 12)) AS list_price,
            CASE WHEN line.units = 0 THEN line.sales_price
                 ELSE {quotient("line.total", "line.units")} END AS unit_price,
            line.total AS amount,
            document.currency AS currency,
            document."Owner.Name" AS account_owner,
            document."Id" AS opportunity_id,
            NULL::VARCHAR AS reference_invoice_number,
            map([{", ".join(headings)}], [{", ".join(values)}])::MAP(VARCHAR, VARCHAR)
                AS custom_fields
        FROM document
        LEFT JOIN line
            ON line."OpportunityId" = document."Id" AND line.landing = document.landing
        """
    )


SOURCE = Source(
    name="salesforce",
    title="Salesforce",
    objects=(HEADER, LINE),
    documents={HEADER: (RecordType.SALES,)},
    settings=SalesforceSettings,
    record_types=lambda _settings: (RecordType.SALES,),
    rows=rows,
)


# -- what a field means ----------------------------------------------------------------------

# The request of a page carries the instance's own URL, also where requests are sent elsewhere.
_MY_DOMAIN = r"nullif(regexp_extract(request, ' https://([^/]+?)(\.my)?\.salesforce\.com/', 1), '')"


def _sold(settings: SalesforceSettings) -> str:
    if settings.closed_stages:
        return f'"StageName" IN ({", ".join(map(literal, settings.closed_stages))})'
    # Stages have any name; these two flags are what the administrator says about the stage.
    return "\"IsWon\" = 'true' AND \"IsClosed\" = 'true'"


def _excluded_by(settings: SalesforceSettings, site: Site) -> str:
    rules = []
    if settings.exclude_deleted:
        rules.append(
            "WHEN document.\"IsDeleted\" = 'true' OR line.\"IsDeleted\" = 'true' THEN 'deleted'"
        )
    rules.append("WHEN document.sold IS NOT true THEN 'not_closed_won'")
    if site.conversion_date:
        day = f"DATE {literal(site.conversion_date)}"
        rules.append(f"WHEN document.close_date < {day} THEN 'before_conversion_date'")
    if settings.exclude_products:
        codes = ", ".join(map(literal, settings.exclude_products))
        rules.append(f"WHEN line.\"Product2.ProductCode\" IN ({codes}) THEN 'excluded_product'")
    return f"CASE {' '.join(rules)} END"


def _ends(end: str | None, term: str) -> str:
    """The last day of service, included: the line's own field, else by the term in months."""
    by_term = term_end("service_start_date", term)
    return f"coalesce(try_cast({end} AS DATE), {by_term})" if end else by_term


def _first_of(places: tuple[tuple[str, str], ...]) -> str:
    owners = {HEADER: "document", LINE: "line"}
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
