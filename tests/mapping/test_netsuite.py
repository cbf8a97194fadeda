"""What NetSuite's columns mean. The facts and issue numbers are in reference/netsuite.md."""

import json
from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from revrec_pipeline.currency import SQL_MACROS, exponent
from revrec_pipeline.mapping import Site
from revrec_pipeline.mapping.netsuite import SOURCE, Named, NetsuiteSettings, place
from revrec_pipeline.model import CANONICAL, RecordType

SITE = Site(timezone="UTC", home_currency="USD", conversion_date=None)
REQUEST = (
    "POST https://123456-sb1.suitetalk.api.netsuite.com/services/rest/query/v1/suiteql?limit=1000"
    "&offset=0 SELECT t.id AS id, cu.symbol AS currency, tl.foreignamount AS foreignamount FROM x"
)
Row = dict[str, Any]


def line(**columns: Any) -> Row:
    """A line over 100.00 as a page shows it: a credit in the ledger, and so negative."""
    return {
        "mainline": "F",
        "taxline": "F",
        "iscogs": "F",
        "transactiondiscount": "F",
        "item": "11",
        "itemtype": "NonInvtPart",
        "itemcode": "PLAT-PRO",
        "itemname": "Platform Professional",
        "quantity": "-1",
        "foreignamount": "-100",
        "subsidiary": "1",
        "subsidiaryname": "Fernhill",
        "day_transactionline_revrecstartdate": "2026-01-15",
        "day_transactionline_revrecenddate": "2026-02-14",
        **columns,
    }


def discount(amount: str, **columns: Any) -> Row:
    """A discount item; its amount is positive, since it reduces."""
    return line(
        itemtype="Discount", itemcode="DISC", quantity=None, foreignamount=amount, **columns
    )


def text_line(kind: str, **columns: Any) -> Row:
    """A line that only groups or comments, but may show an amount."""
    return line(itemtype=kind, itemcode=kind, quantity=None, **columns)


def tax_line(amount: str, code: str = "VAT") -> Row:
    return line(taxline="T", itemtype="TaxItem", itemcode=code, quantity=None, foreignamount=amount)


def main_line(amount: str) -> Row:
    """The receivable."""
    return line(mainline="T", item=None, itemtype=None, quantity=None, foreignamount=amount)


def invoice(**columns: Any) -> Row:
    """An open invoice's header as a page shows it."""
    return {
        "id": "101",
        "type": "CustInvc",
        "tranid": "INV101",
        "trandate": "2026-01-15",
        "modified": "2026-01-15 10:00:00",
        "status": "A",
        "statusname": "Invoice : Open",
        "posting": "T",
        "voided": "F",
        "total": "100",
        "entity": "201",
        "companyname": "Acme",
        "currency": "USD",
        **columns,
    }


