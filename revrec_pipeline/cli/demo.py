"""`revrec demo`: the main job from nothing, on the sandbox, in a home of its own."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import requests

from revrec_pipeline.cli.errors import print_errors
from revrec_pipeline.cli.home import open_home
from revrec_pipeline.cli.jobs import REMOVED, find_job
from revrec_pipeline.cli.side_by_side import die_with_parent, sync_sources
from revrec_pipeline.cli.sync import report
from revrec_pipeline.errors import RevrecError, SettingsError
from revrec_pipeline.lake import Lake
from revrec_pipeline.ledger import Ledger, accounting_periods, sync_errors
from revrec_pipeline.settings import Settings
from revrec_pipeline.sources import SOURCES

_MARKER = ".made-by-revrec-demo"
_FIRST, _LAST, _OPENED = "2023-07", "2026-06", "2026-07"
#: Sage Intacct promises its changes only after two hours.
_LATER = 3 * 3600
_SETTINGS = """\
# Written by `revrec demo`; the settings of the sandbox's company.
[site]
timezone = "America/New_York"
home_currency = "USD"
history_start = "2023-07"

[sources.salesforce]
commissions = true
commission_rate = 8

[sources.hubspot]
invoices = true
commissions = true
commission_rate = 10

[sources.chargebee]
requests_per_minute = 1000 # the sandbox's site is on no small plan
"""


@click.command(short_help="The main job from nothing, on the sandbox.")
def demo() -> None:
    """Run the main job from nothing: no account, no settings, nothing left running.

    \b
    1. start the sandbox, a small company in every source system
    2. sync every source; list what is incomplete
    3. write the conversion file, since no accounting period is set
    4. set an accounting period, let something change in the sources
    5. sync again, loading live into the ledger

    It uses REVREC_HOME (default .revrec) and refuses a home that holds anything else; run it
    again and it begins anew.
    """
    home = _fresh_home()
    with _sandbox() as (origin, pointing), _environment(home, pointing):
        click.echo(f"1. The sandbox answers at {origin}\n")
        settings, ledger, lake = open_home()
        *others, last = (source.title for source in SOURCES.values())
        click.echo(f"2. Sync {', '.join(others)} and {last}, {_FIRST} to {_LAST}\n")
        first = _sync(ledger, lake, (_FIRST, _LAST))
        click.echo("\n   Incomplete records hold their own order back, and nothing else:\n")
        with ledger.transaction() as tx:
            flagged = sync_errors.list_errors(tx)
        print_errors([error for error in flagged if error["severity"] == "error"])
        click.echo("\n3. No accounting period is set, so each job ended in a conversion file:\n")
        for job_id in first:
            for file in find_job(ledger, lake, job_id)["files"]:
                click.echo(f"   {file}")
        with ledger.transaction() as tx:
            accounting_periods.set_period(tx, _OPENED)
        click.echo(f"\n4. Accounting period {_OPENED} is set. Meanwhile in the sources:\n")
        _tell_story(origin)
        click.echo("\n5. Sync again: only what changed is pulled, and it loads live")
        second = _sync(ledger, lake, None)
        for job_id in second:
            job = find_job(ledger, lake, job_id)
            if job["removed"]:
                click.echo(f"\n   Job {job_id}. {REMOVED}")
                click.echo(f"   {', '.join(job['removed'])}")
        _closing_words(settings, first, second)


def _fresh_home() -> Path:
    """An empty home with our mark; one of an earlier demo is emptied.

    Raises:
        SettingsError: it holds something else, or the stores lie elsewhere.
    """
    for name in ("REVREC_LEDGER_URL", "REVREC_LAKE_URL"):
        if os.environ.get(name):
            raise SettingsError(f"{name} is set; the demo writes only to its own home, so unset it")
    home = Path(os.environ.get("REVREC_HOME", ".revrec")).expanduser().absolute()
    try:
        if (home / _MARKER).exists():
            shutil.rmtree(home)
        elif home.exists() and any(home.iterdir()):
            raise SettingsError(
                f"{home} holds data that no demo made; set REVREC_HOME to another folder"
            )
        home.mkdir(parents=True, exist_ok=True)
        (home / _MARKER).touch()
        (home / "revrec.toml").write_text(_SETTINGS, encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"REVREC_HOME {home} cannot be written: {error.strerror}") from error
    return home


@contextmanager
def _environment(home: Path, sources: dict[str, str]) -> Iterator[None]:
    """Point every source at the sandbox, and nothing at a real account."""
    before = dict(os.environ)
    prefixes = tuple(f"{name.upper()}_" for name in SOURCES)
    for name in before:
        if name.startswith((*prefixes, "DAGSTER_PG_")):
            del os.environ[name]
    os.environ.update(sources)
    os.environ |= {"REVREC_HOME": str(home), "REVREC_CONFIG": str(home / "revrec.toml")}
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _sync(ledger: Ledger, lake: Lake, months: tuple[str, str] | None) -> list[int]:
    from revrec_pipeline.cli.syncing import Span

    outcomes = sync_sources(list(SOURCES), Span(*(months or (None, None))))
    report(ledger, lake, outcomes)
    for outcome in outcomes:
        for failure in outcome.failures:
            raise RevrecError(f"{outcome.source}: {failure}")
    return [job_id for outcome in outcomes for job_id in outcome.job_ids]


@contextmanager
def _sandbox() -> Iterator[tuple[str, dict[str, str]]]:
    """A sandbox in a process of its own: its origin, and the environment that points at it."""
    from revrec_pipeline.sandbox.server import sandbox_env

    program = [sys.executable, "-m", "revrec_pipeline.cli", "sandbox", "--port", "0"]
    with subprocess.Popen(  # noqa: S603 - our own program
        program, stderr=subprocess.PIPE, text=True, preexec_fn=die_with_parent
    ) as process:
        try:
            said = process.stderr.readline() if process.stderr else ""
            found = re.search(r"http://\S+", said)
            if found is None:
                raise RevrecError(f"the sandbox did not start: {said.strip() or 'it said nothing'}")
            yield found[0], sandbox_env(found[0])
        finally:
            process.terminate()


def _tell_story(origin: str) -> None:
    """Change what the sandbox's story changes, and let some hours pass there."""
    for command in ({"op": "story"}, {"op": "advance", "seconds": _LATER}):
        answer = requests.post(f"{origin}/_control", json=command, timeout=30)
        answer.raise_for_status()
        if command["op"] == "story":
            for source, changes in answer.json().items():
                for what, record in changes.items():
                    click.echo(f"   {SOURCES[source].title}: {what.replace('_', ' ')} ({record})")


def _closing_words(settings: Settings, first: list[int], second: list[int]) -> None:
    revrec = os.path.relpath(sys.argv[0])
    job = first[0]
    click.echo(f"\nDone. Everything is below {settings.home}:")
    for name, what in (
        ("lake/raw", "the vendors' answers as they came"),
        ("lake/canonical", "checked rows by source, record type and month"),
        ("lake/files", "the conversion files"),
        ("ledger.duckdb", "periods, jobs, errors and the live-loaded rows"),
    ):
        click.echo(f"  {name:16} {what}")
    click.echo("\nType next:")
    for arguments, what in (
        ("dev", "the same in the Dagster UI"),
        (f"job {job}", "what became of every row of a job"),
        ("errors", "what to mend, and where"),
        (f"conversion-file {job} --to orders.xlsx", "the file to review and upload"),
        ("export --to ledger.xlsx", f"what jobs {' and '.join(map(str, second))} loaded live"),
    ):
        click.echo(f"  {revrec} {arguments:40} {what}")
