"""Sync errors: flagged rows, failed pulls and findings between systems, for the people who mend.

An error is known by source, record type, record, line, code and field (one without a record also by
its month): the same defect in the next sync is the same error. It stays until it does not come
back, and then names the job that proved it, or until somebody resolves or ignores it. A resolved
one opens again when it recurs; an ignored one stays ignored, until its last day if it has one.
Every such turn is kept, with who and when.

Which rows are wrong is decided in `checks`, what an ignored error lets through in `canonical`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from revrec_pipeline.codes import BETWEEN_SYSTEMS, CODES, of_check
from revrec_pipeline.errors import UsageError
from revrec_pipeline.ledger import Arrow, Transaction, as_text, cursors, now
from revrec_pipeline.model import Severity

#: Where errors arise (reference/revrec-product.md 6.1).
STAGES = ("sync", "input", "processing")
#: What errors can be counted by.
GROUPS = ("source", "code", "owner")

# Told apart by a separator that no identifier has; a missing part is the empty text.
_FINGERPRINT = "md5({})".format(
    " || chr(31) || ".join(
        f"coalesce({name}, '')"
        for name in (
            "source",
            "record_type",
            "record_id",
            "line_id",
            "code",
            "field",
            # Two months that could not be pulled are two errors; a record that moves is one.
            "CASE WHEN record_id IS NULL THEN period END",
        )
    )
)
_EVENT = "INSERT INTO sync_error_event (error_id, happened_at, action, job_id)"
# What finds them is not the build of one month, so that must not resolve them.
_FINDINGS = list(of_check(BETWEEN_SYSTEMS))


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
    `stages` that did not come back are resolved by this job: give `stages=("sync",)` when a pull
    failed, for that says nothing about the rows, and again with no errors when it has succeeded.
    """
    staged = tx.stage(errors)
    tx.execute(f"UPDATE {staged} SET period = :period", period=period)
    _replace(
        tx,
        staged,
        """
        source = :source AND record_type = :record_type AND period IS NOT DISTINCT FROM :period
        AND stage = ANY(:stages) AND code <> ALL(:findings)
        """,
        {
            "source": source,
            "record_type": record_type,
            "period": period,
            "stages": list(stages),
            "findings": _FINDINGS,
        },
        job_id,
        at or now(),
    )


def record_findings(
    tx: Transaction, *, job_id: int, errors: Arrow, at: datetime | None = None
) -> None:
    """Replace all open findings between systems, of every source and month, by these.

    A finding counts for the month that it names; those that did not come back are resolved by this
    job.
    """
    staged = tx.stage(errors)
    _replace(tx, staged, "code = ANY(:findings)", {"findings": _FINDINGS}, job_id, at or now())


def _replace(
    tx: Transaction,
    staged: str,
    scope: str,
    scoped: dict[str, Any],
    job_id: int,
    at: datetime,
) -> None:
    expire(tx, at=at)
    # Most months have no errors, and what changes nothing still takes 4 ms a statement.
    if tx.one(f"SELECT 1 FROM {staged} LIMIT 1"):
        _take_in(tx, staged, job_id, at)
    gone = f"""
        {scope} AND status = 'open'
        AND fingerprint NOT IN (SELECT {_FINGERPRINT} FROM {staged})
    """
    if tx.one(f"SELECT 1 FROM sync_error WHERE {gone} LIMIT 1", **scoped) is None:
        return
    tx.execute(
        f"{_EVENT} SELECT id, :at, 'resolved', :job_id FROM sync_error WHERE {gone} ORDER BY id",
        **scoped,
        at=at,
        job_id=job_id,
    )
    tx.execute(
        "UPDATE sync_error SET status = 'resolved', resolved_at = :at, resolved_job_id = :job_id "
        f"WHERE {gone}",
        **scoped,
        at=at,
        job_id=job_id,
    )


