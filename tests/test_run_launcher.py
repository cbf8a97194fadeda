"""The run launcher's look at a run's code server: real sockets, the configured launcher."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.launcher import WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG

from revrec_pipeline import instances
from revrec_pipeline.instances.run_launcher import KILLED, RunLauncher
from revrec_pipeline.settings import Settings


@pytest.fixture
def launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunLauncher]:
    """The one of a home's instance."""
    monkeypatch.setenv("DAGSTER_HOME", "")  # so that it is as it was afterwards
    monkeypatch.setenv("REVREC_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("REVREC_CONFIG", str(tmp_path / "revrec.toml"))
    (tmp_path / "revrec.toml").write_text('[site]\nhistory_start = "2026-01"\n')
    settings = Settings.load()
    settings.make_home()
    instances.prepare(settings)
    with dg.DagsterInstance.get() as instance:
        assert isinstance(instance.run_launcher, RunLauncher)
        assert instance.run_launcher.supports_check_run_worker_health  # or nobody would ask it
        yield instance.run_launcher


def started_by(**server: str | int) -> dg.DagsterRun:
    """A run with what Dagster notes of the server that started it."""
    return dg.DagsterRun("sync_stripe", tags={GRPC_INFO_TAG: json.dumps(server)})


def test_a_run_whose_server_answers_goes_on_and_one_whose_server_is_gone_has_failed(
    launcher: RunLauncher, tmp_path: Path
) -> None:
    path = tmp_path / "server"
    run = started_by(host="localhost", socket=str(path))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen(0)
        # As often as it is asked, also when the server is too busy to take the connections.
        for _ in range(5):
            assert launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING

    gone = launcher.check_run_worker_health(run)  # nobody listens
    assert (gone.status, gone.msg) == (WorkerStatus.FAILED, KILLED)
    path.unlink()  # and not even a file is left
    assert launcher.check_run_worker_health(run).status is WorkerStatus.FAILED


def test_a_run_of_a_command_and_one_of_a_server_elsewhere_are_left_alone(
    launcher: RunLauncher,
) -> None:
    for run in (dg.DagsterRun("sync_stripe"), started_by(host="jobs.acme.example", port=4000)):
        assert launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING
