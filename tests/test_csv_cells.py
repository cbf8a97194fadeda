"""No spreadsheet runs a cell of ours, and every text comes back."""

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from revrec_pipeline.csv_cells import plain, safe, safe_sql

TEXTS = st.text(st.sampled_from("'=+-@\t\rax1 "), max_size=6) | st.text()


@given(TEXTS)
def test_every_text_comes_back_and_none_begins_a_formula(text: str) -> None:
    assert plain(safe(text)) == text
    assert not safe(text).startswith(("=", "+", "-", "@", "\t", "\r"))


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("'=1+1", "''=1+1"),
        ("''-", "'''-"),
        ("'quoted'", "'quoted'"),
        ("'", "'"),
        ("", ""),
        ("Acme", "Acme"),
        ("0042", "0042"),
    ],
)
def test_only_what_would_run_is_changed(text: str, cell: str) -> None:
    assert safe(text) == cell


def test_sql_and_python_write_the_same() -> None:
    texts = ["=1", "'=1", "''@x", "-5", "\tx", "\rx", "'", "a=b", "", "ü", "+"]
    with duckdb.connect() as db:
        found = db.execute(
            f"SELECT {safe_sql('t')} FROM (SELECT unnest($texts) AS t)", {"texts": texts}
        ).fetchall()
        assert db.execute(f"SELECT {safe_sql('NULL::VARCHAR')}").fetchall() == [(None,)]
    assert [cell for (cell,) in found] == [safe(text) for text in texts]
