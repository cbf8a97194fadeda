"""Which objects, properties, pipelines and owners the sandbox's HubSpot portal has.

Only what is fixed: records are in `hubspot_store`, what the company sold in `hubspot_data`.
"""

from dataclasses import dataclass, field

VERSION = "2026-09"
PORTAL_ID = 48120766
TIMEZONE = "US/Eastern"
COMPANY_CURRENCY = "USD"
#: What the account answers about itself.
ACCOUNT = {
    "portalId": PORTAL_ID,
    "accountType": "STANDARD",
    "timeZone": TIMEZONE,
    "companyCurrency": COMPANY_CURRENCY,
    "additionalCurrencies": ["EUR", "GBP", "ISK", "JPY", "KWD"],
    "utcOffset": "-04:00",
    "utcOffsetMilliseconds": -14400000,
    "uiDomain": "app-na2.hubspot.com",
    "dataHostingLocation": "na2",
}

_COMMON = {
    "createdate": "datetime",
    "hs_lastmodifieddate": "datetime",
    "hs_object_id": "number",
    "hubspot_owner_id": "enumeration",
    "hs_merged_object_ids": "enumeration",
}
_LINE = {
    "name": "string",
    "description": "string",
    "hs_product_id": "number",
    "hs_sku": "string",
    "quantity": "number",
    "price": "number",
    "discount": "number",
    "hs_discount_percentage": "number",
    "hs_total_discount": "number",
    "hs_pre_discount_amount": "number",
    "hs_sync_amount": "number",
    "amount": "number",
    "hs_line_item_currency_code": "enumeration",
    "recurringbillingfrequency": "enumeration",
    "hs_recurring_billing_period": "string",
    "hs_recurring_billing_start_date": "date",
    "hs_recurring_billing_end_date": "date",
    "hs_recurring_billing_number_of_payments": "number",
    "hs_term_in_months": "number",
    "hs_billing_start_delay_days": "number",
    "hs_billing_start_delay_months": "number",
    "hs_billing_period_start_date": "date",
    "hs_billing_period_end_date": "date",
    "hs_tax_rate_group_id": "enumeration",
    "hs_tax_rate": "number",
    "hs_tax_label": "string",
    "hs_tax_amount": "number",
    "hs_post_tax_amount": "number",
    "cost_center": "string",
}


@dataclass(frozen=True, slots=True)
class ObjectType:
    """One object type, which requests name by its word or by its number."""

    name: str
    number: str
    singular: str  # as association types and messages spell it
    properties: dict[str, str] = field(default_factory=dict)  # name → type
    #: What a list answers when no properties are asked for.
    defaults: tuple[str, ...] = ("createdate", "hs_lastmodifieddate", "hs_object_id")
    aliases: tuple[str, ...] = ()


TYPES: tuple[ObjectType, ...] = (
    ObjectType(
        "deals",
        "0-3",
        "deal",
        {
            **_COMMON,
            "dealname": "string",
            "dealstage": "enumeration",
            "pipeline": "enumeration",
            "dealtype": "enumeration",
            "amount": "number",
            "amount_in_home_currency": "number",
            "hs_exchange_rate": "number",
            "deal_currency_code": "enumeration",
            "closedate": "datetime",
            "hs_is_closed": "bool",
            "hs_is_closed_won": "bool",
            "region": "enumeration",
        },
        (
            "amount",
            "closedate",
            "createdate",
            "dealname",
            "dealstage",
            "hs_lastmodifieddate",
            "hs_object_id",
            "pipeline",
        ),
        ("deal",),
    ),
    ObjectType("line_items", "0-8", "line_item", {**_COMMON, **_LINE}, aliases=("line_item",)),
    ObjectType(
        "companies",
        "0-2",
        "company",
        {**_COMMON, "name": "string", "domain": "string", "erp_customer_id": "string"},
        ("createdate", "domain", "hs_lastmodifieddate", "hs_object_id", "name"),
        ("company",),
    ),
    ObjectType(
        "products",
        "0-7",
        "product",
        {
            **_COMMON,
            "name": "string",
            "description": "string",
            "hs_sku": "string",
            "price": "number",
            "hs_product_type": "enumeration",
            "recurringbillingfrequency": "enumeration",
            "hs_recurring_billing_period": "string",
            "term_months": "number",
            "revenue_class": "string",
            "erp_item": "string",
        },
        aliases=("product",),
    ),
    ObjectType(
        "invoices",
        "0-53",
        "invoice",
        {
            **_COMMON,
            "hs_createdate": "datetime",
            "hs_number": "string",
            "hs_title": "string",
            "hs_invoice_status": "enumeration",
            "hs_invoice_date": "date",
            "hs_due_date": "date",
            "hs_currency": "enumeration",
            "hs_amount_billed": "number",
            "hs_amount_paid": "number",
            "hs_balance_due": "number",
            "hs_purchase_order_number": "string",
            "hs_invoice_source": "enumeration",
        },
        ("hs_createdate", "hs_lastmodifieddate", "hs_object_id"),
        ("invoice",),
    ),
    ObjectType(
        "deal_split",
        "0-72",
        "deal_split",
        {**_COMMON, "hs_deal_id": "number", "hs_deal_split_percentage": "number"},
        aliases=("deal_splits",),
    ),
)
BY_NAME = {word: each for each in TYPES for word in (each.name, each.number, *each.aliases)}

#: HUBSPOT_DEFINED association types by (from, to); a company that is the primary one has both.
ASSOCIATION_TYPES = {
    ("deals", "line_items"): 19,
    ("line_items", "deals"): 20,
    ("deals", "companies"): 341,
    ("companies", "deals"): 342,
    ("invoices", "line_items"): 409,
    ("line_items", "invoices"): 410,
    ("invoices", "companies"): 179,
    ("companies", "invoices"): 180,
    ("invoices", "deals"): 175,
    ("deals", "invoices"): 176,
}
PRIMARY = {("deals", "companies"): 5, ("companies", "deals"): 6}

#: Pipeline → label and stages: id, label, closed, probability. The same label stands in two.
PIPELINES: dict[str, tuple[str, tuple[tuple[str, str, bool, str], ...]]] = {
    "default": (
        "Sales Pipeline",
        (
            ("appointmentscheduled", "Appointment Scheduled", False, "0.2"),
            ("qualifiedtobuy", "Qualified To Buy", False, "0.4"),
            ("contractsent", "Contract Sent", False, "0.9"),
            ("closedwon", "Closed Won", True, "1.0"),
            ("closedlost", "Closed Lost", True, "0.0"),
        ),
    ),
    "74210021": (
        "Renewals",
        (
            ("148230011", "Up for Renewal", False, "0.5"),
            ("148230012", "Verbal Yes", False, "0.9"),
            ("148230013", "Renewed", True, "1.0"),
            ("148230014", "Churned", True, "0.0"),
        ),
    ),
}
#: Owner id → first name, last name, whether the person has left.
OWNERS: dict[str, tuple[str, str, bool]] = {
    "80410111": ("Ines", "Costa", False),
    "80410112": ("Theo", "Brandt", False),
    "80410113": ("Aisha", "Khan", False),
    "80410114": ("Paul", "Moreau", True),
}


def stage_of(stage: str | None) -> tuple[bool, str]:
    """Whether a stage is closed, and its probability; a deal without a stage is open."""
    for _, stages in PIPELINES.values():
        for identifier, _, closed, probability in stages:
            if identifier == stage:
                return closed, probability
    return False, "0"
