"""The conversion file as an Excel workbook, in numbered parts where one sheet would be too long.

rustpy-xlsxwriter streams Arrow batches to a file in constant memory. Two of its ways are mended
here: it leaves a decimal's cell EMPTY, so numbers go in as doubles, and it stamps the clock into
docProps/core.xml. Its deflate gives the same bytes on every processor since zlib-rs#300.

A number whose double reads back as another decimal is never altered: its whole column is then text
in that workbook. Up to 15 significant digits that does not happen.
"""

import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rustpy_xlsxwriter import write_worksheets

from revrec_pipeline.conversion.container import Container, Deflated
from revrec_pipeline.conversion.sheets import StagedSheet, WrittenFile, literal
from revrec_pipeline.errors import LakeError

#: Rows of a sheet, the header included (specifications and limits of Excel).
SHEET_ROWS = 1_048_576
_BATCH_ROWS = 8_192
_CHUNK = 1 << 20
_LOCAL_HEADER = 30
_CLOCK = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_FIXED_TIME = b"1980-01-01T00:00:00Z"


def write_workbook(
    connection: duckdb.DuckDBPyConnection,
    sheets: Sequence[StagedSheet],
    target: Path,
    *,
    sheet_rows: int = SHEET_ROWS,
) -> list[WrittenFile]:
    """Write all sheets to `target`, or to `<stem>-part1.xlsx`, `-part2` … where one is not enough.

    No document is torn apart by two parts.
    """
    cuts = {sheet.name: _cuts(connection, sheet, sheet_rows - 1) for sheet in sheets}
    texts = {sheet.name: _inexact(connection, sheet) for sheet in sheets}
    parts = max(len(ranges) for ranges in cuts.values())
    files = []
    for part in range(parts):
        file = target if parts == 1 else target.with_stem(f"{target.stem}-part{part + 1}")
        readers, lines = [], 0
        for sheet in sheets:
            ranges = cuts[sheet.name]
            start, end = ranges[part] if part < len(ranges) else (0, 0)
            lines += end - start if sheet.lines else 0
            readers.append((sheet.name, _reader(sheet, texts[sheet.name], start, end)))
        raw = file.with_suffix(".raw")
        _write(readers, raw)
        _without_clock(raw, file)
        raw.unlink()
        files.append(WrittenFile(file, lines))
    return files


def _cuts(
    connection: duckdb.DuckDBPyConnection, sheet: StagedSheet, capacity: int
) -> list[tuple[int, int]]:
    """The half-open ranges of rows that go into each part."""
    ranges = []
    start = 0
    while sheet.rows - start > capacity:
        end = _document_start(connection, sheet, start + capacity)
        if end <= start:
            raise LakeError(
                f"sheet {sheet.name}, row {start + 2}: this document has more than {capacity:,} "
                "lines, which no sheet can hold; take the .zip"
            )
        ranges.append((start, end))
        start = end
    return [*ranges, (start, sheet.rows)]


def _document_start(connection: duckdb.DuckDBPyConnection, sheet: StagedSheet, row: int) -> int:
    """The first row of the document that `row` belongs to."""
    assert sheet.file is not None  # noqa: S101 - only a sheet with rows is ever cut
    rows = f"read_parquet({literal(sheet.file)}, file_row_number = true)"
    found = connection.execute(
        f"SELECT min(file_row_number) FROM {rows} WHERE document = "
        f"(SELECT document FROM {rows} WHERE file_row_number = {row})"
    ).fetchall()
    first = found[0][0]
    return row if first is None else int(first)


def _inexact(connection: duckdb.DuckDBPyConnection, sheet: StagedSheet) -> set[str]:
    """The number columns with a cell that a double does not give back."""
    numbers = [column.name for column in sheet.columns if column.is_number]
    if sheet.file is None or not numbers:
        return set()
    checks = ", ".join(
        f"count(*) FILTER (WHERE {name}::DECIMAL(38, 12) IS DISTINCT FROM "
        f"{name}::DOUBLE::VARCHAR::DECIMAL(38, 12))"
        for name in numbers
    )
    counts = connection.execute(f"SELECT {checks} FROM {literal(sheet.file)}").fetchall()[0]
    return {name for name, count in zip(numbers, counts, strict=True) if count}


def _reader(sheet: StagedSheet, texts: set[str], start: int, end: int) -> pa.RecordBatchReader:
    """The rows from `start` to before `end`, as the writer wants them."""
    kinds = [
        pa.float64() if column.is_number and column.name not in texts else pa.string()
        for column in sheet.columns
    ]
    schema = pa.schema(
        [(column.header, kind) for column, kind in zip(sheet.columns, kinds, strict=True)]
    )
    names = [column.name for column in sheet.columns]

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in _slices(sheet.file, names, start, end) if sheet.file else ():
            cells = [pc.cast(batch.column(n), k) for n, k in zip(names, kinds, strict=True)]
            yield pa.RecordBatch.from_arrays(cells, schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def _slices(file: Path, names: list[str], start: int, end: int) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(file) as content:
        position = 0
        for group in range(content.num_row_groups):
            count = content.metadata.row_group(group).num_rows
            if position + count > start and position < end:
                at = position
                for batch in content.iter_batches(_BATCH_ROWS, row_groups=[group], columns=names):
                    first, last = max(start - at, 0), min(end - at, batch.num_rows)
                    if first < last:
                        yield batch.slice(first, last - first)
                    at += batch.num_rows
            position += count


def _write(readers: list[tuple[str, pa.RecordBatchReader]], file: Path) -> None:
    try:
        write_worksheets(
            readers,
            str(file),
            bold_headers=True,
            freeze_panes={"general": {"row": 1, "col": 0}},
            column_width={"general": 18},
        )
    except BaseException as error:
        # When its temporary folder is full, the Rust code panics: not even an Exception.
        if type(error).__name__ == "PanicException":
            raise OSError(str(error)) from error
        raise


def _without_clock(raw: Path, file: Path) -> None:
    """Copy a workbook member by member, still deflated, with a fixed time in its properties."""
    with zipfile.ZipFile(raw) as members, raw.open("rb") as content, Container(file) as container:
        for member in members.infolist():
            if member.filename == "docProps/core.xml":
                text = _CLOCK.sub(_FIXED_TIME, members.read(member))
                container.add_stored(member.filename, text)
                continue
            chunks = _deflated_bytes(content, member)
            container.add_deflated(
                member.filename,
                Deflated(chunks, member.CRC, member.compress_size, member.file_size),
            )


def _deflated_bytes(content: BinaryIO, member: zipfile.ZipInfo) -> Iterator[bytes]:
    content.seek(member.header_offset)
    header = content.read(_LOCAL_HEADER)
    name_length = int.from_bytes(header[26:28], "little")
    extra_length = int.from_bytes(header[28:30], "little")
    content.seek(name_length + extra_length, 1)
    left = member.compress_size
    while left:
        chunk = content.read(min(_CHUNK, left))
        left -= len(chunk)
        yield chunk
