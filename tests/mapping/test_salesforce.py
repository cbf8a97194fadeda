"""Salesforce pages become order lines: rules, dates, exact money, and REST and Bulk alike."""

import json
from collections.abc import Iterator
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from pydantic import ValidationError
from salesforce_pages import STAMP, Number, bulk, mapped, rest, table

from revrec_pipeline.currency import exponent
from revrec_pipeline.engine import engine
from revrec_pipeline.mapping import Site, sql
from revrec_pipeline.mapping.salesforce_line_sources import OPPORTUNITY as HEADER
from revrec_pipeline.mapping.salesforce_line_sources import OPPORTUNITY_LINE as LINE
from revrec_pipeline.mapping.salesforce_reads import standard_paths
from revrec_pipeline.mapping.salesforce_sales import MY_DOMAIN
from revrec_pipeline.mapping.salesforce_settings import SalesforceSettings
from revrec_pipeline.model import ORDER_LINE
from revrec_pipeline.sandbox import salesforce_wire as wire
from revrec_pipeline.sandbox.clock import Clock
from revrec_pipeline.sandbox.salesforce_data import fill
from revrec_pipeline.sandbox.salesforce_org import Org
from revrec_pipeline.sandbox.salesforce_schema import schema
from revrec_pipeline.sandbox.soql import translate


def header(**changes: Any) -> dict[str, Any]:
    """A won opportunity, flat: keys are paths."""
    return {
        "Id": "006000000000001AAA",
        "IsDeleted": False,
        "SystemModstamp": STAMP,
        "Name": "Acme renewal",
        "AccountId": "001000000000001AAA",
        "Account.Name": "Acme",
        "Owner.Name": "Dana Ruiz",
        "StageName": "Closed Won",
        "IsClosed": True,
        "IsWon": True,
        "CloseDate": "2026-01-15",
        "CurrencyIsoCode": "EUR",
        **changes,
    }


def line(**changes: Any) -> dict[str, Any]:
    """A line of that opportunity: 2 at 600.00 each for 12 months."""
    return {
        "Id": "00k000000000001AAA",
        "IsDeleted": False,
        "OpportunityId": "006000000000001AAA",
        "Product2Id": "01t000000000001AAA",
        "Product2.ProductCode": "001",
        "Product2.Name": "Platform",
        "Product2.Family": "Software",
        "Product2.Term__c": Number("12.0"),
        "Product2.Product_Type__c": "Subscription",
        "Quantity": Number("2.0"),
        "ListPrice": Number("650.0"),
        "UnitPrice": Number("600.0"),
        "TotalPrice": Number("1200.0"),
        "ServiceDate": None,
        **changes,
    }


def one(tmp_path: Path, head: dict[str, Any], *lines: dict[str, Any], **options: Any) -> Any:
    """The only row of one document."""
    pages = {HEADER: [("L1", rest(head))], LINE: [("L1", rest(*lines))]}
    (row,) = mapped(pages, tmp_path, **options)
    return row


def test_the_columns_are_those_of_the_model(tmp_path: Path) -> None:
    assert table({HEADER: [("L1", rest(header()))]}, tmp_path).schema == ORDER_LINE


def test_a_won_opportunity_becomes_order_lines(tmp_path: Path) -> None:
    assert one(tmp_path, header(), line()) == {
        "source": "salesforce",
        "record_type": "sales",
        "period": "2026-01",
        "document_type": "opportunity",
        "document_id": "006000000000001AAA",
        "line_id": "00k000000000001AAA",
        "source_version": STAMP,
        "raw_batch": "L1",
        "raw_page": 0,
        "url": "https://acme.lightning.force.com/lightning/r/Opportunity/006000000000001AAA/view",
        "excluded_by": None,
        "customer_id": "001000000000001AAA",
        "customer_name": "Acme",
        "order_number": "006000000000001AAA",
        "order_item_number": "00k000000000001AAA",
        "order_name": "Acme renewal",
        "product_id": "01t000000000001AAA",
        "product_code": "001",
        "product_name": "Platform",
        "product_family": "Software",
        "product_type": "Subscription",
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
        "custom_fields": {},
    }


def test_an_opportunity_without_lines_gives_one_row_without_a_line(tmp_path: Path) -> None:
    row = one(tmp_path, header())
    assert (row["document_id"], row["line_id"], row["amount"]) == ("006000000000001AAA", None, None)
    assert (row["service_start_date"], row["service_end_date"]) == (None, None)
    assert row["excluded_by"] is None


