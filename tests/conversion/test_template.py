"""The template file is data, and a wrong one is refused by name when it is read."""

from pathlib import Path

import pytest

from revrec_pipeline.conversion import load_template
from revrec_pipeline.conversion.template import TEMPLATE
from revrec_pipeline.errors import SettingsError
from revrec_pipeline.model import CANONICAL, REFERENCES, RecordType


def test_the_sheets_are_those_of_the_import_template_in_order() -> None:
    assert [sheet.name for sheet in load_template().sheets] == [
        "OrderDetails",
        "BillingSchedule",
        "Expense",
        "Tax",
        "ProfessionalServicesDelivery",
        "Customer",
        "Product",
    ]


def test_billing_schedule_has_the_headers_of_the_published_example_in_order() -> None:
    sheet = load_template().sheet_of(RecordType.INVOICES)
    assert [column.header for column in sheet.columns[:7]] == [
        "Order Number",
        "Contract Date",
        "Product Code",
        "Customer ID",
        "Billing Date",
        "Invoice Number",
        "Amount",
    ]
    assert {column.grade for column in sheet.columns[:7]} == {"A-"}


def test_the_ids_of_all_line_sheets_are_text() -> None:
    for record_type in set(CANONICAL) - set(REFERENCES):
        columns = {c.header: c.type for c in load_template().sheet_of(record_type).columns}
        assert {columns["Order Number"], columns["Product Code"]} == {"id"}
        assert columns.get("Customer ID", "id") == "id"


def test_a_header_is_corrected_in_the_file_alone(tmp_path: Path) -> None:
    file = edited(tmp_path, "header: Account Owner,", "header: Sales Rep,")
    headers = [column.header for column in load_template(file).sheets[0].columns]
    assert "Sales Rep" in headers
    assert "Account Owner" not in headers


@pytest.mark.parametrize(
    ("text", "wrong", "message"),
    [
        (
            "canonical: order_name",
            "canonical: order_nam",
            "sheet 'OrderDetails': column 'Order Name': 'order_nam' is no canonical column of "
            "sales",
        ),
        (
            "header: Order Name,",
            "header: customer id,",
            "sheet 'OrderDetails': two columns are called 'customer id'",
        ),
        (
            "aliases: [Sales Person]",
            "aliases: [Currency]",
            "sheet 'OrderDetails': two columns are called 'Currency'",
        ),
        (
            "name: ProfessionalServicesDelivery",
            "name: ProfessionalServicesDeliveryInHours",
            "sheet 'ProfessionalServicesDeliveryInHours': a sheet's name has 1 to 31 characters, "
            "this one 35",
        ),
        ("name: Tax\n", "name: Tax/VAT\n", "sheet 'Tax/VAT': a sheet's name cannot hold '/'"),
        ("name: Tax\n", "name: expense\n", "sheet 'expense': there are two sheets of this name"),
        (
            "header: Amount, type: money, required: true, grade: A-",
            "header: Amount, type: date, required: true, grade: A-",
            "sheet 'BillingSchedule': column 'Amount': 'amount' is decimal128(18, 4), "
            "which is no date",
        ),
        (
            "    rows: deliveries\n",
            "",
            "sheet 'ProfessionalServicesDelivery': column 'Customer ID': 'customer_id' is no "
            "canonical column of a sheet without rows",
        ),
        ("header: Description, type: text", "header: '', type: text", "a column has no header"),
        ("rows: invoices", "rows: expenses", "Invalid enum value 'expenses'"),
        ("    rows: invoices\n", "", "sheet 'BillingSchedule': column 'Order Number'"),
        ("grade: A-, canonical", "grade: E, canonical", "Invalid enum value 'E'"),
        ("header: Amount, type", "heading: Amount, type", "unknown field `heading`"),
        ("sheets:", "sheets: [", "expected"),
    ],
)
def test_a_wrong_template_is_refused_by_name(
    tmp_path: Path, text: str, wrong: str, message: str
) -> None:
    file = edited(tmp_path, text, wrong)
    with pytest.raises(SettingsError) as refused:
        load_template(file)
    assert str(refused.value).startswith("corrected.yaml: ")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_template_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^gone\.yaml cannot be read: No such file"):
        load_template(tmp_path / "gone.yaml")


def edited(folder: Path, text: str, replacement: str) -> Path:
    """The package's template with one place changed."""
    original = TEMPLATE.read_text(encoding="utf-8")
    assert text in original
    file = folder / "corrected.yaml"
    file.write_text(original.replace(text, replacement, 1), encoding="utf-8")
    return file
