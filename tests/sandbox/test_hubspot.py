"""The sandbox's HubSpot refuses, limits and pages as HubSpot does. See reference/hubspot.md."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
import requests
from conftest import Sandbox

from revrec_pipeline.sandbox.hubspot import TOKEN
from revrec_pipeline.sandbox.hubspot_data import build
from revrec_pipeline.sandbox.hubspot_queries import milliseconds

OBJECTS = "crm/objects/2026-09"
BULK = {"dealname": "bulk", "closedate": "2022-07-15T12:00:00Z"}


class Asking:
    """Requests to the sandbox's HubSpot."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox

    def ask(
        self, path: str, body: Any = None, *, token: str | None = TOKEN, **params: Any
    ) -> requests.Response:
        """GET a path, or POST a body to it."""
        return requests.request(
            "GET" if body is None else "POST",
            f"{self.sandbox.origin}/{path}",
            json=body,
            params=params,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=20,
        )

    def json(self, path: str, body: Any = None, **params: Any) -> Any:
        """The body of a 2xx answer."""
        answer = self.ask(path, body, **params)
        assert answer.status_code in (200, 207), answer.text
        return answer.json()

    def refused(self, path: str, body: Any = None, **params: Any) -> tuple[int, str]:
        """Status and category of a refusal."""
        answer = self.ask(path, body, **params)
        return answer.status_code, answer.json()["category"]

    def search(self, *filters: dict[str, Any], kind: str = "deals", **fields: Any) -> Any:
        """A search by one group of filters."""
        body = {"filterGroups": [{"filters": list(filters)}], **fields}
        return self.json(f"{OBJECTS}/{kind}/search", body)

    def command(self, op: str, **fields: Any) -> dict[str, Any]:
        """A command to the sandbox's HubSpot."""
        return self.sandbox.command(op, source="hubspot", **fields)

    def deal(self, name: str) -> str:
        """The id of a deal."""
        return str(self.command("find", object="deals", property="dealname", value=name)["id"])


@pytest.fixture
def hubspot(sandbox: Sandbox) -> Asking:
    """The sandbox without its rate limits."""
    sandbox.command("limit", source="hubspot")
    return Asking(sandbox)


def where(name: str, operator: str, **values: Any) -> dict[str, Any]:
    """One filter."""
    return {"propertyName": name, "operator": operator, **values}


# -- the door ------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", [None, "pat-wrong"])
def test_a_missing_or_wrong_token_is_401(hubspot: Asking, token: str | None) -> None:
    answer = hubspot.ask(f"{OBJECTS}/deals", token=token)
    assert (answer.status_code, answer.json()["category"]) == (401, "INVALID_AUTHENTICATION")


def test_an_answer_is_compact_and_names_its_correlation_id(hubspot: Asking) -> None:
    answer = hubspot.ask(f"{OBJECTS}/deals", limit=1)
    assert answer.text.startswith('{"results":[{"id":"')
    assert answer.headers["X-HubSpot-Correlation-Id"]
    assert answer.headers["X-HubSpot-RateLimit-Interval-Milliseconds"] == "10000"
    refusal = hubspot.ask(f"{OBJECTS}/deals", limit=0)
    assert refusal.json()["correlationId"] == refusal.headers["X-HubSpot-Correlation-Id"]


def test_a_scope_that_was_not_granted_is_named(hubspot: Asking) -> None:
    hubspot.command("scope", missing="crm.objects.invoices.read")
    answer = hubspot.ask(f"{OBJECTS}/invoices")
    assert (answer.status_code, answer.json()["context"]) == (
        403,
        {"missingScopes": ["crm.objects.invoices.read"]},
    )
    assert hubspot.ask(f"{OBJECTS}/deals").status_code == 200


@pytest.mark.parametrize(
    "path", ["crm/v3/objects/deals", "crm/v4/associations/deals/line_items/batch/read"]
)
def test_the_undated_paths_that_end_in_2027_are_not_here(hubspot: Asking, path: str) -> None:
    assert hubspot.refused(path) == (404, "OBJECT_NOT_FOUND")


def test_a_type_is_named_by_word_or_by_number(hubspot: Asking) -> None:
    by_word, by_number = hubspot.json(f"{OBJECTS}/deals"), hubspot.json(f"{OBJECTS}/0-3")
    assert by_number["results"] == by_word["results"]
    assert hubspot.refused(f"{OBJECTS}/opportunities") == (400, "VALIDATION_ERROR")


