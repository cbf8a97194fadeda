"""What Stripe's fields mean. The facts and issue numbers are in reference/stripe.md."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from revrec_pipeline.currency import SQL_MACROS
from revrec_pipeline.mapping import Site
from revrec_pipeline.mapping.stripe import SOURCE, StripeSettings, decimals
from revrec_pipeline.model import CANONICAL, RecordType

NEW_YORK = Site(timezone="America/New_York", home_currency="USD", conversion_date=None)
Row = dict[str, Any]


def at(*moment: int) -> int:
    """An instant (UTC) in epoch seconds."""
    return int(datetime(*moment, tzinfo=UTC).timestamp())  # type: ignore[arg-type, misc]


def line(**fields: Any) -> Row:
    """A line as the API shows it, as far as the mapping reads it."""
    return {
        "id": "il_1",
        "object": "line_item",
        "amount": 10000,
        "period": {"start": at(2026, 1, 15, 15), "end": at(2026, 2, 15, 15)},
        "pricing": {
            "type": "price_details",
            "unit_amount_decimal": "10000",
            "price_details": {"price": "price_1", "product": "PLAT-PRO"},
        },
        "quantity": 1,
        "quantity_decimal": "1",
        "discount_amounts": [],
        "taxes": [],
        **fields,
    }


def lines(*items: Row, has_more: bool = False) -> Row:
    """A nested list of lines."""
    return {"object": "list", "data": list(items), "has_more": has_more, "url": "/v1/x/lines"}


def invoice(*items: Row, **fields: Any) -> Row:
    """A paid invoice over the lines."""
    return {
        "id": "in_1",
        "object": "invoice",
        "number": "ACME-0001",
        "status": "paid",
        "livemode": False,
        "currency": "usd",
        "customer": "cus_1",
        "customer_name": "Acme",
        "created": at(2026, 1, 15, 15),
        "effective_at": at(2026, 1, 15, 16),
        "total": sum(item["amount"] for item in items if type(item["amount"]) is int),
        "status_transitions": {
            "finalized_at": at(2026, 1, 15, 16),
            "paid_at": at(2026, 1, 16, 16),
            "voided_at": None,
        },
        "metadata": {},
        "parent": None,
        "lines": lines(*items),
        **fields,
    }


def credit_line(**fields: Any) -> Row:
    """A credit-note line that takes back all of the invoice line `il_1`."""
    return {
        "id": "cnli_1",
        "object": "credit_note_line_item",
        "type": "invoice_line_item",
        "amount": 10000,
        "quantity": 1,
        "invoice_line_item": "il_1",
        "discount_amounts": [],
        "taxes": [],
        **fields,
    }


def credit_note(credited: Row, *items: Row, **fields: Any) -> Row:
    """An issued credit note with its invoice expanded."""
    return {
        "id": "cn_1",
        "object": "credit_note",
        "number": "ACME-0001-CN-01",
        "status": "issued",
        "type": "post_payment",
        "livemode": False,
        "currency": "usd",
        "customer": "cus_1",
        "created": at(2026, 3, 2, 15),
        "effective_at": at(2026, 3, 2, 15),
        "invoice": credited,
        "lines": lines(*items),
        **fields,
    }


class Pages:
    """Raw pages, put together by hand, and the rows that the mapping makes of them."""

    def __init__(self) -> None:
        self.pages: dict[str, list[Row]] = {name: [] for name in SOURCE.objects}
        self.current: list[Row] = []

    def add(self, name: str, body: Any, *, parent: str | None = None, landing: str = "L1") -> None:
        """One more page of `name`; its documents become the current ones."""
        page = sum(row["landing"] == landing for row in self.pages[name])
        text = json.dumps(body, indent=2)
        self.pages[name].append(
            {"landing": landing, "page": page, "parent": parent, "format": "json", "body": text}
        )
        if name in SOURCE.documents:
            for document in body.get("data", [body]):
                self.current = [
                    row
                    for row in self.current
                    if (row["object"], row["id"]) != (name, document["id"])
                ]
                self.current.append(
                    {
                        "object": name,
                        "id": document["id"],
                        "version": "2026-04-01T00:00:00Z",
                        "landing": landing,
                        "page": page,
                    }
                )

    def rows(
        self,
        record_type: RecordType = RecordType.INVOICES,
        site: Site = NEW_YORK,
        **settings: Any,
    ) -> list[Row]:
        """All rows, in the order of documents and lines."""
        with duckdb.connect() as db:
            db.execute("SET TimeZone = 'UTC'")
            db.execute(SQL_MACROS)
            text = pa.string()
            raw = pa.schema(
                [
                    ("landing", text),
                    ("page", pa.int32()),
                    ("parent", text),
                    ("format", text),
                    ("body", text),
                ]
            )
            for name, pages in self.pages.items():
                db.register(f"raw_{name}", pa.Table.from_pylist(pages, raw))
            winners = pa.schema(
                [
                    ("object", text),
                    ("id", text),
                    ("version", text),
                    ("landing", text),
                    ("page", pa.int32()),
                ]
            )
            db.register("current", pa.Table.from_pylist(self.current, winners))
            SOURCE.rows(db, record_type, StripeSettings(**settings), site)
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
    pages.add("invoice", {"object": "list", "data": list(documents), "has_more": False})
    return pages.rows(site=site, **settings)


def only(rows: list[Row]) -> Row:
    """The one row that there is."""
    assert len(rows) == 1
    return rows[0]


# -- a billing line ------------------------------------------------------------------------------


def test_an_invoice_line_becomes_a_billing_line_with_its_lineage() -> None:
    row = only(billing(invoice(line())))
    assert row == {
        "source": "stripe",
        "record_type": "invoices",
        "period": "2026-01",
        "document_type": "invoice",
        "document_id": "in_1",
        "line_id": "il_1",
        "source_version": "2026-04-01T00:00:00Z",
        "raw_batch": "L1",
        "raw_page": 0,
        "url": "https://dashboard.stripe.com/test/invoices/in_1",
        "excluded_by": None,
        "customer_id": "cus_1",
        "customer_name": "Acme",
        "order_number": None,
        "order_item_number": None,
        "contract_date": None,
        "product_id": "PLAT-PRO",
        "product_code": "PLAT-PRO",
        "product_name": None,
        "billing_date": date(2026, 1, 15),
        "invoice_number": "ACME-0001",
        "amount": Decimal("100.0000"),
        "currency": "USD",
        "service_start_date": date(2026, 1, 15),
        "service_end_date": date(2026, 2, 15),
        "quantity": Decimal("1.000000000000"),
        "reference_invoice_number": None,
        "reference_line_id": None,
        "tax_amount": None,
        "tax_name": None,
        "custom_fields": None,
    }


def test_a_live_invoice_links_to_the_live_dashboard() -> None:
    row = only(billing(invoice(line(), livemode=True)))
    assert row["url"] == "https://dashboard.stripe.com/invoices/in_1"


def test_an_invoice_that_was_asked_for_alone_reads_like_one_in_a_list(pages: Pages) -> None:
    pages.add("invoice", invoice(line()))
    assert pages.rows() == billing(invoice(line()))


def test_a_line_is_never_the_invoice_itself_airbyte_59154_71097() -> None:
    rows = billing(invoice(line(id="il_a"), line(id="il_b")))
    assert [(row["document_id"], row["line_id"]) for row in rows] == [
        ("in_1", "il_a"),
        ("in_1", "il_b"),
    ]


def test_unknown_values_of_enumerations_do_not_break_a_page() -> None:
    strange = invoice(line(parent={"type": "teleport"}), status="hovering", new_field={"a": [1]})
    rows = billing(strange, invoice(line(id="il_2"), id="in_2"))
    assert [(row["document_id"], row["excluded_by"]) for row in rows] == [
        ("in_1", None),
        ("in_2", None),
    ]


def test_only_the_version_that_counts_yields_rows(pages: Pages) -> None:
    pages.add("invoice", invoice(line(amount=1)), landing="L1")
    pages.add("invoice", invoice(line(amount=2)), landing="L2")
    row = only(pages.rows())
    assert (row["amount"], row["raw_batch"], row["raw_page"]) == (Decimal("0.0200"), "L2", 0)


def test_two_record_types_can_be_mapped_on_one_connection(pages: Pages) -> None:
    pages.add("invoice", invoice(line()))
    assert len(pages.rows(RecordType.SALES, invoice_equals_contract=True)) == 1
    assert len(pages.rows(RecordType.INVOICES, invoice_equals_contract=True)) == 1


# -- minor units ---------------------------------------------------------------------------------

_DECIMALS = {
    0: "BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF",
    2: "USD EUR GBP ISK UGX HUF TWD",
    3: "BHD JOD KWD OMR TND",
}


@pytest.mark.parametrize(
    ("currency", "digits"),
    [(code, digits) for digits, codes in _DECIMALS.items() for code in codes.split()],
)
def test_minor_units_have_the_decimals_that_stripe_sends(currency: str, digits: int) -> None:
    row = only(billing(invoice(line(amount=123000), currency=currency.lower())))
    assert decimals(currency) == digits
    assert row["amount"] == Decimal(123000).scaleb(-digits)
    assert row["currency"] == currency


def test_yen_are_not_divided_by_100_dbt_stripe_100_101() -> None:
    row = only(billing(invoice(line(amount=5000), currency="jpy")))
    assert row["amount"] == Decimal(5000)


def test_icelandic_kronur_have_no_decimals_but_are_sent_times_100() -> None:
    row = only(billing(invoice(line(amount=500000), currency="isk")))
    assert row["amount"] == Decimal(5000)


def test_a_line_has_the_currency_of_its_invoice_dbt_stripe_46() -> None:
    bare = {key: value for key, value in line().items() if key != "currency"}
    assert only(billing(invoice(bare, currency="eur")))["currency"] == "EUR"


def test_an_unknown_currency_leaves_amount_and_currency_empty_to_be_flagged() -> None:
    row = only(billing(invoice(line(), currency=None)))
    assert (row["amount"], row["currency"]) == (None, None)


@pytest.mark.parametrize("amount", [100.5, "12x", None, 10**15, [1]])
def test_an_amount_that_is_no_integer_becomes_null_and_is_flagged(amount: Any) -> None:
    row = only(billing(invoice(line(amount=amount), total=100)))
    assert row["amount"] is None
    assert row["line_id"] == "il_1"


def test_the_largest_amounts_stay_exact() -> None:
    row = only(billing(invoice(line(amount=999_999_999_999_999))))
    assert row["amount"] == Decimal("9999999999999.99")


def test_a_time_beyond_all_calendars_becomes_null_and_is_flagged() -> None:
    row = only(billing(invoice(line(period={"start": 10**17, "end": 10**17}))))
    assert (row["service_start_date"], row["service_end_date"]) == (None, None)


# -- net of discounts and taxes ------------------------------------------------------------------


def discounts(*amounts: Any) -> list[Row]:
    """`discount_amounts` of a line."""
    return [{"amount": amount, "discount": f"di_{n}"} for n, amount in enumerate(amounts)]


def tax(amount: Any, behavior: str | None) -> Row:
    """One of a line's `taxes`."""
    return {"amount": amount, "tax_behavior": behavior, "taxable_amount": 1}


