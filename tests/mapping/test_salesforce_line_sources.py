"""Salesforce orders, CPQ quotes and CPQ subscriptions become order lines."""

import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from pydantic import ValidationError
from salesforce_pages import STAMP, Number, Pages, bulk, mapped, page, rest, table

from revrec_pipeline.mapping import Site
from revrec_pipeline.mapping.salesforce import SOURCE
from revrec_pipeline.mapping.salesforce_reads import CURRENCY, lookups, standard_paths
from revrec_pipeline.mapping.salesforce_settings import SalesforceSettings
from revrec_pipeline.model import ORDER_LINE, RecordType
from revrec_pipeline.sandbox import salesforce_wire as wire
from revrec_pipeline.sandbox.clock import Clock
from revrec_pipeline.sandbox.salesforce_data import fill
from revrec_pipeline.sandbox.salesforce_org import Org
from revrec_pipeline.sandbox.salesforce_schema import schema
from revrec_pipeline.sandbox.soql import translate

ORDER = SalesforceSettings(line_source="order")
QUOTE = SalesforceSettings(line_source="cpq_quote")
SUBSCRIPTION = SalesforceSettings(line_source="cpq_subscription")
_OPPORTUNITY = "SBQQ__Opportunity2__r"
_SHARED = {"IsDeleted": False, "SystemModstamp": STAMP, "CurrencyIsoCode": "EUR"}


def order(**changes: Any) -> dict[str, Any]:
    """An activated order of January 15th."""
    return {
        **_SHARED,
        "Id": "801000000000001AAA",
        "OrderNumber": "00000101",
        "Name": "Acme",
        "AccountId": "001000000000001AAA",
        "Account.Name": "Acme Inc.",
        "Owner.Name": "Dana Ruiz",
        "OpportunityId": "006000000000001AAA",
        "StatusCode": "Activated",
        "EffectiveDate": "2026-01-15",
        "EndDate": None,
        **changes,
    }


def item(**changes: Any) -> dict[str, Any]:
    """A line of that order: 2 at 600.00 each for 12 months."""
    return {
        "Id": "802000000000001AAA",
        "IsDeleted": False,
        "OrderId": "801000000000001AAA",
        "Product2Id": "01t000000000001AAA",
        "Product2.ProductCode": "001",
        "Product2.Name": "Platform",
        "Product2.Term__c": Number("12.0"),
        "Quantity": Number("2.0"),
        "ListPrice": Number("650.0"),
        "UnitPrice": Number("600.0"),
        "TotalPrice": Number("1200.0"),
        "ServiceDate": None,
        "EndDate": None,
        **changes,
    }


def quote(**changes: Any) -> dict[str, Any]:
    """The primary quote of an opportunity that was won on January 15th."""
    return {
        **_SHARED,
        "Id": "a0q000000000001AAA",
        "Name": "Q-00042",
        "SBQQ__Account__c": "001000000000001AAA",
        "SBQQ__Account__r.Name": "Acme Inc.",
        "SBQQ__SalesRep__r.Name": "Dana Ruiz",
        "SBQQ__Opportunity2__c": "006000000000001AAA",
        f"{_OPPORTUNITY}.Name": "Acme renewal",
        f"{_OPPORTUNITY}.IsDeleted": False,
        f"{_OPPORTUNITY}.StageName": "Closed Won",
        f"{_OPPORTUNITY}.IsClosed": True,
        f"{_OPPORTUNITY}.IsWon": True,
        f"{_OPPORTUNITY}.CloseDate": "2026-01-15",
        "SBQQ__Primary__c": True,
        "SBQQ__Type__c": "Quote",
        "SBQQ__StartDate__c": "2026-02-01",
        "SBQQ__EndDate__c": "2027-01-31",
        "SBQQ__SubscriptionTerm__c": Number("12.0"),
        **changes,
    }


