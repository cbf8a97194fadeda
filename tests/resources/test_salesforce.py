"""The Salesforce client against the sandbox over HTTP: log-in, months, windows, faults."""

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from conftest import Sandbox

from resources import salesforce_bulk
from resources.registry import resource_of
from resources.salesforce import SalesforceClient
from resources.salesforce_api import Answer
from resources.salesforce_login import SalesforceSecrets
from revrec_pipeline.errors import (
    SettingsError,
    SourceAuthError,
    SourceLimitError,
    SourceSchemaError,
    SourceTimeoutError,
)
from revrec_pipeline.lake import KEYS, Page
from revrec_pipeline.mapping.salesforce_settings import SalesforceSettings
from revrec_pipeline.sandbox import salesforce_auth as auth
from revrec_pipeline.settings import Settings

_V = "/services/data/v68.0"
_MONTH = "2026-05"
_LINE = "opportunity_line_item"


class Naps(list[float]):
    """Stands in for `time.sleep` and remembers for how long."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


@pytest.fixture
def naps() -> Naps:
    return Naps()


@pytest.fixture
def connect(
    sandbox: Sandbox, naps: Naps, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., SalesforceClient]]:
    """Makes clients of the sandbox with its credentials, and closes them."""
    made: list[SalesforceClient] = []
    for name, value in auth.env(sandbox.origin).items():
        monkeypatch.setenv(name, value)

    def make(**settings: Any) -> SalesforceClient:
        configured = SalesforceSettings.model_validate(settings)
        client = SalesforceClient(
            SalesforceSecrets.from_env(), timezone="UTC", settings=configured, sleep=naps
        )
        made.append(client)
        return client

    yield make
    for client in made:
        client.__exit__(None, None, None)


def _records(pages: list[Page], name: str) -> list[dict[str, Any]]:
    """Id and some more of all records, whichever form the pages have."""
    found: list[dict[str, Any]] = []
    for page in pages:
        if page.object != name:
            continue
        if page.format == "json":
            found += json.loads(page.body)["records"]
        else:
            table = salesforce_bulk.pyarrow.csv.read_csv(
                pa.BufferReader(page.body),
                parse_options=salesforce_bulk.pyarrow.csv.ParseOptions(newlines_in_values=True),
            )
            found += table.to_pylist()
    return found


def _ids(pages: list[Page], name: str) -> list[str]:
    return sorted(record["Id"] for record in _records(pages, name))


def _keys(pages: list[Page]) -> list[dict[str, Any]]:
    batches = [page.keys for page in pages if page.keys is not None]
    return sorted(pa.Table.from_batches(batches, KEYS).to_pylist(), key=lambda key: str(key["id"]))


def _window(sandbox: Sandbox, client: SalesforceClient) -> datetime:
    """Lets time pass, so that what is edited next has a stamp after what this returns."""
    sandbox.command("advance", seconds=5)
    now = client.server_time()
    sandbox.command("advance", seconds=5)
    return now


def _edit(sandbox: Sandbox, name: str, id_: str, **fields: Any) -> None:
    sandbox.command("edit", source="salesforce", object=name, id=id_, fields=fields)


def _changes(client: SalesforceClient, since: datetime) -> list[Page]:
    return list(client.changes(since, since + timedelta(hours=1)))


# -- log-in and connection ---------------------------------------------------------------------


def test_client_credentials_log_in_and_the_check_names_the_org(
    connect: Callable[..., SalesforceClient],
) -> None:
    connection = connect().check()
    assert connection.account_id == "00DHs0000012345MAA"
    assert connection.account_name == "Fernhill Software"
    assert connection.api_version == "68.0"
    assert connection.limits == "api-usage=5/100000"
    assert connection.missing == ()


def test_without_a_secret_the_jwt_flow_logs_in(
    connect: Callable[..., SalesforceClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SALESFORCE_CLIENT_SECRET")
    assert connect().check().account_name == "Fernhill Software"


def test_every_request_goes_to_the_named_origin(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox
) -> None:
    list(connect().listing(_MONTH))
    assert sandbox.requests("salesforce") == {
        "/services/oauth2/token": 1,
        f"{_V}/queryAll": 4,
        f"{_V}/sobjects/Opportunity/describe": 1,
        f"{_V}/sobjects/OpportunityLineItem/describe": 1,
        f"{_V}/sobjects/Product2/describe": 1,
    }


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        ("SALESFORCE_CLIENT_ID", "nobody", "invalid_client_id: client identifier invalid"),
        ("SALESFORCE_CLIENT_SECRET", "wrong", "invalid_client: invalid client credentials"),
    ],
)
def test_wrong_credentials_are_one_line_that_names_them_but_not_the_secret(
    connect: Callable[..., SalesforceClient],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
    part: str,
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SourceAuthError, match=part) as caught:
        connect().check()
    message = str(caught.value)
    assert "SALESFORCE_CLIENT_ID" in message
    assert "\n" not in message
    assert "sandbox-client-secret" not in message


def test_a_key_that_is_no_key_is_named_and_not_shown(
    connect: Callable[..., SalesforceClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SALESFORCE_CLIENT_SECRET")
    monkeypatch.setenv("SALESFORCE_PRIVATE_KEY", "-----BEGIN PRIVATE KEY-----\\nabc")
    with pytest.raises(SettingsError, match=r"SALESFORCE_PRIVATE_KEY is no RSA private key"):
        connect().check()


@pytest.mark.parametrize(
    ("unset", "part"),
    [
        (["DOMAIN"], "SALESFORCE_DOMAIN is not set"),
        (["CLIENT_ID"], "SALESFORCE_CLIENT_ID is not set"),
        (["CLIENT_SECRET", "USERNAME"], "SALESFORCE_USERNAME is not set"),
        (["CLIENT_SECRET", "PRIVATE_KEY"], "SALESFORCE_PRIVATE_KEY is not set"),
    ],
)
def test_a_missing_variable_is_named(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, unset: list[str], part: str
) -> None:
    for name, value in auth.env(sandbox.origin).items():
        monkeypatch.setenv(name, value)
    for name in unset:
        monkeypatch.delenv(f"SALESFORCE_{name}")
    with pytest.raises(SettingsError, match=part):
        SalesforceSecrets.from_env()


@pytest.mark.parametrize(
    ("domain", "host"),
    [
        ("acme.my", "acme.my"),
        ("acme", "acme.my"),
        ("https://acme.my.salesforce.com/", "acme.my"),
        ("acme--uat.sandbox.my.salesforce.com", "acme--uat.sandbox.my"),
    ],
)
def test_my_domain_may_be_written_in_full(
    monkeypatch: pytest.MonkeyPatch, domain: str, host: str
) -> None:
    monkeypatch.setenv("SALESFORCE_CLIENT_ID", "id")
    monkeypatch.setenv("SALESFORCE_CLIENT_SECRET", "secret")
    monkeypatch.setenv("SALESFORCE_DOMAIN", domain)
    assert SalesforceSecrets.from_env().domain == host


def test_a_log_in_host_is_no_my_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SALESFORCE_CLIENT_ID", "id")
    monkeypatch.setenv("SALESFORCE_DOMAIN", "login")
    with pytest.raises(SettingsError, match="SALESFORCE_DOMAIN: it must be the org's own domain"):
        SalesforceSecrets.from_env()


def test_a_sandbox_that_is_not_running_is_one_line_with_its_origin(
    connect: Callable[..., SalesforceClient], monkeypatch: pytest.MonkeyPatch, naps: Naps
) -> None:
    monkeypatch.setenv("SALESFORCE_API_URL", "http://127.0.0.1:9")
    with pytest.raises(SourceTimeoutError, match=r"no connection to http://127\.0\.0\.1:9 "):
        connect().check()
    assert len(naps) == 5


def test_an_origin_without_a_scheme_is_refused(
    connect: Callable[..., SalesforceClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SALESFORCE_API_URL", "127.0.0.1:9")
    with pytest.raises(SettingsError, match=r"SALESFORCE_API_URL: '127\.0\.0\.1:9' is no origin"):
        connect()


def test_the_resource_passes_on_only_what_was_set(
    connect: Callable[..., SalesforceClient],
    sandbox: Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A default field name may be missing in the org, a configured one may not."""
    sandbox.command("configure", source="salesforce", without_term=True)
    file = tmp_path / "revrec.toml"
    monkeypatch.setenv("REVREC_CONFIG", str(file))
    file.write_text('[sources.salesforce]\nclosed_stages = ["Closed Won"]\n', encoding="utf-8")
    with resource_of("salesforce", Settings.load()).client() as client:
        assert client.check().missing == ("OpportunityLineItem.Term__c or Product2.Term__c",)
    file.write_text('[sources.salesforce]\nterm_field = "Term__c"\n', encoding="utf-8")
    configured = resource_of("salesforce", Settings.load())
    with configured.client() as client, pytest.raises(SettingsError, match="names Term__c"):
        client.check()


