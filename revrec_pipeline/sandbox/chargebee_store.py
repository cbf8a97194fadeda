"""The site's documents and what can happen to them: pay, void, delete, close, credit, refund.

Which documents there are is in `chargebee_data`; how they are listed and filtered is in
`chargebee_params`.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from revrec_pipeline.sandbox import company
from revrec_pipeline.sandbox.chargebee_objects import (
    Line,
    Object,
    customer_object,
    item_prices,
    lines_and_totals,
)
from revrec_pipeline.sandbox.source import CommandError

_DAY = 86400
_LISTS = {"invoice": "invoices", "credit_note": "credit_notes", "subscription": "subscriptions"}


class Store:
    """All objects by list and id, in the order in which they were made."""

    def __init__(self) -> None:
        customers = [customer_object(one, n) for n, one in enumerate(company.CUSTOMERS)]
        self.lists: dict[str, dict[str, Object]] = {
            "invoices": {},
            "credit_notes": {},
            "subscriptions": {},
            "customers": {one["id"]: one for one in customers},
            "item_prices": {one["id"]: one for one in item_prices()},
        }
        self.contract_terms: dict[str, list[Object]] = {}
        self.changes = 0
        self._lines: dict[str, list[Line]] = {}
        self._serials: dict[tuple[str, str], int] = {}

    def serial(self, one: Object) -> int:
        """The number of a record, in the order of creation."""
        key = (one["object"], one["id"])
        return self._serials.setdefault(key, 230000000000 + len(self._serials))

    def number_by_creation(self) -> None:
        """Number the documents as if they had been made one after the other."""
        made = [*self.lists["invoices"].values(), *self.lists["credit_notes"].values()]
        for one in sorted(made, key=lambda one: (one["generated_at"], one["id"])):
            self.serial(one)

    def find(self, kind: str, identifier: str) -> Object:
        """A record, to change it.

        Raises:
            CommandError: there is none.
        """
        found = self.lists.get(_LISTS.get(kind, kind), {}).get(identifier)
        if found is None:
            raise CommandError(f"chargebee: no {kind} {identifier!r}")
        return found

    def touch(self, one: Object, at: int) -> None:
        """Stamp a record that changed; the version also tells changes of one second apart."""
        self.changes += 1
        one["updated_at"] = at
        one["resource_version"] = max(at * 1000, one.get("resource_version", 0) + 1)

    # -- invoices ----------------------------------------------------------------------------

    def invoice(
        self,
        identifier: str,
        customer: str,
        date: int,
        lines: Sequence[Line],
        *,
        currency: str | None = None,
        status: str = "paid",
        subscription: str | None = None,
        round_off: int = 0,
        **fields: Any,
    ) -> str:
        """A new invoice; a paid one was paid two days after its date."""
        known = company.customer(customer)
        parts = lines_and_totals(identifier, customer, lines)
        total = parts["total"] + round_off
        paid = total if status == "paid" else 0
        made: Object = {
            "id": identifier,
            "customer_id": customer,
            "subscription_id": subscription,
            "recurring": subscription is not None,
            "status": status,
            "date": date,
            "due_date": date + 30 * _DAY,
            "net_term_days": 30,
            "exchange_rate": 1.0,
            **parts,
            "total": total,
            "amount_paid": paid,
            "amount_adjusted": 0,
            "write_off_amount": 0,
            "credits_applied": 0,
            "amount_due": total - paid,
            "paid_at": date + 2 * _DAY if status == "paid" else None,
            "updated_at": date + 2 * _DAY,
            "resource_version": (date + 2 * _DAY) * 1000 + 86,
            "deleted": False,
            "object": "invoice",
            "first_invoice": False,
            "amount_to_collect": total - paid,
            "round_off_amount": round_off,
            "has_advance_charges": False,
            "currency_code": currency or known.currency,
            "base_currency_code": company.HOME_CURRENCY,
            "generated_at": date,
            "is_gifted": False,
            "term_finalized": True,
            "channel": "web",
            "discounts": [],
            "taxes": [],
            "linked_payments": [],
            "applied_credits": [],
            "adjustment_credit_notes": [],
            "issued_credit_notes": [],
            "linked_orders": [],
            "dunning_attempts": [],
            "billing_address": {"company": known.billing_name, "object": "billing_address"},
            "site_details_at_creation": {"timezone": company.TIMEZONE},
            **fields,
        }
        self._lines[identifier] = list(lines)
        self.lists["invoices"][identifier] = {k: v for k, v in made.items() if v is not None}
        return identifier

    def pay(self, invoice: str, at: int) -> None:
        """All that is due is paid."""
        found = self.find("invoice", invoice)
        paid = found["amount_paid"] + found["amount_due"]
        found.update(status="paid", paid_at=at, amount_paid=paid, amount_due=0, amount_to_collect=0)
        self.touch(found, at)

    def void(self, kind: str, identifier: str, at: int) -> None:
        """Take a document back; it stays in the lists."""
        found = self.find(kind, identifier)
        found.update(status="voided", voided_at=at)
        if kind == "invoice":
            found.update(amount_due=0, amount_to_collect=0, void_reason_code="Other")
        self.touch(found, at)

    def delete(self, kind: str, identifier: str, at: int) -> None:
        """Delete a document: only lists that ask for deleted ones show it, amounts and all."""
        found = self.find(kind, identifier)
        found["deleted"] = True
        self.touch(found, at)

    def close(self, invoice: str, at: int, *, date: int) -> None:
        """Close a pending invoice, which may change its date."""
        found = self.find("invoice", invoice)
        if found["status"] != "pending":
            raise CommandError(f"chargebee: {invoice} is {found['status']}, not pending")
        found.update(status="payment_due", date=date, due_date=date + 30 * _DAY)
        self.touch(found, at)

    def edit(self, kind: str, identifier: str, fields: Mapping[str, Any], at: int) -> None:
        """Change fields, the stamp too; one set to null is left out of all answers from then on."""
        found = self.find(kind, identifier)
        self.touch(found, at)
        for name, value in fields.items():
            found[name] = copy.deepcopy(value)
            if value is None:
                del found[name]

    # -- credit notes ------------------------------------------------------------------------

    def credit(
        self,
        identifier: str,
        invoice: str,
        date: int,
        *,
        shares: Mapping[int, Decimal],
        kind: str = "refundable",
        status: str = "refunded",
        period: tuple[int, int] | None = None,
        correction: int = 0,
        extra: Sequence[Line] = (),
        **fields: Any,
    ) -> str:
        """A credit note over shares of an invoice's lines (by number, from 0) and further lines.

        Its lines have amounts above zero, and no period of their own unless one is given.
        """
        credited = self.find("invoice", invoice)
        since, until = period or (date, date)
        lines = [
            replace(
                self._lines[invoice][number],
                amount=int(self._lines[invoice][number].amount * share),
                unit_amount=None,
                quantity=1,
                item_discount=int(self._lines[invoice][number].item_discount * share),
                document_discount=int(self._lines[invoice][number].document_discount * share),
                credits=0,
                since=since,
                until=until,
                reference=credited["line_items"][number]["id"],
                decimals=None,
            )
            for number, share in shares.items()
        ]
        lines += extra
        parts = lines_and_totals(identifier, credited["customer_id"], lines)
        parts.pop("tax")
        total = parts["total"] + correction
        made: Object = {
            "id": identifier,
            "customer_id": credited["customer_id"],
            "subscription_id": credited.get("subscription_id"),
            "reference_invoice_id": invoice,
            "type": kind,
            "reason_code": "product_unsatisfactory",
            "create_reason_code": "Product Unsatisfactory",
            "status": status,
            "date": date,
            "exchange_rate": 1.0,
            **parts,
            "total": total,
            "currency_code": credited["currency_code"],
            "base_currency_code": company.HOME_CURRENCY,
            "amount_allocated": total if status in {"adjusted", "refunded"} else 0,
            "amount_refunded": 0,
            "amount_available": total if status == "refund_due" else 0,
            "refunded_at": date + 3 * _DAY if status == "refunded" else None,
            "voided_at": date + _DAY if status == "voided" else None,
            "generated_at": date,
            "updated_at": date + 3 * _DAY,
            "resource_version": (date + 3 * _DAY) * 1000 + 510,
            "channel": "web",
            "round_off_amount": 0,
            "fractional_correction": correction,
            "deleted": False,
            "object": "credit_note",
            "taxes": [],
            "allocations": [],
            "linked_refunds": [],
            **fields,
        }
        self.lists["credit_notes"][identifier] = {k: v for k, v in made.items() if v is not None}
        entry = {"cn_id": identifier, "cn_date": date, "cn_total": total, "cn_status": status}
        if kind == "adjustment":
            credited["adjustment_credit_notes"].append(entry)
            credited["amount_adjusted"] += total
            credited["amount_due"] = max(credited["amount_due"] - total, 0)
        else:
            credited["issued_credit_notes"].append(entry)
        return identifier

    def refund(self, credit_note: str, at: int) -> None:
        """Pay back what a credit note says."""
        found = self.find("credit_note", credit_note)
        found.update(status="refunded", refunded_at=at, amount_available=0)
        found["amount_refunded"] = found["total"]
        self.touch(found, at)
