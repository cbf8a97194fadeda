"""An import is a job like any other: checked, routed, adding to what came before."""

import zipfile
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from batches import Books
from batches import ledger as ledger
from batches import ledger_url as ledger_url
from canonical_rows import billing_line

from revrec_pipeline.imports.folder import take_files
from revrec_pipeline.imports.refusals import FileRefusedError
from revrec_pipeline.imports.run import Imported, import_file
from revrec_pipeline.lake import Lake
from revrec_pipeline.ledger import Ledger, imports, sync_errors
from revrec_pipeline.model import Route
from revrec_pipeline.settings import Settings

BILLING = "Product Code,Customer ID,Billing Date,Invoice Number,Amount,Currency\n"
ORDERS = (
    "Customer ID,Customer Name,Order Number,Order Item Number,Product Code,Order Start Date,"
    "Service Start Date,Service End Date,Quantity,Unit Price,List Price\n"
)


@pytest.fixture
def books(ledger: Ledger, tmp_path: Path) -> Books:
    made = Books(ledger, tmp_path / "lake")
    made.set_period()
    return made


def archive(file: Path, members: Mapping[str, str]) -> Path:
    with zipfile.ZipFile(file, "w") as container:
        for name, content in members.items():
            container.writestr(name, content)
    return file


def take(books: Books, file: Path, **how: Any) -> Imported:
    found = import_file(
        books.ledger,
        Lake(books.lake),
        Settings(),
        file,
        **{"job_name": "bulk", "who": "ada", "trigger": "test", **how},
    )
    for job in found.job_ids.values():
        books.deliver(job, Route.LIVE)
    return found


def errors(books: Books) -> list[tuple[str, str, str, str]]:
    with books.ledger.transaction() as tx:
        return [
            (error["owner"], error["code"], error["field"], error["message"])
            for error in sync_errors.list_errors(tx)
        ]


def test_a_second_file_adds_and_replaces_documents_and_removes_none(
    books: Books, tmp_path: Path
) -> None:
    take(
        books,
        archive(
            tmp_path / "1.zip",
            {
                "BillingSchedule.csv": f"{BILLING}P1,C1,2026-01-05,I1,100,USD\n"
                "P1,C1,2026-01-06,I2,20,USD\nP2,C1,2026-01-06,I2,5,USD\n"
            },
        ),
    )
    take(
        books,
        archive(
            tmp_path / "2.zip",
            {
                "BillingSchedule.csv": f"{BILLING}P1,C1,2026-02-06,I2,21,USD\n"
                "P1,C1,2026-01-07,I3,7,USD\n"
            },
        ),
    )
    assert books.loaded() == [
        ("I1", "1", Decimal(100)),
        ("I2", "1", Decimal(21)),
        ("I3", "1", Decimal(7)),
    ]
    assert books.documents() == {
        "I1": ("2026-01", "live"),
        "I2": ("2026-02", "live"),
        "I3": ("2026-01", "live"),
    }


def test_the_same_content_under_another_name_changes_nothing_and_says_who_brought_it(
    books: Books, tmp_path: Path
) -> None:
    rows = {"BillingSchedule.csv": f"{BILLING}P1,C1,2026-01-05,I1,100,USD\n"}
    first = take(books, archive(tmp_path / "1.zip", rows))
    (tmp_path / "2.zip").write_bytes((tmp_path / "1.zip").read_bytes())
    second = take(books, tmp_path / "2.zip", who="bob")
    assert second.job_ids == {}
    assert second.earlier is not None
    assert (second.earlier["name"], second.earlier["who"]) == ("1.zip", "ada")
    assert second.earlier["job_ids"] == list(first.job_ids.values())
    assert take(books, tmp_path / "2.zip", again=True).job_ids


def test_the_original_is_kept_as_it_came(books: Books, tmp_path: Path) -> None:
    rows = {"BillingSchedule.csv": f"{BILLING}P1,C1,2026-01-05,I1,100,USD\n"}
    (job,) = take(books, archive(tmp_path / "january.zip", rows)).job_ids.values()
    with books.ledger.transaction() as tx:
        original = imports.original_of(tx, job)
    assert original is not None
    assert (original["name"], original["who"]) == ("january.zip", "ada")
    kept = books.lake / original["path"]
    assert kept.read_bytes() == (tmp_path / "january.zip").read_bytes()


