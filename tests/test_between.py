"""Which order an invoice belongs to, and what does not fit between two systems."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from batches import Books
from batches import ledger as ledger
from batches import ledger_url as ledger_url
from canonical_rows import billing_line, order_line

from revrec_pipeline import between
from revrec_pipeline.errors import SettingsError
from revrec_pipeline.lake import Lake
from revrec_pipeline.ledger import Ledger, open_ledger, sync_errors
from revrec_pipeline.matches import Match, add, read

JANUARY = "2026-01"


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    opened = open_ledger(f"duckdb:///{tmp_path / 'ledger.duckdb'}")
    yield Books(opened, tmp_path / "lake")
    opened.close()


@pytest.fixture
def any_books(ledger: Ledger, tmp_path: Path) -> Books:
    """On both back ends: for what the ledger decides."""
    return Books(ledger, tmp_path / "lake")


def deliver(books: Books, *lines: dict[str, Any]) -> int:
    """Deliver orders and invoices, each record type by a job of its own; the last job."""
    job = 0
    for record_type in sorted({line["record_type"] for line in lines}):
        of_type = [line for line in lines if line["record_type"] == record_type]
        months = {
            month: [line for line in of_type if line["period"] == month]
            for month in sorted({line["period"] for line in of_type})
        }
        job, _ = books.delivered(months)
    return job


def findings(books: Books, *matches: Match, job: int = 1) -> list[tuple[str, str | None, str]]:
    """Code, record and message of all open findings."""
    between.record(books.ledger, Lake(books.lake), matches, job)
    with books.ledger.transaction() as tx:
        found = sync_errors.list_errors(tx)
    return [(row["code"], row["record_id"], row["message"]) for row in found]


def codes(books: Books, *matches: Match) -> list[str]:
    return [code for code, _, _ in findings(books, *matches)]


ORDER = order_line("006A", "00kA1")  # customer 001A, Acme, 1200 USD
NAMED = billing_line("in_1", "il_1", order_number="006A", customer_name="Acme")


def test_an_invoice_that_names_its_order_fits(books: Books) -> None:
    deliver(books, ORDER, NAMED)
    assert findings(books) == []


def test_an_invoice_finds_its_customer_by_id_and_by_exactly_the_same_name(books: Books) -> None:
    deliver(
        books,
        ORDER,
        billing_line("in_1", customer_id="001A", customer_name="Acme"),
        billing_line("in_2", customer_id="cus_9", customer_name="Acme"),
    )
    assert findings(books) == []


def test_names_that_are_only_alike_never_match_and_are_suggested(books: Books) -> None:
    deliver(books, ORDER, billing_line("in_1", customer_name="ACME, Inc."))
    ((code, record, message),) = findings(books)
    assert (code, record) == ("SYNC_UNMATCHED_INVOICE", "in_1")
    assert message == (
        "invoice A-in_1 of customer ACME, Inc. (cus_1) belongs to no order that was delivered; "
        "salesforce has orders of Acme: see `revrec matches`"
    )
    suggested, unmatched = between.unmatched(books.ledger, Lake(books.lake), [])
    assert unmatched == []
    assert suggested == [
        {
            "source": "stripe",
            "customer_id": "cus_1",
            "customer_name": "ACME, Inc.",
            "invoices": 1,
            "amounts": {"USD": "100.00"},
            "order_source": "salesforce",
            "order_customer_id": "001A",
            "order_customer_name": "Acme",
        }
    ]


def test_an_approved_match_is_applied_from_then_on_and_resolves_the_finding(books: Books) -> None:
    deliver(books, ORDER, billing_line("in_1", customer_name="ACME, Inc."))
    assert codes(books) == ["SYNC_UNMATCHED_INVOICE"]
    approved = Match("stripe", "cus_1", "salesforce", "001A")
    assert findings(books, approved, job=7) == []
    with books.ledger.transaction() as tx:
        (error,) = sync_errors.list_errors(tx, include_all=True)
    assert (error["status"], error["resolved_job_id"]) == ("resolved", 7)


def test_an_approved_match_with_a_customer_without_orders_matches_nothing(books: Books) -> None:
    deliver(books, ORDER, billing_line("in_1", customer_name="Other"))
    assert codes(books, Match("stripe", "cus_1", "salesforce", "001Z")) == [
        "SYNC_UNMATCHED_INVOICE"
    ]


def test_without_any_orders_no_invoice_is_unmatched(books: Books) -> None:
    """A company that connects its billing system first is not told of every invoice."""
    deliver(books, billing_line("in_1"))
    assert findings(books) == []


def test_an_order_billed_beyond_its_value_names_order_and_invoices(books: Books) -> None:
    deliver(
        books,
        ORDER,
        {**NAMED, "amount": Decimal("1200.00")},
        billing_line("in_2", "il_2", order_number="006A", customer_name="Acme", amount=Decimal(1)),
    )
    assert findings(books) == [
        (
            "SYNC_BILLING_NE_CONTRACT",
            "006A",
            "order 006A is over 1200 USD and is billed over 1201, by A-in_1, A-in_2",
        )
    ]


def test_a_credit_note_takes_off_what_was_billed(books: Books) -> None:
    deliver(
        books,
        ORDER,
        {**NAMED, "amount": Decimal("1201.00")},
        billing_line("cn_1", "c1", order_number="006A", customer_name="Acme", amount=Decimal(-1)),
    )
    assert findings(books) == []


def test_a_customer_with_two_names_is_one_finding_however_many_invoices_there_are(
    books: Books,
) -> None:
    deliver(
        books,
        ORDER,
        {**NAMED, "customer_name": "Acme Incorporated"},
        billing_line("in_2", order_number="006A", customer_name="Acme Incorporated"),
    )
    assert findings(books) == [
        (
            "SYNC_CUSTOMER_NAME_MISMATCH",
            "cus_1",
            "customer cus_1 is called Acme Incorporated, and Acme in salesforce (001A)",
        )
    ]
    assert codes(books, Match("stripe", "cus_1", "salesforce", "001A")) == []


def test_an_invoice_in_another_currency_than_its_order_is_a_finding(books: Books) -> None:
    deliver(books, ORDER, {**NAMED, "currency": "EUR", "amount": Decimal(5000)})
    assert findings(books) == [
        (
            "SYNC_CURRENCY_MISMATCH",
            "in_1",
            "invoice A-in_1 over 5000 EUR names order 006A, which is in USD",
        )
    ]


def test_a_month_with_orders_and_no_invoices_is_a_finding_until_some_arrive(
    any_books: Books,
) -> None:
    books = any_books
    february = order_line("006B", "00kB1", period="2026-02")
    job = deliver(books, ORDER, february, NAMED)
    assert findings(books) == [
        ("SYNC_NO_INVOICES", None, "2026-02 has 1 order of salesforce and no invoice of any system")
    ]
    deliver(books, {**NAMED, "document_id": "in_3", "line_id": "x", "period": "2026-02"})
    assert findings(books, job=job + 1) == []


def test_only_what_was_delivered_is_compared(books: Books) -> None:
    """An excluded order is none, and a document that is gone matches nothing any more."""
    lost = order_line("006C", "00kC1", customer_name="Lost", excluded_by="not_closed_won")
    deliver(books, ORDER, lost, NAMED, billing_line("in_2", "il_2", customer_name="Lost"))
    assert [record for _, record, _ in findings(books)] == ["in_2"]
    books.delivered({JANUARY: [NAMED]})
    assert findings(books) == []


def test_a_delivery_that_ended_meanwhile_is_compared_too(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sources are delivered side by side; the slower comparison must not undo the newer one."""
    deliver(books, ORDER)
    opened = between._matched
    calls: list[int] = []

    def meanwhile(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            deliver(books, billing_line("in_1", customer_name="Other"))
        return opened(*arguments)

    monkeypatch.setattr(between, "_matched", meanwhile)
    assert codes(books) == ["SYNC_UNMATCHED_INVOICE"]
    assert len(calls) == 2


def test_findings_warn_and_hold_nothing_back(books: Books) -> None:
    deliver(books, ORDER, billing_line("in_1", customer_name="Other"))
    findings(books)
    with books.ledger.transaction() as tx:
        (error,) = sync_errors.list_errors(tx)
    assert (error["stage"], error["severity"], error["owner"]) == ("sync", "warning", "source")
    assert error["period"] == JANUARY
    assert error["url"] == "https://dashboard.stripe.com/invoices/in_1"
    assert books.documents().keys() == {"006A", "in_1"}


# -- the file ------------------------------------------------------------------------------------


def test_approved_matches_are_sorted_lines_that_people_can_review(tmp_path: Path) -> None:
    file = tmp_path / "matches.csv"
    add(file, Match("stripe", "cus_2", "salesforce", "001B", "B, Inc.", "B", "ada", "", "one firm"))
    add(file, Match("stripe", "cus_1", "salesforce", "001A"))
    add(file, Match("stripe", "cus_1", "salesforce", "001C"))
    assert file.read_text().splitlines() == [
        "source,customer_id,order_source,order_customer_id,customer_name,order_customer_name,"
        "approved_by,approved_at,reason",
        "stripe,cus_1,salesforce,001C,,,,,",
        'stripe,cus_2,salesforce,001B,"B, Inc.",B,ada,,one firm',
    ]
    assert [match.order_customer_id for match in read(file)] == ["001C", "001B"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("source,customer_id\nstripe,cus_1\n", "lacks the column 'order_source'"),
        (
            "source,customer_id,order_source,order_customer_id\nstripe,,salesforce,001A\n",
            "line 2: customer_id is empty",
        ),
        (
            "source,customer_id,order_source,order_customer_id\n" + "s,c,o,x\n" * 2,
            "line 3: s:c is matched twice",
        ),
    ],
)
def test_a_file_that_says_no_pair_is_refused_by_line(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "matches.csv"
    file.write_text(text)
    with pytest.raises(SettingsError, match=said):
        read(file)
