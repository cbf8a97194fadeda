"""The circle: a conversion file, imported, gives what a live load would have given."""

import tempfile
from collections.abc import Sequence
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pytest
from batches import Books
from canonical_rows import billing_line, delivery_line, order_line
from conversion_files import read_archive
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from revrec_pipeline.currency import exponent
from revrec_pipeline.export import export
from revrec_pipeline.imports.run import Imported, import_file
from revrec_pipeline.lake import Lake
from revrec_pipeline.ledger import jobs, lines, open_ledger, sync_errors
from revrec_pipeline.model import RecordType, Route
from revrec_pipeline.settings import Settings

Rows = Sequence[dict[str, Any]]
TEXTS = st.one_of(
    st.text(
        st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"),
        min_size=1,
    ).filter(lambda text: not text.isspace()),
    st.sampled_from(
        [
            "NA", "null", "0012", "=1+1", "+", "-1", "@x", " a ", "a\tb\nc", "_x0041_", "TRUE",
            "1e5", "'=1", "''-", "'", "2026-01-01", "46023", "#N/A", '"', ",", "\u200b",
        ]
    ),
)  # fmt: skip
IDS = st.from_regex(r"[0-9A-Za-z_:.-]{1,12}", fullmatch=True)
CURRENCIES = st.sampled_from(["USD", "JPY", "KWD"])
SUFFIXES = st.sampled_from([".xlsx", ".zip"])
DAYS = st.dates(date(2026, 1, 1), date(2026, 3, 31))
SOURCES = {"sales": "salesforce", "invoices": "stripe", "commissions": "hubspot"}


def exact(value: Decimal, currency: str) -> Decimal:
    return value.quantize(Decimal(1).scaleb(-exponent(currency)), ROUND_HALF_UP)


@st.composite
def sales(draw: st.DrawFn) -> Rows:
    """Orders of up to three lines with everything that a cell can do."""
    rows = []
    for number in draw(st.lists(IDS, min_size=2, max_size=7, unique_by=str.casefold)):
        day, currency = draw(DAYS), draw(CURRENCIES)
        for line in range(draw(st.integers(1, 3))):
            quantity = draw(st.decimals(-99, 999, places=2))
            price = draw(st.decimals(-9_999_999, 9_999_999, places=6))
            rows.append(
                order_line(
                    f"006{number}",
                    f"00k{line}",
                    period=f"{day:%Y-%m}",
                    order_number=number,
                    order_item_number=f"{line:03}",
                    order_start_date=day,
                    service_start_date=day,
                    service_end_date=day + timedelta(days=draw(st.integers(0, 900))),
                    customer_name=draw(TEXTS),
                    order_name=draw(st.none() | TEXTS),
                    product_code=draw(IDS),
                    product_id=draw(st.none() | IDS),
                    product_name=draw(st.none() | TEXTS),
                    product_family=draw(st.none() | TEXTS),
                    quantity=quantity,
                    unit_price=price,
                    list_price=draw(st.none() | st.decimals(0, 999_999_999_999, places=3)),
                    amount=exact(quantity * price, currency),
                    currency=currency,
                    custom_fields=[("Region", draw(st.none() | TEXTS)), ("=Team", draw(TEXTS))],
                )
            )
    return rows


@st.composite
def invoices(draw: st.DrawFn) -> Rows:
    """Invoices and credit notes; each product code names one product."""
    rows = []
    for number in draw(st.lists(IDS, min_size=2, max_size=7, unique=True)):
        day, currency, customer = draw(DAYS), draw(CURRENCIES), draw(IDS)
        name = draw(TEXTS)
        for line in range(draw(st.integers(1, 3))):
            code = draw(IDS)
            rows.append(
                billing_line(
                    f"in_{number}",
                    f"il_{line}",
                    period=f"{day:%Y-%m}",
                    invoice_number=number,
                    billing_date=day,
                    customer_id=customer,
                    customer_name=name,
                    product_id=f"prod_{code}",
                    product_code=code,
                    product_name=f"Product {code}",
                    order_number=draw(st.none() | IDS),
                    order_item_number=draw(st.none() | IDS),
                    amount=exact(
                        draw(st.decimals(-999_999_999_999, 999_999_999_999, places=3)), currency
                    ),
                    currency=currency,
                )
            )
    return rows


