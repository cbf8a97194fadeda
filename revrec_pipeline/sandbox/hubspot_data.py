"""With which records the sandbox's HubSpot portal starts, and what the demo's story changes.

HubSpot is what the second sales team uses, for the smaller customers. Most deals follow a pattern
over the months of `company`; the tables hold those that each show one thing that real portals do.
"""

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from revrec_pipeline.currency import exponent
from revrec_pipeline.periods import first_day, next_period, period_range
from revrec_pipeline.sandbox import company
from revrec_pipeline.sandbox.hubspot_schema import COMPANY_CURRENCY, OWNERS
from revrec_pipeline.sandbox.hubspot_store import Portal, Properties, months_of

#: Customers of the second team, as its people typed them where not as in Salesforce.
CUSTOMERS: dict[str, str | None] = {
    "lumen": "Lumen and Oak Design",
    "sablegames": None,
    "vireo": "Vireo Biosciences Inc.",
    "pinecrest": None,
    "geysir": "Geysir Ferdir",
    "atelier": "Atelier Garonne",
    "fiordi": None,
    "tulip": "Tulip Data BV",
    "camden": None,
    "oxbow": "Oxbow Rail ",
    "minato": None,
    "dasman": None,
    "harborfoods": "Harbor Foods Company",
    "bluepeak": None,
}
#: Company currency per unit of the deal's, as HubSpot kept it when a deal closed.
RATES = {
    "EUR": "1.0842",
    "GBP": "1.2710",
    "ISK": "0.00724",
    "JPY": "0.006689",
    "KWD": "3.2535",
}
_PEOPLE = tuple(OWNERS)
_MIGRATION = "Data Migration"  # a product without a SKU
_BUNDLES = (
    "PLAT-STD 1; SEAT 5",
    "PLAT-PRO 1; SEAT 12 hs_discount_percentage=7.5",
    "SEAT 8",
    "PLAT-STD 1; ONBOARD 1",
    "00420 3",
    "PLAT-STD 2; SUP-GOLD 1 discount=20",
)
_STAGES = ("closedwon", "closedwon", "closedlost", "148230013", "closedwon", "148230014")

