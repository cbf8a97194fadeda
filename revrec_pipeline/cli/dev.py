"""`revrec dev`: Dagster's UI and daemon on this home."""

import os
import sys

import click

from revrec_pipeline import instances
from revrec_pipeline.settings import Settings


@click.command(short_help="Dagster UI and daemon on this home.")
@click.option("--port", default=3000, show_default=True, help="Port of the UI on 127.0.0.1.")
def dev(port: int) -> None:
    """Start the Dagster UI and daemon on this home, and stay until Ctrl-C.

    Everything that `revrec` commands did shows there. In the launchpad, sync_<source> is "Run Job";
    a backfill of several months is one job. The daemon looks for new backfills every 30 seconds.
    """
    settings = Settings.load()
    settings.make_home()
    instances.prepare(settings)
    os.environ.update(settings.environment())
    click.echo(f"Dagster UI: http://127.0.0.1:{port}  (stop with Ctrl-C)")
    sys.stdout.flush()
    # `dg dev`, which this recommends, wants the folders of a dg project.
    superseded = "ignore:Function `dev_command` is superseded"
    command = [sys.executable, "-W", superseded, "-m", "dagster", "dev"]
    target = ["-m", "revrec_pipeline.definitions", "-h", "127.0.0.1", "-p", str(port)]
    os.execv(sys.executable, [*command, *target])
