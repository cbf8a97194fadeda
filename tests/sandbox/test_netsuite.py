"""The sandbox's NetSuite: whom it admits, what it refuses, and whether its books add up."""

import time
from decimal import Decimal
from typing import Any

import jwt
import pytest
import requests
from conftest import Sandbox
from oauthlib.oauth1 import SIGNATURE_HMAC_SHA1, SIGNATURE_HMAC_SHA256
from requests_oauthlib import OAuth1

from revrec_pipeline.sandbox import netsuite_auth as auth
from revrec_pipeline.sandbox.clock import Clock
from revrec_pipeline.sandbox.netsuite import NetsuiteSandbox

SUITEQL = "/services/rest/query/v1/suiteql"
GRANT = {
    "grant_type": "client_credentials",
    "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
}


def assertion(*, algorithm: str = "ES256", kid: str = auth.CERTIFICATE_ID, **claims: Any) -> str:
    now = int(time.time())
    given = {
        "iss": auth.CLIENT_ID,
        "scope": ["rest_webservices"],
        "aud": auth.HOST + auth.TOKEN_PATH,
        "iat": now,
        "exp": now + 300,
        **claims,
    }
    key: Any = auth.private_key() if algorithm == "ES256" else "x" * 64
    return jwt.encode(given, key, algorithm, headers={"kid": kid})


def log_in(sandbox: Sandbox, signed: str, **form: str) -> requests.Response:
    fields = {**GRANT, "client_assertion": signed, **form}
    return requests.post(f"{sandbox.origin}{auth.TOKEN_PATH}", data=fields, timeout=10)


@pytest.fixture
def token(sandbox: Sandbox) -> str:
    return str(log_in(sandbox, assertion()).json()["access_token"])


def ask(
    sandbox: Sandbox,
    token: str | None,
    sql: str = "SELECT t.id FROM transaction t ORDER BY t.id",
    *,
    params: dict[str, Any] | None = None,
    **headers: str | None,
) -> requests.Response:
    given: dict[str, str | None] = {
        "Authorization": f"Bearer {token}",
        "Prefer": "transient",
        **headers,
    }
    return requests.post(
        f"{sandbox.origin}{SUITEQL}", params=params, json={"q": sql}, headers=given, timeout=10
    )


def problem(answer: requests.Response) -> tuple[int, str, str]:
    """Status, code and detail of a refusal."""
    body = answer.json()
    assert body["status"] == answer.status_code
    (detail,) = body["o:errorDetails"]
    return answer.status_code, detail["o:errorCode"], detail["detail"]


# -- the door ------------------------------------------------------------------------------------


def test_an_assertion_is_answered_with_a_token_whose_life_is_a_text(sandbox: Sandbox) -> None:
    answer = log_in(sandbox, assertion()).json()
    assert (answer["expires_in"], answer["token_type"]) == ("3600", "bearer")
    assert "refresh_token" not in answer


@pytest.mark.parametrize(
    "wrong",
    [
        {"aud": "https://other.suitetalk.api.netsuite.com/token"},
        {"exp": int(time.time()) - 10},
        {"exp": int(time.time()) + 7200},
        {"iss": "another"},
        {"scope": ["restlets"]},
        {"kid": "another"},
        {"algorithm": "HS256"},
    ],
)
def test_a_wrong_assertion_is_refused(sandbox: Sandbox, wrong: dict[str, Any]) -> None:
    assert log_in(sandbox, assertion(**wrong)).status_code in (400, 401)


def test_rs256_is_not_among_the_accepted_algorithms() -> None:
    assert not [name for name in auth._ALGORITHMS if name.startswith(("RS", "HS"))]


def test_another_grant_is_refused(sandbox: Sandbox) -> None:
    answer = log_in(sandbox, assertion(), grant_type="password")
    assert answer.json() == {"error": "unsupported_grant_type"}


