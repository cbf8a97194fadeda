"""What comes after the first listing: sweeps, other companies, jumping clocks, schedules."""

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from conftest import Sandbox
from pipeline import Pipeline

from assets.context import UNTIL_TAG
from resources.registry import secrets_of
from revrec_pipeline.ledger import accounting_periods, cursors, source_accounts
from revrec_pipeline.settings import Settings
from revrec_pipeline.sources import SOURCES
from schedules.schedules import source_schedules

MONTHS = ("2026-05", "2026-06")


def delivered(pipeline: Pipeline, *months: str) -> list[str]:
    """List months of Salesforce and load them live; the documents that are in the ledger."""
    with pipeline.ledger.transaction() as tx:
        accounting_periods.set_period(tx, "2026-05")
    for month in months:
        pipeline.run("sync_salesforce", month)
    pipeline.route()
    return documents(pipeline)


def documents(pipeline: Pipeline) -> list[str]:
    with pipeline.ledger.transaction() as tx:
        rows = tx.rows(
            "SELECT DISTINCT document_id FROM order_line WHERE removed_at IS NULL "
            "ORDER BY document_id"
        )
    return [row["document_id"] for row in rows]


def metadata(result: dg.ExecuteInProcessResult) -> dict[str, object]:
    (event,) = (event for event in result.all_events if event.is_step_materialization)
    return {name: value.value for name, value in event.materialization.metadata.items()}


def test_a_sweep_finds_what_was_deleted_for_good_and_what_appeared_without_a_word(
    pipeline: Pipeline, sandbox: Sandbox
) -> None:
    before = delivered(pipeline, *MONTHS)
    gone = before[0]
    sandbox.command("delete", source="salesforce", object="Opportunity", id=gone, hard=True)
    sandbox.command("advance", seconds=3600)
    # A hard delete is in no feed: the incremental pull does not see it.
    pipeline.run("changes_salesforce")
    pipeline.route()
    assert documents(pipeline) == before

    found = metadata(pipeline.run("sweep_salesforce"))
    ran = pipeline.route()

    assert (found["months"], found["records"], found["listed_again"]) == (2, 1, "none")
    assert [job for job in ran if job.startswith("rebuild")] == [
        f"rebuild_salesforce {found['touched_months']}"
    ]
    assert documents(pipeline) == [one for one in before if one != gone]
    newest = pipeline.job("salesforce", "sales")
    assert newest["removed"] == [gone]


def test_a_sweep_that_finds_nothing_changes_nothing(pipeline: Pipeline) -> None:
    before = delivered(pipeline, "2026-06")

    found = metadata(pipeline.run("sweep_salesforce"))

    assert (found["records"], found["listed_again"]) == (0, "none")
    assert pipeline.route() == []
    assert documents(pipeline) == before


def test_another_company_s_secrets_are_refused_before_anything_lands(
    pipeline: Pipeline,
) -> None:
    pipeline.run("sync_stripe", "2026-05")
    with pipeline.ledger.transaction() as tx:
        tx.execute(
            "UPDATE source_account SET account_id = 'acct_other', verified_at = '2020-01-01'"
        )
    landed = len(list(pipeline.settings.lake_root.glob("raw/stripe/*/*")))

    result = pipeline.run("changes_stripe", may_fail=True)

    assert not result.success
    assert len(list(pipeline.settings.lake_root.glob("raw/stripe/*/*"))) == landed
    pipeline.route()
    (failure,) = pipeline.job("stripe", "invoices")["failures"]
    assert "this home's stripe data came from acct_other" in failure["message"]


def test_a_backfill_asks_who_it_is_once_an_hour(pipeline: Pipeline, sandbox: Sandbox) -> None:
    for month in MONTHS:
        pipeline.run("sync_stripe", month)

    assert sandbox.requests("stripe")["/v1/account"] == 1
    with pipeline.ledger.transaction() as tx:
        assert source_accounts.is_known(tx, "stripe")


def test_a_position_in_the_future_is_refused_with_what_to_do(pipeline: Pipeline) -> None:
    pipeline.run("sync_stripe", "2026-06")
    with pipeline.ledger.transaction() as tx:
        cursors.advance(tx, "stripe", datetime.now(UTC) + timedelta(days=300))

    result = pipeline.run("changes_stripe", may_fail=True)

    assert not result.success
    pipeline.route()
    (failure,) = pipeline.job("stripe", "invoices")["failures"]
    assert "a clock has jumped" in failure["message"]
    assert "run `revrec sync stripe --full`" in failure["message"]


def test_a_scheduled_window_ends_with_yesterday_in_the_site_s_zone(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    toml = pipeline.settings.home.parent / "revrec.toml"
    toml.write_text(toml.read_text() + '[sources.stripe]\nschedule = "0 6 * * *"\n')
    settings = Settings.load()
    (schedule,) = source_schedules(SOURCES["stripe"], settings)
    tick = datetime(2026, 11, 27, 11, tzinfo=UTC)  # six in the morning in New York
    context = dg.build_schedule_context(scheduled_execution_time=tick)

    (request,) = schedule.evaluate_tick(context).run_requests or []

    assert request.tags[UNTIL_TAG] == "2026-11-27T00:00:00-05:00"
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
    for name in secrets_of("stripe").model_fields:
        monkeypatch.delenv(f"STRIPE_{name.upper()}", raising=False)
    (unconnected,) = source_schedules(SOURCES["stripe"], settings)
    assert unconnected.default_status is dg.DefaultScheduleStatus.STOPPED

    pipeline.run("sync_salesforce", "2026-06")
    yesterday = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    found = metadata(pipeline.run("changes_salesforce", tags={UNTIL_TAG: yesterday}))
    assert found["until"] == datetime.fromisoformat(yesterday).isoformat()
