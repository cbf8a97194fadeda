"""What Xero's fields mean. The facts and issue numbers are in reference/xero.md."""

from datetime import date, datetime
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from resources.xero import _day, _Invoice
from revrec_pipeline.currency import SQL_MACROS
from revrec_pipeline.mapping import Site
from revrec_pipeline.mapping.xero import SOURCE, XeroSettings
from revrec_pipeline.model import CANONICAL, RecordType
from revrec_pipeline.sandbox import company
from revrec_pipeline.sandbox.xero_objects import Line, contact, document, encode, stamp, wire

NEW_YORK = Site(timezone="America/New_York", home_currency="USD", conversion_date=None)
SALES = RecordType.SALES
Row = dict[str, Any]
D = Decimal


def line(**fields: Any) -> Row:
    """A line as the API shows it. A field of None is left out, as Xero does."""
    shown = {
        "ItemCode": "PLAT-STD",
        "Description": "Platform Standard",
        "UnitAmount": D("100.0000"),
        "TaxType": "OUTPUT2",
        "TaxAmount": D("30.00"),
        "LineAmount": D("200.00"),
        "AccountCode": "200",
        "Item": {"ItemID": "item-1", "Name": "Platform Standard", "Code": "PLAT-STD"},
        "Tracking": [
            {"Name": "Region", "Option": "Europe", "TrackingCategoryID": "t-1", "Options": []}
        ],
        "Quantity": D("2.0000"),
        "LineItemID": "line-1",
        **fields,
    }
    return {name: value for name, value in shown.items() if value is not None}


def invoice(*lines: Row, **fields: Any) -> Row:
    """An approved invoice over the lines."""
    shown = {
        "Type": "ACCREC",
        "InvoiceID": "inv-1",
        "InvoiceNumber": "INV-0001",
        "Reference": "PO-4711",
        "Payments": [],
        "CurrencyRate": D("0.9213847261"),
        "Contact": {"ContactID": "con-1", "Name": "Acme GmbH"},
        "DateString": "2026-01-31T00:00:00",
        "Date": "/Date(1769817600000+0000)/",
        "Status": "AUTHORISED",
        "LineAmountTypes": "Exclusive",
        "LineItems": list(lines),
        "SubTotal": D("200.00"),
        "TotalTax": D("30.00"),
        "Total": D("230.00"),
        "CurrencyCode": "EUR",
        "UpdatedDateUTC": "/Date(1769817600940+0000)/",
        **fields,
    }
    return {name: value for name, value in shown.items() if value is not None}


def credit_note(*lines: Row, **fields: Any) -> Row:
    """An approved credit note over the lines."""
    named = {"CreditNoteID": "cn-1", "CreditNoteNumber": "CN-0001", "Type": "ACCRECCREDIT"}
    return invoice(*lines, InvoiceID=None, InvoiceNumber=None, **{**named, **fields})


def allocation(number: str, *, deleted: bool = False) -> Row:
    """What a credit note says about an invoice that it settles."""
    return {
        "AllocationID": f"al-{number}",
        "Amount": D("10.00"),
        "IsDeleted": deleted,
        "Invoice": {"InvoiceID": f"id-{number}", "InvoiceNumber": number, "LineItems": []},
    }


