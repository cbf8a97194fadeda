"""Delivered units and the order lines that they count against, as `assignment` decided.

Nothing is overwritten: an assignment that no longer holds keeps its row with `removed_at`, and the
job whose delivery changed it is that of the row that took its place.
"""

from datetime import datetime
from typing import Any

import pyarrow as pa

from revrec_pipeline.ledger import Arrow, Transaction, now
from revrec_pipeline.model import RATE

#: Which delivery, which order line, and how many units.
ASSIGNED = pa.schema(
    [
        ("source", pa.string()),
        ("document_id", pa.string()),
        ("line_id", pa.string()),
        ("order_source", pa.string()),
        ("order_id", pa.string()),
        ("order_line_id", pa.string()),
        ("units", RATE),
    ]
)
_SAME = " AND ".join(f"given.{name} = held.{name}" for name in ASSIGNED.names)


def record(tx: Transaction, *, job_id: int, units: Arrow, at: datetime | None = None) -> int:
    """Make these all that counts (schema ASSIGNED). Returns how many are new."""
    at = at or now()
    staged = tx.stage(units)
    tx.execute(
        f"""
        UPDATE delivery_assignment AS held SET removed_at = :at WHERE removed_at IS NULL
            AND NOT EXISTS (SELECT 1 FROM {staged} AS given WHERE {_SAME})
        """,
        at=at,
    )
    names = ", ".join(ASSIGNED.names)
    return tx.execute(
        f"""
        INSERT INTO delivery_assignment ({names}, job_id, assigned_at)
        SELECT {names}, :job_id, :at FROM {staged} AS given
        WHERE NOT EXISTS (
            SELECT 1 FROM delivery_assignment AS held WHERE removed_at IS NULL AND {_SAME}
        )
        ORDER BY {names}
        """,
        job_id=job_id,
        at=at,
    )


def active(tx: Transaction) -> list[dict[str, Any]]:
    """What counts, by delivery: the columns of ASSIGNED, `job_id` and `assigned_at`."""
    names = ", ".join(ASSIGNED.names)
    return tx.rows(
        f"SELECT {names}, job_id, assigned_at FROM delivery_assignment WHERE removed_at IS NULL "
        f"ORDER BY {names}"
    )
