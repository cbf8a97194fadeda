"""The sandbox's Xero: what it admits, what it refuses, and whether its documents add up."""

from collections import Counter
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pytest
import requests
from conftest import Sandbox

from revrec_pipeline.periods import period_range
from revrec_pipeline.sandbox import company
from revrec_pipeline.sandbox.clock import Clock
from revrec_pipeline.sandbox.salesforce_data import fill
from revrec_pipeline.sandbox.salesforce_org import STAGES, Org
from revrec_pipeline.sandbox.xero import CLIENT_ID, CLIENT_SECRET
from revrec_pipeline.sandbox.xero_data import build, credit_note_id, invoice_id
from revrec_pipeline.sandbox.xero_objects import RATES, TENANT

SCOPES = "accounting.invoices.read accounting.settings.read"
JUNE = 'Type=="ACCREC" AND Date>=DateTime(2026,06,01) AND Date<DateTime(2026,07,01)'
FORM = {
    "grant_type": "client_credentials",
    "client_id": CLIENT_ID,
    "client_secret": CLIENT_SECRET,
    "scope": SCOPES,
}


def log_in(sandbox: Sandbox, **fields: Any) -> requests.Response:
    """What the identity server answers; a field of None is left out."""
    form = {name: value for name, value in {**FORM, **fields}.items() if value is not None}
    auth = form.pop("auth", None)
    return requests.post(f"{sandbox.origin}/connect/token", data=form, auth=auth, timeout=10)


class Reader:
    """Requests with a token, as a client makes them."""

    def __init__(self, sandbox: Sandbox, scope: str = SCOPES) -> None:
        self.sandbox = sandbox
        self.token = log_in(sandbox, scope=scope).json()["access_token"]

    def ask(
        self, path: str, headers: dict[str, str | None] | None = None, **params: Any
    ) -> requests.Response:
        """GET a path; below the accounting API unless it begins with a slash."""
        own: dict[str, str | None] = {
            "Authorization": f"Bearer {self.token}",
            "xero-tenant-id": TENANT,
            "Accept": "application/json",
            **(headers or {}),
        }
        root = "" if path.startswith("/") else "/api.xro/2.0/"
        url = f"{self.sandbox.origin}{root}{path}"
        return requests.get(url, headers=own, params=params, timeout=10)

    def body(self, path: str, headers: dict[str, str | None] | None = None, **params: Any) -> Any:
        """The JSON of an answer of 200."""
        answer = self.ask(path, headers, **params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def ids(self, headers: dict[str, str | None] | None = None, **params: Any) -> list[str]:
        """The ids of the invoices that a list has."""
        return [one["InvoiceID"] for one in self.body("Invoices", headers, **params)["Invoices"]]


@pytest.fixture
def reader(sandbox: Sandbox) -> Reader:
    return Reader(sandbox)


def message(answer: requests.Response) -> tuple[int, str, str]:
    """Status, type and message of a refused query."""
    found = answer.json()
    return answer.status_code, found["Type"], found["Message"]


# -- the door ------------------------------------------------------------------------------------


def test_client_credentials_give_a_token_of_half_an_hour_and_nothing_to_refresh_it(
    sandbox: Sandbox,
) -> None:
    found = log_in(sandbox).json()
    assert found == {
        "access_token": found["access_token"],
        "expires_in": 1800,
        "token_type": "Bearer",
        "scope": SCOPES,
    }
    basic = (CLIENT_ID, CLIENT_SECRET)
    assert log_in(sandbox, client_id=None, client_secret=None, auth=basic).status_code == 200


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"client_secret": "wrong"}, "invalid_client"),
        ({"client_id": None}, "invalid_client"),
        ({"scope": "accounting.invoices.read payroll.employees"}, "invalid_scope"),
        ({"grant_type": "refresh_token"}, "unauthorized_client"),
    ],
)
def test_a_wrong_log_in_is_refused(sandbox: Sandbox, fields: dict[str, Any], error: str) -> None:
    answer = log_in(sandbox, **fields)
    assert (answer.status_code, answer.json()) == (400, {"error": error})


def test_a_token_ends_after_half_an_hour(reader: Reader) -> None:
    reader.sandbox.command("advance", seconds=1799)
    assert reader.ask("Organisation").status_code == 200
    reader.sandbox.command("advance", seconds=1)
    answer = reader.ask("Organisation")
    assert answer.status_code == 401
    assert answer.json()["Detail"].startswith("TokenExpired: token expired at ")