@pytest.mark.parametrize(
    ("head", "lines", "settings", "rule"),
    [
        ({}, {}, {}, None),
        ({"IsWon": False}, {}, {}, "not_closed_won"),
        ({"IsClosed": False}, {}, {}, "not_closed_won"),
        ({"StageName": "Signed Renewal"}, {}, {}, None),
        ({"StageName": "Signed Renewal"}, {}, {"closed_stages": ["Closed Won"]}, "not_closed_won"),
        ({"IsWon": False}, {}, {"closed_stages": ["Closed Won"]}, None),
        ({"IsDeleted": True}, {}, {}, "deleted"),
        ({}, {"IsDeleted": True}, {}, "deleted"),
        ({"IsDeleted": True}, {}, {"exclude_deleted": False}, None),
        ({"IsDeleted": True, "IsWon": False}, {}, {}, "deleted"),
        ({}, {}, {"exclude_products": ["001"]}, "excluded_product"),
        ({}, {}, {"exclude_products": ["1", "o'clock"]}, None),
    ],
)
def test_a_row_that_does_not_count_names_the_rule(
    tmp_path: Path,
    head: dict[str, Any],
    lines: dict[str, Any],
    settings: dict[str, Any],
    rule: str | None,
) -> None:
    configured = SalesforceSettings.model_validate(settings)
    row = one(tmp_path, header(**head), line(**lines), settings=configured)
    assert row["excluded_by"] == rule
    assert row["amount"] == Decimal(1200)


def test_an_opportunity_before_the_conversion_date_is_excluded(tmp_path: Path) -> None:
    for day, rule in [("2026-01-16", "before_conversion_date"), ("2026-01-15", None)]:
        site = Site(timezone="UTC", home_currency="USD", conversion_date=day)
        assert one(tmp_path, header(), line(), site=site)["excluded_by"] == rule


def test_a_single_currency_org_has_the_home_currency(tmp_path: Path) -> None:
    head = header()
    del head["CurrencyIsoCode"]
    assert one(tmp_path, head, line())["currency"] == "USD"


def test_an_unknown_account_or_product_gives_nulls_and_keeps_the_row(tmp_path: Path) -> None:
    head = header(AccountId=None, Account=None)
    del head["Account.Name"]
    row = one(tmp_path, head, line(**{"Product2.ProductCode": None}))
    assert (row["customer_id"], row["customer_name"], row["product_code"]) == (None, None, None)


@pytest.mark.parametrize(
    ("start", "term", "end"),
    [
        ("2026-01-15", "12.0", date(2027, 1, 14)),
        ("2026-01-01", "1", date(2026, 1, 31)),
        ("2025-01-31", "1.0", date(2025, 2, 27)),
        ("2024-01-31", "1.0", date(2024, 2, 28)),
        ("2024-02-29", "12.0", date(2025, 2, 27)),
        ("2025-12-31", "2.0", date(2026, 2, 27)),
        ("2025-12-31", "3.0", date(2026, 3, 30)),
        ("2026-06-30", "36.0", date(2029, 6, 29)),
        ("2026-06-30", "1.2E1", date(2027, 6, 29)),
        ("2026-06-30", "1.5", None),
        ("2026-06-30", "0.0", None),
        ("2026-06-30", "-3.0", None),
    ],
)
def test_service_ends_the_day_before_the_term_is_over(
    tmp_path: Path, start: str, term: str, end: date | None
) -> None:
    row = one(tmp_path, header(CloseDate=start), line(**{"Product2.Term__c": Number(term)}))
    assert row["service_start_date"] == date.fromisoformat(start)
    assert row["service_end_date"] == end


def test_consecutive_terms_from_a_month_end_leave_no_gap(tmp_path: Path) -> None:
    ends = []
    for months in ("1.0", "2.0", "3.0"):
        term = {"Product2.Term__c": Number(months)}
        row = one(tmp_path, header(CloseDate="2025-01-31"), line(**term))
        ends.append(row["service_end_date"])
    assert ends == [date(2025, 2, 27), date(2025, 3, 30), date(2025, 4, 29)]