class Pages:
    """Raw pages, put together by hand, and the rows that the mapping makes of them."""

    def __init__(self) -> None:
        self.pages: dict[str, list[Row]] = {name: [] for name in SOURCE.objects}
        self.current: list[Row] = []
        self._keys = 0

    def page(
        self, name: str, rows: Iterable[Row], *, request: str = REQUEST, landing: str = "L1"
    ) -> int:
        """One more page of `name`; null columns are left out of its rows."""
        number = sum(row["landing"] == landing for row in self.pages[name])
        items = [
            {"links": [], **{key: value for key, value in row.items() if value is not None}}
            for row in rows
        ]
        body = {"links": [], "count": len(items), "items": items, "totalResults": len(items)}
        self.pages[name].append(
            {
                "landing": landing,
                "page": number,
                "parent": None,
                "format": "json",
                "request": request,
                "body": json.dumps(body),
            }
        )
        return number

    def add(
        self,
        header: Row,
        *lines: Row,
        name: str = "invoice",
        request: str = REQUEST,
        landing: str = "L1",
    ) -> None:
        """One document with its lines; it becomes the current version."""
        number = self.page(name, [header], request=request, landing=landing)
        numbered = []
        for position, one in enumerate(lines):
            self._keys += 1
            numbered.append(
                {
                    "key": str(9000 + self._keys),
                    "transaction": header["id"],
                    "line": str(position),
                    "sequence": str(position),
                    **one,
                }
            )
        self.page("transaction_line", numbered, request=request, landing=landing)
        winner = {
            "object": name,
            "id": header["id"],
            "version": "2026-01-15T10:00:00Z",
            "landing": landing,
            "page": number,
        }
        self.current = [
            row for row in self.current if (row["object"], row["id"]) != (name, header["id"])
        ]
        self.current.append(winner)

    def rows(
        self, record_type: RecordType = RecordType.INVOICES, site: Site = SITE, **chosen: Any
    ) -> list[Row]:
        """All rows, in the order of documents and lines."""
        text = pa.string()
        raw = pa.schema(
            [
                ("landing", text),
                ("page", pa.int32()),
                ("parent", text),
                ("format", text),
                ("request", text),
                ("body", text),
            ]
        )
        winners = pa.schema(
            [
                ("object", text),
                ("id", text),
                ("version", text),
                ("landing", text),
                ("page", pa.int32()),
            ]
        )
        with duckdb.connect() as db:
            db.execute("SET threads = 1")
            db.execute(SQL_MACROS)
            for name, pages in self.pages.items():
                db.register(f"raw_{name}", pa.Table.from_pylist(pages, raw))
            db.register("current", pa.Table.from_pylist(self.current, winners))
            SOURCE.rows(db, record_type, NetsuiteSettings(**chosen), site)
            table = db.sql("SELECT * FROM rows ORDER BY document_id, line_id").to_arrow_table()
        assert table.schema.names == CANONICAL[record_type].names
        assert table.schema.types == CANONICAL[record_type].types
        return table.to_pylist()  # type: ignore[no-any-return]


@pytest.fixture
def pages() -> Pages:
    return Pages()


def billing(*lines: Row, header: Row | None = None, **chosen: Any) -> list[Row]:
    """The billing lines of one invoice."""
    pages = Pages()
    pages.add(header or invoice(), *lines)
    return pages.rows(**chosen)


def only(rows: list[Row]) -> Row:
    """The one row that there is."""
    assert len(rows) == 1
    return rows[0]


def amounts(rows: list[Row]) -> list[Decimal]:
    return [row["amount"] for row in rows]


# -- a billing line ------------------------------------------------------------------------------


def test_an_invoice_line_is_a_billing_line() -> None:
    row = only(billing(main_line("100"), line(foreignamount="-100.5", quantity="-2")))
    expected = {
        "source": "netsuite",
        "record_type": "invoices",
        "period": "2026-01",
        "document_type": "invoice",
        "document_id": "101",
        "line_id": "9002",
        "source_version": "2026-01-15T10:00:00Z",
        "raw_batch": "L1",
        "raw_page": 0,
        "url": "https://123456-sb1.app.netsuite.com/app/accounting/transactions/transaction.nl?id=101",
        "excluded_by": None,
        "customer_id": "201",
        "customer_name": "Acme",
        "order_number": None,
        "product_id": "11",
        "product_code": "PLAT-PRO",
        "product_name": "Platform Professional",
        "billing_date": date(2026, 1, 15),
        "invoice_number": "INV101",
        "amount": Decimal("100.5"),
        "currency": "USD",
        "service_start_date": date(2026, 1, 15),
        "service_end_date": date(2026, 2, 14),
        "quantity": Decimal(2),
        "tax_amount": None,
        "tax_name": None,
    }
    assert {key: row[key] for key in expected} == expected