def quote_line(**changes: Any) -> dict[str, Any]:
    """A subscription on that quote: 10 at 99.00 each."""
    return {
        "Id": "a0l000000000001AAA",
        "IsDeleted": False,
        "SBQQ__Quote__c": "a0q000000000001AAA",
        "SBQQ__Product__c": "01t000000000001AAA",
        "SBQQ__Product__r.ProductCode": "SEAT",
        "SBQQ__Product__r.Name": "Seat",
        "SBQQ__Quantity__c": Number("10.0"),
        "SBQQ__PriorQuantity__c": None,
        "SBQQ__ListPrice__c": Number("120.0"),
        "SBQQ__NetPrice__c": Number("99.0"),
        "SBQQ__NetTotal__c": Number("990.0"),
        "SBQQ__Optional__c": False,
        "SBQQ__SubscriptionPricing__c": "Fixed Price",
        "SBQQ__EffectiveStartDate__c": None,
        "SBQQ__EffectiveEndDate__c": None,
        **changes,
    }


def contract(**changes: Any) -> dict[str, Any]:
    """An activated contract that begins on February 1st."""
    return {
        **_SHARED,
        "Id": "800000000000001AAA",
        "ContractNumber": "00000205",
        "AccountId": "001000000000001AAA",
        "Account.Name": "Acme Inc.",
        "Owner.Name": "Dana Ruiz",
        "SBQQ__Opportunity__c": "006000000000001AAA",
        "StatusCode": "Activated",
        "StartDate": "2026-02-01",
        "EndDate": "2027-01-31",
        **changes,
    }


def subscription(**changes: Any) -> dict[str, Any]:
    """A subscription of that contract: 10 at 99.00 each."""
    return {
        "Id": "a0s000000000001AAA",
        "IsDeleted": False,
        "SBQQ__Contract__c": "800000000000001AAA",
        "SBQQ__Product__c": "01t000000000001AAA",
        "SBQQ__Product__r.ProductCode": "SEAT",
        "SBQQ__Product__r.Name": "Seat",
        "SBQQ__Quantity__c": Number("10.0"),
        "SBQQ__ListPrice__c": Number("120.0"),
        "SBQQ__NetPrice__c": Number("99.0"),
        "SBQQ__StartDate__c": "2026-02-01",
        "SBQQ__EndDate__c": "2027-01-31",
        "SBQQ__TerminatedDate__c": None,
        **changes,
    }


def orders(tmp_path: Path, head: dict[str, Any], *lines: dict[str, Any], **more: Any) -> Any:
    pages = page(order=[head], order_item=list(lines))
    return mapped(pages, tmp_path, more.pop("settings", ORDER), **more)


def quotes(tmp_path: Path, head: dict[str, Any], *lines: dict[str, Any], **more: Any) -> Any:
    pages = page(quote=[head], quote_line=list(lines))
    return mapped(pages, tmp_path, more.pop("settings", QUOTE), **more)


def contracts(tmp_path: Path, head: dict[str, Any], *lines: dict[str, Any], **more: Any) -> Any:
    pages = page(contract=[head], subscription=list(lines))
    return mapped(pages, tmp_path, more.pop("settings", SUBSCRIPTION), **more)


# -- what is pulled under which settings -------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "objects", "documents"),
    [
        ({}, ["opportunity", "opportunity_line_item"], ["opportunity"]),
        ({"line_source": "order"}, ["order", "order_item"], ["order"]),
        ({"line_source": "cpq_quote"}, ["quote", "quote_line"], ["quote"]),
        ({"line_source": "cpq_subscription"}, ["contract", "subscription"], ["contract"]),
        (
            {"commissions": True},
            [
                "opportunity",
                "opportunity_line_item",
                "opportunity_split",
                "currency_type",
                "dated_conversion_rate",
            ],
            ["opportunity"],
        ),
        (
            {"line_source": "order", "commissions": True},
            [
                "order",
                "order_item",
                "opportunity",
                "opportunity_split",
                "opportunity_order",
                "currency_type",
                "dated_conversion_rate",
            ],
            ["order", "opportunity"],
        ),
    ],
)
def test_only_the_objects_that_the_settings_need_are_pulled(
    settings: dict[str, Any], objects: list[str], documents: list[str]
) -> None:
    source = SOURCE.under(SalesforceSettings.model_validate(settings))
    assert list(source.objects) == objects
    assert list(source.documents) == documents