# -- a month -----------------------------------------------------------------------------------


def test_a_month_holds_every_opportunity_won_or_not_deleted_or_not_with_all_lines(
    connect: Callable[..., SalesforceClient],
) -> None:
    pages = list(connect().listing("2026-02"))
    headers, lines = _records(pages, "opportunity"), _records(pages, _LINE)
    assert len(headers) == 10
    assert {header["IsWon"] for header in headers} == {True, False}
    assert sum(header["IsDeleted"] for header in headers) == 1
    assert {line["OpportunityId"] for line in lines} == {header["Id"] for header in headers}
    assert {header["CloseDate"][:7] for header in headers} == {"2026-02"}


def test_pages_carry_keys_bytes_request_and_server_time(
    connect: Callable[..., SalesforceClient],
) -> None:
    pages = list(connect().listing(_MONTH))
    header, line = pages
    assert (header.object, line.object) == ("opportunity", _LINE)
    assert line.keys is None
    assert header.records == len(_records(pages, "opportunity"))
    assert line.records == len(_records(pages, _LINE))
    assert header.request.startswith(
        "GET https://fernhill.my.salesforce.com/services/data/v68.0/queryAll?q=SELECT Id, "
    )
    assert abs(datetime.now(UTC) - header.server_time) < timedelta(minutes=1)
    keys = _keys(pages)
    assert [key["id"] for key in keys] == _ids(pages, "opportunity")
    for key in keys:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", key["version"])
        assert key["period"] == key["window"] == _MONTH


