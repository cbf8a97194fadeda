"""Running Dagster jobs inside a command, so that all it does shows in the UI as well.

A command holds a lease on its jobs while it lives. If it is killed, the lease runs out and the
daemon's routing sensor, or the next sync, finishes what was left: months that wait are rebuilt, and
READY batches are delivered.
"""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import dagster as dg

from assets.context import IN_PROCESS_TAG, NEXT_TOO, TRIGGER_TAG, pool_name
from revrec_pipeline import instances
from revrec_pipeline.cli.home import LEASE_SECONDS as LEASE_SECONDS
from revrec_pipeline.cli.home import TRIGGER as TRIGGER
from revrec_pipeline.definitions import build_definitions
from revrec_pipeline.errors import RevrecError
from revrec_pipeline.instances.event_log import EventLog
from revrec_pipeline.instances.run_launcher import KILLED, was_killed
from revrec_pipeline.ledger import Ledger, jobs
from revrec_pipeline.settings import Settings

STEPS_END_SECONDS = 60.0
_GOING = [
    status
    for status in dg.DagsterRunStatus
    if status
    not in (
        dg.DagsterRunStatus.SUCCESS,
        dg.DagsterRunStatus.FAILURE,
        dg.DagsterRunStatus.CANCELED,
    )
]
# A run's own log lines stay in Dagster; the command prints its own.
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class RunFailedError(RevrecError):
    """A run ended in failure; the message is the one that the step gave."""

    def __init__(self, message: str, *, next_too: bool) -> None:
        super().__init__(message)
        self.next_too = next_too  # the next month would fail in the same way


class Runner:
    """Dagster's instance and definitions of this home, executing runs in this process."""

    def __init__(self, settings: Settings) -> None:
        instances.prepare(settings)
        self.settings = settings
        self.definitions = build_definitions(settings)
        self.instance = dg.DagsterInstance.get()
        # Storage may be shared by machines, while a command's lock holds for its home alone.
        self.here = f"{socket.gethostname()}:{settings.home}"

    def run(
        self,
        job: str,
        *,
        tags: Mapping[str, str],
        month: str | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> dict[str, dict[str, Any]]:
        """Execute one run; returns each asset's metadata, as plain values.

        Raises:
            RunFailedError: with the words of the step that failed.
            KeyboardInterrupt: Ctrl-C was pressed, or the process was told to end.
        """
        with _interruptible():
            result = self.definitions.resolve_job_def(job).execute_in_process(
                instance=self.instance,
                partition_key=month,
                tags={**tags, TRIGGER_TAG: TRIGGER, IN_PROCESS_TAG: self.here},
                run_config={**_QUIET, **(config or {})},
                raise_on_error=False,
            )
        if not result.success:
            raise _failure(result)
        return {
            event.asset_key.to_user_string(): {
                name: value.value for name, value in event.materialization.metadata.items()
            }
            for event in result.all_events
            if event.is_step_materialization and event.asset_key
        }

    def report_killed(self, source: str) -> None:
        """Mark the runs of killed commands; nobody else watches runs in a process.

        Call it while no command of this home syncs the source.
        """
        left = dg.RunsFilter(
            tags={IN_PROCESS_TAG: self.here, "revrec/source": source}, statuses=_GOING
        )
        for run in self.instance.get_runs(left):
            self.instance.report_run_failed(run, "the command that ran this was killed")

    def pulling(self, source: str) -> str | None:
        """The run that has the source's pool, if one has.

        What runs hold that are over is given back: who was killed in a pull keeps its slot, and
        without a daemon the next pull would wait for it for ever.
        """
        pool = self.instance.event_log_storage.get_concurrency_info(pool_name(source))
        claimed = {slot.run_id for slot in pool.claimed_slots}
        for run_id in claimed | {step.run_id for step in pool.pending_steps}:
            if self._is_over(run_id):
                self.instance.event_log_storage.free_concurrency_slots_for_run(run_id)
                claimed.discard(run_id)
        return min(claimed, default=None)

    def _is_over(self, run_id: str) -> bool:
        record = self.instance.get_run_record_by_id(run_id)
        if record is None:
            return True
        run = record.dagster_run
        if not run.is_finished:
            # Storage on PostgreSQL may be for several machines; others' servers are not seen here.
            if not isinstance(self.instance.event_log_storage, EventLog) or not was_killed(run):
                return False
            self.instance.report_run_failed(run, KILLED)
            return True
        # Elsewhere a step may outlive its cancelled run for a while; the daemon waits as long.
        return self.was_ours(run_id) or time.time() - (record.end_time or 0) > STEPS_END_SECONDS

    def was_ours(self, run_id: str) -> bool:
        """Whether a command of this home ran this run in its own process."""
        run = self.instance.get_run_by_id(run_id)
        return run is not None and run.tags.get(IN_PROCESS_TAG) == self.here


@contextmanager
def _interruptible() -> Iterator[None]:
    """Raise at the end what Dagster swallows: an interrupt is a failed step to it, or nothing."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield
        with suppress(BlockingIOError):  # nothing came
            if {signal.SIGINT, signal.SIGTERM}.intersection(os.read(reading, 64)):
                raise KeyboardInterrupt
    finally:
        signal.set_wakeup_fd(before)
        os.close(reading)
        os.close(writing)


def _failure(result: dg.ExecuteInProcessResult) -> RunFailedError:
    """What the failed step said: the description of its `Failure`, else the innermost error."""
    for event in result.all_events:
        if event.is_step_failure:
            data = event.step_failure_data
            failure = data.user_failure_data
            if failure and failure.description:
                next_too = failure.metadata.get(NEXT_TOO)
                return RunFailedError(
                    failure.description, next_too=next_too is not None and bool(next_too.value)
                )
            error = data.error
            while error and error.cause:
                error = error.cause
            reason = error.message.strip() if error else "the step gave no reason"
            return RunFailedError(reason, next_too=False)
    return RunFailedError("the run ended without a failed step", next_too=True)


@contextmanager
def lease(ledger: Ledger, job_ids: Iterable[int]) -> Iterator[None]:
    """Keep the sensor off these jobs while the block runs, by a thread that renews their lease."""
    ids, stop = list(job_ids), threading.Event()

    def renew() -> None:
        while not stop.wait(LEASE_SECONDS / 4):
            with ledger.transaction() as tx:
                for job_id in ids:
                    jobs.renew_lease(tx, job_id, LEASE_SECONDS)

    threading.Thread(target=renew, name="lease", daemon=True).start()
    try:
        yield
    finally:
        stop.set()
