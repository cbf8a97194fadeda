"""What stands in a conversion file, in both formats."""

import zipfile
from datetime import date
from decimal import Decimal
from hashlib import sha256
from pathlib import Path

import pytest
from canonical_rows import billing_line, order_line
from conversion_files import Cells, column, read_archive, read_workbook, write

from revrec_pipeline.conversion import load_template
from revrec_pipeline.conversion.template import TEMPLATE
from revrec_pipeline.errors import LakeError, SettingsError, UsageError

GOLDEN = Path(__file__).parent / "golden"
SALES = [
    order_line(
        "006B",
        "00kB1",
        customer_id="001B",
        customer_name="Bäckerei Süß & Söhne GmbH",
        order_name='=HYPERLINK("x")',
        quantity=Decimal("1.5"),
        list_price=None,
        unit_price=Decimal("0.015"),
        amount=Decimal("0.02"),
        currency="KWD",
        custom_fields=[("Region", "EMEA"), ("Product Type", "recurring")],
    ),
    order_line("006A", "00kA2", product_code="NA", service_end_date=None, unit_price=Decimal(-5)),
    order_line("006A", "00kA1", custom_fields=[("Region", "")]),
]
INVOICES = [
    billing_line("in_2", "il_9", period="2026-02", billing_date=date(2026, 2, 1)),
    billing_line(
        "cn_1",
        "cnli_1",
        document_type="credit_note",
        invoice_number="CN-0001",
        amount=Decimal("-12345678901.25"),
    ),
    billing_line("in_1", "il_1", amount=Decimal(5000), currency="JPY", order_number="006A"),
]


def test_the_same_rows_give_the_same_bytes_on_every_machine(tmp_path: Path) -> None:
    workbook, archive = write(tmp_path, ["job.xlsx", "job.zip"], sales=SALES, invoices=INVOICES)
    with zipfile.ZipFile(archive) as members:
        for name in members.namelist():
            assert members.read(name).decode() == (GOLDEN / name).read_text(encoding="utf-8")
    found = "".join(
        f"{sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in (archive, workbook)
    )
    assert found == (GOLDEN / "sha256").read_text(encoding="utf-8")


def test_the_order_in_which_rows_come_changes_nothing(tmp_path: Path) -> None:
    first = write(tmp_path / "1", ["job.xlsx", "job.zip"], sales=SALES, invoices=INVOICES)
    second = write(
        tmp_path / "2", ["job.xlsx", "job.zip"], sales=SALES[::-1], invoices=INVOICES[::-1]
    )
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in second]


