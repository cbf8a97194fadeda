"""Opportunity splits and custom commission objects become expense lines."""

from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from pydantic import ValidationError
from salesforce_pages import SITE, STAMP, Number, Pages, mapped, page, table

from revrec_pipeline.currency import exponent
from revrec_pipeline.engine import engine
from revrec_pipeline.mapping import Site
from revrec_pipeline.mapping.salesforce import SOURCE, rows
from revrec_pipeline.mapping.salesforce_settings import SalesforceSettings
from revrec_pipeline.mapping.sql import converted, literal, ratio
from revrec_pipeline.model import EXPENSE_LINE, RecordType

SPLITS = SalesforceSettings(commissions=True)
CUSTOM = SalesforceSettings(
    commissions=True,
    commission_object="Commission__c",
    commission_fields={
        "opportunity": "Deal__c",
        "payee": "Payee__c",
        "amount": "Amount__c",
        "date": "Earned__c",
        "paid_date": "Paid__c",
        "clawback": "Clawback__c",
        "description": "Note__c",
    },
)


def opportunity(**changes: Any) -> dict[str, Any]:
    """One over 1000.00 EUR, won on January 15th."""
    return {
        "Id": "006000000000001AAA",
        "IsDeleted": False,
        "SystemModstamp": STAMP,
        "StageName": "Closed Won",
        "IsClosed": True,
        "IsWon": True,
        "CloseDate": "2026-01-15",
        "Amount": Number("1000.0"),
        "CurrencyIsoCode": "EUR",
        **changes,
    }


def split(number: int = 1, **changes: Any) -> dict[str, Any]:
    """One that credits Dana with all of it."""
    return {
        "Id": f"1OS00000000000{number}AAA",
        "IsDeleted": False,
        "OpportunityId": "006000000000001AAA",
        "SplitOwnerId": "005000000000001AAA",
        "SplitOwner.Name": "Dana Ruiz",
        "SplitType.DeveloperName": "Revenue",
        "SplitPercentage": Number("100.0"),
        "SplitAmount": Number("1000.0"),
        "SplitNote": None,
        **changes,
    }


def commission(**changes: Any) -> dict[str, Any]:
    """50.00 EUR for Dana, earned on January 25th for an opportunity that was won."""
    return {
        "Id": "a01000000000001AAA",
        "IsDeleted": False,
        "SystemModstamp": STAMP,
        "CreatedDate": "2026-01-26T04:30:00.000+0000",
        "Deal__c": "006000000000001AAA",
        "Deal__r.IsDeleted": False,
        "Deal__r.StageName": "Closed Won",
        "Deal__r.IsClosed": True,
        "Deal__r.IsWon": True,
        "Deal__r.Id": "006000000000001AAA",
        "Payee__c": "005000000000001AAA",
        "Payee__r.Name": "Dana Ruiz",
        "Amount__c": Number("50.0"),
        "Earned__c": "2026-01-25",
        "Paid__c": None,
        "Clawback__c": False,
        "Note__c": "First year",
        "CurrencyIsoCode": "EUR",
        **changes,
    }


def currency(code: str, rate: str, *, corporate: bool = False) -> dict[str, Any]:
    return {"IsoCode": code, "ConversionRate": Number(rate), "IsCorporate": corporate}


def dated(code: str, start: str, end: str, rate: str) -> dict[str, Any]:
    return {
        "IsoCode": code,
        "StartDate": start,
        "NextStartDate": end,
        "ConversionRate": Number(rate),
    }


_CURRENCIES = [currency("USD", "1.0", corporate=True), currency("EUR", "0.8")]


def costs(
    tmp_path: Path,
    head: dict[str, Any],
    *splits: dict[str, Any],
    currencies: list[dict[str, Any]] | None = None,
    rates: list[dict[str, Any]] | None = None,
    settings: SalesforceSettings = SPLITS,
    site: Site = SITE,
    **more: list[dict[str, Any]],
) -> list[dict[str, Any]]:
    """The expense lines of an opportunity, or of a custom commission."""
    header = "commission" if settings.commission_object else "opportunity"
    pages: Pages = page(
        **{header: [head]},
        opportunity_split=list(splits),
        currency_type=_CURRENCIES if currencies is None else currencies,
        dated_conversion_rate=rates or [],
        **more,
    )
    return mapped(pages, tmp_path, settings, site, record_type=RecordType.COMMISSIONS)


def test_the_columns_are_those_of_the_model(tmp_path: Path) -> None:
    for settings in (SPLITS, CUSTOM):
        found = table({}, tmp_path, settings, record_type=RecordType.COMMISSIONS)
        assert found.schema == EXPENSE_LINE