def mapped(
    *documents: Row,
    record_type: RecordType = RecordType.INVOICES,
    site: Site = NEW_YORK,
    version: str = "2026-02-01T04:30:00.940Z",
    **settings: Any,
) -> list[Row]:
    """The rows of one page of invoices and one of credit notes, by document and line."""
    text = pa.string()
    raw = pa.schema(
        [("landing", text), ("page", pa.int32()), ("parent", text), ("format", text),
         ("request", text), ("body", text)]
    )  # fmt: skip
    winners = pa.schema(
        [("object", text), ("id", text), ("version", text), ("landing", text), ("page", pa.int32())]
    )
    current = []
    with duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'")
        db.execute(SQL_MACROS)
        for name, key in (("invoice", "InvoiceID"), ("credit_note", "CreditNoteID")):
            found = [one for one in documents if key in one]
            envelope = {"Status": "OK", f"{key.removesuffix('ID')}s": found}
            page = {"landing": "L1", "page": 0, "body": encode(envelope).decode()}
            db.register(f"raw_{name}", pa.Table.from_pylist([page], raw))
            current += [
                {"object": name, "id": one[key], "version": version, "landing": "L1", "page": 0}
                for one in found
            ]
        db.register("current", pa.Table.from_pylist(current, winners))
        SOURCE.rows(db, record_type, XeroSettings(**settings), site)
        table = db.sql("SELECT * FROM rows ORDER BY document_id, line_id").to_arrow_table()
    assert table.schema.names == CANONICAL[record_type].names
    assert table.schema.types == CANONICAL[record_type].types
    return table.to_pylist()  # type: ignore[no-any-return]


def only(rows: list[Row]) -> Row:
    """The one row that there is."""
    assert len(rows) == 1
    return rows[0]


# -- a billing line ------------------------------------------------------------------------------


def test_an_invoice_line_becomes_a_billing_line_with_its_lineage() -> None:
    assert only(mapped(invoice(line()))) == {
        "source": "xero",
        "record_type": "invoices",
        "period": "2026-01",
        "document_type": "invoice",
        "document_id": "inv-1",
        "line_id": "line-1",
        "source_version": "2026-02-01T04:30:00.940Z",
        "raw_batch": "L1",
        "raw_page": 0,
        "url": "https://go.xero.com/AccountsReceivable/View.aspx?InvoiceID=inv-1",
        "excluded_by": None,
        "customer_id": "con-1",
        "customer_name": "Acme GmbH",
        "order_number": None,
        "order_item_number": None,
        "contract_date": None,
        "product_id": "item-1",
        "product_code": "PLAT-STD",
        "product_name": "Platform Standard",
        "billing_date": date(2026, 1, 31),
        "invoice_number": "INV-0001",
        "amount": D("200.0000"),
        "currency": "EUR",
        "service_start_date": None,
        "service_end_date": None,
        "quantity": D("2.000000000000"),
        "reference_invoice_number": None,
        "reference_line_id": None,
        "tax_amount": None,
        "tax_name": None,
        "custom_fields": [],
    }


def test_a_credit_note_line_is_negative_and_links_to_its_own_page() -> None:
    row = only(mapped(credit_note(line())))
    assert (row["document_type"], row["document_id"]) == ("credit_note", "cn-1")
    assert (row["invoice_number"], row["amount"]) == ("CN-0001", D("-200"))
    assert row["url"].endswith("/AccountsReceivable/ViewCreditNote.aspx?creditNoteID=cn-1")


@pytest.mark.parametrize(
    ("amounts", "tax", "net"),
    [("Exclusive", "30.00", "200"), ("Inclusive", "33.33", "166.67"), ("NoTax", "0.00", "200")],
)
def test_amounts_are_before_tax_whatever_line_amounts_contain(
    amounts: str, tax: str, net: str
) -> None:
    shown = line(TaxAmount=D(tax))
    assert only(mapped(invoice(shown, LineAmountTypes=amounts)))["amount"] == D(net)
    assert only(mapped(credit_note(shown, LineAmountTypes=amounts)))["amount"] == -D(net)


def test_an_inclusive_line_that_does_not_tell_its_tax_has_no_amount() -> None:
    shown = invoice(line(TaxAmount=None), LineAmountTypes="Inclusive")
    assert only(mapped(shown))["amount"] is None


@pytest.mark.parametrize("discount", [{"DiscountRate": D("50.00")}, {"DiscountAmount": D("200")}])
def test_a_discount_is_not_subtracted_again(discount: Row) -> None:
    shown = line(UnitAmount=D("200.0000"), **discount)  # 2 times 200, less a half
    assert only(mapped(invoice(shown)))["amount"] == D("200")