def test_members_of_both_formats_carry_no_date_of_their_own(tmp_path: Path) -> None:
    for file in write(tmp_path, ["job.xlsx", "job.zip"], sales=SALES):
        with zipfile.ZipFile(file) as members:
            assert {member.date_time for member in members.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    with zipfile.ZipFile(tmp_path / "job.xlsx") as members:
        properties = members.read("docProps/core.xml").decode()
    assert properties.count(">1980-01-01T00:00:00Z<") == 2


def test_both_formats_carry_the_same_rows(tmp_path: Path) -> None:
    workbook, archive = written(tmp_path, sales=SALES, invoices=INVOICES)
    assert list(workbook) == list(archive)
    for name, rows in archive.items():
        assert [[as_text(cell) for cell in row] for row in workbook[name]] == rows


def test_every_sheet_is_there_and_an_empty_one_has_its_header(tmp_path: Path) -> None:
    workbook, archive = written(tmp_path, invoices=INVOICES)
    names = [sheet.name for sheet in load_template().sheets]
    assert list(workbook) == list(archive) == names
    assert {name: len(rows) - 1 for name, rows in workbook.items()} == {
        "OrderDetails": 0,
        "BillingSchedule": 3,
        "Expense": 0,
        "Tax": 0,
        "ProfessionalServicesDelivery": 0,
        "Customer": 1,
        "Product": 1,
    }
    for sheet in load_template().sheets:
        assert workbook[sheet.name][0] == [column.header for column in sheet.columns]


def test_a_file_without_rows_has_all_headers(tmp_path: Path) -> None:
    workbook, archive = written(tmp_path)
    assert {len(rows) for rows in workbook.values()} == {1}
    assert workbook == archive


def test_a_header_corrected_in_the_template_appears_in_the_file(tmp_path: Path) -> None:
    text = TEMPLATE.read_text(encoding="utf-8").replace("{header: Order Name,", "{header: Title,")
    (tmp_path / "own.yaml").write_text(text, encoding="utf-8")
    template = load_template(tmp_path / "own.yaml")
    (file,) = write(tmp_path, ["a.xlsx"], sales=SALES[2:], template=template)
    assert column(read_workbook(file), "OrderDetails", "Title") == ["Acme renewal"]


def test_rows_are_ordered_by_month_document_and_line(tmp_path: Path) -> None:
    rows = [
        billing_line("in_3", "il_2", period="2026-02"),
        billing_line("in_3", "il_1", period="2026-02"),
        billing_line("in_9", "il_3"),
        billing_line("in_10", "il_4"),
    ]
    workbook, _ = written(tmp_path, invoices=rows)
    assert column(workbook, "BillingSchedule", "Invoice Number") == [
        "A-in_10",
        "A-in_9",
        "A-in_3",
        "A-in_3",
    ]


def test_ids_keep_their_leading_zeros_and_the_product_code_na_stays_text(tmp_path: Path) -> None:
    workbook, archive = written(tmp_path, sales=SALES)
    assert column(workbook, "OrderDetails", "Product Code") == ["0042", "NA", "0042"]
    assert column(archive, "OrderDetails", "Product Code") == ["0042", "NA", "0042"]


def test_dates_are_text_like_2026_01_15_and_a_missing_one_is_empty(tmp_path: Path) -> None:
    workbook, _ = written(tmp_path, sales=SALES)
    assert column(workbook, "OrderDetails", "Order Start Date") == ["2026-01-15"] * 3
    assert column(workbook, "OrderDetails", "Service End Date") == [
        "2027-01-14",
        None,
        "2027-01-14",
    ]


def test_amounts_are_numbers_and_credit_notes_are_negative(tmp_path: Path) -> None:
    workbook, archive = written(tmp_path, invoices=INVOICES)
    assert column(workbook, "BillingSchedule", "Amount") == [-12345678901.25, 5000, 100]
    assert column(archive, "BillingSchedule", "Amount") == ["-12345678901.25", "5000", "100"]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "=HYPERLINK(1)", "'x"])
def test_text_that_looks_like_a_formula_stays_text(tmp_path: Path, text: str) -> None:
    workbook, _ = written(tmp_path, sales=[order_line(order_name=text)])
    assert column(workbook, "OrderDetails", "Order Name") == [text]
    with zipfile.ZipFile(tmp_path / "file.xlsx") as members:
        assert b"<f>" not in members.read("xl/worksheets/sheet1.xml")


def test_custom_fields_become_sorted_columns_at_the_end(tmp_path: Path) -> None:
    workbook, archive = written(tmp_path, sales=SALES, invoices=INVOICES)
    assert workbook["OrderDetails"][0][-2:] == ["Product Type", "Region"]
    assert [row[-2:] for row in workbook["OrderDetails"][1:]] == [
        [None, None],
        [None, None],
        ["recurring", "EMEA"],
    ]
    assert archive["OrderDetails"][3][-2:] == ["recurring", "EMEA"]
    assert workbook["BillingSchedule"][0][-1] == "Sync Source"


def test_a_custom_field_with_the_name_of_a_template_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        SettingsError, match=r"^custom field 'quantity' .* column of sheet OrderDetails;"
    ):
        write(tmp_path, ["a.zip"], sales=[order_line(custom_fields=[("quantity", "1")])])