def test_a_credit_memo_is_negative_though_its_lines_are_positive_in_the_ledger(
    pages: Pages,
) -> None:
    header = invoice(type="CustCred", total="-100")
    sold = line(quantity="1", foreignamount="100", fromtype="CustInvc", fromnumber="INV7")
    pages.add(header, main_line("-100"), sold, name="credit_memo")
    row = only(pages.rows())
    assert (row["document_type"], row["amount"], row["quantity"]) == (
        "credit_memo",
        Decimal(-100),
        Decimal(1),
    )
    assert row["reference_invoice_number"] == "INV7"


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [
        ("CashSale", "invoice", ("cash_sale", Decimal(100))),
        ("CashRfnd", "credit_memo", ("cash_refund", Decimal(-100))),
    ],
)
def test_cash_sales_and_refunds_are_billing_lines_too(
    pages: Pages, kind: str, name: str, expected: tuple[str, Decimal]
) -> None:
    amount = "-100" if kind == "CashSale" else "100"
    pages.add(invoice(type=kind), line(foreignamount=amount), name=name)
    row = only(pages.rows())
    assert (row["document_type"], row["amount"]) == expected


def test_main_tax_and_cost_lines_are_no_revenue() -> None:
    rows = billing(
        main_line("119"),
        line(),
        line(itemtype="InvtPart", iscogs="T", foreignamount="40"),
        line(itemtype="InvtPart", iscogs="T", foreignamount="-40"),
        tax_line("-19"),
    )
    assert amounts(rows) == [Decimal(100)]


def test_a_kit_counts_by_its_parent_and_not_by_its_parts() -> None:
    rows = billing(
        line(itemtype="Kit", itemcode="KIT", foreignamount="-999"),
        line(kitcomponent="T", foreignamount="-649"),
        line(kitcomponent="T", foreignamount="-350"),
    )
    assert [(row["product_code"], row["amount"]) for row in rows] == [("KIT", Decimal(999))]


def test_texts_and_subtotals_carry_no_revenue_though_they_show_amounts() -> None:
    rows = billing(
        text_line("Group"),
        line(),
        text_line("EndGroup", foreignamount="-100"),
        text_line("Subtotal", foreignamount="-100"),
        text_line("Description", foreignamount=None),
    )
    assert amounts(rows) == [Decimal(100)]


def test_the_amount_is_in_the_documents_currency_and_not_in_the_subsidiarys() -> None:
    row = only(
        billing(line(foreignamount="-15000", netamount="-100"), header=invoice(currency="JPY"))
    )
    assert (row["amount"], row["currency"]) == (Decimal(15000), "JPY")


def test_a_line_without_an_amount_in_a_foreign_currency_is_not_read_in_the_base_currency() -> None:
    header = invoice(currency="JPY")
    assert amounts(billing(line(foreignamount=None, netamount="-100"), header=header)) == [None]


def test_an_account_without_currencies_is_in_the_home_currency() -> None:
    pages = Pages()
    without = REQUEST.partition(", cu.symbol")[0]
    header = {key: value for key, value in invoice().items() if key not in ("currency", "total")}
    sold = line(netamount="-80", foreignamount=None)
    pages.add(header, main_line("80") | {"foreignamount": None}, sold, request=without)
    row = only(pages.rows(site=Site("UTC", "CAD", None)))
    assert (row["amount"], row["currency"]) == (Decimal(80), "CAD")


def test_a_missing_currency_of_an_account_with_currencies_stays_missing() -> None:
    assert only(billing(line(), header=invoice(currency=None)))["currency"] is None


def test_a_line_that_the_lines_of_an_older_landing_show_too_counts_once(pages: Pages) -> None:
    pages.add(invoice(), line(key="1"), line(key="2"), landing="L1")
    pages.add(invoice(), line(key="1", foreignamount="-70"), landing="L2")
    row = only(pages.rows())
    assert (row["line_id"], row["amount"], row["raw_batch"]) == ("1", Decimal(70), "L2")


def test_a_person_has_a_name_and_a_nameless_customer_has_none() -> None:
    person = invoice(companyname=None, altname="Joe Shmoe")
    assert only(billing(line(), header=person))["customer_name"] == "Joe Shmoe"
    nameless = invoice(companyname=None, altname=" ")
    assert only(billing(line(), header=nameless))["customer_name"] is None


def test_a_document_without_sold_lines_has_one_row(pages: Pages) -> None:
    pages.add(invoice(), main_line("100"), text_line("Description"))
    row = only(pages.rows())
    assert (row["line_id"], row["excluded_by"]) == (None, None)


