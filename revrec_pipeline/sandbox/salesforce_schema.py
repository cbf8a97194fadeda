"""The objects and fields of the sandbox's Salesforce org, and how `describe` shows them.

What the org holds is in `salesforce_org`. What real orgs may lack can be missing here, too: single
fields, as those that RevRec asks for, and whole objects, as those of CPQ.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

API_VERSION = "68.0"

#: Types whose values are text in quotes in SOQL.
TEXT_TYPES = frozenset({"id", "reference", "string", "picklist", "textarea"})
#: Types whose values are JSON numbers.
NUMBER_TYPES = frozenset({"currency", "double", "percent", "int"})


@dataclass(frozen=True, slots=True)
class Field:
    """One field. `length` is of text; `precision` and `scale` are of numbers."""

    name: str
    type: str
    length: int = 0
    precision: int = 0
    scale: int = 0
    relationship: str | None = None  # name of the path to the parent
    parent: str | None = None  # the object that a reference points to

    @property
    def custom(self) -> bool:
        """Whether the org's administrator made it."""
        return self.name.endswith("__c")

    def describe(self) -> dict[str, Any]:
        """The field as `describe` lists it."""
        return {
            **_UNREMARKABLE,
            "name": self.name,
            "label": self.name.removesuffix("__c").replace("_", " "),
            "type": self.type,
            "length": self.length,
            "byteLength": self.length * 3 if self.type not in ("id", "reference") else self.length,
            "precision": self.precision,
            "scale": self.scale,
            "digits": self.precision if self.type == "int" else 0,
            "custom": self.custom,
            "nillable": self.name not in ("Id", "IsDeleted", "SystemModstamp"),
            "filterable": self.type != "textarea",
            "sortable": self.type != "textarea",
            "groupable": self.type in TEXT_TYPES - {"textarea"} or self.type in ("date", "boolean"),
            "idLookup": self.type == "id",
            "nameField": self.name == "Name",
            "defaultedOnCreate": self.type in ("id", "boolean"),
            "createable": self.name not in ("Id", "IsDeleted", "SystemModstamp", "CreatedDate"),
            "updateable": self.name not in ("Id", "IsDeleted", "SystemModstamp", "CreatedDate"),
            "referenceTo": [self.parent] if self.parent else [],
            "relationshipName": self.relationship,
            "soapType": _SOAP_TYPES[self.type],
        }


#: What every field's description holds and none of ours has.
_UNREMARKABLE: dict[str, Any] = {
    **dict.fromkeys(
        (
            "autoNumber",
            "calculated",
            "caseSensitive",
            "dependentPicklist",
            "deprecatedAndHidden",
            "externalId",
            "htmlFormatted",
            "namePointing",
            "restrictedPicklist",
            "unique",
            "writeRequiresMasterRead",
        ),
        False,
    ),
    **dict.fromkeys(
        (
            "calculatedFormula",
            "controllerName",
            "defaultValue",
            "defaultValueFormula",
            "inlineHelpText",
            "relationshipOrder",
        )
    ),
    "picklistValues": [],
}
_SOAP_TYPES = {
    "id": "tns:ID",
    "reference": "tns:ID",
    "string": "xsd:string",
    "picklist": "xsd:string",
    "textarea": "xsd:string",
    "boolean": "xsd:boolean",
    "date": "xsd:date",
    "datetime": "xsd:dateTime",
    "currency": "xsd:double",
    "double": "xsd:double",
    "percent": "xsd:double",
    "int": "xsd:int",
}

