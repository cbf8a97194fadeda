"""`revrec import`: a workbook or CSV files in RevRec's template become jobs."""

from pathlib import Path

import click

from revrec_pipeline.cli.home import LEASE_SECONDS, TRIGGER, open_home
from revrec_pipeline.cli.jobs import find_job, print_jobs
from revrec_pipeline.cli.output import counted


@click.command("import", short_help="Take a file in the template.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--job-name", help="What `revrec jobs` calls it.  [default: the file's name]")
@click.option("--again", is_flag=True, help="Take it although its content was taken before.")
def import_(file: Path, job_name: str | None, again: bool) -> None:
    """Take FILE, a workbook (.xlsx) or a zip of CSV files in the template, as jobs like any other.

    Any of its sheets may be there: OrderDetails, BillingSchedule, Expense,
    ProfessionalServicesDelivery, Customer, Product, and Tax beside the billings that it belongs to.
    Sheets and columns are called exactly as in the template; a near miss is refused with the right
    name. So is a file with formulas, macros, merged cells or links. The file that `revrec
    conversion-file` gives is one that can be imported.

    What was imported before (an order, invoice, cost, delivery, customer or product) is replaced by
    the file's, whole; all else stays. Incomplete rows hold back their own order; `revrec errors`
    names sheet, row and column. The original is kept in the lake. The same content twice changes
    nothing.
    """
    settings, ledger, lake = open_home()
    from revrec_pipeline.cli.errors import who
    from revrec_pipeline.imports.run import import_file

    imported = import_file(
        ledger,
        lake,
        settings,
        file,
        job_name=job_name or file.name,
        who=who(),
        trigger=TRIGGER,
        lease_seconds=LEASE_SECONDS,
        again=again,
    )
    if imported.earlier:
        click.echo(
            f"Nothing to do: this content was imported as {imported.earlier['name']} by "
            f"{imported.earlier['who']} at {imported.earlier['at']} "
            f"(job {', '.join(str(id_) for id_ in imported.earlier['job_ids'])}). "
            "--again takes it again."
        )
        return
    # Dagster takes 60 MB and seconds to import: when the largest part is done.
    from revrec_pipeline.cli.delivering import deliver_jobs

    deliver_jobs(settings, ledger, "file", list(imported.job_ids.values()))
    found = [find_job(ledger, lake, job_id) for job_id in imported.job_ids.values()]
    print_jobs(found)
    if flagged := sum(job["counts"]["flagged"] for job in found):
        click.echo(
            f"\n{counted(flagged, 'row')} flagged; `revrec errors` names sheet, row, column."
        )
