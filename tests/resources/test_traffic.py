"""How fast an account is asked: never faster than a limit, as fast as it allows, and who waits."""

import json
import logging
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.at_once import each
from resources.traffic import Retry, Traffic, Window
from revrec_pipeline.errors import SourceLimitError, SourceTimeoutError

LONG = 60.0
_log = logging.getLogger(__name__)


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(time, "monotonic", lambda: made.now)
    return made


@given(
    st.lists(st.tuples(st.floats(0, 3), st.floats(0, 1)), max_size=60),
    st.integers(1, 7),
    st.floats(0.5, 5),
)
def test_whenever_a_vendor_counts_a_request_no_window_has_too_many(
    latencies: list[tuple[float, float]], number: int, seconds: float
) -> None:
    """One after the other; it counts each at some time between its sending and its answer."""
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: clock.now)
        window = Window(number, seconds, clock.sleep)
        counted = []
        for latency, when in latencies:
            with window.turn():
                counted.append(clock.now + latency * when)
                clock.now += latency
    for first in counted:
        assert sum(first <= one < first + seconds - 1e-6 for one in counted) <= number


def test_a_minute_s_requests_need_no_spaces_and_the_next_waits_for_the_minute(clock: Clock) -> None:
    window = Window(150, 60, clock.sleep)
    times = []
    for _ in range(400):
        with window.turn():
            times.append(clock.now)
    assert times[:150] == [1000.0] * 150
    assert times[150:300] == [1060.0] * 150
    assert max(sum(start <= one < start + 60 for one in times) for start in times) == 150


def test_rates_below_one_and_broken_ones_are_kept(clock: Clock) -> None:
    for rate, times in ((0.5, [1000.0, 1002.0, 1004.0]), (2.5, [1000.0, 1000.0, 1000.8])):
        clock.now = 1000.0
        window = Window.per_second(rate, clock.sleep)
        found = []
        for _ in range(3):
            with window.turn():
                found.append(clock.now)
        assert found == pytest.approx(times)


def test_a_window_that_is_in_flight_as_a_whole_waits_for_an_answer() -> None:
    window = Window(2, 0.0, time.sleep)
    together = threading.Barrier(2)
    most: list[int] = []
    running: list[int] = []

    def ask(number: int) -> None:
        with window.turn():
            running.append(number)
            most.append(len(running))
            together.wait(LONG)
            running.remove(number)

    list(each(ask, range(6), 6))
    assert max(most) == 2


def test_a_million_a_second_costs_nothing_to_make() -> None:
    window = Window.per_second(1_000_000, time.sleep)
    for _ in range(1000):
        with window.turn():
            pass
    assert len(window._free_at) <= 1000


# -- from one client to the next -----------------------------------------------------------------


def test_the_next_client_goes_on_counting(tmp_path: Path, clock: Clock) -> None:
    file = tmp_path / "limits" / "xero.json"
    first = Traffic(5, Window(60, 60, clock.sleep), sleep=clock.sleep)
    for _ in range(40):
        with Retry("xero", "GET /", _log, first) as retry, retry.turn():
            pass
    first.remember(file)

    second = Traffic(5, Window(60, 60, clock.sleep), sleep=clock.sleep)
    second.recall(file)
    sent = []
    for _ in range(21):
        with Retry("xero", "GET /", _log, second) as retry, retry.turn():
            sent.append(clock.now - 1000)
    assert sent[:20] == [0.0] * 20
    assert 55 < sent[20] <= 60


def test_what_is_older_than_the_window_is_not_remembered(tmp_path: Path, clock: Clock) -> None:
    file = tmp_path / "limits.json"
    traffic = Traffic(5, Window(60, 60, clock.sleep), sleep=clock.sleep)
    with Retry("xero", "GET /", _log, traffic) as retry, retry.turn():
        pass
    clock.now += 61
    traffic.remember(file)
    assert not file.exists()


