"""The sandbox's time: real time plus an offset that a command may move forward."""

from datetime import UTC, datetime, timedelta


class Clock:
    """What the `Date` header, events and edits of every source are stamped with."""

    def __init__(self) -> None:
        self._offset = timedelta()

    def now(self) -> datetime:
        """The current instant, in UTC."""
        return datetime.now(UTC) + self._offset

    def timestamp(self) -> int:
        """The current instant in whole epoch seconds."""
        return int(self.now().timestamp())

    def advance(self, seconds: float) -> None:
        """Move the clock forward, so that retention, expiry and lag can be seen without waiting."""
        if seconds < 0:
            raise ValueError("the clock only moves forward")
        self._offset += timedelta(seconds=seconds)

    def reset(self) -> None:
        """Back to real time."""
        self._offset = timedelta()
