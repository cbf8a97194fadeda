"""What the company billed by Chargebee: subscriptions, and one document for each special case.

Only data: what objects look like is in `chargebee_objects`, what happens to them in
`chargebee_store`. Clocks are the company's, in New York.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Literal
from zoneinfo import ZoneInfo

from revrec_pipeline.periods import first_day, next_period
from revrec_pipeline.sandbox import company
from revrec_pipeline.sandbox.chargebee_objects import (
    Line,
    Object,
    Tax,
    item_price_id,
    minor,
    object_id,
    unit_price,
)
from revrec_pipeline.sandbox.chargebee_store import Store
from revrec_pipeline.sandbox.salesforce_org import record_id

_ZONE = ZoneInfo(company.TIMEZONE)
_VAT_INCLUDED = Tax(Decimal(20), ("VAT",), inclusive=True)
_VAT_ADDED = Tax(Decimal(19), ("MwSt",))
_SALES_TAX = Tax(Decimal("8.875"), ("NY State", "NY City"))
#: Who is billed by the entity in London.
UK_ENTITY = "be_london"


def at(year: int, month: int, day: int, hour: int = 10, minute: int = 0, second: int = 0) -> int:
    """An instant on New York's clocks, in epoch seconds."""
    return int(datetime(year, month, day, hour, minute, second, tzinfo=_ZONE).timestamp())


@dataclass(frozen=True, slots=True)
class Subscription:
    """A customer's recurring products; invoices follow from it."""

    customer: str
    start: tuple[int, int, int, int, int]  # year, month, day, hour, minute
    months: int  # between two invoices
    items: tuple[tuple[str, int], ...]  # product code, quantity
    #: How periods end: at the time of day of their start, one second before, or as the day ends.
    ends: Literal["same", "before", "calendar"] = "same"
    tax: Tax | None = None
    #: Months of a contract term; None: it goes on until somebody ends it.
    term: int | None = None
    entity: str | None = None

    @property
    def id(self) -> str:
        """The subscription's id."""
        return object_id("16", "subscription", self.customer)


SUBSCRIPTIONS: tuple[Subscription, ...] = (
    Subscription("northwind", (2023, 7, 3, 9, 47), 1, (("PLAT-PRO", 1), ("SEAT", 25)),
                 tax=_SALES_TAX),
    Subscription("wexford", (2023, 9, 15, 11, 0), 12, (("PLAT-ENT", 3), ("SEAT", 900))),
    Subscription("tulip", (2023, 8, 22, 10, 0), 12, (("PLAT-ENT", 1), ("SUP-GOLD", 1)), term=12),
    Subscription("ironbridge", (2024, 1, 6, 10, 0), 3, (("PLAT-ENT", 1), ("SEAT", 120)), term=12),
    Subscription("bluepeak", (2024, 2, 1, 0, 0), 1, (("PLAT-STD", 1), ("SEAT", 8)), "calendar"),
    Subscription("thistle", (2024, 4, 24, 1, 28), 3, (("PLAT-ENT", 1), ("SEAT", 60)), "before",
                 _VAT_INCLUDED, entity=UK_ENTITY),
    Subscription("camden", (2025, 1, 8, 9, 0), 1, (("PLAT-PRO", 1), ("SEAT", 11)), "before",
                 _VAT_INCLUDED, entity=UK_ENTITY),
    Subscription("mueller", (2025, 1, 13, 4, 0), 3, (("PLAT-PRO", 1), ("SEAT", 14)),
                 tax=_VAT_ADDED),
    Subscription("sakura", (2025, 2, 10, 20, 0), 3, (("PLAT-PRO", 1), ("SEAT", 30))),
    # Billed at 22:30 on the last day of a month, which is the month after in UTC.
    Subscription("harborfoods", (2025, 1, 31, 22, 30), 3, (("PLAT-PRO", 1),)),
    Subscription("dasman", (2025, 3, 25, 3, 0), 3, (("PLAT-PRO", 1), ("SEAT", 17))),
    Subscription("pinecrest", (2025, 9, 2, 10, 0), 3, (("PLAT-STD", 1), ("SEAT", 20))),
)  # fmt: skip
#: Two subscriptions of one customer on one invoice each quarter.
_SITES = ("zephyr-east", "zephyr-west")


