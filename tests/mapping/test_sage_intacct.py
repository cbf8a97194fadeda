"""What Intacct's fields mean. The facts and issue numbers are in reference/sage-intacct.md."""

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any
from xml.sax.saxutils import escape

import duckdb
import pyarrow as pa
import pytest
from defusedxml import EntitiesForbidden
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import ValidationError

from revrec_pipeline.currency import SQL_MACROS, exponent
from revrec_pipeline.mapping import Site
from revrec_pipeline.mapping.sage_intacct import SOURCE
from revrec_pipeline.mapping.sage_intacct_settings import OBJECTS, SageIntacctSettings
from revrec_pipeline.model import CANONICAL, RecordType

SITE = Site(timezone="America/New_York", home_currency="USD", conversion_date=None)
Row = dict[str, Any]
_TEXT = pa.string()
_RAW = pa.schema(
    [
        ("landing", _TEXT),
        ("page", pa.int32()),
        ("parent", _TEXT),
        ("format", _TEXT),
        ("request", _TEXT),
        ("body", _TEXT),
    ]
)
_CURRENT = pa.schema(
    [
        ("object", _TEXT),
        ("id", _TEXT),
        ("version", _TEXT),
        ("landing", _TEXT),
        ("page", pa.int32()),
    ]
)


def invoice(**fields: str | None) -> Row:
    """The header of a posted invoice over 100 US dollars."""
    return {
        "RECORDNO": "211",
        "RECORDID": "SI0157",
        "STATE": "Posted",
        "CUSTOMERID": "C-00003",
        "CUSTOMERNAME": "Acme Supply",
        "DOCNUMBER": None,
        "WHENCREATED": "01/15/2026",
        "WHENPAID": None,
        "BASECURR": "USD",
        "CURRENCY": "USD",
        "TOTALENTERED": "100.00",
        "TRX_TOTALENTERED": "100.00",
        "MODULEKEY": "4.AR",
        "MEGAENTITYID": None,
        "RECORD_URL": "https://www.intacct.com/ia/acct/ur.phtml?.r=abc",
        **fields,
    }


def line(amount: str = "100.00", **fields: str | None) -> Row:
    """A line of it."""
    return {
        "RECORDNO": "901",
        "RECORDKEY": "211",
        "LINE_NO": "1",
        "ITEMID": "PLAT-PRO",
        "ITEMNAME": "Platform Professional",
        "AMOUNT": amount,
        "TRX_AMOUNT": amount,
        "REVRECSTARTDATE": "01/15/2026",
        "REVRECENDDATE": "02/14/2026",
        "SUBTOTAL": None,
        "PARENTENTRY": None,
        "ENTRYDESCRIPTION": None,
        **fields,
    }


def order(**fields: str | None) -> Row:
    """The header of a sales order."""
    return {
        "RECORDNO": "300",
        "DOCPARID": "Sales Order",
        "DOCNO": "SO0007",
        "STATE": "Pending",
        "CUSTVENDID": "C-00003",
        "CUSTVENDNAME": "Acme Supply",
        "WHENCREATED": "01/10/2026",
        "BASECURR": "USD",
        "CURRENCY": "USD",
        "MEGAENTITYID": None,
        "RECORD_URL": None,
        **fields,
    }


def entry(**fields: str | None) -> Row:
    """A line of it."""
    return {
        "RECORDNO": "800",
        "DOCHDRNO": "300",
        "LINE_NO": "1",
        "ITEMID": "SEAT",
        "ITEMNAME": "Named User Seat",
        "QUANTITY": "25",
        "PRICE": "39",
        "TRX_PRICE": "39",
        "TOTAL": "975.00",
        "TRX_VALUE": "975.00",
        "REVRECSTARTDATE": "02/01/2026",
        "REVRECENDDATE": "02/28/2026",
        **fields,
    }


def body(name: str, rows: list[Row]) -> str:
    """A page of the gateway, empty elements for nulls."""
    records = "".join(
        f"<{name}>"
        + "".join(
            f"<{field}/>" if value is None else f"<{field}>{escape(value)}</{field}>"
            for field, value in row.items()
        )
        + f"</{name}>"
        for row in rows
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?><response><control><status>success</status>'
        "</control><operation><authentication><status>success</status></authentication><result>"
        f"<status>success</status><function>query</function><data>{records}</data></result>"
        "</operation></response>"
    )