@pytest.mark.parametrize("token", [None, "Bearer made-up", "Basic c2FuZGJveA=="])
def test_without_a_token_nothing_is_told(reader: Reader, token: str | None) -> None:
    answer = reader.ask("Invoices", {"Authorization": token})
    assert (answer.status_code, answer.json()["Title"]) == (401, "Unauthorized")


def test_a_scope_that_the_token_lacks_is_401(sandbox: Sandbox) -> None:
    reader = Reader(sandbox, "accounting.settings.read")
    assert reader.ask("Organisation").status_code == 200
    answer = reader.ask("Invoices")
    assert (answer.status_code, answer.json()["Detail"]) == (401, "AuthorizationUnsuccessful")


def test_another_organisation_is_forbidden_and_a_custom_connection_needs_none(
    reader: Reader,
) -> None:
    answer = reader.ask("Organisation", {"xero-tenant-id": "elsewhere"})
    assert (answer.status_code, answer.json()["title"]) == (403, "Forbidden")
    assert reader.ask("Organisation", {"xero-tenant-id": None}).status_code == 200


def test_without_accept_the_answer_is_xml(reader: Reader) -> None:
    answer = reader.ask("Organisation", {"Accept": "*/*"})
    assert answer.headers["Content-Type"].startswith("text/xml")


def test_connections_name_the_organisation(reader: Reader) -> None:
    (found,) = reader.body("/connections")
    assert (found["tenantId"], found["tenantType"]) == (TENANT, "ORGANISATION")


def test_an_unknown_path_or_document_is_404_without_a_body(reader: Reader) -> None:
    for path in ("SalesOrders", "Invoices/made-up"):
        answer = reader.ask(path)
        assert (answer.status_code, answer.content) == (404, b"")


# -- limits --------------------------------------------------------------------------------------


def test_sixty_requests_a_minute_are_allowed_in_any_minute(reader: Reader) -> None:
    statuses = [reader.ask("Organisation").status_code for _ in range(61)]
    assert statuses == [200] * 60 + [429]
    refused = reader.ask("Organisation")
    assert refused.headers["X-Rate-Limit-Problem"] == "minute"
    assert 0 < int(refused.headers["Retry-After"]) <= 60
    assert refused.headers["X-MinLimit-Remaining"] == "0"
    assert refused.content == b""
    assert reader.ask("/connections").status_code == 200  # is about no organisation
    reader.sandbox.command("advance", seconds=61)
    assert reader.ask("Organisation").status_code == 200


def test_a_day_s_requests_are_counted_and_say_what_is_left(reader: Reader) -> None:
    assert reader.ask("Organisation").headers["X-DayLimit-Remaining"] == "4999"
    reader.sandbox.command("limit", source="xero", per_day=2)
    reader.ask("Organisation")
    refused = reader.ask("Organisation")
    assert (refused.status_code, refused.headers["X-Rate-Limit-Problem"]) == (429, "day")
    assert 86_000 < int(refused.headers["Retry-After"]) <= 86_400


# -- lists ---------------------------------------------------------------------------------------


def test_without_page_a_list_has_no_lines_and_ignores_page_size_airbyte_66667(
    reader: Reader,
) -> None:
    found = reader.body("Invoices", pageSize=2, where=JUNE)
    assert "pagination" not in found
    assert len(found["Invoices"]) == 8
    assert all(one["LineItems"] == [] for one in found["Invoices"])


def test_a_page_has_lines_and_says_how_many_there_are(reader: Reader) -> None:
    found = reader.body("Invoices", page=2, pageSize=3, where=JUNE)
    assert found["pagination"] == {"page": 2, "pageSize": 3, "pageCount": 3, "itemCount": 8}
    assert len(found["Invoices"]) == 3
    assert all(one["LineItems"] for one in found["Invoices"])


def test_a_page_beyond_the_end_is_empty(reader: Reader) -> None:
    assert reader.body("Invoices", page=9, pageSize=3, where=JUNE)["Invoices"] == []


def test_a_page_has_100_documents_when_nothing_is_said(reader: Reader) -> None:
    assert len(reader.ids(page=1)) == 100


@pytest.mark.parametrize("params", [{"pageSize": 0}, {"pageSize": 1001}, {"page": "two"}])
def test_a_page_that_cannot_be_is_400(reader: Reader, params: dict[str, Any]) -> None:
    status, kind, _ = message(reader.ask("Invoices", **{"page": 1, **params}))
    assert (status, kind) == (400, "ValidationException")


def test_a_summary_has_no_lines_and_no_related_documents(reader: Reader) -> None:
    one = reader.body("Invoices", page=1, summaryOnly="true", where=JUNE)["Invoices"][0]
    assert one["LineItems"] == []
    assert "CreditNotes" not in one


