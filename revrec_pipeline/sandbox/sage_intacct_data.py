"""What the company booked in Intacct: its ordinary business, and one document for each trap.

Only data: what happens to documents is in `sage_intacct_books`. Whatever is older than 2025 was
brought over from another system in one night, so that it all has one stamp.
"""

from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from revrec_pipeline.currency import exponent
from revrec_pipeline.periods import first_day, next_period, period_range
from revrec_pipeline.sandbox import company
from revrec_pipeline.sandbox.sage_intacct_books import Books, Line, Value, customer_id
from revrec_pipeline.sandbox.salesforce_org import record_id

#: The night of the migration.
IMPORTED = datetime(2025, 1, 2, 8, 0, tzinfo=UTC)
#: Documents a month before and since 2025.
_FEW, _MANY = 3, 5
_BUNDLES = (
    (("PLAT-STD", 1), ("SEAT", 25)),
    (("PLAT-PRO", 1), ("SEAT", 60), ("SUP-GOLD", 1)),
    (("PLAT-ENT", 1), ("SUP-PLAT", 1)),
    (("PLAT-PRO", 2), ("ONBOARD", 1)),
    (("SEAT", 15),),
    (("PLAT-STD", 1), ("00420", 4)),
)
#: Opportunities a month in the CRM, of which the third and seventh of eight are lost.
_CRM_PER_MONTH, _LOST = 8, (2, 6)
_VAT = ("UK VAT 20%", Decimal("0.20"))


def build() -> Books:
    """The company as the sandbox starts."""
    books = Books()
    _masters(books)
    number = 0
    for period in period_range(company.FOUNDED, company.LAST_MONTH):
        for _ in range(_FEW if period < company.FIRST_MONTH else _MANY):
            number += 1
            _ordinary(books, period, number)
    for special in (
        _discounts,
        _freight,
        _reversed,
        _adjustments,
        _drafts,
        _nothing_to_pay,
        _returned,
        _incomplete,
        _yen,
        _orders_without_invoice,
    ):
        special(books)
    books.changes = 0
    return books


def story(books: Books, now: datetime) -> dict[str, Any]:
    """What happens at the company between the demo's two syncs."""
    rewritten = books.numbered("ARINVOICE", "SI0137")
    anew = books.rewrite(rewritten, Decimal("0.9"), now)
    reversed_ = books.numbered("ARINVOICE", "SI0134")
    reversal = books.reverse(reversed_, date(2026, 6, 29), now)
    draft = books.numbered("ARINVOICE", "IN9001")
    books.edit("ARINVOICE", draft, {"STATE": "Posted"}, now)
    coded = books.numbered("ARINVOICE", "IN9401")
    (line,) = [row for row in books.lines("ARINVOICE", coded) if row["ITEMID"] is None]
    books.edit("ARINVOICEITEM", int(str(line["RECORDNO"])), {"ITEMID": "TRAINING"}, now)
    moved = books.numbered("ARINVOICE", "IN9402")
    books.edit("ARINVOICE", moved, {"WHENCREATED": date(2026, 6, 2)}, now)
    credit = books.receivable(
        "ARADJUSTMENT",
        "CM9109",
        company.customer("quarry"),
        date(2026, 6, 30),
        [Line("SUP-PLAT", Decimal("-780.00"), date(2026, 6, 1), date(2026, 6, 30))],
        now,
        edited=now,
        DOCNUMBER="SI0139",
    )
    return {
        "order entry invoice that was edited": anew,
        "its RECORDNO before": rewritten,
        "reversed": reversed_,
        "its reversal": reversal,
        "draft that was posted": draft,
        "line that was given an item": line["RECORDNO"],
        "moved from 2026-05 to 2026-06": moved,
        "new credit": credit,
    }


# -- masters -------------------------------------------------------------------------------------


def _masters(books: Books) -> None:
    for number, customer in enumerate(company.CUSTOMERS, start=1):
        books.tables["CUSTOMER"][number] = {
            "RECORDNO": number,
            "CUSTOMERID": customer_id(customer),
            "NAME": customer.billing_name,
            "CRM_ACCOUNT": record_id("001", number),
        }
    for number, product in enumerate(company.PRODUCTS, start=1):
        books.tables["ITEM"][number] = {
            "RECORDNO": number,
            "ITEMID": product.code,
            "NAME": product.name,
            "PRODUCTLINEID": product.family,
            "PRODUCT_TYPE": product.kind,
            "TERM_MONTHS": product.term_months,
        }
    for number, (name, kind) in enumerate(
        (("Sales Order", "Order"), ("Sales Invoice", "Invoice"), ("Sales Return", "Return")),
        start=1,
    ):
        books.tables["SODOCUMENTPARAMS"][number] = {
            "RECORDNO": number,
            "DOCID": name,
            "DOCCLASS": kind,
        }