def test_the_amount_is_net_of_line_and_invoice_discounts_that_stack() -> None:
    row = only(billing(invoice(line(amount=10000, discount_amounts=discounts(1000, 900, 405)))))
    assert row["amount"] == Decimal("76.9500")


def test_inclusive_tax_is_taken_out_and_exclusive_tax_never_was_in() -> None:
    taxes = [tax(1667, "inclusive"), tax(800, "exclusive"), tax(5, None)]
    row = only(billing(invoice(line(amount=10000, taxes=taxes))))
    assert row["amount"] == Decimal("83.3300")


def test_a_discount_or_tax_that_is_no_number_is_not_counted_as_nothing() -> None:
    rows = billing(
        invoice(
            line(id="il_a", discount_amounts=discounts(100, "?")),
            line(id="il_b", taxes=[tax(None, "inclusive")]),
            line(id="il_c", discount_amounts=None, taxes=None),
        )
    )
    assert [row["amount"] for row in rows] == [None, None, Decimal(100)]


def test_a_starting_balance_changes_what_is_due_and_not_the_amount() -> None:
    row = only(billing(invoice(line(), starting_balance=-4000, amount_due=6000)))
    assert row["amount"] == Decimal(100)


# -- quantities ----------------------------------------------------------------------------------


def test_the_decimal_quantity_is_read_since_the_other_one_is_truncated() -> None:
    row = only(billing(invoice(line(quantity=1, quantity_decimal="1.999999999999"))))
    assert row["quantity"] == Decimal("1.999999999999")