def test_an_opportunity_may_be_without_order_lines_where_orders_give_them() -> None:
    """Else every opportunity of the month would count as lost."""
    settings = SalesforceSettings(line_source="order", commissions=True)
    source = SOURCE.under(settings)
    assert source.feeding(RecordType.SALES) == ["order"]
    assert source.feeding(RecordType.COMMISSIONS) == ["opportunity"]


# -- orders ------------------------------------------------------------------------------------


def test_an_activated_order_becomes_order_lines(tmp_path: Path) -> None:
    (row,) = orders(tmp_path, order(), item())
    lineage = ("source", "record_type", "raw_batch", "raw_page", "source_version", "custom_fields")
    assert {name: value for name, value in row.items() if name not in lineage} == {
        "period": "2026-01",
        "document_type": "order",
        "document_id": "801000000000001AAA",
        "line_id": "802000000000001AAA",
        "url": "https://acme.lightning.force.com/lightning/r/Order/801000000000001AAA/view",
        "excluded_by": None,
        "customer_id": "001000000000001AAA",
        "customer_name": "Acme Inc.",
        "order_number": "00000101",
        "order_item_number": "802000000000001AAA",
        "order_name": "Acme",
        "product_id": "01t000000000001AAA",
        "product_code": "001",
        "product_name": "Platform",
        "product_family": None,
        "product_type": None,
        "order_start_date": date(2026, 1, 15),
        "service_start_date": date(2026, 1, 15),
        "service_end_date": date(2027, 1, 14),
        "quantity": Decimal(2),
        "list_price": Decimal(650),
        "unit_price": Decimal(600),
        "amount": Decimal(1200),
        "currency": "EUR",
        "account_owner": "Dana Ruiz",
        "opportunity_id": "006000000000001AAA",
        "reference_invoice_number": None,
    }


@pytest.mark.parametrize(
    ("code", "rule"),
    [
        ("Activated", None),
        ("Draft", "not_activated"),
        ("Cancelled", "not_activated"),
        (None, "not_activated"),
    ],
)
def test_the_code_behind_the_status_decides_whether_an_order_counts(
    tmp_path: Path, code: str | None, rule: str | None
) -> None:
    """The label can be anything: `Fulfilled` stands for Activated in the sandbox's org."""
    (row,) = orders(tmp_path, order(StatusCode=code, Status="Whatever"), item())
    assert row["excluded_by"] == rule


def test_a_reduction_order_is_negative_and_names_the_order_that_it_reduces(tmp_path: Path) -> None:
    head = order(**{"OriginalOrder.OrderNumber": "00000077", "OrderNumber": "00000101"})
    less = item(Quantity=Number("-3.0"), TotalPrice=Number("-1800.0"))
    (row,) = orders(tmp_path, head, less)
    assert (row["quantity"], row["unit_price"], row["amount"]) == (-3, 600, -1800)
    assert (row["order_number"], row["reference_invoice_number"]) == ("00000101", "00000077")


@pytest.mark.parametrize(
    ("head", "line", "start", "end"),
    [
        ({}, {}, "2026-01-15", "2027-01-14"),
        ({"EndDate": "2026-12-31"}, {}, "2026-01-15", "2026-12-31"),
        ({"EndDate": "2026-12-31"}, {"EndDate": "2026-06-30"}, "2026-01-15", "2026-06-30"),
        ({}, {"ServiceDate": "2026-03-01"}, "2026-03-01", "2027-02-28"),
    ],
)
def test_an_orders_end_date_is_the_last_day_and_wins_over_the_term(
    tmp_path: Path, head: dict[str, Any], line: dict[str, Any], start: str, end: str
) -> None:
    (row,) = orders(tmp_path, order(**head), item(**line))
    assert row["service_start_date"] == date.fromisoformat(start)
    assert row["service_end_date"] == date.fromisoformat(end)


