"""HubSpot: deals as order lines, invoices as billing lines, deal splits as commissions.

What lives here: the settings, which properties of which object are read, and which SQL makes the
rows of a record type. The SQL is in `hubspot_rows`, pages become tables in `hubspot_records`, and
how pages are fetched is in `resources.hubspot`. Facts and their evidence: reference/hubspot.md.
"""

from collections.abc import Mapping
from typing import Annotated

import duckdb
from pydantic import Field, StringConstraints, field_validator

from revrec_pipeline.mapping import Site, Source, SourceSettings, hubspot_rows
from revrec_pipeline.mapping.hubspot_records import (
    ACCOUNT,
    ASSOCIATION,
    COMPANY,
    DEAL,
    INVOICE,
    LINE,
    OWNER,
    PIPELINE,
    PRODUCT,
    SPLIT,
    create_records,
    create_surroundings,
    macros,
)
from revrec_pipeline.mapping.sql import identifier, literal
from revrec_pipeline.model import RecordType

_Property = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
_Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9\-_:.]+$")]
_Path = Annotated[
    str,
    StringConstraints(pattern=r"^((deal|invoice|line_item|company|product)\.)?[a-z][a-z0-9_]*$"),
]


class HubspotSettings(SourceSettings):
    """`[sources.hubspot]`."""

    #: Stages that count as sold, by id or label, or as `pipeline/stage`; without any, a deal counts
    #: when its pipeline says that the stage is closed and won.
    closed_stages: tuple[str, ...] = ()
    #: Months of service: a property of the line item, else of its product.
    term_field: _Property = "term_months"
    #: RevRec's product type: a property of the line item, else of its product.
    product_type_field: _Property = "hs_product_type"
    #: Property of the company with the customer's id; without it the company's own id.
    customer_id_field: _Property | None = None
    #: Property of the line item, else of its product, with the product's code; without it the SKU.
    product_id_field: _Property | None = None
    #: Further columns: heading → property of the line item, else of the deal or invoice. A property
    #: of one object is written like `company.region`.
    custom_fields: dict[str, _Path] = Field(default_factory=dict)
    #: Whether HubSpot's invoices are pulled; the token then needs their scope.
    invoices: bool = False
    #: Property of the invoice with the number of its order; without a value, the associated deal.
    order_number_field: _Property | None = None
    #: Only paid invoices count (rule `not_paid`).
    paid_invoices_only: bool = False
    #: Invoices over nothing are left out (rule `zero_invoice`).
    discard_zero_invoices: bool = False
    #: Whether billing lines carry their tax.
    tax_enabled: bool = False
    #: Whether deal splits are pulled as commissions; the token then needs their scope.
    commissions: bool = False
    #: Percent of a split's share of the deal's amount that is paid as commission.
    commission_rate: float = Field(default=100, gt=0, le=100)
    #: RevRec's expense code of commissions.
    commission_expense_code: _Identifier = "COMMISSION"
    #: HubSpot allows an app 190 requests in 10 seconds (Professional, Enterprise), 100 below.
    requests_per_second: float = Field(default=19, gt=0)
    #: HubSpot allows an account 5 searches a second, over all of its apps.
    searches_per_second: float = Field(default=4, gt=0)

    @field_validator("commission_rate")
    @classmethod
    def _four_decimals(cls, rate: float) -> float:
        if round(rate, 4) != rate:
            raise ValueError(f"{rate} has more than four decimals")
        return rate

    def lookups(self) -> dict[str, tuple[tuple[str, str], ...]]:
        """For each setting that names a property: (raw object, property) of the places to look.

        Custom fields stand under `custom_fields.<heading>`.
        """
        found: dict[str, tuple[tuple[str, str], ...]] = {
            "term_field": _line_or_product(self.term_field),
            "product_type_field": _line_or_product(self.product_type_field),
        }
        if self.customer_id_field:
            found["customer_id_field"] = ((COMPANY, self.customer_id_field),)
        if self.product_id_field:
            found["product_id_field"] = _line_or_product(self.product_id_field)
        if self.order_number_field:
            found["order_number_field"] = ((INVOICE, self.order_number_field),)
        for heading, path in self.custom_fields.items():
            owner, _, name = path.rpartition(".")
            places = ((owner, name),) if owner else ((LINE, name), (DEAL, name), (INVOICE, name))
            found[f"custom_fields.{heading}"] = places
        return found

    def properties(self, objects: Mapping[str, tuple[str, ...]]) -> dict[str, list[str]]:
        """What to read of each raw object: `objects` and the properties that settings name."""
        wanted = {name: list(standard) for name, standard in objects.items()}
        for places in self.lookups().values():
            for name, one in places:
                if name in wanted and one not in wanted[name]:
                    wanted[name].append(one)
        return wanted


def _line_or_product(name: str) -> tuple[tuple[str, str], ...]:
    return (LINE, name), (PRODUCT, name)