def test_errors_belong_to_the_file_and_name_sheet_row_and_column(
    books: Books, tmp_path: Path
) -> None:
    content = (
        f"{BILLING}P1,C1,31.01.2026,I1,100,USD\nP1,C1,2026-02-30,I2,100,USD\n"
        'P1,C1,2026-01-31,I3,"1,200.00",USD\nP1,C1,2026-01-31,I4,1.234567,USD\n'
        "P1,C1,2026-01-31,I5,10.5,JPY\nP1,C1,2026-01-31,I6,10.5,\n,C1,2026-01-31,I7,1,USD\n"
        "P1,C1,2026-01-31,I8,1,USD\n"
    )
    take(books, archive(tmp_path / "1.zip", {"BillingSchedule.csv": content}))
    held = [error for error in errors(books) if error[1] != "IN_UNKNOWN_CUSTOMER"]
    assert held == [
        ("file", "IN_BAD_DATE", "Billing Date", "Billing Date '31.01.2026' is no date (YYYY-MM-DD) "
         "(sheet BillingSchedule, row 2, I1)"),
        ("file", "IN_BAD_DATE", "Billing Date", "Billing Date '2026-02-30' is no date (YYYY-MM-DD) "
         "(sheet BillingSchedule, row 3, I2)"),
        ("file", "IN_BAD_NUMBER", "Amount", "Amount '1,200.00' is no number that fits (digits and "
         "a decimal point, no separators) (sheet BillingSchedule, row 4, I3)"),
        ("file", "IN_BAD_NUMBER", "Amount", "Amount '1.234567' is no number that fits (digits and "
         "a decimal point, no separators) (sheet BillingSchedule, row 5, I4)"),
        ("file", "IN_BAD_NUMBER", "Amount", "Amount does not fit quantity, unit price and currency "
         "(sheet BillingSchedule, row 6, I5)"),
        ("file", "IN_CURRENCY_MISSING", "Currency", "Currency is missing (sheet BillingSchedule, "
         "row 7, I6)"),
        ("file", "IN_MISSING_REQUIRED", "Product Code", "Product Code is missing (sheet "
         "BillingSchedule, row 8, I7)"),
    ]  # fmt: skip
    assert books.loaded() == [("I8", "1", Decimal(1))]


def test_a_mended_file_resolves_its_errors(books: Books, tmp_path: Path) -> None:
    bad = f"{BILLING},C1,2026-01-31,I1,100,USD\n"
    take(books, archive(tmp_path / "1.zip", {"BillingSchedule.csv": bad}))
    assert next(error[1] for error in errors(books)) == "IN_MISSING_REQUIRED"
    good = bad.replace("\n,", "\nP1,")
    take(books, archive(tmp_path / "2.zip", {"BillingSchedule.csv": good}))
    assert [error[1] for error in errors(books)] == ["IN_UNKNOWN_CUSTOMER"]
    assert books.loaded() == [("I1", "1", Decimal(100))]


def test_excels_dates_numbers_and_ids_mean_what_the_sheet_shows(
    books: Books, tmp_path: Path
) -> None:
    from datetime import date, datetime

    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "BillingSchedule"
    sheet.append(BILLING.strip().split(","))
    sheet.append([42, "0042", date(2026, 1, 31), "I1", 0.1, "USD"])
    sheet.append(["P1", 7.0, datetime(2026, 2, 1), "I2", 0.1 + 0.2, "USD"])  # noqa: DTZ001
    sheet.append(["P1", "NA", 46082, "I3", "-12.50", "USD"])  # the serial of 2026-03-01
    book.save(tmp_path / "excel.xlsx")
    take(books, tmp_path / "excel.xlsx")
    with books.ledger.transaction() as tx:
        rows = tx.rows(
            "SELECT product_code, customer_id, billing_date, amount FROM billing_line "
            "ORDER BY document_id"
        )
    assert [tuple(row.values()) for row in rows] == [
        ("42", "0042", date(2026, 1, 31), Decimal("0.1")),
        ("P1", "7", date(2026, 2, 1), Decimal("0.3")),
        ("P1", "NA", date(2026, 3, 1), Decimal("-12.5")),
    ]


