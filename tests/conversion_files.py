"""Writing conversion files from rows, and reading them back with other people's libraries."""

import csv
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import openpyxl
from canonical_rows import canonical

from revrec_pipeline.conversion import Template, write_files
from revrec_pipeline.csv_cells import plain
from revrec_pipeline.engine import engine
from revrec_pipeline.model import RecordType

Rows = Sequence[dict[str, Any]]
Cells = dict[str, list[list[Any]]]


def write(
    folder: Path,
    names: Sequence[str],
    *,
    sales: Rows | None = None,
    invoices: Rows | None = None,
    template: Template | None = None,
) -> list[Path]:
    """Write the rows as files of these names into `folder`."""
    scratch = folder / "scratch"
    scratch.mkdir(parents=True)
    with engine(folder / "spill") as connection:
        relations = {}
        for record_type, rows in ((RecordType.SALES, sales), (RecordType.INVOICES, invoices)):
            if rows is not None:
                connection.register(f"{record_type}_rows", canonical(record_type, rows))
                relations[record_type] = f"{record_type}_rows"
        files = write_files(
            connection,
            relations,
            [folder / name for name in names],
            scratch=scratch,
            template=template,
        )
    assert not list(scratch.glob("*.csv*")), "the archive leaves nothing beside it"
    return [file.path for file in files]


def read_workbook(path: Path) -> Cells:
    """Every sheet as rows of values, as openpyxl understands them; empty is None."""
    book = openpyxl.load_workbook(path)
    return {
        sheet.title: [list(row) for row in sheet.iter_rows(values_only=True)]
        for sheet in book.worksheets
    }


def read_archive(path: Path) -> Cells:
    """Every CSV file as rows of text, as an import reads them; empty is ''."""
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return {
            name.removesuffix(".csv"): [
                [plain(cell) for cell in row]
                for row in csv.reader(io.StringIO(archive.read(name).decode(), newline=""))
            ]
            for name in archive.namelist()
        }


def column(cells: Cells, sheet: str, header: str) -> list[Any]:
    """The values of one column, without its header."""
    index = cells[sheet][0].index(header)
    return [row[index] for row in cells[sheet][1:]]
