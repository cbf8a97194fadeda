"""`revrec sync`: pull, check and route; the command line's "Run Job"."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from revrec_pipeline.cli.home import open_home
from revrec_pipeline.cli.jobs import find_job, print_jobs
from revrec_pipeline.cli.origins import unreachable
from revrec_pipeline.cli.output import counted, print_table
from revrec_pipeline.cli.side_by_side import sync_sources
from revrec_pipeline.errors import SettingsError, UsageError
from revrec_pipeline.lake import Lake
from revrec_pipeline.ledger import Ledger
from revrec_pipeline.ledger.job_view import amount_text
from revrec_pipeline.model import RecordType
from revrec_pipeline.periods import parse_period, period_of
from revrec_pipeline.preview import Preview, preview
from revrec_pipeline.settings import SiteSettings
from revrec_pipeline.sources import SOURCES

if TYPE_CHECKING:
    from revrec_pipeline.cli.syncing import Outcome


@click.command(short_help="Run jobs: pull, check, route.")
@click.argument("sources", metavar="[SOURCE]...", nargs=-1)
@click.option("--from", "start", metavar="YYYY-MM", help="First month to list in full.")
@click.option("--to", "end", metavar="YYYY-MM", help="Last month to list.  [default: this month]")
@click.option("--full", is_flag=True, help="List every month since [site] history_start.")
@click.option(
    "--from-lake",
    is_flag=True,
    help="Build the months from what was pulled before, without any request.",
)
@click.option(
    "--sweep",
    is_flag=True,
    help="Compare all ids with the lake, too: finds deletions that no feed reports.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Print what would be added, changed and removed; deliver nothing.",
)
def sync(
    sources: tuple[str, ...],
    start: str | None,
    end: str | None,
    full: bool,
    from_lake: bool,
    sweep: bool,
    dry_run: bool,
) -> None:
    """Pull from each SOURCE (all connected ones if none is named), check every row, and route it.

    Without --from, pull what changed since the last sync and rebuild the months that it touches;
    the very first sync lists every month. Rows that are as they were last delivered are not
    delivered again.

    Incomplete rows hold back their own order or invoice and nothing else; `revrec errors` lists
    them. The exit code is 0 also when rows were flagged, and 1 when a source failed.
    """
    _check_months(start, end, full)
    _check_ways(start, full, from_lake, sweep)
    names = [] if from_lake else _chosen(sources)
    settings, ledger, lake = open_home()
    _check_span(settings.site, start, end)
    if from_lake:
        names = _landed(sources, lake)
    # Dagster takes seconds to import: after the arguments are known to be right.
    from revrec_pipeline.cli.syncing import Outcome, Span

    start = start or (settings.site.history_start if full else None)
    span = Span(start, end, from_lake=from_lake, sweep=sweep)
    silent = {} if from_lake else {name: words for name in names if (words := unreachable(name))}
    synced = sync_sources([name for name in names if name not in silent], span, dry_run=dry_run)
    answered = {outcome.source: outcome for outcome in synced}
    outcomes = [answered.get(name) or Outcome(name, failures=[silent[name]]) for name in names]
    if dry_run:
        _show_changes(ledger, lake, outcomes)
    else:
        report(ledger, lake, outcomes)
    failures = [failure for outcome in outcomes for failure in outcome.failures]
    for failure in failures:
        click.echo(f"error: {' '.join(failure.split())}", err=True)
    if failures:
        sys.exit(1)


def report(ledger: Ledger, lake: Lake, outcomes: Sequence["Outcome"]) -> None:
    """What became of each job's rows, and where to look for those that were flagged."""
    found = [find_job(ledger, lake, job_id) for outcome in outcomes for job_id in outcome.job_ids]
    if found:
        click.echo()
        print_jobs(found)
    if flagged := sum(job["counts"]["flagged"] for job in found):
        be, hold = ("is", "holds") if flagged == 1 else ("are", "hold")
        click.echo(
            f"\n{counted(flagged, 'row')} {be} flagged and {hold} back the whole order or invoice; "
            "`revrec errors` says what to mend, and where."
        )