def test_a_line_without_decimal_quantity_has_the_plain_one() -> None:
    row = only(billing(invoice(line(quantity=7, quantity_decimal=None))))
    assert row["quantity"] == Decimal(7)


# -- dates ---------------------------------------------------------------------------------------


def test_a_period_is_half_open_and_its_last_day_is_in_service() -> None:
    midnights = {"start": at(2026, 2, 1, 5), "end": at(2026, 3, 1, 5)}  # midnight in New York
    row = only(billing(invoice(line(period=midnights))))
    assert (row["service_start_date"], row["service_end_date"]) == (
        date(2026, 2, 1),
        date(2026, 2, 28),
    )


def test_a_one_off_item_starts_and_ends_on_the_same_day() -> None:
    midnight = {"start": at(2026, 2, 1, 5), "end": at(2026, 2, 1, 5)}
    row = only(billing(invoice(line(period=midnight))))
    assert (row["service_start_date"], row["service_end_date"]) == (
        date(2026, 2, 1),
        date(2026, 2, 1),
    )


def test_days_and_months_are_those_of_the_sites_time_zone_dbt_stripe_12() -> None:
    late = at(2026, 2, 1, 3)  # still 31 January in New York
    document = invoice(
        line(period={"start": late, "end": late}),
        effective_at=late,
    )
    west = only(billing(document))
    east = only(billing(document, site=Site("Asia/Tokyo", "JPY", None)))
    assert (west["period"], west["billing_date"]) == ("2026-01", date(2026, 1, 31))
    assert west["service_start_date"] == date(2026, 1, 31)
    assert (east["period"], east["billing_date"]) == ("2026-02", date(2026, 2, 1))