def test_a_document_over_nothing_without_sold_lines_is_left_out_by_a_rule(pages: Pages) -> None:
    pages.add(invoice(total="0"), main_line("0"), text_line("Description"))
    assert only(pages.rows())["excluded_by"] == "no_lines"


def test_leading_zeros_and_odd_texts_of_identifiers_stay() -> None:
    row = only(billing(line(itemcode="00420"), header=invoice(tranid="NA", entity="007")))
    assert (row["product_code"], row["invoice_number"], row["customer_id"]) == (
        "00420",
        "NA",
        "007",
    )


# -- discounts -----------------------------------------------------------------------------------


def test_a_discount_below_a_line_is_that_lines() -> None:
    rows = billing(line(), line(foreignamount="-50"), discount("5"), line())
    assert amounts(rows) == [Decimal(100), Decimal(45), Decimal(100)]


def test_discounts_below_discounts_are_of_the_same_line() -> None:
    rows = billing(line(), line(foreignamount="-50"), discount("5"), discount("1.5"))
    assert amounts(rows) == [Decimal(100), Decimal("43.5")]


def test_a_discount_below_a_subtotal_is_of_the_lines_since_the_subtotal_before() -> None:
    rows = billing(
        line(),
        text_line("Subtotal", foreignamount="-100"),
        line(foreignamount="-30"),
        line(foreignamount="-60"),
        text_line("Subtotal", foreignamount="-90"),
        discount("10"),
        line(foreignamount="-7"),
    )
    assert amounts(rows) == [Decimal(100), Decimal("26.67"), Decimal("53.33"), Decimal(7)]


def test_a_discount_below_a_group_is_the_groups() -> None:
    rows = billing(
        line(),
        text_line("Group"),
        line(foreignamount="-30"),
        line(foreignamount="-60"),
        text_line("EndGroup", foreignamount="-90"),
        discount("9"),
        line(),
    )
    assert amounts(rows) == [Decimal(100), Decimal(27), Decimal(54), Decimal(100)]


def test_a_discount_above_all_lines_is_the_documents() -> None:
    assert amounts(billing(discount("10"), line(), line())) == [Decimal(95), Decimal(95)]


def test_a_discount_below_a_subtotal_of_nothing_is_not_lost() -> None:
    rows = billing(line(), text_line("Subtotal"), text_line("Subtotal"), discount("10"))
    assert amounts(rows) == [Decimal(90)]


def test_a_discount_on_the_document_is_spread_to_the_cent() -> None:
    rows = billing(
        main_line("199.99"), line(), line(), line(), discount("100.01", transactiondiscount="T")
    )
    assert amounts(rows) == [Decimal("66.66"), Decimal("66.67"), Decimal("66.66")]
    assert sum(amounts(rows)) == Decimal("199.99")


def test_a_discount_on_the_document_is_spread_after_those_of_lines() -> None:
    rows = billing(line(), discount("50"), line(), discount("30", transactiondiscount="T"))
    assert amounts(rows) == [Decimal(40), Decimal(80)]


@pytest.mark.parametrize(
    ("currency", "off", "expected"),
    [("JPY", "100", ["67", "66", "67"]), ("KWD", "0.1", ["99.967", "99.966", "99.967"])],
)
def test_shares_are_whole_minor_units_of_the_currency(
    currency: str, off: str, expected: list[str]
) -> None:
    lines = [line(), line(), line(), discount(off, transactiondiscount="T")]
    rows = billing(*lines, header=invoice(currency=currency))
    assert amounts(rows) == [Decimal(text) for text in expected]


def test_a_discount_with_a_fraction_of_a_cent_is_flagged_and_not_rounded_away() -> None:
    assert amounts(billing(line(), discount("0.005"))) == [None]


def test_a_markup_adds() -> None:
    markup = line(itemtype="Markup", quantity=None, foreignamount="-10")
    assert amounts(billing(line(), markup)) == [Decimal(110)]


def test_a_discount_on_lines_over_nothing_falls_on_the_first() -> None:
    free = line(foreignamount="0")
    rows = billing(free, free, discount("10", transactiondiscount="T"))
    assert amounts(rows) == [Decimal(-10), Decimal(0)]