class Pages:
    """Raw pages, put together by hand, and the rows that the mapping makes of them."""

    def __init__(self) -> None:
        self.pages: dict[str, list[Row]] = {name: [] for name in SOURCE.objects}
        self.current: list[Row] = []

    def add(
        self,
        name: str,
        *rows: Row,
        landing: str = "L1",
        text: str | None = None,
        form: str = "xml",
    ) -> None:
        """One more page of `name`; its documents become the current ones."""
        page = sum(each["landing"] == landing for each in self.pages[name])
        self.pages[name].append(
            {
                "landing": landing,
                "page": page,
                "parent": None,
                "format": form,
                "request": "POST /ia/xml/xmlgw.phtml",
                "body": text or body(OBJECTS[name], list(rows)),
            }
        )
        if name in SOURCE.documents:
            for row in rows:
                key = (name, row["RECORDNO"])
                self.current = [
                    each for each in self.current if (each["object"], each["id"]) != key
                ]
                self.current.append(
                    {
                        "object": name,
                        "id": row["RECORDNO"],
                        "version": "2026-01-15T17:00:00Z",
                        "landing": landing,
                        "page": page,
                    }
                )

    def rows(
        self,
        record_type: RecordType = RecordType.INVOICES,
        site: Site = SITE,
        **settings: Any,
    ) -> list[Row]:
        """All rows, in the order of documents and lines."""
        with duckdb.connect() as db:
            db.execute("SET TimeZone = 'UTC'")
            db.execute(SQL_MACROS)
            for name, pages in self.pages.items():
                db.register(f"raw_{name}", pa.Table.from_pylist(pages, _RAW))
            db.register("current", pa.Table.from_pylist(self.current, _CURRENT))
            SOURCE.rows(db, record_type, SageIntacctSettings(**settings), site)
            table = db.sql("SELECT * FROM rows ORDER BY document_id, line_id").to_arrow_table()
        assert table.schema.names == CANONICAL[record_type].names
        assert table.schema.types == CANONICAL[record_type].types
        return table.to_pylist()  # type: ignore[no-any-return]


def billing(*documents: tuple[Row, list[Row]], site: Site = SITE, **settings: Any) -> list[Row]:
    """The billing lines of invoices."""
    pages = Pages()
    pages.add("invoice", *(header for header, _ in documents))
    pages.add("invoice_line", *(row for _, rows in documents for row in rows))
    return pages.rows(site=site, **settings)


def adjusted(header: Mapping[str, Any], *rows: Row, **settings: Any) -> list[Row]:
    """The billing lines of one adjustment."""
    pages = Pages()
    pages.add("adjustment", invoice(RECORDID="CM1", DOCNUMBER="SI0157", **header))
    pages.add("adjustment_line", *rows)
    return pages.rows(**settings)


def sales(header: Row, *rows: Row, **settings: Any) -> list[Row]:
    """The order lines of one order entry document."""
    pages = Pages()
    pages.add("order", header)
    pages.add("order_line", *rows)
    return pages.rows(RecordType.SALES, **{"order_documents": ("Sales Order",), **settings})


def only(rows: list[Row]) -> Row:
    """The one row that there is."""
    assert len(rows) == 1
    return rows[0]


# -- a billing line ------------------------------------------------------------------------------


def test_a_billing_line_has_the_fields_of_invoice_and_line() -> None:
    row = only(billing((invoice(), [line()])))
    assert row == {
        "source": "sage_intacct",
        "record_type": "invoices",
        "period": "2026-01",
        "document_type": "invoice",
        "document_id": "211",
        "line_id": "901",
        "source_version": "2026-01-15T17:00:00Z",
        "raw_batch": "L1",
        "raw_page": 0,
        "url": "https://www.intacct.com/ia/acct/ur.phtml?.r=abc",
        "excluded_by": None,
        "customer_id": "C-00003",
        "customer_name": "Acme Supply",
        "order_number": None,
        "order_item_number": None,
        "contract_date": None,
        "product_id": "PLAT-PRO",
        "product_code": "PLAT-PRO",
        "product_name": "Platform Professional",
        "billing_date": date(2026, 1, 15),
        "invoice_number": "SI0157",
        "amount": Decimal("100.0000"),
        "currency": "USD",
        "service_start_date": date(2026, 1, 15),
        "service_end_date": date(2026, 2, 14),
        "quantity": None,
        "reference_invoice_number": None,
        "reference_line_id": None,
        "tax_amount": None,
        "tax_name": None,
        "custom_fields": [],
    }


