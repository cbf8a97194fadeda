"""What Chargebee's fields mean. The facts and issue numbers are in reference/chargebee.md."""

import json
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from revrec_pipeline.currency import SQL_MACROS
from revrec_pipeline.mapping import Site
from revrec_pipeline.mapping.chargebee import SOURCE, ChargebeeSettings
from revrec_pipeline.mapping.chargebee_records import CONTEXT, NESTED
from revrec_pipeline.model import CANONICAL, RecordType

NEW_YORK = Site(timezone="America/New_York", home_currency="USD", conversion_date=None)
Row = dict[str, Any]


def at(*moment: int, zone: str = "America/New_York") -> int:
    """An instant on New York's clocks, in epoch seconds."""
    return int(datetime(*moment, tzinfo=ZoneInfo(zone)).timestamp())  # type: ignore[arg-type, misc]


def line(**fields: Any) -> Row:
    """A line as the API shows it; a field of None is left out."""
    shown = {
        "id": "li_1",
        "object": "line_item",
        "subscription_id": "sub_1",
        "date_from": at(2026, 1, 15, 10),
        "date_to": at(2026, 2, 15, 10),
        "unit_amount": 10000,
        "quantity": 1,
        "amount": 10000,
        "is_taxed": False,
        "tax_amount": 0,
        "discount_amount": 0,
        "item_level_discount_amount": 0,
        "entity_type": "plan_item_price",
        "entity_id": "PLAT-PRO-USD-Monthly",
        **fields,
    }
    return {name: value for name, value in shown.items() if value is not None}


def invoice(*items: Row, **fields: Any) -> Row:
    """A paid invoice over the lines; a field of None is left out."""
    shown = {
        "id": "INV-1",
        "object": "invoice",
        "status": "paid",
        "price_type": "tax_exclusive",
        "customer_id": "acme",
        "subscription_id": "sub_1",
        "currency_code": "USD",
        "date": at(2026, 1, 15, 10),
        "generated_at": at(2026, 1, 15, 10),
        "paid_at": at(2026, 2, 3, 10),
        "updated_at": at(2026, 2, 3, 10),
        "total": sum(item["amount"] for item in items if type(item.get("amount")) is int),
        "round_off_amount": 0,
        "deleted": False,
        "line_items": list(items),
        **fields,
    }
    return {name: value for name, value in shown.items() if value is not None}


def credit_line(**fields: Any) -> Row:
    """A credit-note line that takes back all of the invoice line `li_1`."""
    moment = at(2026, 3, 2, 12)
    own = {"id": "li_c1", "reference_line_item_id": "li_1", "date_from": moment, "date_to": moment}
    return line(**{**own, **fields})


def credit_note(*items: Row, **fields: Any) -> Row:
    """A refunded credit note on the invoice `INV-1`."""
    own = {
        "id": "CN-1",
        "object": "credit_note",
        "type": "refundable",
        "status": "refunded",
        "reference_invoice_id": "INV-1",
        "date": at(2026, 3, 2, 12),
        "refunded_at": at(2026, 4, 7, 12),
        "paid_at": None,
        "fractional_correction": 0,
    }
    return invoice(*items, **{**own, **fields})


class Pages:
    """Raw pages, put together by hand, and the rows that the mapping makes of them."""

    def __init__(self) -> None:
        self.pages: dict[str, list[Row]] = {name: [] for name in SOURCE.objects}
        self.current: dict[tuple[str, str], Row] = {}
        self.add("customer", {"id": "acme", "company": "Acme"})

    def add(self, name: str, *records: Row, landing: str = "L1", parent: str | None = None) -> None:
        """One more page; its documents become the current ones."""
        envelope = {**CONTEXT, **NESTED}.get(name, name)
        body: Row = {"list": [{envelope: one} for one in records], "next_offset": '["1","2"]'}
        if parent is not None:
            body = {envelope: records[0]}
        page = sum(row["landing"] == landing for row in self.pages[name])
        self.pages[name].append(
            {
                "landing": landing,
                "page": page,
                "parent": parent,
                "format": "json",
                "request": f"GET https://acme.chargebee.com/api/v2/{envelope}s?limit=100",
                "body": json.dumps(body),
            }
        )
        if name in SOURCE.documents:
            for one in records:
                self.current[name, one["id"]] = {
                    "object": name,
                    "id": one["id"],
                    "version": "2026-04-01T00:00:00.000Z",
                    "landing": landing,
                    "page": page,
                }

    def rows(
        self, record_type: RecordType = RecordType.INVOICES, site: Site = NEW_YORK, **settings: Any
    ) -> list[Row]:
        """All rows, in the order of documents and lines."""
        text, number = pa.string(), pa.int32()
        raw = pa.schema(
            [
                ("landing", text),
                ("page", number),
                ("parent", text),
                ("format", text),
                ("request", text),
                ("body", text),
            ]
        )
        winners = pa.schema(
            [("object", text), ("id", text), ("version", text), ("landing", text), ("page", number)]
        )
        with duckdb.connect() as db:
            db.execute("SET TimeZone = 'UTC'; SET threads = 1")
            db.execute(SQL_MACROS)
            for name, pages in self.pages.items():
                db.register(f"raw_{name}", pa.Table.from_pylist(pages, raw))
            db.register("current", pa.Table.from_pylist(list(self.current.values()), winners))
            SOURCE.rows(db, record_type, ChargebeeSettings.model_validate(settings), site)
            table = db.sql("SELECT * FROM rows ORDER BY document_id, line_id").to_arrow_table()
        assert table.schema.names == CANONICAL[record_type].names
        assert table.schema.types == CANONICAL[record_type].types
        return table.to_pylist()  # type: ignore[no-any-return]


