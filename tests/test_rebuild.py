"""A month that is built again of what changed is what building it whole makes of the same lake."""

import shutil
from collections import Counter
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_canonical import SITE, SOURCE, land, line, page_of

from revrec_pipeline import batch_files, canonical
from revrec_pipeline.canonical import Built
from revrec_pipeline.lake import CHANGES, Lake
from revrec_pipeline.mapping import SourceSettings
from revrec_pipeline.model import RecordType

MONTHS = ("2026-01", "2026-02")
APART = replace(SOURCE, apart=(RecordType.INVOICES,))


@pytest.fixture(autouse=True)
def however_much_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canonical, "_CHANGED_AT_MOST", 100)


def build(lake: Lake, month: str = "2026-01", **how: Any) -> Built:
    source = how.pop("source", APART)
    return canonical.build(lake, source, RecordType.INVOICES, month, SourceSettings(), SITE, **how)


def whole(lake: Lake, folder: Path, month: str = "2026-01") -> tuple[Lake, Built]:
    """The month as a lake that has the same landings, and never built anything, builds it."""
    other = Lake(folder)
    shutil.copytree(lake.root / "raw", folder / "raw")
    return other, build(other, month)


def stored(lake: Lake, built: Built) -> dict[str, Counter[str]]:
    """The rows of each of the batch's files, however they are laid out."""
    found = {}
    with duckdb.connect() as db:
        for name in ("rows", "held", "outgoing", "totals", "failed", "errors", "current"):
            document = {"errors": "record_id", "current": "id"}.get(name, "document_id")
            table = batch_files.table(lake.root, [lake.root / built.path], name, document=document)
            rows = db.sql(f"SELECT * EXCLUDE (folder) FROM {table}").fetchall()
            found[name] = Counter(map(repr, rows))
    return found


def has_base(lake: Lake, built: Built) -> bool:
    recipe = batch_files.recipe(lake.root / built.path)
    return recipe is not None and recipe.base is not None


def same(lake: Lake, built: Built, folder: Path, month: str = "2026-01") -> None:
    other, expected = whole(lake, folder, month)
    assert stored(lake, built) == stored(other, expected)
    for name in ("totals", "errors"):
        assert getattr(built, name).equals(getattr(expected, name)), name
    assert built.failed_rows == expected.failed_rows
    assert (built.lost, built.damaged) == (expected.lost, expected.damaged)
    assert built.landings == expected.landings


DOCUMENTS = st.builds(
    dict,
    document=st.sampled_from("abcd"),
    version=st.sampled_from("123456"),
    period=st.sampled_from(MONTHS),
    #: Where the source lists it: mostly in its own month.
    window=st.sampled_from((None, None, *MONTHS)),
    kind=st.sampled_from(("whole", "whole", "flagged", "excluded", "gone")),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("list"), st.sampled_from(MONTHS), st.lists(DOCUMENTS, max_size=4)),
        st.tuples(st.just("change"), st.none(), st.lists(DOCUMENTS, min_size=1, max_size=2)),
        st.tuples(st.just("change"), st.none(), st.lists(DOCUMENTS, min_size=1, max_size=2)),
        st.tuples(st.just("build"), st.sampled_from(MONTHS), st.just([])),
    ),
    min_size=3,
    max_size=9,
)
PARTS: dict[str, dict[str, Any]] = {
    "whole": {},
    "flagged": {"product_code": None},
    "excluded": {"excluded_by": "draft"},
}


