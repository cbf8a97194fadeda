"""A process that has imported everything once and forks a child for each thing to do.

A child does what a command or the daemon does, and may be killed at any moment; starting Dagster
anew for each of a hundred kills would take an hour. Nobody's code is replaced: children run the
real command line, the real sensor and real runs, over HTTP against the real sandbox.
"""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

_PROGRAM = r"""
import faulthandler, json, os, sys, traceback, uuid

import dagster as dg

from assets.context import IN_PROCESS_TAG
from revrec_pipeline import instances
from revrec_pipeline.cli import main
from revrec_pipeline.cli.syncing import sync_source
from revrec_pipeline.definitions import build_definitions
from revrec_pipeline.settings import Settings
from schedules.sensors import ROUTING_SENSOR

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def command(arguments):
    sys.argv = ["revrec", *arguments]
    main()


def daemon(arguments):
    # A run of the launchpad, then ticks of the routing sensor and the runs that it asks for.
    settings = Settings.load()
    settings.make_home()
    instances.prepare(settings)
    definitions = build_definitions(settings)
    with dg.DagsterInstance.get() as instance:
        # What run monitoring does with runs whose worker is gone.
        for run in instance.get_runs():
            if not run.is_finished:
                instance.report_run_failed(run, "its worker was killed")
        for run_id in instance.event_log_storage.get_concurrency_run_ids():
            instance.event_log_storage.free_concurrency_slots_for_run(run_id)

        def run(job, month=None, tags=None, config=None, run_id=None):
            definitions.resolve_job_def(job).execute_in_process(
                instance=instance, partition_key=month, tags=dict(tags or {}), run_id=run_id,
                run_config={**QUIET, **(config or {})}, raise_on_error=False,
            )

        repository = definitions.get_repository_def()
        asked = {}

        def tick():
            context = dg.build_sensor_context(
                instance=instance, repository_def=repository,
                resources={"ledger": definitions.resources["ledger"]},
            )
            found = repository.get_sensor_def(ROUTING_SENSOR).evaluate_tick(context)
            for one in found.run_requests or []:
                if not instance.get_runs(dg.RunsFilter(tags={"dagster/run_key": one.run_key})):
                    asked[one.run_key] = one

        # It gives back what killed deliveries had claimed, else a retry of one would wait for it.
        tick()
        # And what the daemon of retries does with those, once.
        for dead in instance.get_runs():
            if dead.is_complete_and_waiting_to_retry and not dead.tags.get(IN_PROCESS_TAG):
                again = str(uuid.uuid4())
                instance.add_run_tags(dead.run_id, {"dagster/auto_retry_run_id": again})
                own = {k: v for k, v in dead.tags.items() if k not in ("dagster/will_retry",)}
                retry = {"dagster/parent_run_id": dead.run_id, "dagster/retry_number": "1",
                         "dagster/root_run_id": dead.tags.get("dagster/root_run_id", dead.run_id)}
                month = own.pop("dagster/partition", None)
                run(dead.job_name, month, {**own, **retry}, dead.run_config, again)

        job, *month = arguments
        run(job, *month)
        tick()
        while asked:
            for key in list(asked):
                one = asked.pop(key)
                tags = {**one.tags, "dagster/run_key": key}
                run(one.job_name, one.partition_key, tags, one.run_config)
            tick()


threads = os.listdir("/proc/self/task")
assert len(threads) == 1, f"forking a process with {len(threads)} threads is not safe"
for line in sys.stdin:
    kind, environment, *arguments = json.loads(line)
    child = os.fork()
    if child:
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(f"ended {os.waitstatus_to_exitcode(status)}", flush=True)
    else:
        code = 0
        try:
            os.environ.update(environment)
            with open(environment["FORKED_LOG"], "a") as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
            faulthandler.enable(open(environment["FORKED_LOG"] + ".faults", "a"))
            {"command": command, "daemon": daemon}[kind](arguments)
        except SystemExit as stop:
            code = stop.code or 0
        except BaseException:
            traceback.print_exc()
            code = 70
        finally:
            sys.stdout.flush()
            os._exit(code)
"""


@dataclass
class Forks:
    """Starts children quickly, one at a time."""

    process: subprocess.Popen[str]

    def start(self, kind: str, environment: Mapping[str, str], *arguments: str) -> int:
        """The process id of a child that starts now: a `command`, or the `daemon`."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps([kind, dict(environment), *arguments]) + "\n")
        self.process.stdin.flush()
        return int(self._line())

    def ended(self, within: float) -> int | None:
        """The child's exit code, if it ends by itself within so many seconds."""
        assert self.process.stdout
        if not select.select([self.process.stdout], [], [], within)[0]:
            return None
        return int(self._line().removeprefix("ended "))

    def kill(self, child: int) -> bool:
        """`kill -9`; false if the child was quicker and ended by itself."""
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        code = self.ended(within=30)
        assert code is not None
        return code == -signal.SIGKILL

    def _line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()


@contextmanager
def forks() -> Iterator[Forks]:
    """The process, ended with the block."""
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            # As the command line has it, so that the process has one thread when it forks.
            "OPENBLAS_NUM_THREADS": "1",
            "JE_ARROW_MALLOC_CONF": "background_thread:false",
        },
        start_new_session=True,
    )
    try:
        yield Forks(process)
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # a child that hangs as well
        process.wait()