@pytest.fixture
def pages() -> Pages:
    return Pages()


def billing(*documents: Row, site: Site = NEW_YORK, **settings: Any) -> list[Row]:
    """The billing lines of one page of invoices."""
    pages = Pages()
    pages.add("invoice", *documents)
    return pages.rows(site=site, **settings)


def credited(note: Row, *credits: Row, **settings: Any) -> list[Row]:
    """The billing lines of a credit note that landed with the invoices it credits."""
    pages = Pages()
    pages.add("credit_note", note)
    pages.add("credited_invoice", *credits)
    return pages.rows(**settings)


def only(rows: list[Row]) -> Row:
    """The one row that there is."""
    assert len(rows) == 1
    return rows[0]


# -- a billing line ------------------------------------------------------------------------------


def test_an_invoice_line_becomes_a_billing_line_with_its_lineage(pages: Pages) -> None:
    pages.add("invoice", invoice(line()))
    price = {"id": "PLAT-PRO-USD-Monthly", "name": "PLAT PRO", "external_name": "Professional"}
    pages.add("item_price", price)
    assert only(pages.rows()) == {
        "source": "chargebee",
        "record_type": "invoices",
        "period": "2026-01",
        "document_type": "invoice",
        "document_id": "INV-1",
        "line_id": "li_1",
        "source_version": "2026-04-01T00:00:00.000Z",
        "raw_batch": "L1",
        "raw_page": 0,
        "url": "https://acme.chargebee.com/d/invoices/INV-1",
        "excluded_by": None,
        "customer_id": "acme",
        "customer_name": "Acme",
        "order_number": None,
        "order_item_number": None,
        "contract_date": None,
        "product_id": "PLAT-PRO-USD-Monthly",
        "product_code": "PLAT-PRO-USD-Monthly",
        "product_name": "Professional",
        "billing_date": date(2026, 1, 15),
        "invoice_number": "INV-1",
        "amount": Decimal("100.0000"),
        "currency": "USD",
        "service_start_date": date(2026, 1, 15),
        "service_end_date": date(2026, 2, 14),
        "quantity": Decimal("1.000000000000"),
        "reference_invoice_number": None,
        "reference_line_id": None,
        "tax_amount": None,
        "tax_name": None,
        "custom_fields": None,
    }


def test_only_the_version_that_counts_yields_rows(pages: Pages) -> None:
    pages.add("invoice", invoice(line(amount=1)), landing="L1")
    pages.add("invoice", invoice(line(amount=2)), landing="L2")
    row = only(pages.rows())
    assert (row["amount"], row["raw_batch"]) == (Decimal("0.0200"), "L2")


def test_fields_that_are_missing_or_new_do_not_break_a_page_airbyte_32100_34053() -> None:
    bare = {"id": "INV-0", "line_items": [{"id": "li_0"}]}
    strange = invoice(line(), status="hovering", new_list=[{"a": 1}], sub={"b": 2.5})
    rows = billing(bare, strange)
    assert [(row["document_id"], row["amount"], row["excluded_by"]) for row in rows] == [
        ("INV-0", None, None),
        ("INV-1", Decimal(100), None),
    ]


def test_a_customer_is_called_by_company_else_by_person(pages: Pages) -> None:
    person = {"first_name": "Ann", "last_name": "Bee"}
    customers = [{"company": "Acme", **person}, {"company": " ", **person}, {"last_name": "B"}, {}]
    for number, customer in enumerate(customers):
        pages.add("customer", {"id": f"c{number}", **customer})
        pages.add("invoice", invoice(line(), id=f"INV-{number}", customer_id=f"c{number}"))
    assert [row["customer_name"] for row in pages.rows()] == ["Acme", "Ann Bee", "B", None]


def test_context_of_another_landing_is_not_used(pages: Pages) -> None:
    pages.add("invoice", invoice(line()), landing="L2")
    assert only(pages.rows())["customer_name"] is None


# -- money ---------------------------------------------------------------------------------------


def test_minor_units_have_the_currencys_decimals() -> None:
    currencies = ["USD", "JPY", "KWD", "ISK"]
    rows = billing(
        *(
            invoice(line(amount=123000), id=f"INV-{number}", currency_code=currency)
            for number, currency in enumerate(currencies)
        )
    )
    assert [row["amount"] for row in rows] == [1230, 123000, 123, 123000]


def test_an_amount_that_is_no_whole_number_becomes_null_and_is_flagged() -> None:
    amounts: list[Any] = [100.5, "12x", None, 10**15, [1]]
    lines = [line(id=f"li_{number}", amount=amount) for number, amount in enumerate(amounts)]
    rows = billing(invoice(*lines, total=100))
    assert [(row["line_id"], row["amount"]) for row in rows] == [
        (f"li_{n}", None) for n in range(5)
    ]


def test_a_missing_currency_leaves_amount_and_currency_empty_to_be_flagged() -> None:
    row = only(billing(invoice(line(), currency_code=None)))
    assert (row["amount"], row["currency"]) == (None, None)


def test_a_discount_is_taken_off_once_and_holds_the_lines_own_share() -> None:
    # Recorded: an order with discount_amount 300 and item_level_discount_amount 300.
    row = only(billing(invoice(line(discount_amount=300, item_level_discount_amount=300))))
    assert row["amount"] == Decimal(97)


