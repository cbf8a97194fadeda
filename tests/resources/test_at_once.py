"""Several items at once: their order, how many, what a failure ends, and what waits in memory."""

import threading
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.at_once import AHEAD, EndedError, each, go_on, in_order, parts, pause, to_the_end
from revrec_pipeline.errors import SourceLimitError

#: Longer than any machine takes; nothing waits so long unless it is broken.
LONG = 60.0


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 5), max_size=12), st.integers(1, 6))
def test_results_come_in_the_order_of_the_items(sizes: list[int], limit: int) -> None:
    numbered = list(enumerate(sizes))

    def produce(item: tuple[int, int]) -> Iterator[tuple[int, int]]:
        number, size = item
        return ((number, result) for result in range(size))

    expected = [(number, result) for number, size in numbered for result in range(size)]
    assert list(in_order(produce, numbered, limit)) == expected


def test_as_many_items_as_allowed_are_begun_and_no_more() -> None:
    together = threading.Barrier(3)
    running, most, lock = 0, 0, threading.Lock()

    def call(number: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait(LONG)  # breaks unless three are there at the same time
        with lock:
            running -= 1
        return number

    assert list(each(call, range(9), 3)) == list(range(9))
    assert most == 3


def test_an_item_is_taken_no_sooner_than_it_is_begun() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    results = each(lambda number: number, items(), 4)
    assert next(results) == 0
    assert len(taken) <= 4
    results.close()  # type: ignore[attr-defined]


def test_results_that_nobody_takes_yet_are_few() -> None:
    made: list[tuple[int, int]] = []
    first_waits, all_full = threading.Event(), threading.Event()

    def produce(item: int) -> Iterator[int]:
        if item == 0:
            assert first_waits.wait(LONG)
        for number in range(50):
            made.append((item, number))
            if item == 2 and number == AHEAD:
                all_full.set()
            yield number

    results = in_order(produce, range(3), 3)
    taker = threading.Thread(target=lambda: list(results))
    taker.start()
    assert all_full.wait(LONG)
    assert len([one for one in made if one[0] == 2]) == AHEAD + 1  # one waits to be put
    first_waits.set()
    taker.join(LONG)
    assert len(made) == 150


def test_a_failure_ends_the_others_and_is_the_one_error() -> None:
    asked: list[int] = []

    def call(number: int) -> int:
        if number == 2:
            raise SourceLimitError("stripe", "the day's limit is used up", retryable=False)
        asked.append(number)
        with pytest.raises(EndedError):
            pause(LONG)  # as one does who waits for the next try
        with pytest.raises(EndedError):
            go_on()
        raise EndedError

    with pytest.raises(SourceLimitError, match=r"^stripe: the day's limit is used up$"):
        list(each(call, range(50), 4))
    assert set(asked) <= {0, 1, 3}
    assert threading.active_count() == len(threading.enumerate())


def test_a_failure_reaches_what_is_nested_in_its_neighbours() -> None:
    inside = threading.Event()

    def inner(_: int) -> int:
        inside.set()
        pause(LONG)
        raise AssertionError("it was not woken up")

    def outer(number: int) -> Iterator[int]:
        if number == 1:
            assert inside.wait(LONG)
            raise ValueError("one for all")
        return each(inner, range(4), 2)

    with pytest.raises(ValueError, match="one for all"):
        list(in_order(outer, range(2), 2))


def test_a_failure_that_the_caller_gets_over_ends_nothing_else() -> None:
    def fails(_: int) -> int:
        raise ValueError("not offered")

    def outer(number: int) -> Iterator[int]:
        try:
            yield from each(fails, range(2), 2)
        except ValueError:
            go_on()
            yield number

    assert list(in_order(outer, range(3), 3)) == [0, 1, 2]


def test_who_stops_reading_ends_the_threads() -> None:
    closed = threading.Event()

    def produce(number: int) -> Iterator[int]:
        try:
            yield from range(1000)
        finally:
            closed.set()

    before = threading.active_count()
    results = in_order(produce, range(4), 4)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert closed.wait(LONG)
    assert threading.active_count() == before


def test_what_tidies_up_is_done_also_after_a_failure() -> None:
    tidied: list[int] = []
    ready = threading.Barrier(2)

    def call(number: int) -> int:
        ready.wait(LONG)
        if number == 1:
            raise ValueError
        try:
            pause(LONG)
        finally:
            with to_the_end():
                go_on()
                tidied.append(number)
        return number

    with pytest.raises(ValueError):  # noqa: PT011
        list(each(call, range(2), 2))
    assert tidied == [0]


@given(st.integers(0, 10**6), st.integers(1, 10**6), st.integers(1, 9))
def test_parts_cover_the_range_once(start: int, length: int, count: int) -> None:
    found = parts(start, start + length, count)
    assert 1 <= len(found) <= count
    assert found[0][0] == start
    assert found[-1][1] == start + length
    assert all(one[1] == other[0] for one, other in pairwise(found))
    assert all(low < high for low, high in found)
    assert parts(start, start, count) == []
