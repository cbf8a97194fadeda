"""The commands `import`, `order` and `expense`, in processes of their own."""

import zipfile
from pathlib import Path

from command_line import SETTINGS, Home

ROWS = (
    "Product Code,Customer ID,Billing Date,Invoice Number,Amount,Currency\n"
    "P1,C1,2026-01-05,I1,100,USD\n,C1,2026-01-06,I2,5,USD\n"
)
ORDER = [
    *("--order-number", "O1", "--order-item-number", "1", "--customer-id", "C1"),
    *("--customer-name", "Acme", "--product-code", "P1", "--order-start-date", "2026-01-05"),
    *("--service-start-date", "2026-01-05", "--service-end-date", "2026-12-31"),
    *("--quantity", "2", "--unit-price", "50", "--list-price", "50", "--currency", "USD"),
]


def home_of(folder: Path) -> Home:
    made = Home(folder)
    made.configure(SETTINGS)
    return made


def archive(file: Path, content: str = ROWS) -> Path:
    with zipfile.ZipFile(file, "w") as container:
        container.writestr("BillingSchedule.csv", content)
    return file


def test_an_imported_file_is_a_job_with_its_original_and_the_second_time_is_told(
    tmp_path: Path,
) -> None:
    home = home_of(tmp_path).with_env(REVREC_USER="ada")
    file = archive(tmp_path / "january.zip")
    done = home.run("import", str(file), "--job-name", "January")
    assert "1 row flagged; `revrec errors` names sheet, row, column." in done.stdout
    shown = home.run("job", "1").stdout
    assert "Job 1: January" in shown
    assert "Original input, by ada at " in shown
    assert "Product Code is missing (sheet BillingSchedule, row 3, I2)" in home.run("errors").stdout
    again = home.run("import", str(file)).stdout
    assert again.startswith("Nothing to do: this content was imported as january.zip by ada at ")
    assert "(job 1). --again takes it again." in again


def test_a_refused_file_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    home = home_of(tmp_path)
    file = archive(tmp_path / "bad.zip", ROWS.replace("Amount", "amount"))
    assert home.refuses("import", str(file)) == (
        "bad.zip was not imported: IN_UNKNOWN_COLUMN: sheet BillingSchedule: column "
        "'amount' must be called 'Amount' (docs/errors/IN_UNKNOWN_COLUMN.md)"
    )


def test_an_order_is_entered_with_flags_and_what_is_missing_is_named(tmp_path: Path) -> None:
    home = home_of(tmp_path)
    assert home.refuses("order", "add", *ORDER[:-2]) == "give --currency"
    home.run("order", "add", *ORDER)
    home.run("order", "edit", "O1", "1", "--quantity", "3")
    home.run("conversion-file", "2", "--to", str(tmp_path / "order.zip"))
    with zipfile.ZipFile(tmp_path / "order.zip") as members:
        (_, line) = members.read("OrderDetails.csv").decode().splitlines()
    assert line.startswith("C1,Acme,O1,1,P1,2026-01-05,2026-01-05,2026-12-31,3,50,50,")
    assert line.split(",")[20] == "manual"
