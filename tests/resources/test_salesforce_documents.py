"""The Salesforce client with orders, quotes, contracts and commissions, and its listing of ids."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from conftest import Sandbox

from resources.client import IDS
from resources.salesforce import SalesforceClient
from resources.salesforce_login import SalesforceSecrets
from revrec_pipeline.errors import SettingsError, SourceSchemaError
from revrec_pipeline.lake import KEYS, Page
from revrec_pipeline.mapping.salesforce_settings import SalesforceSettings
from revrec_pipeline.sandbox import salesforce_auth as auth

_V = "/services/data/v68.0"
_MONTH = "2026-03"
LINE_SOURCES = {
    "order": ("order", "order_item"),
    "cpq_quote": ("quote", "quote_line"),
    "cpq_subscription": ("contract", "subscription"),
}
CUSTOM = {
    "commissions": True,
    "commission_object": "Commission__c",
    "commission_fields": {
        "opportunity": "Opportunity__c",
        "payee": "Payee__c",
        "amount": "Amount__c",
        "date": "Earned_Date__c",
        "paid_date": "Paid_Date__c",
        "clawback": "Clawback__c",
    },
}


@pytest.fixture
def connect(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., SalesforceClient]]:
    """Makes clients of the sandbox in New York, and closes them."""
    made: list[SalesforceClient] = []
    for name, value in auth.env(sandbox.origin).items():
        monkeypatch.setenv(name, value)

    def make(**settings: Any) -> SalesforceClient:
        client = SalesforceClient(
            SalesforceSecrets.from_env(),
            timezone="America/New_York",
            settings=SalesforceSettings.model_validate(settings),
            sleep=lambda _seconds: None,
        )
        made.append(client)
        return client

    yield make
    for client in made:
        client.__exit__(None, None, None)


def records(pages: list[Page], name: str) -> list[dict[str, Any]]:
    """The records of the REST pages of a raw object."""
    found: list[dict[str, Any]] = []
    for page in pages:
        if page.object == name:
            found += json.loads(page.body)["records"]
    return found


def keys(pages: list[Page]) -> list[dict[str, Any]]:
    batches = [page.keys for page in pages if page.keys is not None]
    return sorted(pa.Table.from_batches(batches, KEYS).to_pylist(), key=lambda key: str(key["id"]))


def begin(sandbox: Sandbox, client: SalesforceClient) -> datetime:
    """Lets time pass, so that what is edited next has a stamp after what this returns."""
    sandbox.command("advance", seconds=5)
    now = client.server_time()
    sandbox.command("advance", seconds=5)
    return now


def changed(client: SalesforceClient, since: datetime) -> list[Page]:
    return list(client.changes(since, since + timedelta(hours=1)))


def edit(sandbox: Sandbox, name: str, id_: str, **fields: Any) -> None:
    sandbox.command("edit", source="salesforce", object=name, id=id_, fields=fields)


# -- a month -----------------------------------------------------------------------------------


@pytest.mark.parametrize("line_source", LINE_SOURCES)
def test_a_month_holds_the_documents_of_the_line_source_with_all_lines_and_nothing_else(
    connect: Callable[..., SalesforceClient], line_source: str
) -> None:
    header, line = LINE_SOURCES[line_source]
    pages = list(connect(line_source=line_source).listing(_MONTH))
    assert [page.object for page in pages] == [header, line]
    documents = {record["Id"] for record in records(pages, header)}
    assert len(documents) > 3
    assert {key["id"] for key in keys(pages)} == documents
    assert {(key["period"], key["window"]) for key in keys(pages)} == {(_MONTH, _MONTH)}
    parent = {"order": "OrderId", "cpq_quote": "SBQQ__Quote__c"}.get(
        line_source, "SBQQ__Contract__c"
    )
    assert {record[parent] for record in records(pages, line)} <= documents


@pytest.mark.parametrize("line_source", LINE_SOURCES)
def test_a_bulk_job_gives_the_same_keys(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox, line_source: str
) -> None:
    settings = {"line_source": line_source, "commissions": True}
    rest = list(connect(**settings).listing(_MONTH))
    bulk = list(connect(**settings, bulk_threshold=0).listing(_MONTH))
    formats = {page.object: page.format for page in bulk}
    assert set(formats.values()) == {"csv", "json"}
    assert formats["currency_type"] == "json"  # few, and always by REST
    assert keys(bulk) == keys(rest)
    assert len(bulk) == len(rest)
    assert sandbox.command("state", source="salesforce") == {"open_jobs": 0}


def test_orders_of_every_status_are_listed_deleted_ones_included(
    connect: Callable[..., SalesforceClient],
) -> None:
    client = connect(line_source="order")
    orders = [
        order
        for month in ("2026-01", "2026-02", "2026-03")
        for order in records(list(client.listing(month)), "order")
    ]
    assert {order["StatusCode"] for order in orders} == {"Activated", "Draft", "Cancelled"}
    assert {order["IsDeleted"] for order in orders} == {True, False}
    originals = [order["OriginalOrder"] for order in orders if order["OriginalOrder"]]
    assert len(originals) == 1


def test_commissions_bring_splits_and_rates_with_the_opportunities(
    connect: Callable[..., SalesforceClient],
) -> None:
    pages = list(connect(commissions=True).listing(_MONTH))
    assert [page.object for page in pages] == [
        "opportunity",
        "opportunity_line_item",
        "opportunity_split",
        "currency_type",
        "dated_conversion_rate",
    ]
    opportunities = {record["Id"] for record in records(pages, "opportunity")}
    splits = records(pages, "opportunity_split")
    assert {split["OpportunityId"] for split in splits} <= opportunities
    assert {split["SplitType"]["DeveloperName"] for split in splits} == {"Revenue", "Overlay"}
    rates = records(pages, "dated_conversion_rate")
    assert {rate["IsoCode"] for rate in rates} == {"EUR", "GBP", "JPY", "KWD", "ISK"}


def test_a_custom_commission_brings_the_orders_of_its_opportunity(
    connect: Callable[..., SalesforceClient],
) -> None:
    client = connect(line_source="order", **CUSTOM)
    pages = list(client.listing(_MONTH))
    wanted = {record["Opportunity__c"] for record in records(pages, "commission")}
    found = {record["OpportunityId"] for record in records(pages, "opportunity_order")}
    assert len(wanted) > 1
    assert found
    assert found <= wanted


def test_a_commission_without_a_date_is_listed_in_the_month_in_which_it_was_made(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox
) -> None:
    client = connect(**CUSTOM)
    now = client.server_time()
    fields = {"Amount__c": 5, "Earned_Date__c": None}
    made = sandbox.command("add", source="salesforce", object="Commission__c", fields=fields)
    month = f"{now:%Y-%m}"
    (key,) = [key for key in keys(list(client.listing(month))) if key["id"] == made["id"]]
    assert (key["period"], key["window"]) == (month, month)
    assert made["id"] in {key["id"] for key in keys(changed(client, now - timedelta(minutes=1)))}


# -- ids ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"line_source": "order", "commissions": True},
        {"line_source": "cpq_quote"},
        {"line_source": "cpq_subscription"},
        CUSTOM,
    ],
)
def test_ids_are_those_of_the_listing_without_fetching_any_record(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox, settings: dict[str, Any]
) -> None:
    client = connect(**settings)
    listed = {
        (page.object, key)
        for page in client.listing(_MONTH)
        if page.keys is not None
        for key in page.keys.column("id").to_pylist()
    }
    before = sandbox.requests("salesforce")[f"{_V}/queryAll"]
    batches = list(client.ids(_MONTH))
    table = pa.Table.from_batches(batches, IDS)
    found = list(zip(table["object"].to_pylist(), table["id"].to_pylist(), strict=True))
    assert set(found) == listed
    assert len(found) == len(set(found)) > 3
    kinds = len({kind for kind, _ in listed})
    assert sandbox.requests("salesforce")[f"{_V}/queryAll"] - before == kinds


def test_ids_follow_pages_and_lack_what_was_deleted_for_good(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox
) -> None:
    client = connect()
    sandbox.command("configure", source="salesforce", page_size=3)
    before = [id_ for batch in client.ids(_MONTH) for id_ in batch.column("id").to_pylist()]
    sandbox.command("delete", source="salesforce", object="Opportunity", id=before[0], hard=True)
    after = [id_ for batch in client.ids(_MONTH) for id_ in batch.column("id").to_pylist()]
    assert sorted(before) == sorted([*after, before[0]])
    assert len(list(client.ids(_MONTH))) > 2


# -- what an org lacks -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("switch", "settings", "message"),
    [
        (
            "without_cpq",
            {"line_source": "cpq_quote"},
            'line_source = "cpq_quote" needs the object SBQQ__Quote__c',
        ),
        (
            "without_cpq",
            {"line_source": "cpq_subscription"},
            'line_source = "cpq_subscription" needs the object SBQQ__Subscription__c',
        ),
        (
            "without_orders",
            {"line_source": "order"},
            'line_source = "order" needs the object Order',
        ),
        (
            "without_splits",
            {"commissions": True},
            "commissions = true needs the object OpportunitySplit",
        ),
        (
            "single_currency",
            {**CUSTOM, "commission_object": "Provision__c"},
            'commission_object = "Provision__c" needs the object Provision__c',
        ),
    ],
)
def test_an_object_that_the_org_lacks_is_refused_by_name(
    connect: Callable[..., SalesforceClient],
    sandbox: Sandbox,
    switch: str,
    settings: dict[str, Any],
    message: str,
) -> None:
    sandbox.command("configure", source="salesforce", **{switch: True})
    whole = (
        f"[sources.salesforce] {message}, which this org lacks or the integration user may not read"
    )
    with pytest.raises(SettingsError) as checked:
        connect(**settings).check()
    assert str(checked.value) == whole
    now = datetime.now(UTC)
    client = connect(**settings)
    for pull in (client.listing(_MONTH), client.changes(now, now), client.ids(_MONTH)):
        with pytest.raises(SourceSchemaError) as pulled:
            list(pull)
        assert str(pulled.value) == f"salesforce: {whole}"


def test_an_org_without_cpq_is_pulled_by_orders_and_opportunities(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox
) -> None:
    sandbox.command("configure", source="salesforce", without_cpq=True)
    for settings in ({}, {"line_source": "order", "commissions": True}):
        client = connect(**settings)
        assert client.check().missing == ()
        assert all(page.records for page in client.listing(_MONTH))


@pytest.mark.parametrize(
    ("switch", "rates"),
    [("single_currency", []), ("without_dated_rates", ["currency_type"])],
)
def test_rates_are_pulled_only_where_the_org_has_them(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox, switch: str, rates: list[str]
) -> None:
    sandbox.command("configure", source="salesforce", **{switch: True})
    client = connect(commissions=True)
    assert client.check().missing == ()
    pages = [page.object for page in client.listing(_MONTH)]
    assert pages[:3] == ["opportunity", "opportunity_line_item", "opportunity_split"]
    assert pages[3:] == rates
    now = client.server_time()
    assert list(client.changes(now, now)) == []


def test_a_split_type_that_the_org_lacks_is_told_with_those_that_it_has(
    connect: Callable[..., SalesforceClient],
) -> None:
    with pytest.raises(SettingsError) as caught:
        connect(commissions=True, commission_split_type="revenue").check()
    assert str(caught.value) == (
        "[sources.salesforce] commission_split_type is revenue; the org's split types are Overlay, "
        "Revenue"
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"line_source": "order", "customer_id_field": "Biling_Id__c"},
            "customer_id_field names Biling_Id__c, which Account lacks; did you mean "
            "Billing_Id__c?",
        ),
        (
            {"line_source": "order", "order_number_field": "sales_order__c"},
            "order_number_field names sales_order__c, which Order lacks; did you mean "
            "Sales_Order__c?",
        ),
        (
            {"line_source": "cpq_quote", "product_id_field": "Zzz__c"},
            "product_id_field names Zzz__c, which Product2 lacks; create it, or let the user read "
            "it",
        ),
        (
            {**CUSTOM, "commission_fields": {**CUSTOM["commission_fields"], "amount": "Amunt__c"}},  # type: ignore[dict-item]
            "commission_fields.amount names Amunt__c, which Commission__c lacks; did you mean "
            "Amount__c?",
        ),
        (
            {"commissions": True, "commission_amount_field": "Comission__c"},
            "commission_amount_field names Comission__c, which Opportunity lacks; did you mean "
            "Commission__c?",
        ),
    ],
)
def test_a_configured_field_that_the_org_lacks_is_refused_by_name(
    connect: Callable[..., SalesforceClient], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        connect(**settings).check()
    assert str(caught.value) == f"[sources.salesforce] {message}"


def test_a_payee_that_is_a_text_has_no_name_to_follow(
    connect: Callable[..., SalesforceClient],
) -> None:
    fields = {**CUSTOM["commission_fields"], "payee": "Payee_Name__c"}  # type: ignore[dict-item]
    page = next(iter(connect(**{**CUSTOM, "commission_fields": fields}).listing(_MONTH)))
    pages = list(connect(**{**CUSTOM, "commission_fields": fields}).listing(_MONTH))
    assert page.object == "opportunity"
    request = next(page.request for page in pages if page.object == "commission")
    assert "Payee_Name__c" in request
    assert "Payee_Name__r" not in request
    pages = list(connect(**CUSTOM).listing(_MONTH))
    assert "Payee__r.Name" in next(page.request for page in pages if page.object == "commission")


# -- a window ----------------------------------------------------------------------------------


@pytest.mark.parametrize("line_source", LINE_SOURCES)
def test_a_changed_line_account_or_product_brings_its_whole_document(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox, line_source: str
) -> None:
    header, line = LINE_SOURCES[line_source]
    client = connect(line_source=line_source)
    month = list(client.listing(_MONTH))
    first = records(month, line)[0]
    parent = next(
        field for field in ("OrderId", "SBQQ__Quote__c", "SBQQ__Contract__c") if field in first
    )
    product = first.get("Product2Id") or first["SBQQ__Product__c"]
    head = next(record for record in records(month, header) if record["Id"] == first[parent])
    account = head.get("AccountId") or head["SBQQ__Account__c"]
    objects = {"order": "OrderItem", "cpq_quote": "SBQQ__QuoteLine__c"}
    for object_, id_, fields in (
        (objects.get(line_source, "SBQQ__Subscription__c"), first["Id"], {"Term__c": 7}),
        ("Account", account, {"Name": "Renamed, Inc."}),
        ("Product2", product, {"Family": "Renamed"}),
    ):
        since = begin(sandbox, client)
        edit(sandbox, object_, id_, **fields)
        pages = changed(client, since)
        assert head["Id"] in {key["id"] for key in keys(pages)}
        siblings = {record["Id"] for record in records(month, line) if record[parent] == head["Id"]}
        assert siblings <= {record["Id"] for record in records(pages, line)}


def test_an_opportunity_that_moves_or_is_opened_again_brings_its_quotes(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox
) -> None:
    """The quote itself does not change by that: its stamp stays, and its month does not."""
    client = connect(line_source="cpq_quote")
    quote = next(
        record
        for record in records(list(client.listing(_MONTH)), "quote")
        if record["SBQQ__Opportunity2__r"]["IsWon"]
    )
    since = begin(sandbox, client)
    edit(
        sandbox,
        "Opportunity",
        quote["SBQQ__Opportunity2__c"],
        StageName="Negotiation",
        CloseDate="2026-04-02",
    )
    pages = changed(client, since)
    (key,) = [key for key in keys(pages) if key["id"] == quote["Id"]]
    assert (key["period"], key["window"]) == ("2026-04", "2026-04")
    (again,) = [record for record in records(pages, "quote") if record["Id"] == quote["Id"]]
    assert again["SBQQ__Opportunity2__r"]["IsWon"] is False


def test_a_quote_that_loses_its_opportunity_leaves_its_month(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox
) -> None:
    for threshold in (2000, 0):
        client = connect(line_source="cpq_quote", bulk_threshold=threshold)
        id_ = next(batch.column("id")[0].as_py() for batch in client.ids(_MONTH))
        since = begin(sandbox, client)
        edit(sandbox, "SBQQ__Quote__c", id_, SBQQ__Opportunity2__c=None)
        (key,) = keys(changed(client, since))
        assert (key["id"], key["period"], key["window"]) == (id_, None, None)


def test_a_line_that_cpq_made_anew_under_another_id_replaces_the_old_one(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox
) -> None:
    client = connect(line_source="cpq_quote")
    line = records(list(client.listing(_MONTH)), "quote_line")[0]
    quote = line["SBQQ__Quote__c"]
    since = begin(sandbox, client)
    delete = {"source": "salesforce", "object": "SBQQ__QuoteLine__c", "hard": True}
    sandbox.command("delete", id=line["Id"], **delete)
    fields = {
        "SBQQ__Quote__c": quote,
        "SBQQ__Product__c": line["SBQQ__Product__c"],
        "SBQQ__Quantity__c": 3,
        "SBQQ__NetPrice__c": 11,
    }
    made = sandbox.command("add", source="salesforce", object="SBQQ__QuoteLine__c", fields=fields)
    ids = {record["Id"] for record in records(changed(client, since), "quote_line")}
    assert made["id"] in ids
    assert line["Id"] not in ids


def test_a_changed_split_brings_its_opportunity_with_lines_and_rates(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox
) -> None:
    client = connect(commissions=True)
    split = records(list(client.listing(_MONTH)), "opportunity_split")[0]
    since = begin(sandbox, client)
    edit(sandbox, "OpportunitySplit", split["Id"], SplitPercentage=50)
    pages = changed(client, since)
    assert [key["id"] for key in keys(pages)] == [split["OpportunityId"]]
    assert {page.object for page in pages} == {
        "opportunity",
        "opportunity_line_item",
        "opportunity_split",
        "currency_type",
        "dated_conversion_rate",
    }


@pytest.mark.parametrize("custom", [False, True])
def test_an_order_that_comes_after_the_commission_brings_it_again(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox, custom: bool
) -> None:
    """Its order number was not known before."""
    own = CUSTOM if custom else {"commissions": True}
    header = "commission" if custom else "opportunity"
    client = connect(line_source="order", **own)
    pages = list(client.listing(_MONTH))
    record = records(pages, header)[0]
    opportunity = record["Opportunity__c"] if custom else record["Id"]
    since = begin(sandbox, client)
    fields = {"OpportunityId": opportunity, "Status": "Activated", "EffectiveDate": "2026-04-01"}
    made = sandbox.command("add", source="salesforce", object="Order", fields=fields)
    pages = changed(client, since)
    assert record["Id"] in {each["Id"] for each in records(pages, header)}
    assert made["id"] in {each["Id"] for each in records(pages, "opportunity_order")}


def test_a_rate_that_is_entered_late_brings_the_opportunities_of_its_days(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox
) -> None:
    """They were flagged PR_MISSING_FX_RATE until then."""
    client = connect(commissions=True)
    month = records(list(client.listing("2025-09")), "opportunity")
    waiting = {each["Id"] for each in month if each["CurrencyIsoCode"] == "KWD"}
    since = begin(sandbox, client)
    fields = {
        "IsoCode": "KWD",
        "StartDate": "2025-09-01",
        "NextStartDate": "2025-10-01",
        "ConversionRate": 0.306,
    }
    sandbox.command("add", source="salesforce", object="DatedConversionRate", fields=fields)
    assert waiting
    assert {key["id"] for key in keys(changed(client, since))} == waiting


def test_a_row_that_becomes_visible_four_minutes_late_is_in_the_next_window_airbyte_27146(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox
) -> None:
    """A window ends five minutes before the org's now, and reaches back into the one before it."""
    client = connect()
    id_ = next(batch.column("id")[0].as_py() for batch in client.ids(_MONTH))
    began = begin(sandbox, client)
    first_end = began + timedelta(minutes=4) - client.lag
    assert list(client.changes(first_end - client.lookback, first_end)) == []
    edit(sandbox, "Opportunity", id_, Description="stamped now, seen only after that window")
    sandbox.command("advance", seconds=600)
    second_end = client.server_time() - client.lag
    found = keys(list(client.changes(first_end - client.lookback, second_end)))
    assert [key["id"] for key in found] == [id_]