def build() -> Store:
    """The site as the sandbox starts."""
    store = Store()
    for subscription in SUBSCRIPTIONS:
        _bill(store, subscription)
    for special in (
        _consolidated,
        _usage,
        _imported,
        _discounts,
        _tax_of_several_kinds,
        _huge,
        _proration,
        _nothing_to_pay,
        _states,
        _incomplete,
        _credit_notes,
    ):
        special(store)
    store.number_by_creation()
    return store


def charge(
    code: str,
    quantity: int,
    currency: str,
    since: int,
    until: int,
    *,
    months: int = 1,
    subscription: str | None = None,
    tax: Tax | None = None,
    item_discount: int = 0,
    document_discount: int = 0,
    credits: int = 0,
) -> Line:
    """A line over a quantity of a product at list price, for a number of months."""
    unit = minor(unit_price(code, currency, months), currency)
    return Line(
        unit * quantity,
        since,
        until,
        company.product(code).name,
        item_price_id(code, currency, months),
        quantity,
        unit,
        subscription,
        item_discount=item_discount,
        document_discount=document_discount,
        credits=credits,
        tax=tax,
    )


def subscription_invoice(customer: str, number: int) -> str:
    """The id of a subscription's invoice, counted from 1."""
    return f"{customer.upper()}-{number:03d}"


def order_of(customer: str) -> str:
    """The first opportunity of a customer in the sandbox's Salesforce.

    Opportunity number n, from 0, is with customer 5 n modulo 24, and 5 times 5 is 1 modulo 24.
    """
    index = [one.key for one in company.CUSTOMERS].index(customer)
    return record_id("006", 5 * index % len(company.CUSTOMERS) + 1)


def _begins(subscription: Subscription, number: int) -> datetime:
    """When period number `number`, from 0, begins: on the same day, or the month's last."""
    year, month, day, hour, minute = subscription.start
    years, months = divmod(month - 1 + number * subscription.months, 12)
    period = f"{year + years}-{months + 1:02d}"
    last = (first_day(next_period(period)) - timedelta(days=1)).day
    return datetime(year + years, months + 1, min(day, last), hour, minute, tzinfo=_ZONE)


def billing_dates(subscription: Subscription) -> Iterator[tuple[int, int]]:
    """Start and end of each billing period that began in the company's months."""
    number = 0
    while f"{_begins(subscription, number):%Y-%m}" <= company.LAST_MONTH:
        since = int(_begins(subscription, number).timestamp())
        until = int(_begins(subscription, number + 1).timestamp())
        yield since, until if subscription.ends == "same" else until - 1
        number += 1


#: Invoices of subscriptions that are not paid, with their state.
_UNPAID = {
    ("northwind", 36): "payment_due",
    ("bluepeak", 29): "not_paid",
    ("mueller", 6): "posted",
    ("ironbridge", 10): "payment_due",
    ("camden", 5): "voided",
}


def _bill(store: Store, subscription: Subscription) -> None:
    customer = company.customer(subscription.customer)
    order = order_of(customer.key)
    fields: Object = {}
    if customer.key in _ORDER_ON_INVOICE:
        fields["cf_order_number"] = order
    if subscription.entity:
        fields["business_entity_id"] = subscription.entity
    dates = list(billing_dates(subscription))
    for number, (since, until) in enumerate(dates, 1):
        lines = [
            charge(
                code,
                quantity,
                customer.currency,
                since,
                until,
                months=subscription.months,
                subscription=subscription.id,
                tax=subscription.tax,
            )
            for code, quantity in subscription.items
        ]
        status = _UNPAID.get((customer.key, number), "paid")
        own = dict(fields)
        if status == "voided":
            own |= {"voided_at": since + 86400, "void_reason_code": "Other"}
        if customer.key == "harborfoods":  # typed by hand, and later than the last update
            own["paid_at"] = since + 3 * 86400
        if customer.key == "northwind":  # the customer's own number, not that of our order
            own["po_number"] = f"{number:07d}"
        store.invoice(
            subscription_invoice(customer.key, number),
            customer.key,
            since,
            lines,
            subscription=subscription.id,
            status=status,
            **own,
        )
    terms = _contract_terms(subscription, dates) if subscription.term else []
    store.contract_terms[subscription.id] = terms
    named = {"cf_order_number": order} if customer.key in _ORDER_ON_SUBSCRIPTION else {}
    _add_subscription(store, subscription.id, customer, dates, subscription, terms, named)


