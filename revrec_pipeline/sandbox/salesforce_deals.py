"""What the sandbox's org holds beside opportunities: orders, quotes, contracts.

All of it is made from the opportunities of `salesforce_data`, so that whichever line source is
chosen, the same customers buy the same products. The functions named after a trap make the records
that show it. Splits, commissions and rates are in `salesforce_costs`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from revrec_pipeline.currency import exponent
from revrec_pipeline.sandbox import company
from revrec_pipeline.sandbox.salesforce_org import Org

_PRICE_DECIMALS = Decimal("1e-8")
_LINE_FIELDS = (
    "Id",
    "Product2Id",
    "ProductCode",
    "Quantity",
    "TotalPrice",
    "ListPrice",
    "ServiceDate",
    "Service_End_Date__c",
)


@dataclass(frozen=True, slots=True)
class Deal:
    """An opportunity with its lines, as they stand."""

    number: int
    id: str
    name: str
    account: str
    owner: str
    currency: str
    close: date
    won: bool
    renewal: bool
    stamp: datetime
    lines: tuple[Mapping[str, Any], ...]


def fill_deals(org: Org) -> list[Deal]:
    """Give an org with opportunities all that follows from them; returns these."""
    deals = list(_deals(org))
    for deal in deals:
        if deal.lines:
            quote = _quote(org, deal)
            if deal.won and deal.number % 9 != 4:
                _order(org, deal)
            if deal.won and deal.number % 4 != 1:
                _contract(org, deal, quote)
    _reductions(org)
    _odd_orders(org, deals)
    _amendment(org, deals)
    _segments(org, deals)
    _subscription_chain(org)
    return deals


def _deals(org: Org) -> Iterator[Deal]:
    columns = (
        '"Id", "Name", "AccountId", "OwnerId", "CurrencyIsoCode", "CloseDate", "IsWon", "Type", '
        '"SystemModstamp"'
    )
    fields = ", ".join(f'"{name}"' for name in _LINE_FIELDS)
    found = org.select(
        f'SELECT {columns} FROM "Opportunity" WHERE NOT "IsDeleted" ORDER BY "Id"', []
    )
    for number, (id_, name, account, owner, currency, close, won, kind, stamp) in enumerate(found):
        lines = org.select(
            f'SELECT {fields} FROM "OpportunityLineItem" WHERE "OpportunityId" = ? '
            'AND NOT "IsDeleted" ORDER BY "SortOrder"',
            [id_],
        )
        yield Deal(
            number,
            id_,
            name,
            account,
            owner,
            currency,
            date.fromisoformat(close),
            bool(won),
            kind == "Renewal",
            datetime.fromisoformat(stamp).replace(tzinfo=UTC),
            tuple(dict(zip(_LINE_FIELDS, line, strict=True)) for line in lines),
        )


def _price(line: Mapping[str, Any]) -> Decimal:
    """What a unit costs after discounts, with all the decimals that a price field keeps."""
    price = Decimal(str(line["TotalPrice"])) / Decimal(str(line["Quantity"]))
    return price.quantize(_PRICE_DECIMALS, ROUND_HALF_UP)


def _a_year_on(start: date) -> date:
    """The last day of a year that begins on `start`."""
    day = start.day if (start.month, start.day) != (2, 29) else 28
    return date(start.year + 1, start.month, day) - timedelta(days=1)


def _recurs(line: Mapping[str, Any]) -> bool:
    """Whether the product is sold for a term; services, hardware and calls are sold once."""
    codes = {product.code for product in company.PRODUCTS if (product.term_months or 0) > 1}
    return line["ProductCode"] in codes


# -- orders ------------------------------------------------------------------------------------


def _order(org: Org, deal: Deal) -> str:
    """An order some days after the deal was won; its status may have a label of the org's own."""
    day = deal.close + timedelta(days=deal.number % 4)
    status = {7: "Draft", 5: "Fulfilled", 9: "Cancelled"}.get(deal.number % 12, "Activated")
    order = org.insert(
        "Order",
        {
            "Name": deal.name,
            "AccountId": deal.account,
            "OpportunityId": deal.id,
            "OwnerId": deal.owner,
            "Status": status,
            "EffectiveDate": day.isoformat(),
            "EndDate": _a_year_on(day).isoformat() if deal.number % 3 == 0 else None,
            "CurrencyIsoCode": deal.currency,
            "Sales_Order__c": f"SO-{20_000 + deal.number}",
        },
        deal.stamp,
    )
    for line in deal.lines:
        ends = line["Service_End_Date__c"]
        if deal.number % 3 == 1 and _recurs(line):
            ends = ends or _a_year_on(day).isoformat()
        org.insert(
            "OrderItem",
            {
                "OrderId": order,
                "Product2Id": line["Product2Id"],
                "CurrencyIsoCode": deal.currency,
                "Quantity": line["Quantity"],
                "AvailableQuantity": line["Quantity"],
                "UnitPrice": _price(line),
                "ListPrice": line["ListPrice"],
                "ServiceDate": line["ServiceDate"]
                or (day.isoformat() if deal.number % 2 else None),
                "EndDate": ends,
            },
            deal.stamp,
        )
    return order


