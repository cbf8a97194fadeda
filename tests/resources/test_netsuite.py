"""The NetSuite client against the sandbox: log-in, paging, changes, and each fault of the list."""

import json
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from conftest import Sandbox
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from resources import netsuite as client_module
from resources import netsuite_api
from resources.netsuite import NetsuiteClient
from resources.netsuite_api import NetsuiteSecrets, QueryError
from resources.registry import resource_of
from revrec_pipeline.errors import (
    SettingsError,
    SourceAuthError,
    SourceError,
    SourceLimitError,
    SourceSchemaError,
    SourceTimeoutError,
)
from revrec_pipeline.lake import KEYS, Page
from revrec_pipeline.mapping.netsuite import NetsuiteSettings
from revrec_pipeline.periods import period_range
from revrec_pipeline.settings import Settings

SUITEQL = "/services/rest/query/v1/suiteql"
TOKEN = "/services/rest/auth/oauth2/v1/token"
MONTH = "2025-03"


class Naps(list[float]):
    """What a client would have slept between two tries; the pace of 1,000 a second is not that."""

    awake = True

    def sleep(self, seconds: float) -> None:
        if seconds > 0.01:
            self.append(seconds)
            time.sleep(0 if self.awake else 0.3)


def secrets(sandbox: Sandbox, *, way: str = "m2m", **fields: Any) -> NetsuiteSecrets:
    """The secrets that the sandbox takes, for one way to log in."""
    given = {
        name.removeprefix("NETSUITE_").lower(): value
        for name, value in sandbox.env.items()
        if name.startswith("NETSUITE_")
    }
    others = ("consumer", "token") if way == "m2m" else ("client", "certificate", "private")
    kept = {name: value for name, value in given.items() if not name.startswith(others)}
    return NetsuiteSecrets.model_validate({**kept, **fields})


@pytest.fixture
def naps() -> Naps:
    return Naps()


@pytest.fixture
def connect(sandbox: Sandbox, naps: Naps) -> Iterator[Callable[..., NetsuiteClient]]:
    """Makes clients: `connect(sales_orders=True)`, `connect(way="tba")`."""
    made = []

    def make(
        *, way: str = "m2m", changed: dict[str, Any] | None = None, **settings: Any
    ) -> NetsuiteClient:
        client = NetsuiteClient(
            secrets(sandbox, way=way, **(changed or {})),
            timezone="America/New_York",
            settings=NetsuiteSettings(**settings),
            sleep=naps.sleep,
        )
        made.append(client)
        return client

    yield make
    for client in made:
        client.__exit__(None, None, None)


def command(sandbox: Sandbox, op: str, **fields: Any) -> dict[str, Any]:
    return sandbox.command(op, source="netsuite", **fields)


def rows(pages: list[Page], name: str) -> list[dict[str, Any]]:
    """All rows of one kind of page."""
    return [row for page in pages if page.object == name for row in json.loads(page.body)["items"]]


def numbers(pages: list[Page], name: str = "invoice") -> set[str]:
    return {row.get("tranid", row["id"]) for row in rows(pages, name)}


def keys(pages: list[Page]) -> dict[str, dict[str, Any]]:
    """The keys of all documents by id."""
    found = [row for page in pages if page.keys is not None for row in page.keys.to_pylist()]
    return {row["id"]: row for row in found}


def changes(client: NetsuiteClient, hours: float = 1) -> list[Page]:
    """What changed in the last hours, up to this second, by the sandbox's clock."""
    now = client.server_time()
    return list(client.changes(now - timedelta(hours=hours), now + timedelta(seconds=2)))


def asked(sandbox: Sandbox, path: str = SUITEQL) -> int:
    return sandbox.requests("netsuite").get(path, 0)


def id_of(client: NetsuiteClient, number: str) -> str:
    _, found = client._api.query(
        f"SELECT t.id AS id FROM transaction t WHERE t.tranid = '{number}'"
    )
    return found.items[0].id


# -- log-in --------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["m2m", "tba"])
def test_check_names_account_and_company_by_either_way_to_log_in(
    connect: Callable[..., NetsuiteClient], way: str
) -> None:
    connection = connect(way=way).check()
    assert connection.account_id == "TSTDRV2026"
    assert connection.account_name == "Fernhill Software"
    assert connection.api_version == "v1"
    assert connection.missing == ()


