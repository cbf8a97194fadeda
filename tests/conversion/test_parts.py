"""A workbook over Excel's row limit is split into numbered parts, between documents."""

from pathlib import Path
from typing import Any

import pytest
from canonical_rows import billing_line, canonical, order_line
from conversion_files import column, read_workbook

from revrec_pipeline.conversion.sheets import stage
from revrec_pipeline.conversion.template import load_template
from revrec_pipeline.conversion.workbook import SHEET_ROWS, write_workbook
from revrec_pipeline.engine import engine
from revrec_pipeline.errors import LakeError
from revrec_pipeline.model import RecordType


def test_the_limit_is_that_of_excel() -> None:
    assert SHEET_ROWS == 1_048_576


def test_parts_are_cut_between_documents_and_carry_every_row_once(tmp_path: Path) -> None:
    lines = [3, 1, 2, 4, 1]
    files = write_parts(tmp_path, documents(lines), sheet_rows=5)
    assert [file.name for file in files] == [
        "job-part1.xlsx",
        "job-part2.xlsx",
        "job-part3.xlsx",
        "job-part4.xlsx",
    ]
    parts = [column(read_workbook(file), "BillingSchedule", "Invoice Number") for file in files]
    assert parts == [
        ["A-in_0"] * 3 + ["A-in_1"],
        ["A-in_2"] * 2,
        ["A-in_3"] * 4,
        ["A-in_4"],
    ]


def test_every_part_has_all_sheets_and_the_customers_stand_in_the_first(tmp_path: Path) -> None:
    first, second = map(read_workbook, write_parts(tmp_path, documents([2, 2]), sheet_rows=4))
    assert list(first) == list(second) == [sheet.name for sheet in load_template().sheets]
    assert len(first["Customer"]) == 2
    assert second["Customer"] == first["Customer"][:1]


def test_exactly_the_limit_is_one_workbook(tmp_path: Path) -> None:
    (file,) = write_parts(tmp_path, documents([2, 2]), sheet_rows=5)
    assert file.name == "job.xlsx"
    assert len(read_workbook(file)["BillingSchedule"]) == 5


def test_a_long_list_of_customers_is_split_as_well(tmp_path: Path) -> None:
    rows = [order_line(f"00{n}", customer_id=f"c{n}") for n in range(4)]
    files = write_parts(tmp_path, rows, record_type=RecordType.SALES, sheet_rows=4)
    parts = [column(read_workbook(file), "Customer", "Account ID") for file in files]
    assert parts == [["c0", "c1", "c2"], ["c3"]]


def test_a_cut_inside_a_later_row_group_gives_the_same_rows(tmp_path: Path) -> None:
    rows = [billing_line(f"in_{n:06}") for n in range(30_000)]
    files = write_parts(tmp_path, rows, sheet_rows=25_001)
    parts = [column(read_workbook(file), "BillingSchedule", "Invoice Number") for file in files]
    assert [len(part) for part in parts] == [25_000, 5_000]
    assert parts[0][-1] == "A-in_024999"
    assert parts[1][0] == "A-in_025000"
    assert parts[1][-1] == "A-in_029999"


def test_a_document_that_fits_no_sheet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LakeError) as refused:
        write_parts(tmp_path, documents([1, 4]), sheet_rows=4)
    assert str(refused.value) == (
        "sheet BillingSchedule, row 3: this document has more than 3 lines, which no sheet can "
        "hold; take the .zip"
    )


def documents(lines: list[int]) -> list[dict[str, Any]]:
    """Invoices with this many lines each."""
    return [
        billing_line(f"in_{number}", f"il_{line}")
        for number, count in enumerate(lines)
        for line in range(count)
    ]


def write_parts(
    folder: Path,
    rows: list[dict[str, Any]],
    *,
    sheet_rows: int,
    record_type: RecordType = RecordType.INVOICES,
) -> list[Path]:
    """Write the rows as a workbook whose sheets hold `sheet_rows` at most."""
    with engine(folder / "spill") as connection:
        connection.register("rows", canonical(record_type, rows))
        sheets = stage(connection, {record_type: "rows"}, folder, load_template())
        files = write_workbook(connection, sheets, folder / "job.xlsx", sheet_rows=sheet_rows)
    if record_type is RecordType.INVOICES:
        assert sum(file.lines for file in files) == len(rows)
    return [file.path for file in files]