def test_more_than_five_searches_a_second_are_429_secondly_without_headers(
    sandbox: Sandbox,
) -> None:
    sandbox.command("limit", source="hubspot", searches_per_second=2)
    answers = [Asking(sandbox).ask(f"{OBJECTS}/deals/search", {}) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].json()["policyName"] == "SECONDLY"
    assert not {"Retry-After", "X-HubSpot-RateLimit-Max"} & set(answers[2].headers)


def test_more_than_190_requests_in_ten_seconds_are_429(sandbox: Sandbox) -> None:
    sandbox.command("limit", source="hubspot", per_ten_seconds=2)
    answers = [Asking(sandbox).ask(f"{OBJECTS}/deals") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].json()["policyName"] == "TEN_SECONDLY_ROLLING"


# -- lists ---------------------------------------------------------------------------------------


def test_a_list_has_ten_records_and_a_few_properties_when_nothing_is_said(hubspot: Asking) -> None:
    page = hubspot.json(f"{OBJECTS}/deals")
    assert len(page["results"]) == 10
    assert "deal_currency_code" not in page["results"][0]["properties"]
    after = page["paging"]["next"]["after"]
    assert after == page["results"][-1]["id"]
    following = hubspot.json(f"{OBJECTS}/deals", after=after)
    assert int(following["results"][0]["id"]) > int(after)


def test_the_last_page_has_no_paging(hubspot: Asking) -> None:
    assert "paging" not in hubspot.json(f"{OBJECTS}/products", limit=100)


def test_properties_may_be_repeated_or_joined_and_archived_may_begin_with_a_capital(
    hubspot: Asking,
) -> None:
    """hubspot-api-client repeats the key, and writes Python's False."""
    joined = hubspot.json(f"{OBJECTS}/deals", properties="amount,region,no_such")
    repeated = hubspot.json(f"{OBJECTS}/deals", properties=["amount", "region"], archived="False")
    assert joined == repeated
    assert set(joined["results"][0]["properties"]) == {
        "amount",
        "createdate",
        "hs_lastmodifieddate",
        "hs_object_id",
        "region",
    }


@pytest.mark.parametrize(
    "params", [{"limit": 101}, {"limit": 0}, {"after": "x"}, {"archived": "maybe"}]
)
def test_a_wrong_parameter_of_a_list_is_400(hubspot: Asking, params: dict[str, Any]) -> None:
    assert hubspot.refused(f"{OBJECTS}/deals", **params) == (400, "VALIDATION_ERROR")


def test_inline_associations_end_after_100_and_say_so_airbyte_56447(hubspot: Asking) -> None:
    deal = hubspot.deal("130 shops")
    before = str(int(deal) - 1)
    (found,) = hubspot.json(f"{OBJECTS}/deals", limit=1, after=before, associations="line_items")[
        "results"
    ]
    lines = found["associations"]["line items"]
    assert len(lines["results"]) == 100
    assert lines["paging"]["next"]["after"]


def test_archived_records_are_a_list_of_their_own(hubspot: Asking) -> None:
    (archived,) = hubspot.json(f"{OBJECTS}/deals", archived="true", properties="dealname")[
        "results"
    ]
    assert archived["properties"]["dealname"] == "Archived by mistake"
    assert archived["archivedAt"] == "2026-05-28T10:00:00Z"
    assert archived["updatedAt"] < archived["archivedAt"]  # airbyte#19838
    assert hubspot.refused(f"{OBJECTS}/deals/{archived['id']}") == (404, "OBJECT_NOT_FOUND")


# -- searches ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        {"limit": 201},
        {"limit": 0},
        {"after": "x"},
        {"after": "9999", "limit": 10},
        {"sort": []},
        {"filterGroups": [{"filters": [where("nothing", "EQ", value="1")]}]},
        {"filterGroups": [{"filters": [where("amount", "NEAR", value="1")]}]},
        {"filterGroups": [{"filters": [where("amount", "EQ")]}]},
        {"filterGroups": [{"filters": [where("amount", "EQ", value="ten")]}]},
        {"filterGroups": [{"filters": [where("closedate", "GT", value="today")]}]},
        {"filterGroups": [{"filters": [where("amount", "BETWEEN", value="1")]}]},
        {"filterGroups": [{"filters": [where("amount", "IN")]}]},
        {"filterGroups": [{"filters": []}] * 6},
        {"filterGroups": [{"filters": [where("amount", "HAS_PROPERTY")] * 7}]},
        {"sorts": [{"propertyName": "amount"}, {"propertyName": "closedate"}]},
    ],
)
def test_a_wrong_search_is_400(hubspot: Asking, body: dict[str, Any]) -> None:
    assert hubspot.refused(f"{OBJECTS}/deals/search", body) == (400, "VALIDATION_ERROR")


