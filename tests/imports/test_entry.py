"""Entries by hand: checked like everything else, and no version is ever overwritten."""

import zipfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from batches import Books
from conversion_files import read_archive

from revrec_pipeline.errors import UsageError
from revrec_pipeline.export import export
from revrec_pipeline.imports import entry
from revrec_pipeline.imports.run import Imported, import_file
from revrec_pipeline.lake import Lake
from revrec_pipeline.ledger import imports, open_ledger
from revrec_pipeline.model import RecordType, Route
from revrec_pipeline.settings import Settings

LINE = {
    "Customer ID": "C1",
    "Customer Name": "Acme",
    "Order Number": "O1",
    "Order Item Number": "1",
    "Product Code": "P1",
    "Order Start Date": "2026-01-05",
    "Service Start Date": "2026-01-05",
    "Service End Date": "2026-12-31",
    "Quantity": "2",
    "List Price": "60",
    "Unit Price": "50",
    "Currency": "USD",
    "Order Name": "=1+1",
}
COST = {
    "Reference Number": "R1",
    "Expense Code": "COMMISSION",
    "Expense Date": "2026-01-31",
    "Amount": "-7.5",
}


@pytest.fixture
def books(tmp_path: Path) -> Books:
    made = Books(open_ledger(f"duckdb:///{tmp_path / 'ledger.duckdb'}"), tmp_path / "lake")
    made.set_period()
    return made


def add(books: Books, kind: RecordType, cells: dict[str, str], who: str = "ada") -> Imported:
    return routed(
        books, entry.add(books.ledger, Lake(books.lake), Settings(), kind, cells, who=who)
    )


def edit(books: Books, item: str, changes: dict[str, str], who: str = "bob") -> Imported:
    return routed(
        books,
        entry.edit(
            books.ledger,
            Lake(books.lake),
            Settings(),
            RecordType.SALES,
            "O1",
            changes,
            item=item,
            who=who,
        ),
    )


def routed(books: Books, imported: Imported) -> Imported:
    for job in imported.job_ids.values():
        books.deliver(job, Route.LIVE)
    return imported


def test_lines_are_added_to_an_order_and_an_edit_changes_one_of_them(books: Books) -> None:
    add(books, RecordType.SALES, LINE)
    add(books, RecordType.SALES, LINE | {"Order Item Number": "2", "Unit Price": "1.25"})
    assert books.loaded("order_line") == [("O1", "1", Decimal(100)), ("O1", "2", Decimal("2.5"))]
    edit(books, "2", {"Quantity": "3", "Order Name": ""})
    assert books.loaded("order_line") == [("O1", "1", Decimal(100)), ("O1", "2", Decimal("3.75"))]
    with books.ledger.transaction() as tx:
        names = tx.rows("SELECT order_name FROM order_line ORDER BY line_id")
    assert [row["order_name"] for row in names] == ["=1+1", None]


def test_an_edit_keeps_every_version_with_who_made_it(books: Books) -> None:
    first = add(books, RecordType.SALES, LINE)
    second = edit(books, "1", {"Quantity": "3"})
    assert len(Lake(books.lake).landings("manual")) == 2
    with books.ledger.transaction() as tx:
        originals = [
            imports.original_of(tx, job)
            for each in (first, second)
            for job in each.job_ids.values()
        ]
    assert [each and each["who"] for each in originals] == ["ada", "bob"]
    assert all(each and (books.lake / each["path"]).is_file() for each in originals)
    assert len({each["sha256"] for each in originals if each}) == 2


def test_an_order_whose_month_changes_leaves_the_old_one(books: Books) -> None:
    add(books, RecordType.SALES, LINE)
    edit(books, "1", {"Order Start Date": "2026-02-01"})
    assert books.documents() == {"O1": ("2026-02", "live")}
    assert books.loaded("order_line") == [("O1", "1", Decimal(100))]


def test_a_cost_is_entered_once(books: Books) -> None:
    add(books, RecordType.COMMISSIONS, COST)
    with pytest.raises(UsageError, match="Reference Number R1 was entered before"):
        add(books, RecordType.COMMISSIONS, COST)
    assert books.loaded("expense_line") == [("R1", "1", Decimal("-7.5"))]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Quantity": "1,5"}, "Quantity '1,5' is no number; write it like -1234.50"),
        ({"Unit Price": "NaN"}, "Unit Price 'NaN' is no number"),
        ({"Order Start Date": "5.1.2026"}, "Order Start Date '5.1.2026' is no date"),
        ({"Order Start Date": "20260105"}, "is no date; write it like 2026-01-31"),
    ],
)
def test_what_is_no_date_and_no_number_is_refused_before_anything_is_kept(
    books: Books, changes: dict[str, str], message: str
) -> None:
    with pytest.raises(UsageError) as refused:
        add(books, RecordType.SALES, LINE | changes)
    assert message in str(refused.value)
    assert Lake(books.lake).landings("manual") == []


