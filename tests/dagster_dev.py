"""The whole way through real processes: `revrec dev` (webserver, daemon, code server, run workers).

A backfill of twelve months of both sources is started as the UI starts it, over GraphQL; the
routing sensor delivers it; a period is set, the sources change, and the same daemon loads live.
It runs on the embedded instance and on PostgreSQL, each in a file of its own: they take minutes,
most of it waiting for the daemon, so that workers of pytest share them.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import pytest
import requests
from conftest import Sandbox

from revrec_pipeline.ledger import Ledger, jobs, open_ledger

REVREC = str(Path(sys.executable).with_name("revrec"))
MONTHS = [f"2025-{month:02d}" for month in range(1, 13)]
SETTINGS = """\
[site]
timezone = "America/New_York"
history_start = "2025-01"
"""
ASSETS = {
    "salesforce": ("opportunity", "opportunity_line_item", "sales"),
    "stripe": ("invoice", "invoice_line", "credit_note", "credit_note_line", "invoices"),
}
T = TypeVar("T")


@dataclass(frozen=True)
class Running:
    """A home with Dagster running on it."""

    env: dict[str, str]
    url: str
    ledger: Ledger
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """`kill -9` of everything at once, as when the machine loses its power."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def revrec(self, *arguments: str) -> Any:
        """What a command prints, as JSON if it asks for that."""
        done = subprocess.run(
            [REVREC, *arguments], env=self.env, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if "--json" in arguments else done.stdout

    def ask(self, query: str, **variables: Any) -> Any:
        """The data of a GraphQL answer."""
        body = {"query": query, "variables": variables}
        answer = requests.post(f"{self.url}/graphql", json=body, timeout=60).json()
        assert "errors" not in answer, answer["errors"]
        return answer["data"]

    def jobs(self) -> list[dict[str, Any]]:
        """`revrec jobs --json`, oldest first."""
        return sorted(self.revrec("jobs", "--json"), key=lambda job: int(job["id"]))

    def launch(self, job: str) -> None:
        """Run a job as the launchpad does."""
        launched = self.ask(
            """mutation($params: ExecutionParams!) {
                launchRun(executionParams: $params) {
                    __typename ... on PythonError { message }
                }
            }""",
            params={
                "selector": {
                    "repositoryLocationName": "revrec_pipeline.definitions",
                    "repositoryName": "__repository__",
                    "jobName": job,
                },
                "runConfigData": {},
            },
        )["launchRun"]
        assert launched["__typename"] == "LaunchRunSuccess", launched

    def launch_backfill(self, keys: list[dict[str, Any]], months: list[str]) -> str:
        """Choose assets in the graph and months in the dialog; the backfill's id."""
        launched = self.ask(
            """mutation($params: LaunchBackfillParams!) {
                launchPartitionBackfill(backfillParams: $params) {
                    __typename ... on LaunchBackfillSuccess { backfillId }
                    ... on PythonError { message }
                }
            }""",
            params={"assetSelection": keys, "partitionNames": months, "fromFailure": False},
        )["launchPartitionBackfill"]
        assert launched["__typename"] == "LaunchBackfillSuccess", launched
        return str(launched["backfillId"])


def until(what: str, found: Callable[[], T | None], seconds: float = 900) -> T:
    """Poll until there is a result; the deadline is only there to end a hopeless wait."""
    deadline = time.monotonic() + seconds
    while (result := found()) is None:
        if time.monotonic() > deadline:
            pytest.fail(f"{what} never came")
        time.sleep(2)
    return result


@contextmanager
def dagster_dev(home: Path, env: dict[str, str]) -> Iterator[Running]:
    """`revrec dev` on a free port; its whole process group is ended."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = home / "dagster.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [REVREC, "dev", "--port", str(port)],
            env=env,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    ledger = open_ledger(env.get("REVREC_LEDGER_URL") or f"duckdb:///{home / 'ledger.duckdb'}")
    running = Running(env, f"http://127.0.0.1:{port}", ledger, process)
    try:
        until("Dagster's code location", lambda: _loaded(running), 180)
        yield running
    except BaseException:
        print(log.read_text()[-6000:])
        raise
    finally:
        ledger.close()
        try:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def _loaded(running: Running) -> bool | None:
    query = """{ workspaceOrError { ... on Workspace { locationEntries {
        loadStatus locationOrLoadError { __typename } } } } }"""
    try:
        entries = running.ask(query)["workspaceOrError"]["locationEntries"]
    except requests.RequestException:
        return None
    if not entries or entries[0]["loadStatus"] != "LOADED":
        return None
    assert entries[0]["locationOrLoadError"]["__typename"] == "RepositoryLocation"
    return True


def environment(home: Path, sandbox: Sandbox) -> dict[str, str]:
    """This process's environment, the sandbox's, and the home."""
    return {
        **os.environ,
        **sandbox.only(*ASSETS),
        "REVREC_HOME": str(home),
        "REVREC_CONFIG": str(home / "revrec.toml"),
    }


def whole_way(dagster: Running, sandbox: Sandbox) -> None:
    """Backfill, conversion files, red checks, period, changes, live load."""
    backfill(dagster)
    jobs = until("the conversion files", lambda: ended(dagster, 2))
    assert {(job["source"], job["record_type"]) for job in jobs} == {
        ("salesforce", "sales"),
        ("stripe", "invoices"),
    }
    for job in jobs:
        # Twelve months are one job with one conversion file, in both of its forms.
        assert (job["status"], job["route"]) == ("delivered", "conversion")
        assert set(job["periods"]) >= set(MONTHS)
        assert sorted(Path(file).suffix for file in job["files"]) == [".xlsx", ".zip"]
        ties(job)
    assert red_months(dagster, "salesforce/sales", "required_fields") == ["2025-11"]
    assert red_months(dagster, "stripe/invoices", "required_fields") == ["2025-05", "2025-09"]
    assert "Product Code is missing" in failing_rows(dagster, "stripe/invoices", "required_fields")

    dagster.revrec("period", "set", "2026-07")
    sandbox.command("story")
    sandbox.command("advance", seconds=3600)
    dagster.launch("changes_salesforce")
    dagster.launch("changes_stripe")
    live = until("the live load", lambda: ended(dagster, 4))[2:]
    for job in live:
        assert (job["status"], job["route"], job["files"]) == ("delivered", "live", [])
        ties(job)
    errors = dagster.revrec("errors", "--json")
    assert {error["record_type"] for error in errors} == {"sales", "invoices"}


def backfill(dagster: Running) -> None:
    """Select the assets of both sources and twelve months, and press the button."""
    dagster.launch_backfill([key for source in ASSETS for key in asset_keys(source)], MONTHS)


def asset_keys(source: str) -> list[dict[str, Any]]:
    """The assets of a source that have months."""
    return [
        {"path": [source, name] if name in ("sales", "invoices") else ["raw", source, name]}
        for name in ASSETS[source]
    ]


def ended(dagster: Running, count: int) -> list[dict[str, Any]] | None:
    """All jobs, once there are so many and none is on its way.

    What the command shows is for the end: two hundred starts of it cost more than a backfill.
    """
    with dagster.ledger.transaction() as tx:
        known = jobs.jobs(tx)
    busy = [job for job in known if job["status"] in ("running", "ready")]
    return dagster.jobs() if len(known) >= count and not busy else None


def ties(job: dict[str, Any]) -> None:
    """Source = delivered + unchanged + flagged + excluded, in rows and in amount per currency."""
    parts = ("delivered", "unchanged", "flagged", "excluded")
    assert job["counts"]["source"] == sum(job["counts"][part] for part in parts) > 0
    for amounts in job["amounts"].values():
        assert Decimal(amounts["source"]) == sum(Decimal(amounts[part]) for part in parts)


def red_months(dagster: Running, asset: str, check: str) -> list[str]:
    """The months on which a check stands failed."""
    node = dagster.ask(
        """query($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
            assetChecksOrError { ... on AssetChecks { checks { name partitionStatuses {
                ... on AssetCheckTimePartitionStatuses { ranges { status startKey endKey } }
            } } } } } } }""",
        key={"path": asset.split("/")},
    )["assetNodeOrError"]
    (found,) = [c for c in node["assetChecksOrError"]["checks"] if c["name"] == check]
    return [
        month
        for one in found["partitionStatuses"]["ranges"]
        if one["status"] == "FAILED"
        for month in MONTHS
        if one["startKey"] <= month <= one["endKey"]
    ]


def failing_rows(dagster: Running, asset: str, check: str) -> str:
    """The table of failing rows that the last failed result of a check shows."""
    found = dagster.ask(
        """query($key: AssetKeyInput!, $name: String!) {
            assetCheckExecutions(assetKey: $key, checkName: $name, limit: 50) { evaluation {
                success metadataEntries { label ... on TableMetadataEntry { table { records } } }
            } } }""",
        key={"path": asset.split("/")},
        name=check,
    )["assetCheckExecutions"]
    failed = [one["evaluation"] for one in found if not one["evaluation"]["success"]]
    tables = [e for e in failed[0]["metadataEntries"] if e["label"] == "rows"]
    return str(tables[0]["table"]["records"])