def test_many_changes_of_quotes_go_through_jobs(
    connect: Callable[..., SalesforceClient],
) -> None:
    since, until = datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 12, 31, tzinfo=UTC)
    settings = {"line_source": "cpq_quote", "commissions": True}
    rest = list(connect(**settings).changes(since, until))
    bulk = list(connect(**settings, bulk_threshold=100).changes(since, until))
    assert {page.format for page in bulk if page.keys is not None} == {"csv"}
    assert keys(bulk) == keys(rest)
    assert len(keys(rest)) == 195 + 164


# -- public bugs of other connectors -------------------------------------------------------------


def test_an_order_is_in_the_month_of_its_effective_date_whenever_it_was_entered_tap_salesforce_109(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox
) -> None:
    fields = {"Status": "Activated", "EffectiveDate": "2025-02-28", "Name": "Entered late"}
    made = sandbox.command("add", source="salesforce", object="Order", fields=fields)
    pages = list(connect(line_source="order").listing("2025-02"))
    assert made["id"] in {key["id"] for key in keys(pages)}


def test_a_bulk_job_brings_deleted_rows_simple_salesforce_785(
    connect: Callable[..., SalesforceClient],
) -> None:
    pages = list(connect(line_source="order", bulk_threshold=0).listing("2026-03"))
    order = next(page for page in pages if page.object == "order")
    assert order.format == "csv"
    assert b'"true"' in order.body


