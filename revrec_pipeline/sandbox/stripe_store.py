"""The account's documents and what can happen to them: finalise, pay, void, credit, delete.

Every happening leaves an event. Which documents there are is in `stripe_data`; how they are listed
and filtered is in `stripe`.
"""

import copy
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from revrec_pipeline.sandbox.company import Customer
from revrec_pipeline.sandbox.source import CommandError
from revrec_pipeline.sandbox.stripe_credit_notes import credit_note_line, credit_note_object
from revrec_pipeline.sandbox.stripe_objects import (
    API_VERSION,
    Line,
    Object,
    invoice_object,
    invoice_totals,
    line_item,
    object_id,
)


def customer_id(customer: Customer) -> str:
    """The id that billing gave a customer."""
    return "cus_" + object_id("cus", customer.key)[5:19]


class Store:
    """All objects by id, in the order in which they were made."""

    def __init__(self) -> None:
        self.invoices: dict[str, Object] = {}
        self.credit_notes: dict[str, Object] = {}
        self.events: list[Object] = []
        #: Whether the account's default version, which events show, is the newest one.
        self.is_upgraded = False
        self._numbers: dict[str, int] = {}

    # -- invoices ----------------------------------------------------------------------------

    def draft(
        self,
        seed: str,
        customer: Customer,
        created: int,
        lines: list[Line],
        *,
        currency: str | None = None,
        subscription: str | None = None,
        subscription_metadata: Mapping[str, str] | None = None,
        metadata: Mapping[str, str] | None = None,
        billing_reason: str = "manual",
    ) -> str:
        """A new draft; returns its id."""
        invoice = object_id("in", seed)
        money = (currency or customer.currency).lower()
        self.invoices[invoice] = invoice_object(
            invoice,
            customer=customer_id(customer),
            customer_name=customer.billing_name,
            customer_email=customer.email,
            customer_country=customer.country,
            currency=money,
            created=created,
            lines=[line_item(line, invoice, n, money) for n, line in enumerate(lines, 1)],
            subscription=subscription,
            subscription_metadata=subscription_metadata or {},
            metadata=metadata or {},
            billing_reason=billing_reason,
        )
        self._event("invoice.created", self.invoices[invoice], created)
        return invoice

    def finalize(
        self, invoice: str, at: int, *, effective_at: int | None = None, balance: int = 0
    ) -> None:
        """Give it its number and make it open; with nothing to pay, it is paid at once."""
        found = self.invoice(invoice)
        if found["status"] != "draft":
            raise CommandError(f"{invoice} is {found['status']}; only a draft can be finalised")
        number = self._numbers[found["customer"]] = self._numbers.get(found["customer"], 0) + 1
        due = max(found["total"] + balance, 0)
        found.update(
            number=f"{found['customer'][4:12].upper()}-{number:04d}",
            status="open",
            effective_at=effective_at or at,
            amount_due=due,
            amount_remaining=due,
            starting_balance=balance,
            ending_balance=min(found["total"] + balance, 0),
            hosted_invoice_url=f"https://invoice.stripe.com/i/{invoice}",
            invoice_pdf=f"https://pay.stripe.com/invoice/{invoice}/pdf",
        )
        found["status_transitions"]["finalized_at"] = at
        self._event("invoice.finalized", found, at)
        if due == 0:
            self.pay(invoice, at)

    def pay(self, invoice: str, at: int) -> None:
        """All that is due is paid."""
        found = self.invoice(invoice)
        found.update(
            status="paid",
            amount_paid=found["amount_due"],
            amount_remaining=0,
            attempted=True,
            attempt_count=1 if found["amount_due"] else 0,
        )
        found["status_transitions"]["paid_at"] = at
        self._event("invoice.paid", found, at)

    def void(self, invoice: str, at: int) -> None:
        """Take back an invoice that was not paid."""
        found = self.invoice(invoice)
        if found["status"] not in {"open", "uncollectible"}:
            raise CommandError(f"{invoice} is {found['status']}; only an unpaid one can be voided")
        found.update(status="void", amount_remaining=0)
        found["status_transitions"]["voided_at"] = at
        self._event("invoice.voided", found, at)

    def mark_uncollectible(self, invoice: str, at: int) -> None:
        """Give up on collecting it."""
        found = self.invoice(invoice)
        found["status"] = "uncollectible"
        found["status_transitions"]["marked_uncollectible_at"] = at
        self._event("invoice.marked_uncollectible", found, at)

    def edit(self, invoice: str, fields: Mapping[str, Any], at: int) -> None:
        """Change fields of an invoice; totals follow when its lines are changed."""
        found = self.invoice(invoice)
        unknown = set(fields) - set(found)
        if unknown:
            raise CommandError(f"an invoice has no field {sorted(unknown)[0]!r}")
        found.update(copy.deepcopy(dict(fields)))
        if "lines" in fields:
            found.update(invoice_totals(found["lines"]))
        self._event("invoice.updated", found, at)

    def delete(self, invoice: str, at: int) -> None:
        """Delete a draft; the event is all that stays."""
        found = self.invoice(invoice)
        if found["status"] != "draft":
            raise CommandError(f"{invoice} is {found['status']}; only a draft can be deleted")
        del self.invoices[invoice]
        self._event("invoice.deleted", found, at)

    def invoice(self, invoice: str) -> Object:
        """The invoice with that id."""
        if invoice not in self.invoices:
            raise CommandError(f"no invoice {invoice!r}")
        return self.invoices[invoice]

    # -- credit notes ------------------------------------------------------------------------

    def credit(
        self,
        seed: str,
        invoice: str,
        created: int,
        *,
        shares: Mapping[int, Decimal],
        custom: Mapping[str, int] | None = None,
        pre_payment: Decimal = Decimal(0),
        reason: str | None = None,
        effective_at: int | None = None,
    ) -> str:
        """A credit note over shares of lines (by number, from 0) and custom lines.

        `pre_payment` is the share of its total that reduces what is still due.
        """
        found = self.invoice(invoice)
        credit_note = object_id("cn", seed)
        lines = [
            credit_note_line(
                credit_note,
                number,
                amount=int(found["lines"][number]["amount"] * share),
                credited=found["lines"][number],
                description=found["lines"][number]["description"],
                share=share,
            )
            for number, share in shares.items()
        ]
        lines += [
            credit_note_line(
                credit_note,
                1000 + number,
                amount=amount,
                credited=None,
                description=text,
                share=Decimal(1),
            )
            for number, (text, amount) in enumerate((custom or {}).items())
        ]
        earlier = sum(note["invoice"] == invoice for note in self.credit_notes.values())
        note = credit_note_object(
            credit_note,
            found,
            number=f"{found['number']}-CN-{earlier + 1:02d}",
            created=created,
            effective_at=effective_at or created,
            lines=lines,
            reason=reason,
            pre_payment=pre_payment,
        )
        self.credit_notes[credit_note] = note
        found["pre_payment_credit_notes_amount"] += note["pre_payment_amount"]
        found["post_payment_credit_notes_amount"] += note["post_payment_amount"]
        found["amount_remaining"] -= min(note["pre_payment_amount"], found["amount_remaining"])
        self._event("credit_note.created", note, created)
        return credit_note

    def void_credit_note(self, credit_note: str, at: int) -> None:
        """Take a credit note back."""
        if credit_note not in self.credit_notes:
            raise CommandError(f"no credit note {credit_note!r}")
        note = self.credit_notes[credit_note]
        note.update(status="void", voided_at=at)
        self._event("credit_note.voided", note, at)

    # -- events ------------------------------------------------------------------------------

    def _event(self, kind: str, subject: Object, at: int) -> None:
        """Remember what happened, rendered in the account's default API version."""
        self.events.append(
            {
                "id": object_id("evt", kind, subject["id"], at, len(self.events)),
                "object": "event",
                "api_version": API_VERSION if self.is_upgraded else EVENT_VERSION,
                "created": at,
                "data": {"object": new_shape(subject) if self.is_upgraded else old_shape(subject)},
                "livemode": False,
                "pending_webhooks": 0,
                "request": {"id": None, "idempotency_key": None},
                "type": kind,
            }
        )


