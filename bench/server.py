"""Serves the data set as Stripe's list API does, from memory-mapped files, in a process of its own.

python -m bench.server FOLDER    prints its origin, and its CPU seconds when it is told to stop

Beside Stripe's paths, `/_edit?every=100` and `/_edit?newest=1000` give a hundredth or the newest of
the invoices another number, as two events each, and `/_requests` tells how many there were.
"""

import asyncio
import json
import mmap
import resource
import signal
import sys
import time
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import cast
from urllib.parse import parse_qs, urlsplit

import numpy as np
import numpy.typing as npt
import uvloop

from bench.data import FIRST_CREATED
from resources.stripe_api import API_VERSION

_EMPTY = b'{"object": "list", "data": [], "has_more": false}'
_ACCOUNT = b'{"object": "account", "id": "acct_bench"}'
_EVENTS_OF_AN_EDIT = ("invoice.updated", "invoice.paid")
#: The clock goes on by so much with each edit, for a window of changes ends a minute before now.
_AFTER_AN_EDIT = 120


class DataSet:
    """Pages of the data set as bytes."""

    def __init__(self, folder: Path) -> None:
        self._records, self._ends = _open(folder, "records.bin", "index.npy")
        self._lines, self._line_ends = _open(folder, "lines.bin", "line_index.npy")
        self.total = len(self._ends)
        self._span = int((folder / "span").read_text())
        self.requests = 0
        self._edited: dict[int, None] = {}  # in the order of their numbers
        self._edited_at = 0
        self._ahead = 0

    def now(self) -> float:
        """What this server takes for the time, in seconds since 1970."""
        return time.time() + self._ahead

    def answer(self, target: str) -> bytes:
        """The body for a path with its query."""
        parts = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/_requests":
            return str(self.requests).encode()
        if parts.path == "/_edit":
            return self._edit(query)
        self.requests += 1
        if parts.path == "/v1/account":
            return _ACCOUNT
        if parts.path == "/v1/events":
            return self._events(query)
        if parts.path == "/v1/invoices":
            return _EMPTY if "status" in query else self._page(query)
        if parts.path.startswith("/v1/invoices/"):
            number = int(parts.path.split("/")[3].removeprefix("in_"))
            if parts.path.endswith("/lines"):
                return _cut(self._lines, self._line_ends, number // 100)
            return self._record(number)
        return _EMPTY

    def _edit(self, query: dict[str, str]) -> bytes:
        if every := query.get("every"):
            # Seven past each hundred: as many have more lines than a page shows as elsewhere.
            self._edited = dict.fromkeys(range(7, self.total, int(every)))
        else:
            self._edited = dict.fromkeys(range(self.total - int(query["newest"]), self.total))
        self._edited_at = int(self.now())
        self._ahead += _AFTER_AN_EDIT
        return str(len(self._edited)).encode()

    def _record(self, number: int) -> bytes:
        record = _cut(self._records, self._ends, number)
        if number in self._edited:
            return record.replace(b'"number": "A-', b'"number": "B-', 1)
        return record

    def _events(self, query: dict[str, str]) -> bytes:
        """Newest first: the last edited invoice's last event."""
        since, until = (int(query.get(f"created[{bound}]", 0)) for bound in ("gte", "lt"))
        if not since <= self._edited_at < until:
            return _EMPTY
        numbers, kinds = list(self._edited), _EVENTS_OF_AN_EDIT
        high = len(numbers) * len(kinds)
        if after := query.get("starting_after"):
            high = int(after.removeprefix("evt_"))
        bottom = max(0, high - int(query.get("limit", "10")))
        events = []
        for place in range(high - 1, bottom - 1, -1):
            number, kind = numbers[place // len(kinds)], kinds[place % len(kinds)]
            head = {
                "id": f"evt_{place:010d}",
                "object": "event",
                "api_version": API_VERSION,
                "created": self._edited_at,
                "type": kind,
            }
            record = self._record(number)
            events.append(
                json.dumps(head).encode()[:-1] + b', "data": {"object": ' + record + b"}}"
            )
        return _list("/v1/events", events, more=bottom > 0)

    def _page(self, query: dict[str, str]) -> bytes:
        """Newest first, half-open in `created`, after the invoice `starting_after`."""
        low = self._first(int(query.get("created[gte]", FIRST_CREATED)))
        high = self._first(int(query.get("created[lt]", FIRST_CREATED + self._span + 1)))
        if after := query.get("starting_after"):
            high = int(after.removeprefix("in_"))
        bottom = max(low, high - int(query.get("limit", "10")))
        found = [self._record(number) for number in range(high - 1, bottom - 1, -1)]
        return _list("/v1/invoices", found, more=bottom > low)

    def _first(self, moment: int) -> int:
        """The number of the first invoice that was not created before `moment`."""
        number = -(-(moment - FIRST_CREATED) * self.total // self._span)
        return min(max(number, 0), self.total)


Ends = npt.NDArray[np.int64]


def _open(folder: Path, content: str, index: str) -> tuple[mmap.mmap, Ends]:
    with (folder / content).open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.load(folder / index)


def _list(url: str, data: list[bytes], *, more: bool) -> bytes:
    head = f'{{\n"object": "list",\n"url": "{url}",\n"has_more": {json.dumps(more)},\n"data": ['
    return head.encode() + b",\n".join(data) + b"]\n}"


def _cut(content: mmap.mmap, ends: Ends, number: int) -> bytes:
    start = int(ends[number - 1]) if number else 0
    return content[start : int(ends[number])]


class _Connection(asyncio.Protocol):
    def __init__(self, data: DataSet) -> None:
        self._data = data
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            request, self._buffer = self._buffer[:end], self._buffer[end + 4 :]
            target = request.split(b" ", 2)[1].decode()
            body = self._data.answer(target)
            date = format_datetime(datetime.fromtimestamp(self._data.now(), UTC), usegmt=True)
            self._transport.write(
                f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: {date}\r\n"
                f"Request-Id: req_1\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            )
            self._transport.write(body)


async def _serve(folder: Path) -> None:
    loop = asyncio.get_running_loop()
    data = DataSet(folder)
    server = await loop.create_server(lambda: _Connection(data), "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    print(f"http://{host}:{port}", flush=True)
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(used.ru_utime + used.ru_stime, flush=True)


if __name__ == "__main__":
    uvloop.run(_serve(Path(sys.argv[1])))