def test_an_order_without_lines_keeps_one_row(tmp_path: Path) -> None:
    (row,) = orders(tmp_path, order())
    assert (row["line_id"], row["excluded_by"], row["service_start_date"]) == (None, None, None)


# -- CPQ quotes --------------------------------------------------------------------------------


def test_the_primary_quote_of_a_won_opportunity_becomes_order_lines(tmp_path: Path) -> None:
    (row,) = quotes(tmp_path, quote(), quote_line())
    assert row["url"].endswith("/lightning/r/SBQQ__Quote__c/a0q000000000001AAA/view")
    assert (row["period"], row["document_type"], row["excluded_by"]) == ("2026-01", "quote", None)
    assert (row["order_number"], row["order_name"]) == ("Q-00042", "Acme renewal")
    assert (row["customer_id"], row["customer_name"]) == ("001000000000001AAA", "Acme Inc.")
    assert (row["product_code"], row["account_owner"]) == ("SEAT", "Dana Ruiz")
    assert row["opportunity_id"] == "006000000000001AAA"
    assert row["order_start_date"] == date(2026, 1, 15)
    assert (row["service_start_date"], row["service_end_date"]) == (
        date(2026, 2, 1),
        date(2027, 1, 31),
    )
    assert (row["quantity"], row["list_price"]) == (10, 120)
    assert (row["unit_price"], row["amount"], row["currency"]) == (99, 990, "EUR")


@pytest.mark.parametrize(
    ("head", "line", "settings", "rule"),
    [
        ({"SBQQ__Primary__c": False}, {}, {}, "not_primary"),
        ({f"{_OPPORTUNITY}.IsWon": False}, {}, {}, "not_closed_won"),
        ({f"{_OPPORTUNITY}.IsDeleted": True}, {}, {}, "deleted"),
        ({f"{_OPPORTUNITY}.IsDeleted": True}, {}, {"exclude_deleted": False}, None),
        ({}, {}, {"closed_stages": ["Signed Renewal"]}, "not_closed_won"),
        ({f"{_OPPORTUNITY}.IsWon": False}, {}, {"closed_stages": ["Closed Won"]}, None),
        ({}, {"SBQQ__Optional__c": True}, {}, "optional_line"),
        ({}, {"IsDeleted": True}, {}, "deleted"),
        ({}, {}, {"exclude_products": ["SEAT"]}, "excluded_product"),
    ],
)
def test_a_quotes_row_that_does_not_count_names_the_rule(
    tmp_path: Path,
    head: dict[str, Any],
    line: dict[str, Any],
    settings: dict[str, Any],
    rule: str | None,
) -> None:
    configured = SalesforceSettings.model_validate({"line_source": "cpq_quote", **settings})
    (row,) = quotes(tmp_path, quote(**head), quote_line(**line), settings=configured)
    assert row["excluded_by"] == rule


def test_an_amendment_sells_the_difference_to_the_prior_quantity(tmp_path: Path) -> None:
    """Its lines repeat the contract: more seats, fewer seats, and one product as it was."""
    reference = "SBQQ__MasterContract__r.SBQQ__Quote__r.Name"
    head = quote(SBQQ__Type__c="Amendment", **{reference: "Q-00007"})
    lines = [
        quote_line(
            Id=f"a0l00000000000{number}AAA",
            SBQQ__Quantity__c=Number(quantity),
            SBQQ__PriorQuantity__c=Number(prior),
            SBQQ__NetTotal__c=Number(total),
        )
        for number, (quantity, prior, total) in enumerate(
            [("15.0", "10.0", "495.0"), ("4.0", "10.0", "-594.0"), ("10.0", "10.0", "0.0")]
        )
    ]
    found = quotes(tmp_path, head, *lines)
    assert [row["quantity"] for row in found] == [5, -6, 0]
    assert [row["amount"] for row in found] == [495, -594, 0]
    assert [row["unit_price"] for row in found] == [99, 99, 99]
    assert [row["excluded_by"] for row in found] == [None, None, "unchanged_line"]
    assert {row["reference_invoice_number"] for row in found} == {"Q-00007"}


