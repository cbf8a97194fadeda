"""A job as people see it: the JSON of DESIGN 5.1, with the status derived from what happened.

It only reads. Volume does not matter here: a job has one row for each month, rule and currency.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from revrec_pipeline.currency import exponent
from revrec_pipeline.ledger import Transaction, as_text
from revrec_pipeline.model import JobStatus

Rows = list[dict[str, Any]]

_COUNTED = ("source", "delivered", "unchanged", "flagged", "excluded")


def jobs(tx: Transaction, job_id: int | None = None) -> Rows:
    """All jobs, newest first, or the one with this id; only JSON types, amounts as decimal text.

    Beside the keys of DESIGN 5.1: `excluded_by` {rule: rows}, `flagged_by` {code: rows}, `removed`
    [document ids], `failures` [{period, message}] (period null for a pull that has no month),
    `trigger` and `sync_key`.
    """
    asked = {"job_id": job_id}
    one = "WHERE :job_id::BIGINT IS NULL OR {} = :job_id"
    found = tx.rows(f"SELECT * FROM job {one.format('id')} ORDER BY id DESC", **asked)
    runs = _by_job(
        tx.rows(f"SELECT * FROM job_run {one.format('job_id')} ORDER BY period", **asked)
    )
    batches = _by_job(
        tx.rows(
            "SELECT job_id, period, state, delivered_at FROM batch "
            f"{one.format('job_id')} ORDER BY period",
            **asked,
        )
    )
    totals = _by_job(
        tx.rows(
            f"""
            SELECT job_id, bucket, rule, currency,
                sum(rows)::BIGINT AS rows, sum(amount)::DECIMAL(28, 4) AS amount
            FROM batch_total JOIN batch ON batch.id = batch_total.batch_id
            {one.format("job_id")}
            GROUP BY job_id, bucket, rule, currency ORDER BY bucket, rule, currency
            """,
            **asked,
        )
    )
    files = _by_job(
        tx.rows(f"SELECT job_id, path FROM job_file {one.format('job_id')} ORDER BY path", **asked)
    )
    removed = _by_job(
        tx.rows(
            f"""
            SELECT DISTINCT job_id, document_id
            FROM removed_document JOIN batch ON batch.id = removed_document.batch_id
            {one.format("job_id")} ORDER BY document_id
            """,
            **asked,
        )
    )
    return [
        _job(job, runs[job["id"]], batches[job["id"]], totals[job["id"]])
        | {
            "files": [row["path"] for row in files[job["id"]]],
            "removed": [row["document_id"] for row in removed[job["id"]]],
        }
        for job in found
    ]


def controls(tx: Transaction, job_id: int) -> Rows:
    """What a job's rows add up to, by month and currency; only JSON types.

    `{source, record_type, period, currency, state, rows, amounts, rules, removed, own_totals,
    difference}`. `rows` and `amounts` have the buckets source, delivered, unchanged, flagged and
    excluded, and `waiting` (source rows that a delivery still has to account for); `rules` names
    what flagged or excluded: {bucket: {rule: {rows, amount}}}. `own_totals` are those of whole
    documents by the vendor itself, {documents, differing, amount}: their lines were compared.
    `difference` is source less all others: nothing, or a fault of ours.
    """
    found = tx.rows(
        """
        SELECT batch.source, batch.record_type, batch.period, batch.state, bucket, rule, currency,
            rows, amount
        FROM batch_total JOIN batch ON batch.id = batch_total.batch_id
        WHERE job_id = :job_id
        ORDER BY batch.period, currency, bucket, rule
        """,
        job_id=job_id,
    )
    grouped: defaultdict[tuple[str, str], Rows] = defaultdict(list)
    for row in found:
        grouped[row["period"], row["currency"]].append(row)
    return [_control(rows) for rows in grouped.values()]


def _control(totals: Rows) -> dict[str, Any]:
    first = totals[0]
    currency = first["currency"]
    rows = {bucket: _rows(totals, bucket) for bucket in _COUNTED}
    sums = {bucket: _sum(totals, bucket) for bucket in _COUNTED}
    left = rows["source"] - sum(rows[bucket] for bucket in _COUNTED[1:])
    over = sums["source"] - sum((sums[bucket] for bucket in _COUNTED[1:]), Decimal(0))
    nothing = (0, Decimal(0))
    settled = first["state"] in ("delivered", "superseded")
    waiting, difference = (nothing, (left, over)) if settled else ((left, over), nothing)
    rules: dict[str, dict[str, Any]] = {"flagged": {}, "excluded": {}}
    for total in totals:
        if total["bucket"] in rules:
            rules[total["bucket"]][total["rule"]] = {
                "rows": total["rows"],
                "amount": amount_text([total["amount"]], currency),
            }
    return {
        **{name: first[name] for name in ("source", "record_type", "period", "currency", "state")},
        "rows": {**rows, "waiting": waiting[0]},
        "amounts": {
            bucket: amount_text([amount], currency)
            for bucket, amount in {**sums, "waiting": waiting[1]}.items()
        },
        "rules": rules,
        "removed": {
            "rows": _rows(totals, "removed"),
            "amount": amount_text([_sum(totals, "removed")], currency),
        },
        "own_totals": {
            "documents": _rows(totals, "own_total"),
            "differing": _rules(totals, "own_total").get("differs", 0),
            "amount": amount_text([_sum(totals, "own_total")], currency),
        },
        "difference": {"rows": difference[0], "amount": amount_text([difference[1]], currency)},
    }


def _sum(totals: Rows, bucket: str) -> Decimal:
    return sum((total["amount"] for total in totals if total["bucket"] == bucket), Decimal(0))


def _by_job(rows: Rows) -> Mapping[int, Rows]:
    grouped: defaultdict[int, Rows] = defaultdict(list)
    for row in rows:
        grouped[row["job_id"]].append(row)
    return grouped


def _job(job: dict[str, Any], runs: Rows, batches: Rows, totals: Rows) -> dict[str, Any]:
    status = _status(job, runs, batches, totals)
    ended = None
    if status not in (JobStatus.RUNNING, JobStatus.READY):
        delivered = [batch["delivered_at"] for batch in batches if batch["delivered_at"]]
        ended = max([job["sealed_at"], *delivered])
    return {
        "id": job["id"],
        "name": job["name"],
        "source": job["source"],
        "record_type": job["record_type"],
        "route": job["route"],
        "status": status.value,
        "started_at": as_text(job["started_at"]),
        "ended_at": as_text(ended),
        "periods": sorted({row["period"] for row in (*runs, *batches)} - {""}),
        "counts": {bucket: _rows(totals, bucket) for bucket in _COUNTED},
        "amounts": _amounts(totals),
        "excluded_by": _rules(totals, "excluded"),
        "flagged_by": _rules(totals, "flagged"),
        "failures": [
            {"period": run["period"] or None, "message": run["message"]}
            for run in runs
            if run["state"] == "failed"
        ],
        "trigger": job["trigger"],
        "sync_key": job["sync_key"],
    }


def _status(job: dict[str, Any], runs: Rows, batches: Rows, totals: Rows) -> JobStatus:
    if job["sealed_at"] is None:
        return JobStatus.RUNNING
    if any(run["state"] == "failed" for run in runs):
        return JobStatus.FAILED
    if any(batch["state"] in ("ready", "claimed") for batch in batches):
        return JobStatus.READY
    if _rows(totals, "delivered") or _rows(totals, "removed"):
        return JobStatus.DELIVERED
    return JobStatus.UNCHANGED


def _rows(totals: Rows, bucket: str) -> int:
    return sum(total["rows"] for total in totals if total["bucket"] == bucket)


def _rules(totals: Rows, bucket: str) -> dict[str, int]:
    rules: defaultdict[str, int] = defaultdict(int)
    for total in totals:
        if total["bucket"] == bucket:
            rules[total["rule"]] += total["rows"]
    return dict(rules)


def _amounts(totals: Rows) -> dict[str, dict[str, str]]:
    currencies = sorted({total["currency"] for total in totals if total["bucket"] in _COUNTED})
    return {
        currency: {
            bucket: amount_text(
                (
                    total["amount"]
                    for total in totals
                    if total["bucket"] == bucket and total["currency"] == currency
                ),
                currency,
            )
            for bucket in _COUNTED
        }
        for currency in currencies
    }


def amount_text(amounts: Iterable[Decimal], currency: str) -> str:
    """The exact sum, with the currency's decimals, or more where there are more."""
    total = sum(amounts, Decimal(0))
    short = total.quantize(Decimal(1).scaleb(-exponent(currency)))
    return str(short if short == total else total)
