"""What QuickBooks' fields mean. The facts and issue numbers are in reference/quickbooks.md."""

import json
from datetime import date
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from revrec_pipeline.currency import SQL_MACROS
from revrec_pipeline.mapping import Site
from revrec_pipeline.mapping.quickbooks import FORMS, SOURCE, QuickbooksSettings
from revrec_pipeline.model import CANONICAL, RecordType

NEW_YORK = Site(timezone="America/New_York", home_currency="USD", conversion_date=None)
ENTITIES = {**{name: form.entity for name, form in FORMS.items()}, "item": "Item"} | {
    "tax_rate": "TaxRate"
}
Row = dict[str, Any]
#: Around a number, until the JSON is written: json.dumps would make a float or a text of it.
RAW = "#"


def number(text: str) -> str:
    """A JSON number, written exactly like this."""
    return f"{RAW}{text}{RAW}"


def sold(amount: str | None = "100", *, id: str | None = "1", **detail: Any) -> Row:
    """A line of an item."""
    return {
        **({"Id": id, "LineNum": int(id) if id.isdigit() else 1} if id else {}),
        "Description": "Plan",
        **({"Amount": number(amount)} if amount is not None else {}),
        "DetailType": "SalesItemLineDetail",
        "SalesItemLineDetail": {
            "ItemRef": {"value": "5", "name": "Plan"},
            "TaxCodeRef": {"value": "NON"},
            **detail,
        },
    }


def off(amount: str, percent: str | None = None) -> Row:
    """A discount line: positive, to subtract, and without an id."""
    detail = {"PercentBased": percent is not None, "DiscountAccountRef": {"value": "86"}}
    if percent:
        detail["DiscountPercent"] = number(percent)
    return {
        "Amount": number(amount),
        "DetailType": "DiscountLineDetail",
        "DiscountLineDetail": detail,
    }


def subtotal(amount: str) -> Row:
    return {
        "Amount": number(amount),
        "DetailType": "SubTotalLineDetail",
        "SubTotalLineDetail": {},
    }


def shipping(amount: str) -> Row:
    line = sold(amount, id=None, ItemRef={"value": "SHIPPING_ITEM_ID"})
    del line["Description"]
    return line


def bundle(header: str, *lines: Row) -> Row:
    return {
        "Id": "1",
        "Amount": number(header),
        "DetailType": "GroupLineDetail",
        "GroupLineDetail": {"GroupItemRef": {"value": "21"}, "Quantity": 1, "Line": list(lines)},
    }


def form(*lines: Row, total: str = "100", tax: str = "0", **fields: Any) -> Row:
    """A sales form over the lines."""
    return {
        "domain": "QBO",
        "sparse": False,
        "Id": "130",
        "SyncToken": "0",
        "MetaData": {
            "CreateTime": "2026-01-05T10:00:00-08:00",
            "LastUpdatedTime": "2026-01-06T10:00:00-08:00",
        },
        "CustomField": [],
        "DocNumber": "1037",
        "TxnDate": "2026-01-05",
        "CurrencyRef": {"value": "USD", "name": "United States Dollar"},
        "CustomerRef": {"value": "17", "name": "Acme"},
        "Line": list(lines),
        "TxnTaxDetail": {"TotalTax": number(tax)},
        "TotalAmt": number(total),
        "Balance": number("0"),
        **fields,
    }


