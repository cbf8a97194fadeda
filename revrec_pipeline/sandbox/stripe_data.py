"""What the company billed: subscriptions over 18 months, and one invoice for each special case.

Only data: how an invoice is put together is in `stripe_objects`, what happens to it in
`stripe_store`. Instants are UTC; the company's own clocks are in New York.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal

from revrec_pipeline.sandbox import company
from revrec_pipeline.sandbox.stripe_objects import (
    Discount,
    Line,
    Tax,
    line_id,
    minor,
    object_id,
)
from revrec_pipeline.sandbox.stripe_store import Store

_HOUR = 3600
_VAT_INCLUDED = Tax(Decimal(20), inclusive=True)
_VAT_ADDED = Tax(Decimal(19), inclusive=False)
_SALES_TAX = Tax(Decimal("8.875"), inclusive=False)


def at(year: int, month: int, day: int, hour: int = 15, minute: int = 0) -> int:
    """An instant (UTC) in epoch seconds."""
    return int(datetime(year, month, day, hour, minute, tzinfo=UTC).timestamp())


@dataclass(frozen=True, slots=True)
class Subscription:
    """A customer's recurring products; invoices follow from it."""

    customer: str
    start: tuple[int, int, int]
    months: int  # between two invoices
    items: tuple[tuple[str, int], ...]  # product code, quantity
    hour: int = 15
    tax: Tax | None = None
    order_number: str | None = None  # the contract's number, kept in metadata

    @property
    def id(self) -> str:
        """The subscription's id."""
        return object_id("sub", self.customer)


SUBSCRIPTIONS: tuple[Subscription, ...] = (
    Subscription("northwind", (2025, 1, 3), 1, (("PLAT-PRO", 1), ("SEAT", 25)), tax=_SALES_TAX),
    Subscription("bluepeak", (2025, 1, 9), 1, (("PLAT-STD", 1), ("SEAT", 8))),
    Subscription("cedarhealth", (2025, 2, 14), 1, (("PLAT-ENT", 1), ("SUP-GOLD", 1))),
    # Billed at 02:30 UTC, which is the evening of the day, and sometimes the month, before.
    Subscription("harborfoods", (2025, 2, 1), 1, (("PLAT-PRO", 1),), hour=2),
    Subscription("lumen", (2025, 1, 20), 1, (("PLAT-STD", 1), ("SEAT", 3))),
    Subscription(
        "ironbridge", (2025, 1, 6), 3, (("PLAT-ENT", 1), ("SEAT", 120)), order_number="SO-10017"
    ),
    Subscription("quarry", (2025, 3, 17), 1, (("PLAT-ENT", 1), ("SUP-PLAT", 1))),
    Subscription("sablegames", (2025, 1, 27), 1, (("PLAT-STD", 2), ("API-USAGE", 48211))),
    Subscription("tallgrass", (2025, 4, 2), 3, (("PLAT-PRO", 2), ("SEAT", 40))),
    Subscription("vireo", (2025, 5, 12), 1, (("PLAT-STD", 1), ("SEAT", 5))),
    Subscription("wexford", (2025, 1, 15), 12, (("PLAT-ENT", 3), ("SEAT", 900))),
    Subscription("zephyr", (2025, 2, 10), 3, (("PLAT-ENT", 2), ("SUP-PLAT", 2))),
    Subscription("mueller", (2025, 1, 13), 1, (("PLAT-PRO", 1), ("SEAT", 14)), tax=_VAT_ADDED),
    Subscription("atelier", (2025, 6, 5), 3, (("PLAT-STD", 1), ("SEAT", 4)), tax=_VAT_ADDED),
    Subscription("fiordi", (2025, 3, 4), 3, (("PLAT-PRO", 1),)),
    Subscription("tulip", (2025, 1, 22), 12, (("PLAT-ENT", 1), ("SUP-GOLD", 1))),
    Subscription("camden", (2025, 1, 8), 1, (("PLAT-PRO", 1), ("SEAT", 11)), tax=_VAT_INCLUDED),
    Subscription("thistle", (2025, 4, 24), 3, (("PLAT-ENT", 1), ("SEAT", 60)), tax=_VAT_INCLUDED),
    Subscription("oxbow", (2025, 2, 19), 3, (("PLAT-STD", 2),)),
    Subscription("sakura", (2025, 1, 10), 1, (("PLAT-PRO", 1), ("SEAT", 30))),
    Subscription("minato", (2025, 7, 1), 3, (("PLAT-STD", 1), ("SEAT", 7))),
    Subscription("dasman", (2025, 3, 25), 3, (("PLAT-PRO", 1), ("SEAT", 17))),
    Subscription("geysir", (2025, 2, 26), 3, (("PLAT-STD", 1), ("SEAT", 6))),
    Subscription("pinecrest", (2025, 9, 2), 3, (("PLAT-STD", 1), ("SEAT", 20))),
)


