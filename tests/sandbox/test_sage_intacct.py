"""The sandbox's Intacct: what it admits, what it refuses, and whether its documents add up."""

from collections import Counter
from decimal import Decimal
from typing import Any
from xml.etree.ElementTree import Element

import pytest
import requests
from conftest import Sandbox
from defusedxml import ElementTree

from revrec_pipeline.sandbox import company
from revrec_pipeline.sandbox.sage_intacct import (
    COMPANY,
    PATH,
    SENDER,
    SENDER_PASSWORD,
    USER,
    USER_PASSWORD,
)
from revrec_pipeline.sandbox.sage_intacct_books import RATES
from revrec_pipeline.sandbox.sage_intacct_data import build, crm_order
from revrec_pipeline.sandbox.salesforce_org import record_id

CONTROL = {
    "senderid": SENDER,
    "password": SENDER_PASSWORD,
    "controlid": "c1",
    "uniqueid": "false",
    "dtdversion": "3.0",
}
LOGIN = {"userid": USER, "companyid": COMPANY, "password": USER_PASSWORD}
NUMBER = "<select><field>RECORDNO</field></select>"


def element(name: str, fields: dict[str, str | None]) -> str:
    """An element around texts; a field of None is left out."""
    escaped = {key: value for key, value in fields.items() if value is not None}
    inner = "".join(
        f"<{key}>{value.replace('&', '&amp;').replace('<', '&lt;')}</{key}>"
        for key, value in escaped.items()
    )
    return f"<{name}>{inner}</{name}>"


def post(
    sandbox: Sandbox,
    *functions: str,
    session: str | None = None,
    control: dict[str, str | None] | None = None,
    login: dict[str, str | None] | None = None,
    kind: str = "application/xml",
) -> requests.Response:
    """A request with a log-in, or with a session."""
    authentication = element("login", {**LOGIN, **(login or {})})
    if session is not None:
        authentication = element("sessionid", {}).replace("><", f">{session}<")
    content = "".join(
        f'<function controlid="f{number}">{function}</function>'
        for number, function in enumerate(functions, start=1)
    )
    text = (
        f"<request>{element('control', {**CONTROL, **(control or {})})}<operation>"
        f"<authentication>{authentication}</authentication><content>{content}</content>"
        "</operation></request>"
    )
    return requests.post(
        f"{sandbox.origin}{PATH}", data=text.encode(), headers={"Content-Type": kind}, timeout=10
    )


def answered(answer: requests.Response) -> Element:
    """The root of an answer; failures come with 200 as well."""
    assert answer.status_code == 200
    assert "xml" in answer.headers["Content-Type"]
    root: Element = ElementTree.fromstring(answer.content)
    return root


def error(answer: requests.Response) -> tuple[str, str | None, str | None]:
    """Where it failed, the error's number and its text."""
    root = answered(answer)
    place = "result"
    if root.findtext("control/status") == "failure":
        place = "control"
    elif root.findtext("operation/authentication/status") == "failure":
        place = "authentication"
    (found,) = root.iter("error")
    return place, found.findtext("errorno"), found.findtext("description2")


def query(sandbox: Sandbox, inner: str) -> requests.Response:
    """One query with a log-in of its own."""
    return post(sandbox, f"<query>{inner}</query>")


def data(answer: requests.Response) -> Element:
    """The data of a function that succeeded."""
    root = answered(answer)
    assert root.findtext("operation/result/status") == "success", answer.text
    found = root.find("operation/result/data")
    assert found is not None
    return found


# -- the door ------------------------------------------------------------------------------------


def test_a_log_in_gives_a_session_an_endpoint_and_its_end(sandbox: Sandbox) -> None:
    answer = post(sandbox, "<getAPISession/>")
    api = data(answer).find("api")
    assert api is not None
    assert api.findtext("endpoint") == f"{sandbox.origin}{PATH}"
    root = answered(answer)
    times = [
        root.findtext(f"operation/authentication/{name}")
        for name in ("sessiontimestamp", "sessiontimeout")
    ]
    assert all(time and time.endswith("+00:00") for time in times)
    session = api.findtext("sessionid")
    assert (
        answered(post(sandbox, "<getAPISession/>", session=session)).findtext(
            "operation/authentication/companyid"
        )
        == COMPANY
    )


