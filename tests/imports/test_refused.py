"""Files that are refused: the reason names the place, and nothing is left behind."""

import io
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from revrec_pipeline.conversion.template import load_template
from revrec_pipeline.imports import archives, reading
from revrec_pipeline.imports.refusals import FileRefusedError
from revrec_pipeline.imports.run import import_file
from revrec_pipeline.lake import Lake
from revrec_pipeline.ledger import open_ledger
from revrec_pipeline.settings import Settings

BILLING = {
    "Product Code": "P1",
    "Customer ID": "C1",
    "Billing Date": "2026-01-31",
    "Invoice Number": "I1",
    "Amount": "100.00",
}
HEADER, CELLS = ",".join(BILLING), ",".join(BILLING.values())


def refused(tmp_path: Path, file: Path) -> str:
    """Import a file that must be refused, and see that lake and ledger are as they were."""
    ledger = open_ledger(f"duckdb:///{tmp_path / 'ledger.duckdb'}")
    lake = Lake(tmp_path / "lake")
    with pytest.raises(FileRefusedError) as why:
        import_file(ledger, lake, Settings(), file, job_name="x", who="ada", trigger="test")
    left = [path for path in lake.root.rglob("*") if path.is_file()]
    with ledger.transaction() as tx:
        assert (left, tx.rows("SELECT id FROM job"), tx.rows("SELECT * FROM imported_file")) == (
            [], [], [],
        )  # fmt: skip
    ledger.close()
    assert "\n" not in str(why.value)
    return str(why.value)


def archive(tmp_path: Path, members: Mapping[str, str | bytes]) -> Path:
    file = tmp_path / "book.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as container:
        for name, content in members.items():
            container.writestr(name, content)
    return file


def workbook(
    tmp_path: Path, change: Callable[[Any], None] = lambda _: None, name: str = "book.xlsx"
) -> Path:
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "BillingSchedule"
    sheet.append(list(BILLING))
    sheet.append(list(BILLING.values()))
    change(sheet)
    book.save(tmp_path / name)
    return tmp_path / name


def with_member(file: Path, name: str, content: bytes) -> Path:
    with zipfile.ZipFile(file, "a") as container:
        container.writestr(name, content)
    return file


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    file = archive(tmp_path, {"BillingSchedule.csv": b"0" * (64 << 20)})
    assert "far more than it is (a zip bomb" in refused(tmp_path, file)


def test_two_gigabytes_of_blanks_are_refused_by_what_they_pack_to(tmp_path: Path) -> None:
    file = tmp_path / "book.zip"
    with (
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as container,
        container.open("BillingSchedule.csv", "w") as member,
    ):
        for _ in range(256):
            member.write(b"\n" * (1 << 20))
    assert "blanks without end" in refused(tmp_path, file)


def test_a_member_reads_no_further_than_it_says(tmp_path: Path) -> None:
    """A bomb that lies of its size: the directory says 10 bytes."""
    file = archive(tmp_path, {"BillingSchedule.csv": f"{HEADER}\n{CELLS}\n" * 1000})
    content = bytearray(file.read_bytes())
    at = content.rindex(b"PK\x01\x02")
    content[at + 24 : at + 28] = struct.pack("<L", 10)
    file.write_bytes(bytes(content))
    message = refused(tmp_path, file)
    assert "damaged" in message or "column" in message


@pytest.mark.parametrize("name", ["../BillingSchedule.csv", "/etc/BillingSchedule.csv", "C:/x.csv"])
def test_a_member_that_points_outside_is_refused(tmp_path: Path, name: str) -> None:
    assert "points outside of it" in refused(tmp_path, archive(tmp_path, {name: HEADER}))


def test_a_link_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "book.zip"
    with zipfile.ZipFile(file, "w") as container:
        member = zipfile.ZipInfo("BillingSchedule.csv")
        member.external_attr = 0o120777 << 16
        container.writestr(member, "/etc/passwd")
    assert "is a link to another file" in refused(tmp_path, file)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    file = archive(tmp_path, {"BillingSchedule.csv": f"{HEADER}\n{CELLS}\n"})
    with_member(file, "BillingSchedule.csv", b"other")
    assert "two members called 'BillingSchedule.csv'" in refused(tmp_path, file)