def commission(number: str, **changes: Any) -> dict[str, Any]:
    row = {
        "source": "hubspot",
        "record_type": "commissions",
        "period": "2026-01",
        "document_type": "deal",
        "document_id": f"d{number}",
        "line_id": "1",
        "source_version": "1",
        "raw_batch": "20260131T100000.000000Z-0000",
        "raw_page": 0,
        "order_number": "0042",
        "reference_number": number,
        "expense_code": "COMMISSION",
        "expense_date": date(2026, 1, 15),
        "amount": Decimal("-120.50"),
        "currency": "USD",
        "exchange_rate": Decimal(1),
        "document_amount": Decimal("-120.50"),
        "document_currency": "USD",
        "description": "=claw-back",
        "custom_fields": [],
    }
    return {**row, **changes}


@st.composite
def deliveries(draw: st.DrawFn) -> Rows:
    """Deliveries with a reference, and days without one that have up to three rows."""
    rows = []
    for number in draw(st.lists(IDS, min_size=1, max_size=5, unique=True)):
        day, order, item = draw(DAYS), draw(st.none() | IDS), draw(st.none() | IDS)
        reference = draw(st.none() | st.just(number))
        key = [f"c{number}", order, item, "0042", day.isoformat()]
        for line in range(1 if reference else draw(st.integers(1, 3))):
            rows.append(
                delivery_line(
                    reference or "/".join(part for part in key if part),
                    str(line + 1),
                    period=f"{day:%Y-%m}",
                    customer_id=f"c{number}",
                    order_number=order,
                    order_item_number=item,
                    product_code="0042",
                    delivery_date=day,
                    units_delivered=draw(st.decimals(-999_999_999_999, 999_999_999_999, places=3)),
                    reference_number=reference,
                    custom_fields=[("=Team", draw(TEXTS))],
                )
            )
    return rows


def customer(number: str, **changes: Any) -> dict[str, Any]:
    row = {
        "source": "file",
        "record_type": "customers",
        "period": "2024-01",
        "document_type": "Customer",
        "document_id": number,
        "line_id": "1",
        "source_version": "20260131T100000.000000Z row 0000002",
        "raw_batch": "20260131T100000.000000Z-0000",
        "raw_page": 0,
        "customer_id": number,
        "customer_name": "Acme",
        "custom_fields": [],
    }
    return {**row, **changes}


def product(number: str, **changes: Any) -> dict[str, Any]:
    row = {
        **customer(number, record_type="products", document_type="Product"),
        "product_code": number,
        "product_name": "Platform",
        "price": Decimal("5.25"),
        "currency": "USD",
    }
    del row["customer_id"], row["customer_name"]
    return {**row, **changes}


@st.composite
def customers(draw: st.DrawFn) -> Rows:
    """Customers with everything that a cell can do."""
    maybe = st.none() | TEXTS
    return [
        customer(
            number,
            customer_name=draw(TEXTS),
            customer_address=draw(maybe),
            customer_phone=draw(maybe),
            state=draw(maybe),
            customer_type=draw(maybe),
            tier=draw(maybe),
            custom_fields=[("Region", draw(maybe)), ("=Team", draw(TEXTS))],
        )
        for number in draw(st.lists(IDS, min_size=1, max_size=5, unique=True))
    ]


