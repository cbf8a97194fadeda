"""The Chargebee client against the sandbox: paging, changes, limits, and each fault of the list."""

import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import unquote_plus
from zoneinfo import ZoneInfo

import msgspec
import pyarrow.parquet as pq
import pytest
import requests
from conftest import Sandbox
from pipeline import Pipeline

from resources.chargebee import (
    IDS_LENGTH,
    UNSTAMPED,
    ChargebeeClient,
    _batches,
)
from resources.chargebee_api import BLOCKED, ChargebeeSecrets
from resources.client import IDS
from resources.registry import resource_of
from revrec_pipeline.canonical import build
from revrec_pipeline.errors import (
    SettingsError,
    SourceAuthError,
    SourceError,
    SourceLimitError,
    SourceSchemaError,
    SourceTimeoutError,
)
from revrec_pipeline.lake import KEYS, Lake, Page
from revrec_pipeline.mapping.chargebee import SOURCE, ChargebeeSettings
from revrec_pipeline.model import RecordType
from revrec_pipeline.periods import period_range
from revrec_pipeline.sandbox import company
from revrec_pipeline.sandbox.chargebee_data import SUBSCRIPTIONS, at, subscription_invoice
from revrec_pipeline.settings import Settings

ZONE = "America/New_York"
HTTP_LOG = "resources.rest"
CONTRACTS = {"invoice_equals_contract": True, "invoice_period_equals_contract_term": False}


class Harness:
    """A client of the sandbox that does not really sleep, and what it would have slept."""

    def __init__(self, sandbox: Sandbox, **settings: Any) -> None:
        self.sandbox = sandbox
        self.naps: list[float] = []
        self.client = ChargebeeClient(
            secrets(sandbox),
            timezone=ZONE,
            settings=ChargebeeSettings.model_validate(
                {"requests_per_minute": 100_000_000, **settings}
            ),
            sleep=self.naps.append,
        )

    def listing(self, period: str) -> list[Page]:
        """All pages of a month."""
        return list(self.client.listing(period))

    def changes(self, hours: float = 1) -> list[Page]:
        """All pages of what changed in the last hours, as the sandbox's clock counts them."""
        now = self.client.server_time()
        return list(self.client.changes(now - timedelta(hours=hours), now + timedelta(seconds=2)))

    def asked(self, path: str) -> int:
        """How often a path was asked for."""
        return self.sandbox.requests("chargebee").get(f"/api/v2/{path}", 0)

    def command(self, op: str, **fields: Any) -> dict[str, Any]:
        """A command to the sandbox's Chargebee."""
        return self.sandbox.command(op, source="chargebee", **fields)

    def fault(self, kind: str, path: str = "*", **fields: Any) -> None:
        """Arm a fault of the sandbox's Chargebee."""
        self.sandbox.fault("chargebee", kind, path=f"/api/v2/{path}", **fields)

    def add(self, count: int, **fields: Any) -> None:
        """Invoices one second apart in July 2019, which is empty otherwise."""
        for number in range(count):
            given = {"customer": "lumen", "amount": 100, "date": at(2019, 7, 15) + number}
            self.command(
                "add", object="invoice", fields={**given, "id": f"BULK-{number:04d}", **fields}
            )


def secrets(sandbox: Sandbox, **fields: Any) -> ChargebeeSecrets:
    """The secrets that the sandbox takes."""
    env = sandbox.env
    given = {name: env[f"CHARGEBEE_{name.upper()}"] for name in ("site", "api_key", "api_url")}
    return ChargebeeSecrets.model_validate({**given, **fields})


@pytest.fixture
def make(sandbox: Sandbox) -> Iterator[Callable[..., Harness]]:
    sandbox.command("limit", source="chargebee", per_minute=None)
    made: list[Harness] = []

    def harness(**settings: Any) -> Harness:
        made.append(Harness(sandbox, **settings))
        return made[-1]

    yield harness
    for one in made:
        with one.client:
            pass


@pytest.fixture
def chargebee(make: Callable[..., Harness]) -> Harness:
    return make()


def records(pages: list[Page], name: str = "invoice") -> list[dict[str, Any]]:
    """The records on the pages of a raw object, in order."""
    found: list[dict[str, Any]] = []
    envelope = {"credited_invoice": "invoice"}.get(name, name)
    for page in pages:
        if page.object == name:
            found += [element[envelope] for element in json.loads(page.body)["list"]]
    return found