def signed(sandbox: Sandbox, *, prepared_for: str = auth.HOST, **changed: Any) -> requests.Request:
    """A request signed for NetSuite's own host."""
    given = {
        "client_key": auth.CONSUMER_KEY,
        "client_secret": auth.CONSUMER_SECRET,
        "resource_owner_key": auth.TOKEN_ID,
        "resource_owner_secret": auth.TOKEN_SECRET,
        "signature_method": SIGNATURE_HMAC_SHA256,
        "realm": auth.ACCOUNT,
        **changed,
    }
    return requests.Request(
        "POST",
        f"{prepared_for}{SUITEQL}",
        params={"limit": 5, "offset": 10},
        json={"q": "SELECT t.id FROM transaction t ORDER BY t.id"},
        headers={"Prefer": "transient"},
        auth=OAuth1(**given),
    )


def send(sandbox: Sandbox, request: requests.Request) -> list[requests.Response]:
    """The same signed bytes, sent twice."""
    prepared = request.prepare()
    prepared.url = str(prepared.url).replace(auth.HOST, sandbox.origin)
    with requests.Session() as session:
        return [session.send(prepared, timeout=10) for _ in range(2)]


def test_a_signature_over_url_and_query_is_taken_once_and_its_nonce_never_again(
    sandbox: Sandbox,
) -> None:
    first, second = send(sandbox, signed(sandbox))
    assert (first.status_code, first.json()["count"]) == (200, 5)
    assert problem(second)[:2] == (401, "INVALID_LOGIN")


@pytest.mark.parametrize(
    "wrong",
    [
        {"client_secret": "x"},
        {"resource_owner_secret": "x"},
        {"resource_owner_key": "x"},
        {"realm": "OTHER"},
        {"signature_method": SIGNATURE_HMAC_SHA1},
        {"timestamp": str(int(time.time()) - 360)},
        {"prepared_for": "https://other.suitetalk.api.netsuite.com"},
    ],
)
def test_a_wrong_signature_is_refused(sandbox: Sandbox, wrong: dict[str, Any]) -> None:
    request = signed(sandbox, **wrong)
    prepared = request.prepare()
    prepared.url = f"{sandbox.origin}{SUITEQL}?limit=5&offset=10"
    with requests.Session() as session:
        assert problem(session.send(prepared, timeout=10))[:2] == (401, "INVALID_LOGIN")


def test_without_a_token_or_with_one_that_has_ended_a_request_is_401(
    sandbox: Sandbox, token: str
) -> None:
    assert ask(sandbox, token).status_code == 200
    assert ask(sandbox, None, Authorization=None).status_code == 401
    sandbox.command("advance", seconds=3601)
    assert problem(ask(sandbox, token))[1] == "INVALID_LOGIN"


def test_an_unknown_path_is_404_and_salesforces_paths_stay_its_own(sandbox: Sandbox) -> None:
    answer = requests.get(f"{sandbox.origin}/services/rest/record/v1/invoice/1", timeout=10)
    assert problem(answer)[:2] == (404, "NONEXISTENT_ID")
    other = requests.get(f"{sandbox.origin}/services/data/v68.0/nowhere", timeout=10)
    assert other.json()[0]["errorCode"] == "NOT_FOUND"
    assert sandbox.requests("netsuite") == {"/services/rest/record/v1/invoice/1": 1}


# -- queries -------------------------------------------------------------------------------------


def test_without_prefer_transient_a_query_is_refused(sandbox: Sandbox, token: str) -> None:
    assert problem(ask(sandbox, token, Prefer=None))[0] == 400


@pytest.mark.parametrize(
    "params",
    [
        {"limit": 1001},
        {"limit": 0},
        {"limit": "x"},
        {"limit": 10, "offset": 15},
        {"limit": 1, "offset": 1000},
        {"page": 2},
    ],
)
def test_wrong_paging_is_refused(sandbox: Sandbox, token: str, params: dict[str, Any]) -> None:
    assert problem(ask(sandbox, token, params=params))[:2] == (400, "INVALID_PARAMETER")


def test_pages_have_netsuites_envelope(sandbox: Sandbox, token: str) -> None:
    body = ask(sandbox, token, params={"limit": 100, "offset": 100}).json()
    assert (body["count"], body["offset"], body["hasMore"]) == (100, 100, True)
    assert body["totalResults"] == 236
    assert [link["rel"] for link in body["links"]] == ["next", "last", "self"]
    assert body["links"][0]["href"].endswith("suiteql?limit=100&offset=200")
    last = ask(sandbox, token, params={"limit": 100, "offset": 200}).json()
    assert (last["count"], last["hasMore"]) == (36, False)
    assert last["items"][0]["links"] == []