def test_prices_have_two_decimals_unless_four_are_asked_for(reader: Reader) -> None:
    path = f"Invoices/{invoice_id('usage-2025-01')}"
    assert '"UnitAmount": 0.01,' in reader.ask(path).text
    assert '"UnitAmount": 0.0125,' in reader.ask(path, unitdp=4).text


def test_numbers_keep_their_zeros_and_dates_their_escaped_slashes(reader: Reader) -> None:
    text = reader.ask(f"Invoices/{invoice_id('again')}").text
    assert '"Quantity": 50.0000,' in text
    assert '"CurrencyRate": 1.0000000000,' in text
    assert '"Date": "\\/Date(1749081600000+0000)\\/"' in text
    assert '"DateString": "2025-06-05T00:00:00"' in text


def test_one_document_is_found_by_id_and_by_number(reader: Reader) -> None:
    by_id = reader.body(f"Invoices/{invoice_id('voided')}")["Invoices"]
    by_number = reader.body(f"Invoices/{by_id[0]['InvoiceNumber']}")["Invoices"]
    assert by_id == by_number
    assert by_id[0]["LineItems"]


def test_suppliers_bills_come_from_the_same_lists(reader: Reader) -> None:
    types = Counter(one["Type"] for one in reader.body("Invoices")["Invoices"])
    assert types == {"ACCREC": 137, "ACCPAY": 1}


def test_statuses_and_ids_filter_too(reader: Reader) -> None:
    assert reader.ids(Statuses="VOIDED,DELETED") == [invoice_id("deleted"), invoice_id("voided")]
    wanted = ",".join(sorted([invoice_id("again"), invoice_id("words")]))
    assert sorted(reader.ids(IDs=wanted)) == wanted.split(",")


@pytest.mark.parametrize(
    "form", ["%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S+00:00", "%Y-%m-%dT%H:%M:%S.999+00:00"]
)
def test_if_modified_since_counts_whole_seconds_with_and_without_an_offset(
    reader: Reader, form: str
) -> None:
    reader.sandbox.command("void", source="xero", id=invoice_id("to-void"))
    (one,) = reader.body(f"Invoices/{invoice_id('to-void')}")["Invoices"]
    second = datetime.fromisoformat(one["UpdatedDateUTCString"]).replace(tzinfo=UTC)
    assert reader.ids({"If-Modified-Since": second.strftime(form)}) == [invoice_id("to-void")]


# -- filters and orders --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "count"),
    [
        (JUNE, 8),
        ('Type=="ACCREC" && Status=="VOIDED"', 1),
        ('Status=="VOIDED" OR Status=="DELETED"', 2),
        ('Type=="ACCPAY" AND (Status=="VOIDED" OR Status=="AUTHORISED")', 1),
        ('Status=="DRAFT" OR Type=="ACCREC" AND Status=="SUBMITTED"', 2),  # AND binds tighter
        (f'InvoiceID==Guid("{invoice_id("again").upper()}")', 1),
        ('Contact.Name.StartsWith("Camden")', 9),
        ('Reference.Contains("PO-7781")', 2),
        ("FullyPaidOnDate==null AND Date<DateTime(2025,07,01)", 2),
        ("FullyPaidOnDate!=null", 119),
        ("Total==0", 1),
        ('Total>=300000.00 AND CurrencyCode=="ISK"', 2),
        ('CurrencyCode!="USD" AND AmountDue<>0', 10),
    ],
)
def test_a_filter_finds_what_it_says(reader: Reader, where: str, count: int) -> None:
    assert len(reader.ids(where=where)) == count


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ('Foo=="x"', "No property or field 'Foo' exists in type 'Invoice'"),
        ('CreditNoteID==Guid("x")', "No property or field 'CreditNoteID' exists in type 'Invoice'"),
        ('type=="ACCREC"', "No property or field 'type' exists in type 'Invoice'"),
        (
            'Date>="2026-06-01"',
            "Operator '>=' incompatible with operand types 'DateTime' and 'String'",
        ),
        (
            f'InvoiceID=="{invoice_id("again")}"',
            "Operator '==' incompatible with operand types 'Guid' and 'String'",
        ),
        ("Date>=2026-06-01", "Syntax error (at index 10)"),
        ('Type=="ACCREC" AND', "Syntax error (at index 18)"),
        ("Type='ACCREC'", "Syntax error (at index 5)"),
        ('(Type=="ACCREC"', "Syntax error (at index 15)"),
        ("Date==DateTime(2026,13,01)", "No applicable constructor exists in type 'DateTime'"),
        ('Reference.Matches("x")', "No applicable method 'Matches' exists in type 'String'"),
        ('Total.Contains("1")', "No applicable method 'Contains' exists in type 'String'"),
    ],
)
def test_a_filter_that_xero_would_not_understand_is_400(
    reader: Reader, where: str, words: str
) -> None:
    answer = reader.ask("Invoices", page=1, where=where)
    assert message(answer) == (400, "QueryParseException", words)


