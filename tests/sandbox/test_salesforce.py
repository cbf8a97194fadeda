"""The sandbox's Salesforce answers as the vendor does: log-in, limits, paging, jobs, refusals."""

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
import requests
from conftest import Sandbox
from cryptography.hazmat.primitives.asymmetric import rsa

from revrec_pipeline.sandbox import salesforce_auth as auth

_V = "/services/data/v68.0"
_ALL = "SELECT Id, Name, CloseDate FROM Opportunity ORDER BY Id"


class Client:
    """A bare HTTP client with a session of the org."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        answer = _log_in(sandbox)
        assert answer.status_code == 200, answer.text
        self.token = answer.json()["access_token"]

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.token}", **options.pop("headers", {})}
        url = f"{self.sandbox.origin}{path}"
        return requests.request(method, url, headers=headers, timeout=10, **options)

    def query(self, soql: str, what: str = "query", **headers: str) -> requests.Response:
        return self.call("GET", f"{_V}/{what}", params={"q": soql}, headers=headers)

    def job(self, soql: str = _ALL, operation: str = "queryAll") -> str:
        body = {"operation": operation, "query": soql, "contentType": "CSV"}
        answer = self.call("POST", f"{_V}/jobs/query", json=body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])


@pytest.fixture
def client(sandbox: Sandbox) -> Client:
    return Client(sandbox)


def _log_in(
    sandbox: Sandbox, client_id: str = auth.CLIENT_ID, secret: str = auth.CLIENT_SECRET
) -> requests.Response:
    return requests.post(
        f"{sandbox.origin}/services/oauth2/token",
        {"grant_type": "client_credentials"},
        auth=(client_id, secret),
        timeout=10,
    )


def _assertion(key: Any, **claims: Any) -> dict[str, str]:
    expires = datetime.now(UTC) + timedelta(minutes=3)
    payload = {
        "iss": auth.CLIENT_ID,
        "sub": auth.USERNAME,
        "aud": "https://login.salesforce.com",
        "exp": int(expires.timestamp()),
        **claims,
    }
    return {
        "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
        "assertion": jwt.encode(payload, key, algorithm="RS256"),
    }


def test_client_credentials_answer_has_the_recorded_keys(sandbox: Sandbox) -> None:
    answer = _log_in(sandbox).json()
    assert answer["instance_url"] == "https://fernhill.my.salesforce.com"
    recorded = {"id", "issued_at", "instance_url", "signature", "access_token"}
    assert recorded <= set(answer)
    assert "expires_in" not in answer


@pytest.mark.parametrize(
    ("client_id", "secret", "error"),
    [("nobody", auth.CLIENT_SECRET, "invalid_client_id"), (auth.CLIENT_ID, "x", "invalid_client")],
)
def test_wrong_client_credentials_are_refused_with_400(
    sandbox: Sandbox, client_id: str, secret: str, error: str
) -> None:
    answer = _log_in(sandbox, client_id, secret)
    assert (answer.status_code, answer.json()["error"]) == (400, error)


def test_a_jwt_is_taken_only_with_the_right_key_user_and_expiry(sandbox: Sandbox) -> None:
    url = f"{sandbox.origin}/services/oauth2/token"
    right = sandbox.env["SALESFORCE_PRIVATE_KEY"].replace("\\n", "\n")
    wrong = rsa.generate_private_key(65537, 2048)
    now = datetime.now(UTC)
    cases: list[tuple[dict[str, str], int]] = [
        (_assertion(right), 200),
        (_assertion(wrong), 400),
        (_assertion(right, sub="else@fernhill.example"), 400),
        (_assertion(right, aud="https://fernhill.my.salesforce.com"), 400),
        (_assertion(right, exp=int((now - timedelta(minutes=1)).timestamp())), 400),
        (_assertion(right, exp=int((now + timedelta(minutes=10)).timestamp())), 400),
    ]
    assert [requests.post(url, form, timeout=10).status_code for form, _ in cases] == [
        status for _, status in cases
    ]


def test_a_session_ends_after_two_hours_with_401_invalid_session_id(client: Client) -> None:
    assert client.query("SELECT Id FROM Organization").status_code == 200
    client.sandbox.command("advance", seconds=2 * 3600 + 1)
    answer = client.query("SELECT Id FROM Organization")
    assert answer.status_code == 401
    assert answer.json() == [
        {"message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID"}
    ]


def test_a_request_without_a_token_is_refused(client: Client) -> None:
    client.token = "00D!made-up"
    assert client.query("SELECT Id FROM Organization").status_code == 401


def test_every_answer_tells_the_api_usage(client: Client) -> None:
    usages = [
        client.call("GET", f"{_V}/limits").headers["Sforce-Limit-Info"],
        client.query("SELECT Id FROM Organization").headers["Sforce-Limit-Info"],
    ]
    assert usages == ["api-usage=1/100000", "api-usage=2/100000"]


def test_pages_follow_a_locator_path_and_may_be_shorter_than_asked(client: Client) -> None:
    client.sandbox.command("configure", source="salesforce", page_size=70)
    page = client.query(_ALL, "queryAll", **{"Sforce-Query-Options": "batchSize=2000"}).json()
    total = page["totalSize"]
    sizes, ids = [], []
    while True:
        sizes.append(len(page["records"]))
        ids += [record["Id"] for record in page["records"]]
        if page["done"]:
            break
        assert page["nextRecordsUrl"].startswith(f"{_V}/query/01g")
        assert page["nextRecordsUrl"].endswith(f"-{len(ids)}")
        page = client.call("GET", page["nextRecordsUrl"]).json()
    assert "nextRecordsUrl" not in page
    assert sizes == [70, 70, total - 140]
    assert len(set(ids)) == total


def test_an_expired_locator_is_invalid(client: Client) -> None:
    client.sandbox.command("configure", source="salesforce", page_size=70)
    page = client.query(_ALL).json()
    client.sandbox.command("expire", source="salesforce", what="locators")
    answer = client.call("GET", page["nextRecordsUrl"])
    assert (answer.status_code, answer.json()[0]["errorCode"]) == (400, "INVALID_QUERY_LOCATOR")


def test_count_has_a_total_and_no_records(client: Client) -> None:
    answer = client.query("SELECT COUNT() FROM Opportunity WHERE CloseDate >= 2026-06-01").json()
    assert answer == {"totalSize": answer["totalSize"], "done": True, "records": []}
    assert 8 <= answer["totalSize"] <= 16


def test_errors_are_an_array_of_message_and_code(client: Client) -> None:
    answer = client.query("SELECT Id, Term__c FROM Opportunity")
    assert answer.status_code == 400
    (body,) = answer.json()
    assert set(body) == {"message", "errorCode"}
    assert body["errorCode"] == "INVALID_FIELD"
    missing = client.call("GET", f"{_V}/sobjects/Nothing/describe")
    assert (missing.status_code, missing.json()[0]["errorCode"]) == (404, "NOT_FOUND")
    assert client.call("GET", "/services/data/v59.0/query").status_code == 404


def test_an_unknown_parameter_is_refused(client: Client) -> None:
    answer = client.call("GET", f"{_V}/query", params={"q": _ALL, "limit": "5"})
    assert answer.status_code == 400


def test_a_long_uri_is_414_and_long_headers_431_airbyte_20703(client: Client) -> None:
    soql = f"SELECT Id FROM Account WHERE Name = '{'x' * 16_400}'"
    assert client.query(soql).status_code == 414
    soql = f"SELECT Id FROM Account WHERE Name = '{'x' * 15_000}'"
    assert client.query(soql, **{"X-Padding": "p" * 1_400}).status_code == 431
    assert client.query(soql).status_code == 200


def test_describe_lists_fields_and_hides_what_the_org_lacks(client: Client) -> None:
    def fields(name: str) -> dict[str, Any]:
        answer = client.call("GET", f"{_V}/sobjects/{name}/describe").json()
        return {field["name"]: field for field in answer["fields"]}

    assert fields("Product2")["Term__c"]["type"] == "double"
    assert fields("Opportunity")["AccountId"]["relationshipName"] == "Account"
    client.sandbox.command(
        "configure", source="salesforce", single_currency=True, without_term=True
    )
    assert "Term__c" not in fields("Product2")
    assert "CurrencyIsoCode" not in fields("OpportunityLineItem")


def test_a_bulk_job_goes_through_its_states_to_csv_pages_with_a_null_locator(
    client: Client,
) -> None:
    job = client.job()
    path = f"{_V}/jobs/query/{job}"
    assert client.call("GET", f"{path}/results").status_code == 400
    states = [client.call("GET", path).json() for _ in range(3)]
    assert [each["state"] for each in states] == ["UploadComplete", "InProgress", "JobComplete"]
    total = states[-1]["numberRecordsProcessed"]
    assert total > 100
    first = client.call("GET", f"{path}/results", params={"maxRecords": 100})
    assert first.headers["Sforce-NumberOfRecords"] == "100"
    assert first.text.startswith('"Id","Name","CloseDate"\n')
    locator = first.headers["Sforce-Locator"]
    assert base64.b64decode(locator + "==") == b"100"
    last = client.call("GET", f"{path}/results", params={"maxRecords": 100, "locator": locator})
    assert last.headers["Sforce-Locator"] == "null"
    assert int(last.headers["Sforce-NumberOfRecords"]) == total - 100
    assert client.call("DELETE", path).status_code == 204
    assert client.call("GET", path).status_code == 404


def test_a_bulk_job_of_another_api_version_is_409(client: Client) -> None:
    job = client.job()
    answer = client.call("GET", f"/services/data/v67.0/jobs/query/{job}/results")
    assert answer.status_code == 409


def test_a_bulk_job_refuses_aggregates_unknown_fields_and_unknown_keys(client: Client) -> None:
    bodies = [
        {"operation": "query", "query": "SELECT COUNT() FROM Account"},
        {"operation": "query", "query": "SELECT Foo FROM Account"},
        {"operation": "query", "query": _ALL, "colour": "red"},
        {"operation": "insert", "query": _ALL},
        {"operation": "query", "query": _ALL, "contentType": "JSON"},
    ]
    answers = [client.call("POST", f"{_V}/jobs/query", json=body) for body in bodies]
    assert [answer.status_code for answer in answers] == [400] * 5
    assert answers[1].json()[0]["errorCode"] == "INVALID_FIELD"


def test_a_running_bulk_job_can_be_aborted_and_then_deleted(client: Client) -> None:
    path = f"{_V}/jobs/query/{client.job()}"
    assert client.call("DELETE", path).status_code == 400
    aborted = client.call("PATCH", path, data='{"state":"Aborted"}')
    assert aborted.json()["state"] == "Aborted"
    assert client.call("DELETE", path).status_code == 204


def test_an_edit_stamps_the_record_and_a_new_amount_stamps_its_header(client: Client) -> None:
    def stamp(kind: str, id_: str) -> str:
        soql = f"SELECT SystemModstamp FROM {kind} WHERE Id = '{id_}'"
        return str(client.query(soql).json()["records"][0]["SystemModstamp"])

    soql = (
        "SELECT Id, OpportunityId, UnitPrice FROM OpportunityLineItem"
        " WHERE Opportunity.Name = 'Price typed wrong' AND SortOrder = 2"
    )
    (line,) = client.query(soql).json()["records"]
    header, edit = line["OpportunityId"], {"source": "salesforce", "object": "OpportunityLineItem"}
    before = stamp("Opportunity", header)
    client.sandbox.command("edit", id=line["Id"], fields={"ServiceDate": "2026-06-01"}, **edit)
    assert stamp("OpportunityLineItem", line["Id"]) > "2026-11"
    assert stamp("Opportunity", header) == before
    client.sandbox.command("edit", id=line["Id"], fields={"UnitPrice": 374.4}, **edit)
    assert stamp("Opportunity", header) > before
    soql = f"SELECT TotalPrice FROM OpportunityLineItem WHERE Id = '{line['Id']}'"
    assert client.query(soql).json()["records"][0]["TotalPrice"] == 18720.0


def test_a_record_comes_out_of_the_recycle_bin_with_what_went_in_with_it(client: Client) -> None:
    soql = (
        "SELECT Id, OpportunityId FROM OpportunityLineItem"
        " WHERE Opportunity.Name = 'Price typed wrong' ORDER BY SortOrder"
    )
    first, second, *_ = client.query(soql).json()["records"]
    header, edit = first["OpportunityId"], {"source": "salesforce"}
    client.sandbox.command("delete", object="OpportunityLineItem", id=first["Id"], **edit)
    client.sandbox.command("advance", seconds=60)
    client.sandbox.command("delete", object="Opportunity", id=header, **edit)
    soql = f"SELECT Id, SystemModstamp FROM OpportunityLineItem WHERE OpportunityId = '{header}'"
    assert client.query(soql).json()["records"] == []
    client.sandbox.command("advance", seconds=60)
    client.sandbox.command("undelete", object="Opportunity", id=header, **edit)
    now = client.sandbox.state()["now"]
    there = client.query(soql).json()["records"]
    assert first["Id"] not in {line["Id"] for line in there}
    assert second["Id"] in {line["Id"] for line in there}
    assert {line["SystemModstamp"][:16] for line in there} == {now[:16]}


def test_the_story_changes_five_records_and_no_more(client: Client) -> None:
    client.sandbox.command("advance", seconds=60)
    moment = datetime.now(UTC) + timedelta(seconds=30)
    client.sandbox.command("story", source="salesforce")
    since = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    changed = {
        kind: client.query(f"SELECT COUNT() FROM {kind} WHERE SystemModstamp >= {since}").json()
        for kind in ("Opportunity", "OpportunityLineItem", "Product2", "Account")
    }
    sizes = {kind: body["totalSize"] for kind, body in changed.items()}
    assert sizes == {"Opportunity": 4, "OpportunityLineItem": 1, "Product2": 1, "Account": 0}


def test_the_org_shows_every_case_that_the_mapping_must_decide(client: Client) -> None:
    line, won = "SELECT COUNT() FROM OpportunityLineItem WHERE ", "Opportunity.IsWon = true AND "
    header = "SELECT COUNT() FROM Opportunity WHERE "
    counts = {
        "open": header + "IsClosed = false",
        "lost": header + "IsClosed = true AND IsWon = false",
        "won in a stage of their own": header + "StageName = 'Signed Renewal'",
        "deleted": header + "IsDeleted = true",
        "won without lines": header + "IsWon = true AND Id NOT IN"
        " (SELECT OpportunityId FROM OpportunityLineItem)",
        "deleted line": line + "IsDeleted = true AND Opportunity.IsDeleted = false",
        "no product code": line + won + "Product2.ProductCode = null",
        "no term": line + won + "Product2.Term__c = null",
        "fraction": line + "Quantity = 2.5",
        "three decimals": line + "CurrencyIsoCode = 'KWD'",
        "no decimals": line + "CurrencyIsoCode = 'JPY'",
        "discount": line + "Discount = 12.5",
        "three years": line + "Term__c = 36",
        "price with many decimals": line + "UnitPrice = 0.01234567",
        "month end": header + "CloseDate = 2025-01-31",
        "merged account": "SELECT COUNT() FROM Account WHERE MasterRecordId != null",
    }
    found = {
        name: client.query(soql, "queryAll").json()["totalSize"] for name, soql in counts.items()
    }
    assert [name for name, count in found.items() if count == 0] == []
    assert client.query("SELECT COUNT() FROM Opportunity", "queryAll").json()["totalSize"] == 164