def test_beyond_10000_results_a_search_is_400_airbyte_10700(hubspot: Asking) -> None:
    hubspot.command("add", object="deals", fields=BULK, count=10_001)
    bulk = {"filterGroups": [{"filters": [where("dealname", "EQ", value="BULK")]}], "limit": 200}
    last = hubspot.json(f"{OBJECTS}/deals/search", {**bulk, "after": "9800"})
    assert (last["total"], len(last["results"])) == (10_001, 200)
    assert last["paging"]["next"]["after"] == "10000"
    beyond = {**bulk, "after": "10000"}
    assert hubspot.refused(f"{OBJECTS}/deals/search", beyond) == (400, "VALIDATION_ERROR")


def test_filters_compare_by_the_type_of_the_property(hubspot: Asking) -> None:
    hubspot.command("add", object="deals", fields={**BULK, "amount": "9"})
    hubspot.command("add", object="deals", fields={**BULK, "amount": "100.50"})

    def total(*filters: dict[str, Any]) -> int:
        found: int = hubspot.search(where("dealname", "EQ", value="bulk"), *filters)["total"]
        return found

    noon = str(milliseconds("2022-07-15T12:00:00Z"))
    assert total(where("amount", "GT", value="9.0")) == 1
    assert total(where("amount", "GTE", value="9.0")) == 2
    assert total(where("amount", "LT", value="100.5")) == 1
    assert total(where("amount", "BETWEEN", value="9", highValue="100.5")) == 2
    assert total(where("amount", "IN", values=["9.00", "7"])) == 1
    assert total(where("amount", "NOT_IN", values=["9.00", "7"])) == 1
    assert total(where("amount", "NEQ", value="9")) == 1
    assert total(where("closedate", "EQ", value=noon)) == 2
    assert total(where("closedate", "LTE", value="2022-07-15")) == 0
    assert total(where("hs_exchange_rate", "NOT_HAS_PROPERTY")) == 2


def test_groups_are_alternatives_and_sorts_have_a_direction(hubspot: Asking) -> None:
    body = {
        "filterGroups": [
            {"filters": [where("dealname", "EQ", value=name)]} for name in ("thirds", "No rate")
        ],
        "sorts": [{"propertyName": "closedate", "direction": "DESCENDING"}],
        "properties": ["dealname"],
    }
    found = hubspot.json(f"{OBJECTS}/deals/search", body)["results"]
    assert [one["properties"]["dealname"] for one in found] == ["Thirds", "No rate"]


def test_a_search_knows_no_archived_records_and_lags_behind(hubspot: Asking) -> None:
    assert hubspot.search(where("dealname", "EQ", value="Archived by mistake"))["total"] == 0
    hubspot.command("index_lag", seconds=60)
    deal = hubspot.deal("Thirds")
    hubspot.command("edit", object="deals", id=deal, fields={"dealname": "Quarters"})
    hubspot.command("add", object="deals", fields=BULK)
    assert hubspot.search(where("dealname", "EQ", value="Thirds"))["total"] == 1
    assert hubspot.search(where("dealname", "EQ", value="bulk"))["total"] == 0
    read = {"inputs": [{"id": deal}], "properties": ["dealname"]}
    (record,) = hubspot.json(f"{OBJECTS}/deals/batch/read", read)["results"]
    assert record["properties"]["dealname"] == "Quarters"
    hubspot.sandbox.command("advance", seconds=61)
    assert hubspot.search(where("dealname", "EQ", value="Quarters"))["total"] == 1
    assert hubspot.search(where("dealname", "EQ", value="bulk"))["total"] == 1


def test_a_deal_comes_back_from_the_archive_as_it_was(hubspot: Asking) -> None:
    deal = hubspot.deal("Thirds")
    read = {"inputs": [{"id": deal}], "properties": ["hs_lastmodifieddate"]}
    before = hubspot.json(f"{OBJECTS}/deals/batch/read", read)["results"]
    hubspot.command("delete", object="deals", id=deal)
    assert hubspot.search(where("dealname", "EQ", value="Thirds"))["total"] == 0
    hubspot.command("restore", object="deals", id=deal)
    assert hubspot.search(where("dealname", "EQ", value="Thirds"))["total"] == 1
    assert hubspot.json(f"{OBJECTS}/deals/batch/read", read)["results"] == before


# -- batches -------------------------------------------------------------------------------------