def test_an_account_is_lower_case_with_a_hyphen_in_the_host_and_upper_case_in_the_realm() -> None:
    for written in ("123456_SB1", "123456-sb1"):
        one = NetsuiteSecrets(account_id=written)
        assert one.origin == "https://123456-sb1.suitetalk.api.netsuite.com"
        assert one.realm == "123456_SB1"


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ({"NETSUITE_ACCOUNT_ID"}, r"^NETSUITE_ACCOUNT_ID is not set$"),
        ({"NETSUITE_PRIVATE_KEY", "NETSUITE_CONSUMER_KEY"}, r"^NETSUITE_PRIVATE_KEY is not set"),
        (
            {"NETSUITE_CLIENT_ID", "NETSUITE_CERTIFICATE_ID", "NETSUITE_PRIVATE_KEY"}
            | {"NETSUITE_TOKEN_SECRET"},
            r"^NETSUITE_TOKEN_SECRET is not set; set NETSUITE_CONSUMER_KEY, .* together, or",
        ),
    ],
)
def test_a_missing_variable_is_named(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, missing: set[str], message: str
) -> None:
    for name, value in sandbox.env.items():
        monkeypatch.setenv(name, "" if name in missing else value)
    with pytest.raises(SettingsError, match=message):
        NetsuiteSecrets.from_env()


def test_no_variable_at_all_asks_for_the_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETSUITE_ACCOUNT_ID", "123456")
    with pytest.raises(SettingsError, match=r"^NETSUITE_CLIENT_ID is not set"):
        NetsuiteSecrets.from_env()


def test_an_account_that_is_a_url_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETSUITE_ACCOUNT_ID", "https://123456.app.netsuite.com")
    with pytest.raises(SettingsError, match="NETSUITE_ACCOUNT_ID is no account"):
        NetsuiteSecrets.from_env()


def test_no_secret_shows(sandbox: Sandbox) -> None:
    for way in ("m2m", "tba"):
        one = secrets(sandbox, way=way)
        shown = f"{one!r} {one.certificate!r} {one.access_token!r}"
        assert "PRIVATE KEY" not in shown
        assert "cs-sandbox-only" not in shown
        assert "ts-sandbox-only" not in shown


def _pem(key: Any) -> str:
    return str(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode()
    )


def test_a_key_that_netsuite_would_not_take_is_refused_before_it_is_sent(
    connect: Callable[..., NetsuiteClient],
) -> None:
    short = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    for text in ("no key", _pem(short), _pem(ec.generate_private_key(ec.SECP384R1()))):
        with pytest.raises(SettingsError, match="NETSUITE_PRIVATE_KEY is neither an RSA key"):
            connect(changed={"private_key": text})


def test_another_key_than_the_certificates_is_refused_at_once(
    connect: Callable[..., NetsuiteClient], sandbox: Sandbox
) -> None:
    key = _pem(ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(SourceAuthError, match=r"invalid_grant.*NETSUITE_CERTIFICATE_ID") as caught:
        connect(changed={"private_key": key}).check()
    assert "\n" not in str(caught.value)
    assert asked(sandbox, TOKEN) == 1


def test_an_rsa_key_signs_ps256(connect: Callable[..., NetsuiteClient]) -> None:
    # NetSuite's list has no RS256, which libraries take when nothing is said.
    key = rsa.generate_private_key(public_exponent=65537, key_size=3072)
    certificate = netsuite_api.Certificate("c", "k", _pem(key).replace("\n", "\\n"))
    assert netsuite_api._private_key(certificate)[1] == "PS256"


def test_a_wrong_token_secret_ends_after_a_few_tries_and_names_the_variables(
    connect: Callable[..., NetsuiteClient], sandbox: Sandbox, naps: Naps
) -> None:
    client = connect(way="tba", changed={"token_secret": "wrong-and-secret"})
    with pytest.raises(SourceAuthError, match=r"INVALID_LOGIN.*NETSUITE_TOKEN_ID") as caught:
        client.check()
    assert "wrong-and-secret" not in str(caught.value)
    assert (asked(sandbox), len(naps)) == (3, 2)


def test_every_try_is_signed_anew_for_a_nonce_is_taken_only_once(
    connect: Callable[..., NetsuiteClient], sandbox: Sandbox
) -> None:
    sandbox.fault("netsuite", "truncate", path=SUITEQL, times=2)
    sandbox.fault("netsuite", "429", path=SUITEQL, after=2, times=2)
    assert connect(way="tba").check().account_name == "Fernhill Software"


@pytest.mark.parametrize("way", ["m2m", "tba"])
def test_too_many_requests_at_a_time_that_show_as_401_are_tried_again_julbrs_26(
    connect: Callable[..., NetsuiteClient], sandbox: Sandbox, way: str
) -> None:
    client = connect(way=way)
    client.check()
    sandbox.fault("netsuite", "401", path=SUITEQL, times=2)
    assert len(list(client.listing(MONTH))) > 2


def test_a_token_that_ends_while_paging_is_renewed_once_by_all_threads(
    connect: Callable[..., NetsuiteClient], sandbox: Sandbox
) -> None:
    client = connect(concurrency=8)
    client.check()
    command(sandbox, "expire")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: client.server_time(), range(8)))
    assert asked(sandbox, TOKEN) == 2


