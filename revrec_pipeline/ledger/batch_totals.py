"""How many rows and how much money of a batch went where: the accounts behind promise 1 of DESIGN.

For each batch and currency: source = delivered + unchanged + flagged + excluded. `removed` (what a
batch takes back of earlier deliveries) and `own_total` (documents, and what the vendor itself says
that they are over) stand beside that sum.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Literal

import pyarrow as pa

from revrec_pipeline.errors import LedgerError
from revrec_pipeline.ledger import Transaction
from revrec_pipeline.model import AMOUNT

Bucket = Literal["source", "flagged", "excluded", "delivered", "unchanged", "removed", "own_total"]

_TOTALS = pa.schema(
    [
        ("batch_id", pa.string()),
        ("bucket", pa.string()),
        ("rule", pa.string()),
        ("currency", pa.string()),
        ("rows", pa.int64()),
        ("amount", AMOUNT),
    ]
)


@dataclass(frozen=True, slots=True)
class Total:
    """Rows and amount of a batch in one bucket and currency.

    `rule` says which rule excluded or which code flagged the rows, and `differs` of an own total
    that does; else it is ''.
    """

    bucket: Bucket
    rows: int
    amount: Decimal
    currency: str  # XXX (ISO 4217) for rows that name none
    rule: str = ""


def load(tx: Transaction, totals: Mapping[str, Iterable[Total]]) -> None:
    """Write the totals of several batches, given by batch id."""
    rows = [
        {"batch_id": batch_id} | asdict(total)
        for batch_id, each in totals.items()
        for total in each
    ]
    tx.load("batch_total", pa.Table.from_pylist(rows, schema=_TOTALS))


def count_as_unchanged(tx: Transaction, batch_ids: list[str]) -> None:
    """Count whatever is neither flagged nor excluded as unchanged."""
    tx.execute(
        """
        INSERT INTO batch_total (batch_id, bucket, rule, currency, rows, amount)
        SELECT batch_id, 'unchanged', '', currency,
            sum(CASE bucket WHEN 'source' THEN rows ELSE -rows END),
            sum(CASE bucket WHEN 'source' THEN amount ELSE -amount END)
        FROM batch_total WHERE batch_id = ANY(:batch_ids) AND bucket <> 'own_total'
        GROUP BY batch_id, currency
        """,
        batch_ids=batch_ids,
    )


def check_balance(tx: Transaction, batch_ids: list[str]) -> None:
    """Refuse a delivery that loses a row or a cent.

    Raises:
        LedgerError: a batch does not account for every source row.
    """
    wrong = tx.one(
        """
        SELECT * FROM (
            SELECT batch_id, currency,
                sum(CASE bucket WHEN 'source' THEN rows ELSE -rows END)::BIGINT AS rows,
                sum(CASE bucket WHEN 'source' THEN amount ELSE -amount END) AS amount
            FROM batch_total
            WHERE batch_id = ANY(:batch_ids) AND bucket NOT IN ('removed', 'own_total')
            GROUP BY batch_id, currency
        ) AS difference
        WHERE rows <> 0 OR amount <> 0 ORDER BY batch_id, currency LIMIT 1
        """,
        batch_ids=batch_ids,
    )
    if wrong:
        raise LedgerError(
            f"batch {wrong['batch_id']} was not delivered, for {wrong['rows']} of its source rows "
            f"and {wrong['amount']} {wrong['currency']} are not accounted for; please report this"
        )