def test_a_discount_on_the_document_is_taken_off_its_lines() -> None:
    # Recorded: sub_total 1000, total 700, discount_amount 300, item_level_discount_amount 0.
    row = only(billing(invoice(line(discount_amount=300, item_level_discount_amount=0))))
    assert row["amount"] == Decimal(97)


def test_credits_among_the_discounts_are_payment_and_no_lower_price() -> None:
    kinds = ["promotional_credits", "prorated_credits", "item_level_coupon"]
    discounts = [
        {"line_item_id": "li_1", "discount_type": kind, "discount_amount": 200} for kind in kinds
    ]
    discounts += [{"line_item_id": "li_2", "discount_type": kinds[0], "discount_amount": 900}]
    lines = (line(discount_amount=600), line(id="li_2", discount_amount=900))
    rows = billing(invoice(*lines, line_item_discounts=discounts))
    assert [row["amount"] for row in rows] == [Decimal(98), Decimal(100)]


def test_a_discount_that_is_no_number_is_not_counted_as_nothing() -> None:
    rows = billing(
        invoice(
            line(id="li_a", discount_amount="?"),
            line(id="li_b", tax_amount="?"),
            line(id="li_c", discount_amount=None, tax_amount=None),
            price_type="tax_inclusive",
        )
    )
    assert [row["amount"] for row in rows] == [None, None, Decimal(100)]


def test_inclusive_tax_is_taken_out_and_exclusive_tax_never_was_in() -> None:
    taxed = line(amount=12000, tax_amount=2000)
    assert only(billing(invoice(taxed, price_type="tax_inclusive")))["amount"] == Decimal(100)
    assert only(billing(invoice(taxed, price_type="tax_exclusive")))["amount"] == Decimal(120)


def test_applied_credits_and_adjustments_do_not_change_the_amount() -> None:
    applied = [{"cn_id": "CN-9", "applied_amount": 4000}]
    changed = {"credits_applied": 4000, "amount_adjusted": 3000, "write_off_amount": 3000}
    row = only(billing(invoice(line(), applied_credits=applied, **changed)))
    assert row["amount"] == Decimal(100)


def test_a_prorated_credit_is_a_negative_line() -> None:
    rows = billing(invoice(line(amount=-9274, unit_amount=-9274, proration_mode="Prorated")))
    assert only(rows)["amount"] == Decimal("-92.74")


@settings(max_examples=5, deadline=None)
@given(
    lines=st.lists(
        st.tuples(
            st.integers(-9 * 10**13, 9 * 10**13), st.integers(0, 10**10), st.integers(0, 10**10)
        ),
        min_size=30,
        max_size=60,
    ),
    currency=st.sampled_from([("JPY", 0), ("USD", 2), ("BHD", 3)]),
)
def test_net_amounts_are_exact_to_the_last_unit(
    lines: list[tuple[int, int, int]], currency: tuple[str, int]
) -> None:
    items = [
        line(id=f"li_{n:03d}", amount=amount, discount_amount=discount, tax_amount=tax)
        for n, (amount, discount, tax) in enumerate(lines)
    ]
    rows = billing(invoice(*items, currency_code=currency[0], price_type="tax_inclusive"))
    assert [row["amount"] for row in rows] == [
        Decimal(amount - discount - tax).scaleb(-currency[1]) for amount, discount, tax in lines
    ]


# -- more decimals than the currency has ---------------------------------------------------------


def multi_decimal(**fields: Any) -> Row:
    """48,211.5 calls for 0.0125 each: 602.64375, of which 602.64 is due."""
    return line(
        amount=60264,
        unit_amount=1,
        quantity=48211,
        unit_amount_in_decimal="0.0125",
        quantity_in_decimal="48211.5",
        amount_in_decimal="602.64375",
        **fields,
    )


def test_prices_and_quantities_come_from_their_decimal_forms_and_what_is_due_in_whole_units(
    pages: Pages,
) -> None:
    pages.add("invoice", invoice(multi_decimal()))
    row = only(pages.rows(RecordType.SALES, invoice_equals_contract=True))
    assert (row["quantity"], row["list_price"]) == (Decimal("48211.5"), Decimal("0.0125"))
    assert row["amount"] == Decimal("602.64")
    assert (row["quantity"] * row["unit_price"]).quantize(Decimal("0.01")) == row["amount"]


def test_a_rounded_amount_that_is_off_by_a_whole_unit_is_flagged() -> None:
    decimals = ["602.64999", "602.65", "602.63", "a lot"]
    lines = [
        {**multi_decimal(), "id": f"li_{n}", "amount_in_decimal": decimal}
        for n, decimal in enumerate(decimals)
    ]
    amounts = [row["amount"] for row in billing(invoice(*lines))]
    assert amounts == [Decimal("602.64"), None, None, None]


# -- what belongs to no line ---------------------------------------------------------------------


def test_rounding_to_a_coin_has_a_line_of_its_own() -> None:
    rounded, plain = billing(invoice(line(), round_off_amount=-2))
    assert plain["amount"] == Decimal(100)
    assert rounded["line_id"] == "INV-1:round_off_amount"
    assert (rounded["amount"], rounded["product_code"]) == (Decimal("-0.02"), "round_off_amount")
    assert rounded["service_start_date"] == rounded["service_end_date"] == date(2026, 1, 15)