#: Where the number of the order in the CRM is kept: about half of the documents have one.
_ORDER_ON_INVOICE = {"northwind", "wexford", "camden", "sakura"}
_ORDER_ON_SUBSCRIPTION = {"ironbridge", "tulip", "dasman"}


def _add_subscription(
    store: Store,
    identifier: str,
    customer: company.Customer,
    dates: list[tuple[int, int]],
    subscription: Subscription,
    terms: list[Object],
    fields: Object,
) -> None:
    began = dates[0][0]
    items = [
        {
            "item_price_id": item_price_id(code, customer.currency, subscription.months),
            "item_type": "plan" if code.startswith("PLAT") else "addon",
            "quantity": quantity,
            "object": "subscription_item",
        }
        for code, quantity in subscription.items
    ]
    store.lists["subscriptions"][identifier] = {
        "id": identifier,
        "billing_period": subscription.months,
        "billing_period_unit": "month",
        "auto_collection": "off",
        "customer_id": customer.key,
        "status": "active",
        "current_term_start": dates[-1][0],
        "current_term_end": dates[-1][1],
        "created_at": began,
        "started_at": began,
        "activated_at": began,
        "updated_at": dates[-1][0],
        "has_scheduled_changes": False,
        "resource_version": dates[-1][0] * 1000,
        "deleted": False,
        "object": "subscription",
        "currency_code": customer.currency,
        "subscription_items": items,
        "due_invoices_count": 0,
        "channel": "web",
        **({"contract_term": terms[-1]} if terms else {}),
        **fields,
    }


def _contract_terms(subscription: Subscription, dates: list[tuple[int, int]]) -> list[Object]:
    """The terms of a subscription, oldest first; each begins with an invoice."""
    cycles = (subscription.term or 0) // subscription.months
    terms = []
    for number in range(0, len(dates), cycles):
        ends = _begins(subscription, number + cycles)
        ended = number + cycles < len(dates)
        terms.append(
            {
                "id": object_id("16", "term", subscription.customer, number),
                "status": "completed" if ended else "active",
                "contract_start": dates[number][0],
                "contract_end": int(ends.timestamp()) - 1,
                "billing_cycle": cycles,
                "action_at_term_end": "renew",
                "cancellation_cutoff_period": 0,
                "created_at": dates[number][0],
                "subscription_id": subscription.id,
                "remaining_billing_cycles": 0 if ended else number + cycles - len(dates),
                "object": "contract_term",
            }
        )
    return terms


def _consolidated(store: Store) -> None:
    """One invoice a quarter for two sites: it names the subscriptions on its lines only."""
    zephyr = company.customer("zephyr")
    sites = {
        site: Subscription(site, (2024, 3, 11, 10, 0), 3, (("PLAT-STD", 1), ("SEAT", 14)))
        for site in _SITES
    }
    dates = list(billing_dates(sites[_SITES[0]]))
    for number, (since, until) in enumerate(dates, 1):
        lines = [
            charge(code, count, "USD", since, until, months=3, subscription=site.id)
            for site in sites.values()
            for code, count in site.items
        ]
        store.invoice(subscription_invoice("zephyr", number), "zephyr", since, lines)
    for site in sites.values():
        _add_subscription(store, site.id, zephyr, dates, site, [], {})


def _usage(store: Store) -> None:
    """Metered calls for fractions of a cent: the whole-number fields are rounded."""
    for number, (month, calls) in enumerate(
        (((2025, 4), "48211.5"), ((2025, 9), "1000000"), ((2026, 2), "3.25")), 1
    ):
        price = unit_price("API-USAGE", "USD", 1)
        amount = Decimal(calls) * price
        since = at(*month, 27)
        until = since + 30 * 86400
        line = Line(
            int(amount.scaleb(2).quantize(Decimal(1), ROUND_HALF_UP)),
            since,
            until,
            "API Calls",
            item_price_id("API-USAGE", "USD", 1),
            int(Decimal(calls)),
            1,
            decimals={
                "unit_amount_in_decimal": f"{price:f}",
                "quantity_in_decimal": calls,
                "amount_in_decimal": f"{amount.normalize():f}",
            },
        )
        store.invoice(subscription_invoice("sablegames", number), "sablegames", since, [line])


