"""The sandbox's server: every source on one origin, with one clock and one control."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import format_datetime

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from revrec_pipeline.errors import UsageError
from revrec_pipeline.sandbox.chargebee import ChargebeeSandbox
from revrec_pipeline.sandbox.clock import Clock
from revrec_pipeline.sandbox.control import Control
from revrec_pipeline.sandbox.faults import FaultMiddleware, Faults
from revrec_pipeline.sandbox.hubspot import HubspotSandbox
from revrec_pipeline.sandbox.netsuite import NetsuiteSandbox
from revrec_pipeline.sandbox.quickbooks import QuickbooksSandbox
from revrec_pipeline.sandbox.sage_intacct import SageIntacctSandbox
from revrec_pipeline.sandbox.salesforce import SalesforceSandbox
from revrec_pipeline.sandbox.source import SandboxSource
from revrec_pipeline.sandbox.stripe import StripeSandbox
from revrec_pipeline.sandbox.xero import XeroSandbox

HOST = "127.0.0.1"


def build_sources(clock: Clock) -> list[SandboxSource]:
    """All sources, each with its own data; a new source is one line here."""
    return [
        SalesforceSandbox(clock),
        HubspotSandbox(clock),
        ChargebeeSandbox(clock),
        XeroSandbox(clock),
        QuickbooksSandbox(clock),
        NetsuiteSandbox(clock),
        StripeSandbox(clock),
        SageIntacctSandbox(clock),
    ]


class _DateMiddleware:
    """Stamps every answer with the sandbox's clock, as clients cut their windows by it."""

    def __init__(self, app: ASGIApp, clock: Clock) -> None:
        self._app = app
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def stamp(message: Message) -> None:
            if message["type"] == "http.response.start":
                date = format_datetime(self._clock.now(), usegmt=True).encode()
                message["headers"] = [*message["headers"], (b"date", date)]
            await send(message)

        await self._app(scope, receive, stamp)


class _SettleMiddleware:
    """Before each request, lets show what has become visible meanwhile."""

    def __init__(self, app: ASGIApp, settle: Callable[[], None]) -> None:
        self._app = app
        self._settle = settle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._settle()
        await self._app(scope, receive, send)


def build_app() -> Starlette:
    """The application with fresh data."""
    clock, faults = Clock(), Faults()
    sources = {source.name: source for source in build_sources(clock)}
    routes: dict[str, list[BaseRoute]] = {name: s.routes() for name, s in sources.items()}

    def source_of(scope: Scope) -> str | None:
        for name, own in routes.items():
            if any(route.matches(scope)[0] is not Match.NONE for route in own):
                return name
        return None

    def body_of(source: str, kind: str) -> Response:
        return sources[source].fault_body(kind)

    control = Control(clock, faults, sources)
    return Starlette(
        routes=[
            Route("/_control", control.endpoint, methods=["GET", "POST"]),
            *(route for own in routes.values() for route in own),
        ],
        middleware=[
            Middleware(_DateMiddleware, clock=clock),
            Middleware(_SettleMiddleware, settle=control.settle),
            Middleware(GZipMiddleware, minimum_size=1000, compresslevel=1),
            Middleware(
                FaultMiddleware,
                faults=faults,
                source_of=source_of,
                body_of=body_of,
                at_once={name: source.at_once for name, source in sources.items()},
            ),
        ],
    )


def sandbox_env(origin: str) -> dict[str, str]:
    """The environment that points every source at a sandbox on `origin`."""
    return {
        name: value
        for source in build_sources(Clock())
        for name, value in source.env(origin).items()
    }


def _server() -> uvicorn.Server:
    # The Date header is the clock's; logs of single requests would drown what a demo prints.
    return uvicorn.Server(
        uvicorn.Config(
            build_app(),
            log_level="warning",
            access_log=False,
            server_header=False,
            date_header=False,
            http="h11",
            lifespan="off",
        )
    )


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except OSError as error:
        listener.close()
        raise UsageError(
            f"port {port} on {HOST} cannot be used ({error.strerror}); choose another with --port"
        ) from error
    listener.listen(128)
    return listener


def _origin(listener: socket.socket) -> str:
    """The URL under which a listening socket answers."""
    host, port = listener.getsockname()
    return f"http://{host}:{port}"


def serve(port: int, started: Callable[[str], None]) -> None:
    """Serve until interrupted; `started` is told the origin once the port is ours.

    Raises:
        UsageError: the port is taken.
    """
    listener = _listen(port)
    started(_origin(listener))
    _server().run(sockets=[listener])


@contextmanager
def running(port: int = 0) -> Iterator[str]:
    """A sandbox in a thread of this process; yields its origin. Port 0 takes any free one.

    Raises:
        UsageError: the port is taken.
    """
    listener = _listen(port)
    server = _server()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        yield _origin(listener)
    finally:
        server.should_exit = True
        thread.join(timeout=10)
        listener.close()
