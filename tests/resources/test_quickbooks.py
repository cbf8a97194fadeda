"""The QuickBooks client against the sandbox: paging, changes, deletions, limits, faults."""

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import Sandbox

from resources.at_once import each
from resources.quickbooks import QuickbooksClient, _version
from resources.quickbooks_api import API_VERSION, CONCURRENCY, Fault, read_fault
from resources.quickbooks_login import QuickbooksSecrets
from resources.registry import resource_of
from resources.rest import Received
from revrec_pipeline.errors import (
    SourceAuthError,
    SourceError,
    SourceLimitError,
    SourceSchemaError,
    SourceTimeoutError,
)
from revrec_pipeline.lake import KEYS, Page
from revrec_pipeline.ledger import Ledger, open_ledger
from revrec_pipeline.mapping.quickbooks import FORMS, QuickbooksSettings
from revrec_pipeline.periods import period_range
from revrec_pipeline.sandbox import company
from revrec_pipeline.sandbox.quickbooks_objects import REALM
from revrec_pipeline.settings import Settings

COMPANY = f"/v3/company/{REALM}"
QUERY, CDC = f"{COMPANY}/query", f"{COMPANY}/cdc"
TOKENS = "/oauth2/v1/tokens/bearer"
#: A month of the company's that has nothing yet.
EMPTY = "2023-02"


def secrets(sandbox: Sandbox, **fields: Any) -> QuickbooksSecrets:
    """The secrets that the sandbox takes."""
    given = {
        name.removeprefix("QUICKBOOKS_").lower(): value
        for name, value in sandbox.env.items()
        if name.startswith("QUICKBOOKS_")
    }
    return QuickbooksSecrets.model_validate(given | fields)


class Harness:
    """A client of the sandbox that does not really sleep, and what it would have slept."""

    def __init__(self, sandbox: Sandbox, ledger: Ledger, **fields: Any) -> None:
        self.sandbox = sandbox
        self.naps: list[float] = []
        self.client = QuickbooksClient(
            secrets(sandbox, **fields.pop("secrets", {})),
            open_ledger=lambda: ledger,
            settings=QuickbooksSettings(requests_per_second=1_000_000, **fields),
            sleep=self.sleep,
        )

    def sleep(self, seconds: float) -> None:
        """Remember a pause between two tries; the pace of a million a second is not one."""
        if seconds > 0.01:
            self.naps.append(seconds)

    def listing(self, period: str) -> list[Page]:
        """All pages of a month."""
        return list(self.client.listing(period))

    def changes(self, hours: float = 1) -> list[Page]:
        """All pages of what changed in the last hours, as the sandbox's clock counts them."""
        now = self.client.server_time()
        until = now + timedelta(seconds=2)
        return list(self.client.changes(now - timedelta(hours=hours), until))

    def command(self, op: str, **fields: Any) -> dict[str, Any]:
        """A command to the sandbox's QuickBooks."""
        return self.sandbox.command(op, source="quickbooks", **fields)

    def add(self, count: int, *, entity: str = "Invoice", **fields: Any) -> list[str]:
        """So many forms in the empty month, and their ids."""
        fields = {"day": "2023-02-14", "amount": "10", "count": count, **fields}
        return list(self.command("add", object=entity, fields=fields)["ids"])

    def queries(self) -> int:
        """How often a query was asked since the test began."""
        return self.sandbox.requests("quickbooks").get(QUERY, 0)


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    """A ledger for the tokens; `test_quickbooks_login` has what happens in it."""
    opened = open_ledger(f"duckdb:///{tmp_path_factory.mktemp('ledger')}/ledger.duckdb")
    yield opened
    opened.close()


@pytest.fixture
def books(sandbox: Sandbox, ledger: Ledger) -> Iterator[Harness]:
    sandbox.command("limit", source="quickbooks", per_second=None)
    harness = Harness(sandbox, ledger)
    with harness.client:
        harness.client.server_time()  # so that no test counts the log-in
        yield harness


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten to a page, so that a test of paging need not make thousands."""
    monkeypatch.setattr("resources.quickbooks.PAGE_SIZE", 10)


def documents(pages: list[Page], name: str = "invoice") -> list[dict[str, Any]]:
    """The documents on pages of queries, in order."""
    found: list[dict[str, Any]] = []
    for page in pages:
        if page.object == name:
            body = json.loads(page.body)
            found += body.get("QueryResponse", {}).get(FORMS[name].entity, [])
    return found


def ids(pages: list[Page], name: str = "invoice") -> list[str]:
    """The vendor's ids of the documents on pages."""
    return [one["Id"] for one in documents(pages, name)]