def _reductions(org: Org) -> None:
    """Reduction orders: a header that says so, lines with negative quantities."""
    for name, day, quantity in (
        ("Three years", "2026-02-15", -100),
        ('Discounted, "all in"', "2025-09-10", -4),
    ):
        original = org.find("Order", "Name", name)
        fields = ("AccountId", "OpportunityId", "OwnerId", "CurrencyIsoCode")
        header = {field: org.value("Order", original, field) for field in fields}
        at = datetime.fromisoformat(f"{day}T16:00:00+00:00")
        reduction = org.insert(
            "Order",
            {
                **header,
                "Name": f"{name}: reduction",
                "OriginalOrderId": original,
                "IsReductionOrder": True,
                "Status": "Activated",
                "EffectiveDate": day,
                "Sales_Order__c": f"{org.value('Order', original, 'Sales_Order__c')}-R",
            },
            at,
        )
        ((item, product, price, listed),) = org.select(
            'SELECT i."Id", i."Product2Id", i."UnitPrice", i."ListPrice" FROM "OrderItem" AS i '
            'JOIN "Product2" AS p ON p."Id" = i."Product2Id" '
            'WHERE i."OrderId" = ? AND p."ProductCode" = \'SEAT\'',
            [original],
        )
        org.insert(
            "OrderItem",
            {
                "OrderId": reduction,
                "Product2Id": product,
                "OriginalOrderItemId": item,
                "CurrencyIsoCode": header["CurrencyIsoCode"],
                "Quantity": quantity,
                "UnitPrice": price,
                "ListPrice": listed,
                "ServiceDate": day,
                "EndDate": "2027-06-29",
            },
            at,
        )


def _odd_orders(org: Org, deals: list[Deal]) -> None:
    """An order without lines, one without an opportunity, and one in the recycle bin."""
    deal = next(deal for deal in deals if deal.name == "Deferred start")
    common = {
        "AccountId": deal.account,
        "OwnerId": deal.owner,
        "CurrencyIsoCode": deal.currency,
        "EffectiveDate": "2026-03-05",
    }
    org.insert("Order", {**common, "Name": "No lines yet", "Status": "Activated"}, deal.stamp)
    direct = org.insert(
        "Order", {**common, "Name": "Placed by phone", "Status": "Activated"}, deal.stamp
    )
    line = deal.lines[0]
    values = {
        "Product2Id": line["Product2Id"],
        "CurrencyIsoCode": deal.currency,
        "Quantity": 1,
        "UnitPrice": 480,
        "ListPrice": 500,
        "EndDate": "2026-12-31",
    }
    org.insert("OrderItem", {"OrderId": direct, **values}, deal.stamp)
    twice = org.insert(
        "Order", {**common, "Name": "Placed twice", "Status": "Activated"}, deal.stamp
    )
    org.insert("OrderItem", {"OrderId": twice, **values}, deal.stamp)
    org.delete("Order", twice, hard=False, at=datetime(2026, 3, 9, 8, 0, tzinfo=UTC))


