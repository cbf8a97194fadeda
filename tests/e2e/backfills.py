"""A backfill from the Dagster UI: watched, cancelled, gone on with, and killed with all the rest.

The requests are those that the pages of the pinned Dagster send.
"""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import Sandbox
from dagster_dev import REVREC, Running, asset_keys, dagster_dev, ended, environment, ties, until
from receivers import webhook

from resources.alerts import WEBHOOK
from revrec_pipeline.ledger import jobs

pytestmark = pytest.mark.timeout(1500)

MONTHS = [f"2025-{month:02d}" for month in range(1, 8)]
INVOICES = {"path": ["stripe", "invoices"]}


def backfill(dagster: Running, number: str) -> dict[str, Any]:
    """What the page of a backfill shows: its status, and the months of the last asset in each."""
    shown = dagster.ask(
        """query($number: String!) { partitionBackfillOrError(backfillId: $number) {
            ... on PartitionBackfill { status assetBackfillData { assetBackfillStatuses {
                ... on AssetPartitionsStatusCounts {
                    assetKey { path } numPartitionsTargeted numPartitionsInProgress
                    numPartitionsMaterialized numPartitionsFailed
                } } } } } }""",
        number=number,
    )["partitionBackfillOrError"]
    counts = shown["assetBackfillData"]["assetBackfillStatuses"]
    (last,) = [one for one in counts if one["assetKey"] == INVOICES]
    return {"status": shown["status"], **last}


def over(dagster: Running, number: str) -> dict[str, Any] | None:
    """A backfill that has ended."""
    shown = backfill(dagster, number)
    ends = ("COMPLETED_SUCCESS", "COMPLETED_FAILED", "CANCELED", "FAILED")
    return shown if shown["status"] in ends else None


def done(dagster: Running, number: str) -> bool | None:
    """Whether a month of it is done, and others are not."""
    shown = backfill(dagster, number)
    assert shown["status"] == "REQUESTED"
    return True if shown["numPartitionsMaterialized"] and shown["numPartitionsInProgress"] else None


def routed(dagster: Running) -> list[dict[str, Any]] | None:
    """The first job, which has failed for one of its months, once the others are delivered."""
    with dagster.ledger.transaction() as tx:
        (job,) = jobs.jobs(tx)
    return dagster.jobs() if job["route"] else None


def runs_by_month(dagster: Running, number: str) -> dict[str, str]:
    """How the last run of each month of a backfill ended."""
    runs = dagster.ask(
        """query($filter: RunsFilter!) { runsOrError(filter: $filter) { ... on Runs { results {
            status tags { key value } } } } }""",
        filter={"tags": [{"key": "dagster/backfill", "value": number}]},
    )["runsOrError"]["results"]
    months = [
        {tag["key"]: tag["value"] for tag in run["tags"]}["dagster/partition"] for run in runs
    ]
    newest_last = zip(reversed(months), reversed(runs), strict=True)
    return {month: run["status"] for month, run in newest_last}


def revrec(env: Mapping[str, str], *arguments: str) -> None:
    """Run a command to its good end."""
    done = subprocess.run([REVREC, *arguments], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_backfill_is_cancelled_re_executed_from_failure_killed_and_complete_after_all(
    home: Path, sandbox: Sandbox, tmp_path: Path
) -> None:
    by_command = environment(tmp_path / "by_command", sandbox)
    by_command["REVREC_CONFIG"] = str(home / "revrec.toml")
    revrec(by_command, "period", "set", "2026-07")
    revrec(by_command, "sync", "stripe", "--from", MONTHS[0], "--to", MONTHS[-1])
    with webhook() as (url, told):
        env = environment(home, sandbox) | {WEBHOOK: url}
        with dagster_dev(home, env) as dagster:
            dagster.revrec("period", "set", "2026-07")
            # The first pull meets it, after it has looked what its key may read.
            sandbox.fault("stripe", "401", path="/v1/invoices", after=1)
            # A later month waits for its answer, so that it runs while the backfill is cancelled.
            sandbox.fault("stripe", "slow", path="/v1/invoices", after=8, seconds=90)
            first = dagster.launch_backfill(asset_keys("stripe"), MONTHS)
            until("a month", lambda: done(dagster, first))
            dagster.ask(
                """mutation($number: String!) { cancelPartitionBackfill(backfillId: $number) {
                    __typename } }""",
                number=first,
            )
            cancelled = until("the end", lambda: over(dagster, first))
            assert cancelled["status"] == "CANCELED"
            months = runs_by_month(dagster, first)
            (failed,) = [month for month, status in months.items() if status == "FAILURE"]
            assert set(months.values()) <= {"SUCCESS", "FAILURE", "CANCELED"}
            assert 0 < cancelled["numPartitionsMaterialized"] < len(MONTHS) - 1
            # What was done is delivered; what failed is told, with its reason.
            (job,) = until("the delivery", lambda: routed(dagster))
            ties(job)
            # So is the month that was cut short; those that had not begun are not.
            (cut,) = {one["period"] for one in job["failures"]} - {failed}
            assert months[cut] == "CANCELED"
            assert len(job["failures"]) == 2
            alert = until("the alert", lambda: [one["text"] for one in told] or None)
            assert alert[0].startswith(f"*stripe {failed} failed*\nstripe: the API refused the key")

            sandbox.command("story")
            sandbox.command("advance", seconds=3600)
            again = dagster.ask(
                """mutation($params: ReexecutionParams!) {
                    reexecutePartitionBackfill(reexecutionParams: $params) {
                        __typename ... on LaunchBackfillSuccess { backfillId } } }""",
                params={"parentRunId": first, "strategy": "FROM_FAILURE"},
            )["reexecutePartitionBackfill"]["backfillId"]
            dagster.launch("changes_stripe")
            until("a month", lambda: done(dagster, again))
            dagster.kill()
        with dagster_dev(home, env) as dagster:
            rest = until("the end", lambda: over(dagster, again))
            left = len(MONTHS) - cancelled["numPartitionsMaterialized"]
            assert rest["status"] == "COMPLETED_SUCCESS"
            assert rest["numPartitionsMaterialized"] == rest["numPartitionsTargeted"] == left
            all_jobs = until("all deliveries", lambda: ended(dagster, 3))
            (changes,) = [one for one in all_jobs if one["trigger"] == "launchpad"]
            (re_executed,) = [one for one in all_jobs[1:] if one["trigger"] == "backfill"]
            assert (changes["status"], re_executed["status"]) == ("delivered", "delivered")
            ties(changes)
            ties(re_executed)
            assert (len(re_executed["periods"]), failed in re_executed["periods"]) == (left, True)
            assert dagster.revrec("broken", "--json") == []
            dagster.revrec("export", "--to", str(tmp_path / "by_dagster.zip"))

    revrec(by_command, "sync", "stripe")
    revrec(by_command, "export", "--to", str(tmp_path / "by_command.zip"))
    ours, theirs = (tmp_path / f"by_{way}.zip" for way in ("dagster", "command"))
    assert ours.read_bytes() == theirs.read_bytes()