def _show_changes(ledger: Ledger, lake: Lake, outcomes: Sequence["Outcome"]) -> None:
    """What each record type would deliver, document by document."""
    for outcome in outcomes:
        for record_type, months in outcome.built.items():
            found = preview(ledger, lake, outcome.source, record_type, months)
            documents = found.documents.to_pylist()
            click.echo(
                f"\n{outcome.source} {record_type}: "
                f"{counted(len(documents), 'document')} would change"
            )
            if documents:
                _show_preview(record_type, found)
    click.echo("\nDry run: nothing was delivered.")


def _show_preview(record_type: RecordType, found: Preview) -> None:
    from revrec_pipeline.checks import headings  # pandera takes a second to import

    print_table(
        ("Change", "Document", "Month", "Lines"),
        [
            (one["change"], one["document_id"], one["period"], one["line_count"])
            for one in found.documents.to_pylist()
        ],
    )
    if found.fields.num_rows:
        click.echo()
        names = headings(record_type) | {"line": "(line)"}
        print_table(
            ("Document", "Line", "Field", "Before", "After"),
            [
                (f["document_id"], f["line_id"], names[f["field"]], f["before"], f["after"])
                for f in found.fields.to_pylist()
            ],
        )
    click.echo()
    print_table(
        ("Change", "Currency", "Before", "After"),
        [
            (
                one["change"],
                one["currency"],
                amount_text([one["before"]], one["currency"]),
                amount_text([one["after"]], one["currency"]),
            )
            for one in found.totals.to_pylist()
        ],
    )


def _check_months(start: str | None, end: str | None, full: bool) -> None:
    for month in (start, end):
        if month:
            parse_period(month)
    if end and not start:
        raise UsageError("--to needs --from")
    if full and start:
        raise UsageError("--full lists every month; leave out --from and --to")
    if start and end and start > end:
        raise UsageError(f"--from {start} is after --to {end}")


def _check_span(site: SiteSettings, start: str | None, end: str | None) -> None:
    """Refuse months without a partition, before a job is opened or a month is asked for."""
    if start and start < site.history_start:
        raise UsageError(
            f"--from {start} is before [site] history_start, {site.history_start}; begin there, or "
            "set that earlier"
        )
    running = period_of(datetime.now(UTC), site.timezone)
    for option, month in (("--from", start), ("--to", end)):
        if month and month > running:
            raise UsageError(f"{option} {month} has not begun; the running month is {running}")


def _check_ways(start: str | None, full: bool, from_lake: bool, sweep: bool) -> None:
    if from_lake and not (start or full):
        raise UsageError("--from-lake needs --from or --full, for the months to build")
    if from_lake and sweep:
        raise UsageError("--sweep asks the source, which --from-lake does not; leave one out")


def _landed(sources: Sequence[str], lake: Lake) -> list[str]:
    """The sources to build from the lake, which takes no secrets."""
    for name in sources:
        _check_name(name)
    return list(dict.fromkeys(sources)) or [name for name in SOURCES if lake.landings(name)]


def _check_name(name: str) -> None:
    if name not in SOURCES:
        raise UsageError(f"unknown source {name!r}; known are {', '.join(SOURCES)}")


def _chosen(sources: Sequence[str]) -> list[str]:
    """The sources to sync; those named must be known and connected."""
    # Secrets are read by the resources, which import Dagster.
    from resources.registry import why_not_connected

    for name in sources:
        _check_name(name)
        if missing := why_not_connected(name):
            raise missing
    if sources:
        return list(dict.fromkeys(sources))
    connected = [name for name in SOURCES if why_not_connected(name) is None]
    if not connected:
        raise SettingsError(
            "no source is connected; `revrec connections` says which variables are missing"
        )
    return connected
