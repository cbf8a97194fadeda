"""The HubSpot client against the sandbox: paging, changes, limits, and each fault of the list."""

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Sandbox
from pipeline import Pipeline

from resources.client import IDS
from resources.hubspot import HubspotClient
from resources.hubspot_api import API_VERSION, CONCURRENCY, HubspotSecrets
from resources.registry import resource_of
from revrec_pipeline import canonical, sweep
from revrec_pipeline.errors import (
    SettingsError,
    SourceAuthError,
    SourceError,
    SourceLimitError,
    SourceSchemaError,
    SourceTimeoutError,
)
from revrec_pipeline.lake import CHANGES, KEYS, Lake, Page
from revrec_pipeline.ledger import sync_errors
from revrec_pipeline.mapping import Site
from revrec_pipeline.mapping.hubspot import SOURCE, HubspotSettings
from revrec_pipeline.model import RecordType
from revrec_pipeline.periods import period_range
from revrec_pipeline.sandbox.hubspot_data import build
from revrec_pipeline.settings import Settings

ZONE = "America/New_York"
EVERYTHING: dict[str, Any] = {"invoices": True, "commissions": True}
OBJECTS = "/crm/objects/2026-09"
BULK = {"dealname": "bulk", "closedate": "2022-07-15T12:00:00Z"}


class Harness:
    """A client of the sandbox that does not really sleep, and what it would have slept."""

    def __init__(self, sandbox: Sandbox, **settings: Any) -> None:
        self.sandbox = sandbox
        self.naps: list[float] = []
        self.client = HubspotClient(
            secrets(sandbox),
            timezone=ZONE,
            settings=HubspotSettings(
                requests_per_second=1_000_000, searches_per_second=1_000_000, **settings
            ),
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
        until = self.client.server_time() + timedelta(seconds=2)
        return list(self.client.changes(until - timedelta(hours=hours), until))

    def asked(self, path: str) -> int:
        """How often a path was asked for."""
        return self.sandbox.requests("hubspot").get(path, 0)

    def command(self, op: str, **fields: Any) -> dict[str, Any]:
        """A command to the sandbox's HubSpot."""
        return self.sandbox.command(op, source="hubspot", **fields)

    def deal(self, name: str) -> str:
        """The id of the deal with that name."""
        return str(self.command("find", object="deals", property="dealname", value=name)["id"])

    def lines_of(self, deal: str) -> list[str]:
        """The ids of a deal's line items, as the API associates them."""
        pairs = self.client._api.associations("deals", "line_items", [deal])
        return [line for _, ends in pairs for each in ends.values() for line in each]


def secrets(sandbox: Sandbox, **fields: Any) -> HubspotSecrets:
    """The secrets that the sandbox takes."""
    env = sandbox.env
    given = {"access_token": env["HUBSPOT_ACCESS_TOKEN"], "api_url": env["HUBSPOT_API_URL"]}
    return HubspotSecrets.model_validate(given | fields)


def harness(sandbox: Sandbox, **settings: Any) -> Harness:
    """A harness on a sandbox without rate limits."""
    sandbox.command("limit", source="hubspot")
    return Harness(sandbox, **settings)


@pytest.fixture
def hubspot(sandbox: Sandbox) -> Iterator[Harness]:
    """Sales, invoices and commissions."""
    made = harness(sandbox, **EVERYTHING)
    with made.client:
        yield made


@pytest.fixture
def sales(sandbox: Sandbox) -> Iterator[Harness]:
    """Sales alone, as settings are by default."""
    made = harness(sandbox)
    with made.client:
        yield made


def records(pages: list[Page], kind: str = "deal") -> dict[str, dict[str, Any]]:
    """The records on pages by id; of several the last one."""
    return {
        one["id"]: one
        for page in pages
        if page.object == kind
        for one in json.loads(page.body)["results"]
    }


def keys(pages: list[Page], kind: str = "deal") -> dict[str, tuple[str, str | None, str | None]]:
    """Version, period and window of all documents by id."""
    return {
        row["id"]: (row["version"], row["period"], row["window"])
        for page in pages
        if page.object == kind and page.keys is not None
        for row in page.keys.to_pylist()
    }


# -- who and when --------------------------------------------------------------------------------


def test_check_names_the_portal_the_pinned_version_and_what_is_left_of_the_day(
    hubspot: Harness,
) -> None:
    connection = hubspot.client.check()
    assert connection.account_id == "48120766"
    assert connection.api_version == API_VERSION == "2026-09"
    assert connection.limits == "624000 requests left today"
    assert connection.missing == ()


def test_check_names_the_scopes_that_the_token_lacks(hubspot: Harness) -> None:
    for scope in ("crm.objects.invoices.read", "crm.dealsplits.read_write"):
        hubspot.command("scope", missing=scope)
    assert hubspot.client.check().missing == (
        "scope crm.objects.invoices.read",
        "scope crm.dealsplits.read_write",
    )


def test_scopes_of_what_nobody_asked_for_are_not_missed(sales: Harness) -> None:
    for scope in ("crm.objects.invoices.read", "crm.dealsplits.read_write"):
        sales.command("scope", missing=scope)
    assert sales.client.check().missing == ()
    assert records(sales.listing("2026-04"))


def test_a_listing_names_the_scope_that_the_token_lacks(hubspot: Harness) -> None:
    hubspot.command("scope", missing="crm.objects.invoices.read")
    with pytest.raises(SourceAuthError, match=r"lacks crm\.objects\.invoices\.read; add it"):
        hubspot.listing("2026-04")


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (
            {"term_field": "months_sold"},
            "sources.hubspot.term_field names line_item.months_sold or product.months_sold, which "
            "the portal does not have",
        ),
        (
            {"closed_stages": ["Closed Wonn"]},
            "sources.hubspot.closed_stages names 'Closed Wonn', which no deal pipeline has; there "
            "are Appointment Scheduled, Qualified To Buy, Contract Sent, Closed Won, Closed Lost, "
            "Up for Renewal, Verbal Yes, Renewed, Churned",
        ),
    ],
)
def test_check_refuses_a_setting_that_names_what_the_portal_lacks(
    sandbox: Sandbox, settings: dict[str, Any], complaint: str
) -> None:
    with harness(sandbox, **settings).client as client, pytest.raises(SettingsError) as caught:
        client.check()
    assert str(caught.value) == complaint


