"""What all source clients share about HTTP: origins, clocks, waiting, and how to tell of a failure.

Log-in, paging and what counts as a limit differ by vendor and are in each source's own module.
"""

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit, urlunsplit

from revrec_pipeline.errors import SourceLimitError, SourceSchemaError

#: Connecting takes milliseconds or fails; a page of a loaded system may take its time.
CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 80.0
#: The longest pause that a run takes because a vendor asks for it; airbyte PR #85216 slept 10 days.
RETRY_AFTER_CAP = 60.0

Sleep = Callable[[float], None]


def at_origin(url: str, origin: str | None) -> str:
    """`url` on another origin, keeping path and query; unchanged without one."""
    if origin is None:
        return url
    there = urlsplit(origin)
    return urlunsplit(urlsplit(url)._replace(scheme=there.scheme, netloc=there.netloc))


def server_time(source: str, headers: Mapping[str, str]) -> datetime:
    """The vendor's clock, from the `Date` header; windows are cut by it.

    Raises:
        SourceSchemaError: there is none, so that some proxy must have answered.
    """
    try:
        return parsedate_to_datetime(headers["Date"]).astimezone(UTC)
    except (KeyError, ValueError) as error:
        raise SourceSchemaError(
            source, "an answer carries no Date header; is a proxy between us and the API?"
        ) from error


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of a `Retry-After` header, which may hold a number or a date."""
    text = headers.get("Retry-After")
    if text is None:
        return None
    if text.strip().isdigit():
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max((when - datetime.now(UTC)).total_seconds(), 0.0)


@dataclass(slots=True)
class Retry:
    """The tries of one request: how often, and how long to wait in between."""

    source: str
    request: str  # method and path, for the log
    log: logging.Logger
    sleep: Sleep
    attempts: int = 6
    first_delay: float = 0.5
    longest_delay: float = 16.0
    _failures: int = field(default=0, init=False)

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
        self.sleep(delay)
        return True


class Pacer:
    """Spaces the requests of all threads so that a published rate is not exceeded."""

    def __init__(self, per_second: float, sleep: Sleep) -> None:
        self._interval = 1 / per_second
        self._sleep = sleep
        self._lock = threading.Lock()
        self._next = 0.0

    def wait(self) -> None:
        """Wait for this caller's turn."""
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + self._interval
        if turn > now:
            self._sleep(turn - now)


class MinutePacer(Pacer):
    """Lets as many requests through as a minute may have, at once if need be; then they wait.

    For vendors that count by the minute: a sync of a few requests does not have to spread them.
    """

    def __init__(self, per_minute: int, sleep: Sleep) -> None:
        super().__init__(per_minute / 60, sleep)
        self._turns: deque[float] = deque(maxlen=per_minute)

    def wait(self) -> None:
        """Wait until a whole minute's number of requests is a minute old."""
        with self._lock:
            now = time.monotonic()
            turn = now
            if len(self._turns) == self._turns.maxlen:
                turn = max(now, self._turns[0] + 60)
            self._turns.append(turn)
        if turn > now:
            self._sleep(turn - now)
