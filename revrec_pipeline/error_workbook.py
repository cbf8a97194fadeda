"""Sync errors as a workbook of their own: the conversion workbook's sheets are fixed."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from revrec_pipeline.conversion.sheets import StagedColumn, StagedSheet
from revrec_pipeline.conversion.workbook import write_workbook
from revrec_pipeline.engine import engine
from revrec_pipeline.errors import UsageError
from revrec_pipeline.lake import Lake

SHEET = "SyncErrors"
#: What no cell of a workbook may hold.
_FORBIDDEN = dict.fromkeys(
    [*range(0x09), 0x0B, 0x0C, *range(0x0E, 0x20), 0xFFFE, 0xFFFF, *range(0xD800, 0xE000)]
)
_CELL_LENGTH = 32_000


def write_error_workbook(
    lake: Lake, errors: Iterable[dict[str, Any]], columns: Sequence[str], target: Path
) -> None:
    """Write one sheet with these columns, every cell as text: no formula is ever run.

    Raises:
        UsageError: the file cannot be written.
    """
    listed = list(errors)
    staged = [
        StagedColumn(f"c{number}", name.replace("_", " ").title(), "text")
        for number, name in enumerate(columns)
    ]
    cells = {
        column.name: pa.array([_cell(error[name]) for error in listed], pa.string())
        for column, name in zip(staged, columns, strict=True)
    }
    with lake.scratch() as folder, engine(folder / "spill") as db:
        file, draft = folder / "errors.parquet", folder / "errors.xlsx"
        document = pa.nulls(len(listed), pa.string())
        pq.write_table(pa.table({**cells, "document": document}), file)
        sheet = StagedSheet(SHEET, tuple(staged), file, len(listed), lines=True)
        (written,) = write_workbook(db, [sheet], draft)
        try:
            target.write_bytes(written.path.read_bytes())
        except OSError as error:
            raise UsageError(f"cannot write {target}: {error.strerror}") from error


def _cell(value: object) -> str | None:
    return None if value is None else str(value).translate(_FORBIDDEN)[:_CELL_LENGTH]