def test_only_an_amendment_counts_differences(tmp_path: Path) -> None:
    renewed = quote_line(SBQQ__PriorQuantity__c=Number("10.0"))
    (row,) = quotes(tmp_path, quote(SBQQ__Type__c="Renewal"), renewed)
    assert (row["quantity"], row["amount"], row["excluded_by"]) == (10, 990, None)


def test_a_bundle_and_its_options_each_count_with_their_own_net_total(tmp_path: Path) -> None:
    """An option in the package's price stays a row of nothing: its list price is allocated."""
    package = quote_line(Id="a0l000000000001AAA", SBQQ__Bundle__c=True)
    included = quote_line(
        Id="a0l000000000002AAA",
        SBQQ__RequiredBy__c="a0l000000000001AAA",
        SBQQ__Bundled__c=True,
        SBQQ__NetPrice__c=Number("0.0"),
        SBQQ__NetTotal__c=Number("0.0"),
    )
    beside = quote_line(Id="a0l000000000003AAA", SBQQ__RequiredBy__c="a0l000000000001AAA")
    found = quotes(tmp_path, quote(), package, included, beside)
    assert [row["amount"] for row in found] == [990, 0, 990]
    assert [row["list_price"] for row in found] == [120, 120, 120]
    assert {row["excluded_by"] for row in found} == {None}


def test_segments_of_several_years_are_lines_with_their_own_days(tmp_path: Path) -> None:
    lines = [
        quote_line(
            Id=f"a0l00000000000{year}AAA",
            SBQQ__SegmentIndex__c=Number(f"{year}.0"),
            SBQQ__StartDate__c=f"202{5 + year}-02-01",
            SBQQ__EndDate__c=f"202{6 + year}-01-31",
            SBQQ__NetTotal__c=Number(f"{year}00.0"),
        )
        for year in (1, 2, 3)
    ]
    found = quotes(tmp_path, quote(), *lines)
    assert [row["service_start_date"].year for row in found] == [2026, 2027, 2028]
    assert [row["service_end_date"] for row in found] == [
        date(2027, 1, 31),
        date(2028, 1, 31),
        date(2029, 1, 31),
    ]
    assert [row["amount"] for row in found] == [100, 200, 300]


_ONCE = {"SBQQ__SubscriptionPricing__c": None}


@pytest.mark.parametrize(
    ("head", "line", "start", "end"),
    [
        (
            {},
            {
                "SBQQ__EffectiveStartDate__c": "2026-03-01",
                "SBQQ__EffectiveEndDate__c": "2026-08-31",
                "SBQQ__EndDate__c": "2026-07-31",
            },
            "2026-03-01",
            "2026-08-31",
        ),
        ({}, {"SBQQ__EndDate__c": "2026-07-31"}, "2026-02-01", "2026-07-31"),
        ({"SBQQ__EndDate__c": None}, {}, "2026-02-01", "2027-01-31"),
        (
            {"SBQQ__EndDate__c": None},
            {"SBQQ__SubscriptionTerm__c": Number("3.0")},
            "2026-02-01",
            "2026-04-30",
        ),
        ({"SBQQ__StartDate__c": None, "SBQQ__EndDate__c": None}, {}, "2026-01-15", "2027-01-14"),
        ({}, {**_ONCE, "SBQQ__Product__r.Term__c": Number("1.0")}, "2026-02-01", "2026-02-28"),
        ({}, _ONCE, "2026-02-01", None),
    ],
)
def test_days_come_from_the_line_else_the_quote_and_what_is_sold_once_has_no_default_end(
    tmp_path: Path, head: dict[str, Any], line: dict[str, Any], start: str, end: str | None
) -> None:
    (row,) = quotes(tmp_path, quote(**head), quote_line(**line))
    assert row["service_start_date"] == date.fromisoformat(start)
    assert row["service_end_date"] == (date.fromisoformat(end) if end else None)


