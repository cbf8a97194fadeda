"""What Stripe's event feed says of each document: gone, shown as it is, or to be asked for.

An event shows its object as it was after the event, in the API version that the account had then.
Where that is the version that we pin, and nothing else happened to the object since, the event is
as good as an answer, and a hundred of them come with one request. `stripe` decides which documents
the feed may speak for and asks for all others.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import msgspec

from resources.stripe_api import API_VERSION

T = TypeVar("T")


class EventObject(msgspec.Struct):
    """What tells which document an event is about."""

    object: str
    id: str | None = None
    created: int | None = None


class _Data(msgspec.Struct):
    object: msgspec.Raw


class Event(msgspec.Struct):
    """An event; its object is left as bytes."""

    id: str
    created: int
    type: str
    data: _Data
    api_version: str | None = None


@dataclass(slots=True)
class Subject(Generic[T]):
    """A document with events in the window, and the newest of them: those of its last second."""

    kind: str
    id: str
    created: int | None  # when the document was created
    changed: int  # the second of its newest events
    source: T  # the answer that brought them
    deleted: bool = False
    #: What the newest events show, each different thing once; empty if one is of another version.
    shown: set[bytes] = field(default_factory=set)
    foreign: bool = False  # an event of another API version is among them

    @property
    def snapshot(self) -> bytes | None:
        """The document after its newest event, if the feed tells that for sure.

        The order of events within one second is not told; they must all show the same.
        """
        return next(iter(self.shown)) if len(self.shown) == 1 and not self.foreign else None


def subjects(pages: Iterable[tuple[T, list[Event]]]) -> Iterator[Subject[T]]:
    """Each document of a feed once, in the order of its newest event, newest first.

    Only the events of one second are held at a time.
    """
    told: set[tuple[str, str]] = set()
    waiting: dict[tuple[str, str], Subject[T]] = {}
    second: int | None = None
    for source, events in pages:
        for event in events:
            if event.created != second:
                yield from waiting.values()
                told.update(waiting)
                waiting, second = {}, event.created
            about = msgspec.json.decode(event.data.object, type=EventObject)
            if about.id is None or (about.object, about.id) in told:
                continue
            key = (about.object, about.id)
            found = waiting.setdefault(key, Subject(*key, about.created, event.created, source))
            found.deleted |= event.type.endswith(".deleted")
            found.foreign |= event.api_version != API_VERSION
            if not found.foreign:
                found.shown.add(bytes(event.data.object))
    yield from waiting.values()