# -- quotes ------------------------------------------------------------------------------------


def _quote(org: Org, deal: Deal) -> str:
    """The primary quote of an opportunity, and of every fifth the one that was not taken."""
    start = deal.close
    if deal.number % 2:  # service begins with the month after
        start = (deal.close.replace(day=1) + timedelta(days=32)).replace(day=1)
    quotes = []
    for primary in (True, False) if deal.number % 5 == 2 else (True,):
        quote = org.insert(
            "SBQQ__Quote__c",
            {
                "SBQQ__Account__c": deal.account,
                "SBQQ__Opportunity2__c": deal.id,
                "SBQQ__SalesRep__c": deal.owner,
                "SBQQ__Primary__c": primary,
                "SBQQ__Ordered__c": primary and deal.won,
                "SBQQ__Status__c": "Accepted" if primary else "Draft",
                "SBQQ__Type__c": "Renewal" if deal.renewal else "Quote",
                "SBQQ__StartDate__c": start.isoformat(),
                "SBQQ__EndDate__c": _a_year_on(start).isoformat() if deal.number % 3 else None,
                "SBQQ__SubscriptionTerm__c": 12,
                "CurrencyIsoCode": deal.currency,
                "Sales_Order__c": f"SO-{20_000 + deal.number}",
            },
            deal.stamp,
        )
        quotes.append(quote)
        _quote_lines(org, deal, quote)
    org.link(
        "Opportunity",
        deal.id,
        {"SBQQ__PrimaryQuote__c": quotes[0], "SBQQ__Contracted__c": deal.won},
    )
    return quotes[0]


def _quote_lines(org: Org, deal: Deal, quote: str) -> None:
    """A package with what is bought beside it, what is in its price, and what is optional."""
    package = None
    for position, line in enumerate(deal.lines):
        values = {
            "SBQQ__Quote__c": quote,
            "SBQQ__Product__c": line["Product2Id"],
            "SBQQ__Quantity__c": line["Quantity"],
            "SBQQ__ListPrice__c": line["ListPrice"],
            "SBQQ__NetPrice__c": _price(line),
            "SBQQ__ProrateMultiplier__c": 1,
            "SBQQ__SubscriptionPricing__c": "Fixed Price" if _recurs(line) else None,
            "CurrencyIsoCode": deal.currency,
            "SBQQ__RequiredBy__c": package,
            "SBQQ__Bundle__c": position == 0 and len(deal.lines) > 1,
        }
        made = org.insert("SBQQ__QuoteLine__c", values, deal.stamp)
        package = package or made
    if len(deal.lines) < 2:
        return
    gold = org.find("Product2", "ProductCode", "SUP-GOLD")
    listed = company.list_price("SUP-GOLD", deal.currency) * 12
    cent = Decimal(1).scaleb(-exponent(deal.currency))
    extra = {
        "SBQQ__Quote__c": quote,
        "SBQQ__Product__c": gold,
        "SBQQ__RequiredBy__c": package,
        "SBQQ__Quantity__c": 1,
        "SBQQ__ListPrice__c": listed.quantize(cent),
        "SBQQ__ProrateMultiplier__c": 1,
        "SBQQ__SubscriptionPricing__c": "Fixed Price",
        "CurrencyIsoCode": deal.currency,
    }
    if deal.number % 4 == 0:
        bundled = {**extra, "SBQQ__Bundled__c": True, "SBQQ__NetPrice__c": 0}
        org.insert("SBQQ__QuoteLine__c", bundled, deal.stamp)
    if deal.number % 4 == 2:
        optional = {
            **extra,
            "SBQQ__Optional__c": True,
            "SBQQ__NetPrice__c": listed.quantize(cent),
        }
        org.insert("SBQQ__QuoteLine__c", optional, deal.stamp)


