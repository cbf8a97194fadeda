import errno
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from revrec_pipeline import versions
from revrec_pipeline.errors import LakeError, SourceSchemaError
from revrec_pipeline.lake import CHANGES, KEYS, Lake, Landing, Page

NOON = datetime(2026, 2, 3, 12, tzinfo=UTC)


def page(*keys: tuple[str, str, str], body: str | None = None, object_: str = "invoice") -> Page:
    """A page of documents (id, version, month)."""
    rows = [dict(zip(KEYS.names, (*key, key[2]), strict=True)) for key in keys]
    text = body if body is not None else json.dumps([key[0] for key in keys])
    return Page(
        object=object_,
        body=text.encode(),
        request="GET /v1/invoices?limit=100",
        server_time=NOON,
        records=len(keys),
        keys=pa.RecordBatch.from_pylist(rows, KEYS),
        request_id="req_1",
    )


def land(lake: Lake, window: str, *pages: Page) -> Landing:
    return lake.land(
        "stripe", window, pages, run_id="run", api_version="v1", objects=("invoice", "credit_note")
    )


def test_a_page_is_kept_byte_for_byte_with_its_request_and_hash(tmp_path: Path) -> None:
    body = '{\n  "name": "Zoë\\u00df",\n  "amount": 1.10\n}'
    landing = land(Lake(tmp_path), "2026-01", page(("in_1", "1", "2026-01"), body=body))
    stored = pq.read_table(tmp_path / landing.folder / "invoice.parquet").to_pylist()
    assert [row["body"] for row in stored] == [body]
    assert stored[0]["request"] == "GET /v1/invoices?limit=100"
    assert stored[0]["request_id"] == "req_1"
    assert stored[0]["server_time"] == NOON
    assert landing.objects["invoice"]["pages"] == 1
    assert landing.objects["invoice"]["bytes"] == len(body.encode())
    assert landing.objects["credit_note"]["pages"] == 0


def test_a_landing_is_noted_before_it_appears_and_not_at_all_if_that_fails(tmp_path: Path) -> None:
    lake = Lake(tmp_path)

    def note(landing: Landing) -> None:
        assert landing.touched == ("2026-01",)
        assert lake.landings("stripe") == []
        raise OSError("the ledger is gone")

    with pytest.raises(OSError, match="the ledger is gone"):
        lake.land(
            "stripe",
            "2026-01",
            [page(("in_1", "1", "2026-01"))],
            run_id="run",
            api_version="v1",
            objects=("invoice", "credit_note"),
            note=note,
        )
    assert lake.landings("stripe") == []