def test_closed_stages_may_name_a_stage_of_one_pipeline(sandbox: Sandbox) -> None:
    stages = ["Renewals/Renewed", "closedwon", "74210021/148230012"]
    with harness(sandbox, closed_stages=stages).client as client:
        assert client.check().missing == ()


def test_a_default_property_that_the_portal_lacks_is_only_told(sales: Harness) -> None:
    sales.command("hide", property="term_months")
    assert sales.client.check().missing == (
        "property line_item.term_months or product.term_months (term_field)",
    )
    assert records(sales.listing("2026-04"))


def test_a_mapped_property_that_is_gone_fails_loudly_and_nothing_is_pulled(sales: Harness) -> None:
    """HubSpot would answer it with nothing, and every deal would look as if it had none."""
    sales.command("hide", property="closedate")
    with pytest.raises(SourceSchemaError, match="deals have no property closedate"):
        sales.listing("2026-04")


def test_new_properties_are_not_asked_for_airbyte_36352(sales: Harness) -> None:
    deal = sales.deal("Thirds")
    sales.command("edit", object="deals", id=deal, fields={"hs_date_exited_closedwon": "x"})
    assert "region" not in records(sales.listing("2026-04"))[deal]["properties"]
    assert "hs_date_exited_closedwon" not in records(sales.listing("2026-04"))[deal]["properties"]


def test_server_time_is_the_clock_of_the_source(sales: Harness) -> None:
    sales.sandbox.command("advance", seconds=90 * 86400)
    ahead = sales.client.server_time() - datetime.now(UTC)
    assert timedelta(days=89) < ahead < timedelta(days=91)


def test_a_missing_token_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HUBSPOT_ACCESS_TOKEN", raising=False)
    with pytest.raises(SettingsError, match=r"^HUBSPOT_ACCESS_TOKEN is not set"):
        HubspotSecrets.from_env()


def test_a_wrong_token_ends_at_once_and_is_not_told(sandbox: Sandbox) -> None:
    wrong = secrets(sandbox, access_token="pat-wrong-and-secret")
    client = HubspotClient(wrong, timezone=ZONE, settings=HubspotSettings())
    with client, pytest.raises(SourceAuthError, match="check HUBSPOT_ACCESS_TOKEN") as caught:
        client.check()
    assert "wrong-and-secret" not in str(caught.value) + repr(wrong)
    assert "\n" not in str(caught.value)
    assert sandbox.requests("hubspot") == {"/account-info/2026-09/details": 1}