def test_the_line_amount_counts_and_not_quantity_times_a_rounded_price() -> None:
    shown = line(Quantity=D("40000.0000"), UnitAmount=D("0.01"), LineAmount=D("500.00"))
    assert only(mapped(invoice(shown)))["amount"] == D("500")


@pytest.mark.parametrize("amount", ["99999999999999.97", "0.10", "-0.01", "12345678901234.5678"])
def test_amounts_never_pass_through_a_double(amount: str) -> None:
    assert only(mapped(invoice(line(LineAmount=D(amount)))))["amount"] == D(amount)


def test_a_line_without_amount_is_kept_and_excluded_as_a_description() -> None:
    words = {"Description": "As agreed.", "Tracking": [], "LineItemID": "line-0"}
    first, second = mapped(invoice(words, line()))
    assert (first["line_id"], first["excluded_by"], first["amount"]) == (
        "line-0",
        "description_only",
        None,
    )
    assert second["excluded_by"] is None


def test_the_item_gives_the_code_where_the_line_does_not() -> None:
    assert only(mapped(invoice(line(ItemCode=None))))["product_code"] == "PLAT-STD"
    assert only(mapped(invoice(line(ItemCode=None, Item=None))))["product_code"] is None


@pytest.mark.parametrize(
    ("field", "code"),
    [("LineItem.AccountCode", "200"), ("Tracking.Region", "Europe"), ("Tracking.None", None)],
)
def test_an_organisation_without_items_says_where_its_products_are(
    field: str, code: str | None
) -> None:
    """Of 649 lines of a published organisation (dbt_xero's seeds), none has an item."""
    row = only(mapped(invoice(line()), product_id_field=field, terms={"200": 1, "Europe": 1}))
    assert (row["product_code"], row["service_end_date"]) == (
        code,
        date(2026, 2, 27) if code else None,
    )


def test_leading_zeros_of_an_item_code_survive() -> None:
    assert only(mapped(invoice(line(ItemCode="00420"))))["product_code"] == "00420"


@pytest.mark.parametrize("lines", [[], None])
def test_an_invoice_without_lines_is_one_row_without_a_line(lines: list[Row] | None) -> None:
    row = only(mapped(invoice(LineItems=lines)))
    assert (row["document_id"], row["line_id"], row["excluded_by"]) == ("inv-1", None, None)


def test_lines_with_new_ids_replace_those_before() -> None:
    """An edit that sends lines back without their ids gives them new ones."""
    (row,) = mapped(invoice(line(LineItemID="line-9")))
    assert row["line_id"] == "line-9"


# -- what keeps a document out -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "rule"),
    [
        ("VOIDED", "void"),
        ("DELETED", "deleted"),
        ("DRAFT", "draft"),
        ("SUBMITTED", "submitted"),
        ("AUTHORISED", None),
        ("PAID", None),
    ],
)
def test_the_status_decides_and_not_the_amounts_that_void_documents_keep_nango_451(
    status: str, rule: str | None
) -> None:
    for row in mapped(invoice(line(), Status=status), credit_note(line(), Status=status)):
        assert row["excluded_by"] == rule
        assert abs(row["amount"]) == D("200")


def test_unknown_values_do_not_break_the_page_xero_python_203_205_206() -> None:
    rows = mapped(
        invoice(line(), InvoiceID="a", Status="ARCHIVED"),
        invoice(line(), InvoiceID="b", CurrencyCode="XTS"),
        invoice(line(), InvoiceID="c", LineAmountTypes="Margin"),
        invoice(line(), InvoiceID="d"),
    )
    found = [(row["excluded_by"], row["currency"], row["amount"]) for row in rows]
    assert found == [
        ("unknown_status", "EUR", D("200")),
        (None, "XTS", D("200")),
        (None, "EUR", None),  # flagged: nobody can tell what the amount contains
        (None, "EUR", D("200")),
    ]