class Pages:
    """Raw pages, put together by hand, and the rows that the mapping makes of them."""

    def __init__(self) -> None:
        self.pages: dict[str, list[Row]] = {name: [] for name in SOURCE.objects}
        self.current: list[Row] = []

    def add(self, name: str, *objects: Row, landing: str = "L1", body: str | None = None) -> None:
        """One more page; its documents become the current ones."""
        page = sum(row["landing"] == landing for row in self.pages[name])
        if body is None:
            answer = {"QueryResponse": {ENTITIES[name]: list(objects)}, "time": "2026-01-06"}
            body = json.dumps(answer).replace(f'"{RAW}', "").replace(f'{RAW}"', "")
        self.pages[name].append(
            {"landing": landing, "page": page, "parent": None, "format": "json", "body": body}
        )
        for one in objects if name in FORMS else ():
            key = {"object": name, "id": f"{FORMS[name].prefix}-{one['Id']}"}
            self.current = [row for row in self.current if not key.items() <= row.items()]
            self.current.append(key | {"version": "v1", "landing": landing, "page": page})

    def rows(
        self,
        record_type: RecordType = RecordType.INVOICES,
        site: Site = NEW_YORK,
        **options: Any,
    ) -> list[Row]:
        """All rows, in the order of documents and lines."""
        text = pa.string()
        names = ("landing", "page", "parent", "format", "body")
        raw = pa.schema([(name, pa.int32() if name == "page" else text) for name in names])
        names = ("object", "id", "version", "landing", "page")
        winners = pa.schema([(name, pa.int32() if name == "page" else text) for name in names])
        with duckdb.connect() as db:
            db.execute("SET TimeZone = 'UTC'")
            db.execute(SQL_MACROS)
            for name, pages in self.pages.items():
                db.register(f"raw_{name}", pa.Table.from_pylist(pages, raw))
            db.register("current", pa.Table.from_pylist(self.current, winners))
            SOURCE.rows(db, record_type, QuickbooksSettings(**options), site)
            table = db.sql("SELECT * FROM rows ORDER BY document_id, line_id").to_arrow_table()
        assert table.schema.names == CANONICAL[record_type].names
        assert table.schema.types == CANONICAL[record_type].types
        return table.to_pylist()  # type: ignore[no-any-return]


def billing(*documents: Row, name: str = "invoice", **options: Any) -> list[Row]:
    """The billing lines of one page."""
    pages = Pages()
    pages.add(name, *documents)
    return pages.rows(**options)


def orders(*documents: Row, name: str = "invoice", **options: Any) -> list[Row]:
    """The order lines of one page."""
    pages = Pages()
    pages.add(name, *documents)
    return pages.rows(RecordType.SALES, invoice_equals_contract=True, **options)


def amounts(rows: list[Row]) -> dict[str, Decimal | None]:
    """Amounts by line."""
    return {row["line_id"]: row["amount"] for row in rows}


def only(rows: list[Row]) -> Row:
    """The one row that there is."""
    assert len(rows) == 1
    return rows[0]


# -- a billing line ------------------------------------------------------------------------------


def test_a_line_becomes_a_billing_line_with_its_lineage() -> None:
    line = sold("100.0", Qty=number("2"), UnitPrice=number("50"), ServiceDate="2026-02-01")
    assert only(billing(form(line, subtotal("100")))) == {
        "source": "quickbooks",
        "record_type": "invoices",
        "period": "2026-01",
        "document_type": "invoice",
        "document_id": "INV-130",
        "line_id": "1",
        "source_version": "v1",
        "raw_batch": "L1",
        "raw_page": 0,
        "url": "https://app.qbo.intuit.com/app/invoice?txnId=130",
        "excluded_by": None,
        "customer_id": "17",
        "customer_name": "Acme",
        "order_number": None,
        "order_item_number": None,
        "contract_date": None,
        "product_id": "5",
        "product_code": "5",
        "product_name": "Plan",
        "billing_date": date(2026, 1, 5),
        "invoice_number": "1037",
        "amount": Decimal("100.0000"),
        "currency": "USD",
        "service_start_date": date(2026, 2, 1),
        "service_end_date": None,
        "quantity": Decimal("2.000000000000"),
        "reference_invoice_number": None,
        "reference_line_id": None,
        "tax_amount": None,
        "tax_name": None,
        "custom_fields": None,
    }


@pytest.mark.parametrize(
    ("name", "amount", "page"),
    [
        ("invoice", "100", "invoice"),
        ("sales_receipt", "100", "salesreceipt"),
        ("credit_memo", "-100", "creditmemo"),
        ("refund_receipt", "-100", "refundreceipt"),
    ],
)
def test_credits_show_positive_amounts_and_become_negative(
    name: str, amount: str, page: str
) -> None:
    row = only(billing(form(sold()), name=name))
    assert (row["amount"], row["document_type"]) == (Decimal(amount), name)
    assert row["url"] == f"https://app.qbo.intuit.com/app/{page}?txnId=130"


