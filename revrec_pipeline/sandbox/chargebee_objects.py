"""What Chargebee's objects look like: lines, invoices, credit notes, subscriptions, the catalogue.

Amounts are minor units. Which documents there are is in `chargebee_data`, what happens to them in
`chargebee_store`.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from revrec_pipeline.currency import exponent
from revrec_pipeline.sandbox import company
from revrec_pipeline.sandbox.salesforce_org import record_id

Object = dict[str, Any]

SITE = "fernhill-test"
#: Months of a period → the word in an item price's id.
PERIODS = {1: "Monthly", 3: "Quarterly", 12: "Yearly"}
_LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def object_id(prefix: str, *parts: object) -> str:
    """An id as Chargebee makes them, always the same for the same parts."""
    number = int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:11])
    digits = ""
    for _ in range(14):
        number, digit = divmod(number, 62)
        digits += _LETTERS[digit]
    return f"{prefix}{digits}"


def minor(major: Decimal, currency: str) -> int:
    """An amount in minor units, rounded half up."""
    return int(major.scaleb(exponent(currency)).quantize(Decimal(1), ROUND_HALF_UP))


@dataclass(frozen=True, slots=True)
class Tax:
    """A tax on a line; several names share the rate in equal parts."""

    rate: Decimal
    names: tuple[str, ...]
    inclusive: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """One line before it belongs to a document."""

    amount: int
    since: int
    until: int
    description: str
    item_price: str | None = None
    quantity: int = 1
    unit_amount: int | None = None
    subscription: str | None = None
    item_discount: int = 0  # taken off this line alone
    document_discount: int = 0  # its share of what is taken off the document
    credits: int = 0  # promotional credits, applied before tax
    tax: Tax | None = None
    proration_mode: str | None = None
    reference: str | None = None  # a credit note's line: the invoice line that it credits
    decimals: Mapping[str, str] | None = None  # amounts with more decimals than the currency has

    @property
    def discount(self) -> int:
        """All that is taken off."""
        return self.item_discount + self.document_discount + self.credits

    @property
    def tax_amount(self) -> int:
        """The tax on what is left, or in it."""
        if self.tax is None:
            return 0
        net, rate = Decimal(self.amount - self.discount), self.tax.rate
        whole = net * rate / (100 + rate if self.tax.inclusive else 100)
        return int(whole.quantize(Decimal(1), ROUND_HALF_UP))


def entity_type(item_price: str | None) -> str:
    """What an item price is of: a plan, an addon or a charge; without one a line is ad hoc."""
    if item_price is None:
        return "adhoc"
    if item_price.rpartition("-")[2] not in PERIODS.values():
        return "charge_item_price"
    return "plan_item_price" if item_price.startswith("PLAT") else "addon_item_price"


def line_item(line: Line, identifier: str, customer: str) -> Object:
    """A line as documents show it."""
    shown: Object = {
        "id": identifier,
        "date_from": line.since,
        "date_to": line.until,
        "unit_amount": line.amount if line.unit_amount is None else line.unit_amount,
        "quantity": line.quantity,
        "amount": line.amount,
        "pricing_model": "per_unit" if line.unit_amount is not None else "flat_fee",
        "is_taxed": line.tax is not None,
        "tax_amount": line.tax_amount,
        "object": "line_item",
        "subscription_id": line.subscription,
        "customer_id": customer,
        "description": line.description,
        "entity_type": entity_type(line.item_price),
        "entity_id": line.item_price,
        "discount_amount": line.discount,
        "item_level_discount_amount": line.item_discount,
        "metered": False,
        "proration_mode": line.proration_mode,
        "reference_line_item_id": line.reference,
        **(line.decimals or {}),
    }
    if line.tax is not None:
        shown["tax_rate"] = float(line.tax.rate)
    else:
        shown["tax_exempt_reason"] = "tax_not_configured"
    return {name: value for name, value in shown.items() if value is not None}


def line_discounts(line: Line, identifier: str) -> list[Object]:
    """What is taken off a line, by kind."""
    kinds = {
        "item_level_coupon": (line.item_discount, "LAUNCH"),
        "document_level_coupon": (line.document_discount, "LOYALTY"),
        "promotional_credits": (line.credits, None),
    }
    return [
        {
            "object": "line_item_discount",
            "line_item_id": identifier,
            "discount_type": kind,
            "discount_amount": amount,
            **({"coupon_id": coupon, "entity_id": coupon} if coupon else {}),
        }
        for kind, (amount, coupon) in kinds.items()
        if amount
    ]


def line_taxes(line: Line, identifier: str) -> list[Object]:
    """The taxes of a line; the last one takes what equal parts leave over."""
    if line.tax is None:
        return []
    names = line.tax.names
    share = line.tax_amount // len(names)
    amounts = [share] * (len(names) - 1) + [line.tax_amount - share * (len(names) - 1)]
    return [
        {
            "object": "line_item_tax",
            "line_item_id": identifier,
            "tax_name": name,
            "tax_rate": float(line.tax.rate / len(names)),
            "tax_juris_type": "country",
            "tax_juris_name": name,
            "taxable_amount": line.amount - line.discount,
            "tax_amount": amount,
            "is_partial_tax_applied": False,
            "is_non_compliance_tax": False,
        }
        for name, amount in zip(names, amounts, strict=True)
    ]


def lines_and_totals(document: str, customer: str, lines: Sequence[Line]) -> Object:
    """The parts of a document that follow from its lines."""
    ids = [object_id("li_", document, number) for number in range(len(lines))]
    off = sum(line.document_discount for line in lines)
    credits = sum(line.credits for line in lines)
    subtotal = sum(line.amount - line.item_discount for line in lines)
    tax = sum(line.tax_amount for line in lines)
    added = sum(line.tax_amount for line in lines if line.tax and not line.tax.inclusive)
    named = list(zip(lines, ids, strict=True))
    return {
        "line_items": [line_item(line, li, customer) for line, li in named],
        "line_item_discounts": [one for line, li in named for one in line_discounts(line, li)],
        "line_item_taxes": [one for line, li in named for one in line_taxes(line, li)],
        "price_type": (
            "tax_inclusive"
            if any(line.tax and line.tax.inclusive for line in lines)
            else "tax_exclusive"
        ),
        "sub_total": subtotal,
        "tax": tax,
        "total": subtotal - off - credits + added,
    }


def customer_object(customer: company.Customer, number: int) -> Object:
    """A customer; every second one carries its account's id in the CRM."""
    shown: Object = {
        "id": customer.key,
        "email": customer.email,
        "company": customer.billing_name,
        "auto_collection": "off",
        "net_term_days": 30,
        "allow_direct_debit": False,
        "created_at": 1688169600 + number,
        "taxability": "taxable",
        "updated_at": 1688169600 + number,
        "pii_cleared": "active",
        "channel": "web",
        "resource_version": (1688169600 + number) * 1000,
        "deleted": False,
        "object": "customer",
        "promotional_credits": 0,
        "refundable_credits": 0,
        "excess_payments": 0,
        "unbilled_charges": 0,
        "preferred_currency_code": customer.currency,
        "cf_crm_account_id": record_id("001", number + 1) if number % 2 == 0 else None,
    }
    return {name: value for name, value in shown.items() if value is not None}


