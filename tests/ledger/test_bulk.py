"""Rows go through `load`, `stage` and `read` exactly, on both back ends."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from revrec_pipeline.ledger import Ledger, bulk

SCHEMA = pa.schema(
    [
        ("text", pa.string()),
        ("amount", pa.decimal128(18, 4)),
        ("rate", pa.decimal128(28, 12)),
        ("day", pa.date32()),
        ("moment", pa.timestamp("us", tz="UTC")),
        ("big", pa.int64()),
        ("small", pa.int32()),
        ("flag", pa.bool_()),
    ]
)
ALWAYS_AWKWARD = [
    "", " ", "NA", "null", "NULL", "None", "nan", "007", "0012.10", "1e5", "-", "\\N", "\\.",
    "a\n\\.\nb", 'say "hi"', "it's", "tab\there", "line\r\nbreak", "100 %", "a:b", "ü€😀", "\\",
    "t", "true", "2026-01-01",
]  # fmt: skip


def decimals(precision: int, scale: int) -> st.SearchStrategy[Decimal]:
    bound = 10**precision - 1
    return st.integers(-bound, bound).map(lambda number: Decimal(number).scaleb(-scale))


# PostgreSQL has no text with NUL in it; nothing that a person can read has either.
texts = st.sampled_from(ALWAYS_AWKWARD) | st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12
)
values = st.fixed_dictionaries(
    {
        "text": st.none() | texts,
        "amount": st.none() | decimals(18, 4),
        "rate": st.none() | decimals(28, 12),
        "day": st.none() | st.dates(date(1900, 1, 1), date(2400, 12, 31)),
        "moment": st.none()
        | st.datetimes(datetime(1900, 1, 1), datetime(2400, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
        "big": st.none() | st.integers(-(2**63), 2**63 - 1),
        "small": st.none() | st.integers(-(2**31), 2**31 - 1),
        "flag": st.none() | st.booleans(),
    }
)
properties = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@properties
@given(rows=st.lists(values, max_size=30))
def test_a_staged_row_comes_back_exactly(ledger: Ledger, rows: list[dict[str, Any]]) -> None:
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    with ledger.transaction() as tx:
        name = tx.stage(table)
        read = tx.read(f"SELECT * FROM {name}", SCHEMA)
        plain = tx.rows(f"SELECT * FROM {name}")
    assert read.read_all().to_pylist() == rows
    assert plain == rows


@properties
@given(text=st.none() | texts)
def test_a_single_column_comes_back_exactly(ledger: Ledger, text: str | None) -> None:
    schema = pa.schema([("text", pa.string())])
    with ledger.transaction() as tx:
        name = tx.stage(pa.Table.from_pylist([{"text": text}] * 2, schema=schema))
        read = tx.read(f"SELECT text FROM {name}", schema)
    assert read.read_all().to_pylist() == [{"text": text}] * 2


@properties
@example(
    text="", number=Decimal("-1E-4"), big=-(2**63)
)  # `-x::BIGINT` would cast before it negates
@given(text=texts, number=decimals(18, 4), big=st.integers(-(2**63), 2**63 - 1))
def test_a_parameter_comes_back_exactly(
    ledger: Ledger, text: str, number: Decimal, big: int
) -> None:
    with ledger.transaction() as tx:
        found = tx.one(
            "SELECT :text::TEXT AS text, :number::DECIMAL(18, 4) AS number, :big::BIGINT AS big",
            text=text,
            number=number,
            big=big,
        )
    assert found == {"text": text, "number": number, "big": big}


@properties
@given(fields=st.none() | st.dictionaries(texts, st.none() | texts, max_size=4))
def test_a_map_is_stored_as_json_text(ledger: Ledger, fields: dict[str, str | None] | None) -> None:
    column = pa.array(
        [None if fields is None else list(fields.items())], pa.map_(pa.string(), pa.string())
    )
    with ledger.transaction() as tx:
        name = tx.stage(pa.table({"fields": column}))
        found = tx.one(f"SELECT fields FROM {name}")
    assert found is not None
    assert (found["fields"] and json.loads(found["fields"])) == fields


def test_batches_of_a_reader_are_all_loaded_and_sliced_ones_only_in_part(ledger: Ledger) -> None:
    count = 3 * bulk.ROWS_PER_BLOCK + 5
    table = pa.table({"id": [f"{n:06d}" for n in range(count)], "n": pa.array(range(count))})
    with ledger.transaction() as tx:
        name = tx.stage(pa.RecordBatchReader.from_batches(table.schema, table.to_batches(1000)))
        loaded = tx.load(name, table.slice(10, 7))
        found = tx.one(f"SELECT count(*) AS rows, sum(n)::BIGINT AS sum, max(id) AS id FROM {name}")
        read = tx.read(f"SELECT id, n FROM {name} ORDER BY n, id", table.schema)
    assert loaded == 7
    assert found == {
        "rows": count + 7,
        "sum": count * (count - 1) // 2 + sum(range(10, 17)),
        "id": f"{count - 1:06d}",
    }
    assert read.read_all().num_rows == count + 7


def test_no_rows_are_loaded_and_read_like_any(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        name = tx.stage(SCHEMA.empty_table())
        assert tx.load(name, SCHEMA.empty_table()) == 0
        read = tx.read(f"SELECT * FROM {name}", SCHEMA)
    assert read.schema == SCHEMA
    assert read.read_all().num_rows == 0


def test_two_staged_tables_live_side_by_side_and_end_with_the_transaction(ledger: Ledger) -> None:
    for _ in range(2):
        with ledger.transaction() as tx:
            first = tx.stage(pa.table({"n": [1]}))
            second = tx.stage(pa.table({"n": [2]}))
            assert tx.one(f"SELECT a.n + b.n AS n FROM {first} a, {second} b") == {"n": 3}


def test_a_float_has_no_place_in_the_ledger(ledger: Ledger) -> None:
    with (
        pytest.raises(TypeError, match="no column type for double"),
        ledger.transaction() as tx,
    ):
        tx.stage(pa.table({"amount": [1.5]}))
