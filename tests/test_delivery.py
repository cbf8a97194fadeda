"""Delivering a job: what goes out, by which way, and what the ledger says of it afterwards."""

import zipfile
from collections.abc import Iterator
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from batches import Books
from batches import ledger as ledger
from batches import ledger_url as ledger_url
from canonical_rows import billing_line, order_line
from conversion_files import column, read_archive, read_workbook

from revrec_pipeline import delivery
from revrec_pipeline.delivery import Delivery
from revrec_pipeline.errors import LakeError, LedgerBusyError, LedgerError
from revrec_pipeline.ledger import Ledger, open_ledger, outbox
from revrec_pipeline.model import Route

JANUARY, FEBRUARY = "2026-01", "2026-02"
TWO_LINES = [billing_line("in_1", "il_1"), billing_line("in_1", "il_2", amount=Decimal("20.5"))]
OTHER = [billing_line("in_2", "il_3", currency="EUR", amount=Decimal(7))]


@pytest.fixture
def books(ledger: Ledger, tmp_path: Path) -> Books:
    return Books(ledger, tmp_path / "lake")


@pytest.fixture
def fast_books(tmp_path: Path) -> Iterator[Books]:
    """On a DuckDB file only: for what no back end decides."""
    opened = open_ledger(f"duckdb:///{tmp_path / 'ledger.duckdb'}")
    yield Books(opened, tmp_path / "lake")
    opened.close()


def test_a_first_delivery_writes_both_forms_and_accounts_for_every_row(books: Books) -> None:
    excluded = billing_line("in_3", "il_4", excluded_by="void", amount=Decimal(3))
    held = billing_line("in_4", "il_5", product_code=None, amount=Decimal(4))
    rows = [*TWO_LINES, *OTHER, excluded, held]
    job, delivered = books.delivered({JANUARY: rows}, held={"in_4"})
    assert delivered.state == "delivered"
    assert delivered.batches == (f"{job}-{JANUARY}",)
    assert delivered.documents == {"added": 2}
    assert [delivered.rows(bucket) for bucket in ("delivered", "unchanged", "removed")] == [3, 0, 0]
    assert delivered.files == (
        Path(f"files/{job}/stripe-invoices-2026-01.xlsx"),
        Path(f"files/{job}/stripe-invoices-2026-01.zip"),
    )
    found = books.job(job)
    assert found["status"] == "delivered"
    assert found["route"] == "conversion"
    assert found["counts"] == {
        "source": 5,
        "delivered": 3,
        "unchanged": 0,
        "flagged": 1,
        "excluded": 1,
    }
    assert {name: Decimal(amount) for name, amount in found["amounts"]["USD"].items()} == {
        "source": Decimal("127.5"),
        "delivered": Decimal("120.5"),
        "unchanged": 0,
        "flagged": 4,
        "excluded": 3,
    }
    assert Decimal(found["amounts"]["EUR"]["delivered"]) == 7
    with books.ledger.transaction() as tx:
        euro, dollar = delivery.jobs.controls(tx, job)
    assert (euro["currency"], dollar["currency"]) == ("EUR", "USD")
    assert dollar["rows"] == {
        "source": 4, "delivered": 2, "unchanged": 0, "flagged": 1, "excluded": 1, "waiting": 0,
    }  # fmt: skip
    assert dollar["rules"] == {
        "flagged": {"IN_MISSING_REQUIRED": {"rows": 1, "amount": "4.00"}},
        "excluded": {"void": {"rows": 1, "amount": "3.00"}},
    }
    assert dollar["difference"] == {"rows": 0, "amount": "0.00"}
    workbook, archive = books.files(job)
    assert invoices(workbook) == invoices(archive) == ["A-in_1", "A-in_1", "A-in_2"]
    assert books.documents() == {
        "in_1": (JANUARY, "conversion"),
        "in_2": (JANUARY, "conversion"),
    }


def test_the_ledger_knows_each_file_with_its_hash_size_and_lines(books: Books) -> None:
    job, _ = books.delivered({JANUARY: TWO_LINES})
    with books.ledger.transaction() as tx:
        found = delivery.jobs.files(tx, job)
    assert [(row["kind"], row["rows"]) for row in found] == [("xlsx", 2), ("zip", 2)]
    for row in found:
        content = (books.lake / row["path"]).read_bytes()
        assert row["sha256"] == sha256(content).hexdigest()
        assert row["bytes"] == len(content)


