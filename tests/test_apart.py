"""What the pipeline builds of changes stands on this: a document's rows do not depend on others."""

import random
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import duckdb
import pytest
from conftest import Sandbox

from resources.registry import resource_of
from revrec_pipeline import canonical, versions
from revrec_pipeline.engine import engine
from revrec_pipeline.lake import Lake
from revrec_pipeline.model import CANONICAL, RecordType
from revrec_pipeline.settings import Settings
from revrec_pipeline.sources import SOURCES

MONTHS = ("2026-04", "2026-05")
#: Settings under which a source yields every record type that it can, and joins most.
SETTINGS = """\
[site]
timezone = "America/New_York"
history_start = "2026-04"
[sources.hubspot]
invoices = true
[sources.stripe]
invoice_equals_contract = true
[sources.xero]
invoice_equals_contract = true
[sources.quickbooks]
invoice_equals_contract = true
[sources.netsuite]
invoice_equals_contract = true
[sources.chargebee]
invoice_equals_contract = true
invoice_period_equals_contract_term = false
"""
APART = [(name, kind) for name, source in SOURCES.items() for kind in source.apart]


def test_all_sources_but_sage_intacct_are_apart() -> None:
    assert {name for name, source in SOURCES.items() if source.apart} == {
        "chargebee",
        "hubspot",
        "netsuite",
        "quickbooks",
        "salesforce",
        "stripe",
        "xero",
    }


@pytest.fixture(scope="module")
def lakes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lakes")


@pytest.fixture
def configuration(sandbox: Sandbox, lakes: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("REVREC_CONFIG", str(lakes / "revrec.toml"))
    (lakes / "revrec.toml").write_text(SETTINGS)
    for name, value in sandbox.env.items():
        monkeypatch.setenv(name, value)
    return Settings.load()


def listed(lakes: Path, name: str, configuration: Settings) -> Lake:
    """Both months of a source as they land; several tests read them."""
    lake = Lake(lakes / name)
    if not lake.landings(name):
        source = SOURCES[name].under(configuration.source(name))
        with resource_of(name, configuration).client() as client:
            for month in MONTHS:
                lake.land(
                    name,
                    month,
                    client.listing(month),
                    run_id="listing",
                    api_version=client.api_version,
                    objects=source.objects,
                )
    return lake


@pytest.mark.parametrize(("name", "kind"), APART, ids=[f"{name}-{kind}" for name, kind in APART])
def test_a_document_has_the_same_rows_and_totals_whatever_is_built_beside_it(
    tmp_path: Path, lakes: Path, configuration: Settings, name: str, kind: RecordType
) -> None:
    lake = listed(lakes, name, configuration)
    everything = built(tmp_path / "all", lake, configuration, name, kind, None)
    ids = sorted({document for document, _ in everything["rows"]})
    assert len(ids) >= 2
    draw = random.Random(f"{name}-{kind}")
    for turn, share in enumerate((0.1, 0.4, 0.7)):
        some = set(draw.sample(ids, max(1, round(len(ids) * share))))
        alone = built(tmp_path / str(turn), lake, configuration, name, kind, some)
        for what in ("rows", "document_total"):
            assert alone[what] == of(everything[what], some), what


def of(rows: Counter[Any], documents: Iterable[str]) -> Counter[Any]:
    return Counter({row: times for row, times in rows.items() if row[0] in documents})


def built(
    folder: Path,
    lake: Lake,
    configuration: Settings,
    name: str,
    kind: RecordType,
    only: set[str] | None,
) -> dict[str, Counter[Any]]:
    """The rows and totals by document, of `only` these documents of the second month."""
    folder.mkdir()
    source = SOURCES[name].under(configuration.source(name))
    known = lake.landings(name)
    landings = versions.relevant(known, MONTHS[1])
    with engine(folder) as db:
        versions.choose(db, lake, known, landings, MONTHS[1])
        if only is not None:
            db.execute("DELETE FROM current WHERE id NOT IN (SELECT unnest(?))", [sorted(only)])
        canonical._open_pages(db, lake, source, landings, MONTHS[1])
        source.rows(db, kind, configuration.source(name), configuration.mapping_site())
        columns = ", ".join(CANONICAL[kind].names)
        return {
            "rows": documents(db, f"SELECT document_id, {columns} FROM rows"),
            "document_total": documents(db, "FROM document_total") if totals(db) else Counter(),
        }


def totals(db: duckdb.DuckDBPyConnection) -> bool:
    found = "SELECT 1 FROM duckdb_views() WHERE view_name = 'document_total'"
    return bool(db.execute(found).fetchall())


def documents(db: duckdb.DuckDBPyConnection, query: str) -> Counter[Any]:
    return Counter((row[0], repr(row)) for row in db.execute(query).fetchall())