def test_each_customer_and_product_stands_once_with_its_newest_name(tmp_path: Path) -> None:
    sales = [
        order_line("006A", period="2026-02", customer_name="Acme Corp", product_name="Platform 2"),
        order_line("006Z", period="2026-01", customer_name="Acme", product_name="Platform"),
        order_line("006C", customer_id=None, customer_name="Nameless Ltd", product_id=None),
    ]
    invoices = [billing_line(customer_id="001A", customer_name="ACME, Inc.", product_id=None)]
    workbook, _ = written(tmp_path, sales=sales, invoices=invoices)
    customers = [(row[0], row[1], row[7]) for row in workbook["Customer"][1:]]
    assert customers == [
        ("001A", "ACME, Inc.", "stripe"),
        ("001A", "Acme Corp", "salesforce"),
        (None, "Nameless Ltd", "salesforce"),
    ]
    products = [(row[0], row[1], row[2], row[7]) for row in workbook["Product"][1:]]
    assert products == [
        ("01tA", "0042", "Platform 2", "recurring"),
        (None, "0042", "Platform", "recurring"),
        (None, "prod_1", "Platform, monthly", None),
    ]


def test_a_number_that_a_double_would_alter_makes_its_column_text(tmp_path: Path) -> None:
    exact, altered = Decimal("333.333333333333"), Decimal("98765.432109876543")
    assert Decimal(str(float(exact))) == exact
    assert Decimal(str(float(altered))) != altered
    sales = [order_line("006A", unit_price=exact), order_line("006B", unit_price=altered)]
    workbook, archive = written(tmp_path, sales=sales)
    texts = ["333.333333333333", "98765.432109876543"]
    assert column(workbook, "OrderDetails", "Unit Price") == texts
    assert column(archive, "OrderDetails", "Unit Price") == texts
    assert column(workbook, "OrderDetails", "Quantity") == [2, 2]


def test_control_characters_go_and_line_ends_become_line_feeds_in_both_formats(
    tmp_path: Path,
) -> None:
    dirty = "a\x00b\x0bc\x1fd\ufffee\r\nf\rg\th"
    workbook, archive = written(tmp_path, sales=[order_line(order_name=dirty)])
    assert column(workbook, "OrderDetails", "Order Name") == ["abcde\nf\ng\th"]
    assert column(archive, "OrderDetails", "Order Name") == ["abcde\nf\ng\th"]


def test_the_longest_text_of_a_cell_is_written_whole(tmp_path: Path) -> None:
    text = "x" * 32_765 + "😀"  # the last one counts as two
    workbook, archive = written(tmp_path, sales=[order_line(order_name=text)])
    assert column(workbook, "OrderDetails", "Order Name") == [text]
    assert column(archive, "OrderDetails", "Order Name") == [text]


@pytest.mark.parametrize("text", ["x" * 32_768, "x" * 32_766 + "😀", "😀" * 16_384])
def test_a_longer_text_is_refused_with_its_place(tmp_path: Path, text: str) -> None:
    sales = [order_line("006A"), order_line("006B", order_name=text)]
    with pytest.raises(LakeError) as refused:
        write(tmp_path, ["a.xlsx"], sales=sales)
    assert str(refused.value) == (
        "sheet OrderDetails, row 3, column Order Name: the text has 32,768 characters and a cell "
        "holds 32,767; shorten it in the source"
    )
    assert not (tmp_path / "a.xlsx").exists()


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^job\.csv: a conversion file is \.xlsx or \.zip$"):
        write(tmp_path, ["job.csv"], sales=SALES)


def test_an_existing_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "file.zip").write_bytes(b"old")
    written(tmp_path, sales=SALES)
    assert len(read_archive(tmp_path / "file.zip")["OrderDetails"]) == 4


def written(folder: Path, **rows: object) -> tuple[Cells, Cells]:
    """The rows as both formats give them back: (workbook, archive)."""
    workbook, archive = write(folder, ["file.xlsx", "file.zip"], **rows)  # type: ignore[arg-type]
    return read_workbook(workbook), read_archive(archive)


def as_text(cell: object) -> str:
    """A workbook's cell as the archive writes it."""
    if cell is None:
        return ""
    if isinstance(cell, float | int):
        return format(Decimal(str(cell)).normalize(), "f")
    return str(cell)
