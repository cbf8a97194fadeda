"""The schemas are the single definition: codes, checks and pages follow from them."""

import subprocess
import sys
from pathlib import Path

import pytest

from revrec_pipeline import checks
from revrec_pipeline.codes import BETWEEN_SYSTEMS, CODES, CONTROL_DIFFERENCE, PAGES, page_of
from revrec_pipeline.errors import (
    SourceAuthError,
    SourceLimitError,
    SourceSchemaError,
    SourceTimeoutError,
)
from revrec_pipeline.model import CANONICAL

ROOT = Path(__file__).parents[1]
HEADINGS = ["## Cause", "## Example", "## How to fix"]


def test_each_code_that_a_schema_gives_has_a_meaning_and_each_rule_of_a_row_has_a_schema() -> None:
    given = frozenset().union(*(checks.codes_of(record_type) for record_type in CANONICAL))
    of_rows = {
        code
        for code, meaning in CODES.items()
        if meaning.check and meaning.check != BETWEEN_SYSTEMS and code != CONTROL_DIFFERENCE
    }
    assert given == of_rows


def test_each_code_of_a_row_turns_a_check_red_that_every_asset_has() -> None:
    shown = {meaning.check for meaning in CODES.values()} - {"", BETWEEN_SYSTEMS}
    assert shown <= checks.CHECKS.keys()


def test_each_failure_of_a_source_has_a_code_with_a_meaning() -> None:
    failures = [
        SourceAuthError("x", "y"),
        SourceSchemaError("x", "y"),
        SourceLimitError("x", "y", retryable=False),
        SourceTimeoutError("x", "y"),
    ]
    assert {failure.code for failure in failures} == {
        code for code, meaning in CODES.items() if meaning.stage == "sync" and not meaning.check
    }


@pytest.mark.parametrize("code", CODES)
def test_each_code_has_a_page_that_says_what_the_code_says(code: str) -> None:
    page = page_of(code)
    assert page
    text = (ROOT / page).read_text(encoding="utf-8")
    meaning = CODES[code]
    assert text.startswith(f"# {code}\n")
    facts = {
        "Stage": meaning.stage,
        "Severity": str(meaning.severity),
        "Owner": meaning.owner,
        "Says": f"… {meaning.words}",
        "Asset check": f"`{meaning.check}`" if meaning.check else "none",
        "Default": meaning.default or "none: it holds its order back until it is mended",
    }
    for name, value in facts.items():
        assert f"| {name} | {value} |\n" in text, f"{page}: {name}"
    assert [line for line in text.splitlines() if line.startswith("## ")] == HEADINGS
    parts = text.split("\n## ")
    assert all(len(part.strip().splitlines()) > 1 for part in parts[1:])


def test_no_page_is_about_a_code_that_is_gone_and_the_list_names_them_all() -> None:
    folder = ROOT / PAGES
    assert {page.stem for page in folder.glob("*.md")} - {"README"} == CODES.keys()
    listed = (folder / "README.md").read_text(encoding="utf-8")
    assert [code for code in CODES if f"[{code}]({code}.md)" not in listed] == []


MANY_ROWS = """
import resource, sys, tempfile
from pathlib import Path
import duckdb, pyarrow as pa
sys.path.insert(0, sys.argv[1])
from canonical_rows import billing_line, canonical
from revrec_pipeline import checks
from revrec_pipeline.engine import engine
from revrec_pipeline.model import RecordType

ROWS = 200_000
with tempfile.TemporaryDirectory() as folder, engine(Path(folder)) as db:
    one = canonical(RecordType.INVOICES, [billing_line()])
    db.register("one", one)
    db.execute(f'''
        CREATE TABLE many AS SELECT one.* REPLACE (
            'in_' || i AS document_id, 'il_' || i AS line_id,
            CASE WHEN i % 10 = 0 THEN NULL ELSE product_code END AS product_code
        ), i AS position FROM one, range({ROWS}) AS numbers(i)''')
    next(iter(checks.failures(db, RecordType.INVOICES, "(FROM many LIMIT 1000)")), None)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = sum(batch.num_rows for batch in checks.failures(db, RecordType.INVOICES, "many"))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(found, after - before)
"""


def test_200_000_rows_of_which_a_tenth_is_bad_validate_in_bounded_memory() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MANY_ROWS, str(ROOT / "tests")],
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    found, grown = map(int, done.stdout.split())
    assert found == 20_000
    # A pandas copy of all rows would be 250 MB; a batch of 30,000 is about 20 MB.
    assert grown < 150 * 1024