@pytest.mark.parametrize(
    ("control", "words"),
    [
        ({"senderid": "nobody"}, "Incorrect Intacct XML Partner ID or password."),
        ({"password": "wrong"}, "Incorrect Intacct XML Partner ID or password."),
        ({"dtdversion": "2.1"}, "dtdversion 2.1 is not supported"),
        ({"controlid": None}, "The control element has no controlid"),
    ],
)
def test_a_wrong_control_block_fails_in_control(
    sandbox: Sandbox, control: dict[str, str | None], words: str
) -> None:
    place, _, told = error(post(sandbox, "<getAPISession/>", control=control))
    assert (place, told) == ("control", words)


@pytest.mark.parametrize(
    ("login", "words"),
    [
        ({"userid": "nobody"}, "Sign-in information is incorrect"),
        ({"companyid": "acme"}, "Sign-in information is incorrect"),
        ({"password": "wrong"}, "Sign-in information is incorrect"),
        ({"locationid": "FR"}, "Entity FR is not valid for this company"),
    ],
)
def test_a_wrong_log_in_fails_in_authentication(
    sandbox: Sandbox, login: dict[str, str | None], words: str
) -> None:
    found = error(post(sandbox, "<getAPISession/>", login=login))
    assert found == ("authentication", "XL03000006", words)


def test_a_session_ends_after_twelve_hours(sandbox: Sandbox) -> None:
    session = data(post(sandbox, "<getAPISession/>")).findtext("api/sessionid")
    sandbox.command("advance", seconds=12 * 3600 + 1)
    found = error(post(sandbox, "<getAPISession/>", session=session))
    assert found == ("authentication", "XL03000006", "Invalid session")


def test_what_is_no_request_is_refused(sandbox: Sandbox) -> None:
    url = f"{sandbox.origin}{PATH}"
    kind = {"Content-Type": "application/xml"}
    assert error(requests.post(url, data=b"<request>", headers=kind, timeout=10))[0] == "control"
    bomb = b'<!DOCTYPE r [<!ENTITY a "ha">]><request>&a;</request>'
    assert error(requests.post(url, data=bomb, headers=kind, timeout=10))[0] == "control"
    assert error(post(sandbox, "<getAPISession/>", kind="application/json"))[0] == "control"
    assert error(post(sandbox))[2] == "The request has no operation with a function"
    assert requests.get(url, timeout=10).status_code in (404, 405)
    assert requests.get(f"{sandbox.origin}/ia/acct/login.phtml", timeout=10).status_code == 404


def test_one_function_may_fail_beside_one_that_succeeds(sandbox: Sandbox) -> None:
    root = answered(post(sandbox, "<getAPISession/>", "<readReport/>"))
    results = root.findall("operation/result")
    assert [result.findtext("status") for result in results] == ["success", "failure"]
    assert [result.findtext("controlid") for result in results] == ["f1", "f2"]


# -- queries -------------------------------------------------------------------------------------


def test_a_page_counts_itself_and_what_remains(sandbox: Sandbox) -> None:
    page = data(
        query(
            sandbox, f"<object>ARINVOICE</object>{NUMBER}<pagesize>10</pagesize><offset>5</offset>"
        )
    )
    assert (page.attrib["listtype"], page.attrib["offset"], page.attrib["count"]) == (
        "ARINVOICE",
        "5",
        "10",
    )
    assert int(page.attrib["numremaining"]) == int(page.attrib["totalcount"]) - 15
    assert len(page) == 10


def test_the_default_page_is_100_and_nothing_is_an_empty_element(sandbox: Sandbox) -> None:
    page = data(query(sandbox, f"<object>ARINVOICEITEM</object>{NUMBER}"))
    assert page.attrib["count"] == "100"
    where = "<filter><equalto><field>RECORDNO</field><value>1</value></equalto></filter>"
    empty = data(query(sandbox, f"<object>ARINVOICE</object>{NUMBER}{where}"))
    assert (empty.attrib["totalcount"], len(empty)) == ("0", 0)


