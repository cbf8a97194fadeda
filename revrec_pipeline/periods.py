"""Accounting months: the text `2026-01`, its bounds, and the months between two of them."""

import re
from collections.abc import Iterator
from datetime import date, datetime
from zoneinfo import ZoneInfo

from revrec_pipeline.errors import UsageError

_MONTH = re.compile(r"(\d{4})-(0[1-9]|1[0-2])")


def parse_period(text: str) -> str:
    """Return `text` if it is a month like `2026-01`; else refuse it by name."""
    if not _MONTH.fullmatch(text):
        raise UsageError(f"{text!r} is not a month; write it like 2026-01")
    return text


def first_day(period: str) -> date:
    """The month's first day."""
    return date.fromisoformat(f"{period}-01")


def next_period(period: str) -> str:
    """The month after `period`."""
    year, month = divmod(first_day(period).month, 12)
    return f"{first_day(period).year + year:04d}-{month + 1:02d}"


def period_of(moment: datetime, timezone: str) -> str:
    """The month of an instant, as clocks in `timezone` show it."""
    return moment.astimezone(ZoneInfo(timezone)).strftime("%Y-%m")


def start_of_day(moment: datetime, timezone: str) -> datetime:
    """The instant at which the day of `moment` began, as clocks in `timezone` show it."""
    return moment.astimezone(ZoneInfo(timezone)).replace(hour=0, minute=0, second=0, microsecond=0)


def bounds(period: str, timezone: str) -> tuple[datetime, datetime]:
    """The half-open range of instants of a month in `timezone`."""
    zone = ZoneInfo(timezone)
    start, end = first_day(period), first_day(next_period(period))
    return (
        datetime(start.year, start.month, 1, tzinfo=zone),
        datetime(end.year, end.month, 1, tzinfo=zone),
    )


def period_range(start: str, end: str) -> Iterator[str]:
    """All months from `start` to `end`, both included."""
    if start > end:
        raise UsageError(f"the first month ({start}) is after the last ({end})")
    period = start
    while period <= end:
        yield period
        period = next_period(period)