def test_a_job_of_several_months_is_one_file_ordered_by_month(fast_books: Books) -> None:
    months = {
        FEBRUARY: [billing_line("in_1", period=FEBRUARY)],
        JANUARY: [billing_line("in_2"), billing_line("in_9", "il_9")],
    }
    job, _ = fast_books.delivered(months)
    workbook, archive = fast_books.files(job)
    assert workbook.name == "stripe-invoices-2026-01_2026-02.xlsx"
    assert invoices(archive) == ["A-in_2", "A-in_9", "A-in_1"]


def test_a_job_without_changes_delivers_no_row_and_no_file(books: Books) -> None:
    books.delivered({JANUARY: [*TWO_LINES, *OTHER]})
    job, delivered = books.delivered({JANUARY: [*OTHER, *TWO_LINES[::-1]]})
    assert delivered.documents == {"unchanged": 2}
    assert [delivered.rows("delivered"), delivered.rows("unchanged")] == [0, 3]
    assert delivered.files == ()
    assert books.job(job)["status"] == "unchanged"
    assert not (books.lake / "files" / str(job)).exists()


def test_a_changed_line_delivers_all_lines_of_its_document_and_of_no_other(books: Books) -> None:
    books.delivered({JANUARY: [*TWO_LINES, *OTHER]})
    changed = [TWO_LINES[0], {**TWO_LINES[1], "amount": Decimal("20.51")}, *OTHER]
    job, delivered = books.delivered({JANUARY: changed})
    assert delivered.documents == {"changed": 1, "unchanged": 1}
    assert invoices(books.files(job)[1]) == ["A-in_1", "A-in_1"]
    assert books.job(job)["counts"]["unchanged"] == 1


@pytest.mark.parametrize("gone", ["added", "deleted"])
def test_a_line_more_or_less_delivers_the_whole_document(fast_books: Books, gone: str) -> None:
    before, after = (TWO_LINES[:1], TWO_LINES) if gone == "added" else (TWO_LINES, TWO_LINES[:1])
    fast_books.delivered({JANUARY: before})
    job, delivered = fast_books.delivered({JANUARY: after})
    assert delivered.documents == {"changed": 1}
    assert len(invoices(fast_books.files(job)[0])) == len(after)


@pytest.mark.parametrize(
    "change",
    [
        {"source_version": "1767261999"},
        {"raw_batch": "20260301T000000.000000Z-0000", "raw_page": 7},
        {"url": "https://dashboard.stripe.com/other"},
        {"custom_fields": None},
        {"quantity": Decimal("1.000000000000")},
    ],
)
def test_a_new_version_that_says_the_same_is_no_change(
    fast_books: Books, change: dict[str, Any]
) -> None:
    fast_books.delivered({JANUARY: OTHER})
    _, delivered = fast_books.delivered({JANUARY: [{**OTHER[0], **change}]})
    assert delivered.documents == {"unchanged": 1}


@pytest.mark.parametrize(
    "change",
    [
        {"customer_name": "Acme, Inc."},
        {"invoice_number": None},
        {"reference_line_id": "il_1"},
        {"custom_fields": [("Region", "EMEA")]},
        {"custom_fields": [("Region", "")]},
        {"service_end_date": None},
    ],
)
def test_a_change_in_any_column_with_a_meaning_is_delivered(
    fast_books: Books, change: dict[str, Any]
) -> None:
    fast_books.delivered({JANUARY: OTHER})
    _, delivered = fast_books.delivered({JANUARY: [{**OTHER[0], **change}]})
    assert delivered.documents == {"changed": 1}


def test_the_hash_of_a_document_is_the_same_in_every_version(fast_books: Books) -> None:
    """If this fails, an update would deliver every document of every customer once more."""
    line = billing_line("in_1", custom_fields=[("b", "2"), ("a", None)])
    fast_books.delivered({JANUARY: [line, billing_line("in_1", "il_2", quantity=None)]})
    with fast_books.ledger.transaction() as tx:
        assert tx.one("SELECT hash FROM document") == {"hash": "09bf77058aba641580e9b08de9ff64eb"}