def test_ids_that_are_missing_are_told_of_beside_the_others_with_207(hubspot: Asking) -> None:
    deal = hubspot.deal("Thirds")
    body = {"inputs": [{"id": deal}, {"id": "1"}]}
    answer = hubspot.ask(f"{OBJECTS}/deals/batch/read", body)
    found = answer.json()
    assert (answer.status_code, found["numErrors"]) == (207, 1)
    assert [one["id"] for one in found["results"]] == [deal]
    assert found["errors"][0]["context"] == {"ids": ["1"]}


def test_an_archived_record_is_read_only_on_demand(hubspot: Asking) -> None:
    (archived,) = hubspot.json(f"{OBJECTS}/deals", archived="true")["results"]
    body = {"inputs": [{"id": archived["id"]}]}
    assert not hubspot.json(f"{OBJECTS}/deals/batch/read", body)["results"]
    assert hubspot.json(f"{OBJECTS}/deals/batch/read", body, archived="true")["results"]


@pytest.mark.parametrize("count", [0, 101])
def test_a_batch_has_1_to_100_inputs(hubspot: Asking, count: int) -> None:
    body = {"inputs": [{"id": str(n)} for n in range(count)]}
    for path in (f"{OBJECTS}/deals/batch/read", "deal-splits/2026-09/batch/read"):
        assert hubspot.refused(path, body) == (400, "VALIDATION_ERROR")


def test_more_than_1000_inputs_of_associations_are_400_airbyte_48834(hubspot: Asking) -> None:
    path = "crm/associations/2026-09/deals/line_items/batch/read"
    body = {"inputs": [{"id": str(n)} for n in range(1001)]}
    assert hubspot.refused(path, body) == (400, "VALIDATION_ERROR")


def test_associations_go_over_pages_and_a_record_without_any_is_an_error(hubspot: Asking) -> None:
    deal, bare = hubspot.deal("130 shops"), hubspot.deal("No products")
    fields = {"deal": deal, "name": "x"}
    hubspot.command("add", object="line_items", fields=fields, count=900)
    path = "crm/associations/2026-09/deals/line_items/batch/read"
    found = hubspot.json(path, {"inputs": [{"id": deal}, {"id": bare}]})
    (first,) = found["results"]
    assert (first["from"], len(first["to"])) == ({"id": deal}, 500)
    assert first["to"][0]["associationTypes"] == [
        {"category": "HUBSPOT_DEFINED", "typeId": 19, "label": None}
    ]
    assert found["errors"][0]["subCategory"] == "crm.associations.NO_ASSOCIATIONS_FOUND"
    assert found["errors"][0]["context"]["fromObjectId"] == [bare]
    after = first["paging"]["next"]["after"]
    (last,) = hubspot.json(path, {"inputs": [{"id": deal, "after": "1000"}]})["results"]
    assert (after, len(last["to"])) == ("500", 30)
    assert "paging" not in last


def test_a_primary_company_has_two_association_types(hubspot: Asking) -> None:
    deal = hubspot.deal("Two companies, one primary")
    path = "crm/associations/2026-09/deals/companies/batch/read"
    (found,) = hubspot.json(path, {"inputs": [{"id": deal}]})["results"]
    types = [[one["typeId"] for one in to["associationTypes"]] for to in found["to"]]
    assert types == [[341, 5], [341]]


def test_splits_are_read_by_deal_and_deals_without_any_are_left_out(hubspot: Asking) -> None:
    deal, bare = hubspot.deal("Thirds"), hubspot.deal("No products")
    body = {"inputs": [{"id": deal}, {"id": bare}]}
    (found,) = hubspot.json("deal-splits/2026-09/batch/read", body)["results"]
    shares = [split["properties"]["hs_deal_split_percentage"] for split in found["splits"]]
    assert (found["id"], shares) == (deal, ["0.33333333", "0.33333333", "0.33333334"])


# -- what happens to records ---------------------------------------------------------------------


def read_deal(hubspot: Asking, deal: str) -> dict[str, Any]:
    """A deal as it is now."""
    wanted = "amount,hs_is_closed_won,hs_lastmodifieddate"
    found: dict[str, Any] = hubspot.json(f"{OBJECTS}/deals/{deal}", properties=wanted)
    return found


def test_a_changed_or_archived_line_leaves_its_deals_stamp_alone_airbyte_27199(
    hubspot: Asking,
) -> None:
    deal = hubspot.deal("Price typed wrong")
    before = read_deal(hubspot, deal)
    path = "crm/associations/2026-09/deals/line_items/batch/read"
    (ends,) = hubspot.json(path, {"inputs": [{"id": deal}]})["results"]
    kept, line = (to["toObjectId"] for to in ends["to"])
    hubspot.command("edit", object="line_items", id=line, fields={"price": "39"})
    hubspot.command("delete", object="line_items", id=line)
    assert read_deal(hubspot, deal) == before
    (ends,) = hubspot.json(path, {"inputs": [{"id": deal}]})["results"]
    assert [to["toObjectId"] for to in ends["to"]] == [kept]


