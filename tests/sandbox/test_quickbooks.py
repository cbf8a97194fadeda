"""The sandbox's QuickBooks: what it admits, what it refuses, and whether its documents add up."""

import base64
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import requests
from conftest import Sandbox

from revrec_pipeline.periods import period_range
from revrec_pipeline.sandbox import company
from revrec_pipeline.sandbox.clock import Clock
from revrec_pipeline.sandbox.quickbooks_data import Books
from revrec_pipeline.sandbox.quickbooks_objects import REALM, Form, Line, Object
from revrec_pipeline.sandbox.quickbooks_query import QueryError, parse
from revrec_pipeline.sandbox.quickbooks_tokens import (
    CLIENT_ID,
    CLIENT_SECRET,
    REFRESH_TOKEN,
    TokenServer,
)
from revrec_pipeline.sandbox.salesforce_data import fill
from revrec_pipeline.sandbox.salesforce_org import Org

KINDS = ("Invoice", "SalesReceipt", "CreditMemo", "RefundReceipt")
BASIC = "Basic " + base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()


def refresh(sandbox: Sandbox, token: str = REFRESH_TOKEN, basic: str = BASIC) -> requests.Response:
    return requests.post(
        f"{sandbox.origin}/oauth2/v1/tokens/bearer",
        data={"grant_type": "refresh_token", "refresh_token": token},
        headers={"Authorization": basic},
        timeout=10,
    )


