"""The version guard, the hold-back of whole documents, the totals: on a source of plain rows."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from revrec_pipeline import canonical
from revrec_pipeline.lake import CHANGES, KEYS, Lake, Landing, Page
from revrec_pipeline.ledger.sync_errors import Waiver
from revrec_pipeline.mapping import Site, Source, SourceSettings
from revrec_pipeline.model import BILLING_LINE, RecordType

SITE = Site(timezone="UTC", home_currency="USD", conversion_date=None)
_SQL_TYPES = {
    pa.string(): "VARCHAR",
    pa.int32(): "INTEGER",
    pa.date32(): "DATE",
    pa.decimal128(18, 4): "DECIMAL(18, 4)",
    pa.decimal128(28, 12): "DECIMAL(28, 12)",
    pa.map_(pa.string(), pa.string()): "MAP(VARCHAR, VARCHAR)",
}


def _rows(
    db: duckdb.DuckDBPyConnection, record_type: RecordType, settings: SourceSettings, site: Site
) -> None:
    """Each page is a JSON list of canonical rows; what a row does not name is NULL."""
    del record_type, settings, site
    structure = json.dumps([{f.name: _SQL_TYPES[f.type] for f in BILLING_LINE}])
    db.execute(
        f"""
        CREATE VIEW rows AS
        SELECT unnest(found.row) FROM (
            SELECT landing, unnest(from_json(body, '{structure}')) AS row FROM raw_invoice
        ) AS found
        SEMI JOIN current ON current.id = found.row.document_id AND current.landing = found.landing
        """
    )


SOURCE = Source(
    name="plain",
    title="Plain",
    objects=("invoice",),
    documents={"invoice": (RecordType.INVOICES,)},
    settings=SourceSettings,
    record_types=lambda settings: (RecordType.INVOICES,),
    rows=_rows,
)


def line(document: str, number: int = 1, **fields: Any) -> dict[str, Any]:
    """A complete billing line of January 2026."""
    return {
        "source": "plain",
        "record_type": "invoices",
        "period": "2026-01",
        "document_type": "invoice",
        "document_id": document,
        "line_id": f"{document}-{number}",
        "url": f"https://plain.example/{document}",
        "customer_id": "cus_1",
        "customer_name": "Acme",
        "product_code": "SEAT",
        "billing_date": "2026-01-15",
        "invoice_number": document,
        "amount": "10.00",
        "currency": "USD",
        **fields,
    }


def page_of(lines: list[dict[str, Any]], keys: list[dict[str, Any]]) -> Page:
    """A page with these lines, and with these documents by its keys."""
    return Page(
        object="invoice",
        body=json.dumps(lines).encode(),
        request="GET /",
        server_time=datetime(2026, 2, 1, tzinfo=UTC),
        records=len(lines),
        keys=pa.RecordBatch.from_pylist(keys, KEYS),
    )


def land(lake: Lake, window: str, *lines: dict[str, Any], version: str = "1") -> Landing:
    """Land one page with these lines; their documents have the version and the lines' months."""
    documents = {(row["document_id"], row["period"]) for row in lines}
    keys = [
        {"id": document, "version": version, "period": period, "window": period}
        for document, period in sorted(documents)
    ]
    page = page_of(list(lines), keys)
    return lake.land("plain", window, [page], run_id="run", api_version="1", objects=SOURCE.objects)


def build(lake: Lake, period: str = "2026-01") -> canonical.Built:
    return canonical.build(lake, SOURCE, RecordType.INVOICES, period, SourceSettings(), SITE)


def amounts(lake: Lake, period: str = "2026-01") -> dict[str, Decimal]:
    """What each line of the month amounts to."""
    table = pq.read_table(lake.root / build(lake, period).path / "rows.parquet")
    return {row["line_id"]: row["amount"] for row in table.to_pylist()}


def totals(built: canonical.Built) -> dict[tuple[str, str, str], tuple[int, Decimal]]:
    return {
        (row["bucket"], row["rule"], row["currency"]): (row["rows"], row["amount"])
        for row in built.totals.to_pylist()
    }


