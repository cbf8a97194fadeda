"""Deliveries, customers and products from files: checked, kept, and used by other rows."""

import json
import zipfile
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from batches import Books
from batches import ledger as ledger
from batches import ledger_url as ledger_url
from canonical_rows import order_line

from revrec_pipeline import between
from revrec_pipeline.imports.refusals import FileRefusedError
from revrec_pipeline.imports.run import Imported, import_file
from revrec_pipeline.lake import Lake
from revrec_pipeline.ledger import Ledger, assignments, cursors, open_ledger, sync_errors
from revrec_pipeline.model import Route
from revrec_pipeline.settings import Settings

DELIVERIES = "Customer ID,Order Number,Product Code,Delivery Date,Units Delivered,Reference Number"
BILLING = "Product Code,Customer ID,Billing Date,Invoice Number,Amount,Currency"
ORDERS = (
    "Customer ID,Customer Name,Order Number,Order Item Number,Product Code,Order Start Date,"
    "Service Start Date,Service End Date,Quantity,Unit Price,List Price"
)
CUSTOMERS = "Account ID,Customer Name,Customer Phone,Tier"
PRODUCTS = "Product Code,Product Name,Product Family,List Price,Product Type,Term,Price,Currency"


@pytest.fixture
def books(tmp_path: Path) -> Books:
    made = Books(open_ledger(f"duckdb:///{tmp_path / 'ledger.duckdb'}"), tmp_path / "lake")
    made.set_period()
    return made


@pytest.fixture
def both(ledger: Ledger, tmp_path: Path) -> Books:
    """On a DuckDB file, and on PostgreSQL."""
    made = Books(ledger, tmp_path / "lake")
    made.set_period()
    return made


def take(books: Books, sheets: Mapping[str, str], route: Route = Route.LIVE) -> Imported:
    """Import these sheets, deliver what came of them, and compare it between systems."""
    file = books.lake.parent / "file.zip"
    with zipfile.ZipFile(file, "w") as container:
        for name, content in sheets.items():
            container.writestr(f"{name}.csv", content)
    found = import_file(
        books.ledger,
        Lake(books.lake),
        Settings(),
        file,
        job_name="bulk",
        who="ada",
        trigger="test",
    )
    for job in found.job_ids.values():
        books.deliver(job, route)
        between.record(books.ledger, Lake(books.lake), [], job)
    return found


def errors(books: Books) -> list[tuple[str, str]]:
    with books.ledger.transaction() as tx:
        return [(error["code"], error["message"]) for error in sync_errors.list_errors(tx)]


def codes(books: Books) -> list[str]:
    return [code for code, _ in errors(books)]


def rows(books: Books, sql: str) -> list[tuple[Any, ...]]:
    with books.ledger.transaction() as tx:
        return [tuple(row.values()) for row in tx.rows(sql)]


def log(*lines: str) -> dict[str, str]:
    return {"ProfessionalServicesDelivery": "\n".join([DELIVERIES, *lines])}


def loaded(books: Books) -> list[tuple[Any, ...]]:
    return rows(
        books,
        "SELECT document_id, line_id, units_delivered FROM delivery_line "
        "WHERE removed_at IS NULL ORDER BY document_id, line_id",
    )


def counted(books: Books) -> list[tuple[str, str, str]]:
    return [
        (row["document_id"], row["order_number"] or "none", row["units"])
        for row in between.deliveries(books.ledger, Lake(books.lake))
    ]


# -- deliveries ----------------------------------------------------------------------------------


def test_deliveries_are_loaded_and_assigned_to_a_systems_orders(books: Books) -> None:
    orders = [
        order_line("006A", order_start_date=date(2026, 1, 1), quantity=Decimal(2)),
        order_line("006B", order_start_date=date(2026, 1, 2), quantity=Decimal(2)),
    ]
    books.delivered({"2026-01": orders}, Route.LIVE)
    take(books, log("001A,,0042,2026-01-20,3,R1", "001A,006B,0042,2026-02-03,2.5,R2"))
    assert loaded(books) == [("R1", "1", Decimal(3)), ("R2", "1", Decimal("2.5"))]
    assert counted(books) == [
        ("R1", "006A", "2"),
        ("R1", "006B", "1"),
        ("R2", "006B", "1"),
        ("R2", "none", "1.5"),
    ]
    assert [error for error in errors(books) if error[0].startswith("SYNC_DEL")] == [
        (
            "SYNC_DELIVERED_NE_SOLD",
            "delivery R2 of 2.5 units on 2026-02-03 is 1.5 more than was left of the 2 that were "
            "sold (order 006B; customer 001A, product 0042)",
        )
    ]


