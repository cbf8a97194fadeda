"""Who is paid for the deals of the sandbox's org: splits, a custom object, and conversion rates."""

from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from revrec_pipeline.currency import exponent
from revrec_pipeline.periods import period_range
from revrec_pipeline.sandbox import company
from revrec_pipeline.sandbox.salesforce_deals import Deal
from revrec_pipeline.sandbox.salesforce_org import Org

#: The corporate currency has no dated rates; those of Kuwait were entered from this month on.
_FIRST_KWD_RATE = "2025-10"


def fill_costs(org: Org, deals: list[Deal]) -> None:
    """Give an org with deals what they cost."""
    _rates(org)
    _splits(org, deals)
    _commissions(org, deals)


def _splits(org: Org, deals: list[Deal]) -> None:
    """Who is credited with an opportunity: its owner, two or three people, or nobody yet."""
    founded = datetime(2024, 11, 1, 15, 0, tzinfo=UTC)
    revenue, overlay = (
        org.insert(
            "OpportunitySplitType",
            {
                "DeveloperName": name,
                "MasterLabel": name,
                "SplitField": "Opportunity.Amount",
                "IsActive": True,
                "IsTotalValidated": name == "Revenue",
            },
            founded,
        )
        for name in ("Revenue", "Overlay")
    )
    people = [id_ for (id_,) in org.select('SELECT "Id" FROM "User" ORDER BY "Id"', [])]

    def add(deal: Deal, owner: str, percentage: str, **fields: Any) -> str:
        values = {
            "OpportunityId": deal.id,
            "SplitOwnerId": owner,
            "SplitTypeId": revenue,
            "SplitPercentage": Decimal(percentage),
            "CurrencyIsoCode": deal.currency,
            **fields,
        }
        return org.insert("OpportunitySplit", values, deal.stamp)

    for deal in deals:
        other = [person for person in people if person != deal.owner]
        match deal.number % 7:
            case 3:
                continue
            case 1:
                add(deal, deal.owner, "60")
                add(deal, other[0], "40", SplitNote="Found the customer")
            case 5:  # entered by a tool that writes percentages only
                for owner, percentage in (
                    (deal.owner, "33.3334"),
                    (other[0], "33.3333"),
                    (other[1], "33.3333"),
                ):
                    add(deal, owner, percentage, SplitAmount=None)
            case _:
                add(deal, deal.owner, "100")
        if deal.number % 6 == 0:
            add(deal, other[-1], "100", SplitTypeId=overlay)
        if deal.number % 29 == 7:
            mistaken = add(deal, other[1], "10")
            org.delete("OpportunitySplit", mistaken, hard=False, at=deal.stamp)


def _commissions(org: Org, deals: list[Deal]) -> None:
    """The same in a custom object: five percent, some paid, one taken back, some incomplete."""
    for deal in deals:
        if not deal.won or not deal.lines or deal.number % 3:
            continue
        amount = Decimal(str(org.value("Opportunity", deal.id, "Amount")))
        cent = Decimal(1).scaleb(-exponent(deal.currency))
        earned = deal.close + timedelta(days=10)
        values: dict[str, Any] = {
            "Opportunity__c": deal.id,
            "Payee__c": deal.owner,
            "Payee_Name__c": org.value("User", deal.owner, "Name"),
            "Amount__c": (amount * Decimal("0.05")).quantize(cent, ROUND_HALF_UP),
            "Earned_Date__c": earned.isoformat(),
            "CurrencyIsoCode": deal.currency,
        }
        if deal.number % 2:
            values["Paid_Date__c"] = (earned + timedelta(days=20)).isoformat()
        if deal.number % 30 == 6:
            values["Earned_Date__c"] = None
        org.insert("Commission__c", values, deal.stamp)
        if deal.number % 30 == 3:
            back = {
                "Clawback__c": True,
                "Earned_Date__c": (earned + timedelta(days=60)).isoformat(),
            }
            org.insert("Commission__c", {**values, **back, "Note__c": "Left early"}, deal.stamp)


def _rates(org: Org) -> None:
    """Units of each currency per US dollar: the current ones, and those of each month."""
    founded = datetime(2024, 11, 1, 15, 0, tzinfo=UTC)
    months = list(period_range(company.FIRST_MONTH, company.LAST_MONTH))
    for currency, factor in company.PRICE_FACTORS.items():
        corporate = currency == company.HOME_CURRENCY
        org.insert(
            "CurrencyType",
            {
                "IsoCode": currency,
                "ConversionRate": factor,
                "DecimalPlaces": exponent(currency),
                "IsActive": True,
                "IsCorporate": corporate,
            },
            founded,
        )
        if corporate:
            continue
        first = _FIRST_KWD_RATE if currency == "KWD" else months[0]
        known = [month for month in months if month >= first]
        for month, after in zip(known, [*known[1:], None], strict=True):
            drift = 1 + Decimal(months.index(month)) / 1000
            org.insert(
                "DatedConversionRate",
                {
                    "IsoCode": currency,
                    "StartDate": f"{month}-01",
                    "NextStartDate": f"{after}-01" if after else "9999-12-31",
                    "ConversionRate": (factor * drift).quantize(Decimal("0.000001")),
                },
                founded,
            )
