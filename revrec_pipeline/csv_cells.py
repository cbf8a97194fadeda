"""Cells of CSV files that no spreadsheet runs as a formula, and that read back unchanged.

Excel and its kin run a cell that begins with one of `=`, `+`, `-`, `@`, a tab or a carriage return,
quoted or not (OWASP, "CSV injection"). Such text is written behind an apostrophe. Text that already
has apostrophes before such a character gets one more, so that reading can take exactly one away.
Only text is treated: a negative number stays a number. Workbooks need none of this, for their text
cells are no formulas.
"""

import re

_RUNS = re.compile(r"'*[=+\-@\t\r]")
_WRITTEN = re.compile(r"'+[=+\-@\t\r]")


def safe(text: str) -> str:
    """The text as a CSV file holds it."""
    return f"'{text}" if _RUNS.match(text) else text


def plain(cell: str) -> str:
    """The text that `safe` was given."""
    return cell[1:] if _WRITTEN.match(cell) else cell


def safe_sql(expression: str) -> str:
    """`safe` as SQL; null stays null."""
    return (
        rf"CASE WHEN regexp_matches({expression}, '^''*[=+\-@\t\r]') "
        f"THEN concat('''', {expression}) ELSE {expression} END"
    )