def test_the_same_id_in_two_kinds_of_documents_is_two_documents() -> None:
    pages = Pages()
    pages.add("invoice", form(sold()))
    pages.add("credit_memo", form(sold()))
    assert [row["document_id"] for row in pages.rows()] == ["CM-130", "INV-130"]


def test_only_the_version_that_counts_yields_rows() -> None:
    pages = Pages()
    pages.add("invoice", form(sold("1"), total="1"), landing="L1")
    pages.add("invoice", form(sold("2"), total="2"), landing="L2")
    row = only(pages.rows())
    assert (row["amount"], row["raw_batch"]) == (Decimal(2), "L2")


def test_a_page_of_change_data_capture_yields_no_rows() -> None:
    pages = Pages()
    pages.add("invoice", form(sold()))
    stub = '{"Invoice":[{"status":"Deleted","Id":"130"}]}'
    pages.add("invoice", body=f'{{"CDCResponse":[{{"QueryResponse":[{stub},{{}}]}}]}}')
    assert len(pages.rows()) == 1


def test_unknown_fields_and_detail_types_do_not_break_a_page() -> None:
    strange = form(sold(), {"DetailType": "Hologram", "HologramDetail": {"x": [1]}}, Odd={"a": 1})
    assert amounts(billing(strange)) == {"1": Decimal(100)}


def test_a_form_with_a_subtotal_and_no_line_is_kept_to_be_flagged() -> None:
    """One of the 31 recorded invoices is like this."""
    row = only(billing(form(subtotal("75"), total="81", tax="6")))
    assert (row["line_id"], row["excluded_by"]) == (None, None)


def test_a_form_over_nothing_without_lines_is_left_out_by_name() -> None:
    assert only(billing(form(total="0")))["excluded_by"] == "no_lines"


def test_a_line_without_an_id_is_named_by_its_position() -> None:
    rows = billing(form(sold("60"), sold("40", id=None)))
    assert amounts(rows) == {"1": Decimal(60), "position-2": Decimal(40)}


def test_a_missing_number_customer_or_item_stays_missing_to_be_flagged() -> None:
    bare = form(sold(ItemRef=None))
    del bare["DocNumber"], bare["CustomerRef"]
    row = only(billing(bare))
    assert (row["invoice_number"], row["customer_id"], row["product_code"]) == (None, None, None)


# -- money ---------------------------------------------------------------------------------------


def test_numbers_are_exact_to_the_last_digit() -> None:
    line = sold("15241.92", UnitPrice=number("0.0123457"), Qty=number("1234567.123456789"))
    row = only(orders(form(line, total="15241.92")))
    assert row["list_price"] == Decimal("0.0123457")
    assert row["quantity"] == Decimal("1234567.123456789")
    assert row["amount"] == Decimal("15241.92")
    assert abs(row["quantity"] * row["unit_price"] - row["amount"]) < Decimal("0.000001")


def test_a_discount_line_is_subtracted_and_spread_to_the_cent_dbt_quickbooks() -> None:
    lines = [sold("33.35", id="1"), sold("33.33", id="2"), sold("33.32", id="3")]
    rows = billing(form(*lines, subtotal("100"), off("10", "10"), total="90"))
    assert amounts(rows) == {"1": Decimal("30.01"), "2": Decimal("30.00"), "3": Decimal("29.99")}


def test_of_equal_remainders_the_earlier_lines_take_the_cent() -> None:
    lines = [sold("10", id=str(n)) for n in (1, 2, 3)]
    rows = billing(form(*lines, off("0.02"), total="29.98"))
    assert list(amounts(rows).values()) == [Decimal("9.99"), Decimal("9.99"), Decimal(10)]


def test_several_discount_lines_add_up() -> None:
    rows = billing(form(sold("100"), off("10"), off("0.5"), total="89.5"))
    assert amounts(rows) == {"1": Decimal("89.5")}


def test_a_discount_on_yen_is_spread_in_whole_yen() -> None:
    lines = [sold("1000", id="1"), sold("1000", id="2"), sold("1000", id="3")]
    yen = form(*lines, off("100"), total="2900", CurrencyRef={"value": "JPY"}, ExchangeRate=0.0067)
    assert list(amounts(billing(yen)).values()) == [Decimal(966), Decimal(967), Decimal(967)]


