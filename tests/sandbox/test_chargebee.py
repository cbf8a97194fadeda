"""The sandbox's Chargebee: what it admits, what it refuses, and whether its documents add up."""

import base64
import json
from typing import Any

import pytest
import requests
from conftest import Sandbox

from revrec_pipeline.sandbox.chargebee import API_KEY
from revrec_pipeline.sandbox.chargebee_data import (
    SUBSCRIPTIONS,
    at,
    build,
    order_of,
    subscription_invoice,
)
from revrec_pipeline.sandbox.clock import Clock
from revrec_pipeline.sandbox.salesforce import SalesforceSandbox

AUTH = (API_KEY, "")


def ask(sandbox: Sandbox, path: str, **params: Any) -> requests.Response:
    """A GET below /api/v2."""
    return requests.get(f"{sandbox.origin}/api/v2/{path}", auth=AUTH, params=params, timeout=10)


def listed(sandbox: Sandbox, path: str, **params: Any) -> list[dict[str, Any]]:
    """The records of an answer of 200."""
    answer = ask(sandbox, path, **params)
    assert answer.status_code == 200, answer.text
    return [next(iter(element.values())) for element in answer.json()["list"]]


def ids(sandbox: Sandbox, path: str, **params: Any) -> list[str]:
    """The ids of a list."""
    return [one["id"] for one in listed(sandbox, path, **params)]


# -- the door ------------------------------------------------------------------------------------


def basic(text: str) -> str:
    """A Basic header."""
    return f"Basic {base64.b64encode(text.encode()).decode()}"


@pytest.mark.parametrize(
    "header", ["", f"Bearer {API_KEY}", "Basic !", basic(API_KEY), basic("live_wrong:")]
)
def test_only_the_key_as_user_without_a_password_is_taken(sandbox: Sandbox, header: str) -> None:
    answer = requests.get(
        f"{sandbox.origin}/api/v2/invoices", headers={"Authorization": header}, timeout=10
    )
    assert answer.status_code == 401
    assert answer.json()["api_error_code"] == "api_authentication_failed"
    assert API_KEY not in answer.text


def test_a_read_only_key_may_not_write(sandbox: Sandbox) -> None:
    answer = requests.post(f"{sandbox.origin}/api/v2/invoices", auth=AUTH, timeout=10)
    assert (answer.status_code, answer.json()["api_error_code"]) == (
        403,
        "api_authorization_failed",
    )


def test_an_unknown_path_is_404(sandbox: Sandbox) -> None:
    for path in ("sales_orders", "invoices/INV-0", "invoices/x/y/z"):
        answer = ask(sandbox, path)
        assert (answer.status_code, answer.json()["api_error_code"]) == (404, "resource_not_found")


def test_more_requests_a_minute_than_allowed_are_429_without_retry_after(sandbox: Sandbox) -> None:
    sandbox.command("limit", source="chargebee", per_minute=3)
    answers = [ask(sandbox, "customers") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[3].json()["api_error_code"] == "api_request_limit_exceeded"
    assert "Retry-After" not in answers[3].headers


# -- parameters ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "101"}, "limit"),
        ({"limit": "ten"}, "limit"),
        ({"offset": "7"}, "offset"),
        ({"offset": '["a","b"]'}, "offset"),
        ({"updated_at": "5"}, "updated_at"),
        ({"updated_at[since]": "5"}, "updated_at"),
        ({"updated_at[between]": "[1]"}, "updated_at[between]"),
        ({"updated_at[between]": "[2,1]"}, "updated_at[between]"),
        ({"updated_at[after]": "today"}, "updated_at[after]"),
        ({"status[in]": "paid"}, "status[in]"),
        ({"sort_by[asc]": "created_at"}, "sort_by[asc]"),
        ({"sort_by[up]": "date"}, "sort_by[up]"),
        ({"include_deleted": "yes"}, "include_deleted"),
        ({"colour[is]": "red"}, "colour"),
        ({"a.b": "c"}, "a.b"),
    ],
)
def test_a_parameter_that_is_unknown_or_wrong_is_400(
    sandbox: Sandbox, query: dict[str, str], param: str
) -> None:
    answer = ask(sandbox, "invoices", **query)
    found = answer.json()
    assert (answer.status_code, found["api_error_code"]) == (400, "param_wrong_value")
    assert (found["param"], found["http_status_code"]) == (param, 400)


