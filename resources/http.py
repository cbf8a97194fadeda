"""What all source clients share about HTTP: origins, clocks and headers.

How fast requests are sent and when they are tried again is in `traffic`; log-in, paging and what
counts as a limit differ by vendor and are in each source's own module.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit, urlunsplit

from revrec_pipeline.errors import SourceSchemaError

#: Connecting takes milliseconds or fails; a page of a loaded system may take its time.
CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 80.0

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