def test_a_credit_that_is_nothing_but_a_discount_is_a_row_of_its_own(pages: Pages) -> None:
    goodwill = line(itemtype="Discount", itemcode="GOODWILL", quantity=None, foreignamount="25")
    pages.add(invoice(type="CustCred"), main_line("-25"), goodwill, name="credit_memo")
    row = only(pages.rows())
    assert (row["product_code"], row["amount"]) == ("GOODWILL", Decimal(-25))


@settings(max_examples=8, deadline=None)
@given(
    data=st.data(),
    currency=st.sampled_from(["USD", "JPY", "KWD"]),
    units=st.lists(st.integers(-10_000_000, 10_000_000), min_size=1, max_size=6),
)
def test_whatever_the_lines_and_discounts_the_rows_add_up_to_the_receivable(
    data: st.DataObject, currency: str, units: list[int]
) -> None:
    step = Decimal(1).scaleb(-exponent(currency))
    lines, total = [], Decimal(0)
    for count in units:
        lines.append(line(foreignamount=str(-count * step)))
        total += count * step
        off = data.draw(st.integers(-50_000, 50_000))
        if off:
            on_document = data.draw(st.booleans())
            lines.append(discount(str(off * step), transactiondiscount="T" if on_document else "F"))
            total -= off * step
    rows = billing(main_line(str(total)), *lines, header=invoice(currency=currency))
    assert len(rows) == len(units)
    assert sum(amounts(rows)) == total
    assert all(amount == amount.quantize(step) for amount in amounts(rows))


# -- taxes and shipping --------------------------------------------------------------------------


def test_taxes_are_told_where_asked_for_and_spread_over_the_lines() -> None:
    lines = [line(), line(foreignamount="-50"), tax_line("-13.31"), tax_line("-1", "CITY")]
    rows = billing(*lines, tax_enabled=True)
    assert [row["tax_amount"] for row in rows] == [Decimal("9.54"), Decimal("4.77")]
    assert {row["tax_name"] for row in rows} == {"CITY, VAT"}
    assert amounts(rows) == [Decimal(100), Decimal(50)]
    assert {row["tax_amount"] for row in billing(*lines)} == {None}


def test_a_document_without_taxes_names_none() -> None:
    row = only(billing(line(), tax_enabled=True))
    assert (row["tax_amount"], row["tax_name"]) == (None, None)


def test_shipping_and_deposits_are_rows_left_out_by_their_rules() -> None:
    lines = [
        line(),
        line(itemtype="ShipItem", itemcode="Courier", foreignamount="-12"),
        line(itemtype="Payment", itemcode="Deposit", foreignamount="30"),
    ]
    found = [(row["excluded_by"], row["amount"]) for row in billing(*lines)]
    assert found == [(None, Decimal(100)), ("shipping", Decimal(12)), ("payment", Decimal(-30))]
    assert billing(*lines, include_shipping=True)[1]["excluded_by"] is None


# -- which documents count -----------------------------------------------------------------------


def test_a_void_by_flag_is_excluded() -> None:
    row = only(billing(line(foreignamount="0"), header=invoice(voided="T", total="0")))
    assert row["excluded_by"] == "void"


def test_a_void_by_a_reversing_journal_is_excluded_though_the_invoice_keeps_its_amounts(
    pages: Pages,
) -> None:
    pages.add(invoice(), line())
    pages.add(invoice(id="102"), line())
    pages.page("void_journal", [{"id": "900", "voids": "101"}])
    assert [row["excluded_by"] for row in pages.rows()] == ["void", None]


def test_an_invoice_that_is_not_posted_is_not_approved() -> None:
    row = only(billing(line(), header=invoice(posting="F", status="D")))
    assert row["excluded_by"] == "not_approved"


def test_documents_before_the_conversion_date_are_excluded(pages: Pages) -> None:
    pages.add(invoice(), line())
    found = only(pages.rows(site=Site("UTC", "USD", "2026-01-16")))
    assert found["excluded_by"] == "before_conversion_date"
    assert only(pages.rows(site=Site("UTC", "USD", "2026-01-15")))["excluded_by"] is None


