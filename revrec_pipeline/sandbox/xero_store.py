"""The organisation's documents and what can happen to them: approve, pay, void, delete, allocate.

Everything that happens stamps the documents that it touches. Which documents there are is in
`xero_data`, how they are listed and filtered in `xero`.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from revrec_pipeline.sandbox.source import CommandError
from revrec_pipeline.sandbox.xero_objects import Object, guid, stamp

_NOTHING = Decimal("0.00")


class Store:
    """All documents by id, in the order in which they were made."""

    def __init__(self) -> None:
        self.invoices: dict[str, Object] = {}
        self.credit_notes: dict[str, Object] = {}
        self.changes = 0

    def add(self, one: Object, at: datetime) -> str:
        """A new document; returns its id."""
        found = self.credit_notes if "Allocations" in one else self.invoices
        key = one["CreditNoteID" if "Allocations" in one else "InvoiceID"]
        if key in found:
            raise CommandError(f"xero: {key} is already here")
        found[key] = one
        self.touch(one, at)
        return str(key)

    def find(self, identifier: str) -> Object:
        """An invoice or a credit note.

        Raises:
            CommandError: there is none.
        """
        one = self.invoices.get(identifier) or self.credit_notes.get(identifier)
        if one is None:
            raise CommandError(f"xero: no document {identifier}")
        return one

    def touch(self, one: Object, at: datetime) -> None:
        """Stamp a change; the stamp of a document never goes back."""
        one["UpdatedDateUTC"] = max(at, one["UpdatedDateUTC"] + timedelta(milliseconds=1))
        self.changes += 1

    # -- what a person does ------------------------------------------------------------------

    def submit(self, identifier: str, at: datetime) -> None:
        """Ask for approval."""
        self._move(identifier, {"DRAFT": "SUBMITTED"}, at)

    def authorise(self, identifier: str, at: datetime) -> None:
        """Approve: from now on it is an accounting fact. One over nothing is paid at once."""
        self._move(identifier, {"DRAFT": "AUTHORISED", "SUBMITTED": "AUTHORISED"}, at)
        self._settle(self.find(identifier), at)

    def void(self, identifier: str, at: datetime) -> None:
        """Take an approved document back. Its totals and lines stay as they were."""
        self._move(identifier, {"AUTHORISED": "VOIDED"}, at)

    def delete(self, identifier: str, at: datetime) -> None:
        """Delete a draft. It stays as well, with another status."""
        self._move(identifier, {"DRAFT": "DELETED", "SUBMITTED": "DELETED"}, at)

    def pay(self, identifier: str, at: datetime) -> None:
        """Pay what is due of an invoice."""
        one = self.find(identifier)
        if one["Status"] != "AUTHORISED" or "AmountDue" not in one:
            raise CommandError(f"xero: {identifier} is {one['Status']}; nothing to pay")
        payment = {
            "PaymentID": guid("payment", identifier, len(one["Payments"])),
            "Date": stamp(_day(at)),
            "Amount": one["AmountDue"],
            "CurrencyRate": one["CurrencyRate"],
            "HasAccount": False,
            "HasValidationErrors": False,
        }
        one["Payments"].append(payment)
        one["AmountPaid"] += one["AmountDue"]
        one["AmountDue"] = _NOTHING
        self.touch(one, at)
        self._settle(one, at)

    def allocate(self, note: str, invoice: str, amount: Decimal, at: datetime) -> None:
        """Settle part of an invoice by a credit note; both are touched."""
        credit, debit = self.find(note), self.find(invoice)
        if credit["RemainingCredit"] < amount or debit["AmountDue"] < amount:
            raise CommandError(f"xero: {amount} is more than is left of {note} or {invoice}")
        credit["Allocations"].append(
            {
                "AllocationID": guid("allocation", note, len(credit["Allocations"])),
                "Amount": amount,
                "Date": stamp(_day(at)),
                "Invoice": {
                    "InvoiceID": invoice,
                    "InvoiceNumber": debit["InvoiceNumber"],
                    "LineItems": [],
                },
                "IsDeleted": False,
            }
        )
        debit["CreditNotes"].append(
            {
                "CreditNoteID": note,
                "CreditNoteNumber": credit["CreditNoteNumber"],
                "AppliedAmount": amount,
            }
        )
        self._apply(credit, debit, amount, at)

    def unallocate(self, note: str, at: datetime) -> None:
        """Take the last allocation of a credit note back; it stays in the list, marked."""
        credit = self.find(note)
        standing = [one for one in credit["Allocations"] if not one["IsDeleted"]]
        if not standing:
            raise CommandError(f"xero: {note} is allocated to nothing")
        taken = standing[-1]
        taken["IsDeleted"] = True
        debit = self.find(taken["Invoice"]["InvoiceID"])
        debit["CreditNotes"] = [one for one in debit["CreditNotes"] if one["CreditNoteID"] != note]
        self._apply(credit, debit, -taken["Amount"], at)

    def edit(self, identifier: str, fields: Mapping[str, Any], at: datetime) -> None:
        """Change fields as a person does; dates are written `2026-06-02`.

        Lines are changed by number under `lines`, from 1. An edit that sends them back without
        their ids gives all of them new ones (`new_line_ids`).
        """
        one = self.find(identifier)
        changed = dict(fields)
        for number, line_fields in changed.pop("lines", {}).items():
            one["LineItems"][int(number) - 1].update(line_fields)
        if changed.pop("new_line_ids", False):
            for line in one["LineItems"]:
                line["LineItemID"] = guid(line["LineItemID"], "again")
        unknown = changed.keys() - one.keys()
        if unknown:
            raise CommandError(f"xero: a document has no field {min(unknown)!r}")
        if "Date" in changed:
            changed["Date"] = datetime.fromisoformat(changed["Date"])
        one.update(changed)
        self.touch(one, at)

    def garble(self, identifier: str, fields: Mapping[str, Any], at: datetime) -> None:
        """Let the API show other fields than the document has; None leaves one out."""
        one = self.find(identifier)
        one.setdefault("_garbled", {}).update(fields)
        self.touch(one, at)

    # -- inside ------------------------------------------------------------------------------

    def _move(self, identifier: str, moves: Mapping[str, str], at: datetime) -> None:
        one = self.find(identifier)
        if one["Status"] not in moves:
            raise CommandError(f"xero: {identifier} is {one['Status']}")
        one["Status"] = moves[one["Status"]]
        self.touch(one, at)

    def _apply(self, credit: Object, debit: Object, amount: Decimal, at: datetime) -> None:
        credit["RemainingCredit"] -= amount
        debit["AmountCredited"] += amount
        debit["AmountDue"] -= amount
        for one in (credit, debit):
            self.touch(one, at)
            self._settle(one, at)

    def _settle(self, one: Object, at: datetime) -> None:
        """PAID when nothing is left, AUTHORISED again when something is."""
        left = one["RemainingCredit"] if "Allocations" in one else one["AmountDue"]
        if left == 0 and one["Status"] == "AUTHORISED":
            one.update(Status="PAID", FullyPaidOnDate=_day(at))
        elif left != 0 and one["Status"] == "PAID":
            one.update(Status="AUTHORISED", FullyPaidOnDate=None)


def _day(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)
