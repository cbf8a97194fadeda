"""What the sandbox's org holds beside opportunities, and how it follows from other records."""

from collections import Counter
from typing import Any

import pytest

from revrec_pipeline.sandbox import company
from revrec_pipeline.sandbox.clock import Clock
from revrec_pipeline.sandbox.salesforce_data import fill
from revrec_pipeline.sandbox.salesforce_org import Org
from revrec_pipeline.sandbox.salesforce_schema import schema
from revrec_pipeline.sandbox.soql import SoqlError, translate
from revrec_pipeline.sandbox.source import CommandError


@pytest.fixture(scope="module")
def filled() -> Org:
    org = Org(Clock())
    fill(org)
    return org


@pytest.fixture
def org(filled: Org) -> Org:
    return Org(Clock(), like=filled)


def ask(org: Org, soql: str) -> list[tuple[Any, ...]]:
    """The selected values of a query with deleted rows."""
    statement = translate(soql, schema(), deleted=True)
    wanted = len(statement.selected)
    return [row[1 : wanted + 1] for row in org.select(statement.sql, statement.values)]


def test_the_same_data_is_made_every_time(filled: Org) -> None:
    again = Org(Clock())
    fill(again)
    for name, kind in schema().items():
        fields = ", ".join(f'"{field}"' for field in kind.fields)
        sql = f'SELECT {fields} FROM "{name}" ORDER BY "Id"'
        assert again.select(sql, []) == filled.select(sql, []), name


def test_a_copy_of_an_org_is_one_of_its_own(filled: Org, org: Org) -> None:
    order = org.find("Order", "StatusCode", "Activated")
    org.delete("Order", order, hard=True)
    assert filled.value("Order", order, "Id") == order
    number = org.value("Order", org.insert("Order", {"EffectiveDate": "2026-01-01"}), "OrderNumber")
    with pytest.raises(CommandError):
        filled.find("Order", "OrderNumber", number)


@pytest.mark.parametrize(
    ("soql", "least"),
    [
        ("SELECT Account.Name FROM Order WHERE StatusCode = 'Activated'", 15),
        ("SELECT SBQQ__Account__r.Name FROM SBQQ__Quote__c", 20),
        ("SELECT Account.Name FROM Contract", 15),
    ],
)
def test_the_customers_are_those_of_the_company(filled: Org, soql: str, least: int) -> None:
    names = {name for (name,) in ask(filled, soql)}
    assert names <= {customer.crm_name for customer in company.CUSTOMERS}
    assert len(names) >= least


def test_every_kind_of_order_is_there(filled: Org) -> None:
    orders = ask(filled, "SELECT Status, StatusCode, IsReductionOrder, IsDeleted FROM Order")
    assert Counter(status for status, *_ in orders).keys() == {
        "Activated",
        "Cancelled",
        "Draft",
        "Fulfilled",
    }
    assert {code for status, code, *_ in orders if status == "Fulfilled"} == {"Activated"}
    assert sum(reduces for *_, reduces, _ in orders) == 2
    assert sum(deleted for *_, deleted in orders) == 1
    items = ask(
        filled,
        "SELECT Quantity, TotalPrice, OriginalOrderItem.Quantity FROM OrderItem "
        "WHERE Order.IsReductionOrder = TRUE",
    )
    for quantity, total, original in items:
        assert quantity < 0
        assert total < 0
        assert original + quantity > 0


def test_an_orders_lines_cost_what_the_opportunitys_do(filled: Org) -> None:
    sold = ask(
        filled,
        "SELECT Id, Opportunity.Amount FROM Order WHERE IsReductionOrder = FALSE "
        "AND OpportunityId != NULL",
    )
    totals: Counter[str] = Counter()
    for order, total in ask(filled, "SELECT OrderId, TotalPrice FROM OrderItem"):
        totals[order] += total
    assert len(sold) > 90
    for order, amount in sold:
        assert round(totals[order], 3) == round(amount, 3)


