"""The Xero client against the sandbox: paging, changes, limits, and each fault of the list."""

import json
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

import pytest
from conftest import Sandbox
from pipeline import Pipeline

from resources.registry import resource_of
from resources.xero import XeroClient
from resources.xero_api import XeroSecrets
from revrec_pipeline.errors import (
    SettingsError,
    SourceAuthError,
    SourceError,
    SourceLimitError,
    SourceSchemaError,
    SourceTimeoutError,
)
from revrec_pipeline.lake import KEYS, Page
from revrec_pipeline.ledger import sync_errors
from revrec_pipeline.mapping.xero import XeroSettings
from revrec_pipeline.periods import period_range
from revrec_pipeline.sandbox.xero_data import credit_note_id, invoice_id
from revrec_pipeline.sandbox.xero_objects import ORGANISATION_NAME, TENANT, guid
from revrec_pipeline.settings import Settings

ZONE = "America/New_York"
INVOICES, CREDIT_NOTES = "/api.xro/2.0/Invoices", "/api.xro/2.0/CreditNotes"
EMPTY = "2031-05"  # a month of which the company knows nothing


class Harness:
    """A client of the sandbox that does not really sleep, and what it would have slept."""

    def __init__(self, sandbox: Sandbox, **settings: Any) -> None:
        self.sandbox = sandbox
        self.naps: list[float] = []
        self.client = XeroClient(
            secrets(sandbox),
            timezone=ZONE,
            settings=XeroSettings(**settings),
            sleep=self.naps.append,
        )

    def listing(self, period: str) -> list[Page]:
        """All pages of a month."""
        return list(self.client.listing(period))

    def changes(self, hours: float = 1) -> list[Page]:
        """All pages of what changed in the last hours, as the sandbox's clock counts them."""
        now = self.client.server_time()
        return list(self.client.changes(now - timedelta(hours=hours), now))

    def asked(self, path: str) -> int:
        """How often a path was asked for."""
        return self.sandbox.requests("xero").get(path, 0)

    def command(self, op: str, **fields: Any) -> dict[str, Any]:
        """A command to the sandbox's Xero."""
        return self.sandbox.command(op, source="xero", **fields)

    def add(self, count: int, period: str = EMPTY, **fields: Any) -> list[str]:
        """Approved invoices of one line, dated in a month."""
        fields = {"customer": "lumen", "amount": "10.00", "code": "SEAT", **fields}
        return [
            self.command(
                "add", fields={**fields, "date": f"{period}-{1 + n % 28:02d}", "seed": f"bulk-{n}"}
            )["id"]
            for n in range(count)
        ]


def secrets(sandbox: Sandbox, **fields: Any) -> XeroSecrets:
    """The secrets that the sandbox takes."""
    env = sandbox.env
    given = {
        "client_id": env["XERO_CLIENT_ID"],
        "client_secret": env["XERO_CLIENT_SECRET"],
        "api_url": env["XERO_API_URL"],
        **fields,
    }
    return XeroSecrets.model_validate(given)


def client_with(sandbox: Sandbox, **fields: Any) -> XeroClient:
    """A client with other secrets."""
    return XeroClient(secrets(sandbox, **fields), timezone=ZONE, settings=XeroSettings())


@pytest.fixture
def xero(sandbox: Sandbox) -> Iterator[Harness]:
    sandbox.command("limit", source="xero")
    harness = Harness(sandbox)
    with harness.client:
        yield harness


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> int:
    """Pages of ten documents instead of a thousand."""
    monkeypatch.setattr("resources.xero.PAGE_SIZE", 10)
    return 10


def documents(pages: list[Page], kind: str = "invoice") -> list[dict[str, Any]]:
    """The documents on pages, in order."""
    name = "Invoices" if kind == "invoice" else "CreditNotes"
    return [one for page in pages if page.object == kind for one in json.loads(page.body)[name]]


