from decimal import Decimal
from pathlib import Path

import pytest

from revrec_pipeline.currency import exponent
from revrec_pipeline.engine import engine


@pytest.mark.parametrize(
    ("currency", "digits"),
    [
        ("USD", 2),
        ("EUR", 2),
        ("JPY", 0),
        ("ISK", 0),
        ("UGX", 0),
        ("KWD", 3),
        ("BHD", 3),
        ("MGA", 2),
    ],
)
def test_python_and_sql_agree_on_the_decimals_of_a_currency(
    tmp_path: Path, currency: str, digits: int
) -> None:
    assert exponent(currency) == digits
    with engine(tmp_path) as db:
        assert db.execute("SELECT minor_digits(?)", [currency]).fetchone() == (digits,)


@pytest.mark.parametrize(
    ("amount", "currency", "rounded"),
    [
        ("1.005", "USD", "1.01"),
        ("-1.005", "USD", "-1.01"),
        ("4.5", "JPY", "5"),
        ("1.0005", "KWD", "1.001"),
        ("99999999999999.995", "USD", "100000000000000.00"),
    ],
)
def test_sql_money_rounds_half_away_from_zero_to_the_currencys_decimals(
    tmp_path: Path, amount: str, currency: str, rounded: str
) -> None:
    with engine(tmp_path) as db:
        row = db.execute("SELECT money(?::DECIMAL(28, 12), ?)", [amount, currency]).fetchone()
    assert row == (Decimal(rounded),)