def test_what_a_credit_note_lacks_to_its_total_has_a_line_of_its_own() -> None:
    # Recorded in a public test site: lines over 19998, total 20000, fractional_correction 2.
    shares = (credit_line(amount=15788), credit_line(id="li_c2", amount=4210))
    rows = credited(credit_note(*shares, fractional_correction=2, total=20000))
    assert [row["line_id"] for row in rows] == ["CN-1:fractional_correction", "li_c1", "li_c2"]
    assert sum(row["amount"] for row in rows) == Decimal(-200)


def test_a_rounding_line_keeps_its_code_where_codes_come_from_item_prices() -> None:
    rounded, plain = billing(invoice(line(), round_off_amount=3), product_id_field="item_id")
    assert (rounded["product_code"], plain["product_code"]) == ("round_off_amount", None)


# -- days ----------------------------------------------------------------------------------------


_PERIODS = [
    # Recorded: one second before the time of day at which it began …
    (at(2021, 7, 12, 1, 28, 1), at(2021, 8, 12, 1, 28), date(2021, 8, 11)),
    # … the same time of day …
    (at(2023, 1, 18, 9, 47, 27), at(2023, 2, 18, 9, 47, 27), date(2023, 2, 17)),
    # … and a calendar month to its last second.
    (at(2026, 1, 1), at(2026, 1, 31, 23, 59, 59), date(2026, 1, 31)),
    # Billing begins in winter and ends in summer: local clocks agree, UTC does not.
    (at(2026, 2, 20, 10), at(2026, 3, 20, 10), date(2026, 3, 19)),
    # A site whose own zone has no summer time.
    (at(2026, 2, 20, 10, zone="UTC"), at(2026, 3, 20, 10, zone="UTC"), date(2026, 3, 19)),
    # Cut short by an upgrade: another time of day, and that day is served.
    (at(2026, 1, 15, 10), at(2026, 1, 20, 14, 30), date(2026, 1, 20)),
    # One day.
    (at(2026, 1, 15, 10), at(2026, 1, 16, 10), date(2026, 1, 15)),
    # A point in time.
    (at(2026, 1, 15, 10), at(2026, 1, 15, 10), date(2026, 1, 15)),
]


def test_a_period_ends_in_one_of_three_ways_and_its_last_day_is_included() -> None:
    lines = [
        line(id=f"li_{number}", date_from=since, date_to=until)
        for number, (since, until, _) in enumerate(_PERIODS)
    ]
    ends = [row["service_end_date"] for row in billing(invoice(*lines))]
    assert ends == [last for _, _, last in _PERIODS]


@settings(max_examples=5, deadline=None)
@given(
    starts=st.lists(
        st.tuples(
            st.integers(at(2020, 1, 1), at(2030, 1, 1)),
            st.integers(1, 400),
            st.sampled_from([0, 1]),
        ),
        min_size=30,
        max_size=60,
    )
)
def test_two_periods_in_a_row_neither_overlap_nor_leave_a_day_out(
    starts: list[tuple[int, int, int]],
) -> None:
    items = []
    for number, (first, days, less) in enumerate(starts):
        second, third = first + days * 86400, first + 2 * days * 86400
        items += [
            line(id=f"li_{number:03d}a", date_from=first, date_to=second - less),
            line(id=f"li_{number:03d}b", date_from=second, date_to=third - less),
        ]
    rows = billing(invoice(*items))
    for before, after in zip(rows[::2], rows[1::2], strict=True):
        gap = after["service_start_date"] - before["service_end_date"]
        assert gap.days == 1, (before, after)


def test_days_and_months_are_those_of_the_sites_time_zone() -> None:
    late = at(2026, 1, 31, 22, 30)  # 1 February in UTC
    row = only(billing(invoice(line(date_from=late, date_to=late), date=late)))
    assert (row["period"], row["billing_date"]) == ("2026-01", date(2026, 1, 31))
    assert row["service_start_date"] == date(2026, 1, 31)
    east = only(billing(invoice(line(), date=late), site=Site("Europe/Berlin", "EUR", None)))
    assert (east["period"], east["billing_date"]) == ("2026-02", date(2026, 2, 1))


def test_a_document_without_a_date_is_in_the_month_in_which_it_was_made() -> None:
    row = only(billing(invoice(line(), date=None)))
    assert (row["period"], row["billing_date"]) == ("2026-01", date(2026, 1, 15))


def test_a_time_beyond_all_calendars_becomes_null_and_is_flagged() -> None:
    row = only(billing(invoice(line(date_from=10**17, date_to=10**17))))
    assert (row["service_start_date"], row["service_end_date"]) == (None, None)


def test_a_custom_field_with_the_start_of_service_wins_over_the_lines_period() -> None:
    values: list[Any] = ["2026-03-01", at(2026, 3, 1, 22, 30), "soon", "", None]
    documents = [invoice(line(), id=f"INV-{n}", cf_live=value) for n, value in enumerate(values)]
    rows = billing(*documents, service_start_date_field="cf_live")
    own, first = date(2026, 1, 15), date(2026, 3, 1)
    assert [row["service_start_date"] for row in rows] == [first, first, own, own, own]
    assert {row["service_end_date"] for row in rows} == {date(2026, 2, 14)}


def test_a_custom_field_with_the_end_of_service_may_be_the_subscriptions(pages: Pages) -> None:
    pages.add("invoice", invoice(line()))
    pages.add("subscription", {"id": "sub_1", "cf_until": "2026-12-31"})
    row = only(pages.rows(service_end_date_field="subscription.cf_until"))
    assert row["service_end_date"] == date(2026, 12, 31)