def test_an_order_sorts_by_several_fields_each_way(reader: Reader) -> None:
    found = reader.body("Invoices", page=1, order="Status DESC, Date", where=JUNE)["Invoices"]
    order = [(one["Status"], one["DateString"]) for one in found]
    assert order == sorted(order, key=lambda pair: pair[1]) or len({s for s, _ in order}) > 1
    assert [status for status, _ in order] == sorted((s for s, _ in order), reverse=True)
    by_id = reader.ids(page=1, pageSize=1000, order="InvoiceID ASC")
    assert by_id == sorted(by_id)


@pytest.mark.parametrize("order", ["Foo ASC", "Date UP", "Date ASC ASC", ","])
def test_an_order_that_xero_would_not_understand_is_400(reader: Reader, order: str) -> None:
    status, kind, _ = message(reader.ask("Invoices", page=1, order=order))
    assert (status, kind) == (400, "QueryParseException")


# -- what happens to documents -------------------------------------------------------------------


def test_void_and_deleted_documents_keep_totals_and_lines(reader: Reader) -> None:
    for name in ("voided", "deleted"):
        (one,) = reader.body(f"Invoices/{invoice_id(name)}")["Invoices"]
        assert one["Status"] == name.upper()
        assert one["Total"] > 0
        assert one["LineItems"]


@pytest.mark.parametrize(
    ("op", "name", "status"),
    [("delete", "to-void", "AUTHORISED"), ("void", "draft", "DRAFT"), ("void", "words", "PAID")],
)
def test_what_xero_does_not_allow_cannot_be_commanded(
    sandbox: Sandbox, op: str, name: str, status: str
) -> None:
    command = {"op": op, "source": "xero", "id": invoice_id(name)}
    answer = requests.post(f"{sandbox.origin}/_control", json=command, timeout=10)
    assert (answer.status_code, answer.json()["error"]) == (
        400,
        f"xero: {invoice_id(name)} is {status}",
    )


def test_more_than_is_left_cannot_be_allocated(sandbox: Sandbox) -> None:
    note, invoice = credit_note_id("outage"), invoice_id("to-void")
    command = {"op": "allocate", "source": "xero", "id": note, "invoice": invoice, "amount": "0.01"}
    answer = requests.post(f"{sandbox.origin}/_control", json=command, timeout=10)
    assert answer.status_code == 400
    assert "0.01 is more than is left" in answer.json()["error"]
    sandbox.command("unallocate", source="xero", id=note)
    sandbox.command(**{**command, "amount": "200.00"})
    (shown,) = Reader(sandbox).body(f"CreditNotes/{note}")["CreditNotes"]
    assert (shown["Status"], shown["RemainingCredit"]) == ("PAID", 0)
    assert shown["Allocations"][-1]["Invoice"]["InvoiceID"] == invoice


def test_lines_that_are_sent_back_without_ids_receive_new_ones(reader: Reader) -> None:
    own = invoice_id("words")
    before = reader.body(f"Invoices/{own}")["Invoices"][0]["LineItems"]
    reader.sandbox.command("edit", source="xero", id=own, fields={"new_line_ids": True})
    after = reader.body(f"Invoices/{own}")["Invoices"][0]["LineItems"]
    assert not {one["LineItemID"] for one in before} & {one["LineItemID"] for one in after}
    assert [one["Description"] for one in before] == [one["Description"] for one in after]


