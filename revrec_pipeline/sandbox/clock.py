"""The sandbox's time: real time plus an offset that a command may move forward."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta


class Clock:
    """What the `Date` header, events and edits of every source are stamped with."""

    def __init__(self) -> None:
        self._offset = timedelta()
        self._held: datetime | None = None

    def now(self) -> datetime:
        """The current instant, in UTC."""
        return self._held or datetime.now(UTC) + self._offset

    def timestamp(self) -> int:
        """The current instant in whole epoch seconds."""
        return int(self.now().timestamp())

    def advance(self, seconds: float) -> None:
        """Move the clock forward, so that retention, expiry and lag can be seen without waiting."""
        if seconds < 0:
            raise ValueError("the clock only moves forward")
        self._offset += timedelta(seconds=seconds)

    @contextmanager
    def held_at(self, moment: datetime) -> Iterator[None]:
        """Within the block it is this moment: what is done there is stamped with it."""
        self._held = moment
        try:
            yield
        finally:
            self._held = None

    def reset(self, *, behind: float = 0) -> None:
        """Back to real time, or so many seconds behind it."""
        self._offset = -timedelta(seconds=behind)