# -- states and rules ----------------------------------------------------------------------------


def rules(rows: list[Row]) -> list[str | None]:
    """By which rule each row is excluded."""
    return [row["excluded_by"] for row in rows]


UNPAID = ("posted", "payment_due", "not_paid")


def test_an_issued_invoice_counts_whether_it_is_paid_or_not() -> None:
    documents = [invoice(line(), id=status, status=status) for status in ("paid", *UNPAID)]
    assert rules(billing(*documents)) == [None] * 4


def test_a_voided_invoice_is_a_row_that_the_rule_void_excludes() -> None:
    row = only(billing(invoice(line(), status="voided")))
    assert (row["excluded_by"], row["amount"]) == ("void", Decimal(100))


def test_a_pending_invoice_is_excluded_until_its_lines_are_final() -> None:
    assert rules(billing(invoice(line(), status="pending"))) == ["pending"]


def test_a_deleted_invoice_with_its_amounts_still_there_is_excluded() -> None:
    tombstone = invoice(line(), deleted=True)
    assert rules(billing(tombstone)) == ["deleted"]
    assert rules(billing(tombstone, exclude_deleted=False)) == [None]


def test_documents_before_the_conversion_date_are_excluded() -> None:
    site = Site("America/New_York", "USD", "2026-01-15")
    before = invoice(line(), id="INV-0", date=at(2026, 1, 14, 23, 59))
    assert rules(billing(before, invoice(line()), site=site)) == ["before_conversion_date", None]


def test_documents_of_excluded_business_entities_are_excluded() -> None:
    rows = billing(
        invoice(line(), id="INV-0", business_entity_id="be_uk"),
        invoice(line(), id="INV-1", business_entity_id="be_us"),
        invoice(line(), id="INV-2"),
        exclude_business_entities=["be_uk"],
    )
    assert rules(rows) == ["excluded_business_entity", None, None]


def test_zero_invoices_are_legitimate_until_they_are_discarded() -> None:
    nothing = invoice(line(amount=0), total=0)
    assert rules(billing(nothing)) == [None]
    assert rules(billing(nothing, discard_zero_invoices=True)) == ["zero_invoice"]


def test_an_invoice_without_lines_is_excluded_when_it_is_over_nothing() -> None:
    assert rules(billing(invoice(total=0))) == ["no_lines"]


def test_an_invoice_without_lines_over_something_is_a_row_to_be_flagged() -> None:
    row = only(billing(invoice(total=500)))
    assert (row["excluded_by"], row["line_id"], row["document_id"]) == (None, None, "INV-1")


def test_lines_of_excluded_products_are_excluded_and_the_others_count() -> None:
    rows = billing(
        invoice(line(), line(id="li_2", entity_id="GIFT-USD")), exclude_products=["GIFT-USD"]
    )
    assert rules(rows) == [None, "excluded_product"]


def test_an_ad_hoc_charge_has_no_product_and_is_flagged() -> None:
    row = only(billing(invoice(line(entity_type="adhoc", entity_id=None))))
    assert row["product_code"] is None


def test_plans_of_product_catalog_1_are_products_under_their_own_id() -> None:
    row = only(billing(invoice(line(entity_type="plan", entity_id="basic"))))
    assert row["product_code"] == "basic"


# -- only paid invoices --------------------------------------------------------------------------


def test_a_paid_invoice_is_dated_by_its_payment_and_stays_in_its_month() -> None:
    row = only(billing(invoice(line()), paid_invoices_only=True))
    assert (row["billing_date"], row["period"]) == (date(2026, 2, 3), "2026-01")
    assert (row["service_start_date"], row["service_end_date"]) == (
        date(2026, 1, 15),
        date(2026, 2, 14),
    )


def test_unpaid_and_partly_paid_invoices_are_excluded_where_only_paid_ones_count() -> None:
    documents = [invoice(line(), id=status, status=status) for status in UNPAID]
    assert rules(billing(*documents, paid_invoices_only=True)) == ["not_paid"] * 3


def test_a_day_of_payment_after_the_last_update_is_taken_as_it_was_typed() -> None:
    # Recorded: paid_at 1674070800 with updated_at 1674034862.
    typed = invoice(line(), paid_at=1674070800, updated_at=1674034862)
    row = only(billing(typed, paid_invoices_only=True))
    assert row["billing_date"] == date(2023, 1, 18)


def test_of_credit_notes_only_refunded_ones_count_where_only_paid_invoices_do(
    pages: Pages,
) -> None:
    for status in ("adjusted", "refund_due", "refunded"):
        pages.add("credit_note", credit_note(credit_line(), id=status, status=status))
    assert rules(pages.rows(paid_invoices_only=True)) == ["not_refunded", "not_refunded", None]


def test_a_refunded_credit_note_is_dated_by_its_refund_with_the_invoices_service_dates() -> None:
    row = only(credited(credit_note(credit_line()), invoice(line()), paid_invoices_only=True))
    assert (row["billing_date"], row["period"]) == (date(2026, 4, 7), "2026-03")
    assert (row["service_start_date"], row["service_end_date"]) == (
        date(2026, 1, 15),
        date(2026, 2, 14),
    )


def test_paid_invoices_only_is_refused_beside_contract_terms() -> None:
    with pytest.raises(ValidationError, match="each paid invoice as a contract of its own"):
        ChargebeeSettings.model_validate({**BY_TERM, "paid_invoices_only": True})


