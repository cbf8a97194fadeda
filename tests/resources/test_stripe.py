"""The Stripe client against the sandbox: paging, changes, limits, and each fault of the list."""

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from conftest import Sandbox

from resources.client import IDS
from resources.http import at_origin, retry_after
from resources.registry import resource_of
from resources.stripe import EVENT_TYPES, StripeClient
from resources.stripe_api import API_VERSION, StripeSecrets
from revrec_pipeline.errors import (
    SettingsError,
    SourceAuthError,
    SourceLimitError,
    SourceSchemaError,
    SourceTimeoutError,
)
from revrec_pipeline.lake import KEYS, Page
from revrec_pipeline.mapping.stripe import StripeSettings
from revrec_pipeline.periods import period_range
from revrec_pipeline.sandbox.stripe_data import SUBSCRIPTIONS, subscription_invoice
from revrec_pipeline.sandbox.stripe_objects import object_id
from revrec_pipeline.settings import Settings

ZONE = "America/New_York"
LONG = object_id("in", "zephyr-sites")
DRAFT = object_id("in", "tallgrass-draft")
HTTP_LOG = "resources.stripe_api"


class Harness:
    """A client of the sandbox that does not really sleep, and what it would have slept."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.naps: list[float] = []
        self.client = StripeClient(
            secrets(sandbox),
            timezone=ZONE,
            settings=StripeSettings(requests_per_second=1_000_000),
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

    def asked(self, path: str) -> int:
        """How often a path was asked for."""
        return self.sandbox.requests("stripe").get(path, 0)

    def command(self, op: str, **fields: Any) -> dict[str, Any]:
        """A command to the sandbox's Stripe."""
        return self.sandbox.command(op, source="stripe", **fields)


def secrets(sandbox: Sandbox, **fields: Any) -> StripeSecrets:
    """The secrets that the sandbox takes."""
    env = sandbox.env
    given = {"api_key": env["STRIPE_API_KEY"], "api_url": env["STRIPE_API_URL"], **fields}
    return StripeSecrets.model_validate(given)


@pytest.fixture
def stripe(sandbox: Sandbox) -> Iterator[Harness]:
    sandbox.command("limit", source="stripe", per_second=None)
    harness = Harness(sandbox)
    with harness.client:
        yield harness


def documents(pages: list[Page], kind: str = "invoice") -> list[dict[str, Any]]:
    """The documents on pages, in order."""
    found: list[dict[str, Any]] = []
    for page in pages:
        if page.object == kind:
            body = json.loads(page.body)
            found += body["data"] if body["object"] == "list" else [body]
    return found


def ids(pages: list[Page], kind: str = "invoice") -> list[str]:
    """The ids of the documents on pages."""
    return [one["id"] for one in documents(pages, kind)]


def keys(pages: list[Page]) -> dict[str, dict[str, str]]:
    """The keys of all documents by id."""
    rows = [row for page in pages if page.keys is not None for row in page.keys.to_pylist()]
    return {row["id"]: row for row in rows}


# -- who and when --------------------------------------------------------------------------------


def test_check_names_the_account_and_the_pinned_version(stripe: Harness) -> None:
    connection = stripe.client.check()
    assert connection.account_id == "acct_1RevRecSandbox001"
    assert connection.account_name == "Fernhill Software"
    assert connection.api_version == API_VERSION == "2026-10-28.endive"
    assert connection.missing == ()


def test_check_names_the_permission_that_a_restricted_key_lacks(stripe: Harness) -> None:
    stripe.sandbox.fault("stripe", "403", path="/v1/events")
    assert stripe.client.check().missing == ("read access to events",)


def test_server_time_is_the_clock_of_the_source(stripe: Harness) -> None:
    stripe.sandbox.command("advance", seconds=90 * 86400)
    ahead = stripe.client.server_time() - datetime.now(UTC)
    assert timedelta(days=89) < ahead < timedelta(days=91)


def test_a_missing_key_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STRIPE_API_KEY", raising=False)
    with pytest.raises(SettingsError, match=r"^STRIPE_API_KEY is not set"):
        StripeSecrets.from_env()


def test_the_key_does_not_show_in_the_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIPE_API_KEY", "sk_live_tell_nobody")
    assert "tell_nobody" not in repr(StripeSecrets.from_env())


def test_a_wrong_key_ends_at_once_and_is_not_told(sandbox: Sandbox) -> None:
    wrong = secrets(sandbox, api_key="sk_test_wrong_and_secret")
    client = StripeClient(wrong, timezone=ZONE, settings=StripeSettings())
    with client, pytest.raises(SourceAuthError, match="check STRIPE_API_KEY") as caught:
        client.check()
    assert "wrong_and_secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sandbox.requests("stripe") == {"/v1/account": 1}