def test_whencreated_is_the_document_date_and_month_before_day() -> None:
    row = only(billing((invoice(WHENCREATED="03/02/2026"), [line()])))
    assert (row["period"], row["billing_date"]) == ("2026-03", date(2026, 3, 2))


def test_codes_that_look_like_numbers_or_nulls_stay_text() -> None:
    row = only(billing((invoice(CUSTOMERID="00042"), [line(ITEMID="NA")])))
    assert (row["customer_id"], row["product_code"]) == ("00042", "NA")


def test_text_with_markup_and_other_scripts_arrives_whole() -> None:
    name = "桜 & <Söhne>"
    assert only(billing((invoice(CUSTOMERNAME=name), [line()])))["customer_name"] == name


def test_an_invoice_without_lines_is_a_row_without_a_line() -> None:
    row = only(billing((invoice(), [])))
    assert (row["document_id"], row["line_id"], row["amount"]) == ("211", None, None)


def test_a_page_that_declares_entities_is_not_expanded() -> None:
    bomb = '<!DOCTYPE r [<!ENTITY a "ha">]><response>&a;</response>'
    pages = Pages()
    pages.add("invoice", invoice(), text=bomb)
    with pytest.raises(duckdb.Error, match=EntitiesForbidden.__name__):
        pages.rows()


def test_lines_of_another_landing_do_not_count() -> None:
    pages = Pages()
    pages.add("invoice", invoice(), landing="L1")
    pages.add("invoice_line", line("90.00"), landing="L1")
    pages.add("invoice", invoice(), landing="L2")
    pages.add("invoice_line", line("80.00"), landing="L2")
    row = only(pages.rows())
    assert (row["raw_batch"], row["amount"]) == ("L2", Decimal(80))


def test_a_page_of_the_deletion_feed_holds_no_documents() -> None:
    pages = Pages()
    pages.add("invoice", invoice())
    pages.add("invoice_line", line())
    pages.add("invoice", text=body("AUDITHISTORY", [{"OBJECTKEY": "211--REC"}]))
    assert [row["document_id"] for row in pages.rows()] == ["211"]


def test_a_page_of_an_id_sweep_is_no_xml_and_holds_no_documents() -> None:
    pages = Pages()
    pages.add("invoice", invoice())
    pages.add("invoice_line", line())
    pages.add("invoice", text='{"gone": ["7"]}', form="json")
    assert [row["document_id"] for row in pages.rows()] == ["211"]


# -- money ---------------------------------------------------------------------------------------


def test_the_amount_is_in_the_documents_currency_not_in_the_base_currency() -> None:
    header = invoice(CURRENCY="EUR", TOTALENTERED="108.23", TRX_TOTALENTERED="100.00")
    row = only(billing((header, [line(AMOUNT="108.23", TRX_AMOUNT="100.00")])))
    assert (row["amount"], row["currency"]) == (Decimal(100), "EUR")


def test_a_company_with_one_currency_names_none_and_has_base_amounts_only() -> None:
    header = invoice(BASECURR=None, CURRENCY=None, TRX_TOTALENTERED=None)
    row = only(billing((header, [line(TRX_AMOUNT=None, AMOUNT="12.34")])))
    assert (row["amount"], row["currency"]) == (Decimal("12.34"), "USD")


def test_a_missing_currency_in_a_company_with_several_stays_missing() -> None:
    assert only(billing((invoice(CURRENCY=None), [line()])))["currency"] is None


def test_a_base_amount_never_stands_in_for_one_in_a_foreign_currency() -> None:
    header = invoice(CURRENCY="JPY")
    assert only(billing((header, [line(TRX_AMOUNT=None, AMOUNT="8283.50")])))["amount"] is None


def test_eighteen_digits_survive() -> None:
    row = only(billing((invoice(), [line("12345678901234.5678")])))
    assert row["amount"] == Decimal("12345678901234.5678")


def test_tax_rows_stay_out_and_are_told_where_asked_for() -> None:
    tax = line("20.00", RECORDNO="902", ITEMID=None, PARENTENTRY="901", ENTRYDESCRIPTION="VAT 20%")
    rows = billing((invoice(), [line(), tax]), tax_enabled=True)
    assert [row["excluded_by"] for row in rows] == [None, "tax"]
    assert [row["tax_amount"] for row in rows] == [Decimal(20), None]
    assert rows[0]["tax_name"] == "VAT 20%"
    assert rows[0]["amount"] == Decimal(100)


