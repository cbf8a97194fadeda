"""Exactly one accounting period is open from the day that the first is set."""

from datetime import UTC, datetime

import pytest

from revrec_pipeline.errors import LedgerError, UsageError
from revrec_pipeline.ledger import Ledger
from revrec_pipeline.ledger import accounting_periods as periods
from revrec_pipeline.model import Route

MAY, JUNE = datetime(2026, 5, 4, 12, tzinfo=UTC), datetime(2026, 6, 4, 12, tzinfo=UTC)


def test_without_a_period_batches_go_to_a_file_and_with_one_they_load_live(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        assert not periods.is_live(tx)
        assert periods.current_route(tx) is Route.CONVERSION
        periods.set_period(tx, "2026-04")
    with ledger.transaction() as tx:
        assert periods.is_live(tx)
        assert periods.current_route(tx) is Route.LIVE


def test_setting_the_open_period_again_changes_nothing(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        periods.set_period(tx, "2026-04", at=MAY)
        periods.set_period(tx, "2026-04", at=JUNE)
        assert periods.list_periods(tx) == [
            {
                "period": "2026-04",
                "status": "open",
                "set_at": "2026-05-04T12:00:00Z",
                "closed_at": None,
            }
        ]


def test_closing_a_period_opens_the_next_month(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        periods.set_period(tx, "2026-12", at=MAY)
        assert periods.close_period(tx, at=JUNE) == ("2026-12", "2027-01")
        assert periods.list_periods(tx) == [
            {
                "period": "2026-12",
                "status": "closed",
                "set_at": "2026-05-04T12:00:00Z",
                "closed_at": "2026-06-04T12:00:00Z",
            },
            {
                "period": "2027-01",
                "status": "open",
                "set_at": "2026-06-04T12:00:00Z",
                "closed_at": None,
            },
        ]


@pytest.mark.parametrize(
    ("period", "words"),
    [
        ("2026-04", "2026-04 is closed: periods are closed up to 2026-04"),
        ("2026-01", "2026-01 is closed: periods are closed up to 2026-04"),
        ("2026-06", "2026-05 is the open accounting period: `revrec period close` closes it and "
         "opens 2026-06"),
    ],
)  # fmt: skip
def test_a_closed_or_a_second_period_is_refused_with_what_to_do(
    ledger: Ledger, period: str, words: str
) -> None:
    with ledger.transaction() as tx:
        periods.set_period(tx, "2026-04")
        periods.close_period(tx)
        with pytest.raises(LedgerError) as raised:
            periods.set_period(tx, period)
        assert str(raised.value) == words
        assert [row["period"] for row in periods.list_periods(tx)] == ["2026-04", "2026-05"]


def test_there_is_nothing_to_close_before_a_period_is_set(ledger: Ledger) -> None:
    with ledger.transaction() as tx, pytest.raises(LedgerError, match="revrec period set"):
        periods.close_period(tx)


def test_a_month_that_is_no_month_is_refused(ledger: Ledger) -> None:
    with ledger.transaction() as tx, pytest.raises(UsageError, match="2026-13"):
        periods.set_period(tx, "2026-13")