def build() -> Store:
    """The account as the sandbox starts."""
    store = Store()
    for subscription in SUBSCRIPTIONS:
        _bill(store, subscription)
    for special in (
        _long_invoice,
        _stacked_discounts,
        _proration,
        _negative_total,
        _nothing_to_pay,
        _voids,
        _uncollectible,
        _drafts,
        _finalized_a_month_later,
        _item_without_product,
        _credit_notes,
    ):
        special(store)
    return store


def unit_price(code: str, currency: str) -> Decimal:
    """A list price in Stripe's minor units; usage has fractions of them."""
    major = company.list_price(code, currency)
    exact = major.scaleb(2 if currency not in {"JPY", "KWD"} else 0 if currency == "JPY" else 3)
    return exact if code == "API-USAGE" else Decimal(minor(major, currency.lower()))


def charge(
    code: str,
    quantity: int,
    currency: str,
    start: int,
    end: int,
    *,
    months: int = 1,
    subscription: str | None = None,
    tax: Tax | None = None,
    discounts: tuple[Discount, ...] = (),
) -> Line:
    """A line over a quantity of a product at list price, for a number of months."""
    unit = unit_price(code, currency) * months
    name = company.product(code).name
    return Line(
        amount=int((unit * quantity).quantize(Decimal(1), ROUND_HALF_UP)),
        description=f"{quantity} \u00d7 {name}" if subscription else name,
        start=start,
        end=end,
        product=code,
        quantity=Decimal(quantity),
        unit_amount=unit,
        subscription=subscription,
        discounts=discounts,
        tax=tax,
    )


def billing_dates(subscription: Subscription) -> Iterator[tuple[int, int]]:
    """Start and end of each billing period that began in the company's months."""
    year, month, day = subscription.start
    last = int(company.LAST_MONTH[:4]) * 12 + int(company.LAST_MONTH[5:]) - 1
    for number in range(year * 12 + month - 1, last + 1, subscription.months):
        bounds = [divmod(n, 12) for n in (number, number + subscription.months)]
        start, end = (at(y, m + 1, day, subscription.hour, 30) for y, m in bounds)
        yield start, end


def subscription_invoice(customer: str, number: int) -> str:
    """The id of a subscription's invoice, counted from 1."""
    return object_id("in", f"{customer}-{number}")


def _bill(store: Store, subscription: Subscription) -> None:
    customer = company.customer(subscription.customer)
    number = subscription.order_number
    for n, (start, end) in enumerate(billing_dates(subscription), 1):
        invoice = store.draft(
            f"{subscription.customer}-{n}",
            customer,
            start,
            [
                charge(
                    code,
                    quantity,
                    customer.currency,
                    start,
                    end,
                    months=subscription.months,
                    subscription=subscription.id,
                    tax=subscription.tax,
                )
                for code, quantity in subscription.items
            ],
            subscription=subscription.id,
            subscription_metadata={"order_number": number} if number else {},
            billing_reason="subscription_create" if n == 1 else "subscription_cycle",
        )
        store.finalize(invoice, start + _HOUR)
        if (subscription.customer, n) not in _UNPAID:
            store.pay(invoice, start + 2 * _HOUR)


#: Invoices that a special case below goes on with, or that are still open.
_UNPAID = {
    ("quarry", 7),
    ("sablegames", 14),
    ("lumen", 5),
    ("wexford", 2),
    ("northwind", 18),
    ("mueller", 18),
}