def _amendment(org: Org, deals: list[Deal]) -> None:
    """A quote that amends a contract repeats its lines: more of one, less of one, one as it was."""
    contracts = dict(
        org.select('SELECT "AccountId", "Id" FROM "Contract" ORDER BY "StartDate" DESC', [])
    )
    deal = next(
        deal
        for deal in reversed(deals)
        if deal.won
        and deal.account in contracts
        and org.value("Contract", contracts[deal.account], "SBQQ__Opportunity__c") != deal.id
        and any(line["ProductCode"] == "SEAT" for line in deal.lines)
    )
    quote = org.find("SBQQ__Quote__c", "SBQQ__Opportunity2__c", deal.id)
    amends = {"SBQQ__Type__c": "Amendment", "SBQQ__MasterContract__c": contracts[deal.account]}
    org.link("SBQQ__Quote__c", quote, amends)
    seats = org.select(
        'SELECT l."Id", l."SBQQ__Quantity__c" FROM "SBQQ__QuoteLine__c" AS l '
        'JOIN "Product2" AS p ON p."Id" = l."SBQQ__Product__c" '
        'WHERE l."SBQQ__Quote__c" = ? AND p."ProductCode" = \'SEAT\'',
        [quote],
    )
    for line, more in seats:
        changed = {"SBQQ__PriorQuantity__c": 20, "SBQQ__Quantity__c": 20 + more}
        org.link("SBQQ__QuoteLine__c", line, {**changed, "SBQQ__Existing__c": True})
    for code, prior, quantity, price in (("PLAT-STD", 1, 1, 2400), ("SUP-PLAT", 2, 1, 7488)):
        org.insert(
            "SBQQ__QuoteLine__c",
            {
                "SBQQ__Quote__c": quote,
                "SBQQ__Product__c": org.find("Product2", "ProductCode", code),
                "SBQQ__Existing__c": True,
                "SBQQ__PriorQuantity__c": prior,
                "SBQQ__Quantity__c": quantity,
                "SBQQ__ListPrice__c": price,
                "SBQQ__NetPrice__c": price,
                "SBQQ__ProrateMultiplier__c": 1,
                "SBQQ__SubscriptionPricing__c": "Fixed Price",
                "CurrencyIsoCode": deal.currency,
            },
            deal.stamp,
        )


def _segments(org: Org, deals: list[Deal]) -> None:
    """A product sold by the year for three years is three lines, each with its own days."""
    deal = next(deal for deal in deals if deal.name == "Three years")
    quote = org.find("SBQQ__Quote__c", "SBQQ__Opportunity2__c", deal.id)
    for (line,) in org.select(
        'SELECT "Id" FROM "SBQQ__QuoteLine__c" WHERE "SBQQ__Quote__c" = ?', [quote]
    ):
        org.delete("SBQQ__QuoteLine__c", line, hard=True)
    for line in deal.lines:
        start = deal.close
        for index in (1, 2, 3):
            org.insert(
                "SBQQ__QuoteLine__c",
                {
                    "SBQQ__Quote__c": quote,
                    "SBQQ__Product__c": line["Product2Id"],
                    "SBQQ__Quantity__c": line["Quantity"],
                    "SBQQ__ListPrice__c": Decimal(str(line["ListPrice"])) / 3,
                    "SBQQ__NetPrice__c": (_price(line) / 3).quantize(_PRICE_DECIMALS),
                    "SBQQ__ProrateMultiplier__c": 1,
                    "SBQQ__SubscriptionPricing__c": "Fixed Price",
                    "SBQQ__SegmentIndex__c": index,
                    "SBQQ__SegmentKey__c": f"{line['ProductCode']}-{deal.number}",
                    "SBQQ__StartDate__c": start.isoformat(),
                    "SBQQ__EndDate__c": _a_year_on(start).isoformat(),
                    "CurrencyIsoCode": deal.currency,
                },
                deal.stamp,
            )
            start = _a_year_on(start) + timedelta(days=1)


# -- contracts ---------------------------------------------------------------------------------