# -- credit notes --------------------------------------------------------------------------------


def test_a_credit_note_is_negative_and_names_invoice_and_line() -> None:
    row = only(credited(credit_note(credit_line()), invoice(line())))
    assert (row["document_type"], row["invoice_number"]) == ("credit_note", "CN-1")
    assert (row["amount"], row["quantity"]) == (Decimal(-100), Decimal(1))
    assert (row["reference_invoice_number"], row["reference_line_id"]) == ("INV-1", "li_1")
    assert row["billing_date"] == date(2026, 3, 2)
    assert row["url"] == "https://acme.chargebee.com/d/credit_notes/CN-1"


def test_a_line_without_a_period_of_its_own_has_the_period_of_the_line_that_it_credits() -> None:
    row = only(credited(credit_note(credit_line()), invoice(line())))
    assert (row["service_start_date"], row["service_end_date"]) == (
        date(2026, 1, 15),
        date(2026, 2, 14),
    )


def test_a_line_with_a_period_of_its_own_keeps_it() -> None:
    rest = credit_line(date_from=at(2026, 2, 1, 10), date_to=at(2026, 2, 15, 10))
    row = only(credited(credit_note(rest), invoice(line())))
    assert (row["service_start_date"], row["service_end_date"]) == (
        date(2026, 2, 1),
        date(2026, 2, 14),
    )


def test_a_line_that_credits_no_line_is_dated_like_its_credit_note() -> None:
    free = credit_line(reference_line_item_id=None)
    row = only(credited(credit_note(free, reference_invoice_id=None)))
    assert row["service_start_date"] == row["service_end_date"] == date(2026, 3, 2)
    assert row["reference_line_id"] is None


def test_a_line_without_a_product_has_that_of_the_line_that_it_credits() -> None:
    row = only(credited(credit_note(credit_line(entity_id=None)), invoice(line())))
    assert row["product_code"] == "PLAT-PRO-USD-Monthly"


def test_adjustments_and_refundable_credits_reduce_revenue_and_old_store_credits_do_not(
    pages: Pages,
) -> None:
    for kind in ("adjustment", "refundable", "store"):
        pages.add("credit_note", credit_note(credit_line(), id=kind, type=kind))
    assert rules(pages.rows()) == [None, None, "store_credit"]


def test_voided_and_deleted_credit_notes_are_excluded(pages: Pages) -> None:
    pages.add("credit_note", credit_note(credit_line(), id="CN-1", status="voided"))
    pages.add("credit_note", credit_note(credit_line(), id="CN-2", deleted=True))
    assert rules(pages.rows()) == ["void", "deleted"]


def test_inclusive_tax_is_taken_out_of_credits_too() -> None:
    note = credit_note(credit_line(amount=12000, tax_amount=2000), price_type="tax_inclusive")
    assert only(credited(note, invoice(line())))["amount"] == Decimal(-100)


# -- huge documents ------------------------------------------------------------------------------


def test_a_document_that_lists_show_without_lines_has_those_of_its_own_pages(pages: Pages) -> None:
    pages.add("invoice", invoice(line_items_next_offset='["0","0"]', total=30000))
    pages.add("invoice_line", invoice(line(id="li_1"), line(id="li_2")), parent="INV-1")
    pages.add("invoice_line", invoice(line(id="li_3")), parent="INV-1")
    assert [row["line_id"] for row in pages.rows()] == ["li_1", "li_2", "li_3"]


def test_a_discount_on_another_page_than_its_line_belongs_to_the_line(pages: Pages) -> None:
    promotional = {
        "line_item_id": "li_1",
        "discount_type": "promotional_credits",
        "discount_amount": 500,
    }
    pages.add("invoice", invoice(line_items_next_offset='["0","0"]'))
    pages.add("invoice_line", invoice(line(discount_amount=500)), parent="INV-1")
    second = invoice(line(id="li_2"), line_item_discounts=[promotional])
    pages.add("invoice_line", second, parent="INV-1")
    assert [row["amount"] for row in pages.rows()] == [Decimal(100), Decimal(100)]


def test_a_credit_on_a_huge_invoice_finds_the_line_that_it_credits(pages: Pages) -> None:
    pages.add("credit_note", credit_note(credit_line()))
    pages.add("credited_invoice", invoice(line_items_next_offset='["0","0"]'))
    pages.add("invoice_line", invoice(line()), parent="INV-1")
    assert only(pages.rows())["service_end_date"] == date(2026, 2, 14)


# -- taxes ---------------------------------------------------------------------------------------


def test_taxes_come_with_all_their_names_where_they_are_asked_for() -> None:
    taxes = [
        {"line_item_id": "li_1", "tax_name": "NY State", "tax_amount": 400, "tax_rate": 4.0},
        {"line_item_id": "li_1", "tax_name": "NY City", "tax_amount": 488, "tax_rate": 4.875},
        {"line_item_id": "li_2", "tax_name": "VAT", "tax_amount": 0, "tax_rate": 0.0},
    ]
    document = invoice(
        line(tax_amount=888), line(id="li_2"), line(id="li_3"), line_item_taxes=taxes
    )
    rows = billing(document, tax_enabled=True)
    assert [(row["tax_amount"], row["tax_name"]) for row in rows] == [
        (Decimal("8.88"), "NY City, NY State"),
        (Decimal(0), "VAT"),
        (None, None),
    ]
    assert [(row["tax_amount"], row["tax_name"]) for row in billing(document)] == [(None, None)] * 3