def test_without_an_order_rows_do_not_ascend(sandbox: Sandbox) -> None:
    rows = data(query(sandbox, f"<object>ARINVOICE</object>{NUMBER}"))
    numbers = [int(row.findtext("RECORDNO") or 0) for row in rows]
    assert numbers != sorted(numbers)


@pytest.mark.parametrize(
    ("inner", "words"),
    [
        (f"<object>FOO</object>{NUMBER}", "Object definition FOO not found."),
        (
            "<object>ARINVOICE</object><select><field>FOO</field></select>",
            "Field FOO not found in object ARINVOICE.",
        ),
        (
            "<object>ARINVOICE</object><select><field>VENDOR.NAME</field></select>",
            "VENDOR is not related to ARINVOICE",
        ),
        ("<object>ARINVOICE</object>", "The select element needs at least one field"),
        (
            f"<object>ARINVOICE</object>{NUMBER}<pagesize>2001</pagesize>",
            "pagesize must be between 1 and 2000",
        ),
        (f"<object>ARINVOICE</object>{NUMBER}<offset>x</offset>", "offset must be an integer"),
        (
            f"<object>ARINVOICE</object>{NUMBER}<limit>1</limit>",
            "Unexpected element limit in query",
        ),
        (
            f"<object>SODOCUMENT</object>{NUMBER}",
            "Transaction definition None not found; set docparid",
        ),
        (
            f"<object>ARINVOICE</object>{NUMBER}<filter><equals><field>STATE</field>"
            "<value>Paid</value></equals></filter>",
            "equals is not an operator for this many values",
        ),
        (
            f"<object>ARINVOICE</object>{NUMBER}<filter><lessthan><field>WHENCREATED</field>"
            "<value>2026-01-01</value></lessthan></filter>",
            "'2026-01-01' is not a valid DATE value",
        ),
        (
            f"<object>ARINVOICE</object>{NUMBER}<filter><lessthan><field>WHENMODIFIED</field>"
            "<value>01/01/2026</value></lessthan></filter>",
            "'01/01/2026' is not a valid TIMESTAMP value",
        ),
        (
            f"<object>ARINVOICE</object>{NUMBER}<filter><and><isnull><field>STATE</field>"
            "</isnull></and></filter>",
            "and needs at least two conditions",
        ),
    ],
)
def test_a_query_that_intacct_would_refuse_is_refused(
    sandbox: Sandbox, inner: str, words: str
) -> None:
    assert error(query(sandbox, inner)) == ("result", "DL02000001", words)


def test_a_denied_object_is_refused_with_the_number_for_it(sandbox: Sandbox) -> None:
    sandbox.command("deny", source="sage_intacct", object="ARINVOICE")
    _, number, words = error(query(sandbox, f"<object>ARINVOICE</object>{NUMBER}"))
    assert number == "PL04000005"
    assert words
    assert "ARINVOICE" in words


def test_documents_of_entities_show_at_the_top_level_only_on_demand(sandbox: Sandbox) -> None:
    def total(inner: str) -> int:
        found = query(sandbox, f"<object>ARINVOICE</object>{NUMBER}{inner}")
        return int(data(found).attrib["totalcount"])

    everything = total("<options><showprivate>true</showprivate></options>")
    assert total("") < everything == 159


def test_a_lookup_tells_fields_with_their_types(sandbox: Sandbox) -> None:
    found = data(post(sandbox, "<lookup><object>ARINVOICE</object></lookup>"))
    types = {field.findtext("ID"): field.findtext("DATATYPE") for field in found.iter("Field")}
    assert types["WHENCREATED"] == "DATE"
    assert types["WHENMODIFIED"] == "TIMESTAMP"
    relations = [each.findtext("OBJECTNAME") for each in found.iter("Relationship")]
    assert relations == ["CUSTOMER"]


def test_the_users_formats_are_told(sandbox: Sandbox) -> None:
    asked = f"<readUserFormatting><userId>{USER}</userId></readUserFormatting>"
    found = data(post(sandbox, asked)).find("userformatting")
    assert found is not None
    assert {each.tag: each.text for each in found} == {
        "recordno": "48",
        "locale": "en_US",
        "dateformat": "/mdY",
        "gmtoffset": "-08:00",
        "clock": "24",
    }