def test_the_lines_own_date_and_term_win_over_close_date_and_product(tmp_path: Path) -> None:
    own = line(ServiceDate="2026-03-01", Term__c=Number("6.0"))
    row = one(tmp_path, header(), own)
    assert (row["order_start_date"], row["service_start_date"]) == (
        date(2026, 1, 15),
        date(2026, 3, 1),
    )
    assert row["service_end_date"] == date(2026, 8, 31)


def test_an_end_date_of_the_line_is_the_last_day_and_wins_over_the_term(tmp_path: Path) -> None:
    settings = SalesforceSettings(line_end_date_field="End__c")
    own = line(End__c="2026-06-30")
    assert one(tmp_path, header(), own, settings=settings)["service_end_date"] == date(2026, 6, 30)
    without = one(tmp_path, header(), line(End__c=None), settings=settings)
    assert without["service_end_date"] == date(2027, 1, 14)


def test_without_term_and_end_date_the_end_is_null(tmp_path: Path) -> None:
    own = line()
    del own["Product2.Term__c"]
    assert one(tmp_path, header(), own)["service_end_date"] is None


def test_a_close_date_is_never_shifted_by_a_time_zone(tmp_path: Path) -> None:
    site = Site(timezone="Pacific/Kiritimati", home_currency="USD", conversion_date=None)
    row = one(tmp_path, header(CloseDate="2026-01-31"), line(), site=site)
    assert (row["period"], row["order_start_date"]) == ("2026-01", date(2026, 1, 31))


def test_a_discount_in_percent_is_already_inside_the_total(tmp_path: Path) -> None:
    own = line(Discount=Number("12.5"), TotalPrice=Number("1050.0"))
    row = one(tmp_path, header(), own)
    assert (row["unit_price"], row["amount"]) == (Decimal(525), Decimal(1050))


def test_with_quantity_zero_the_unit_price_is_the_sales_price(tmp_path: Path) -> None:
    row = one(tmp_path, header(), line(Quantity=Number("0.0"), TotalPrice=Number("0.0")))
    assert (row["unit_price"], row["amount"]) == (Decimal(600), Decimal(0))


def test_a_number_that_is_none_becomes_null_and_the_row_stays(tmp_path: Path) -> None:
    row = one(tmp_path, header(CloseDate="soon"), line(Quantity="many", TotalPrice=None))
    assert (row["quantity"], row["unit_price"], row["amount"]) == (None, None, None)
    assert row["order_start_date"] is None
    assert row["line_id"] == "00k000000000001AAA"


_amounts = st.decimals(-(10**12), 10**12, places=3, allow_nan=False)
_quantities = st.decimals(-(10**6), 10**6, places=6, allow_nan=False).filter(bool)


@pytest.fixture(scope="module")
def quotient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with engine(tmp_path_factory.mktemp("spill")) as db:

        def divide(amount: str, quantity: str) -> Decimal | None:
            numbers = "SELECT ?::DECIMAL(18, 4) AS a, ?::DECIMAL(28, 12) AS q"
            query = f"SELECT {sql.quotient('a', 'q')} FROM ({numbers})"
            found: tuple[Decimal | None] = db.execute(query, [amount, quantity]).fetchone()  # type: ignore[assignment]
            return found[0]

        yield divide


@hypothesis(deadline=None)
@given(amount=_amounts, quantity=_quantities, currency=st.sampled_from(["JPY", "USD", "KWD"]))
def test_quantity_times_unit_price_is_the_amount_again_to_the_minor_unit(
    quotient: Any, amount: Decimal, quantity: Decimal, currency: str
) -> None:
    cent = Decimal(1).scaleb(-exponent(currency))
    amount = amount.quantize(cent)
    price = quotient(str(amount), str(quantity))
    if price is None:  # 16 digits before the point do not fit
        assert abs(amount / quantity) > 10**12
        return
    expected = (amount / quantity).quantize(Decimal("1e-12"), ROUND_HALF_UP)
    assert abs(price - expected) <= Decimal("1e-12")
    if abs(quantity) < 10**9:
        assert (quantity * price).quantize(cent, ROUND_HALF_UP) == amount


def test_the_largest_amount_divides_exactly(quotient: Any) -> None:
    assert quotient("99999999999999.9999", "3") == Decimal("33333333333333.333300000000")
    assert quotient("-0.01", "3") == Decimal("-0.003333333333")
    assert quotient("0.02", "3") == Decimal("0.006666666667")
    assert quotient("15432.09", "1234567") == Decimal("0.012500002025")
    assert quotient("1", "0") is None