def ids(pages: list[Page], kind: str = "invoice") -> list[str]:
    """The ids of the documents on pages."""
    key = "InvoiceID" if kind == "invoice" else "CreditNoteID"
    return [one[key] for one in documents(pages, kind)]


def keys(pages: list[Page]) -> dict[str, dict[str, str | None]]:
    """The keys of all documents by id."""
    rows = [row for page in pages if page.keys is not None for row in page.keys.to_pylist()]
    return {row["id"]: row for row in rows}


# -- who and when --------------------------------------------------------------------------------


def test_check_names_the_organisation_and_what_is_left_of_the_day(xero: Harness) -> None:
    connection = xero.client.check()
    assert (connection.account_id, connection.account_name) == (TENANT, ORGANISATION_NAME)
    assert connection.api_version == "2.0"
    assert connection.limits == "4997 requests left of the day's"
    assert connection.missing == ()


def test_check_names_items_and_tracking_categories_that_only_the_settings_know(
    sandbox: Sandbox,
) -> None:
    harness = Harness(
        sandbox,
        terms={"PLAT-STD": 12, "PLAT-OLD": 12},
        custom_fields={"R": "Tracking.Region", "T": "Tracking.Team", "P": "Invoice.Reference"},
    )
    with harness.client as client:
        assert client.check().missing == ("item PLAT-OLD", "tracking category Team")
    elsewhere = Harness(sandbox, terms={"200": 12}, product_id_field="LineItem.AccountCode")
    with elsewhere.client as client:
        assert client.check().missing == ()


def test_check_names_a_scope_that_the_connection_lacks(sandbox: Sandbox) -> None:
    harness = Harness(sandbox, scopes=["accounting.settings.read"])
    with harness.client as client:
        assert client.check().missing == (
            "read access to invoices",
            "read access to credit notes",
        )
    harness = Harness(sandbox, scopes=["accounting.invoices.read"])
    with harness.client as client:
        connection = client.check()
    assert connection.missing == ("read access to settings",)
    assert connection.account_name == ORGANISATION_NAME


def test_a_scope_that_the_connection_was_not_given_is_named(xero: Harness) -> None:
    xero.command("scopes", granted=["accounting.settings.read"])
    with pytest.raises(SourceAuthError, match=r"lacks one of the scopes accounting\.invoices"):
        xero.listing("2026-01")
    assert xero.asked("/connect/token") == 1


def test_the_broad_scopes_of_an_older_connection_do_until_they_end(sandbox: Sandbox) -> None:
    sandbox.command(
        "scopes",
        source="xero",
        granted=["accounting.transactions.read", "accounting.settings.read"],
    )
    scopes = ["accounting.transactions.read", "accounting.settings.read"]
    with Harness(sandbox, scopes=scopes).client as client:
        assert client.check().missing == ()


def test_server_time_is_the_clock_of_the_source_and_costs_none_of_its_requests(
    xero: Harness,
) -> None:
    xero.sandbox.command("advance", seconds=90 * 86400)
    ahead = xero.client.server_time() - datetime.now(UTC)
    assert timedelta(days=89) < ahead < timedelta(days=91)
    assert set(xero.sandbox.requests("xero")) == {"/connect/token", "/connections"}


@pytest.mark.parametrize("name", ["XERO_CLIENT_ID", "XERO_CLIENT_SECRET"])
def test_a_missing_variable_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("XERO_CLIENT_ID", "id")
    monkeypatch.setenv("XERO_CLIENT_SECRET", "secret")
    monkeypatch.delenv(name)
    with pytest.raises(SettingsError, match=f"^{name} is not set"):
        XeroSecrets.from_env()


def test_the_secret_does_not_show_in_the_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XERO_CLIENT_ID", "id")
    monkeypatch.setenv("XERO_CLIENT_SECRET", "tell_nobody")
    assert "tell_nobody" not in repr(XeroSecrets.from_env())


