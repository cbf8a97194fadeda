"""Tracing: documents that changed, moved, went away; and cutting a record out of its page."""

import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from batches import Books
from batches import ledger as ledger
from batches import ledger_url as ledger_url
from canonical_rows import billing_line, order_line
from pipeline import Pipeline

from revrec_pipeline import trace
from revrec_pipeline.errors import UsageError
from revrec_pipeline.lake import Lake
from revrec_pipeline.ledger import Ledger, open_ledger, sync_errors
from revrec_pipeline.model import RecordType, Route

JANUARY, FEBRUARY = "2026-01", "2026-02"


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    opened = open_ledger(f"duckdb:///{tmp_path / 'ledger.duckdb'}")
    yield Books(opened, tmp_path / "lake")
    opened.close()


@pytest.fixture
def any_books(ledger: Ledger, tmp_path: Path) -> Books:
    """On both back ends: for what the ledger decides."""
    return Books(ledger, tmp_path / "lake")


def traced(books: Books, what: str) -> dict[str, Any]:
    (found,) = trace.trace(books.ledger, Lake(books.lake), what)
    return found


def outcomes(found: dict[str, Any]) -> list[tuple[int, str]]:
    return [(job["job_id"], job["outcome"]) for job in found["jobs"]]


def test_each_job_says_whether_it_delivered_the_document_or_found_it_unchanged(
    books: Books,
) -> None:
    dearer = billing_line("in_1", amount=Decimal(120))
    books.delivered({JANUARY: [billing_line("in_1")]})
    books.delivered({JANUARY: [billing_line("in_1"), billing_line("in_2", "il_2")]})
    books.set_period()
    books.delivered({JANUARY: [dearer]}, Route.LIVE)
    found = traced(books, "A-in_1")
    assert outcomes(found) == [(1, "delivered"), (2, "unchanged"), (3, "delivered")]
    assert [job["route"] for job in found["jobs"]] == ["conversion", "conversion", "live"]
    assert found["delivered"]["job_id"] == 3
    assert [line["amount"] for line in found["lines"]] == ["120.0000"]


def test_a_document_that_is_gone_is_traced_by_the_batches_that_had_it(any_books: Books) -> None:
    books = any_books
    books.delivered({JANUARY: [billing_line("in_1"), billing_line("in_2", "il_2")]})
    books.delivered({JANUARY: [billing_line("in_2", "il_2")]})
    found = traced(books, "in_1")
    assert found["status"] == "removed"
    assert found["why"] == "it was delivered, and is gone from its source or month since"
    assert outcomes(found) == [(1, "delivered"), (2, "removed")]


def test_an_order_and_the_invoices_that_name_it_are_found_over_all_sources(books: Books) -> None:
    books.delivered({JANUARY: [order_line("006A")]})
    books.delivered({JANUARY: [billing_line("in_1", order_number="006A")]})
    found = trace.trace(books.ledger, Lake(books.lake), "006A")
    assert [(each["source"], each["document_id"]) for each in found] == [
        ("salesforce", "006A"),
        ("stripe", "in_1"),
    ]


def test_what_was_delivered_is_shown_while_a_newer_version_is_held_back(books: Books) -> None:
    books.delivered({JANUARY: [billing_line("in_1")]})
    books.delivered({JANUARY: [billing_line("in_1", amount=Decimal(7))]}, held={"in_1"})
    found = traced(books, "in_1")
    assert found["status"] == "delivered"
    assert found["why"].startswith("the newest version is held back by ")
    assert [line["amount"] for line in found["lines"]] == ["100.0000"]
    assert outcomes(found) == [(1, "delivered"), (2, "held")]


def test_a_batch_that_is_not_delivered_yet_is_waiting(books: Books) -> None:
    books.synced({JANUARY: [billing_line("in_1")]})
    found = traced(books, "il_1")
    assert (found["status"], found["why"]) == (
        "waiting",
        "its batch 1-2026-01 waits for its delivery",
    )


def test_a_document_that_moved_to_another_month_is_one_document(books: Books) -> None:
    books.delivered({JANUARY: [billing_line("in_1")], FEBRUARY: []}, source="stripe")
    books.delivered(
        {JANUARY: [], FEBRUARY: [billing_line("in_1", period=FEBRUARY)]},
        source="stripe",
        record_type=RecordType.INVOICES,
    )
    found = traced(books, "in_1")
    assert found["status"] == "delivered"
    assert [line["period"] for line in found["lines"]] == [FEBRUARY]
    assert outcomes(found) == [(1, "delivered"), (2, "delivered")]


def test_nothing_by_that_name_is_refused(books: Books) -> None:
    with pytest.raises(UsageError, match="nothing is known by 'x'"):
        trace.trace(books.ledger, Lake(books.lake), "x")


# -- cutting a record out of its page ------------------------------------------------------------