def _take_in(tx: Transaction, staged: str, job_id: int, at: datetime) -> None:
    """Record those that are staged: as new, as still there, or as there again."""
    arriving = f"""
        (SELECT DISTINCT ON (fingerprint) *
        FROM (SELECT {_FINGERPRINT} AS fingerprint, * FROM {staged}) AS named
        ORDER BY fingerprint, message) AS arriving
    """
    tx.execute(
        f"""
        {_EVENT} SELECT id, :at, 'recurred', :job_id FROM sync_error
        WHERE status = 'resolved' AND fingerprint IN (SELECT {_FINGERPRINT} FROM {staged})
        ORDER BY id
        """,
        at=at,
        job_id=job_id,
    )
    # Not one upsert: a conflict burns an id for every error that recurs, and people type these ids.
    tx.execute(
        f"""
        UPDATE sync_error SET job_id = :job_id, stage = arriving.stage,
            severity = arriving.severity, owner = arriving.owner, period = arriving.period,
            message = arriving.message, url = arriving.url, last_seen = :at, resolved_at = NULL,
            resolved_job_id = NULL,
            status = CASE sync_error.status WHEN 'ignored' THEN 'ignored' ELSE 'open' END
        FROM {arriving} WHERE arriving.fingerprint = sync_error.fingerprint
        """,
        job_id=job_id,
        at=at,
    )
    tx.execute(
        f"""
        INSERT INTO sync_error (fingerprint, job_id, stage, code, severity, owner, source,
            record_type, period, record_id, line_id, field, message, url, status, first_seen,
            last_seen)
        SELECT fingerprint, :job_id, stage, code, severity, owner, source, record_type, period,
            record_id, line_id, field, message, url, 'open', :at, :at
        FROM {arriving} WHERE fingerprint NOT IN (SELECT fingerprint FROM sync_error)
        ORDER BY record_id, line_id, code, field
        ON CONFLICT (fingerprint) DO NOTHING
        """,
        job_id=job_id,
        at=at,
    )
    tx.execute(
        f"""
        {_EVENT} SELECT id, :at, 'found', :job_id FROM sync_error
        WHERE fingerprint IN (SELECT {_FINGERPRINT} FROM {staged})
            AND NOT EXISTS (SELECT 1 FROM sync_error_event WHERE error_id = sync_error.id)
        ORDER BY id
        """,
        at=at,
        job_id=job_id,
    )


_SHOWN = """
    id, job_id, stage, code, severity, owner, source, record_type, period, record_id, line_id,
    field, message, url, status, reason, ignored_until, first_seen, last_seen, resolved_at,
    resolved_job_id
"""


def list_errors(
    tx: Transaction, *, include_all: bool = False, at: datetime | None = None
) -> list[dict[str, Any]]:
    """Open errors (or all) as DESIGN 5.1 shows them in JSON.

    Beside its keys: `period`, `reason` and `ignored_until` of an ignored one, `resolved_at` and
    `resolved_job_id` (null when a person resolved it) of a resolved one. Ordered by id, which is
    the order of first appearance.
    """
    expire(tx, at=at)
    found = tx.rows(
        f"SELECT {_SHOWN} FROM sync_error WHERE :include_all OR status = 'open' ORDER BY id",
        include_all=include_all,
    )
    return [_as_json(row) for row in found]


def get(tx: Transaction, error_id: int, *, at: datetime | None = None) -> dict[str, Any]:
    """One error as `list_errors` gives it. Raises UsageError for an unknown id."""
    expire(tx, at=at)
    found = tx.one(f"SELECT {_SHOWN} FROM sync_error WHERE id = :id", id=error_id)
    if found is None:
        raise _unknown(error_id)
    return _as_json(found)


def of_record(tx: Transaction, source: str, record_type: str, record_id: str) -> list[Any]:
    """Every error that a record has, or had."""
    expire(tx)
    found = tx.rows(
        f"""
        SELECT {_SHOWN} FROM sync_error WHERE source = :source AND record_type = :record_type
            AND record_id = :record_id ORDER BY id
        """,
        source=source,
        record_type=record_type,
        record_id=record_id,
    )
    return [_as_json(row) for row in found]


def history(tx: Transaction, error_id: int) -> list[dict[str, Any]]:
    """What became of an error, oldest first.

    `{at, action, who, job_id, reason, ignored_until}`; `action` is found, recurred, resolved,
    ignored or expired. `who` is null where a job found it out, and `job_id` where a person did it.
    """
    found = tx.rows(
        """
        SELECT happened_at, action, who, job_id, reason, ignored_until
        FROM sync_error_event WHERE error_id = :id ORDER BY id
        """,
        id=error_id,
    )
    return [
        {"at": as_text(row.pop("happened_at")), **row, "ignored_until": _day(row["ignored_until"])}
        for row in found
    ]