def item_price_id(code: str, currency: str, months: int | None) -> str:
    """The id of a product's price in a currency for a period; one-off charges have no period."""
    period = PERIODS.get(months or 0) if company.product(code).term_months else None
    return f"{code}-{currency}" + (f"-{period}" if period else "")


def unit_price(code: str, currency: str, months: int) -> Decimal:
    """What one unit costs for that many months, in major units with all decimals."""
    price = company.list_price(code, currency)
    if company.product(code).term_months:
        price *= months
    if code == "API-USAGE":
        return price
    return price.quantize(Decimal(1).scaleb(-exponent(currency)), ROUND_HALF_UP)


def item_prices() -> list[Object]:
    """The catalogue: every product in every currency and period."""
    found = []
    for product in company.PRODUCTS:
        for currency in company.PRICE_FACTORS:
            for months in PERIODS if product.term_months else (1,):
                identifier = item_price_id(product.code, currency, months)
                period = (
                    {} if not product.term_months else {"period": months, "period_unit": "month"}
                )
                found.append(
                    {
                        "id": identifier,
                        "name": identifier.replace("-", " "),
                        "item_family_id": product.family,
                        "item_id": product.code,
                        "status": "active",
                        "external_name": product.name,
                        "pricing_model": "per_unit",
                        "price": minor(unit_price(product.code, currency, months), currency),
                        **period,
                        "currency_code": currency,
                        "free_quantity": 0,
                        "channel": "web",
                        "resource_version": 1688169600000,
                        "updated_at": 1688169600,
                        "created_at": 1688169600,
                        "is_taxable": True,
                        "item_type": entity_type(identifier).partition("_")[0],
                        "object": "item_price",
                    }
                )
    return found
