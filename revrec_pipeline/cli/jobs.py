"""`revrec jobs`, `revrec job` and `revrec conversion-file`: what ran and what came of it."""

import shutil
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import click

from revrec_pipeline.cli.home import open_home
from revrec_pipeline.cli.output import (
    counted,
    print_json,
    print_table,
    print_table_with_notes,
)
from revrec_pipeline.errors import UsageError
from revrec_pipeline.lake import Lake
from revrec_pipeline.ledger import Ledger, imports
from revrec_pipeline.ledger import jobs as ledger_jobs
from revrec_pipeline.summary import FILE as SUMMARY
from revrec_pipeline.summary import own_totals, summarize


@click.command(short_help="List jobs: Conversion Data and Recent Jobs.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of tables.")
def jobs(as_json: bool) -> None:
    """List all jobs, newest first.

    A job is one sync of one source and record type, however many months and runs it took. Jobs
    that ended in a conversion file stand under Conversion Data, all others under Recent Jobs.
    """
    _, ledger, lake = open_home()
    with ledger.transaction() as tx:
        found = [_with_files(job, lake) for job in ledger_jobs.jobs(tx)]
    if as_json:
        print_json(found)
        return
    if not found:
        click.echo("No jobs yet. Start one with: revrec sync")
        return
    for title, of_tab in (
        ("Conversion Data", [job for job in found if job["route"] == "conversion"]),
        ("Recent Jobs", [job for job in found if job["route"] != "conversion"]),
    ):
        if of_tab:
            click.echo(f"\n{title}")
            print_jobs(of_tab)


#: True on both routes: a conversion file stays as it is, a live load is taken out of the ledger.
REMOVED = "Delivered before, and no longer counted (void, reopened or gone from the source):"
_COUNTS = ("Source", "Delivered", "Unchanged", "Flagged", "Excluded")


def print_jobs(found: Iterable[dict[str, Any]]) -> None:
    """Two lines a job, which fit into 80 columns: what became of its rows, and what it was."""
    print_table_with_notes(
        ("Id", "Started (UTC)", "Status", *_COUNTS),
        [
            (
                (
                    job["id"],
                    job["started_at"][:16].replace("T", " "),
                    job["status"],
                    *(job["counts"][name.lower()] for name in _COUNTS),
                ),
                ", ".join((job["name"], *_months(job["periods"]), *_came_of(job))),
            )
            for job in found
        ],
    )


def _months(periods: list[str]) -> list[str]:
    """`2026-01 … 2026-03 (3 months)`, or the only month, or nothing."""
    if len(periods) < 2:
        return periods
    return [f"{periods[0]} … {periods[-1]} ({len(periods)} months)"]


def _came_of(job: dict[str, Any]) -> Iterator[str]:
    """What else a job did, in words."""
    if job["files"]:
        yield counted(len(job["files"]), "file")
    elif job["route"] == "live" and job["counts"]["delivered"]:
        yield "loaded live"
    if job["removed"]:
        yield f"{counted(len(job['removed']), 'document')} no longer counted"


@click.command(short_help="Show one job: counts, amounts, rules, files.")
@click.argument("job_id", metavar="ID", type=int)
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of text.")
@click.option("--months", is_flag=True, help="The controls of each month, too.")
@click.option("--summary", is_flag=True, help="The summary for the accountant, in Markdown.")
def job(job_id: int, as_json: bool, months: bool, summary: bool) -> None:
    """Show what became of every row of one job.

    For each currency, source = delivered + unchanged + flagged + excluded, in rows and in amount;
    excluded rows are listed by the rule that excluded them, flagged rows by their code. With
    --months the same stands for each month; JSON always has it, as `controls`.
    """
    _, ledger, lake = open_home()
    found = find_job(ledger, lake, job_id)
    with ledger.transaction() as tx:
        controls = ledger_jobs.controls(tx, job_id)
        original = imports.original_of(tx, job_id)
    if as_json:
        print_json(found | {"controls": controls} | ({"original": original} if original else {}))
        return
    if summary:
        click.echo(summarize(ledger, job_id), nl=False)
        return
    click.echo(f"Job {found['id']}: {found['name']}")
    click.echo(f"Status   {found['status']}, route {found['route'] or 'not routed yet'}")
    click.echo(f"Started  {found['started_at']}")
    click.echo(f"Ended    {found['ended_at'] or 'not yet'}")
    click.echo(f"Months   {''.join(_months(found['periods'])) or 'none'}")
    headings = ("", *_COUNTS)
    rows = [("rows", *(found["counts"][name.lower()] for name in _COUNTS))]
    rows += [
        (currency, *(amounts[name.lower()] for name in _COUNTS))
        for currency, amounts in sorted(found["amounts"].items())
    ]
    click.echo()
    print_table(headings, rows)
    if months:
        _print_months(controls)
    click.echo(f"\n{_ties(controls)}")
    if own := own_totals(controls):
        click.echo(own)
    for heading, by_name in (
        ("Excluded by rule", found["excluded_by"]),
        ("Flagged with code", found["flagged_by"]),
    ):
        if by_name:
            click.echo()
            print_table((heading, "Rows"), sorted(by_name.items()))
    if found["removed"]:
        click.echo(f"\n{REMOVED}")
        for document_id in found["removed"]:
            click.echo(f"  {document_id}")
    for failure in found["failures"]:
        click.echo(f"\nFailed {failure['period'] or 'to pull'}: {failure['message']}")
    if original:
        click.echo(f"\nOriginal input, by {original['who']} at {original['at']}")
        click.echo(f"  {lake.root / original['path']}")
    if found["files"]:
        click.echo("\nFiles")
        for file in [*found["files"], *map(str, _summary(lake, job_id))]:
            click.echo(f"  {file}")


