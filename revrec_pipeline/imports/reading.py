"""Sheets to cells: every cell as text, exactly, in a Parquet file for each sheet.

Memory stays constant: a workbook is streamed by openpyxl in its read-only mode, which never
evaluates anything, a CSV file row by row. Cells come out as `conversion.sheets` writes them: plain
decimals, dates as `YYYY-MM-DD`. What a cell means is decided later, in `mapping.file`.
"""

import csv
import io
import re
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeAlias

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
from defusedxml import DefusedXmlException

from revrec_pipeline.conversion.sheets import CELL_LENGTH
from revrec_pipeline.conversion.template import Column, Sheet, Template
from revrec_pipeline.csv_cells import plain
from revrec_pipeline.imports.archives import opened, refuse_workbook
from revrec_pipeline.imports.names import SHEET_NAME_CASE, columns_named, sheet_named
from revrec_pipeline.imports.refusals import FileRefusedError

#: Blank rows in a row after which a sheet is refused: somebody formatted it down to its end.
BLANK_ROWS = 10_000
_MAX_COLUMNS = 500
#: No column has more; what a computed double has beyond is noise in its last bits.
_DECIMALS = 12
_ROWS_PER_GROUP = 20_480
# `_x000D_` stands for a character that XML cannot hold (ECMA-376, 22.9.2.19).
_ESCAPED = re.compile("_x([0-9A-Fa-f]{4})_")

# What openpyxl raises of parts that are missing or are no XML; ParseError is a SyntaxError.
_BROKEN = (
    KeyError, ValueError, TypeError, SyntaxError, IndexError, AttributeError, OverflowError,
)  # fmt: skip

#: Row number and the text of each cell; empty is None.
Rows: TypeAlias = Iterator[tuple[int, list[str | None]]]


@dataclass(frozen=True, slots=True)
class ReadSheet:
    """The rows of one sheet in a Parquet file: `row`, and `c0`, `c1` … for its columns."""

    sheet: Sheet
    #: The header in the template (a custom field's own) and the template's column, of each `c…`.
    columns: tuple[tuple[str, Column | None], ...]
    file: Path
    rows: int


def read(path: Path, template: Template, folder: Path) -> dict[str, ReadSheet]:
    """All sheets that have rows, by name; their cells are written into `folder`.

    Raises:
        FileRefusedError: something in the file is not to be trusted, or not of the template.
    """
    with opened(path) as container:
        if path.suffix.lower() == ".zip":
            sheets = _archive(path, container, template)
            found = [_store(path, sheet, rows, folder) for sheet, rows in sheets]
        else:
            refuse_workbook(path, container)
            found = _workbook(path, template, folder)
    return {sheet.sheet.name: sheet for sheet in found if sheet is not None}


# -- CSV -----------------------------------------------------------------------------------------


def _archive(
    path: Path, container: zipfile.ZipFile, template: Template
) -> Iterator[tuple[Sheet, Rows]]:
    members = []
    for member in container.infolist():
        stem, dot, suffix = member.filename.rpartition(".")
        if "/" in member.filename or suffix.lower() != "csv":
            raise FileRefusedError(
                path.name,
                [f"{member.filename!r} is no CSV file named after a sheet, like OrderDetails.csv"],
            )
        sheet = sheet_named(path.name, stem, template, ".csv")
        if dot + suffix != ".csv":
            raise FileRefusedError(
                path.name,
                [f"{member.filename!r} must be called '{stem}.csv'"],
                SHEET_NAME_CASE,
            )
        members.append((sheet, member))
    for sheet, member in members:
        yield sheet, _csv(path, container, member)


def _csv(path: Path, container: zipfile.ZipFile, member: zipfile.ZipInfo) -> Rows:
    # The longest cell that Excel holds, each character in four bytes.
    csv.field_size_limit(4 * CELL_LENGTH)
    number = 0
    with container.open(member) as content:
        text = io.TextIOWrapper(content, encoding="utf-8-sig", errors="strict", newline="")
        try:
            for number, cells in enumerate(csv.reader(text, strict=True), start=1):
                if any("\0" in cell for cell in cells):
                    raise FileRefusedError(
                        path.name, [f"{member.filename}, row {number} has a NUL; is it UTF-8?"]
                    )
                yield number, [plain(cell) or None for cell in cells]
        except UnicodeDecodeError as error:
            raise FileRefusedError(
                path.name,
                [f"{member.filename} is not UTF-8 near row {number + 1}; save it as CSV UTF-8"],
            ) from error
        except csv.Error as error:
            raise FileRefusedError(
                path.name, [f"{member.filename}, near row {number + 1}: {error}"]
            ) from error


# -- workbooks -----------------------------------------------------------------------------------


