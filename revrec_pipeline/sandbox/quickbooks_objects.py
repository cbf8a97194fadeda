"""What QuickBooks Online's objects look like: sales forms with their lines, items, customers.

Amounts are computed as Intuit computes them: a discount is one line of its own and positive, tax is
of the whole document, shipping is an item that no discount touches.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from zoneinfo import ZoneInfo

from revrec_pipeline.sandbox import company
from revrec_pipeline.sandbox.salesforce_org import record_id

Object = dict[str, Any]
REALM = "4620816365057832880"
SHIPPING = "SHIPPING_ITEM_ID"
#: Stamps carry the offset of the vendor's own clocks, which changes twice a year.
_ZONE = ZoneInfo("America/Los_Angeles")
#: US dollars for one unit of a currency; the opposite of the price factors.
RATES: dict[str, Decimal] = {
    "USD": Decimal(1),
    "EUR": Decimal("1.0526316"),
    "GBP": Decimal("1.25"),
    "JPY": Decimal("0.0066667"),
    "KWD": Decimal("3.2786885"),
    "ISK": Decimal("0.0071429"),
}
_CURRENCY_NAMES = {
    "USD": "United States Dollar",
    "EUR": "Euro",
    "GBP": "British Pound Sterling",
    "JPY": "Japanese Yen",
    "KWD": "Kuwaiti Dinar",
    "ISK": "Iceland Krona",
}
#: Custom fields of sales forms, in the order of their definitions.
CUSTOM_FIELDS = ("Sales Order", "Account ID", "Region")
#: Sold as a bundle: the item, its name, and its products with their quantities.
BUNDLE = ("21", "Starter Bundle", (("PLAT-STD", 1), ("SEAT", 10), ("ONBOARD", 1)))
#: An item that finance made up; nobody gave it a SKU.
MIGRATION = ("22", "Data Migration", Decimal(7500))
#: No longer sold, and so missing from a list of items that does not ask for inactive ones.
RETIRED = ("23", "Legacy Connector", Decimal("1250.00"))


@dataclass(frozen=True, slots=True)
class Line:
    """One line as somebody enters it."""

    code: str | None = None  # a product's code, or an item's id; None: no item was chosen
    quantity: Decimal | None = Decimal(1)
    price: Decimal | None = None  # None: the list price for the term
    amount: Decimal | None = None  # typed over quantity times price
    service_date: str | None = None
    taxable: bool = True
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Form:
    """A sales form as somebody enters it."""

    entity: str
    day: date
    customer: str | None
    lines: Sequence[Line | str]  # a text is a line with a description only; `bundle` is the bundle
    number: str | None = None
    percent_off: Decimal | None = None
    amount_off: Decimal | None = None
    shipping: Decimal | None = None
    tax: Decimal | None = None  # percent
    inclusive: bool = False
    order: str | None = None  # the CRM's opportunity, kept in the custom field "Sales Order"
    note: str | None = None
    memo: str | None = None
    open: bool = False  # not paid yet
    rated: bool = True  # whether a foreign form shows its exchange rate
    currency: bool = True  # whether it shows its currency; a company with one may not


def rounded(value: Decimal, currency: str = "USD") -> Decimal:
    """To the decimals that the vendor keeps: two, but for currencies that have none."""
    digits = Decimal(1) if currency in {"JPY", "ISK"} else Decimal("0.01")
    return value.quantize(digits, ROUND_HALF_UP)


def stamp(moment: datetime) -> str:
    """An instant as the API writes it: whole seconds, with an offset."""
    return moment.astimezone(_ZONE).isoformat(timespec="seconds")


def entered(day: date, minutes: int = 0) -> datetime:
    """When a form of that day was typed in: in the morning, on the vendor's clocks."""
    return datetime.combine(day, time(9, 30), _ZONE) + timedelta(minutes=minutes)


