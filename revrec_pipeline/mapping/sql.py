"""SQL that several mappings share: text, exact numbers, terms. Nothing here knows a vendor."""

from collections.abc import Iterable

#: A key is never inside a text, whose quotation marks are escaped; and no colon may stand in it, or
#: the value ":5" would look like a key with a number.
_QUOTED_NUMBERS = (
    r"""regexp_replace({}, '("[\w.\- ]+"\s*:\s*)(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)', """
    r"""'\1"\2"', 'g')"""
)


def literal(value: str) -> str:
    """An SQL string."""
    return "'" + value.replace("'", "''") + "'"


def text_list(values: Iterable[str]) -> str:
    """An SQL list of strings."""
    return f"[{', '.join(map(literal, values))}]::VARCHAR[]"


def identifier(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def quoted_numbers(column: str) -> str:
    """A JSON text whose numbers have become strings, exact to the last digit.

    Inside a DuckDB struct a JSON number would pass through a double: 12 decimals of a price do not
    survive that. Numbers in arrays stay as they are.
    """
    return _QUOTED_NUMBERS.format(column)


def quotient(amount: str, quantity: str) -> str:
    """Net price per unit with 12 decimals, rounded half away from zero, without any double.

    `amount` is a DECIMAL(18, 4), `quantity` a DECIMAL(28, 12); NULL when the quantity is 0. Both
    are taken as whole numbers of their last decimal (10^-4 and 10^-12), so that 10^20 brings the
    quotient to 10^-12. The error is at most half of 10^-12 per unit: quantity times price gives the
    amount again, to the currency's decimals, for quantities below 10^9. What does not fit in 38
    digits is NULL.
    """
    dividend = f"abs({_unscaled(amount)}) * 100000000000000000000::HUGEINT"
    divisor = f"nullif(abs({_unscaled(quantity)}), 0)"
    sign = f"(sign({amount}) * sign({quantity}))::INTEGER"
    half_up = f"(2 * ({dividend} % {divisor}) >= {divisor})::INTEGER"
    whole = f"({sign} * ({dividend} // {divisor} + {half_up}))::DECIMAL(26, 0)"
    return f"TRY({whole} * 0.000000000001::DECIMAL(12, 12))::DECIMAL(28, 12)"


def _unscaled(decimal: str) -> str:
    """A DECIMAL's digits as a whole number; DuckDB prints all decimals of the type."""
    return f"replace({decimal}::VARCHAR, '.', '')::HUGEINT"


def term_end(start: str, months: str) -> str:
    """The last day, included, of a term of `months` (any text or number) that begins on `start`.

    A term ends on the day before the day that many months after the start. From the 31st that is
    taken to the last day of a shorter month: 1 month from January 31st ends on February 27th (28th
    in a leap year), and the next month begins where this one ended. A term that is no whole
    positive number gives no end.
    """
    number = f"try_cast({months} AS DECIMAL(18, 4))"
    after = f"{start} + to_months({number}::INTEGER)"
    whole = f"{number} > 0 AND {number} = {number}::INTEGER"
    return f"CASE WHEN {whole} THEN ({after} - INTERVAL 1 DAY)::DATE END"


def day_of(instant: str, timezone: str) -> str:
    """The day, on the clocks of `timezone`, of a TIMESTAMPTZ."""
    return f"timezone({literal(timezone)}, {instant})::DATE"


def converted(amount: str, home: str, foreign: str, currency: str) -> str:
    """An amount in another currency, in its whole minor units, rounded half away from zero.

    `amount` is a DECIMAL(18, 4). `home` and `foreign` are DECIMAL(18, 9): how many units of the
    currency sought and of the amount's are worth one unit of a third. All are taken as whole
    numbers, so that no rate is rounded before the amount is. NULL when a rate is missing or 0.
    """
    factor = f"(CASE minor_digits({currency}) WHEN 0 THEN 10000 WHEN 3 THEN 10 ELSE 100 END)"
    dividend = f"abs({_unscaled(amount)}) * {_unscaled(home)}"
    divisor = f"nullif({_unscaled(foreign)} * {factor}, 0)"
    units = f"(2 * {dividend} + {divisor}) // (2 * {divisor})"
    minor = f"sign({amount})::INTEGER * ({units}) * {factor}"
    return f"TRY((({minor})::DECIMAL(26, 0) * 0.0001::DECIMAL(4, 4))::DECIMAL(18, 4))"


def ratio(dividend: str, divisor: str) -> str:
    """One DECIMAL(18, 9) by another, with 12 decimals, rounded half up; both are positive."""
    over, under = f"{_unscaled(dividend)} * 1000000000000::HUGEINT", _unscaled(divisor)
    whole = f"((2 * {over} + {under}) // nullif(2 * {under}, 0))::DECIMAL(26, 0)"
    return f"TRY(({whole} * 0.000000000001::DECIMAL(12, 12))::DECIMAL(28, 12))"
