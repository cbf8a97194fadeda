"""NetSuite the whole way: list months, flag what is incomplete, follow each document."""

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from conftest import Sandbox
from pipeline import Pipeline

from resources.netsuite import NetsuiteClient
from resources.netsuite_api import NetsuiteSecrets
from revrec_pipeline import canonical
from revrec_pipeline.lake import Lake
from revrec_pipeline.mapping import Site
from revrec_pipeline.mapping.netsuite import LINE, SOURCE, NetsuiteSettings
from revrec_pipeline.model import RecordType

Rows = dict[str, list[dict[str, Any]]]


def built(
    pipeline: Pipeline, month: str, record_type: RecordType = RecordType.INVOICES
) -> tuple[Rows, list[tuple[str, str]]]:
    """The rows of a month by document number, and (field, code) of what is flagged in it."""
    lake = Lake(pipeline.settings.lake_root)
    settings, site = pipeline.settings.source("netsuite"), pipeline.settings.mapping_site()
    found = canonical.build(lake, SOURCE, record_type, month, settings, site)
    rows: Rows = {}
    number = "invoice_number" if record_type is RecordType.INVOICES else "order_number"
    for row in pq.read_table(lake.root / found.path / "rows.parquet").to_pylist():
        rows.setdefault(row[number], []).append(row)
    assert found.lost == ()
    errors = zip(found.errors["field"].to_pylist(), found.errors["code"].to_pylist(), strict=True)
    return rows, sorted(errors)


def sync_changes(pipeline: Pipeline, sandbox: Sandbox) -> list[str]:
    """Pull what changed, once it is old enough to be seen, and do what the sensor asks for."""
    sandbox.command("advance", seconds=600)
    pipeline.run("changes_netsuite")
    return pipeline.route()


def test_months_are_listed_flagged_delivered_and_follow_their_documents(
    pipeline: Pipeline, sandbox: Sandbox
) -> None:
    pipeline.run("sync_netsuite", "2026-01")
    pipeline.run("sync_netsuite", "2026-05")
    pipeline.route()
    january, flagged = built(pipeline, "2026-01")
    may, _ = built(pipeline, "2026-05")
    assert flagged == [
        ("Currency", "IN_CURRENCY_MISSING"),
        ("Product Code", "IN_BAD_ID_CHARS"),
    ]
    assert [row["amount"] for row in january["INV-AMP"]] == [Decimal(3200), Decimal("719.20")]
    counting = ("INV-TWICE", "INV-FLAT")
    assert {row["excluded_by"] for number in counting for row in may[number]} == {None}
    job = pipeline.job("netsuite", "invoices")
    assert job["status"] == "delivered"
    assert job["counts"]["source"] == sum(
        job["counts"][name] for name in ("delivered", "unchanged", "flagged", "excluded")
    )

    sandbox.command("story", source="netsuite")
    sandbox.command("reverse", source="netsuite", number="INV-FLAT", day="2026-06-30")
    fields = {"trandate": "2026-05-04"}
    sandbox.command("edit", source="netsuite", number="INV-NOCUR", fields=fields)
    ran = sync_changes(pipeline, sandbox)
    assert {"rebuild_netsuite 2026-01", "rebuild_netsuite 2026-05"} <= set(ran)

    january, flagged = built(pipeline, "2026-01")
    may, _ = built(pipeline, "2026-05")
    assert "INV-AMP" not in january  # deleted: it has left its month
    assert "INV-NOCUR" not in january  # moved
    assert "INV-NOCUR" in may
    assert flagged == []
    assert {row["excluded_by"] for row in may["INV-TWICE"]} == {"void"}  # by its flag
    assert {row["excluded_by"] for row in may["INV-FLAT"]} == {"void"}  # by a journal of June
    assert [row["amount"] for row in may["INV-LATE"]] == [Decimal(250), Decimal(156)]


def test_orders_and_the_invoices_that_bill_them_meet(
    make_pipeline: Callable[..., Pipeline],
) -> None:
    toml = """
    [sources.netsuite]
    sales_orders = true
    term_field = "custitem_term_months"
    customer_id_field = "custentity_sf_account_id"
    """
    pipeline = make_pipeline(toml=toml)
    pipeline.run("sync_netsuite", "2025-08")
    pipeline.route()
    orders, _ = built(pipeline, "2025-08", RecordType.SALES)
    invoices, _ = built(pipeline, "2025-08")
    assert {row["excluded_by"] for row in orders["SO-LOST"]} == {"cancelled"}
    billed = [row for rows in invoices.values() for row in rows if row["order_item_number"]]
    assert billed
    sold = {row["line_id"]: row for rows in orders.values() for row in rows}
    for row in billed:
        order = sold[row["order_item_number"]]
        assert (order["order_number"], order["amount"], order["product_code"]) == (
            row["order_number"],
            row["amount"],
            row["product_code"],
        )
    assert {row["customer_id"][:4] for rows in orders.values() for row in rows} == {"CRM-"}
    assert {job["record_type"] for job in pipeline.jobs()} == {"sales", "invoices"}


def test_rows_and_taxes_add_up_to_what_was_posted_to_the_receivable(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever discounts, kits, groups and subtotals a document has."""
    for name, value in sandbox.env.items():
        monkeypatch.setenv(name, value)
    lake, settings = Lake(tmp_path), NetsuiteSettings(tax_enabled=True, include_shipping=True)
    with NetsuiteClient(NetsuiteSecrets.from_env(), timezone="UTC", settings=settings) as client:
        for month in ("2025-01", "2025-02", "2025-03", "2025-04", "2025-05", "2025-06", "2025-09"):
            pages = list(client.listing(month))
            lake.land(
                "netsuite", month, pages, run_id="r", api_version="v1", objects=SOURCE.objects
            )
            receivable = {
                line["transaction"]: Decimal(line["foreignamount"])
                for page in pages
                if page.object == LINE
                for line in json.loads(page.body)["items"]
                if line["mainline"] == "T"
            }
            found = canonical.build(
                lake, SOURCE, RecordType.INVOICES, month, settings, Site("UTC", "USD", None)
            )
            sums: dict[str, Decimal] = {}
            for row in pq.read_table(lake.root / found.path / "rows.parquet").to_pylist():
                before = sums.get(row["document_id"], Decimal(0))
                sums[row["document_id"]] = before + row["amount"] + (row["tax_amount"] or 0)
            assert sums == receivable
