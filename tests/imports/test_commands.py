"""The commands `import`, `order`, `delivery`, `customer` …, in processes of their own."""

import os
import pty
import subprocess
import zipfile
from collections.abc import Sequence
from pathlib import Path

from command_line import REVREC, SETTINGS, Home

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


def typed(home: Home, *arguments: str, answers: Sequence[tuple[str, str]]) -> str:
    """What a command prints on a real terminal where somebody answers its questions.

    Each answer is given when its question has been asked.
    """
    mine, its = pty.openpty()
    process = subprocess.Popen(
        [REVREC, *arguments],
        cwd=home.folder,
        env=home.environment,
        stdin=its,
        stdout=its,
        stderr=its,
        start_new_session=True,
    )
    os.close(its)
    shown, waiting = "", list(answers)
    seen = 0
    while True:
        try:
            part = os.read(mine, 4096)
        except OSError:  # Linux says so when the last process has closed its side
            part = b""
        if not part:
            break
        shown += part.decode(errors="replace")
        while waiting and (at := shown.find(f"{waiting[0][0]}: ", seen)) >= 0:
            question, answer = waiting.pop(0)
            seen = at + len(question)
            os.write(mine, f"{answer}\n".encode())
    os.close(mine)
    assert process.wait(timeout=60) == 0, shown
    assert waiting == []
    return shown


def test_on_a_terminal_an_order_is_asked_for_and_a_wrong_answer_asked_again(tmp_path: Path) -> None:
    home = home_of(tmp_path).with_env(REVREC_USER="ada")
    shown = typed(
        home,
        *("order", "add", "--customer-id", "C1", "--customer-name", "Acme", "--list-price", "50"),
        answers=[
            ("Order Number", "O1"),
            ("Order Item Number", "1"),
            ("Product Code", "P1"),
            ("Order Start Date", "5.1.2026"),
            ("Order Start Date", "2026-01-05"),
            ("Service Start Date", "2026-01-05"),
            ("Service End Date", "2026-12-31"),
            ("Quantity", "two"),
            ("Quantity", "2"),
            ("Unit Price", "50"),
            ("Currency", "USD"),
        ],
    )
    assert "Error: Order Start Date '5.1.2026' is no date; write it like 2026-01-31" in shown
    assert "Error: Quantity 'two' is no number; write it like -1234.50" in shown
    assert "order O1 (by hand, ada)" in shown
    (job,) = home.json("jobs")
    assert (job["source"], job["record_type"], job["status"]) == ("manual", "sales", "delivered")
    assert job["amounts"] == {"USD": {**job["amounts"]["USD"], "delivered": "100.00"}}
    # The order that was typed is what the next delivery counts against.
    shown = typed(
        home,
        *("delivery", "add", "--customer-id", "C1"),
        answers=[
            ("Product Code", "P1"),
            ("Delivery Date", "2026-02-01"),
            ("Units Delivered", "1,5"),
            ("Units Delivered", "2.5"),
            ("Reference Number", "R1"),
        ],
    )
    assert "Error: Units Delivered '1,5' is no number" in shown
    assert "delivery R1 (by hand, ada)" in shown
    assert [
        (row["document_id"], row["order_number"], row["units"])
        for row in home.json("delivery", "list")
    ] == [("R1", "O1", "2"), ("R1", None, "0.5")]
    assert "is 0.5 more than was left of the 2 that were sold" in home.run("errors").stdout


def test_customers_and_products_are_entered_with_flags_and_changed(tmp_path: Path) -> None:
    home = home_of(tmp_path)
    assert home.refuses("customer", "add", "--account-id", "C1") == "give --customer-name"
    assert home.refuses("product", "edit", "P1") == (
        "nothing to change; name a cell, like --product-name"
    )
    home.run("customer", "add", "--account-id", "C1", "--customer-name", "Acme")
    home.run("customer", "edit", "C1", "--tier", "gold")
    home.run("conversion-file", "2", "--to", str(tmp_path / "customer.zip"))
    with zipfile.ZipFile(tmp_path / "customer.zip") as members:
        (_, line) = members.read("Customer.csv").decode().splitlines()
    assert line == "C1,Acme,,,,,gold,manual"
    shown = home.run("trace", "C1").stdout
    assert "customers" in shown
    assert "customer C1 (by hand" in shown
