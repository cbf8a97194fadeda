"""Sync errors: flagged rows and failed pulls, for the people who mend them.

An error is known by source, record type, record, line, code and field. It stays until it does not
come back, or until somebody resolves or ignores it; an ignored one stays ignored.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from revrec_pipeline.errors import UsageError
from revrec_pipeline.ledger import Arrow, Transaction, as_text, now

#: Where errors arise (reference/revrec-product.md 6.1).
STAGES = ("sync", "input", "processing")

# Told apart by a separator that no identifier has; a missing part is the empty text.
_FINGERPRINT = "md5({})".format(
    " || chr(31) || ".join(
        f"coalesce({name}, '')"
        for name in ("source", "record_type", "record_id", "line_id", "code", "field")
    )
)


def record(
    tx: Transaction,
    *,
    job_id: int,
    source: str,
    record_type: str,
    period: str | None,
    errors: Arrow,
    stages: Sequence[str] = STAGES,
    at: datetime | None = None,
) -> None:
    """Replace the open errors of this source, record type and month (None: a pull without a month).

    `errors` has the fields of `model.SyncError`; their month is that of the call. Open ones of
    `stages` that did not come back are resolved: give `stages=("sync",)` when a pull failed, for
    that says nothing about the rows, and again with no errors when it has succeeded.
    """
    at = at or now()
    staged = tx.stage(errors)
    arriving = f"""
        (SELECT DISTINCT ON (fingerprint) *
        FROM (SELECT {_FINGERPRINT} AS fingerprint, * FROM {staged}) AS named
        ORDER BY fingerprint, message) AS arriving
    """
    # Not one upsert: a conflict burns an id for every error that recurs, and people type these ids.
    tx.execute(
        f"""
        UPDATE sync_error SET job_id = :job_id, stage = arriving.stage,
            severity = arriving.severity, owner = arriving.owner, period = :period,
            message = arriving.message, url = arriving.url, last_seen = :at, resolved_at = NULL,
            status = CASE sync_error.status WHEN 'ignored' THEN 'ignored' ELSE 'open' END
        FROM {arriving} WHERE arriving.fingerprint = sync_error.fingerprint
        """,
        job_id=job_id,
        period=period,
        at=at,
    )
    tx.execute(
        f"""
        INSERT INTO sync_error (fingerprint, job_id, stage, code, severity, owner, source,
            record_type, period, record_id, line_id, field, message, url, status, first_seen,
            last_seen)
        SELECT fingerprint, :job_id, stage, code, severity, owner, source, record_type, :period,
            record_id, line_id, field, message, url, 'open', :at, :at
        FROM {arriving} WHERE fingerprint NOT IN (SELECT fingerprint FROM sync_error)
        ORDER BY record_id, line_id, code, field
        ON CONFLICT (fingerprint) DO NOTHING
        """,
        job_id=job_id,
        period=period,
        at=at,
    )
    tx.execute(
        f"""
        UPDATE sync_error SET status = 'resolved', resolved_at = :at
        WHERE source = :source AND record_type = :record_type
            AND period IS NOT DISTINCT FROM :period
            AND status = 'open' AND stage = ANY(:stages)
            AND fingerprint NOT IN (SELECT {_FINGERPRINT} FROM {staged})
        """,
        source=source,
        record_type=record_type,
        period=period,
        stages=list(stages),
        at=at,
    )


def list_errors(tx: Transaction, *, include_all: bool = False) -> list[dict[str, Any]]:
    """Open errors (or all) as DESIGN 5.1 shows them in JSON, plus `period` and `reason`.

    Ordered by id, which is the order of first appearance.
    """
    found = tx.rows(
        """
        SELECT id, job_id, stage, code, severity, owner, source, record_type, period, record_id,
            line_id, field, message, url, status, reason, first_seen, last_seen
        FROM sync_error WHERE :include_all OR status = 'open' ORDER BY id
        """,
        include_all=include_all,
    )
    return [
        row | {"first_seen": as_text(row["first_seen"]), "last_seen": as_text(row["last_seen"])}
        for row in found
    ]


def ignore(tx: Transaction, error_id: int, reason: str) -> None:
    """Never show this error again, even if it recurs. Raises UsageError for an unknown id."""
    _set(tx, error_id, "status = 'ignored', reason = :reason", reason=reason)


def resolve(tx: Transaction, error_id: int, *, at: datetime | None = None) -> None:
    """It was dealt with; it opens again if it recurs. Raises UsageError for an unknown id."""
    _set(tx, error_id, "status = 'resolved', reason = NULL, resolved_at = :at", at=at or now())


def _set(tx: Transaction, error_id: int, change: str, **params: Any) -> None:
    if not tx.execute(f"UPDATE sync_error SET {change} WHERE id = :id", id=error_id, **params):
        raise UsageError(f"there is no sync error {error_id}; `revrec errors` lists them")