def test_no_discount_falls_on_shipping() -> None:
    rows = billing(form(sold("100"), subtotal("100"), off("50"), shipping("20"), total="70"))
    assert amounts(rows) == {"1": Decimal(50), "position-4": Decimal(20)}
    assert rows[1]["product_code"] == "SHIPPING_ITEM_ID"


def test_a_discount_with_nothing_to_fall_on_is_flagged() -> None:
    rows = billing(form(shipping("20"), off("5"), total="15"))
    assert list(amounts(rows).values()) == [None]


@pytest.mark.parametrize("header", ["0", "90"])
def test_of_a_bundle_the_nested_lines_count_and_never_its_header(header: str) -> None:
    """The header's amount is 0 in one recording and the total in others."""
    nested = bundle(header, sold("60", id="2"), sold("30", id="3"))
    rows = billing(form(nested, sold("10", id="4"), subtotal("100"), off("10"), total="90"))
    assert amounts(rows) == {"2": Decimal(54), "3": Decimal(27), "4": Decimal(9)}


def test_a_bundle_is_known_by_its_nested_lines_when_it_names_no_type() -> None:
    """One recorded sales receipt has such a line."""
    nested = bundle("0", sold("100", id="3"))
    del nested["DetailType"]
    assert amounts(billing(form(nested), name="sales_receipt")) == {"3": Decimal(100)}


def test_descriptions_and_subtotals_are_no_lines() -> None:
    words = {"Id": "2", "Description": "Thanks", "DetailType": "DescriptionOnly"}
    zero = words | {"Id": "3", "Amount": number("0")}
    assert amounts(billing(form(sold(), words, zero, subtotal("100")))) == {"1": Decimal(100)}


def test_tax_on_top_never_was_in_the_amount() -> None:
    assert amounts(billing(form(sold(), tax="8.88", total="108.88"))) == {"1": Decimal(100)}


def test_where_prices_include_tax_the_net_amounts_are_taken() -> None:
    line = sold("83.33", TaxInclusiveAmt=number("100"), TaxCodeRef={"value": "4"})
    inclusive = form(line, tax="16.67", GlobalTaxCalculation="TaxInclusive")
    row = only(billing(inclusive, tax_enabled=True))
    assert (row["amount"], row["tax_amount"]) == (Decimal("83.33"), Decimal("16.67"))


def test_where_prices_include_tax_and_lines_are_gross_the_tax_is_taken_out() -> None:
    lines = [
        sold("60", id="1", TaxCodeRef={"value": "4"}),
        sold("40", id="2"),
        sold("60", id="3", TaxCodeRef={"value": "4"}),
    ]
    inclusive = form(*lines, total="160", tax="20", GlobalTaxCalculation="TaxInclusive")
    rows = billing(inclusive, tax_enabled=True)
    assert amounts(rows) == {"1": Decimal(50), "2": Decimal(40), "3": Decimal(50)}
    assert [row["tax_amount"] for row in rows] == [Decimal(10), Decimal(0), Decimal(10)]


def test_lines_that_do_not_add_up_to_the_total_stay_as_they_are_for_controls_to_compare() -> None:
    """What is flagged then is in tests/test_document_totals.py."""
    rows = billing(form(sold("60"), sold("40", id="2"), total="100.01"))
    assert amounts(rows) == {"1": Decimal(60), "2": Decimal(40)}


@pytest.mark.parametrize("unknown", [{"total": "100.00001"}, {"tax": "0.00001"}])
def test_without_a_readable_total_or_tax_no_amount_is_known(unknown: dict[str, str]) -> None:
    assert amounts(billing(form(sold(), **unknown))) == {"1": None}


@pytest.mark.parametrize("amount", ["12x", None, "0.00001"])
def test_an_amount_that_is_no_number_of_four_decimals_is_flagged(amount: str | None) -> None:
    line = sold(None, id="2") | ({"Amount": amount} if amount else {})
    rows = billing(form(sold(), line))
    assert amounts(rows) == {"1": None, "2": None}


def test_a_foreign_form_stays_in_its_currency_and_its_rate_is_not_applied() -> None:
    foreign = form(sold(), CurrencyRef={"value": "EUR"}, ExchangeRate=number("1.0526316"))
    rows = billing(foreign, custom_fields={"Rate": "ExchangeRate"})
    assert (rows[0]["amount"], rows[0]["currency"]) == (Decimal(100), "EUR")
    assert dict(rows[0]["custom_fields"]) == {"Rate": "1.0526316"}