# -- the data ------------------------------------------------------------------------------------


def test_the_data_is_the_same_every_time() -> None:
    assert build().tables == build().tables


def test_every_month_has_a_few_documents_and_more_since_2025() -> None:
    months = Counter(f"{row['WHENCREATED']:%Y-%m}" for row in build().tables["ARINVOICE"].values())
    assert min(months) == company.FOUNDED
    assert max(months) == company.LAST_MONTH
    assert {months[month] for month in months if month < "2025"} == {3}
    assert all(5 <= months[month] <= 13 for month in months if month >= "2025")


def test_headers_are_the_sums_of_their_rows_in_both_currencies() -> None:
    books = build()
    for record, header in books.tables["ARINVOICE"].items():
        rows = books.lines("ARINVOICE", record)
        for total, amount in (("TRX_TOTALENTERED", "TRX_AMOUNT"), ("TOTALENTERED", "AMOUNT")):
            assert sum(Decimal(str(row[amount])) for row in rows) == header[total]
        if header["CURRENCY"]:
            rate = RATES[str(header["CURRENCY"])]
            assert header["EXCHANGE_RATE"] == rate


def test_about_half_of_the_invoices_since_2025_name_an_order_of_the_crm() -> None:
    rows = [
        row
        for row in build().tables["ARINVOICE"].values()
        if f"{row['WHENCREATED']:%Y}" >= "2025" and not str(row["RECORDID"])[2:].startswith("9")
    ]
    named = [row for row in rows if str(row["DOCNUMBER"]).startswith("006")]
    assert 0.3 < len(named) / len(rows) < 0.7


def test_the_order_is_the_customers_own_and_won_in_the_crm(sandbox: Sandbox) -> None:
    """Opportunities are numbered in the order in which the CRM's sandbox makes them."""
    del sandbox
    lumen = company.customer("lumen")
    assert crm_order(lumen, "2024-12") is None
    found = crm_order(lumen, "2026-06")
    numbers = [n for n in range(18 * 8) if record_id("006", n + 1) == found]
    assert [company.CUSTOMERS[n * 5 % len(company.CUSTOMERS)] for n in numbers] == [lumen]


def test_the_story_tells_what_it_changed(sandbox: Sandbox) -> None:
    told: dict[str, Any] = sandbox.command("story", source="sage_intacct")["sage_intacct"]
    assert len(told) == 8
    old = told["its RECORDNO before"]
    answer = query(
        sandbox,
        "<object>AUDITHISTORY</object><select><field>OBJECTTYPE</field><field>OBJECTKEY</field>"
        "</select>",
    )
    (row,) = data(answer)
    assert {field.tag: field.text for field in row} == {
        "OBJECTTYPE": "arinvoice",
        "OBJECTKEY": f"{old}--REC",
    }


@pytest.mark.parametrize("kind", ["429", "GW-0010", "XL03000009", "503", "cloudflare", "session"])
def test_each_fault_is_one_that_the_gateway_or_what_stands_before_it_has(
    sandbox: Sandbox, kind: str
) -> None:
    sandbox.fault("sage_intacct", kind)
    answer = post(sandbox, "<getAPISession/>")
    status = {"429": 429, "503": 503, "cloudflare": 403}.get(kind, 200)
    assert answer.status_code == status
    assert ("xml" in answer.headers["Content-Type"]) == (status == 200)


def test_a_command_that_names_nothing_here_is_refused(sandbox: Sandbox) -> None:
    for command in (
        {"op": "edit", "object": "ARINVOICE", "id": 1, "fields": {}},
        {"op": "edit", "object": "ARINVOICE", "id": 203, "fields": {"FOO": "1"}},
        {"op": "paint"},
        {"op": "fault", "kind": "earthquake"},
    ):
        answer = requests.post(
            f"{sandbox.origin}/_control", json={"source": "sage_intacct", **command}, timeout=10
        )
        assert answer.status_code == 400