def test_a_wrong_secret_ends_at_once_and_is_not_told(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    client = client_with(sandbox, client_secret="wrong_and_secret")
    with client, pytest.raises(SourceAuthError, match="check XERO_CLIENT_ID and") as caught:
        client.check()
    assert "wrong_and_secret" not in str(caught.value) + caplog.text
    assert "\n" not in str(caught.value)
    assert sandbox.requests("xero") == {"/connect/token": 1}


def test_the_dagster_resource_reads_the_environment_only_when_a_client_is_made(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = resource_of("xero", Settings())
    for name, value in sandbox.env.items():
        monkeypatch.setenv(name, value)
    with made.client() as client:
        assert client.check().account_name == ORGANISATION_NAME


# -- the organisation ----------------------------------------------------------------------------


def test_several_organisations_are_refused_by_name(xero: Harness) -> None:
    xero.command("tenants", names=["Fernhill Trading Ltd"])
    with pytest.raises(SourceAuthError) as caught:
        xero.listing("2026-01")
    other = guid("tenant", "Fernhill Trading Ltd")
    assert str(caught.value) == (
        f"xero: the app is connected to several organisations: {ORGANISATION_NAME} ({TENANT}), "
        f"Fernhill Trading Ltd ({other}); set XERO_TENANT_ID to one of them"
    )
    assert xero.asked(INVOICES) == 0


def test_of_several_organisations_the_one_that_is_named_is_read(sandbox: Sandbox) -> None:
    sandbox.command("tenants", source="xero", names=["Fernhill Trading Ltd"])
    with client_with(sandbox, tenant_id=TENANT) as client:
        assert client.check().account_name == ORGANISATION_NAME


def test_an_organisation_that_the_app_does_not_know_is_refused_with_those_it_knows(
    sandbox: Sandbox,
) -> None:
    client = client_with(sandbox, tenant_id="elsewhere")
    with client, pytest.raises(SourceAuthError, match=f"elsewhere, only to: {ORGANISATION_NAME}"):
        client.server_time()


def test_no_organisation_is_no_empty_month_tap_xero_51(xero: Harness) -> None:
    xero.command("tenants", names=[], only=True)
    with pytest.raises(SourceAuthError, match="connected to no organisation"):
        xero.listing("2026-01")


def test_an_organisation_that_was_disconnected_meanwhile_is_told(xero: Harness) -> None:
    xero.listing("2026-01")
    xero.command("tenants", names=[], only=True)
    with pytest.raises(SourceAuthError, match="may be disconnected: check XERO_TENANT_ID"):
        xero.listing("2026-02")


# -- the token -----------------------------------------------------------------------------------


def test_one_log_in_serves_many_requests(xero: Harness) -> None:
    for period in ("2026-01", "2026-02", "2026-03"):
        xero.listing(period)
    assert xero.asked("/connect/token") == 1


def test_an_expired_token_is_renewed_once_and_the_same_page_asked_for_airbyte_38928(
    xero: Harness, small_pages: int
) -> None:
    added = xero.add(25)
    listing = xero.client.listing(EMPTY)
    pages = [next(listing)]
    xero.sandbox.command("advance", seconds=31 * 60)
    pages += listing
    assert sorted(ids(pages)) == sorted(added)
    assert xero.asked("/connect/token") == 2
    assert xero.naps == []


def test_a_token_that_is_refused_right_after_logging_in_ends_the_run(xero: Harness) -> None:
    xero.sandbox.fault("xero", "401", path=INVOICES, times=2)
    with pytest.raises(SourceError, match=r"TokenExpired.*also right after logging in") as caught:
        xero.listing("2026-01")
    assert caught.value.code == "SYNC_AUTH"
    assert xero.asked("/connect/token") == 2


def test_eight_threads_with_an_expired_token_log_in_once(xero: Harness) -> None:
    """The official client's own handling made five to seven."""
    xero.listing("2026-01")
    xero.sandbox.command("advance", seconds=31 * 60)
    with ThreadPoolExecutor(8) as workers:
        found = list(workers.map(xero.listing, list(period_range("2025-01", "2025-08"))))
    assert len(found) == 8
    assert xero.asked("/connect/token") == 2


# -- a month -------------------------------------------------------------------------------------


def test_all_months_together_hold_every_sales_document_once(xero: Harness) -> None:
    pages = [page for month in period_range("2023-07", "2026-06") for page in xero.listing(month)]
    found = ids(pages)
    assert len(found) == len(set(found)) == 137
    assert len(ids(pages, "credit_note")) == 4
    assert {page.keys.schema for page in pages if page.keys is not None} == {KEYS}
    types = {one["Type"] for kind in ("invoice", "credit_note") for one in documents(pages, kind)}
    assert types == {"ACCREC", "ACCRECCREDIT"}  # suppliers' bills are in the same lists


def test_a_month_costs_two_requests_and_no_invoice_is_asked_for_alone_azure_docs_38398(
    xero: Harness,
) -> None:
    xero.listing("2026-01")
    assert xero.sandbox.requests("xero") == {
        "/connect/token": 1,
        "/connections": 1,
        INVOICES: 1,
        CREDIT_NOTES: 1,
    }


def test_a_page_keeps_the_bytes_and_says_where_they_came_from(xero: Harness) -> None:
    page = xero.listing("2025-03")[0]
    assert page.body.startswith(b'{\n  "Id": "')
    assert b'"Date": "\\/Date(1742428800000+0000)\\/"' in page.body
    assert page.request == (
        'GET /api.xro/2.0/Invoices?where=Type=="ACCREC" AND Date>=DateTime(2025,03,01) AND '
        "Date<DateTime(2025,04,01)&order=InvoiceID ASC&page=1&pageSize=1000&unitdp=4"
    )
    assert page.request_id is not None
    assert page.records == len(documents([page])) == 5
    assert abs(page.server_time - datetime.now(UTC)) < timedelta(minutes=1)


def test_documents_come_with_all_lines_and_prices_with_four_decimals_airbyte_66667(
    xero: Harness,
) -> None:
    found = documents(xero.listing("2025-01"))
    assert all(one["LineItems"] for one in found)
    (usage,) = (one for one in found if one["InvoiceID"] == invoice_id("usage-2025-01"))
    assert usage["LineItems"][0]["UnitAmount"] == 0.0125


def test_keys_hold_the_last_change_to_the_millisecond_and_the_day_s_month(xero: Harness) -> None:
    key = keys(xero.listing("2025-03"))[invoice_id("discounts")]
    assert key == {
        "id": invoice_id("discounts"),
        "version": "2025-04-10T14:00:00.940Z",
        "period": "2025-03",
        "window": "2025-03",
    }


def test_the_last_day_of_a_month_stays_in_it_whatever_the_sites_time_zone(xero: Harness) -> None:
    """Midnight UTC of 31 March is still 30 March in New York; it is no instant but a day."""
    assert keys(xero.listing("2024-03"))[invoice_id("auckland")]["period"] == "2024-03"
    assert invoice_id("auckland") not in keys(xero.listing("2024-04"))


def test_a_document_without_a_date_is_in_the_month_of_its_change_and_in_no_listing(
    xero: Harness,
) -> None:
    own = invoice_id("to-credit")
    fields = {"DateString": None, "Date": "/Date(0+0000)/"}
    xero.command("garble", id=own, fields=fields)
    key = keys(xero.changes())[own]
    assert (key["period"], key["window"]) == (datetime.now(UTC).strftime("%Y-%m"), None)


def test_a_document_that_does_not_say_when_it_changed_is_an_error(xero: Harness) -> None:
    own = invoice_id("to-credit")
    xero.command("garble", id=own, fields={"UpdatedDateUTC": None})
    with pytest.raises(SourceSchemaError, match=f"invoice {own} does not say when it changed"):
        xero.listing("2026-06")


def test_a_month_without_documents_is_two_empty_pages(xero: Harness) -> None:
    found = [(page.object, page.records) for page in xero.listing("2022-12")]
    assert found == [("invoice", 0), ("credit_note", 0)]


def test_ids_are_those_of_the_listing_and_come_without_lines(
    xero: Harness, small_pages: int
) -> None:
    xero.add(25, "2026-06")
    pages = xero.listing("2026-06")
    swept = [row for batch in xero.client.ids("2026-06") for row in batch.to_pylist()]
    expected = {("invoice", one) for one in ids(pages)}
    expected |= {("credit_note", one) for one in ids(pages, "credit_note")}
    assert {(row["object"], row["id"]) for row in swept} == expected
    assert len(swept) == len(expected) == 34


# -- paging --------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 9, 10, 11, 37])
def test_paging_loses_nothing(xero: Harness, small_pages: int, count: int) -> None:
    added = xero.add(count)
    pages = xero.listing(EMPTY)
    assert ids(pages) == sorted(added)
    assert xero.asked(INVOICES) == -(-count // small_pages)


def test_documents_edited_during_paging_lose_nothing_and_nothing_is_read_again(
    xero: Harness, small_pages: int
) -> None:
    """Ordered by time of change they would go to the end, and the next page begin too late."""
    added = xero.add(25)
    listing = xero.client.listing(EMPTY)
    pages = [next(listing)]
    for own in ids(pages)[:3]:
        xero.command("edit", id=own, fields={"Reference": "edited meanwhile"})
    pages += listing
    assert ids(pages) == sorted(added)
    assert xero.asked(INVOICES) == 3


def test_documents_that_change_while_changes_are_paged_lose_none_of_the_others(
    xero: Harness, small_pages: int
) -> None:
    added = set(xero.add(25))
    changes = xero.client.changes(
        xero.client.server_time() - timedelta(hours=1), xero.client.server_time()
    )
    pages = [next(changes)]
    for name in ("seats", "words", "again", "sold-1", "sold-8"):
        xero.command("edit", id=invoice_id(name), fields={"Reference": "edited meanwhile"})
    pages += changes
    assert added <= set(ids(pages))


def test_a_document_that_leaves_the_month_during_paging_has_the_month_read_again(
    xero: Harness, small_pages: int, caplog: pytest.LogCaptureFixture
) -> None:
    added = sorted(xero.add(25))
    listing = xero.client.listing(EMPTY)
    pages = [next(listing)]
    xero.command("edit", id=added[0], fields={"Date": "2031-06-02"})  # the rest moves up by one
    pages += listing
    assert set(ids(pages)) == set(added)
    assert "Invoices brought 24 of 25 documents, reading 1 of 3" in caplog.text


def test_a_list_that_never_holds_still_is_an_error_that_may_be_tried_again(
    xero: Harness, small_pages: int
) -> None:
    added = sorted(xero.add(25))

    def read_while_one_leaves_in_each_reading() -> None:
        for number, page in enumerate(xero.client.listing(EMPTY)):
            if page.object == "invoice" and number % 3 == 0:
                xero.command("edit", id=added[number], fields={"Date": "2031-06-02"})

    with pytest.raises(SourceSchemaError, match=r"brought \d+ of \d+ documents, also") as caught:
        read_while_one_leaves_in_each_reading()
    assert caught.value.retryable


def test_a_page_that_comes_twice_is_asked_for_again(xero: Harness, small_pages: int) -> None:
    added = xero.add(25)
    xero.sandbox.fault("xero", "repeat", path=INVOICES, after=1)
    assert ids(xero.listing(EMPTY)) == sorted(added)


def test_a_page_that_never_comes_is_an_error(xero: Harness, small_pages: int) -> None:
    xero.add(25)
    xero.sandbox.fault("xero", "repeat", path=INVOICES, after=1, times=9)
    with pytest.raises(SourceSchemaError, match=r"page 1 came instead of page [23]"):
        xero.listing(EMPTY)


# -- changes -------------------------------------------------------------------------------------


def test_changes_bring_documents_whatever_became_of_them_nango_451(xero: Harness) -> None:
    told = xero.command("story")["xero"]
    xero.command("delete", id=invoice_id("submitted"))
    pages = xero.changes()
    found = {one["InvoiceID"]: one for one in documents(pages)}
    assert found[told["voided"]]["Status"] == "VOIDED"
    assert found[told["approved"]]["Status"] == "AUTHORISED"
    assert found[invoice_id("submitted")]["Status"] == "DELETED"
    assert keys(pages)[told["moved from 2026-05 to 2026-06"]]["period"] == "2026-06"
    assert ids(pages, "credit_note") == [told["credit note"]]
    assert all(one["LineItems"] for one in found.values())


def test_allocating_and_taking_it_back_touch_both_documents(xero: Harness) -> None:
    note, invoice = credit_note_id("outage"), invoice_id("outage-2")
    xero.command("unallocate", id=note)
    pages = xero.changes()
    assert (ids(pages), ids(pages, "credit_note")) == ([invoice], [note])
    (shown,) = documents(pages, "credit_note")
    assert (shown["Status"], shown["RemainingCredit"]) == ("AUTHORISED", 200)
    assert [one["IsDeleted"] for one in shown["Allocations"]] == [False, True]


def test_a_window_begins_at_its_whole_second_and_has_no_upper_bound(xero: Harness) -> None:
    xero.command("void", id=invoice_id("to-void"))
    (key,) = keys(xero.changes()).values()
    changed = datetime.fromisoformat(str(key["version"]))
    later = changed + timedelta(milliseconds=1)
    assert ids(list(xero.client.changes(later, later))) == [invoice_id("to-void")]
    after = changed + timedelta(seconds=1)
    assert ids(list(xero.client.changes(after, after))) == []


def test_a_window_in_another_zone_asks_in_utc(xero: Harness) -> None:
    xero.command("void", id=invoice_id("to-void"))
    zone = ZoneInfo("Pacific/Auckland")
    since = (xero.client.server_time() - timedelta(minutes=5)).astimezone(zone)
    assert ids(list(xero.client.changes(since, since))) == [invoice_id("to-void")]


def test_windows_of_years_are_read_like_any_other(xero: Harness) -> None:
    """Xero keeps no feed that could run out; the filter keeps suppliers' bills out."""
    pages = xero.changes(hours=24 * 365 * 5)
    assert len(ids(pages)) == 137
    assert len(ids(pages, "credit_note")) == 4


def test_the_overlap_and_the_lag_are_those_of_the_rules(xero: Harness) -> None:
    assert xero.client.lookback >= timedelta(minutes=10)
    assert xero.client.lag > timedelta(0)


# -- limits --------------------------------------------------------------------------------------


def test_the_limit_of_a_minute_waits_as_long_as_xero_says_tap_xero_90(xero: Harness) -> None:
    xero.sandbox.fault("xero", "429", path=INVOICES)
    assert len(ids(xero.listing("2025-03"))) == 5
    assert xero.naps == [7.0]


def test_the_limit_of_the_app_waits_too(xero: Harness) -> None:
    xero.sandbox.fault("xero", "appminute", path=INVOICES)
    xero.listing("2025-03")
    assert xero.naps == [3.0]


def test_five_requests_are_in_flight_and_the_sandbox_takes_no_more(
    xero: Harness, small_pages: int
) -> None:
    """Reference 2.6: five at once for an app in an organisation."""
    added = xero.add(80)
    xero.sandbox.fault("xero", "slow", path=INVOICES, after=1, times=7, seconds=1)
    pages = xero.listing(EMPTY)
    assert ids(pages) == sorted(added)
    assert [page.records for page in pages if page.object == "invoice"] == [small_pages] * 8
    assert xero.sandbox.state()["most_at_once"]["xero"] == 5
    assert xero.naps == []


def test_too_many_at_a_time_backs_off_though_no_retry_after_comes(xero: Harness) -> None:
    xero.sandbox.fault("xero", "concurrent", path=INVOICES, times=3)
    xero.listing("2025-03")
    assert len(xero.naps) == 3
    assert 0 < xero.naps[0] < xero.naps[1] < xero.naps[2] < 5


def test_a_limit_of_a_minute_that_does_not_end_may_be_tried_again_later(xero: Harness) -> None:
    xero.sandbox.fault("xero", "429", path=INVOICES, times=20)
    with pytest.raises(SourceLimitError, match=r"limited for too long.*: minute") as caught:
        xero.listing("2025-03")
    assert caught.value.retryable


def test_the_limit_of_a_day_ends_the_run_at_once_and_says_when_it_opens_azure_docs_38398(
    xero: Harness,
) -> None:
    xero.sandbox.fault("xero", "day", path=INVOICES)
    with pytest.raises(SourceLimitError, match="a day are used up; sync again after 20") as caught:
        xero.listing("2025-03")
    error = caught.value
    assert (error.retryable, error.retry_after, xero.naps) == (False, 41000, [])
    assert error.resets_at is not None
    assert abs(error.resets_at - datetime.now(UTC) - timedelta(seconds=41000)) < timedelta(
        seconds=9
    )
    assert xero.asked(INVOICES) == 1


def test_a_pause_longer_than_a_run_may_take_is_not_taken(xero: Harness) -> None:
    xero.sandbox.fault("xero", "429", path=INVOICES, headers={"Retry-After": "3600"})
    with pytest.raises(SourceLimitError, match="must wait 3600 s"):
        xero.listing("2025-03")
    assert xero.naps == []


def test_the_published_rate_is_the_default_airbyte_81524() -> None:
    assert XeroSettings().requests_per_minute == 60


def test_the_setting_paces_the_organisation_s_requests_and_no_others(sandbox: Sandbox) -> None:
    harness = Harness(sandbox, requests_per_minute=3)
    with harness.client as client:
        for _ in range(5):
            client.server_time()
        assert harness.naps == []
        harness.listing("2025-03")
        harness.listing("2025-04")
    assert len(harness.naps) == 1
    assert 50 < harness.naps[0] <= 60


def test_the_sandboxes_limit_of_a_minute_is_waited_out(sandbox: Sandbox) -> None:
    sandbox.command("limit", source="xero", per_minute=3)
    harness = Harness(sandbox)

    def sleep(seconds: float) -> None:
        harness.naps.append(seconds)
        sandbox.command("advance", seconds=seconds)

    client = XeroClient(secrets(sandbox), timezone=ZONE, settings=XeroSettings(), sleep=sleep)
    with client:
        found = [page for month in ("2025-03", "2025-04") for page in client.listing(month)]
    assert [page.object for page in found] == ["invoice", "credit_note"] * 2
    assert len(harness.naps) == 1
    assert 50 < harness.naps[0] <= 61


# -- what breaks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["500", "html", "reset", "truncate"])
@pytest.mark.parametrize("path", [INVOICES, "/connect/token", "/connections"])
def test_what_passes_by_itself_is_tried_again(xero: Harness, kind: str, path: str) -> None:
    xero.sandbox.fault("xero", kind, path=path)
    assert len(ids(xero.listing("2025-03"))) == 5
    assert xero.asked(path) == 2


@pytest.mark.parametrize(("kind", "times"), [("html", 20), ("reset", 20)])
def test_what_does_not_pass_is_told_in_one_line(xero: Harness, kind: str, times: int) -> None:
    xero.sandbox.fault("xero", kind, path=INVOICES, times=times)
    with pytest.raises(SourceTimeoutError, match=f"GET {INVOICES} failed on every try") as caught:
        xero.listing("2025-03")
    assert "\n" not in str(caught.value)
    assert xero.asked(INVOICES) == 6  # the official client's pool does not try on its own


def test_nothing_that_answers_is_named_by_its_origin() -> None:
    naps: list[float] = []
    client = XeroClient(
        XeroSecrets.model_validate(
            {"client_id": "i", "client_secret": "s", "api_url": "http://127.0.0.1:9"}
        ),
        timezone=ZONE,
        settings=XeroSettings(),
        sleep=naps.append,
    )
    with client, pytest.raises(SourceTimeoutError, match=r"nothing answers at http://127.0.0.1:9$"):
        client.check()
    assert len(naps) == 5


@pytest.mark.parametrize(
    ("kind", "error", "words"),
    [
        ("400", SourceSchemaError, "A validation exception occurred; The query is too large"),
        ("404", SourceSchemaError, "HTTP 404, 0 bytes"),
        ("403", SourceAuthError, r"is forbidden \(AuthenticationUnsuccessful"),
        ("scope", SourceAuthError, r"is not permitted \(AuthorizationUnsuccessful"),
    ],
)
def test_what_will_not_change_ends_at_once(
    xero: Harness, kind: str, error: type[SourceError], words: str
) -> None:
    xero.sandbox.fault("xero", kind, path=INVOICES)
    with pytest.raises(error, match=words):
        xero.listing("2025-03")
    assert xero.asked(INVOICES) == 1
    assert xero.naps == []


def test_every_request_goes_to_the_other_origin_with_its_path_and_query(xero: Harness) -> None:
    pages = [*xero.listing("2025-03"), *xero.changes()]
    assert {urlsplit(page.request.split(" ", 1)[1]).path for page in pages} == {
        INVOICES,
        CREDIT_NOTES,
    }
    query = parse_qs(urlsplit(pages[0].request.split(" ", 1)[1]).query)
    assert query["pageSize"] == ["1000"]


# -- the whole way -------------------------------------------------------------------------------

_TOML = """\
[sources.xero]
order_number_field = "Invoice.Reference"
custom_fields = { Region = "Tracking.Region" }
"""


def test_a_month_is_listed_built_and_delivered_and_a_void_leaves_it(
    make_pipeline: Callable[..., Pipeline], sandbox: Sandbox
) -> None:
    pipeline = make_pipeline(toml=_TOML)
    pipeline.run("sync_xero", "2026-05")
    pipeline.run("sync_xero", "2026-06")
    pipeline.route()
    first = pipeline.job("xero", "invoices")
    assert (first["status"], first["failures"]) == ("delivered", [])
    assert first["counts"] == {
        "source": 13, "delivered": 10, "unchanged": 0, "flagged": 0, "excluded": 3,
    }  # fmt: skip
    told = sandbox.command("story", source="xero")["xero"]
    sandbox.command("advance", seconds=120)
    pipeline.run("changes_xero")
    ran = pipeline.route()
    assert {name for name in ran if name.startswith("rebuild")} == {
        "rebuild_xero 2025-12",
        "rebuild_xero 2026-05",
        "rebuild_xero 2026-06",
    }
    second = pipeline.job("xero", "invoices")
    with pipeline.ledger.transaction() as tx:
        rows = tx.rows("SELECT document_id, period FROM document WHERE source = 'xero'")
    held = {row["document_id"]: row["period"] for row in rows}
    assert held[told["approved"]] == held[told["credit note"]] == "2026-06"
    assert held[told["moved from 2026-05 to 2026-06"]] == "2026-06"
    assert told["voided"] not in held
    assert second["counts"]["flagged"] == 0


def test_an_invoice_without_an_item_is_flagged_with_its_link(
    pipeline: Pipeline, sandbox: Sandbox
) -> None:
    pipeline.run("sync_xero", "2025-12")
    pipeline.route()
    with pipeline.ledger.transaction() as tx:
        (error,) = sync_errors.list_errors(tx)
    own = invoice_id("no-item")
    assert (error["code"], error["field"]) == ("IN_MISSING_REQUIRED", "Product Code")
    assert error["record_id"] == own
    assert error["url"] == f"https://go.xero.com/AccountsReceivable/View.aspx?InvoiceID={own}"
    assert pipeline.job("xero", "invoices")["counts"]["flagged"] == 2
