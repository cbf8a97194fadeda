"""The routing sensor: from ended runs to rebuilt months to delivered batches.

Nothing is mocked:
the instance, the ledger (both back ends), the runs and the sandbox behind them are real.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from conftest import Sandbox
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._time import get_current_timestamp
from pipeline import Pipeline
from postgres import Database

from assets.context import BACKFILL_TAG, IN_PROCESS_TAG, SYNC_TAG
from resources.stores import LedgerResource
from revrec_pipeline.errors import LedgerBusyError
from revrec_pipeline.ledger import Ledger, Transaction, accounting_periods, cursors, jobs, outbox
from revrec_pipeline.model import Route

MONTHS = ("2025-05", "2025-06")


#: Back ends are compared in `tests/ledger`; these tests show that a tick suits both.
on_both = pytest.mark.parametrize("ledger_url", ["duckdb", "postgresql"], indirect=True)


@pytest.fixture
def ledger_url(request: pytest.FixtureRequest) -> str | None:
    """None for the file in the home."""
    if getattr(request, "param", "duckdb") == "duckdb":
        return None
    database: Database = request.getfixturevalue("postgres_database")
    return database.url


@pytest.fixture
def pipeline(make_pipeline: Callable[..., Pipeline], ledger_url: str | None) -> Iterator[Pipeline]:
    """A pipeline on either back end."""
    made = make_pipeline(ledger_url=ledger_url)
    yield made
    made.ledger.close()


@pytest.fixture
def touched(pipeline: Pipeline, sandbox: Sandbox) -> Pipeline:
    """Months that were listed and delivered, and a pull of what has changed in them since."""
    for month in ("2026-05", "2026-06"):
        pipeline.run("sync_salesforce", month)
    pipeline.route()
    sandbox.command("story")
    sandbox.command("advance", seconds=3600)
    pipeline.run("changes_salesforce")
    return pipeline


def backfill(pipeline: Pipeline, name: str, status: BulkActionStatus) -> None:
    """Note a backfill in the instance, as its daemon does, or its new status."""
    noted = PartitionBackfill(
        backfill_id=name,
        status=status,
        from_failure=False,
        tags={},
        backfill_timestamp=get_current_timestamp(),
        partition_names=list(MONTHS),
    )
    if pipeline.instance.get_backfill(name) is None:
        pipeline.instance.add_backfill(noted)
    else:
        pipeline.instance.update_backfill(noted)


def asked(requests: list[dg.RunRequest]) -> list[tuple[str | None, str | None]]:
    """Which jobs, and for which months."""
    return [(request.job_name, request.partition_key) for request in requests]


def test_an_empty_ledger_is_passed_by_with_the_reason(pipeline: Pipeline) -> None:
    assert pipeline.tick() == []
    assert pipeline.skipped == "no sync has ended and no batch is READY"


@on_both
def test_a_backfill_is_one_job_that_is_routed_once_it_has_ended(pipeline: Pipeline) -> None:
    backfill(pipeline, "abcdefgh", BulkActionStatus.REQUESTED)
    pipeline.run("sync_stripe", MONTHS[0], tags={BACKFILL_TAG: "abcdefgh"})
    assert pipeline.tick() == []  # all runs so far have ended, but the backfill has not
    assert pipeline.job("stripe", "invoices")["status"] == "running"
    pipeline.run("sync_stripe", MONTHS[1], tags={BACKFILL_TAG: "abcdefgh"})
    backfill(pipeline, "abcdefgh", BulkActionStatus.COMPLETED_SUCCESS)
    (request,) = pipeline.tick()
    assert request.job_name == "deliver_conversion_file"
    assert pipeline.job("stripe", "invoices")["status"] == "ready"
    pipeline.launch(request)
    (job,) = pipeline.jobs()
    assert (job["status"], job["route"], job["periods"]) == ("delivered", "conversion", [*MONTHS])
    assert [Path(file).name for file in job["files"]] == [
        "stripe-invoices-2025-05_2025-06.xlsx",
        "stripe-invoices-2025-05_2025-06.zip",
    ]
    assert pipeline.tick() == []


def test_a_backfill_is_not_sealed_while_a_run_of_it_still_goes_on(pipeline: Pipeline) -> None:
    """A cancelled backfill has ended, but what it has started goes on."""
    pipeline.run("sync_stripe", MONTHS[0], tags={BACKFILL_TAG: "abcdefgh"})
    backfill(pipeline, "abcdefgh", BulkActionStatus.CANCELED)
    going = pipeline.instance.create_run_for_job(
        pipeline.definitions.resolve_job_def("sync_stripe"),
        tags={BACKFILL_TAG: "abcdefgh"},
        status=dg.DagsterRunStatus.STARTED,
    )
    assert pipeline.tick() == []
    assert pipeline.job("stripe", "invoices")["status"] == "running"
    pipeline.instance.report_run_canceled(going)
    assert asked(pipeline.tick()) == [("deliver_conversion_file", None)]


def test_a_run_of_the_launchpad_is_a_sync_of_its_own(pipeline: Pipeline) -> None:
    for month in MONTHS:
        pipeline.run("sync_stripe", month)
    assert [job["periods"] for job in pipeline.jobs()] == [["2025-05"], ["2025-06"]]
    assert pipeline.route() == ["deliver_conversion_file 1", "deliver_conversion_file 2"]


@on_both
def test_months_that_changes_touch_are_rebuilt_under_the_same_sync_and_then_delivered(
    touched: Pipeline,
) -> None:
    requests = touched.tick()
    changes = touched.jobs()[-1]
    # 2026-04 was never listed: the change, a product that got its code, is all there is of it.
    months = ["2026-04", "2026-05", "2026-06"]
    assert asked(requests) == [("rebuild_salesforce", month) for month in months]
    assert {request.tags[SYNC_TAG] for request in requests} == {changes["sync_key"]}
    assert (changes["status"], changes["periods"]) == ("running", months)
    for request in requests:
        touched.launch(request)
    assert touched.route() == [f"deliver_conversion_file {changes['id']}"]
    delivered = touched.jobs()[-1]
    assert (delivered["id"], delivered["status"]) == (changes["id"], "delivered")
    assert delivered["periods"] == months


def test_what_landed_in_a_pull_that_was_killed_before_the_ledger_knew_is_rebuilt_by_the_next(
    pipeline: Pipeline, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.run("sync_stripe", "2026-06")
    pipeline.route()
    sandbox.command("story")
    sandbox.command("advance", seconds=3600)

    def killed(*_: object) -> None:
        raise RuntimeError("between the landing and the ledger")

    with monkeypatch.context() as patch:
        patch.setattr("assets.raw.cursors.advance", killed)
        pipeline.run("changes_stripe", may_fail=True)
    pipeline.run("changes_stripe")
    assert ("rebuild_stripe", "2026-06") in asked(pipeline.tick())


def test_a_rebuild_that_a_killed_tick_never_launched_is_asked_for_again(
    touched: Pipeline,
) -> None:
    lost = touched.tick(remember=False)
    again = touched.tick()
    assert len(again) == 3
    assert [request.run_key for request in again] == [request.run_key for request in lost]
    assert touched.jobs()[-1]["status"] == "running"


def test_a_rebuild_that_was_killed_fails_the_job_and_leaves_the_month_to_the_next_sync(
    touched: Pipeline,
) -> None:
    requests = touched.tick()
    (killed,) = (request for request in requests if request.partition_key == "2026-06")
    for request in requests:
        if request is killed:  # before its first step, so that it could not say a word
            touched.created(request, dg.DagsterRunStatus.FAILURE)
        else:
            touched.launch(request)
    touched.route()
    job = touched.jobs()[-1]
    assert job["status"] == "failed"
    assert job["failures"] == [
        {
            "period": "2026-06",
            "message": "the run ended without a word, so it was killed; run this month again",
        }
    ]
    touched.run("changes_salesforce")
    assert ("rebuild_salesforce", "2026-06") in asked(touched.tick())


def test_a_killed_run_that_dagster_will_retry_keeps_its_sync_open(pipeline: Pipeline) -> None:
    pipeline.run("sync_stripe", MONTHS[0])
    (job,) = pipeline.jobs()
    run_id = job["sync_key"].removeprefix("run:")
    crashed = pipeline.instance.create_run_for_job(
        pipeline.definitions.resolve_job_def("rebuild_stripe"),
        tags={SYNC_TAG: job["sync_key"], "dagster/will_retry": "true"},
        status=dg.DagsterRunStatus.FAILURE,
    )
    assert pipeline.tick() == []
    pipeline.instance.add_run_tags(crashed.run_id, {"dagster/auto_retry_run_id": run_id})
    assert asked(pipeline.tick()) == [("deliver_conversion_file", None)]


def test_a_retry_that_dagster_forgot_is_asked_for_again(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    backfill(pipeline, "going", BulkActionStatus.REQUESTED)
    backfill(pipeline, "ended", BulkActionStatus.CANCELED)
    failed = {}
    for name, tags in {
        "forgotten": {BACKFILL_TAG: "going"},
        "retried": {"dagster/auto_retry_run_id": "another"},
        "of an ended backfill": {BACKFILL_TAG: "ended"},
        "of a command": {IN_PROCESS_TAG: "here"},
    }.items():
        failed[name] = pipeline.instance.create_run_for_job(
            pipeline.definitions.resolve_job_def("sync_stripe"),
            tags={**tags, "dagster/will_retry": "true"},
            status=dg.DagsterRunStatus.STARTED,
        )
        pipeline.instance.report_run_failed(failed[name])

    def told() -> dict[str, int]:
        failure = dg.DagsterEventType.RUN_FAILURE
        logs = pipeline.instance.all_logs
        return {name: len(logs(run.run_id, of_type=failure)) for name, run in failed.items()}

    once = dict.fromkeys(failed, 1)
    pipeline.tick()
    assert told() == once  # Dagster gets its time
    monkeypatch.setattr("schedules.sensors._FORGOTTEN_SECONDS", 0.0)
    pipeline.tick()
    assert told() == once | {"forgotten": 2}


def test_a_backfill_that_has_ended_waits_for_no_retry(pipeline: Pipeline) -> None:
    """Dagster retries no run of an ended backfill, and leaves the tag that promises it."""
    backfill(pipeline, "abcdefgh", BulkActionStatus.COMPLETED_FAILED)
    pipeline.run("sync_stripe", MONTHS[0], tags={BACKFILL_TAG: "abcdefgh"})
    pipeline.instance.create_run_for_job(
        pipeline.definitions.resolve_job_def("sync_stripe"),
        tags={BACKFILL_TAG: "abcdefgh", "dagster/will_retry": "true"},
        status=dg.DagsterRunStatus.FAILURE,
    )
    assert asked(pipeline.tick()) == [("deliver_conversion_file", None)]


def test_a_job_is_asked_for_once_and_again_with_a_new_key_when_its_run_never_came(
    pipeline: Pipeline,
) -> None:
    """A run key is remembered for ever, also that of a failed run, so it carries the attempt."""
    pipeline.run("sync_stripe", MONTHS[0])
    (first,) = pipeline.tick()
    assert first.run_key == "1:1"
    assert pipeline.tick() == []
    with pipeline.ledger.transaction() as tx:
        jobs.renew_lease(tx, 1, -1)  # the request has waited long enough
    (second,) = pipeline.tick()
    assert second.run_key == "1:2"
    # Both arrive after all: the first delivers, the second finds nothing to do.
    for request in (first, second):
        pipeline.launch(request)
    job = pipeline.job("stripe", "invoices")
    assert (job["status"], len(job["files"])) == ("delivered", 2)


def test_the_route_follows_the_accounting_period(pipeline: Pipeline) -> None:
    pipeline.run("sync_stripe", MONTHS[0])
    assert pipeline.route() == ["deliver_conversion_file 1"]
    with pipeline.ledger.transaction() as tx:
        accounting_periods.set_period(tx, "2025-06")
    pipeline.run("sync_stripe", MONTHS[1])
    assert pipeline.route() == ["deliver_live_load 2"]
    first, second = pipeline.jobs()
    assert (first["route"], len(first["files"])) == ("conversion", 2)
    assert (second["route"], second["files"]) == ("live", [])
    assert (first["status"], second["status"]) == ("delivered", "delivered")


@on_both
def test_a_period_set_after_the_request_sends_the_job_the_other_way(pipeline: Pipeline) -> None:
    pipeline.run("sync_stripe", MONTHS[0])
    (request,) = pipeline.tick()
    with pipeline.ledger.transaction() as tx:
        accounting_periods.set_period(tx, "2025-06")
    pipeline.launch(request)
    assert pipeline.job("stripe", "invoices")["status"] == "ready"
    with pipeline.ledger.transaction() as tx:
        jobs.renew_lease(tx, 1, -1)
    assert pipeline.route() == ["deliver_live_load 1"]
    assert pipeline.job("stripe", "invoices")["route"] == "live"


def test_a_command_that_lives_keeps_its_jobs_and_a_killed_one_loses_them_with_its_lease(
    pipeline: Pipeline,
) -> None:
    with pipeline.ledger.transaction() as tx:
        job_id = jobs.open_job(
            tx,
            sync_key="sync:1",
            source="stripe",
            record_type="invoices",
            name="Stripe invoices (command line)",
            trigger="command line",
            lease_seconds=120,
        )
    tags = {SYNC_TAG: "sync:1", IN_PROCESS_TAG: "true"}
    pipeline.run("sync_stripe", MONTHS[0], tags=tags)
    # The month in which the command was killed: nobody will ever end this run.
    killed = pipeline.instance.create_run_for_job(
        pipeline.definitions.resolve_job_def("sync_stripe"),
        tags=tags,
        status=dg.DagsterRunStatus.STARTED,
    )
    with pipeline.ledger.transaction() as tx:
        jobs.start_run(tx, job_id, MONTHS[1], killed.run_id)
    assert pipeline.tick() == []
    with pipeline.ledger.transaction() as tx:
        jobs.renew_lease(tx, job_id, 120, at=datetime.now(UTC) - timedelta(seconds=121))
    assert asked(pipeline.tick()) == [("deliver_conversion_file", None)]
    ended = pipeline.instance.get_run_by_id(killed.run_id)
    assert ended
    assert ended.status is dg.DagsterRunStatus.FAILURE
    (job,) = pipeline.jobs()
    assert [failure["period"] for failure in job["failures"]] == [MONTHS[1]]


class _BusyLater(LedgerResource):
    """A ledger that others keep busy from the third transaction of a tick on."""

    def open(self) -> Ledger:
        return _Busy(super().open())


class _Busy:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger, self._left = ledger, 3

    def transaction(self, *, deadline: float = 30.0) -> AbstractContextManager[Transaction]:
        self._left -= 1
        if self._left < 0:
            raise LedgerBusyError("the ledger is busy")
        return self._ledger.transaction(deadline=deadline)

    def close(self) -> None:
        self._ledger.close()


def test_a_ledger_that_gets_busy_loses_nothing_that_the_tick_has_asked_for(
    touched: Pipeline,
) -> None:
    """Dagster refuses a tick that asks for runs and gives a reason to skip as well."""
    busy = _BusyLater(url=touched.settings.ledger)
    requests = touched.tick(ledger=busy)
    assert len(requests) == 3
    for request in requests:
        touched.launch(request)
    assert touched.tick(ledger=busy) == []
    assert touched.skipped == "the ledger is busy; the next tick tries again"
    assert len(touched.tick()) == 1


def test_what_a_killed_delivery_had_claimed_is_delivered_by_the_next_tick(
    pipeline: Pipeline,
) -> None:
    """Not only when its lease ends, five minutes later."""
    pipeline.run("sync_stripe", "2026-05")
    (request,) = pipeline.tick()
    run = pipeline.instance.create_run_for_job(
        pipeline.definitions.resolve_job_def("deliver_conversion_file"),
        run_config=request.run_config,
        status=dg.DagsterRunStatus.STARTED,
    )
    with pipeline.ledger.transaction() as tx:
        taken = outbox.claim(
            tx, 1, claimed_by=run.run_id, route=Route.CONVERSION, lease_seconds=300
        )
    assert taken
    assert pipeline.tick() == []

    pipeline.instance.report_run_failed(run, "its worker was killed")
    (again,) = pipeline.tick()

    assert (again.job_name, again.run_key) == (request.job_name, "1:2")
    pipeline.launch(again)
    (job,) = pipeline.jobs()
    assert job["status"] == "delivered"


def test_a_touched_month_outside_of_the_site_is_not_asked_for(pipeline: Pipeline) -> None:
    """Dagster refuses a key that is no partition, and with it the whole tick, again and again."""
    pipeline.run("sync_stripe", "2026-05")
    pipeline.route()
    pipeline.run("changes_stripe")  # forgets what never landed
    with pipeline.ledger.transaction() as tx:
        cursors.touch(tx, "stripe", ["2019-03", "2026-05", "2099-01"], "landing")
    assert "rebuild_stripe 2026-05" in pipeline.route()
    with pipeline.ledger.transaction() as tx:
        assert cursors.pending_periods(tx, "stripe") == ["2019-03", "2099-01"]