# -- ordinary business ---------------------------------------------------------------------------


def _at(day: date, hour: int = 17) -> datetime:
    return datetime.combine(day, time(hour, 5), UTC)


def _rounded(amount: Decimal, currency: str) -> Decimal:
    """Intacct keeps two decimals at most, also of a dinar."""
    return amount.quantize(Decimal(1).scaleb(-min(exponent(currency), 2)), ROUND_HALF_UP)


def _service(code: str, count: int, currency: str, start: date, months: int) -> Line:
    """A line over so many months, or delivered at once."""
    product = company.product(code)
    once = product.term_months is None
    amount = company.list_price(code, currency) * count * (1 if once else months)
    end = start
    if not once:
        end = start
        for _ in range(months):
            end = _same_day_next_month(end)
        end -= timedelta(days=1)
    return Line(code, _rounded(amount, currency), start, end, Decimal(count))


def _same_day_next_month(day: date) -> date:
    following = next_period(day.strftime("%Y-%m"))
    last = (first_day(next_period(following)) - timedelta(days=1)).day
    return first_day(following).replace(day=min(day.day, last))


def _taxed(line: Line) -> Line:
    name, rate = _VAT
    tax = line.amount * rate
    return Line(
        line.item,
        line.amount,
        line.start,
        line.end,
        line.quantity,
        tax=(name, tax.quantize(Decimal("0.01"), ROUND_HALF_UP)),
    )


def crm_order(customer: company.Customer, period: str) -> str | None:
    """The customer's last won opportunity in the CRM by that month; none before the CRM began."""
    year, month = (int(part) for part in period.split("-"))
    months = (year - 2025) * 12 + month
    index = company.CUSTOMERS.index(customer)
    won = [
        number
        for number in range(max(months, 0) * _CRM_PER_MONTH)
        if number * 5 % len(company.CUSTOMERS) == index and number % 8 not in _LOST
    ]
    return record_id("006", won[-1] + 1) if won else None


def _ordinary(books: Books, period: str, number: int) -> None:
    """One invoice; three of four come from order entry, with the order that they began as."""
    customer = company.CUSTOMERS[number * 7 % len(company.CUSTOMERS)]
    month = first_day(period)
    days = (first_day(next_period(period)) - month).days
    day = month + timedelta(days=number * 11 % days)
    months = (1, 12, 3)[number % 3]
    lines = [
        _service(code, count, customer.currency, day, months)
        for code, count in _BUNDLES[number % len(_BUNDLES)]
    ]
    rows = [_taxed(line) for line in lines] if customer.currency == "GBP" else lines
    at = IMPORTED if period < company.FIRST_MONTH else _at(day)
    ordered = number % 4 != 0
    order = crm_order(customer, period) if number % 2 else None
    paid = day < date(2026, 5, 1)
    fields: dict[str, Value] = {"DOCNUMBER": order, "STATE": "Paid" if paid else "Posted"}
    if paid:
        fields |= {"WHENPAID": day + timedelta(days=20), "TOTALDUE": Decimal(0)}
    if ordered:
        fields["MODULEKEY"] = "8.SO"
        _order(books, customer, day - timedelta(days=3), lines, number, at, order)
    books.receivable(
        "ARINVOICE",
        f"{'SI' if ordered else 'IN'}{number:04d}",
        customer,
        day,
        rows,
        at,
        # A document that nobody has edited since may have no stamp of a change.
        edited=None if number % 8 == 0 else at,
        **fields,
    )


def _order(
    books: Books,
    customer: company.Customer,
    day: date,
    lines: list[Line],
    number: int,
    at: datetime,
    opportunity: str | None,
) -> None:
    books.order(
        "Sales Order",
        f"SO{number:04d}",
        customer,
        day,
        lines,
        at,
        STATE="Converted",
        PONUMBER=opportunity,
    )


# -- one document for each trap ------------------------------------------------------------------


def _invoice(
    books: Books, number: str, key: str, day: date, lines: list[Line], **fields: Value
) -> int:
    customer = company.customer(key)
    at = _at(day)
    return books.receivable("ARINVOICE", number, customer, day, lines, at, edited=at, **fields)


def _discounts(books: Books) -> None:
    """10 % off the document as a subtotal row, over lines that it does not divide evenly."""
    start, end = date(2026, 1, 12), date(2026, 2, 11)
    lines = [
        Line("PLAT-PRO", Decimal("899.00"), start, end),
        Line("SEAT", Decimal("133.33"), start, end),
        Line("TRAINING", Decimal("0.01"), start, start),
        Line(None, Decimal("-103.23"), subtotal="Discount", description="Loyalty 10%"),
    ]
    _invoice(books, "SI9201", "lumen", start, lines, MODULEKEY="8.SO")