def test_item_prices_know_no_deleted_ones(sandbox: Sandbox) -> None:
    assert ask(sandbox, "item_prices", include_deleted="true").status_code == 400


@pytest.mark.parametrize("wanted", ['["lumen","quarry"]', "['lumen','quarry']"])
def test_lists_of_values_come_in_either_kind_of_quotes(sandbox: Sandbox, wanted: str) -> None:
    assert ids(sandbox, "customers", **{"id[in]": wanted}) == ["lumen", "quarry"]


def test_ranges_hold_both_of_their_ends(sandbox: Sandbox) -> None:
    (first,) = listed(sandbox, "invoices", **{"limit": 1, "sort_by[asc]": "date"})
    second = first["date"]
    for operator, value, count in (
        ("between", f"[{second},{second}]", 1),
        ("between", f"[{second - 9},{second - 1}]", 0),
        ("before", second, 0),
        ("before", second + 1, 1),
        ("on", second, 1),
    ):
        assert len(ids(sandbox, "invoices", **{f"date[{operator}]": value})) == count, operator


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        ({"status[is]": "pending"}, 2),
        ({"status[in]": '["voided","not_paid"]'}, 2),
        ({"status[not_in]": '["paid"]'}, 7),
        ({"recurring[is]": "false", "customer_id[is]": "quarry"}, 2),
        ({"total[gte]": "90000000"}, 0),
        ({"updated_at[is_present]": "false"}, 1),
        ({"id[starts_with]": "WEXFORD-"}, 3),
        ({"subscription_id[is_present]": "false", "customer_id[is]": "zephyr"}, 10),
    ],
)
def test_filters_find_what_they_name(sandbox: Sandbox, filters: dict[str, str], count: int) -> None:
    assert len(ids(sandbox, "invoices", limit=100, **filters)) == count


def test_no_filter_on_updated_at_finds_what_has_none_posthog_76090(sandbox: Sandbox) -> None:
    for filters in ({"updated_at[after]": 0}, {"updated_at[before]": 9999999999}):
        found = ids(sandbox, "invoices", **{"id[is]": "IMPORTED-001", **filters})
        assert found == []
    assert ids(sandbox, "invoices", **{"id[is]": "IMPORTED-001"}) == ["IMPORTED-001"]


# -- lists ---------------------------------------------------------------------------------------


def test_a_list_has_ten_records_in_the_order_of_creation(sandbox: Sandbox) -> None:
    found = listed(sandbox, "invoices")
    assert len(found) == 10
    assert [one["generated_at"] for one in found] == sorted(one["generated_at"] for one in found)


@pytest.mark.parametrize("order", [{}, {"sort_by[asc]": "date"}, {"sort_by[desc]": "updated_at"}])
def test_offsets_lead_through_all_records_once(sandbox: Sandbox, order: dict[str, str]) -> None:
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        answer = ask(sandbox, "invoices", limit=50, include_deleted="true", **order, **cursor)
        found += [element["invoice"]["id"] for element in answer.json()["list"]]
        if "next_offset" not in answer.json():
            break
        cursor = {"offset": answer.json()["next_offset"]}
        assert len(json.loads(cursor["offset"])) == 2
    assert len(found) == len(set(found)) == 165


def test_deleted_documents_are_shown_to_those_who_ask_for_them(sandbox: Sandbox) -> None:
    named = {"id[is]": "FIORDI-001"}
    assert ids(sandbox, "invoices", **named) == []
    (tombstone,) = listed(sandbox, "invoices", include_deleted="true", **named)
    assert (tombstone["deleted"], tombstone["total"]) == (True, 171000)
    assert ask(sandbox, "invoices/FIORDI-001").status_code == 404