def test_the_day_holds_across_the_change_to_summer_time() -> None:
    period = {"start": at(2026, 3, 8, 5), "end": at(2026, 4, 8, 4)}  # midnights in New York
    row = only(billing(invoice(line(period=period))))
    assert (row["service_start_date"], row["service_end_date"]) == (
        date(2026, 3, 8),
        date(2026, 4, 7),
    )


def test_the_invoices_own_period_is_not_the_service_period() -> None:
    row = only(billing(invoice(line(), period_start=1, period_end=2)))
    assert row["service_start_date"] == date(2026, 1, 15)


def test_an_invoice_counts_when_it_is_finalised_not_when_it_was_created() -> None:
    document = invoice(
        line(),
        created=at(2026, 1, 30, 21),
        effective_at=None,
        status_transitions={"finalized_at": at(2026, 2, 3, 15)},
    )
    row = only(billing(document))
    assert (row["period"], row["billing_date"]) == ("2026-02", date(2026, 2, 3))


def test_a_date_of_effect_goes_before_the_date_of_finalisation() -> None:
    row = only(billing(invoice(line(), effective_at=at(2025, 12, 31, 15))))
    assert (row["period"], row["billing_date"]) == ("2025-12", date(2025, 12, 31))


# -- states and rules ----------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["void", "draft"])
def test_a_void_or_draft_invoice_is_excluded_by_the_rule_of_that_name(status: str) -> None:
    row = only(billing(invoice(line(), status=status)))
    assert (row["excluded_by"], row["amount"]) == (status, Decimal(100))


