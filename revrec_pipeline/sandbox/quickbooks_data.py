"""With which documents the sandbox's QuickBooks company starts, and what happens to them.

Most follow a pattern over the months of the company: few before 2025, when invoices were still
written elsewhere, more since. `_SPECIAL` holds those that each show one thing that real books do.
What a document looks like is in `quickbooks_objects`.
"""

import copy
import itertools
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from revrec_pipeline.periods import first_day, next_period, period_range
from revrec_pipeline.sandbox import company
from revrec_pipeline.sandbox.quickbooks_objects import (
    MIGRATION,
    RETIRED,
    Form,
    Line,
    Object,
    company_info,
    customers,
    entered,
    items,
    preferences,
    sale,
    stamp,
    tax_rates,
)
from revrec_pipeline.sandbox.salesforce_org import record_id
from revrec_pipeline.sandbox.source import CommandError

#: Everything before 2024 was imported in one go: all of it has one stamp.
_IMPORTED = datetime(2024, 1, 2, 16, 0, tzinfo=UTC)
_SALES = ("Invoice", "SalesReceipt", "CreditMemo", "RefundReceipt")
_D = Decimal
_BUNDLES: tuple[tuple[Line, ...], ...] = (
    (Line("PLAT-STD", _D(1)), Line("SEAT", _D(25))),
    (Line("PLAT-PRO", _D(1)), Line("SEAT", _D(60)), Line("SUP-GOLD", _D(1))),
    (Line("SEAT", _D(15)),),
    (Line("PLAT-ENT", _D(1)), Line("SUP-PLAT", _D(1)), Line("ONBOARD", _D("0.5"))),
    (Line("00420", _D(12)), Line("SUP-GOLD", _D(1))),
    (Line("PLAT-STD", _D(1)), Line("TRAINING", _D("2.5"))),
    (Line("API-USAGE", _D(48211)), Line("SEAT", _D(3))),
)
_VAT, _SALES_TAX = _D(20), _D("8.875")


