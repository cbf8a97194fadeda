"""Raw assets: what lands, what the ledger learns of it, and how a failed pull reaches people."""

from collections.abc import Callable
from datetime import timedelta

import dagster as dg
import pytest
from conftest import Sandbox
from pipeline import Pipeline

from assets.context import DRY_RUN_TAG
from revrec_pipeline.ledger import cursors, sync_errors


def open_errors(pipeline: Pipeline) -> list[tuple[str, str]]:
    """Code and message of the open errors of failed pulls."""
    with pipeline.ledger.transaction() as tx:
        found = sync_errors.list_errors(tx)
    return [(error["code"], error["message"]) for error in found if error["stage"] == "sync"]


def metadata(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, object]:
    """What the run's materialization of an asset says."""
    (event,) = (
        event
        for event in result.all_events
        if event.is_step_materialization and event.asset_key == dg.AssetKey(asset.split("/"))
    )
    return {name: value.value for name, value in event.materialization.metadata.items()}


def test_a_listed_month_says_how_much_landed_and_where(pipeline: Pipeline) -> None:
    result = pipeline.run("sync_stripe", "2025-05")
    found = metadata(result, "raw/stripe/invoice")
    assert (found["pages"], found["dagster/partition_row_count"]) == (1, 15)
    assert found["api_version"] == "2026-10-28.endive"
    assert str(found["path"]).startswith(str(pipeline.settings.lake_root / "raw/stripe/2025-05"))


def test_raw_months_alone_are_rebuilt_and_delivered_by_the_sensor(pipeline: Pipeline) -> None:
    """Whoever selects only raw assets in the UI has landed pages that no step of the run builds."""
    raw = ["invoice", "invoice_line", "credit_note", "credit_note_line"]
    pipeline.run("sync_stripe", "2025-05", assets=[f"raw/stripe/{name}" for name in raw])
    assert pipeline.route() == ["rebuild_stripe 2025-05", "deliver_conversion_file 1"]
    (job,) = pipeline.jobs()
    assert (job["status"], job["failures"], job["periods"]) == ("delivered", [], ["2025-05"])


def test_changes_before_any_listing_are_refused_with_what_to_do(pipeline: Pipeline) -> None:
    result = pipeline.run("changes_stripe", may_fail=True)
    assert not result.success
    pipeline.route()
    (job,) = pipeline.jobs()
    assert job["failures"] == [
        {
            "period": None,
            "message": "Stripe has never been listed, so there is nothing to continue from; "
            "run `revrec sync stripe` or a backfill first",
        }
    ]


def test_a_window_ends_before_the_source_s_now_and_reaches_back_into_the_one_before(
    pipeline: Pipeline, sandbox: Sandbox
) -> None:
    pipeline.run("sync_salesforce", "2026-06")
    with pipeline.ledger.transaction() as tx:
        first = cursors.position(tx, "salesforce")
    sandbox.command("advance", seconds=3600)
    found = metadata(pipeline.run("changes_salesforce"), "raw/salesforce/changes")
    with pipeline.ledger.transaction() as tx:
        second = cursors.position(tx, "salesforce")
    assert first
    assert second
    assert timedelta(minutes=59) < second - first < timedelta(minutes=65)
    assert found["since"] == (first - timedelta(minutes=30)).isoformat()
    assert found["until"] == second.isoformat()


def test_the_error_of_a_failed_pull_is_resolved_by_one_that_succeeds(
    pipeline: Pipeline, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.run("sync_stripe", "2026-06")
    right = sandbox.env["STRIPE_API_KEY"]
    monkeypatch.setenv("STRIPE_API_KEY", "rk_test_wrong")
    assert not pipeline.run("changes_stripe", may_fail=True).success
    ((code, message),) = open_errors(pipeline)
    assert code == "SYNC_AUTH"
    assert "\n" not in message
    assert "rk_test_wrong" not in message
    monkeypatch.setenv("STRIPE_API_KEY", right)
    pipeline.run("changes_stripe")
    assert open_errors(pipeline) == []


def test_a_rebuild_from_the_lake_does_not_resolve_the_error_of_a_failed_pull(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRIPE_API_KEY", "rk_test_wrong")
    pipeline.run("sync_stripe", "2025-05", may_fail=True)
    pipeline.run("rebuild_stripe", "2025-05")
    assert [code for code, _ in open_errors(pipeline)] == ["SYNC_AUTH"]


def test_wrong_credentials_end_the_step_at_once(
    pipeline: Pipeline, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRIPE_API_KEY", "rk_test_wrong")
    result = pipeline.run("sync_stripe", "2025-05", may_fail=True)
    kinds = [event.event_type for event in result.all_events]
    assert kinds.count(dg.DagsterEventType.STEP_START) == 1
    assert dg.DagsterEventType.STEP_UP_FOR_RETRY not in kinds
    assert sum(sandbox.requests("stripe").values()) == 1


def test_a_dry_run_leaves_no_job_and_no_batch(pipeline: Pipeline) -> None:
    pipeline.run("sync_stripe", "2025-05", tags={DRY_RUN_TAG: "true"})
    assert pipeline.jobs() == []
    assert pipeline.route() == []
    with pipeline.ledger.transaction() as tx:
        # What it landed is newer than what was delivered: the next sync builds it.
        assert cursors.pending_periods(tx, "stripe") == ["2025-05"]
        assert cursors.position(tx, "stripe") is None


def test_a_dry_run_in_the_ui_shows_what_would_change_and_delivers_nothing(
    pipeline: Pipeline, sandbox: Sandbox
) -> None:
    """The launchpad takes the tag `revrec/dry_run`."""
    pipeline.run("sync_salesforce", "2026-06")
    pipeline.route()
    sandbox.command("story", source="salesforce")
    sandbox.command("advance", seconds=3600)

    result = pipeline.run("sync_salesforce", "2026-06", tags={DRY_RUN_TAG: "true"})

    found = metadata(result, "salesforce/sales")
    changes = [record.data for record in found["would_change_documents"].records]  # type: ignore[attr-defined]
    assert {"added", "removed"} <= {change["change"] for change in changes}
    assert [job["status"] for job in pipeline.jobs()] == ["delivered"]
    assert pipeline.route() == []


def test_both_record_types_of_a_source_end_well_in_one_run(
    make_pipeline: Callable[..., Pipeline],
) -> None:
    """The step that builds one record type must not open the other one's run again."""
    pipeline = make_pipeline(toml="[sources.stripe]\ninvoice_equals_contract = true\n")
    pipeline.run("sync_stripe", "2025-06")
    pipeline.route()
    assert [(job["record_type"], job["status"], job["failures"]) for job in pipeline.jobs()] == [
        ("sales", "delivered", []),
        ("invoices", "delivered", []),
    ]