def test_subscriptions_come_with_their_customer(sandbox: Sandbox) -> None:
    element = ask(sandbox, "subscriptions", limit=1).json()["list"][0]
    assert element["subscription"]["customer_id"] == element["customer"]["id"] == "northwind"


def test_lists_show_a_huge_invoice_without_lines_and_its_own_path_shows_them_in_pages(
    sandbox: Sandbox,
) -> None:
    (hidden,) = listed(sandbox, "invoices", **{"id[is]": "QUARRY-001"})
    assert hidden["line_items"] == hidden["line_item_discounts"] == []
    assert "line_items_next_offset" in hidden
    first = ask(sandbox, "invoices/QUARRY-001", line_items_limit=30).json()["invoice"]
    offset = first["line_items_next_offset"]
    second = ask(sandbox, "invoices/QUARRY-001", line_items_limit=30, line_items_offset=offset)
    rest = second.json()["invoice"]
    assert (len(first["line_items"]), len(rest["line_items"])) == (30, 11)
    assert (len(first["line_item_discounts"]), len(rest["line_item_discounts"])) == (15, 5)
    assert "line_items_next_offset" not in rest
    assert ask(sandbox, "invoices/QUARRY-001", line_items_limit=301).status_code == 400
    assert ask(sandbox, "invoices/QUARRY-001", limit=1).status_code == 400


def test_contract_terms_follow_each_other_without_a_gap(sandbox: Sandbox) -> None:
    (ironbridge,) = [one for one in SUBSCRIPTIONS if one.customer == "ironbridge"]
    terms = listed(sandbox, f"subscriptions/{ironbridge.id}/contract_terms")
    assert [term["status"] for term in terms] == ["completed", "completed", "active"]
    assert [one["contract_end"] + 1 for one in terms[:-1]] == [
        one["contract_start"] for one in terms[1:]
    ]


# -- what happens --------------------------------------------------------------------------------


def test_the_story_changes_a_handful_of_documents(sandbox: Sandbox) -> None:
    before = int(at(2026, 9, 1))
    sandbox.command("story", source="chargebee")
    changed = {"updated_at[after]": before, "include_deleted": "true"}
    assert sorted(ids(sandbox, "invoices", **changed)) == [
        "FIORDI-P01",
        "IRONBRIDGE-010",
        "IRONBRIDGE-S01",
        "NORTHWIND-036",
        "TALLGRASS-P01",
    ]
    assert ids(sandbox, "credit_notes", **changed) == ["CN-009"]


def test_commands_pay_refund_void_and_close(sandbox: Sandbox) -> None:
    def do(op: str, **fields: Any) -> None:
        sandbox.command(op, source="chargebee", **fields)

    do("pay", id="IRONBRIDGE-010")
    do("void", object="credit_note", id="CN-001")
    do("refund", id="CN-003")
    do("close", id="FIORDI-P01", date=at(2026, 7, 2))
    for path, status in (
        ("invoices/IRONBRIDGE-010", "paid"),
        ("credit_notes/CN-001", "voided"),
        ("credit_notes/CN-003", "refunded"),
        ("invoices/FIORDI-P01", "payment_due"),
    ):
        (found,) = ask(sandbox, path).json().values()
        assert found["status"] == status, path


@pytest.mark.parametrize(
    "command",
    [
        {"op": "pay", "id": "INV-0"},
        {"op": "edit", "object": "coupon", "id": "A", "fields": {}},
        {"op": "close", "id": "WEXFORD-001", "date": 1},
        {"op": "explode"},
        {"op": "fault", "kind": "418"},
    ],
)
def test_a_command_that_cannot_be_done_is_refused(
    sandbox: Sandbox, command: dict[str, Any]
) -> None:
    answer = requests.post(
        f"{sandbox.origin}/_control", json={"source": "chargebee", **command}, timeout=10
    )
    assert answer.status_code == 400


def test_a_change_is_a_newer_version_even_within_one_second(sandbox: Sandbox) -> None:
    versions = []
    for number in range(3):
        fields = {"po_number": str(number)}
        sandbox.command(
            "edit", source="chargebee", object="invoice", id="WEXFORD-001", fields=fields
        )
        found = ask(sandbox, "invoices/WEXFORD-001").json()["invoice"]
        versions.append(found["resource_version"])
    assert versions == sorted(set(versions))


