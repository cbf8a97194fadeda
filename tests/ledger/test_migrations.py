"""The schema in `migrations/` is what the code believes, on both back ends."""

from importlib.resources import files
from pathlib import Path

import pytest

from revrec_pipeline.ledger import Ledger, bulk, lines, migrate, open_ledger
from revrec_pipeline.ledger.migrate import migrations
from revrec_pipeline.model import CANONICAL, RecordType

OWN = [
    ("job_id", "BIGINT"),
    ("batch_id", "TEXT"),
    ("loaded_at", "TIMESTAMPTZ"),
    ("removed_at", "TIMESTAMPTZ"),
]
SPELLED = {
    "text": "TEXT",
    "character varying": "TEXT",
    "varchar": "TEXT",
    "timestamp with time zone": "TIMESTAMPTZ",
}
#: What `checks` refuses when it is missing, and what tells where a row came from.
REQUIRED = {
    "source", "record_type", "period", "document_type", "document_id", "line_id", "source_version",
    "raw_batch", "raw_page", "job_id", "batch_id", "loaded_at",
}  # fmt: skip


def test_each_migration_has_a_number_of_its_own() -> None:
    """Gaps are allowed: branches take numbers before they are merged."""
    folder = files("revrec_pipeline.ledger") / "migrations"
    written = [file.name for file in folder.iterdir() if file.name.endswith(".sql")]
    assert len(migrations()) == len(written)
    assert min(migrations()) == 1


def test_a_lower_number_that_arrives_after_a_higher_one_is_still_applied(
    ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = migrations()
    higher = {900: "CREATE TABLE early (id INTEGER)"}
    lower = {800: "CREATE TABLE late (id INTEGER)"}
    monkeypatch.setattr(migrate, "migrations", lambda: released | higher)
    open_ledger(ledger_url).close()
    monkeypatch.setattr(migrate, "migrations", lambda: released | lower | higher)
    opened = open_ledger(ledger_url)
    with opened.transaction() as tx:
        assert tx.rows("SELECT id FROM late") == tx.rows("SELECT id FROM early") == []
        assert tx.one("SELECT count(*) AS n FROM schema_version") == {"n": len(released) + 2}
    opened.close()


@pytest.mark.parametrize("record_type", list(CANONICAL))
def test_live_loaded_rows_have_the_columns_of_the_model(
    ledger: Ledger, record_type: RecordType
) -> None:
    with ledger.transaction() as tx:
        found = tx.rows(
            """
            SELECT column_name AS name, lower(data_type) AS type, is_nullable,
                numeric_precision::INTEGER AS p, numeric_scale::INTEGER AS s
            FROM information_schema.columns
            WHERE table_name = :table AND table_schema = current_schema()
            ORDER BY ordinal_position
            """,
            table=lines.TABLE[record_type],
        )
    schema = CANONICAL[record_type]
    expected = [
        (name, bulk.sql_type(schema.field(name).type)) for name in lines.columns(record_type)
    ]
    stored = [
        (
            row["name"],
            f"DECIMAL({row['p']}, {row['s']})"
            if row["type"].startswith(("decimal", "numeric"))
            else SPELLED.get(row["type"], row["type"].upper()),
        )
        for row in found
    ]
    assert stored == expected + OWN
    assert {row["name"] for row in found if row["is_nullable"] == "NO"} == REQUIRED


def test_lines_stay_when_a_duckdb_ledger_loses_their_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = migrations()
    before = {version: sql for version, sql in released.items() if version < 7}
    line = dict.fromkeys(REQUIRED, "1") | {"loaded_at": "2026-01-01 00:00:00+00"}
    names, values = ", ".join(line), ", ".join(f"'{value}'" for value in line.values())
    url = f"duckdb:///{tmp_path / 'older.duckdb'}"
    monkeypatch.setattr(migrate, "migrations", lambda: before)
    with open_ledger(url).transaction() as tx:
        tx.execute(f"INSERT INTO order_line ({names}) VALUES ({values})")
    monkeypatch.setattr(migrate, "migrations", lambda: released)
    with open_ledger(url).transaction() as tx:
        (found,) = tx.rows("SELECT * FROM order_line")
    assert (found["document_id"], found["raw_page"], found["customer_id"]) == ("1", 1, None)


def test_postgresql_keeps_the_key_of_the_lines_and_duckdb_needs_none(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        keys = tx.rows(
            "SELECT table_name FROM information_schema.table_constraints "
            "WHERE table_name IN ('order_line', 'billing_line', 'expense_line') "
            "AND constraint_type = 'PRIMARY KEY'"
        )
        assert len(keys) == {"postgresql": 3, "duckdb": 0}[tx.dialect]