#: Properties that every portal has, or that a null stands for, by raw object.
STANDARD: Mapping[str, tuple[str, ...]] = {
    DEAL: (
        "dealname",
        "dealstage",
        "pipeline",
        "amount",
        "closedate",
        "createdate",
        "hs_lastmodifieddate",
        "hs_is_closed_won",
        "deal_currency_code",
        "hs_exchange_rate",
        "hubspot_owner_id",
        "hs_merged_object_ids",
    ),
    LINE: (
        "name",
        "hs_product_id",
        "hs_sku",
        "quantity",
        "price",
        "amount",
        "hs_line_item_currency_code",
        "recurringbillingfrequency",
        "hs_recurring_billing_period",
        "hs_recurring_billing_start_date",
        "hs_recurring_billing_end_date",
        "hs_billing_start_delay_days",
        "hs_billing_start_delay_months",
        "hs_billing_period_start_date",
        "hs_billing_period_end_date",
        "hs_tax_amount",
        "hs_tax_label",
        "hs_lastmodifieddate",
    ),
    COMPANY: ("name", "hs_lastmodifieddate"),
    PRODUCT: ("name", "hs_sku", "hs_lastmodifieddate"),
    INVOICE: (
        "hs_number",
        "hs_title",
        "hs_invoice_status",
        "hs_invoice_date",
        "hs_currency",
        "hs_amount_billed",
        "hs_createdate",
        "hs_lastmodifieddate",
        "hs_merged_object_ids",
    ),
}


def record_types(settings: SourceSettings) -> tuple[RecordType, ...]:
    """Sales always; the others where the settings ask for them, for each needs a scope."""
    asked = [RecordType.SALES]
    if isinstance(settings, HubspotSettings):
        if settings.invoices:
            asked.append(RecordType.INVOICES)
        if settings.commissions:
            asked.append(RecordType.COMMISSIONS)
    return tuple(asked)


def rows(
    db: duckdb.DuckDBPyConnection, record_type: RecordType, settings: SourceSettings, site: Site
) -> None:
    """Create the view `rows`; see `mapping.Source.rows`."""
    if not isinstance(settings, HubspotSettings):
        raise TypeError(f"these are not HubSpot's settings: {type(settings).__name__}")
    db.execute(macros(site))
    for name, wanted in settings.properties(STANDARD).items():
        create_records(db, name, wanted)
    create_surroundings(db)
    _create_lines(db, settings)
    match record_type:
        case RecordType.SALES:
            _create_deals(db, settings, site)
            custom = _custom_fields(settings, DEAL)
            db.execute(hubspot_rows.order_rows(custom, settings.exclude_products))
        case RecordType.INVOICES:
            number = _first_of(settings, "order_number_field", {INVOICE: "header"})
            db.execute(
                hubspot_rows.invoices(
                    site,
                    order_number=number,
                    paid_only=settings.paid_invoices_only,
                    discards_zero=settings.discard_zero_invoices,
                )
            )
            custom = _custom_fields(settings, INVOICE)
            db.execute(
                hubspot_rows.billing_rows(
                    custom, settings.exclude_products, taxes=settings.tax_enabled
                )
            )
        case RecordType.COMMISSIONS:
            _create_deals(db, settings, site)
            custom = _custom_fields(settings, DEAL, with_line=False)
            db.execute(
                hubspot_rows.expense_rows(
                    custom,
                    site,
                    percent=settings.commission_rate,
                    code=settings.commission_expense_code,
                )
            )


def _create_lines(db: duckdb.DuckDBPyConnection, settings: HubspotSettings) -> None:
    owners = {LINE: "line_item", PRODUCT: "product"}
    term, kind = settings.term_field, settings.product_type_field
    code = _first_of(settings, "product_id_field", owners)
    db.execute(
        hubspot_rows.lines(
            own_term=f"line_item.{identifier(term)}",
            product_term=f"product.{identifier(term)}",
            product_type=f"coalesce(line_item.{identifier(kind)}, product.{identifier(kind)})",
            product_code=code or "coalesce(line_item.hs_sku, product.hs_sku)",
        )
    )


def _create_deals(db: duckdb.DuckDBPyConnection, settings: HubspotSettings, site: Site) -> None:
    db.execute(
        hubspot_rows.deals(
            site,
            closed_stages=settings.closed_stages,
            customer_id=_customer_id(settings),
        )
    )


def _customer_id(settings: HubspotSettings) -> str:
    return _first_of(settings, "customer_id_field", {COMPANY: "company"}) or "company.id"


def _first_of(settings: HubspotSettings, setting: str, owners: Mapping[str, str]) -> str | None:
    """SQL for the first place of a setting's property that has a value; None if it is not set."""
    places = settings.lookups().get(setting)
    if places is None:
        return None
    named = [f"{owners[name]}.{identifier(one)}" for name, one in places if name in owners]
    return f"coalesce({', '.join(named)})" if named else "NULL::VARCHAR"


def _custom_fields(settings: HubspotSettings, header: str, *, with_line: bool = True) -> str:
    """A map of the custom columns; objects that a record type does not have give nulls."""
    owners = {header: "document.header", COMPANY: "document.company"}
    if with_line:
        owners |= {LINE: "line.line_item", PRODUCT: "line.product"}
    headings = [literal(heading) for heading in settings.custom_fields]
    values = [
        _first_of(settings, f"custom_fields.{heading}", owners)
        for heading in settings.custom_fields
    ]
    return f"map([{', '.join(headings)}], [{', '.join(map(str, values))}])::MAP(VARCHAR, VARCHAR)"


SOURCE = Source(
    name="hubspot",
    title="HubSpot",
    objects=(
        DEAL,
        INVOICE,
        LINE,
        SPLIT,
        ASSOCIATION,
        COMPANY,
        PRODUCT,
        OWNER,
        PIPELINE,
        ACCOUNT,
    ),
    documents={
        DEAL: (RecordType.SALES, RecordType.COMMISSIONS),
        INVOICE: (RecordType.INVOICES,),
    },
    settings=HubspotSettings,
    record_types=record_types,
    rows=rows,
    apart=(RecordType.SALES, RecordType.INVOICES),
)
