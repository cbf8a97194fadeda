"""The sandbox's server: one origin, one clock, faults on demand, and a remote control."""

import asyncio
import socket
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
import requests
from conftest import Sandbox
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from revrec_pipeline.errors import UsageError
from revrec_pipeline.sandbox import company
from revrec_pipeline.sandbox.clock import Clock
from revrec_pipeline.sandbox.faults import FaultMiddleware, Faults
from revrec_pipeline.sandbox.server import HOST, running, sandbox_env
from revrec_pipeline.sandbox.stripe import API_KEY, API_VERSION
from revrec_pipeline.sandbox.xero import XeroSandbox

PATH = "/v1/products"


def get(sandbox: Sandbox, path: str = PATH) -> requests.Response:
    """A request that the sandbox's Stripe admits."""
    headers = {"Authorization": f"Bearer {API_KEY}", "Stripe-Version": API_VERSION}
    return requests.get(f"{sandbox.origin}{path}", headers=headers, timeout=10)


def refused(sandbox: Sandbox, **command: Any) -> str:
    """The reason for which a command is refused."""
    answer = requests.post(f"{sandbox.origin}/_control", json=command, timeout=10)
    assert answer.status_code == 400
    return str(answer.json()["error"])


# -- clock ---------------------------------------------------------------------------------------


def test_every_answer_carries_the_date_of_the_sandboxes_clock(sandbox: Sandbox) -> None:
    sandbox.command("advance", seconds=30 * 86400)
    for path in (PATH, "/_control", "/v1/nothing"):
        date = parsedate_to_datetime(get(sandbox, path).headers["Date"])
        ahead = date - datetime.now(UTC)
        assert timedelta(days=29, hours=23) < ahead < timedelta(days=30, minutes=1)


def test_a_reset_brings_the_clock_back(sandbox: Sandbox) -> None:
    sandbox.command("advance", seconds=86400)
    sandbox.command("reset")
    now = datetime.fromisoformat(sandbox.state()["now"])
    assert abs(now - datetime.now(UTC)) < timedelta(minutes=1)


def test_the_clock_does_not_go_back() -> None:
    with pytest.raises(ValueError, match="only moves forward"):
        Clock().advance(-1)


def test_a_clock_may_be_behind_ours(sandbox: Sandbox) -> None:
    sandbox.command("reset", behind=86400)
    behind = datetime.now(UTC) - datetime.fromisoformat(sandbox.state()["now"])
    assert timedelta(hours=23, minutes=59) < behind < timedelta(days=1, minutes=1)


def test_what_is_done_as_of_an_instant_is_stamped_with_it_and_shows_when_it_is_due(
    sandbox: Sandbox,
) -> None:
    now = datetime.fromisoformat(sandbox.state()["now"])
    add = {"customer": "northwind", "product": "SEAT", "amount": 100}
    shown = {"op": "add", "object": "invoice", "source": "stripe", "fields": add}
    at = (now - timedelta(hours=1)).isoformat()

    made = sandbox.command("as_of", at=at, command=shown)["id"]
    later = sandbox.command("as_of", at=at, command=shown, visible_in=7200)

    assert later == {"visible_at": (now + timedelta(hours=1)).isoformat()}
    known = get(sandbox, "/v1/invoices?limit=100").json()["data"]
    assert get(sandbox, f"/v1/invoices/{made}").json()["created"] == int(now.timestamp()) - 3600
    sandbox.command("advance", seconds=3599)
    assert len(get(sandbox, "/v1/invoices?limit=100").json()["data"]) == len(known)
    sandbox.command("advance", seconds=2)
    fresh = [
        one for one in get(sandbox, "/v1/invoices?limit=100").json()["data"] if one not in known
    ]
    assert [one["created"] for one in fresh] == [int(now.timestamp()) - 3600]


# -- faults --------------------------------------------------------------------------------------


def test_a_fault_strikes_after_some_requests_and_then_so_many_times(sandbox: Sandbox) -> None:
    sandbox.fault("stripe", "500", path=PATH, after=1, times=2)
    assert [get(sandbox).status_code for _ in range(4)] == [200, 500, 500, 200]


def test_faults_are_mended(sandbox: Sandbox) -> None:
    sandbox.fault("stripe", "500", times=1000)
    assert get(sandbox).status_code == 500
    sandbox.command("mend")
    assert get(sandbox).status_code == 200


def test_a_fault_strikes_only_the_paths_of_its_pattern(sandbox: Sandbox) -> None:
    sandbox.fault("stripe", "500", path="/v1/pri*")
    assert get(sandbox).status_code == 200
    assert get(sandbox, "/v1/prices").status_code == 500


def test_an_html_fault_is_a_gateways_page(sandbox: Sandbox) -> None:
    sandbox.fault("stripe", "html")
    answer = get(sandbox)
    assert (answer.status_code, answer.headers["Content-Type"]) == (503, "text/html; charset=utf-8")
    assert answer.text.startswith("<html>")


def test_a_reset_breaks_the_connection(sandbox: Sandbox) -> None:
    sandbox.fault("stripe", "reset")
    with pytest.raises(requests.ConnectionError):
        get(sandbox)
    assert get(sandbox).status_code == 200


