"""`revrec broken`: the standing check in a terminal."""

import sys

import click

from revrec_pipeline.cli.home import open_home
from revrec_pipeline.cli.output import print_json, print_table
from revrec_pipeline.ledger import standing


@click.command(short_help="What is broken now: failed months, and what waits too long.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
def broken(as_json: bool) -> None:
    """List failed months and whatever waits for longer than it should.

    The asset `health` in the Dagster UI shows the same, every hour. The exit code is 1 while
    anything is broken.
    """
    _, ledger, _ = open_home()
    with ledger.transaction() as tx:
        found = standing.broken(tx)
    if as_json:
        print_json(found)
    elif not found:
        click.echo("Nothing is broken.")
    else:
        print_table(
            ("What", "Source", "Record type", "Month", "Job", "Since (UTC)", ""),
            [
                (
                    row["what"],
                    row["source"],
                    row["record_type"],
                    row["period"],
                    row["job_id"],
                    row["since"],
                    row["message"],
                )
                for row in found
            ],
        )
    if found:
        sys.exit(1)