def _issue(store: Store, invoice: str, when: int, *, paid: bool = True) -> str:
    store.finalize(invoice, when + _HOUR)
    if paid and store.invoice(invoice)["status"] == "open":
        store.pay(invoice, when + 2 * _HOUR)
    return invoice


def _long_invoice(store: Store) -> None:
    """23 lines: thirteen of them only come from the invoice's own list of lines."""
    when = at(2026, 1, 19)
    year = at(2027, 1, 19)
    lines = [charge("SEAT", 2 + site, "USD", when, year) for site in range(22)]
    lines.append(charge("ONBOARD", 1, "USD", when, when))
    _issue(store, store.draft("zephyr-sites", company.customer("zephyr"), when, lines), when)


def _stacked_discounts(store: Store) -> None:
    """A coupon on the line, then two percentages off the invoice, one after the other."""
    when = at(2025, 10, 6)
    discounts = (
        Discount("harborfoods-line", 30000, on_line=True),
        Discount("harborfoods-10", 42000),
        Discount("harborfoods-5", 18900),
    )
    lines = [
        charge("ONBOARD", 1, "USD", when, when, discounts=discounts),
        charge("TRAINING", 2, "USD", when, at(2025, 10, 8), discounts=(Discount("x10", 36000),)),
    ]
    invoice = store.draft("harborfoods-setup", company.customer("harborfoods"), when, lines)
    _issue(store, invoice, when)


def _proration(store: Store) -> None:
    """An upgrade in the middle of a month: what was not used back, the rest of the new plan."""
    when, end = at(2025, 8, 20), at(2025, 9, 9, 15, 30)
    subscription = object_id("sub", "bluepeak")
    before = subscription_invoice("bluepeak", 8)
    lines = [
        _prorated("Unused time on Platform Standard", -16129, "PLAT-STD", when, end, before),
        _prorated("Remaining time on Platform Professional", 58000, "PLAT-PRO", when, end, before),
    ]
    invoice = store.draft(
        "bluepeak-upgrade",
        company.customer("bluepeak"),
        when,
        lines,
        subscription=subscription,
        billing_reason="subscription_update",
    )
    _issue(store, invoice, when)


def _prorated(text: str, amount: int, code: str, start: int, end: int, credits: str) -> Line:
    return Line(
        amount=amount,
        description=f"{text} after {datetime.fromtimestamp(start, UTC):%d %b %Y}",
        start=start,
        end=end,
        product=code,
        subscription=object_id("sub", "bluepeak" if code != "PLAT-ENT" else "cedarhealth"),
        credits=(credits, line_id(credits, 1)) if amount < 0 else None,
        proration=True,
    )


def _negative_total(store: Store) -> None:
    """A downgrade that gives back more than it charges; the next invoice uses the balance up."""
    when, end = at(2025, 11, 20), at(2025, 12, 14, 15, 30)
    before = subscription_invoice("cedarhealth", 10)
    lines = [
        _prorated("Unused time on Platform Enterprise", -192000, "PLAT-ENT", when, end, before),
        charge("PLAT-STD", 1, "USD", when, end),
    ]
    customer = company.customer("cedarhealth")
    invoice = store.draft("cedarhealth-downgrade", customer, when, lines)
    _issue(store, invoice, when)
    later = at(2025, 12, 1)
    training = store.draft(
        "cedarhealth-training", customer, later, [charge("TRAINING", 2, "USD", later, later)]
    )
    store.finalize(training, later + _HOUR, balance=store.invoice(invoice)["ending_balance"])
    store.pay(training, later + 2 * _HOUR)


def _nothing_to_pay(store: Store) -> None:
    """A trial at 0, and an invoice without any line."""
    when, end = at(2025, 4, 28), at(2025, 5, 12, 15, 30)
    trial = Line(0, "Trial period for Platform Standard", when, end, "PLAT-STD")
    _issue(store, store.draft("vireo-trial", company.customer("vireo"), when, [trial]), when)
    when = at(2025, 12, 30)
    _issue(store, store.draft("oxbow-empty", company.customer("oxbow"), when, []), when)


