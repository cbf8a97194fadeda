"""With which records the sandbox's Salesforce org starts, and what the demo's story changes.

Most opportunities follow a pattern over the months and customers of `company`. The table `_SPECIAL`
holds those that each show one thing that real orgs do. What follows from opportunities (orders,
quotes, contracts) is in `salesforce_deals`, what is paid for it in `salesforce_costs`.
"""

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from revrec_pipeline.currency import exponent
from revrec_pipeline.periods import first_day, next_period, period_range
from revrec_pipeline.sandbox import company
from revrec_pipeline.sandbox.salesforce_costs import fill_costs
from revrec_pipeline.sandbox.salesforce_deals import fill_deals
from revrec_pipeline.sandbox.salesforce_org import ORG_ID, Org

#: Everything of the first quarter was imported in one go: hundreds of rows with the same stamp.
_IMPORTED = datetime(2025, 4, 2, 3, 0, tzinfo=UTC)
_PER_MONTH = 8
#: Months of service in the CRM where the catalogue has none. Nobody filled it in for training days.
_TERMS = {"ONBOARD": 1, "00420": 1, "TRAINING": None}
_MIGRATION = "Data Migration"  # a product that sales made up; it has no code yet
_BUNDLES = (
    (("PLAT-STD", 1), ("SEAT", 25)),
    (("PLAT-PRO", 1), ("SEAT", 60), ("SUP-GOLD", 1)),
    (("SEAT", 15),),
    (("PLAT-ENT", 1), ("SEAT", 240), ("SUP-PLAT", 1), ("ONBOARD", 1)),
    (("00420", 12), ("SUP-GOLD", 1)),
    (("PLAT-STD", 1), ("ONBOARD", 1)),
    (("PLAT-PRO", 2),),
)
_STAGES = (
    "Closed Won",
    "Closed Won",
    "Closed Lost",
    "Signed Renewal",
    "Closed Won",
    "Closed Won",
    "Closed Lost",
    "Closed Won",
)

# Name | customer | stage | close date | lines, separated by ";": code, quantity and further fields.
_SPECIAL = """
Month-end start | bluepeak | Closed Won | 2025-01-31 | PLAT-STD 1; API-USAGE 20000
Half a package | cedarhealth | Closed Won | 2025-02-14 | ONBOARD 0.5; SEAT 12
Discounted, "all in" | lumen | Closed Won | 2025-03-20 | PLAT-PRO 1 Discount=12.5; SEAT 9
Three years | quarry | Closed Won | 2025-06-30 | PLAT-ENT 1 Term__c=36; SEAT 400 Term__c=36
Gulf rollout | dasman | Closed Won | 2025-09-15 | PLAT-PRO 1; SEAT 7 Discount=3.33; ONBOARD 1
Prepaid calls | northwind | Closed Won | 2025-10-08 | API-USAGE 1234567 UnitPrice=0.01234567
Services, no products | wexford | Closed Won | 2025-11-12 |
Pilot until summer | vireo | Closed Won | 2025-12-31 | PLAT-STD 1 Service_End_Date__c=2026-06-30
Deferred start | tulip | Closed Won | 2026-01-20 | PLAT-PRO 1 ServiceDate=2026-03-01; SUP-GOLD 1
Entered twice | oxbow | Closed Won | 2026-02-10 | PLAT-STD 1; SEAT 10
One line withdrawn | atelier | Closed Won | 2026-02-24 | PLAT-PRO 1; SUP-GOLD 1
Migration | ironbridge | Closed Won | 2026-04-09 | PLAT-STD 1; Data-Migration 1 UnitPrice=7500
Training days | tallgrass | Closed Won | 2026-05-06 | TRAINING 2.5; SEAT 20
Price typed wrong | camden | Closed Won | 2026-05-19 | PLAT-PRO 1; SEAT 50 UnitPrice=37.44
Slipping into June | fiordi | Closed Won | 2026-05-28 | PLAT-STD 1; SEAT 18
Won, then reopened | zephyr | Closed Won | 2026-06-04 | PLAT-ENT 1; SUP-PLAT 1
Reopened in spring | sakura | Negotiation | 2026-03-17 | PLAT-PRO 1; SEAT 30
About to sign | mueller | Negotiation | 2026-06-18 | PLAT-ENT 1; SEAT 120; ONBOARD 1
Early talks | geysir | Qualification | 2026-06-26 | PLAT-STD 1
After the merger | thistle | Closed Won | 2026-04-22 | SEAT 64; SUP-GOLD 1
"""