def test_a_supplier_s_document_is_no_sale() -> None:
    rows = mapped(invoice(line(), Type="ACCPAY"), credit_note(line(), Type="ACCPAYCREDIT"))
    assert [row["excluded_by"] for row in rows] == ["purchase", "purchase"]


def test_a_document_before_the_conversion_date_is_left_out() -> None:
    site = Site(timezone="UTC", home_currency="USD", conversion_date="2026-02-01")
    assert only(mapped(invoice(line()), site=site))["excluded_by"] == "before_conversion_date"
    later = invoice(line(), DateString="2026-02-01T00:00:00")
    assert only(mapped(later, site=site))["excluded_by"] is None


def test_excluded_products_leave_the_other_lines_of_their_document() -> None:
    rows = mapped(
        invoice(line(), line(LineItemID="line-2", ItemCode="POSTAGE")),
        exclude_products=["POSTAGE"],
    )
    assert [row["excluded_by"] for row in rows] == [None, "excluded_product"]


def test_paid_invoices_only_dates_them_by_their_payment_and_leaves_them_in_their_month() -> None:
    paid = invoice(line(), Status="PAID", FullyPaidOnDate="/Date(1771632000000+0000)/")
    row = only(mapped(paid, paid_invoices_only=True))
    assert (row["billing_date"], row["period"]) == (date(2026, 2, 21), "2026-01")
    assert only(mapped(invoice(line()), paid_invoices_only=True))["excluded_by"] == "not_paid"
    assert only(mapped(paid))["billing_date"] == date(2026, 1, 31)


def test_invoices_over_nothing_are_left_out_only_if_asked() -> None:
    nothing = invoice(line(LineAmount=D("0.00")), Total=D("0.00"))
    assert only(mapped(nothing))["excluded_by"] is None
    assert only(mapped(nothing, discard_zero_invoices=True))["excluded_by"] == "zero_invoice"
    kept = mapped(invoice(line()), discard_zero_invoices=True)
    assert only(kept)["excluded_by"] is None


# -- dates ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "day"),
    [
        # `DateString` is the day on the organisation's calendar and never shifted …
        ({"DateString": "2026-01-31T00:00:00", "Date": None}, date(2026, 1, 31)),
        ({"DateString": "2026-01-31 00:00:00", "Date": None}, date(2026, 1, 31)),
        # … and neither is the stamp, whose offset means nothing.
        ({"DateString": None, "Date": "/Date(1769817600000+0000)/"}, date(2026, 1, 31)),
        ({"DateString": None, "Date": "/Date(1769817600000+1300)/"}, date(2026, 1, 31)),
        ({"DateString": None, "Date": "/Date(1769817600000)/"}, date(2026, 1, 31)),
        ({"DateString": None, "Date": "2026-01-31T00:00:00"}, date(2026, 1, 31)),
        # tap-xero #62, #64, #74: none at all, zero, and .NET's smallest
        ({"DateString": None, "Date": None}, None),
        ({"DateString": None, "Date": "/Date(0+0000)/"}, None),
        ({"DateString": None, "Date": "/Date(-62135596800000+0000)/"}, None),
        ({"DateString": "0001-01-01T00:00:00", "Date": "/Date(1769817600000)/"}, date(2026, 1, 31)),
        ({"DateString": None, "Date": "/Date(99999999999999999999+0000)/"}, None),
        ({"DateString": "soon", "Date": None}, None),
    ],
)
def test_a_date_in_any_of_its_forms_is_read_alike_by_client_and_mapping(
    fields: Row, day: date | None
) -> None:
    shown = invoice(line(), **fields)
    assert only(mapped(shown))["billing_date"] == day
    key = _Invoice(id="x", date_string=shown.get("DateString"), date=shown.get("Date"))
    assert _day(key) == day