def test_values_are_texts_nulls_are_left_out_and_dates_are_in_the_users_format(
    sandbox: Sandbox, token: str
) -> None:
    sql = (
        "SELECT t.id, t.tranid AS NUMBER1, t.trandate, t.lastmodifieddate, t.closedate, t.voided,"
        " t.foreigntotal, BUILTIN.DF(t.status) AS s FROM transaction t WHERE t.tranid = 'INV-DISC'"
    )
    (row,) = ask(sandbox, token, sql).json()["items"]
    assert row == {
        "links": [],
        "id": "1208",
        "number1": "INV-DISC",
        "trandate": "1/15/2025",
        "lastmodifieddate": "1/15/2025",
        "voided": "F",
        "foreigntotal": "1214.9",
        "s": "Invoice : Open",
    }


def test_instants_are_on_the_users_clocks_also_in_summer(sandbox: Sandbox, token: str) -> None:
    sandbox.command("configure", source="netsuite", zone="America/Los_Angeles")
    for number, hour in (("INV-DISC", "10:30:00"), ("INV-TAX", "11:30:00")):
        sql = (
            "SELECT TO_CHAR(t.lastmodifieddate, 'YYYY-MM-DD HH24:MI:SS') AS m FROM transaction t"
            f" WHERE t.tranid = '{number}'"
        )
        (row,) = ask(sandbox, token, sql).json()["items"]
        assert row["m"].endswith(hour)


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELECT t.x FROM transaction t", "Field 'x' for record 'transaction' was not found"),
        ("SELECT x FROM transaction", "Field 'x' for record 'transaction' was not found"),
        ("SELECT l.x FROM transaction t JOIN transactionline l ON l.transaction = t.id", "'x' for"),
        ("SELECT o.id FROM opportunities o", "Record 'opportunities' was not found"),
        ("SELECT name FROM sqlite_master", "was not found"),
        ("SELECT t.id FROM transaction t LIMIT 5", "Invalid or unsupported search"),
        ("SELECT t.id FROM", "Invalid or unsupported search"),
        ("SELECT t.tranid AS number FROM transaction t", "number is a reserved word"),
        ("DELETE FROM transaction", "Invalid or unsupported search"),
        ("SELECT random(t.id) FROM transaction t", "Unknown function"),
        ("SELECT t.id FROM transaction t; SELECT 1", "Unexpected character"),
        ('SELECT "id" FROM transaction', "Unexpected character"),
        ("SELECT TO_CHAR(t.trandate, 'DS TS') AS x FROM transaction t", "Invalid or unsupported"),
    ],
)
def test_a_wrong_query_is_refused_with_netsuites_words(
    sandbox: Sandbox, token: str, sql: str, words: str
) -> None:
    status, code, detail = problem(ask(sandbox, token, sql))
    assert (status, code) == (400, "INVALID_PARAMETER")
    assert detail.startswith("Invalid search query. Detailed unprocessed description follows.")
    assert words in detail


def test_more_than_100_columns_are_answered_with_no_rows(sandbox: Sandbox, token: str) -> None:
    columns = ", ".join(f"t.id AS c{number}" for number in range(101))
    body = ask(sandbox, token, f"SELECT {columns} FROM transaction t").json()
    assert (body["count"], body["totalResults"]) == (0, 0)


def test_rows_beyond_100_000_are_never_returned(sandbox: Sandbox, token: str) -> None:
    sandbox.command("bulk", source="netsuite", count=100_001, day="2022-05-31")
    sql = "SELECT t.id FROM transaction t WHERE t.entity = 201 AND t.trandate < TO_DATE('2023-01-01', 'YYYY-MM-DD')"  # noqa: E501
    assert ask(sandbox, token, sql, params={"offset": 99_000}).json()["count"] == 1000
    beyond = ask(sandbox, token, sql, params={"offset": 100_000}).json()
    assert (beyond["count"], beyond["totalResults"]) == (0, 100_001)


