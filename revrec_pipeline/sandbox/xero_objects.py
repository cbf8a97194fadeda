"""What Xero's invoices, credit notes and catalogue look like, inside the sandbox and on the wire.

Inside, money is Decimal and a date is a datetime, so that filters can compare; `wire` makes of it
what the API sends. Which documents there are is in `xero_data`, what happens to them in
`xero_store`.
"""

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import msgspec

from revrec_pipeline.currency import exponent
from revrec_pipeline.sandbox import company
from revrec_pipeline.sandbox.salesforce_org import record_id

Object = dict[str, Any]

TENANT = "2f6c51c8-3f0e-4c55-9a55-6d2f0b6d8a11"
ORGANISATION_NAME = "Fernhill Software Inc"
SHORT_CODE = "!Fh7Ks"
#: Units of the currency for one US dollar, with ten decimals as Xero keeps them.
RATES: dict[str, Decimal] = {
    "USD": Decimal("1.0000000000"),
    "EUR": Decimal("0.9213847261"),
    "GBP": Decimal("0.7891234567"),
    "JPY": Decimal("151.2345678912"),
    "KWD": Decimal("0.3071234598"),
    "ISK": Decimal("138.4210975311"),
}
TRACKING: dict[str, tuple[str, ...]] = {
    "Region": ("Americas", "Europe", "Asia Pacific"),
    "Business Line": ("Cloud", "Services"),
}
_DATES = ("Date", "DueDate", "FullyPaidOnDate")
_RELATED = ("CreditNotes", "Prepayments", "Overpayments", "Allocations")
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - dates and stamps here are UTC without saying so
_NAMESPACE = uuid.UUID("7c1d2a5e-0f43-4b1c-8f5e-9d6f3a2b1c00")
_CENT = Decimal("0.01")


def guid(*seed: object) -> str:
    """The same id for the same words, each time."""
    return str(uuid.uuid5(_NAMESPACE, "/".join(map(str, seed))))


@dataclass(frozen=True, slots=True)
class Line:
    """A line as a person enters it. Without an amount it is only a description."""

    text: str
    code: str | None = None
    quantity: Decimal = Decimal(1)
    unit_amount: Decimal | None = None
    tax_percent: Decimal = Decimal(0)
    discount_rate: Decimal | None = None
    discount_amount: Decimal | None = None
    tracking: tuple[tuple[str, str], ...] = ()


def line_item(line: Line, document: str, position: int, amounts: str, currency: str) -> Object:
    """A line with its id, amount and tax."""
    tracking = [
        {
            "Name": name,
            "Option": option,
            "TrackingCategoryID": guid("category", name),
            "TrackingOptionID": guid("option", name, option),
            "Options": [],
        }
        for name, option in line.tracking
    ]
    item_id = guid("line", document, position)
    if line.unit_amount is None:
        return {"Description": line.text, "Tracking": tracking, "LineItemID": item_id}
    unit = line.unit_amount.quantize(Decimal("0.0001"), ROUND_HALF_UP)
    gross = line.quantity * unit
    net = gross * (1 - (line.discount_rate or Decimal(0)) / 100)
    amount = _rounded(net - (line.discount_amount or Decimal(0)), currency)
    share = line.tax_percent / (100 + line.tax_percent if amounts == "Inclusive" else 100)
    tax = _rounded(amount * share, currency) if amounts != "NoTax" else Decimal("0.00")
    product = company.product(line.code) if line.code else None
    return {
        **({"ItemCode": product.code} if product else {}),
        "Description": line.text,
        "UnitAmount": unit,
        "TaxType": "OUTPUT2" if line.tax_percent else "NONE",
        "TaxAmount": tax,
        "LineAmount": amount,
        "AccountCode": "200" if product is None or product.family != "Services" else "210",
        **({"Item": _item_of(product)} if product else {}),
        "Tracking": tracking,
        "Quantity": line.quantity.quantize(Decimal("0.0001")),
        **({"DiscountRate": line.discount_rate} if line.discount_rate is not None else {}),
        **({"DiscountAmount": line.discount_amount} if line.discount_amount is not None else {}),
        "LineItemID": item_id,
        "AccountID": guid("account", "200"),
    }


def document(
    kind: str,
    seed: str,
    contact: Object,
    day: datetime,
    lines: Iterable[Line],
    *,
    number: str,
    currency: str,
    amounts: str = "Exclusive",
    reference: str = "",
) -> Object:
    """A draft: `kind` is ACCREC, ACCPAY or one of their credit notes."""
    is_credit = kind.endswith("CREDIT")
    own = guid(kind, seed)
    items = [line_item(line, own, n, amounts, currency) for n, line in enumerate(lines, 1)]
    name = "CreditNote" if is_credit else "Invoice"
    links: Object = {"Allocations": []} if is_credit else {"CreditNotes": []}
    found: Object = {
        "Type": kind,
        f"{name}ID": own,
        f"{name}Number": number,
        "Reference": reference,
        "Payments": [],
        **links,
        **({} if is_credit else {"Prepayments": [], "Overpayments": []}),
        "HasErrors": False,
        "CurrencyRate": RATES[currency],
        "HasAttachments": False,
        "Contact": contact,
        "Date": day,
        "DueDate": day + timedelta(days=30),
        "FullyPaidOnDate": None,
        "Status": "DRAFT",
        "LineAmountTypes": amounts,
        "LineItems": items,
        "CurrencyCode": currency,
        "UpdatedDateUTC": _EPOCH,  # the store stamps what is added to it
    }
    add_up(found)
    return found


