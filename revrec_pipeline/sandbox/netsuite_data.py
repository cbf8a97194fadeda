"""What the company booked in NetSuite in three years, and what the demo's story changes.

Most documents follow a pattern over months and customers. The table `_SPECIAL` holds those that
each show one thing that real accounts do.
"""

from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from revrec_pipeline.currency import exponent
from revrec_pipeline.periods import first_day, next_period, period_range
from revrec_pipeline.sandbox import company
from revrec_pipeline.sandbox.netsuite_books import Books, Sold
from revrec_pipeline.sandbox.salesforce_org import record_id

_BUNDLES = (
    "PLAT-STD 1; SEAT 12",
    "PLAT-PRO 1; SEAT 40; SUP-GOLD 1",
    "SEAT 15",
    "00420 4; SUP-GOLD 1",
    "PLAT-ENT 1; SUP-PLAT 1; ONBOARD 1",
    "API-USAGE 48211",
    "PLAT-PRO 2; Partner Discount 10% amount=-10%",
)
#: What each document of a month is; an order is invoiced at once, a credit takes back a line.
_PATTERN = ("CustInvc", "SalesOrd", "CustInvc", "CashSale", "CustInvc", "SalesOrd", "CustCred")
_CLEANED = datetime(2025, 12, 1, 16, 0, tzinfo=UTC)
_SALES_TAX, _VAT = ("Sales Tax NY", Decimal("8.875")), ("VAT", Decimal(19))

# Type | number | customer | day | lines, separated by ";" | header columns. A line is an item, a
# quantity where it has one, and further columns; `-` stands for no item.
_SPECIAL = """
CustInvc | INV-DISC   | lumen       | 2025-01-15 | PLAT-PRO 1; SEAT 9; \
    Partner Discount 10% amount=-10% |
CustInvc | INV-SUBT   | bluepeak    | 2025-02-12 | PLAT-STD 1; SEAT 7; \
    Subtotal; Goodwill amount=-100; TRAINING 1 |
CustInvc | INV-HEAD   | vireo       | 2025-03-10 | PLAT-STD 1; SEAT 3; TRAINING 1 | discount=100.01
CustInvc | INV-GROUP  | cedarhealth | 2025-04-08 | Onboarding Bundle 1; ONBOARD 1; TRAINING 2; \
    End of Group; Goodwill amount=-450; SEAT 5 |
CustInvc | INV-KIT    | tallgrass   | 2025-05-14 | STARTER-KIT 1 amount=999; \
    00420 1 amount=649 kitcomponent=T; SEAT 9 amount=350 kitcomponent=T; SUP-GOLD 1 |
CustInvc | INV-SHIP   | harborfoods | 2025-06-17 | 00420 12; Courier amount=85.50; Note | tax=us
CustInvc | INV-TAX    | northwind   | 2025-07-09 | PLAT-PRO 1; SEAT 25; API-USAGE 31 | tax=us
CustInvc | INV-JPY    | sakura      | 2025-08-20 | PLAT-PRO 1; SEAT 30; SEAT 1 | discount=1000
CustInvc | INV-KWD    | dasman      | 2025-09-15 | PLAT-PRO 1; SEAT 7; TRAINING 1 | discount=10.001
CustInvc | INV-VOID   | zephyr      | 2025-10-06 | PLAT-ENT 2 |
CustInvc | INV-JVOID  | quarry      | 2025-10-21 | PLAT-ENT 1; SUP-PLAT 1 |
CustInvc | INV-PEND   | wexford     | 2025-11-11 | PLAT-ENT 3; SEAT 900 | posting=F status=D
CustInvc | INV-ZERO   | sablegames  | 2025-11-18 | PLAT-STD 1 amount=0 |
CustInvc | INV-NOITEM | ironbridge  | 2025-12-09 | PLAT-STD 1; - amount=750 memo=Rebilled |
CustInvc | INV-AMP    | camden      | 2026-01-13 | Consulting & Advice 4 amount=3200; PLAT-PRO 1 |
CustInvc | INV-NOCUR  | mueller     | 2026-01-27 | PLAT-PRO 1 | currency=none
CustInvc | none       | oxbow       | 2026-02-10 | PLAT-STD 1; SEAT 10 |
CustInvc | INV-EMPTY  | atelier     | 2026-02-24 | Note | foreigntotal=0
CustInvc | INV-NODATE | fiordi      | 2026-03-05 | PLAT-STD 1 dates=none; SEAT 18 dates=none |
CustInvc | INV-ERROR  | thistle     | 2026-04-14 | PLAT-PRO 1; SEAT 64 | tax=eu
CustInvc | INV-TWICE  | tulip       | 2026-05-19 | PLAT-ENT 1; SUP-GOLD 1 |
CustInvc | INV-FLAT   | minato      | 2026-05-26 | TRAINING amount=270000 |
CustCred | CM-GOOD    | lumen       | 2025-06-24 | Goodwill amount=25 |
CashRfnd | CR-1001    | geysir      | 2025-12-16 | SEAT 2 |
SalesOrd | SO-LOST    | pinecrest   | 2025-08-12 | PLAT-STD 1; SEAT 20 | status=C
SalesOrd | SO-OPEN    | mueller     | 2026-06-16 | PLAT-ENT 1; SEAT 120; ONBOARD 1 | status=A
"""


