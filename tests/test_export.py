"""Export gives back what was loaded live, in the template."""

from decimal import Decimal
from pathlib import Path

import pytest
from batches import Books
from batches import ledger as ledger
from batches import ledger_url as ledger_url
from canonical_rows import billing_line, order_line
from conversion_files import read_archive, read_workbook

from revrec_pipeline.errors import UsageError
from revrec_pipeline.export import export
from revrec_pipeline.ledger import Ledger, open_ledger
from revrec_pipeline.model import Route

JANUARY, FEBRUARY = "2026-01", "2026-02"
SALES = {
    JANUARY: [
        order_line("006A", "00kA1", custom_fields=[("Region", "EMEA"), ("Team", None)]),
        order_line("006A", "00kA2", unit_price=Decimal("33.333333333333"), list_price=None),
    ],
    FEBRUARY: [
        order_line("006B", "00kB", period=FEBRUARY, order_name='=1+1 "ü" \t\n\\N', quantity=0)
    ],
}
INVOICES = {
    JANUARY: [
        billing_line("in_2", "il_2", amount=Decimal("999999999999.99")),
        billing_line("cn_1", "cl_1", amount=Decimal("-0.005"), currency="KWD"),
    ],
    FEBRUARY: [billing_line("in_1", "il_1", period=FEBRUARY, product_code="0042")],
}


@pytest.mark.parametrize(("suffix", "read"), [(".zip", read_archive), (".xlsx", read_workbook)])
def test_export_equals_the_conversion_files_of_the_same_batches(
    ledger: Ledger, tmp_path: Path, suffix: str, read: object
) -> None:
    assert callable(read)
    live = Books(ledger, tmp_path / "live")
    live.set_period()
    by_file = Books(open_ledger(f"duckdb:///{tmp_path / 'other.duckdb'}"), tmp_path / "by_file")
    expected = {}
    for months, sheet in ((SALES, "OrderDetails"), (INVOICES, "BillingSchedule")):
        live.delivered(months, Route.LIVE)
        job, _ = by_file.delivered(months)
        (file,) = (file for file in by_file.files(job) if file.suffix == suffix)
        expected[sheet] = read(file)[sheet]
    (exported,) = export(ledger, tmp_path / f"ledger{suffix}")
    found = read(exported)
    assert {sheet: found[sheet] for sheet in expected} == expected
    assert len(found["OrderDetails"]) == len(found["BillingSchedule"]) == 4


def test_what_was_removed_is_not_exported(ledger: Ledger, tmp_path: Path) -> None:
    books = Books(ledger, tmp_path / "lake")
    books.set_period()
    books.delivered({JANUARY: [billing_line("in_1"), billing_line("in_2", "il_2")]}, Route.LIVE)
    books.delivered({JANUARY: [billing_line("in_2", "il_2")]}, Route.LIVE)
    (file,) = export(ledger, tmp_path / "ledger.zip")
    assert [row[5] for row in read_archive(file)["BillingSchedule"][1:]] == ["A-in_2"]


def test_an_empty_ledger_exports_all_headers(ledger: Ledger, tmp_path: Path) -> None:
    (file,) = export(ledger, tmp_path / "ledger.xlsx")
    assert {len(rows) for rows in read_workbook(file).values()} == {1}


def test_export_leaves_nothing_beside_the_file_and_replaces_an_old_one(tmp_path: Path) -> None:
    opened = open_ledger(f"duckdb:///{tmp_path / 'ledger.duckdb'}")
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "ledger.zip").write_bytes(b"old")
    export(opened, folder / "ledger.zip")
    assert [file.name for file in folder.iterdir()] == ["ledger.zip"]
    assert read_archive(folder / "ledger.zip")["OrderDetails"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone/ledger.zip", "gone is no folder; make it first, or choose another place"),
        ("ledger.csv", "ledger.csv: a conversion file is .xlsx or .zip"),
    ],
)
def test_a_place_that_cannot_be_is_refused(tmp_path: Path, name: str, message: str) -> None:
    opened = open_ledger(f"duckdb:///{tmp_path / 'ledger.duckdb'}")
    with pytest.raises(UsageError) as refused:
        export(opened, tmp_path / name)
    assert str(refused.value).endswith(message)
    assert [file.name for file in tmp_path.iterdir()] == ["ledger.duckdb"]