def test_zero_invoices_are_discarded_where_asked_for() -> None:
    header = invoice(total="0")
    lines = (main_line("0"), line(foreignamount="0"))
    assert only(billing(*lines, header=header))["excluded_by"] is None
    row = only(billing(*lines, header=header, discard_zero_invoices=True))
    assert row["excluded_by"] == "zero_invoice"


def test_paid_invoices_only_counts_from_the_day_of_payment_in_the_month_of_the_invoice() -> None:
    paid = only(
        billing(line(), header=invoice(status="B", closed="2026-03-02"), paid_invoices_only=True)
    )
    assert (paid["excluded_by"], paid["billing_date"]) == (None, date(2026, 3, 2))
    assert paid["period"] == "2026-01"
    unpaid = only(billing(line(), paid_invoices_only=True))
    assert (unpaid["excluded_by"], unpaid["billing_date"]) == ("not_paid", date(2026, 1, 15))
    cash = only(
        billing(line(), header=invoice(type="CashSale", status="C"), paid_invoices_only=True)
    )
    assert cash["excluded_by"] is None


@pytest.mark.parametrize("name", ["Fernhill", "1"])
def test_subsidiaries_are_excluded_by_name_or_id(name: str) -> None:
    lines = (line(), line(subsidiary="2", subsidiaryname="Fernhill : GmbH"))
    found = [row["excluded_by"] for row in billing(*lines, exclude_business_entities=(name,))]
    assert found == ["excluded_business_entity", None]


def test_excluded_products_are_excluded() -> None:
    rows = billing(line(), line(itemcode="00420"), exclude_products=("00420",))
    assert [row["excluded_by"] for row in rows] == [None, "excluded_product"]


def test_a_deletion_is_no_document(pages: Pages) -> None:
    pages.add(invoice(), line())
    deletion = {
        "id": "101",
        "type": "Invoice",
        "name": "invoice",
        "modified": "2026-01-16 08:00:00",
    }
    pages.page("invoice", [deletion])
    assert len(pages.rows()) == 1


# -- fields that settings name -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("custbody_po", ("transaction", "custbody_po")),
        ("custcol1", ("transactionline", "custcol1")),
        ("custentity_sf", ("customer", "custentity_sf")),
        ("custitem_code", ("item", "custitem_code")),
        ("transaction.memo", ("transaction", "memo")),
        ("transactionline.class", ("transactionline", "class")),
        ("customer.email", ("customer", "email")),
    ],
)
def test_a_custom_fields_prefix_tells_its_table(path: str, expected: tuple[str, str]) -> None:
    assert place(path) == expected


@pytest.mark.parametrize("path", ["memo", "vendor.name", "custbody_x; DROP", "transaction.", ""])
def test_a_column_of_no_known_table_is_refused(path: str) -> None:
    with pytest.raises(ValidationError):
        NetsuiteSettings(order_number_field=path)


def test_the_same_column_may_be_named_for_a_day_and_for_a_text() -> None:
    path = "transactionline.revrecstartdate"
    named = {Named.by(name, path).alias for name in ("service_start_field", "custom_fields.Start")}
    assert len(named) == 2


def test_ids_of_the_crm_take_the_place_of_netsuites() -> None:
    row = only(
        billing(
            line(value_item_custitem_crm="P-1"),
            header=invoice(
                value_customer_custentity_crm="001A", value_transaction_otherrefnum="SO9"
            ),
            customer_id_field="custentity_crm",
            product_id_field="custitem_crm",
            order_number_field="transaction.otherrefnum",
        )
    )
    assert (row["customer_id"], row["product_code"], row["order_number"]) == ("001A", "P-1", "SO9")


def test_an_item_without_the_crms_code_is_flagged_and_a_customer_keeps_its_own_id() -> None:
    row = only(billing(line(), customer_id_field="custentity_crm", product_id_field="custitem_crm"))
    assert (row["customer_id"], row["product_code"]) == ("201", None)


