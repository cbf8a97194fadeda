"""Where Salesforce order lines can come from: for each line source its objects, paths and fields.

Which other objects are read beside them is in `salesforce_reads`; what the fields mean is in
`salesforce_sales`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

OPPORTUNITY, OPPORTUNITY_LINE = "opportunity", "opportunity_line_item"
ORDER, ORDER_ITEM = "order", "order_item"
QUOTE, QUOTE_LINE = "quote", "quote_line"
CONTRACT, SUBSCRIPTION = "contract", "subscription"


@dataclass(frozen=True, slots=True)
class LineSource:
    """Where order lines come from: a document with its lines, and the ways to its parents."""

    header: str
    line: str
    parent: str  # the field of a line that holds its header's id
    day: str  # the path from the header to the business date
    line_day: str  # the path from a line to it
    account: str  # relationships: from the header to the account,
    opportunity: str | None  # from the header to its opportunity (none: it is one, or has no way)
    product: str  # and from a line to its product
    number: str  # the field of the header that people know it by
    header_paths: tuple[str, ...]
    line_paths: tuple[str, ...]
    #: The header's field with the sum of its lines, which Salesforce keeps and nobody can write.
    total: str | None = None
    #: The relationship from a header to the one that it amends.
    original: str | None = None
    #: Whether a document may be without a business date; it is then in no month.
    undated: bool = False


def header(*paths: str) -> tuple[str, ...]:
    """What is read of every document, before its own fields."""
    return ("Id", "IsDeleted", "SystemModstamp", *paths)


def _line(product_id: str, product: str, *paths: str) -> tuple[str, ...]:
    names = (f"{product}.{name}" for name in ("ProductCode", "Name", "Family"))
    return ("Id", "IsDeleted", product_id, *names, *paths)


#: What an opportunity says of its sale.
SOLD = ("StageName", "IsClosed", "IsWon", "CloseDate")
LINE_SOURCES: Mapping[str, LineSource] = {
    "opportunity_line": LineSource(
        header=OPPORTUNITY,
        line=OPPORTUNITY_LINE,
        parent="OpportunityId",
        day="CloseDate",
        line_day="Opportunity.CloseDate",
        account="Account",
        opportunity=None,
        product="Product2",
        number="Id",
        total="Amount",
        header_paths=header("Name", "AccountId", "Account.Name", "Owner.Name", "Amount", *SOLD),
        line_paths=_line(
            "Product2Id",
            "Product2",
            "OpportunityId",
            "Quantity",
            "ListPrice",
            "UnitPrice",
            "TotalPrice",
            "ServiceDate",
        ),
    ),
    "order": LineSource(
        header=ORDER,
        line=ORDER_ITEM,
        parent="OrderId",
        day="EffectiveDate",
        line_day="Order.EffectiveDate",
        account="Account",
        opportunity="Opportunity",
        product="Product2",
        number="OrderNumber",
        total="TotalAmount",
        original="OriginalOrder",
        header_paths=header(
            "OrderNumber",
            "Name",
            "AccountId",
            "Account.Name",
            "Owner.Name",
            "OpportunityId",
            "StatusCode",
            "EffectiveDate",
            "EndDate",
            "TotalAmount",
        ),
        line_paths=_line(
            "Product2Id",
            "Product2",
            "OrderId",
            "Quantity",
            "ListPrice",
            "UnitPrice",
            "TotalPrice",
            "ServiceDate",
            "EndDate",
        ),
    ),
    "cpq_quote": LineSource(
        header=QUOTE,
        line=QUOTE_LINE,
        parent="SBQQ__Quote__c",
        day="SBQQ__Opportunity2__r.CloseDate",
        line_day="SBQQ__Quote__r.SBQQ__Opportunity2__r.CloseDate",
        account="SBQQ__Account__r",
        opportunity="SBQQ__Opportunity2__r",
        product="SBQQ__Product__r",
        number="Name",
        total="SBQQ__NetAmount__c",
        original="SBQQ__MasterContract__r.SBQQ__Quote__r",
        header_paths=header(
            "Name",
            "SBQQ__Account__c",
            "SBQQ__Account__r.Name",
            "SBQQ__SalesRep__r.Name",
            "SBQQ__Opportunity2__c",
            "SBQQ__Opportunity2__r.Name",
            *(f"SBQQ__Opportunity2__r.{name}" for name in ("IsDeleted", *SOLD)),
            "SBQQ__Primary__c",
            "SBQQ__Type__c",
            "SBQQ__StartDate__c",
            "SBQQ__EndDate__c",
            "SBQQ__SubscriptionTerm__c",
            "SBQQ__NetAmount__c",
        ),
        line_paths=_line(
            "SBQQ__Product__c",
            "SBQQ__Product__r",
            "SBQQ__Quote__c",
            "SBQQ__Quantity__c",
            "SBQQ__PriorQuantity__c",
            "SBQQ__ListPrice__c",
            "SBQQ__NetPrice__c",
            "SBQQ__NetTotal__c",
            "SBQQ__Optional__c",
            "SBQQ__SubscriptionPricing__c",
            "SBQQ__EffectiveStartDate__c",
            "SBQQ__EffectiveEndDate__c",
            "SBQQ__StartDate__c",
            "SBQQ__EndDate__c",
            "SBQQ__SubscriptionTerm__c",
        ),
        undated=True,
    ),
    "cpq_subscription": LineSource(
        header=CONTRACT,
        line=SUBSCRIPTION,
        parent="SBQQ__Contract__c",
        day="StartDate",
        line_day="SBQQ__Contract__r.StartDate",
        account="Account",
        opportunity=None,
        product="SBQQ__Product__r",
        number="ContractNumber",
        header_paths=header(
            "ContractNumber",
            "AccountId",
            "Account.Name",
            "Owner.Name",
            "SBQQ__Opportunity__c",
            "StatusCode",
            "StartDate",
            "EndDate",
        ),
        line_paths=_line(
            "SBQQ__Product__c",
            "SBQQ__Product__r",
            "SBQQ__Contract__c",
            "SBQQ__Quantity__c",
            "SBQQ__ListPrice__c",
            "SBQQ__NetPrice__c",
            "SBQQ__StartDate__c",
            "SBQQ__EndDate__c",
            "SBQQ__TerminatedDate__c",
        ),
        undated=True,
    ),
}