def test_an_invoice_voided_after_its_month_stays_in_its_month_and_is_excluded() -> None:
    document = invoice(line(), status="void")
    document["status_transitions"]["voided_at"] = at(2026, 5, 2, 15)
    row = only(billing(document))
    assert (row["period"], row["excluded_by"]) == ("2026-01", "void")


def test_a_draft_stands_in_the_month_in_which_it_was_created() -> None:
    draft = invoice(
        line(),
        status="draft",
        number=None,
        created=at(2026, 6, 24, 15),
        effective_at=at(2026, 8, 1, 15),
        status_transitions={"finalized_at": None},
    )
    row = only(billing(draft))
    assert (row["period"], row["invoice_number"]) == ("2026-06", None)


@pytest.mark.parametrize("status", ["open", "paid", "uncollectible"])
def test_an_open_paid_or_uncollectible_invoice_is_billed(status: str) -> None:
    assert only(billing(invoice(line(), status=status)))["excluded_by"] is None


def test_a_deleted_draft_is_one_row_excluded_by_rule_deleted(pages: Pages) -> None:
    created = at(2026, 6, 24, 15)
    pages.add("invoice", {"id": "in_1", "object": "invoice", "deleted": True, "created": created})
    row = only(pages.rows())
    assert (row["excluded_by"], row["document_id"], row["line_id"]) == ("deleted", "in_1", None)
    assert (row["period"], row["amount"], row["currency"]) == ("2026-06", None, None)


def test_a_proration_pair_stays_two_signed_lines() -> None:
    rows = billing(
        invoice(line(id="il_a", amount=-16129), line(id="il_b", amount=58000), total=41871)
    )
    assert [row["amount"] for row in rows] == [Decimal("-161.29"), Decimal(580)]
    assert [row["excluded_by"] for row in rows] == [None, None]


def test_an_invoice_with_a_negative_total_counts() -> None:
    row = only(billing(invoice(line(amount=-5000))))
    assert (row["amount"], row["excluded_by"]) == (Decimal(-50), None)


def test_a_trial_at_nothing_counts_unless_zero_invoices_are_discarded() -> None:
    trial = invoice(line(amount=0))
    assert only(billing(trial))["excluded_by"] is None
    assert only(billing(trial, discard_zero_invoices=True))["excluded_by"] == "zero_invoice"
    assert only(billing(invoice(line()), discard_zero_invoices=True))["excluded_by"] is None


def test_an_invoice_without_lines_over_nothing_is_one_row_excluded_by_no_lines() -> None:
    row = only(billing(invoice()))
    assert (row["excluded_by"], row["document_id"], row["line_id"]) == ("no_lines", "in_1", None)


def test_an_invoice_without_lines_over_something_is_left_to_be_flagged() -> None:
    row = only(billing(invoice(total=500)))
    assert (row["excluded_by"], row["line_id"], row["amount"]) == (None, None, None)


def test_only_paid_invoices_count_where_asked_for_and_are_dated_by_payment() -> None:
    paid = invoice(line())
    paid["status_transitions"]["paid_at"] = at(2026, 2, 9, 15)
    unpaid = invoice(line(id="il_2"), id="in_2", status="open")
    unpaid["status_transitions"]["paid_at"] = None
    rows = billing(paid, unpaid, paid_invoices_only=True)
    assert [(row["excluded_by"], row["billing_date"], row["period"]) for row in rows] == [
        (None, date(2026, 2, 9), "2026-01"),
        ("not_paid", date(2026, 1, 15), "2026-01"),
    ]


def test_a_document_before_the_conversion_date_is_excluded_and_one_on_it_is_not() -> None:
    day_after = Site("America/New_York", "USD", "2026-01-16")
    same_day = Site("America/New_York", "USD", "2026-01-15")
    assert only(billing(invoice(line()), site=day_after))["excluded_by"] == "before_conversion_date"
    assert only(billing(invoice(line()), site=same_day))["excluded_by"] is None


