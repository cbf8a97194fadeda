"""A watched folder: each file once by its content, then moved out of the way with a report.

    <folder>/january.xlsx                 waits for the next look
    <folder>/done/january-1f3a9c2e.xlsx   was taken, or had been before; the name ends in its hash
    <folder>/rejected/…                   was refused
    …/january-1f3a9c2e.xlsx.txt           the report

A file that changed within the last minute is left for the next look: somebody may still be copying
it.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path

from revrec_pipeline.errors import SettingsError
from revrec_pipeline.imports.refusals import FileRefusedError
from revrec_pipeline.imports.run import Imported, import_file
from revrec_pipeline.lake import Lake
from revrec_pipeline.ledger import Ledger, jobs
from revrec_pipeline.settings import Settings

_SETTLED_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of one file."""

    file: str
    moved_to: Path
    report: str
    refused: bool
    job_ids: tuple[int, ...] = ()


def take_files(
    ledger: Ledger, lake: Lake, settings: Settings, folder: Path, *, now: float | None = None
) -> Iterator[Taken]:
    """Import every file that waits, the oldest first.

    A file that fails for another reason than its content (a busy ledger, a full disk) stays for the
    next look, and the failure is the caller's.

    Raises:
        SettingsError: the folder is not there, or files cannot be moved in it.
    """
    if not folder.is_dir():
        raise SettingsError(f"[imports] folder {folder} is no folder; make it, or correct the path")
    for file in sorted(_waiting(folder, now or time.time()), key=lambda each: each.stat().st_mtime):
        try:
            imported = import_file(
                ledger,
                lake,
                settings,
                file,
                job_name=file.name,
                who=f"folder {folder}",
                trigger="folder",
            )
        except FileRefusedError as refused:
            report = str(refused)
            yield Taken(file.name, _put(file, "rejected", report), report, refused=True)
        else:
            report = _report(ledger, imported)
            yield Taken(
                file.name,
                _put(file, "done", report),
                report,
                refused=False,
                job_ids=tuple(imported.job_ids.values()),
            )


def _waiting(folder: Path, now: float) -> list[Path]:
    return [
        file
        for file in folder.iterdir()
        if file.is_file()
        and not file.name.startswith((".", "~$"))
        and now - file.stat().st_mtime >= _SETTLED_SECONDS
    ]


def _put(file: Path, where: str, report: str) -> Path:
    """Move a file below its folder, under its name and the beginning of its hash."""
    try:
        with file.open("rb") as content:
            digest = file_digest(content, "sha256").hexdigest()
        target = file.parent / where / f"{file.stem}-{digest[:8]}{file.suffix}"
        target.parent.mkdir(exist_ok=True)
        target.with_name(f"{target.name}.txt").write_text(f"{report}\n", encoding="utf-8")
        return file.replace(target)
    except OSError as error:
        raise SettingsError(
            f"[imports] folder: {file} cannot be moved to {where}/: {error.strerror}"
        ) from error


def _report(ledger: Ledger, imported: Imported) -> str:
    if imported.earlier:
        listed = ", ".join(str(id_) for id_ in imported.earlier["job_ids"])
        return (
            f"{imported.name}: nothing to do, this content was imported at "
            f"{imported.earlier['at']} by {imported.earlier['who']} (job {listed})"
        )
    lines = []
    for record_type, job_id in imported.job_ids.items():
        with ledger.transaction() as tx:
            (job,) = jobs.jobs(tx, job_id)
        lines.append(
            f"{imported.name}: job {job_id}, {job['counts']['source']} rows of {record_type}, "
            f"{job['counts']['flagged']} flagged (`revrec job {job_id}`, `revrec errors`)"
        )
    return "\n".join(lines)