def test_a_landing_reads_back_as_it_was_written(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    landing = land(lake, "2026-01", page(("in_1", "1", "2026-01")))
    assert lake.landings("stripe") == [landing]


def test_the_next_writer_removes_what_a_killed_one_left_and_nothing_else(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    program = (
        "import sys, time; from pathlib import Path; from revrec_pipeline.lake import Lake\n"
        "with Lake(Path(sys.argv[1])).scratch() as folder:\n"
        "    (folder / 'half').write_text('written'); print(folder, flush=True); time.sleep(600)"
    )
    others = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    outputs = [other.stdout for other in others if other.stdout]
    dead, alive = (Path(output.readline().strip()) for output in outputs)
    others[0].kill()
    others[0].communicate()

    with lake.scratch() as mine:
        assert sorted((tmp_path / ".partial").iterdir()) == sorted([mine, alive])
        assert not dead.exists()
        assert (alive / "half").read_text() == "written"
    others[1].kill()
    others[1].communicate()


def test_a_pull_that_breaks_off_leaves_nothing_behind(tmp_path: Path) -> None:
    def broken() -> Iterator[Page]:
        yield page(("in_1", "1", "2026-01"))
        raise ConnectionResetError

    lake = Lake(tmp_path)
    with pytest.raises(ConnectionResetError):
        lake.land("stripe", "2026-01", broken(), run_id="r", api_version="v", objects=("invoice",))
    assert lake.landings("stripe") == []
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


def test_a_page_that_repeats_itself_is_refused_and_nothing_lands(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    with pytest.raises(SourceSchemaError, match="answered the page before it once more"):
        land(lake, "2026-01", page(("in_1", "1", "2026-01")), page(("in_1", "1", "2026-01")))
    assert lake.landings("stripe") == []


def test_a_full_disk_is_one_line_that_names_the_lake(tmp_path: Path) -> None:
    def full() -> Iterator[Page]:
        yield page(("in_1", "1", "2026-01"))
        raise OSError(errno.ENOSPC, "No space left on device")

    lake = Lake(tmp_path)
    with pytest.raises(LakeError, match="No space left on device; make room") as caught:
        lake.land("stripe", "2026-01", full(), run_id="r", api_version="v", objects=("invoice",))
    assert str(tmp_path) in str(caught.value)
    assert lake.landings("stripe") == []


def test_a_change_touches_the_month_of_a_document_and_the_month_it_left(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    land(lake, "2026-01", page(("in_1", "1", "2026-01"), ("in_2", "1", "2026-01")))
    moved = land(lake, CHANGES, page(("in_1", "2", "2026-03")))
    assert moved.periods == ("2026-03",)
    assert moved.touched == ("2026-01", "2026-03")


def digested(*documents: tuple[str, str, str, str]) -> Page:
    """A page of documents (id, version, month, digest)."""
    return replace(
        page(*(document[:3] for document in documents)),
        digests=pa.array([document[3] for document in documents], pa.string()),
    )


def test_a_document_that_says_what_it_said_touches_no_month(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    land(lake, "2026-01", digested(("in_1", "1", "2026-01", "a"), ("in_2", "1", "2026-01", "b")))
    again = land(
        lake, CHANGES, digested(("in_1", "2", "2026-01", "a"), ("in_2", "2", "2026-01", "b"))
    )
    assert (again.periods, again.touched) == (("2026-01",), ())
    other = land(lake, CHANGES, digested(("in_1", "3", "2026-01", "c")))
    assert other.touched == ("2026-01",)


def test_a_document_that_says_once_more_what_it_said_before_touches_its_month(
    tmp_path: Path,
) -> None:
    lake = Lake(tmp_path)
    land(lake, "2026-01", digested(("in_1", "1", "2026-01", "a")))
    land(lake, CHANGES, digested(("in_1", "2", "2026-01", "b")))
    assert land(lake, CHANGES, digested(("in_1", "3", "2026-01", "a"))).touched == ("2026-01",)


def test_a_document_that_a_newer_listing_lacks_touches_its_month_when_it_is_back(
    tmp_path: Path,
) -> None:
    lake = Lake(tmp_path)
    land(lake, "2026-01", digested(("in_1", "1", "2026-01", "a")))
    land(lake, CHANGES, digested(("in_1", "2", "2026-01", "a")))
    land(lake, "2026-01")
    assert land(lake, CHANGES, digested(("in_1", "3", "2026-01", "a"))).touched == ("2026-01",)


def test_a_document_without_a_digest_touches_its_month_each_time(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    land(lake, "2026-01", page(("in_1", "1", "2026-01")))
    assert land(lake, CHANGES, page(("in_1", "2", "2026-01"))).touched == ("2026-01",)


def test_an_older_state_that_lands_late_does_not_win_over_an_unchanged_one(
    tmp_path: Path,
) -> None:
    lake = Lake(tmp_path)
    land(lake, "2026-01", digested(("in_1", "1", "2026-01", "a")))
    unchanged = land(lake, CHANGES, digested(("in_1", "3", "2026-01", "a")))
    land(lake, CHANGES, digested(("in_1", "2", "2026-01", "b")))
    asked = versions.relevant(lake.landings("stripe"), "2026-01")
    assert unchanged.id in [landing.id for landing in asked]


def test_a_listing_touches_the_months_of_the_listing_that_it_replaces(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    land(lake, "2026-01", page(("in_1", "1", "2026-02")))  # finalised a month later
    assert land(lake, "2026-01").touched == ("2026-01", "2026-02")


def test_a_damaged_manifest_is_named_with_what_to_do(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    landing = land(lake, "2026-01", page(("in_1", "1", "2026-01")))
    (tmp_path / landing.folder / "manifest.json").write_text('{"id": ')
    with pytest.raises(LakeError, match="restore it from a backup, or remove its folder") as caught:
        lake.landings("stripe")
    assert landing.id in str(caught.value)


def lose_a_key(file: Path) -> None:
    table = pq.read_table(file)
    pq.write_table(table.slice(1), file)


@pytest.mark.parametrize(
    ("window", "mended_by"),
    [("2026-01", "revrec sync stripe --from 2026-01 --to 2026-01"), (CHANGES, "--full")],
)
def test_a_document_that_is_lost_from_the_keys_is_missed_with_what_to_do(
    tmp_path: Path, window: str, mended_by: str
) -> None:
    lake = Lake(tmp_path)
    landing = land(lake, window, page(("in_1", "1", "2026-01"), ("in_2", "1", "2026-01")), page())
    (whole,) = lake.keys([landing])
    assert Path(whole).name == "keys.parquet"
    lose_a_key(Path(whole))

    with pytest.raises(LakeError) as said:
        lake.keys([landing])

    assert str(said.value).startswith(
        f"{whole} is not as it landed: it has 1 documents, and 2 landed; restore it from a backup"
    )
    assert mended_by in str(said.value)


def test_keys_that_were_exchanged_are_missed_too(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    landing = land(lake, "2026-01", page(("in_1", "1", "2026-01")))
    (file,) = lake.keys([landing])
    table = pq.read_table(file)
    pq.write_table(table.set_column(table.schema.get_field_index("id"), "id", [["in_2"]]), file)
    with pytest.raises(LakeError, match="not as it landed: it has 1 documents, and 1 landed"):
        lake.keys([landing])


def test_no_landing_is_made_beside_keys_that_lost_a_document(tmp_path: Path) -> None:
    """It could not tell which months its documents left."""
    lake = Lake(tmp_path)
    first = land(lake, "2026-01", page(("in_1", "1", "2026-01")))
    lose_a_key(tmp_path / first.folder / "keys.parquet")
    with pytest.raises(LakeError, match="not as it landed"):
        land(lake, CHANGES, page(("in_1", "2", "2026-02")))
    assert lake.landings("stripe") == [first]