def test_without_the_setting_no_tax_is_told() -> None:
    tax = line("20.00", RECORDNO="902", PARENTENTRY="901", ENTRYDESCRIPTION="VAT 20%")
    first, _ = billing((invoice(), [line(), tax]))
    assert (first["tax_amount"], first["tax_name"]) == (None, None)


def test_a_subtotal_on_top_of_the_lines_stays_out() -> None:
    freight = line("45.50", RECORDNO="902", ITEMID=None, SUBTOTAL="Freight")
    rows = billing((invoice(), [line(), freight]))
    assert [row["excluded_by"] for row in rows] == [None, "subtotal"]
    assert [row["amount"] for row in rows] == [Decimal(100), Decimal("45.50")]


def test_subtotal_false_is_no_subtotal() -> None:
    assert only(billing((invoice(), [line(SUBTOTAL="false")])))["excluded_by"] is None


def test_a_subtotal_against_the_sign_of_the_lines_is_spread_over_them() -> None:
    rows = billing(
        (
            invoice(),
            [
                line("899.00"),
                line("133.33", RECORDNO="902", LINE_NO="2"),
                line("0.01", RECORDNO="903", LINE_NO="3"),
                line("-103.23", RECORDNO="904", LINE_NO="4", ITEMID=None, SUBTOTAL="Discount"),
            ],
        )
    )
    assert [row["amount"] for row in rows] == [
        Decimal("809.10"),
        Decimal("120.00"),
        Decimal("0.01"),
        Decimal(0),
    ]
    assert [row["excluded_by"] for row in rows] == [None, None, None, "document_discount"]


@hypothesis_settings(max_examples=15, deadline=None)
@given(
    amounts=st.lists(st.integers(0, 10**11), min_size=1, max_size=6),
    percent=st.integers(1, 100),
    currency=st.sampled_from(["USD", "JPY", "KWD"]),
    sign=st.sampled_from([1, -1]),
)
def test_shares_of_a_discount_sum_up_to_it_in_whole_minor_units(
    amounts: list[int], percent: int, currency: str, sign: int
) -> None:
    unit = Decimal(1).scaleb(-exponent(currency))
    exact = [sign * amount * unit for amount in amounts]
    total = sum(exact)
    discount = -(total * percent / 100).quantize(unit)
    rows = [
        line(str(amount), RECORDNO=str(901 + index), LINE_NO=str(index + 1))
        for index, amount in enumerate(exact)
    ]
    rows.append(line(str(discount), RECORDNO="990", SUBTOTAL="Discount"))
    found = billing((invoice(CURRENCY=currency, BASECURR="EUR"), rows))[:-1]
    if discount:
        assert sum(row["amount"] for row in found) == total + discount
    for row, amount in zip(found, exact, strict=True):
        assert row["amount"] == row["amount"].quantize(unit)
        if discount:
            fair = amount + discount * amount / total
            assert abs(row["amount"] - fair) <= unit


def test_a_credit_among_the_invoices_is_negative_as_it_is() -> None:
    header = invoice(MODULEKEY="8.SO", RECORDID="SR1", TRX_TOTALENTERED="-1298.00")
    assert only(billing((header, [line("-1298.00")])))["amount"] == Decimal(-1298)


# -- which documents count -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "rule"),
    [
        ("Posted", None),
        ("Paid", None),
        ("Partially Paid", None),
        ("Draft", "draft"),
        ("Submitted", "not_posted"),
        ("Partially Approved", "not_posted"),
        ("Declined", "not_posted"),
        ("Reversed", "reversed"),
        ("Reversal", "reversed"),
    ],
)
def test_the_state_decides_whether_an_invoice_counts(state: str, rule: str | None) -> None:
    assert only(billing((invoice(STATE=state), [line()])))["excluded_by"] == rule


def test_nothing_is_left_of_a_reversed_invoice_and_its_reversal() -> None:
    rows = billing(
        (invoice(STATE="Reversed"), [line()]),
        (
            invoice(RECORDNO="212", RECORDID="SI0157-R", STATE="Reversal"),
            [line("-100.00", RECORDNO="902", RECORDKEY="212")],
        ),
    )
    assert [row["excluded_by"] for row in rows] == ["reversed", "reversed"]
    assert sum(row["amount"] for row in rows) == 0