def item_of(code: str) -> tuple[str, str]:
    """Id and name of an item, by the product's code or the item's own id."""
    for number, product in enumerate(company.PRODUCTS, 1):
        if product.code == code:
            return str(number), product.name
    special = {one[0]: one[1] for one in (BUNDLE, MIGRATION, RETIRED)}
    return code, special[code]


def customer_id(key: str) -> str:
    """The id of a customer."""
    keys = [customer.key for customer in company.CUSTOMERS]
    return str(keys.index(key) + 1)


def sale(form: Form, number: int, created: datetime, *, token: int = 0) -> Object:
    """A sales form as the API shows it. `number` is its id."""
    customer = company.customer(form.customer) if form.customer else None
    currency = customer.currency if customer else company.HOME_CURRENCY
    shown = _lines(form, currency)
    sales = [line for line in _nested(shown) if line["DetailType"] == "SalesItemLineDetail"]
    goods = sum((line["Amount"] for line in sales), Decimal(0))
    shown.append({"Amount": goods, "DetailType": "SubTotalLineDetail", "SubTotalLineDetail": {}})
    off = _discount(form, goods, currency)
    if off is not None:
        shown.append(off)
    if form.shipping is not None:
        detail = {"ItemRef": {"value": SHIPPING}, "TaxCodeRef": {"value": "NON"}}
        shown.append(
            {
                "Amount": form.shipping,
                "DetailType": "SalesItemLineDetail",
                "SalesItemLineDetail": detail,
            }
        )
    minus = off["Amount"] if off else Decimal(0)
    tax = _tax(form, sales, minus, currency)
    total = goods - minus + (form.shipping or 0) + tax["TotalTax"]
    paid = not form.open or form.entity in {"SalesReceipt", "RefundReceipt"}
    one: Object = {
        "domain": "QBO",
        "sparse": False,
        "Id": str(number),
        "SyncToken": str(token),
        "MetaData": {"CreateTime": stamp(created), "LastUpdatedTime": stamp(created)},
        "CustomField": _custom_fields(form),
        "TxnDate": form.day.isoformat(),
        "Line": shown,
        "TxnTaxDetail": tax,
        "TotalAmt": total,
        "Balance": Decimal(0) if paid else total,
        "ApplyTaxAfterDiscount": True,
        "PrintStatus": "NotSet",
        "EmailStatus": "EmailSent",
    }
    if form.number is not None:
        one["DocNumber"] = form.number
    if customer is not None:
        named = {"name": customer.billing_name} if customer.billing_name else {}
        one["CustomerRef"] = {"value": customer_id(customer.key), **named}
        one["BillEmail"] = {"Address": customer.email}
    if form.currency:
        one["CurrencyRef"] = {"value": currency, "name": _CURRENCY_NAMES[currency]}
    if currency != company.HOME_CURRENCY and form.rated:
        one["ExchangeRate"] = RATES[currency]
        one["HomeTotalAmt"] = rounded(total * RATES[currency])
    if form.tax is not None:
        one["GlobalTaxCalculation"] = "TaxInclusive" if form.inclusive else "TaxExcluded"
    if form.entity == "Invoice":
        one["DueDate"] = (form.day + timedelta(days=30)).isoformat()
    if form.entity == "CreditMemo":
        one["RemainingCredit"] = one["Balance"]
    if form.note is not None:
        one["PrivateNote"] = form.note
    if form.memo is not None:
        one["CustomerMemo"] = {"value": form.memo}
    return one