def test_quotes_show_bundles_options_segments_and_an_amendment(filled: Org) -> None:
    lines = ask(
        filled,
        "SELECT SBQQ__Bundle__c, SBQQ__Bundled__c, SBQQ__Optional__c, SBQQ__SegmentIndex__c, "
        "SBQQ__PriorQuantity__c, SBQQ__RequiredBy__c FROM SBQQ__QuoteLine__c",
    )
    bundles, bundled, optional, segments, prior, required = zip(*lines, strict=True)
    assert sum(bundles) > 50
    assert sum(bundled) > 10
    assert sum(optional) > 10
    assert Counter(segments)[3.0] == 2
    assert sum(quantity is not None for quantity in prior) == 3
    assert sum(parent is not None for parent in required) > 100
    kinds = Counter(kind for (kind,) in ask(filled, "SELECT SBQQ__Type__c FROM SBQQ__Quote__c"))
    assert kinds["Amendment"] == 1
    assert kinds["Renewal"] > 10


def test_an_amendments_net_total_is_that_of_the_difference(org: Org) -> None:
    rows = ask(
        org,
        "SELECT SBQQ__Quantity__c, SBQQ__PriorQuantity__c, SBQQ__NetPrice__c, SBQQ__NetTotal__c "
        "FROM SBQQ__QuoteLine__c WHERE SBQQ__Quote__r.SBQQ__Type__c = 'Amendment' "
        "AND SBQQ__PriorQuantity__c != NULL",
    )
    assert {quantity - prior for quantity, prior, *_ in rows} == {50, 0, -1}
    for quantity, prior, price, total in rows:
        assert total == pytest.approx((quantity - prior) * price)


def test_a_lines_days_follow_from_the_quotes_without_a_new_stamp(org: Org) -> None:
    quote = org.find("SBQQ__QuoteLine__c", "SBQQ__SubscriptionPricing__c", "Fixed Price")
    line, parent = quote, org.value("SBQQ__QuoteLine__c", quote, "SBQQ__Quote__c")
    stamp = org.value("SBQQ__QuoteLine__c", line, "SystemModstamp")
    days = {"SBQQ__StartDate__c": "2027-01-01", "SBQQ__EndDate__c": "2027-12-31"}
    org.update("SBQQ__Quote__c", parent, days)
    assert org.value("SBQQ__QuoteLine__c", line, "SBQQ__EffectiveStartDate__c") == "2027-01-01"
    assert org.value("SBQQ__QuoteLine__c", line, "SBQQ__EffectiveEndDate__c") == "2027-12-31"
    assert org.value("SBQQ__QuoteLine__c", line, "SystemModstamp") == stamp


def test_subscriptions_show_a_chain_and_dates_of_termination_on_rows_that_live(filled: Org) -> None:
    rows = ask(
        filled,
        "SELECT SBQQ__Quantity__c, SBQQ__RevisedSubscription__c, SBQQ__TerminatedDate__c, "
        "SBQQ__StartDate__c, SBQQ__SubscriptionStartDate__c FROM SBQQ__Subscription__c",
    )
    assert sum(revised is not None for _, revised, *_ in rows) == 3
    assert sum(quantity < 0 for quantity, *_ in rows) == 1
    assert sum(ended is not None and ended < start for _, _, ended, start, _ in rows) == 1
    assert sum(ended is not None and ended > start for _, _, ended, start, _ in rows) > 10
    assert all(start for *_, start, _ in rows)
    assert {own is None for *_, own in rows} == {True, False}


def test_splits_show_owners_teams_and_another_type(filled: Org) -> None:
    rows = ask(
        filled,
        "SELECT OpportunityId, SplitType.DeveloperName, SplitPercentage, SplitAmount, IsDeleted, "
        "Opportunity.Amount FROM OpportunitySplit",
    )
    revenue = [row for row in rows if row[1] == "Revenue" and not row[4]]
    shares: Counter[str] = Counter()
    for opportunity, _, percentage, *_ in revenue:
        shares[opportunity] += round(percentage * 10_000)
    assert set(shares.values()) == {1_000_000}
    assert len({row[0] for row in rows if row[1] == "Overlay"}) > 20
    assert sum(deleted for *_, deleted, _ in rows) > 3
    assert sum(amount is None for _, _, _, amount, *_ in revenue) > 50