def test_a_vanished_document_is_removed_with_rows_and_amount(books: Books) -> None:
    books.delivered({JANUARY: [*TWO_LINES, *OTHER]})
    job, delivered = books.delivered({JANUARY: OTHER})
    assert delivered.documents == {"removed": 1, "unchanged": 1}
    assert delivered.files == ()
    (total,) = (t for t in delivered.totals[f"{job}-{JANUARY}"] if t.bucket == "removed")
    assert (total.rows, total.amount, total.currency) == (2, Decimal("120.5"), "USD")
    assert books.job(job)["removed"] == ["in_1"]
    assert set(books.documents()) == {"in_2"}


def test_a_month_that_lost_its_last_document_removes_it(fast_books: Books) -> None:
    fast_books.delivered({JANUARY: OTHER})
    how = {"source": "stripe", "record_type": delivery.RecordType.INVOICES}
    job, delivered = fast_books.delivered({JANUARY: []}, **how)
    assert delivered.documents == {"removed": 1}
    assert fast_books.job(job)["removed"] == ["in_2"]


def test_a_removed_document_whose_old_rows_are_gone_counts_its_lines(fast_books: Books) -> None:
    fast_books.delivered({JANUARY: [*TWO_LINES, *OTHER]})
    for file in fast_books.lake.glob("canonical/**/rows.parquet"):
        file.unlink()
    job, delivered = fast_books.delivered({JANUARY: OTHER})
    (total,) = (t for t in delivered.totals[f"{job}-{JANUARY}"] if t.bucket == "removed")
    assert (total.rows, total.amount, total.currency) == (2, 0, "XXX")


def test_a_document_that_a_rule_excludes_now_is_removed(books: Books) -> None:
    books.delivered({JANUARY: OTHER})
    job, delivered = books.delivered({JANUARY: [{**OTHER[0], "excluded_by": "void"}]})
    assert delivered.documents == {"removed": 1}
    assert books.job(job)["excluded_by"] == {"void": 1}


def test_a_held_document_stays_as_it_was_delivered(books: Books) -> None:
    books.delivered({JANUARY: [*TWO_LINES, *OTHER]})
    broken = [{**line, "product_code": None} for line in TWO_LINES]
    job, delivered = books.delivered({JANUARY: [*broken, *OTHER]}, held={"in_1"})
    assert delivered.documents == {"unchanged": 1}
    assert books.job(job)["removed"] == []
    assert books.job(job)["counts"]["flagged"] == 2
    assert set(books.documents()) == {"in_1", "in_2"}
    _, mended = books.delivered({JANUARY: [*TWO_LINES, *OTHER]})
    assert mended.documents == {"unchanged": 2}


def test_a_document_that_moved_to_another_month_is_delivered_there_and_not_removed(
    books: Books,
) -> None:
    books.delivered({JANUARY: [*TWO_LINES, *OTHER]})
    moved = [{**line, "period": FEBRUARY} for line in TWO_LINES]
    job, delivered = books.delivered({JANUARY: OTHER, FEBRUARY: moved})
    assert delivered.documents == {"changed": 1, "unchanged": 1}
    assert books.job(job)["removed"] == []
    assert books.documents()["in_1"] == (FEBRUARY, "conversion")


def test_a_document_in_two_months_of_a_job_goes_out_once(books: Books) -> None:
    moved = [{**line, "period": FEBRUARY} for line in TWO_LINES]
    job, delivered = books.delivered({JANUARY: TWO_LINES, FEBRUARY: moved})
    assert [delivered.rows("delivered"), delivered.rows("unchanged")] == [2, 2]
    assert invoices(books.files(job)[0]) == ["A-in_1", "A-in_1"]
    assert books.documents() == {"in_1": (FEBRUARY, "conversion")}


