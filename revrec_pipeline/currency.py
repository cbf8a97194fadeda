"""How many decimals a currency has.

ISO 4217 only. Where a vendor sends other minor units than ISO says, that vendor's mapping says so.
"""

# One line per class reads better than one per code.
ZERO_DECIMAL = frozenset(
    "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split()  # noqa: SIM905
)
THREE_DECIMAL = frozenset("BHD IQD JOD KWD LYD OMR TND".split())  # noqa: SIM905


def exponent(currency: str) -> int:
    """The number of decimals of `currency` (an upper-case ISO 4217 code)."""
    if currency in ZERO_DECIMAL:
        return 0
    return 3 if currency in THREE_DECIMAL else 2


#: The same for SQL: `minor_digits(currency)`, and `money(x, currency)`, which rounds half away from
#: zero to the currency's decimals. DuckDB's round() takes no number of digits from a column, and
#: branches of 38 digits would all be cast to the one with scale 0.
SQL_MACROS = f"""
CREATE MACRO minor_digits(currency) AS CASE
    WHEN currency IN {tuple(sorted(ZERO_DECIMAL))} THEN 0
    WHEN currency IN {tuple(sorted(THREE_DECIMAL))} THEN 3
    ELSE 2 END;
CREATE MACRO money(x, currency) AS CASE minor_digits(currency)
    WHEN 0 THEN x::DECIMAL(32, 0) WHEN 3 THEN x::DECIMAL(35, 3) ELSE x::DECIMAL(34, 2) END;
"""
