"""What the company invoiced through Xero: a pattern over three years, and one document per trap.

From 2025 on, three invoices a month bill what the CRM sold in that month, in the same words, and
name the opportunity in `Reference`. Only data: how a document is put together is in `xero_objects`,
what happens to it in `xero_store`.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from revrec_pipeline.currency import exponent
from revrec_pipeline.periods import first_day, next_period, period_range
from revrec_pipeline.sandbox import company
from revrec_pipeline.sandbox.salesforce_org import record_id
from revrec_pipeline.sandbox.xero_objects import Line, contact, document, guid
from revrec_pipeline.sandbox.xero_store import Store

#: Opportunities a month in the CRM, and those among each eight that were won and are billed here.
_SOLD_PER_MONTH = 8
_BILLED = (0, 1, 3)
_BUNDLES: tuple[tuple[tuple[str, int], ...], ...] = (
    (("PLAT-STD", 1), ("SEAT", 25)),
    (("PLAT-PRO", 1), ("SEAT", 60), ("SUP-GOLD", 1)),
    (("SEAT", 15),),
    (("PLAT-ENT", 1), ("SEAT", 240), ("SUP-PLAT", 1), ("ONBOARD", 1)),
    (("00420", 12), ("SUP-GOLD", 1)),
    (("PLAT-STD", 1), ("ONBOARD", 1)),
    (("PLAT-PRO", 2),),
)
_VAT = {"GB": Decimal(20), "DE": Decimal(19), "FR": Decimal(20), "IT": Decimal(22)}
_REGIONS = {"US": "Americas", "JP": "Asia Pacific", "KW": "Asia Pacific"}
#: The last month that is not paid in full yet.
_OPEN_FROM = "2026-05"


def at(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> datetime:
    """A day or an instant, in UTC without a zone as the store holds it."""
    return datetime(year, month, day, hour, minute)  # noqa: DTZ001 - see above


def opportunity(number: int) -> str:
    """The CRM's id of the opportunity that was closed as number `number`, counted from 0."""
    return record_id("006", number + 1)


def invoice_id(seed: str) -> str:
    """The id of an invoice by the word that it was made from."""
    return guid("ACCREC", seed)


def credit_note_id(seed: str) -> str:
    """The id of a credit note by the word that it was made from."""
    return guid("ACCRECCREDIT", seed)


def charge(code: str, quantity: Decimal | int | str, currency: str, **fields: Any) -> Line:
    """A line over a product at list price, for the whole of its term."""
    product = company.product(code)
    price = company.list_price(code, currency) * (product.term_months or 1)
    if code != "API-USAGE":
        price = price.quantize(Decimal(1).scaleb(-min(exponent(currency), 2)))
    return Line(product.name, code, Decimal(quantity), price, **fields)


class _Books:
    """A store with the invoice numbers that are next."""

    def __init__(self) -> None:
        self.store = Store()
        self._next = {"INV": 1, "CN": 1}

    def number(self, series: str) -> str:
        """The next number of a series."""
        self._next[series] += 1
        return f"{series}-{self._next[series] - 1:04d}"

    def invoice(
        self, seed: str, key: str, day: datetime, *lines: Line, paid: bool = True, **fields: Any
    ) -> str:
        """An approved invoice, paid after three weeks if it was."""
        customer = company.customer(key)
        one = document(
            "ACCREC",
            seed,
            contact(customer),
            day,
            lines,
            **{"number": self.number("INV"), "currency": customer.currency, **fields},
        )
        own = self.store.add(one, day + timedelta(hours=15, minutes=len(seed)))
        self.store.authorise(own, day + timedelta(hours=16))
        if paid and one["Status"] == "AUTHORISED":
            self.store.pay(own, day + timedelta(days=21, hours=14, milliseconds=940))
        return own

    def credit(
        self, seed: str, key: str, day: datetime, *lines: Line, draft: bool = False, **fields: Any
    ) -> str:
        """An approved credit note that is allocated to nothing yet."""
        customer = company.customer(key)
        one = document(
            "ACCRECCREDIT",
            seed,
            contact(customer),
            day,
            lines,
            **{"number": self.number("CN"), "currency": customer.currency, **fields},
        )
        own = self.store.add(one, day + timedelta(hours=15))
        if not draft:
            self.store.authorise(own, day + timedelta(hours=15, minutes=20))
        return own

    def draft(self, seed: str, key: str, day: datetime, *lines: Line, **fields: Any) -> str:
        """An invoice that nobody has approved."""
        customer = company.customer(key)
        named = {"number": self.number("INV"), "currency": customer.currency, **fields}
        one = document("ACCREC", seed, contact(customer), day, lines, **named)
        return self.store.add(one, day + timedelta(hours=15))