def test_without_the_setting_there_are_no_commissions(tmp_path: Path) -> None:
    assert SOURCE.record_types(SalesforceSettings()) == (RecordType.SALES,)
    assert SOURCE.record_types(SPLITS) == (RecordType.SALES, RecordType.COMMISSIONS)
    with engine(tmp_path) as db, pytest.raises(TypeError, match="no commissions"):
        rows(db, RecordType.COMMISSIONS, SalesforceSettings(), SITE)


# -- splits ------------------------------------------------------------------------------------


def test_a_split_becomes_an_expense_line_of_the_opportunitys_order(tmp_path: Path) -> None:
    (row,) = costs(tmp_path, opportunity(), split(SplitNote="Found them"))
    assert row == {
        "source": "salesforce",
        "record_type": "commissions",
        "period": "2026-01",
        "document_type": "opportunity",
        "document_id": "006000000000001AAA",
        "line_id": "1OS000000000001AAA",
        "source_version": STAMP,
        "raw_batch": "L1",
        "raw_page": 0,
        "url": "https://acme.lightning.force.com/lightning/r/Opportunity/006000000000001AAA/view",
        "excluded_by": None,
        "order_number": "006000000000001AAA",
        "order_item_number": None,
        "product_code": None,
        "reference_number": "1OS000000000001AAA",
        "expense_code": "COMMISSION",
        "expense_date": date(2026, 1, 15),
        "amount": Decimal(1250),
        "currency": "USD",
        "exchange_rate": Decimal("1.25"),
        "document_amount": Decimal(1000),
        "document_currency": "EUR",
        "payee_id": "005000000000001AAA",
        "payee_name": "Dana Ruiz",
        "start_date": None,
        "end_date": None,
        "description": "Found them",
        "custom_fields": {},
    }


def test_three_thirds_add_up_to_the_opportunity(tmp_path: Path) -> None:
    """Each rounded for itself, three thirds of 1000.00 are 999.99."""
    thirds = [
        split(number, SplitPercentage=Number(percentage), SplitAmount=None)
        for number, percentage in enumerate(("33.3333", "33.3333", "33.3334"), start=1)
    ]
    found = costs(tmp_path, opportunity(), *thirds)
    assert [row["document_amount"] for row in found] == [
        Decimal("333.33"),
        Decimal("333.33"),
        Decimal("333.34"),
    ]


@hypothesis(deadline=None, max_examples=20)
@given(
    cuts=st.lists(st.integers(1, 999_999), max_size=6, unique=True),
    amount=st.decimals(-(10**9), 10**9, places=3, allow_nan=False),
    code=st.sampled_from(["GBP", "JPY", "KWD"]),
)
def test_percentages_of_a_hundred_divide_any_amount_to_the_minor_unit(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], amount: Decimal, code: str
) -> None:
    cent = Decimal(1).scaleb(-exponent(code))
    amount = amount.quantize(cent)
    edges = [0, *sorted(cuts), 1_000_000]
    shares = [Decimal(high - low) / 10_000 for low, high in pairwise(edges)]
    splits = [
        split(number, SplitPercentage=Number(f"{share:f}"), SplitAmount=None)
        for number, share in enumerate(shares)
    ]
    head = opportunity(Amount=Number(f"{amount:f}"), CurrencyIsoCode=code)
    spill = tmp_path_factory.mktemp("spill")
    found = costs(spill, head, *splits, currencies=[*_CURRENCIES, currency(code, "2.0")])
    divided = [row["document_amount"] for row in found]
    assert sum(divided) == amount
    for part, share in zip(divided, shares, strict=True):
        assert part % cent == 0
        assert abs(part - amount * share / 100) < cent


def test_the_vendors_own_split_amount_counts_where_there_is_one(tmp_path: Path) -> None:
    given = split(1, SplitPercentage=Number("60.0"), SplitAmount=Number("612.34"))
    left = split(2, SplitPercentage=Number("40.0"), SplitAmount=None)
    found = costs(tmp_path, opportunity(), given, left)
    assert [row["document_amount"] for row in found] == [Decimal("612.34"), Decimal(400)]


