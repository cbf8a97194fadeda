"""Several requests of one pull at once: results in their order, memory flat, one failure ends all.

Threads wait for the vendor, nothing else. How many requests are in flight, and at what pace, is
`traffic`'s to say, whoever asks; which requests do not depend on one another, a source's own module
knows. Calls may be nested: each has threads of its own, so none can wait for another one's.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Generic, TypeVar

#: Results of one item that wait for those of the items before it, beside the one in the making:
#: they are pages, which reach megabytes.
AHEAD = 1

A = TypeVar("A")
B = TypeVar("B")


class EndedError(Exception):
    """Another request of the same pull has failed, or nobody reads on: this one is not needed."""


class _Stream(Generic[B]):
    """The results of one item, as they come."""

    def __init__(self) -> None:
        self.results: deque[B] = deque()
        self.ended = False


class _Group:
    """The threads of one call; it ends with the group that it was called in."""

    def __init__(self, parent: "_Group | None") -> None:
        self.changed = threading.Condition()
        self.error: BaseException | None = None
        self._parent = parent
        self._stopped = False
        self._threads: list[threading.Thread] = []

    @property
    def stopped(self) -> bool:
        return self._stopped or (self._parent is not None and self._parent.stopped)

    def begin(self, produce: Callable[[A], Iterable[B]], item: A) -> _Stream[B]:
        stream: _Stream[B] = _Stream()
        thread = threading.Thread(target=self._run, args=(stream, produce, item), daemon=True)
        self._threads = [one for one in self._threads if one.is_alive()] + [thread]
        thread.start()
        return stream

    def stop(self) -> None:
        with self.changed:
            self._stopped = True
            self.changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _run(self, stream: _Stream[B], produce: Callable[[A], Iterable[B]], item: A) -> None:
        _here.group = self
        try:
            results = iter(produce(item))
            try:
                for result in results:
                    self._add(stream, result)
            finally:
                if isinstance(results, Generator):
                    results.close()
        except EndedError:
            pass
        except BaseException as error:  # noqa: BLE001 - the consumer raises it
            with self.changed:
                self.error = self.error or error
                self._stopped = True
        finally:
            with self.changed:
                stream.ended = True
                self.changed.notify_all()

    def _add(self, stream: _Stream[B], result: B) -> None:
        with self.changed:
            self.changed.wait_for(lambda: self.stopped or len(stream.results) < AHEAD)
            if self.stopped:
                raise EndedError
            stream.results.append(result)
            self.changed.notify_all()

    def results(self, stream: _Stream[B]) -> Iterator[B]:
        """A stream's results up to its end; the first failure of any stream instead."""
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.stopped or stream.results or stream.ended)
                if self.error is not None:
                    raise self.error
                if self.stopped:
                    raise EndedError
                if not stream.results:
                    return
                result = stream.results.popleft()
                self.changed.notify_all()
            yield result


class _Here(threading.local):
    group: _Group | None = None


_here = _Here()


def in_order(produce: Callable[[A], Iterable[B]], items: Iterable[A], limit: int) -> Iterator[B]:
    """What `produce` makes of each item, one item after the other; `limit` items are begun at once.

    `items` are taken by the caller's thread, and no sooner than they are begun. The first failure
    ends what the others do and is raised once none of them runs any more; so does closing this.
    """
    if (isinstance(items, Sequence) and len(items) <= 1) or limit == 1:
        for item in items:
            yield from produce(item)
        return
    group = _Group(_here.group)
    begun: deque[_Stream[B]] = deque()
    try:
        for item in items:
            begun.append(group.begin(produce, item))
            while len(begun) >= limit:
                yield from group.results(begun.popleft())
        while begun:
            yield from group.results(begun.popleft())
    finally:
        group.stop()


def each(call: Callable[[A], B], items: Iterable[A], limit: int) -> Iterator[B]:
    """What `call` makes of each item, in the order of the items; see `in_order`."""
    return in_order(lambda item: (call(item),), items, limit)


def go_on() -> None:
    """Say that a request is about to begin.

    Raises:
        EndedError: the pull that it is for has failed meanwhile.
    """
    if _here.group is not None and _here.group.stopped:
        raise EndedError


def pause(seconds: float) -> None:
    """Sleep, and wake up when the pull has failed meanwhile.

    Raises:
        EndedError: it has.
    """
    group, until = _here.group, time.monotonic() + seconds
    if group is None:
        time.sleep(seconds)
        return
    while (left := until - time.monotonic()) > 0:
        go_on()
        time.sleep(min(left, 0.05))
    go_on()


@contextmanager
def to_the_end() -> Iterator[None]:
    """What is done in this block is done also when the pull has failed: it tidies up."""
    group, _here.group = _here.group, None
    try:
        yield
    finally:
        _here.group = group


def parts(start: int, end: int, count: int) -> list[tuple[int, int]]:
    """The half-open range of seconds in up to so many half-open ranges of the same length."""
    edges = sorted({start + (end - start) * number // count for number in range(count + 1)})
    return list(pairwise(edges))
