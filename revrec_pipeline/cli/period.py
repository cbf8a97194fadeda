"""`revrec period`: the accounting periods, which decide where a sync ends."""

import click

from revrec_pipeline.cli.home import open_home
from revrec_pipeline.cli.output import print_table
from revrec_pipeline.ledger import accounting_periods
from revrec_pipeline.periods import parse_period


@click.group(short_help="Set, list and close accounting periods.")
def period() -> None:
    """Accounting periods decide the route of a sync.

    While none is set, a sync ends in a conversion file that a person downloads, reviews and
    uploads. Once one is set, a sync loads live into the ledger. Conversion jobs of before stay
    what they are.
    """


@period.command("set", short_help="Open an accounting period.")
@click.argument("month", metavar="YYYY-MM")
def set_(month: str) -> None:
    """Open an accounting period: from now on syncs load live. The months before it are closed."""
    _, ledger, _ = open_home()
    with ledger.transaction() as tx:
        accounting_periods.set_period(tx, parse_period(month))
    click.echo(f"Accounting period {month} is open; syncs now load live into the ledger.")


@period.command("list", short_help="List accounting periods.")
def list_() -> None:
    """List the accounting periods with the times at which they were set and closed."""
    _, ledger, _ = open_home()
    with ledger.transaction() as tx:
        found = accounting_periods.list_periods(tx)
    if not found:
        click.echo("No accounting period is set; syncs end in a conversion file.")
        return
    print_table(
        ("Period", "State", "Set", "Closed"),
        [
            (p["period"], "closed" if p["closed_at"] else "open", p["set_at"], p["closed_at"])
            for p in found
        ],
    )


@period.command(short_help="Close the open period and open the next.")
def close() -> None:
    """Close the open accounting period and open the month after it."""
    _, ledger, _ = open_home()
    with ledger.transaction() as tx:
        closed, opened = accounting_periods.close_period(tx)
    click.echo(f"Accounting period {closed} is closed, and {opened} is open.")