def build() -> Store:
    """The organisation as the sandbox starts."""
    books = _Books()
    number = 0
    for n, period in enumerate(period_range(company.FOUNDED, company.LAST_MONTH)):
        if period < company.FIRST_MONTH:
            _early(books, period, n)
        else:
            _billed_sales(books, period, number)
            number += _SOLD_PER_MONTH
        for special in _SPECIAL.get(period, ()):
            special(books)
    return books.store


def _early(books: _Books, period: str, n: int) -> None:
    """Two or three invoices a month, before the company had a CRM."""
    month = first_day(period)
    for k in range(2 + n % 2):
        customer = company.CUSTOMERS[(n * 5 + k * 7) % len(company.CUSTOMERS)]
        day = at(month.year, month.month, 4 + (n * 3 + k * 9) % 24)
        bundle = _BUNDLES[(n + k) % 3]
        _bill(books, f"early-{period}-{k}", customer, day, bundle, f"PO-{n:02d}{k}")


def _billed_sales(books: _Books, period: str, number: int) -> None:
    """Three of the month's won opportunities, and usage of one customer without an order."""
    month = first_day(period)
    days = (first_day(next_period(period)) - month).days
    for k in _BILLED:
        sold = number + k
        customer = company.CUSTOMERS[sold * 5 % len(company.CUSTOMERS)]
        day = at(month.year, month.month, 1 + sold * 11 % days)
        bundle = _BUNDLES[sold % len(_BUNDLES)]
        _bill(books, f"sold-{sold}", customer, day, bundle, opportunity(sold))
    customer = company.CUSTOMERS[number // _SOLD_PER_MONTH * 7 % len(company.CUSTOMERS)]
    usage = charge(
        "API-USAGE", 41_237 + 1_013 * (number % 7), customer.currency, **_terms(customer)
    )
    books.invoice(
        f"usage-{period}",
        customer.key,
        at(month.year, month.month, days),
        usage,
        paid=period < _OPEN_FROM,
        amounts=_amounts(customer),
    )


def _bill(
    books: _Books,
    seed: str,
    customer: company.Customer,
    day: datetime,
    bundle: tuple[tuple[str, int], ...],
    reference: str,
) -> None:
    lines = [charge(code, count, customer.currency, **_terms(customer)) for code, count in bundle]
    paid = f"{day:%Y-%m}" < _OPEN_FROM
    amounts = _amounts(customer)
    books.invoice(seed, customer.key, day, *lines, paid=paid, reference=reference, amounts=amounts)


def _amounts(customer: company.Customer) -> str:
    """Prices in the United Kingdom contain the tax; in Japan and the Gulf there is none."""
    if customer.country == "GB":
        return "Inclusive"
    return "NoTax" if customer.currency in {"JPY", "KWD", "ISK"} else "Exclusive"


def _terms(customer: company.Customer) -> dict[str, Any]:
    region = _REGIONS.get(customer.country, "Europe")
    percent = _VAT.get(customer.country, Decimal(0))
    return {"tax_percent": percent, "tracking": (("Region", region), ("Business Line", "Cloud"))}


# -- one document per trap -----------------------------------------------------------------------


def _discounts(books: _Books) -> None:
    """Per cent on one line and an amount on another: `LineAmount` has lost them already."""
    camden = _terms(company.customer("camden"))
    rate = charge("SEAT", 40, "GBP", discount_rate=Decimal("12.50"), **camden)
    amount = charge("TRAINING", 2, "GBP", discount_amount=Decimal("150.00"), **camden)
    books.invoice("discounts", "camden", at(2025, 3, 20), rate, amount, amounts="Inclusive")


def _description_only(books: _Books) -> None:
    """Two lines that say something and charge nothing."""
    books.invoice(
        "words",
        "lumen",
        at(2025, 4, 9),
        Line("As agreed with Mei Tanaka on 2 April."),
        charge("PLAT-STD", 1, "USD"),
        Line("Thank you for your business."),
    )


def _voided(books: _Books) -> None:
    """Voided months later; its total and its lines stay as they were."""
    wrong = books.invoice(
        "voided", "quarry", at(2025, 5, 6), charge("PLAT-ENT", 1, "USD"), paid=False
    )
    books.store.void(wrong, at(2025, 9, 11, 9))


def _number_again(books: _Books) -> None:
    """A number is free again when the draft that had it was deleted."""
    fields: dict[str, Any] = {"number": "INV-9001", "reference": "PO-7781"}
    draft = books.draft("deleted", "zephyr", at(2025, 6, 3), charge("SEAT", 5, "USD"), **fields)
    books.store.delete(draft, at(2025, 6, 4, 8))
    books.invoice("again", "zephyr", at(2025, 6, 5), charge("SEAT", 50, "USD"), **fields)


def _nothing(books: _Books) -> None:
    """All of it discounted: paid as soon as it is approved."""
    free = charge("ONBOARD", 1, "USD", discount_rate=Decimal("100.00"))
    books.invoice("nothing", "vireo", at(2025, 7, 14), free)


def _credit_on_two(books: _Books) -> None:
    """One credit note that settles two invoices, in part each."""
    first, second = (
        books.invoice(
            f"outage-{n}", "tulip", at(2025, 8, day), charge("SUP-GOLD", 1, "EUR"), paid=False
        )
        for n, day in ((1, 4), (2, 18))
    )
    note = books.credit(
        "outage",
        "tulip",
        at(2025, 8, 29),
        Line("For the outage of 21 August, on both invoices."),
        Line("Gold Support", "SUP-GOLD", Decimal(1), Decimal("500.00")),
    )
    books.store.allocate(note, first, Decimal("300.00"), at(2025, 8, 29, 16))
    books.store.allocate(note, second, Decimal("200.00"), at(2025, 8, 29, 17))


def _credit_on_one(books: _Books) -> None:
    """Inclusive of tax, for part of an invoice's seats; and its twin, which was voided."""
    invoice = books.invoice(
        "seats",
        "thistle",
        at(2025, 10, 7),
        charge("SEAT", 30, "GBP", **_terms(company.customer("thistle"))),
        paid=False,
        amounts="Inclusive",
    )
    back = charge("SEAT", 5, "GBP", **_terms(company.customer("thistle")))
    note = books.credit("seats", "thistle", at(2025, 11, 3), back, amounts="Inclusive")
    total = books.store.find(note)["Total"]
    books.store.allocate(note, invoice, total, at(2025, 11, 3, 16))
    twin = books.credit("seats-twice", "thistle", at(2025, 11, 4), back, amounts="Inclusive")
    books.store.void(twin, at(2025, 11, 5, 9))


def _incomplete(books: _Books) -> None:
    """What people forget: an item, a currency, a number that fits, a customer's date."""
    consulting = Line("Consulting, as agreed", None, Decimal(3), Decimal("1250.00"))
    books.invoice("no-item", "fiordi", at(2025, 12, 9), consulting, charge("TRAINING", 1, "EUR"))
    bare = books.invoice("no-currency", "oxbow", at(2026, 1, 15), charge("PLAT-STD", 1, "GBP"))
    books.store.garble(bare, {"CurrencyCode": None, "CurrencyRate": None}, at(2026, 1, 16, 9))
    books.invoice(
        "odd-number",
        "atelier",
        at(2026, 2, 11),
        charge("PLAT-STD", 1, "EUR"),
        number="INV 77/2026 (rev)",
    )
    bare = books.invoice("no-number", "wexford", at(2026, 3, 12), charge("SEAT", 12, "USD"))
    books.store.garble(bare, {"InvoiceNumber": ""}, at(2026, 3, 13, 9))
    odd = books.invoice("odd-tax", "harborfoods", at(2026, 4, 21), charge("SUP-GOLD", 1, "USD"))
    books.store.garble(odd, {"LineAmountTypes": "Margin"}, at(2026, 4, 22, 9))


def _old_stamps(books: _Books) -> None:
    """Entered with the offset of Auckland: the milliseconds are UTC all the same."""
    old = books.invoice("auckland", "sablegames", at(2024, 3, 31), charge("SEAT", 8, "USD"))
    books.store.garble(old, {"Date": "/Date(1711843200000+1300)/"}, at(2024, 4, 2, 9))


def _drafts(books: _Books) -> None:
    """Nobody has approved these yet; the story approves one of them."""
    books.draft("draft", "tallgrass", at(2026, 6, 24), charge("TRAINING", 2, "USD"))
    waiting = books.draft("submitted", "minato", at(2026, 6, 26), charge("PLAT-STD", 1, "JPY"))
    books.store.submit(waiting, at(2026, 6, 26, 17))
    books.credit("draft", "camden", at(2026, 6, 25), charge("SEAT", 1, "GBP"), draft=True)


def _bills(books: _Books) -> None:
    """What the company was billed itself: the same endpoints, another type."""
    supplier = {**contact(company.customer("northwind")), "ContactID": guid("contact", "supplier")}
    supplier["Name"] = "Hosting GmbH"
    hosting = [Line("Hosting", None, Decimal(1), Decimal("812.40"))]
    for kind, number in (("ACCPAY", "R-2231"), ("ACCPAYCREDIT", "R-2231-C")):
        one = document(
            kind, "hosting", supplier, at(2026, 2, 2), hosting, number=number, currency="EUR"
        )
        own = books.store.add(one, at(2026, 2, 3, 8))
        books.store.authorise(own, at(2026, 2, 3, 9))


def _for_the_story(books: _Books) -> None:
    """Approved and unpaid in June: one will be voided, one credited, one moved to another month."""
    books.invoice("to-void", "mueller", at(2026, 6, 8), charge("PLAT-PRO", 1, "EUR"), paid=False)
    books.invoice("to-credit", "ironbridge", at(2026, 6, 11), charge("SEAT", 20, "USD"), paid=False)
    books.invoice(
        "to-move", "cedarhealth", at(2026, 5, 30), charge("SUP-GOLD", 1, "USD"), paid=False
    )


_SPECIAL: dict[str, tuple[Callable[[_Books], None], ...]] = {
    "2024-03": (_old_stamps,),
    "2025-03": (_discounts,),
    "2025-04": (_description_only,),
    "2025-05": (_voided,),
    "2025-06": (_number_again,),
    "2025-07": (_nothing,),
    "2025-08": (_credit_on_two,),
    "2025-11": (_credit_on_one,),
    "2026-02": (_bills,),
    "2026-05": (_incomplete,),
    "2026-06": (_drafts, _for_the_story),
}


def tell_story(store: Store, now: datetime) -> dict[str, str]:
    """What happens between the demo's two syncs, dated back into the company's last months."""
    approved = invoice_id("draft")
    store.authorise(approved, now)
    voided = invoice_id("to-void")
    store.void(voided, now)
    moved = invoice_id("to-move")
    store.edit(moved, {"Date": "2026-06-02"}, now)
    mended = invoice_id("no-item")
    product = {"ItemCode": "ONBOARD", "Item": {"Name": "Onboarding Package", "Code": "ONBOARD"}}
    store.edit(mended, {"lines": {1: product}}, now)
    debit = store.find(invoice_id("to-credit"))
    note = document(
        "ACCRECCREDIT",
        "story",
        debit["Contact"],
        at(2026, 6, 29),
        [charge("SEAT", 2, "USD")],
        number="CN-0900",
        currency="USD",
    )
    credit_note = store.add(note, now)
    store.authorise(credit_note, now)
    store.allocate(credit_note, debit["InvoiceID"], note["Total"], now)
    return {
        "approved": approved,
        "voided": voided,
        "moved from 2026-05 to 2026-06": moved,
        "line that was given an item": mended,
        "credit note": credit_note,
    }