def test_an_older_version_never_replaces_a_newer_one_that_landed_before(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    land(lake, "2026-01", line("a", amount="1.00"), version="2026-01-01")
    land(lake, CHANGES, line("a", amount="3.00"), version="2026-01-03")
    land(lake, CHANGES, line("a", amount="2.00"), version="2026-01-02")
    assert amounts(lake) == {"a-1": Decimal("3.0000")}


def test_lines_that_the_newer_version_lacks_are_gone(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    land(lake, "2026-01", line("a", 1), line("a", 2), version="1")
    land(lake, CHANGES, line("a", 2), version="2")
    assert list(amounts(lake)) == ["a-2"]


def test_a_document_whose_date_moved_is_in_its_new_month_only(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    land(lake, "2026-01", line("a"), line("b"), version="1")
    land(lake, CHANGES, line("a", period="2026-02"), version="2")
    assert list(amounts(lake, "2026-01")) == ["b-1"]
    assert list(amounts(lake, "2026-02")) == ["a-1"]


def test_a_document_that_a_new_full_listing_lacks_is_gone_with_its_changes(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    land(lake, "2026-01", line("a"), line("b"), version="1")
    land(lake, CHANGES, line("a"), version="2")
    land(lake, "2026-01", line("b"), version="1")
    assert list(amounts(lake)) == ["b-1"]


def test_the_month_of_a_source_that_never_landed_is_empty_and_passes(tmp_path: Path) -> None:
    built = build(Lake(tmp_path))
    assert totals(built) == {}
    assert built.failed_rows == {}
    assert built.lost == ()


def test_one_failing_line_holds_back_its_whole_document_and_nothing_else(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    land(
        lake,
        "2026-01",
        line("a", 1, amount="10.00"),
        line("a", 2, amount="5.00", product_code=None),
        line("b", 1, amount="7.00"),
    )
    built = build(lake)
    held = pq.read_table(lake.root / built.path / "held.parquet")["document_id"].to_pylist()
    assert held == ["a"]
    assert totals(built) == {
        ("source", "", "USD"): (3, Decimal("22.0000")),
        ("flagged", "IN_MISSING_REQUIRED", "USD"): (1, Decimal("5.0000")),
        ("flagged", "order_held", "USD"): (1, Decimal("10.0000")),
    }
    (error,) = built.errors.to_pylist()
    assert error == {
        "stage": "input",
        "code": "IN_MISSING_REQUIRED",
        "severity": "error",
        "owner": "source",
        "source": "plain",
        "record_type": "invoices",
        "period": "2026-01",
        "record_id": "a",
        "line_id": "a-2",
        "field": "Product Code",
        "message": "Product Code is missing (invoice a, line a-2)",
        "url": "https://plain.example/a",
    }
    assert built.failed_rows == {"required_fields": 1}


@pytest.mark.parametrize(
    ("fields", "code", "field"),
    [
        ({"customer_id": None}, "IN_MISSING_REQUIRED", "Customer ID"),
        ({"currency": None}, "IN_CURRENCY_MISSING", "Currency"),
        ({"amount": "10.005"}, "IN_BAD_NUMBER", "Amount"),
        ({"amount": "10.5", "currency": "JPY"}, "IN_BAD_NUMBER", "Amount"),
        ({"product_code": "A B"}, "IN_BAD_ID_CHARS", "Product Code"),
        ({"invoice_number": "№ 1"}, "IN_BAD_ID_CHARS", "Invoice Number"),
        (
            {"service_start_date": "2026-02-01", "service_end_date": "2026-01-31"},
            "IN_END_BEFORE_START",
            "Service End Date",
        ),
    ],
)
def test_each_rule_flags_the_field_with_its_code(
    tmp_path: Path, fields: dict[str, Any], code: str, field: str
) -> None:
    lake = Lake(tmp_path)
    land(lake, "2026-01", line("a", **fields))
    found = [(error["code"], error["field"]) for error in build(lake).errors.to_pylist()]
    assert found == [(code, field)]


def test_a_document_without_lines_is_one_error_that_says_so(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    land(lake, "2026-01", line("a", line_id=None, product_code=None, amount=None, currency=None))
    (error,) = build(lake).errors.to_pylist()
    assert (error["code"], error["field"]) == ("IN_MISSING_REQUIRED", "Lines")
    assert error["message"] == "invoice a has no lines"


def test_product_codes_that_look_like_nothing_survive(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    codes = ["NA", "null", "None", "001", "1E5", "nan"]
    land(lake, "2026-01", *(line(f"d{n}", product_code=code) for n, code in enumerate(codes)))
    built = build(lake)
    stored = pq.read_table(lake.root / built.path / "rows.parquet")["product_code"].to_pylist()
    assert stored == codes
    assert built.errors.num_rows == 0


def test_an_amount_with_three_decimals_is_right_in_kuwaiti_dinar(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    land(lake, "2026-01", line("a", amount="10.005", currency="KWD"))
    assert build(lake).errors.num_rows == 0


def test_a_line_that_stands_twice_is_flagged_on_both_rows(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    land(lake, "2026-01", line("a", 1), line("a", 1), line("b", 1))
    built = build(lake)
    assert [error["code"] for error in built.errors.to_pylist()] == ["IN_DUP_KEY", "IN_DUP_KEY"]
    assert built.failed_rows == {"unique_key": 2}


def test_a_missing_customer_name_is_a_warning_and_holds_nothing_back(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    land(lake, "2026-01", line("a", customer_name=None))
    built = build(lake)
    (error,) = built.errors.to_pylist()
    assert (error["code"], error["severity"]) == ("IN_UNKNOWN_CUSTOMER", "warning")
    assert pq.read_table(lake.root / built.path / "held.parquet").num_rows == 0


def test_an_excluded_row_counts_under_its_rule_and_is_not_checked(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    land(lake, "2026-01", line("a", excluded_by="void", product_code=None), line("b"))
    built = build(lake)
    assert totals(built) == {
        ("source", "", "USD"): (2, Decimal("20.0000")),
        ("excluded", "void", "USD"): (1, Decimal("10.0000")),
    }
    assert built.errors.num_rows == 0


def test_a_document_that_the_mapping_gives_no_row_is_named_as_lost(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    keys = pa.RecordBatch.from_pylist(
        [{"id": "ghost", "version": "1", "period": "2026-01", "window": "2026-01"}], KEYS
    )
    page = Page("invoice", b"[]", "GET /", datetime(2026, 2, 1, tzinfo=UTC), 1, keys)
    lake.land("plain", "2026-01", [page], run_id="r", api_version="1", objects=SOURCE.objects)
    assert build(lake).lost == ("ghost",)


def test_the_same_landings_give_the_same_bytes(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    land(lake, "2026-01", *(line(f"d{n}") for n in range(500)))
    assert build(lake).content_hash == build(lake).content_hash


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c"]),  # document
        st.integers(1, 6),  # version
        st.sampled_from(["2026-01", "2026-02"]),  # month of that version
        st.booleans(),  # by a full listing of that month, else by a change
    ),
    min_size=1,
    max_size=8,
)


@given(EVENTS)
@hypothesis_settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_merging_any_order_of_changes_gives_each_documents_newest_version_once(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[str, int, str, bool]]
) -> None:
    lake = Lake(tmp_path_factory.mktemp("lake"))
    newest: dict[str, tuple[int, int, str]] = {}
    for order, (document, version, period, _) in enumerate(events):
        land(lake, CHANGES, line(document, period=period), version=str(version))
        newest[document] = max(newest.get(document, (0, 0, "")), (version, order, period))
    for period in ("2026-01", "2026-02"):
        expected = {f"{d}-1" for d, (_, _, month) in newest.items() if month == period}
        assert set(amounts(lake, period)) == expected


def test_dates_and_decimals_reach_the_batch_as_such(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    land(lake, "2026-01", line("a", amount="12345678901234.56"))
    (row,) = pq.read_table(lake.root / build(lake).path / "rows.parquet").to_pylist()
    assert row["amount"] == Decimal("12345678901234.5600")
    assert row["billing_date"] == date(2026, 1, 15)


def waived(*errors: Waiver, lake: Lake) -> canonical.Built:
    return canonical.build(
        lake, SOURCE, RecordType.INVOICES, "2026-01", SourceSettings(), SITE, errors
    )


def test_an_ignored_missing_currency_lets_its_document_through_in_the_home_currency(
    tmp_path: Path,
) -> None:
    lake = Lake(tmp_path)
    land(lake, "2026-01", line("a", currency=None), line("b", currency=None))
    built = waived(Waiver("a", "a-1", "IN_CURRENCY_MISSING", "Currency"), lake=lake)
    rows = pq.read_table(lake.root / built.path / "rows.parquet").to_pylist()
    assert [(row["document_id"], row["currency"]) for row in rows] == [("a", "USD"), ("b", None)]
    held = pq.read_table(lake.root / built.path / "held.parquet")["document_id"].to_pylist()
    assert held == ["b"]
    assert totals(built)["flagged", "IN_CURRENCY_MISSING", "XXX"] == (1, Decimal("10.0000"))
    assert built.failed_rows == {"required_fields": 1}
    assert [(error["record_id"], error["message"]) for error in built.errors.to_pylist()] == [
        (
            "a",
            "Currency is missing (invoice a, line a-1); ignored, so the row is in the site's home "
            "currency",
        ),
        ("b", "Currency is missing (invoice b, line b-1)"),
    ]


def test_a_default_is_not_taken_once_the_source_has_been_mended(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    land(lake, "2026-01", line("a", currency="EUR"))
    built = waived(Waiver("a", "a-1", "IN_CURRENCY_MISSING", "Currency"), lake=lake)
    (row,) = pq.read_table(lake.root / built.path / "rows.parquet").to_pylist()
    assert row["currency"] == "EUR"
    assert built.errors.num_rows == 0


def test_another_error_of_the_document_holds_it_back_although_one_is_ignored(
    tmp_path: Path,
) -> None:
    lake = Lake(tmp_path)
    land(lake, "2026-01", line("a", currency=None, product_code=None))
    built = waived(Waiver("a", "a-1", "IN_CURRENCY_MISSING", "Currency"), lake=lake)
    assert pq.read_table(lake.root / built.path / "held.parquet").num_rows == 1
    assert totals(built)["flagged", "IN_MISSING_REQUIRED", "USD"] == (1, Decimal("10.0000"))


def test_the_same_rows_of_which_others_may_go_out_are_another_batch(tmp_path: Path) -> None:
    """Else the outbox would take it for what it has, and the order would wait for ever."""
    lake = Lake(tmp_path)
    land(lake, "2026-01", line("a"))
    waiver = Waiver("b", "b-1", "IN_MISSING_SERVICE_DATES", "Service End Date")
    assert build(lake).content_hash != waived(waiver, lake=lake).content_hash
    assert waived(waiver, lake=lake).content_hash == waived(waiver, lake=lake).content_hash
