"""A job in Markdown, for the accountant: what came, what is missing, what to mend where, what ties.

A pure function of the ledger: asked again it says what holds now. It is written beside the job's
conversion file, with two pictures, and attached to the delivery's run.
"""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from revrec_pipeline.codes import CODES, page_of
from revrec_pipeline.errors import UsageError
from revrec_pipeline.lake import Lake
from revrec_pipeline.ledger import Ledger, jobs, now, sync_errors
from revrec_pipeline.model import ROWS_NAME, RecordType, Severity
from revrec_pipeline.pictures import bars

FILE = "summary.md"
_BUCKETS = ("source", "delivered", "unchanged", "flagged", "excluded")
#: Errors listed one by one; the rest are counted, and `revrec errors --csv` has them all.
_LISTED = 50


def summarize(ledger: Ledger, job_id: int) -> str:
    """The summary of a job.

    Raises:
        UsageError: there is no such job.
    """
    with ledger.transaction() as tx:
        found = jobs.jobs(tx, job_id)
        controls = jobs.controls(tx, job_id)
        errors = sync_errors.list_errors(tx, include_all=True)
    if not found:
        raise UsageError(f"there is no job {job_id}; `revrec jobs` lists them")
    job = found[0]
    concerning = [
        error
        for error in errors
        if error["source"] == job["source"]
        and error["record_type"] == job["record_type"]
        and error["period"] in {*job["periods"], None}
    ]
    parts = [
        _heading(job),
        _came(job, controls),
        _missing(concerning),
        _rules(controls),
        _ties(controls),
    ]
    return "\n".join(parts)


def write(ledger: Ledger, lake: Lake, folder: Path, text: str) -> None:
    """Put a job's summary and its pictures into the folder of its files, below the lake's root."""
    pictures = {
        "documents-by-month.svg": ("Delivered documents by month and source", _documents(ledger)),
        "errors-by-age.svg": ("Open errors by age", _ages(ledger)),
    }
    listed = [f"![{title}]({name})" for name, (title, _) in pictures.items()]
    whole = "\n".join([text, "## Pictures", "", *listed, ""])
    drawn = {name: bars(title, *counts) for name, (title, counts) in pictures.items()}
    with lake.scratch() as scratch:
        # The text goes last: where it lies, the pictures lie as well.
        for name, content in {**drawn, FILE: whole}.items():
            draft = scratch / name
            draft.write_text(content, encoding="utf-8")
            draft.replace(lake.root / folder / name)


def write_missing(ledger: Ledger, lake: Lake) -> None:
    """Write the summaries of deliveries that were killed between their files and the summary."""
    with ledger.transaction() as tx:
        delivered = tx.rows("SELECT DISTINCT job_id, path FROM job_file WHERE kind = 'zip'")
    for job_id, folder in sorted({(row["job_id"], Path(row["path"]).parent) for row in delivered}):
        # Without its folder a job's files were removed by a person or by housekeeping.
        if (lake.root / folder).is_dir() and not (lake.root / folder / FILE).exists():
            write(ledger, lake, folder, summarize(ledger, job_id))


def _documents(ledger: Ledger) -> tuple[list[str], dict[str, list[int]]]:
    """Months, and for each source and record type how many documents stand delivered in each."""
    with ledger.transaction() as tx:
        found = tx.rows(
            "SELECT source, record_type, period, count(*) AS documents FROM document "
            "GROUP BY source, record_type, period ORDER BY period, source, record_type"
        )
    months = sorted({row["period"] for row in found})
    counts = {(f"{r['source']} {r['record_type']}", r["period"]): r["documents"] for r in found}
    names = sorted({name for name, _ in counts})
    return months, {name: [counts.get((name, month), 0) for month in months] for name in names}


#: Days since an error was first seen, up to and with.
_AGES = {"today": 0, "up to a week": 7, "up to 30 days": 30, "up to 90 days": 90}
_OLDER = "older"


def _ages(ledger: Ledger) -> tuple[list[str], dict[str, list[int]]]:
    """Ages, and how many open errors and warnings have each."""
    with ledger.transaction() as tx:
        found = tx.rows("SELECT severity, first_seen FROM sync_error WHERE status = 'open'")
    ages = [*_AGES, _OLDER]
    counts = {"errors": dict.fromkeys(ages, 0), "warnings": dict.fromkeys(ages, 0)}
    at = now()
    for row in found:
        days = (at - row["first_seen"]).days
        age = next((name for name, limit in _AGES.items() if days <= limit), _OLDER)
        counts["errors" if row["severity"] == Severity.ERROR else "warnings"][age] += 1
    return ages, {name: list(of_age.values()) for name, of_age in counts.items()}


def _heading(job: dict[str, Any]) -> str:
    months = job["periods"]
    span = months[0] if len(months) == 1 else f"{months[0]} to {months[-1]}" if months else "none"
    went = {
        "conversion": "into a conversion file",
        "live": "live into the ledger",
        None: "nowhere yet",
    }[job["route"]]
    return (
        f"# Job {job['id']}: {job['name']}\n\n"
        f"Months: {span}. Started {job['started_at']}, ended {job['ended_at'] or 'not yet'}. "
        f"It is {job['status']}; what it had to deliver went {went}.\n"
    )