def rows_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Two lines that say which version they are."""
    return [
        line(
            document["document"],
            number,
            period=document["period"],
            amount=f"{document['version']}.{number}0",
            source_version=document["version"],
            **(PARTS[document["kind"]] if number == 1 else {}),
        )
        for number in (1, 2)
    ]


def step(lake: Lake, window: str, documents: list[dict[str, Any]]) -> None:
    """Land the documents, each once; a listing has those of its window, and no deleted ones."""
    once = {each["document"]: each for each in documents}.values()
    keys, lines = [], []
    for each in once:
        gone = each["kind"] == "gone"
        listed = window if window != CHANGES else each["window"] or each["period"]
        if gone and window != CHANGES:
            continue
        keys.append(
            {
                "id": each["document"],
                "version": each["version"],
                "period": None if gone else each["period"],
                "window": None if gone else listed,
            }
        )
        lines += [] if gone else rows_of(each)
    page = page_of(lines, keys)
    lake.land("plain", window, [page], run_id="run", api_version="1", objects=SOURCE.objects)


@given(STEPS)
@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_whatever_landed_what_changed_is_built_as_the_whole_month_would_be(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, Any]]
) -> None:
    lake = Lake(tmp_path_factory.mktemp("lake"))
    numbers = count()
    for month in MONTHS:
        step(lake, month, [])
        build(lake, month)
    for kind, month, documents in [*steps, *(("build", month, []) for month in MONTHS)]:
        if kind == "build":
            folder = tmp_path_factory.mktemp("whole") / str(next(numbers))
            same(lake, build(lake, month), folder, month)
        else:
            step(lake, month or CHANGES, documents)


def test_a_changed_document_is_built_alone_and_the_others_stay_where_they_are(
    tmp_path: Path,
) -> None:
    lake = Lake(tmp_path / "lake")
    land(lake, "2026-01", *(line(name) for name in "abc"))
    first = build(lake)
    land(lake, CHANGES, line("b", amount="7.00"), version="2")
    second = build(lake)
    assert has_base(lake, second)
    with duckdb.connect() as db:
        own = db.sql(f"SELECT document_id FROM '{lake.root / second.path}/rows.parquet'").fetchall()
    assert own == [("b",)]
    assert not has_base(lake, first)
    same(lake, second, tmp_path / "whole")


def test_many_syncs_build_upon_the_month_that_was_built_whole(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    land(lake, "2026-01", *(line(name) for name in "abc"))
    base = build(lake)
    for version, name in enumerate("abca", 2):
        land(lake, CHANGES, line(name, amount=f"{version}.00"), version=str(version))
        built = build(lake)
        recipe = batch_files.recipe(lake.root / built.path)
        assert recipe is not None
        assert recipe.base == str(base.path)
    same(lake, built, tmp_path / "whole")


def test_a_month_is_built_whole_when_too_much_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canonical, "_CHANGED_AT_MOST", 0.5)
    lake = Lake(tmp_path / "lake")
    land(lake, "2026-01", *(line(name) for name in "abcd"))
    build(lake)
    land(lake, CHANGES, line("a", amount="7.00"), line("b", amount="7.00"), version="2")
    assert has_base(lake, build(lake))
    land(lake, CHANGES, line("c", amount="7.00"), version="2")
    assert not has_base(lake, build(lake))


def test_a_month_is_built_whole_after_a_listing_and_when_nothing_is_new(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    land(lake, "2026-01", line("a"), line("b"))
    build(lake)
    assert not has_base(lake, build(lake))
    land(lake, "2026-01", line("a"))
    relisted = build(lake)
    assert not has_base(lake, relisted)
    land(lake, CHANGES, line("a", amount="7.00"), version="2")
    assert has_base(lake, build(lake))
    assert not has_base(lake, build(lake))


@pytest.mark.parametrize("what", ["settings", "code", "landing"])
def test_a_batch_of_other_settings_code_or_landings_is_no_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    lake = Lake(tmp_path / "lake")
    old = land(lake, CHANGES, line("z", period="2025-12"))
    land(lake, "2026-01", line("a"), line("b"))
    build(lake)
    land(lake, CHANGES, line("a", amount="7.00"), version="2")
    if what == "landing":
        shutil.rmtree(lake.root / old.folder)
        built = build(lake)
    elif what == "code":
        monkeypatch.setattr(canonical, "_code", lambda: "newer")
        built = build(lake)
    else:
        built = canonical.build(
            lake,
            APART,
            RecordType.INVOICES,
            "2026-01",
            SourceSettings(exclude_products=("SEAT",)),
            SITE,
        )
    assert not has_base(lake, built)


def test_what_another_months_listing_lacks_by_now_leaves_the_month(tmp_path: Path) -> None:
    """Stripe lists by the day of creation, and an invoice counts when it is finalised."""
    lake = Lake(tmp_path / "lake")
    late, other = (
        {"document": name, "version": "1", "period": "2026-01", "window": None, "kind": "whole"}
        for name in "ab"
    )
    step(lake, "2026-02", [late])
    step(lake, "2026-01", [other])
    build(lake)
    step(lake, "2026-02", [])
    built = build(lake)
    assert has_base(lake, built)
    same(lake, built, tmp_path / "whole")
    assert built.totals["rows"].to_pylist() == [2]


def test_a_version_that_was_newer_in_another_month_is_not_brought_back_by_an_older_one(
    tmp_path: Path,
) -> None:
    lake = Lake(tmp_path / "lake")
    land(lake, "2026-02", line("a", period="2026-02"), version="3")
    land(lake, "2026-01", line("b"))
    build(lake)
    land(lake, CHANGES, line("a", amount="7.00"), version="2")
    built = build(lake)
    assert has_base(lake, built)
    assert built.totals["rows"].to_pylist() == [1]
    same(lake, built, tmp_path / "whole")


def test_a_document_that_is_lost_among_what_changed_is_told_by_the_whole_month(
    tmp_path: Path,
) -> None:
    lake = Lake(tmp_path / "lake")
    land(lake, "2026-01", line("a"), line("b"))
    build(lake)
    keys = [{"id": "b", "version": "2", "period": "2026-01", "window": "2026-01"}]
    lake.land(
        "plain",
        CHANGES,
        [page_of([], keys)],
        run_id="run",
        api_version="1",
        objects=SOURCE.objects,
    )
    built = build(lake)
    assert built.lost == ("b",)
    assert batch_files.recipe(lake.root / built.path) is None
    assert pa.compute.sum(built.totals["rows"]).as_py() == 1
