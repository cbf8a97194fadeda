"""Dagster's default run launcher, which also notices that a machine or `revrec dev` was killed.

A code server watches the workers that it started, so that a killed worker is noticed within
seconds. When the server was killed with them, nobody watches: the run stays STARTED and keeps its
source's pool for as long as `max_runtime_seconds`. A server's socket that nobody answers tells.
"""

import json
import socket

import dagster as dg
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG

#: What people read of such a run.
KILLED = "what ran this was killed together with Dagster's code server"


class RunLauncher(DefaultRunLauncher):
    """`DefaultRunLauncher` with a check of health; named in `common.yaml`."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Have run monitoring ask, every half a minute."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Failed if its server is gone; its server knows about all others."""
        if was_killed(run):
            return CheckRunHealthResult(WorkerStatus.FAILED, KILLED)
        return CheckRunHealthResult(WorkerStatus.RUNNING)


def was_killed(run: dg.DagsterRun) -> bool:
    """Whether nobody answers at the socket of the server on this machine that started this run.

    A busy server still takes connections; one that is elsewhere has no socket here.
    """
    path = json.loads(run.tags.get(GRPC_INFO_TAG, "{}")).get("socket")
    if path is None:
        return False
    with socket.socket(socket.AF_UNIX) as trying:
        trying.setblocking(False)  # a full queue is an answer, too
        try:
            trying.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return True
        except BlockingIOError:
            pass
    return False