@st.composite
def products(draw: st.DrawFn) -> Rows:
    """Products; each code is one product, and each id at most one."""
    maybe, price = st.none() | TEXTS, st.none() | st.decimals(0, 999_999_999_999, places=3)
    return [
        product(
            number,
            product_id=draw(st.none() | st.just(f"prod_{number}")),
            product_name=draw(TEXTS),
            product_family=draw(maybe),
            product_type=draw(maybe),
            description=draw(maybe),
            list_price=draw(price),
            pricebook_id=draw(st.none() | IDS),
            term=draw(st.none() | st.integers(1, 120).map(Decimal)),
            is_recurring=draw(st.sampled_from([None, "true", "false"])),
            price=draw(price),
            price_period=draw(maybe),
            units=draw(maybe),
            currency=draw(st.none() | CURRENCIES),
            delivery_start=draw(maybe),
            delivery_end=draw(maybe),
        )
        for number in draw(st.lists(IDS, min_size=1, max_size=5, unique=True))
    ]


def months(rows: Rows) -> dict[str, Rows]:
    return {
        period: [row for row in rows if row["period"] == period]
        for period in sorted({row["period"] for row in rows})
    }


def books(folder: Path, name: str, *, live: bool) -> Books:
    made = Books(open_ledger(f"duckdb:///{folder / name}.duckdb"), folder / name)
    if live:
        made.set_period()
    return made


def imported(into: Books, file: Path, **how: Any) -> Imported:
    """Import a file, and deliver what came of it."""
    found = import_file(
        into.ledger,
        Lake(into.lake),
        Settings(),
        file,
        **{"job_name": "bulk", "who": "ada", "trigger": "test", **how},
    )
    for job in found.job_ids.values():
        with into.ledger.transaction() as tx:
            live = jobs.jobs(tx, job) and tx.one("SELECT * FROM accounting_period")
        into.deliver(job, Route.LIVE if live else Route.CONVERSION)
    return found


def errors(of: Books) -> list[str]:
    with of.ledger.transaction() as tx:
        return [
            f"{error['owner']} {error['code']} {error['message']}"
            for error in sync_errors.list_errors(tx)
            if error["severity"] == "error"
        ]


def said(of: Books, kind: RecordType) -> list[dict[str, Any]]:
    """What the ledger holds, without when and from where it came."""
    came = ("source_version", "raw_batch", "raw_page")
    with of.ledger.transaction() as tx:
        loaded = lines.read_active(tx, kind).read_all().to_pylist()
    for row in loaded:
        row["custom_fields"] = dict(row["custom_fields"])
        row["custom_fields"].pop("Sync Source", None)
    return [{name: row[name] for name in row if name not in came} for row in loaded]