# -- the data ------------------------------------------------------------------------------------


def test_every_document_adds_up() -> None:
    lists = build().lists
    documents = [*lists["invoices"].values(), *lists["credit_notes"].values()]
    for document in documents:
        lines = document["line_items"]
        off = sum(line["discount_amount"] - line["item_level_discount_amount"] for line in lines)
        tax = sum(line["tax_amount"] for line in lines)
        subtotal = sum(line["amount"] - line["item_level_discount_amount"] for line in lines)
        added = document["round_off_amount"] + document.get("fractional_correction", 0)
        if document["price_type"] == "tax_exclusive":
            added += tax
        assert document["sub_total"] == subtotal, document["id"]
        assert document["total"] == subtotal - off + added, document["id"]
        taxes = sum(one["tax_amount"] for one in document["line_item_taxes"])
        discounts = sum(one["discount_amount"] for one in document["line_item_discounts"])
        assert taxes == tax
        assert discounts == sum(line["discount_amount"] for line in lines)


def test_the_site_shows_every_trap() -> None:
    lists = build().lists
    invoices = list(lists["invoices"].values())
    notes = list(lists["credit_notes"].values())
    lines = [line for one in invoices for line in one["line_items"]]
    assert (len(invoices), len(notes)) == (165, 8)
    assert {one["status"] for one in invoices} == {
        "paid", "posted", "payment_due", "not_paid", "voided", "pending",
    }  # fmt: skip
    assert {(one["type"], one["status"]) for one in notes} == {
        ("adjustment", "adjusted"),
        ("refundable", "refunded"),
        ("refundable", "refund_due"),
        ("refundable", "voided"),
        ("store", "refunded"),
    }
    currencies = {one.get("currency_code") for one in invoices}
    assert currencies == {"USD", "EUR", "GBP", "JPY", "KWD", None}
    assert {line["entity_type"] for line in lines} == {
        "plan_item_price", "addon_item_price", "charge_item_price", "adhoc",
    }  # fmt: skip
    assert sum(one["deleted"] for one in invoices) == 1
    assert sum("updated_at" not in one for one in invoices) == 1
    assert sum("subscription_id" not in one and len(one["line_items"]) == 4 for one in invoices) > 5
    assert sum(one["total"] == 0 for one in invoices) == 2
    assert any(line["date_to"] == line["date_from"] for line in lines)
    assert any("amount_in_decimal" in line for line in lines)
    assert any(line["amount"] < 0 for line in lines)
    assert any(one.get("paid_at", 0) > one.get("updated_at", 0) > 0 for one in invoices)


def test_about_half_of_the_invoices_name_an_opportunity_of_the_sandboxes_salesforce() -> None:
    store = build()
    named = {
        one["id"]: one["cf_order_number"]
        for name in ("invoices", "subscriptions")
        for one in store.lists[name].values()
        if "cf_order_number" in one
    }
    org = SalesforceSandbox(Clock())._org
    for number in set(named.values()):
        assert org.value("Opportunity", number, "Id") == number
    assert named[subscription_invoice("northwind", 1)] == order_of("northwind")
    accounts = [
        one["cf_crm_account_id"]
        for one in store.lists["customers"].values()
        if "cf_crm_account_id" in one
    ]
    assert len(accounts) == 12
    for account in accounts:
        assert org.value("Account", account, "Id") == account


def test_the_opportunity_is_the_same_customers() -> None:
    org = SalesforceSandbox(Clock())._org
    for customer in ("northwind", "ironbridge", "sakura"):
        account = org.value("Opportunity", order_of(customer), "AccountId")
        (crm,) = [
            one["cf_crm_account_id"]
            for one in build().lists["customers"].values()
            if one["id"] == customer and "cf_crm_account_id" in one
        ] or [None]
        assert crm in {account, None}


def test_the_same_documents_have_the_same_content_each_time() -> None:
    assert build().lists == build().lists