def test_a_live_delivery_loads_changes_and_removals_into_the_ledger(books: Books) -> None:
    books.set_period()
    credit = billing_line("cn_1", "cl_1", amount=Decimal(-15), document_type="credit_note")
    job, delivered = books.delivered({JANUARY: [*TWO_LINES, *OTHER, credit]}, Route.LIVE)
    assert delivered.files == ()
    assert books.job(job)["route"] == "live"
    assert books.loaded() == [
        ("cn_1", "cl_1", Decimal(-15)),
        ("in_1", "il_1", Decimal(100)),
        ("in_1", "il_2", Decimal("20.5")),
        ("in_2", "il_3", Decimal(7)),
    ]
    voided = {**OTHER[0], "excluded_by": "void"}
    books.delivered({JANUARY: [*TWO_LINES[:1], voided, credit]}, Route.LIVE)
    assert books.loaded() == [
        ("cn_1", "cl_1", Decimal(-15)),
        ("in_1", "il_1", Decimal(100)),
    ]
    with books.ledger.transaction() as tx:
        row = tx.one("SELECT * FROM billing_line WHERE line_id = 'il_1'")
    assert row is not None
    assert row["batch_id"] == f"{row['job_id']}-{JANUARY}"
    assert row["raw_batch"] == "20260131T100000.000000Z-0000"


def test_an_unchanged_document_that_went_out_by_file_is_not_loaded_again(books: Books) -> None:
    books.delivered({JANUARY: [*TWO_LINES, *OTHER]})
    books.set_period()
    changed = {**OTHER[0], "amount": Decimal(8)}
    _, delivered = books.delivered({JANUARY: [*TWO_LINES, changed]}, Route.LIVE)
    assert delivered.documents == {"changed": 1, "unchanged": 1}
    assert books.loaded() == [("in_2", "il_3", Decimal(8))]


def test_sales_go_out_as_order_lines_by_both_ways(books: Books) -> None:
    job, _ = books.delivered({JANUARY: [order_line("006A")]})
    assert books.files(job)[0].name == "salesforce-sales-2026-01.xlsx"
    assert column(read_workbook(books.files(job)[0]), "OrderDetails", "Order Number") == ["006A"]
    books.set_period()
    books.delivered({JANUARY: [order_line("006A"), order_line("006B", "00kB")]}, Route.LIVE)
    assert books.loaded("order_line") == [("006B", "00kB", Decimal(1200))]


def test_a_period_set_before_the_claim_leaves_the_batches_ready(books: Books) -> None:
    job = books.synced({JANUARY: OTHER})
    books.set_period()
    assert books.deliver(job, Route.CONVERSION) == Delivery("rerouted")
    assert books.states(job) == {JANUARY: ("ready", None)}
    assert books.deliver(job, Route.LIVE).state == "delivered"
    assert books.states(job) == {JANUARY: ("delivered", "live")}
    assert books.files(job) == []