def test_custom_fields_of_header_and_line_are_kept_as_text() -> None:
    row = only(
        billing(
            line(text_transactionline_class="Americas"),
            header=invoice(text_transaction_custbody_po="00017"),
            custom_fields={
                "Class": "transactionline.class",
                "PO": "custbody_po",
                "X": "custitem_x",
            },
        )
    )
    assert dict(row["custom_fields"]) == {"Class": "Americas", "PO": "00017", "X": None}


def test_the_term_gives_the_end_where_the_line_has_none() -> None:
    columns = {"day_transactionline_revrecenddate": None, "value_item_custitem_term": "12"}
    row = only(billing(line(**columns), term_field="custitem_term"))
    assert row["service_end_date"] == date(2027, 1, 14)
    row = only(billing(line(value_item_custitem_term="12"), term_field="custitem_term"))
    assert row["service_end_date"] == date(2026, 2, 14)


def test_dates_may_be_in_fields_of_ones_own() -> None:
    columns = {"day_transactionline_custcol_start": "2026-05-01"}
    row = only(billing(line(**columns), service_start_field="custcol_start"))
    assert row["service_start_date"] == date(2026, 5, 1)


# -- orders --------------------------------------------------------------------------------------


def link(position: int, kind: str, number: str, key: str, **second: str) -> Row:
    """What the line at a position was made from."""
    return {
        "document": "101",
        "line": str(position),
        "type1": kind,
        "number1": number,
        "day1": "2026-01-02",
        "key1": key,
        **second,
    }


def test_an_invoice_line_names_the_order_line_that_it_was_made_from(pages: Pages) -> None:
    pages.add(invoice(), line(), line())
    pages.page("line_link", [link(0, "SalesOrd", "SO1", "70"), link(1, "SalesOrd", "SO2", "80")])
    found = [
        (row["order_number"], row["order_item_number"], row["contract_date"])
        for row in pages.rows()
    ]
    assert found == [("SO1", "70", date(2026, 1, 2)), ("SO2", "80", date(2026, 1, 2))]


def test_without_links_the_order_is_the_one_that_the_header_was_made_from() -> None:
    rows = billing(line(fromtype="SalesOrd", fromnumber="SO1"), line())
    assert [row["order_number"] for row in rows] == ["SO1", "SO1"]


def test_a_credit_line_names_its_invoice_line_and_the_order_before_that(pages: Pages) -> None:
    credit = line(foreignamount="60", quantity="1")
    pages.add(invoice(type="CustCred"), credit, name="credit_memo")
    second = {"type2": "SalesOrd", "number2": "SO1", "day2": "2026-01-01", "key2": "70"}
    pages.page("line_link", [link(0, "CustInvc", "INV9", "77", **second)])
    row = only(pages.rows())
    assert (row["reference_invoice_number"], row["reference_line_id"]) == ("INV9", "77")
    assert (row["order_number"], row["order_item_number"]) == ("SO1", "70")


def test_a_credit_by_way_of_a_return_names_invoice_and_order(pages: Pages) -> None:
    pages.add(invoice(type="CustCred"), line(foreignamount="60"), name="credit_memo")
    second = {"type2": "CustInvc", "number2": "INV9", "day2": "2026-01-01", "key2": "77"}
    pages.page("line_link", [link(0, "RtnAuth", "RA1", "75", **second)])
    row = only(pages.rows())
    assert (row["reference_invoice_number"], row["reference_line_id"]) == ("INV9", "77")


def sale(*lines: Row, header: Row | None = None, **chosen: Any) -> list[Row]:
    """The order lines of one invoice that is its own contract."""
    pages = Pages()
    pages.add(header or invoice(), *lines)
    return pages.rows(RecordType.SALES, invoice_equals_contract=True, **chosen)


def test_an_invoice_that_is_its_own_contract_yields_order_lines() -> None:
    row = only(sale(line(quantity="-3", foreignamount="-300"), discount("50")))
    expected = {
        "record_type": "sales",
        "document_type": "invoice",
        "order_number": "INV101",
        "order_item_number": "9001",
        "product_code": "PLAT-PRO",
        "order_start_date": date(2026, 1, 15),
        "service_start_date": date(2026, 1, 15),
        "service_end_date": date(2026, 2, 14),
        "quantity": Decimal(3),
        "list_price": Decimal(100),
        "unit_price": Decimal("83.333333333333"),
        "amount": Decimal(250),
        "currency": "USD",
    }
    assert {key: row[key] for key in expected} == expected