def test_the_story_changes_five_documents_and_the_one_that_is_credited(reader: Reader) -> None:
    since = {"If-Modified-Since": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S")}
    told = reader.sandbox.command("story", source="xero")["xero"]
    assert sorted(reader.ids(since)) == sorted(
        [
            *(own for what, own in told.items() if what != "credit note"),
            invoice_id("to-credit"),
        ]
    )
    (note,) = reader.body("CreditNotes", since)["CreditNotes"]
    assert (note["CreditNoteID"], note["Status"]) == (told["credit note"], "PAID")


def test_a_reset_brings_everything_back(sandbox: Sandbox) -> None:
    sandbox.command("story", source="xero")
    sandbox.command("tenants", source="xero", names=["Other"])
    sandbox.command("reset")
    reader = Reader(sandbox)
    assert len(reader.body("/connections")) == 1
    assert reader.body(f"Invoices/{invoice_id('to-void')}")["Invoices"][0]["Status"] == "AUTHORISED"


# -- the data ------------------------------------------------------------------------------------


def all_documents() -> list[dict[str, Any]]:
    store = build()
    return [*store.invoices.values(), *store.credit_notes.values()]


def test_every_document_adds_up() -> None:
    for one in all_documents():
        priced = [line for line in one["LineItems"] if "LineAmount" in line]
        lines = sum(line["LineAmount"] for line in priced)
        inclusive = one["LineAmountTypes"] == "Inclusive"
        assert lines == (one["Total"] if inclusive else one["SubTotal"])
        assert one["SubTotal"] + one["TotalTax"] == one["Total"]
        if one["LineAmountTypes"] == "NoTax":
            assert one["TotalTax"] == 0
        if "AmountDue" in one:
            settled = one["AmountDue"] + one["AmountPaid"] + one["AmountCredited"]
            assert settled == one["Total"]


def test_base_amounts_are_document_amounts_divided_by_the_rate() -> None:
    """A Euro is worth more than a dollar: dividing gives more dollars, multiplying fewer."""
    for one in all_documents():
        base = (one["Total"] / one["CurrencyRate"]).quantize(Decimal("0.01"), ROUND_HALF_UP)
        if one["CurrencyCode"] in {"EUR", "GBP", "KWD"} and one["Total"]:
            assert base > one["Total"]
        assert one["CurrencyRate"] == RATES[one["CurrencyCode"]]
        assert len(str(one["CurrencyRate"]).partition(".")[2]) == 10


def test_the_organisation_shows_every_trap() -> None:
    documents = all_documents()
    lines = [line for one in documents for line in one["LineItems"]]
    assert {one["Status"] for one in documents} == {
        "DRAFT", "SUBMITTED", "AUTHORISED", "PAID", "VOIDED", "DELETED",
    }  # fmt: skip
    assert {one["LineAmountTypes"] for one in documents} == {"Exclusive", "Inclusive", "NoTax"}
    assert {one["CurrencyCode"] for one in documents} == set(RATES)
    assert sum("LineAmount" not in line for line in lines) == 3
    assert {"DiscountRate", "DiscountAmount"} <= {name for line in lines for name in line}
    assert any(len(one.get("Allocations", ())) == 2 for one in documents)
    assert sum(one["Total"] == 0 for one in documents) == 1
    numbers = Counter(one["InvoiceNumber"] for one in documents if "InvoiceNumber" in one)
    assert [number for number, count in numbers.items() if count > 1] == ["INV-9001"]
    assert {"00420", "API-USAGE"} <= {line.get("ItemCode") for line in lines}
    assert credit_note_id("seats-twice") in build().credit_notes


def test_months_are_sparse_before_2025_and_busier_since() -> None:
    months = Counter(f"{one['Date']:%Y-%m}" for one in all_documents())
    assert sorted(months) == list(period_range(company.FOUNDED, company.LAST_MONTH))
    assert all(2 <= months[month] <= 4 for month in months if month < "2025-01")
    assert all(4 <= months[month] <= 9 for month in months if month >= "2025-01")


def test_references_name_opportunities_that_the_crm_won_with_the_same_customer_and_products() -> (
    None
):
    org = Org(Clock())
    fill(org)
    sales = {
        row[0]: row[1:]
        for row in org.select(
            'SELECT o."Id", a."Id", a."Name", o."StageName", '
            '(SELECT group_concat(l."ProductCode", \' \') FROM "OpportunityLineItem" AS l '
            'WHERE l."OpportunityId" = o."Id") '
            'FROM "Opportunity" AS o JOIN "Account" AS a ON a."Id" = o."AccountId"',
            [],
        )
    }
    named = [one for one in all_documents() if one["Reference"].startswith("006")]
    assert len(named) == 54
    for one in named:
        account, name, stage, codes = sales[one["Reference"]]
        (customer,) = (each for each in company.CUSTOMERS if each.crm_name == name)
        assert one["Contact"].get("ContactNumber", account) == account
        assert one["Contact"]["Name"] == (customer.billing_name or customer.email)
        assert STAGES[stage][:2] == (True, True)
        assert codes.split() == [line["ItemCode"] for line in one["LineItems"]]


def test_the_same_documents_have_the_same_ids_each_time() -> None:
    assert list(build().invoices) == list(build().invoices)
