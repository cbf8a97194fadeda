"""HubSpot's pages as tables: records with their properties, associations, stages, the portal.

Every property is text or null, and "" means null, too. Which of them a row needs, and what they
mean, is in `hubspot` and `hubspot_rows`.
"""

from collections.abc import Iterable

import duckdb

from revrec_pipeline.mapping import Site
from revrec_pipeline.mapping.sql import identifier, literal

#: Raw objects that hold records, with what associations and searches call them.
DEAL, INVOICE, LINE, COMPANY, PRODUCT = "deal", "invoice", "line_item", "company", "product"
SPLIT, ASSOCIATION = "deal_split", "association"
OWNER, PIPELINE, ACCOUNT = "owner", "pipeline", "account"
PLURALS = {
    DEAL: "deals",
    INVOICE: "invoices",
    LINE: "line_items",
    COMPANY: "companies",
    PRODUCT: "products",
    SPLIT: "deal_split",
}
#: The association type of a deal's primary company; the others have only their plain type.
_PRIMARY_COMPANY = 5


def macros(site: Site) -> str:
    """Readers of HubSpot's texts."""
    return f"""
CREATE OR REPLACE MACRO filled(words) AS nullif(trim(words), '');
-- Numbers come with any count of decimals, some with a double's noise behind 17 digits.
CREATE OR REPLACE MACRO number_of(words) AS try_cast(words AS DECIMAL(28, 12));
CREATE OR REPLACE MACRO is_epoch(words) AS regexp_full_match(words, '-?\\d+');
CREATE OR REPLACE MACRO epoch_of(words) AS TRY(make_timestamptz(words::BIGINT * 1000));
-- An instant falls on a day of the site's clocks …
CREATE OR REPLACE MACRO day_of(words) AS timezone({literal(site.timezone)}, CASE
    WHEN is_epoch(words) THEN epoch_of(words) ELSE try_cast(words AS TIMESTAMPTZ) END)::DATE;
-- … a date is midnight UTC, and is not shifted.
CREATE OR REPLACE MACRO date_of(words) AS CASE
    WHEN is_epoch(words) THEN timezone('UTC', epoch_of(words))::DATE
    ELSE try_cast(left(words, 10) AS DATE) END;
"""


def create_records(db: duckdb.DuckDBPyConnection, name: str, properties: Iterable[str]) -> None:
    """Create the view `<name>_record(landing, page, id, archived, …)`, one column per property."""
    names = list(dict.fromkeys(properties))
    fields = ",".join(f'"{one}":"VARCHAR"' for one in names)
    columns = "".join(
        f", filled(it.properties.{identifier(one)}) AS {identifier(one)}" for one in names
    )
    structure = f'{{"results":[{{"id":"VARCHAR","archived":"BOOLEAN","properties":{{{fields}}}}}]}}'
    db.execute(
        f"""
        CREATE OR REPLACE VIEW {name}_record AS
        SELECT landing, page, it.id AS id, coalesce(it.archived, false) AS archived{columns}
        FROM (SELECT landing, page, unnest(from_json(body, {literal(structure)}).results) AS it
              FROM raw_{name})
        """
    )


def create_surroundings(db: duckdb.DuckDBPyConnection) -> None:
    """Create `link`, `customer`, `stage`, `owner` and `portal`: what documents refer to."""
    db.execute(_LINKS)
    db.execute(_PORTAL)


# The path of the request says between which objects a page associates. One record's associations
# may fill several pages.
_LINKS = f"""
CREATE OR REPLACE VIEW link AS
SELECT DISTINCT landing, source_type, target_type,
    it."from".id AS source_id, target.toObjectId AS target_id,
    list_contains([one.typeId FOR one IN target.associationTypes], {_PRIMARY_COMPANY}) AS is_primary
FROM (
    SELECT landing, source_type, target_type, it, unnest(it."to") AS target
    FROM (
        SELECT landing,
            split_part(request, '/', 5) AS source_type, split_part(request, '/', 6) AS target_type,
            unnest(from_json(body, '{{"results":[{{"from":{{"id":"VARCHAR"}},"to":[{{
                "toObjectId":"VARCHAR","associationTypes":[{{"typeId":"INTEGER"}}]}}]}}]}}').results)
                AS it
        FROM raw_{ASSOCIATION}
    )
);

-- The primary company, else the only one; of several without a primary one nobody can say.
CREATE OR REPLACE VIEW customer AS
SELECT landing, source_type, source_id,
    CASE WHEN count(*) FILTER (WHERE is_primary) = 1 THEN max(target_id) FILTER (WHERE is_primary)
         WHEN count(*) = 1 THEN max(target_id) END AS company_id
FROM link WHERE target_type = '{PLURALS[COMPANY]}' GROUP BY ALL;
"""

_PORTAL = f"""
CREATE OR REPLACE VIEW portal AS
SELECT landing, it.portalId AS portal_id, coalesce(it.uiDomain, 'app.hubspot.com') AS domain,
    upper(it.companyCurrency) AS company_currency,
    -- In a portal with one currency no record needs to name it.
    CASE WHEN coalesce(len(it.additionalCurrencies), 0) = 0 THEN company_currency END
        AS only_currency
FROM (SELECT landing, from_json(body, '{{"portalId":"VARCHAR","uiDomain":"VARCHAR",
        "companyCurrency":"VARCHAR","additionalCurrencies":["VARCHAR"]}}') AS it
      FROM raw_{ACCOUNT});

CREATE OR REPLACE VIEW owner AS
SELECT DISTINCT ON (landing, it.id) landing, it.id AS id,
    coalesce(filled(concat_ws(' ', it.firstName, it.lastName)), it.email) AS name
FROM (SELECT landing, page, unnest(from_json(body, '{{"results":[{{"id":"VARCHAR",
        "firstName":"VARCHAR","lastName":"VARCHAR","email":"VARCHAR"}}]}}').results) AS it
      FROM raw_{OWNER})
ORDER BY landing, it.id, page;

CREATE OR REPLACE VIEW stage AS
SELECT landing, pipeline.id AS pipeline_id, it.id AS id,
    lower(it.metadata.isClosed) = 'true' AND number_of(it.metadata.probability) = 1 AS won,
    [it.id, trim(it.label), pipeline.id || '/' || it.id, pipeline.id || '/' || trim(it.label),
     trim(pipeline.label) || '/' || it.id, trim(pipeline.label) || '/' || trim(it.label)] AS names
FROM (
    SELECT landing, pipeline, unnest(pipeline.stages) AS it
    FROM (SELECT landing, unnest(from_json(body, '{{"results":[{{"id":"VARCHAR","label":"VARCHAR",
            "stages":[{{"id":"VARCHAR","label":"VARCHAR","metadata":{{"isClosed":"VARCHAR",
            "probability":"VARCHAR"}}}}]}}]}}').results) AS pipeline
          FROM raw_{PIPELINE})
);
"""
