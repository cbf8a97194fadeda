"""QuickBooks the whole way: a listed month, what is flagged, and how changes reach the months."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import duckdb
import pytest
from conftest import Sandbox
from pipeline import Pipeline
from postgres import Database

from revrec_pipeline.ledger import open_ledger, sync_errors
from revrec_pipeline.ledger.source_tokens import Account
from revrec_pipeline.sandbox.quickbooks_objects import REALM
from revrec_pipeline.sandbox.quickbooks_tokens import CLIENT_SECRET

TOML = """
[sources.quickbooks]
invoice_equals_contract = true
product_id_field = "Sku"
order_number_field = "Sales Order"
requests_per_second = 1000
[sources.quickbooks.terms]
PLAT-STD = 12
PLAT-ENT = 12
SUP-PLAT = 12
SEAT = 12
ONBOARD = 0
TRAINING = 0
"""


def rows(pipeline: Pipeline, month: str, record_type: str = "invoices") -> list[dict[str, Any]]:
    """The rows of the newest batch of a month."""
    folder = pipeline.settings.lake_root / "canonical" / "quickbooks" / record_type / month
    newest = max(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    with duckdb.connect() as db:
        found = db.sql(
            f"SELECT * FROM read_parquet('{newest}/rows.parquet') ORDER BY document_id, line_id"
        )
        return found.to_arrow_table().to_pylist()  # type: ignore[no-any-return]


def flagged(pipeline: Pipeline) -> set[tuple[str, str]]:
    """Invoice number or id, and field, of open errors."""
    with pipeline.ledger.transaction() as tx:
        found = sync_errors.list_errors(tx)
    return {(error["record_id"], error["field"]) for error in found if error["severity"] == "error"}


@pytest.fixture
def quick(sandbox: Sandbox) -> Sandbox:
    sandbox.command("limit", source="quickbooks", per_second=None)
    return sandbox


def test_a_month_is_listed_flagged_delivered_and_follows_what_changes(
    quick: Sandbox, make_pipeline: Callable[..., Pipeline]
) -> None:
    pipeline = make_pipeline(toml=TOML)
    for month in ("2026-05", "2026-06"):
        assert pipeline.run("sync_quickbooks", month).success
    pipeline.route()
    june = rows(pipeline, "2026-06")
    assert {row["period"] for row in june} == {"2026-06"}
    assert {row["excluded_by"] for row in june} == {None}
    number = quick.command("find", source="quickbooks", number="2026-0512")["id"]
    assert (f"INV-{number}", "Product Code") in flagged(pipeline)
    job = pipeline.job("quickbooks", "invoices")
    counts = job["counts"]
    assert counts["delivered"] > 0
    assert counts["source"] == sum(
        counts[name] for name in ("delivered", "unchanged", "flagged", "excluded")
    )
    sales = rows(pipeline, "2026-06", "sales")
    assert {row["order_item_number"] for row in sales} == {
        row["order_item_number"] for row in june if row["document_type"] != "credit_memo"
    }

    told = quick.command("story", source="quickbooks")["quickbooks"]
    quick.command("advance", seconds=3600)
    assert pipeline.run("changes_quickbooks").success
    pipeline.route()
    after = rows(pipeline, "2026-06")
    rules = {row["document_id"]: row["excluded_by"] for row in after}
    assert rules[told["voided"]] == "void"
    assert told["deleted"] not in rules
    assert told["deleted"] in {row["document_id"] for row in june}
    moved = told["moved from 2026-05 to 2026-06"]
    assert moved in rules
    assert moved not in {row["document_id"] for row in rows(pipeline, "2026-05")}
    credit = [row["amount"] for row in after if row["document_id"] == told["credit memo"]]
    assert credit == [Decimal("-234.0000")]
    new = [row["amount"] for row in after if row["document_id"] == told["new"]]
    assert sum(new) == Decimal("9405.0000")  # (4500 + 3 * 1800) less 5 %


def test_an_id_sweep_finds_a_deletion_that_capture_has_forgotten(
    quick: Sandbox, make_pipeline: Callable[..., Pipeline]
) -> None:
    pipeline = make_pipeline(toml="[sources.quickbooks]\nrequests_per_second = 1000\n")
    pipeline.run("sync_quickbooks", "2026-06")
    found = quick.command("find", source="quickbooks", number="2026-0616")
    quick.command("delete", source="quickbooks", object="Invoice", id=found["id"])
    quick.command("advance", seconds=35 * 86400)
    pipeline.run("changes_quickbooks")
    pipeline.route()
    gone = f"INV-{found['id']}"
    assert gone in {row["document_id"] for row in rows(pipeline, "2026-06")}
    pipeline.run("sweep_quickbooks")
    pipeline.route()
    assert gone not in {row["document_id"] for row in rows(pipeline, "2026-06")}


def test_the_tokens_are_in_the_ledger_of_the_pipeline_on_postgresql_too(
    quick: Sandbox, make_pipeline: Callable[..., Pipeline], postgres_database: Database
) -> None:
    url = postgres_database.url
    toml = "[sources.quickbooks]\nrequests_per_second = 1000\n"
    pipeline = make_pipeline(ledger_url=url, toml=toml)
    assert pipeline.run("sync_quickbooks", "2026-03").success
    ledger = open_ledger(url)
    with ledger.transaction() as tx:
        assert Account("quickbooks", REALM, CLIENT_SECRET).read(tx) is not None
    ledger.close()
    assert quick.requests("quickbooks")["/oauth2/v1/tokens/bearer"] == 1
    pipeline.run("sync_quickbooks", "2026-04")
    assert quick.requests("quickbooks")["/oauth2/v1/tokens/bearer"] == 1