def test_an_invoice_that_order_entry_wrote_anew_does_not_count_twice() -> None:
    rows = billing(
        (invoice(RECORDNO="99", MODULEKEY="8.SO"), [line(RECORDKEY="99")]),
        (invoice(RECORDNO="211", MODULEKEY="8.SO"), [line("90.00", RECORDNO="902")]),
    )
    assert {row["document_id"]: row["excluded_by"] for row in rows} == {
        "99": "replaced",
        "211": None,
    }


@pytest.mark.parametrize(
    "other",
    [
        {"MEGAENTITYID": "UK"},  # numbers are unique within an entity
        {"MODULEKEY": "4.AR"},
        {"RECORDID": "SI0158"},
        {"RECORDID": None},
    ],
)
def test_only_order_entry_invoices_of_one_number_and_entity_replace_each_other(
    other: dict[str, str | None],
) -> None:
    first = invoice(**{"RECORDNO": "99", "MODULEKEY": "8.SO", **other})
    rows = billing(
        (first, [line(RECORDKEY="99")]),
        (invoice(MODULEKEY="8.SO"), [line(RECORDNO="902")]),
    )
    assert [row["excluded_by"] for row in rows] == [None, None]


def test_documents_before_the_conversion_date_are_excluded() -> None:
    site = Site(timezone="UTC", home_currency="USD", conversion_date="2026-01-16")
    assert only(billing((invoice(), [line()]), site=site))["excluded_by"] == (
        "before_conversion_date"
    )


def test_paid_only_dates_an_invoice_by_its_payment_and_leaves_its_month() -> None:
    paid = invoice(STATE="Paid", WHENPAID="02/03/2026")
    row = only(billing((paid, [line()]), paid_invoices_only=True))
    assert (row["excluded_by"], row["billing_date"], row["period"]) == (
        None,
        date(2026, 2, 3),
        "2026-01",
    )
    open_ = only(billing((invoice(), [line()]), paid_invoices_only=True))
    assert open_["excluded_by"] == "not_paid"


def test_invoices_over_nothing_are_discarded_where_asked_for() -> None:
    header = invoice(TRX_TOTALENTERED="0.00", TOTALENTERED="0")
    assert only(billing((header, [line("0")])))["excluded_by"] is None
    discarded = only(billing((header, [line("0")]), discard_zero_invoices=True))
    assert discarded["excluded_by"] == "zero_invoice"


def test_excluded_products_and_entities_name_their_rule() -> None:
    row = only(billing((invoice(), [line()]), exclude_products=("PLAT-PRO",)))
    assert row["excluded_by"] == "excluded_product"
    document = (invoice(MEGAENTITYID="UK"), [line()])
    row = only(billing(document, exclude_business_entities=("UK",)))
    assert row["excluded_by"] == "excluded_business_entity"


# -- adjustments ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("total", "recorded", "sign", "amount"),
    [
        ("-100.00", "-100.00", "balance", -100),  # a credit memo …
        ("-100.00", "100.00", "balance", -100),  # … whose rows have the other sign
        ("60.00", "60.00", "balance", 60),  # a debit memo
        ("100.00", "100.00", "credit", -100),
        ("-60.00", "60.00", "credit", 60),
        ("70.00", "100.00", "balance", 100),  # rows that are neither: controls hold it back
        ("70.00", "100.00", "credit", -100),
        (None, "100.00", "balance", None),
    ],
)
def test_the_total_of_an_adjustment_decides_the_sign(
    total: str | None, recorded: str, sign: str, amount: int | None
) -> None:
    header = {"TRX_TOTALENTERED": total, "TOTALENTERED": total}
    row = only(adjusted(header, line(recorded), adjustment_sign=sign))
    assert row["amount"] == amount
    assert row["document_type"] == "adjustment"


def test_an_adjustment_refers_to_its_invoice() -> None:
    row = only(adjusted({"TRX_TOTALENTERED": "-100.00"}, line("-100.00")))
    assert (row["reference_invoice_number"], row["order_number"]) == ("SI0157", None)


