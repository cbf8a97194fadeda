"""QuickBooks' money: discounts and taxes of a document, spread over its lines to the last cent.

A discount is one line of its own, tax is one amount of the whole document, and both must stand on
the lines that they belong to. Everything is counted in whole ten-thousandths, and shares in
*steps*, the smallest unit of the document's currency: the sum of the shares is the whole, always.
What the fields mean is in `quickbooks`.
"""

#: The columns that name a document.
_DOCUMENT = "PARTITION BY object, document_id"

MACROS = """
-- Of an amount the number of ten-thousandths; NULL when it is none or has more than four decimals.
CREATE OR REPLACE MACRO ten_thousandths(amount) AS CASE
    WHEN try_cast(amount AS DECIMAL(28, 12)) = try_cast(amount AS DECIMAL(18, 4))
    THEN replace(try_cast(amount AS DECIMAL(18, 4))::VARCHAR, '.', '')::HUGEINT END;
CREATE OR REPLACE MACRO money_of(ten_thousandths) AS
    TRY((ten_thousandths::DECIMAL(22, 0) * 0.0001::DECIMAL(4, 4))::DECIMAL(18, 4));
-- Ten-thousandths in the smallest unit of a currency.
CREATE OR REPLACE MACRO step_of(currency) AS
    CASE minor_digits(currency) WHEN 0 THEN 10000 WHEN 3 THEN 10 ELSE 100 END::HUGEINT;
-- In whole steps; NULL when the amount has fractions of one.
CREATE OR REPLACE MACRO steps(amount, step) AS CASE WHEN amount % step = 0 THEN amount // step END;
-- What is left of a product of two numbers when it is divided by a third: never negative.
CREATE OR REPLACE MACRO remainder_of(total, weight, base) AS
    ((total * weight * sign(base)::HUGEINT) % abs(base) + abs(base)) % abs(base);
"""


def spread(rows: str, name: str, total: str, weight: str) -> str:
    """`rows` with one more column `name`: the line's share of `total` by `weight`, in steps.

    Each line gets its exact share rounded down, and the lines with the largest remainders one step
    more until the total is used up; of equal remainders the earlier line. `total` is the same for
    all lines of a document. Negative weights and totals are as good as positive ones. The shares
    are NULL when the total is, and when there is a total and nothing to spread it over.
    """
    return f"""
    SELECT * EXCLUDE (spread_total, spread_weight, spread_base, spread_rest, spread_whole),
        CASE WHEN spread_total = 0 THEN 0::HUGEINT
             ELSE spread_whole + (row_number() OVER (
                    {_DOCUMENT} ORDER BY spread_rest DESC, position
                ) <= spread_total - sum(spread_whole) OVER ({_DOCUMENT}))::INTEGER
        END AS {name}
    FROM (
        SELECT *,
            remainder_of(spread_total, spread_weight, spread_base) AS spread_rest,
            ((spread_total * spread_weight * sign(spread_base)::HUGEINT - spread_rest)
                // abs(spread_base))::HUGEINT AS spread_whole
        FROM (
            SELECT *, ({total})::HUGEINT AS spread_total, ({weight})::HUGEINT AS spread_weight,
                nullif(sum({weight}) OVER ({_DOCUMENT}), 0)::HUGEINT AS spread_base
            FROM ({rows})
        )
    )
    """


_DISCOUNT_WEIGHT = "CASE WHEN is_shipping THEN 0 ELSE coalesce(gross, 0) END"
#: Between lines with different rates only `with_tax` tells whose the tax is.
_TAX_WEIGHT = """CASE
    WHEN shows_tax THEN CASE WHEN with_tax <> 0 THEN with_tax - gross ELSE 0 END
    WHEN is_taxable OR NOT has_taxable THEN coalesce(gross - discount_share * step, 0)
    ELSE 0 END"""
_SALES = "FROM counted WHERE detail = 'SalesItemLineDetail'"

#: The lines that sell something, with `net` (ten-thousandths) and `tax` (steps).
#:
#: `quickbooks_entry` has every line of every document: `detail` (its type), `gross` and `with_tax`
#: in ten-thousandths, `is_shipping`, `is_taxable`; and of the document `currency`, `tax_total` and
#: `total` in ten-thousandths, `is_inclusive`.
#:
#: Where prices include tax, lines are net beside the tax (the one recorded form) or gross; the sum
#: tells which. Whether the lines add up to what the document says is for `controls` to tell; of a
#: document that says nothing readable, no amount is known.
SOLD_LINES = f"""
WITH counted AS (
    SELECT *,
        sum(CASE WHEN detail = 'DiscountLineDetail' THEN gross ELSE 0 END) OVER ({_DOCUMENT})
            AS discount,
        sum(CASE WHEN detail = 'SalesItemLineDetail' THEN gross ELSE 0 END) OVER ({_DOCUMENT})
            AS goods,
        bool_or(detail IN ('SalesItemLineDetail', 'DiscountLineDetail') AND gross IS NULL)
            OVER ({_DOCUMENT}) AS is_unreadable,
        step_of(currency) AS step
    FROM quickbooks_entry
), discounted AS (
    {spread(_SALES, "discount_share", "steps(discount, step)", _DISCOUNT_WEIGHT)}
), weighed AS (
    SELECT *,
        bool_or(is_taxable) OVER ({_DOCUMENT}) AS has_taxable,
        bool_or(with_tax <> 0 AND with_tax <> gross) OVER ({_DOCUMENT}) AS shows_tax
    FROM discounted
), taxed AS (
    {spread("FROM weighed", "tax", "steps(tax_total, step)", _TAX_WEIGHT)}
)
SELECT *,
    CASE WHEN is_unreadable OR total IS NULL OR tax_total IS NULL THEN NULL
         WHEN is_inclusive AND tax_total <> 0 AND goods - discount = total
         THEN gross - (discount_share + tax) * step
         ELSE gross - discount_share * step END AS net
FROM taxed
"""
