"""An import is a job like any other: checked, routed, adding to what came before."""

import subprocess
import sys
import zipfile
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from batches import Books
from batches import ledger as ledger
from batches import ledger_url as ledger_url
from canonical_rows import billing_line, order_line

from revrec_pipeline.errors import LedgerBusyError
from revrec_pipeline.imports.folder import take_files
from revrec_pipeline.imports.refusals import FileRefusedError
from revrec_pipeline.imports.run import Imported, import_file
from revrec_pipeline.lake import Lake
from revrec_pipeline.ledger import Ledger, imports, jobs, sync_errors
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
    assert sorted((each.file, Path(each.moved_to).parent.name) for each in taken) == [
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
    other = archive(
        tmp_path / "2.zip",
        {"BillingSchedule.csv": content.replace("stripe", "xero").replace("USD,\n", "USD,sap\n")},
    )
    assert take(books, other).job_ids


def test_a_conversion_file_without_its_column_sync_source_is_refused_where_it_was_loaded(
    books: Books, tmp_path: Path
) -> None:
    order = order_line("006A", "1", order_number="SO-1", order_item_number="1")
    books.delivered({"2026-01": [order]}, Route.LIVE)
    row = "C1,Ada Ltd,SO-1,{item},P1,2026-01-05,2026-01-05,2026-12-31,1,100,100\n"
    same = archive(tmp_path / "1.zip", {"OrderDetails.csv": ORDERS + row.format(item=1)})
    with pytest.raises(FileRefusedError, match=r"row 2: SO-1 was loaded live from salesforce, so"):
        take(books, same)
    more = archive(tmp_path / "2.zip", {"OrderDetails.csv": ORDERS + row.format(item=2)})
    assert take(books, more).job_ids


def test_a_sync_after_its_file_was_imported_takes_the_files_lines_over(
    books: Books, tmp_path: Path
) -> None:
    """Whoever imports a conversion file and then syncs live must not have each invoice twice."""
    header = BILLING.replace("Currency", "Currency,Sync Source")
    content = f"{header}P1,C1,2026-01-05,A-in_1,7,USD,stripe\nP1,C1,2026-01-05,X-9,5,USD,xero\n"
    take(books, archive(tmp_path / "1.zip", {"BillingSchedule.csv": content}))
    assert [row[0] for row in books.loaded()] == ["stripe:A-in_1", "xero:X-9"]
    _, done = books.delivered({"2026-01": [billing_line("in_1"), billing_line("in_2")]}, Route.LIVE)
    assert done.taken_over == 1
    assert [row[0] for row in books.loaded()] == ["in_1", "in_2", "xero:X-9"]
    # Nor do they come back with the next file, which has the month built once more.
    other = f"{header}P1,C1,2026-01-05,X-10,5,USD,xero\n"
    take(books, archive(tmp_path / "2.zip", {"BillingSchedule.csv": other}))
    assert [row[0] for row in books.loaded()] == ["in_1", "in_2", "xero:X-10", "xero:X-9"]


IMPORTS = """
import sys
from pathlib import Path

from revrec_pipeline.errors import LedgerBusyError
from revrec_pipeline.imports.run import import_file
from revrec_pipeline.lake import Lake
from revrec_pipeline.ledger import open_ledger
from revrec_pipeline.settings import Settings

url, lake, file = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
ledger = open_ledger(url)
print("ready", flush=True)
sys.stdin.readline()
try:
    found = import_file(
        ledger, Lake(lake), Settings(), file, job_name="b", who="ada", trigger="test"
    )
except LedgerBusyError as busy:
    print("busy" if "is being imported by ada" in str(busy) else busy)
else:
    print("earlier" if found.earlier else "imported")
"""


def test_two_processes_that_import_one_file_at_once_make_one_job(
    books: Books, ledger_url: str, tmp_path: Path
) -> None:
    file = archive(
        tmp_path / "1.zip", {"BillingSchedule.csv": f"{BILLING}P1,C1,2026-01-05,I1,100,USD\n"}
    )
    two = [
        subprocess.Popen(
            [sys.executable, "-c", IMPORTS, ledger_url, str(books.lake), str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for each in two:
        assert each.stdout
        assert each.stdout.readline() == "ready\n"
    for each in two:
        assert each.stdin
        each.stdin.write("\n")
        each.stdin.flush()
    said = sorted(each.communicate()[0].strip() for each in two)
    assert said in (["busy", "imported"], ["earlier", "imported"])
    with books.ledger.transaction() as tx:
        assert len(jobs.jobs(tx)) == 1
        assert tx.rows("SELECT * FROM import_claim") == []


def test_a_killed_import_keeps_its_content_for_as_long_as_its_claim(books: Books) -> None:
    mine = {"sha256": "a", "source": "file", "who": "ada", "seconds": 60.0}
    start = datetime(2026, 1, 1, tzinfo=UTC)
    with books.ledger.transaction() as tx:
        imports.claim(tx, sync_key="killed", at=start, **mine)
        imports.claim(tx, sync_key="killed", at=start, **mine)
        imports.claim(tx, sync_key="other", at=start, **(mine | {"sha256": "b"}))
        with pytest.raises(
            LedgerBusyError, match=r"being imported by ada; .* after 2026-01-01T00:01"
        ):
            imports.claim(tx, sync_key="next", at=start + timedelta(seconds=59), **mine)
        imports.claim(tx, sync_key="next", at=start + timedelta(seconds=61), **mine)


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