@pytest.mark.parametrize(
    ("member", "message"),
    [
        ("xl/vbaProject.bin", "holds macros"),
        ("xl/macrosheets/sheet1.xml", "holds macros"),
        ("xl/externalLinks/externalLink1.xml", "links to other workbooks"),
        ("xl/connections.xml", "is connected to a database"),
        ("xl/embeddings/object.bin", "has other files embedded"),
    ],
)
def test_what_is_no_value_is_refused(tmp_path: Path, member: str, message: str) -> None:
    assert message in refused(tmp_path, with_member(workbook(tmp_path), member, b"x"))


def test_a_part_that_a_reader_would_hold_whole_is_refused_when_it_is_huge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "_MAX_PART", 1 << 10)
    file = with_member(workbook(tmp_path), "xl/media/image.bin", b"x" * 2_000)
    assert "part xl/" in refused(tmp_path, file)


def test_a_formula_is_refused_and_its_cell_named(tmp_path: Path) -> None:
    def change(sheet: Any) -> None:
        sheet["E2"] = "=50+50"

    message = refused(tmp_path, workbook(tmp_path, change))
    assert "sheet BillingSchedule, cell E2 holds a formula; paste the value instead" in message


def test_merged_cells_are_refused(tmp_path: Path) -> None:
    file = workbook(tmp_path, lambda sheet: sheet.merge_cells("A3:B3"))
    assert "has merged cells" in refused(tmp_path, file)


def test_a_sheet_formatted_down_to_its_end_is_refused(tmp_path: Path) -> None:
    def change(sheet: Any) -> None:
        sheet.cell(row=1_000_000, column=1, value="x")

    message = refused(tmp_path, workbook(tmp_path, change))
    assert "has more than 10,000 blank rows before row 10,003; delete them" in message


def test_an_entity_bomb_in_a_workbook_is_refused(tmp_path: Path) -> None:
    good = workbook(tmp_path)
    file = tmp_path / "bomb.xlsx"
    lol = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10 if n else "lol"}">' for n in range(9))
    with zipfile.ZipFile(good) as old, zipfile.ZipFile(file, "w") as new:
        for member in old.infolist():
            content = old.read(member)
            if member.filename == "xl/workbook.xml":
                content = f"<!DOCTYPE x [{lol}]><workbook>&l8;</workbook>".encode()
            new.writestr(member.filename, content)
    assert "is no workbook that can be read" in refused(tmp_path, file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"{HEADER}\n{CELLS}é\n".encode("latin-1"), "is not UTF-8"),
        (f"{HEADER}\n{CELLS}\n".encode("utf-16"), "is not UTF-8"),
        (f"{HEADER}\n{CELLS}\0\n".encode(), "has a NUL"),
        (f'{HEADER}\n"{CELLS}\n'.encode(), "near row"),
        (f"{HEADER}\n{CELLS},more\n".encode(), "row 2 has a cell without a header"),
    ],
)
def test_csv_that_cannot_be_read_for_certain_is_refused(
    tmp_path: Path, content: bytes, message: str
) -> None:
    assert message in refused(tmp_path, archive(tmp_path, {"BillingSchedule.csv": content}))


@pytest.mark.parametrize("name", ["book.xlsm", "book.xls", "book.csv", "book.pdf"])
def test_other_kinds_of_files_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    assert "neither .xlsx nor .zip" in refused(tmp_path, tmp_path / name)


def test_a_workbook_with_a_password_is_refused(tmp_path: Path) -> None:
    (tmp_path / "book.xlsx").write_bytes(archives._OLE + b"\0" * 500)
    assert "has a password" in refused(tmp_path, tmp_path / "book.xlsx")