def test_a_late_order_takes_the_units_and_the_finding_is_gone_with_its_job_as_the_proof(
    books: Books,
) -> None:
    take(books, log("001A,,0042,2026-01-20,3,R1"))
    assert codes(books) == ["SYNC_UNMATCHED_DELIVERY"]
    assert counted(books) == [("R1", "none", "3")]
    job, _ = books.delivered({"2026-01": [order_line("006A", quantity=Decimal(5))]}, Route.LIVE)
    between.record(books.ledger, Lake(books.lake), [], job)
    assert counted(books) == [("R1", "006A", "3")]
    assert "SYNC_UNMATCHED_DELIVERY" not in codes(books)
    resolved = rows(
        books, "SELECT resolved_job_id FROM sync_error WHERE code = 'SYNC_UNMATCHED_DELIVERY'"
    )
    assert resolved == [(job,)]


def test_an_assignment_that_no_longer_holds_is_kept_and_the_same_one_is_not_written_again(
    both: Books,
) -> None:
    first, _ = both.delivered({"2026-01": [order_line("006B", quantity=Decimal(5))]}, Route.LIVE)
    take(both, log("001A,,0042,2026-01-20,3,R1"))
    take(both, log("001A,,0042,2026-01-20,3,R1", "001A,,0042,2026-01-21,1,R2"))
    older = order_line("006A", order_start_date=date(2026, 1, 1), quantity=Decimal(3))
    job, _ = both.delivered(
        {"2026-01": [older, order_line("006B", quantity=Decimal(5))]}, Route.LIVE
    )
    between.record(both.ledger, Lake(both.lake), [], job)
    assert first < job
    found = rows(
        both,
        "SELECT document_id, order_id, units, removed_at IS NULL FROM delivery_assignment "
        "ORDER BY id",
    )
    assert found == [
        ("R1", "006B", Decimal(3), False),
        ("R2", "006B", Decimal(1), True),
        ("R1", "006A", Decimal(3), True),
    ]
    with both.ledger.transaction() as tx:
        assert [row["job_id"] for row in assignments.active(tx) if row["document_id"] == "R1"] == [
            job
        ]


def test_the_same_delivery_in_another_file_changes_nothing(books: Books) -> None:
    take(books, log("001A,,0042,2026-01-20,3,R1", "001A,,0042,2026-01-20,2,"))
    again = take(books, log("001A,,0042,2026-01-20,3.0,R1", "", "001A,,0042,2026-01-20,2,"))
    (job,) = again.job_ids.values()
    assert books.job(job)["status"] == "unchanged"
    assert loaded(books) == [("001A/0042/2026-01-20", "1", Decimal(2)), ("R1", "1", Decimal(3))]


def test_without_a_reference_the_day_of_a_customer_is_replaced_whole(books: Books) -> None:
    take(books, log("001A,,0042,2026-01-20,3,", "001A,,0042,2026-01-20,2,", "001A,,0042,46043,1,"))
    take(books, log("001A,,0042,2026-01-20,7,", "001A,006A,0042,2026-01-20,1,"))
    assert loaded(books) == [
        ("001A/0042/2026-01-20", "1", Decimal(7)),
        ("001A/0042/2026-01-21", "1", Decimal(1)),
        ("001A/006A/0042/2026-01-20", "1", Decimal(1)),
    ]


def test_rows_that_say_too_little_are_held_back_and_name_sheet_row_and_column(
    books: Books,
) -> None:
    take(
        books,
        log(
            "001A,,0042,2026-01-20,three,R1",
            "001A,,,2026-01-20,3,R2",
            "001A,,0042,2026-01-20,3,R3",
            "001A,,0042,2026-01-21,3,R3",
            "00 1A,,0042,2026-01-20,3,R4",
        ),
    )
    assert loaded(books) == []
    sheet = "(sheet ProfessionalServicesDelivery, row"
    assert errors(books) == [
        ("IN_BAD_NUMBER", "Units Delivered 'three' is no number that fits (digits and a decimal "
         f"point, no separators) {sheet} 2, R1)"),
        ("IN_MISSING_REQUIRED", f"Product Code is missing {sheet} 3, R2)"),
        ("IN_DUP_KEY", f"Reference Number stands more than once {sheet} 4, R3)"),
        ("IN_DUP_KEY", f"Reference Number stands more than once {sheet} 5, R3)"),
        ("IN_BAD_ID_CHARS", "Customer ID has characters other than letters, digits, - _ : and . "
         f"{sheet} 6, R4)"),
    ]  # fmt: skip


