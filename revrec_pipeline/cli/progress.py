"""Showing long work: bars on a terminal, plain lines in a pipe."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from revrec_pipeline.cli.output import counted


class Progress(Protocol):
    """Where long work tells what it does."""

    def begin(self, what: str, steps: int | None) -> None:
        """A part begins; `steps` are ahead, if that is known."""

    def step(self, text: str) -> None:
        """One step is done."""


@contextmanager
def progress() -> Iterator[Progress]:
    """Progress on standard error, so that standard output stays for results."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    with Bars(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True, highlight=False),
    ) as bars:
        yield _Bars(bars)


class _Lines:
    def begin(self, what: str, steps: int | None) -> None:
        of = f" ({counted(steps, 'month')})" if steps else ""
        click.echo(f"{what}{of}", err=True)

    def step(self, text: str) -> None:
        click.echo(f"  {text}", err=True)


class _Bars:
    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._task: TaskID | None = None

    def begin(self, what: str, steps: int | None) -> None:
        self._task = self._bars.add_task(what, total=steps or 1)

    def step(self, text: str) -> None:
        self._bars.console.print(f"  {text}", markup=False)
        if self._task is not None:
            self._bars.advance(self._task)
