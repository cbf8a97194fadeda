"""The objects and fields of the sandbox's Salesforce org, and how `describe` shows them.

What the org holds is in `salesforce_org`. Two features can be missing, as they are in real orgs:
several currencies (then no object has `CurrencyIsoCode`) and the custom product fields that RevRec
asks for (`Term__c`, `Product_Type__c`).
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
        " BillingCountry:string:80 OwnerId:reference:User CurrencyIsoCode:picklist:3",
    ),
    "Product2": (
        "01t",
        "Products",
        "IsDeleted:boolean Name:string:255 ProductCode:string:255 Description:textarea:4000"
        " Family:picklist:255 StockKeepingUnit:string:180 IsActive:boolean"
        " CurrencyIsoCode:picklist:3 Term__c:double:4.0 Product_Type__c:string:80",
    ),
    "Opportunity": (
        "006",
        "Opportunities",
        "IsDeleted:boolean AccountId:reference:Account Name:string:120 Description:textarea:32000"
        " StageName:picklist:255 Amount:currency:18.2 Probability:percent:3.0 CloseDate:date"
        " Type:picklist:255 IsClosed:boolean IsWon:boolean OwnerId:reference:User"
        " HasOpportunityLineItem:boolean CurrencyIsoCode:picklist:3 PO_Number__c:string:40"
        " Region__c:picklist:255 Seats__c:double:18.0",
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
}
_BOOKKEEPING = " CreatedDate:datetime LastModifiedDate:datetime SystemModstamp:datetime"


def _field(text: str) -> Field:
    name, kind, *rest = text.split(":")
    detail = rest[0] if rest else ""
    if kind == "id":
        return Field(name, kind, length=18)
    if kind == "reference":
        return Field(name, kind, 18, relationship=name.removesuffix("Id"), parent=detail)
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
            "custom": False,
            "queryable": True,
            "urls": {
                "sobject": base,
                "describe": f"{base}/describe",
                "rowTemplate": f"{base}/{{ID}}",
            },
        }


def schema(*, hidden: Iterable[str] = ()) -> dict[str, SObject]:
    """All objects by name, without the fields named in `hidden`."""
    without = set(hidden)
    return {
        name: SObject(
            name,
            prefix,
            plural,
            {
                field.name: field
                for field in map(_field, f"Id:id {columns}{_BOOKKEEPING}".split())
                if field.name not in without
            },
        )
        for name, (prefix, plural, columns) in _OBJECTS.items()
    }