@pytest.mark.parametrize(
    ("page", "object_", "record", "expected"),
    [
        ('{"data": [{"id": "in_1", "a": 1.10}, {"id": "in_2"}]}', "invoice", "in_1",
         '{"id": "in_1", "a": 1.10}'),
        # A line that refers to it, and a text with a brace, come before the record itself.
        ('[{"Id":"1","Parent":"7","note":"{7"},{"Id": "7", "x": {"Id": "8"}}]', "invoice", "7",
         '{"Id": "7", "x": {"Id": "8"}}'),
        # QuickBooks numbers documents and lines alike: the document comes first.
        ('{"Invoice": [{"Line": [{"Id": "9"}], "Id": "1", "CustomerRef": {"value": "2"}}]}',
         "invoice", "1", '{"Line": [{"Id": "9"}], "Id": "1", "CustomerRef": {"value": "2"}}'),
        ('{"Invoices": [{"InvoiceID": "a-1", "Total": 1.00}]}', "invoice", "a-1",
         '{"InvoiceID": "a-1", "Total": 1.00}'),
        ('{"items": [{"id": 17, "lastmodified": "x"}]}', "transaction", "17",
         '{"id": 17, "lastmodified": "x"}'),
        ('{"OpportunityId": "006A"}', "opportunity_line_item", "006A", None),
        ("not json", "invoice", "in_1", None),
    ],
)  # fmt: skip
def test_a_record_is_cut_out_as_it_was_received(
    page: str, object_: str, record: str, expected: str | None
) -> None:
    assert trace._cut_json(page, object_, record) == expected
    assert expected is None or json.loads(expected)


def test_a_record_of_a_csv_page_is_its_row_with_the_heading() -> None:
    page = 'Id,Name\n006A,"Acme, Inc."\n006B,Other\n'
    assert trace._cut_csv(page, "opportunity", "006A") == 'Id,Name\n006A,"Acme, Inc."'
    assert trace._cut_csv(page, "opportunity", "006C") is None


def test_a_record_of_an_xml_page_is_its_element() -> None:
    page = (
        '<?xml version="1.0"?><response><data count="2">'
        "<ARINVOICE><RECORDNO>43</RECORDNO><TERM/></ARINVOICE>"
        "<ARINVOICE><PARENTKEY>43</PARENTKEY><RECORDNO>44</RECORDNO><X><Y>1</Y></X></ARINVOICE>"
        "</data></response>"
    )
    assert trace._cut_xml(page, "invoice", "44") == (
        "<ARINVOICE><PARENTKEY>43</PARENTKEY><RECORDNO>44</RECORDNO><X><Y>1</Y></X></ARINVOICE>"
    )
    assert trace._cut_xml(page, "invoice", "43") == (
        "<ARINVOICE><RECORDNO>43</RECORDNO><TERM/></ARINVOICE>"
    )
    assert trace._cut_xml(page, "invoice", "45") is None
    assert trace._cut_xml("</broken>", "invoice", "45") is None


ASSOCIATIONS = (
    '{"status": "COMPLETE", "results": ['
    '{"from": {"id": "44"}, "to": [{"toObjectId": 7}, {"toObjectId": 70}]}, '
    '{"from": {"id": "45"}, "to": [{"toObjectId": 7}]}]}'
)


@pytest.mark.parametrize(
    ("line", "document", "expected"),
    [
        ("70", "44", '{"from": {"id": "44"}, "to": [{"toObjectId": 7}, {"toObjectId": 70}]}'),
        ("7", "45", '{"from": {"id": "45"}, "to": [{"toObjectId": 7}]}'),
        # What names both only as a whole page names everything.
        ("70", "45", None),
        ("71", "45", None),
    ],
)
def test_of_a_page_of_links_the_one_that_names_line_and_document_is_cut_out(
    line: str, document: str, expected: str | None
) -> None:
    assert trace._cut_link(ASSOCIATIONS, line, document) == expected


def test_of_hubspot_every_page_that_made_a_flagged_row_is_shown_with_its_record(
    make_pipeline: Callable[..., Pipeline],
) -> None:
    pipeline = make_pipeline(toml="[sources.hubspot]\ninvoices = true\n")
    pipeline.run("sync_hubspot", "2025-05")
    with pipeline.ledger.transaction() as tx:
        error = next(each for each in sync_errors.list_errors(tx) if each["line_id"])

    found = trace.received(pipeline.ledger, Lake(pipeline.settings.lake_root), error)

    assert {"invoice", "association", "line_item"} == {page["object"] for page in found}
    shown = {page["object"]: json.loads(page["record"]) for page in found}
    assert shown["invoice"]["id"] == error["record_id"]
    assert shown["line_item"]["id"] == error["line_id"]
    assert shown["association"]["from"]["id"] == error["record_id"]
    assert error["line_id"] in {str(each["toObjectId"]) for each in shown["association"]["to"]}