def test_above_the_threshold_a_bulk_job_gives_the_same_records_and_keys(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox, naps: Naps
) -> None:
    rest = list(connect().listing(_MONTH))
    bulk = list(connect(bulk_threshold=0).listing(_MONTH))
    assert {page.format for page in rest} == {"json"}
    assert {page.format for page in bulk} == {"csv"}
    assert _keys(rest) == _keys(bulk)
    for name in ("opportunity", _LINE):
        assert _ids(rest, name) == _ids(bulk, name)
    assert bulk[0].request.startswith("GET https://fernhill.my.salesforce.com/")
    assert " of SELECT Id, IsDeleted" in bulk[0].request
    # Both jobs run at the same time.
    assert sorted(naps) == pytest.approx([0.1, 0.1, 0.15, 0.15, 0.225, 0.225])
    assert sandbox.command("state", source="salesforce") == {"open_jobs": 0}


def test_the_threshold_decides_by_count(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox
) -> None:
    headers = len(_keys(list(connect().listing(_MONTH))))
    formats = {
        threshold: [page.format for page in connect(bulk_threshold=threshold).listing(_MONTH)]
        for threshold in (headers - 1, headers)
    }
    assert formats[headers - 1] == ["csv", "csv"]
    assert formats[headers] == ["json", "csv"]


def test_short_pages_are_followed_to_the_end_airbyte_19014(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox
) -> None:
    whole = list(connect().listing(_MONTH))
    sandbox.command("configure", source="salesforce", page_size=3)
    short = list(connect().listing(_MONTH))
    assert _ids(short, "opportunity") == _ids(whole, "opportunity")
    assert _ids(short, _LINE) == _ids(whole, _LINE)
    assert max(page.records for page in short) == 3
    assert len(short) > 6