def fill(org: Org) -> None:
    """Give an empty org its records."""
    founded = datetime(2024, 11, 1, 15, 0, tzinfo=UTC)
    org.insert("Organization", {"Id": ORG_ID, "Name": "Fernhill Software"}, founded)
    owners = {
        name: org.insert("User", {"Name": name, "Username": _mail(name), "IsActive": True}, founded)
        for name in sorted({customer.owner for customer in company.CUSTOMERS})
    }
    accounts = {
        customer.key: org.insert(
            "Account",
            {
                "Name": customer.crm_name,
                "Type": "Customer",
                "BillingCountry": customer.country,
                "OwnerId": owners[customer.owner],
                "CurrencyIsoCode": customer.currency,
                # Nobody has entered yet what billing calls the customer without a name.
                "Billing_Id__c": f"cust-{customer.key}" if customer.billing_name else None,
            },
            founded,
        )
        for customer in company.CUSTOMERS
    }
    _merge_account(org, accounts["thistle"], owners["Priya Shah"])
    products = {
        product.code: org.insert(
            "Product2",
            {
                "Name": product.name,
                "ProductCode": product.code,
                "Family": product.family,
                "IsActive": True,
                "CurrencyIsoCode": company.HOME_CURRENCY,
                "Term__c": _TERMS.get(product.code, product.term_months),
                "Product_Type__c": product.kind,
                "Billing_Code__c": f"{product.code}.{product.family}".upper(),
            },
            founded,
        )
        for product in company.PRODUCTS
    }
    products["Data-Migration"] = org.insert(
        "Product2",
        {
            "Name": _MIGRATION,
            "Family": "Services",
            "IsActive": True,
            "CurrencyIsoCode": company.HOME_CURRENCY,
            "Term__c": 1,
            "Product_Type__c": "Professional Services",
        },
        founded,
    )
    seeder = _Seeder(org, owners, accounts, products)
    number = 0
    for period in period_range(company.FIRST_MONTH, company.LAST_MONTH):
        for _ in range(_PER_MONTH):
            seeder.pattern(period, number)
            number += 1
    for row in _SPECIAL.strip().splitlines():
        seeder.special(row)
    cleaned = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)
    twice = org.find("Opportunity", "Name", "Entered twice")
    org.delete("Opportunity", twice, hard=False, at=cleaned)
    withdrawn = org.find("Opportunity", "Name", "One line withdrawn")
    ((line,),) = org.select(
        'SELECT "Id" FROM "OpportunityLineItem" WHERE "OpportunityId" = ? AND "SortOrder" = 2',
        [withdrawn],
    )
    org.delete("OpportunityLineItem", line, hard=False, at=cleaned)
    fill_costs(org, fill_deals(org))


def story(org: Org) -> dict[str, Any]:
    """What happens at the company between the demo's two syncs."""
    signed = org.find("Opportunity", "Name", "About to sign")
    org.update("Opportunity", signed, {"StageName": "Closed Won"})
    reopened = org.find("Opportunity", "Name", "Won, then reopened")
    org.update("Opportunity", reopened, {"StageName": "Negotiation"})
    corrected = org.find("Opportunity", "Name", "Price typed wrong")
    ((line,),) = org.select(
        'SELECT "Id" FROM "OpportunityLineItem" WHERE "OpportunityId" = ? AND "SortOrder" = 2',
        [corrected],
    )
    org.update("OpportunityLineItem", line, {"UnitPrice": Decimal("374.40")})
    coded = org.find("Product2", "Name", _MIGRATION)
    org.update("Product2", coded, {"ProductCode": "MIGRATION"})
    moved = org.find("Opportunity", "Name", "Slipping into June")
    org.update("Opportunity", moved, {"CloseDate": "2026-06-02"})
    return {
        "newly won": signed,
        "reopened": reopened,
        "line with a corrected price": line,
        "product that was given a code": coded,
        "moved from 2026-05 to 2026-06": moved,
    }