def _voids(store: Store) -> None:
    """One voided within its month, one months later when its month was long closed."""
    store.void(subscription_invoice("lumen", 5), at(2025, 5, 22))
    store.void(subscription_invoice("quarry", 7), at(2025, 12, 11))


def _uncollectible(store: Store) -> None:
    store.mark_uncollectible(subscription_invoice("sablegames", 14), at(2026, 5, 4))


def _drafts(store: Store) -> None:
    """Two that nobody has sent yet: the story finalises one; the other may be deleted."""
    for name, when in (("tallgrass", at(2026, 6, 24)), ("fiordi", at(2026, 6, 26))):
        customer = company.customer(name)
        line = charge("TRAINING", 1, customer.currency, when, when)
        store.draft(f"{name}-draft", customer, when, [line])


def _finalized_a_month_later(store: Store) -> None:
    """Created on 30 January, finalised on 3 February: it belongs to February."""
    when = at(2026, 1, 30, 21)
    lines = [charge("00420", 12, "USD", when, when), charge("TRAINING", 3, "USD", when, when)]
    invoice = store.draft("wexford-gateways", company.customer("wexford"), when, lines)
    store.finalize(invoice, at(2026, 2, 3))
    store.pay(invoice, at(2026, 2, 20))


def _item_without_product(store: Store) -> None:
    """Somebody typed an amount: there is no price and so no product. It must be flagged."""
    when = at(2025, 5, 15)
    lines = [
        Line(125000, "Consulting, as agreed", when, when, None),
        charge("TRAINING", 1, "EUR", when, when),
    ]
    _issue(store, store.draft("fiordi-consulting", company.customer("fiordi"), when, lines), when)


def _credit_notes(store: Store) -> None:
    """Before payment, after it, mixed, voided, with a custom line, with twelve lines."""
    one, half = Decimal(1), Decimal("0.5")
    wexford = subscription_invoice("wexford", 2)
    store.credit(
        "wexford-pre", wexford, at(2026, 2, 9), shares={1: half}, pre_payment=one,
        reason="order_change",
    )  # fmt: skip
    store.credit(
        "camden-post", subscription_invoice("camden", 6), at(2025, 7, 2), shares={0: one, 1: half},
        reason="product_unsatisfactory",
    )  # fmt: skip
    mixed = subscription_invoice("northwind", 18)
    store.credit(
        "northwind-mixed", mixed, at(2026, 6, 18), shares={0: one}, pre_payment=half,
        reason="order_change",
    )  # fmt: skip
    wrong = store.credit(
        "sakura-void", subscription_invoice("sakura", 4), at(2025, 4, 21), shares={1: one},
        reason="duplicate",
    )  # fmt: skip
    store.void_credit_note(wrong, at(2025, 4, 23))
    store.credit(
        "mueller-custom", subscription_invoice("mueller", 9), at(2025, 9, 29), shares={},
        custom={"Goodwill for the outage in September": 15000},
    )  # fmt: skip
    store.credit(
        "zephyr-sites", object_id("in", "zephyr-sites"), at(2026, 3, 6),
        shares=dict.fromkeys(range(8, 20), one), effective_at=at(2026, 2, 28),
        reason="order_change",
    )  # fmt: skip


def tell_story(store: Store, now: int) -> dict[str, str]:
    """What happens between the demo's two syncs, dated back into the company's last month."""
    customer = company.customer("ironbridge")
    new = store.draft(
        "ironbridge-onboarding", customer, now,
        [charge("ONBOARD", 1, "USD", at(2026, 6, 26), at(2026, 6, 26))],
    )  # fmt: skip
    store.finalize(new, now, effective_at=at(2026, 6, 26))
    draft = object_id("in", "tallgrass-draft")
    store.finalize(draft, now, effective_at=at(2026, 6, 29))
    voided = subscription_invoice("mueller", 18)
    store.void(voided, now)
    credit_note = store.credit(
        "ironbridge-seats", subscription_invoice("ironbridge", 6), now, shares={1: Decimal("0.1")},
        effective_at=at(2026, 6, 29), reason="order_change",
    )  # fmt: skip
    return {"new": new, "finalized": draft, "voided": voided, "credit_note": credit_note}
