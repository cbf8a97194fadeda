"""`revrec matches`: invoices without an order, and which customers a person takes for the same."""

from typing import Any

import click

from revrec_pipeline import matches as match_file
from revrec_pipeline.cli.errors import who
from revrec_pipeline.cli.home import open_home
from revrec_pipeline.cli.output import print_json, print_table
from revrec_pipeline.errors import UsageError
from revrec_pipeline.ledger import Ledger, as_text, now
from revrec_pipeline.matches import Match
from revrec_pipeline.model import RecordType


@click.group(invoke_without_command=True, short_help="List unmatched invoices; approve a match.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of tables.")
@click.pass_context
def matches(ctx: click.Context, as_json: bool) -> None:
    """List the customers whose invoices belong to no order, and whom they may be.

    An invoice finds its order by the order's number, else its customer by an approved match, by
    the customer's id, or by exactly the same name. Names that are only alike suggest a match:
    nothing is matched by them until you approve it. Approved matches are kept in matches.csv beside
    revrec.toml.
    """
    if ctx.invoked_subcommand:
        return
    settings, ledger, lake = open_home()
    from revrec_pipeline import between

    file = match_file.path(settings)
    approved = match_file.read(file)
    suggested, unmatched = between.unmatched(ledger, lake, approved)
    if as_json:
        print_json(
            {
                "suggested": suggested,
                "unmatched": unmatched,
                "approved": [_as_json(match) for match in approved],
                "file": str(file),
            }
        )
        return
    if suggested:
        click.echo("Suggested, for the names are alike:")
        _print(suggested)
        first = suggested[0]
        click.echo(
            "\nIf they are one customer: revrec matches approve "
            f"{first['source']}:{first['customer_id']} "
            f"{first['order_source']}:{first['order_customer_id']} --reason TEXT\n"
        )
    if unmatched:
        click.echo("Without a customer of a like name:")
        _print(unmatched)
    if not suggested and not unmatched:
        click.echo("Every delivered invoice belongs to an order or to a customer with orders.")
    if approved:
        click.echo(f"\n{len(approved)} approved in {file}")


def _print(customers: list[dict[str, Any]]) -> None:
    print_table(
        ("Customer", "Name", "Invoices", "Amount", "Perhaps", "Its name"),
        [
            (
                f"{row['source']}:{row['customer_id'] or ''}",
                row["customer_name"],
                row["invoices"],
                ", ".join(f"{amount} {code}" for code, amount in row["amounts"].items()),
                row["order_source"] and f"{row['order_source']}:{row['order_customer_id']}",
                row["order_customer_name"],
            )
            for row in customers
        ],
    )


@matches.command(short_help="Take two customers for the same from now on.")
@click.argument("billed", metavar="SOURCE:CUSTOMER")
@click.argument("ordered", metavar="ORDER_SOURCE:CUSTOMER")
@click.option("--reason", default="", help="Why; kept in the file.")
def approve(billed: str, ordered: str, reason: str) -> None:
    """Take the customer of a billing system for one of the system of orders, from now on.

    Both are named by source and customer id, as `revrec matches` lists them. The pair is kept in
    matches.csv beside revrec.toml, with who approved it and when; put that file under version
    control. To take a match back, delete its line.
    """
    settings, ledger, lake = open_home()
    from revrec_pipeline import between

    (source, customer), (order_source, order_customer) = _part(billed), _part(ordered)
    name = between.customer_name(ledger, lake, RecordType.INVOICES, source, customer)
    order_name = between.customer_name(ledger, lake, RecordType.SALES, order_source, order_customer)
    for found, given, what in ((name, billed, "invoices"), (order_name, ordered, "orders")):
        if found is None:
            raise UsageError(f"{given}: no delivered {what} have this customer")
    file = match_file.path(settings)
    match_file.add(
        file,
        Match(
            source=source,
            customer_id=customer,
            order_source=order_source,
            order_customer_id=order_customer,
            customer_name=name or "",
            order_customer_name=order_name or "",
            approved_by=who(),
            approved_at=as_text(now()) or "",
            reason=reason,
        ),
    )
    left = between.record(ledger, lake, match_file.read(file), _last_job(ledger))
    click.echo(f"{billed} is {ordered}, by {file}.")
    click.echo(f"{left} findings between systems are left; `revrec errors` lists them.")


def _part(text: str) -> tuple[str, str]:
    source, colon, customer = text.partition(":")
    if not (source and colon and customer):
        raise UsageError(f"{text!r} is no customer; write it like stripe:cus_1")
    return source, customer


def _last_job(ledger: Ledger) -> int:
    with ledger.transaction() as tx:
        found = tx.one("SELECT max(job_id) AS job_id FROM batch WHERE state = 'delivered'")
    return int(found["job_id"]) if found and found["job_id"] else 0


def _as_json(match: Match) -> dict[str, str]:
    return {name: getattr(match, name) for name in Match.__dataclass_fields__}