@hypothesis(deadline=None, max_examples=50)
@given(
    value=st.decimals(-(10**15), 10**15, places=12, allow_nan=False),
    spaces=st.sampled_from(["", " ", "\n  "]),
    form=st.sampled_from(["plain", "exponent"]),
)
def test_a_json_number_never_passes_through_a_double(
    tmp_path_factory: pytest.TempPathFactory, value: Decimal, spaces: str, form: str
) -> None:
    """27 digits, where a double has 15."""
    text = f"{value:E}" if form == "exponent" else f"{value:f}"
    body = rest(line(UnitPrice=Number(text), ListPrice=Number(text)))
    body = body.replace('"ListPrice":', f'"ListPrice"{spaces}:{spaces}')
    parsed = json.loads(body, parse_float=Decimal, parse_int=Decimal)["records"][0]["ListPrice"]
    pages = {HEADER: [("L1", rest(header()))], LINE: [("L1", body)]}
    (row,) = mapped(pages, tmp_path_factory.mktemp("spill"))
    assert row["list_price"] == parsed == value


def test_texts_that_look_like_json_numbers_stay_as_they_are(tmp_path: Path) -> None:
    name = 'Deal "Quantity":5, \\"Id\\": 7 } {"TotalPrice": 1.0}'
    row = one(tmp_path, header(Name=name), line())
    assert (row["order_name"], row["amount"]) == (name, Decimal(1200))


_TRICKY = [
    line(**{"Id": "00k000000000001AAA", "Product2.ProductCode": "NA"}),
    line(**{"Id": "00k000000000002AAA", "Product2.ProductCode": "null", "Quantity": Number("3.0")}),
    line(**{"Id": "00k000000000003AAA", "Product2.ProductCode": "001", "ServiceDate": None}),
    line(
        **{
            "Id": "00k000000000004AAA",
            "Product2.Name": 'two\nlines, "quoted"',
            "Product2.ProductCode": None,
            "TotalPrice": Number("1.2345678E7"),
            "UnitPrice": Number("1.2E-4"),
        }
    ),
]


@pytest.mark.parametrize("page", [rest, bulk], ids=["REST", "Bulk"])
def test_na_null_leading_zeros_newlines_and_java_doubles_survive(tmp_path: Path, page: Any) -> None:
    pages = {HEADER: [("L1", page(header()))], LINE: [("L1", page(*_TRICKY))]}
    found = mapped(pages, tmp_path)
    assert [row["product_code"] for row in found] == ["NA", "null", "001", None]
    assert found[3]["product_name"] == 'two\nlines, "quoted"'
    assert found[3]["amount"] == Decimal(12345678)
    assert found[1]["unit_price"] == Decimal(400)


def _wire_pages(org: Org, name: str, paths: tuple[str, ...]) -> tuple[str, str]:
    sobject = {HEADER: "Opportunity", LINE: "OpportunityLineItem"}[name]
    soql = f"SELECT {', '.join(paths)} FROM {sobject} ORDER BY Id"
    statement = translate(soql, schema(), deleted=True)
    found = org.select(statement.sql, statement.values)
    records = [wire.record(statement, row) for row in found]
    return json.dumps({"totalSize": len(found), "records": records}), wire.csv(statement, found)


def test_rest_and_bulk_pages_of_the_whole_org_give_identical_rows(tmp_path: Path) -> None:
    org = Org(Clock())
    fill(org)
    big = org.find("Opportunity", "Name", "Three years")
    org.update("Opportunity", big, {"Seats__c": 25_000_000, "Name": 'Three\nyears, "net"'})
    settings = SalesforceSettings(
        line_end_date_field="Service_End_Date__c",
        custom_fields={
            "PO": "PO_Number__c",
            "Seats": "Opportunity.Seats__c",
            "Made": "Account.CreatedDate",
            "Stocked": "Product2.StockKeepingUnit",
        },
    )
    extra = ("CurrencyIsoCode", "PO_Number__c", "Seats__c", "Account.CreatedDate")
    lines = ("Term__c", "Product2.Term__c", "Product2.Product_Type__c", "Service_End_Date__c")
    headers = _wire_pages(org, HEADER, standard_paths(settings)[HEADER] + extra)
    items = _wire_pages(
        org, LINE, (*standard_paths(settings)[LINE], *lines, "Product2.StockKeepingUnit")
    )
    one_page = {
        kind: table({HEADER: [("L1", head)], LINE: [("L1", item)]}, tmp_path, settings)
        for kind, head, item in zip(("rest", "bulk"), headers, items, strict=True)
    }
    assert one_page["rest"].num_rows > 300
    assert one_page["rest"].equals(one_page["bulk"])
    row = next(
        row
        for row in one_page["bulk"].to_pylist(maps_as_pydicts="strict")
        if row["document_id"] == big
    )
    assert row["custom_fields"] == {
        "PO": "NA",
        "Seats": "25000000",
        "Made": "2024-11-01T15:00:00.000Z",
        "Stocked": None,
    }


