"""Stripe's invoices as the API of the pinned version shows them, from what they are made of.

Totals are computed from the lines, so that every invoice adds up. Credit notes are in
`stripe_credit_notes`, which documents exist in `stripe_data`, the API itself in `stripe`.
"""

import hashlib
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

API_VERSION = "2026-10-28.endive"
ACCOUNT = "acct_1RevRecSandbox001"
ACCOUNT_NAME = "Fernhill Software"

_BASE62 = string.digits + string.ascii_letters
#: Decimals of the amounts that Stripe sends, where they are not two. ISK has none by ISO 4217, but
#: Stripe kept two for it.
_DECIMALS = {"jpy": 0, "kwd": 3}

Object = dict[str, Any]


def object_id(prefix: str, *seed: object) -> str:
    """An id of Stripe's shape that is always the same for the same seed."""
    number = int.from_bytes(hashlib.sha256(repr((prefix, seed)).encode()).digest()[:18])
    digits: list[str] = []
    while len(digits) < 23:
        number, digit = divmod(number, 62)
        digits.append(_BASE62[digit])
    return f"{prefix}_1{''.join(digits)}"


def minor(amount: Decimal, currency: str) -> int:
    """An amount in the minor units that Stripe sends."""
    scaled = amount.scaleb(_DECIMALS.get(currency, 2))
    if currency == "kwd":  # Stripe wants the third decimal to be 0
        return int((scaled / 10).quantize(Decimal(1), ROUND_HALF_UP)) * 10
    return int(scaled.quantize(Decimal(1), ROUND_HALF_UP))


def decimal_text(value: Decimal) -> str:
    """A `*_decimal` string: no exponent, no trailing zeros."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


@dataclass(frozen=True, slots=True)
class Discount:
    """A discount as a line shows it: from the line's own coupon or from one of the invoice."""

    seed: str
    amount: int
    on_line: bool = False

    @property
    def id(self) -> str:
        """The discount's id."""
        return object_id("di", self.seed)


@dataclass(frozen=True, slots=True)
class Tax:
    """The tax of one rate on one line."""

    percent: Decimal
    inclusive: bool

    def of(self, net: int) -> tuple[int, int]:
        """Tax and taxable amount of a line whose amount after discounts is `net`."""
        rate = self.percent / 100
        exact = net * rate / (1 + rate) if self.inclusive else net * rate
        tax = int(exact.quantize(Decimal(1), ROUND_HALF_UP))
        return tax, net - tax if self.inclusive else net


@dataclass(frozen=True, slots=True)
class Line:
    """What a line of an invoice is made of; amounts in minor units, instants in epoch seconds."""

    amount: int
    description: str
    start: int
    end: int
    product: str | None  # None: an invoice item without a price
    quantity: Decimal = Decimal(1)
    unit_amount: Decimal | None = None  # in minor units, up to 12 decimals
    subscription: str | None = None
    credits: tuple[str, str] | None = None  # a proration's invoice and line
    proration: bool = False
    discounts: tuple[Discount, ...] = ()
    tax: Tax | None = None

    @property
    def net(self) -> int:
        """The amount after all discounts; an inclusive tax is still in it."""
        return self.amount - sum(discount.amount for discount in self.discounts)

    @property
    def taxes(self) -> list[Object]:
        """`taxes[]` as it stands on the line."""
        if self.tax is None:
            return []
        amount, taxable = self.tax.of(self.net)
        return [
            {
                "amount": amount,
                "tax_behavior": "inclusive" if self.tax.inclusive else "exclusive",
                "tax_rate_details": {"tax_rate": object_id("txr", self.tax)},
                "taxability_reason": "standard_rated",
                "taxable_amount": taxable,
                "type": "tax_rate_details",
            }
        ]


def price_id(product: str, currency: str, *, recurring: bool = True) -> str:
    """The id of a product's price."""
    return object_id("price", product, currency, recurring)


def line_item(line: Line, invoice: str, number: int, currency: str) -> Object:
    """One `line_item`."""
    proration = {
        "proration": line.proration,
        "proration_details": {
            "credited_items": {"invoice": line.credits[0], "invoice_line_items": [line.credits[1]]}
            if line.credits
            else None
        },
    }
    recurring = line.subscription is not None
    item = object_id("ii", invoice, number)
    return {
        "id": line_id(invoice, number),
        "object": "line_item",
        "amount": line.amount,
        "currency": currency,
        "description": line.description,
        "discount_amounts": [{"amount": d.amount, "discount": d.id} for d in line.discounts],
        "discountable": not line.proration,
        "discounts": [d.id for d in line.discounts if d.on_line],
        "invoice": invoice,
        "livemode": False,
        "metadata": {},
        "parent": {
            "invoice_item_details": None
            if recurring
            else {"invoice_item": item, **proration, "subscription": None},
            "subscription_item_details": {
                "invoice_item": item if line.proration else None,
                **proration,
                "subscription": line.subscription,
                "subscription_item": object_id("si", line.subscription, line.product),
            }
            if recurring
            else None,
            "type": "subscription_item_details" if recurring else "invoice_item_details",
        },
        "period": {"end": line.end, "start": line.start},
        "pretax_credit_amounts": [
            {"amount": d.amount, "discount": d.id, "type": "discount"} for d in line.discounts
        ],
        "pricing": {
            "price_details": {
                "price": price_id(line.product, currency, recurring=recurring),
                "product": line.product,
            },
            "type": "price_details",
            "unit_amount_decimal": None
            if line.unit_amount is None
            else decimal_text(line.unit_amount),
        }
        if line.product
        else None,
        "quantity": int(line.quantity),
        "quantity_decimal": decimal_text(line.quantity),
        "subtotal": line.amount,
        "taxes": line.taxes,
    }