def _imported(store: Store) -> None:
    """Brought over from the system before: nothing ever stamped it (PostHog #76090)."""
    when = at(2023, 7, 20)
    invoice = store.invoice(
        "IMPORTED-001", "quarry", when, [charge("TRAINING", 2, "USD", when, when)]
    )
    for name in ("updated_at", "resource_version"):
        del store.lists["invoices"][invoice][name]


def _discounts(store: Store) -> None:
    """A coupon on a line, one on the document, and promotional credits applied before tax."""
    when = at(2025, 10, 6)
    lines = [
        charge("ONBOARD", 1, "USD", when, when, item_discount=30000, document_discount=42000),
        charge("TRAINING", 2, "USD", when, at(2025, 10, 8, 17), document_discount=36000),
    ]
    store.invoice("CEDARHEALTH-001", "cedarhealth", when, lines)
    when = at(2025, 11, 18)
    lines = [
        charge("PLAT-STD", 1, "USD", when, at(2025, 12, 18), credits=5000, tax=_SALES_TAX),
        charge("SEAT", 3, "USD", when, at(2025, 12, 18), document_discount=1170, tax=_SALES_TAX),
    ]
    store.invoice("LUMEN-001", "lumen", when, lines)


def _tax_of_several_kinds(store: Store) -> None:
    """Gateways in Paris: VAT on one line, none on the other, and the total rounded to a coin."""
    when = at(2025, 6, 5)
    lines = [
        charge("00420", 3, "EUR", when, when, tax=Tax(Decimal("5.5"), ("TVA",))),
        charge("TRAINING", 1, "EUR", when, when),
    ]
    store.invoice("ATELIER-001", "atelier", when, lines, round_off=-2)
    when = at(2025, 12, 3)
    lines = [charge("00420", 7, "GBP", when, when, tax=_VAT_INCLUDED)]
    store.invoice("OXBOW-001", "oxbow", when, lines, round_off=3, business_entity_id=UK_ENTITY)


def _huge(store: Store) -> None:
    """41 lines: lists show none of them."""
    when, until = at(2026, 1, 19), at(2027, 1, 19)
    lines = [
        charge("SEAT", 2 + site, "USD", when, until, months=12, item_discount=100 * (site % 2))
        for site in range(40)
    ]
    lines.append(charge("ONBOARD", 1, "USD", when, when, tax=_SALES_TAX))
    store.invoice("QUARRY-001", "quarry", when, lines)


def _proration(store: Store) -> None:
    """An upgrade in the middle of a month: what was not used back, the rest of the new plan."""
    when, until = at(2025, 8, 20, 14, 20), at(2025, 8, 31, 23, 59, 59)
    subscription = next(one.id for one in SUBSCRIPTIONS if one.customer == "bluepeak")
    lines = [
        Line(-9274, when, until, "Prorated credit for Platform Standard",
             "PLAT-STD-USD-Monthly", 1, -9274, subscription, proration_mode="Prorated"),
        Line(33350, when, until, "Prorated charge for Platform Professional",
             "PLAT-PRO-USD-Monthly", 1, 33350, subscription, proration_mode="Prorated"),
    ]  # fmt: skip
    store.invoice("BLUEPEAK-UP1", "bluepeak", when, lines, subscription=subscription)


def _nothing_to_pay(store: Store) -> None:
    """A trial for nothing, and an invoice without any line."""
    when = at(2025, 4, 28)
    trial = Line(0, when, at(2025, 5, 12), "Trial", "PLAT-STD-USD-Monthly", 1, 0)
    store.invoice("VIREO-001", "vireo", when, [trial])
    store.invoice("VIREO-002", "vireo", at(2025, 12, 30), [])


def _states(store: Store) -> None:
    """One deleted with its amounts still there, and two pending: the story closes one of them."""
    when = at(2025, 7, 16)
    lines = [charge("TRAINING", 1, "EUR", when, when)]
    deleted = store.invoice("FIORDI-001", "fiordi", when, lines, status="payment_due")
    store.delete("invoice", deleted, when + 7200)
    for key, date in (("tallgrass", at(2026, 5, 29)), ("fiordi", at(2026, 6, 26))):
        currency = company.customer(key).currency
        lines = [charge("TRAINING", 1, currency, date, date)]
        store.invoice(f"{key.upper()}-P01", key, date, lines, status="pending")


