"""The Sage Intacct client against the sandbox: sessions, pages, changes, and each fault."""

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from conftest import Sandbox
from defusedxml import ElementTree
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pipeline import Pipeline

from resources import sage_intacct as module
from resources.registry import resource_of, why_not_connected
from resources.sage_intacct import SageIntacctClient
from resources.sage_intacct_api import GATEWAY, Formats, SageIntacctSecrets, read_query
from revrec_pipeline.errors import (
    SettingsError,
    SourceAuthError,
    SourceError,
    SourceLimitError,
    SourceSchemaError,
    SourceTimeoutError,
)
from revrec_pipeline.lake import KEYS, Page
from revrec_pipeline.mapping.sage_intacct_settings import SageIntacctSettings
from revrec_pipeline.periods import period_range
from revrec_pipeline.settings import Settings

HOURS = 3600
ORDERS = {"order_documents": ("Sales Order",), "return_documents": ("Sales Return",)}


class Harness:
    """A client of the sandbox that does not really sleep, and what it would have slept."""

    def __init__(self, sandbox: Sandbox, **settings: Any) -> None:
        self.sandbox = sandbox
        self.naps: list[float] = []
        self.client = SageIntacctClient(
            secrets(sandbox),
            timezone="America/New_York",
            settings=SageIntacctSettings(**settings),
            sleep=self.sleep,
        )

    def sleep(self, seconds: float) -> None:
        """Remember a pause between two tries; the pace between two requests is not one."""
        if seconds > 0.06:
            self.naps.append(seconds)

    def listing(self, period: str) -> list[Page]:
        """All pages of a month."""
        return list(self.client.listing(period))

    def changes(self, hours: float = 1) -> list[Page]:
        """All pages of what changed in the last hours, as if the vendor had no lag."""
        now = self.client.server_time()
        return list(self.client.changes(now - timedelta(hours=hours), now + timedelta(seconds=2)))

    @property
    def asked(self) -> int:
        """How many requests there were."""
        return self.sandbox.requests("sage_intacct").get(GATEWAY, 0)

    def command(self, op: str, **fields: Any) -> dict[str, Any]:
        """A command to the sandbox's Intacct."""
        return self.sandbox.command(op, source="sage_intacct", **fields)

    def fault(self, kind: str, **fields: Any) -> None:
        """Arm a fault."""
        self.sandbox.fault("sage_intacct", kind, **fields)

    def find(self, number: str, name: str = "ARINVOICE") -> str:
        """The RECORDNO of a document."""
        return str(self.command("find", object=name, number=number)["id"])


def secrets(sandbox: Sandbox, **fields: Any) -> SageIntacctSecrets:
    """The secrets that the sandbox takes."""
    env = {
        name.removeprefix("SAGE_INTACCT_").lower(): value
        for name, value in sandbox.env.items()
        if name.startswith("SAGE_INTACCT_")
    }
    return SageIntacctSecrets.model_validate({**env, **fields})


@pytest.fixture
def intacct(sandbox: Sandbox) -> Iterator[Harness]:
    harness = Harness(sandbox)
    with harness.client:
        yield harness


@pytest.fixture
def orders(sandbox: Sandbox) -> Iterator[Harness]:
    harness = Harness(sandbox, **ORDERS)
    with harness.client:
        yield harness


def ids(pages: list[Page], kind: str = "invoice") -> list[str]:
    """The ids of the documents on pages, but for tombstones."""
    return [one["id"] for one in keys(pages, kind) if one["period"]]


def keys(pages: list[Page], kind: str = "invoice") -> list[dict[str, Any]]:
    """The keys of the documents on pages."""
    return [
        row
        for page in pages
        if page.object == kind and page.keys is not None
        for row in page.keys.to_pylist()
    ]


def records(pages: list[Page], name: str) -> list[dict[str, str | None]]:
    """The records of one raw object."""
    return [
        {field.tag: field.text for field in record}
        for page in pages
        if page.object == name
        for record in ElementTree.fromstring(page.body).find("operation/result/data")
    ]


# -- who and when --------------------------------------------------------------------------------


def test_check_names_the_company(intacct: Harness) -> None:
    connection = intacct.client.check()
    assert (connection.account_id, connection.account_name) == ("fernhill", "fernhill")
    assert (connection.api_version, connection.missing) == ("3.0", ())