def test_the_rate_and_the_field_that_splits_divide_are_settings(tmp_path: Path) -> None:
    """RevRec's example: 600 for a subscription of 12,000."""
    settings = SalesforceSettings(
        commissions=True, commission_rate=5, commission_amount_field="First_Year__c"
    )
    head = opportunity(First_Year__c=Number("12000.0"))
    halves = [
        split(1, SplitPercentage=Number("50.0"), SplitAmount=None),
        split(2, SplitPercentage=Number("50.0"), SplitAmount=Number("6000.0")),
    ]
    found = costs(tmp_path, head, *halves, settings=settings)
    assert [row["document_amount"] for row in found] == [300, 300]


@pytest.mark.parametrize(
    ("head", "own", "settings", "rule"),
    [
        ({}, {}, {}, None),
        ({"IsWon": False}, {}, {}, "not_closed_won"),
        ({"IsDeleted": True}, {}, {}, "deleted"),
        ({}, {"IsDeleted": True}, {}, "deleted"),
        ({}, {"IsDeleted": True}, {"exclude_deleted": False}, None),
        ({}, {"SplitType.DeveloperName": "Overlay"}, {}, "other_split_type"),
        ({}, {}, {"commission_split_type": "Overlay"}, "other_split_type"),
        ({}, {}, {"closed_stages": ["Signed Renewal"]}, "not_closed_won"),
    ],
)
def test_a_split_that_does_not_count_names_the_rule(
    tmp_path: Path,
    head: dict[str, Any],
    own: dict[str, Any],
    settings: dict[str, Any],
    rule: str | None,
) -> None:
    """One of an opportunity that was lost or opened again is excluded: a delivery takes it back."""
    configured = SalesforceSettings.model_validate({"commissions": True, **settings})
    (row,) = costs(tmp_path, opportunity(**head), split(**own), settings=configured)
    assert (row["excluded_by"], row["document_amount"]) == (rule, 1000)


def test_deleted_splits_and_those_of_another_type_take_no_part_in_the_division(
    tmp_path: Path,
) -> None:
    found = costs(
        tmp_path,
        opportunity(Amount=Number("100.01")),
        split(1, SplitPercentage=Number("50.0"), SplitAmount=None),
        split(2, SplitPercentage=Number("50.0"), SplitAmount=None),
        split(3, SplitPercentage=Number("50.0"), SplitAmount=None, IsDeleted=True),
        split(4, SplitAmount=None, **{"SplitType.DeveloperName": "Overlay"}),
    )
    counted = [row["document_amount"] for row in found if row["excluded_by"] is None]
    assert counted == [Decimal("50.01"), Decimal("50.00")]
    assert [row["document_amount"] for row in found[2:]] == [None, None]


def test_an_opportunity_without_splits_keeps_a_row_that_says_so(tmp_path: Path) -> None:
    (row,) = costs(tmp_path, opportunity())
    assert (row["line_id"], row["excluded_by"], row["amount"]) == (None, "no_split", None)


def test_a_commission_before_the_conversion_date_is_excluded(tmp_path: Path) -> None:
    site = Site(timezone="UTC", home_currency="USD", conversion_date="2026-01-16")
    (row,) = costs(tmp_path, opportunity(), split(), site=site)
    assert row["excluded_by"] == "before_conversion_date"


# -- the home currency -------------------------------------------------------------------------


def test_an_amount_is_divided_by_the_conversion_rate_of_its_day(tmp_path: Path) -> None:
    """A rate says how many units of a currency are worth one of the corporate one."""
    rates = [
        dated("EUR", "2025-01-01", "2026-01-15", "0.9"),
        dated("EUR", "2026-01-15", "2026-02-01", "0.95"),
        dated("EUR", "2026-02-01", "9999-12-31", "0.99"),
    ]
    (row,) = costs(tmp_path, opportunity(), split(), rates=rates)
    assert row["amount"] == Decimal("1052.63")
    assert row["exchange_rate"] == Decimal("1.052631578947")


def test_the_current_rate_counts_only_in_an_org_without_dated_rates(tmp_path: Path) -> None:
    other = [dated("GBP", "2020-01-01", "9999-12-31", "0.7")]
    (row,) = costs(tmp_path, opportunity(), split(), rates=other)
    assert (row["exchange_rate"], row["amount"]) == (None, None)
    (row,) = costs(tmp_path, opportunity(), split(), rates=[])
    assert (row["exchange_rate"], row["amount"]) == (Decimal("1.25"), 1250)


def test_a_day_without_a_rate_leaves_the_amount_open(tmp_path: Path) -> None:
    """The check PR_MISSING_FX_RATE then flags the row; the document's own amount stays known."""
    rates = [dated("EUR", "2026-02-01", "9999-12-31", "0.99")]
    (row,) = costs(tmp_path, opportunity(), split(), rates=rates)
    assert (row["exchange_rate"], row["amount"]) == (None, None)
    assert (row["document_amount"], row["excluded_by"]) == (1000, None)