# Name | customer | stage | closed at (UTC) | lines, separated by ";": SKU, quantity and properties.
_DEALS = """
Year end, evening in New York | lumen | closedwon | 2026-01-01T03:30:00Z | PLAT-STD 1; SEAT 4
Three years, paid yearly | pinecrest | closedwon | 2025-03-12T15:00:00Z | PLAT-PRO 1 price=9708 \
recurringbillingfrequency=annually hs_recurring_billing_period=P3Y; SEAT 30 \
hs_recurring_billing_period=P36M
Discount per seat | sablegames | closedwon | 2025-04-08T18:20:00Z | SEAT 40 discount=4.35
Percentage off | vireo | closedwon | 2025-05-21T16:45:00Z | PLAT-PRO 1 \
hs_discount_percentage=12.5; SEAT 9 hs_discount_percentage=3.33
Starts in July | tulip | closedwon | 2025-06-17T12:00:00Z | PLAT-STD 1 \
hs_recurring_billing_start_date=2025-07-01; SUP-GOLD 1 hs_billing_start_delay_months=2; SEAT 3 \
hs_billing_start_delay_days=10
Quarterly in Kuwait | dasman | closedwon | 2025-08-05T09:10:00Z | PLAT-PRO 1 price=822.585 \
recurringbillingfrequency=quarterly; SEAT 7 hs_discount_percentage=3.33
Half a package | oxbow | closedwon | 2025-09-23T14:30:00Z | ONBOARD 0.5; API-USAGE 33333
130 shops | harborfoods | closedwon | 2025-10-14T17:00:00Z | SEAT 1 shops=130
Amount typed by hand | bluepeak | closedwon | 2025-11-06T15:15:00Z amount=99000 | \
PLAT-STD 1; SEAT 10
No products | minato | closedwon | 2025-11-27T05:00:00Z amount=420000 |
Two companies, one primary | camden | closedwon | 2025-12-09T11:00:00Z second=oxbow | PLAT-STD 1
Two companies, none primary | atelier | closedwon | 2025-12-16T10:00:00Z peer=fiordi | SEAT 6
Nobody's deal | | closedwon | 2026-01-15T16:00:00Z deal_currency_code=USD | PLAT-STD 1
In which currency? | geysir | closedwon | 2026-01-22T13:00:00Z deal_currency_code= | SEAT 11 \
hs_line_item_currency_code=
Training days | lumen | closedwon | 2026-02-11T15:00:00Z | TRAINING 2
Migration | sablegames | closedwon | 2026-02-19T15:00:00Z | PLAT-STD 1; Data-Migration 1 price=3200
Eighteen months, paid yearly | vireo | closedwon | 2026-03-05T15:00:00Z | PLAT-STD 1 price=2700 \
recurringbillingfrequency=annually hs_recurring_billing_period=P18M
Line without a currency | fiordi | closedwon | 2026-03-19T10:00:00Z | SEAT 5 \
hs_line_item_currency_code=
No rate | atelier | closedwon | 2026-03-26T10:00:00Z hs_exchange_rate= | PLAT-STD 1
Credit for cancelled seats | pinecrest | closedwon | 2026-04-14T15:00:00Z amount=-1170.05 | \
SEAT 10 hs_discount_percentage=100
Thirds | harborfoods | closedwon | 2026-04-21T15:00:00Z amount=10000.01 | PLAT-PRO 1
No amount | bluepeak | closedwon | 2026-04-28T15:00:00Z amount= | SEAT 15
Archived by mistake | tulip | closedwon | 2026-05-07T09:00:00Z | SEAT 14
One line archived | camden | closedwon | 2026-05-12T09:00:00Z | PLAT-PRO 1; SUP-GOLD 1
Merged into | oxbow | closedwon | 2026-05-14T09:00:00Z | PLAT-STD 1
Entered twice | oxbow | closedwon | 2026-04-30T09:00:00Z | SEAT 4
Price typed wrong | lumen | closedwon | 2026-05-20T15:00:00Z | PLAT-STD 1; SEAT 20 price=3.9
Won, then reopened | sablegames | closedwon | 2026-06-03T15:00:00Z | PLAT-PRO 1; SEAT 16
Signed by mistake | vireo | closedwon | 2026-06-09T15:00:00Z | SEAT 2
About to sign | harborfoods | contractsent | 2026-06-16T15:00:00Z | PLAT-PRO 1; SEAT 25; ONBOARD 1
Verbally renewed | pinecrest | 148230012 | 2026-06-18T15:00:00Z | PLAT-STD 1
Without a stage | minato | | 2026-06-22T06:00:00Z | PLAT-STD 1
Never dated | bluepeak | qualifiedtobuy | | SEAT 3
"""

# Deal | owner's number and share of it, each.
_SPLITS = """
Three years, paid yearly | 0 0.5; 1 0.5
Discount per seat | 0 0.6; 2 0.4
Quarterly in Kuwait | 1 0.7; 3 0.3
Amount typed by hand | 0 0.25; 1 0.25; 2 0.25; 3 0.25
No rate | 1 0.5; 2 0.5
Credit for cancelled seats | 0 0.5; 1 0.5
Thirds | 0 0.33333333; 1 0.33333333; 2 0.33333334
No amount | 1 0.5; 2 0.5
Won, then reopened | 0 0.8; 2 0.2
Signed by mistake | 0 1
About to sign | 0 0.5; 2 0.5
"""

# Name | deal | status | date | what differs: invoice properties, and line.<property>.
_INVOICES = """
Seats of the first year | Discount per seat | paid | 2025-04-09 | hs_tax_rate=8.875
Milan, VAT | Line without a currency | open | 2026-03-20 | hs_tax_rate=22
Shops, all 130 | 130 shops | open | 2025-10-15 |
Draft for July | About to sign | draft | 2026-06-30 | hs_number=
Voided twin | Percentage off | voided | 2025-05-22 |
Nothing to pay | Credit for cancelled seats | paid | 2026-04-15 |
Not numbered | Percentage off | open | 2025-05-23 | hs_number=
In which currency? | Starts in July | open | 2025-07-01 | hs_currency=
Somebody's | Half a package | open | 2025-09-24 | company=
Written off | Training days | uncollectible | 2026-02-12 |
Deleted | Migration | open | 2026-02-20 |
To be voided | Thirds | open | 2026-04-22 |
"""