def test_a_foreign_account_is_refused_by_name_of_the_variable(sandbox: Sandbox) -> None:
    foreign = secrets(sandbox, account="acct_other")
    client = StripeClient(foreign, timezone=ZONE, settings=StripeSettings())
    with client, pytest.raises(SourceAuthError, match="STRIPE_ACCOUNT"):
        client.server_time()


def test_the_keys_own_account_may_be_named(sandbox: Sandbox) -> None:
    own = secrets(sandbox, account="acct_1RevRecSandbox001")
    with StripeClient(own, timezone=ZONE, settings=StripeSettings()) as client:
        assert client.check().account_id == "acct_1RevRecSandbox001"


def test_the_dagster_resource_reads_the_environment_only_when_a_client_is_made(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = resource_of("stripe", Settings())
    for name, value in sandbox.env.items():
        monkeypatch.setenv(name, value)
    with made.client() as client:
        assert client.check().account_name == "Fernhill Software"


# -- a month -------------------------------------------------------------------------------------


def test_all_months_together_hold_every_document_once(stripe: Harness) -> None:
    pages = [page for month in period_range("2025-01", "2026-06") for page in stripe.listing(month)]
    found = ids(pages)
    assert len(found) == len(set(found)) == 264
    assert len(ids(pages, "credit_note")) == 6
    assert {page.keys.schema for page in pages if page.keys is not None} == {KEYS}


def test_a_month_begins_and_ends_by_the_sites_clocks(stripe: Harness) -> None:
    # Billed at 02:30 UTC on the first: the evening of the last day of the month before.
    second = subscription_invoice("harborfoods", 2)
    assert second not in ids(stripe.listing("2025-03"))
    assert second in ids(stripe.listing("2025-02"))


def test_a_page_keeps_the_bytes_and_says_where_they_came_from(stripe: Harness) -> None:
    page = stripe.listing("2025-01")[0]
    assert page.body.startswith(b'{\n  "object": "list",\n  "data": [\n    {\n      "id": "in_1')
    assert page.request == (
        "GET /v1/invoices?limit=100&created[gte]=1735707600&created[lt]=1738386000"
    )
    assert page.request_id is not None
    assert page.request_id.startswith("req_1")
    assert page.records == len(documents([page])) == 11
    assert abs(page.server_time - datetime.now(UTC)) < timedelta(minutes=1)


def test_an_invoice_is_in_the_window_of_its_creation_and_the_month_of_its_finalisation(
    stripe: Harness,
) -> None:
    invoice = object_id("in", "wexford-gateways")
    key = keys(stripe.listing("2026-01"))[invoice]
    assert (key["window"], key["period"]) == ("2026-01", "2026-02")


def test_an_invoice_without_a_date_of_effect_is_in_the_month_of_its_finalisation(
    stripe: Harness,
) -> None:
    invoice = object_id("in", "wexford-gateways")
    stripe.command("edit", object="invoice", id=invoice, fields={"effective_at": None})
    assert keys(stripe.listing("2026-01"))[invoice]["period"] == "2026-02"


def test_an_invoice_with_an_earlier_date_of_effect_is_in_that_month(stripe: Harness) -> None:
    invoice = object_id("in", "wexford-gateways")
    december = int(datetime(2025, 12, 31, 15, tzinfo=UTC).timestamp())
    stripe.command("edit", object="invoice", id=invoice, fields={"effective_at": december})
    key = keys(stripe.listing("2026-01"))[invoice]
    assert (key["window"], key["period"]) == ("2026-01", "2025-12")


def test_a_draft_with_a_date_of_effect_is_still_in_the_month_of_its_creation(
    stripe: Harness,
) -> None:
    august = int(datetime(2026, 8, 1, 15, tzinfo=UTC).timestamp())
    stripe.command("edit", object="invoice", id=DRAFT, fields={"effective_at": august})
    assert keys(stripe.listing("2026-06"))[DRAFT]["period"] == "2026-06"


def test_a_credit_note_is_in_the_month_of_its_effect(stripe: Harness) -> None:
    key = keys(stripe.listing("2026-03"))[object_id("cn", "zephyr-sites")]
    assert (key["window"], key["period"]) == ("2026-03", "2026-02")


def test_a_draft_is_in_the_month_of_its_creation(stripe: Harness) -> None:
    key = keys(stripe.listing("2026-06"))[DRAFT]
    assert (key["window"], key["period"]) == ("2026-06", "2026-06")


def test_the_version_is_the_time_of_the_answer_in_text_that_sorts(stripe: Harness) -> None:
    page = stripe.listing("2025-01")[0]
    assert {key["version"] for key in keys([page]).values()} == {
        page.server_time.strftime("%Y-%m-%dT%H:%M:%SZ")
    }


def test_credit_notes_come_with_the_invoice_that_they_credit(stripe: Harness) -> None:
    (note,) = documents(stripe.listing("2025-09"), "credit_note")
    assert note["invoice"]["object"] == "invoice"


def test_a_month_without_documents_is_two_empty_pages(stripe: Harness) -> None:
    pages = stripe.listing("2024-12")
    assert [(page.object, page.records) for page in pages] == [("invoice", 0), ("credit_note", 0)]


# -- paging --------------------------------------------------------------------------------------


def add_invoices(stripe: Harness, count: int, **fields: Any) -> None:
    """Drafts created one second apart in July 2024, which is empty otherwise."""
    first = int(datetime(2024, 7, 15, tzinfo=UTC).timestamp())
    for number in range(count):
        stripe.command(
            "add",
            object="invoice",
            fields={
                "customer": "lumen",
                "amount": 100,
                "created": first + number,
                "seed": f"bulk-{number}",
                **fields,
            },
        )


@pytest.mark.parametrize("count", [1, 99, 100, 101, 307])
def test_paging_loses_nothing_airbyte_32976(stripe: Harness, count: int) -> None:
    add_invoices(stripe, count)
    pages = stripe.listing("2024-07")
    assert ids(pages) == [object_id("in", f"bulk-{n}") for n in reversed(range(count))]
    whole = (count + 99) // 100
    # What is older than a full first page is read in four parts, most of which may be empty.
    assert stripe.asked("/v1/invoices") <= (whole if whole == 1 else whole + 3)


def test_documents_added_and_edited_during_paging_lose_nothing(stripe: Harness) -> None:
    add_invoices(stripe, 150)
    listing = stripe.client.listing("2024-07")
    pages = [next(listing)]
    add_invoices(stripe, 1, seed="late", created=int(datetime(2024, 7, 20, tzinfo=UTC).timestamp()))
    stripe.command(
        "edit", object="invoice", id=object_id("in", "bulk-3"), fields={"metadata": {"a": "b"}}
    )
    pages += listing
    assert set(ids(pages)) == {object_id("in", f"bulk-{n}") for n in range(150)}


def test_a_draft_that_is_deleted_while_it_is_the_cursor_loses_nothing(stripe: Harness) -> None:
    add_invoices(stripe, 150)
    listing = stripe.client.listing("2024-07")
    pages = [next(listing)]
    for number in (50, 51):  # the last two of the first page, newest first
        stripe.command("delete", object="invoice", id=object_id("in", f"bulk-{number}"))
    pages += listing
    assert len(ids(pages)) == len(set(ids(pages))) == 150


def test_a_page_that_repeats_itself_is_an_error_tap_stripe_1_3_3(stripe: Harness) -> None:
    add_invoices(stripe, 250)
    stripe.sandbox.fault("stripe", "repeat", path="/v1/invoices", after=1)
    # Whichever of the parts is answered with it.
    noticed = r"repeats in_1.* of the page before it|brings in_1.* of another time"
    with pytest.raises(SourceSchemaError, match=noticed):
        stripe.listing("2024-07")


# -- lines ---------------------------------------------------------------------------------------


def test_an_invoice_with_23_lines_comes_with_all_of_them_airbyte_85087(stripe: Harness) -> None:
    pages = stripe.listing("2026-01")
    (page,) = [page for page in pages if page.object == "invoice_line"]
    assert (page.parent, page.records, page.keys) == (LONG, 23, None)


def test_a_changed_invoice_with_23_lines_comes_with_all_of_them_airbyte_85087(
    stripe: Harness,
) -> None:
    stripe.command("edit", object="invoice", id=LONG, fields={"metadata": {"po": "7"}})
    pages = stripe.changes()
    assert [page.records for page in pages if page.object == "invoice_line"] == [23]


def test_lines_are_asked_for_only_where_ten_are_not_all_airbyte_48426_30073(
    stripe: Harness,
) -> None:
    stripe.listing("2026-01")
    asked = [path for path in stripe.sandbox.requests("stripe") if path.endswith("/lines")]
    assert asked == [f"/v1/invoices/{LONG}/lines"]


def test_an_invoice_with_4985_lines_takes_50_requests_airbyte_10359(stripe: Harness) -> None:
    add_invoices(stripe, 1, lines=4985)
    pages = [page for page in stripe.listing("2024-07") if page.object == "invoice_line"]
    assert sum(page.records for page in pages) == 4985
    assert stripe.asked(f"/v1/invoices/{object_id('in', 'bulk-0')}/lines") == 50


def test_what_is_older_than_the_first_page_is_read_in_parts_side_by_side(stripe: Harness) -> None:
    first = int(datetime(2024, 7, 2, tzinfo=UTC).timestamp())
    for number in range(130):
        fields = {"customer": "lumen", "amount": 100, "seed": f"spread-{number}"}
        created = first + number * 16_200
        stripe.command("add", object="invoice", fields={**fields, "created": created})
    stripe.sandbox.fault("stripe", "slow", path="/v1/invoices", after=1, times=4, seconds=0.5)
    found = ids(stripe.listing("2024-07"))
    assert found == [object_id("in", f"spread-{n}") for n in reversed(range(130))]
    assert stripe.sandbox.state()["most_at_once"]["stripe"] == 4


def test_the_lines_of_several_invoices_are_fetched_at_once_posthog_97803(stripe: Harness) -> None:
    add_invoices(stripe, 4, lines=11)
    stripe.sandbox.fault("stripe", "slow", path="/v1/invoices/*/lines", times=4, seconds=0.3)
    pages = [page for page in stripe.listing("2024-07") if page.object == "invoice_line"]
    assert [page.parent for page in pages] == [
        object_id("in", f"bulk-{n}") for n in reversed(range(4))
    ]
    assert stripe.sandbox.state()["most_at_once"]["stripe"] == 4


def test_lines_404_of_a_deleted_draft_leave_its_page_as_it_is_posthog_72759(
    stripe: Harness,
) -> None:
    add_invoices(stripe, 1, lines=12)
    stripe.sandbox.fault("stripe", "404", path="/v1/invoices/*/lines")
    pages = stripe.listing("2024-07")
    assert [page.object for page in pages] == ["invoice", "credit_note"]
    assert len(documents(pages)[0]["lines"]["data"]) == 10


def test_fewer_lines_than_promised_are_an_error(stripe: Harness) -> None:
    add_invoices(stripe, 1, lines=23)
    path = f"/v1/invoices/{object_id('in', 'bulk-0')}/lines"
    stripe.command("finalize", id=object_id("in", "bulk-0"))
    listing = stripe.client.listing("2024-07")
    pages = [next(listing)]
    short = documents(pages)[0]["lines"]["data"]
    stripe.command("edit", object="invoice", id=object_id("in", "bulk-0"), fields={"lines": short})
    with pytest.raises(SourceSchemaError, match=f"{path} brought 10 of the 23 lines"):
        list(listing)


def test_a_credit_note_with_twelve_lines_comes_with_them_and_its_long_invoices_lines(
    stripe: Harness,
) -> None:
    pages = stripe.listing("2026-03")
    found = [(page.object, page.parent, page.records) for page in pages if page.keys is None]
    assert found == [
        ("credit_note_line", object_id("cn", "zephyr-sites"), 12),
        ("invoice_line", LONG, 23),
    ]


def test_lines_are_fetched_once_when_an_invoice_and_its_credit_note_changed(
    stripe: Harness,
) -> None:
    stripe.command("edit", object="invoice", id=LONG, fields={"metadata": {"po": "7"}})
    stripe.command("add", object="credit_note", id=LONG, fields={"share": "0.5"})
    pages = stripe.changes()
    assert LONG in ids(pages)
    assert len(ids(pages, "credit_note")) == 1
    assert [page.records for page in pages if page.object == "invoice_line"] == [23]


# -- changes -------------------------------------------------------------------------------------


def test_what_changed_is_asked_for_afresh_airbyte_31917_30677_15509(stripe: Harness) -> None:
    told = stripe.command("story")["stripe"]
    pages = stripe.changes()
    found = {one["id"]: one for one in documents(pages)}
    assert found[told["voided"]]["status"] == "void"
    assert found[told["new"]]["status"] == "open"
    assert found[told["finalized"]]["number"] is not None
    assert ids(pages, "credit_note") == [told["credit_note"]]
    assert keys(pages)[told["finalized"]]["period"] == "2026-06"
    assert keys(pages)[told["credit_note"]]["period"] == "2026-06"


def test_the_payload_of_an_event_in_an_old_shape_is_never_used(stripe: Harness) -> None:
    invoice = subscription_invoice("lumen", 3)
    stripe.command("edit", object="invoice", id=invoice, fields={"metadata": {"a": "b"}})
    pages = stripe.changes()
    (found,) = [one for one in documents(pages) if one["id"] == invoice]
    assert "pricing" in found["lines"]["data"][0]
    assert "price" not in found["lines"]["data"][0]
    assert b"2022-11-15" not in b"".join(page.body for page in pages)


def test_many_events_of_one_invoice_are_one_request(stripe: Harness) -> None:
    invoice = subscription_invoice("lumen", 3)
    for number in range(5):
        fields = {"metadata": {"edit": str(number)}}
        stripe.command("edit", object="invoice", id=invoice, fields=fields)
    stripe.changes()
    assert stripe.asked(f"/v1/invoices/{invoice}") == 1


def by_id(pages: list[Page]) -> dict[str, dict[str, Any]]:
    """The documents on pages that have a key, by id."""
    has_key = keys(pages)
    return {
        one["id"]: one
        for kind in ("invoice", "credit_note")
        for one in documents(pages, kind)
        if one["id"] in has_key
    }


def edit(stripe: Harness, invoice: str, **metadata: str) -> None:
    stripe.command("edit", object="invoice", id=invoice, fields={"metadata": metadata})


def test_an_event_in_the_pinned_version_is_as_good_as_an_answer(stripe: Harness) -> None:
    stripe.command("upgrade")
    changed = [subscription_invoice("lumen", number) for number in (1, 2, 3)]
    for invoice in changed:
        edit(stripe, invoice, a="b")
    pages = stripe.changes()
    assert [stripe.asked(f"/v1/invoices/{invoice}") for invoice in changed] == [0, 0, 0]
    assert [by_id(pages)[invoice]["metadata"] for invoice in changed] == [{"a": "b"}] * 3
    (page,) = [page for page in pages if page.request.startswith("GET /v1/events")]
    assert page.records == 3
    stripe.sandbox.command("advance", seconds=7200)
    edit(stripe, changed[0], a="c")
    edit(stripe, changed[0], a="d")  # in the same second, so that it has to be asked for
    asked = by_id(stripe.changes())[changed[0]]
    assert stripe.asked(f"/v1/invoices/{changed[0]}") == 1
    shown = by_id(pages)[changed[0]]
    assert asked | {"metadata": {}} == shown | {"metadata": {}}


def test_an_event_that_shows_ten_lines_of_23_comes_with_all_of_them_airbyte_85087(
    stripe: Harness,
) -> None:
    stripe.command("upgrade")
    edit(stripe, LONG, po="7")
    pages = stripe.changes()
    assert stripe.asked(f"/v1/invoices/{LONG}") == 0
    assert [page.records for page in pages if page.object == "invoice_line"] == [23]


def test_an_event_of_an_older_version_in_the_same_second_has_its_invoice_asked_for(
    stripe: Harness,
) -> None:
    invoice = subscription_invoice("lumen", 3)
    edit(stripe, invoice, a="b")
    stripe.command("upgrade")
    edit(stripe, invoice, a="b")
    stripe.changes()
    assert stripe.asked(f"/v1/invoices/{invoice}") == 1


def test_an_older_event_does_not_count(stripe: Harness) -> None:
    invoice = subscription_invoice("lumen", 3)
    edit(stripe, invoice, a="b")
    stripe.sandbox.command("advance", seconds=60)
    stripe.command("upgrade")
    edit(stripe, invoice, a="c")
    pages = stripe.changes()
    assert stripe.asked(f"/v1/invoices/{invoice}") == 0
    assert by_id(pages)[invoice]["metadata"] == {"a": "c"}


def test_what_an_event_shows_is_older_than_a_later_answer(stripe: Harness) -> None:
    stripe.command("upgrade")
    invoice = subscription_invoice("lumen", 3)
    edit(stripe, invoice, a="b")
    happened = stripe.client.server_time()
    stripe.sandbox.command("advance", seconds=1800)
    shown = keys(stripe.changes())[invoice]["version"]
    assert f"{happened:%Y-%m-%dT%H:%M:%SZ}" < shown
    assert shown < f"{stripe.client.server_time():%Y-%m-%dT%H:%M:%SZ}"


def test_what_an_event_shows_is_never_newer_than_the_window(stripe: Harness) -> None:
    stripe.command("upgrade")
    invoice = subscription_invoice("lumen", 3)
    edit(stripe, invoice, a="b")
    now = stripe.client.server_time()
    until = now + timedelta(seconds=1)
    pages = list(stripe.client.changes(now - timedelta(hours=1), until))
    assert keys(pages)[invoice]["version"] == f"{until:%Y-%m-%dT%H:%M:%SZ}"


def test_a_credit_note_is_asked_for_because_no_event_shows_its_invoice(stripe: Harness) -> None:
    stripe.command("upgrade")
    stripe.command("add", object="credit_note", id=LONG, fields={"share": "0.5"})
    (found,) = documents(stripe.changes(), "credit_note")
    assert found["invoice"]["id"] == LONG


def test_what_was_created_close_together_comes_with_one_request(stripe: Harness) -> None:
    add_invoices(stripe, 30)
    added = [object_id("in", f"bulk-{number}") for number in range(30)]
    for invoice in added:
        stripe.command("finalize", id=invoice)
        stripe.command("pay", id=invoice)
    lists = stripe.asked("/v1/invoices")
    pages = stripe.changes()
    assert {by_id(pages)[invoice]["status"] for invoice in added} == {"paid"}
    assert [stripe.asked(f"/v1/invoices/{invoice}") for invoice in added] == [0] * 30
    assert stripe.asked("/v1/invoices") - lists == 3 + 2 + 1  # states, the time twice, and these
    (page,) = [page for page in pages if "created[lte]" in page.request]
    assert page.keys is not None
    assert sorted(page.keys["id"].to_pylist()) == sorted(
        added
    )  # its other documents did not change


def test_what_was_created_far_apart_is_asked_for_one_by_one(stripe: Harness) -> None:
    far = [subscription_invoice("lumen", number) for number in range(1, 12)]
    for invoice in far:
        edit(stripe, invoice, a="b")
    pages = stripe.changes()
    assert {by_id(pages)[invoice]["metadata"]["a"] for invoice in far} == {"b"}
    asked = sum(stripe.asked(f"/v1/invoices/{invoice}") for invoice in far)
    lists = sum("created[lte]" in page.request for page in pages)
    assert lists + asked <= len(far)


def test_a_document_that_comes_again_as_it_was_has_the_digest_that_it_had(stripe: Harness) -> None:
    invoice = subscription_invoice("lumen", 3)
    stripe.command("upgrade")
    edit(stripe, invoice, a="b")
    shown = digests(stripe.changes())
    assert shown == digests(stripe.changes())
    edit(stripe, invoice, a="c")
    edit(stripe, invoice, a="b")  # what is asked for says the same in another layout
    stripe.sandbox.command("advance", seconds=60)
    asked = digests(stripe.changes())
    assert stripe.asked(f"/v1/invoices/{invoice}") == 1
    assert asked == shown
    edit(stripe, invoice, a="c")
    assert digests(stripe.changes())[invoice] != shown[invoice]


def test_an_open_invoice_of_a_listing_has_the_digest_that_it_has_as_a_change(
    stripe: Harness,
) -> None:
    changed, listed = digests(stripe.changes()), digests(stripe.listing("2026-06"))
    assert DRAFT in listed
    assert listed == {id_: changed[id_] for id_ in listed}


def test_a_document_with_more_lines_than_shown_has_no_digest(stripe: Harness) -> None:
    edit(stripe, LONG, po="7")
    assert digests(stripe.changes())[LONG] is None


def digests(pages: list[Page]) -> dict[str, str | None]:
    """The digests of documents by id; of a month's listing those that there are."""
    return {
        id_: digest
        for page in pages
        if page.keys is not None
        for id_, digest in zip(
            page.keys["id"].to_pylist(),
            page.digests.to_pylist() if page.digests else [None] * page.keys.num_rows,
            strict=True,
        )
        if digest or "created[gte]" not in page.request
    }


def test_open_invoices_are_listed_each_time_in_case_that_events_missed_a_change(
    stripe: Harness,
) -> None:
    pages = stripe.changes()
    states = {one["id"]: one["status"] for one in documents(pages)}
    assert sorted(states.values()) == ["draft", "draft", "open", "open", "open", "uncollectible"]
    assert stripe.asked("/v1/invoices") == 5  # three states, and twice to ask for the time


def test_an_open_invoice_that_changed_is_not_asked_for_twice(stripe: Harness) -> None:
    stripe.command("edit", object="invoice", id=DRAFT, fields={"metadata": {"a": "b"}})
    pages = stripe.changes()
    assert ids(pages).count(DRAFT) == 1
    assert stripe.asked(f"/v1/invoices/{DRAFT}") == 0


def test_a_deleted_draft_becomes_a_tombstone_tap_stripe_41(stripe: Harness) -> None:
    stripe.command("delete", object="invoice", id=DRAFT)
    pages = stripe.changes()
    assert stripe.asked(f"/v1/invoices/{DRAFT}") == 0  # its event is all that is left of it
    (tombstone,) = [one for one in documents(pages) if one.get("deleted")]
    created = int(datetime(2026, 6, 24, 15, tzinfo=UTC).timestamp())
    assert tombstone == {"id": DRAFT, "object": "invoice", "deleted": True, "created": created}
    assert keys(pages)[DRAFT]["period"] == keys(pages)[DRAFT]["window"] == "2026-06"


def test_an_invoice_voided_after_its_month_comes_back_in_its_month(stripe: Harness) -> None:
    told = stripe.command("story")["stripe"]
    assert keys(stripe.changes())[told["voided"]]["period"] == "2026-06"


def test_invoice_upcoming_is_not_asked_for_since_it_has_no_id_airbyte_39412(
    stripe: Harness,
) -> None:
    assert "invoice.upcoming" not in EVENT_TYPES
    assert len(EVENT_TYPES) <= 20


def test_a_window_before_the_event_feed_lists_13_months_airbyte_65911(stripe: Harness) -> None:
    pages = stripe.changes(hours=26 * 24)
    assert stripe.asked("/v1/events") == 0
    listed = next(page for page in pages if "created[gte]" in page.request)
    assert len(documents([listed])) == 100
    assert len(ids(pages)) > 100


def test_an_event_older_than_30_days_is_not_missed_ledgerly(stripe: Harness) -> None:
    invoice = subscription_invoice("northwind", 17)
    stripe.command("edit", object="invoice", id=invoice, fields={"metadata": {"a": "b"}})
    stripe.sandbox.command("advance", seconds=31 * 86400)
    (found,) = [one for one in documents(stripe.changes(32 * 24)) if one["id"] == invoice]
    assert found["metadata"] == {"a": "b"}


def test_an_unchanged_source_yields_its_open_documents_only(stripe: Harness) -> None:
    assert {one["status"] for one in documents(stripe.changes())} == {
        "draft",
        "open",
        "uncollectible",
    }


# -- limits and faults ---------------------------------------------------------------------------


def test_429_without_retry_after_is_waited_out(
    stripe: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    stripe.sandbox.fault("stripe", "429", path="/v1/invoices", times=3)
    with caplog.at_level(logging.WARNING, HTTP_LOG):
        assert len(ids(stripe.listing("2025-01"))) == 11
    first, second, third = stripe.naps
    assert 0.375 <= first <= 0.625
    assert 0.75 <= second <= 1.25
    assert 1.5 <= third <= 2.5
    assert len(caplog.records) == 3
    assert "HTTP 429 (global-rate; request req_" in caplog.records[0].getMessage()


def test_429_with_retry_after_is_waited_out_as_long_as_asked(stripe: Harness) -> None:
    stripe.sandbox.fault("stripe", "429", path="/v1/invoices", headers={"Retry-After": "7"})
    stripe.listing("2025-01")
    assert stripe.naps == [7.0]


def test_a_retry_after_of_an_hour_is_not_slept_through_airbyte_85216(stripe: Harness) -> None:
    stripe.sandbox.fault("stripe", "429", path="/v1/invoices", headers={"Retry-After": "3600"})
    with pytest.raises(SourceLimitError, match="must wait 3600 s") as caught:
        stripe.listing("2025-01")
    assert caught.value.retry_after == 3600
    assert stripe.naps == []


def test_a_limit_that_does_not_end_is_an_error_that_may_be_tried_again(stripe: Harness) -> None:
    stripe.sandbox.fault("stripe", "429", path="/v1/invoices", times=50)
    with pytest.raises(SourceLimitError, match="lower requests_per_second") as caught:
        stripe.listing("2025-01")
    assert caught.value.retryable
    assert stripe.asked("/v1/invoices") == 6


@pytest.mark.parametrize("kind", ["500", "reset", "html", "lock_timeout", "truncate"])
def test_one_fault_is_survived(stripe: Harness, kind: str) -> None:
    stripe.sandbox.fault("stripe", kind, path="/v1/invoices")
    assert len(ids(stripe.listing("2025-01"))) == 11
    assert stripe.asked("/v1/invoices") == 2


@pytest.mark.parametrize("kind", ["500", "reset", "html"])
def test_an_outage_is_an_error_that_may_be_tried_again(stripe: Harness, kind: str) -> None:
    stripe.sandbox.fault("stripe", kind, path="/v1/invoices", times=50)
    with pytest.raises(SourceTimeoutError, match="GET /v1/invoices failed on every try"):
        stripe.listing("2025-01")
    assert stripe.asked("/v1/invoices") == 6


def test_a_body_that_is_cut_off_each_time_is_named(stripe: Harness) -> None:
    stripe.sandbox.fault("stripe", "truncate", path="/v1/invoices", times=50)
    with pytest.raises(SourceSchemaError) as caught:
        stripe.listing("2025-01")
    message = str(caught.value)
    assert message.startswith("stripe: GET /v1/invoices?limit=100&created[gte]=1735707600&")
    assert "answered HTTP 200, application/json, " in message
    assert "\n" not in message
    assert stripe.asked("/v1/invoices") == 3


def test_html_with_status_200_is_named(stripe: Harness) -> None:
    stripe.sandbox.fault("stripe", "html", path="/v1/invoices", times=50, status=200)
    with pytest.raises(SourceSchemaError, match="promises: it is text/html; charset=utf-8"):
        stripe.listing("2025-01")


def test_html_with_status_403_does_not_show_its_body(stripe: Harness) -> None:
    stripe.sandbox.fault("stripe", "html", path="/v1/invoices", status=403)
    with pytest.raises(SourceSchemaError, match="answered HTTP 403") as caught:
        stripe.listing("2025-01")
    assert "<" not in str(caught.value)


def test_a_key_that_is_revoked_during_paging_ends_the_pull(stripe: Harness) -> None:
    add_invoices(stripe, 150)
    stripe.sandbox.fault("stripe", "401", path="/v1/invoices", after=1)
    with pytest.raises(SourceAuthError, match="refused the key"):
        stripe.listing("2024-07")


def test_an_unknown_parameter_is_refused_and_named(stripe: Harness) -> None:
    with pytest.raises(SourceSchemaError, match="Received unknown parameter: updated"):
        list(stripe.client._pages("/v1/invoices", object, updated=1))


def test_nothing_answering_is_one_line_that_names_the_origin(sandbox: Sandbox) -> None:
    nobody = secrets(sandbox, api_url="http://127.0.0.1:9")
    client = StripeClient(nobody, timezone=ZONE, settings=StripeSettings(), sleep=lambda _: None)
    message = r"nothing answers at http://127\.0\.0\.1:9$"
    with client, pytest.raises(SourceTimeoutError, match=message):
        client.check()


def test_the_published_rate_is_kept_without_a_single_429(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    with StripeClient(secrets(sandbox), timezone=ZONE, settings=StripeSettings()) as client:
        for _ in range(40):
            client.server_time()
    assert sandbox.requests("stripe") == {"/v1/invoices": 40}
    assert [record for record in caplog.records if record.name == HTTP_LOG] == []


def test_the_sandboxes_subscriptions_are_the_ones_that_the_tests_count() -> None:
    assert len(SUBSCRIPTIONS) == 24


def test_bodies_are_asked_for_in_gzip(stripe: Harness) -> None:
    stripe.client.server_time()
    assert stripe.client._api._transport.received.headers["Content-Encoding"] == "gzip"


# -- shared helpers ------------------------------------------------------------------------------


def test_another_origin_keeps_path_and_query() -> None:
    url = "https://api.stripe.com/v1/invoices?limit=1&created[gte]=2"
    assert at_origin(url, "http://127.0.0.1:8000") == (
        "http://127.0.0.1:8000/v1/invoices?limit=1&created[gte]=2"
    )
    assert at_origin(url, None) == url


def test_retry_after_reads_seconds_and_dates_and_ignores_the_rest() -> None:
    assert retry_after({"Retry-After": "12"}) == 12.0
    assert retry_after({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0.0
    assert retry_after({"Retry-After": "soon"}) is None
    assert retry_after({}) is None


# -- ids ---------------------------------------------------------------------------------------


def test_ids_are_those_of_the_listing_and_no_lines_are_followed(
    stripe: Harness, sandbox: Sandbox
) -> None:
    client = stripe.client
    listed = {
        (page.object, id_)
        for page in client.listing("2025-05")
        if page.keys is not None
        for id_ in page.keys.column("id").to_pylist()
    }
    before = sandbox.requests("stripe")
    table = pa.Table.from_batches(client.ids("2025-05"), IDS)
    found = list(zip(table["object"].to_pylist(), table["id"].to_pylist(), strict=True))
    assert set(found) == listed
    assert len(found) == len(set(found)) > 10
    after = sandbox.requests("stripe")
    asked = {path for path in after if after[path] != before.get(path, 0)}
    assert asked == {"/v1/invoices", "/v1/credit_notes"}


def test_ids_of_a_month_without_documents_are_none(stripe: Harness) -> None:
    assert sum(batch.num_rows for batch in stripe.client.ids("2027-03")) == 0
