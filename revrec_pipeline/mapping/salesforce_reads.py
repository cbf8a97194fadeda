"""What is read of a Salesforce org under which settings: documents, their parts, their fields.

A *document* is the unit of delivery: an opportunity, an order, a quote, a contract, a commission.
Its *parts* are what lands together with it: its lines, its splits. Both the resource, which makes
queries of this, and the mapping, which reads the answers, go by it. What the fields mean is in
`salesforce_sales` and `salesforce_commissions`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from revrec_pipeline.mapping.salesforce_line_sources import (
    CONTRACT,
    LINE_SOURCES,
    OPPORTUNITY,
    OPPORTUNITY_LINE,
    ORDER,
    ORDER_ITEM,
    QUOTE,
    QUOTE_LINE,
    SOLD,
    SUBSCRIPTION,
    LineSource,
    header,
)
from revrec_pipeline.mapping.salesforce_settings import CommissionField, SalesforceSettings
from revrec_pipeline.model import RecordType

SPLIT, COMMISSION = "opportunity_split", "commission"
#: The orders or contracts of an opportunity, of which a commission takes its order number.
OPPORTUNITY_ORDER, OPPORTUNITY_CONTRACT = "opportunity_order", "opportunity_contract"
#: Rates of the corporate currency; they belong to no document.
CURRENCY_TYPE, DATED_RATE = "currency_type", "dated_conversion_rate"
#: Only orgs with several currencies have it; in others every amount is in the home currency.
CURRENCY = "CurrencyIsoCode"

#: Raw object and path from it: where a value is looked for.
Place: TypeAlias = tuple[str, str]

#: Salesforce object of a raw object; that of a commission is a setting.
_OBJECTS: Mapping[str, str] = {
    OPPORTUNITY: "Opportunity",
    OPPORTUNITY_LINE: "OpportunityLineItem",
    ORDER: "Order",
    ORDER_ITEM: "OrderItem",
    QUOTE: "SBQQ__Quote__c",
    QUOTE_LINE: "SBQQ__QuoteLine__c",
    CONTRACT: "Contract",
    SUBSCRIPTION: "SBQQ__Subscription__c",
    SPLIT: "OpportunitySplit",
    OPPORTUNITY_ORDER: "Order",
    OPPORTUNITY_CONTRACT: "Contract",
    CURRENCY_TYPE: "CurrencyType",
    DATED_RATE: "DatedConversionRate",
}
#: The object at the end of a relationship, where that is not its name.
_RELATED: Mapping[str, str] = {
    "Owner": "User",
    "OriginalOrder": "Order",
    "SplitOwner": "User",
    "SplitType": "OpportunitySplitType",
    "SBQQ__Account__r": "Account",
    "SBQQ__MasterContract__r": "Contract",
    "SBQQ__Opportunity__r": "Opportunity",
    "SBQQ__Opportunity2__r": "Opportunity",
    "SBQQ__PrimaryQuote__r": "SBQQ__Quote__c",
    "SBQQ__Product__r": "Product2",
    "SBQQ__Quote__r": "SBQQ__Quote__c",
    "SBQQ__SalesRep__r": "User",
}
#: Objects whose names everybody may read who may read the child; they are not described for that.
NAMED = ("Account", "User")


@dataclass(frozen=True, slots=True)
class Part:
    """The records of one object that land with their documents.

    `day` and `key` are paths to the document's business date and id. `through` leads from a
    condition on the documents to one on these records, where no path does.
    """

    name: str
    day: str
    key: str
    through: str = "{}"


@dataclass(frozen=True, slots=True)
class Watch:
    """What changes a document: a stamp, and the path from there to the document's id."""

    name: str
    key: str = "Id"
    stamp: str = "SystemModstamp"
    through: str = "{}"


@dataclass(frozen=True, slots=True)
class Document:
    """A kind of document with its parts."""

    header: Part
    parts: tuple[Part, ...]
    watched: tuple[Watch, ...]
    record_types: tuple[RecordType, ...]
    #: Whether the business date may be missing.
    undated: bool = False
    #: The instant whose month counts then, lest such a document be lost.
    instead: str | None = None


def line_source(settings: SalesforceSettings) -> LineSource:
    """Where these settings take order lines from."""
    return LINE_SOURCES[settings.line_source]


def salesforce_object(name: str, settings: SalesforceSettings) -> str:
    """The Salesforce object of a raw object."""
    return settings.commission_object or "" if name == COMMISSION else _OBJECTS[name]