def test_a_document_without_a_date_is_in_the_month_of_its_last_change_on_the_sites_clocks() -> None:
    """The change at 04:30 UTC on 1 February was still January in New York."""
    row = only(mapped(invoice(line(), DateString=None, Date=None)))
    assert (row["period"], row["billing_date"], row["excluded_by"]) == ("2026-01", None, None)


# -- currency ------------------------------------------------------------------------------------


def test_amounts_stay_in_the_document_s_currency_and_the_rate_keeps_ten_digits_tap_xero_87() -> (
    None
):
    shown = invoice(line(), CurrencyRate=D("25467892.1234567890"))  # more digits than a double has
    row = only(mapped(shown, custom_fields={"Rate": "Invoice.CurrencyRate"}))
    assert (row["amount"], row["currency"]) == (D("200"), "EUR")
    assert dict(row["custom_fields"]) == {"Rate": "25467892.1234567890"}


def test_a_missing_currency_is_not_guessed() -> None:
    assert only(mapped(invoice(line(), CurrencyCode=None)))["currency"] is None


# -- credit notes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("allocations", "number"),
    [
        ([], None),
        ([allocation("INV-1")], "INV-1"),
        ([allocation("INV-1"), allocation("INV-1")], "INV-1"),
        ([allocation("INV-1"), allocation("INV-2")], None),
        ([allocation("INV-1"), allocation("INV-2", deleted=True)], "INV-1"),
        ([allocation("INV-1", deleted=True)], None),
    ],
)
def test_a_credit_note_names_the_invoice_that_it_settles_if_it_is_one(
    allocations: list[Row], number: str | None
) -> None:
    """An allocation says how a credit is used up; no line of it credits one line of an invoice."""
    shown = credit_note(line(), Allocations=allocations)
    row = only(mapped(shown))
    assert (row["reference_invoice_number"], row["order_number"]) == (number, None)
    assert row["reference_line_id"] is None
    assert only(mapped(shown, invoice_equals_contract=True))["order_number"] == number


def test_a_credit_note_has_no_service_dates_though_its_item_has_a_term() -> None:
    row = only(mapped(credit_note(line()), terms={"PLAT-STD": 12}))
    assert (row["service_start_date"], row["service_end_date"]) == (None, None)


# -- what settings name --------------------------------------------------------------------------


def test_taxes_are_told_only_if_asked_and_negative_on_credit_notes() -> None:
    credited, billed = mapped(invoice(line()), credit_note(line()), tax_enabled=True)
    assert (billed["tax_amount"], billed["tax_name"]) == (D("30"), "OUTPUT2")
    assert (credited["tax_amount"], credited["tax_name"]) == (D("-30"), "OUTPUT2")
    free = mapped(invoice(line(TaxType="NONE", TaxAmount=D("0.00"))), tax_enabled=True)
    assert (only(free)["tax_amount"], only(free)["tax_name"]) == (None, None)


def test_the_order_number_is_read_where_the_setting_says() -> None:
    rows = mapped(
        invoice(line(), InvoiceID="a", Reference=" 006Hs00000000001IAA "),
        invoice(line(), InvoiceID="b", Reference=""),
        credit_note(line(), CreditNoteID="c", Reference="PO-1"),
        order_number_field="Invoice.Reference",
    )
    assert [row["order_number"] for row in rows] == ["006Hs00000000001IAA", None, "PO-1"]


def test_the_customer_s_id_is_read_where_the_setting_says_and_not_guessed() -> None:
    known = {"ContactID": "con-1", "Name": "Acme", "ContactNumber": "001Hs00000000001AAA"}
    field = {"customer_id_field": "Contact.ContactNumber"}
    row = only(mapped(invoice(line(), Contact=known), **field))
    assert (row["customer_id"], row["customer_name"]) == ("001Hs00000000001AAA", "Acme")
    assert only(mapped(invoice(line()), **field))["customer_id"] is None


