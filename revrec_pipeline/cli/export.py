"""`revrec export`: what the ledger holds, in the template."""

from pathlib import Path

import click

from revrec_pipeline.cli.home import open_home
from revrec_pipeline.errors import UsageError
from revrec_pipeline.export import export as export_ledger


@click.command(short_help="Write what the ledger holds, in the template.")
@click.option(
    "--to",
    "target",
    required=True,
    type=click.Path(path_type=Path),
    help="Where to put it; .xlsx gives the workbook, .zip one CSV per sheet.",
)
def export(target: Path) -> None:
    """Write every row that was loaded live and still stands, in the sheets of the template."""
    if target.suffix.lower() not in {".xlsx", ".zip"}:
        raise UsageError(f"{target} ends neither in .xlsx nor in .zip")
    _, ledger, _ = open_home()
    for file in export_ledger(ledger, target):
        click.echo(str(file))