def test_the_dagster_resource_reads_the_environment_only_when_a_client_is_made(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = resource_of("hubspot", Settings())
    for name, value in sandbox.env.items():
        monkeypatch.setenv(name, value)
    with made.client() as client:
        assert client.check().account_id == "48120766"


# -- a month -------------------------------------------------------------------------------------


def test_all_months_together_hold_every_document_once_and_ids_name_the_same(
    hubspot: Harness,
) -> None:
    portal = build()
    found: list[tuple[str, str]] = []
    swept: list[tuple[str, str]] = []
    for month in period_range("2025-10", "2026-06"):
        pages = hubspot.listing(month)
        for kind in ("deal", "invoice"):
            listed = {i for i, (_, period, _) in keys(pages, kind).items() if period == month}
            found += [(kind, identifier) for identifier in listed]
            assert set(records(pages, kind)) >= listed
        for batch in hubspot.client.ids(month):
            assert batch.schema == IDS
            swept += [(row["object"], row["id"]) for row in batch.to_pylist()]
    expected = [
        ("deal", one.id)
        for one in portal.records["deals"].values()
        if (one.properties["closedate"] or "2026-06-01T12:00:00Z") >= "2025-10-01T04:00:00Z"
    ] + [
        ("invoice", one.id)
        for one in portal.records["invoices"].values()
        if str(one.properties["hs_invoice_date"]) >= "2025-10-01"
        and str(one.properties["hs_invoice_date"]) < "2026-07-01"
    ]
    assert sorted(found) == sorted(expected)
    archived = [
        (kind, one.id)
        for kind in ("deal", "invoice")
        for one in portal.records[f"{kind}s"].values()
        if one.archived_at
    ]
    # What is archived is for sweeps as if it were gone: that is how they find what was restored.
    assert sorted(swept + archived) == sorted(expected)
    assert archived


def test_a_month_begins_and_ends_by_the_sites_clocks(sales: Harness) -> None:
    deal = sales.deal("Year end, evening in New York")  # on January 1st at 03:30 UTC
    key = keys(sales.listing("2025-12"))[deal]
    assert key[1:] == ("2025-12", "2025-12")
    assert deal not in keys(sales.listing("2026-01"))


def test_a_deal_that_was_never_dated_is_in_the_month_of_its_creation(sales: Harness) -> None:
    deal = sales.deal("Never dated")
    assert keys(sales.listing("2026-06"))[deal][1:] == ("2026-06", "2026-06")


def test_a_draft_invoice_without_a_date_is_in_the_month_of_its_creation(hubspot: Harness) -> None:
    fields = {"hs_invoice_status": "draft", "hs_invoice_date": None}
    draft = hubspot.command("add", object="invoices", fields=fields)["id"]
    month = f"{hubspot.client.server_time():%Y-%m}"
    assert keys(hubspot.listing(month), "invoice")[draft][1] == month


def test_a_page_keeps_the_bytes_and_says_where_they_came_from(sales: Harness) -> None:
    page = next(page for page in sales.listing("2025-11") if page.object == "deal")
    assert page.body.startswith(b'{"status":"COMPLETE","results":[{"id":"30')
    assert page.request == "POST /crm/objects/2026-09/deals/batch/read"
    assert page.request_id is not None
    assert page.keys is not None
    assert page.keys.schema == KEYS
    assert page.records == page.keys.num_rows
    assert abs(page.server_time - datetime.now(UTC)) < timedelta(minutes=1)


def test_a_version_has_milliseconds_also_where_hubspot_leaves_them_out(sales: Harness) -> None:
    versions = {version for version, _, _ in keys(sales.listing("2025-11")).values()}
    assert {len(version) for version in versions} == {len("2025-11-06T15:15:00.020Z")}


def test_a_deal_comes_with_company_product_owner_pipelines_and_portal(sales: Harness) -> None:
    pages = sales.listing("2026-02")
    counts = {name: len(records(pages, name)) for name in ("company", "product", "owner")}
    assert counts == {"company": 6, "product": 7, "owner": 4}
    assert set(records(pages, "pipeline")) == {"default", "74210021"}
    assert [page.records for page in pages if page.object == "account"] == [1]
    assert not records(pages, "invoice")
    assert not records(pages, "deal_split")


def test_130_line_items_all_come_airbyte_56447(hubspot: Harness) -> None:
    deal = hubspot.deal("130 shops")
    pages = hubspot.listing("2025-10")
    (page,) = [page for page in pages if page.request.endswith("deals/line_items/batch/read")]
    ends = {one["from"]["id"]: one["to"] for one in json.loads(page.body)["results"]}
    assert len(ends[deal]) == 130
    assert {end["toObjectId"] for end in ends[deal]} <= set(records(pages, "line_item"))


def test_associations_of_one_deal_go_over_several_pages(sales: Harness) -> None:
    deal = sales.deal("130 shops")
    sales.command("add", object="line_items", fields={"deal": deal, "name": "x"}, count=900)
    assert len(set(sales.lines_of(deal))) == 1030
    assert len(records(sales.listing("2025-10"), "line_item")) >= 1030


def test_an_archived_deal_comes_from_the_archived_list_airbyte_11179(sales: Harness) -> None:
    pages = sales.listing("2026-05")
    archived = [one for one in records(pages).values() if one["archived"]]
    assert [one["properties"]["dealname"] for one in archived] == ["Archived by mistake"]
    assert keys(pages)[archived[0]["id"]][1] == "2026-05"


def test_a_merged_deal_leaves_a_tombstone_of_the_one_that_is_gone(sales: Harness) -> None:
    pages = sales.listing("2026-05")
    winner = sales.deal("Merged into")
    loser = records(pages)[winner]["properties"]["hs_merged_object_ids"]
    found = keys(pages)
    assert found[loser] == (found[winner][0], None, None)
    assert found[winner][1] == "2026-05"


def test_a_deal_that_was_deleted_since_the_search_leaves_a_tombstone_that_buries_nothing(
    sales: Harness,
) -> None:
    """Of equal versions the newest landing counts: a deal that comes back is not lost."""
    deal = sales.deal("Thirds")
    version, _, _ = keys(sales.listing("2026-04"))[deal]
    sales.sandbox.fault("hubspot", "500", path=f"{OBJECTS}/deals/batch/read")
    sales.client._api.traffic.sleep = lambda _: sales.command("purge", object="deals", id=deal)
    assert keys(sales.listing("2026-04"))[deal] == (version, None, None)


def test_a_deal_that_the_index_still_shows_although_archived_is_read_as_archived(
    sales: Harness,
) -> None:
    deal = sales.deal("Thirds")
    sales.sandbox.fault("hubspot", "500", path=f"{OBJECTS}/deals/batch/read")
    sales.client._api.traffic.sleep = lambda _: sales.command("delete", object="deals", id=deal)
    pages = sales.listing("2026-04")
    assert records(pages)[deal]["archived"] is True
    assert keys(pages)[deal][1] == "2026-04"


def test_a_month_without_documents_is_only_its_surroundings(hubspot: Harness) -> None:
    assert {page.object for page in hubspot.listing("2022-01")} == {
        "owner",
        "pipeline",
        "account",
    }


# -- searches ------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 199, 200, 201, 607])
def test_a_search_loses_nothing_at_page_edges_airbyte_45653(sales: Harness, count: int) -> None:
    if count:
        sales.command("add", object="deals", fields=BULK, count=count)
    (batch,) = sales.client.ids("2022-07")
    assert batch.num_rows == len(set(batch["id"].to_pylist())) == count
    assert sales.asked(f"{OBJECTS}/deals/search") == max(1, -(-count // 200))


def test_more_than_10000_records_of_one_millisecond_all_come_airbyte_10700(sales: Harness) -> None:
    sales.command("add", object="deals", fields=BULK, count=10_001)
    (batch,) = sales.client.ids("2022-07")
    assert len(set(batch["id"].to_pylist())) == 10_001


def test_a_record_that_changes_while_it_is_searched_shifts_no_other(sales: Harness) -> None:
    last = sales.command("add", object="deals", fields=BULK, count=300)["id"]
    first = str(int(last) - 299 * 7)
    search = sales.client._api.search("deals", [_closed_in_july()])
    found = [next(search).id]
    sales.command("edit", object="deals", id=first, fields={"closedate": "2022-08-01T00:00:00Z"})
    found += [one.id for one in search]
    assert len(set(found)) == 300


def _closed_in_july() -> list[dict[str, Any]]:
    july = str(int(datetime(2022, 7, 1, tzinfo=UTC).timestamp() * 1000))
    august = str(int(datetime(2022, 8, 1, tzinfo=UTC).timestamp() * 1000))
    return [
        {"propertyName": "closedate", "operator": "GTE", "value": july},
        {"propertyName": "closedate", "operator": "LT", "value": august},
    ]


def test_a_search_that_repeats_its_page_is_an_error_and_no_circle(sales: Harness) -> None:
    sales.command("add", object="deals", fields=BULK, count=300)
    sales.sandbox.fault("hubspot", "repeat", path=f"{OBJECTS}/deals/search", after=1)
    with pytest.raises(SourceSchemaError, match="answers records again that came before"):
        list(sales.client.ids("2022-07"))


def test_an_archived_list_that_repeats_its_page_is_an_error_and_no_circle(sales: Harness) -> None:
    for _ in range(101):
        line = sales.command("add", object="products", fields={"name": "x"})["id"]
        sales.command("delete", object="products", id=line)
    sales.sandbox.fault("hubspot", "repeat", path=f"{OBJECTS}/products", after=1)
    with pytest.raises(SourceSchemaError, match="leads to a page before it"):
        list(sales.client._api.listed("products", ("name",)))


# -- batches -------------------------------------------------------------------------------------


def test_a_207_that_lacks_records_without_a_reason_is_asked_for_again(sales: Harness) -> None:
    sales.sandbox.fault("hubspot", "207_partial", path=f"{OBJECTS}/deals/batch/read")
    assert len(records(sales.listing("2026-04"))) == 7


def test_a_207_that_keeps_lacking_records_is_an_error_and_no_deletion(sales: Harness) -> None:
    sales.sandbox.fault("hubspot", "207_partial", path=f"{OBJECTS}/deals/batch/read", times=3)
    with pytest.raises(SourceSchemaError, match="7 of 7 records are missing, as 301"):
        sales.listing("2026-04")


def test_associations_that_lack_records_without_a_reason_are_asked_for_again(
    sales: Harness,
) -> None:
    path = "/crm/associations/2026-09/deals/line_items/batch/read"
    sales.sandbox.fault("hubspot", "207_partial", path=path)
    assert records(sales.listing("2026-04"), "line_item")
    assert sales.asked(path) == 2


def test_an_id_that_was_merged_is_answered_with_the_winner(sales: Harness) -> None:
    winner = sales.deal("Merged into")
    (batch,) = sales.client._api.batch("deals", [winner], ["hs_merged_object_ids"])
    loser = str(batch[1][0].properties["hs_merged_object_ids"])
    ((_, found, gone),) = sales.client._api.batch("deals", [loser], ["hs_merged_object_ids"])
    assert ([one.id for one in found], gone) == ([winner], [loser])


# -- changes -------------------------------------------------------------------------------------


def test_nothing_changed_is_only_the_surroundings(hubspot: Harness) -> None:
    assert {page.object for page in hubspot.changes()} == {"owner", "pipeline", "account"}


def test_a_changed_deal_comes_with_all_of_its_lines_airbyte_14390(sales: Harness) -> None:
    deal = sales.deal("130 shops")
    sales.command("edit", object="deals", id=deal, fields={"dealstage": "contractsent"})
    pages = sales.changes()
    assert set(keys(pages)) == {deal}
    assert len(records(pages, "line_item")) == 130
    assert len(records(pages, "company")) == 1


def test_a_changed_line_brings_its_deal_airbyte_27199(sales: Harness) -> None:
    deal = sales.deal("Price typed wrong")
    (kept, line) = sales.lines_of(deal)
    before = keys(sales.listing("2026-05"))[deal]
    sales.command("edit", object="line_items", id=line, fields={"price": "39"})
    pages = sales.changes()
    assert keys(pages) == {deal: before}  # the deal's own stamp does not change
    assert set(records(pages, "line_item")) == {kept, line}


def test_an_archived_line_brings_its_deal_airbyte_30465(sales: Harness) -> None:
    deal = sales.deal("Price typed wrong")
    (kept, line) = sales.lines_of(deal)
    sales.command("delete", object="line_items", id=line)
    pages = sales.changes()
    assert set(keys(pages)) == {deal}
    assert set(records(pages, "line_item")) == {kept}


def test_a_changed_line_of_an_invoice_brings_the_invoice(hubspot: Harness) -> None:
    invoice = hubspot.command("find", object="invoices", property="hs_title", value="Milan, VAT")
    pairs = hubspot.client._api.associations("invoices", "line_items", [invoice["id"]])
    line = next(one for _, ends in pairs for each in ends.values() for one in each)
    hubspot.command("edit", object="line_items", id=line, fields={"price": "1"})
    pages = hubspot.changes()
    assert set(keys(pages, "invoice")) == {invoice["id"]}
    assert not keys(pages)


def test_a_sweep_finds_a_deal_that_was_restored(sales: Harness, tmp_path: Path) -> None:
    """Restoring leaves the stamp alone, so no window has it."""
    lake, deal, month = Lake(tmp_path), sales.deal("Thirds"), ""

    def land(window: str, pages: list[Page]) -> None:
        objects = SOURCE.under(HubspotSettings()).objects
        lake.land("hubspot", window, pages, run_id="r", api_version="v", objects=objects)

    def swept() -> tuple[list[str], int]:
        ids = pa.Table.from_batches(sales.client.ids(month), IDS)
        found = sweep.compare(lake, "hubspot", month, ids, ["deal"])
        return found.gone["id"].to_pylist(), found.unknown

    sales.command("edit", object="deals", id=deal, fields={"dealname": "Thirds again"})
    month = str(keys(sales.changes())[deal][1])
    land(month, sales.listing(month))
    sales.command("delete", object="deals", id=deal)
    land(CHANGES, sales.changes())
    assert swept() == ([], 0)

    sales.command("restore", object="deals", id=deal)
    assert deal not in keys(sales.changes(hours=0))
    assert swept() == ([], 1)
    land(month, sales.listing(month))
    assert swept() == ([], 0)


def test_an_archived_deal_is_a_change_although_its_stamp_is_not_airbyte_19838(
    sales: Harness,
) -> None:
    deal = sales.deal("Signed by mistake")
    before = keys(sales.listing("2026-06"))[deal]
    sales.command("delete", object="deals", id=deal)
    pages = sales.changes()
    assert keys(pages) == {deal: (*before[:2], None)}  # no sweep counts on what is archived
    assert records(pages)[deal]["archived"] is True


def test_a_product_that_gets_a_code_brings_the_deals_that_sold_it(sales: Harness) -> None:
    product = sales.command("find", object="products", property="name", value="Data Migration")
    sales.command("edit", object="products", id=product["id"], fields={"hs_sku": "MIGRATION"})
    assert set(keys(sales.changes())) == {sales.deal("Migration")}


def test_a_company_that_is_renamed_brings_its_deals_and_invoices(hubspot: Harness) -> None:
    company = hubspot.command("find", object="companies", property="domain", value="minato.example")
    hubspot.command("edit", object="companies", id=company["id"], fields={"name": "Minato KK"})
    pages = hubspot.changes()
    portal = build()
    for kind in ("deal", "invoice"):
        linked = portal.links["companies", f"{kind}s"][company["id"]]
        assert set(keys(pages, kind)) == set(linked)
        assert len(linked) > 3
    assert records(pages, "company")[company["id"]]["properties"]["name"] == "Minato KK"


def test_a_changed_split_brings_its_deal(hubspot: Harness) -> None:
    deal = hubspot.deal("Thirds")
    split = hubspot.command("find", object="deal_split", property="hs_deal_id", value=deal)["id"]
    changed = {"hs_deal_split_percentage": "0.5"}
    hubspot.command("edit", object="deal_split", id=split, fields=changed)
    assert set(keys(hubspot.changes())) == {deal}


def test_merging_two_deals_brings_the_winner_and_a_tombstone(sales: Harness) -> None:
    winner, loser = sales.deal("Thirds"), sales.deal("No amount")
    sales.command("merge", object="deals", id=winner, loser=loser)
    found = keys(sales.changes())
    assert set(found) == {winner, loser}
    assert found[loser] == (found[winner][0], None, None)


def test_the_low_side_of_a_window_is_inclusive_and_the_high_side_is_not(sales: Harness) -> None:
    deal = sales.deal("Thirds")
    sales.command("edit", object="deals", id=deal, fields={"region": "x"})
    version = keys(sales.changes())[deal][0]
    at = datetime.fromisoformat(version)
    hour = timedelta(hours=1)
    assert set(keys(list(sales.client.changes(at, at + hour)))) == {deal}
    assert not keys(list(sales.client.changes(at - hour, at)))


def test_what_the_index_shows_late_is_seen_by_the_lookback_airbyte_69203(sales: Harness) -> None:
    sales.command("index_lag", seconds=120)
    deal = sales.deal("Thirds")
    sales.command("edit", object="deals", id=deal, fields={"region": "x"})
    assert not keys(sales.changes())
    sales.sandbox.command("advance", seconds=180)
    assert set(keys(sales.changes())) == {deal}
    assert sales.client.lag >= timedelta(minutes=5)
    assert sales.client.lookback >= timedelta(hours=24)


def test_the_record_counts_and_not_what_the_index_still_shows(sales: Harness) -> None:
    """The search brings ids only: a deal that moves to another month is keyed by its record."""
    sales.command("index_lag", seconds=3600)
    deal = sales.deal("Thirds")
    sales.command("edit", object="deals", id=deal, fields={"closedate": "2026-05-02T12:00:00Z"})
    assert keys(sales.listing("2026-04"))[deal][1:] == ("2026-05", "2026-05")


def test_a_window_longer_than_the_archive_is_kept_says_so(
    sales: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "resources.hubspot"):
        sales.changes(hours=91 * 24)
    assert "what was archived more than 90 days ago is gone" in caplog.text


# -- limits and failures -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["429", "429_search", "500", "502", "html", "reset"])
def test_what_passes_is_waited_out_also_without_retry_after(sales: Harness, kind: str) -> None:
    sales.sandbox.fault("hubspot", kind, path=f"{OBJECTS}/deals/search", times=2)
    assert len(records(sales.listing("2026-04"))) == 7
    assert len(sales.naps) == 2
    assert sales.naps[0] < sales.naps[1]


def test_retry_after_is_honoured(sales: Harness) -> None:
    sales.sandbox.fault("hubspot", "429", path="/crm/*", headers={"Retry-After": "7"})
    sales.listing("2026-04")
    assert sales.naps == [7]


def test_a_burst_limit_that_stays_ends_as_one_that_may_be_tried_again(sales: Harness) -> None:
    sales.sandbox.fault("hubspot", "429_search", path=f"{OBJECTS}/deals/search", times=6)
    with pytest.raises(SourceLimitError, match=r"\(SECONDLY\); lower requests_per_sec") as caught:
        sales.listing("2026-04")
    assert caught.value.retryable is True


def test_the_daily_limit_ends_the_run_at_once_and_says_when_it_resets(sales: Harness) -> None:
    sales.sandbox.fault("hubspot", "429_daily", path=f"{OBJECTS}/deals/search")
    with pytest.raises(SourceLimitError, match="the daily limit of the portal") as caught:
        sales.listing("2026-04")
    assert caught.value.retryable is False
    assert sales.naps == []
    resets = caught.value.resets_at
    assert resets is not None
    assert (resets.hour, resets.minute, str(resets.tzinfo)) == (0, 0, "US/Eastern")
    assert timedelta() < resets - datetime.now(UTC) <= timedelta(hours=25)


def test_a_daily_limit_before_the_portal_has_told_its_time_zone_names_none(sales: Harness) -> None:
    sales.sandbox.fault("hubspot", "429_daily", path="/account-info/*")
    with pytest.raises(SourceLimitError, match="it resets at midnight there") as caught:
        sales.listing("2026-04")
    assert caught.value.resets_at is None


def test_an_account_that_is_being_moved_asks_for_hours_and_does_not_get_them(
    sales: Harness,
) -> None:
    headers = {"Retry-After": "86400"}
    sales.sandbox.fault("hubspot", "477", path="/crm/*", headers=headers)
    with pytest.raises(SourceLimitError, match="must wait 86400 s, longer than a run may"):
        sales.listing("2026-04")


def test_the_sandbox_enforces_five_searches_a_second_and_the_client_keeps_to_them(
    sandbox: Sandbox,
) -> None:
    client = HubspotClient(secrets(sandbox), timezone=ZONE, settings=HubspotSettings())
    with client:
        for _ in range(9):  # 429 would make it ten
            list(client._api.search("deals", [_closed_in_july()]))
    assert sandbox.requests("hubspot")[f"{OBJECTS}/deals/search"] == 9


def test_batches_are_read_side_by_side(sales: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = records(sales.listing("2026-04"))
    monkeypatch.setattr("resources.hubspot_api.BATCH_LIMIT", 1)
    sales.sandbox.fault("hubspot", "slow", path=f"{OBJECTS}/deals/batch/read", times=7, seconds=1)
    assert list(records(sales.listing("2026-04"))) == list(whole)
    assert sales.sandbox.state()["most_at_once"]["hubspot"] == CONCURRENCY


def test_an_outage_that_stays_ends_in_one_line(sales: Harness) -> None:
    sales.sandbox.fault("hubspot", "502", path="/crm/*", times=6)
    with pytest.raises(SourceTimeoutError, match="failed on every try") as caught:
        sales.listing("2026-04")
    assert "\n" not in str(caught.value)
    assert "<html>" not in str(caught.value)


@pytest.mark.parametrize("kind", ["truncate", "no_results"])
def test_a_body_that_is_not_what_the_api_promises_is_asked_for_again(
    sales: Harness, kind: str
) -> None:
    sales.sandbox.fault("hubspot", kind, path=f"{OBJECTS}/deals/batch/read")
    assert len(records(sales.listing("2026-04"))) == 7


def test_nothing_that_listens_is_told_by_its_origin(sandbox: Sandbox) -> None:
    nowhere = secrets(sandbox, api_url="http://127.0.0.1:9")
    client = HubspotClient(nowhere, timezone=ZONE, settings=HubspotSettings(), sleep=lambda _: None)
    with client, pytest.raises(SourceTimeoutError, match=r"nothing answers at http://127\.0\.0\.1"):
        client.server_time()


def test_the_vendors_client_keeps_its_connection_and_asks_for_gzip(sales: Harness) -> None:
    sales.listing("2026-04")
    pools = sales.client._api._transport._api.rest_client.pool_manager.pools
    (pool,) = [pools[key] for key in pools.keys()]  # noqa: SIM118 - it is no mapping
    assert pool.num_connections <= CONCURRENCY
    assert pool.num_requests > 10


def test_a_refused_request_names_what_hubspot_said(sales: Harness) -> None:
    unknown = {"propertyName": "nothing", "operator": "HAS_PROPERTY"}
    with pytest.raises(SourceError, match="HTTP 400: Property nothing does not exist on deals"):
        list(sales.client._api.search("deals", [[unknown]]))


# -- what it comes to ----------------------------------------------------------------------------


def test_the_traps_of_the_sandbox_come_to_the_right_amounts(
    hubspot: Harness, tmp_path: Path
) -> None:
    """From the API to canonical rows: discounts, billing periods, decimals, copies, terms."""
    lake, site = Lake(tmp_path), Site(ZONE, "USD", None)
    settings = HubspotSettings(**EVERYTHING)
    amounts: dict[str, Decimal] = {}
    for month in ("2025-03", "2025-04", "2025-05", "2025-06", "2025-08", "2025-09", "2025-10"):
        pages = hubspot.client.listing(month)
        lake.land("hubspot", month, pages, run_id="r", api_version="v", objects=SOURCE.objects)
        built = canonical.build(lake, SOURCE, RecordType.SALES, month, settings, site)
        assert built.lost == ()
        for row in pq.read_table(lake.root / built.path / "rows.parquet").to_pylist():
            name = row["order_name"]
            amounts[name] = amounts.get(name, Decimal()) + row["amount"]
            if name == "Starts in July":
                starts = {"Platform Standard": 1, "Gold Support": 17, "Named User Seat": 27}
                assert row["service_start_date"].day == starts[row["product_name"]]
    expected = {
        "Three years, paid yearly": 3 * 9708 + 36 * 30 * Decimal(39),
        "Discount per seat": 12 * 40 * (Decimal(39) - Decimal("4.35")),
        # 899 less 12.5 % is 786.625, and HubSpot rounds the discount of each billing period.
        "Percentage off": 12 * (Decimal("786.62") + 351 - Decimal("11.69")),
        "Quarterly in Kuwait": 4 * Decimal("822.585") + 12 * (Decimal("83.265") - Decimal("2.773")),
        "Half a package": Decimal(1800) + Decimal("333.33"),
        "130 shops": 130 * 12 * Decimal(39),
    }
    assert {name: amounts[name] for name in expected} == expected


# -- incremental and full are the same -----------------------------------------------------------

MONTHS = ("2026-04", "2026-05", "2026-06")
_LINEAGE = {"raw_batch", "raw_page"}


def land(lake: Lake, window: str, pages: Iterator[Page]) -> None:
    """One pull into a lake."""
    lake.land("hubspot", window, pages, run_id="r", api_version="v", objects=SOURCE.objects)


def state(lake: Lake) -> list[dict[str, Any]]:
    """All rows of the months, of each record type, but for where they came from."""
    settings, site = HubspotSettings(**EVERYTHING), Site(ZONE, "USD", None)
    found = []
    for record_type in SOURCE.record_types(settings):
        for month in MONTHS:
            built = canonical.build(lake, SOURCE, record_type, month, settings, site)
            assert built.lost == ()
            table = pq.read_table(lake.root / built.path / "rows.parquet")
            found += [
                {name: value for name, value in row.items() if name not in _LINEAGE}
                for row in table.to_pylist()
            ]
    return sorted(
        found, key=lambda row: (row["record_type"], row["document_id"], str(row["line_id"]))
    )


def test_what_changes_bring_is_what_a_full_listing_has(hubspot: Harness, tmp_path: Path) -> None:
    """Everything that may happen to a deal or an invoice, in one window."""
    kept = Lake(tmp_path / "kept")
    for month in MONTHS:
        land(kept, month, hubspot.client.listing(month))

    def deal(name: str, **fields: str | None) -> None:
        hubspot.command("edit", object="deals", id=hubspot.deal(name), fields=fields)

    hubspot.command("story")
    deal("Merged into", closedate="2026-06-30T15:00:00Z")
    deal("Without a stage", dealstage="closedwon", pipeline="default")
    deal("Never dated", closedate="2026-04-01T15:00:00Z")
    thirds, price = hubspot.deal("Thirds"), hubspot.deal("Price typed wrong")
    hubspot.command("delete", object="line_items", id=hubspot.lines_of(price)[0])
    fields = {"deal": price, "name": "Late", "hs_sku": "SEAT", "price": "1", "quantity": "1"}
    hubspot.command("add", object="line_items", fields=fields)
    hubspot.command("merge", object="deals", id=thirds, loser=hubspot.deal("No amount"))
    split = hubspot.command("find", object="deal_split", property="hs_deal_id", value=thirds)["id"]
    changed = {"hubspot_owner_id": "80410114"}
    hubspot.command("edit", object="deal_split", id=split, fields=changed)
    product = hubspot.command("find", object="products", property="hs_sku", value="PLAT-STD")["id"]
    hubspot.command("edit", object="products", id=product, fields={"hs_product_type": "inventory"})
    new = {**BULK, "closedate": "2026-05-05T12:00:00Z", "dealstage": "closedwon"}
    hubspot.command("add", object="deals", fields=new, count=101)
    hubspot.sandbox.command("advance", seconds=3600)
    now = hubspot.client.server_time()
    land(kept, CHANGES, hubspot.client.changes(now - timedelta(days=1), now))

    fresh = Lake(tmp_path / "fresh")
    for month in MONTHS:
        land(fresh, month, hubspot.client.listing(month))
    found = state(kept)
    assert found == state(fresh)
    assert {row["excluded_by"] for row in found} >= {None, "deleted", "not_closed_won", "void"}
    assert sum(row["order_name"] == "bulk" for row in found if "order_name" in row) == 101


# -- the whole way -------------------------------------------------------------------------------

TOML = """
[sources.hubspot]
invoices = true
commissions = true
commission_rate = 8
searches_per_second = 1000
requests_per_second = 1000
"""


def rows(pipeline: Pipeline, record_type: str, month: str) -> list[dict[str, Any]]:
    """The newest canonical rows of a month."""
    found = sorted(
        (pipeline.settings.lake_root / "canonical" / "hubspot" / record_type / month).glob(
            "*/rows.parquet"
        ),
        key=lambda path: path.stat().st_mtime_ns,
    )
    return list(pq.read_table(found[-1]).to_pylist())


def counted(pipeline: Pipeline, record_type: str, month: str) -> dict[str, Decimal]:
    """Amount by document of the rows that count."""
    sums: dict[str, Decimal] = {}
    for row in rows(pipeline, record_type, month):
        if row["excluded_by"] is None and row["amount"] is not None:
            key = row["document_id"]
            sums[key] = sums.get(key, Decimal()) + row["amount"]
    return sums


def test_the_whole_way_a_month_then_what_happened_since(
    sandbox: Sandbox, make_pipeline: Any
) -> None:
    sandbox.command("limit", source="hubspot")
    pipeline: Pipeline = make_pipeline(toml=TOML)
    for month in ("2026-04", "2026-06"):
        pipeline.run("sync_hubspot", month, may_fail=True)

    def deal(name: str) -> str:
        fields = {"object": "deals", "property": "dealname", "value": name}
        return str(sandbox.command("find", source="hubspot", **fields)["id"])

    reopened, signed, mistake = (
        deal(name) for name in ("Won, then reopened", "About to sign", "Signed by mistake")
    )
    before = counted(pipeline, "sales", "2026-06")
    assert before[reopened] == 12 * (Decimal(899) + 16 * Decimal(39))
    assert mistake in before
    assert signed not in before
    thirds = [
        row["amount"]
        for row in rows(pipeline, "commissions", "2026-04")
        if row["document_id"] == deal("Thirds")
    ]
    assert sorted(thirds) == [Decimal("266.66"), Decimal("266.67"), Decimal("266.67")]
    with pipeline.ledger.transaction() as tx:
        flagged = [
            (error["record_type"], error["record_id"], error["field"])
            for error in sync_errors.list_errors(tx)
            if error["severity"] == "error"
        ]
    assert ("commissions", deal("No amount"), "Document Amount") in flagged

    told = sandbox.command("story", source="hubspot")["hubspot"]
    sandbox.command("advance", seconds=3600)
    pipeline.run("changes_hubspot")
    pipeline.route()

    after = counted(pipeline, "sales", "2026-06")
    assert reopened not in after
    assert mistake not in after
    assert after[signed] == 12 * (Decimal(899) + 25 * Decimal(39)) + 4500
    excluded = {
        row["document_id"]: row["excluded_by"]
        for record_type in ("sales", "commissions")
        for row in rows(pipeline, record_type, "2026-06")
    }
    assert excluded[reopened] == "not_closed_won"
    assert excluded[mistake] == "deleted"
    voided = told["invoice voided"]
    assert voided not in counted(pipeline, "invoices", "2026-04")
    paid = counted(pipeline, "commissions", "2026-06")
    assert reopened not in paid
    assert paid[signed] > 0


def test_the_objects_of_the_source_are_what_the_client_lands(hubspot: Harness) -> None:
    landed = {page.object for page in hubspot.listing("2026-04")}
    assert landed == set(SOURCE.objects)