def test_a_new_field_is_pulled_by_the_next_client_estuary_3493(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox
) -> None:
    sandbox.command("configure", source="salesforce", without_term=True)
    assert "Term__c" not in next(iter(connect().listing(_MONTH))).request
    sandbox.command("configure", source="salesforce")
    lines = list(connect().listing(_MONTH))[1]
    assert "Term__c" in lines.request


def test_a_field_that_goes_away_costs_no_rows_airbyte_77627(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox
) -> None:
    before = list(connect().listing(_MONTH))
    sandbox.command("configure", source="salesforce", single_currency=True, without_term=True)
    after = list(connect().listing(_MONTH))
    assert keys(after) == keys(before)
    for name in ("opportunity", "opportunity_line_item"):
        ids = [{record["Id"] for record in records(pages, name)} for pages in (before, after)]
        assert ids[0] == ids[1]


def test_an_update_by_the_system_is_in_the_window_airbyte_42537_27048(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox
) -> None:
    """The cursor is `SystemModstamp`, which also tells of what no user did: a new total."""
    client = connect()
    line = records(list(client.listing(_MONTH)), "opportunity_line_item")[0]
    since = begin(sandbox, client)
    edit(sandbox, "OpportunityLineItem", line["Id"], UnitPrice=1)
    pages = changed(client, since)
    assert [key["id"] for key in keys(pages)] == [line["OpportunityId"]]
    assert "WHERE SystemModstamp" not in pages[0].request  # the window names, the ids fetch