def test_a_form_without_a_currency_has_the_companys() -> None:
    bare = form(sold())
    del bare["CurrencyRef"]
    assert only(billing(bare, site=Site("Europe/London", "GBP", None)))["currency"] == "GBP"


def test_negative_lines_and_negative_forms_keep_their_signs() -> None:
    lines = [sold("150", id="1"), sold("-50", id="2")]
    assert list(amounts(billing(form(*lines))).values()) == [Decimal(150), Decimal(-50)]
    minus = form(sold("-100"), total="-100")
    assert amounts(billing(minus, name="sales_receipt")) == {"1": Decimal(-100)}
    assert amounts(billing(minus, name="credit_memo")) == {"1": Decimal(100)}


_CENTS = st.integers(-(10**7), 10**7)


@settings(max_examples=60, deadline=None)
@given(st.lists(_CENTS, min_size=1, max_size=6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_shares_add_up_to_the_whole_whatever_the_amounts(
    cents: list[int], discount: int, tax: int
) -> None:
    def money(value: int) -> str:
        return str(Decimal(value) / 100)

    lines = [sold(money(one), id=str(n)) for n, one in enumerate(cents, 1)]
    total = sum(cents) - discount + tax
    document = form(*lines, off(money(discount)), total=money(total), tax=money(tax))
    rows = billing(document, tax_enabled=True)
    found = [row["amount"] for row in rows if row["line_id"]]
    if sum(cents) == 0 and discount:
        assert found == [None] * len(cents)
        return
    assert sum(found) == Decimal(sum(cents) - discount) / 100
    for one, amount in zip(cents, found, strict=True):
        exact = Decimal(one) / 100
        if discount:
            exact -= Decimal(discount) / 100 * one / sum(cents)
        assert abs(amount - exact) < Decimal("0.01")
    if sum(cents) != discount:
        assert sum(row["tax_amount"] for row in rows) == Decimal(tax) / 100


# -- tax -----------------------------------------------------------------------------------------


def taxed(*lines: Row, tax: str, total: str, rate: str = "3") -> Row:
    document = form(*lines, total=total, CurrencyRef={"value": "USD"})
    detail = {"TaxRateRef": {"value": rate}, "TaxPercent": number("8.875")}
    document["TxnTaxDetail"] = {
        "TotalTax": number(tax),
        "TaxLine": [{"Amount": number(tax), "TaxLineDetail": detail}],
    }
    return document


def test_tax_falls_on_taxable_lines_after_the_discount_and_has_its_rates_name() -> None:
    pages = Pages()
    lines = [
        sold("60", id="1", TaxCodeRef={"value": "TAX"}),
        sold("40", id="2", TaxCodeRef={"value": "NON"}),
        sold("30", id="3", TaxCodeRef={"value": "TAX"}),
    ]
    pages.add("invoice", taxed(*lines, off("13"), tax="7.19", total="124.19"))
    pages.add("tax_rate", {"Id": "3", "Name": "New York sales tax"})
    rows = pages.rows(tax_enabled=True)
    assert [row["tax_amount"] for row in rows] == [Decimal("4.79"), Decimal(0), Decimal("2.40")]
    assert [row["tax_name"] for row in rows] == ["New York sales tax", None, "New York sales tax"]


def test_lines_with_different_rates_have_the_tax_that_they_show() -> None:
    lines = [
        sold("100", id="1", TaxCodeRef={"value": "4"}, TaxInclusiveAmt=number("120")),
        sold("100", id="2", TaxCodeRef={"value": "5"}, TaxInclusiveAmt=number("105")),
        sold("10", id="3", TaxCodeRef={"value": "NON"}, TaxInclusiveAmt=number("0.0")),
    ]
    rows = billing(form(*lines, tax="25", total="235"), tax_enabled=True)
    assert [row["tax_amount"] for row in rows] == [Decimal(20), Decimal(5), Decimal(0)]


def test_the_tax_of_a_credit_is_negative() -> None:
    row = only(billing(form(sold(), tax="8", total="108"), name="credit_memo", tax_enabled=True))
    assert (row["amount"], row["tax_amount"]) == (Decimal(-100), Decimal(-8))


# -- voids and rules -----------------------------------------------------------------------------


def test_a_void_with_zeroed_amounts_is_left_out_by_name_php_sdk_167() -> None:
    zeroed = form(sold("0", Qty=0), total="0", PrivateNote="Voided")
    assert only(billing(zeroed))["excluded_by"] == "void"


def test_a_void_that_still_shows_its_amounts_is_left_out_too() -> None:
    row = only(billing(form(sold(), PrivateNote="Voided - entered twice")))
    assert (row["excluded_by"], row["amount"]) == ("void", Decimal(100))


def test_a_void_whose_note_somebody_has_changed_shows_by_amounts_and_quantities() -> None:
    zeroed = form(sold("0", Qty=number("0")), total="0", PrivateNote="see 1038")
    assert only(billing(zeroed))["excluded_by"] == "void"


@pytest.mark.parametrize("note", [None, "Avoided a second visit", "Not voided"])
def test_a_form_that_is_really_over_nothing_is_no_void(note: str | None) -> None:
    nothing = form(sold("0", Qty=number("1")), total="0", PrivateNote=note)
    assert only(billing(nothing))["excluded_by"] is None
    assert only(billing(nothing, discard_zero_invoices=True))["excluded_by"] == "zero_invoice"


def test_only_paid_forms_count_where_asked_for() -> None:
    unpaid, paid = form(sold(), Id="1", Balance=number("3")), form(sold(), Id="2")
    rows = billing(unpaid, paid, paid_invoices_only=True)
    assert [row["excluded_by"] for row in rows] == ["not_paid", None]
    credit = form(sold(), RemainingCredit=number("3"))
    row = only(billing(credit, name="credit_memo", paid_invoices_only=True))
    assert row["excluded_by"] == "not_paid"


def test_a_receipt_without_a_balance_is_paid() -> None:
    receipt = form(sold())
    del receipt["Balance"]
    row = only(billing(receipt, name="sales_receipt", paid_invoices_only=True))
    assert row["excluded_by"] is None


def test_forms_before_the_conversion_and_of_excluded_locations_are_left_out() -> None:
    late = Site("America/New_York", "USD", "2026-01-06")
    assert only(billing(form(sold()), site=late))["excluded_by"] == "before_conversion_date"
    there = form(sold(), DepartmentRef={"value": "2", "name": "Berlin"})
    for named in ("2", "Berlin"):
        row = only(billing(there, exclude_business_entities=(named,)))
        assert row["excluded_by"] == "excluded_business_entity"


def test_an_excluded_product_leaves_the_other_lines_and_their_discount() -> None:
    lines = [sold("60"), sold("40", id="2", ItemRef={"value": "6"})]
    rows = billing(form(*lines, off("10"), total="90"), exclude_products=("6",))
    assert [row["excluded_by"] for row in rows] == [None, "excluded_product"]
    assert amounts(rows) == {"1": Decimal(54), "2": Decimal(36)}


# -- where codes and numbers are kept ------------------------------------------------------------


def custom(**values: str) -> list[Row]:
    return [
        {"DefinitionId": str(n), "Name": name.replace("_", " "), "Type": "StringType"}
        | ({"StringValue": value} if value else {})
        for n, (name, value) in enumerate(values.items(), 1)
    ]


def test_order_and_customer_come_from_the_custom_fields_that_are_named() -> None:
    document = form(sold(), CustomField=custom(Sales_Order="006A", Account_ID="001B", Crew=""))
    options = {"order_number_field": "Sales Order", "customer_id_field": "Account ID"}
    row = only(billing(document, **options))
    assert (row["order_number"], row["customer_id"]) == ("006A", "001B")
    missing = only(billing(form(sold(), CustomField=custom(Sales_Order="")), **options))
    assert (missing["order_number"], missing["customer_id"]) == (None, None)


def test_the_product_code_is_read_from_the_item_where_a_field_is_named() -> None:
    pages = Pages()
    lines = [sold("60"), sold("30", id="2", ItemRef={"value": "6"}), shipping("10")]
    pages.add("invoice", form(*lines))
    items = [{"Id": "5", "Sku": "007", "Active": False}, {"Id": "6", "Name": "No SKU"}]
    pages.add("item", *items)
    rows = pages.rows(product_id_field="Sku")
    assert [row["product_code"] for row in rows] == ["007", None, "SHIPPING_ITEM_ID"]
    assert [row["product_id"] for row in rows] == ["5", "6", "SHIPPING_ITEM_ID"]


def test_custom_columns_come_from_fields_of_form_and_line() -> None:
    document = form(
        sold(ClassRef={"value": "9", "name": "Cloud"}),
        CustomField=custom(Region='It\'s "EMEA"'),
        CustomerMemo={"value": 'Say "Qty": 5'},
    )
    paths = {
        "Region": "CustomField.Region",
        "Memo": "CustomerMemo.value",
        "Class": "Line.SalesItemLineDetail.ClassRef.name",
        "Total": "TotalAmt",
        "None": "DepartmentRef.name",
    }
    assert dict(only(billing(document, custom_fields=paths))["custom_fields"]) == {
        "Region": 'It\'s "EMEA"',
        "Memo": 'Say "Qty": 5',
        "Class": "Cloud",
        "Total": "100",
        "None": None,
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"custom_fields": {"x": "$.a'b"}},
        {"product_id_field": "Sku'"},
        {"terms": {"5": -1}},
        {"requests_per_second": 0},
        {"line_source": "estimate"},
    ],
)
def test_a_setting_of_the_wrong_form_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        QuickbooksSettings(**wrong)