def build(books: Books) -> None:
    """Give fresh books their documents."""
    number = 0
    for period in period_range(company.FOUNDED, company.LAST_MONTH):
        for _ in range(3 if period < company.FIRST_MONTH else 6):
            kind = _PATTERN[number % len(_PATTERN)]
            customer = company.CUSTOMERS[number * 5 % len(company.CUSTOMERS)]
            month = first_day(period)
            days = (first_day(next_period(period)) - month).days
            day = month + timedelta(days=number * 11 % days)
            _pattern(books, kind, number, customer, day)
            number += 1
    for row in _SPECIAL.strip().splitlines():
        _special(books, row)
    credited = books.find("INV-HEAD")
    customer = company.customer("vireo")
    books.add(
        "CustCred",
        "CM-HEAD",
        customer,
        "2025-03-31",
        [Sold("PLAT-STD", Decimal(1), Decimal(125))],
        made_from=credited,
    )
    books.void(books.find("INV-VOID"), _CLEANED)
    books.reverse(books.find("INV-JVOID"), "2025-12-01", _CLEANED)


def story(books: Books) -> dict[str, Any]:
    """What happens in the books between the demo's two syncs."""
    corrected = books.find("INV-ERROR")
    key = books.lines(corrected)[0]
    books.edit_line(key, {"foreignamount": -650.0, "netamount": -650.0})
    voided = books.find("INV-TWICE")
    books.void(voided)
    dropped = books.find("INV-NOITEM")
    books.edit_line(books.lines(dropped)[1], {"item": books.items["TRAINING"][0]}, header=True)
    deleted = books.find("INV-AMP")
    books.delete(deleted)
    late = books.add(
        "CustInvc",
        "INV-LATE",
        company.customer("lumen"),
        "2026-05-29",
        _lines("PLAT-STD 1; SEAT 4", company.customer("lumen"), date(2026, 5, 29)),
        at=books.now(),
    )
    return {
        "line with a corrected amount": str(key),
        "voided invoice": str(voided),
        "invoice whose line was given an item": str(dropped),
        "deleted invoice": str(deleted),
        "invoice of 2026-05 that came late": str(late),
    }