def owner(name: str, path: str, settings: SalesforceSettings) -> str:
    """The Salesforce object that has the last field of a path."""
    relationship = path.rpartition(".")[0].rpartition(".")[2]
    if not relationship:
        return salesforce_object(name, settings)
    if name == COMMISSION and relationship == lookup_name(settings, "opportunity"):
        return "Opportunity"
    return _RELATED.get(relationship, relationship)


def documents(settings: SalesforceSettings) -> tuple[Document, ...]:
    """What is pulled under these settings."""
    sales = _sales(settings)
    if not settings.commissions:
        return (sales,)
    if settings.commission_object:
        return sales, _custom_commissions(settings)
    split = Part(SPLIT, "Opportunity.CloseDate", "OpportunityId")
    watched = Watch(SPLIT, "OpportunityId")
    if sales.header.name == OPPORTUNITY:
        return (
            replace(
                sales,
                parts=(*sales.parts, split),
                watched=(*sales.watched, watched),
                record_types=(RecordType.SALES, RecordType.COMMISSIONS),
            ),
        )
    numbers = _order_numbers(settings)
    opportunity = Document(
        header=Part(OPPORTUNITY, "CloseDate", "Id"),
        parts=(split, *numbers),
        watched=(
            Watch(OPPORTUNITY),
            watched,
            *(Watch(number.name, number.key) for number in numbers),
        ),
        record_types=(RecordType.COMMISSIONS,),
    )
    return sales, opportunity


def _sales(settings: SalesforceSettings) -> Document:
    sales = line_source(settings)
    watched = [
        Watch(sales.header),
        Watch(sales.header, stamp=f"{sales.account}.SystemModstamp"),
        Watch(sales.line, sales.parent),
        Watch(sales.line, sales.parent, f"{sales.product}.SystemModstamp"),
    ]
    if sales.header == QUOTE:  # the opportunity says whether and when a quote is sold
        watched.append(Watch(QUOTE, stamp=f"{sales.opportunity}.SystemModstamp"))
    return Document(
        header=Part(sales.header, sales.day, "Id"),
        parts=(Part(sales.line, sales.line_day, sales.parent),),
        watched=tuple(watched),
        record_types=(RecordType.SALES,),
        undated=sales.undated,
    )


def _custom_commissions(settings: SalesforceSettings) -> Document:
    object_, fields = settings.commission_object, settings.commission_fields
    lookup, day = fields["opportunity"], fields["date"]
    numbers = _order_numbers(settings)
    return Document(
        header=Part(COMMISSION, day, "Id"),
        parts=tuple(
            Part(
                number.name,
                day,
                "Id",
                through=f"{number.key} IN (SELECT {lookup} FROM {object_} WHERE {{}})",
            )
            for number in numbers
        ),
        watched=(
            Watch(COMMISSION),
            Watch(COMMISSION, stamp=f"{lookup_name(settings, 'opportunity')}.SystemModstamp"),
            *(
                Watch(
                    COMMISSION,
                    through=f"{lookup} IN (SELECT {number.key} FROM "
                    f"{salesforce_object(number.name, settings)} WHERE {{}})",
                )
                for number in numbers
            ),
        ),
        record_types=(RecordType.COMMISSIONS,),
        undated=True,
        instead="CreatedDate",
    )


def _order_numbers(settings: SalesforceSettings) -> tuple[Part, ...]:
    """What lands with opportunities only to tell their order numbers."""
    match settings.line_source:
        case "order":
            return (Part(OPPORTUNITY_ORDER, "Opportunity.CloseDate", "OpportunityId"),)
        case "cpq_subscription":
            day = "SBQQ__Opportunity__r.CloseDate"
            return (Part(OPPORTUNITY_CONTRACT, day, "SBQQ__Opportunity__c"),)
        case _:
            return ()


def lookup_name(settings: SalesforceSettings, field: CommissionField) -> str:
    """The relationship of a lookup field of the custom commission object."""
    return settings.commission_fields[field].removesuffix("__c") + "__r"


# -- fields ----------------------------------------------------------------------------------


def standard_paths(settings: SalesforceSettings) -> dict[str, tuple[str, ...]]:
    """Paths that every org with these objects has, by raw object, in the order of the landing."""
    sales = line_source(settings)
    paths = {
        **_COMMISSION_PATHS,
        sales.header: sales.header_paths,
        sales.line: sales.line_paths,
        COMMISSION: (),
    }
    found = {
        part.name: paths[part.name]
        for document in documents(settings)
        for part in (document.header, *document.parts)
    }
    if COMMISSION in found:
        opportunity = lookup_name(settings, "opportunity")
        found[COMMISSION] = (
            "Id",
            "IsDeleted",
            "SystemModstamp",
            "CreatedDate",
            *(f"{opportunity}.{name}" for name in ("IsDeleted", *SOLD)),
        )
    if settings.commissions:
        found |= {name: _COMMISSION_PATHS[name] for name in (CURRENCY_TYPE, DATED_RATE)}
    return found