def _lines(form: Form, currency: str) -> list[Object]:
    """The lines of items and descriptions, numbered as the vendor numbers them."""
    shown: list[Object] = []
    position = 0
    for line in form.lines:
        position += 1
        if line == "bundle":
            item, name, parts = BUNDLE
            header = position
            nested = []
            for code, quantity in parts:
                position += 1
                nested.append(_item_line(Line(code, Decimal(quantity)), form, position, currency))
            detail = {"GroupItemRef": {"value": item, "name": name}, "Quantity": 1, "Line": nested}
            shown.append(
                {
                    "Id": str(header),
                    "LineNum": header,
                    "Amount": sum(one["Amount"] for one in nested),
                    "DetailType": "GroupLineDetail",
                    "GroupLineDetail": detail,
                }
            )
        elif isinstance(line, str):
            shown.append(
                {
                    "Id": str(position),
                    "LineNum": position,
                    "Description": line,
                    "DetailType": "DescriptionOnly",
                    "DescriptionLineDetail": {},
                }
            )
        else:
            shown.append(_item_line(line, form, position, currency))
    return shown


def _item_line(line: Line, form: Form, position: int, currency: str) -> Object:
    detail: Object = {}
    price = line.price
    if line.code is not None:
        item, name = item_of(line.code)
        detail["ItemRef"] = {"value": item, "name": name}
        if price is None and line.amount is None:
            price = _list_price(line.code, currency)
    if line.service_date is not None:
        detail["ServiceDate"] = line.service_date
    if price is not None:
        detail["UnitPrice"] = price
    if line.quantity is not None:
        detail["Qty"] = line.quantity
    amount = line.amount
    if amount is None:
        amount = rounded((price or Decimal(0)) * (line.quantity or Decimal(1)), currency)
    if form.tax is not None and form.inclusive and line.taxable:
        detail["TaxInclusiveAmt"] = amount
        amount = rounded(amount / (1 + form.tax / 100), currency)
    detail["TaxCodeRef"] = {"value": "TAX" if form.tax is not None and line.taxable else "NON"}
    return {
        "Id": str(position),
        "LineNum": position,
        **({"Description": line.text} if line.text else {}),
        "Amount": amount,
        "DetailType": "SalesItemLineDetail",
        "SalesItemLineDetail": detail,
    }


def _list_price(code: str, currency: str) -> Decimal:
    """The price of a whole term, or of one; usage costs fractions of a cent."""
    special = {MIGRATION[0]: MIGRATION[2], RETIRED[0]: RETIRED[2]}
    if code in special:
        return special[code] * company.PRICE_FACTORS[currency]
    price = company.list_price(code, currency)
    return price if code == "API-USAGE" else rounded(price, currency)


def _nested(lines: Sequence[Object]) -> list[Object]:
    found: list[Object] = []
    for line in lines:
        found += line["GroupLineDetail"]["Line"] if "GroupLineDetail" in line else [line]
    return found


def _discount(form: Form, goods: Decimal, currency: str) -> Object | None:
    account = {"DiscountAccountRef": {"value": "86", "name": "Discounts given"}}
    if form.percent_off is not None:
        amount = rounded(goods * form.percent_off / 100, currency)
        detail = {"PercentBased": True, "DiscountPercent": form.percent_off, **account}
    elif form.amount_off is not None:
        amount, detail = form.amount_off, {"PercentBased": False, **account}
    else:
        return None
    return {"Amount": amount, "DetailType": "DiscountLineDetail", "DiscountLineDetail": detail}


def _tax(form: Form, sales: Sequence[Object], minus: Decimal, currency: str) -> Object:
    if form.tax is None:
        return {"TotalTax": Decimal(0)}
    details = [line["SalesItemLineDetail"] | {"net": line["Amount"]} for line in sales]
    taxable = [one for one in details if one["TaxCodeRef"]["value"] == "TAX"]
    net = sum((one["net"] for one in taxable), Decimal(0))
    if form.inclusive:
        tax = sum((one["TaxInclusiveAmt"] - one["net"] for one in taxable), Decimal(0))
    else:
        everything = sum((one["net"] for one in details), Decimal(0))
        net -= rounded(minus * net / everything, currency) if everything else Decimal(0)
        tax = rounded(net * form.tax / 100, currency)
    rate = "3" if form.tax < 15 else "4"
    detail = {
        "TaxRateRef": {"value": rate},
        "PercentBased": True,
        "TaxPercent": form.tax,
        "NetAmountTaxable": net,
    }
    return {
        "TxnTaxCodeRef": {"value": "2"},
        "TotalTax": tax,
        "TaxLine": [{"Amount": tax, "DetailType": "TaxLineDetail", "TaxLineDetail": detail}],
    }


