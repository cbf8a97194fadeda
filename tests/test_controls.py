"""A loss at any stage is caught, and names the records: pages, lines, stored rows, deliveries."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from batches import Books
from canonical_rows import billing_line
from pipeline import Pipeline

from revrec_pipeline import canonical, controls, delivery
from revrec_pipeline.conversion.sheets import WrittenFile
from revrec_pipeline.errors import LakeError, LedgerError
from revrec_pipeline.lake import Lake
from revrec_pipeline.ledger import lines, open_ledger, sync_errors
from revrec_pipeline.mapping import Source
from revrec_pipeline.model import RecordType, Route
from revrec_pipeline.sources import SOURCES

MONTH = "2025-05"


def landed(pipeline: Pipeline) -> tuple[Lake, Path]:
    """Stripe's month as it landed: the lake, and the file of its invoices' pages."""
    pipeline.run("sync_stripe", MONTH)
    lake = Lake(pipeline.settings.lake_root)
    (landing,) = lake.landings("stripe")
    return lake, lake.root / landing.folder / "invoice.parquet"


def build(pipeline: Pipeline, source: Source = SOURCES["stripe"]) -> canonical.Built:
    return canonical.build(
        Lake(pipeline.settings.lake_root),
        source,
        RecordType.INVOICES,
        MONTH,
        pipeline.settings.source("stripe"),
        pipeline.settings.mapping_site(),
    )


def rewrite(file: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Put other content into a file of the lake."""
    table = pq.read_table(file)
    pq.write_table(change(table), file)


def problems(built: canonical.Built) -> list[tuple[str, str]]:
    """Record and message of what does not tie."""
    return [
        (row["record_id"], row["message"])
        for row in built.errors.to_pylist()
        if row["code"] == "PR_INPUT_CONTROL_DIFF"
    ]


# -- pages ---------------------------------------------------------------------------------------


def test_whatever_the_sandbox_says_ties(pipeline: Pipeline) -> None:
    landed(pipeline)
    built = build(pipeline)
    assert built.damaged == ()
    assert problems(built) == []


def test_a_dropped_page_is_missed_and_its_records_are_named(pipeline: Pipeline) -> None:
    lake, file = landed(pipeline)
    keys = pq.read_table(file.with_name("keys.parquet")).to_pylist()
    of_page = sorted(key["id"] for key in keys if (key["object"], key["page"]) == ("invoice", 0))
    rewrite(file, lambda table: table.filter(pa.compute.not_equal(table["page"], 0)))
    (damage,) = controls.damaged(lake, lake.landings("stripe"), ["invoice"])
    assert damage.what.startswith("page 0 is missing of ")
    assert list(damage.records) == of_page


def test_a_changed_amount_on_a_page_is_seen_by_the_hash_of_what_landed(pipeline: Pipeline) -> None:
    _, file = landed(pipeline)

    def dearer(table: pa.Table) -> pa.Table:
        bodies = [body.replace('"amount": 1', '"amount": 2') for body in table["body"].to_pylist()]
        return table.set_column(table.schema.get_field_index("body"), "body", [bodies])

    rewrite(file, dearer)
    (damage,) = build(pipeline).damaged
    assert damage.object == "invoice"
    assert damage.what.endswith("changed since the landing")
    assert damage.records


def test_a_doubled_page_is_one_too_many(pipeline: Pipeline) -> None:
    _, file = landed(pipeline)
    rewrite(file, lambda table: pa.concat_tables([table, table.slice(0, 1)]))
    (damage,) = build(pipeline).damaged
    assert "landed" in damage.what


def test_a_file_that_cannot_be_read_is_damage_too(pipeline: Pipeline) -> None:
    lake, file = landed(pipeline)
    file.write_bytes(file.read_bytes()[:100])
    (damage,) = controls.damaged(lake, lake.landings("stripe"), ["invoice"])
    assert damage.what.startswith("cannot be read: ")
    assert damage.records


def test_a_document_that_is_lost_from_the_keys_stops_its_month(pipeline: Pipeline) -> None:
    """It would be taken back as if the vendor had deleted it."""
    _, file = landed(pipeline)
    keys = file.with_name("keys.parquet")
    rewrite(keys, lambda table: table.slice(1))
    with pytest.raises(LakeError, match=r"keys\.parquet is not as it landed: .* run `revrec sync"):
        build(pipeline)


def test_nothing_of_a_month_with_damaged_pages_is_delivered_and_each_record_is_an_error(
    pipeline: Pipeline,
) -> None:
    _, file = landed(pipeline)
    rewrite(file, lambda table: pa.concat_tables([table, table.slice(0, 1)]))
    result = pipeline.run("rebuild_stripe", MONTH)
    red = [each for each in result.get_asset_check_evaluations() if not each.passed]
    assert "controls" in [each.check_name for each in red]
    job = pipeline.jobs()[-1]
    assert job["counts"]["source"] == 0
    with pipeline.ledger.transaction() as tx:
        found = [
            row for row in sync_errors.list_errors(tx) if row["code"] == "PR_INPUT_CONTROL_DIFF"
        ]
    assert {row["job_id"] for row in found} == {job["id"]}
    assert any("restore the lake's file" in row["message"] for row in found)


