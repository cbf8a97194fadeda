"""Runs in the process of a command, and the daemon's beside them."""

import json
import socket
from pathlib import Path

import dagster as dg
import pytest
from command_line import SETTINGS, Home
from dagster._core.storage.tags import GRPC_INFO_TAG

from assets.context import IN_PROCESS_TAG, pool_name
from revrec_pipeline.cli.runs import Runner
from revrec_pipeline.settings import Settings

POOL = pool_name("stripe")


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runner:
    home = Home(tmp_path)
    home.configure(SETTINGS)
    for name, value in home.environment.items():
        monkeypatch.setenv(name, value)
    settings = Settings.load()
    settings.make_home()
    return Runner(settings)


def puller(runner: Runner, **tags: str) -> str:
    """The id of a run that has the pool."""
    run = runner.instance.create_run_for_job(
        runner.definitions.resolve_job_def("sync_stripe"),
        tags={"revrec/source": "stripe", **tags},
        status=dg.DagsterRunStatus.STARTED,
    )
    storage = runner.instance.event_log_storage
    storage.initialize_concurrency_limit_to_default(POOL)
    claim = storage.claim_concurrency_slot(POOL, run.run_id, "list")
    assert claim.is_claimed
    return run.run_id


def test_the_daemons_pull_is_waited_for(runner: Runner) -> None:
    run_id = puller(runner)
    assert runner.pulling("stripe") == run_id
    assert runner.pulling("salesforce") is None


def test_a_killed_commands_pull_is_not(runner: Runner) -> None:
    puller(runner, **{IN_PROCESS_TAG: runner.here})
    runner.report_killed("stripe")
    assert runner.pulling("stripe") is None
    assert puller(runner) is not None  # the slot is free


def test_what_another_run_left_a_minute_ago_is_given_back(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = puller(runner)
    runner.instance.report_run_failed(dg.DagsterInstance.get().get_run_by_id(run_id))
    assert runner.pulling("stripe") == run_id  # its step may still be ending
    monkeypatch.setattr("revrec_pipeline.cli.runs.STEPS_END_SECONDS", 0.0)
    assert runner.pulling("stripe") is None


def test_a_pull_that_was_killed_together_with_its_code_server_is_ended(
    runner: Runner, tmp_path: Path
) -> None:
    path = str(tmp_path / "server")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        run_id = puller(runner, **{GRPC_INFO_TAG: json.dumps({"socket": path})})
        assert runner.pulling("stripe") == run_id
    assert runner.pulling("stripe") is None
    run = runner.instance.get_run_by_id(run_id)
    assert run
    assert run.status is dg.DagsterRunStatus.FAILURE
    assert puller(runner) is not None  # the slot is free