def test_a_period_set_while_a_conversion_file_is_written_changes_nothing_for_it(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = delivery.write_files

    def slowly(*args: Any, **kwargs: Any) -> Any:
        books.set_period()
        return write(*args, **kwargs)

    monkeypatch.setattr(delivery, "write_files", slowly)
    job, delivered = books.delivered({JANUARY: TWO_LINES})
    assert delivered.state == "delivered"
    assert books.states(job) == {JANUARY: ("delivered", "conversion")}
    assert len(books.files(job)) == 2
    assert books.loaded() == []
    following, _ = books.delivered({FEBRUARY: [billing_line("in_8", period=FEBRUARY)]}, Route.LIVE)
    assert books.states(following) == {FEBRUARY: ("delivered", "live")}


def test_an_attempt_that_failed_leaves_the_batch_ready_for_its_first_route(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = books.synced({JANUARY: TWO_LINES})

    def full(*args: Any, **kwargs: Any) -> Any:
        raise LakeError("cannot write in the lake: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(delivery, "write_files", full)
        with pytest.raises(LakeError, match="No space left"):
            books.deliver(job)
    assert books.states(job) == {JANUARY: ("ready", "conversion")}
    books.set_period()
    assert books.deliver(job, Route.LIVE).state == "rerouted"
    assert books.deliver(job, Route.CONVERSION).state == "delivered"


def test_a_job_that_was_delivered_has_nothing_left(books: Books) -> None:
    job, _ = books.delivered({JANUARY: OTHER})
    assert books.deliver(job) == Delivery("nothing")


def test_an_attempt_that_died_after_writing_the_file_is_repeated_with_the_same_bytes(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = books.synced({JANUARY: TWO_LINES})

    def dies(*args: Any, **kwargs: Any) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(outbox, "complete", dies)
        with pytest.raises(KeyboardInterrupt):
            books.deliver(job)
    folder = books.lake / "files" / str(job)
    first = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert len(first) == 2
    assert books.files(job) == []
    books.deliver(job)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == first
    assert len(books.files(job)) == 2


def test_who_lost_the_claim_delivers_nothing_and_replaces_no_file(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = books.synced({JANUARY: TWO_LINES})
    write = delivery.write_files

    def too_slowly(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(delivery, "write_files", write)
        files = write(*args, **kwargs)
        with books.ledger.transaction() as tx:  # as if the lease had ended meanwhile
            tx.execute("UPDATE batch SET lease_until = built_at")
        books.synced({JANUARY: OTHER}, job=job)
        assert books.deliver(job).state == "delivered"
        return files

    monkeypatch.setattr(delivery, "write_files", too_slowly)
    with pytest.raises(LedgerError, match=f"^the claim on job {job} was lost"):
        books.deliver(job)
    assert invoices(books.files(job)[1]) == ["A-in_2"]
    assert set(books.documents()) == {"in_2"}


def test_two_deliveries_of_a_source_and_record_type_exclude_each_other(books: Books) -> None:
    first, second = books.synced({JANUARY: TWO_LINES}), books.synced({FEBRUARY: OTHER})
    with books.ledger.transaction() as tx:
        outbox.claim(tx, first, claimed_by="another", route=Route.CONVERSION, lease_seconds=60)
    with pytest.raises(LedgerBusyError, match=f"job {first} are being delivered by another"):
        books.deliver(second)


def test_what_a_job_delivers_later_goes_into_a_second_file(fast_books: Books) -> None:
    job, _ = fast_books.delivered({JANUARY: TWO_LINES})
    fast_books.synced({JANUARY: [*TWO_LINES, *OTHER]}, job=job)
    delivered = fast_books.deliver(job)
    assert [file.name for file in delivered.files] == [
        "stripe-invoices-2026-01-2.xlsx",
        "stripe-invoices-2026-01-2.zip",
    ]
    assert [invoices(file) for file in fast_books.files(job) if file.suffix == ".zip"] == [
        ["A-in_2"],
        ["A-in_1", "A-in_1"],
    ]


def test_a_batch_whose_file_is_missing_is_named_and_stays_ready(fast_books: Books) -> None:
    job = fast_books.synced({JANUARY: OTHER})
    (file,) = fast_books.lake.glob("canonical/**/held.parquet")
    file.unlink()
    with pytest.raises(LakeError) as missing:
        fast_books.deliver(job)
    assert str(missing.value) == (
        f"{file} is missing from the lake; restore it, or sync stripe for 2026-01 again"
    )
    assert fast_books.states(job) == {JANUARY: ("ready", "conversion")}


def test_nothing_is_left_in_the_lake_beside_what_was_delivered(fast_books: Books) -> None:
    fast_books.delivered({JANUARY: TWO_LINES})
    assert list((fast_books.lake / ".partial").iterdir()) == []


def test_the_same_job_gives_the_same_bytes_in_another_lake(tmp_path: Path) -> None:
    found = []
    for name in ("a", "b"):
        books = Books(open_ledger(f"duckdb:///{tmp_path / name}.duckdb"), tmp_path / name)
        job, _ = books.delivered({JANUARY: [*TWO_LINES, *OTHER]})
        found.append([file.read_bytes() for file in books.files(job)])
    assert found[0] == found[1]


def invoices(file: Path) -> list[str]:
    """The invoice numbers of a conversion file, line by line."""
    cells = read_archive(file) if zipfile_of_csv(file) else read_workbook(file)
    return column(cells, "BillingSchedule", "Invoice Number")


def zipfile_of_csv(file: Path) -> bool:
    with zipfile.ZipFile(file) as members:
        return "BillingSchedule.csv" in members.namelist()