def _freight(books: Books) -> None:
    day = date(2026, 2, 9)
    lines = [
        Line("00420", Decimal("1298.00"), day, day, Decimal(2)),
        Line(None, Decimal("45.50"), subtotal="Freight", description="Freight"),
    ]
    _invoice(books, "SI9202", "harborfoods", day, lines, MODULEKEY="8.SO")


def _reversed(books: Books) -> None:
    """Posted in February, reversed in March."""
    day = date(2026, 2, 16)
    lines = [_service("PLAT-STD", 1, "USD", day, 12)]
    record = _invoice(books, "IN9203", "bluepeak", day, lines)
    books.reverse(record, date(2026, 3, 3), _at(date(2026, 3, 3)))


def _adjustments(books: Books) -> None:
    """Credits whose rows have the sign of the total or the other one, and a debit memo."""
    start, end = date(2026, 3, 1), date(2026, 3, 31)

    for number, key, amount, fields in (
        ("CM9101", "northwind", "-250.00", {"DOCNUMBER": "SI0109", "STATE": "Paid"}),
        ("CM9102", "mueller", "125.50", {"DOCNUMBER": "SI0110"}),
        ("DM9103", "quarry", "60.00", {"DOCNUMBER": "SI0111"}),
    ):
        day, customer = date(2026, 3, 20), company.customer(key)
        lines = [Line("PLAT-PRO", Decimal(amount), start, end)]
        record = books.receivable(
            "ARADJUSTMENT", number, customer, day, lines, _at(day), edited=_at(day), **fields
        )
        if number == "CM9102":
            header = books.tables["ARADJUSTMENT"][record]
            header |= {
                "TOTALENTERED": Decimal("-135.83"),
                "TRX_TOTALENTERED": Decimal(f"-{amount}"),
            }


def _drafts(books: Books) -> None:
    day = date(2026, 6, 15)
    lines = [_service("PLAT-STD", 1, "USD", day, 12)]
    _invoice(books, "IN9001", "wexford", day, lines, STATE="Draft")
    _invoice(books, "IN9002", "vireo", day, lines, STATE="Submitted")


def _nothing_to_pay(books: Books) -> None:
    day = date(2026, 4, 7)
    _invoice(books, "IN9301", "sablegames", day, [Line("TRAINING", Decimal("0.00"), day, day)])


def _returned(books: Books) -> None:
    """A Sales Return: positive in order entry, negative among the AR invoices."""
    day = date(2026, 4, 21)
    line = Line("00420", Decimal("1298.00"), day, day, Decimal(2))
    customer = company.customer("harborfoods")
    books.order(
        "Sales Return",
        "SR0001",
        customer,
        day,
        [line],
        _at(day),
        CREATEDFROM="Sales Invoice-SI9202",
    )
    lines = [Line("00420", Decimal("-1298.00"), day, day)]
    _invoice(books, "SR0001", "harborfoods", day, lines, MODULEKEY="8.SO")


def _incomplete(books: Books) -> None:
    """What somebody has to mend in Intacct."""
    day = date(2026, 5, 12)
    _invoice(
        books,
        "IN9401",
        "tallgrass",
        day,
        [_service("SEAT", 20, "USD", day, 12), Line(None, Decimal("3600.00"), day, day)],
    )
    _invoice(books, "IN9402", "ironbridge", date(2026, 5, 28), [_service("SEAT", 5, "USD", day, 1)])
    currency = _invoice(books, "IN9403", "zephyr", day, [_service("SEAT", 9, "USD", day, 1)])
    books.tables["ARINVOICE"][currency]["CURRENCY"] = None
    lines = [Line("EDGE GATEWAY", Decimal("649.00"), day, day)]
    _invoice(books, "IN9404", "cedarhealth", day, lines)
    lines = [Line("PLAT-STD", Decimal("3000.00"), date(2026, 5, 12), date(2025, 5, 11))]
    _invoice(books, "IN9405", "northwind", day, lines)
    number = _invoice(books, "IN9406", "quarry", day, [_service("SEAT", 3, "USD", day, 1)])
    books.tables["ARINVOICE"][number]["RECORDID"] = None


def _yen(books: Books) -> None:
    """1,234,500 JPY are 8,283.50 USD: two amounts on each row."""
    day = date(2026, 5, 20)
    lines = [Line("PLAT-ENT", Decimal(1234500), day, date(2027, 5, 19))]
    _invoice(books, "IN9501", "minato", day, lines)


def _orders_without_invoice(books: Books) -> None:
    """Orders that nobody has billed yet; one of them is a draft."""
    for number, key, state in (
        ("SO9601", "oxbow", "Pending"),
        ("SO9602", "camden", "Draft"),
        ("SO9603", "fiordi", "Closed"),
    ):
        customer, day = company.customer(key), date(2026, 6, 11)
        lines = [_service("PLAT-PRO", 1, customer.currency, day, 12)]
        books.order("Sales Order", number, customer, day, lines, _at(day), STATE=state)