def test_a_home_currency_that_is_not_the_corporate_one_goes_through_both_rates(
    tmp_path: Path,
) -> None:
    site = Site(timezone="UTC", home_currency="GBP", conversion_date=None)
    rates = [
        dated("EUR", "2026-01-01", "9999-12-31", "0.9"),
        dated("GBP", "2026-01-01", "9999-12-31", "0.75"),
    ]
    (row,) = costs(tmp_path, opportunity(), split(), rates=rates, site=site)
    assert (row["currency"], row["amount"]) == ("GBP", Decimal("833.33"))
    assert row["exchange_rate"] == Decimal("0.833333333333")
    dollars = opportunity(CurrencyIsoCode="USD")
    (row,) = costs(tmp_path, dollars, split(), rates=rates, site=site)
    assert (row["exchange_rate"], row["amount"]) == (Decimal("0.75"), 750)


def test_a_single_currency_org_needs_no_rates(tmp_path: Path) -> None:
    head = opportunity()
    del head["CurrencyIsoCode"]
    (row,) = costs(tmp_path, head, split(), currencies=[])
    assert (row["document_currency"], row["exchange_rate"], row["amount"]) == ("USD", 1, 1000)


_rates = st.decimals("0.000001", 10**6, places=6, allow_nan=False)


@hypothesis(deadline=None, max_examples=100)
@given(
    amount=st.decimals(-(10**9), 10**9, places=3, allow_nan=False),
    home=_rates,
    foreign=_rates,
    code=st.sampled_from(["USD", "JPY", "KWD"]),
)
def test_a_conversion_is_exact_to_the_minor_unit(
    converter: Any, amount: Decimal, home: Decimal, foreign: Decimal, code: str
) -> None:
    found, rate = converter(amount, home, foreign, code)
    cent = Decimal(1).scaleb(-exponent(code))
    exact = (amount * home / foreign).quantize(cent, ROUND_HALF_UP)
    if abs(exact) < 10**14:
        assert found == exact
    assert abs(rate - home / foreign) <= Decimal("5.1e-13") * max(1, home / foreign / 10**12)