def test_tax_rows_of_an_adjustment_count_for_its_sign() -> None:
    tax = line("20.00", RECORDNO="902", PARENTENTRY="901", ENTRYDESCRIPTION="VAT")
    header = {"TRX_TOTALENTERED": "-120.00"}
    first, second = adjusted(header, line("100.00"), tax, tax_enabled=True)
    assert (first["amount"], first["tax_amount"]) == (Decimal(-100), Decimal(-20))
    assert second["excluded_by"] == "tax"


# -- fields that settings name -------------------------------------------------------------------


def test_order_number_customer_and_product_come_from_the_fields_that_are_named() -> None:
    header = invoice(DOCNUMBER="SO-7", **{"CUSTOMER.CRM_ACCOUNT": "001A"})
    row = only(
        billing(
            (header, [line(**{"ITEM.CRM_PRODUCT": "P-1"})]),
            order_number_field="DOCNUMBER",
            customer_id_field="CUSTOMER.CRM_ACCOUNT",
            product_id_field="ITEM.CRM_PRODUCT",
        )
    )
    assert (row["order_number"], row["customer_id"]) == ("SO-7", "001A")
    assert (row["product_id"], row["product_code"]) == ("PLAT-PRO", "P-1")


def test_a_named_field_that_is_empty_is_not_guessed() -> None:
    row = only(
        billing((invoice(), [line()]), customer_id_field="CRM", product_id_field="ITEM.CRM_CODE")
    )
    assert (row["customer_id"], row["product_code"]) == (None, None)


def test_custom_fields_are_those_of_the_line_else_of_the_document() -> None:
    header = invoice(DEPARTMENTID="20", REGION="EMEA", **{"CUSTOMER.TIER": "gold"})
    row = only(
        billing(
            (header, [line(DEPARTMENTID="10", **{"ITEM.FAMILY": "Platform"})]),
            custom_fields={
                "Department": "DEPARTMENTID",
                "Region": "REGION",
                "Tier": "CUSTOMER.TIER",
                "Family": "ITEM.FAMILY",
            },
        )
    )
    assert dict(row["custom_fields"]) == {
        "Department": "10",
        "Region": "EMEA",
        "Tier": "gold",
        "Family": "Platform",
    }


def test_custom_fields_may_have_the_names_of_our_own_columns() -> None:
    fields = {"AMOUNT": "AMOUNT", "Rule": "RULE", "Page": "PAGE", "Cur": "CURRENCY"}
    row = only(billing((invoice(RULE="r", PAGE="p"), [line()]), custom_fields=fields))
    assert dict(row["custom_fields"]) == {
        "AMOUNT": "100.00",
        "Rule": "r",
        "Page": "p",
        "Cur": "USD",
    }


def test_a_term_gives_the_end_of_a_line_without_one() -> None:
    row = only(
        billing(
            (invoice(), [line(REVRECENDDATE=None, **{"ITEM.TERM_MONTHS": "12"})]),
            term_field="ITEM.TERM_MONTHS",
        )
    )
    assert row["service_end_date"] == date(2027, 1, 14)


@pytest.mark.parametrize("path", ["x y", "VENDOR.NAME", "CUSTOMER.", "A'B", "a.b.c"])
def test_a_path_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(ValidationError):
        SageIntacctSettings(custom_fields={"X": path})


# -- sales ---------------------------------------------------------------------------------------


def test_by_default_there_are_only_invoices() -> None:
    assert SOURCE.record_types(SageIntacctSettings()) == (RecordType.INVOICES,)
    assert SOURCE.record_types(SageIntacctSettings(order_documents=("Sales Order",))) == (
        RecordType.SALES,
        RecordType.INVOICES,
    )


def test_only_what_the_settings_ask_for_is_pulled() -> None:
    plain = SOURCE.under(SageIntacctSettings())
    assert plain.objects == ("invoice", "invoice_line", "adjustment", "adjustment_line")
    assert plain.feeding(RecordType.SALES) == []
    contracts = SOURCE.under(SageIntacctSettings(invoice_equals_contract=True))
    assert contracts.feeding(RecordType.SALES) == ["invoice"]
    ordered = SOURCE.under(SageIntacctSettings(order_documents=("Sales Order",)))
    assert ordered.objects == SOURCE.objects
    assert ordered.feeding(RecordType.SALES) == ["order"]