def test_bulk_results_are_followed_until_the_null_locator_airbyte_6122(
    connect: Callable[..., SalesforceClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(salesforce_bulk, "RESULT_PAGE", 4)
    whole = list(connect().listing(_MONTH))
    paged = list(connect(bulk_threshold=0).listing(_MONTH))
    assert _ids(paged, _LINE) == _ids(whole, _LINE)
    assert _keys(paged) == _keys(whole)
    assert [page.records for page in paged if page.object == _LINE][:3] == [4, 4, 4]


def test_a_month_without_opportunities_gives_empty_pages(
    connect: Callable[..., SalesforceClient],
) -> None:
    assert [page.records for page in connect().listing("2027-03")] == [0, 0]
    assert _keys(list(connect().listing("2027-03"))) == []


def test_product_codes_na_null_and_001_and_newlines_survive_bulk(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox
) -> None:
    (line, *_) = _records(list(connect().listing(_MONTH)), _LINE)
    for code in ("NA", "null", "001"):
        fields = {"Name": 'two\nlines, "quoted"', "ProductCode": code}
        product = sandbox.command("add", source="salesforce", object="Product2", fields=fields)
        _edit(sandbox, "OpportunityLineItem", line["Id"], Product2Id=product["id"])
        pages = list(connect(bulk_threshold=0).listing(_MONTH))
        body = next(page.body for page in pages if page.object == _LINE)
        assert f'"{code}","two\nlines, ""quoted"""'.encode() in body


# -- fields ------------------------------------------------------------------------------------


def test_a_single_currency_org_is_not_asked_for_currency_iso_code(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox
) -> None:
    assert "CurrencyIsoCode" in next(connect().listing(_MONTH)).request
    sandbox.command("configure", source="salesforce", single_currency=True)
    pages = list(connect().listing(_MONTH))
    assert "CurrencyIsoCode" not in pages[0].request
    assert pages[0].records > 0
    assert connect().check().missing == ()


def test_an_org_without_term_and_product_type_is_pulled_and_says_so(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox
) -> None:
    sandbox.command("configure", source="salesforce", without_term=True, without_product_type=True)
    client = connect()
    assert client.check().missing == (
        "OpportunityLineItem.Term__c or Product2.Term__c",
        "OpportunityLineItem.Product_Type__c or Product2.Product_Type__c",
    )
    assert [page.records > 0 for page in client.listing(_MONTH)] == [True, True]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"term_field": "Term_c"},
            "[sources.salesforce] term_field names Term_c, which neither OpportunityLineItem nor "
            "Product2 has; did you mean Term__c?",
        ),
        (
            {"line_end_date_field": "service_end_date__c"},
            "[sources.salesforce] line_end_date_field names service_end_date__c, which "
            "OpportunityLineItem lacks; did you mean Service_End_Date__c?",
        ),
        (
            {"custom_fields": {"Tier": "Account.Zzz__c"}},
            "[sources.salesforce] custom_fields.Tier names Zzz__c, which Account lacks; create "
            "it, or let the user read it",
        ),
    ],
)
def test_a_configured_field_that_the_org_lacks_is_refused_by_name(
    connect: Callable[..., SalesforceClient], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError) as checked:
        connect(**settings).check()
    assert str(checked.value) == message
    with pytest.raises(SourceSchemaError) as pulled:
        list(connect(**settings).listing(_MONTH))
    assert str(pulled.value) == f"salesforce: {message}"


def test_custom_fields_are_selected_where_they_are(
    connect: Callable[..., SalesforceClient],
) -> None:
    client = connect(
        custom_fields={"PO": "PO_Number__c", "Country": "Account.BillingCountry"},
        line_end_date_field="Service_End_Date__c",
    )
    header, line = client.listing(_MONTH)
    assert (
        "CurrencyIsoCode, PO_Number__c, Account.BillingCountry FROM Opportunity" in header.request
    )
    assert "Term__c, Product2.Term__c, Product2.Product_Type__c, Service_End_Date__c FROM" in (
        line.request
    )