def test_an_excluded_product_takes_out_its_line_and_no_other() -> None:
    other = line(id="il_b", pricing={"price_details": {"product": "TIPS, O'Hara"}})
    rows = billing(invoice(line(id="il_a"), other), exclude_products=("TIPS, O'Hara",))
    assert [row["excluded_by"] for row in rows] == [None, "excluded_product"]


def test_an_invoice_item_without_a_price_has_no_product_and_is_flagged() -> None:
    row = only(billing(invoice(line(pricing=None))))
    assert (row["product_code"], row["excluded_by"]) == (None, None)


def test_a_customer_without_a_name_has_none() -> None:
    assert only(billing(invoice(line(), customer_name="  ")))["customer_name"] is None


# -- order numbers -------------------------------------------------------------------------------


def test_the_order_number_is_in_the_metadata_of_the_invoice_or_else_the_subscription() -> None:
    subscription = {"subscription_details": {"metadata": {"order_number": "SO-2"}}}
    rows = billing(
        invoice(line(), metadata={"order_number": "SO-1"}, parent=subscription),
        invoice(line(id="il_2"), id="in_2", parent=subscription),
        invoice(line(id="il_3"), id="in_3"),
    )
    assert [row["order_number"] for row in rows] == ["SO-1", "SO-2", None]


def test_an_invoice_that_is_its_own_contract_bills_the_order_of_its_number() -> None:
    draft = invoice(line(id="il_2"), id="in_2", number=None, status="draft")
    rows = billing(invoice(line()), draft, invoice_equals_contract=True)
    assert [row["order_number"] for row in rows] == ["ACME-0001", "in_2"]
    assert rows[0]["order_item_number"] == "il_1"
    assert rows[0]["contract_date"] == date(2026, 1, 15)


# -- lines beyond the first ten ------------------------------------------------------------------


def long_invoice(pages: Pages, count: int, **fields: Any) -> list[Row]:
    """An invoice of which its page shows ten lines, and its own pages of lines all."""
    items = [line(id=f"il_{n:03d}", amount=100 + n) for n in range(count)]
    document = invoice(*items, **fields)
    document["lines"] = lines(*items[:10], has_more=True)
    pages.add("invoice", {"object": "list", "data": [document], "has_more": False})
    for first in range(0, count, 100):
        chunk = lines(*items[first : first + 100], has_more=first + 100 < count)
        pages.add("invoice_line", chunk, parent=document["id"])
    return [document]


def test_all_23_lines_of_an_invoice_count_and_none_twice_posthog_34742(pages: Pages) -> None:
    long_invoice(pages, 23)
    rows = pages.rows()
    assert [row["line_id"] for row in rows] == [f"il_{n:03d}" for n in range(23)]
    assert sum(row["amount"] for row in rows) == Decimal("25.5300")
    assert {row["invoice_number"] for row in rows} == {"ACME-0001"}


def test_an_invoice_with_250_lines_is_read_from_three_pages_airbyte_10359(pages: Pages) -> None:
    long_invoice(pages, 250)
    assert len({row["line_id"] for row in pages.rows()}) == 250


def test_lines_of_another_landing_do_not_count(pages: Pages) -> None:
    long_invoice(pages, 12)
    pages.add("invoice_line", lines(line(id="il_stale")), parent="in_1", landing="L0")
    assert "il_stale" not in {row["line_id"] for row in pages.rows()}


def test_a_deleted_draft_without_pages_of_lines_keeps_its_first_ten_posthog_72759(
    pages: Pages,
) -> None:
    items = [line(id=f"il_{n:03d}") for n in range(10)]
    document = invoice(status="draft", total=1)
    document["lines"] = lines(*items, has_more=True)
    pages.add("invoice", document)
    rows = pages.rows()
    assert [row["line_id"] for row in rows] == [item["id"] for item in items]
    assert {row["excluded_by"] for row in rows} == {"draft"}


# -- credit notes --------------------------------------------------------------------------------


def credited_row(pages: Pages, document: Row, **settings: Any) -> Row:
    """The only row of a credit note."""
    pages.add("credit_note", {"object": "list", "data": [document], "has_more": False})
    return only([row for row in pages.rows(**settings) if row["document_type"] == "credit_note"])