def _pattern(books: Books, kind: str, number: int, customer: company.Customer, day: date) -> None:
    """One document of the ordinary business."""
    lines = _lines(_BUNDLES[number % len(_BUNDLES)], customer, day)
    text = day.isoformat()
    # About half name the order of the CRM.
    crm = record_id("006", number + 1) if number % 2 else None
    tax = _SALES_TAX if customer.key in ("northwind", "lumen") else None
    if customer.country == "DE":
        tax = _VAT
    shared: dict[str, Any] = {"otherrefnum": crm, "custbody_sf_opportunity": crm}
    match kind:
        case "SalesOrd":
            order = books.add(kind, f"SO{1000 + number}", customer, text, lines, **shared)
            books.add(
                "CustInvc",
                f"INV{1000 + number}",
                customer,
                text,
                lines,
                tax=tax,
                made_from=order,
                status="B",
                closedate=(day + timedelta(days=30)).isoformat(),
                **shared,
            )
        case "CustCred":
            books.add(kind, f"CM{1000 + number}", customer, text, lines[:1], tax=tax, **shared)
        case "CashSale":
            shared["closedate"] = text
            books.add(kind, f"CS{1000 + number}", customer, text, lines, tax=tax, **shared)
        case _:
            if number % 3:
                paid = (day + timedelta(days=20)).isoformat()
                shared |= {"status": "B", "closedate": paid}
            books.add(kind, f"INV{1000 + number}", customer, text, lines, tax=tax, **shared)


def _special(books: Books, row: str) -> None:
    kind, number, key, day, lines, fields = (cell.strip() for cell in row.split("|"))
    customer = company.customer(key)
    header: dict[str, Any] = dict(field.split("=") for field in fields.split())
    if discount := header.pop("discount", None):
        header["discount"] = Decimal(discount)
    if tax := header.pop("tax", None):
        header["tax"] = _SALES_TAX if tax == "us" else _VAT
    if "foreigntotal" in header:
        header["foreigntotal"] = float(header["foreigntotal"])
    books.add(
        kind,
        None if number == "none" else number,
        customer,
        day,
        _lines(lines, customer, date.fromisoformat(day)),
        **header,
    )


def _lines(text: str, customer: company.Customer, day: date) -> list[Sold]:
    """Lines from text; what is sold for a term is served from the day on."""
    found: list[Sold] = []
    for entry in filter(None, (part.strip() for part in text.split(";"))):
        words, fields = [], {}
        for word in entry.split():
            name, equals, value = word.partition("=")
            if equals:
                fields[name] = value
            else:
                words.append(word)
        quantity = Decimal(words.pop()) if _is_number(words[-1]) and len(words) > 1 else None
        item = " ".join(words)
        found.append(_line(item, quantity, fields, found, customer, day))
    return found


def _line(
    item: str,
    quantity: Decimal | None,
    fields: dict[str, str],
    above: list[Sold],
    customer: company.Customer,
    day: date,
) -> Sold:
    product = next((one for one in company.PRODUCTS if one.code == item), None)
    amount: Decimal | None = None
    given = fields.pop("amount", None)
    if given and given.endswith("%"):
        base = above[-1].amount or Decimal(0)
        amount = _rounded(base * Decimal(given[:-1]) / 100, customer.currency)
    elif given:
        amount = Decimal(given)
    elif item in ("Subtotal", "End of Group"):
        amount = sum((line.amount or Decimal(0) for line in above), Decimal(0))
    elif product and quantity is not None:
        price = company.list_price(item, customer.currency)
        amount = _rounded(price * quantity, customer.currency)
    columns: dict[str, Any] = dict(fields)
    if product and product.term_months and columns.pop("dates", None) is None:
        columns["revrecstartdate"] = day.isoformat()
        columns["revrecenddate"] = (_a_month_later(day) - timedelta(days=1)).isoformat()
        columns["custcol_term_months"] = str(product.term_months)
    return Sold(None if item == "-" else item, quantity, amount, columns)


def _a_month_later(day: date) -> date:
    after = first_day(next_period(f"{day:%Y-%m}"))
    last = (first_day(next_period(f"{after:%Y-%m}")) - timedelta(days=1)).day
    return after.replace(day=min(day.day, last))


def _is_number(word: str) -> bool:
    return word.replace(".", "", 1).isdecimal()


def _rounded(amount: Decimal, currency: str) -> Decimal:
    return amount.quantize(Decimal(1).scaleb(-exponent(currency)), ROUND_HALF_UP)