def add_up(one: Object) -> None:
    """Totals that follow from the lines; nothing has been paid yet."""
    priced = [line for line in one["LineItems"] if "LineAmount" in line]
    lines = sum((line["LineAmount"] for line in priced), Decimal("0.00"))
    tax = sum((line["TaxAmount"] for line in priced), Decimal("0.00"))
    inclusive = one["LineAmountTypes"] == "Inclusive"
    one["SubTotal"] = lines - tax if inclusive else lines
    one["TotalTax"] = tax
    one["Total"] = one["SubTotal"] + tax
    if "Allocations" in one:
        one["RemainingCredit"] = one["Total"]
    else:
        one.update(AmountDue=one["Total"], AmountPaid=Decimal("0.00"))
        one["AmountCredited"] = Decimal("0.00")


def contact(customer: company.Customer) -> Object:
    """A customer as a document shows it, with the CRM's id of it where the CRM made the contact.

    Xero insists on a name: who has none is called by the e-mail address.
    """
    number = company.CUSTOMERS.index(customer) + 1
    from_crm = {"ContactNumber": record_id("001", number)} if number % 4 else {}
    return {
        "ContactID": guid("contact", customer.key),
        **from_crm,
        "Name": customer.billing_name or customer.email,
        "Addresses": [],
        "Phones": [],
        "ContactGroups": [],
        "ContactPersons": [],
        "HasValidationErrors": False,
    }


def organisation() -> Object:
    """The organisation as the API shows it."""
    return {
        "Name": ORGANISATION_NAME,
        "LegalName": ORGANISATION_NAME,
        "PaysTax": True,
        "Version": "US",
        "OrganisationType": "COMPANY",
        "BaseCurrency": company.HOME_CURRENCY,
        "CountryCode": "US",
        "IsDemoCompany": False,
        "OrganisationStatus": "ACTIVE",
        "FinancialYearEndDay": 31,
        "FinancialYearEndMonth": 12,
        "SalesTaxBasis": "ACCRUALS",
        "PeriodLockDate": "/Date(1711843200000+0000)/",
        "CreatedDateUTC": "/Date(1688169600000)/",
        "OrganisationEntityType": "COMPANY",
        "Timezone": "EASTERNSTANDARDTIME",
        "ShortCode": SHORT_CODE,
        "OrganisationID": TENANT,
        "Edition": "BUSINESS",
        "Class": "PREMIUM",
    }


def items() -> list[Object]:
    """The catalogue."""
    return [
        {
            **_item_of(product),
            "UpdatedDateUTC": "/Date(1688169600000+0000)/",
            "PurchaseDetails": {},
            "SalesDetails": {"UnitPrice": product.price, "AccountCode": "200"},
            "IsTrackedAsInventory": False,
            "IsSold": True,
            "IsPurchased": False,
        }
        for product in company.PRODUCTS
    ]


def tracking_categories() -> list[Object]:
    """Both categories with their options."""
    return [
        {
            "Name": name,
            "Status": "ACTIVE",
            "TrackingCategoryID": guid("category", name),
            "Options": [
                {
                    "TrackingOptionID": guid("option", name, option),
                    "Name": option,
                    "Status": "ACTIVE",
                }
                for option in options
            ],
        }
        for name, options in TRACKING.items()
    ]


def _item_of(product: company.Product) -> Object:
    return {"ItemID": guid("item", product.code), "Name": product.name, "Code": product.code}


def _rounded(amount: Decimal, currency: str) -> Decimal:
    """Xero has two decimals for every currency; a yen has none that could be billed."""
    digits = min(exponent(currency), 2)
    return amount.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP).quantize(_CENT)


# -- on the wire ---------------------------------------------------------------------------------


def stamp(moment: datetime) -> str:
    """A date as .NET writes it: milliseconds, and an offset that means nothing."""
    return f"/Date({(moment - _EPOCH) // timedelta(milliseconds=1)}+0000)/"


def utc(moment: datetime) -> datetime:
    """An instant as the store holds it: UTC, without a zone, whole milliseconds."""
    plain = moment.astimezone(UTC).replace(tzinfo=None)
    return plain.replace(microsecond=plain.microsecond // 1000 * 1000)


def wire(one: Mapping[str, Any], *, lines: bool, unit_decimals: int, summary: bool) -> Object:
    """A document as the API sends it.

    A list that is not paged leaves out lines and payments, a summary the related documents as well.
    """
    shown: Object = {}
    for name, value in one.items():
        if name in _DATES:
            if value is not None:
                if name != "FullyPaidOnDate":
                    shown[f"{name}String"] = value.strftime("%Y-%m-%dT%H:%M:%S")
                shown[name] = stamp(value)
        elif name == "UpdatedDateUTC":
            shown[name] = stamp(value)
            shown[f"{name}String"] = value.strftime("%Y-%m-%dT%H:%M:%S")
        elif name == "LineItems":
            shown[name] = [_wire_line(line, unit_decimals) for line in value] if lines else []
        elif name == "Payments":
            shown[name] = value if lines else []
        elif name in _RELATED and summary:
            continue
        elif name != "_garbled":
            shown[name] = value
    for name, value in one.get("_garbled", {}).items():
        if value is None:
            shown.pop(name, None)
        else:
            shown[name] = value
    return shown


def _wire_line(line: Object, unit_decimals: int) -> Object:
    if "UnitAmount" not in line:
        return line
    exact = Decimal(1).scaleb(-unit_decimals)
    return {**line, "UnitAmount": line["UnitAmount"].quantize(exact, ROUND_HALF_UP)}


def encode(body: Object | list[Object]) -> bytes:
    """JSON as Xero prints it: two spaces, `40.00` with its zeros, slashes of dates escaped."""
    text = msgspec.json.format(_ENCODER.encode(body), indent=2)
    return text.replace(b'"/Date(', b'"\\/Date(').replace(b')/"', b')\\/"')


_ENCODER = msgspec.json.Encoder(decimal_format="number")
