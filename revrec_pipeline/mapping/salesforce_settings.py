"""`[sources.salesforce]`: what may be set, and which fields of which objects the settings name.

What the objects mean is in `salesforce_reads`; whether an org has the fields is asked by
`resources.salesforce_fields`.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, StringConstraints, field_validator, model_validator

from revrec_pipeline.mapping import SourceSettings

LineSourceName: TypeAlias = Literal["opportunity_line", "order", "cpq_quote", "cpq_subscription"]
#: What a custom commission object has to tell, and what it may.
CommissionField: TypeAlias = Literal[
    "opportunity", "payee", "amount", "date", "paid_date", "clawback", "description"
]
REQUIRED_COMMISSION_FIELDS = ("opportunity", "payee", "amount", "date")

_ApiName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
_ApiPath = Annotated[
    str, StringConstraints(pattern=r"^([A-Za-z][A-Za-z0-9_]*\.)?[A-Za-z][A-Za-z0-9_]*$")
]
_CustomObject = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]*__c$")]
_Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9\-_:.]+$")]

#: Objects of which each line source can bring further columns.
CUSTOM_OWNERS: Mapping[str, tuple[str, ...]] = {
    "opportunity_line": ("OpportunityLineItem", "Opportunity", "Product2", "Account"),
    "order": ("OrderItem", "Order", "Product2", "Account", "Opportunity"),
    "cpq_quote": ("SBQQ__QuoteLine__c", "SBQQ__Quote__c", "Product2", "Account", "Opportunity"),
    "cpq_subscription": ("SBQQ__Subscription__c", "Contract", "Product2", "Account"),
}


class SalesforceSettings(SourceSettings):
    """`[sources.salesforce]`."""

    #: Stages that count as sold; without any, an opportunity counts when it is closed and won.
    closed_stages: tuple[str, ...] = ()
    #: Where order lines come from.
    line_source: LineSourceName = "opportunity_line"
    #: Months of service: a field of the line, else of its product.
    term_field: _ApiName = "Term__c"
    #: RevRec's product type: a field of the line, else of its product.
    product_type_field: _ApiName = "Product_Type__c"
    #: The last day of service, if lines have such a field; it wins over the term.
    line_end_date_field: _ApiName | None = None
    #: A field of the account that keeps the customer's id; else Salesforce's own id.
    customer_id_field: _ApiName | None = None
    #: A field of the product that keeps the product code; else `ProductCode`.
    product_id_field: _ApiName | None = None
    #: A field of the opportunity, order, quote or contract that keeps the order number.
    order_number_field: _ApiName | None = None
    #: Further columns: heading → field of the line, else of its document. A field of one object
    #: is written like `Account.Region__c`.
    custom_fields: dict[str, _ApiPath] = Field(default_factory=dict)
    #: Whether commissions are pulled, too.
    commissions: bool = False
    #: The custom object that holds them; without one, opportunity splits.
    commission_object: _CustomObject | None = None
    #: What is what in the custom object: one of `CommissionField` → its field.
    commission_fields: dict[CommissionField, _ApiName] = Field(default_factory=dict)
    #: The split type (its API name) whose splits are commissions.
    commission_split_type: str = "Revenue"
    #: The field of the opportunity that splits of that type divide.
    commission_amount_field: _ApiName = "Amount"
    #: Percent of a split's share of that field which is paid as commission.
    commission_rate: float = Field(default=100, gt=0, le=100)
    #: RevRec's expense code of commissions.
    commission_expense_code: _Identifier = "COMMISSION"
    #: Whether records in the recycle bin are kept out.
    exclude_deleted: bool = True
    #: More rows than this are pulled by a Bulk API 2.0 job, fewer by REST.
    bulk_threshold: int = Field(default=2000, ge=0)

    @field_validator("commission_rate")
    @classmethod
    def _four_decimals(cls, rate: float) -> float:
        if round(rate, 4) != rate:
            raise ValueError(f"{rate} has more than four decimals")
        return rate

    @model_validator(mode="after")
    def _known_owners(self) -> Self:
        owners = CUSTOM_OWNERS[self.line_source]
        for heading, path in self.custom_fields.items():
            owner = path.rpartition(".")[0]
            if owner and owner not in owners:
                raise ValueError(
                    f"custom_fields.{heading} names {path}; with line_source "
                    f"{self.line_source} a field belongs to {', '.join(owners)}"
                )
        return self

    @model_validator(mode="after")
    def _whole_commission(self) -> Self:
        if self.commission_object is None:
            if self.commission_fields:
                raise ValueError("commission_fields is set, so commission_object must be, too")
            return self
        if not self.commissions:
            raise ValueError("commission_object is set; set commissions = true, too")
        lacking = [
            name for name in REQUIRED_COMMISSION_FIELDS if name not in self.commission_fields
        ]
        if lacking:
            raise ValueError(
                f"commission_fields lacks {', '.join(lacking)}: which field of "
                f"{self.commission_object} is it"
            )
        return self