@pytest.mark.parametrize("text", ["", "{", "[[1e99, 1e99]]", "null", "[3]", '[["a"]]'])
def test_a_file_that_is_damaged_or_from_the_future_holds_up_nobody_for_long(
    tmp_path: Path, clock: Clock, text: str
) -> None:
    file = tmp_path / "limits.json"
    file.write_text(text, encoding="utf-8")
    traffic = Traffic(1, Window(1, 60, clock.sleep), sleep=clock.sleep)
    traffic.recall(file)
    with Retry("xero", "GET /", _log, traffic) as retry, retry.turn():
        assert clock.now <= 1000 + 60


def test_two_windows_are_remembered_apart(tmp_path: Path, clock: Clock) -> None:
    file = tmp_path / "limits.json"
    windows = Window(10, 1, clock.sleep), Window(500, 60, clock.sleep)
    traffic = Traffic(10, *windows, sleep=clock.sleep)
    for _ in range(12):
        with Retry("quickbooks", "GET /", _log, traffic) as retry, retry.turn():
            pass
    traffic.remember(file)
    short, long = json.loads(file.read_text())
    assert (len(short), len(long)) == (2, 12)  # ten were a second old


# -- who waits -----------------------------------------------------------------------------------


class Vendor:
    """Is asked by all at the same time, and refuses until somebody has waited so often."""

    def __init__(self, waits: int, concurrency: int) -> None:
        self.asked = 0
        self.waited = 0
        self.traffic = Traffic(concurrency, sleep=self._sleep)
        self._waits = waits
        self._others = concurrency - 1
        self._together = threading.Barrier(concurrency)
        self._changed = threading.Condition()
        self._slept = threading.local()

    def _sleep(self, _: float) -> None:
        with self._changed:
            self._slept.here = True
            assert self._changed.wait_for(lambda: self._others == 0, LONG)
            self.waited += 1

    def ask(self, number: int) -> int:
        self._slept.here = False
        with Retry("vendor", f"GET /{number}", _log, self.traffic) as retry:
            while True:
                with retry.turn():
                    if not self._together.broken and self.waited == 0:
                        self._together.wait(LONG)
                    with self._changed:
                        self.asked += 1
                        refused = self.waited < self._waits
                if not refused:
                    return number
                if not retry.wait("HTTP 429"):
                    raise SourceLimitError("vendor", "limited for too long", retryable=True)
                if not self._slept.here:
                    with self._changed:
                        self._others -= 1
                        self._changed.notify_all()


def test_of_eight_requests_that_are_refused_one_tries_again_for_all(
    caplog: pytest.LogCaptureFixture,
) -> None:
    vendor = Vendor(waits=4, concurrency=8)
    with caplog.at_level(logging.WARNING):
        assert list(each(vendor.ask, range(8), 8)) == list(range(8))
    assert vendor.waited == 4
    # Eight were in flight; one tried four times more, and the others once, when it had passed.
    assert vendor.asked == 8 + 4 + 7
    assert len(caplog.records) == 4
    assert len({record.getMessage().split(": HTTP")[0] for record in caplog.records}) == 1


def test_when_the_one_gives_up_nobody_begins_anew() -> None:
    vendor = Vendor(waits=10**6, concurrency=8)
    with pytest.raises(SourceLimitError, match=r"^vendor: limited for too long$"):
        list(each(vendor.ask, range(8), 8))
    assert vendor.waited == 5
    assert 8 + 5 <= vendor.asked <= 8 + 5 + 7  # some may be slow to hear of it


def test_an_error_that_somebody_handles_lets_the_others_go_on() -> None:
    traffic = Traffic(2, sleep=lambda _: None)

    def fails() -> None:
        with Retry("vendor", "GET /1", _log, traffic) as retry:
            assert retry.wait("HTTP 500")
            raise SourceTimeoutError("vendor", "no column of that name")

    with pytest.raises(SourceTimeoutError):
        fails()
    with Retry("vendor", "GET /2", _log, traffic) as retry, retry.turn():
        pass


def test_all_requests_come_through() -> None:
    traffic = Traffic(2, Window(3, 0.001, time.sleep), sleep=time.sleep)

    def ask(number: int) -> int:
        with Retry("vendor", f"GET /{number}", _log, traffic) as retry, retry.turn():
            return number

    assert list(each(ask, range(200), 8)) == list(range(200))
    assert len(traffic.windows[0]._free_at) == 3