def test_check_names_the_permission_that_the_user_lacks(intacct: Harness) -> None:
    intacct.command("deny", object="ARADJUSTMENT")
    intacct.command("deny", object="AUDITHISTORY")
    assert intacct.client.check().missing == (
        "read access to AR adjustments (ARADJUSTMENT)",
        "read access to the audit history (AUDITHISTORY)",
    )


def test_check_names_fields_that_the_company_lacks_and_the_rest_is_read(intacct: Harness) -> None:
    intacct.command("hide", object="ARINVOICEITEM", field="REVRECSTARTDATE")
    assert intacct.client.check().missing == ("ARINVOICEITEM.REVRECSTARTDATE",)
    assert len(ids(intacct.listing("2026-01"))) == 6


def test_a_missing_permission_ends_a_listing_and_says_for_what(intacct: Harness) -> None:
    intacct.command("deny", object="ARADJUSTMENT")
    with pytest.raises(SourceAuthError, match=r"user xml_gateway may not .*on ARADJUSTMENT"):
        intacct.listing("2026-01")
    assert intacct.naps == []


def test_a_field_that_a_setting_names_and_nobody_has_is_refused_by_name(sandbox: Sandbox) -> None:
    harness = Harness(sandbox, customer_id_field="CUSTOMER.SALESFORCE_ID")
    with harness.client, pytest.raises(SettingsError, match=r"customer_id_field.*SALESFORCE_ID"):
        harness.client.check()
    with harness.client, pytest.raises(SettingsError, match=r"customer_id_field"):
        harness.listing("2026-01")


def test_a_field_that_is_spelt_wrong_is_told_with_the_right_one(sandbox: Sandbox) -> None:
    harness = Harness(sandbox, order_number_field="DOC_NUMBER")
    with harness.client, pytest.raises(SettingsError) as caught:
        harness.client.check()
    assert str(caught.value) == (
        "[sources.sage_intacct] order_number_field: no field 'DOC_NUMBER' in ARINVOICE nor "
        "ARADJUSTMENT; did you mean 'DOCNUMBER'?"
    )


def test_without_a_field_that_keys_need_nothing_is_listed(intacct: Harness) -> None:
    intacct.command("hide", object="ARINVOICEITEM", field="RECORDKEY")
    with pytest.raises(SourceSchemaError, match=r"has no ARINVOICEITEM\.RECORDKEY that we may"):
        intacct.listing("2026-01")


def test_related_fields_are_read_with_the_document(sandbox: Sandbox) -> None:
    named = {"customer_id_field": "CUSTOMER.CRM_ACCOUNT", "term_field": "ITEM.TERM_MONTHS"}
    harness = Harness(sandbox, **named, custom_fields={"Department": "DEPARTMENTID"})
    with harness.client:
        pages = harness.listing("2026-01")
    assert all(record["CUSTOMER.CRM_ACCOUNT"] for record in records(pages, "invoice"))
    assert "12" in {record["ITEM.TERM_MONTHS"] for record in records(pages, "invoice_line")}
    assert "DEPARTMENTID" not in records(pages, "invoice")[0]  # only lines have it


def test_an_unknown_transaction_definition_is_refused_with_those_that_there_are(
    sandbox: Sandbox,
) -> None:
    harness = Harness(sandbox, order_documents=("Order",))
    with harness.client, pytest.raises(SourceError, match=r"'Order' not found"):
        harness.client.check()
    harness = Harness(sandbox, order_documents=("Sales Order", "Return"))
    with harness.client, pytest.raises(SettingsError, match=r"'Return' .*Sales Invoice, Sales O"):
        harness.client.check()


def test_server_time_is_the_clock_of_the_source(intacct: Harness) -> None:
    intacct.sandbox.command("advance", seconds=90 * 86400)
    ahead = intacct.client.server_time() - datetime.now(UTC)
    assert timedelta(days=89) < ahead < timedelta(days=91)