# -- an invoice as its own contract --------------------------------------------------------------


def test_an_invoice_as_contract_is_an_order_with_the_terms_of_its_products() -> None:
    lines = [
        sold("90", id="1", Qty=number("3"), UnitPrice=number("40"), ServiceDate="2026-01-31"),
        sold("10", id="2", ItemRef={"value": "9", "name": "Training"}),
    ]
    document = form(*lines, off("10"), total="90")
    rows = orders(document, terms={"5": 1, "9": 0})
    assert [row["order_item_number"] for row in rows] == ["INV-130:1", "INV-130:2"]
    assert {row["order_number"] for row in rows} == {"1037"}
    assert [(row["service_start_date"], row["service_end_date"]) for row in rows] == [
        (date(2026, 1, 31), date(2026, 2, 27)),
        (date(2026, 1, 5), date(2026, 1, 5)),
    ]
    assert [row["quantity"] for row in rows] == [Decimal(3), Decimal(1)]
    assert [row["unit_price"] for row in rows] == [Decimal(27), Decimal(9)]
    assert [row["list_price"] for row in rows] == [Decimal(40), None]
    assert rows[0]["order_start_date"] == date(2026, 1, 5)


def test_a_product_without_a_term_leaves_the_end_of_service_open_to_be_flagged() -> None:
    row = only(orders(form(sold()), terms={"6": 12}))
    assert (row["service_start_date"], row["service_end_date"]) == (date(2026, 1, 5), None)


def test_the_billing_lines_of_a_contract_name_its_order_and_those_of_credits_do_not() -> None:
    options = {"invoice_equals_contract": True, "terms": {"5": 12}}
    row = only(billing(form(sold()), **options))
    order = only(orders(form(sold())))
    assert row["order_number"] == order["order_number"] == "1037"
    assert row["order_item_number"] == order["order_item_number"]
    assert row["contract_date"] == date(2026, 1, 5)
    assert (row["service_start_date"], row["service_end_date"]) == (
        date(2026, 1, 5),
        date(2027, 1, 4),
    )
    credit = only(billing(form(sold()), name="credit_memo", **options))
    assert (credit["order_number"], credit["contract_date"]) == (None, None)


def test_credits_are_no_orders() -> None:
    assert SOURCE.feeding(RecordType.SALES) == ["invoice", "sales_receipt"]
    assert orders(form(sold()), name="credit_memo") == []
    assert SOURCE.record_types(QuickbooksSettings()) == (RecordType.INVOICES,)


def test_a_quantity_of_zero_with_an_amount_is_flagged() -> None:
    row = only(orders(form(sold("100", Qty=number("0")))))
    assert (row["quantity"], row["unit_price"]) == (Decimal(0), None)