def test_each_row_of_a_job_of_deliveries_is_accounted_for(books: Books) -> None:
    (job,) = take(
        books, log("001A,,0042,2026-01-20,3,R1", "001A,,,2026-01-20,3,R2")
    ).job_ids.values()
    shown = books.job(job)
    assert (shown["record_type"], shown["status"]) == ("deliveries", "delivered")
    assert shown["counts"] == {
        "source": 2, "delivered": 1, "unchanged": 0, "flagged": 1, "excluded": 0,
    }  # fmt: skip
    assert list(shown["amounts"]) == ["XXX"]


# -- customers and products ----------------------------------------------------------------------


def test_an_unknown_customer_is_a_warning_and_a_known_one_is_not(both: Books) -> None:
    billing = {"BillingSchedule": f"{BILLING}\nP1,C1,2026-01-05,I1,100,USD\n"}
    take(both, billing)
    assert errors(both) == [
        (
            "IN_UNKNOWN_CUSTOMER",
            "Customer Name is missing; the customer's id is used as its name (sheet "
            "BillingSchedule, row 2, I1)",
        )
    ]
    assert both.loaded() == [("I1", "1", Decimal(100))]
    found = take(both, {"Customer": f"{CUSTOMERS}\nC1,Acme,+1 555,gold\n"})
    # The months that were warned of are built again with it.
    assert [str(kind) for kind in found.job_ids] == ["invoices", "customers"]
    assert errors(both) == []
    assert rows(both, "SELECT customer_name FROM billing_line") == [("Acme",)]
    take(both, {"BillingSchedule": f"{BILLING}\nP1,C1,2026-02-05,I2,100,USD\n"})
    assert errors(both) == []
    assert rows(both, "SELECT DISTINCT customer_name FROM billing_line") == [("Acme",)]


def test_what_a_row_says_itself_counts_before_a_record(books: Books) -> None:
    order = "C1,Acme of old,O1,1,P1,2026-01-05,2026-01-05,2026-06-30,1,50,55"
    take(
        books,
        {
            "OrderDetails": f"{ORDERS}\n{order}\n",
            "Customer": f"{CUSTOMERS}\nC1,Acme,,\n",
            "Product": f"{PRODUCTS}\nP1,Platform,Suites,60,recurring,12,60,USD\n",
        },
    )
    assert rows(
        books, "SELECT customer_name, list_price, service_end_date, product_name FROM order_line"
    ) == [("Acme of old", Decimal(55), date(2026, 6, 30), "Platform")]


def test_a_products_term_and_list_price_complete_an_order_line(books: Books) -> None:
    order = "C1,Acme,O1,1,P1,2026-01-05,2026-01-05,,1,50,"
    take(books, {"OrderDetails": f"{ORDERS}\n{order}\n"})
    assert codes(books) == ["IN_MISSING_SERVICE_DATES", "PR_MISSING_SSP"]
    assert books.loaded("order_line") == []
    take(books, {"Product": f"{PRODUCTS}\nP1,Platform,Suites,60,recurring,12,60,USD\n"})
    assert codes(books) == []
    assert rows(
        books,
        "SELECT service_end_date, list_price, product_name, product_family, product_type "
        "FROM order_line",
    ) == [(date(2027, 1, 4), Decimal(60), "Platform", "Suites", "recurring")]


def test_a_list_price_in_another_currency_is_not_taken(books: Books) -> None:
    order = "C1,Acme,O1,1,P1,2026-01-05,2026-01-05,2026-12-31,1,50,"
    take(
        books,
        {
            "OrderDetails": f"{ORDERS}\n{order}\n",
            "Product": f"{PRODUCTS}\nP1,Platform,Suites,60,recurring,12,60,EUR\n",
        },
    )
    assert codes(books) == ["PR_MISSING_SSP"]