def closes(rows: Rows, suffix: str) -> None:
    """Live load and export, or conversion file, import, live load and export: the same bytes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        live = books(folder, "live", live=True)
        live.delivered(months(rows), Route.LIVE)
        by_file = books(folder, "file", live=False)
        job, _ = by_file.delivered(months(rows))
        (file,) = (file for file in by_file.files(job) if file.suffix == suffix)
        anew = books(folder, "anew", live=True)
        imported(anew, file)
        assert errors(anew) == []
        expected, found = (
            [file.read_bytes() for file in export(of.ledger, folder / f"{of.lake.name}.zip")]
            for of in (live, anew)
        )
        assert found == expected
        kind = RecordType(rows[0]["record_type"])
        if rows[0]["source"] == "file":
            assert said(anew, kind) == said(live, kind)
        for each in (live, by_file, anew):
            each.ledger.close()


# An example takes seconds, and shrinking would take hundreds of them.
_SLOWLY = settings(
    max_examples=5,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)


@_SLOWLY
@given(suffix=SUFFIXES, rows=sales())
def test_orders_come_back_as_a_live_load_would_have_given_them(suffix: str, rows: Rows) -> None:
    closes(rows, suffix)


@_SLOWLY
@given(suffix=SUFFIXES, rows=invoices())
def test_invoices_come_back_as_a_live_load_would_have_given_them(suffix: str, rows: Rows) -> None:
    closes(rows, suffix)


@_SLOWLY
@given(suffix=SUFFIXES, rows=st.one_of(deliveries(), customers(), products()))
def test_deliveries_customers_and_products_come_back_as_a_live_load_would_have_given_them(
    suffix: str, rows: Rows
) -> None:
    closes(rows, suffix)


@pytest.mark.parametrize("suffix", [".xlsx", ".zip"])
def test_commissions_and_taxes_come_back_as_a_live_load_would_have_given_them(suffix: str) -> None:
    closes([commission("0001"), commission("0002", product_code="0042")], suffix)
    closes(
        [
            billing_line("in_1", "il_1", tax_amount=Decimal("19.00"), tax_name="VAT"),
            billing_line("in_1", "il_2", order_number="0042", product_code="x", product_id="x"),
            billing_line("in_2", "il_1", tax_amount=Decimal("-1.25"), tax_name="GST, PST"),
        ],
        suffix,
    )


def test_what_was_imported_comes_back_a_second_time_around(tmp_path: Path) -> None:
    rows = [order_line("006A", "1"), order_line("006B", "1", amount=Decimal(1200))]
    first = books(tmp_path, "first", live=True)
    first.delivered(months(rows), Route.LIVE)
    (once,) = export(first.ledger, tmp_path / "once.zip")
    second = books(tmp_path, "second", live=True)
    imported(second, once)
    (twice,) = export(second.ledger, tmp_path / "twice.xlsx")
    third = books(tmp_path, "third", live=True)
    imported(third, twice)
    (thrice,) = export(third.ledger, tmp_path / "thrice.zip")
    assert thrice.read_bytes() == once.read_bytes()


def test_records_beside_the_lines_that_name_them_come_back_a_second_time_around(
    tmp_path: Path,
) -> None:
    """A record takes the place of what lines say; of a system's names nothing becomes a record."""
    first = books(tmp_path, "first", live=True)
    orders = [
        order_line("006A", "1"),
        order_line("006B", "1", customer_id="001B", product_code="0043", product_id="01tB"),
    ]
    own = [
        order_line("O1", "1", source="file", customer_id="C1", product_code="P1", product_id=None),
        order_line("O2", "1", source="file", customer_id="C2", product_code="P2"),
    ]
    of_system = customer(
        "salesforce:001B",
        customer_id="001B",
        state="CA",
        custom_fields=[("Sync Source", "salesforce")],
    )
    by_hand = customer("C1", source="manual", customer_name="Acme by hand", tier="gold")
    for rows in (
        orders,
        own,
        [customer("C1", customer_phone="1"), customer("C3"), of_system],
        [{**by_hand, "source_version": "20260201T100000.000000Z row 0000002"}],
        [product("P1", product_family=None), product("P2", term=Decimal(12))],
        [delivery_line("R1"), delivery_line("C1/P1/2026-01-20", reference_number=None,
            customer_id="C1", product_code="P1")],
    ):  # fmt: skip
        first.delivered(months(rows), Route.LIVE)
    (once,) = export(first.ledger, tmp_path / "once.zip")
    sheet = read_archive(once)["Customer"]
    assert [row[:3] + row[6:] for row in sheet[1:]] == [
        ["001A", "Acme", "", "", "salesforce"],
        ["001B", "Acme", "", "", "salesforce"],
        ["C1", "Acme by hand", "", "gold", "manual"],
        ["C2", "Acme", "", "", "file"],
        ["C3", "Acme", "", "", "file"],
    ]
    second = books(tmp_path, "second", live=True)
    imported(second, once)
    assert errors(second) == []
    with second.ledger.transaction() as tx:
        ids = tx.rows("SELECT document_id FROM customer ORDER BY 1")
    assert [row["document_id"] for row in ids] == ["C1", "C3", "salesforce:001B"]
    (twice,) = export(second.ledger, tmp_path / "twice.xlsx")
    third = books(tmp_path, "third", live=True)
    imported(third, twice)
    (thrice,) = export(third.ledger, tmp_path / "thrice.zip")
    assert thrice.read_bytes() == once.read_bytes()