def _specials() -> list[Form]:
    """One form for each thing to know. The comment above it says which."""
    return [
        # 10 % off three lines whose shares are no whole cents.
        Form(
            "Invoice", date(2025, 2, 11), "lumen",
            (Line("SEAT", price=_D("33.35")), Line("TRAINING", price=_D("33.33")),
             Line("ONBOARD", price=_D("33.32"))),
            number="2025-0211", percent_off=_D(10),
        ),
        # An amount off, shipping that no discount touches, and sales tax on what is left.
        Form(
            "Invoice", date(2025, 3, 18), "northwind",
            (Line("00420", _D(7)), Line("ONBOARD"), Line("TRAINING", taxable=False)),
            number="2025-0318", amount_off=_D("250.01"), shipping=_D("84.50"), tax=_SALES_TAX,
        ),
        # A bundle: a header with three nested lines, and a description between the lines.
        Form(
            "Invoice", date(2025, 4, 7), "bluepeak",
            ("bundle", "Delivered as agreed on the phone", Line("SUP-GOLD")),
            number="2025-0407", percent_off=_D("12.5"),
        ),
        # Prices include VAT.
        Form(
            "Invoice", date(2025, 5, 20), "camden",
            (Line("PLAT-PRO"), Line("SEAT", _D(11)), Line("TRAINING", taxable=False)),
            number="2025-0520", tax=_VAT, inclusive=True,
        ),
        # One date of service per line, in another month than the document's.
        Form(
            "Invoice", date(2025, 6, 30), "quarry",
            (Line("PLAT-ENT", service_date="2025-07-01"), Line("ONBOARD",
             service_date="2025-06-15")),
            number="2025-0630",
        ),
        # Unit prices with seven decimals, and a quantity with a fraction.
        Form(
            "SalesReceipt", date(2025, 7, 15), "sablegames",
            (Line("API-USAGE", _D("1234567.5"), price=_D("0.0123457")),), number="S-1015",
        ),
        # Voided with everything set to zero; see `_void`.
        Form("Invoice", date(2025, 8, 12), "vireo", (Line("PLAT-STD"),), number="2025-0812"),
        # Voided, but the amounts still stand there, as in one published answer.
        Form("Invoice", date(2025, 8, 19), "vireo", (Line("PLAT-STD"),), number="2025-0819"),
        # Really over nothing: a free month.
        Form(
            "Invoice", date(2025, 9, 2), "wexford",
            (Line("PLAT-STD", price=_D(0), text="First month is free"),), number="2025-0902",
        ),
        # A line that takes back what another invoice had too much.
        Form(
            "Invoice", date(2025, 9, 23), "cedarhealth",
            (Line("PLAT-ENT"), Line("PLAT-STD", _D(-1))), number="2025-0923",
        ),
        # A receipt that pays out more than it takes in: negative as a whole.
        Form(
            "SalesReceipt", date(2025, 10, 9), "zephyr",
            (Line("SEAT", _D(2)), Line("TRAINING", _D(-1))), number="S-1039",
        ),
        # Only an amount was typed: neither quantity nor price.
        Form(
            "Invoice", date(2025, 10, 28), "tallgrass",
            (Line("TRAINING", None, amount=_D("2700.00")),), number="2025-1028",
        ),
        # Foreign, with no exchange rate on it, which means 1.
        Form(
            "Invoice", date(2025, 11, 11), "mueller",
            (Line("PLAT-PRO"), Line("SEAT", _D(14))), number="2025-1111", rated=False,
        ),
        # Without a currency: that of the company.
        Form(
            "Invoice", date(2025, 11, 25), "harborfoods", (Line("SUP-PLAT"),),
            number="2025-1125", currency=False,
        ),
        # An item that is no longer sold, and so not in the plain list of items.
        Form(
            "Invoice", date(2025, 12, 4), "oxbow", (Line(RETIRED[0]), Line("SEAT", _D(4))),
            number="2025-1204",
        ),
        # A credit for part of an invoice, with the discount that the invoice had.
        Form(
            "CreditMemo", date(2026, 1, 14), "bluepeak", (Line("SEAT", _D(4)), Line("SUP-GOLD")),
            number="CM-0114", percent_off=_D("12.5"),
        ),
        # A credit that nobody has used yet.
        Form(
            "CreditMemo", date(2026, 2, 17), "thistle", (Line("PLAT-PRO"),), number="CM-0217",
            tax=_VAT, inclusive=True, open=True,
        ),
        # Money given back at once.
        Form(
            "RefundReceipt", date(2026, 3, 10), "sablegames", (Line("API-USAGE", _D(20000)),),
            number="R-0310",
        ),
        # Incomplete: nobody gave it a number.
        Form("Invoice", date(2026, 1, 27), "ironbridge", (Line("PLAT-ENT"),)),
        # Incomplete: a line without an item.
        Form(
            "Invoice", date(2026, 2, 24), "fiordi",
            (Line(amount=_D("1250.00"), text="Consulting, as agreed"), Line("TRAINING")),
            number="2026-0224",
        ),
        # Incomplete: a receipt without a customer.
        Form("SalesReceipt", date(2026, 3, 24), None, (Line("TRAINING"),), number="S-1120"),
        # Incomplete: the number has characters that RevRec does not take.
        Form("Invoice", date(2026, 4, 14), "tulip", (Line("PLAT-STD"),), number="2026/04 #14"),
        # Incomplete: the lines do not add up to the total; see `_seed`.
        Form("Invoice", date(2026, 4, 28), "atelier", (Line("SEAT", _D(9)),), number="2026-0428"),
        # Incomplete for those who match products by SKU: the item has none.
        Form(
            "Invoice", date(2026, 5, 12), "ironbridge", (Line(MIGRATION[0]), Line("PLAT-STD")),
            number="2026-0512",
        ),
        # What the story goes on with.
        Form(
            "Invoice", date(2026, 6, 9), "quarry", (Line("PLAT-ENT"), Line("SUP-PLAT")),
            number="2026-0609", open=True,
        ),
        Form(
            "Invoice", date(2026, 6, 16), "wexford", (Line("SEAT", _D(30)),), number="2026-0616",
            open=True,
        ),
        Form(
            "Invoice", date(2026, 5, 28), "tallgrass", (Line("TRAINING"),), number="2026-0528",
            open=True,
        ),
    ]  # fmt: skip


