"""The sandbox's Stripe: what it admits, what it refuses, and whether its documents add up."""

import base64
from collections import Counter
from typing import Any

import pytest
import requests
from conftest import Sandbox

from revrec_pipeline.sandbox.stripe import API_KEY, API_VERSION
from revrec_pipeline.sandbox.stripe_data import build, subscription_invoice
from revrec_pipeline.sandbox.stripe_objects import object_id

HEADERS = {"Authorization": f"Bearer {API_KEY}", "Stripe-Version": API_VERSION}
LONG = object_id("in", "zephyr-sites")
DRAFT = object_id("in", "tallgrass-draft")


def ask(sandbox: Sandbox, path: str, **headers: str | None) -> requests.Response:
    """A GET below /v1; a header of None is left out."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return requests.get(f"{sandbox.origin}/v1/{path}", headers={**HEADERS, **named}, timeout=10)


def body(sandbox: Sandbox, path: str) -> Any:
    """The JSON of an answer of 200."""
    answer = ask(sandbox, path)
    assert answer.status_code == 200, answer.text
    return answer.json()


def error(answer: requests.Response) -> tuple[int, str | None, str | None]:
    """Status, code and parameter of a refusal."""
    found = answer.json()["error"]
    return answer.status_code, found.get("code"), found.get("param")


@pytest.fixture
def fast(sandbox: Sandbox) -> Sandbox:
    """The sandbox without its rate limit."""
    sandbox.command("limit", source="stripe", per_second=None)
    return sandbox


# -- the door ------------------------------------------------------------------------------------


def test_a_bearer_or_a_basic_key_is_taken(fast: Sandbox) -> None:
    basic = base64.b64encode(f"{API_KEY}:".encode()).decode()
    assert ask(fast, "account").status_code == 200
    assert ask(fast, "account", Authorization=f"Basic {basic}").status_code == 200


def test_a_missing_or_wrong_key_is_401(fast: Sandbox) -> None:
    assert ask(fast, "account", Authorization=None).status_code == 401
    wrong = ask(fast, "account", Authorization="Bearer sk_test_wrong_key_abcd")
    assert wrong.status_code == 401
    assert wrong.json()["error"]["message"] == "Invalid API Key provided: sk_test_****abcd"


@pytest.mark.parametrize("version", ["2022-11-15", "", None])
def test_another_version_than_the_pinned_one_is_refused(fast: Sandbox, version: str | None) -> None:
    assert ask(fast, "account", Stripe_Version=version).status_code == 400


def test_an_answer_names_request_and_version(fast: Sandbox) -> None:
    answer = ask(fast, "invoices")
    assert answer.headers["Request-Id"].startswith("req_")
    assert answer.headers["Stripe-Version"] == API_VERSION
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.text.startswith('{\n  "object": "list",\n')


def test_an_unknown_path_is_404(fast: Sandbox) -> None:
    answer = ask(fast, "sales_orders")
    assert answer.status_code == 404
    assert answer.json()["error"]["message"] == "Unrecognized request URL (GET: /v1/sales_orders)."


def test_more_than_25_requests_a_second_are_429_with_a_reason_and_no_retry_after(
    sandbox: Sandbox,
) -> None:
    sandbox.command("limit", source="stripe", per_second=3)
    answers = [ask(sandbox, "products?limit=1") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[3].headers["Stripe-Rate-Limited-Reason"] == "endpoint-rate"
    assert "Retry-After" not in answers[3].headers
    assert error(answers[3]) == (429, "rate_limit", None)
    assert ask(sandbox, "prices?limit=1").status_code == 200  # the limit is per endpoint


# -- parameters ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("updated[gte]=1", (400, "parameter_unknown", "updated")),
        ("created[around]=1", (400, "parameter_unknown", "created")),
        ("limit=0", (400, "parameter_invalid_integer", "limit")),
        ("limit=101", (400, "parameter_invalid_integer", "limit")),
        ("limit=ten", (400, "parameter_invalid_integer", "limit")),
        ("created[gte]=today", (400, "parameter_invalid_integer", "created[gte]")),
        ("starting_after=in_0", (400, "resource_missing", "starting_after")),
        ("ending_before=in_0", (400, "resource_missing", "ending_before")),
        ("status=closed", (400, None, "status")),
        ("expand[]=data.refunds", (400, None, "expand")),
        ("expand=data.invoice", (400, None, "expand")),
    ],
)
def test_a_parameter_that_is_unknown_or_wrong_is_400(
    fast: Sandbox, query: str, expected: tuple[int, str | None, str | None]
) -> None:
    assert error(ask(fast, f"invoices?{query}")) == expected


def test_lines_inside_events_cannot_be_expanded_airbyte_85087(fast: Sandbox) -> None:
    answer = ask(fast, "events?expand[]=data.data.object.lines")
    assert error(answer) == (400, None, "expand")


def test_more_than_20_event_types_are_400(fast: Sandbox) -> None:
    query = "&".join(f"types[]=invoice.{n}" for n in range(21))
    assert error(ask(fast, f"events?{query}")) == (400, None, "types")


def test_a_list_has_ten_objects_when_nothing_is_said(fast: Sandbox) -> None:
    answer = body(fast, "invoices")
    assert (len(answer["data"]), answer["has_more"], answer["url"]) == (10, True, "/v1/invoices")


def test_lists_go_from_new_to_old(fast: Sandbox) -> None:
    created = [one["created"] for one in body(fast, "invoices?limit=100")["data"]]
    assert created == sorted(created, reverse=True)


def test_a_cursor_pages_forth_and_back(fast: Sandbox) -> None:
    first = body(fast, "invoices?limit=5")["data"]
    second = body(fast, f"invoices?limit=5&starting_after={first[-1]['id']}")["data"]
    back = body(fast, f"invoices?limit=5&ending_before={second[0]['id']}")
    assert back["data"] == first
    assert back["has_more"] is False
    assert not {one["id"] for one in first} & {one["id"] for one in second}


def test_a_cursor_may_be_one_that_the_filter_leaves_out_by_now(fast: Sandbox) -> None:
    (first, *rest) = body(fast, "invoices?status=open")["data"]
    fast.command("pay", source="stripe", id=first["id"])
    after = body(fast, f"invoices?status=open&starting_after={first['id']}")["data"]
    assert [one["id"] for one in after] == [one["id"] for one in rest]


def test_ranges_are_exact_at_both_ends(fast: Sandbox) -> None:
    created = body(fast, "invoices?limit=1")["data"][0]["created"]
    for query, count in (
        (f"created[gte]={created}", 1),
        (f"created[gt]={created}", 0),
        (f"created[gte]={created}&created[lt]={created}", 0),
        (f"created[gte]={created}&created[lte]={created}", 1),
        (f"created={created}", 1),
    ):
        assert len(body(fast, f"invoices?{query}")["data"]) == count, query


@pytest.mark.parametrize(
    ("path", "count"),
    [
        ("invoices?status=draft", 2),
        ("invoices?status=uncollectible", 1),
        ("invoices?status=void", 2),
        (f"invoices?subscription={object_id('sub', 'wexford')}", 2),
        (f"credit_notes?invoice={LONG}", 1),
        ("products", 10),
        ("prices?product=SEAT", 6),
        ("subscriptions?status=canceled", 0),
        ("subscriptions?status=all&limit=100", 24),
    ],
)
def test_filters_find_what_they_name(fast: Sandbox, path: str, count: int) -> None:
    assert len(body(fast, path)["data"]) == count


# -- lines ---------------------------------------------------------------------------------------


def test_an_invoice_shows_ten_of_its_23_lines_and_says_so(fast: Sandbox) -> None:
    nested = body(fast, f"invoices/{LONG}")["lines"]
    assert len(nested["data"]) == 10
    assert (nested["has_more"], nested["total_count"]) == (True, 23)
    full = body(fast, nested["url"].removeprefix("/v1/") + "?limit=100")
    assert len(full["data"]) == 23
    assert full["data"][:10] == nested["data"]


def test_an_expanded_invoice_shows_ten_of_its_lines_too(fast: Sandbox) -> None:
    note = body(fast, f"credit_notes/{object_id('cn', 'zephyr-sites')}?expand[]=invoice")
    assert len(note["invoice"]["lines"]["data"]) == 10
    assert len(note["lines"]["data"]) == 10
    assert note["lines"]["total_count"] == 12


def test_a_deleted_draft_is_404(fast: Sandbox) -> None:
    fast.command("delete", source="stripe", object="invoice", id=DRAFT)
    for path in (f"invoices/{DRAFT}", f"invoices/{DRAFT}/lines"):
        assert error(ask(fast, path)) == (404, "resource_missing", "invoice")


def test_only_a_draft_can_be_deleted(sandbox: Sandbox) -> None:
    command = {"op": "delete", "source": "stripe", "object": "invoice", "id": LONG}
    answer = requests.post(f"{sandbox.origin}/_control", json=command, timeout=10)
    assert (answer.status_code, answer.json()["error"]) == (
        400,
        f"{LONG} is paid; only a draft can be deleted",
    )


# -- events --------------------------------------------------------------------------------------


def test_an_event_shows_its_object_in_the_accounts_old_version(fast: Sandbox) -> None:
    fast.command("void", source="stripe", id=subscription_invoice("mueller", 18))
    (event,) = body(fast, "events?types[]=invoice.voided")["data"]
    shown = event["data"]["object"]
    assert event["api_version"] == "2022-11-15"
    assert shown["paid"] is False
    assert "parent" not in shown
    assert shown["lines"]["data"][0]["price"]["product"] == "PLAT-PRO"


def test_events_are_kept_for_30_days(fast: Sandbox) -> None:
    assert body(fast, "events")["data"] == []  # all of the company's business is older
    fast.command("void", source="stripe", id=subscription_invoice("mueller", 18))
    assert len(body(fast, "events")["data"]) == 1
    fast.command("advance", seconds=30 * 86400 + 60)
    assert body(fast, "events")["data"] == []


def test_the_story_moves_four_documents_and_leaves_their_events(fast: Sandbox) -> None:
    told = fast.command("story", source="stripe")["stripe"]
    kinds = Counter(event["type"] for event in body(fast, "events?limit=100")["data"])
    assert kinds == {
        "invoice.created": 1,
        "invoice.finalized": 2,
        "invoice.voided": 1,
        "credit_note.created": 1,
    }
    assert body(fast, f"invoices/{told['finalized']}")["status"] == "open"


# -- the data ------------------------------------------------------------------------------------


def test_every_invoice_adds_up() -> None:
    for invoice in build().invoices.values():
        lines = invoice["lines"]
        discounts = sum(d["amount"] for line in lines for d in line["discount_amounts"])
        taxes = [tax for line in lines for tax in line["taxes"]]
        inclusive = sum(t["amount"] for t in taxes if t["tax_behavior"] == "inclusive")
        exclusive = sum(t["amount"] for t in taxes if t["tax_behavior"] == "exclusive")
        gross = sum(line["amount"] for line in lines)
        assert invoice["total"] == gross - discounts + exclusive
        assert invoice["total_excluding_tax"] == gross - discounts - inclusive
        assert sum(d["amount"] for d in invoice["total_discount_amounts"]) == discounts
        assert sum(t["amount"] for t in invoice["total_taxes"]) == inclusive + exclusive


def test_every_credit_note_adds_up() -> None:
    for note in build().credit_notes.values():
        assert note["total"] == note["pre_payment_amount"] + note["post_payment_amount"]
        assert note["amount"] == note["total"]


def test_the_account_shows_every_rule() -> None:
    store = build()
    invoices, notes = store.invoices.values(), store.credit_notes.values()
    lines = [line for invoice in invoices for line in invoice["lines"]]
    taxes = [tax for line in lines for tax in line["taxes"]]
    assert len(invoices) == 264
    assert {invoice["currency"] for invoice in invoices} == {
        "usd",
        "eur",
        "gbp",
        "jpy",
        "kwd",
        "isk",
    }
    assert {invoice["status"] for invoice in invoices} == {
        "draft",
        "open",
        "paid",
        "uncollectible",
        "void",
    }
    assert {(note["type"], note["status"]) for note in notes} == {
        ("pre_payment", "issued"),
        ("post_payment", "issued"),
        ("mixed", "issued"),
        ("post_payment", "void"),
    }
    assert {tax["tax_behavior"] for tax in taxes} == {"inclusive", "exclusive"}
    assert max(len(line["discount_amounts"]) for line in lines) == 3
    assert sum(line["pricing"] is None for line in lines) == 1
    assert sum(invoice["total"] < 0 for invoice in invoices) == 1
    assert sum(not invoice["lines"] for invoice in invoices) == 1
    assert any(invoice["customer_name"] is None for invoice in invoices)
    prices = [line["pricing"]["unit_amount_decimal"] for line in lines if line["pricing"]]
    assert "1.25" in prices
    assert any(line["invoice_line_item"] is None for note in notes for line in note["lines"])


def test_a_negative_invoice_is_used_up_by_the_next_one() -> None:
    store = build()
    negative = store.invoice(object_id("in", "cedarhealth-downgrade"))
    following = store.invoice(object_id("in", "cedarhealth-training"))
    assert negative["ending_balance"] == following["starting_balance"] == -167000
    assert following["amount_due"] == following["total"] - 167000


def test_the_same_documents_have_the_same_ids_each_time() -> None:
    assert list(build().invoices) == list(build().invoices)
    assert object_id("in", "a") != object_id("in", "b")
    assert len(object_id("in", "a")) == len("in_1SRzpzKXBGcbgpbZhJQectzF")