def test_the_tax_of_a_credit_is_negative() -> None:
    taxes = [{"line_item_id": "li_c1", "tax_name": "VAT"}]
    note = credit_note(credit_line(tax_amount=1900), line_item_taxes=taxes)
    row = only(credited(note, invoice(line()), tax_enabled=True))
    assert (row["amount"], row["tax_amount"]) == (Decimal(-100), Decimal(-19))


# -- orders --------------------------------------------------------------------------------------


def test_the_orders_number_is_the_invoices_else_the_subscriptions(pages: Pages) -> None:
    pages.add("invoice", invoice(line(), id="INV-0", cf_order_number="SO-1"), invoice(line()))
    pages.add("subscription", {"id": "sub_1", "cf_order_number": "SO-2"})
    assert [row["order_number"] for row in pages.rows()] == ["SO-1", "SO-2"]


def test_a_credit_notes_order_is_that_of_its_invoice() -> None:
    row = only(credited(credit_note(credit_line()), invoice(line(), cf_order_number="SO-1")))
    assert row["order_number"] == "SO-1"


def test_the_orders_number_may_be_kept_in_another_field() -> None:
    document = invoice(line(), po_number=" 0000002 ", cf_order_number="SO-1")
    assert only(billing(document, order_number_field="po_number"))["order_number"] == "0000002"


def test_a_consolidated_invoice_names_subscriptions_on_its_lines_only(pages: Pages) -> None:
    lines = (line(), line(id="li_2", subscription_id="sub_2"))
    pages.add("invoice", invoice(*lines, subscription_id=None))
    pages.add(
        "subscription",
        {"id": "sub_1", "cf_order_number": "SO-1"},
        {"id": "sub_2", "cf_order_number": "SO-2"},
    )
    assert [row["order_number"] for row in pages.rows()] == ["SO-1", "SO-2"]


def test_the_crms_ids_take_the_place_of_chargebees(pages: Pages) -> None:
    pages.add("customer", {"id": "acme", "company": "Acme", "cf_crm": "001A"})
    pages.add("item_price", {"id": "PLAT-PRO-USD-Monthly", "item_id": "PLAT-PRO"})
    pages.add("invoice", invoice(line(), line(id="li_2", entity_id="unknown")))
    first, second = pages.rows(customer_id_field="cf_crm", product_id_field="item_id")
    assert (first["customer_id"], first["product_code"]) == ("001A", "PLAT-PRO")
    assert (second["product_id"], second["product_code"]) == ("unknown", None)


def test_custom_fields_are_looked_up_where_they_are_and_keep_all_digits(pages: Pages) -> None:
    pages.add("customer", {"id": "acme", "cf_tier": "Gold", "cf_where": "customer"})
    pages.add("subscription", {"id": "sub_1", "cf_where": "subscription", "cf_rate": 1.10})
    pages.add("invoice", invoice(line(cf_site="East"), cf_precise=1234567890.123456789012))
    fields = {
        "Tier": "cf_tier",
        "Where": "cf_where",
        "Customer's": "customer.cf_where",
        "Rate": "cf_rate",
        "Site": "line_item.cf_site",
        "None": "cf_nowhere",
    }
    row = only(pages.rows(custom_fields=fields))
    assert dict(row["custom_fields"]) == {
        "Tier": "Gold",
        "Where": "subscription",
        "Customer's": "customer",
        "Rate": "1.1",
        "Site": "East",
        "None": None,
    }


def test_a_number_in_a_custom_field_passes_through_no_double(pages: Pages) -> None:
    pages.add("invoice", invoice(line(), cf_exact=1))
    body = pages.pages["invoice"][0]
    body["body"] = body["body"].replace('"cf_exact": 1', '"cf_exact": 0.123456789012345678901')
    row = only(pages.rows(custom_fields={"Exact": "cf_exact"}))
    assert dict(row["custom_fields"]) == {"Exact": "0.123456789012345678901"}
    assert row["amount"] == Decimal(100)


def test_a_column_may_show_a_standard_field_as_well() -> None:
    fields = {"Sold": "invoice.date", "Line": "line_item.quantity", "Status": "status"}
    row = only(billing(invoice(line()), custom_fields=fields))
    assert dict(row["custom_fields"]) == {
        "Sold": str(at(2026, 1, 15, 10)),
        "Line": "1",
        "Status": "paid",
    }
    assert row["billing_date"] == date(2026, 1, 15)


@pytest.mark.parametrize("path", ["Region", "plan.cf_a", "cf_a; DROP", "customer.a.b", ""])
def test_a_field_that_no_record_can_have_is_refused(path: str) -> None:
    with pytest.raises(ValidationError, match="custom_fields"):
        ChargebeeSettings(custom_fields={"A": path})


# -- invoices as orders --------------------------------------------------------------------------


def test_invoices_yield_sales_only_where_they_are_contracts() -> None:
    assert SOURCE.record_types(ChargebeeSettings()) == (RecordType.INVOICES,)
    contracts = ChargebeeSettings(invoice_equals_contract=True)
    assert SOURCE.record_types(contracts) == (RecordType.SALES, RecordType.INVOICES)