def test_a_contracts_billing_lines_name_it_and_so_do_its_credits(pages: Pages) -> None:
    pages.add(invoice(), line())
    pages.add(
        invoice(id="102", type="CustCred", tranid="CM1"),
        line(foreignamount="60", fromtype="CustInvc", fromnumber="INV101"),
        name="credit_memo",
    )
    pages.page("line_link", [link(0, "CustInvc", "INV101", "9001") | {"document": "102"}])
    found = [
        (row["order_number"], row["order_item_number"])
        for row in pages.rows(invoice_equals_contract=True)
    ]
    assert found == [("INV101", "9001"), ("INV101", "9001")]
    assert len(pages.rows(RecordType.SALES, invoice_equals_contract=True)) == 1


def test_a_line_without_a_quantity_is_sold_once() -> None:
    row = only(sale(line(quantity=None, foreignamount="-750")))
    assert (row["quantity"], row["unit_price"], row["amount"]) == (1, Decimal(750), Decimal(750))


def test_a_line_that_is_billed_over_a_rate_in_percent_is_read() -> None:
    assert only(sale(line(rate="-10.0%")))["amount"] == Decimal(100)


def test_without_a_start_of_its_own_service_starts_on_the_day_of_the_document() -> None:
    row = only(sale(line(day_transactionline_revrecstartdate=None)))
    assert row["service_start_date"] == date(2026, 1, 15)


def order(*lines: Row, status: str = "B", name: str = "Pending Fulfillment", **chosen: Any) -> Row:
    """The one order line of a sales order."""
    pages = Pages()
    text = f"Sales Order : {name}"
    header = invoice(type="SalesOrd", tranid="SO1", posting="F", status=status, statusname=text)
    pages.add(header, *(lines or (line(),)), name="sales_order")
    return only(pages.rows(RecordType.SALES, sales_orders=True, **chosen))


def test_a_sales_orders_lines_are_order_lines() -> None:
    row = order(line(value_item_custitem_type="Subscription"), product_type_field="custitem_type")
    assert (row["document_type"], row["order_number"], row["order_item_number"]) == (
        "sales_order",
        "SO1",
        "9001",
    )
    assert (row["excluded_by"], row["product_type"]) == (None, "Subscription")


@pytest.mark.parametrize(
    ("status", "rule"),
    [("A", "not_approved"), ("C", "cancelled"), ("SalesOrd:B", None), ("G", None), ("H", None)],
)
def test_an_order_counts_once_it_is_approved(status: str, rule: str | None) -> None:
    assert order(status=status)["excluded_by"] == rule


@pytest.mark.parametrize("stage", ["G", "Billed"])
def test_closed_stages_name_the_statuses_that_count(stage: str) -> None:
    assert order(closed_stages=(stage,))["excluded_by"] == "not_closed_won"
    assert order(status="G", name="Billed", closed_stages=(stage,))["excluded_by"] is None


def test_invoices_yield_no_order_lines_where_orders_do(pages: Pages) -> None:
    pages.add(invoice(), line())
    assert pages.rows(RecordType.SALES, sales_orders=True) == []


def test_orders_and_invoices_cannot_both_be_the_contract() -> None:
    with pytest.raises(ValidationError, match="every sale would count twice"):
        NetsuiteSettings(sales_orders=True, invoice_equals_contract=True)


def test_sales_are_asked_for_only_where_orders_or_invoices_are_contracts() -> None:
    both = (RecordType.SALES, RecordType.INVOICES)
    assert SOURCE.record_types(NetsuiteSettings()) == (RecordType.INVOICES,)
    assert SOURCE.record_types(NetsuiteSettings(sales_orders=True)) == both
    assert SOURCE.record_types(NetsuiteSettings(invoice_equals_contract=True)) == both