def count(tx: Transaction, by: str, *, at: datetime | None = None) -> list[dict[str, Any]]:
    """Open errors counted by one of GROUPS, the most first.

    `{<by>, errors, warnings, oldest_days, newest_days}`; ages are whole days since first seen.
    """
    if by not in GROUPS:
        raise UsageError(f"errors are counted by {', '.join(GROUPS)}, not by {by!r}")
    at = at or now()
    expire(tx, at=at)
    found = tx.rows(
        f"""
        SELECT {by}, count(*) FILTER (WHERE severity = 'error') AS errors,
            count(*) FILTER (WHERE severity <> 'error') AS warnings,
            min(first_seen) AS oldest, max(first_seen) AS newest
        FROM sync_error WHERE status = 'open' GROUP BY {by}
        ORDER BY errors DESC, warnings DESC, {by}
        """
    )
    return [
        {
            by: row[by],
            "errors": row["errors"],
            "warnings": row["warnings"],
            "oldest_days": max((at - row["oldest"]).days, 0),
            "newest_days": max((at - row["newest"]).days, 0),
        }
        for row in found
    ]


# -- what people do ------------------------------------------------------------------------------


def ignore(
    tx: Transaction,
    error_id: int,
    reason: str,
    *,
    who: str,
    until: date | None = None,
    at: datetime | None = None,
) -> str:
    """Do not show this error again, even if it recurs; after the day `until`, it is open again.

    Returns what that means for its order, as a sentence: an error whose code has a default lets it
    through from the next sync on, any other still holds it back.

    Raises:
        UsageError: the id is unknown, there is no reason, or the day is over.
    """
    at = at or now()
    if not reason.strip():
        raise UsageError("an error is ignored for a reason: give one with --reason")
    if until and until < at.date():
        raise UsageError(f"--until {until} is over; name the last day on which to ignore the error")
    error = get(tx, error_id, at=at)
    tx.execute(
        """
        UPDATE sync_error SET status = 'ignored', reason = :reason, ignored_until = :until,
            resolved_at = NULL, resolved_job_id = NULL
        WHERE id = :id
        """,
        id=error_id,
        reason=reason,
        until=until,
    )
    _note(tx, error_id, "ignored", who, at, reason=reason, until=until)
    meaning = CODES.get(error["code"])
    if error["severity"] == Severity.WARNING:
        return "It held nothing back."
    if meaning is None or meaning.default is None:
        return (
            f"Its order stays held back, for {error['code']} has no default: only a change in "
            "the source lets it through."
        )
    _ask_for_rebuild(tx, error)
    return f"From the next sync on its order is let through: {meaning.default}."


def resolve(tx: Transaction, error_id: int, *, who: str, at: datetime | None = None) -> None:
    """It was dealt with; it opens again if it recurs. Raises UsageError for an unknown id."""
    at = at or now()
    error = get(tx, error_id, at=at)
    tx.execute(
        """
        UPDATE sync_error SET status = 'resolved', reason = NULL, ignored_until = NULL,
            resolved_at = :at, resolved_job_id = NULL
        WHERE id = :id
        """,
        id=error_id,
        at=at,
    )
    _note(tx, error_id, "resolved", who, at)
    if error["status"] == "ignored":
        _ask_for_rebuild(tx, error)


def expire(tx: Transaction, *, at: datetime | None = None) -> None:
    """Open the ignored errors whose last day is over."""
    at = at or now()
    over = tx.rows(
        f"""
        SELECT {_SHOWN} FROM sync_error
        WHERE status = 'ignored' AND ignored_until < :today ORDER BY id
        """,
        today=at.date(),
    )
    for error in over:
        tx.execute(
            "UPDATE sync_error SET status = 'open', reason = NULL, ignored_until = NULL "
            "WHERE id = :id",
            id=error["id"],
        )
        _note(tx, error["id"], "expired", None, at)
        _ask_for_rebuild(tx, error)