# -- from pages to rows --------------------------------------------------------------------------

PLANTED = {
    "a dropped row": (
        "SELECT * FROM true_rows QUALIFY row_number() OVER "
        "(PARTITION BY document_id ORDER BY line_id) > 1 OR count(*) OVER "
        "(PARTITION BY document_id) = 1",
        "arrived",
    ),
    "a doubled row": ("FROM true_rows UNION ALL FROM true_rows", "arrived"),
    "a changed amount": (
        "SELECT * REPLACE ((amount + 0.01)::DECIMAL(18, 4) AS amount) FROM true_rows",
        "its lines sum to",
    ),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_what_a_mapping_loses_doubles_or_changes_holds_its_documents_back(
    pipeline: Pipeline, planted: str
) -> None:
    landed(pipeline)
    real = SOURCES["stripe"]
    wrong, words = PLANTED[planted]

    def rows(db: duckdb.DuckDBPyConnection, *how: Any) -> None:
        real.rows(db, *how)
        db.execute("ALTER VIEW rows RENAME TO true_rows")
        db.execute(f"CREATE VIEW rows AS {wrong}")

    broken = Source(
        real.name, real.title, real.objects, real.documents, real.settings, real.record_types, rows
    )
    built = build(pipeline, broken)
    found = problems(built)
    assert found
    assert all(words in message and record in message for record, message in found)
    held = pq.read_table(pipeline.settings.lake_root / built.path / "held.parquet")
    assert {record for record, _ in found} <= set(held["document_id"].to_pylist())
    assert built.failed_rows["controls"] == len(found)


# -- from rows to deliveries ---------------------------------------------------------------------

TWO = [billing_line("in_1", "il_1"), billing_line("in_1", "il_2", amount=Decimal("20.5"))]
OTHER = [billing_line("in_2", "il_3")]


def ready(tmp_path: Path) -> tuple[Books, int, Path]:
    """A job with a batch that says what was stored, as `canonical` writes it."""
    books = Books(open_ledger(f"duckdb:///{tmp_path / 'ledger.duckdb'}"), tmp_path / "lake")
    job = books.synced({"2026-01": [*TWO, *OTHER]})
    (folder,) = (books.lake / "canonical/stripe/invoices/2026-01").iterdir()
    return books, job, folder


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.slice(1),
        lambda table: pa.concat_tables([table, table.slice(0, 1)]),
        lambda table: table.set_column(
            table.schema.get_field_index("amount"),
            table.schema.field("amount"),
            pa.array([Decimal("99"), Decimal("20.5"), Decimal("100")], pa.decimal128(18, 4)),
        ),
    ],
    ids=["dropped", "doubled", "changed"],
)
def test_a_stored_row_that_is_lost_doubled_or_changed_stops_the_delivery_by_name(
    tmp_path: Path, change: Callable[[pa.Table], pa.Table]
) -> None:
    books, job, folder = ready(tmp_path)
    rewrite(folder / "rows.parquet", change)
    with pytest.raises(LakeError, match=r"nothing of job 1 was delivered; records: in_1\. Restore"):
        books.deliver(job)
    assert books.documents() == {}
    assert books.states(job) == {"2026-01": ("ready", "conversion")}


def test_a_document_that_is_no_longer_held_back_stops_the_delivery(tmp_path: Path) -> None:
    books, job, folder = ready(tmp_path)
    rewrite(folder / "held.parquet", lambda _: pa.table({"document_id": ["in_2"]}))
    with pytest.raises(LakeError, match="records: in_2"):
        books.deliver(job)


def test_what_was_stored_as_it_is_goes_out(tmp_path: Path) -> None:
    books, job, _ = ready(tmp_path)
    assert books.deliver(job).documents == {"added": 2}


def test_a_conversion_file_that_would_lack_a_line_is_not_delivered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    books, job, _ = ready(tmp_path)
    write = delivery.write_files

    def one_less(*arguments: Any, **how: Any) -> list[WrittenFile]:
        return [WrittenFile(file.path, file.lines - 1) for file in write(*arguments, **how)]

    monkeypatch.setattr(delivery, "write_files", one_less)
    with pytest.raises(LakeError, match=r"the \.xlsx of job 1 would hold 2 of 3 lines"):
        books.deliver(job)
    assert books.documents() == {}


def test_a_live_load_that_loses_a_line_is_rolled_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    books, job, _ = ready(tmp_path)
    books.set_period()
    upsert = lines.upsert

    def one_less(tx: Any, record_type: RecordType, file: Path, **how: Any) -> int:
        return upsert(tx, record_type, pq.read_table(file).slice(1), **how)

    monkeypatch.setattr(lines, "upsert", one_less)
    with pytest.raises(LedgerError, match=r"3 rows over 220\.5000 USD were due, 2 over 1"):
        books.deliver(job, Route.LIVE)
    assert books.loaded() == []
    assert books.documents() == {}