def test_a_credit_note_line_is_negative_and_tied_to_the_line_that_it_credits(pages: Pages) -> None:
    row = credited_row(pages, credit_note(invoice(line()), credit_line(amount=2500)))
    expected = {
        "period": "2026-03",
        "document_type": "credit_note",
        "document_id": "cn_1",
        "line_id": "cnli_1",
        "url": "https://dashboard.stripe.com/test/credit_notes/cn_1",
        "excluded_by": None,
        "customer_id": "cus_1",
        "customer_name": "Acme",
        "product_code": "PLAT-PRO",
        "billing_date": date(2026, 3, 2),
        "invoice_number": "ACME-0001-CN-01",
        "amount": Decimal(-25),
        "currency": "USD",
        "service_start_date": date(2026, 1, 15),
        "service_end_date": date(2026, 2, 15),
        "reference_invoice_number": "ACME-0001",
        "reference_line_id": "il_1",
    }
    assert {key: row[key] for key in expected} == expected


def test_a_credited_line_beyond_the_first_ten_gives_its_dates_and_product(pages: Pages) -> None:
    (credited,) = long_invoice(pages, 23)
    document = credit_note(credited, credit_line(invoice_line_item="il_020"))
    row = credited_row(pages, document)
    assert (row["product_code"], row["reference_line_id"]) == ("PLAT-PRO", "il_020")
    assert row["service_end_date"] == date(2026, 2, 15)


def test_all_twelve_lines_of_a_credit_note_count(pages: Pages) -> None:
    items = [credit_line(id=f"cnli_{n:02d}", amount=100) for n in range(12)]
    document = credit_note(invoice(line()))
    document["lines"] = lines(*items[:10], has_more=True)
    pages.add("credit_note", {"object": "list", "data": [document], "has_more": False})
    pages.add("credit_note_line", lines(*items), parent="cn_1")
    rows = pages.rows()
    assert [row["line_id"] for row in rows] == [item["id"] for item in items]
    assert {row["product_code"] for row in rows} == {"PLAT-PRO"}


def test_a_custom_credit_note_line_is_dated_like_its_credit_note(pages: Pages) -> None:
    custom = credit_line(type="custom_line_item", invoice_line_item=None)
    row = credited_row(pages, credit_note(invoice(line()), custom))
    assert (row["service_start_date"], row["service_end_date"]) == (
        date(2026, 3, 2),
        date(2026, 3, 2),
    )
    assert (row["reference_line_id"], row["product_code"]) == (None, None)
    assert row["reference_invoice_number"] == "ACME-0001"


def test_a_credit_for_a_line_that_did_not_come_has_no_dates_and_is_flagged(pages: Pages) -> None:
    document = credit_note(invoice(line()), credit_line(invoice_line_item="il_gone"))
    row = credited_row(pages, document)
    assert (row["service_start_date"], row["service_end_date"]) == (None, None)


@pytest.mark.parametrize("kind", ["pre_payment", "post_payment", "mixed"])
def test_a_credit_note_counts_however_it_is_given_back(pages: Pages, kind: str) -> None:
    document = credit_note(
        invoice(line()), credit_line(), type=kind, pre_payment_amount=1, post_payment_amount=9999
    )
    assert credited_row(pages, document)["amount"] == Decimal(-100)


def test_a_voided_credit_note_is_excluded_by_rule_void(pages: Pages) -> None:
    document = credit_note(invoice(line()), credit_line(), status="void")
    row = credited_row(pages, document)
    assert (row["excluded_by"], row["amount"]) == ("void", Decimal(-100))


def test_a_credit_is_net_of_discounts_and_inclusive_tax(pages: Pages) -> None:
    item = credit_line(
        amount=10000, discount_amounts=discounts(1000), taxes=[tax(1500, "inclusive")]
    )
    assert credited_row(pages, credit_note(invoice(line()), item))["amount"] == Decimal(-75)