# -- what ignored errors let through -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Waiver:
    """An ignored error whose code has a default: its row may go out with that."""

    record_id: str
    line_id: str | None
    code: str
    field: str  # the heading that people know


@dataclass(frozen=True, slots=True)
class Waivers:
    """Those of one source, record type and month."""

    errors: tuple[Waiver, ...] = ()
    #: What asked for a rebuild of the month; cleared, as a landing is, when it is built with these.
    asked_by: tuple[str, ...] = ()


def waivers(
    tx: Transaction, *, source: str, record_type: str, period: str, at: datetime | None = None
) -> Waivers:
    """What people have let through, for the build of a month."""
    expire(tx, at=at)
    defaults = [
        code
        for code, meaning in CODES.items()
        if meaning.default is not None and meaning.severity is Severity.ERROR
    ]
    scope = {"source": source, "record_type": record_type, "period": period}
    found = tx.rows(
        """
        SELECT record_id, line_id, code, field FROM sync_error
        WHERE source = :source AND record_type = :record_type AND period = :period
            AND status = 'ignored' AND code = ANY(:defaults) AND record_id IS NOT NULL
        ORDER BY record_id, line_id, code, field
        """,
        **scope,
        defaults=defaults,
    )
    asked = tx.rows(
        """
        SELECT landing FROM touched_period
        WHERE source = :source AND period = :period AND landing LIKE :mine ORDER BY landing
        """,
        source=source,
        period=period,
        mine=f"{_asks(record_type)}%",
    )
    return Waivers(tuple(Waiver(**row) for row in found), tuple(row["landing"] for row in asked))


def ask_again(tx: Transaction, codes: Sequence[str]) -> None:
    """The months with an open error of these codes must be built again: it may be gone."""
    found = tx.rows(
        """
        SELECT source, record_type, period, min(id) AS id FROM sync_error
        WHERE status = 'open' AND code = ANY(:codes) AND period IS NOT NULL
        GROUP BY source, record_type, period ORDER BY id
        """,
        codes=list(codes),
    )
    for row in found:
        cursors.touch(tx, row["source"], [row["period"]], f"{_asks(row['record_type'])}{row['id']}")


def asked(tx: Transaction, source: str) -> list[str]:
    """The record types of a source of which errors asked for a month to be built again."""
    found = tx.rows(
        "SELECT DISTINCT split_part(landing, ':', 2) AS record_type FROM touched_period "
        "WHERE source = :source AND landing LIKE :mine ORDER BY 1",
        source=source,
        mine=f"{_asks('')[:-1]}%",
    )
    return [row["record_type"] for row in found]


def _asks(record_type: str) -> str:
    """How the rebuilds that errors ask for are named among the landings that ask for one."""
    return f"{cursors.ASKED}error:{record_type}:"


def _ask_for_rebuild(tx: Transaction, error: dict[str, Any]) -> None:
    """The month must be built again, for another set of rows may go out now."""
    meaning = CODES.get(error["code"])
    if error["period"] and meaning and meaning.default and meaning.severity is Severity.ERROR:
        cursors.touch(
            tx, error["source"], [error["period"]], f"{_asks(error['record_type'])}{error['id']}"
        )


def _note(
    tx: Transaction,
    error_id: int,
    action: str,
    who: str | None,
    at: datetime,
    *,
    reason: str | None = None,
    until: date | None = None,
) -> None:
    tx.execute(
        """
        INSERT INTO sync_error_event (error_id, happened_at, action, who, reason, ignored_until)
        VALUES (:id, :at, :action, :who, :reason, :until)
        """,
        id=error_id,
        at=at,
        action=action,
        who=who,
        reason=reason,
        until=until,
    )


def _as_json(row: dict[str, Any]) -> dict[str, Any]:
    times = {name: as_text(row[name]) for name in ("first_seen", "last_seen", "resolved_at")}
    return row | times | {"ignored_until": _day(row["ignored_until"])}


def _day(value: date | None) -> str | None:
    return value.isoformat() if value else None


def _unknown(error_id: int) -> UsageError:
    return UsageError(f"there is no sync error {error_id}; `revrec errors` lists them")
