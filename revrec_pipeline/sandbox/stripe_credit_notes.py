"""Stripe's credit notes as the API of the pinned version shows them.

Totals are computed from the lines, so that every credit note adds up.
"""

from decimal import ROUND_HALF_UP, Decimal

from revrec_pipeline.sandbox.stripe_objects import ACCOUNT, Object, object_id, summed


def credit_note_line(
    credit_note: str,
    number: int,
    *,
    amount: int,
    credited: Object | None,
    description: str,
    share: Decimal,
) -> Object:
    """A share of an invoice line with its discounts and taxes; a custom line credits none."""

    def part(value: int) -> int:
        return int((value * share).quantize(Decimal(1), ROUND_HALF_UP))

    discounts = [
        {"amount": part(entry["amount"]), "discount": entry["discount"]}
        for entry in (credited["discount_amounts"] if credited else [])
    ]
    taxes = [
        {
            **entry,
            "amount": part(entry["amount"]),
            "taxable_amount": part(entry["taxable_amount"]),
        }
        for entry in (credited["taxes"] if credited else [])
    ]
    return {
        "id": object_id("cnli", credit_note, number),
        "object": "credit_note_line_item",
        "amount": amount,
        "description": description,
        "discount_amount": sum(entry["amount"] for entry in discounts),
        "discount_amounts": discounts,
        "invoice_line_item": credited["id"] if credited else None,
        "livemode": False,
        "metadata": {},
        "pretax_credit_amounts": [{**entry, "type": "discount"} for entry in discounts],
        "quantity": 1,
        "tax_rates": [],
        "taxes": taxes,
        "type": "invoice_line_item" if credited else "custom_line_item",
        "unit_amount": None if credited else amount,
        "unit_amount_decimal": None if credited else str(amount),
    }


def credit_note_object(
    credit_note: str,
    invoice: Object,
    *,
    number: str,
    created: int,
    effective_at: int,
    lines: list[Object],
    reason: str | None,
    pre_payment: Decimal,
) -> Object:
    """A `credit_note` with all of its lines; the share that is no `pre_payment` is refunded."""
    taxes = [entry for line in lines for entry in line["taxes"]]
    discounts = [entry for line in lines for entry in line["discount_amounts"]]
    inclusive = sum(entry["amount"] for entry in taxes if entry["tax_behavior"] == "inclusive")
    exclusive = sum(entry["amount"] for entry in taxes) - inclusive
    gross = sum(line["amount"] for line in lines)
    discount = sum(entry["amount"] for entry in discounts)
    total = gross - discount + exclusive
    reduces_due = int(total * pre_payment)
    post_payment = total - reduces_due
    kind = "pre_payment" if reduces_due else "post_payment"
    if reduces_due and post_payment:
        kind = "mixed"
    return {
        "id": credit_note,
        "object": "credit_note",
        "amount": total,
        "amount_shipping": 0,
        "created": created,
        "currency": invoice["currency"],
        "customer": invoice["customer"],
        "customer_account": None,
        "customer_balance_transaction": None,
        "discount_amount": discount,
        "discount_amounts": summed(discounts, "discount"),
        "effective_at": effective_at,
        "invoice": invoice["id"],
        "lines": lines,
        "livemode": False,
        "memo": None,
        "metadata": {},
        "number": number,
        "out_of_band_amount": None,
        "pdf": f"https://pay.stripe.com/credit_notes/{ACCOUNT}/test_{credit_note[3:]}/pdf?s=ap",
        "post_payment_amount": post_payment,
        "pre_payment_amount": reduces_due,
        "pretax_credit_amounts": [
            {**entry, "type": "discount"} for entry in summed(discounts, "discount")
        ],
        "reason": reason,
        "refunds": [
            {
                "amount_refunded": post_payment,
                "payment_record_refund": None,
                "refund": object_id("re", credit_note),
                "type": "refund",
            }
        ]
        if post_payment
        else [],
        "shipping_cost": None,
        "status": "issued",
        "subtotal": gross,
        "subtotal_excluding_tax": gross - inclusive,
        "total": total,
        "total_excluding_tax": gross - discount - inclusive,
        "total_taxes": summed(taxes, "tax_behavior", "tax_rate_details"),
        "type": kind,
        "voided_at": None,
    }