# -- secrets -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["COMPANY_ID", "SENDER_ID", "SENDER_PASSWORD", "USER_ID", "USER_PASSWORD"]
)
@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_variable_is_named(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, name: str, value: str | None
) -> None:
    for variable, given_ in sandbox.env.items():
        monkeypatch.setenv(variable, given_)
    assert why_not_connected("sage_intacct") is None
    monkeypatch.delenv(f"SAGE_INTACCT_{name}")
    if value is not None:
        monkeypatch.setenv(f"SAGE_INTACCT_{name}", value)
    assert str(why_not_connected("sage_intacct")) == f"SAGE_INTACCT_{name} is not set"


def test_an_api_url_that_is_no_origin_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COMPANY_ID", "SENDER_ID", "SENDER_PASSWORD", "USER_ID", "USER_PASSWORD"):
        monkeypatch.setenv(f"SAGE_INTACCT_{name}", "x")
    monkeypatch.setenv("SAGE_INTACCT_API_URL", "127.0.0.1:8800")
    with pytest.raises(SettingsError, match=r"^SAGE_INTACCT_API_URL: '127"):
        SageIntacctSecrets.from_env()


def test_no_password_shows_in_the_secrets_or_on_a_page(intacct: Harness) -> None:
    given_ = secrets(intacct.sandbox)
    passwords = [given_.sender_password.get_secret_value(), given_.user_password.get_secret_value()]
    shown = [repr(given_), *(page.request for page in intacct.listing("2026-01"))]
    assert not [text for text in shown for password in passwords if password in text]


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("sender_id", "Somebody", "SAGE_INTACCT_SENDER_ID"),
        ("sender_password", "wrong-and-secret", "SAGE_INTACCT_SENDER_PASSWORD"),
        ("company_id", "acme", "SAGE_INTACCT_COMPANY_ID"),
        ("user_id", "guest", "SAGE_INTACCT_USER_ID"),
        ("user_password", "wrong-and-secret", "SAGE_INTACCT_USER_PASSWORD"),
        ("entity_id", "FR", r"SAGE_INTACCT_ENTITY_ID \(FR\)"),
    ],
)
def test_a_wrong_secret_ends_at_once_and_names_the_variable(
    sandbox: Sandbox, field: str, value: str, named: str
) -> None:
    naps: list[float] = []
    client = SageIntacctClient(
        secrets(sandbox, **{field: value}),
        timezone="UTC",
        settings=SageIntacctSettings(),
        sleep=naps.append,
    )
    with client, pytest.raises(SourceAuthError, match=named) as caught:
        client.check()
    assert "wrong-and-secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sandbox.requests("sage_intacct") == {GATEWAY: 1}


# -- sessions ------------------------------------------------------------------------------------


def test_one_log_in_serves_a_whole_listing(intacct: Harness) -> None:
    intacct.listing("2026-01")
    before = intacct.asked
    intacct.listing("2026-01")
    assert intacct.asked == before + 3  # invoices, their lines, adjustments


def test_a_session_that_ends_in_the_middle_is_renewed_once(sandbox: Sandbox) -> None:
    intacct = Harness(sandbox, concurrency=1)  # of two in flight, both would be refused
    expected = ids(intacct.listing("2026-01"))
    intacct.command("expire_sessions")
    before = intacct.asked
    assert ids(intacct.listing("2026-01")) == expected
    assert intacct.asked == before + 3 + 2  # one refusal, one log-in
    assert intacct.naps == []
    intacct.client.__exit__(None, None, None)