def keys(pages: list[Page]) -> dict[str, dict[str, str]]:
    """The keys of all documents by id."""
    rows = [row for page in pages if page.keys is not None for row in page.keys.to_pylist()]
    return {row["id"]: row for row in rows}


# -- who and when --------------------------------------------------------------------------------


def test_check_names_the_company_and_the_pinned_version(books: Harness) -> None:
    connection = books.client.check()
    assert connection.account_id == REALM
    assert connection.account_name == "Fernhill Software"
    assert connection.api_version == API_VERSION == "75"
    assert connection.missing == ()


def test_check_names_a_custom_field_that_the_company_lacks(
    sandbox: Sandbox, ledger: Ledger
) -> None:
    harness = Harness(
        sandbox,
        ledger,
        order_number_field="Sales Order",
        customer_id_field="CRM Id",
        custom_fields={"Crew": "CustomField.Crew #", "Memo": "PrivateNote"},
    )
    with harness.client as client:
        assert client.check().missing == (
            "the custom field 'CRM Id' of sales forms",
            "the custom field 'Crew #' of sales forms",
        )


def test_server_time_is_the_date_header(books: Harness) -> None:
    books.sandbox.command("advance", seconds=86400)
    ahead = books.client.server_time() - datetime.now(UTC)
    assert timedelta(hours=23, minutes=59) < ahead < timedelta(hours=24, minutes=1)


def test_another_company_is_refused_and_the_setting_is_named(
    sandbox: Sandbox, ledger: Ledger
) -> None:
    with (
        Harness(sandbox, ledger, secrets={"realm_id": "99"}).client as client,
        pytest.raises(SourceAuthError, match=r"company 99 .*3100.* check QUICKBOOKS_REALM_ID"),
    ):
        client.check()


# -- a month -------------------------------------------------------------------------------------


def test_all_months_together_are_all_documents(books: Harness) -> None:
    pages = [
        page
        for period in period_range(company.FOUNDED, company.LAST_MONTH)
        for page in books.listing(period)
    ]
    counted = {name: len(ids(pages, name)) for name in FORMS}
    assert counted == {"invoice": 141, "sales_receipt": 27, "credit_memo": 2, "refund_receipt": 1}
    assert len(keys(pages)) == sum(counted.values()) == sum(page.records for page in pages)


def test_a_document_is_keyed_by_kind_stamp_and_month(books: Harness) -> None:
    pages = books.listing("2026-03")
    found = books.command("find", number="R-0310")
    key = keys(pages)[f"RR-{found['id']}"]
    assert key == {
        "id": f"RR-{found['id']}",
        "version": "2026-03-10T16:37:00.000000Z/0000000000",
        "period": "2026-03",
        "window": "2026-03",
    }
    assert pages[0].keys is not None
    assert pages[0].keys.schema == KEYS
    assert pages[0].request.startswith(f"GET {QUERY}?query=SELECT * FROM Invoice WHERE TxnDate >= ")
    assert pages[0].request_id
    assert pages[0].request_id.startswith("1-sandbox-")


def test_stamps_with_different_offsets_sort_as_instants(books: Harness) -> None:
    """An hour after summer time ended, the clock shows an earlier time."""
    answer, _ = books.client._api.get(f"companyinfo/{REALM}", dict[str, Any])
    before = _version(answer, "2025-11-02T01:30:00-07:00", "7")
    after = _version(answer, "2025-11-02T01:00:00-08:00", "0")
    assert before == "2025-11-02T08:30:00.000000Z/0000000007"
    assert before < after


@pytest.mark.parametrize(
    ("stamp", "token"),
    [("2025-11-02T01:30:00", "1"), ("yesterday", "1"), ("2025-11-02T01:30:00Z", "x")],
)
def test_a_stamp_that_names_no_instant_is_refused(books: Harness, stamp: str, token: str) -> None:
    answer, _ = books.client._api.get(f"companyinfo/{REALM}", dict[str, Any])
    with pytest.raises(SourceSchemaError, match="is no version"):
        _version(answer, stamp, token)