def test_an_empty_bulk_page_has_no_records(tmp_path: Path) -> None:
    pages = {HEADER: [("L1", bulk(header()))], LINE: [("L1", "")]}
    (row,) = mapped(pages, tmp_path)
    assert row["line_id"] is None


def test_custom_fields_come_from_the_line_else_the_opportunity(tmp_path: Path) -> None:
    settings = SalesforceSettings(
        custom_fields={"Region": "Region__c", "Tier": "Account.Tier__c", "Note": "Product2.Note__c"}
    )
    head = header(**{"Region__c": "North", "Account.Tier__c": "Gold"})
    row = one(tmp_path, head, line(), settings=settings)
    assert row["custom_fields"] == {"Region": "North", "Tier": "Gold", "Note": None}
    own = line(**{"Region__c": "South", "Product2.Note__c": "2.10"})
    row = one(tmp_path, head, own, settings=settings)
    assert row["custom_fields"] == {"Region": "South", "Tier": "Gold", "Note": "2.10"}


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (Number("12.0"), "12"),
        (Number("12"), "12"),
        (Number("2.5E7"), "25000000"),
        (Number("1.0E-4"), "0.0001"),
        ("2.10", "2.10"),
        ("001", "001"),
        ("1E5A", "1E5A"),
        ("2026-01-02T03:04:05.000+0000", "2026-01-02T03:04:05.000Z"),
        ("2026-01-02", "2026-01-02"),
    ],
)
def test_a_custom_value_has_one_form_whichever_api_wrote_it(
    tmp_path: Path, value: str, stored: str
) -> None:
    settings = SalesforceSettings(custom_fields={"X": "X__c"})
    row = one(tmp_path, header(), line(X__c=value), settings=settings)
    assert row["custom_fields"] == {"X": stored}


def test_lines_count_only_from_the_landing_of_the_current_version(tmp_path: Path) -> None:
    """A line that was deleted for good is gone with the landing that still held it."""
    second = line(Id="00k000000000002AAA")
    pages = {
        HEADER: [("L1", rest(header())), ("L2", rest(header(Name="Again")))],
        LINE: [("L1", rest(line(), second)), ("L2", rest(line()))],
    }
    current = [("006000000000001AAA", "2026-01-21T00:00:00.000Z", "L2", 1)]
    (row,) = mapped(pages, tmp_path, current=current)
    assert (row["order_name"], row["line_id"]) == ("Again", "00k000000000001AAA")
    assert (row["raw_batch"], row["raw_page"]) == ("L2", 1)
    assert row["source_version"] == "2026-01-21T00:00:00.000Z"


def test_a_sandbox_org_has_its_own_lightning_domain(tmp_path: Path) -> None:
    request = "GET https://acme--uat.sandbox.my.salesforce.com/services/data/v68.0/query"
    with duckdb.connect() as db:
        found = db.execute(f"SELECT {MY_DOMAIN} FROM (SELECT ? AS request)", [request]).fetchone()
    assert found == ("acme--uat.sandbox",)


@pytest.mark.parametrize(
    "wrong",
    [
        {"line_source": "order_item"},
        {"term_field": "Term c"},
        {"custom_fields": {"X": 'a"b'}},
        {"custom_fields": {"X": "Contact.Name"}},
        {"bulk_threshold": -1},
        {"closed_stage": ["Closed Won"]},
    ],
)
def test_a_wrong_setting_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SalesforceSettings.model_validate(wrong)