def test_custom_fields_come_from_tracking_line_document_and_customer() -> None:
    shown = invoice(
        line(Tracking=[{"Name": "O'Neill's \"West\"", "Option": "Up"}]),
        Contact={"ContactID": "con-1", "Name": "Acme", "AccountNumber": "00077"},
        SentToContact=True,
    )
    row = only(
        mapped(
            shown,
            custom_fields={
                "Team": "Tracking.O'Neill's \"West\"",
                "Region": "Tracking.Region",
                "Account": "LineItem.AccountCode",
                "Reference": "Invoice.Reference",
                "Sent": "Invoice.SentToContact",
                "Debtor": "Contact.AccountNumber",
                "it's": "Invoice.Status",
            },
        )
    )
    assert dict(row["custom_fields"]) == {
        "Team": "Up",
        "Region": None,
        "Account": "200",
        "Reference": "PO-4711",
        "Sent": "true",
        "Debtor": "00077",
        "it's": "AUTHORISED",
    }


@pytest.mark.parametrize(
    "path",
    ["Reference", "Invoice.LineItems", "Invoice.allocations", "LineItem.Tracking", "Item.Name"],
)
def test_a_path_that_leads_to_no_plain_field_is_refused(path: str) -> None:
    with pytest.raises(ValidationError):
        XeroSettings(custom_fields={"x": path})


def test_an_order_number_cannot_stand_on_a_line() -> None:
    with pytest.raises(ValidationError):
        XeroSettings(order_number_field="LineItem.Description")


def test_a_term_of_no_whole_months_is_refused() -> None:
    with pytest.raises(ValidationError):
        XeroSettings.model_validate({"terms": {"PLAT-STD": 1.5}})


# -- each invoice its own order ------------------------------------------------------------------


def sold(*documents: Row, **fields: Any) -> list[Row]:
    """The order lines where an invoice is a contract."""
    return mapped(*documents, record_type=SALES, invoice_equals_contract=True, **fields)


def test_invoices_are_sales_only_where_they_are_contracts() -> None:
    assert SOURCE.record_types(XeroSettings()) == (RecordType.INVOICES,)
    contract = XeroSettings(invoice_equals_contract=True)
    assert SOURCE.record_types(contract) == (SALES, RecordType.INVOICES)


def test_an_invoice_line_becomes_an_order_line_over_its_items_term() -> None:
    row = only(sold(invoice(line()), credit_note(line()), terms={"PLAT-STD": 12}))
    shown = {
        name: row[name]
        for name in (
            "order_number", "order_item_number", "order_start_date", "service_start_date",
            "service_end_date", "quantity", "list_price", "unit_price", "amount", "currency",
        )
    }  # fmt: skip
    assert shown == {
        "order_number": "INV-0001",
        "order_item_number": "line-1",
        "order_start_date": date(2026, 1, 31),
        "service_start_date": date(2026, 1, 31),
        "service_end_date": date(2027, 1, 30),
        "quantity": D(2),
        "list_price": D(100),
        "unit_price": D(100),
        "amount": D(200),
        "currency": "EUR",
    }


@pytest.mark.parametrize(
    ("terms", "end"),
    [
        ({}, None),  # IN_MISSING_SERVICE_DATES
        ({"OTHER": 12}, None),
        ({"PLAT-STD": 0}, date(2026, 1, 31)),
        ({"PLAT-STD": 1}, date(2026, 2, 27)),
        ({"O'Brien": 2, "PLAT-STD": 36}, date(2029, 1, 30)),
    ],
)
def test_service_ends_by_the_term_that_the_settings_give_the_item(
    terms: dict[str, int], end: date | None
) -> None:
    assert only(sold(invoice(line()), terms=terms))["service_end_date"] == end
    billed = only(mapped(invoice(line()), terms=terms))
    assert billed["service_end_date"] == end
    assert billed["service_start_date"] == (date(2026, 1, 31) if end else None)