def _summary(lake: Lake, job_id: int) -> list[Path]:
    """The summary that was written beside the job's files."""
    file = lake.root / "files" / str(job_id) / SUMMARY
    return [file] if file.is_file() else []


def _print_months(controls: Iterable[dict[str, Any]]) -> None:
    """Rows, then amounts, of each month and currency."""
    names = (*(name.lower() for name in _COUNTS), "waiting")
    rows = [
        (each["period"], each["currency"], *(each[what][name] for name in names), difference)
        for each in controls
        for what, difference in (
            ("rows", each["difference"]["rows"]),
            ("amounts", each["difference"]["amount"]),
        )
    ]
    click.echo()
    print_table(("Month", "", *_COUNTS, "Waiting", "Difference"), rows)


def _ties(controls: list[dict[str, Any]]) -> str:
    """Whether every month and currency ties, as a sentence."""
    wrong = [each for each in controls if each["difference"]["rows"] or _off(each)]
    if not controls:
        return "No month was built."
    if wrong:
        listed = ", ".join(f"{each['period']} {each['currency']}" for each in wrong)
        return f"Does not tie: {listed}; `revrec errors --by code` says more."
    return f"Ties: source = {' + '.join(_COUNTS[1:]).lower()}, by month and currency."


def _off(control: dict[str, Any]) -> bool:
    return bool(Decimal(control["difference"]["amount"]))


def find_job(ledger: Ledger, lake: Lake, job_id: int) -> dict[str, Any]:
    """One job in its JSON shape.

    Raises:
        UsageError: there is no such job.
    """
    with ledger.transaction() as tx:
        found = ledger_jobs.jobs(tx, job_id)
    if not found:
        raise UsageError(f"there is no job {job_id}; `revrec jobs` lists them")
    return _with_files(found[0], lake)


def _with_files(job: dict[str, Any], lake: Lake) -> dict[str, Any]:
    """The job with its files as paths that can be opened from anywhere."""
    return job | {"files": [str(lake.root / file) for file in job["files"]]}


@click.command("conversion-file", short_help="Copy a job's conversion file.")
@click.argument("job_id", metavar="JOB", type=int)
@click.option(
    "--to",
    "target",
    required=True,
    type=click.Path(path_type=Path),
    help="Where to put it; .xlsx gives the workbook, .zip one CSV per sheet.",
)
def conversion_file(job_id: int, target: Path) -> None:
    """Copy the conversion file of a job to PATH.

    The file is the one that was written when the job was delivered; asking again gives the same
    bytes. A job that was split or delivered in several parts gives PATH, PATH-2, and so on.
    """
    _, ledger, lake = open_home()
    kind = target.suffix.removeprefix(".").lower()
    if kind not in {"xlsx", "zip"}:
        raise UsageError(f"{target} ends neither in .xlsx nor in .zip")
    found = find_job(ledger, lake, job_id)
    with ledger.transaction() as tx:
        files = [file for file in ledger_jobs.files(tx, job_id) if file["kind"] == kind]
    if not files:
        raise UsageError(f"job {job_id} has no conversion file: {_why(found)}")
    for number, file in enumerate(files, start=1):
        place = target if number == 1 else target.with_stem(f"{target.stem}-{number}")
        _copy(lake.root / file["path"], place)
        click.echo(f"{place} ({file['rows']} rows)")


def _copy(source: Path, target: Path) -> None:
    partial = target.with_name(f".{target.name}.partial")
    try:
        shutil.copyfile(source, partial)
        partial.replace(target)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise UsageError(f"cannot copy {source} to {target}: {error.strerror}") from error


def _why(job: dict[str, Any]) -> str:
    if job["route"] == "live":
        return "it was loaded live; `revrec export` gives what the ledger holds"
    if job["status"] == "unchanged":
        return "nothing had changed since the last delivery"
    return f"it is {job['status']}"
