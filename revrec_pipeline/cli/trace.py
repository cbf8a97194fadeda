"""`revrec trace`: where a row came from, or what stopped a record."""

from decimal import Decimal
from typing import Any

import click

from revrec_pipeline.cli.home import open_home
from revrec_pipeline.cli.output import counted, print_json, print_note, print_table
from revrec_pipeline.ledger.job_view import amount_text


@click.command(short_help="Trace an order or invoice from the ledger to its raw page.")
@click.argument("name", metavar="ORDER_OR_INVOICE")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of text.")
def trace(name: str, as_json: bool) -> None:
    """Show where each row of an order or invoice came from, and what became of it.

    ORDER_OR_INVOICE is an order number, an invoice number, or the id of a document or line; all
    sources are searched. For each document: its rows, every job that built it, the checks, and the
    page and request on which it was received; of one that was not delivered, the rule or the error
    that stopped it.
    """
    _, ledger, lake = open_home()
    from revrec_pipeline.trace import trace as find

    found = find(ledger, lake, name)
    if as_json:
        print_json(found)
        return
    for number, document in enumerate(found):
        if number:
            click.echo()
        _print(document)


def _print(document: dict[str, Any]) -> None:
    click.echo(
        f"{document['source']} {document['document_type']} {document['document_id']} "
        f"({document['record_type']}): {document['status']}"
    )
    if document["why"]:
        print_note(document["why"], 2)
    if document["url"]:
        print_note(document["url"], 2)
    click.echo(f"\n{counted(len(document['lines']), 'row')}")
    print_table(
        ("Line", "Month", "Product", "Amount", "Currency", "Excluded by"),
        [
            [
                line["line_id"],
                line["period"],
                line.get("product_code"),
                _amount(line),
                line.get("currency"),
                line["excluded_by"],
            ]
            for line in document["lines"]
        ],
    )
    click.echo("\nJobs")
    print_table(
        ("Job", "Batch", "Outcome", "Route", "At (UTC)", "Name"),
        [
            [job[name] for name in ("job_id", "batch_id", "outcome", "route", "at", "name")]
            for job in document["jobs"]
        ],
    )
    click.echo("\nChecks")
    print_table(("Check", "Result"), document["checks"].items())
    for error in document["errors"]:
        click.echo(f"\nError {error['id']}, {error['code']}, {error['status']}")
        print_note(error["message"], 2)
    click.echo("\nReceived")
    for page in document["received"]:
        click.echo(f"  {page['object']}, page {page['page']} of landing {page['landing']}")
        print_note(f"{page['request']} at {page['server_time']}, sha256 {page['sha256']}", 4)


def _amount(line: dict[str, Any]) -> str | None:
    amount, currency = line.get("amount"), line.get("currency")
    return amount_text([Decimal(amount)], currency) if amount and currency else amount