def test_a_token_that_ended_by_the_clock_is_renewed(
    connect: Callable[..., NetsuiteClient], sandbox: Sandbox
) -> None:
    client = connect()
    client.check()
    sandbox.command("advance", seconds=3700)
    assert client.check().account_id == "TSTDRV2026"


def test_log_in_goes_to_the_other_origin_too(
    connect: Callable[..., NetsuiteClient], sandbox: Sandbox
) -> None:
    connect().server_time()
    assert sandbox.requests("netsuite") == {TOKEN: 1, SUITEQL: 1}


@pytest.mark.parametrize("kind", ["503", "html", "reset", "truncate"])
def test_a_log_in_waits_out_an_outage(
    connect: Callable[..., NetsuiteClient], sandbox: Sandbox, kind: str
) -> None:
    sandbox.fault("netsuite", kind, path=TOKEN, times=2)
    assert connect().check().account_id == "TSTDRV2026"


def test_the_dagster_resource_reads_the_environment_only_when_a_client_is_made(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = resource_of("netsuite", Settings())
    for name, value in sandbox.env.items():
        monkeypatch.setenv(name, value)
    with made.client() as client:
        assert client.check().account_name == "Fernhill Software"


# -- clocks --------------------------------------------------------------------------------------


def test_server_time_is_the_clock_of_the_source(
    connect: Callable[..., NetsuiteClient], sandbox: Sandbox
) -> None:
    sandbox.command("advance", seconds=90 * 86400)
    ahead = connect().server_time() - datetime.now(UTC)
    assert timedelta(days=89) < ahead < timedelta(days=91)


@pytest.mark.parametrize("zone", ["UTC", "America/Los_Angeles", "Asia/Kathmandu"])
def test_versions_are_in_utc_wherever_the_integration_users_clocks_are(
    connect: Callable[..., NetsuiteClient], sandbox: Sandbox, zone: str
) -> None:
    command(sandbox, "configure", zone=zone)
    command(sandbox, "edit", number="INV-DISC", fields={"memo": "x"})
    client = connect()
    key = keys(list(client.listing("2025-01")))[id_of(client, "INV-DISC")]
    version = datetime.strptime(key["version"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert abs(version - datetime.now(UTC)) < timedelta(seconds=30)


@pytest.mark.parametrize("zone", ["America/Los_Angeles", "Asia/Kathmandu"])
def test_a_window_is_cut_by_instants_wherever_the_users_clocks_are(
    connect: Callable[..., NetsuiteClient], sandbox: Sandbox, zone: str
) -> None:
    command(sandbox, "configure", zone=zone)
    client = connect()
    assert numbers(changes(client)) == set()
    command(sandbox, "edit", number="INV-DISC", fields={"memo": "x"})
    assert numbers(changes(client)) == {"INV-DISC"}
    sandbox.command("advance", seconds=2 * 3600)
    assert numbers(changes(client, hours=1)) == set()
    assert numbers(changes(client, hours=3)) == {"INV-DISC"}


def test_the_overlap_of_windows_outlasts_a_jump_of_the_users_clocks() -> None:
    # On the user's clocks a stamp of before the jump may stand an hour off.
    assert NetsuiteClient.lookback > timedelta(hours=1)


# -- a month -------------------------------------------------------------------------------------


def test_months_together_hold_every_document_once_and_so_does_the_sweep(
    connect: Callable[..., NetsuiteClient],
) -> None:
    client = connect(sales_orders=True)
    months = list(period_range("2025-12", "2026-06"))
    pages = [page for month in months for page in client.listing(month)]
    found = [row["id"] for page in pages if page.keys is not None for row in page.keys.to_pylist()]
    _, counted = client._api.query(
        "SELECT COUNT(*) AS id FROM transaction t WHERE t.type <> 'Journal'"
        " AND t.trandate >= TO_DATE('2025-12-01', 'YYYY-MM-DD')"
    )
    assert len(found) == len(set(found)) == int(counted.items[0].id) > 60
    assert {page.keys.schema for page in pages if page.keys is not None} == {KEYS}
    swept = [
        id_ for month in months for batch in client.ids(month) for id_ in batch["id"].to_pylist()
    ]
    assert sorted(swept) == sorted(found)


def test_a_page_keeps_the_bytes_and_says_which_query_brought_them(
    connect: Callable[..., NetsuiteClient],
) -> None:
    page = next(iter(connect().listing(MONTH)))
    assert page.body.startswith(b'{"links":[')
    assert page.request.startswith(
        "POST https://tstdrv2026.suitetalk.api.netsuite.com/services/rest/query/v1/suiteql"
        "?limit=1000&offset=0 SELECT t.id AS id, t.type AS type"
    )
    assert page.request.endswith(
        "t.trandate >= TO_DATE('2025-03-01', 'YYYY-MM-DD') AND t.trandate < "
        "TO_DATE('2025-04-01', 'YYYY-MM-DD') ORDER BY t.id"
    )
    assert (page.object, page.records) == ("invoice", len(rows([page], "invoice")))


def test_a_transaction_is_in_the_month_of_its_date(connect: Callable[..., NetsuiteClient]) -> None:
    client = connect()
    key = keys(list(client.listing(MONTH)))[id_of(client, "INV-HEAD")]
    assert (key["period"], key["window"]) == (MONTH, MONTH)


def test_every_value_is_a_text_and_nulls_are_left_out(
    connect: Callable[..., NetsuiteClient],
) -> None:
    found = rows(list(connect().listing(MONTH)), "transaction_line")
    values = [value for row in found for name, value in row.items() if name != "links"]
    assert {type(value) for value in values} == {str}
    (main, *_) = [row for row in found if row["mainline"] == "T"]
    assert "itemcode" not in main
    assert main["foreignamount"].startswith("-") is False


def test_a_document_without_a_stamp_lands_with_the_lowest_version(
    connect: Callable[..., NetsuiteClient], sandbox: Sandbox
) -> None:
    client = connect()
    identifier = id_of(client, "INV-HEAD")
    command(sandbox, "erase_stamps", number="INV-HEAD")
    key = keys(list(client.listing(MONTH)))[identifier]
    assert (key["version"], key["period"]) == ("0001-01-01T00:00:00Z", MONTH)


def test_documents_come_with_all_of_their_lines_links_and_journals(
    connect: Callable[..., NetsuiteClient],
) -> None:
    pages = list(connect().listing("2025-10"))
    named = {row["transaction"] for row in rows(pages, "transaction_line")}
    assert named == set(keys(pages))
    (journal,) = rows(pages, "void_journal")
    assert journal["voids"] == id_of(connect(), "INV-JVOID")


def test_sales_orders_come_only_where_asked_for(connect: Callable[..., NetsuiteClient]) -> None:
    assert "SO-LOST" not in numbers(list(connect().listing("2025-08")), "sales_order")
    asked_for = list(connect(sales_orders=True).listing("2025-08"))
    assert "SO-LOST" in numbers(asked_for, "sales_order")


def test_a_month_without_documents_is_an_empty_page_each(
    connect: Callable[..., NetsuiteClient],
) -> None:
    pages = list(connect().listing("2022-01"))
    assert [(page.object, page.records) for page in pages] == [("invoice", 0), ("credit_memo", 0)]


# -- paging --------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 999, 1000, 1001, 3007])
def test_paging_loses_nothing_jacobsvante_42(
    connect: Callable[..., NetsuiteClient], sandbox: Sandbox, count: int
) -> None:
    command(sandbox, "bulk", count=count, day="2024-01-31")
    found = [id_ for batch in connect().ids("2024-01") for id_ in batch["id"].to_pylist()]
    already = 3
    assert len(found) == len(set(found)) == count + already


def test_100_001_rows_of_one_second_all_come_jacobsvante_42(
    connect: Callable[..., NetsuiteClient], sandbox: Sandbox
) -> None:
    command(sandbox, "bulk", count=100_001, day="2022-05-31")
    assert sum(batch.num_rows for batch in connect().ids("2022-05")) == 100_001


def test_a_month_of_several_pages_has_all_lines_of_all_documents(
    connect: Callable[..., NetsuiteClient], sandbox: Sandbox
) -> None:
    command(sandbox, "bulk", count=2500, day="2022-05-31")
    pages = list(connect(concurrency=3).listing("2022-05"))
    assert len(numbers(pages)) == 2500
    assert len(rows(pages, "transaction_line")) == 2500
    headers = [page.records for page in pages if page.object == "invoice"]
    assert headers == [1000, 1000, 500]


def test_documents_added_and_deleted_while_paging_lose_no_other(
    connect: Callable[..., NetsuiteClient], sandbox: Sandbox
) -> None:
    command(sandbox, "bulk", count=3500, day="2022-05-31")
    ids = connect().ids("2022-05")
    first = next(ids)["id"].to_pylist()
    command(sandbox, "delete", id=first[0])
    command(sandbox, "delete", number="BULK3000")
    command(sandbox, "bulk", count=1, day="2022-05-31")
    found = first + [id_ for batch in ids for id_ in batch["id"].to_pylist()]
    assert len(found) == len(set(found)) == 3500


def test_fewer_rows_than_there_are_is_an_error_that_may_pass(
    connect: Callable[..., NetsuiteClient], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    command(sandbox, "bulk", count=1500, day="2022-05-31")
    client = connect()
    whole = client._api.query

    def short(suiteql: str, offset: int = 0) -> Any:
        answer, found = whole(suiteql, offset)
        if " AND t.id > " in suiteql:
            found.items.clear()
        return answer, found

    monkeypatch.setattr(client._api, "query", short)
    with pytest.raises(SourceSchemaError, match="1000 of 1500 rows came for") as caught:
        list(client.ids("2022-05"))
    assert caught.value.retryable is True


def test_a_page_that_repeats_itself_is_noticed(
    connect: Callable[..., NetsuiteClient], sandbox: Sandbox
) -> None:
    command(sandbox, "bulk", count=2500, day="2022-05-31")
    sandbox.fault("netsuite", "repeat", path=SUITEQL, after=1, times=9)
    with pytest.raises(SourceSchemaError, match=r"a page repeats t\.id"):
        list(connect(concurrency=1).ids("2022-05"))


def test_links_of_more_rows_than_a_query_returns_are_asked_for_in_halves(
    connect: Callable[..., NetsuiteClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = rows(list(connect().listing("2025-02")), "line_link")
    monkeypatch.setattr(client_module, "ROW_CAP", 3)
    halves = rows(list(connect().listing("2025-02")), "line_link")
    assert len(whole) > 3
    assert sorted(map(str, halves)) == sorted(map(str, whole))


def test_no_more_requests_at_a_time_than_the_setting_says(
    connect: Callable[..., NetsuiteClient], sandbox: Sandbox
) -> None:
    command(sandbox, "bulk", count=4000, day="2022-05-31")
    command(sandbox, "configure", latency=0.02)
    client = connect(concurrency=2)
    client.check()
    list(client.listing("2022-05"))
    assert sandbox.state()["most_at_once"]["netsuite"] == 2


def test_an_account_with_no_free_place_is_waited_for(
    connect: Callable[..., NetsuiteClient], sandbox: Sandbox, naps: Naps
) -> None:
    client = connect(concurrency=3)
    client.check()
    naps.awake = False
    command(sandbox, "configure", latency=0.3, concurrency=2)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: client.server_time(), range(3)))
    assert naps


# -- a window ------------------------------------------------------------------------------------


def test_a_changed_header_brings_the_whole_document(
    connect: Callable[..., NetsuiteClient], sandbox: Sandbox
) -> None:
    command(sandbox, "edit", number="INV-DISC", fields={"memo": "x"})
    pages = changes(connect())
    assert numbers(pages) == {"INV-DISC"}
    assert len(rows(pages, "transaction_line")) == 4


def test_a_line_that_changed_alone_is_noticed_and_moves_the_version(
    connect: Callable[..., NetsuiteClient], sandbox: Sandbox
) -> None:
    before = keys(list(connect().listing("2025-01")))
    command(sandbox, "edit_line", number="INV-DISC", position=0, fields={"memo": "x"})
    pages = changes(connect())
    (key,) = keys(pages).values()
    assert numbers(pages) == {"INV-DISC"}
    assert key["version"] > before[key["id"]]["version"]


def test_a_deleted_line_is_noticed_for_all_lines_are_read_again(
    connect: Callable[..., NetsuiteClient], sandbox: Sandbox
) -> None:
    command(sandbox, "delete_line", number="INV-DISC", position=1)
    assert len(rows(changes(connect()), "transaction_line")) == 3


@pytest.mark.parametrize(("table", "row"), [("customer", 205), ("item", 18)])
def test_a_customer_or_item_that_changed_brings_its_documents(
    connect: Callable[..., NetsuiteClient], sandbox: Sandbox, table: str, row: int
) -> None:
    command(sandbox, "edit_master", table=table, id=row, fields={})
    pages = changes(connect())
    column = "entity" if table == "customer" else "item"
    name = "invoice" if table == "customer" else "transaction_line"
    assert len(numbers(pages)) > 3
    assert str(row) in {one.get(column) for one in rows(pages, name)}


def test_a_void_reaches_us_by_its_flag(
    connect: Callable[..., NetsuiteClient], sandbox: Sandbox
) -> None:
    command(sandbox, "void", number="INV-DISC")
    (header,) = rows(changes(connect()), "invoice")
    assert (header["tranid"], header["voided"]) == ("INV-DISC", "T")


def test_a_void_reaches_us_by_a_journal_that_leaves_the_invoice_alone(
    connect: Callable[..., NetsuiteClient], sandbox: Sandbox
) -> None:
    command(sandbox, "reverse", number="INV-DISC", day="2025-02-01")
    pages = changes(connect())
    assert numbers(pages) == {"INV-DISC"}
    assert len(rows(pages, "void_journal")) == 1


def test_a_deleted_transaction_leaves_a_tombstone_above_its_last_version(
    connect: Callable[..., NetsuiteClient], sandbox: Sandbox
) -> None:
    client = connect(sales_orders=True)
    deleted = {
        number: id_of(client, number) for number in ("INV-DISC", "CM-HEAD", "CS1003", "SO-LOST")
    }
    for number in deleted:
        command(sandbox, "delete", number=number)
    pages = changes(client)
    found = keys(pages)
    assert set(found) == set(deleted.values())
    assert {(key["period"], key["window"]) for key in found.values()} == {(None, None)}
    assert min(key["version"] for key in found.values()) > "2026-07"
    assert {(page.object, page.records) for page in pages if page.records} == {
        ("invoice", 2),
        ("credit_memo", 1),
        ("sales_order", 1),
    }


@pytest.mark.parametrize(
    ("script", "kind"),
    [("customer", "Customer"), ("journalentry", "Journal Entry"), ("customrecord_invoice", "-30")],
)
def test_the_deletion_of_another_record_with_the_same_id_is_no_tombstone(
    connect: Callable[..., NetsuiteClient], sandbox: Sandbox, script: str, kind: str
) -> None:
    client = connect()
    same = id_of(client, "INV-DISC")
    command(sandbox, "deletion", id=int(same), script=script, type=kind)
    assert keys(changes(client)) == {}


@pytest.mark.parametrize("kind", ["Invoice", "Cash Sale", "CREDIT_MEMO", "creditMemo", "CustInvc"])
def test_record_types_of_deletions_are_read_in_any_spelling(
    connect: Callable[..., NetsuiteClient], sandbox: Sandbox, kind: str
) -> None:
    command(sandbox, "deletion", id=77, script=None, type=kind)
    assert set(keys(changes(connect()))) == {"77"}


def test_more_deletions_than_a_query_returns_are_asked_for_in_halves(
    connect: Callable[..., NetsuiteClient], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in ("INV-DISC", "INV-SUBT"):
        command(sandbox, "delete", number=number)
        sandbox.command("advance", seconds=600)
    monkeypatch.setattr(client_module, "ROW_CAP", 1)
    assert len(keys(changes(connect()))) == 2


def test_without_the_permission_for_deletions_check_names_it_and_changes_go_on(
    connect: Callable[..., NetsuiteClient], sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    command(sandbox, "configure", without=["deleted_records"])
    command(sandbox, "edit", number="INV-DISC", fields={"memo": "x"})
    client = connect()
    missing = client.check().missing
    assert "deletedrecord.recordid: deletions (permission Deleted Records)" in missing
    with caplog.at_level(logging.WARNING):
        assert numbers(changes(client)) == {"INV-DISC"}
    assert "deletions cannot be read; a sweep of ids finds them later" in caplog.text


def test_the_high_side_of_a_window_is_excluded_and_its_low_side_included(
    connect: Callable[..., NetsuiteClient],
) -> None:
    client = connect()
    stamp = datetime(2025, 1, 15, 18, 30, tzinfo=UTC)
    second = timedelta(seconds=1)
    assert "INV-DISC" in numbers(list(client.changes(stamp, stamp + second)))
    assert "INV-DISC" not in numbers(list(client.changes(stamp - second, stamp)))


def test_a_quiet_window_is_an_empty_answer(connect: Callable[..., NetsuiteClient]) -> None:
    assert changes(connect()) == []


# -- what an account lacks -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("feature", "lost"),
    [
        ("currencies", "currency.symbol: currencies other than the home currency"),
        ("revenue_recognition", "transactionline.revrecenddate: the setting service_end_field"),
        ("subsidiaries", "transactionline.subsidiary: subsidiaries"),
        ("kits", "transactionline.kitcomponent: kits"),
        ("links", "previoustransactionlinelink.nextdoc: links of order and credit lines"),
    ],
)
def test_what_an_edition_lacks_is_named_and_left_out_airbyte_35401(
    connect: Callable[..., NetsuiteClient], sandbox: Sandbox, feature: str, lost: str
) -> None:
    whole = list(connect().listing(MONTH))
    command(sandbox, "configure", without=[feature])
    client = connect()
    assert lost in client.check().missing
    pages = list(client.listing(MONTH))
    assert numbers(pages) == numbers(whole)
    assert len(rows(pages, "transaction_line")) == len(rows(whole, "transaction_line"))


def test_an_unknown_column_that_is_answered_as_an_unexpected_error_is_found_one_by_one(
    connect: Callable[..., NetsuiteClient], sandbox: Sandbox
) -> None:
    # The first probe fails on all of its tries, and so one column after the other is tried.
    sandbox.fault("netsuite", "500", path=SUITEQL, times=3)
    assert connect().check().missing == ()


def test_a_column_that_nothing_works_without_is_an_error_that_names_it(
    connect: Callable[..., NetsuiteClient], sandbox: Sandbox
) -> None:
    command(sandbox, "configure", columns=["transactionline.taxline"])
    with pytest.raises(SourceSchemaError, match=r"shows no transactionline\.taxline"):
        list(connect().listing(MONTH))


def test_a_setting_that_names_a_missing_column_is_refused_by_its_name(
    connect: Callable[..., NetsuiteClient],
) -> None:
    client = connect(order_number_field="custbody_nowhere")
    with pytest.raises(
        SettingsError, match=r"^sources.netsuite.order_number_field names transaction.custbody_now"
    ):
        client.check()
    with pytest.raises(SourceSchemaError, match="custbody_nowhere"):
        list(client.listing(MONTH))


def test_columns_that_settings_name_come_with_the_pages(
    connect: Callable[..., NetsuiteClient],
) -> None:
    client = connect(
        order_number_field="transaction.otherrefnum",
        term_field="custitem_term_months",
        custom_fields={"Entity": "transactionline.subsidiary"},
    )
    pages = list(client.listing(MONTH))
    assert any(row.get("value_transaction_otherrefnum") for row in rows(pages, "invoice"))
    lines = rows(pages, "transaction_line")
    assert "12" in {row.get("value_item_custitem_term_months") for row in lines}
    assert "Fernhill Software" in {row["text_transactionline_subsidiary"] for row in lines}


def test_more_columns_than_netsuite_answers_are_refused_for_it_would_answer_nothing(
    connect: Callable[..., NetsuiteClient],
) -> None:
    fields = {f"F{number}": f"custcol{number}" for number in range(80)}
    client = connect(custom_fields=fields)

    with pytest.raises(SettingsError, match="more than 100 columns"):
        client.check()


# -- faults --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["429", "limit", "503", "500", "html", "reset", "truncate"])
def test_a_passing_fault_costs_a_retry_and_nothing_else(
    connect: Callable[..., NetsuiteClient], sandbox: Sandbox, kind: str
) -> None:
    client = connect()
    whole = list(client.listing(MONTH))
    sandbox.fault("netsuite", kind, path=SUITEQL, times=2)
    pages = list(client.listing(MONTH))
    assert [page.body for page in pages] == [page.body for page in whole]


@pytest.mark.parametrize("kind", ["429", "limit"])
def test_no_free_place_for_too_long_is_a_retryable_limit(
    connect: Callable[..., NetsuiteClient], sandbox: Sandbox, naps: Naps, kind: str
) -> None:
    sandbox.fault("netsuite", kind, path=SUITEQL, times=9)
    with pytest.raises(SourceLimitError, match="lower concurrency") as caught:
        connect().check()
    assert caught.value.retryable is True
    assert naps == sorted(naps)  # there is no Retry-After: each pause is longer than the last
    assert len(naps) == 5


def test_an_unexpected_error_that_stays_ends_after_a_few_tries(
    connect: Callable[..., NetsuiteClient], sandbox: Sandbox
) -> None:
    client = connect()
    client.check()
    before = asked(sandbox)
    sandbox.fault("netsuite", "500", path=SUITEQL, times=9)
    with pytest.raises(SourceTimeoutError, match="UNEXPECTED_ERROR"):
        client.server_time()
    assert asked(sandbox) - before == 3


def test_a_missing_permission_says_what_to_give_to_the_role(
    connect: Callable[..., NetsuiteClient], sandbox: Sandbox
) -> None:
    sandbox.fault("netsuite", "403", path=SUITEQL)
    with pytest.raises(SourceAuthError, match=r"INSUFFICIENT_PERMISSION.*SuiteAnalytics Workbook"):
        connect().server_time()


def test_a_refused_query_tells_netsuites_reason_on_one_line(
    connect: Callable[..., NetsuiteClient],
) -> None:
    with pytest.raises(QueryError, match="Field 'x' for record 'transaction'") as caught:
        connect()._api.query("SELECT t.x FROM transaction t")
    assert "\n" not in str(caught.value)


def test_html_that_stays_names_path_status_and_type(
    connect: Callable[..., NetsuiteClient], sandbox: Sandbox
) -> None:
    sandbox.fault("netsuite", "html", path=SUITEQL, times=9, status=200)
    with pytest.raises(SourceSchemaError, match=rf"POST {SUITEQL} answered HTTP 200.*text/html"):
        connect().server_time()


def test_nothing_that_answers_is_a_timeout(sandbox: Sandbox, naps: Naps) -> None:
    dead = secrets(sandbox, way="tba", api_url="http://127.0.0.1:9")
    client = NetsuiteClient(dead, timezone="UTC", settings=NetsuiteSettings(), sleep=naps.sleep)
    with client, pytest.raises(SourceTimeoutError, match=r"nothing answers at http://127.0.0.1:9"):
        client.check()


def test_every_failure_is_a_source_error(
    connect: Callable[..., NetsuiteClient], sandbox: Sandbox
) -> None:
    client = connect()
    client.check()
    for kind in ("401", "403", "429", "500", "503", "html"):
        sandbox.fault("netsuite", kind, path=SUITEQL, times=9)
        with pytest.raises(SourceError):
            client.server_time()
        sandbox.command("reset")  # what is left of the fault
        client._api._login.expired()