def _contract(org: Org, deal: Deal, quote: str) -> None:
    """A contract with a subscription for each line that recurs; every tenth is not active yet."""
    start = date.fromisoformat(org.value("SBQQ__Quote__c", quote, "SBQQ__StartDate__c"))
    recurring = [line for line in deal.lines if _recurs(line)]
    if not recurring:
        return
    contract = org.insert(
        "Contract",
        {
            "AccountId": deal.account,
            "OwnerId": deal.owner,
            "Status": "In Approval Process" if deal.number % 10 == 3 else "Activated",
            "StartDate": start.isoformat(),
            "EndDate": _a_year_on(start).isoformat(),
            "ContractTerm": 12,
            "CurrencyIsoCode": deal.currency,
            "SBQQ__Opportunity__c": deal.id,
            "SBQQ__Quote__c": quote,
        },
        deal.stamp,
    )
    for line in recurring:
        org.insert(
            "SBQQ__Subscription__c",
            {
                "SBQQ__Contract__c": contract,
                "SBQQ__Account__c": deal.account,
                "SBQQ__Product__c": line["Product2Id"],
                "SBQQ__Quantity__c": line["Quantity"],
                "SBQQ__ListPrice__c": line["ListPrice"],
                "SBQQ__NetPrice__c": _price(line),
                "SBQQ__ProrateMultiplier__c": 1,
                # An org may leave the first pair blank; the second one is always there.
                "SBQQ__SubscriptionStartDate__c": start.isoformat() if deal.number % 2 else None,
                "SBQQ__StartDate__c": start.isoformat(),
                "SBQQ__EndDate__c": _a_year_on(start).isoformat(),
                # It stands on many rows that live on.
                "SBQQ__TerminatedDate__c": _a_year_on(start).isoformat()
                if deal.number % 5 == 0
                else None,
                "CurrencyIsoCode": deal.currency,
            },
            deal.stamp,
        )


def _subscription_chain(org: Org) -> None:
    """Half a year on, seats are given back and others added; one row ended before it began."""
    ((contract, account, currency, start, seats, product, listed, price),) = org.select(
        'SELECT c."Id", c."AccountId", c."CurrencyIsoCode", c."StartDate", s."Id", '
        's."SBQQ__Product__c", s."SBQQ__ListPrice__c", s."SBQQ__NetPrice__c" '
        'FROM "SBQQ__Subscription__c" AS s JOIN "Contract" AS c ON c."Id" = s."SBQQ__Contract__c" '
        'JOIN "Product2" AS p ON p."Id" = s."SBQQ__Product__c" '
        "WHERE p.\"ProductCode\" = 'SEAT' AND c.\"CurrencyIsoCode\" = 'USD' "
        "AND c.\"StatusCode\" = 'Activated' AND c.\"StartDate\" LIKE '2025-1%' "
        'ORDER BY c."Id" LIMIT 1',
        [],
    )
    begin = date.fromisoformat(start)
    middle = begin + timedelta(days=182)
    half = Decimal("0.5")
    common = {
        "SBQQ__Contract__c": contract,
        "SBQQ__Account__c": account,
        "SBQQ__Product__c": product,
        "SBQQ__RevisedSubscription__c": seats,
        "SBQQ__RootId__c": seats,
        "SBQQ__ListPrice__c": listed,
        "SBQQ__NetPrice__c": (Decimal(str(price)) * half).quantize(_PRICE_DECIMALS),
        "SBQQ__ProrateMultiplier__c": half,
        "SBQQ__StartDate__c": middle.isoformat(),
        "SBQQ__EndDate__c": _a_year_on(begin).isoformat(),
        "CurrencyIsoCode": currency,
    }
    at = datetime(middle.year, middle.month, middle.day, 12, 0, tzinfo=UTC)
    for quantity, terminated in ((-5, None), (12, None), (3, begin)):
        end = {"SBQQ__TerminatedDate__c": terminated.isoformat() if terminated else None}
        org.insert("SBQQ__Subscription__c", {**common, "SBQQ__Quantity__c": quantity, **end}, at)