def test_months_of_systems_wait_for_their_next_sync(books: Books) -> None:
    job = books.synced({"2026-01": [order_line("006A", customer_name=None)]})
    with books.ledger.transaction() as tx:
        tx.execute(
            """
            INSERT INTO sync_error (fingerprint, job_id, stage, code, severity, owner, source,
                record_type, period, message, status, first_seen, last_seen)
            VALUES ('1', :job, 'input', 'IN_UNKNOWN_CUSTOMER', 'warning', 'source', 'salesforce',
                'sales', '2026-01', 'x', 'open', now(), now())
            """,
            job=job,
        )
    take(books, {"Product": f"{PRODUCTS}\nP1,Platform,,,,,60,\n"})
    with books.ledger.transaction() as tx:
        assert cursors.pending_periods(tx, "salesforce") == []
    take(books, {"Customer": f"{CUSTOMERS}\n001A,Acme,,\n"})
    with books.ledger.transaction() as tx:
        assert cursors.pending_periods(tx, "salesforce") == ["2026-01"]


def test_customers_and_products_are_loaded_with_all_that_their_sheets_say(both: Books) -> None:
    take(
        both,
        {
            "Customer": f"{CUSTOMERS}\nC1,Acme,+1 555,gold\n007,NA,,\n",
            "Product": f"{PRODUCTS}\nP1,Platform,Suites,60,recurring,12,5.25,USD\n",
        },
    )
    assert rows(
        both,
        "SELECT customer_id, customer_name, customer_phone, tier, source, period FROM customer "
        "ORDER BY 1",
    ) == [
        ("007", "NA", None, None, "file", "2024-01"),
        ("C1", "Acme", "+1 555", "gold", "file", "2024-01"),
    ]
    assert rows(both, "SELECT product_code, price, term FROM product") == [
        ("P1", Decimal("5.25"), Decimal(12))
    ]


def test_a_customer_that_comes_again_is_changed_and_all_others_stay(books: Books) -> None:
    take(books, {"Customer": f"{CUSTOMERS}\nC1,Acme,+1 555,gold\nC2,Bolt,,\n"})
    (job,) = take(books, {"Customer": f"{CUSTOMERS}\nC1,Acme Ltd,,\n"}).job_ids.values()
    assert books.job(job)["counts"]["delivered"] == 1
    assert rows(books, "SELECT customer_name, tier FROM customer ORDER BY customer_id") == [
        ("Acme Ltd", None),
        ("Bolt", None),
    ]
    assert len(Lake(books.lake).landings("file")) == 2


def test_a_customer_that_stands_twice_or_has_no_name_is_held_back(books: Books) -> None:
    take(books, {"Customer": f"{CUSTOMERS}\nC1,Acme,,\nC1,Acme,,\nC2,,,\n"})
    assert errors(books) == [
        ("IN_DUP_KEY", "Account ID stands more than once (sheet Customer, row 2, C1)"),
        ("IN_DUP_KEY", "Account ID stands more than once (sheet Customer, row 3, C1)"),
        ("IN_MISSING_REQUIRED", "Customer Name is missing (sheet Customer, row 4, C2)"),
    ]
    assert rows(books, "SELECT * FROM customer") == []


def test_a_file_of_taxes_alone_is_refused(books: Books) -> None:
    with pytest.raises(FileRefusedError, match="nothing but rows of Tax; a tax is imported with"):
        take(books, {"Tax": "Order Number,Order Item Number,Tax Amount\nO1,1,5\n"})


def test_files_of_before_there_were_these_sheets_are_still_built(books: Books) -> None:
    billing = f"{BILLING}\nP1,C1,2026-01-05,I1,100,USD\n"
    take(books, {"BillingSchedule": billing})
    (landing,) = Lake(books.lake).landings("file")
    folder = books.lake / landing.folder
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    for object_ in ("professional_services_delivery", "customer", "product"):
        (folder / f"{object_}.parquet").unlink()
        del manifest["objects"][object_]
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    take(books, {"BillingSchedule": billing.replace("I1,100", "I2,7")})
    take(books, {"Customer": f"{CUSTOMERS}\nC1,Acme,,\n"})
    assert books.loaded() == [("I1", "1", Decimal(100)), ("I2", "1", Decimal(7))]
    assert codes(books) == []
