"""Conversion files appear whole or not at all.

They are written into a folder of their own on the same disk and moved to their names at the end.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import gettempdir

import duckdb

from revrec_pipeline.conversion.archive import write_archive
from revrec_pipeline.conversion.sheets import WrittenFile, stage
from revrec_pipeline.conversion.template import Template, load_template
from revrec_pipeline.conversion.workbook import write_workbook
from revrec_pipeline.errors import LakeError, UsageError
from revrec_pipeline.model import RecordType

#: How Python, DuckDB and Rust (an error and a panic) spell the system's error number.
_ERROR_CODE = re.compile(r'(?:\[Errno |"errno":"|os error |code: )(\d+)')


def write_files(
    connection: duckdb.DuckDBPyConnection,
    rows: Mapping[RecordType, str],
    targets: Sequence[Path],
    *,
    scratch: Path,
    template: Template | None = None,
) -> list[WrittenFile]:
    """Write the same rows to every target, by its suffix a workbook or an archive of CSV files.

    `rows` names, for each record type, a table or view of `connection` with the canonical columns.
    `scratch` is an empty folder on the same disk as the targets. Existing files are replaced, each
    in one step. Returns the files: a long workbook has several.

    Raises:
        LakeError: the disk is full or may not be written; no target has changed.
        UsageError: a suffix is neither .xlsx nor .zip.
    """
    for target in targets:
        if target.suffix.lower() not in {".xlsx", ".zip"}:
            raise UsageError(f"{target.name}: a conversion file is .xlsx or .zip")
    with disk_errors(targets[0].parent):
        sheets = stage(connection, rows, scratch, template or load_template())
        drafts: list[tuple[WrittenFile, Path]] = []
        for target in targets:
            draft = scratch / target.name
            if target.suffix.lower() == ".zip":
                written = [write_archive(connection, sheets, draft)]
            else:
                written = write_workbook(connection, sheets, draft)
            drafts += [(file, target.parent) for file in written]
        return [_put(file, folder) for file, folder in drafts]


def _put(draft: WrittenFile, folder: Path) -> WrittenFile:
    folder.mkdir(parents=True, exist_ok=True)
    return replace(draft, path=draft.path.replace(folder / draft.path.name))


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """What the disk refuses, as a one-line LakeError: each library says it in its own way."""
    try:
        yield
    except (OSError, duckdb.IOException, duckdb.OutOfMemoryException) as error:
        reason = str(error).splitlines()[0]
        if code := _ERROR_CODE.search(reason):
            reason = os.strerror(int(code[1]))
        raise LakeError(
            f"cannot write in {folder}: {reason}; it and the temporary folder {gettempdir()} need "
            "room and write permission, then run the same command again"
        ) from error