def _came(job: dict[str, Any], controls: list[dict[str, Any]]) -> str:
    rows = ROWS_NAME[RecordType(job["record_type"])]
    lines = ["## What came", ""]
    if not controls:
        return "\n".join([*lines, f"No {rows}.", ""])
    lines += _table(
        (rows.capitalize(), *(bucket.capitalize() for bucket in _BUCKETS)),
        [
            ("rows", *(job["counts"][bucket] for bucket in _BUCKETS)),
            *(
                (currency, *(amounts[bucket] for bucket in _BUCKETS))
                for currency, amounts in job["amounts"].items()
            ),
        ],
    )
    if job["removed"]:
        lines += [
            "",
            "No longer counted, though delivered before (void, reopened or gone from the source): "
            + ", ".join(f"`{each}`" for each in job["removed"])
            + ".",
        ]
    for failure in job["failures"]:
        lines += ["", f"**Failed** {failure['period'] or 'to pull'}: {failure['message']}"]
    return "\n".join([*lines, ""])


def _missing(errors: list[dict[str, Any]]) -> str:
    open_ = [error for error in errors if error["status"] == "open"]
    holding = [error for error in open_ if error["severity"] == Severity.ERROR]
    warnings = [error for error in open_ if error["severity"] != Severity.ERROR]
    ignored = [error for error in errors if error["status"] == "ignored"]
    lines = ["## What is missing, and where to mend it", ""]
    if not holding:
        lines.append("Nothing holds an order or invoice back.")
    for error in holding[:_LISTED]:
        record = error["record_id"] or "the whole month"
        link = f"[{record}]({error['url']})" if error["url"] else f"`{record}`"
        lines.append(f"* {link}: {error['message']} (error {error['id']}, {_code(error['code'])})")
    if len(holding) > _LISTED:
        lines.append(f"* and {len(holding) - _LISTED} more: `revrec errors --csv PATH`")
    if warnings:
        lines += ["", "Warnings, which hold nothing back:", ""]
        counts: defaultdict[str, int] = defaultdict(int)
        for warning in warnings:
            counts[warning["code"]] += 1
        for code, count in sorted(counts.items()):
            meaning = CODES.get(code)
            instead = f": {meaning.default}" if meaning and meaning.default else ""
            lines.append(f"* {count} of {_code(code)}{instead}")
    if ignored:
        lines += ["", "Ignored by a person:", ""]
        lines += [
            f"* `{error['record_id']}`, {_code(error['code'])}: {error['reason']}"
            for error in ignored[:_LISTED]
        ]
    return "\n".join([*lines, ""])


def _code(code: str) -> str:
    page = page_of(code)
    return f"`{code}`, {page}" if page else f"`{code}`"


def _rules(controls: list[dict[str, Any]]) -> str:
    rows = [
        (each["period"], each["currency"], rule, of_rule["rows"], of_rule["amount"])
        for each in controls
        for rule, of_rule in each["rules"]["excluded"].items()
    ]
    if not rows:
        return "## What was left out by a rule\n\nNothing.\n"
    table = _table(("Month", "Currency", "Rule", "Rows", "Amount"), rows)
    return "\n".join(["## What was left out by a rule", "", *table, ""])


def _ties(controls: list[dict[str, Any]]) -> str:
    words = "source = delivered + unchanged + flagged + excluded"
    off = [
        each
        for each in controls
        if each["difference"]["rows"] or each["difference"]["amount"].strip("-0.")
    ]
    says = (
        f"Does **not** tie in {len(off)} of {len(controls)} months and currencies."
        if off
        else f"In every month and currency {words}, in rows and in amount."
    )
    table = _table(
        ("Month", "Currency", *(bucket.capitalize() for bucket in _BUCKETS), "Difference"),
        [
            (
                each["period"],
                each["currency"],
                *(f"{each['amounts'][bucket]} ({each['rows'][bucket]})" for bucket in _BUCKETS),
                f"{each['difference']['amount']} ({each['difference']['rows']})",
            )
            for each in controls
        ],
    )
    own = own_totals(controls)
    sentences = [says, *(["", own] if own else [])]
    return "\n".join(["## What ties", "", *sentences, "", *(table if controls else []), ""])


def own_totals(controls: list[dict[str, Any]]) -> str | None:
    """Of how many documents the source itself says what they are over, as a sentence."""
    documents, differing = (
        sum(each["own_totals"][name] for each in controls) for name in ("documents", "differing")
    )
    if not documents:
        return None
    of = f"The source's own totals of {documents} document{'s' if documents > 1 else ''}"
    if differing:
        return f"{of}: {differing} differ{'s' if differing == 1 else ''} from the sum of the lines."
    return f"{of} are what the lines sum to."


def _table(headings: Iterable[object], rows: Iterable[Iterable[object]]) -> list[str]:
    heading = list(headings)
    return [
        _row(heading),
        _row("---" for _ in heading),
        *(_row(row) for row in rows),
    ]


def _row(cells: Iterable[object]) -> str:
    return f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |"