@pytest.mark.parametrize(
    ("do", "message"),
    [
        (lambda books: add(books, RecordType.SALES, LINE), "revrec order edit O1 1"),
        (lambda books: edit(books, "9", {"Quantity": "1"}), "order O1 has no line 9"),
    ],
)
def test_a_line_is_added_once_and_edited_only_if_it_is_there(
    books: Books, do: Any, message: str
) -> None:
    add(books, RecordType.SALES, LINE)
    with pytest.raises(UsageError, match=message):
        do(books)


DELIVERY = {
    "Customer ID": "C1",
    "Product Code": "P1",
    "Delivery Date": "2026-01-20",
    "Units Delivered": "2.5",
    "Reference Number": "R1",
}


def change(
    books: Books, kind: RecordType, key: str, changes: dict[str, str], who: str = "bob"
) -> Imported:
    lake = Lake(books.lake)
    return routed(books, entry.edit(books.ledger, lake, Settings(), kind, key, changes, who=who))


def test_a_delivery_is_entered_once_and_edited(books: Books) -> None:
    add(books, RecordType.DELIVERIES, DELIVERY)
    with pytest.raises(UsageError, match=r"R1 is known already; .*`revrec delivery edit R1`"):
        add(books, RecordType.DELIVERIES, DELIVERY)
    change(books, RecordType.DELIVERIES, "R1", {"Units Delivered": "3", "Order Number": "O1"})
    with books.ledger.transaction() as tx:
        found = tx.rows(
            "SELECT document_id, order_number, units_delivered, source FROM delivery_line"
        )
    assert [tuple(row.values()) for row in found] == [("R1", "O1", Decimal(3), "manual")]
    assert len(Lake(books.lake).landings("manual")) == 2


def test_a_customer_that_a_file_brought_is_edited_with_all_that_the_file_said(
    books: Books, tmp_path: Path
) -> None:
    file = tmp_path / "customers.zip"
    with zipfile.ZipFile(file, "w") as container:
        container.writestr(
            "Customer.csv",
            "Account ID,Customer Name,Customer Address,Customer Phone,State,Customer Type,Tier,"
            "Sync Source,Region\nC1,Acme,,+1 555,,,gold,file,EMEA\n",
        )
    routed(
        books,
        import_file(
            books.ledger,
            Lake(books.lake),
            Settings(),
            file,
            job_name="bulk",
            who="ada",
            trigger="test",
        ),
    )
    with pytest.raises(UsageError, match="Account ID C1 is known already"):
        add(books, RecordType.CUSTOMERS, {"Account ID": "C1", "Customer Name": "Acme"})
    change(books, RecordType.CUSTOMERS, "C1", {"Tier": "", "Customer Name": "Acme Ltd"})
    (exported,) = export(books.ledger, tmp_path / "ledger.zip")
    assert read_archive(exported)["Customer"][1:] == [
        ["C1", "Acme Ltd", "", "+1 555", "", "", "", "manual", "EMEA"]
    ]
    with books.ledger.transaction() as tx:
        kept = tx.rows("SELECT source, customer_name, tier FROM customer ORDER BY source")
    assert [tuple(row.values()) for row in kept] == [
        ("file", "Acme", "gold"),
        ("manual", "Acme Ltd", None),
    ]


def test_a_product_is_entered_edited_and_only_if_it_is_there(books: Books) -> None:
    cells = {"Product Code": "P1", "Product Name": "Platform", "Price": "5.25"}
    add(books, RecordType.PRODUCTS, cells)
    change(books, RecordType.PRODUCTS, "P1", {"Term": "12", "Is Recurring": "true"})
    with books.ledger.transaction() as tx:
        found = tx.rows("SELECT product_code, price, term, is_recurring FROM product")
    assert [tuple(row.values()) for row in found] == [
        ("P1", Decimal("5.25"), Decimal(12), "true"),
    ]
    with pytest.raises(UsageError, match="product P2 was not entered here; enter it with `revrec"):
        change(books, RecordType.PRODUCTS, "P2", {"Term": "12"})
    with pytest.raises(UsageError, match="Is Recurring 'yes' is neither true nor false"):
        change(books, RecordType.PRODUCTS, "P1", {"Is Recurring": "yes"})