def test_a_credit_note_in_effect_earlier_counts_then(pages: Pages) -> None:
    document = credit_note(invoice(line()), credit_line(), effective_at=at(2026, 2, 28, 15))
    row = credited_row(pages, document)
    assert (row["period"], row["billing_date"]) == ("2026-02", date(2026, 2, 28))


def test_a_credit_note_follows_the_rules_of_its_product_date_and_payment(pages: Pages) -> None:
    unpaid = credit_note(invoice(line(), status="open"), credit_line())
    row = credited_row(pages, unpaid)
    assert row["excluded_by"] is None
    assert only(pages.rows(paid_invoices_only=True))["excluded_by"] == "not_paid"
    assert only(pages.rows(exclude_products=("PLAT-PRO",)))["excluded_by"] == "excluded_product"
    later = Site("America/New_York", "USD", "2026-04-01")
    assert only(pages.rows(site=later))["excluded_by"] == "before_conversion_date"


def test_a_credit_note_asked_for_alone_reads_like_one_in_a_list(pages: Pages) -> None:
    document = credit_note(invoice(line()), credit_line())
    pages.add("credit_note", document)
    alone = pages.rows()
    assert [credited_row(Pages(), document)] == alone


# -- order lines ---------------------------------------------------------------------------------


def sale(*items: Row, **fields: Any) -> list[Row]:
    """The order lines of one invoice that is its own contract."""
    pages = Pages()
    pages.add("invoice", invoice(*items, **fields))
    return pages.rows(RecordType.SALES, invoice_equals_contract=True)


def test_an_invoice_that_is_its_own_contract_yields_order_lines() -> None:
    item = line(
        amount=30000,
        quantity=3,
        quantity_decimal="3",
        discount_amounts=discounts(5000),
    )
    row = only(sale(item))
    expected = {
        "record_type": "sales",
        "period": "2026-01",
        "order_number": "ACME-0001",
        "order_item_number": "il_1",
        "product_code": "PLAT-PRO",
        "order_start_date": date(2026, 1, 15),
        "service_start_date": date(2026, 1, 15),
        "service_end_date": date(2026, 2, 15),
        "quantity": Decimal(3),
        "list_price": Decimal(100),
        "unit_price": Decimal("83.333333333333"),
        "amount": Decimal(250),
        "currency": "USD",
    }
    assert {key: row[key] for key in expected} == expected


def test_prices_of_a_fraction_of_a_cent_stay_exact() -> None:
    pricing = {"unit_amount_decimal": "0.012345678901", "price_details": {"product": "API"}}
    row = only(sale(line(amount=1235, quantity_decimal="100000", pricing=pricing)))
    assert row["list_price"] == Decimal("0.000123456789")
    assert row["unit_price"] == Decimal("0.0001235")


def test_a_negative_line_has_a_negative_unit_price() -> None:
    row = only(sale(line(amount=-10000, quantity_decimal="3"), total=-10000))
    assert row["unit_price"] == Decimal("-33.333333333333")


def test_a_line_over_no_units_has_a_unit_price_only_when_it_costs_nothing() -> None:
    rows = sale(
        line(id="il_a", amount=0, quantity_decimal="0"),
        line(id="il_b", amount=100, quantity_decimal="0"),
    )
    assert [row["unit_price"] for row in rows] == [Decimal(0), None]


def test_quantity_times_unit_price_is_the_amount_for_millions_of_units() -> None:
    row = only(sale(line(amount=123456789, quantity_decimal="9876543")))
    assert round(row["quantity"] * row["unit_price"], 2) == row["amount"] == Decimal("1234567.89")


def test_credit_notes_yield_no_order_lines(pages: Pages) -> None:
    pages.add("credit_note", credit_note(invoice(line()), credit_line()))
    assert pages.rows(RecordType.SALES, invoice_equals_contract=True) == []


def test_sales_are_asked_for_only_where_an_invoice_is_a_contract() -> None:
    assert SOURCE.record_types(StripeSettings()) == (RecordType.INVOICES,)
    assert SOURCE.record_types(StripeSettings(invoice_equals_contract=True)) == (
        RecordType.SALES,
        RecordType.INVOICES,
    )
