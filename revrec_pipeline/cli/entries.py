"""`revrec order` and `revrec expense`: what no system and no file supplies, typed in."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from revrec_pipeline.cli.errors import who
from revrec_pipeline.cli.home import open_home
from revrec_pipeline.conversion.template import Column
from revrec_pipeline.errors import UsageError
from revrec_pipeline.imports import entry
from revrec_pipeline.model import RecordType

if TYPE_CHECKING:
    from revrec_pipeline.imports.run import Imported

_Command = TypeVar("_Command", bound=Callable[..., Any])
#: Without these the checks would hold the line back.
_NEEDED = {
    RecordType.SALES: ("Service Start Date", "Service End Date", "Currency"),
    RecordType.COMMISSIONS: ("Reference Number",),
}
_KEYS = ("Order Number", entry.LINE_COLUMN)


def _is_needed(record_type: RecordType, column: Column) -> bool:
    return column.required or column.header in _NEEDED[record_type]


def _name(header: str) -> str:
    return header.lower().replace(" ", "_")


def _by_header(record_type: RecordType, given: dict[str, str | None]) -> dict[str, str]:
    """What was given, by the column's header."""
    return {
        column.header: text
        for column in entry.columns(record_type)
        if (text := given.get(_name(column.header))) is not None
    }


def _flag(header: str) -> str:
    return f"--{header.lower().replace(' ', '-')}"


@click.group(short_help="Enter an order line by hand, or change one.")
def order() -> None:
    """Enter orders that no system and no file supplies.

    Each entry is a job of the source `manual`, checked and routed like any other, with who made it
    and when. Orders that came from a system or a file are changed there.
    """


@click.group(short_help="Enter a commission or other cost by hand.")
def expense() -> None:
    """Enter commissions and other costs of a contract, in the home currency.

    Each entry is a job of the source `manual`, checked and routed like any other.
    """


def _flags(
    record_type: RecordType, *, without: tuple[str, ...] = ()
) -> Callable[[_Command], _Command]:
    """One option for each column of the sheet."""

    def decorate(command: _Command) -> _Command:
        for column in reversed(entry.columns(record_type)):
            if column.header not in without:
                kind = {"date": "YYYY-MM-DD", "id": "ID", "text": "TEXT"}.get(column.type, "NUMBER")
                note = "" if _is_needed(record_type, column) else " (optional)"
                command = click.option(
                    _flag(column.header),
                    _name(column.header),
                    metavar=kind,
                    help=f"{column.header}{note}.",
                )(command)
        return command

    return decorate


@order.command("add", short_help="Enter a line of an order.")
@_flags(RecordType.SALES)
def add_order(**cells: str | None) -> None:
    """Enter a line of a new order, or one more line of an order that was entered before.

    On a terminal, what is needed and not given is asked for. The amount is quantity times unit
    price.
    """
    _add(RecordType.SALES, cells)


@order.command("edit", short_help="Change a line that was entered.")
@click.argument("order_number", metavar="ORDER")
@click.argument("item", metavar="ITEM")
@_flags(RecordType.SALES, without=_KEYS)
def edit_order(order_number: str, item: str, **cells: str | None) -> None:
    """Change the line ITEM of an ORDER that was entered by hand; what is not named stays.

    The versions before stay in the lake, with who made them and when; `revrec trace ORDER` shows
    each. An empty text ("") empties a cell.
    """
    changes = _by_header(RecordType.SALES, cells)
    if not changes:
        raise UsageError("nothing to change; name a cell, like --quantity 3")
    settings, ledger, lake = open_home()
    _deliver(
        entry.edit_order(ledger, lake, settings, order_number, item, changes, who=who()),
    )


@expense.command("add", short_help="Enter one cost.")
@_flags(RecordType.COMMISSIONS)
def add_expense(**cells: str | None) -> None:
    """Enter one cost, as a commission; a claw-back has a negative amount.

    The reference number identifies it: the same one is refused, so that nothing is paid twice. On a
    terminal, what is needed and not given is asked for.
    """
    _add(RecordType.COMMISSIONS, cells)


def _add(record_type: RecordType, given: dict[str, str | None]) -> None:
    cells = {name: text for name, text in _by_header(record_type, given).items() if text}
    missing = [
        column
        for column in entry.columns(record_type)
        if _is_needed(record_type, column) and column.header not in cells
    ]
    if missing and not sys.stdin.isatty():
        raise UsageError(f"give {', '.join(_flag(column.header) for column in missing)}")
    for column in missing:
        cells[column.header] = click.prompt(column.header)
    settings, ledger, lake = open_home()
    _deliver(entry.add(ledger, lake, settings, record_type, cells, who=who()))


def _deliver(imported: "Imported") -> None:
    """Route the entry, and tell of it and of what its checks found."""
    # Dagster takes seconds to import: after what was typed is known to be right.
    from revrec_pipeline.cli.delivering import deliver_jobs
    from revrec_pipeline.cli.errors import print_errors
    from revrec_pipeline.cli.jobs import find_job, print_jobs
    from revrec_pipeline.ledger import sync_errors

    settings, ledger, lake = open_home()
    job_ids = list(imported.job_ids.values())
    deliver_jobs(settings, ledger, "manual", job_ids)
    print_jobs([find_job(ledger, lake, job_id) for job_id in job_ids])
    with ledger.transaction() as tx:
        found = [each for each in sync_errors.list_errors(tx) if each["job_id"] in job_ids]
    if found:
        click.echo()
        print_errors(found)