def test_a_prorated_net_price_is_not_prorated_twice(tmp_path: Path) -> None:
    half = quote_line(
        SBQQ__ProrateMultiplier__c=Number("0.5"),
        SBQQ__NetPrice__c=Number("49.5"),
        SBQQ__NetTotal__c=Number("495.0"),
    )
    (row,) = quotes(tmp_path, quote(), half)
    assert (row["unit_price"], row["amount"]) == (Decimal("49.5"), 495)


# -- CPQ subscriptions -------------------------------------------------------------------------


def test_a_contract_with_its_subscriptions_becomes_order_lines(tmp_path: Path) -> None:
    (row,) = contracts(tmp_path, contract(), subscription())
    assert (row["period"], row["document_type"], row["excluded_by"]) == (
        "2026-02",
        "contract",
        None,
    )
    assert (row["order_number"], row["order_name"]) == ("00000205", None)
    assert (row["service_start_date"], row["service_end_date"]) == (
        date(2026, 2, 1),
        date(2027, 1, 31),
    )
    assert (row["quantity"], row["unit_price"], row["amount"]) == (10, 99, 990)
    assert row["opportunity_id"] == "006000000000001AAA"


def test_a_chain_of_subscriptions_is_summed_and_never_merged_by_product(tmp_path: Path) -> None:
    """An amendment posts a row with the difference; it names the row that it revises."""
    less = subscription(
        Id="a0s000000000002AAA",
        SBQQ__RevisedSubscription__c="a0s000000000001AAA",
        SBQQ__Quantity__c=Number("-4.0"),
        SBQQ__NetPrice__c=Number("49.5"),
        SBQQ__StartDate__c="2026-08-01",
    )
    found = contracts(tmp_path, contract(), subscription(), less)
    assert [row["quantity"] for row in found] == [10, -4]
    assert [row["amount"] for row in found] == [990, -198]
    assert {row["product_code"] for row in found} == {"SEAT"}


@pytest.mark.parametrize(
    ("terminated", "rule"),
    [(None, None), ("2026-01-31", "terminated"), ("2026-02-01", None), ("2026-09-30", None)],
)
def test_only_a_subscription_that_ended_before_it_began_is_terminated(
    tmp_path: Path, terminated: str | None, rule: str | None
) -> None:
    """In one org 22 % of the live rows carried such a date."""
    row = contracts(tmp_path, contract(), subscription(SBQQ__TerminatedDate__c=terminated))[0]
    assert (row["excluded_by"], row["service_end_date"]) == (rule, date(2027, 1, 31))


@pytest.mark.parametrize("code", ["Draft", "InApproval", None])
def test_a_contract_that_nobody_has_activated_does_not_count(
    tmp_path: Path, code: str | None
) -> None:
    row = contracts(tmp_path, contract(StatusCode=code), subscription())[0]
    assert row["excluded_by"] == "not_activated"