#: Id prefix, label and plural, then fields as `name:type[:digits.scale | :length | :Parent]`.
_OBJECTS = {
    "Organization": (
        "00D",
        "Organization",
        "Name:string:80 InstanceName:string:5 IsSandbox:boolean",
    ),
    "User": ("005", "Users", "Name:string:121 Username:string:80 IsActive:boolean"),
    "Account": (
        "001",
        "Accounts",
        "IsDeleted:boolean MasterRecordId:reference:Account Name:string:255 Type:picklist:255"
        " BillingCountry:string:80 OwnerId:reference:User CurrencyIsoCode:picklist:3"
        " Billing_Id__c:string:40",
    ),
    "Product2": (
        "01t",
        "Products",
        "IsDeleted:boolean Name:string:255 ProductCode:string:255 Description:textarea:4000"
        " Family:picklist:255 StockKeepingUnit:string:180 IsActive:boolean"
        " CurrencyIsoCode:picklist:3 Term__c:double:4.0 Product_Type__c:string:80"
        " Billing_Code__c:string:80",
    ),
    "Opportunity": (
        "006",
        "Opportunities",
        "IsDeleted:boolean AccountId:reference:Account Name:string:120 Description:textarea:32000"
        " StageName:picklist:255 Amount:currency:18.2 Probability:percent:3.0 CloseDate:date"
        " Type:picklist:255 IsClosed:boolean IsWon:boolean OwnerId:reference:User"
        " HasOpportunityLineItem:boolean CurrencyIsoCode:picklist:3 PO_Number__c:string:40"
        " Region__c:picklist:255 Seats__c:double:18.0 Order_Number__c:string:40"
        " Commission__c:currency:16.2 SBQQ__PrimaryQuote__c:reference:SBQQ__Quote__c"
        " SBQQ__Contracted__c:boolean",
    ),
    "OpportunityLineItem": (
        "00k",
        "Opportunity Products",
        "IsDeleted:boolean OpportunityId:reference:Opportunity SortOrder:int:9"
        " PricebookEntryId:string:18 Product2Id:reference:Product2 ProductCode:string:255"
        " Name:string:376 CurrencyIsoCode:picklist:3 Quantity:double:12.2 Discount:percent:3.2"
        " Subtotal:currency:18.2 TotalPrice:currency:18.2 UnitPrice:currency:18.8"
        " ListPrice:currency:18.8 ServiceDate:date Description:string:255 Term__c:double:4.0"
        " Service_End_Date__c:date",
    ),
    "Order": (
        "801",
        "Orders",
        "IsDeleted:boolean OrderNumber:string:30 Name:string:80 AccountId:reference:Account"
        " OpportunityId:reference:Opportunity OwnerId:reference:User"
        " OriginalOrderId:reference:Order IsReductionOrder:boolean Status:picklist:255"
        " StatusCode:picklist:40 EffectiveDate:date EndDate:date TotalAmount:currency:18.2"
        " CurrencyIsoCode:picklist:3 Sales_Order__c:string:40",
    ),
    "OrderItem": (
        "802",
        "Order Products",
        "IsDeleted:boolean OrderItemNumber:string:30 OrderId:reference:Order"
        " Product2Id:reference:Product2 OriginalOrderItemId:reference:OrderItem"
        " CurrencyIsoCode:picklist:3 Quantity:double:18.2 AvailableQuantity:double:18.2"
        " UnitPrice:currency:18.8 ListPrice:currency:18.8 TotalPrice:currency:18.2"
        " ServiceDate:date EndDate:date Description:string:255 Term__c:double:4.0",
    ),
    "Contract": (
        "800",
        "Contracts",
        "IsDeleted:boolean ContractNumber:string:30 AccountId:reference:Account"
        " OwnerId:reference:User Status:picklist:40 StatusCode:picklist:40 StartDate:date"
        " EndDate:date ContractTerm:int:9 CurrencyIsoCode:picklist:3"
        " SBQQ__Opportunity__c:reference:Opportunity SBQQ__Quote__c:reference:SBQQ__Quote__c",
    ),
    "OpportunitySplitType": (
        "149",
        "Opportunity Split Types",
        "DeveloperName:string:80 MasterLabel:string:80 SplitField:string:40 IsActive:boolean"
        " IsTotalValidated:boolean",
    ),
    "OpportunitySplit": (
        "1OS",
        "Opportunity Splits",
        "IsDeleted:boolean OpportunityId:reference:Opportunity SplitOwnerId:reference:User"
        " SplitTypeId:reference:OpportunitySplitType SplitPercentage:percent:16.4"
        " SplitAmount:currency:18.2 SplitNote:string:255 CurrencyIsoCode:picklist:3",
    ),
    "CurrencyType": (
        "01L",
        "Currency Types",
        "IsoCode:picklist:3 ConversionRate:double:18.6 DecimalPlaces:int:2 IsActive:boolean"
        " IsCorporate:boolean",
    ),
    "DatedConversionRate": (
        "04w",
        "Dated Conversion Rates",
        "IsoCode:picklist:3 StartDate:date NextStartDate:date ConversionRate:double:18.6",
    ),
    "Commission__c": (
        "a01",
        "Commissions",
        "IsDeleted:boolean Name:string:80 Opportunity__c:reference:Opportunity"
        " Payee__c:reference:User Payee_Name__c:string:120 Amount__c:currency:16.2"
        " Earned_Date__c:date Paid_Date__c:date Clawback__c:boolean Note__c:string:255"
        " CurrencyIsoCode:picklist:3",
    ),
    "SBQQ__Quote__c": (
        "a0q",
        "Quotes",
        "IsDeleted:boolean Name:string:80 SBQQ__Account__c:reference:Account"
        " SBQQ__Opportunity2__c:reference:Opportunity SBQQ__SalesRep__c:reference:User"
        " SBQQ__Primary__c:boolean SBQQ__Ordered__c:boolean SBQQ__Status__c:picklist:255"
        " SBQQ__Type__c:picklist:255 SBQQ__MasterContract__c:reference:Contract"
        " SBQQ__StartDate__c:date SBQQ__EndDate__c:date SBQQ__SubscriptionTerm__c:double:5.0"
        " SBQQ__NetAmount__c:currency:18.2 CurrencyIsoCode:picklist:3 Sales_Order__c:string:40",
    ),
    "SBQQ__QuoteLine__c": (
        "a0l",
        "Quote Lines",
        "IsDeleted:boolean Name:string:80 SBQQ__Quote__c:reference:SBQQ__Quote__c"
        " SBQQ__Product__c:reference:Product2 SBQQ__RequiredBy__c:reference:SBQQ__QuoteLine__c"
        " SBQQ__Bundle__c:boolean SBQQ__Bundled__c:boolean SBQQ__Optional__c:boolean"
        " SBQQ__Existing__c:boolean SBQQ__Quantity__c:double:12.2"
        " SBQQ__PriorQuantity__c:double:12.2 SBQQ__ListPrice__c:currency:16.8"
        " SBQQ__NetPrice__c:currency:16.8 SBQQ__NetTotal__c:currency:18.2"
        " SBQQ__ProrateMultiplier__c:double:8.4 SBQQ__SubscriptionPricing__c:picklist:255"
        " SBQQ__SubscriptionTerm__c:double:5.0 SBQQ__StartDate__c:date SBQQ__EndDate__c:date"
        " SBQQ__EffectiveStartDate__c:date SBQQ__EffectiveEndDate__c:date"
        " SBQQ__SegmentIndex__c:double:5.0 SBQQ__SegmentKey__c:string:255"
        " SBQQ__UpgradedSubscription__c:reference:SBQQ__Subscription__c"
        " CurrencyIsoCode:picklist:3 Term__c:double:4.0",
    ),
    "SBQQ__Subscription__c": (
        "a0s",
        "Subscriptions",
        "IsDeleted:boolean Name:string:80 SBQQ__Contract__c:reference:Contract"
        " SBQQ__Account__c:reference:Account SBQQ__Product__c:reference:Product2"
        " SBQQ__QuoteLine__c:reference:SBQQ__QuoteLine__c"
        " SBQQ__RevisedSubscription__c:reference:SBQQ__Subscription__c"
        " SBQQ__RootId__c:string:18 SBQQ__Quantity__c:double:12.2"
        " SBQQ__ListPrice__c:currency:16.8 SBQQ__NetPrice__c:currency:16.8"
        " SBQQ__ProrateMultiplier__c:double:8.4 SBQQ__SubscriptionStartDate__c:date"
        " SBQQ__SubscriptionEndDate__c:date SBQQ__StartDate__c:date SBQQ__EndDate__c:date"
        " SBQQ__TerminatedDate__c:date CurrencyIsoCode:picklist:3 Term__c:double:4.0",
    ),
}
#: Objects that are gone with a field that only orgs with them have.
_GONE_WITH = {
    "CurrencyIsoCode": ("CurrencyType", "DatedConversionRate"),
}
_BOOKKEEPING = " CreatedDate:datetime LastModifiedDate:datetime SystemModstamp:datetime"