def test_an_invoice_is_its_own_order_with_its_lines_service_dates(pages: Pages) -> None:
    pages.add("invoice", invoice(line(quantity=4, unit_amount=2500, discount_amount=1000)))
    row = only(pages.rows(RecordType.SALES, invoice_equals_contract=True))
    assert (row["order_number"], row["order_item_number"]) == ("INV-1", "li_1")
    assert row["order_start_date"] == row["service_start_date"] == date(2026, 1, 15)
    assert row["service_end_date"] == date(2026, 2, 14)
    assert (row["quantity"], row["list_price"]) == (Decimal(4), Decimal(25))
    assert (row["unit_price"], row["amount"]) == (Decimal("22.5"), Decimal(90))


def test_a_paid_invoice_as_a_contract_is_placed_on_the_day_of_payment(pages: Pages) -> None:
    pages.add("invoice", invoice(line()))
    settings = {"invoice_equals_contract": True, "paid_invoices_only": True}
    order = only(pages.rows(RecordType.SALES, **settings))
    bill = only(pages.rows(RecordType.INVOICES, **settings))
    assert order["order_start_date"] == bill["contract_date"] == date(2026, 2, 3)
    assert order["service_start_date"] == date(2026, 1, 15)


def test_billing_lines_point_at_the_orders_that_their_invoices_are() -> None:
    bill = only(billing(invoice(line(), cf_order_number="SO-1"), invoice_equals_contract=True))
    assert (bill["order_number"], bill["order_item_number"]) == ("INV-1", "li_1")
    assert bill["contract_date"] == date(2026, 1, 15)
    note = only(credited(credit_note(credit_line()), invoice(line()), invoice_equals_contract=True))
    assert (note["order_number"], note["order_item_number"]) == ("INV-1", "li_1")
    assert note["contract_date"] == date(2026, 1, 15)


def test_credit_notes_are_no_orders(pages: Pages) -> None:
    pages.add("credit_note", credit_note(credit_line()))
    assert pages.rows(RecordType.SALES, invoice_equals_contract=True) == []


def test_a_price_per_unit_needs_units(pages: Pages) -> None:
    pages.add(
        "invoice",
        invoice(
            line(id="li_1", quantity=0, amount=0),
            line(id="li_2", quantity=3, amount=0),
            line(id="li_3", quantity=0, amount=5),
        ),
    )
    rows = pages.rows(RecordType.SALES, invoice_equals_contract=True)
    assert [row["unit_price"] for row in rows] == [0, 0, None]


# -- contract terms ------------------------------------------------------------------------------


@pytest.fixture
def terms(pages: Pages) -> Pages:
    """Two terms of a year each, one after the other, of the subscription sub_1."""
    pages.add(
        "contract_term",
        {
            "id": "term_1",
            "subscription_id": "sub_1",
            "contract_start": at(2025, 1, 15, 10),
            "contract_end": at(2026, 1, 15, 10),
        },
        {
            "id": "term_2",
            "subscription_id": "sub_1",
            "contract_start": at(2026, 1, 15, 10),
            "contract_end": at(2027, 1, 15, 9, 59, 59),
        },
    )
    return pages


BY_TERM = {"invoice_equals_contract": True, "invoice_period_equals_contract_term": False}


def orders(pages: Pages, record_type: RecordType = RecordType.SALES) -> list[tuple[Any, ...]]:
    """Number and date of the order of each line."""
    when = "order_start_date" if record_type is RecordType.SALES else "contract_date"
    rows = pages.rows(record_type, **BY_TERM)
    return [(row["line_id"], row["order_number"], row[when]) for row in rows]


def test_all_invoices_of_a_contract_term_are_one_order(terms: Pages) -> None:
    december = line(id="li_0", date_from=at(2025, 12, 15, 10), date_to=at(2026, 1, 15, 10))
    february = line(id="li_2", date_from=at(2026, 2, 15, 10), date_to=at(2026, 3, 15, 10))
    terms.add(
        "invoice", invoice(december, id="INV-0"), invoice(line()), invoice(february, id="INV-2")
    )
    expected = [
        ("li_0", "term_1", date(2025, 1, 15)),
        ("li_1", "term_2", date(2026, 1, 15)),
        ("li_2", "term_2", date(2026, 1, 15)),
    ]
    assert orders(terms) == orders(terms, RecordType.INVOICES) == expected


def test_a_line_outside_of_all_terms_is_its_invoices_own_order(terms: Pages) -> None:
    evergreen = line(id="li_2", subscription_id="sub_2")
    later = line(id="li_3", date_from=at(2027, 1, 15, 10), date_to=at(2027, 2, 15, 10))
    loose = line(id="li_4", subscription_id=None)
    terms.add("invoice", invoice(evergreen, later, loose, subscription_id=None))
    own = [(f"li_{n}", "INV-1", date(2026, 1, 15)) for n in (2, 3, 4)]
    assert orders(terms) == own


def test_a_credit_reduces_the_order_of_the_line_that_it_credits(terms: Pages) -> None:
    december = line(date_from=at(2025, 12, 15, 10), date_to=at(2026, 1, 15, 10))
    terms.add("credit_note", credit_note(credit_line()))
    terms.add("credited_invoice", invoice(december))
    assert orders(terms, RecordType.INVOICES) == [("li_c1", "term_1", date(2025, 1, 15))]


def test_contract_terms_without_sales_are_refused() -> None:
    with pytest.raises(ValidationError, match="set invoice_equals_contract = true as well"):
        ChargebeeSettings(invoice_period_equals_contract_term=False)


def test_terms_do_not_matter_where_each_invoice_is_a_contract(terms: Pages) -> None:
    terms.add("invoice", invoice(line()))
    row = only(terms.rows(RecordType.SALES, invoice_equals_contract=True))
    assert row["order_number"] == "INV-1"