@hypothesis(deadline=None, max_examples=15)
@given(
    quantity=st.decimals(-(10**4), 10**4, places=2, allow_nan=False).filter(bool),
    price=st.decimals(0, 10**5, places=8, allow_nan=False),
    currency=st.sampled_from(["USD", "JPY", "KWD"]),
)
def test_a_subscriptions_price_times_quantity_is_its_amount_in_whole_minor_units(
    tmp_path_factory: pytest.TempPathFactory, quantity: Decimal, price: Decimal, currency: str
) -> None:
    row = contracts(
        tmp_path_factory.mktemp("spill"),
        contract(CurrencyIsoCode=currency),
        subscription(
            SBQQ__Quantity__c=Number(f"{quantity:f}"), SBQQ__NetPrice__c=Number(f"{price:f}")
        ),
    )[0]
    cent = Decimal(1).scaleb(-{"USD": 2, "JPY": 0, "KWD": 3}[currency])
    assert abs(row["amount"] - quantity * price) <= cent / 2
    assert (row["amount"] / cent) % 1 == 0
    assert abs(row["quantity"] * row["unit_price"] - row["amount"]) < cent / 2


# -- settings that hold for every line source --------------------------------------------------


def pages_of(line_source: str) -> tuple[Pages, str, str, str]:
    """A document with a line, its header's raw object, and the ways to account and product."""
    match line_source:
        case "order":
            return page(order=[order()], order_item=[item()]), "order", "Account", "Product2"
        case "cpq_quote":
            pages = page(quote=[quote()], quote_line=[quote_line()])
            return pages, "quote", "SBQQ__Account__r", "SBQQ__Product__r"
        case _:
            pages = page(contract=[contract()], subscription=[subscription()])
            return pages, "contract", "Account", "SBQQ__Product__r"


def with_fields(pages: Pages, name: str, **fields: str) -> Pages:
    """The pages with further fields of a raw object; one below a parent is `parent|field`."""
    ((landing, body),) = pages[name]
    content = json.loads(body)
    for path, value in fields.items():
        parent, _, field = path.partition("|")
        place = content["records"][0]
        if field:
            place = place.setdefault(parent, {})
        place[field or parent] = value
    return {**pages, name: [(landing, json.dumps(content))]}


@pytest.mark.parametrize("line_source", ["order", "cpq_quote", "cpq_subscription"])
def test_ids_and_numbers_come_from_the_fields_that_keep_them(
    tmp_path: Path, line_source: str
) -> None:
    pages, header, account, product = pages_of(line_source)
    line = next(name for name in pages if name != header)
    pages = with_fields(pages, header, Sales_Order__c="SO-7", **{f"{account}|Billing_Id__c": "c-9"})
    pages = with_fields(pages, line, **{f"{product}|Billing_Code__c": "P-1"})
    settings = SalesforceSettings.model_validate(
        {
            "line_source": line_source,
            "customer_id_field": "Billing_Id__c",
            "product_id_field": "Billing_Code__c",
            "order_number_field": "Sales_Order__c",
        }
    )
    (row,) = mapped(pages, tmp_path, settings)
    assert (row["customer_id"], row["order_number"], row["product_code"]) == ("c-9", "SO-7", "P-1")


@pytest.mark.parametrize("line_source", ["order", "cpq_quote", "cpq_subscription"])
def test_a_configured_field_that_is_empty_is_missing_and_nothing_stands_in_for_it(
    tmp_path: Path, line_source: str
) -> None:
    settings = SalesforceSettings.model_validate(
        {
            "line_source": line_source,
            "customer_id_field": "Billing_Id__c",
            "order_number_field": "Sales_Order__c",
        }
    )
    (row,) = mapped(pages_of(line_source)[0], tmp_path, settings)
    assert (row["customer_id"], row["order_number"]) == (None, None)


@pytest.mark.parametrize("line_source", ["order", "cpq_quote", "cpq_subscription"])
def test_a_document_before_the_conversion_date_is_excluded(
    tmp_path: Path, line_source: str
) -> None:
    pages, *_ = pages_of(line_source)
    settings = SalesforceSettings.model_validate({"line_source": line_source})
    for day, rule in [("2026-02-02", "before_conversion_date"), ("2026-01-15", None)]:
        site = Site(timezone="UTC", home_currency="USD", conversion_date=day)
        assert mapped(pages, tmp_path, settings, site)[0]["excluded_by"] == rule