class Api:
    """Requests with an access token."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.token = refresh(sandbox).json()["access_token"]

    def get(self, path: str, *, realm: str = REALM, **params: str) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.token}", "Accept": "application/json"}
        return requests.get(
            f"{self.sandbox.origin}/v3/company/{realm}/{path}",
            params={"minorversion": "75", **params},
            headers=headers,
            timeout=10,
        )

    def query(self, text: str) -> Any:
        answer = self.get("query", query=text)
        assert answer.status_code == 200, answer.text
        return answer.json()["QueryResponse"]


@pytest.fixture
def api(sandbox: Sandbox) -> Api:
    sandbox.command("limit", source="quickbooks", per_second=None)
    return Api(sandbox)


def fault(answer: requests.Response) -> tuple[int, str]:
    """Status and code of a refusal, whatever the case of its keys."""
    body = {name.lower(): value for name, value in answer.json().items()}
    (error,) = {name.lower(): value for name, value in body["fault"].items()}["error"]
    return answer.status_code, error["code"]


# -- the door ------------------------------------------------------------------------------------


def test_a_token_answer_has_the_vendors_shape(sandbox: Sandbox) -> None:
    answer = refresh(sandbox).json()
    assert answer["token_type"] == "bearer"
    assert (answer["expires_in"], answer["x_refresh_token_expires_in"]) == (3600, 8726400)
    assert answer["refresh_token"] == REFRESH_TOKEN  # it changes once a day


def test_a_wrong_app_and_a_wrong_token_are_told_apart(sandbox: Sandbox) -> None:
    wrong = refresh(sandbox, basic="Basic " + base64.b64encode(b"x:y").decode())
    assert (wrong.status_code, wrong.json()) == (401, {"error": "invalid_client"})
    refused = refresh(sandbox, token="RT1-wrong")
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")


def test_a_refresh_token_changes_after_a_day_and_the_old_one_lives_an_hour_longer() -> None:
    clock = Clock()
    server = TokenServer(clock)

    def ask(token: str) -> tuple[int, str | None]:
        form = {"grant_type": "refresh_token", "refresh_token": token}
        status, body = server.answer(BASIC, form)
        return status, body.get("refresh_token")

    assert ask(REFRESH_TOKEN) == (200, REFRESH_TOKEN)
    clock.advance(24 * 3600)
    _, second = ask(REFRESH_TOKEN)
    assert second != REFRESH_TOKEN
    clock.advance(3500)
    assert ask(REFRESH_TOKEN)[0] == 200
    clock.advance(200)
    assert ask(REFRESH_TOKEN) == (400, None)


def test_an_access_token_ends_after_an_hour(api: Api) -> None:
    assert api.get(f"companyinfo/{REALM}").status_code == 200
    api.sandbox.command("advance", seconds=3600)
    assert fault(api.get(f"companyinfo/{REALM}")) == (401, "3200")


def test_another_company_is_403_and_no_token_is_401(api: Api) -> None:
    assert fault(api.get("query", realm="99", query="SELECT * FROM Invoice")) == (403, "3100")
    api.token = "none"
    assert fault(api.get("query", query="SELECT * FROM Invoice")) == (401, "3200")


def test_more_than_ten_requests_a_second_are_throttled(sandbox: Sandbox) -> None:
    api = Api(sandbox)
    answers = [api.get(f"companyinfo/{REALM}").status_code for _ in range(11)]
    sandbox.command("limit", source="quickbooks", per_second=3)
    answers += [api.get(f"companyinfo/{REALM}").status_code for _ in range(4)]
    assert answers[-1] == 429


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("query", {}),
        ("query", {"query": "SELECT * FROM Invoice", "limit": "5"}),
        ("query", {"query": "SELECT * FROM Invoice", "minorversion": "99"}),
        ("cdc", {"entities": "Invoice"}),
        ("cdc", {"entities": "Estimate", "changedSince": "2999-01-01T00:00:00Z"}),
        ("cdc", {"entities": "Invoice", "changedSince": "2020-01-01T00:00:00Z"}),
        ("cdc", {"entities": "Invoice", "changedSince": "yesterday"}),
    ],
)
def test_missing_unknown_and_wrong_parameters_are_refused(
    api: Api, path: str, params: dict[str, str]
) -> None:
    assert fault(api.get(path, **params)) == (400, "4001")


def test_an_unknown_operation_is_refused(api: Api) -> None:
    assert fault(api.get("salesorder/1")) == (400, "500")


def test_every_answer_has_a_request_id_and_the_query_s_time(api: Api) -> None:
    answer = api.get("query", query="SELECT COUNT(*) FROM Invoice")
    assert answer.headers["intuit_tid"]
    assert answer.headers["Content-Type"] == "application/json;charset=UTF-8"
    assert answer.json()["QueryResponse"] == {"totalCount": 141}
    assert answer.json()["time"]


# -- queries -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code", "detail"),
    [
        ("SELECT * FROM Invoice STARTPOSITION 0", "4001", "value 0 is too small"),
        ("SELECT * FROM Invoice MAXRESULTS 1001", "4001", "value 1001 is too large"),
        ("SELECT * FROM", "4000", "Encountered"),
        ("SELECT * FROM SalesOrder", "4001", "Invalid context declaration: SalesOrder"),
        ("SELECT Color FROM Invoice", "4001", "Property Color not found for Entity Invoice"),
        ("SELECT * FROM Invoice WHERE Color = 'red'", "4001", "Property Color not found"),
        ("SELECT * FROM Invoice WHERE PrivateNote = 'x'", "4001", "is not queryable"),
        ("SELECT * FROM Invoice WHERE TxnDate > 'May'", "4001", "Invalid value 'may'|'May'"),
        (
            "SELECT * FROM Invoice WHERE MetaData.LastUpdatedTime > '2026-01-01T00:00:00'",
            "4001",
            "Invalid value",
        ),
        ("SELECT * FROM Invoice WHERE Id = '1' OR Id = '2'", "4000", "Encountered"),
        ("SELECT * FROM Invoice WHERE (Id = '1')", "4000", "Encountered"),
        ("SELECT * FROM Invoice WHERE TotalAmt > 5", "4000", "Encountered"),
        ("SELECT * FROM Invoice WHERE Id != '1'", "4000", "Encountered"),
        ("SELECT * FROM Invoice LIMIT 5", "4000", "Encountered"),
        ("SELECT * FROM Invoice ORDERBY PrivateNote", "4001", "is not queryable"),
        ("DELETE FROM Invoice", "4000", "Encountered"),
        ("", "4000", "Encountered"),
    ],
)
def test_a_wrong_query_is_refused(text: str, code: str, detail: str) -> None:
    with pytest.raises(QueryError, match=detail) as caught:
        parse(text)
    assert caught.value.code == code


def _numbered(count: int) -> list[Object]:
    return [
        {"Id": str(n), "DocNumber": f"D'{n}", "TxnDate": f"2026-01-{n:02}", "TotalAmt": Decimal(n)}
        for n in range(1, count + 1)
    ]


def run(text: str, objects: list[Object]) -> list[str]:
    found = parse(text).run(objects)
    return [one["Id"] for one in found.get("Invoice", [])]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("WHERE TxnDate >= '2026-01-03' AND TxnDate < '2026-01-05'", ["3", "4"]),
        ("WHERE Id IN ('2', '4')", ["2", "4"]),
        ("WHERE TotalAmt > '9.5'", ["10"]),
        ("WHERE DocNumber = 'D\\'7'", ["7"]),
        ("WHERE DocNumber LIKE 'd%1%'", ["1", "10"]),
        ("WHERE Balance = '0'", []),
        ("ORDERBY Id DESC MAXRESULTS 2", ["10", "9"]),
        ("ORDER BY TotalAmt DESC STARTPOSITION 2 MAXRESULTS 2", ["9", "8"]),
        ("ORDERBY Id STARTPOSITION 10 MAXRESULTS 100", ["10"]),
    ],
)
def test_filters_order_and_paging(where: str, expected: list[str]) -> None:
    assert run(f"select * from invoice {where}", _numbered(10)) == expected


def test_instants_are_compared_and_not_their_texts() -> None:
    objects = [
        {"Id": "1", "MetaData": {"LastUpdatedTime": "2026-01-01T10:00:00-08:00"}},
        {"Id": "2", "MetaData": {"LastUpdatedTime": "2026-01-01T17:00:00+00:00"}},
    ]
    where = "WHERE MetaData.LastUpdatedTime >= '2026-01-01T17:30:00Z'"
    assert run(f"SELECT * FROM Invoice {where}", objects) == ["1"]


def test_the_count_of_a_page_is_of_the_page_and_past_the_end_there_is_no_entity(api: Api) -> None:
    page = api.query("SELECT * FROM Invoice STARTPOSITION 141 MAXRESULTS 10")
    assert (page["startPosition"], page["maxResults"], page["totalCount"]) == (141, 1, 1)
    assert api.query("SELECT * FROM Invoice STARTPOSITION 142 MAXRESULTS 10") == {}
    assert len(api.query("SELECT * FROM Invoice")["Invoice"]) == 100


def test_selected_properties_come_as_a_sparse_object(api: Api) -> None:
    (one,) = api.query("SELECT Id, MetaData.LastUpdatedTime FROM Invoice MAXRESULTS 1")["Invoice"]
    assert set(one) == {"Id", "MetaData", "domain", "sparse"}
    assert one["sparse"] is True


def test_inactive_items_are_missing_from_the_plain_list(api: Api) -> None:
    assert len(api.query("SELECT * FROM Item")["Item"]) == 12
    assert len(api.query("SELECT * FROM Item WHERE Active IN (true, false)")["Item"]) == 13


# -- change data capture -------------------------------------------------------------------------


def captured(api: Api, hours: float = 1) -> list[Any]:
    now = Clock().now()
    since = (now - timedelta(hours=hours)).isoformat()
    answer = api.get("cdc", entities=",".join(KINDS), changedSince=since)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["CDCResponse"][0]["QueryResponse"])


def test_capture_has_stubs_of_deleted_objects_and_the_changed_ones_in_full(api: Api) -> None:
    told = api.sandbox.command("story", source="quickbooks")["quickbooks"]
    invoices, receipts, memos, refunds = captured(api)
    deleted = told["deleted"].removeprefix("INV-")
    (stub,) = [one for one in invoices["Invoice"] if one.get("status") == "Deleted"]
    assert (stub["Id"], set(stub)) == (deleted, {"domain", "status", "Id", "MetaData"})
    assert len(invoices["Invoice"]) == 4
    assert memos["CreditMemo"][0]["Line"]
    assert receipts == refunds == {}


def test_capture_shows_a_thousand_objects_at_most(api: Api) -> None:
    fields = {"day": "2023-02-01", "amount": "1", "count": 1001}
    api.sandbox.command("add", source="quickbooks", object="Invoice", fields=fields)
    assert captured(api)[0]["totalCount"] == 1000


# -- faults and commands -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "status", "words"),
    [
        ("429", 429, '"code":"3001"'),
        ("429_xml", 429, '<Error code="3001">'),
        ("403_throttle", 403, "ThrottleExceeded; errorCode=003001; statusCode=403"),
        ("401", 401, '"code":"3200"'),
        ("403", 403, "ApplicationAuthorizationFailed"),
        ("500", 500, '"code":"10000"'),
        ("400_padded", 400, '"code":"004001"'),
        ("invalid_grant", 400, "invalid_grant"),
    ],
)
def test_faults_have_the_vendors_forms(api: Api, kind: str, status: int, words: str) -> None:
    api.sandbox.fault("quickbooks", kind)
    answer = api.get(f"companyinfo/{REALM}")
    assert answer.status_code == status
    assert words in answer.text


@pytest.mark.parametrize(
    "command",
    [
        {"op": "fault", "kind": "teapot"},
        {"op": "dance"},
        {"op": "edit", "object": "Invoice", "id": "1", "fields": {}},
        {"op": "delete", "object": "Estimate", "id": "1"},
        {"op": "add", "object": "Item", "fields": {"day": "2023-02-01", "amount": "1"}},
        {"op": "find", "number": "none"},
    ],
)
def test_commands_that_make_no_sense_are_refused(sandbox: Sandbox, command: dict[str, Any]) -> None:
    answer = requests.post(
        f"{sandbox.origin}/_control", json={**command, "source": "quickbooks"}, timeout=10
    )
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("quickbooks: ")


def test_a_void_zeroes_or_keeps_amounts_and_says_so_in_the_note(api: Api) -> None:
    for number, total in (("2025-0812", 0), ("2025-0819", 250)):
        (one,) = api.query(f"SELECT * FROM Invoice WHERE DocNumber = '{number}'")["Invoice"]
        assert one["PrivateNote"].startswith("Voided")
        assert one["TotalAmt"] == total


def test_a_reset_brings_documents_and_tokens_back(api: Api) -> None:
    api.sandbox.command("tokens", source="quickbooks", rotate_every=0, grace=0)
    api.sandbox.command("story", source="quickbooks")
    refresh(api.sandbox)
    assert refresh(api.sandbox).status_code == 400
    api.sandbox.command("reset")
    again = Api(api.sandbox)
    assert again.query("SELECT COUNT(*) FROM Invoice")["totalCount"] == 141


# -- the books -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def books() -> Books:
    return Books()


def sales(books: Books) -> Iterator[Object]:
    for kind in KINDS:
        yield from books.entities[kind].values()


def test_every_month_has_documents_few_before_2025_and_more_since(books: Books) -> None:
    months = Counter(one["TxnDate"][:7] for one in sales(books))
    assert sorted(months) == list(period_range(company.FOUNDED, company.LAST_MONTH))
    assert {count for month, count in months.items() if month < "2025"} <= {2, 3, 4}
    assert {count for month, count in months.items() if month >= "2025"} <= {4, 5, 6, 7, 8}


def test_documents_add_up_but_for_the_one_that_must_be_flagged(books: Books) -> None:
    wrong = []
    for one in sales(books):
        total = one["TxnTaxDetail"]["TotalTax"]
        for line in one["Line"]:
            nested = line.get("GroupLineDetail", {}).get("Line")
            if nested:
                total += sum(each["Amount"] for each in nested)
            elif line["DetailType"] == "SalesItemLineDetail":
                total += line["Amount"]
            elif line["DetailType"] == "DiscountLineDetail":
                total -= line["Amount"]
        if total != one["TotalAmt"]:
            wrong.append(one["DocNumber"])
    assert wrong == ["2026-0428"]


def test_home_amounts_are_document_amounts_times_the_rate(books: Books) -> None:
    foreign = [one for one in sales(books) if "ExchangeRate" in one]
    assert {one["CurrencyRef"]["value"] for one in foreign} == {"EUR", "GBP", "JPY", "KWD", "ISK"}
    for one in foreign:
        exact = one["TotalAmt"] * one["ExchangeRate"]
        assert abs(one["HomeTotalAmt"] - exact) <= Decimal("0.005")
    (unrated,) = [one for one in sales(books) if one.get("DocNumber") == "2025-1111"]
    assert unrated["CurrencyRef"]["value"] == "EUR"
    assert "ExchangeRate" not in unrated


def test_about_half_of_the_documents_since_2025_name_an_order_of_the_crm(books: Books) -> None:
    recent = [one for one in sales(books) if one["TxnDate"] >= "2025"]
    named = [
        one
        for one in recent
        for field in one["CustomField"]
        if field["Name"] == "Sales Order" and field.get("StringValue", "").startswith("006")
    ]
    assert 0.35 < len(named) / len(recent) < 0.55


def test_an_order_that_is_named_is_one_of_the_same_customer(books: Books) -> None:
    org = Org(Clock())
    fill(org)
    customers = {
        str(number): customer.crm_name for number, customer in enumerate(company.CUSTOMERS, 1)
    }
    checked = 0
    for one in sales(books):
        values = {field["Name"]: field.get("StringValue") for field in one["CustomField"]}
        if order := values.get("Sales Order"):
            account = org.value("Opportunity", order, "AccountId")
            assert values["Account ID"] == account
            assert org.value("Account", account, "Name") == customers[one["CustomerRef"]["value"]]
            checked += 1
    assert checked > 30


def test_a_form_that_is_entered_anew_keeps_its_id_and_none_of_its_lines(books: Books) -> None:
    entity, number = books.find("2026-0528")
    before = books.entities[entity][number]
    form = Form(entity, date(2026, 6, 2), "lumen", (Line("SEAT", amount=Decimal(7)),))
    books.replace(form, number, datetime(2026, 11, 27, 12, tzinfo=UTC))
    after = books.entities[entity][number]
    assert (after["TxnDate"], after["TotalAmt"], len(after["Line"])) == ("2026-06-02", 7, 2)
    assert int(after["SyncToken"]) == int(before["SyncToken"]) + 1
    assert after["MetaData"] == {
        "CreateTime": before["MetaData"]["CreateTime"],
        "LastUpdatedTime": "2026-11-27T04:00:00-08:00",
    }
