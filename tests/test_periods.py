from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from revrec_pipeline.errors import UsageError
from revrec_pipeline.periods import (
    bounds,
    first_day,
    next_period,
    parse_period,
    period_of,
    period_range,
)


@pytest.mark.parametrize("text", ["2026-13", "2026-1", "2026", "26-01", "2026-01-01", "", "jan"])
def test_a_month_that_is_no_month_is_refused_by_name(text: str) -> None:
    with pytest.raises(UsageError, match="is not a month; write it like 2026-01") as caught:
        parse_period(text)
    assert repr(text) in str(caught.value)


def test_the_month_after_december_is_january() -> None:
    assert next_period("2025-12") == "2026-01"
    assert next_period("2026-01") == "2026-02"


def test_a_range_has_both_ends_and_refuses_to_run_backwards() -> None:
    assert list(period_range("2025-11", "2026-02")) == ["2025-11", "2025-12", "2026-01", "2026-02"]
    with pytest.raises(UsageError, match="2026-02"):
        list(period_range("2026-02", "2026-01"))


def test_an_instant_falls_into_the_month_that_the_sites_clocks_show() -> None:
    instant = datetime(2026, 2, 1, 4, 30, tzinfo=UTC)  # 23:30 on 31 January in New York
    assert period_of(instant, "America/New_York") == "2026-01"
    assert period_of(instant, "UTC") == "2026-02"


def test_the_bounds_of_a_month_follow_daylight_saving_time() -> None:
    start, end = bounds("2026-03", "America/New_York")
    assert start.astimezone(UTC) == datetime(2026, 3, 1, 5, tzinfo=UTC)
    assert end.astimezone(UTC) == datetime(2026, 4, 1, 4, tzinfo=UTC)


@given(st.dates(min_value=date(1990, 1, 1), max_value=date(2090, 1, 1)))
def test_every_day_lies_between_the_bounds_of_its_month(day: date) -> None:
    period = f"{day:%Y-%m}"
    assert first_day(period) <= day < first_day(next_period(period))
