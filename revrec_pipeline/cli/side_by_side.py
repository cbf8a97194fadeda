"""Syncing several sources side by side, each in a process of its own.

Sources wait for different vendors, and Dagster's bookkeeping of a month costs more CPU time than
most months' rows: so as many processes work as there are processors. They are forked, for importing
Dagster takes seconds, tell the first process how far they are, and die with it.
"""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.queues import SimpleQueue
from typing import TYPE_CHECKING, TypeAlias

from revrec_pipeline import instances
from revrec_pipeline.cli.home import open_home
from revrec_pipeline.cli.outside import explain
from revrec_pipeline.cli.progress import Progress, progress
from revrec_pipeline.errors import RevrecError
from revrec_pipeline.settings import Settings
from revrec_pipeline.sources import SOURCES

if TYPE_CHECKING:
    from revrec_pipeline.cli.syncing import Outcome, Span

_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)
_GLANCE_SECONDS = 0.1

_Told: TypeAlias = tuple[str, str, int | None]  # begin or step, the words, steps ahead
#: In a worker, the one queue into which it tells what it does.
_telling: "list[SimpleQueue[_Told]]" = []


def sync_sources(names: Sequence[str], span: "Span", *, dry_run: bool = False) -> list["Outcome"]:
    """Sync these sources, and show how far each is.

    Raises:
        UsageError: the only one is being synced by another process. Of several, that is a failure
            of its own.
        RevrecError: a worker was killed.
    """
    at_once = min(len(names), os.cpu_count() or 1)
    if at_once <= 1:
        with progress() as shown:
            return [_sync(name, span, shown, dry_run=dry_run) for name in names]
    _create_dagster_storage()
    context = get_context("fork")
    told: SimpleQueue[_Told] = context.SimpleQueue()
    with ProcessPoolExecutor(
        at_once, mp_context=context, initializer=_begin, initargs=(told,)
    ) as workers:
        # The first one forks all workers; the bars' thread must not be there yet.
        waiting = [workers.submit(_work, name, span, dry_run) for name in names]
        with progress() as shown:
            _show(told, waiting, shown)
        try:
            return [future.result() for future in waiting]
        except BrokenProcessPool as error:
            raise RevrecError(
                "a process that synced a source was killed; run the same command again"
            ) from error


def _create_dagster_storage() -> None:
    """Two workers that create the tables of a new home at the same time fail one another."""
    import dagster as dg

    instances.prepare(Settings.load())
    with dg.DagsterInstance.get() as instance:
        instance.get_runs_count()


def _show(
    told: "SimpleQueue[_Told]", waiting: Sequence["Future[Outcome]"], shown: Progress
) -> None:
    """Pass on what the workers tell until they have ended."""
    ended = False
    while not ended:
        ended = all(future.done() for future in waiting)
        while not told.empty():
            kind, text, steps = told.get()
            if kind == "begin":
                shown.begin(text, steps)
            else:
                shown.step(text)
        time.sleep(_GLANCE_SECONDS)


def _begin(told: "SimpleQueue[_Told]") -> None:
    _telling.append(told)
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process says that it was interrupted


def die_with_parent() -> None:
    """End this process when the one that forked it ends, however that happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)


def _work(name: str, span: "Span", dry_run: bool) -> "Outcome":
    from revrec_pipeline.cli.syncing import Outcome

    try:
        return _sync(name, span, _Relay(SOURCES[name].title), dry_run=dry_run)
    except Exception as error:
        reason = str(error) if isinstance(error, RevrecError) else explain(error)
        if reason is None:
            raise
        return Outcome(name, failures=[reason])


def _sync(name: str, span: "Span", shown: Progress, *, dry_run: bool) -> "Outcome":
    # Dagster takes seconds to import: after the arguments are known to be right.
    from revrec_pipeline.cli.runs import Runner
    from revrec_pipeline.cli.syncing import sync_source

    settings, ledger, lake = open_home()
    return sync_source(Runner(settings), ledger, lake, SOURCES[name], span, shown, dry_run=dry_run)


@dataclass(frozen=True, slots=True)
class _Relay:
    """Tells the first process what a worker does; a step names the source, for they interleave."""

    source: str

    def begin(self, what: str, steps: int | None) -> None:
        _telling[0].put(("begin", what, steps))

    def step(self, text: str) -> None:
        _telling[0].put(("step", f"{self.source}: {text}", None))