def test_a_merged_id_is_answered_with_the_winners_record(hubspot: Asking) -> None:
    winner, loser = hubspot.deal("Thirds"), hubspot.deal("No amount")
    hubspot.command("merge", object="deals", id=winner, loser=loser)
    body = {"inputs": [{"id": loser}], "properties": ["hs_merged_object_ids"]}
    (found,) = hubspot.json(f"{OBJECTS}/deals/batch/read", body)["results"]
    assert (found["id"], found["properties"]["hs_merged_object_ids"]) == (winner, loser)


@pytest.mark.parametrize(
    "command",
    [
        {"op": "edit", "object": "deals", "id": "1", "fields": {}},
        {"op": "delete", "object": "deals", "id": "1"},
        {"op": "add", "object": "contacts", "fields": {}},
        {"op": "explode"},
        {"op": "fault", "kind": "418"},
    ],
)
def test_a_command_that_cannot_be_done_is_refused(
    sandbox: Sandbox, command: dict[str, Any]
) -> None:
    body = {"source": "hubspot", **command}
    answer = requests.post(f"{sandbox.origin}/_control", json=body, timeout=10)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("hubspot: no ")


def test_the_story_names_five_records(hubspot: Asking) -> None:
    told = hubspot.command("story")["hubspot"]
    assert list(told) == [
        "deal newly won",
        "deal reopened",
        "line with a corrected price",
        "deal archived",
        "invoice voided",
    ]
    assert read_deal(hubspot, told["deal newly won"])["properties"]["hs_is_closed_won"] == "true"
    assert read_deal(hubspot, told["deal reopened"])["properties"]["hs_is_closed_won"] == "false"


# -- the data ------------------------------------------------------------------------------------


def test_lines_add_up_by_hubspots_formulas() -> None:
    portal = build()
    for record in portal.records["line_items"].values():
        line = portal.shown("line_items", record)
        gross, off, net = (
            Decimal(line[name] or 0)
            for name in ("hs_pre_discount_amount", "hs_total_discount", "amount")
        )
        assert net == gross - off
        assert Decimal(line["hs_post_tax_amount"] or 0) == net + Decimal(line["hs_tax_amount"] or 0)


def test_splits_of_each_deal_sum_to_one() -> None:
    portal = build()
    sums: dict[str, Decimal] = {}
    for record in portal.records["deal_split"].values():
        deal = str(record.properties["hs_deal_id"])
        share = Decimal(record.properties["hs_deal_split_percentage"] or 0)
        sums[deal] = sums.get(deal, Decimal()) + share
    assert set(sums.values()) == {Decimal(1)}
    assert len(sums) > 30


def test_the_portal_shows_every_trap() -> None:
    portal = build()
    deals = list(portal.records["deals"].values())
    lines = [record.properties for record in portal.records["line_items"].values()]
    invoices = [record.properties for record in portal.records["invoices"].values()]
    months = {(deal.properties["closedate"] or "")[:7] for deal in deals}
    assert {f"{year}-{month:02d}" for year in (2024, 2025) for month in range(1, 13)} <= months
    assert {deal.properties["deal_currency_code"] for deal in deals} == {
        "USD", "EUR", "GBP", "JPY", "KWD", "ISK", None
    }  # fmt: skip
    assert any(deal.properties["dealstage"] is None for deal in deals)
    assert any(deal.properties["amount"] is None for deal in deals)
    assert any(deal.archived_at for deal in deals)
    assert any(deal.properties.get("hs_merged_object_ids") for deal in deals)
    assert any(line["discount"] for line in lines if "discount" in line)
    assert any(line.get("hs_discount_percentage") for line in lines)
    assert {line["recurringbillingfrequency"] for line in lines} == {
        "monthly", "quarterly", "annually", None
    }  # fmt: skip
    assert {one["hs_invoice_status"] for one in invoices} == {
        "draft", "open", "paid", "voided", "uncollectible"
    }  # fmt: skip
    invoiced = portal.links["invoices", "deals"]
    assert 0.3 < len(invoiced) / len(invoices) < 0.7  # about half name their deal


def test_it_is_built_quickly_and_always_the_same() -> None:
    first, second = build(), build()
    for kind, records in first.records.items():
        assert list(records) == list(second.records[kind])
    started = datetime.now(UTC)
    build()
    assert (datetime.now(UTC) - started).total_seconds() < 1