def ids(pages: list[Page], name: str = "invoice") -> list[str]:
    """The ids of the records on pages."""
    return [one["id"] for one in records(pages, name)]


def keys(pages: list[Page]) -> dict[str, dict[str, str | None]]:
    """The keys of all documents by id."""
    rows = [row for page in pages if page.keys is not None for row in page.keys.to_pylist()]
    return {row["id"]: row for row in rows}


# -- who and when --------------------------------------------------------------------------------


def test_check_names_the_site_its_catalogue_and_the_version(chargebee: Harness) -> None:
    connection = chargebee.client.check()
    assert connection.account_id == "fernhill-test"
    assert connection.account_name == "fernhill-test (product catalogue v2)"
    assert (connection.api_version, connection.missing) == ("v2", ())


def test_check_names_what_the_key_may_not_read(chargebee: Harness) -> None:
    chargebee.fault("403", "credit_notes")
    chargebee.fault("403", "configurations")
    connection = chargebee.client.check()
    assert connection.missing == ("read access to credit notes",)
    assert connection.account_name == "fernhill-test (product catalogue unknown)"


def test_server_time_is_the_clock_of_the_source(chargebee: Harness) -> None:
    chargebee.sandbox.command("advance", seconds=90 * 86400)
    ahead = chargebee.client.server_time() - datetime.now(UTC)
    assert timedelta(days=89) < ahead < timedelta(days=91)


