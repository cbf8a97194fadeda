"""The code location as a whole: it loads anywhere, and its graph is the one in the golden file."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pipeline import Pipeline

from revrec_pipeline.definitions import build_definitions
from revrec_pipeline.settings import Settings

GOLDEN = Path(__file__).parent / "golden" / "asset_graph.json"
REGENERATE = "REVREC_GOLDEN"
#: Everything that settings can bring into the graph.
ALL = """
[site]
timezone = "America/New_York"
history_start = "2025-01"
[sources.salesforce]
schedule = "0 6 * * *"
sweep_schedule = "0 4 * * 0"
commissions = true
[sources.hubspot]
invoices = true
commissions = true
[sources.chargebee]
invoice_equals_contract = true
[sources.xero]
invoice_equals_contract = true
[sources.quickbooks]
invoice_equals_contract = true
[sources.netsuite]
sales_orders = true
[sources.stripe]
invoice_equals_contract = true
[sources.sage_intacct]
order_documents = ["Sales Invoice"]
"""
#: The record types that these settings ask of each source.
RECORD_TYPES = {
    "salesforce": ("sales", "commissions"),
    "hubspot": ("sales", "invoices", "commissions"),
    "chargebee": ("sales", "invoices"),
    "xero": ("sales", "invoices"),
    "quickbooks": ("sales", "invoices"),
    "netsuite": ("sales", "invoices"),
    "stripe": ("sales", "invoices"),
    "sage_intacct": ("sales", "invoices"),
}


def loaded(tmp_path: Path, toml: str, *flags: str) -> subprocess.CompletedProcess[str]:
    """Load the code location in a new process that knows nothing but PATH."""
    (tmp_path / "revrec.toml").write_text(toml)
    script = (
        "import dagster as dg; from revrec_pipeline.definitions import defs; "
        "dg.Definitions.validate_loadable(defs())"
    )
    return subprocess.run(
        [sys.executable, *flags, "-c", script],
        cwd=tmp_path,
        env={"PATH": os.defpath},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_code_location_loads_without_any_environment_and_touches_nothing(
    tmp_path: Path,
) -> None:
    done = loaded(tmp_path, "")
    assert (done.returncode, done.stderr) == (0, "")
    assert [path.name for path in tmp_path.iterdir()] == ["revrec.toml"]


def test_loading_warns_of_nothing_that_is_deprecated_beta_or_preview(tmp_path: Path) -> None:
    """But for the one preview that definitions.py allows and gives the reason for."""
    done = loaded(tmp_path, ALL, "-W", "error")
    assert (done.returncode, done.stderr) == (0, "")


def graph(definitions: dg.Definitions) -> dict[str, Any]:
    """The definitions as plain data: what a change of them must not alter by accident."""
    repository = definitions.get_repository_def()
    assets = [asset for asset in definitions.assets or [] if isinstance(asset, dg.AssetsDefinition)]
    return {
        "assets": {
            spec.key.to_user_string(): _asset(asset, spec)
            for asset in sorted(assets, key=lambda asset: min(asset.keys))
            for spec in sorted(asset.specs, key=lambda spec: spec.key)
        },
        "jobs": {
            job.name: sorted(key.to_user_string() for key in job.asset_layer.executable_asset_keys)
            for job in sorted(repository.get_all_jobs(), key=lambda job: job.name)
            if not job.name.startswith("__")
        },
        "schedules": {
            schedule.name: {
                "job": schedule.job_name,
                "cron": schedule.cron_schedule,
                "timezone": schedule.execution_timezone,
                "status": schedule.default_status.value,
            }
            for schedule in repository.schedule_defs
        },
        "sensors": {
            sensor.name: {
                "jobs": sorted(target.job_name for target in sensor.targets),
                "every_seconds": sensor.minimum_interval_seconds,
                "status": sensor.default_status.value,
            }
            for sensor in repository.sensor_defs
        },
        "resources": sorted(definitions.resources or {}),
    }


def _asset(asset: dg.AssetsDefinition, spec: dg.AssetSpec) -> dict[str, Any]:
    checks = [check for check in asset.check_specs if check.asset_key == spec.key]
    return {
        "group": spec.group_name,
        "description": spec.description,
        "deps": sorted(dep.asset_key.to_user_string() for dep in spec.deps),
        "partitions": str(spec.partitions_def) if spec.partitions_def else None,
        "pool": asset.op.pool,
        "kinds": sorted(spec.kinds),
        "owners": list(spec.owners),
        "tags": {
            name: value
            for name, value in sorted(spec.tags.items())
            if not name.startswith("dagster/kind/")
        },
        "code_version": spec.code_version,
        "checks": {
            check.name: {
                "blocking": check.blocking,
                "partitions": str(check.partitions_def) if check.partitions_def else None,
            }
            for check in checks
        },
    }


def test_the_asset_graph_is_the_golden_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "revrec.toml").write_text(ALL)
    monkeypatch.setenv("REVREC_CONFIG", str(tmp_path / "revrec.toml"))
    for name in ("SALESFORCE_CLIENT_SECRET", "SALESFORCE_PRIVATE_KEY"):
        monkeypatch.delenv(name, raising=False)  # a schedule runs where its source is connected
    found = graph(build_definitions(Settings.load()))
    if os.environ.get(REGENERATE):
        GOLDEN.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    how = f"if this was intended: {REGENERATE}=1 pytest {Path(__file__).name}, and read the diff"
    for part in golden:
        assert found[part] == golden[part], how
    assert found.keys() == golden.keys(), how


def test_every_partitioned_asset_has_checks_that_are_partitioned_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without `partitions_def` on the spec, the last month's result hides all others (#17005)."""
    (tmp_path / "revrec.toml").write_text(ALL)
    monkeypatch.setenv("REVREC_CONFIG", str(tmp_path / "revrec.toml"))
    assets = build_definitions(Settings.load()).assets or []
    checked = {
        spec.asset_key.to_user_string(): spec.partitions_def
        for asset in assets
        if isinstance(asset, dg.AssetsDefinition)
        for spec in asset.check_specs
        if asset.partitions_def
    }
    assert set(checked) == {
        f"{source}/{record_type}" for source, types in RECORD_TYPES.items() for record_type in types
    }
    assert None not in checked.values()


def test_each_month_keeps_its_own_check_result(pipeline: Pipeline) -> None:
    """May has a line without a product, June has none; May stays red (dagster #17005)."""
    for month in ("2025-05", "2025-06"):
        pipeline.run("sync_stripe", month)
    asset = dg.AssetKey(["stripe", "invoices"])
    check = dg.AssetCheckKey(asset, "required_fields")
    storage = pipeline.instance.event_log_storage
    by_month = {}
    for record in storage.get_asset_check_execution_history(check, limit=10):
        assert record.event
        evaluation = record.event.asset_check_evaluation
        assert evaluation
        by_month[evaluation.partition] = (evaluation.passed, record.status.value)
    assert by_month == {"2025-05": (False, "FAILED"), "2025-06": (True, "SUCCEEDED")}