def _workbook(path: Path, template: Template, folder: Path) -> list[ReadSheet | None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of styles and extensions, which hold no values
            with closing(openpyxl.load_workbook(path, read_only=True, keep_links=False)) as book:
                sheets = [sheet_named(path.name, name, template) for name in book.sheetnames]
                return [
                    _store(path, sheet, _cells(path, book[sheet.name]), folder) for sheet in sheets
                ]
    except FileRefusedError:
        raise
    except (*_BROKEN, DefusedXmlException) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise FileRefusedError(
            path.name, [f"it is no workbook that can be read: {reason}"]
        ) from error


def _cells(path: Path, sheet: Any) -> Rows:
    sheet.reset_dimensions()  # what it says of its size may be wrong, and would cut rows off
    for number, row in enumerate(sheet.iter_rows(), start=1):
        if len(row) > _MAX_COLUMNS:
            raise FileRefusedError(
                path.name, [f"sheet {sheet.title}, row {number} has {len(row):,} columns"]
            )
        yield number, [_text(path, sheet.title, cell) for cell in row]


def _text(path: Path, title: str, cell: Any) -> str | None:
    value = cell.value
    if value is None:
        return None
    if cell.data_type in ("f", "e"):
        what = "a formula" if cell.data_type == "f" else f"the error {value}"
        raise FileRefusedError(
            path.name,
            [f"sheet {title}, cell {cell.coordinate} holds {what}; paste the value instead"],
        )
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return str(value.date() if value.time() == datetime.min.time() else value)
    if isinstance(value, date | int):
        return str(value)
    if isinstance(value, float):
        # The shortest decimal that gives this double: what was typed, or written by us.
        exact = Decimal(repr(value))
        if int(exact.as_tuple().exponent) < -_DECIMALS:  # 0.1 + 0.2, of which Excel shows 0.3
            exact = Decimal(f"{value:.15g}")
        text = format(exact, "f")
        return text.rstrip("0").rstrip(".") if "." in text else text
    return _ESCAPED.sub(lambda code: chr(int(code[1], 16)), str(value)) or None


# -- both ----------------------------------------------------------------------------------------


def _store(path: Path, sheet: Sheet, rows: Rows, folder: Path) -> ReadSheet | None:
    """Write the cells of a sheet; None if it has none but its header."""
    first = next(((number, cells) for number, cells in rows if any(cells)), None)
    if first is None:
        return None
    headers = [cell or "" for cell in first[1]]
    while headers and not headers[-1].strip():
        headers.pop()
    columns = columns_named(path.name, sheet, headers)
    file = folder / f"{sheet.name}.parquet"
    names = [f"c{place}" for place in range(len(columns))]
    schema = pa.schema([("row", pa.int32()), *((name, pa.string()) for name in names)])
    count = 0
    with pq.ParquetWriter(file, schema, compression="zstd", compression_level=1) as writer:
        for batch in _batched(_filled(path, sheet, rows, len(columns))):
            numbers = pa.array([number for number, _ in batch], pa.int32())
            cells = [pa.array(each, pa.string()) for each in _columns(batch, len(columns))]
            writer.write_table(pa.table([numbers, *cells], schema=schema))
            count += len(batch)
    return ReadSheet(sheet, tuple(columns), file, count) if count else None


def _filled(path: Path, sheet: Sheet, rows: Rows, width: int) -> Rows:
    """The rows that say something."""
    blank = 0
    for number, cells in rows:
        if not any(cell and not cell.isspace() for cell in cells):
            blank += 1
            if blank > BLANK_ROWS:
                raise FileRefusedError(
                    path.name,
                    [
                        f"sheet {sheet.name} has more than {BLANK_ROWS:,} blank rows before row "
                        f"{number:,}; delete them"
                    ],
                )
            continue
        blank = 0
        if any(cells[width:]):
            raise FileRefusedError(
                path.name, [f"sheet {sheet.name}, row {number} has a cell without a header"]
            )
        for cell in cells:
            if cell and len(cell) > CELL_LENGTH:
                raise FileRefusedError(
                    path.name,
                    [
                        f"sheet {sheet.name}, row {number} has a cell of {len(cell):,} characters; "
                        f"a cell holds {CELL_LENGTH:,}"
                    ],
                )
        yield number, cells


def _batched(rows: Rows) -> Iterator[list[tuple[int, list[str | None]]]]:
    batch = []
    for row in rows:
        batch.append(row)
        if len(batch) == _ROWS_PER_GROUP:
            yield batch
            batch = []
    if batch:
        yield batch


def _columns(
    batch: Sequence[tuple[int, list[str | None]]], width: int
) -> Iterable[list[str | None]]:
    return (
        [cells[place] if place < len(cells) else None for _, cells in batch]
        for place in range(width)
    )