@pytest.mark.parametrize(
    ("site", "origin"),
    [
        ("acme", "https://acme.chargebee.com"),
        ("Acme-Test.chargebee.com", "https://acme-test.chargebee.com"),
        ("https://acme.chargebee.com/", "https://acme.chargebee.com"),
        ("acme.eu", "https://acme.eu.chargebee.com"),
    ],
)
def test_a_site_is_a_name_or_a_host(site: str, origin: str) -> None:
    assert ChargebeeSecrets(site=site, api_key="key").origin == origin  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, r"^CHARGEBEE_SITE is not set; "),
        ({"CHARGEBEE_SITE": "acme"}, r"^CHARGEBEE_API_KEY is not set; "),
        (
            {"CHARGEBEE_SITE": "http://evil/?x", "CHARGEBEE_API_KEY": "k"},
            "^CHARGEBEE_SITE is no site",
        ),
    ],
)
def test_a_missing_or_wrong_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], message: str
) -> None:
    for name in ("CHARGEBEE_SITE", "CHARGEBEE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=message):
        ChargebeeSecrets.from_env()


def test_a_wrong_key_ends_at_once_and_is_not_told(sandbox: Sandbox) -> None:
    wrong = secrets(sandbox, api_key="live_wrong_and_secret")
    assert "wrong_and_secret" not in repr(wrong)
    client = ChargebeeClient(wrong, timezone=ZONE, settings=ChargebeeSettings())
    with client, pytest.raises(SourceAuthError, match="check CHARGEBEE_API_KEY") as caught:
        client.check()
    assert "wrong_and_secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sandbox.requests("chargebee") == {"/api/v2/invoices": 1}


def test_a_site_that_does_not_exist_is_told_by_the_name_of_the_variable(chargebee: Harness) -> None:
    chargebee.fault("site_not_found")
    with pytest.raises(SourceAuthError, match=r"check CHARGEBEE_SITE$"):
        chargebee.client.server_time()


def test_the_dagster_resource_reads_the_environment_only_when_a_client_is_made(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = resource_of("chargebee", Settings())
    for name, value in sandbox.env.items():
        monkeypatch.setenv(name, value)
    with made.client() as client:
        assert client.check().account_id == "fernhill-test"


# -- a month -------------------------------------------------------------------------------------


def test_all_months_together_hold_every_document_once_with_what_it_refers_to(
    chargebee: Harness,
) -> None:
    months = period_range(company.FOUNDED, company.LAST_MONTH)
    found: list[str] = []
    for month in months:
        pages = chargebee.listing(month)
        found += ids(pages) + ids(pages, "credit_note")
        documents = records(pages) + records(pages, "credit_note")
        assert {one["customer_id"] for one in documents} == set(ids(pages, "customer"))
        credited = {one["reference_invoice_id"] for one in records(pages, "credit_note")}
        assert credited == set(ids(pages, "credited_invoice"))
        assert {key["period"] for key in keys(pages).values()} <= {month}
    assert len(found) == len(set(found)) == 173


def test_a_month_begins_and_ends_by_the_sites_clocks(chargebee: Harness) -> None:
    evening = subscription_invoice("harborfoods", 1)  # 22:30 on 31 January, 1 February in UTC
    pages = chargebee.listing("2025-01")
    assert keys(pages)[evening]["period"] == keys(pages)[evening]["window"] == "2025-01"
    assert evening not in ids(chargebee.listing("2025-02"))


def test_a_page_keeps_the_bytes_and_names_the_site_that_it_came_from(chargebee: Harness) -> None:
    page = chargebee.listing("2025-01")[0]
    assert page.body.startswith(b'{"list":[{"invoice":{"id":"')
    assert page.request == (
        "GET https://fernhill-test.chargebee.com/api/v2/invoices?limit=100"
        "&date[between]=[1735707600,1738385999]&sort_by[asc]=date&include_deleted=true"
    )
    assert page.records == 7
    assert page.keys is not None
    assert page.keys.schema == KEYS


def test_the_version_is_the_vendors_stamp_in_milliseconds_as_text_that_sorts(
    chargebee: Harness,
) -> None:
    pages = chargebee.listing("2025-01")
    (found,) = [one for one in records(pages) if one["id"] == "CAMDEN-001"]
    when = datetime.fromtimestamp(found["resource_version"] // 1000, UTC)
    version = keys(pages)["CAMDEN-001"]["version"]
    assert version == f"{when:%Y-%m-%dT%H:%M:%S}.086Z"


def test_a_document_that_nothing_ever_stamped_is_listed_posthog_76090(chargebee: Harness) -> None:
    assert keys(chargebee.listing("2023-07"))["IMPORTED-001"] == {
        "id": "IMPORTED-001",
        "version": UNSTAMPED,
        "period": "2023-07",
        "window": "2023-07",
    }


def test_deleted_documents_are_listed_with_their_amounts(chargebee: Harness) -> None:
    (deleted,) = [one for one in records(chargebee.listing("2025-07")) if one["deleted"]]
    assert (deleted["id"], deleted["total"]) == ("FIORDI-001", 171000)


def test_a_document_without_a_date_is_in_the_month_in_which_it_was_made(chargebee: Harness) -> None:
    chargebee.command("edit", object="invoice", id="VIREO-001", fields={"date": None})
    key = keys(chargebee.changes())["VIREO-001"]
    assert (key["period"], key["window"]) == ("2025-04", None)


def test_a_document_without_a_date_and_a_creation_is_in_the_month_of_its_last_update(
    chargebee: Harness,
) -> None:
    gone = {"date": None, "generated_at": None}
    chargebee.command("edit", object="invoice", id="VIREO-001", fields=gone)
    now = chargebee.client.server_time().astimezone(ZoneInfo(ZONE))
    assert keys(chargebee.changes())["VIREO-001"]["period"] == f"{now:%Y-%m}"


def test_ids_are_those_of_the_listing(chargebee: Harness) -> None:
    batches = list(chargebee.client.ids("2026-02"))
    pages = chargebee.listing("2026-02")
    assert {batch.schema for batch in batches} == {IDS}
    assert [row for batch in batches for row in batch.to_pylist()] == [
        {"object": name, "id": one}
        for name in ("invoice", "credit_note")
        for one in ids(pages, name)
    ]


# -- paging --------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 99, 100, 101, 307])
def test_paging_loses_nothing_airbyte_76465(chargebee: Harness, count: int) -> None:
    chargebee.add(count)
    pages = chargebee.listing("2019-07")
    assert ids(pages) == [f"BULK-{number:04d}" for number in range(count)]
    whole = max((count + 99) // 100, 1)
    # A list of several pages is listed anew in four parts, most of which may be empty.
    assert chargebee.asked("invoices") <= (whole if whole == 1 else 1 + 3 + whole)


def test_documents_that_share_one_second_are_all_paged(chargebee: Harness) -> None:
    chargebee.add(150, date=at(2019, 7, 15))
    assert len(set(ids(chargebee.listing("2019-07")))) == 150


def test_an_offset_is_passed_back_as_it_came(chargebee: Harness) -> None:
    chargebee.add(101, date=at(2019, 7, 15))
    pages = [page for page in chargebee.listing("2019-07") if page.records]
    first, second = pages[:2]
    offset = json.loads(first.body)["next_offset"]
    assert second.request.endswith(f"&offset={offset}")
    assert offset.startswith('["156')


def test_documents_added_and_edited_during_paging_lose_nothing_airbyte_48510(
    chargebee: Harness,
) -> None:
    chargebee.add(150)
    listing = chargebee.client.listing("2019-07")
    pages = [next(listing)]
    chargebee.add(1, id="LATE", date=at(2019, 7, 1))
    chargebee.command("edit", object="invoice", id="BULK-0003", fields={"po_number": "7"})
    chargebee.command("delete", object="invoice", id="BULK-0099")  # where the page ended
    pages += listing
    assert set(ids(pages)) - {"LATE"} == {f"BULK-{number:04d}" for number in range(150)}


def test_a_list_that_leads_back_to_a_page_is_an_error(chargebee: Harness) -> None:
    chargebee.add(250)
    chargebee.fault("repeat", "invoices", after=1)
    pages = chargebee.client._api.pages("/invoices", msgspec.Raw)
    with pytest.raises(SourceSchemaError, match="leads back to a page that was read already"):
        list(pages)


def test_a_list_of_several_pages_is_read_in_parts_side_by_side(chargebee: Harness) -> None:
    for day in (2, 10, 18, 26):
        for number in range(26):
            chargebee.add(1, id=f"{day:02d}-{number:02d}", date=at(2019, 7, day) + number)
    chargebee.fault("slow", "invoices", times=10**6, seconds=0.3)
    found = ids(chargebee.listing("2019-07"))
    assert found == sorted(set(found))
    assert len(found) == 104
    assert chargebee.sandbox.state()["most_at_once"]["chargebee"] == 4


def test_ids_are_asked_for_in_lists_that_fit_into_a_request() -> None:
    names = [f"客户-{number:05d}" for number in range(1000)]
    batches = list(_batches(names))
    assert [one for batch in batches for one in batch] == names
    assert max(len(batch) for batch in batches) <= 100
    longest = max(len(requests.utils.quote(json.dumps(b, ensure_ascii=False))) for b in batches)
    assert longest < IDS_LENGTH * 1.2
    assert list(_batches([])) == []
    assert list(_batches(["x" * 9000, "y"])) == [["x" * 9000], ["y"]]


def test_customers_of_many_invoices_are_asked_for_together(chargebee: Harness) -> None:
    pages = chargebee.listing("2025-01")
    (page,) = [page for page in pages if page.object == "customer"]
    assert 'id[in]=["bluepeak","camden",' in unquote_plus(page.request)
    assert chargebee.asked("customers") == 1


# -- lines of huge documents ---------------------------------------------------------------------


def test_an_invoice_that_lists_show_without_lines_comes_with_all_of_them(
    chargebee: Harness,
) -> None:
    pages = chargebee.listing("2026-01")
    (hidden,) = [one for one in records(pages) if one["id"] == "QUARRY-001"]
    assert (hidden["line_items"], hidden["total"]) != ([], 0)
    (page,) = [page for page in pages if page.object == "invoice_line"]
    assert (page.parent, page.records, page.keys) == ("QUARRY-001", 41, None)
    assert "SEAT-USD-Yearly" in ids(pages, "item_price")


def test_an_invoice_with_650_lines_takes_three_requests_for_them(chargebee: Harness) -> None:
    chargebee.add(1, lines=650)
    pages = [page for page in chargebee.listing("2019-07") if page.object == "invoice_line"]
    assert [page.records for page in pages] == [300, 300, 50]
    lines = [line for page in pages for line in json.loads(page.body)["invoice"]["line_items"]]
    assert len({line["id"] for line in lines}) == 650


def test_a_huge_credit_note_comes_with_its_lines_and_those_of_its_invoice(
    chargebee: Harness,
) -> None:
    pages = [page for page in chargebee.listing("2026-02") if page.object.endswith("_line")]
    assert [(page.object, page.parent, page.records) for page in pages] == [
        ("credit_note_line", "CN-008", 34),
        ("invoice_line", "QUARRY-001", 41),
    ]


def test_lines_are_landed_once_where_an_invoice_and_its_credit_note_changed(
    chargebee: Harness,
) -> None:
    for kind, identifier in (("invoice", "QUARRY-001"), ("credit_note", "CN-008")):
        chargebee.command("edit", object=kind, id=identifier, fields={"notes": []})
    pages = [page for page in chargebee.changes() if page.object == "invoice_line"]
    assert [(page.parent, page.records) for page in pages] == [("QUARRY-001", 41)]


def test_lines_of_an_invoice_that_was_deleted_meanwhile_are_let_be(chargebee: Harness) -> None:
    chargebee.add(1, lines=40)
    chargebee.fault("404", "invoices/BULK-0000")
    assert [page.object for page in chargebee.listing("2019-07")][:2] == ["invoice", "credit_note"]


def test_an_id_with_a_slash_is_one_part_of_the_path(chargebee: Harness) -> None:
    chargebee.add(1, lines=40, id="2026/07")
    requested = [page.request for page in chargebee.listing("2019-07") if page.parent]
    assert requested == [
        "GET https://fernhill-test.chargebee.com/api/v2/invoices/2026%2F07?line_items_limit=300"
    ]


def test_lines_of_several_invoices_are_fetched_at_once(chargebee: Harness) -> None:
    chargebee.add(4, lines=31)
    chargebee.fault("slow", "invoices/*", times=4, seconds=0.3)
    pages = [page for page in chargebee.listing("2019-07") if page.object == "invoice_line"]
    assert [page.parent for page in pages] == [f"BULK-{number:04d}" for number in range(4)]
    assert chargebee.sandbox.state()["most_at_once"]["chargebee"] == 4


# -- contract terms ------------------------------------------------------------------------------


def test_contract_terms_come_where_they_decide_orders(make: Callable[..., Harness]) -> None:
    pages = make(**CONTRACTS).listing("2025-08")
    (tulip,) = [one for one in SUBSCRIPTIONS if one.customer == "tulip"]
    terms = [one for one in records(pages, "contract_term") if one["subscription_id"] == tulip.id]
    assert [term["status"] for term in terms] == ["completed", "completed", "active"]


def test_contract_terms_are_not_asked_for_where_each_invoice_is_an_order(
    make: Callable[..., Harness],
) -> None:
    pages = make(invoice_equals_contract=True).listing("2025-08")
    assert records(pages, "contract_term") == []


def test_a_site_of_product_catalog_1_has_no_item_prices_and_is_read_without(
    chargebee: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    chargebee.fault("configuration_incompatible", "item_prices", times=2)
    with caplog.at_level(logging.INFO, "resources.chargebee"):
        pages = chargebee.listing("2025-01")
        assert chargebee.client.check().missing == ()
    assert ids(pages, "item_price") == []
    assert len(ids(pages)) == 7
    assert "lines go without names of item prices" in caplog.text


# -- changes -------------------------------------------------------------------------------------


def test_what_changed_comes_back_whatever_its_state(chargebee: Harness) -> None:
    told = chargebee.command("story")["chargebee"]
    pages = chargebee.changes()
    found = {one["id"]: one for one in records(pages)}
    assert found[told["voided"]]["status"] == "voided"
    assert found[told["deleted"]]["deleted"] is True
    assert found[told["new"]]["total"] == 450000
    assert ids(pages, "credit_note") == [told["credit_note"]]
    assert {key["period"] for key in keys(pages).values()} == {"2026-04", "2026-06"}


def test_a_pending_invoice_that_was_closed_is_in_the_month_of_its_new_date(
    chargebee: Harness,
) -> None:
    assert keys(chargebee.listing("2026-05"))["TALLGRASS-P01"]["period"] == "2026-05"
    chargebee.command("close", id="TALLGRASS-P01", date=at(2026, 6, 3))
    assert keys(chargebee.changes())["TALLGRASS-P01"]["period"] == "2026-06"
    assert "TALLGRASS-P01" not in ids(chargebee.listing("2026-05"))


def test_a_window_holds_both_of_its_seconds_and_nothing_after_singer_54(
    chargebee: Harness,
) -> None:
    chargebee.add(4)
    now = int(chargebee.client.server_time().timestamp())
    for number in range(4):
        stamp = {"updated_at": now - 10 + number}
        chargebee.command("edit", object="invoice", id=f"BULK-{number:04d}", fields=stamp)
    since, until = (datetime.fromtimestamp(now - ago, UTC) for ago in (9, 7))
    assert ids(list(chargebee.client.changes(since, until))) == ["BULK-0001", "BULK-0002"]
    half = timedelta(seconds=0.5)
    found = ids(list(chargebee.client.changes(since + half, until + half)))
    assert found == ["BULK-0001", "BULK-0002", "BULK-0003"]


def test_an_empty_window_asks_for_nothing(chargebee: Harness) -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    assert list(chargebee.client.changes(moment, moment)) == []
    assert chargebee.sandbox.requests("chargebee") == {}


def test_a_window_from_before_everything_was_stamped_brings_what_was_not_posthog_76090(
    chargebee: Harness,
) -> None:
    now = datetime.now(UTC)
    pages = list(chargebee.client.changes(datetime(2016, 9, 1, tzinfo=UTC), now))
    found = ids(pages) + ids(pages, "credit_note")
    assert "IMPORTED-001" in found
    assert len(found) == len(set(found)) == 173
    later = list(chargebee.client.changes(datetime(2016, 10, 2, tzinfo=UTC), now))
    assert "IMPORTED-001" not in ids(later)
    assert len(ids(later) + ids(later, "credit_note")) == 172


def test_an_unchanged_source_takes_two_requests_and_yields_no_document(chargebee: Harness) -> None:
    pages = chargebee.changes()
    assert [(page.object, page.records) for page in pages] == [("invoice", 0), ("credit_note", 0)]
    assert chargebee.sandbox.requests("chargebee") == {
        "/api/v2/invoices": 2,  # once to ask for the time
        "/api/v2/credit_notes": 1,
    }


# -- limits and faults ---------------------------------------------------------------------------


def test_429_without_retry_after_is_waited_out_for_as_long_as_a_block_lasts(
    chargebee: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    chargebee.fault("429", "invoices", times=4)
    with caplog.at_level(logging.WARNING, HTTP_LOG):
        assert len(ids(chargebee.listing("2025-01"))) == 7
    assert chargebee.naps == [BLOCKED] * 4
    assert "HTTP 429 (api_request_limit_exceeded)" in caplog.records[0].getMessage()


def test_429_with_retry_after_is_waited_out_as_long_as_asked(chargebee: Harness) -> None:
    chargebee.fault("429", "invoices", headers={"Retry-After": "7"})
    chargebee.listing("2025-01")
    assert chargebee.naps == [7.0]


def test_a_retry_after_of_an_hour_is_not_slept_through_airbyte_85216(chargebee: Harness) -> None:
    chargebee.fault("429", "invoices", headers={"Retry-After": "3600"})
    with pytest.raises(SourceLimitError, match="must wait 3600 s"):
        chargebee.listing("2025-01")
    assert chargebee.naps == []


def test_a_limit_that_does_not_end_is_an_error_that_may_be_tried_again(chargebee: Harness) -> None:
    chargebee.fault("429", "invoices", times=50)
    with pytest.raises(SourceLimitError, match="lower requests_per_minute") as caught:
        chargebee.listing("2025-01")
    assert caught.value.retryable
    assert sum(chargebee.naps) > 60  # longer than a block
    assert chargebee.asked("invoices") == 6


@pytest.mark.parametrize("kind", ["500", "502", "503", "reset", "html", "lock_timeout", "truncate"])
def test_one_fault_is_survived_singer_51(chargebee: Harness, kind: str) -> None:
    chargebee.fault(kind, "invoices")
    assert len(ids(chargebee.listing("2025-01"))) == 7
    assert chargebee.asked("invoices") == 2


@pytest.mark.parametrize("kind", ["500", "502", "reset"])
def test_an_outage_is_an_error_that_may_be_tried_again(chargebee: Harness, kind: str) -> None:
    chargebee.fault(kind, "invoices", times=50)
    with pytest.raises(SourceTimeoutError, match=r"GET /api/v2/invoices failed on every try"):
        chargebee.listing("2025-01")
    assert chargebee.asked("invoices") == 6


def test_html_with_status_200_is_named_singer_51(chargebee: Harness) -> None:
    chargebee.fault("html", "invoices", times=50, status=200)
    with pytest.raises(SourceSchemaError, match="it is no JSON") as caught:
        chargebee.listing("2025-01")
    assert "\n" not in str(caught.value)
    assert chargebee.asked("invoices") == 3


def test_html_with_status_403_does_not_show_its_body_and_is_not_taken_for_a_refusal(
    chargebee: Harness,
) -> None:
    chargebee.fault("html", "invoices", status=403)
    with pytest.raises(SourceSchemaError, match="no error of Chargebee's") as caught:
        chargebee.listing("2025-01")
    assert "<" not in str(caught.value)


def test_a_key_that_is_revoked_during_paging_ends_the_pull(chargebee: Harness) -> None:
    chargebee.add(101)
    chargebee.fault("401", "invoices", after=1)
    with pytest.raises(SourceAuthError, match="refused the key"):
        chargebee.listing("2019-07")


def test_a_permission_that_is_missing_is_named(chargebee: Harness) -> None:
    chargebee.fault("403", "customers")
    with pytest.raises(SourceAuthError, match=r"GET /api/v2/customers is not permitted"):
        chargebee.listing("2025-01")


def test_an_unknown_parameter_is_refused_and_named(chargebee: Harness) -> None:
    with pytest.raises(SourceSchemaError, match=r"was refused: status_is : there is no such"):
        list(chargebee.client._api.pages("/invoices", msgspec.Raw, status_is="paid"))


def test_nothing_answering_is_one_line_that_names_the_origin(sandbox: Sandbox) -> None:
    nobody = secrets(sandbox, api_url="http://127.0.0.1:9")
    client = ChargebeeClient(
        nobody, timezone=ZONE, settings=ChargebeeSettings(), sleep=lambda _: None
    )
    with client, pytest.raises(SourceError, match=r"nothing answers at http://127\.0\.0\.1:9$"):
        client.server_time()


def test_the_rate_of_the_smallest_plan_is_the_default() -> None:
    assert ChargebeeSettings().requests_per_minute == 150


# -- the whole way -------------------------------------------------------------------------------


def rows_of(pipeline: Pipeline, period: str) -> dict[str, set[tuple[Decimal, str | None]]]:
    """Amount and excluding rule of each line, by document, as the lake has them now."""
    built = build(
        Lake(pipeline.settings.lake_root),
        SOURCE,
        RecordType.INVOICES,
        period,
        pipeline.settings.source("chargebee"),
        pipeline.settings.mapping_site(),
    )
    assert built.lost == ()
    found: dict[str, set[tuple[Decimal, str | None]]] = {}
    rows = pq.read_table(pipeline.settings.lake_root / built.path / "rows.parquet")
    for row in rows.to_pylist():
        found.setdefault(row["document_id"], set()).add((row["amount"], row["excluded_by"]))
    return found


def test_listed_months_become_batches_and_changes_move_void_and_delete_documents(
    pipeline: Pipeline, sandbox: Sandbox
) -> None:
    sandbox.command(
        "add",
        source="chargebee",
        object="invoice",
        fields={"id": "ADHOC", "customer": "lumen", "amount": 500, "date": at(2026, 6, 9)},
    )
    for month in ("2026-05", "2026-06"):
        pipeline.run("sync_chargebee", month)
    pipeline.route()
    june = pipeline.job("chargebee", "invoices")
    assert june["periods"] == ["2026-06"]
    assert june["counts"] == {
        "source": 16, "delivered": 14, "unchanged": 0, "flagged": 1, "excluded": 1,
    }  # fmt: skip
    assert june["amounts"]["USD"]["flagged"] == "5.00"
    assert rows_of(pipeline, "2026-05")["TALLGRASS-P01"] == {(Decimal(1800), "pending")}

    told = sandbox.command("story", source="chargebee")["chargebee"]
    sandbox.command("advance", seconds=3600)
    pipeline.run("changes_chargebee")

    rows = rows_of(pipeline, "2026-06")
    assert rows["TALLGRASS-P01"] == {(Decimal(1800), None)}
    assert rows[told["new"]] == {(Decimal(4500), None)}
    assert rows[told["deleted"]] == {(Decimal(1710), "deleted")}
    assert {rule for _, rule in rows[told["voided"]]} == {"void"}
    assert rows[told["credit_note"]] == {(Decimal(-1404), None)}
    assert "TALLGRASS-P01" not in rows_of(pipeline, "2026-05")
