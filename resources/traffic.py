"""How fast one account is asked: so many requests at once, so many in a time, and waiting together.

A vendor counts an account's requests whoever sends them, so all threads of a client share this. It
is no queue between processes: a source is pulled by one run at a time (ADR 0021), and the next
run's client goes on counting where the last one's stopped, by the file that `remember` writes.
"""

import logging
import os
import random
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from heapq import heappop, heappush
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from resources.at_once import go_on
from resources.http import Sleep
from revrec_pipeline.errors import SourceLimitError

#: The longest pause that a run takes because a vendor asks for it; airbyte PR #85216 slept 10 days.
RETRY_AFTER_CAP = 60.0
_GLANCE = 0.05


class Window:
    """So many requests in any stretch of so many seconds, as the vendor counts them.

    Each request takes a place, which is free again so many seconds after its answer: the vendor has
    counted it at some time in between, and has forgotten it by then. Counted from the sending, two
    requests that travel at different speeds would arrive closer than they were sent.
    """

    def __init__(self, number: int, seconds: float, sleep: Sleep) -> None:
        self._seconds = seconds
        self._sleep = sleep
        self._untaken = number
        self._free_at: list[float] = []  # a heap: when each place that was taken is free again
        self._changed = threading.Condition()

    @classmethod
    def per_second(cls, rate: float, sleep: Sleep, *, over: float = 1.0) -> "Window":
        """A rate that the vendor counts over so many seconds; one below one takes longer."""
        number = max(int(rate * over), 1)
        return cls(number, number / rate, sleep)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a place, and keep it for the time of the request."""
        if (wait := self._take() - time.monotonic()) > 0:
            try:
                self._sleep(wait)
            except BaseException:
                self._give_back()
                raise
        try:
            yield
        finally:
            self._give_back()

    def _take(self) -> float:
        """The place that is free first, and when that is."""
        with self._changed:
            while True:
                if self._free_at and (not self._untaken or self._free_at[0] <= time.monotonic()):
                    return heappop(self._free_at)
                if self._untaken:
                    self._untaken -= 1
                    return 0.0
                self._changed.wait()

    def _give_back(self, seconds: float | None = None) -> None:
        with self._changed:
            wait = self._seconds if seconds is None else min(seconds, self._seconds)
            heappush(self._free_at, time.monotonic() + wait)
            self._changed.notify()

    def taken(self) -> list[float]:
        """In how many seconds each place is free, of those that are not yet."""
        now = time.monotonic()
        with self._changed:
            return sorted(free - now for free in self._free_at if free > now)

    def take(self, seconds: Iterable[float]) -> None:
        """Places that another client has taken, free in so many seconds."""
        for wait in sorted(seconds, reverse=True)[: self._untaken]:
            self._untaken -= 1
            self._give_back(wait)


class Traffic:
    """The requests of one account, from any thread."""

    def __init__(self, concurrency: int, *windows: Window, sleep: Sleep) -> None:
        self.concurrency = concurrency
        self.sleep = sleep
        self.windows = windows
        self._in_flight = 0
        self._leader: Retry | None = None  # the request that tries again, while the others wait
        self._changed = threading.Condition()

    def enter(self, request: "Retry") -> None:
        """Wait for a place among the requests in flight, and while another one tries again."""
        with self._changed:
            while not self._changed.wait_for(lambda: self._has_room(request), _GLANCE):
                go_on()  # nobody wakes the others when the one that tried again gives up
            self._in_flight += 1

    def _has_room(self, request: "Retry") -> bool:
        return self._in_flight < self.concurrency and self._leader in (None, request)

    def leave(self) -> None:
        """A request was answered or has failed."""
        with self._changed:
            self._in_flight -= 1
            self._changed.notify_all()

    def lead(self, request: "Retry") -> bool:
        """Whether this is the one request that waits and tries again for all."""
        with self._changed:
            self._leader = self._leader or request
            return self._leader is request

    def end(self, request: "Retry", *, passed: bool) -> None:
        """A request needs no further try; if it was taken, the others may go on."""
        with self._changed:
            if self._leader is request:
                self._leader = None
                if passed:
                    self._changed.notify_all()

    # -- from one client to the next ---------------------------------------------------------

    def remember(self, file: Path) -> None:
        """Leave what the windows have counted to the next client."""
        now = time.time()
        counted = [[now + wait for wait in window.taken()] for window in self.windows]
        if any(counted):
            new = file.with_name(f"{file.name}.{os.getpid()}")
            with suppress(OSError):  # a limit that is met is waited out all the same
                file.parent.mkdir(parents=True, exist_ok=True)
                new.write_bytes(msgspec.json.encode(counted))
                new.replace(file)

    def recall(self, file: Path) -> None:
        """Go on counting where the last client stopped."""
        try:
            counted = msgspec.json.decode(file.read_bytes(), type=list[list[float]])
        except (OSError, msgspec.MsgspecError):  # new, or damaged: then nothing was counted
            return
        now = time.time()
        for window, stamps in zip(self.windows, counted, strict=False):
            window.take([stamp - now for stamp in stamps if stamp > now])


@dataclass(slots=True, eq=False)
class Retry:
    """The tries of one request, as a block that ends without an error when one was taken.

    What one request meets, a limit or an outage, most others would meet as well. So the first one
    that fails waits and tries again, and the others wait for it: eight threads do not make eight
    times six tries, and a limit is not answered by seven more requests.
    """

    source: str
    request: str  # method and path, for the log
    log: logging.Logger
    traffic: Traffic
    attempts: int = 6
    first_delay: float = 0.5
    longest_delay: float = 16.0
    _failures: int = field(default=0, init=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.traffic.end(self, passed=error is None)

    @contextmanager
    def turn(self, *more: Window) -> Iterator[None]:
        """One try: waits for its turn, and keeps it until the block ends.

        `more` are windows that count this request beside those that count all.

        Raises:
            EndedError: the pull that it is for has failed meanwhile.
        """
        self.traffic.enter(self)
        try:
            with ExitStack() as stack:
                for window in (*self.traffic.windows, *more):
                    stack.enter_context(window.turn())
                go_on()
                yield
        finally:
            self.traffic.leave()

    def wait(self, reason: str, asked: float | None = None) -> bool:
        """Wait before the next try; False when there is none left.

        `asked` is the vendor's `Retry-After`.

        Raises:
            SourceLimitError: the vendor asks for a longer pause than a run may take.
        """
        self._failures += 1
        if asked is not None and asked > RETRY_AFTER_CAP:
            raise SourceLimitError(
                self.source,
                f"{self.request} must wait {asked:.0f} s, longer than a run may; sync again later",
                retryable=False,
                retry_after=asked,
            )
        if self._failures >= self.attempts:
            return False
        if not self.traffic.lead(self):
            return True
        delay = min(self.first_delay * 2 ** (self._failures - 1), self.longest_delay)
        # Jitter keeps workers that failed together from coming back together.
        delay = asked if asked is not None else delay * random.uniform(0.75, 1.25)  # noqa: S311
        self.log.warning(
            "%s: %s: %s; try %d of %d in %.1f s",
            self.source,
            self.request,
            reason,
            self._failures + 1,
            self.attempts,
            delay,
        )
        self.traffic.sleep(delay)
        return True