def test_sheets_of_one_file_become_one_job_each_and_lines_of_an_order_stay_together(
    books: Books, tmp_path: Path
) -> None:
    orders = (
        f"{ORDERS}C1,Acme,O1,1,P1,2026-01-31,2026-01-31,2026-12-31,2,50,50\n"
        "C1,Acme,O2,1,P1,2026-02-01,2026-02-01,2026-12-31,1,1,1\n"
        "C1,Acme,O1,2,P2,2026-02-01,2026-02-01,2026-12-31,-1,10,10\n"
    )
    expenses = "Reference Number,Expense Code,Expense Date,Amount\nR1,COMMISSION,2026-01-31,-7.5\n"
    found = take(
        books, archive(tmp_path / "1.zip", {"OrderDetails.csv": orders, "Expense.csv": expenses})
    )
    assert [str(kind) for kind in found.job_ids] == ["sales", "commissions"]
    assert books.loaded("order_line") == [
        ("O1", "1", Decimal(100)),
        ("O1", "2", Decimal(-10)),
        ("O2", "1", Decimal(1)),
    ]
    assert books.loaded("expense_line") == [("R1", "1", Decimal("-7.5"))]
    assert books.documents()["O1"] == ("2026-01", "live")


def test_a_folder_is_taken_once_by_content_and_tidied_with_reports(
    books: Books, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    rows = {"BillingSchedule.csv": f"{BILLING}P1,C1,2026-01-05,I1,100,USD\n"}
    archive(folder / "good.zip", rows)
    (folder / "twin.zip").write_bytes((folder / "good.zip").read_bytes())
    archive(folder / "bad.zip", {"Notes.csv": "a\n1\n"})
    (folder / ".hidden.zip").write_bytes(b"")
    lake = Lake(books.lake)
    soon = (folder / "bad.zip").stat().st_mtime + 30
    assert list(take_files(books.ledger, lake, Settings(), folder, now=soon)) == []
    later = soon + 60
    taken = list(take_files(books.ledger, lake, Settings(), folder, now=later))
    assert sorted((each.file, each.moved_to.parent.name) for each in taken) == [
        ("bad.zip", "rejected"),
        ("good.zip", "done"),
        ("twin.zip", "done"),
    ]
    assert sum(len(each.job_ids) for each in taken) == 1
    assert sorted(file.name for file in folder.iterdir()) == [".hidden.zip", "done", "rejected"]
    (report,) = (folder / "rejected").glob("*.txt")
    assert "IN_UNKNOWN_SHEET" in report.read_text(encoding="utf-8")


def test_what_a_system_loaded_live_is_refused_so_that_nothing_counts_twice(
    books: Books, tmp_path: Path
) -> None:
    books.delivered({"2026-01": [billing_line("in_1"), billing_line("in_2")]}, Route.LIVE)
    header = BILLING.replace("Currency", "Currency,Sync Source")
    content = f"{header}P1,C1,2026-01-05,A-in_1,1,USD,stripe\nP1,C1,2026-01-05,A-in_1,1,USD,\n"
    file = archive(tmp_path / "1.zip", {"BillingSchedule.csv": content})
    with pytest.raises(FileRefusedError) as refused:
        take(books, file)
    assert "IN_DUP_KEY: sheet BillingSchedule, row 2: A-in_1 was loaded live from stripe" in str(
        refused.value
    )
    assert not list(Lake(books.lake).landings("file"))
    other = archive(tmp_path / "2.zip", {"BillingSchedule.csv": content.replace("stripe", "xero")})
    assert take(books, other).job_ids


def test_what_a_person_lets_through_goes_out_with_the_next_import(
    books: Books, tmp_path: Path
) -> None:
    no_currency = f"{BILLING}P1,C1,2026-01-05,I1,100,\n"
    take(books, archive(tmp_path / "1.zip", {"BillingSchedule.csv": no_currency}))
    with books.ledger.transaction() as tx:
        (error,) = [
            error for error in sync_errors.list_errors(tx) if error["code"] == "IN_CURRENCY_MISSING"
        ]
        sync_errors.ignore(tx, error["id"], "all in dollars", who="ada")
    later = f"{BILLING}P1,C1,2026-02-05,I2,1,USD\n"
    take(books, archive(tmp_path / "2.zip", {"BillingSchedule.csv": later}))
    assert books.loaded() == [("I1", "1", Decimal(100)), ("I2", "1", Decimal(1))]