def test_half_a_file_is_refused(tmp_path: Path) -> None:
    file = workbook(tmp_path)
    file.write_bytes(file.read_bytes()[:2000])
    assert "it is damaged" in refused(tmp_path, file)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("billingschedule.csv", "IN_SHEET_NAME_CASE: sheet 'billingschedule.csv' must be called "
         "'BillingSchedule.csv' (docs/errors/IN_SHEET_NAME_CASE.md)"),
        ("Billing Schedule.csv", "must be called 'BillingSchedule.csv'"),
        ("BillingSchedule.CSV", "must be called 'BillingSchedule.csv'"),
        ("BillingSchedul.csv", "IN_UNKNOWN_SHEET: sheet 'BillingSchedul' is not in the template; "
         "should it be 'BillingSchedule'?"),
        ("Notes.csv", "known are OrderDetails, BillingSchedule, Expense"),
        ("book/BillingSchedule.csv", "is no CSV file named after a sheet"),
    ],
)  # fmt: skip
def test_sheet_names_match_exactly(tmp_path: Path, name: str, message: str) -> None:
    assert message in refused(tmp_path, archive(tmp_path, {name: f"{HEADER}\n{CELLS}\n"}))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (HEADER.replace("Customer ID", "customer id"), "'customer id' must be called 'Customer"),
        (HEADER.replace("Customer ID", "Costumer ID"), "'Costumer ID' must be called 'Customer"),
        (HEADER.replace("Customer ID", "Colour"), "column 'Colour' is not in the template; custom "
         "fields stand after all of its columns (the last is 'Sync Source')"),
        (f"{HEADER},Amount", "columns 'Amount' and 'Amount' are the same"),
        (f"{HEADER},Account ID", "columns 'Customer ID' and 'Account ID' are the same"),
        (HEADER.replace("Amount", ""), "the required columns Amount are missing"),
        (f"Order Number,,{HEADER}", "column 2 has cells and no header"),
    ],
)  # fmt: skip
def test_column_names_match_exactly(tmp_path: Path, header: str, message: str) -> None:
    shown = refused(tmp_path, archive(tmp_path, {"BillingSchedule.csv": f"{header}\n{CELLS}\n"}))
    assert message in shown
    assert "IN_UNKNOWN_COLUMN: sheet BillingSchedule: " in shown


def test_a_row_that_nothing_tells_apart_is_named(tmp_path: Path) -> None:
    content = f"{HEADER}\n{CELLS}\n{CELLS.replace('I1', ' ')}\n"
    message = refused(tmp_path, archive(tmp_path, {"BillingSchedule.csv": content}))
    assert "sheet BillingSchedule, row 3, column 'Invoice Number' is empty" in message


def test_a_tax_of_no_billing_line_is_named(tmp_path: Path) -> None:
    tax = "Order Number,Order Item Number,Invoice Number,Tax Amount\nO1,1,I9,19.00\n"
    file = archive(tmp_path, {"BillingSchedule.csv": f"{HEADER}\n{CELLS}\n", "Tax.csv": tax})
    assert "sheet Tax, row 2 belongs to no line of BillingSchedule" in refused(tmp_path, file)


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    file = archive(tmp_path, {"BillingSchedule.csv": f"{HEADER}\n"})
    assert "it holds no rows" in refused(tmp_path, file)


def test_aliases_are_read_from_the_template(tmp_path: Path) -> None:
    header = HEADER.replace("Customer ID", "Account ID")
    file = archive(tmp_path, {"BillingSchedule.csv": f"{header}\n{CELLS}\n"})
    found = reading.read(file, load_template(), tmp_path)
    assert [name for name, _ in found["BillingSchedule"].columns] == list(BILLING)


def test_a_million_rows_of_one_kind_are_no_bomb() -> None:
    """What compresses best of what is real stays below the limit."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as container:
        container.writestr(
            "BillingSchedule.csv",
            "".join(f"P1,C1,2026-01-31,INV-{n:07},100.00\n" for n in range(1_000_000)),
        )
        assert archives._problem(container) is None
