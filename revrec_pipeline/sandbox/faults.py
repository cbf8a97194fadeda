"""Requests that fail on demand: the middleware that counts requests and plays armed faults.

Faults of the wire (reset, truncated, slow, HTML, repeated page) are the same for all sources and
live here; what a vendor says with 429 or 500 is in its own module.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from revrec_pipeline.sandbox.source import CommandError

#: Kinds that this module plays itself; any other kind is a body of the source's own.
WIRE_KINDS = frozenset({"html", "reset", "truncate", "slow", "repeat"})

_GATEWAY_PAGE = (
    "<html><head><title>503 Service Temporarily Unavailable</title></head>"
    "<body><center><h1>503 Service Temporarily Unavailable</h1></center></body></html>"
)


@dataclass(slots=True)
class Fault:
    """One armed fault: plays on the requests number `after + 1` to `after + times` that match."""

    source: str
    kind: str
    path: str = "*"  # shell pattern
    times: int = 1
    after: int = 0
    seconds: float = 1.0  # how long `slow` waits
    status: int | None = None  # instead of the kind's own
    headers: dict[str, str] = field(default_factory=dict)  # added to the answer

    @classmethod
    def from_command(cls, command: Mapping[str, Any]) -> "Fault":
        """Read `{"op": "fault", "source": …, "kind": …, …}`."""
        fields = {name: value for name, value in command.items() if name != "op"}
        try:
            return cls(**fields)
        except TypeError as error:
            raise CommandError(f"no such fault: {error}") from error

    def strikes(self, source: str, path: str) -> bool:
        """Whether this request fails; counts it if it matches."""
        if self.times <= 0 or source != self.source or not fnmatchcase(path, self.path):
            return False
        if self.after > 0:
            self.after -= 1
            return False
        self.times -= 1
        return True


class Faults:
    """Armed faults, how many requests came for what and when, and the last body of each path."""

    def __init__(self) -> None:
        self.armed: list[Fault] = []
        self.requests: dict[str, Counter[str]] = {}
        self.most_at_once: dict[str, int] = {}
        self._arrivals: dict[str, list[float]] = {}
        self._running: Counter[str] = Counter()
        self.last_bodies: dict[str, tuple[int, list[tuple[bytes, bytes]], bytes]] = {}

    def reset(self) -> None:
        """Disarm all and count from zero."""
        self.armed.clear()
        self.requests.clear()
        self.most_at_once.clear()
        self._arrivals.clear()
        self.last_bodies.clear()

    @contextmanager
    def counted(self, source: str, path: str) -> Iterator[int]:
        """Count a request, and for as long as it lasts, that it is running; how many then are."""
        self._arrivals.setdefault(source, []).append(time.monotonic())
        self.requests.setdefault(source, Counter())[path] += 1
        self._running[source] += 1
        self.most_at_once[source] = max(self.most_at_once.get(source, 0), self._running[source])
        try:
            yield self._running[source]
        finally:
            self._running[source] -= 1

    def most_in(self, seconds: float) -> dict[str, int]:
        """The most requests that each source was sent in any stretch of so many seconds."""
        found = {}
        for source, times in self._arrivals.items():
            first = most = 0
            for last, moment in enumerate(times):
                while times[first] <= moment - seconds:
                    first += 1
                most = max(most, last - first + 1)
            found[source] = most
        return found

    def next_for(self, source: str, path: str) -> Fault | None:
        """The first armed fault that this request meets."""
        return next((fault for fault in self.armed if fault.strikes(source, path)), None)


class FaultMiddleware:
    """Counts every request of a source and plays the faults that are armed for it."""

    def __init__(
        self,
        app: ASGIApp,
        faults: Faults,
        source_of: Callable[[Scope], str | None],
        body_of: Callable[[str, str], Response],
        at_once: Mapping[str, tuple[int, str] | None],
    ) -> None:
        self._app = app
        self._faults = faults
        self._source_of = source_of
        self._body_of = body_of
        self._at_once = at_once

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count, then refuse one too many, play a request's fault, or pass it on."""
        source = self._source_of(scope) if scope["type"] == "http" else None
        if source is None:
            await self._app(scope, receive, send)
            return
        allowed = self._at_once[source]
        with self._faults.counted(source, scope["path"]) as running:
            if allowed is not None and running > allowed[0]:
                await self._body_of(source, allowed[1])(scope, receive, send)
            else:
                await self._play(source, scope, receive, send)

    async def _play(self, source: str, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        fault = self._faults.next_for(source, path)
        if fault is None:
            await self._pass(scope, receive, send)
        elif fault.kind == "reset":
            await _break_connection(receive)
        elif fault.kind == "slow":
            await asyncio.sleep(fault.seconds)
            await self._pass(scope, receive, send)
        elif fault.kind == "truncate":
            status, headers, body = await self._capture(scope, receive)
            await _answer(send, status, headers, body[: len(body) // 2])
        elif fault.kind == "repeat":
            answer = self._faults.last_bodies.get(path)
            await _answer(send, *(answer or await self._capture(scope, receive)))
        else:
            if fault.kind == "html":
                response: Response = HTMLResponse(_GATEWAY_PAGE, 503)
            else:
                response = self._body_of(source, fault.kind)
            response.status_code = fault.status or response.status_code
            response.headers.update(fault.headers)
            await response(scope, receive, send)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = await self._capture(scope, receive)
        self._faults.last_bodies[scope["path"]] = answer
        await _answer(send, *answer)

    async def _capture(
        self, scope: Scope, receive: Receive
    ) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        """The whole answer of the application; sandbox bodies are small."""
        status, headers, chunks = 0, [], []

        async def collect(message: Message) -> None:
            nonlocal status, headers
            if message["type"] == "http.response.start":
                status, headers = message["status"], list(message["headers"])
            else:
                chunks.append(message.get("body", b""))

        await self._app(scope, receive, collect)
        return status, headers, b"".join(chunks)


async def _answer(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    kept = [(name, value) for name, value in headers if name.lower() != b"content-length"]
    kept.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": kept})
    await send({"type": "http.response.body", "body": body})


async def _break_connection(receive: Receive) -> None:
    """Drop the TCP connection without an answer.

    ASGI has no word for it: uvicorn's `receive` is a method of the request's cycle, which holds the
    transport.
    """
    receive.__self__.transport.abort()  # type: ignore[attr-defined]
    while (await receive())["type"] != "http.disconnect":
        pass