def test_the_version_counts_edits_within_one_second(books: Harness) -> None:
    (one,) = books.add(1)
    before = keys(books.listing(EMPTY))[f"INV-{one}"]["version"]
    books.command("edit", object="Invoice", id=one, fields={"PrivateNote": "x"})
    after = keys(books.listing(EMPTY))[f"INV-{one}"]["version"]
    assert before.endswith("/0000000000")
    assert after.endswith("/0000000001")
    assert before < after


def test_an_empty_month_has_no_pages_and_costs_a_count_of_each_kind(books: Harness) -> None:
    assert books.listing(EMPTY) == []
    assert books.queries() == 4


@pytest.mark.parametrize("count", [1000, 1001])
def test_all_pages_are_read_msp_skills_104_tap_quickbooks_79(books: Harness, count: int) -> None:
    added = books.add(count)
    pages = books.listing(EMPTY)
    assert sorted(ids(pages)) == sorted(added)
    assert [page.records for page in pages] == [1000] * (count // 1000) + (
        [count % 1000] if count % 1000 else []
    )


def test_the_month_is_cut_by_the_document_s_own_date(books: Harness) -> None:
    edges = {day: books.add(1, day=day)[0] for day in ("2023-01-31", "2023-02-01", "2023-02-28")}
    assert ids(books.listing(EMPTY)) == [edges["2023-02-01"], edges["2023-02-28"]]