def line_id(invoice: str, number: int) -> str:
    """The id of an invoice's line."""
    return object_id("il", invoice, number)


def list_object(
    url: str, data: list[Object], *, has_more: bool, total: int | None = None
) -> Object:
    """A list as Stripe wraps it; nested ones know how many there are."""
    count = {} if total is None else {"total_count": total}
    return {"object": "list", "data": data, "has_more": has_more, **count, "url": url}


def summed(entries: Iterable[Mapping[str, Any]], *keys: str) -> list[Object]:
    """Entries of all lines with equal `keys` as one, as totals show them."""
    totals: dict[tuple[str, ...], Object] = {}
    for entry in entries:
        key = tuple(repr(entry[name]) for name in keys)
        total = totals.setdefault(key, {**entry, "amount": 0, "taxable_amount": 0})
        total["amount"] += entry["amount"]
        total["taxable_amount"] += entry.get("taxable_amount", 0)
    return [
        total if "tax_behavior" in total else {k: total[k] for k in total if k != "taxable_amount"}
        for total in totals.values()
    ]


def invoice_totals(lines: list[Object]) -> Object:
    """The fields of an invoice that follow from its lines."""
    discounts = [entry for line in lines for entry in line["discount_amounts"]]
    taxes = [entry for line in lines for entry in line["taxes"]]
    own = sum(
        entry["amount"]
        for line in lines
        for entry in line["discount_amounts"]
        if entry["discount"] in line["discounts"]
    )
    inclusive = sum(entry["amount"] for entry in taxes if entry["tax_behavior"] == "inclusive")
    exclusive = sum(entry["amount"] for entry in taxes) - inclusive
    subtotal = sum(line["amount"] for line in lines) - own
    net = sum(line["amount"] for line in lines) - sum(entry["amount"] for entry in discounts)
    return {
        "subtotal": subtotal,
        "subtotal_excluding_tax": subtotal - inclusive,
        "total": net + exclusive,
        "total_discount_amounts": summed(discounts, "discount"),
        "total_excluding_tax": net - inclusive,
        "total_pretax_credit_amounts": [
            {**entry, "type": "discount"} for entry in summed(discounts, "discount")
        ],
        "total_taxes": summed(taxes, "tax_behavior", "tax_rate_details"),
    }


def invoice_object(
    invoice: str,
    *,
    customer: str,
    customer_name: str | None,
    customer_email: str,
    customer_country: str,
    currency: str,
    created: int,
    lines: list[Object],
    subscription: str | None,
    subscription_metadata: Mapping[str, str],
    metadata: Mapping[str, str],
    billing_reason: str,
) -> Object:
    """A draft `invoice` with all of its lines as a plain list; `stripe_store` moves it on."""
    return {
        "id": invoice,
        "object": "invoice",
        "account_country": "US",
        "account_name": ACCOUNT_NAME,
        "account_tax_ids": None,
        "amount_due": 0,
        "amount_overpaid": 0,
        "amount_paid": 0,
        "amount_remaining": 0,
        "amount_shipping": 0,
        "application": None,
        "attempt_count": 0,
        "attempted": False,
        "auto_advance": False,
        "automatic_tax": {
            "disabled_reason": None,
            "enabled": False,
            "liability": None,
            "provider": None,
            "status": None,
        },
        "automatically_finalizes_at": None,
        "billing_reason": billing_reason,
        "collection_method": "charge_automatically",
        "created": created,
        "currency": currency,
        "custom_fields": None,
        "customer": customer,
        "customer_account": None,
        "customer_address": {
            "city": None,
            "country": customer_country,
            "line1": None,
            "line2": None,
            "postal_code": None,
            "state": None,
        },
        "customer_email": customer_email,
        "customer_name": customer_name,
        "customer_phone": None,
        "customer_shipping": None,
        "customer_tax_exempt": "none",
        "customer_tax_ids": [],
        "default_payment_method": None,
        "default_source": None,
        "default_tax_rates": [],
        "description": None,
        "discounts": [],
        "due_date": None,
        "effective_at": None,
        "ending_balance": None,
        "footer": None,
        "from_invoice": None,
        "hosted_invoice_url": None,
        "invoice_pdf": None,
        "issuer": {"type": "self"},
        "last_finalization_error": None,
        "latest_revision": None,
        "lines": lines,
        "livemode": False,
        "metadata": dict(metadata),
        "next_payment_attempt": None,
        "number": None,
        "on_behalf_of": None,
        "parent": {
            "quote_details": None,
            "subscription_details": {
                "metadata": dict(subscription_metadata),
                "subscription": subscription,
            },
            "type": "subscription_details",
        }
        if subscription
        else None,
        "payment_settings": {
            "default_mandate": None,
            "payment_method_options": None,
            "payment_method_types": None,
        },
        "period_end": created,
        "period_start": created,
        "post_payment_credit_notes_amount": 0,
        "pre_payment_credit_notes_amount": 0,
        "receipt_number": None,
        "rendering": {
            "amount_tax_display": None,
            "pdf": {"page_size": "letter"},
            "template": None,
            "template_version": None,
        },
        "shipping_cost": None,
        "shipping_details": None,
        "starting_balance": 0,
        "statement_descriptor": None,
        "status": "draft",
        "status_transitions": {
            "finalized_at": None,
            "marked_uncollectible_at": None,
            "paid_at": None,
            "voided_at": None,
        },
        "subtotal": 0,
        "subtotal_excluding_tax": 0,
        "test_clock": None,
        "total": 0,
        "total_discount_amounts": [],
        "total_excluding_tax": 0,
        "total_pretax_credit_amounts": [],
        "total_taxes": [],
        "webhooks_delivered_at": created,
        **invoice_totals(lines),
    }