def build() -> Portal:
    """The portal as the sandbox starts."""
    portal = Portal()
    seeder = _Seeder(portal)
    number = 0
    for period in period_range(company.FOUNDED, company.LAST_MONTH):
        for _ in range(2 if period < company.FIRST_MONTH else 4):
            seeder.pattern(period, number)
            number += 1
    for row in _rows(_DEALS):
        seeder.special(*row)
    for name, shares in _rows(_SPLITS):
        seeder.split(portal.find("deals", "dealname", name), shares)
    for row in _rows(_INVOICES):
        seeder.special_invoice(*row)
    cleaned = datetime(2026, 5, 28, 10, 0, tzinfo=UTC)
    portal.archive("deals", portal.find("deals", "dealname", "Archived by mistake"), cleaned)
    thinned = portal.find("deals", "dealname", "One line archived")
    portal.archive("line_items", [*portal.linked("deals", thinned, "line_items")][1], cleaned)
    winner = portal.find("deals", "dealname", "Merged into")
    portal.merge("deals", winner, portal.find("deals", "dealname", "Entered twice"), cleaned)
    portal.archive("invoices", portal.find("invoices", "hs_title", "Deleted"), cleaned)
    return portal


def tell_story(portal: Portal, now: datetime) -> dict[str, Any]:
    """What happens between the demo's two syncs."""
    signed = portal.find("deals", "dealname", "About to sign")
    portal.update("deals", signed, {"dealstage": "closedwon"}, now)
    reopened = portal.find("deals", "dealname", "Won, then reopened")
    portal.update("deals", reopened, {"dealstage": "contractsent"}, now)
    corrected = portal.find("deals", "dealname", "Price typed wrong")
    line = [*portal.linked("deals", corrected, "line_items")][1]
    portal.update("line_items", line, {"price": "39"}, now)
    archived = portal.find("deals", "dealname", "Signed by mistake")
    portal.archive("deals", archived, now)
    voided = portal.find("invoices", "hs_title", "To be voided")
    portal.update("invoices", voided, {"hs_invoice_status": "voided"}, now)
    return {
        "deal newly won": signed,
        "deal reopened": reopened,
        "line with a corrected price": line,
        "deal archived": archived,
        "invoice voided": voided,
    }


def _rows(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in row.split("|")] for row in table.strip().splitlines()]