def test_who_joins_the_accounting_lines_counts_each_line_once_per_book(
    sandbox: Sandbox, token: str
) -> None:
    sql = (
        "SELECT COUNT(*) AS n FROM transactionline tl JOIN transactionaccountingline a"
        " ON a.transaction = tl.transaction AND a.transactionline = tl.id"
        " JOIN transaction t ON t.id = tl.transaction WHERE t.tranid = 'INV-DISC'"
    )
    assert ask(sandbox, token, sql).json()["items"][0]["n"] == "8"


# -- the books -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def books() -> Any:
    return NetsuiteSandbox(Clock())._books


def test_every_document_balances(books: Any) -> None:
    # Money that comes in, sales, discounts and taxes cancel out; so do the costs among themselves.
    found = books.tables.db.execute(
        "SELECT tl.[transaction], tl.foreignamount, tl.iscogs FROM transactionline tl"
        " LEFT JOIN item i ON i.id = tl.item"
        " WHERE ifnull(tl.kitcomponent, 'F') = 'F' OR tl.iscogs = 'T'"
    ).fetchall()
    sums: dict[tuple[int, str], Decimal] = {}
    texts = {
        key
        for (key,) in books.tables.db.execute(
            "SELECT DISTINCT [transaction] FROM transactionline"
            " WHERE itemtype IN ('Subtotal', 'EndGroup')"
        )
    }
    for transaction, amount, cost in found:
        if transaction not in texts and amount is not None:
            at = (transaction, cost)
            sums[at] = sums.get(at, Decimal(0)) + Decimal(repr(amount))
    assert len(sums) > 200
    assert set(sums.values()) == {Decimal(0)}


def test_every_trap_is_in_the_books(books: Any) -> None:
    def count(where: str) -> int:
        sql = f"SELECT count(*) FROM transactionline tl JOIN [transaction] t ON t.id = tl.[transaction] WHERE {where}"  # noqa: E501
        return int(books.tables.db.execute(sql).fetchone()[0])

    for where in (
        "t.voided = 'T'",
        "t.type = 'Journal' AND t.void = 'T'",
        "t.posting = 'F' AND t.type = 'CustInvc'",
        "tl.iscogs = 'T'",
        "tl.kitcomponent = 'T'",
        "tl.taxline = 'T'",
        "tl.transactiondiscount = 'T'",
        "tl.itemtype = 'Subtotal'",
        "tl.itemtype = 'EndGroup'",
        "tl.itemtype = 'ShipItem'",
        "tl.rate = '-10.0%'",
        "t.tranid IS NULL",
        "t.currency IS NULL",
        "tl.item IS NULL AND tl.mainline = 'F' AND t.type = 'CustInvc'",
        "tl.foreignamount <> tl.netamount",
        "t.type = 'CashRfnd'",
    ):
        assert count(where) > 0, where


def test_the_books_are_the_same_every_time(books: Any) -> None:
    again = NetsuiteSandbox(Clock())._books
    assert list(again.tables.db.iterdump()) == list(books.tables.db.iterdump())


def test_about_half_of_the_documents_name_the_order_of_the_crm(books: Any) -> None:
    sql = "SELECT count(custbody_sf_opportunity), count(*) FROM [transaction]"
    named, all_ = books.tables.db.execute(sql).fetchone()
    assert 0.35 < named / all_ < 0.65


def test_the_story_tells_what_it_changed(sandbox: Sandbox, token: str) -> None:
    told = sandbox.command("story", source="netsuite")["netsuite"]
    assert len(told) == 5
    sql = (
        f"SELECT d.recordid AS id FROM deletedrecord d WHERE d.recordid = {told['deleted invoice']}"
    )
    assert ask(sandbox, token, sql).json()["count"] == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"op": "melt"},
        {"op": "void", "number": "INV-0"},
        {"op": "delete_line", "number": "INV-DISC"},
    ],
)
def test_a_command_that_cannot_be_done_is_refused(sandbox: Sandbox, wrong: dict[str, Any]) -> None:
    answer = requests.post(
        f"{sandbox.origin}/_control", json={"source": "netsuite", **wrong}, timeout=10
    )
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("netsuite: ")