class Books:
    """The documents and lists of the company, and what users do to them."""

    def __init__(self) -> None:
        founded = entered(date(2023, 7, 1))
        self.entities: dict[str, dict[str, Object]] = {
            **{entity: {} for entity in _SALES},
            "Item": {one["Id"]: one for one in items(founded)},
            "Customer": {one["Id"]: one for one in customers(founded)},
            "TaxRate": {one["Id"]: one for one in tax_rates(founded)},
            "CompanyInfo": {"1": company_info(founded)},
            "Preferences": {"1": preferences(founded)},
        }
        #: What is gone, as change data capture tells it: entity, id and time.
        self.deleted: list[tuple[str, str, datetime]] = []
        self.touched = False
        self._ids = itertools.count(101)
        self._seed()

    def find(self, number: str) -> tuple[str, str]:
        """Entity and id of the document with that number."""
        for entity in _SALES:
            for one in self.entities[entity].values():
                if one.get("DocNumber") == number:
                    return entity, one["Id"]
        raise CommandError(f"quickbooks: no document numbered {number}")

    def add(self, form: Form, created: datetime) -> Object:
        """Enter a form."""
        one = sale(form, next(self._ids), created)
        self.entities[form.entity][one["Id"]] = one
        self.touched = True
        return one

    def edit(self, entity: str, number: str, fields: Mapping[str, Any], at: datetime) -> None:
        """Change fields, as a user does."""
        one = self._stored(entity, number)
        one.update(copy.deepcopy(dict(fields)))
        self._stamp(one, at)

    def replace(self, form: Form, number: str, at: datetime) -> None:
        """Enter a form anew under its id, as a full update does: no line stays."""
        old = self._stored(form.entity, number)
        new = sale(form, int(number), at, token=int(old["SyncToken"]) + 1)
        new["MetaData"]["CreateTime"] = old["MetaData"]["CreateTime"]
        self.entities[form.entity][number] = new
        self.touched = True

    def void(self, entity: str, number: str, at: datetime, *, keep: bool = False) -> None:
        """Void a document: its amounts and quantities become zero, unless they are to be kept."""
        one = self._stored(entity, number)
        before = one.get("PrivateNote")
        one["PrivateNote"] = f"Voided - {before}" if before else "Voided"
        one["Balance"] = Decimal(0)
        if not keep:
            one["TotalAmt"] = Decimal(0)
            one["TxnTaxDetail"] = {"TotalTax": Decimal(0)}
            for line in one["Line"]:
                for each in (line, *line.get("GroupLineDetail", {}).get("Line", ())):
                    if "Amount" in each:
                        each["Amount"] = Decimal(0)
                    detail = each.get("SalesItemLineDetail", {})
                    detail.update({name: Decimal(0) for name in ("Qty",) if name in detail})
        self._stamp(one, at)

    def delete(self, entity: str, number: str, at: datetime) -> None:
        """Remove a document for good."""
        self._stored(entity, number)
        del self.entities[entity][number]
        self.deleted.append((entity, number, at))
        self.touched = True

    def _stored(self, entity: str, number: str) -> Object:
        found = self.entities.get(entity, {}).get(number)
        if found is None:
            raise CommandError(f"quickbooks: no {entity} {number}")
        return found

    def _stamp(self, one: Object, at: datetime) -> None:
        one["MetaData"]["LastUpdatedTime"] = stamp(at)
        one["SyncToken"] = str(int(one["SyncToken"]) + 1)
        self.touched = True

    def _seed(self) -> None:
        forms = [*_specials(), *_patterns()]
        forms.sort(key=lambda form: (form.day, form.number or ""))
        for form in forms:
            created = entered(form.day, len(form.lines) * 7)
            self.add(form, max(created, _IMPORTED))
        for number, keep in (("2025-0812", False), ("2025-0819", True)):
            entity, one = self.find(number)
            self.void(entity, one, entered(date(2025, 9, 3)), keep=keep)
        entity, one = self.find("2026-0428")
        self.entities[entity][one]["Line"][0]["Amount"] -= Decimal("0.01")
        self.touched = False


def _patterns() -> list[Form]:
    """The ordinary business of every month."""
    forms = []
    count = 0
    for month, period in enumerate(period_range(company.FOUNDED, company.LAST_MONTH)):
        start = first_day(period)
        days = (first_day(next_period(period)) - start).days
        sold = month - len(list(period_range(company.FOUNDED, company.FIRST_MONTH))) + 1
        for place in range(3 if sold < 0 else 5):
            count += 1
            # The CRM's pattern: eight opportunities a month, each with a customer of its own.
            opportunity = max(sold, 0) * 8 + (0, 1, 3, 4, 7)[place]
            customer = company.CUSTOMERS[opportunity * 5 % len(company.CUSTOMERS)]
            if sold < 0:
                customer = company.CUSTOMERS[count * 7 % len(company.CUSTOMERS)]
            entity = "SalesReceipt" if count % 6 == 0 else "Invoice"
            taxed = customer.country == "US" and count % 3 == 0
            prefix = "S-" if entity == "SalesReceipt" else ""
            forms.append(
                Form(
                    entity,
                    start + timedelta(days=(count * 11 + place) % days),
                    customer.key,
                    _BUNDLES[count % len(_BUNDLES)],
                    number=f"{prefix}{1000 + count}",
                    percent_off=_D(5) if count % 7 == 3 else None,
                    tax=_SALES_TAX if taxed else None,
                    order=record_id("006", opportunity + 1) if sold >= 0 and count % 2 else None,
                    memo="Thank you for your business.",
                    open=period >= "2026-05" and count % 4 == 0,
                )
            )
    return forms


def tell_story(books: Books, now: datetime) -> dict[str, str]:
    """What happens between the demo's two syncs; all of it concerns the company's last months."""
    new = books.add(
        Form(
            "Invoice", date(2026, 6, 26), "ironbridge", (Line("ONBOARD"), Line("TRAINING", _D(3))),
            number="2026-0626", percent_off=_D(5), open=True,
        ),
        now,
    )  # fmt: skip
    credit = books.add(
        Form("CreditMemo", date(2026, 6, 29), "zephyr", (Line("SEAT", _D(6)),), number="CM-0629"),
        now,
    )
    entity, voided = books.find("2026-0609")
    books.void(entity, voided, now)
    entity, deleted = books.find("2026-0616")
    books.delete(entity, deleted, now)
    entity, moved = books.find("2026-0528")
    books.edit(entity, moved, {"TxnDate": "2026-06-02"}, now)
    return {
        "new": f"INV-{new['Id']}",
        "credit memo": f"CM-{credit['Id']}",
        "voided": f"INV-{voided}",
        "deleted": f"INV-{deleted}",
        "moved from 2026-05 to 2026-06": f"INV-{moved}",
    }
