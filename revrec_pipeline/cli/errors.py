"""`revrec errors`: flagged rows, what became of them, and what people decided."""

import csv
import getpass
import os
from collections import Counter
from datetime import date, datetime
from pathlib import Path
from typing import Any

import click

from revrec_pipeline.cli.home import open_home
from revrec_pipeline.cli.output import print_json, print_note, print_table
from revrec_pipeline.codes import page_of, pages
from revrec_pipeline.csv_cells import safe
from revrec_pipeline.errors import UsageError
from revrec_pipeline.ledger import sync_errors
from revrec_pipeline.model import Severity

#: Of each code. A first sync of a CRM and a billing system that share no number warns of most
#: invoices; and nobody reads a hundred thousand errors on a terminal.
_SHOWN = {Severity.WARNING: 20, Severity.ERROR: 500}


@click.group(invoke_without_command=True, short_help="List sync errors; ignore or resolve one.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
@click.option(
    "--csv",
    "csv_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write them to a CSV file.",
)
@click.option(
    "--xlsx",
    "xlsx_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write them to a workbook of their own.",
)
@click.option("--all", "include_all", is_flag=True, help="Ignored and resolved ones, too.")
@click.option(
    "--by",
    type=click.Choice(sync_errors.GROUPS),
    help="Count the open ones instead, with their age.",
)
@click.pass_context
def errors(
    ctx: click.Context,
    as_json: bool,
    csv_file: Path | None,
    xlsx_file: Path | None,
    include_all: bool,
    by: str | None,
) -> None:
    """List flagged rows: which record, which field, who can mend it, and where.

    An error holds its whole order or invoice back; everything else goes on. Mend the record in the
    source system and sync again: the error resolves itself. A warning names the default that was
    applied. Each code has a page in docs/errors: cause, example, how to fix.
    """
    if ctx.invoked_subcommand:
        return
    _, ledger, lake = open_home()
    if by:
        with ledger.transaction() as tx:
            counts = sync_errors.count(tx, by)
        _print_counts(by, counts, as_json)
        return
    with ledger.transaction() as tx:
        found = sync_errors.list_errors(tx, include_all=include_all)
    shown = [error | {"page": page_of(error["code"])} for error in found]
    if csv_file:
        _write_csv(csv_file, shown)
        click.echo(f"{csv_file} ({len(shown)} errors)", err=as_json)
    if xlsx_file:
        # Dagster is not needed, but DuckDB, Arrow and the writer take half a second to import.
        from revrec_pipeline.error_workbook import write_error_workbook

        write_error_workbook(lake, shown, _COLUMNS, xlsx_file)
        click.echo(f"{xlsx_file} ({len(shown)} errors)", err=as_json)
    if as_json:
        print_json(shown)
    elif csv_file or xlsx_file:
        return
    elif not shown:
        click.echo("No sync errors.")
    else:
        few, left = _few(shown)
        print_errors(few)
        for code, count in sorted(left.items()):
            print_note(f"and {count} more {code}; --csv, --xlsx and --json have all of them", 0)
        click.echo("\nCause, example and how to fix:")
        for page in pages(error["code"] for error in shown):
            click.echo(f"  {page}")


def _few(found: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], Counter[str]]:
    """Some errors of each code, and how many more there are."""
    seen: Counter[str] = Counter()
    left: Counter[str] = Counter()
    few = []
    for error in found:
        code = error["code"]
        seen[code] += 1
        if seen[code] > _SHOWN[Severity(error["severity"])]:
            left[code] += 1
        else:
            few.append(error)
    return few, left


def print_errors(found: list[dict[str, Any]]) -> None:
    """Each error with its message and its link below, the ones that hold rows back first."""
    ordered = sorted(found, key=lambda error: (error["severity"], error["source"], error["id"]))
    width = max(len(str(error["id"])) for error in ordered)
    for error in ordered:
        state = error["severity"] if error["status"] == "open" else error["status"]
        print_note(
            f"{error['id']:>{width}}  {state}, {error['source']} {error['record_type']}"
            f"{' ' + error['period'] if error['period'] else ''}, {error['code']}",
            0,
        )
        for text in (error["message"], error["url"], error["reason"] and f"({error['reason']})"):
            if text:
                print_note(text, width + 2)