def _custom_fields(form: Form) -> list[Object]:
    values: dict[str, str | None] = {"Sales Order": form.order}
    if form.customer is not None:
        values["Account ID"] = record_id("001", int(customer_id(form.customer)))
        values["Region"] = (
            "Americas" if company.customer(form.customer).country == "US" else "International"
        )
    return [
        {
            "DefinitionId": str(number),
            "Name": name,
            "Type": "StringType",
            **({"StringValue": values[name]} if values.get(name) else {}),
        }
        for number, name in enumerate(CUSTOM_FIELDS, 1)
    ]


# -- lists ---------------------------------------------------------------------------------------


def _listed(number: str, created: datetime, **fields: Any) -> Object:
    return {
        "domain": "QBO",
        "sparse": False,
        "Id": number,
        "SyncToken": "0",
        "MetaData": {"CreateTime": stamp(created), "LastUpdatedTime": stamp(created)},
        **fields,
    }


def items(created: datetime) -> list[Object]:
    """The company's products, with its codes as SKU, the bundle, and two that are special."""
    found = []
    for product in company.PRODUCTS:
        number, name = item_of(product.code)
        kind = "NonInventory" if product.kind == "Hardware" else "Service"
        found.append(
            _listed(
                number,
                created,
                Name=name,
                FullyQualifiedName=name,
                Sku=product.code,
                Type=kind,
                Active=True,
                UnitPrice=product.price,
            )
        )
    for number, name, kind, active in (
        (BUNDLE[0], BUNDLE[1], "Group", True),
        (MIGRATION[0], MIGRATION[1], "Service", True),
        (RETIRED[0], f"{RETIRED[1]} (deleted)", "Service", False),
    ):
        one = _listed(number, created, Name=name, FullyQualifiedName=name, Type=kind, Active=active)
        found.append(one | ({"Sku": "LEGACY-CON"} if number == RETIRED[0] else {}))
    return found


def customers(created: datetime) -> list[Object]:
    """The company's customers in the spelling of finance."""
    return [
        _listed(
            customer_id(customer.key),
            created,
            DisplayName=customer.billing_name or customer.key,
            Active=True,
            CurrencyRef={"value": customer.currency},
        )
        for customer in company.CUSTOMERS
    ]


def tax_rates(created: datetime) -> list[Object]:
    """The rates that documents name by their ids."""
    return [
        _listed("3", created, Name="New York sales tax", Active=True, RateValue=Decimal("8.875")),
        _listed("4", created, Name="VAT standard", Active=True, RateValue=Decimal(20)),
    ]


def company_info(created: datetime) -> Object:
    """Who we are."""
    return _listed(
        "1",
        created,
        CompanyName="Fernhill Software",
        LegalName="Fernhill Software, Inc.",
        Country="US",
        FiscalYearStartMonth="January",
    )


def preferences(created: datetime) -> Object:
    """The part of the preferences that names the custom fields of sales forms."""
    uses = [
        {"Type": "BooleanType", "Name": f"SalesFormsPrefs.UseSalesCustom{n}", "BooleanValue": True}
        for n in range(1, len(CUSTOM_FIELDS) + 1)
    ]
    names = [
        {"Type": "StringType", "Name": f"SalesFormsPrefs.SalesCustomName{n}", "StringValue": name}
        for n, name in enumerate(CUSTOM_FIELDS, 1)
    ]
    return _listed(
        "1",
        created,
        SalesFormsPrefs={"CustomField": [{"CustomField": uses}, {"CustomField": names}]},
        CurrencyPrefs={
            "MultiCurrencyEnabled": True,
            "HomeCurrency": {"value": company.HOME_CURRENCY},
        },
    )