def test_orders_are_made_from_one_source_only() -> None:
    with pytest.raises(ValidationError, match="choose one"):
        SageIntacctSettings(invoice_equals_contract=True, order_documents=("Sales Order",))
    with pytest.raises(ValidationError, match="in order_documents and in return_documents"):
        SageIntacctSettings(order_documents=("Sales Order",), return_documents=("Sales Order",))


def test_an_order_line_has_quantity_and_price() -> None:
    row = only(sales(order(), entry()))
    assert row["order_number"] == "SO0007"
    assert row["order_item_number"] == "1"
    assert row["order_start_date"] == date(2026, 1, 10)
    assert (row["service_start_date"], row["service_end_date"]) == (
        date(2026, 2, 1),
        date(2026, 2, 28),
    )
    assert (row["quantity"], row["list_price"], row["unit_price"]) == (25, 39, 39)
    assert (row["amount"], row["currency"]) == (Decimal(975), "USD")
    assert (row["document_type"], row["customer_name"]) == ("order", "Acme Supply")


def test_a_discounted_order_line_keeps_its_list_price() -> None:
    row = only(sales(order(), entry(TRX_VALUE="877.50", TOTAL="877.50")))
    assert (row["list_price"], row["unit_price"]) == (39, Decimal("35.1"))


def test_a_return_is_negative_though_its_quantity_is_positive() -> None:
    row = only(sales(order(DOCPARID="Sales Return"), entry(), return_documents=("Sales Return",)))
    assert (row["quantity"], row["amount"], row["unit_price"]) == (-25, -975, 39)


def test_a_line_of_no_units_keeps_its_price() -> None:
    row = only(sales(order(), entry(QUANTITY="0", TRX_VALUE="0", TOTAL="0")))
    assert (row["quantity"], row["amount"], row["unit_price"]) == (0, 0, 39)


def test_an_order_in_a_foreign_currency_has_its_own_prices() -> None:
    row = only(
        sales(order(CURRENCY="EUR"), entry(PRICE="42.2097", TRX_PRICE="39", TOTAL="1055.24"))
    )
    assert (row["list_price"], row["amount"], row["currency"]) == (39, 975, "EUR")


@pytest.mark.parametrize(
    ("state", "stages", "rule"),
    [
        ("Pending", (), None),
        ("Converted", (), None),
        ("Closed", (), None),
        ("Draft", (), "draft"),
        ("Submitted", (), "not_posted"),
        ("Closed", ("Pending", "Converted"), "not_closed_won"),
        ("Pending", ("Pending", "Converted"), None),
    ],
)
def test_which_orders_count(state: str, stages: tuple[str, ...], rule: str | None) -> None:
    assert only(sales(order(STATE=state), entry(), closed_stages=stages))["excluded_by"] == rule


@pytest.mark.parametrize(
    ("total", "amount"),
    [("975.00", 975), ("1170.00", 975), (None, 975), ("900.00", None)],
)
def test_an_order_that_is_less_than_its_lines_has_a_discount_that_nobody_read(
    total: str | None, amount: int | None
) -> None:
    """More than its lines is tax or freight; both stand among the subtotals as well."""
    row = only(sales(order(TRX_TOTAL=total, TOTAL=total), entry()))
    assert (row["amount"], row["unit_price"]) == (amount, amount and 39)


def test_an_order_without_lines_is_a_row_without_a_line() -> None:
    row = only(sales(order()))
    assert (row["line_id"], row["service_start_date"]) == (None, None)


def test_an_invoice_that_is_a_contract_is_an_order_of_one_unit_a_line() -> None:
    pages = Pages()
    pages.add("invoice", invoice())
    pages.add("invoice_line", line(REVRECSTARTDATE=None))
    row = only(pages.rows(RecordType.SALES, invoice_equals_contract=True))
    assert (row["order_number"], row["order_item_number"]) == ("SI0157", "1")
    assert (row["quantity"], row["unit_price"], row["amount"]) == (1, 100, 100)
    assert row["service_start_date"] == date(2026, 1, 15)
    bill = only(pages.rows(invoice_equals_contract=True))
    assert (bill["order_number"], bill["order_item_number"]) == ("SI0157", "1")
    assert bill["contract_date"] == date(2026, 1, 15)


def test_where_invoices_are_contracts_a_credit_belongs_to_the_invoice_that_it_names() -> None:
    header = {"TRX_TOTALENTERED": "-100.00"}
    row = only(adjusted(header, line("-100.00"), invoice_equals_contract=True))
    assert row["order_number"] == "SI0157"