def _incomplete(store: Store) -> None:
    """Somebody typed an amount, an id and a date: these must be flagged."""
    when = at(2025, 5, 15)
    lines = [
        Line(125000, when, when, "Consulting, as agreed"),
        charge("TRAINING", 1, "EUR", when, when),
    ]
    store.invoice("FIORDI-002", "fiordi", when, lines)
    when = at(2026, 3, 12)
    lines = [charge("00420", 2, "JPY", when, when)]
    store.invoice("2026/0312", "minato", when, lines)
    when = at(2026, 4, 9)
    lines = [Line(750000, when, when, "Data Migration", "Data Migration USD")]
    store.invoice("LUMEN-002", "lumen", when, lines)
    when = at(2024, 11, 14)
    store.invoice("GEYSIR-001", "geysir", when, [charge("00420", 4, "ISK", when, when)])
    del store.lists["invoices"]["GEYSIR-001"]["currency_code"]


def _credit_notes(store: Store) -> None:
    """Before payment, after it, waiting, voided, of old store credits, with own period, rounded."""
    one, half, tenth = Decimal(1), Decimal("0.5"), Decimal("0.1")
    store.credit(
        "CN-001", subscription_invoice("wexford", 3), at(2025, 10, 9), shares={1: tenth},
        kind="adjustment", status="adjusted",
    )  # fmt: skip
    store.credit(
        "CN-002", subscription_invoice("camden", 6), at(2025, 7, 2), shares={0: one, 1: half},
        business_entity_id=UK_ENTITY,
    )  # fmt: skip
    store.credit(
        "CN-003", subscription_invoice("northwind", 34), at(2026, 5, 5), shares={1: half},
        status="refund_due",
    )  # fmt: skip
    store.credit(
        "CN-004", subscription_invoice("sakura", 1), at(2025, 4, 21), shares={1: one},
        status="voided",
    )  # fmt: skip
    store.credit(
        "CN-005", subscription_invoice("dasman", 2), at(2025, 8, 4), shares={0: tenth}, kind="store"
    )
    store.credit(
        "CN-006", subscription_invoice("tulip", 2), at(2024, 12, 2), shares={0: half},
        period=(at(2024, 12, 2), at(2025, 8, 22)),
    )  # fmt: skip
    store.credit(
        "CN-007", subscription_invoice("northwind", 12), at(2024, 6, 28),
        shares={0: Decimal(1) / 3, 1: Decimal(1) / 3}, correction=2,
    )  # fmt: skip
    when = at(2026, 2, 11)
    store.credit(
        "CN-008", "QUARRY-001", when, shares=dict.fromkeys(range(5, 38), half),
        extra=[Line(25000, when, when, "Goodwill for the outage", "ONBOARD-USD")],
    )  # fmt: skip


def tell_story(store: Store, now: int) -> dict[str, str]:
    """What happens between the demo's two syncs, dated back into the company's last month."""
    date = at(2026, 6, 26)
    new = store.invoice(
        "IRONBRIDGE-S01", "ironbridge", date, [charge("ONBOARD", 1, "USD", date, date)],
        status="payment_due", cf_order_number=order_of("ironbridge"),
    )  # fmt: skip
    store.touch(store.find("invoice", new), now)
    store.close("TALLGRASS-P01", now, date=at(2026, 6, 3))
    voided = subscription_invoice("northwind", 36)
    store.void("invoice", voided, now)
    deleted = "FIORDI-P01"
    store.delete("invoice", deleted, now)
    credit_note = store.credit(
        "CN-009", subscription_invoice("ironbridge", 10), at(2026, 6, 29), kind="adjustment",
        status="adjusted", shares={1: Decimal("0.1")},
    )  # fmt: skip
    store.touch(store.find("credit_note", credit_note), now)
    store.touch(store.find("invoice", subscription_invoice("ironbridge", 10)), now)
    return {
        "new": new,
        "pending, now closed and moved from 2026-05 to 2026-06": "TALLGRASS-P01",
        "voided": voided,
        "deleted": deleted,
        "credit_note": credit_note,
    }