def test_a_field_list_too_long_for_a_url_goes_through_a_job_airbyte_20703(
    connect: Callable[..., SalesforceClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = list(connect().listing(_MONTH))
    monkeypatch.setattr("resources.salesforce_records.MAX_URI", 300)
    pages = list(connect().listing(_MONTH))
    assert {page.format for page in pages} == {"csv"}
    assert _keys(pages) == _keys(whole)
    since = datetime(2025, 4, 2, 3, 0, tzinfo=UTC)
    assert {page.format for page in connect().changes(since, since + timedelta(seconds=1))} == {
        "csv"
    }


# -- a window ----------------------------------------------------------------------------------


def test_a_quiet_window_has_no_pages(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox
) -> None:
    client = connect()
    assert _changes(client, _window(sandbox, client)) == []
    assert sandbox.requests("salesforce")[f"{_V}/queryAll"] == 4


def test_every_change_comes_with_all_lines_whether_won_or_not(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox
) -> None:
    client = connect()
    month = list(client.listing("2026-06"))
    won = next(h for h in _records(month, "opportunity") if h["Name"] == "Won, then reopened")
    since = _window(sandbox, client)
    _edit(sandbox, "Opportunity", won["Id"], StageName="Negotiation")
    pages = _changes(client, since)
    (header,) = _records(pages, "opportunity")
    assert (header["Id"], header["IsWon"], header["StageName"]) == (won["Id"], False, "Negotiation")
    lines = [line["Id"] for line in _records(month, _LINE) if line["OpportunityId"] == won["Id"]]
    assert _ids(pages, _LINE) == sorted(lines)
    assert len(lines) == 2


def _first_line(pages: list[Page], **wanted: Any) -> dict[str, Any]:
    return next(
        line
        for line in _records(pages, _LINE)
        if all(line[name] == value for name, value in wanted.items())
    )


def test_a_changed_line_brings_its_whole_document(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox
) -> None:
    client = connect()
    line = _first_line(list(client.listing(_MONTH)))
    since = _window(sandbox, client)
    _edit(sandbox, "OpportunityLineItem", line["Id"], ServiceDate="2026-07-01")
    pages = _changes(client, since)
    assert _ids(pages, "opportunity") == [line["OpportunityId"]]
    assert line["Id"] in _ids(pages, _LINE)


def test_a_renamed_account_brings_all_of_its_opportunities_airbyte_42490(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox
) -> None:
    client = connect()
    month = _records(list(client.listing(_MONTH)), "opportunity")
    since = _window(sandbox, client)
    account = month[0]["AccountId"]
    _edit(sandbox, "Account", account, Name="Renamed, Inc.")
    found = _records(_changes(client, since), "opportunity")
    assert len(found) > 5
    assert {header["Account"]["Name"] for header in found} == {"Renamed, Inc."}
    assert month[0]["Id"] in {header["Id"] for header in found}


def test_a_changed_product_brings_the_opportunities_that_sell_it(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox
) -> None:
    client = connect()
    line = _first_line(list(client.listing("2026-05")), Quantity=2.5)
    since = _window(sandbox, client)
    _edit(sandbox, "Product2", line["Product2Id"], Term__c=1)
    pages = _changes(client, since)
    assert _ids(pages, "opportunity") == [line["OpportunityId"]]
    terms = {each["Product2"]["Term__c"] for each in _records(pages, _LINE)}
    assert terms == {1.0, 12.0}


def test_deleted_opportunities_and_lines_are_in_the_window_airbyte_10155(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox
) -> None:
    client = connect()
    month = list(client.listing(_MONTH))
    line = _first_line(month)
    other = next(h for h in _ids(month, "opportunity") if h != line["OpportunityId"])
    since = _window(sandbox, client)
    delete = {"source": "salesforce", "hard": False}
    sandbox.command("delete", object="OpportunityLineItem", id=line["Id"], **delete)
    sandbox.command("delete", object="Opportunity", id=other, **delete)
    pages = _changes(client, since)
    assert {h["Id"]: h["IsDeleted"] for h in _records(pages, "opportunity")} == {
        line["OpportunityId"]: False,
        other: True,
    }
    gone = {each["Id"] for each in _records(pages, _LINE) if each["IsDeleted"]}
    assert line["Id"] in gone


def test_a_hard_deleted_line_is_gone_from_its_documents_next_landing(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox
) -> None:
    client = connect()
    month = list(client.listing(_MONTH))
    line = _first_line(month)
    siblings = [
        each["Id"]
        for each in _records(month, _LINE)
        if each["OpportunityId"] == line["OpportunityId"] and each["Id"] != line["Id"]
    ]
    since = _window(sandbox, client)
    sandbox.command(
        "delete", source="salesforce", object="OpportunityLineItem", id=line["Id"], hard=True
    )
    pages = _changes(client, since)
    assert _ids(pages, "opportunity") == [line["OpportunityId"]]
    assert _ids(pages, _LINE) == sorted(siblings)


def test_rows_that_share_one_stamp_all_come_once_airbyte_9883_17148_supaglue_532(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox
) -> None:
    """The first quarter was imported within one millisecond; the low side is inclusive."""
    sandbox.command("configure", source="salesforce", page_size=7)
    stamp = datetime(2025, 4, 2, 3, 0, tzinfo=UTC)
    client = connect()
    pages = list(client.changes(stamp, stamp + timedelta(milliseconds=1)))
    ids = _ids(pages, "opportunity")
    assert len(ids) == len(set(ids)) == 27
    assert {key["version"] for key in _keys(pages)} == {"2025-04-02T03:00:00.000Z"}
    assert list(client.changes(stamp - timedelta(hours=1), stamp)) == []


def test_many_changes_are_read_in_chunks_that_fit_a_url(
    connect: Callable[..., SalesforceClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resources.salesforce._FEWEST_IDS", 1)
    monkeypatch.setattr("resources.salesforce.MAX_URI", 900)
    since = datetime(2025, 4, 2, 3, 0, tzinfo=UTC)
    pages = list(connect().changes(since, since + timedelta(days=60)))
    ids = _ids(pages, "opportunity")
    assert len(ids) == len(set(ids)) > 27
    assert len([page for page in pages if page.object == "opportunity"]) == 2
    assert {line["OpportunityId"] for line in _records(pages, _LINE)} <= set(ids)


def test_a_flood_of_changes_goes_through_jobs(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox
) -> None:
    since = datetime(2025, 1, 1, tzinfo=UTC)
    until = datetime(2026, 12, 31, tzinfo=UTC)
    rest = list(connect().changes(since, until))
    bulk = list(connect(bulk_threshold=100).changes(since, until))
    assert {page.format for page in bulk} == {"csv"}
    assert len(_keys(rest)) == 164
    assert _keys(bulk) == _keys(rest)
    assert _ids(bulk, _LINE) == _ids(rest, _LINE)
    assert sandbox.command("state", source="salesforce") == {"open_jobs": 0}


# -- faults ------------------------------------------------------------------------------------


def test_a_session_that_ends_while_paging_is_renewed_once_and_the_page_repeated(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox
) -> None:
    whole = list(connect().listing(_MONTH))
    sandbox.command("configure", source="salesforce", page_size=3)
    pages = []
    for number, page in enumerate(connect().listing(_MONTH)):
        pages.append(page)
        if number == 1:
            sandbox.command("expire", source="salesforce", what="sessions")
    assert _ids(pages, "opportunity") == _ids(whole, "opportunity")
    assert _ids(pages, _LINE) == _ids(whole, _LINE)
    assert {page.records for page in pages} <= {1, 2, 3}  # the batch size was not lost
    assert sandbox.requests("salesforce")["/services/oauth2/token"] == 3


def test_a_session_that_ends_in_a_bulk_job_is_renewed_and_the_page_repeated(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(salesforce_bulk, "RESULT_PAGE", 4)
    whole = list(connect().listing(_MONTH))
    sandbox.fault("salesforce", "session", path=f"{_V}/jobs/query")
    sandbox.fault("salesforce", "session", path=f"{_V}/jobs/query/{'?' * 18}", after=1)
    pages = []
    for number, page in enumerate(connect(bulk_threshold=0).listing(_MONTH)):
        pages.append(page)
        if number == 3:
            sandbox.command("expire", source="salesforce", what="sessions")
    assert _ids(pages, _LINE) == _ids(whole, _LINE)
    assert sandbox.requests("salesforce")["/services/oauth2/token"] == 5
    assert sandbox.command("state", source="salesforce") == {"open_jobs": 0}


def test_a_session_that_is_refused_again_at_once_is_an_error(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox
) -> None:
    sandbox.fault("salesforce", "session", path=f"{_V}/queryAll", times=9)
    with pytest.raises(SourceAuthError, match="INVALID_SESSION_ID"):
        list(connect().listing(_MONTH))


def test_a_daily_limit_ends_the_run_at_once(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox, naps: Naps
) -> None:
    sandbox.fault("salesforce", "daily", path=f"{_V}/queryAll", times=9)
    with pytest.raises(SourceLimitError, match="daily limit is used up") as caught:
        list(connect().listing(_MONTH))
    assert caught.value.retryable is False
    assert naps == []
    assert sandbox.requests("salesforce")[f"{_V}/queryAll"] <= 2  # both counts are asked at once


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """No two requests at once: of several that meet a limit, only one waits (test_traffic)."""
    for module in ("salesforce", "salesforce_records"):
        monkeypatch.setattr(f"resources.{module}.CONCURRENCY", 1)


@pytest.mark.usefixtures("one_by_one")
def test_too_many_requests_at_a_time_back_off_and_go_on(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox, naps: Naps
) -> None:
    sandbox.fault("salesforce", "concurrent", path=f"{_V}/queryAll", times=3)
    assert len(list(connect().listing(_MONTH))) == 2
    assert len(naps) == 3
    assert naps[0] < naps[1] < naps[2]


@pytest.mark.usefixtures("one_by_one")
def test_too_many_requests_for_too_long_is_a_retryable_limit(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox
) -> None:
    sandbox.fault("salesforce", "concurrent", path=f"{_V}/queryAll", times=9)
    with pytest.raises(SourceLimitError) as caught:
        list(connect().listing(_MONTH))
    assert caught.value.retryable is True


@pytest.mark.parametrize("kind", ["503", "406", "420", "html", "reset", "truncate"])
@pytest.mark.parametrize("path", [f"{_V}/queryAll", f"{_V}/sobjects/Product2/describe"])
def test_a_passing_fault_costs_a_retry_and_nothing_else(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox, kind: str, path: str
) -> None:
    whole = list(connect().listing(_MONTH))
    sandbox.fault("salesforce", kind, path=path, times=2)
    pages = list(connect().listing(_MONTH))
    assert [page.body for page in pages] == [page.body for page in whole]


@pytest.mark.parametrize("kind", ["503", "html", "reset"])
def test_a_log_in_waits_out_an_outage(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox, naps: Naps, kind: str
) -> None:
    sandbox.fault("salesforce", kind, path="/services/oauth2/token", times=2)
    assert connect().check().account_name == "Fernhill Software"
    assert len(naps) == 2


@pytest.mark.parametrize("kind", ["503", "html", "reset", "truncate"])
def test_a_passing_fault_of_a_job_costs_a_retry_and_leaves_no_job(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox, kind: str
) -> None:
    whole = list(connect(bulk_threshold=0).listing(_MONTH))
    sandbox.fault("salesforce", kind, path=f"{_V}/jobs/query/*/results", times=2)
    sandbox.fault("salesforce", kind, path=f"{_V}/jobs/query/{'?' * 18}", after=1)
    pages = list(connect(bulk_threshold=0).listing(_MONTH))
    assert [page.body for page in pages] == [page.body for page in whole]
    assert sandbox.command("state", source="salesforce") == {"open_jobs": 0}


def test_html_that_stays_names_path_status_and_type(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox
) -> None:
    sandbox.fault("salesforce", "html", path=f"{_V}/queryAll", times=9, status=200)
    with pytest.raises(SourceSchemaError, match="that are not what the API promises") as caught:
        list(connect().listing(_MONTH))
    assert f"{_V}/queryAll" in str(caught.value)
    assert "text/html" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_body_that_stays_truncated_is_refused(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox
) -> None:
    sandbox.fault("salesforce", "truncate", path=f"{_V}/queryAll", times=9)
    with pytest.raises(SourceSchemaError, match="application/json"):
        list(connect().listing(_MONTH))


def test_a_csv_page_cut_at_the_end_of_a_line_is_noticed_by_its_count() -> None:
    headers = {"Content-Type": "text/csv", "Sforce-NumberOfRecords": "2", "Sforce-Locator": "null"}
    whole = b'"Id"\n"006A"\n"006B"\n'
    read = salesforce_bulk._read_csv
    assert read(Answer("GET /results", whole, headers, datetime.now(UTC)), ["Id"]).num_rows == 2
    cut = Answer("GET /results", whole[:-7], headers, datetime.now(UTC))
    with pytest.raises(SourceSchemaError, match="it holds 1 of 2 records"):
        read(cut, ["Id"])


def test_a_truncated_csv_page_is_refused_without_quoting_it(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox
) -> None:
    sandbox.fault("salesforce", "truncate", path=f"{_V}/jobs/query/*/results", times=9)
    with pytest.raises(SourceSchemaError, match="text/csv") as caught:
        list(connect(bulk_threshold=0).listing(_MONTH))
    assert "it is no CSV with Id" in str(caught.value)
    assert sandbox.command("state", source="salesforce") == {"open_jobs": 0}


def test_a_failed_job_is_an_error_with_its_message_and_is_deleted(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox
) -> None:
    message = "InternalServerError : Retried more than fifteen times"
    sandbox.command("fail_job", source="salesforce", message=message)
    with pytest.raises(SourceSchemaError, match=f"ended as Failed: {message}"):
        list(connect(bulk_threshold=0).listing(_MONTH))
    assert sandbox.command("state", source="salesforce") == {"open_jobs": 0}


def test_a_job_that_is_not_read_to_its_end_is_deleted(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(salesforce_bulk, "RESULT_PAGE", 2)
    pages = connect(bulk_threshold=0).listing(_MONTH)
    next(pages)
    assert sandbox.command("state", source="salesforce") == {"open_jobs": 2}
    pages.close()  # type: ignore[attr-defined]  # a generator
    assert sandbox.command("state", source="salesforce") == {"open_jobs": 0}


def test_all_jobs_run_at_the_same_time(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox
) -> None:
    client = connect(bulk_threshold=0)
    most = 0

    def sleep(_: float) -> None:
        nonlocal most
        most = max(most, sandbox.command("state", source="salesforce")["open_jobs"])

    client._api.sleep = sleep
    sandbox.fault("salesforce", "slow", path=f"{_V}/jobs/query", times=2, seconds=0.2)
    list(client.listing(_MONTH))
    assert most == 2


def test_requests_at_once_in_an_ended_session_log_in_once(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox
) -> None:
    client = connect()
    whole = _keys(list(client.listing(_MONTH)))
    logged_in = sandbox.requests("salesforce")["/services/oauth2/token"]
    sandbox.command("expire", source="salesforce", what="sessions")
    sandbox.fault("salesforce", "slow", path=f"{_V}/queryAll", times=2, seconds=0.3)
    assert _keys(list(client.listing(_MONTH))) == whole
    assert sandbox.requests("salesforce")["/services/oauth2/token"] == logged_in + 1


def test_a_job_that_never_ends_is_given_up_and_aborted(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(salesforce_bulk, "_PATIENCE", 0.05)
    with pytest.raises(SourceTimeoutError, match="is UploadComplete after"):
        list(connect(bulk_threshold=0).listing(_MONTH))
    assert sandbox.command("state", source="salesforce") == {"open_jobs": 0}


def test_an_expired_locator_may_be_tried_again_as_a_whole(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox
) -> None:
    sandbox.command("configure", source="salesforce", page_size=3)
    pages = connect().listing(_MONTH)
    next(pages)
    sandbox.command("expire", source="salesforce", what="locators")
    with pytest.raises(SourceSchemaError, match="pages of this query have expired") as caught:
        list(pages)
    assert caught.value.retryable is True


def test_a_bulk_page_that_repeats_itself_is_noticed(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(salesforce_bulk, "RESULT_PAGE", 4)
    sandbox.fault("salesforce", "repeat", path=f"{_V}/jobs/query/*/results", after=1, times=99)
    with pytest.raises(SourceSchemaError, match="repeats the page at locator"):
        list(connect(bulk_threshold=0).listing(_MONTH))


def test_fewer_records_than_the_total_is_an_error(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox
) -> None:
    """The answer of the count comes once more instead of the page."""
    sandbox.fault("salesforce", "repeat", path=f"{_V}/queryAll", after=2)
    with pytest.raises(SourceSchemaError, match=r"0 of \d+ records came for: SELECT Id"):
        list(connect().listing(_MONTH))


def test_a_record_added_after_the_count_disturbs_nothing(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox
) -> None:
    pages = connect().listing(_MONTH)
    first = next(pages)
    (header, *_) = _records([first], "opportunity")
    fields = {"OpportunityId": header["Id"], "Quantity": 1, "UnitPrice": 5}
    sandbox.command("add", source="salesforce", object="OpportunityLineItem", fields=fields)
    assert len(_records([first, *pages], _LINE)) > 0


@pytest.mark.parametrize(
    ("kind", "error", "part"),
    [
        ("forbidden", SourceAuthError, "API_DISABLED_FOR_ORG"),
        ("timeout", SourceTimeoutError, "QUERY_TIMEOUT"),
    ],
)
def test_a_refusal_names_code_and_path(
    connect: Callable[..., SalesforceClient],
    sandbox: Sandbox,
    kind: str,
    error: type[Exception],
    part: str,
) -> None:
    sandbox.fault("salesforce", kind, path=f"{_V}/queryAll")
    with pytest.raises(error, match=part) as caught:
        list(connect().listing(_MONTH))
    assert f"GET {_V}/queryAll" in str(caught.value)
