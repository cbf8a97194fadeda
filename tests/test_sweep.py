"""An id sweep finds what a source no longer has, and what the lake never saw."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from resources.client import IDS
from revrec_pipeline import retention, sweep
from revrec_pipeline.errors import LakeError
from revrec_pipeline.lake import CHANGES, KEYS, Lake, Landing, Page

NOON = datetime(2026, 2, 3, 12, tzinfo=UTC)


def land(lake: Lake, window: str, *keys: tuple[str, str, str | None, str | None]) -> Landing:
    """A landing of documents (id, version, month, window)."""
    rows = [dict(zip(KEYS.names, key, strict=True)) for key in keys]
    page = Page(
        object="invoice",
        body=str(rows).encode(),
        request="GET /",
        server_time=NOON,
        records=len(rows),
        keys=pa.RecordBatch.from_pylist(rows, KEYS),
    )
    return lake.land("stripe", window, [page], run_id="r", api_version="v", objects=["invoice"])


def ids(*names: str) -> pa.Table:
    return pa.Table.from_pylist([{"object": "invoice", "id": name} for name in names], IDS)


def test_what_the_source_lacks_is_gone_and_what_the_lake_lacks_is_unknown(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    land(
        lake,
        "2026-01",
        ("in_1", "1", "2026-01", "2026-01"),
        ("in_2", "1", "2026-02", "2026-01"),  # counts in another month than it is listed in
    )
    land(lake, CHANGES, ("in_3", "2", "2026-01", "2026-01"))

    found = sweep.compare(lake, "stripe", "2026-01", ids("in_1", "in_9"), ["invoice"])

    assert found.gone.to_pylist() == [
        {"object": "invoice", "id": "in_2", "version": "1"},
        {"object": "invoice", "id": "in_3", "version": "2"},
    ]
    assert found.unknown == 1


def test_a_tombstone_takes_a_document_out_until_it_is_listed_again(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    document = ("in_1", "1", "2026-01", "2026-01")
    land(lake, "2026-01", document)
    gone = sweep.compare(lake, "stripe", "2026-01", ids(), ["invoice"])
    pages = sweep.tombstones(gone, NOON)
    swept = lake.land("stripe", CHANGES, pages, run_id="r", api_version="v", objects=["invoice"])

    assert swept.touched == ("2026-01",)
    assert sweep.compare(lake, "stripe", "2026-01", ids(), ["invoice"]).gone.num_rows == 0
    assert sweep.compare(lake, "stripe", "2026-01", ids("in_1"), ["invoice"]).unknown == 1

    land(lake, "2026-01", document)  # it was only hidden, and has its old version
    assert sweep.compare(lake, "stripe", "2026-01", ids("in_1"), ["invoice"]).unknown == 0


def test_a_month_that_never_landed_has_only_unknown_documents(tmp_path: Path) -> None:
    found = sweep.compare(Lake(tmp_path), "stripe", "2026-01", ids("in_1", "in_2"), ["invoice"])

    assert (found.gone.num_rows, found.unknown) == (0, 2)


def test_retention_removes_only_old_landings_that_nothing_needs(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    old = land(lake, "2026-01", ("in_1", "1", "2026-01", "2026-01"))
    needed = land(lake, CHANGES, ("in_1", "2", "2026-01", "2026-01"))
    traced = land(lake, CHANGES, ("in_1", "3", "2026-01", "2026-01"))
    newest = land(lake, "2026-01", ("in_2", "1", "2026-01", "2026-01"))
    last = land(lake, CHANGES, ("in_1", "4", "2026-01", "2026-01"))

    later = datetime.now(UTC).replace(year=datetime.now(UTC).year + 1)
    found = retention.removable(lake, "stripe", [traced.id], days=30, at=later)

    assert [one.id for one in found] == [old.id, needed.id]
    assert retention.removable(lake, "stripe", [], days=30) == []
    for one in found:
        retention.remove(lake, one)
    assert [one.id for one in lake.landings("stripe")] == [traced.id, newest.id, last.id]


@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_a_file_of_the_lake_that_cannot_be_read_is_named_with_what_to_do(
    tmp_path: Path, damage: str
) -> None:
    lake = Lake(tmp_path)
    landing = land(lake, "2026-01", ("in_1", "1", "2026-01", "2026-01"))
    file = tmp_path / landing.folder / "keys.parquet"
    file.unlink() if damage == "missing" else file.write_bytes(b"PAR1 and then nothing")

    with pytest.raises(LakeError) as said:
        sweep.compare(lake, "stripe", "2026-01", ids(), ["invoice"])

    assert str(said.value) == (
        f"{file} is {damage}; restore it from a backup, or remove the folder {file.parent} and "
        "run `revrec sync stripe --from 2026-01 --to 2026-01`"
    )