@pytest.mark.parametrize(
    ("line_source", "custom", "header", "field"),
    [
        ("order", "Order.PO__c", "order", "PO__c"),
        ("order", "Opportunity.PO__c", "order", "Opportunity|PO__c"),
        ("cpq_quote", "Account.PO__c", "quote", "SBQQ__Account__r|PO__c"),
        ("cpq_quote", "Opportunity.PO__c", "quote", f"{_OPPORTUNITY}|PO__c"),
        ("cpq_quote", "PO__c", "quote_line", "PO__c"),
        ("cpq_subscription", "Product2.PO__c", "subscription", "SBQQ__Product__r|PO__c"),
    ],
)
def test_a_custom_field_is_found_by_the_name_of_its_object(
    tmp_path: Path, line_source: str, custom: str, header: str, field: str
) -> None:
    pages = with_fields(pages_of(line_source)[0], header, **{field: "4711"})
    settings = SalesforceSettings.model_validate(
        {"line_source": line_source, "custom_fields": {"PO": custom}}
    )
    assert mapped(pages, tmp_path, settings)[0]["custom_fields"] == {"PO": "4711"}


def test_a_custom_field_of_an_object_that_is_not_read_is_refused() -> None:
    with pytest.raises(ValidationError, match="a field belongs to OrderItem, Order, Product2"):
        SalesforceSettings(line_source="order", custom_fields={"X": "SBQQ__Quote__c.X__c"})


# -- both forms --------------------------------------------------------------------------------


@pytest.mark.parametrize("line_source", ["order", "cpq_quote", "cpq_subscription"])
def test_rest_and_bulk_pages_of_the_whole_org_give_identical_rows(
    tmp_path: Path, line_source: str
) -> None:
    org = Org(Clock())
    fill(org)
    settings = SalesforceSettings.model_validate(
        {"line_source": line_source, "customer_id_field": "Billing_Id__c"}
    )
    paths = {name: [*found] for name, found in standard_paths(settings).items()}
    paths[next(iter(paths))].append(CURRENCY)
    for places in lookups(settings).values():
        for name, path in places:
            if "Product_Type" not in path or "." in path:
                paths[name].append(path)
    objects = {
        "order": "Order",
        "order_item": "OrderItem",
        "quote": "SBQQ__Quote__c",
        "quote_line": "SBQQ__QuoteLine__c",
        "contract": "Contract",
        "subscription": "SBQQ__Subscription__c",
    }
    rest_pages: Pages = {}
    bulk_pages: Pages = {}
    for name, selected in paths.items():
        soql = f"SELECT {', '.join(selected)} FROM {objects[name]} ORDER BY Id"
        statement = translate(soql, schema(), deleted=True)
        found = org.select(statement.sql, statement.values)
        records = [wire.record(statement, row) for row in found]
        rest_pages[name] = [("L1", json.dumps({"records": records}))]
        bulk_pages[name] = [("L1", wire.csv(statement, found))]
    by_rest = table(rest_pages, tmp_path, settings)
    by_bulk = table(bulk_pages, tmp_path, settings)
    assert by_rest.schema == ORDER_LINE
    assert by_rest.num_rows > 140
    assert by_rest.equals(by_bulk)
    counted = [row for row in by_rest.to_pylist() if row["excluded_by"] is None]
    assert {row["currency"] for row in counted} >= {"USD", "EUR", "GBP", "JPY"}
    assert any(row["amount"] is not None and row["amount"] < 0 for row in counted)


@pytest.mark.parametrize("form", [rest, bulk], ids=["REST", "Bulk"])
def test_a_large_amount_survives_both_forms(tmp_path: Path, form: Any) -> None:
    big = item(TotalPrice=Number("1.2345678E7"), Quantity=Number("1.0"))
    pages = {"order": [("L1", form(order()))], "order_item": [("L1", form(big))]}
    (row,) = mapped(pages, tmp_path, ORDER)
    assert row["amount"] == Decimal(12345678)