def test_a_splits_amount_follows_the_opportunitys(org: Org) -> None:
    split = ask(org, "SELECT Id, OpportunityId FROM OpportunitySplit WHERE SplitPercentage = 60")[0]
    line = org.find("OpportunityLineItem", "OpportunityId", split[1])
    org.update("OpportunityLineItem", line, {"Quantity": 1, "UnitPrice": 5000})
    amount = org.value("Opportunity", split[1], "Amount")
    assert org.value("OpportunitySplit", split[0], "SplitAmount") == pytest.approx(amount * 0.6)


def test_rates_have_one_day_each_and_kuwaits_begin_late(filled: Org) -> None:
    rows = ask(filled, "SELECT IsoCode, StartDate, NextStartDate FROM DatedConversionRate")
    for currency in ("EUR", "GBP", "JPY", "ISK", "KWD"):
        spans = sorted((start, end) for code, start, end in rows if code == currency)
        assert spans[0][0] == ("2025-10-01" if currency == "KWD" else "2025-01-01")
        assert spans[-1][1] == "9999-12-31"
        assert [start for start, _ in spans[1:]] == [end for _, end in spans[:-1]]
    corporate = ask(filled, "SELECT IsoCode FROM CurrencyType WHERE IsCorporate = TRUE")
    assert corporate == [("USD",)]


def test_what_is_deleted_takes_its_lines_with_it(org: Org) -> None:
    for name, child, field in (
        ("Order", "OrderItem", "OrderId"),
        ("SBQQ__Quote__c", "SBQQ__QuoteLine__c", "SBQQ__Quote__c"),
        ("Contract", "SBQQ__Subscription__c", "SBQQ__Contract__c"),
        ("Opportunity", "OpportunitySplit", "OpportunityId"),
    ):
        parent = ask(org, f"SELECT {field} FROM {child} WHERE IsDeleted = FALSE LIMIT 1")[0][0]
        org.delete(name, parent, hard=False)
        rows = ask(org, f"SELECT IsDeleted FROM {child} WHERE {field} = '{parent}'")
        assert rows
        assert {deleted for (deleted,) in rows} == {1}


def test_an_unknown_status_is_refused(org: Org) -> None:
    order = org.find("Order", "StatusCode", "Activated")
    with pytest.raises(CommandError, match="Order has no status 'Shipped'"):
        org.update("Order", order, {"Status": "Shipped"})


@pytest.mark.parametrize(
    ("hidden", "soql", "code"),
    [
        ("SBQQ__", "SELECT Id FROM SBQQ__Quote__c", "INVALID_TYPE"),
        ("SBQQ__", "SELECT SBQQ__PrimaryQuote__c FROM Opportunity", "INVALID_FIELD"),
        ("OpportunitySplit", "SELECT Id FROM OpportunitySplit", "INVALID_TYPE"),
        ("CurrencyIsoCode", "SELECT Id FROM DatedConversionRate", "INVALID_TYPE"),
    ],
)
def test_what_the_org_lacks_cannot_be_queried(hidden: str, soql: str, code: str) -> None:
    with pytest.raises(SoqlError) as caught:
        translate(soql, schema(hidden=[hidden]), deleted=True)
    assert caught.value.code == code


def test_custom_objects_and_relationships_are_described_as_such() -> None:
    described = schema()["SBQQ__Quote__c"].describe()
    assert (described["custom"], described["keyPrefix"]) == (True, "a0q")
    fields = {field["name"]: field for field in described["fields"]}
    link = fields["SBQQ__Opportunity2__c"]
    assert (link["relationshipName"], link["referenceTo"]) == (
        "SBQQ__Opportunity2__r",
        ["Opportunity"],
    )
    assert schema()["Order"].describe()["custom"] is False