def _print_counts(by: str, counts: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(counts)
    elif not counts:
        click.echo("No sync errors.")
    else:
        print_table(
            (by.capitalize(), "Errors", "Warnings", "Oldest (days)", "Newest (days)"),
            [tuple(row.values()) for row in counts],
        )


def _write_csv(target: Path, found: list[dict[str, Any]]) -> None:
    try:
        with target.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(_COLUMNS))
            writer.writeheader()
            writer.writerows({name: _safe(error[name]) for name in _COLUMNS} for error in found)
    except OSError as error:
        raise UsageError(f"cannot write {target}: {error.strerror}") from error


_COLUMNS = (
    "id", "job_id", "stage", "code", "severity", "owner", "source", "record_type", "record_id",
    "line_id", "field", "message", "url", "status", "first_seen", "last_seen", "reason",
    "ignored_until", "resolved_at", "resolved_job_id", "period", "page",
)  # fmt: skip


def _safe(value: object) -> object:
    return safe(value) if isinstance(value, str) else value


@errors.command(short_help="Show one error: history, link, record as received.")
@click.argument("error_id", metavar="ID", type=int)
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of text.")
def show(error_id: int, as_json: bool) -> None:
    """Show one error, what became of it and who did it, and the record as the source sent it.

    The record is read from the lake, from the page that the flagged row came from: it is what was
    received, not what the source shows today.
    """
    _, ledger, lake = open_home()
    from revrec_pipeline.trace import received

    with ledger.transaction() as tx:
        error = sync_errors.get(tx, error_id)
        turns = sync_errors.history(tx, error_id)
    raw = received(ledger, lake, error)
    page = page_of(error["code"])
    if as_json:
        print_json(error | {"page": page, "history": turns, "received": raw})
        return
    print_errors([error])
    click.echo()
    print_table(
        ("", ""),
        [
            ("Stage", f"{error['stage']}, to be mended in: {error['owner']}"),
            ("First seen", error["first_seen"]),
            ("Last seen", f"{error['last_seen']} by job {error['job_id']}"),
            ("How to fix", page),
        ],
    )
    click.echo("\nHistory")
    for turn in turns:
        click.echo(f"  {_sentence(turn)}")
    if not raw:
        click.echo("\nNo record: this error is about no record that is in the lake.")
    for each in raw:
        click.echo(
            f"\nAs received: {each['object']}, page {each['page']} of landing {each['landing']}"
            f"\n  {each['request']} at {each['server_time']}"
            + (f", request id {each['request_id']}" if each["request_id"] else "")
        )
        click.echo(each["record"] or "The record could not be cut out of its page.")


def _sentence(turn: dict[str, Any]) -> str:
    """`2026-05-04T09:00:00Z  ignored by ada until 2026-05-31: a test order`."""
    by = f"by {turn['who']}" if turn["who"] else f"by job {turn['job_id']}"
    parts = [turn["action"]]
    if turn["action"] != "expired":
        parts.append(by)
    if turn["ignored_until"]:
        parts.append(f"until {turn['ignored_until']}")
    reason = f": {turn['reason']}" if turn["reason"] else ""
    return f"{turn['at']}  {' '.join(parts)}{reason}"


@errors.command(short_help="Do not show an error again.")
@click.argument("error_id", metavar="ID", type=int)
@click.option("--reason", required=True, help="Why; kept with the error.")
@click.option(
    "--until",
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="YYYY-MM-DD",
    help="The last day on which to ignore it.  [default: for ever]",
)
def ignore(error_id: int, reason: str, until: datetime | None) -> None:
    """Never show this error again, even if it recurs. With --until, it is open after that day.

    Its row stays held back, unless the code has a default (its page in docs/errors says so): then
    the next sync lets the order through with that.
    """
    _, ledger, _ = open_home()
    day: date | None = until.date() if until else None
    with ledger.transaction() as tx:
        meaning = sync_errors.ignore(tx, error_id, reason, who=who(), until=day)
    click.echo(f"Error {error_id} is ignored{f' until {day}' if day else ''}.")
    click.echo(meaning)


@errors.command(short_help="Mark an error as dealt with.")
@click.argument("error_id", metavar="ID", type=int)
def resolve(error_id: int) -> None:
    """Mark this error as dealt with. It opens again if the next sync finds it again."""
    _, ledger, _ = open_home()
    with ledger.transaction() as tx:
        sync_errors.resolve(tx, error_id, who=who())
    click.echo(f"Error {error_id} is resolved.")


def who() -> str:
    """Who sits at the terminal: $REVREC_USER, else the user of the operating system."""
    if named := os.environ.get("REVREC_USER", "").strip():
        return named
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return f"uid {os.getuid()}"