def test_billing_lines_of_a_contract_name_it_and_its_lines() -> None:
    row = only(mapped(invoice(line()), invoice_equals_contract=True))
    assert (row["order_number"], row["order_item_number"]) == ("INV-0001", "line-1")
    assert row["contract_date"] == date(2026, 1, 31)


def test_prices_of_an_inclusive_line_are_before_tax_and_the_list_price_before_its_discount() -> (
    None
):
    shown = line(
        Quantity=D("40.0000"), UnitAmount=D("374.4000"), DiscountRate=D("12.50"),
        LineAmount=D("13104.00"), TaxAmount=D("2184.00"),
    )  # fmt: skip
    row = only(sold(invoice(shown, LineAmountTypes="Inclusive")))
    assert (row["list_price"], row["unit_price"], row["amount"]) == (D(312), D(273), D(10920))


def test_a_price_that_is_no_whole_cent_gives_the_amount_again() -> None:
    shown = line(Quantity=D("3.0000"), UnitAmount=D("33.3333"), LineAmount=D("100.00"))
    row = only(sold(invoice(shown)))
    assert row["unit_price"] == D("33.333333333333")
    assert round(row["unit_price"] * row["quantity"], 2) == D("100.00")


def test_a_line_of_no_quantity_keeps_its_list_price() -> None:
    row = only(sold(invoice(line(Quantity=D("0.0000"), LineAmount=D("0.00")))))
    assert (row["list_price"], row["unit_price"], row["amount"]) == (D(100), D(100), D(0))


# -- money, at random ----------------------------------------------------------------------------

_LINES = st.builds(
    lambda unit, quantity, discount, percent: Line(
        "Random", "SEAT", quantity, unit, tax_percent=D(percent), discount_rate=discount
    ),
    st.decimals("0.0001", "9999.9999", places=4),
    st.decimals("0.25", "5000", places=2),
    st.none() | st.decimals("0", "99.99", places=2),
    st.sampled_from([0, 5, 10, 15, 20]),
)


_DOCUMENTS = st.tuples(
    st.sampled_from(["ACCREC", "ACCRECCREDIT"]),
    st.sampled_from(["Exclusive", "Inclusive", "NoTax"]),
    st.lists(_LINES, min_size=1, max_size=6),
)


@settings(max_examples=8, deadline=None)
@given(st.lists(_DOCUMENTS, min_size=10, max_size=30))
def test_lines_add_up_to_the_total_before_tax_and_prices_to_their_lines(
    drawn: list[tuple[str, str, list[Line]]],
) -> None:
    day = datetime(2026, 1, 31)  # noqa: DTZ001 - Xero's dates have no zone
    customer = contact(company.customer("camden"))
    made = {}
    for n, (kind, amounts, lines) in enumerate(drawn):
        one = document(
            kind, f"{n}", customer, day, lines, number=f"N-{n}", currency="GBP", amounts=amounts
        )
        one["Status"] = "AUTHORISED"
        made[one.get("InvoiceID") or one["CreditNoteID"]] = one
    shown = [wire(one, lines=True, unit_decimals=4, summary=False) for one in made.values()]
    assert all(one["Date"] == stamp(day) for one in shown)
    billed: dict[str, list[Row]] = {}
    for row in mapped(*shown, tax_enabled=True):
        billed.setdefault(row["document_id"], []).append(row)
    assert billed.keys() == made.keys()
    for own, rows in billed.items():
        sign = -1 if "CreditNoteID" in made[own] else 1
        assert sum(row["amount"] for row in rows) == sign * made[own]["SubTotal"]
        assert sum(row["tax_amount"] or 0 for row in rows) == sign * made[own]["TotalTax"]
    for row in sold(*shown):
        assert round(row["quantity"] * row["unit_price"], 2) == row["amount"]