@pytest.fixture(scope="module")
def converter(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with engine(tmp_path_factory.mktemp("spill")) as db:

        def convert(amount: Decimal, home: Decimal, foreign: Decimal, code: str) -> Any:
            numbers = (
                "SELECT ?::DECIMAL(18, 4) AS a, ?::DECIMAL(18, 9) AS h, ?::DECIMAL(18, 9) AS f"
            )
            sql = f"SELECT {converted('a', 'h', 'f', literal(code))}, {ratio('h', 'f')}"
            values = [str(amount), str(home), str(foreign)]
            return db.execute(f"{sql} FROM ({numbers})", values).fetchone()

        yield convert


# -- which order -------------------------------------------------------------------------------


def test_the_order_number_is_that_of_the_first_active_order(tmp_path: Path) -> None:
    settings = SalesforceSettings(line_source="order", commissions=True)

    def order(number: int, **changes: Any) -> dict[str, Any]:
        return {
            "Id": f"80100000000000{number}AAA",
            "IsDeleted": False,
            "OpportunityId": "006000000000001AAA",
            "StatusCode": "Activated",
            "EffectiveDate": f"2026-02-0{number}",
            "OrderNumber": f"0000010{number}",
            **changes,
        }

    orders = [order(1, StatusCode="Draft"), order(2, IsDeleted=True), order(4), order(3)]
    (row,) = costs(tmp_path, opportunity(), split(), settings=settings, opportunity_order=orders)
    assert row["order_number"] == "00000103"
    (row,) = costs(tmp_path, opportunity(), split(), settings=settings, opportunity_order=[])
    assert (row["order_number"], row["excluded_by"]) == (None, None)


def test_the_order_number_is_that_of_the_primary_quote_or_the_contract(tmp_path: Path) -> None:
    quote = SalesforceSettings(line_source="cpq_quote", commissions=True)
    head = opportunity(**{"SBQQ__PrimaryQuote__r.Name": "Q-00042"})
    assert costs(tmp_path, head, split(), settings=quote)[0]["order_number"] == "Q-00042"
    contract = SalesforceSettings(
        line_source="cpq_subscription", commissions=True, order_number_field="Sales_Order__c"
    )
    contracts = [
        {
            "Id": "800000000000001AAA",
            "IsDeleted": False,
            "SBQQ__Opportunity__c": "006000000000001AAA",
            "StatusCode": "Activated",
            "StartDate": "2026-02-01",
            "Sales_Order__c": "SO-7",
        }
    ]
    (row,) = costs(
        tmp_path, opportunity(), split(), settings=contract, opportunity_contract=contracts
    )
    assert row["order_number"] == "SO-7"


def test_the_order_number_field_of_the_opportunity_is_that_of_its_commissions(
    tmp_path: Path,
) -> None:
    settings = SalesforceSettings(commissions=True, order_number_field="Order_Number__c")
    (row,) = costs(tmp_path, opportunity(Order_Number__c="SO-7"), split(), settings=settings)
    assert row["order_number"] == "SO-7"


# -- a custom object ---------------------------------------------------------------------------


def test_a_record_of_a_custom_object_becomes_an_expense_line(tmp_path: Path) -> None:
    (row,) = costs(tmp_path, commission(), settings=CUSTOM)
    assert (row["document_type"], row["document_id"]) == ("commission", "a01000000000001AAA")
    assert (row["period"], row["expense_date"]) == ("2026-01", date(2026, 1, 25))
    assert row["url"].endswith("/lightning/r/Commission__c/a01000000000001AAA/view")
    assert row["order_number"] == "006000000000001AAA"
    assert (row["reference_number"], row["description"]) == ("a01000000000001AAA", "First year")
    assert (row["payee_id"], row["payee_name"]) == ("005000000000001AAA", "Dana Ruiz")
    assert (row["document_amount"], row["amount"], row["exchange_rate"]) == (
        50,
        Decimal("62.50"),
        Decimal("1.25"),
    )
    assert row["excluded_by"] is None


@pytest.mark.parametrize("amount", ["50.0", "-50.0"])
def test_a_claw_back_is_negative_whatever_its_sign(tmp_path: Path, amount: str) -> None:
    lost = {"Deal__r.IsWon": False}
    record = commission(Clawback__c=True, Amount__c=Number(amount), **lost)
    (row,) = costs(tmp_path, record, settings=CUSTOM)
    assert (row["document_amount"], row["amount"], row["excluded_by"]) == (
        -50,
        Decimal("-62.5"),
        None,
    )


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({}, None),
        ({"IsDeleted": True}, "deleted"),
        ({"Deal__r.IsWon": False}, "not_closed_won"),
        ({"Deal__r.IsDeleted": True}, "not_closed_won"),
        ({"Deal__r.IsWon": False, "Paid__c": "2026-02-10"}, None),
        ({"Deal__c": None, "Deal__r.IsWon": None}, None),
    ],
)
def test_a_commission_counts_with_its_opportunity_unless_it_has_been_paid(
    tmp_path: Path, changes: dict[str, Any], rule: str | None
) -> None:
    """What was paid stays a cost until a claw-back of its own brings it in."""
    (row,) = costs(tmp_path, commission(**changes), settings=CUSTOM)
    assert row["excluded_by"] == rule


def test_a_commission_without_a_date_is_in_the_month_in_which_it_was_made(tmp_path: Path) -> None:
    """On the site's clocks; without a month it would be lost instead of flagged."""
    record = commission(Earned__c=None, CreatedDate="2026-02-01T04:30:00.000+0000")
    (row,) = costs(tmp_path, record, settings=CUSTOM)
    assert (row["period"], row["expense_date"]) == ("2026-01", None)


def test_a_payee_may_be_a_text(tmp_path: Path) -> None:
    record = commission(Payee__c="Dana Ruiz")
    del record["Payee__r.Name"]
    (row,) = costs(tmp_path, record, settings=CUSTOM)
    assert (row["payee_id"], row["payee_name"]) == ("Dana Ruiz", "Dana Ruiz")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"commission_rate": 0}, "greater than 0"),
        ({"commission_rate": 7.12345}, "more than four decimals"),
        ({"commission_object": "Commission__c"}, "set commissions = true"),
        ({"commission_fields": {"payee": "P__c"}}, "commission_object must be, too"),
        (
            {
                "commissions": True,
                "commission_object": "Commission__c",
                "commission_fields": {"payee": "P__c", "date": "D__c"},
            },
            "lacks opportunity, amount: which field of Commission__c",
        ),
        ({"commission_object": "Commission"}, "String should match pattern"),
        ({"commission_expense_code": "Sales commission"}, "String should match pattern"),
    ],
)
def test_a_wrong_setting_is_refused_with_the_reason(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SalesforceSettings.model_validate(wrong)
