"""`revrec errors`: flagged rows, and what became of them."""

import csv
from pathlib import Path
from typing import Any

import click

from revrec_pipeline.cli.home import open_home
from revrec_pipeline.cli.output import print_json, print_note
from revrec_pipeline.errors import UsageError
from revrec_pipeline.ledger import sync_errors


@click.group(invoke_without_command=True, short_help="List sync errors; ignore or resolve one.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
@click.option(
    "--csv",
    "csv_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write them to a CSV file.",
)
@click.option("--all", "include_all", is_flag=True, help="Ignored and resolved ones, too.")
@click.pass_context
def errors(ctx: click.Context, as_json: bool, csv_file: Path | None, include_all: bool) -> None:
    """List flagged rows: which record, which field, who can mend it, and where.

    An error holds its whole order or invoice back; everything else goes on. Mend the record in the
    source system and sync again: the error resolves itself. A warning names the default that was
    applied.
    """
    if ctx.invoked_subcommand:
        return
    _, ledger, _ = open_home()
    with ledger.transaction() as tx:
        found = sync_errors.list_errors(tx, include_all=include_all)
    if csv_file:
        _write_csv(csv_file, found)
        click.echo(f"{csv_file} ({len(found)} errors)", err=as_json)
    if as_json:
        print_json(found)
    elif not found and not csv_file:
        click.echo("No sync errors.")
    elif not csv_file:
        print_errors(found)


def print_errors(found: list[dict[str, Any]]) -> None:
    """Each error with its message and its link below, the ones that hold rows back first."""
    ordered = sorted(found, key=lambda error: (error["severity"], error["source"], error["id"]))
    width = max(len(str(error["id"])) for error in ordered)
    for error in ordered:
        state = error["severity"] if error["status"] == "open" else error["status"]
        click.echo(
            f"{error['id']:>{width}}  {state}, {error['source']} {error['record_type']}"
            f"{' ' + error['period'] if error['period'] else ''}, {error['code']}"
        )
        for text in (error["message"], error["url"], error["reason"] and f"({error['reason']})"):
            if text:
                print_note(text, width + 2)


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
)  # fmt: skip


def _safe(value: object) -> object:
    """Text that a spreadsheet would run as a formula gets an apostrophe in front."""
    text = isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r")
    return f"'{value}" if text else value


@errors.command(short_help="Never show an error again.")
@click.argument("error_id", metavar="ID", type=int)
@click.option("--reason", required=True, help="Why; kept with the error.")
def ignore(error_id: int, reason: str) -> None:
    """Never show this error again, even if it recurs. The row stays held back."""
    _, ledger, _ = open_home()
    with ledger.transaction() as tx:
        sync_errors.ignore(tx, error_id, reason)
    click.echo(f"Error {error_id} is ignored.")


@errors.command(short_help="Mark an error as dealt with.")
@click.argument("error_id", metavar="ID", type=int)
def resolve(error_id: int) -> None:
    """Mark this error as dealt with. It opens again if the next sync finds it again."""
    _, ledger, _ = open_home()
    with ledger.transaction() as tx:
        sync_errors.resolve(tx, error_id)
    click.echo(f"Error {error_id} is resolved.")