class _Seeder:
    """Makes deals and invoices with their lines, and the records around them."""

    def __init__(self, portal: Portal) -> None:
        self._portal = portal
        self._invoices = 0
        founded = datetime(2023, 6, 1, 9, 0, tzinfo=UTC)
        self._companies = {
            key: portal.insert(
                "companies",
                {
                    "name": typed or company.customer(key).crm_name,
                    "domain": f"{key}.example",
                    "erp_customer_id": f"C-{key.upper()}",
                },
                founded,
            )
            for key, typed in CUSTOMERS.items()
        }
        self._products = {
            product.code: portal.insert(
                "products",
                {
                    "name": product.name,
                    "hs_sku": product.code,
                    "price": str(product.price),
                    "hs_product_type": "inventory" if product.family == "Hardware" else "service",
                    "revenue_class": product.kind,
                    "erp_item": f"E{product.code}",
                    "recurringbillingfrequency": "monthly" if _recurs(product) else None,
                    "hs_recurring_billing_period": "P12M" if _recurs(product) else None,
                    # Nobody filled it in for training days.
                    "term_months": "1" if product.code in {"ONBOARD", "00420", "API-USAGE"} else "",
                },
                founded,
            )
            for product in company.PRODUCTS
        }
        self._products["Data-Migration"] = portal.insert(
            "products", {"name": _MIGRATION, "hs_sku": "", "term_months": "1"}, founded
        )

    def pattern(self, period: str, number: int) -> None:
        """The ordinary business of a month: a deal, an invoice of every second one that is won."""
        key = [*CUSTOMERS][number * 5 % len(CUSTOMERS)]
        stage = _STAGES[number % len(_STAGES)]
        month = first_day(period)
        day = month + timedelta(days=number * 11 % (first_day(next_period(period)) - month).days)
        name = f"{company.customer(key).crm_name} {'renewal' if _renews(stage) else 'new'} {period}"
        closed = datetime.combine(day, time(15, number % 60), UTC)
        bundle = _BUNDLES[number % len(_BUNDLES)]
        deal = self._deal(name, key, stage, closed, bundle, {})
        if number % 5 == 0:
            self.split(deal, "0 0.65; 2 0.35")
        if number % 2 == 0 and stage in {"closedwon", "148230013"}:
            status = "paid" if number % 4 == 0 else "open"
            self._invoice(f"Invoice {name}", deal, status, day + timedelta(days=1), {}, number)

    def special(self, name: str, key: str, stage: str, when: str, lines: str) -> None:
        """One row of `_DEALS`."""
        at, _, changes = when.partition(" ")
        fields = _fields(changes.split())
        closed = datetime.fromisoformat(at) if at else None
        self._deal(name, key or None, stage, closed, lines, fields)

    def _deal(
        self,
        name: str,
        key: str | None,
        stage: str,
        closed: datetime | None,
        lines: str,
        fields: Properties,
    ) -> str:
        currency = company.customer(key).currency if key else COMPANY_CURRENCY
        if "deal_currency_code" in fields:
            currency = fields["deal_currency_code"] or COMPANY_CURRENCY
        at = (closed or datetime(2026, 6, 1, 12, 0, tzinfo=UTC)) + timedelta(milliseconds=len(name))
        second, peer = fields.pop("second", None), fields.pop("peer", None)
        deal = self._portal.insert(
            "deals",
            {
                "dealname": name,
                "dealstage": stage or None,
                "pipeline": "74210021" if _renews(stage) else "default",
                "dealtype": "newbusiness",
                "closedate": closed.strftime("%Y-%m-%dT%H:%M:%SZ") if closed else None,
                "deal_currency_code": currency,
                "hs_exchange_rate": RATES.get(currency),
                "hubspot_owner_id": _PEOPLE[len(name) % len(_PEOPLE)],
                "region": "Americas" if currency == "USD" else "International",
                **{name: value for name, value in fields.items() if name != "amount"},
            },
            at,
        )
        total = Decimal(0)
        for line in filter(None, lines.split(";")):
            sku, quantity, *rest = line.split()
            changes = _fields(rest)
            for _ in range(int(changes.pop("shops", None) or 1)):
                total += self._line("deals", deal, sku, quantity, currency, changes, at)
        amount = fields.get("amount") if "amount" in fields else str(total)
        self._portal.records["deals"][deal].properties["amount"] = amount
        if key and peer is None:
            self._portal.link("deals", deal, "companies", self._companies[key], primary=True)
        for other in filter(None, (key if peer else None, peer, second)):
            self._portal.link("deals", deal, "companies", self._companies[other])
        return deal

    def _line(
        self,
        parent: str,
        identifier: str,
        sku: str,
        quantity: str,
        currency: str,
        changes: Properties,
        at: datetime,
    ) -> Decimal:
        """A line of a deal or invoice; its net amount over the whole term."""
        code = "" if sku == "Data-Migration" else sku
        product = self._portal.records["products"][self._products[sku]].properties
        price = company.list_price(code, currency) if code else Decimal(0)
        if sku != "API-USAGE":
            price = price.quantize(Decimal(1).scaleb(-exponent(currency)))
        line = self._portal.insert(
            "line_items",
            {
                "name": product["name"],
                "hs_product_id": self._products[sku],
                "hs_sku": code,
                "quantity": quantity,
                "price": str(price),
                "hs_line_item_currency_code": currency,
                "recurringbillingfrequency": product.get("recurringbillingfrequency"),
                "hs_recurring_billing_period": product.get("hs_recurring_billing_period"),
                **changes,
            },
            at,
        )
        self._portal.link(parent, identifier, "line_items", line)
        record = self._portal.records["line_items"][line]
        shown = self._portal.shown("line_items", record)
        return Decimal(shown["amount"] or 0) * int(
            shown["hs_recurring_billing_number_of_payments"] or 1
        )

    def split(self, deal: str, shares: str) -> None:
        """Split the credit for a deal."""
        created = self._portal.records["deals"][deal].created
        for share in shares.split(";"):
            owner, percentage = share.split()
            self._portal.insert(
                "deal_split",
                {
                    "hs_deal_id": deal,
                    "hs_deal_split_percentage": percentage,
                    "hubspot_owner_id": _PEOPLE[int(owner)],
                },
                created,
            )

    def special_invoice(self, name: str, deal: str, status: str, day: str, changes: str) -> None:
        """One row of `_INVOICES`."""
        identifier = self._portal.find("deals", "dealname", deal)
        self._invoice(
            name, identifier, status, date.fromisoformat(day), _fields(changes.split()), 0
        )

    def _invoice(
        self, name: str, deal: str, status: str, day: date, changes: Properties, number: int
    ) -> None:
        """An invoice of a deal's first billing period; its lines are copies of the deal's."""
        self._invoices += 1
        at = datetime.combine(day, time(12, 0), UTC)
        tax = changes.pop("hs_tax_rate", None)
        nobody = "company" in changes
        changes.pop("company", None)
        owner = self._portal.records["deals"][deal].properties
        invoice = self._portal.insert(
            "invoices",
            {
                "hs_title": name,
                "hs_number": f"HS-{self._invoices:05d}",
                "hs_invoice_status": status,
                "hs_invoice_date": day.isoformat(),
                "hs_due_date": (day + timedelta(days=30)).isoformat(),
                "hs_currency": owner["deal_currency_code"],
                "hs_purchase_order_number": f"PO-{deal}" if number % 4 == 0 else "",
                "hs_invoice_source": "CRM_UI",
                **changes,
            },
            at,
        )
        billed = Decimal(0)
        for line in self._portal.linked("deals", deal, "line_items"):
            copy = dict(self._portal.records["line_items"][line].properties)
            if "hs_currency" in changes:
                copy["hs_line_item_currency_code"] = changes["hs_currency"]
            end = _first_period_end(day, copy)
            if end is not None:
                copy["hs_billing_period_start_date"] = day.isoformat()
                copy["hs_billing_period_end_date"] = end.isoformat()
            if tax is not None:
                copy |= {"hs_tax_rate": tax, "hs_tax_label": f"Tax {tax} %"}
            made = self._portal.insert("line_items", copy, at)
            self._portal.link("invoices", invoice, "line_items", made)
            shown = self._portal.shown("line_items", self._portal.records["line_items"][made])
            billed += Decimal(shown["hs_post_tax_amount"] or 0)
        paid = billed if status == "paid" else Decimal(0)
        self._portal.records["invoices"][invoice].properties |= {
            "hs_amount_billed": str(billed),
            "hs_amount_paid": str(paid),
            "hs_balance_due": str(billed - paid),
        }
        if number % 4 == 0:  # half of the invoices were not made from their deal's page
            self._portal.link("invoices", invoice, "deals", deal)
        for customer in [] if nobody else self._portal.linked("deals", deal, "companies"):
            self._portal.link("invoices", invoice, "companies", customer)


def _renews(stage: str) -> bool:
    """Whether a stage is one of the renewals' pipeline, whose stages have numbers."""
    return stage.isdigit()


def _recurs(product: company.Product) -> bool:
    return product.term_months is not None and product.term_months > 1


def _fields(words: list[str]) -> Properties:
    return {name: value or None for name, _, value in (word.partition("=") for word in words)}


def _first_period_end(day: date, line: Properties) -> date | None:
    """The last day of the first billing period; none for what is billed once."""
    frequency = line.get("recurringbillingfrequency")
    months = {"monthly": 1, "quarterly": 3, "annually": 12}.get(frequency or "")
    if months is None or months_of(line.get("hs_recurring_billing_period")) is None:
        return None
    year, month = divmod(day.month - 1 + months, 12)
    following = first_day(f"{day.year + year:04d}-{month + 1:02d}")
    last = first_day(next_period(following.strftime("%Y-%m"))) - timedelta(days=1)
    return following.replace(day=min(day.day, last.day)) - timedelta(days=1)