#: Events show objects as the account's default version does, whatever a request asks for.
EVENT_VERSION = "2022-11-15"


def new_shape(subject: Object) -> Object:
    """An invoice or credit note as it is now, with ten of its lines."""
    shown = copy.deepcopy(subject)
    shown["lines"] = {
        "object": "list",
        "data": shown["lines"][:10],
        "has_more": len(shown["lines"]) > 10,
        "total_count": len(shown["lines"]),
        "url": f"/v1/{subject['object']}s/{subject['id']}/lines",
    }
    return shown


def old_shape(subject: Object) -> Object:
    """An invoice or credit note as it looked in `EVENT_VERSION`: what readers must not rely on."""
    shown = new_shape(subject)
    if subject["object"] != "invoice":
        return shown
    parent = shown.pop("parent")
    shown["subscription"] = parent["subscription_details"]["subscription"] if parent else None
    shown["paid"] = shown["status"] == "paid"
    shown["charge"] = shown["payment_intent"] = None
    taxes = shown.pop("total_taxes")
    shown["tax"] = sum(entry["amount"] for entry in taxes) if taxes else None
    for line in shown["lines"]["data"]:
        pricing, own = line.pop("pricing"), line.pop("parent")
        details = pricing["price_details"] if pricing else None
        line["price"] = {"id": details["price"], "product": details["product"]} if details else None
        line["type"] = "subscription" if own["subscription_item_details"] else "invoiceitem"
        line["tax_amounts"] = [
            {"amount": entry["amount"], "inclusive": entry["tax_behavior"] == "inclusive"}
            for entry in line.pop("taxes")
        ]
    return shown