def _merge_account(org: Org, winner: str, owner: str) -> None:
    """Two accounts of one customer were merged: the loser is deleted and names the winner."""
    at = datetime(2026, 4, 20, 9, 30, tzinfo=UTC)
    org.insert(
        "Account",
        {
            "Name": "Thistle Ins.",
            "OwnerId": owner,
            "CurrencyIsoCode": "GBP",
            "MasterRecordId": winner,
            "IsDeleted": True,
        },
        at,
    )


def _mail(name: str) -> str:
    return f"{name.lower().replace(' ', '.')}@fernhill.example"


class _Seeder:
    """Makes opportunities with their lines."""

    def __init__(
        self,
        org: Org,
        owners: dict[str, str],
        accounts: dict[str, str],
        products: dict[str, str],
    ) -> None:
        self._org = org
        self._owners = owners
        self._accounts = accounts
        self._products = products
        self._made = 10_000

    def pattern(self, period: str, number: int) -> None:
        """The ordinary business of a month."""
        customer = company.CUSTOMERS[number * 5 % len(company.CUSTOMERS)]
        stage = _STAGES[number % len(_STAGES)]
        month = first_day(period)
        days = (first_day(next_period(period)) - month).days
        close = month + timedelta(days=number * 11 % days)
        kind = "Renewal" if stage == "Signed Renewal" else "New Business"
        bundle = _BUNDLES[number % len(_BUNDLES)]
        name = f"{customer.crm_name} {kind} {period}"
        self._add(name, customer, stage, close, [(code, str(count), {}) for code, count in bundle])

    def special(self, row: str) -> None:
        """One row of `_SPECIAL`."""
        name, key, stage, close, lines = (cell.strip() for cell in row.split("|"))
        parsed = []
        for line in filter(None, lines.split(";")):
            code, quantity, *rest = line.split()
            parsed.append((code, quantity, dict(field.split("=") for field in rest)))
        self._add(name, company.customer(key), stage, date.fromisoformat(close), parsed)

    def _add(
        self,
        name: str,
        customer: company.Customer,
        stage: str,
        close: date,
        lines: list[tuple[str, str, dict[str, str]]],
    ) -> None:
        self._made += 1
        at = datetime.combine(close, time(20, 15), UTC) + timedelta(milliseconds=len(name) * 37)
        if close < date(2025, 4, 1):
            at = _IMPORTED
        opportunity = self._org.insert(
            "Opportunity",
            {
                "Name": name,
                "AccountId": self._accounts[customer.key],
                "OwnerId": self._owners[customer.owner],
                "StageName": stage,
                "CloseDate": close.isoformat(),
                "Type": "Renewal" if stage == "Signed Renewal" else "New Business",
                "CurrencyIsoCode": customer.currency,
                "PO_Number__c": "NA" if len(name) % 3 else f"{len(name):05d}",
                "Order_Number__c": f"SO-{self._made:05d}",
                "Region__c": "Americas" if customer.country == "US" else "International",
                "Seats__c": sum(int(float(count)) for code, count, _ in lines if code == "SEAT"),
            },
            at,
        )
        for position, (code, quantity, fields) in enumerate(lines, start=1):
            self._add_line(opportunity, customer.currency, position, code, quantity, fields, at)

    def _add_line(
        self,
        opportunity: str,
        currency: str,
        position: int,
        code: str,
        quantity: str,
        fields: dict[str, str],
        at: datetime,
    ) -> None:
        product = self._products[code]
        made_up = code == "Data-Migration"
        list_price = None if made_up else _list_price(code, currency, fields.get("Term__c"))
        values: dict[str, Any] = {
            "OpportunityId": opportunity,
            "SortOrder": position,
            "Product2Id": product,
            "ProductCode": self._org.value("Product2", product, "ProductCode"),
            "Name": self._org.value("Product2", product, "Name"),
            "CurrencyIsoCode": currency,
            "Quantity": Decimal(quantity),
            "UnitPrice": list_price,
            "ListPrice": list_price,
        }
        for field, text in fields.items():
            numeric = field in ("UnitPrice", "Discount", "Term__c")
            values[field] = Decimal(text) if numeric else text
        self._org.insert("OpportunityLineItem", values, at)


def _list_price(code: str, currency: str, term: str | None) -> Decimal:
    """List price for the whole term; prices of usage keep all their decimals."""
    price = company.list_price(code, currency)
    if code == "API-USAGE":
        return price
    months = int(term) if term else company.product(code).term_months or 1
    return (price * months).quantize(Decimal(1).scaleb(-exponent(currency)))