def test_a_truncated_body_is_whole_for_http_and_cut_for_json(sandbox: Sandbox) -> None:
    whole = get(sandbox).content
    sandbox.fault("stripe", "truncate")
    cut = get(sandbox).content
    assert cut == whole[: len(whole) // 2]


def test_a_repeated_page_is_the_last_one_of_that_path(sandbox: Sandbox) -> None:
    first = get(sandbox, "/v1/products?limit=1").content
    sandbox.fault("stripe", "repeat", path=PATH)
    assert get(sandbox, "/v1/products?limit=2").content == first


def test_a_slow_answer_comes_all_the_same(sandbox: Sandbox) -> None:
    sandbox.fault("stripe", "slow", seconds=0.05)
    assert get(sandbox).status_code == 200


def test_a_fault_may_carry_headers_and_another_status(sandbox: Sandbox) -> None:
    sandbox.fault("stripe", "429", headers={"Retry-After": "3"}, status=503)
    answer = get(sandbox)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "3")


def test_a_reset_disarms_all_faults(sandbox: Sandbox) -> None:
    sandbox.fault("stripe", "500", times=5)
    sandbox.command("reset")
    assert get(sandbox).status_code == 200


# -- control -------------------------------------------------------------------------------------


def test_requests_are_counted_by_source_and_path(sandbox: Sandbox) -> None:
    get(sandbox)
    get(sandbox)
    get(sandbox, "/v1/nothing")
    assert sandbox.requests("stripe") == {PATH: 2, "/v1/nothing": 1}
    assert sandbox.requests("salesforce") == {}


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ({"op": "fault", "source": "sap", "kind": "500"}, "no source 'sap'"),
        ({"op": "fault", "source": "stripe", "kind": "flood"}, "stripe: no fault 'flood'"),
        ({"op": "fault", "source": "stripe", "kind": "500", "colour": 1}, "no such fault"),
        ({"op": "dance", "source": "stripe"}, "no operation 'dance'"),
        ({"op": "delete", "source": "stripe", "object": "invoice", "id": "in_0"}, "no invoice"),
        ({}, "no source None"),
    ],
)
def test_a_command_that_names_nothing_here_is_refused(
    sandbox: Sandbox, command: dict[str, Any], reason: str
) -> None:
    assert reason in refused(sandbox, **command)


def test_a_command_that_is_no_json_is_refused(sandbox: Sandbox) -> None:
    answer = requests.post(f"{sandbox.origin}/_control", data=b"{", timeout=10)
    assert answer.status_code == 400


# -- serving -------------------------------------------------------------------------------------


def test_the_environment_points_every_source_at_the_sandbox() -> None:
    env = sandbox_env("http://127.0.0.1:1")
    origins = {value for name, value in env.items() if name.endswith("_API_URL")}
    assert origins == {"http://127.0.0.1:1"}
    assert {"STRIPE_API_KEY", "SALESFORCE_DOMAIN"} <= set(env)


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port} on 127.0.0.1"), running(port):
            pass


def test_a_sandbox_is_gone_when_its_block_ends() -> None:
    with running() as origin:
        assert requests.get(f"{origin}/_control", timeout=10).status_code == 200
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{origin}/_control", timeout=10)


# -- company -------------------------------------------------------------------------------------


def test_the_company_has_enough_of_everything() -> None:
    assert len(company.CUSTOMERS) == len({one.key for one in company.CUSTOMERS}) == 24
    assert len(company.PRODUCTS) == len({one.code for one in company.PRODUCTS}) == 10
    currencies = {one.currency for one in company.CUSTOMERS}
    assert currencies == set(company.PRICE_FACTORS) == {"USD", "EUR", "GBP", "JPY", "KWD", "ISK"}


def test_most_customers_are_spelt_differently_in_crm_and_billing() -> None:
    different = [one.key for one in company.CUSTOMERS if one.crm_name != one.billing_name]
    assert len(different) == 23
    assert company.customer("pinecrest").billing_name is None


def test_a_product_code_with_leading_zeros_is_text() -> None:
    assert company.product("00420").name == "Edge Gateway"


# -- how many at once ----------------------------------------------------------------------------


def test_one_request_more_than_the_vendor_takes_at_once_is_refused() -> None:
    """Xero takes five (reference 2.6): the sixth is answered while the five still run."""

    async def ask() -> list[int]:
        faults, go_on, statuses = Faults(), asyncio.Event(), list[int]()

        async def application(_scope: Scope, _receive: Receive, send: Send) -> None:
            await go_on.wait()
            await Response()(_scope, _receive, send)

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        xero = XeroSandbox(Clock())
        middleware = FaultMiddleware(
            application,
            faults,
            source_of=lambda _: xero.name,
            body_of=lambda _, kind: xero.fault_body(kind),
            at_once={xero.name: xero.at_once},
        )
        scope = {"type": "http", "path": "/api.xro/2.0/Invoices"}
        running = [asyncio.create_task(middleware(scope, _nothing, send)) for _ in range(5)]
        await asyncio.sleep(0)
        await middleware(scope, _nothing, send)
        assert statuses == [429]
        go_on.set()
        await asyncio.gather(*running)
        await middleware(scope, _nothing, send)
        assert faults.most_at_once == {"xero": 6}
        assert faults.most_in(60) == {"xero": 7}
        return statuses

    assert asyncio.run(ask()) == [429, *[200] * 6]


async def _nothing() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}