def _field(text: str) -> Field:
    name, kind, *rest = text.split(":")
    detail = rest[0] if rest else ""
    if kind == "id":
        return Field(name, kind, length=18)
    if kind == "reference":
        custom = name.endswith("__c")
        relationship = name.removesuffix("c") + "r" if custom else name.removesuffix("Id")
        return Field(name, kind, 18, relationship=relationship, parent=detail)
    if kind in NUMBER_TYPES:
        precision, _, scale = detail.partition(".")
        return Field(name, kind, precision=int(precision), scale=int(scale or 0))
    return Field(name, kind, length=int(detail or 0))


@dataclass(frozen=True, slots=True)
class SObject:
    """One object type."""

    name: str
    prefix: str  # the first three characters of its ids
    plural: str
    fields: dict[str, Field]

    def describe(self) -> dict[str, Any]:
        """The object as `describe` shows it."""
        return {**self.summary(), "fields": [field.describe() for field in self.fields.values()]}

    def summary(self) -> dict[str, Any]:
        """The object as the list of objects shows it."""
        base = f"/services/data/v{API_VERSION}/sobjects/{self.name}"
        return {
            "name": self.name,
            "label": self.plural.removesuffix("s"),
            "labelPlural": self.plural,
            "keyPrefix": self.prefix,
            "custom": self.name.endswith("__c"),
            "queryable": True,
            "urls": {
                "sobject": base,
                "describe": f"{base}/describe",
                "rowTemplate": f"{base}/{{ID}}",
            },
        }


def schema(*, hidden: Iterable[str] = ()) -> dict[str, SObject]:
    """All objects by name, without the objects and fields that are named in `hidden`.

    A prefix that ends with two underscores names all of a managed package.
    """
    without = set(hidden)
    without |= {name for field in without for name in _GONE_WITH.get(field, ())}
    prefixes = tuple(name for name in without if name.endswith("__"))

    def is_there(name: str) -> bool:
        return name not in without and not (prefixes and name.startswith(prefixes))

    return {
        name: SObject(
            name,
            prefix,
            plural,
            {
                field.name: field
                for field in map(_field, f"Id:id {columns}{_BOOKKEEPING}".split())
                if is_there(field.name)
            },
        )
        for name, (prefix, plural, columns) in _OBJECTS.items()
        if is_there(name)
    }
