"""`revrec order`, `expense`, `delivery`, `customer`, `product`: what no system supplies, typed."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from revrec_pipeline.cli.errors import who
from revrec_pipeline.cli.home import open_home
from revrec_pipeline.cli.output import print_json, print_table
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
    RecordType.DELIVERIES: ("Reference Number",),
    RecordType.CUSTOMERS: (),
    RecordType.PRODUCTS: (),
}
#: A cell that people change.
_EXAMPLE = {
    RecordType.SALES: "Quantity",
    RecordType.DELIVERIES: "Units Delivered",
    RecordType.CUSTOMERS: "Customer Name",
    RecordType.PRODUCTS: "Product Name",
}
_KINDS = {"date": "YYYY-MM-DD", "id": "ID", "text": "TEXT", "bool": "true|false"}
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


@click.group(short_help="Enter delivered units by hand; list where they count.")
def delivery() -> None:
    """Enter units that were delivered: hours that were worked, pieces that were shipped.

    They count against order lines of the same customer and product: the line that the delivery
    names, or else the oldest one that is open on that day and has units left, and on to the next.
    Units beyond what was sold are a warning. Each entry is a job of the source `manual`, checked
    and routed like any other.
    """


@click.group(short_help="Enter a customer by hand, or change one.")
def customer() -> None:
    """Enter customers, for rows that have a customer's id and no name.

    Each entry is a job of the source `manual`, checked and routed like any other. What is entered
    or imported last counts; the versions before stay in the lake, with who made them and when.
    """


@click.group(short_help="Enter a product by hand, or change one.")
def product() -> None:
    """Enter products: what order lines lack is taken from here.

    That is the name, family and type, the list price where the currency is the same, and the end of
    service from the term. Each entry is a job of the source `manual`, checked and routed like any
    other. What is entered or imported last counts; the versions before stay in the lake.
    """


def _flags(
    record_type: RecordType, *, without: tuple[str, ...] = ()
) -> Callable[[_Command], _Command]:
    """One option for each column of the sheet."""

    def decorate(command: _Command) -> _Command:
        for column in reversed(entry.columns(record_type)):
            if column.header not in without:
                kind = _KINDS.get(column.type, "NUMBER")
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
    _edit(RecordType.SALES, order_number, cells, item)


@expense.command("add", short_help="Enter one cost.")
@_flags(RecordType.COMMISSIONS)
def add_expense(**cells: str | None) -> None:
    """Enter one cost, as a commission; a claw-back has a negative amount.

    The reference number identifies it: the same one is refused, so that nothing is paid twice. On a
    terminal, what is needed and not given is asked for.
    """
    _add(RecordType.COMMISSIONS, cells)


@delivery.command("add", short_help="Enter delivered units.")
@_flags(RecordType.DELIVERIES)
def add_delivery(**cells: str | None) -> None:
    """Enter units of a product that a customer got on a day; negative ones are taken back.

    Name the order, and its item, to say which line they count against; without, it is the oldest
    open one. The reference number identifies the delivery. On a terminal, what is needed and not
    given is asked for.
    """
    _add(RecordType.DELIVERIES, cells)


@delivery.command("edit", short_help="Change a delivery that was entered.")
@click.argument("reference", metavar="REFERENCE")
@_flags(RecordType.DELIVERIES, without=("Reference Number",))
def edit_delivery(reference: str, **cells: str | None) -> None:
    """Change the delivery REFERENCE that was entered by hand; what is not named stays.

    The versions before stay in the lake, with who made them and when. An empty text ("") empties a
    cell. The units are assigned anew, and those of deliveries after it where that changes them.
    """
    _edit(RecordType.DELIVERIES, reference, cells)


@delivery.command("list", short_help="Deliveries, and the order lines that they count against.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def list_deliveries(as_json: bool) -> None:
    """List every delivery with the order lines that its units count against, oldest first.

    Units that no line takes stand beside no order; `revrec errors` says why. Deliveries that a
    check holds back are not listed.
    """
    from revrec_pipeline.between import deliveries

    _, ledger, lake = open_home()
    found = deliveries(ledger, lake)
    if as_json:
        print_json(found)
        return
    if not found:
        click.echo("Nothing was delivered.")
        return
    print_table(
        ("Date", "Delivery", "Customer", "Product", "Units", "Order", "Item"),
        [
            (
                row["delivery_date"],
                row["document_id"],
                row["customer_id"],
                row["product_code"],
                row["units"],
                row["order_number"] or "none",
                row["order_item_number"],
            )
            for row in found
        ],
    )


@customer.command("add", short_help="Enter a customer.")
@_flags(RecordType.CUSTOMERS)
def add_customer(**cells: str | None) -> None:
    """Enter a customer; the account id is the customer id of orders and invoices.

    On a terminal, what is needed and not given is asked for. Rows that were warned of because their
    customer had no name are named with the next sync or import of their source.
    """
    _add(RecordType.CUSTOMERS, cells)


@customer.command("edit", short_help="Change a customer that was entered or imported.")
@click.argument("account_id", metavar="ID")
@_flags(RecordType.CUSTOMERS, without=("Account ID",))
def edit_customer(account_id: str, **cells: str | None) -> None:
    """Change the customer ID that was entered or imported; what is not named stays.

    The versions before stay in the lake, with who made them and when. An empty text ("") empties a
    cell. Customers of a system are changed there.
    """
    _edit(RecordType.CUSTOMERS, account_id, cells)


@product.command("add", short_help="Enter a product.")
@_flags(RecordType.PRODUCTS)
def add_product(**cells: str | None) -> None:
    """Enter a product; its code is the product code of order lines.

    On a terminal, what is needed and not given is asked for. Order lines that lacked what it gives
    are completed with the next sync or import of their source.
    """
    _add(RecordType.PRODUCTS, cells)


@product.command("edit", short_help="Change a product that was entered or imported.")
@click.argument("product_code", metavar="CODE")
@_flags(RecordType.PRODUCTS, without=("Product Code",))
def edit_product(product_code: str, **cells: str | None) -> None:
    """Change the product CODE that was entered or imported; what is not named stays.

    The versions before stay in the lake, with who made them and when. An empty text ("") empties a
    cell. Products of a system are changed there.
    """
    _edit(RecordType.PRODUCTS, product_code, cells)


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
        cells[column.header] = _ask(record_type, column)
    settings, ledger, lake = open_home()
    _deliver(entry.add(ledger, lake, settings, record_type, cells, who=who()))


def _ask(record_type: RecordType, column: Column) -> str:
    """Ask until the answer is what the column holds."""

    def judged(text: str) -> str:
        try:
            entry.check(record_type, {column.header: text})
        except UsageError as wrong:
            raise click.BadParameter(str(wrong)) from wrong
        return text

    return str(click.prompt(column.header, value_proc=judged))


def _edit(
    record_type: RecordType, key: str, given: dict[str, str | None], item: str | None = None
) -> None:
    changes = _by_header(record_type, given)
    if not changes:
        raise UsageError(f"nothing to change; name a cell, like {_flag(_EXAMPLE[record_type])}")
    settings, ledger, lake = open_home()
    _deliver(entry.edit(ledger, lake, settings, record_type, key, changes, item=item, who=who()))


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