def test_days_that_follow_from_the_quote_by_formula_come_with_it(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox
) -> None:
    """A formula never changes its record's stamp, so lines alone would not tell."""
    client = connect(line_source="cpq_quote")
    line = records(list(client.listing(_MONTH)), "quote_line")[0]
    since = begin(sandbox, client)
    edit(sandbox, "SBQQ__Quote__c", line["SBQQ__Quote__c"], SBQQ__StartDate__c="2026-07-01")
    lines = records(changed(client, since), "quote_line")
    (again,) = [record for record in lines if record["Id"] == line["Id"]]
    assert again["SBQQ__EffectiveStartDate__c"] == "2026-07-01"


def test_amounts_are_never_asked_for_in_the_users_currency(
    connect: Callable[..., SalesforceClient],
) -> None:
    for settings in ({"commissions": True}, {"line_source": "cpq_quote"}):
        for page in connect(**settings).listing(_MONTH):
            assert "convertCurrency" not in page.request


@pytest.mark.parametrize("path", [f"{_V}/queryAll", f"{_V}/query/*"])
def test_a_session_that_ends_while_orders_are_paged_is_renewed(
    connect: Callable[..., SalesforceClient], sandbox: Sandbox, path: str
) -> None:
    settings = {"line_source": "order", "commissions": True}
    whole = list(connect(**settings).listing(_MONTH))
    sandbox.command("configure", source="salesforce", page_size=3)
    sandbox.fault("salesforce", "session", path=path, after=2)
    pages = list(connect(**settings).listing(_MONTH))
    assert keys(pages) == keys(whole)
    for name in ("order", "order_item", "opportunity_split"):
        assert records(pages, name) == records(whole, name)
