"""The company behind the sandbox: its customers, products, prices and salespeople.

Fixed data, the same for every source, so that what is sold in the CRM is what billing invoices.
Each customer has the spelling that sales typed into the CRM and the one that finance typed into
billing; they differ as real ones do. Documents are made from this in each source's module.
"""

from dataclasses import dataclass
from decimal import Decimal

#: The first month of the systems that the company had before it took on Salesforce and Stripe.
FOUNDED = "2023-07"
#: Months of business that every source holds.
FIRST_MONTH = "2025-01"
LAST_MONTH = "2026-06"
TIMEZONE = "America/New_York"
HOME_CURRENCY = "USD"


@dataclass(frozen=True, slots=True)
class Customer:
    """One customer, as the CRM and as billing know it."""

    key: str  # lower-case word that ids are made from
    crm_name: str
    billing_name: str | None  # None: billing was never told a name
    country: str  # ISO 3166
    currency: str
    owner: str  # salesperson
    email: str


@dataclass(frozen=True, slots=True)
class Product:
    """One product of the catalogue."""

    code: str  # the product code in the CRM and the product id in billing
    name: str
    family: str
    kind: str  # RevRec's product type
    term_months: int | None  # None: delivered at once
    price: Decimal  # list price in USD per unit and month of term, or once


_CUSTOMERS = """
northwind   | Northwind Analytics, Inc. | Northwind Analytics Inc       | US | USD | Dana Ruiz
bluepeak    | Blue Peak Logistics LLC   | BLUE PEAK LOGISTICS LLC       | US | USD | Dana Ruiz
cedarhealth | Cedar Health Partners     | Cedar Health Partners         | US | USD | Omar Haddad
harborfoods | Harbor Foods Co.          | Harbor Foods Company          | US | USD | Omar Haddad
lumen       | Lumen & Oak Design        | Lumen and Oak Design          | US | USD | Mei Tanaka
ironbridge  | Ironbridge Manufacturing  | Iron Bridge Manufacturing     | US | USD | Dana Ruiz
quarry      | Quarry Street Bank        | Quarry Street Bank N.A.       | US | USD | Omar Haddad
sablegames  | Sable Games Studio        | Sable  Games Studio           | US | USD | Mei Tanaka
tallgrass   | Tallgrass Energy Services | Tallgrass Energy Svcs         | US | USD | Dana Ruiz
vireo       | Vireo Biosciences         | Vireo Biosciences, Inc.       | US | USD | Mei Tanaka
wexford     | Wexford University        | Wexford Univ.                 | US | USD | Omar Haddad
zephyr      | Zephyr Airlines           | Zephyr Air Lines              | US | USD | Dana Ruiz
mueller     | Müller Maschinenbau GmbH  | Mueller Maschinenbau GmbH     | DE | EUR | Lena Vogt
atelier     | Atelier Garonne SARL      | ATELIER GARONNE               | FR | EUR | Lena Vogt
fiordi      | Fiordi Moda S.p.A.        | Fiordi Moda SpA               | IT | EUR | Lena Vogt
tulip       | Tulip Data B.V.           | Tulip Data BV                 | NL | EUR | Lena Vogt
camden      | Camden & Vale Ltd         | Camden and Vale Limited       | GB | GBP | Priya Shah
thistle     | Thistle Insurance plc     | Thistle Insurance PLC         | GB | GBP | Priya Shah
oxbow       | Oxbow Rail                | Oxbow Rail Ltd.               | GB | GBP | Priya Shah
sakura      | Sakura Robotics K.K.      | 桜ロボティクス株式会社       | JP | JPY | Mei Tanaka
minato      | Minato Trading            | Minato Trading Co., Ltd.      | JP | JPY | Mei Tanaka
dasman      | Dasman Contracting        | Dasman Contracting Co. W.L.L. | KW | KWD | Omar Haddad
geysir      | Geysir Ferðir ehf.        | Geysir Ferdir ehf             | IS | ISK | Lena Vogt
pinecrest   | Pinecrest Schools         |                               | US | USD | Omar Haddad
"""

_PRODUCTS = """
PLAT-STD  | Platform Standard     | Platform | Subscription          | 12 | 250.00
PLAT-PRO  | Platform Professional | Platform | Subscription          | 12 | 899.00
PLAT-ENT  | Platform Enterprise   | Platform | Subscription          | 12 | 2400.00
SEAT      | Named User Seat       | Platform | Subscription          | 12 | 39.00
API-USAGE | API Calls             | Usage    | Usage                 | 1  | 0.0125
SUP-GOLD  | Gold Support          | Support  | Support               | 12 | 320.00
SUP-PLAT  | Platinum Support      | Support  | Support               | 12 | 780.00
ONBOARD   | Onboarding Package    | Services | Professional Services |    | 4500.00
TRAINING  | Training Day          | Services | Professional Services |    | 1800.00
00420     | Edge Gateway          | Hardware | Hardware              |    | 649.00
"""


def _table(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in row.split("|")] for row in text.strip().splitlines()]


CUSTOMERS: tuple[Customer, ...] = tuple(
    Customer(key, crm, billing or None, country, currency, owner, f"billing@{key}.example")
    for key, crm, billing, country, currency, owner in _table(_CUSTOMERS)
)

PRODUCTS: tuple[Product, ...] = tuple(
    Product(code, name, family, kind, int(term) if term else None, Decimal(price))
    for code, name, family, kind, term, price in _table(_PRODUCTS)
)

#: Price of one US dollar's worth in the price lists of other currencies.
PRICE_FACTORS: dict[str, Decimal] = {
    "USD": Decimal(1),
    "EUR": Decimal("0.95"),
    "GBP": Decimal("0.80"),
    "JPY": Decimal(150),
    "KWD": Decimal("0.305"),
    "ISK": Decimal(140),
}


def customer(key: str) -> Customer:
    """The customer with that key."""
    return next(customer for customer in CUSTOMERS if customer.key == key)


def product(code: str) -> Product:
    """The product with that code."""
    return next(product for product in PRODUCTS if product.code == code)


def list_price(code: str, currency: str) -> Decimal:
    """The price of a product in a currency, in major units, unrounded."""
    return product(code).price * PRICE_FACTORS[currency]
