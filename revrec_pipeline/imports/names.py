"""Sheet and column names: exactly the template's, or refused with what they should be.

A column beyond the template is a custom field where all columns of the template stand before it, as
in the files that we write. Anywhere else an unknown name may be a misspelt one.
"""

import difflib
from collections.abc import Sequence

from revrec_pipeline.conversion.template import Column, Sheet, Template
from revrec_pipeline.imports.refusals import FileRefusedError

UNKNOWN_SHEET, UNKNOWN_COLUMN = "IN_UNKNOWN_SHEET", "IN_UNKNOWN_COLUMN"
SHEET_NAME_CASE = "IN_SHEET_NAME_CASE"


def sheet_named(file: str, name: str, template: Template, suffix: str = "") -> Sheet:
    """The sheet of this name; `suffix` is that of a CSV file, for the message.

    Raises:
        FileRefusedError: there is none of exactly this name.
    """
    known = {sheet.name: sheet for sheet in template.sheets}
    if name in known:
        return known[name]
    for right in known:
        if _bare(right) == _bare(name):
            raise FileRefusedError(
                file,
                [f"sheet {name + suffix!r} must be called {right + suffix!r}"],
                SHEET_NAME_CASE,
            )
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    hint = f"should it be {close[0]!r}?" if close else f"known are {', '.join(known)}"
    raise FileRefusedError(file, [f"sheet {name!r} is not in the template; {hint}"], UNKNOWN_SHEET)


def columns_named(
    file: str, sheet: Sheet, headers: Sequence[str]
) -> list[tuple[str, Column | None]]:
    """For each header its name in the template and the column; None for a custom field.

    Raises:
        FileRefusedError: a header is empty, doubled or unknown, or a required one is missing.
    """
    known = {name: column for column in sheet.columns for name in (column.header, *column.aliases)}
    found: list[tuple[str, Column | None]] = []
    problems: list[str] = []
    seen: dict[str, str] = {}
    for place, header in enumerate(headers):
        column = known.get(header)
        name = column.header if column else header
        if not header.strip():
            problems.append(f"column {place + 1} has cells and no header")
        elif name.casefold() in seen:
            problems.append(f"columns {seen[name.casefold()]!r} and {header!r} are the same")
        elif column is None:
            before = {column.header for _, column in found if column}
            if len(before) < len(sheet.columns):
                right = _near(header, known)
                hint = f"must be called {right!r}" if right else _unknown(sheet)
                problems.append(f"column {header!r} {hint}")
        seen.setdefault(name.casefold(), header)
        found.append((name, column))
    missing = [
        column.header
        for column in sheet.columns
        if column.required and column.header.casefold() not in seen
    ]
    if not problems and missing:
        problems.append(f"the required columns {', '.join(missing)} are missing")
    if problems:
        raise FileRefusedError(
            file, [f"sheet {sheet.name}: {problem}" for problem in problems], UNKNOWN_COLUMN
        )
    return found


def _near(header: str, known: dict[str, Column]) -> str | None:
    for name in known:
        if _bare(name) == _bare(header):
            return name
    close = difflib.get_close_matches(header, known, n=1, cutoff=0.8)
    return close[0] if close else None


def _unknown(sheet: Sheet) -> str:
    return (
        "is not in the template; custom fields stand after all of its columns "
        f"(the last is {sheet.columns[-1].header!r})"
    )


def _bare(name: str) -> str:
    """A name without what people get wrong: case, spaces, underscores."""
    return "".join(letter for letter in name.casefold() if letter.isalnum())