def test_two_threads_with_an_ended_session_log_in_once(
    intacct: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DOCUMENTS_PER_QUERY", 3)
    pages = intacct.client.listing("2026-05")
    next(pages)
    intacct.command("expire_sessions")
    before = intacct.asked
    rest = list(pages)
    lines = [page for page in rest if page.object == "invoice_line"]
    refused_at_most = 2
    assert len(lines) == 4
    assert intacct.asked - before <= len(lines) + 1 + refused_at_most + 1


def test_a_session_that_is_refused_right_after_the_log_in_is_an_error(intacct: Harness) -> None:
    intacct.client.server_time()
    intacct.fault("session", times=1)
    intacct.fault("session", times=1, after=1)
    with pytest.raises(SourceError, match="also right after logging in") as caught:
        intacct.client.server_time()
    assert caught.value.code == "SYNC_AUTH"


def test_at_most_two_requests_are_in_flight(
    intacct: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DOCUMENTS_PER_QUERY", 1)
    intacct.fault("slow", times=6, seconds=0.02)
    intacct.listing("2026-05")
    assert intacct.sandbox.state()["most_at_once"]["sage_intacct"] <= 2


def test_two_are_used_where_there_is_enough_to_ask_for(
    intacct: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DOCUMENTS_PER_QUERY", 1)
    intacct.fault("slow", times=4, after=4, seconds=0.5)
    intacct.listing("2026-05")
    assert intacct.sandbox.state()["most_at_once"]["sage_intacct"] == 2


def test_another_entity_is_another_account(sandbox: Sandbox) -> None:
    client = SageIntacctClient(
        secrets(sandbox, entity_id="UK"), timezone="UTC", settings=SageIntacctSettings()
    )
    with client:
        connection = client.check()
    assert (connection.account_id, connection.account_name) == (
        "fernhill/UK",
        "fernhill, entity UK",
    )


def test_an_entity_sees_its_own_documents_and_the_top_level_all(sandbox: Sandbox) -> None:
    def customers(entity: str | None) -> set[str | None]:
        client = SageIntacctClient(
            secrets(sandbox, entity_id=entity), timezone="UTC", settings=SageIntacctSettings()
        )
        with client:
            pages = list(client.listing("2026-05"))
        return {record["MEGAENTITYID"] for record in records(pages, "invoice")}

    assert customers(None) == {None, "UK", "DE"}  # showprivate
    assert customers("UK") == {"UK"}


# -- a month -------------------------------------------------------------------------------------


def test_a_month_brings_documents_and_all_of_their_lines(intacct: Harness) -> None:
    pages = intacct.listing("2026-03")
    invoices, adjustments = records(pages, "invoice"), records(pages, "adjustment")
    assert {record["WHENCREATED"][:2] for record in invoices if record["WHENCREATED"]} == {"03"}
    assert [record["RECORDID"] for record in adjustments] == ["CM9101", "CM9102", "DM9103"]
    parents = {record["RECORDKEY"] for record in records(pages, "invoice_line")}
    assert parents == set(ids(pages))
    assert {page.format for page in pages} == {"xml"}
    assert all(page.keys is None for page in pages if page.object.endswith("_line"))


def test_lines_sum_up_to_the_total_of_every_document(orders: Harness) -> None:
    for period in period_range("2025-10", "2026-06"):
        pages = orders.listing(period)
        for kind in ("invoice", "adjustment"):
            for header in records(pages, kind):
                total = sum(
                    Decimal(row["TRX_AMOUNT"] or 0)
                    for row in records(pages, f"{kind}_line")
                    if row["RECORDKEY"] == header["RECORDNO"]
                )
                sign = -1 if header["RECORDID"] == "CM9102" else 1
                assert total == sign * Decimal(header["TRX_TOTALENTERED"] or 0)


def test_all_months_together_bring_every_document_once(intacct: Harness) -> None:
    found = [
        one for period in period_range("2023-07", "2026-06") for one in ids(intacct.listing(period))
    ]
    assert len(found) == len(set(found)) == 159


def test_keys_have_the_instant_in_utc_and_the_month_of_the_document_date(
    intacct: Harness,
) -> None:
    """The user's clocks are eight hours behind UTC, and dates are written month first."""
    pages = intacct.listing("2026-05")
    number = intacct.find("SI0137")
    (key,) = [key for key in keys(pages) if key["id"] == number]
    assert key == {
        "id": number,
        "version": "2026-05-20T17:05:00Z",
        "period": "2026-05",
        "window": "2026-05",
    }
    (header,) = [row for row in records(pages, "invoice") if row["RECORDNO"] == number]
    assert header["WHENMODIFIED"] == "05/20/2026 09:05:00"
    assert pages[0].keys is not None
    assert pages[0].keys.schema == KEYS


def test_a_document_that_was_never_edited_is_stamped_by_its_creation(intacct: Harness) -> None:
    pages = intacct.listing("2026-05")
    number = intacct.find("IN0136")
    (header,) = [row for row in records(pages, "invoice") if row["RECORDNO"] == number]
    assert header["WHENMODIFIED"] is None
    (key,) = [key for key in keys(pages) if key["id"] == number]
    assert key["version"] == "2026-05-09T17:05:00Z"


def test_a_month_without_documents_is_empty_and_asks_once_for_each_kind(
    intacct: Harness,
) -> None:
    assert [page.records for page in intacct.listing("2022-01")] == []


@pytest.mark.parametrize("size", [1, 2, 4, 11, 12, 13])
def test_pages_of_any_size_bring_the_same(
    orders: Harness, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    names = ("invoice", "invoice_line", "order", "order_line")
    expected = {name: records(orders.listing("2026-05"), name) for name in names}
    assert len(expected["invoice"]) == 12
    monkeypatch.setattr(module, "PAGE_SIZE", size)
    found = orders.listing("2026-05")
    for name in names:
        ordered = sorted(records(found, name), key=lambda row: int(row["RECORDNO"] or 0))
        assert ordered == sorted(expected[name], key=lambda row: int(row["RECORDNO"] or 0))


def test_an_edit_below_the_pages_loses_nothing(
    intacct: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An offset would skip a row when one before it leaves the set."""
    expected = ids(intacct.listing("2026-05"))
    monkeypatch.setattr(module, "PAGE_SIZE", 4)
    pages = intacct.client.listing("2026-05")
    first = next(pages)
    gone = ids([first])[0]
    intacct.command("edit", object="ARINVOICE", id=gone, fields={"WHENCREATED": "2026-01-05"})
    assert ids([first, *pages]) == expected


def test_orders_are_asked_for_by_transaction_definition(orders: Harness) -> None:
    pages = orders.listing("2026-04")
    assert {row["DOCPARID"] for row in records(pages, "order")} == {"Sales Order", "Sales Return"}
    parents = {row["DOCHDRNO"] for row in records(pages, "order_line")}
    assert parents == set(ids(pages, "order"))


def test_without_the_setting_no_order_is_read(intacct: Harness) -> None:
    assert {page.object for page in intacct.listing("2026-03")} == {
        "invoice",
        "invoice_line",
        "adjustment",
        "adjustment_line",
    }


def test_ids_are_those_of_the_listing(orders: Harness) -> None:
    pages = orders.listing("2026-03")
    swept = [row for batch in orders.client.ids("2026-03") for row in batch.to_pylist()]
    for kind in ("invoice", "adjustment", "order"):
        assert [row["id"] for row in swept if row["object"] == kind] == ids(pages, kind)


@pytest.mark.parametrize(
    ("counts", "records_", "reason"),
    [
        ({"totalcount": 5, "count": 3, "numremaining": 2}, 2, "holds 2 records, counts 3"),
        ({"totalcount": 5, "count": 2, "numremaining": 0}, 2, "of 5, and should hold 3"),
        ({"totalcount": 5, "count": 3, "numremaining": 0}, 3, "with 0 remaining of 5"),
        ({"totalcount": 0, "count": 1, "numremaining": 0}, 1, "should hold 0"),
    ],
)
def test_a_page_that_is_not_as_long_as_it_says_is_refused_memberjunction_2472(
    counts: dict[str, int], records_: int, reason: str
) -> None:
    attributes = " ".join(f'{name}="{count}"' for name, count in counts.items())
    page = ElementTree.fromstring(f"<data {attributes}>{'<ARINVOICE/>' * records_}</data>")
    with pytest.raises(ValueError, match=reason):
        read_query("ARINVOICE", 3)(page)


def test_a_page_out_of_order_is_refused(intacct: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an order the gateway answers in any; the next page would begin anywhere."""
    unordered = module.query

    def query(*args: Any, **options: Any) -> str:
        asked = unordered(*args, **options)
        begin, _, rest = asked.partition("<orderby>")
        return begin + rest.partition("</orderby>")[2]

    monkeypatch.setattr(module, "query", query)
    with pytest.raises(SourceSchemaError, match=r"pages must ascend, or rows would be lost"):
        intacct.listing("2026-05")


# -- a window ------------------------------------------------------------------------------------


def test_a_quiet_window_is_empty(intacct: Harness) -> None:
    assert intacct.changes() == []


def test_an_edited_line_brings_its_document_with_all_lines(intacct: Harness) -> None:
    found = intacct.command("find", object="ARINVOICE", number="IN9401")
    line = found["lines"][1]
    intacct.command("edit", object="ARINVOICEITEM", id=line, fields={"ITEMID": "TRAINING"})
    pages = intacct.changes()
    assert ids(pages) == [str(found["id"])]
    assert [row["ITEMID"] for row in records(pages, "invoice_line")] == ["SEAT", "TRAINING"]


def test_lines_of_orders_are_asked_for_by_document_intacct_sdk_js_63(orders: Harness) -> None:
    """A filter on their WHENMODIFIED times out."""
    number = orders.find("SO9601", "SODOCUMENT")
    orders.command("edit", object="SODOCUMENT", id=number, fields={"STATE": "Converted"})
    pages = orders.changes()
    assert ids(pages, "order") == [number]
    (lines,) = [page for page in pages if page.object == "order_line"]
    asked = lines.request.partition("<filter>")[2].partition("</filter>")[0]
    assert asked == f"<in><field>DOCHDRNO</field><value>{number}</value></in>"


def test_a_new_document_that_was_never_edited_is_found_by_its_creation(intacct: Harness) -> None:
    fields = {"number": "IN1", "customer": "lumen", "date": "2026-06-30", "amount": 5}
    added = intacct.command("add", object="ARINVOICE", fields={**fields, "edited": False})
    assert ids(intacct.changes()) == [str(added["id"])]


def test_a_whole_window_of_rows_with_one_stamp_is_read(
    intacct: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The migration stamped everything before 2025 in one second (hotgluexyz/tap-intacct)."""
    monkeypatch.setattr(module, "PAGE_SIZE", 10)
    night = datetime(2025, 1, 2, 8, 0, tzinfo=UTC)
    pages = list(intacct.client.changes(night, night + timedelta(seconds=1)))
    assert len(ids(pages)) == 54
    assert list(intacct.client.changes(night - timedelta(hours=1), night)) == []


def test_an_edited_order_leaves_a_tombstone_and_a_new_invoice_of_the_same_number(
    intacct: Harness,
) -> None:
    old = intacct.find("SI0137")
    new = str(intacct.command("edit_order", id=old, factor=0.5)["id"])
    pages = intacct.changes()
    tombstone, document = keys(pages)
    assert (tombstone["id"], tombstone["period"], tombstone["window"]) == (old, None, None)
    assert (document["id"], document["period"]) == (new, "2026-05")
    assert [row["RECORDID"] for row in records(pages, "invoice") if row.get("RECORDID")] == [
        "SI0137"
    ]
    (deleted,) = [row for row in records(pages, "invoice") if row.get("OBJECTKEY")]
    assert deleted["OBJECTKEY"] == f"{old}--REC"
    assert pages[0].keys is not None
    assert pages[0].keys.to_pylist() == [tombstone]  # deletes come before what replaces them


def test_a_tombstone_sorts_behind_the_last_version_of_the_same_second(intacct: Harness) -> None:
    number = intacct.find("SI0134")
    intacct.command("edit", object="ARINVOICE", id=number, fields={"STATE": "Paid"})
    (document,) = keys(intacct.changes())
    intacct.command("delete", object="ARINVOICE", id=number)
    (tombstone,) = keys(intacct.changes())
    assert tombstone["id"] == document["id"]
    assert tombstone["version"] > document["version"]


def test_more_deletions_than_fit_on_a_page_are_all_read(
    intacct: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE_SIZE", 2)
    gone = ids(intacct.listing("2025-03"))
    for number in gone:
        intacct.command("delete", object="ARINVOICE", id=number)
    assert sorted(key["id"] for key in keys(intacct.changes())) == sorted(gone)


def test_a_deleted_adjustment_is_only_missing_from_the_ids(intacct: Harness) -> None:
    """The audit history does not know adjustments (hotgluexyz/tap-intacct)."""
    number = intacct.find("CM9101", "ARADJUSTMENT")
    intacct.command("delete", object="ARADJUSTMENT", id=number)
    assert intacct.changes() == []
    swept = [row for batch in intacct.client.ids("2026-03") for row in batch.to_pylist()]
    assert number not in [row["id"] for row in swept if row["object"] == "adjustment"]


def test_a_reversal_brings_both_documents(intacct: Harness) -> None:
    old = intacct.find("SI0134")
    new = intacct.command("reverse", id=old, on="2026-06-29")["id"]
    pages = intacct.changes()
    states = {row["RECORDNO"]: row["STATE"] for row in records(pages, "invoice")}
    assert states == {old: "Reversed", str(new): "Reversal"}


def test_a_change_that_shows_two_hours_late_is_in_a_later_window(intacct: Harness) -> None:
    """The stamp is that of the change; a window without lag would have passed it by."""
    client = intacct.client
    number = intacct.find("SI0134")
    edit = {"op": "edit", "source": "sage_intacct", "object": "ARINVOICE", "id": number}
    at, command = intacct.sandbox.state()["now"], edit | {"fields": {"STATE": "Paid"}}
    intacct.sandbox.command("as_of", at=at, command=command, visible_in=1.9 * HOURS)
    end = client.server_time() - client.lag
    first = list(client.changes(end - timedelta(hours=1), end))
    intacct.sandbox.command("advance", seconds=2 * HOURS + 60)
    later = client.server_time() - client.lag
    second = list(client.changes(end - client.lookback, later))
    assert (ids(first), ids(second)) == ([], [number])


def test_the_lookback_covers_the_audit_history_and_a_change_of_clocks() -> None:
    assert SageIntacctClient.lag == timedelta(hours=2)
    assert SageIntacctClient.lookback >= timedelta(hours=2.5)


def test_windows_are_written_on_the_users_clocks(intacct: Harness) -> None:
    number = intacct.find("SI0134")
    for offset in (-8, 9.5, 0):
        intacct.command("user", fields={"offset": offset})
        intacct.command("edit", object="ARINVOICE", id=number, fields={"STATE": "Paid"})
        with Harness(intacct.sandbox).client as client:
            now = client.server_time()
            pages = list(client.changes(now - timedelta(minutes=5), now + timedelta(seconds=2)))
        (key,) = keys(pages)
        stamp = datetime.fromisoformat(key["version"])
        assert abs(stamp - now) < timedelta(minutes=5)


def test_a_stamp_of_a_date_alone_is_its_midnight_on_the_users_clocks() -> None:
    formats = Formats(timezone(timedelta(hours=-8)))
    assert formats.stamp("05/20/2026") == "2026-05-20T08:00:00Z"
    assert formats.stamp("05/20/2026 17:30:01") == "2026-05-21T01:30:01Z"
    with pytest.raises(ValueError, match="does not match format"):
        formats.stamp("20.05.2026 17:30:01")


@pytest.mark.parametrize("fields", [{"date_format": "/dmY"}, {"clock": "12"}])
def test_a_user_who_reads_other_dates_is_refused_with_what_to_do(
    intacct: Harness, fields: dict[str, str]
) -> None:
    intacct.command("user", fields=fields)
    with pytest.raises(SettingsError, match=r"set MM/DD/YYYY and 24 hours in its preferences"):
        intacct.client.check()


@hypothesis_settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(size=st.integers(1, 7), lines=st.lists(st.integers(1, 5), min_size=1, max_size=5))
def test_any_number_of_lines_comes_whole(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, size: int, lines: list[int]
) -> None:
    sandbox.command("reset")
    harness = Harness(sandbox)
    for number, count in enumerate(lines):
        fields = {"number": f"X{number}", "customer": "lumen", "date": "2026-07-01", "amount": 1}
        harness.command("add", object="ARINVOICE", fields={**fields, "lines": count})
    monkeypatch.setattr(module, "PAGE_SIZE", size)
    monkeypatch.setattr(module, "DOCUMENTS_PER_QUERY", 2)
    with harness.client:
        pages = harness.changes()
    assert len(records(pages, "invoice_line")) == sum(lines)


# -- faults --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["429", "GW-0010", "XL03000009", "500", "502", "503", "html", "reset", "truncate"]
)
def test_what_passes_is_waited_out(intacct: Harness, kind: str) -> None:
    expected = ids(intacct.listing("2026-05"))
    intacct.fault(kind, times=1)
    assert ids(intacct.listing("2026-05")) == expected


@pytest.mark.parametrize("kind", ["429", "GW-0010"])
def test_a_limit_that_stays_is_named(intacct: Harness, kind: str) -> None:
    intacct.client.server_time()
    intacct.fault(kind, times=99)
    with pytest.raises(SourceLimitError, match="too many requests") as caught:
        intacct.client.server_time()
    assert caught.value.retryable
    assert len(intacct.naps) == 5


def test_an_outage_that_stays_is_a_timeout(intacct: Harness) -> None:
    intacct.client.server_time()
    intacct.fault("reset", times=99)
    with pytest.raises(SourceTimeoutError, match="failed on every try"):
        intacct.client.server_time()


def test_a_page_of_cloudflare_is_told_as_such_tap_intacct_37(intacct: Harness) -> None:
    intacct.fault("cloudflare", times=99)
    with pytest.raises(SourceSchemaError, match=r"HTTP 403.*text/html.*proxy or firewall"):
        intacct.client.server_time()


@pytest.mark.parametrize("kind", ["empty", "truncate", "entities"])
def test_a_body_that_stays_wrong_is_refused(intacct: Harness, kind: str) -> None:
    intacct.client.server_time()
    intacct.fault(kind, times=99)
    with pytest.raises(SourceSchemaError, match="not what the API promises"):
        intacct.client.server_time()


def test_an_answer_to_another_call_is_refused(intacct: Harness) -> None:
    intacct.client.server_time()
    intacct.fault("repeat", times=99)
    with pytest.raises(SourceSchemaError, match="it answers another call"):
        intacct.client.server_time()


def test_a_field_that_is_gone_since_is_told_in_intacts_words(intacct: Harness) -> None:
    intacct.listing("2026-01")
    intacct.command("hide", object="ARINVOICE", field="DOCNUMBER")
    with pytest.raises(
        SourceSchemaError, match=r"DL02000001: Field DOCNUMBER not found in object ARINVOICE"
    ):
        intacct.listing("2026-01")
    assert intacct.naps == []


def test_retries_are_logged_without_a_secret(
    intacct: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    intacct.fault("GW-0010", times=1)
    with caplog.at_level(logging.WARNING):
        intacct.client.server_time()
    assert "too many requests (GW-0010); try 2 of 6" in caplog.text
    assert "Pa55" not in caplog.text


# -- the whole way -------------------------------------------------------------------------------


def test_the_resource_passes_on_what_somebody_has_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REVREC_CONFIG", raising=False)
    made = resource_of("sage_intacct", Settings())
    assert (made.timezone, made.settings) == ("UTC", {})


def amounts(job: dict[str, Any]) -> dict[str, int]:
    """The counts of a job that are not zero."""
    return {name: count for name, count in job["counts"].items() if count}


def test_a_month_becomes_rows_and_a_change_takes_a_document_out_of_it(
    sandbox: Sandbox, pipeline: Pipeline
) -> None:
    pipeline.run("sync_sage_intacct", "2026-05")
    pipeline.route()
    job = pipeline.job("sage_intacct", "invoices")
    assert job["status"] == "delivered"
    assert amounts(job) == {"source": 19, "delivered": 12, "flagged": 6, "excluded": 1}

    old = sandbox.command("find", source="sage_intacct", object="ARINVOICE", number="SI0137")["id"]
    sandbox.command("edit_order", source="sage_intacct", id=old, factor=0.5)
    sandbox.command("advance", seconds=3 * HOURS)
    pipeline.run("changes_sage_intacct")
    pipeline.route()
    rebuilt = pipeline.job("sage_intacct", "invoices")
    assert rebuilt["removed"] == [str(old)]
    assert (job["amounts"]["USD"]["source"], rebuilt["amounts"]["USD"]["source"]) == (
        "27790.00",
        "26117.00",  # less half of 3,346: once, and not twice
    )


def test_a_sweep_takes_out_an_adjustment_whose_deletion_nobody_told(
    sandbox: Sandbox, pipeline: Pipeline
) -> None:
    pipeline.run("sync_sage_intacct", "2026-03")
    pipeline.route()
    fields = {"object": "ARADJUSTMENT", "number": "CM9101"}
    number = sandbox.command("find", source="sage_intacct", **fields)["id"]
    sandbox.command("delete", source="sage_intacct", object="ARADJUSTMENT", id=number)
    pipeline.run("sweep_sage_intacct")
    pipeline.route()
    assert pipeline.job("sage_intacct", "invoices")["removed"] == [str(number)]