_COMMISSION_PATHS: Mapping[str, tuple[str, ...]] = {
    OPPORTUNITY: header(*SOLD),
    SPLIT: (
        "Id",
        "IsDeleted",
        "OpportunityId",
        "SplitOwnerId",
        "SplitOwner.Name",
        "SplitType.DeveloperName",
        "SplitPercentage",
        "SplitAmount",
        "SplitNote",
    ),
    OPPORTUNITY_ORDER: ("Id", "IsDeleted", "OpportunityId", "StatusCode", "EffectiveDate"),
    OPPORTUNITY_CONTRACT: ("Id", "IsDeleted", "SBQQ__Opportunity__c", "StatusCode", "StartDate"),
    CURRENCY_TYPE: ("IsoCode", "ConversionRate", "IsCorporate"),
    DATED_RATE: ("IsoCode", "StartDate", "NextStartDate", "ConversionRate"),
}


def lookups(settings: SalesforceSettings) -> dict[str, tuple[Place, ...]]:
    """For each setting that names a field: the places to look, in order.

    An org may lack some of them. Custom fields stand under `custom_fields.<heading>`, those of a
    commission object under `commission_fields.<what>`.
    """
    return dict(_lookups(settings))


def _lookups(settings: SalesforceSettings) -> Iterator[tuple[str, tuple[Place, ...]]]:
    sales = line_source(settings)
    for setting, field in (
        ("term_field", settings.term_field),
        ("product_type_field", settings.product_type_field),
    ):
        yield setting, ((sales.line, field), (sales.line, f"{sales.product}.{field}"))
    if settings.line_end_date_field:
        yield "line_end_date_field", ((sales.line, settings.line_end_date_field),)
    if settings.customer_id_field:
        place = (sales.header, f"{sales.account}.{settings.customer_id_field}")
        yield "customer_id_field", (place,)
    if settings.product_id_field:
        place = (sales.line, f"{sales.product}.{settings.product_id_field}")
        yield "product_id_field", (place,)
    if settings.order_number_field:
        yield "order_number_field", ((sales.header, settings.order_number_field),)
    if sales.original:
        field = settings.order_number_field or sales.number
        yield "original_order_number", ((sales.header, f"{sales.original}.{field}"),)
    for heading, path in settings.custom_fields.items():
        yield f"custom_fields.{heading}", _places(path, sales, settings)
    if not settings.commissions:
        return
    yield "commission_order_number", (commission_order_number(settings),)
    if settings.commission_object is None:
        yield "commission_amount_field", ((OPPORTUNITY, settings.commission_amount_field),)
    for name, field in settings.commission_fields.items():
        yield f"commission_fields.{name}", ((COMMISSION, field),)


def commission_order_number(settings: SalesforceSettings) -> Place:
    """Where a commission finds the number of its opportunity's order."""
    field = settings.order_number_field or line_source(settings).number
    match settings.line_source:
        case "order":
            return OPPORTUNITY_ORDER, field
        case "cpq_subscription":
            return OPPORTUNITY_CONTRACT, field
        case "cpq_quote":
            path = f"SBQQ__PrimaryQuote__r.{field}"
        case _:
            path = field
    if settings.commission_object is None:
        return OPPORTUNITY, path
    return COMMISSION, f"{lookup_name(settings, 'opportunity')}.{path}"


def _places(path: str, sales: LineSource, settings: SalesforceSettings) -> tuple[Place, ...]:
    """Where a further column is: of the line, else of the document, or of the object it names."""
    object_, _, field = path.rpartition(".")
    if not object_:
        return (sales.line, path), (sales.header, path)
    if object_ == salesforce_object(sales.line, settings):
        return ((sales.line, field),)
    if object_ == salesforce_object(sales.header, settings):
        return ((sales.header, field),)
    if object_ == "Product2":
        return ((sales.line, f"{sales.product}.{field}"),)
    relationship = sales.account if object_ == "Account" else sales.opportunity
    return ((sales.header, f"{relationship}.{field}"),)


def payee_name(settings: SalesforceSettings) -> str:
    """The path from a custom commission to the name of whom it is paid to, if that is a record."""
    return f"{lookup_name(settings, 'payee')}.Name"