@pytest.mark.usefixtures("small_pages")
def test_a_form_that_leaves_during_paging_is_noticed_by_the_count_and_read_again(
    books: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    added = books.add(15)
    listing = books.client.listing(EMPTY)
    pages = [next(listing)]
    books.command("delete", object="Invoice", id=added[0])
    with caplog.at_level(logging.WARNING, "resources.quickbooks"):
        pages += listing
    assert set(added) <= set(ids(pages))  # position 11 was skipped, and came the second time
    assert "reading them again" in caplog.text


@pytest.mark.usefixtures("small_pages")
def test_a_form_that_is_edited_out_of_the_window_during_paging_loses_no_other(
    books: Harness,
) -> None:
    added = books.add(15)
    now = books.client.server_time()
    changes = books.client.changes(now - timedelta(hours=1), now + timedelta(seconds=1))
    pages = [next(changes)]
    books.sandbox.command("advance", seconds=60)
    books.command("edit", object="Invoice", id=added[3], fields={"PrivateNote": "moved on"})
    pages += changes
    assert set(added) == set(ids(pages))


@pytest.mark.usefixtures("small_pages")
def test_a_set_that_never_stands_still_is_an_error_that_may_be_tried_again(
    books: Harness,
) -> None:
    added = books.add(15)

    def read_while_forms_leave() -> None:
        for number, _ in enumerate(books.client.listing(EMPTY)):
            if number % 2 == 0:
                books.command("delete", object="Invoice", id=added[number])

    with pytest.raises(SourceSchemaError, match="Invoice objects came, and so 3 times") as caught:
        read_while_forms_leave()
    assert caught.value.retryable


@pytest.mark.usefixtures("small_pages")
def test_ids_are_those_of_the_listing_and_come_without_bodies(books: Harness) -> None:
    books.add(25)
    books.add(2, entity="CreditMemo")
    listed = {
        (page.object, key)
        for page in books.listing(EMPTY)
        if page.keys is not None
        for key in page.keys["id"].to_pylist()
    }
    swept = [row for batch in books.client.ids(EMPTY) for row in batch.to_pylist()]
    assert {(row["object"], row["id"]) for row in swept} == listed
    assert len(swept) == len(listed) == 27


def test_items_and_rates_come_along_where_the_settings_need_them_inactive_ones_too(
    sandbox: Sandbox, ledger: Ledger
) -> None:
    sandbox.command("limit", source="quickbooks", per_second=None)
    harness = Harness(sandbox, ledger, product_id_field="Sku", tax_enabled=True)
    with harness.client:
        found = {page.object: page for page in harness.listing("2026-03")}
    assert (found["item"].records, found["item"].keys) == (13, None)
    assert b"Legacy Connector (deleted)" in found["item"].body
    assert found["tax_rate"].records == 2


# -- a window ------------------------------------------------------------------------------------


def test_changes_of_every_kind_come_with_their_lines_and_deletions_as_tombstones(
    books: Harness,
) -> None:
    told = books.command("story")["quickbooks"]
    pages = books.changes()
    found = keys(pages)
    assert set(found) == set(told.values())
    assert found[told["voided"]]["period"] == "2026-06"
    assert found[told["moved from 2026-05 to 2026-06"]]["period"] == "2026-06"
    tombstone = found[told["deleted"]]
    assert (tombstone["period"], tombstone["window"]) == (None, None)
    assert tombstone["version"].endswith("Z/9999999999")
    (voided,) = [one for one in documents(pages) if f"INV-{one['Id']}" == told["voided"]]
    assert voided["PrivateNote"] == "Voided"
    assert len(voided["Line"]) == 3


def test_a_deleted_form_is_gone_from_queries_and_told_by_capture_only_tap_quickbooks_28(
    books: Harness,
) -> None:
    (one,) = books.add(1)
    before = keys(books.changes())[f"INV-{one}"]["version"]
    books.command("delete", object="Invoice", id=one)
    pages = books.changes()
    assert ids(pages) == []
    (page,) = [page for page in pages if page.object == "invoice"]
    assert b'"status":"Deleted"' in page.body
    assert keys(pages)[f"INV-{one}"]["version"] > before


def test_a_window_is_low_inclusive_and_high_exclusive_and_ties_all_come(books: Harness) -> None:
    added = books.add(3)
    stamp = json.loads(books.listing(EMPTY)[0].body)["QueryResponse"]["Invoice"][0]["MetaData"]
    moment = datetime.fromisoformat(stamp["LastUpdatedTime"])
    second = timedelta(seconds=1)
    assert ids(list(books.client.changes(moment, moment + second))) == added
    assert ids(list(books.client.changes(moment - second, moment))) == []


def test_a_quiet_window_costs_four_counts_and_one_capture(books: Harness) -> None:
    books.sandbox.command("advance", seconds=3600)
    assert books.changes(0.5) == []
    asked = books.sandbox.requests("quickbooks")
    assert (asked[QUERY], asked[CDC]) == (4, 1)


def test_a_window_older_than_capture_still_brings_all_changes_and_says_what_it_cannot(
    books: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    (early,) = books.add(1)
    (lost,) = books.add(1)
    books.command("delete", object="Invoice", id=lost)
    books.sandbox.command("advance", seconds=40 * 86400)
    (recent,) = books.add(1)
    books.command("delete", object="Invoice", id=recent)
    with caplog.at_level(logging.WARNING, "resources.quickbooks"):
        pages = books.changes(hours=41 * 24)
    assert ids(pages) == [early]
    found = keys(pages)
    assert found[f"INV-{recent}"]["period"] is None
    assert f"INV-{lost}" not in found
    (record,) = caplog.records
    assert "are older than change data capture reaches" in record.getMessage()


def test_a_deletion_that_capture_forgot_is_found_by_comparing_ids(books: Harness) -> None:
    kept, lost = books.add(2)
    books.command("delete", object="Invoice", id=lost)
    books.sandbox.command("advance", seconds=31 * 86400)
    swept = [row["id"] for batch in books.client.ids(EMPTY) for row in batch.to_pylist()]
    assert swept == [f"INV-{kept}"]


def test_a_full_capture_is_asked_again_for_each_kind(books: Harness) -> None:
    gone = books.add(600)
    books.add(600, entity="CreditMemo")
    for one in gone[:2]:
        books.command("delete", object="Invoice", id=one)
    found = keys(books.changes())
    assert [found[f"INV-{one}"]["period"] for one in gone[:3]] == [None, None, "2023-02"]
    assert books.sandbox.requests("quickbooks")[CDC] == 5


def test_a_capture_that_is_full_for_one_kind_is_said_tap_quickbooks_80(
    books: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    added = books.add(1100)
    with caplog.at_level(logging.WARNING, "resources.quickbooks"):
        pages = books.changes()
    assert sorted(ids(pages)) == sorted(added)
    assert "more than 1000 Invoice objects changed since" in caplog.text


# -- limits and faults ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["429", "429_xml", "403_throttle"])
def test_a_throttle_in_any_form_is_waited_out_quickbooks_ruby_338_python_quickbooks_83(
    books: Harness, kind: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One by one: of several that meet a limit, only one waits (test_traffic).
    monkeypatch.setattr("resources.quickbooks.CONCURRENCY", 1)
    books.sandbox.fault("quickbooks", kind, path=QUERY, times=2)
    with caplog.at_level(logging.WARNING, "resources.rest"):
        assert len(ids(books.listing("2026-03"))) == 4
    assert books.naps == [60.0, 60.0]
    assert "ThrottleExceeded" in caplog.records[0].getMessage()


def test_a_retry_after_is_kept_and_one_of_an_hour_is_not_slept_through_airbyte_85216(
    books: Harness,
) -> None:
    books.sandbox.fault("quickbooks", "429", path=QUERY, headers={"Retry-After": "7"})
    books.listing(EMPTY)
    assert books.naps == [7.0]
    books.sandbox.fault("quickbooks", "429", path=QUERY, headers={"Retry-After": "3600"})
    with pytest.raises(SourceLimitError, match="must wait 3600 s"):
        books.listing(EMPTY)


def test_a_limit_that_does_not_end_is_an_error_that_may_be_tried_again(books: Harness) -> None:
    books.sandbox.fault("quickbooks", "429", path=QUERY, times=50)
    with pytest.raises(SourceLimitError, match="lower requests_per_second") as caught:
        books.listing(EMPTY)
    assert caught.value.retryable
    assert 6 <= books.queries() <= 6 + len(FORMS) - 1  # one tries again, for all


@pytest.mark.parametrize("kind", ["500", "reset", "html", "truncate", "401"])
def test_one_fault_is_survived(books: Harness, kind: str) -> None:
    books.sandbox.fault("quickbooks", kind, path=QUERY)
    assert len(ids(books.listing("2026-03"))) == 4


@pytest.mark.parametrize("kind", ["500", "reset", "html"])
def test_an_outage_is_an_error_that_may_be_tried_again(books: Harness, kind: str) -> None:
    books.sandbox.fault("quickbooks", kind, path=QUERY, times=50)
    with pytest.raises(SourceTimeoutError, match="failed on every try"):
        books.listing(EMPTY)
    assert 6 <= books.queries() <= 6 + len(FORMS) - 1


@pytest.mark.usefixtures("small_pages")
def test_ten_requests_are_in_flight_and_the_sandbox_takes_no_more(books: Harness) -> None:
    """Reference 2.4: ten at once for a company and an app."""
    added = books.add(120)
    counts = len(FORMS)
    books.sandbox.fault("quickbooks", "slow", path=QUERY, after=counts, times=12, seconds=1)
    pages = books.listing(EMPTY)
    assert ids(pages) == added
    assert [page.records for page in pages] == [10] * 12
    assert books.sandbox.state()["most_at_once"]["quickbooks"] == 10
    assert books.naps == []  # an eleventh would have been refused


@pytest.mark.usefixtures("small_pages")
def test_ten_requests_with_an_ended_token_make_one_renewal(books: Harness) -> None:
    added = books.add(120)
    books.client.server_time()
    renewed = books.sandbox.requests("quickbooks").get(TOKENS, 0)
    books.command("tokens", expire=True)
    assert ids(books.listing(EMPTY)) == added
    assert books.sandbox.requests("quickbooks")[TOKENS] == renewed + 1


@pytest.mark.usefixtures("small_pages")
def test_a_token_that_ends_during_paging_is_renewed_and_the_same_page_asked_for_again(
    books: Harness,
) -> None:
    added = books.add(15)
    listing = books.client.listing(EMPTY)
    pages = [next(listing)]
    renewed = books.sandbox.requests("quickbooks")[TOKENS]
    books.command("tokens", expire=True)
    pages += listing
    assert ids(pages) == added
    assert books.sandbox.requests("quickbooks")[TOKENS] == renewed + 1


def test_a_401_that_stays_after_a_new_token_is_told_as_such(books: Harness) -> None:
    books.sandbox.fault("quickbooks", "401", path=QUERY, times=50)
    with pytest.raises(SourceError, match=r"3200.*also right after logging in") as caught:
        books.listing(EMPTY)
    assert caught.value.code == "SYNC_AUTH"
    assert 2 <= books.queries() <= 2 * len(FORMS)


def test_html_that_stays_is_named_without_its_body(books: Harness) -> None:
    books.sandbox.fault("quickbooks", "html", path=QUERY, times=50, status=200)
    with pytest.raises(SourceSchemaError, match=r"answered HTTP 200, .*text/html") as caught:
        books.listing(EMPTY)
    assert "<" not in str(caught.value)


def test_html_with_403_is_no_matter_of_permission(books: Harness) -> None:
    books.sandbox.fault("quickbooks", "html", path=QUERY, status=403)
    with pytest.raises(SourceSchemaError, match="answered HTTP 403"):
        books.listing(EMPTY)


def test_a_wrong_query_is_refused_with_the_vendors_words_and_its_request_id(
    books: Harness,
) -> None:
    with pytest.raises(
        SourceSchemaError,
        match=r"refused: Invalid query: .*Property Color not found.* \(4001\); 1-sandbox-",
    ):
        books.client._count("Invoice", "Color = 'red'")


@pytest.mark.usefixtures("small_pages")
def test_a_repeated_page_does_not_pass_for_the_next_one(books: Harness) -> None:
    books.add(25)
    books.sandbox.fault("quickbooks", "repeat", path=QUERY, after=len(FORMS) + 1)
    pages = books.listing(EMPTY)
    assert len(set(ids(pages))) == 25  # the count told, and all were read again


def test_nothing_answering_is_one_line_that_names_the_origin(
    sandbox: Sandbox, ledger: Ledger
) -> None:
    nobody = {"api_url": "http://127.0.0.1:9", "realm_id": "77"}
    message = r"nothing answers at http://127\.0\.0\.1:9$"
    with (
        Harness(sandbox, ledger, secrets=nobody).client as client,
        pytest.raises(SourceTimeoutError, match=message),
    ):
        client.check()


def test_the_published_rate_is_kept_without_a_single_429(
    sandbox: Sandbox, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    client = QuickbooksClient(
        secrets(sandbox), open_ledger=lambda: ledger, settings=QuickbooksSettings()
    )
    with client:
        list(each(lambda _: client.server_time(), range(25), CONCURRENCY))
    assert [record for record in caplog.records if record.name == "resources.rest"] == []


# -- forms of faults -----------------------------------------------------------------------------

_XML = (
    b'<IntuitResponse><Fault type="SERVICE"><Error code="3001"><Message>message=ThrottleExceeded; '
    b"errorCode=003001; statusCode=403</Message><Detail>Try\n again</Detail></Error></Fault>"
    b"</IntuitResponse>"
)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            b'{"Fault":{"Error":[{"Message":"M","Detail":"D","code":"4000"}],"type":"V"}}',
            Fault("4000", "M", "D"),
        ),
        (
            b'{"fault":{"error":[{"message":"M","detail":null,"code":"003200","element":null}]}}',
            Fault("3200", "M", ""),
        ),
        (
            b'{"Fault":{"Error":[{"Message":"message=X; errorCode=003001; statusCode=429"}]}}',
            Fault("3001", "message=X; errorCode=003001; statusCode=429", ""),
        ),
        (
            _XML,
            Fault(
                "3001", "message=ThrottleExceeded; errorCode=003001; statusCode=403", "Try again"
            ),
        ),
        (b"<html><body>503</body></html>", None),
        (b'{"Fault":[]}', None),
        (b"[1]", None),
        (b"", None),
    ],
)
def test_a_fault_is_read_in_each_form_that_it_arrives_in(
    body: bytes, expected: Fault | None
) -> None:
    assert read_fault(Received(400, {}, body)) == expected


# -- the resource --------------------------------------------------------------------------------


@pytest.mark.parametrize("named", [True, False])
def test_the_resource_opens_the_ledger_by_its_url_also_outside_of_dagster(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    home = tmp_path if named else tmp_path / "new"  # the check may be the first thing done in it
    for name, value in {**sandbox.env, "REVREC_HOME": str(home)}.items():
        monkeypatch.setenv(name, value)
    if named:
        monkeypatch.setenv("REVREC_LEDGER_URL", f"duckdb:///{tmp_path}/other.duckdb")
    else:
        monkeypatch.delenv("REVREC_LEDGER_URL", raising=False)
    made = resource_of("quickbooks", Settings.load())
    with made.client() as client:
        assert client.check().account_id == REALM
    assert (home / ("other.duckdb" if named else "ledger.duckdb")).is_file()
    if named:
        assert "other.duckdb" not in repr(made)
