"""A watched folder: each file once by its content, then moved out of the way with a report.

    <folder>/january.xlsx                 waits for the next look
    <folder>/done/january-1f3a9c2e.xlsx   was taken, or had been before; the name ends in its hash
    <folder>/rejected/…                   was refused
    …/january-1f3a9c2e.xlsx.txt           the report

The folder is a local one, or one in object storage (see `bucket`). A local file that changed within
the last minute is left for the next look: somebody may still be copying it. So is content that
another process is importing just now.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Protocol

from revrec_pipeline.errors import ContentBusyError, SettingsError
from revrec_pipeline.imports.refusals import FileRefusedError
from revrec_pipeline.imports.run import MAX_FILE, Imported, import_file
from revrec_pipeline.lake import Lake
from revrec_pipeline.ledger import Ledger, jobs
from revrec_pipeline.settings import Settings

_SETTLED_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of one file."""

    file: str
    moved_to: str
    report: str
    refused: bool
    job_ids: tuple[int, ...] = ()


class Folder(Protocol):
    """Where files wait."""

    name: str

    def waiting(self, now: float) -> list[str]:
        """The names of the files to take, the oldest first."""

    def fetch(self, name: str, folder: Path, limit: int) -> Path | None:
        """The file on the local disk, in `folder` if it must be copied; None if it has gone.

        Raises:
            FileRefusedError: it would have to be copied, and has more than `limit` bytes.
        """

    def move(self, name: str, where: str, as_: str, report: str) -> str:
        """Move a file below the folder, with its report beside it; returns where it is now."""


def take_files(
    ledger: Ledger, lake: Lake, settings: Settings, folder: Path | str, *, now: float | None = None
) -> Iterator[Taken]:
    """Import every file that waits, the oldest first; `folder` is a path or `s3://bucket/prefix`.

    A file that fails for another reason than its content (a busy ledger, a full disk) stays for the
    next look, and the failure is the caller's.

    Raises:
        SettingsError: the folder is not there, or files cannot be read or moved in it.
    """
    place = _open(str(folder))
    for name in place.waiting(now or time.time()):
        if taken := _take(ledger, lake, settings, place, name):
            yield taken


def _open(folder: str) -> Folder:
    if folder.startswith("s3://"):
        from revrec_pipeline.imports.bucket import Bucket  # its library takes a while to load

        return Bucket(folder)
    return _LocalFolder(Path(folder))


def _take(ledger: Ledger, lake: Lake, settings: Settings, place: Folder, name: str) -> Taken | None:
    """Import one file and move it; None if it is left where it is, or has gone."""
    refused, digest = False, sha256(name.encode()).hexdigest()
    job_ids: tuple[int, ...] = ()
    with lake.scratch() as scratch:
        try:
            file = place.fetch(name, scratch, MAX_FILE)
            if file is None:
                return None
            digest = _digest(file)
            imported = import_file(
                ledger,
                lake,
                settings,
                file,
                job_name=name,
                who=f"folder {place.name}",
                trigger="folder",
            )
        except FileRefusedError as error:
            refused, report = True, str(error)
        except ContentBusyError:
            return None
        else:
            report, job_ids = _report(ledger, imported), tuple(imported.job_ids.values())
    stem, dot, suffix = name.rpartition(".")
    as_ = f"{stem}-{digest[:8]}{dot}{suffix}" if stem else f"{name}-{digest[:8]}"
    moved = place.move(name, "rejected" if refused else "done", as_, report)
    return Taken(name, moved, report, refused, job_ids)


def _digest(file: Path) -> str:
    try:
        with file.open("rb") as content:
            return file_digest(content, "sha256").hexdigest()
    except PermissionError as error:
        raise SettingsError(f"[imports] folder: {file} cannot be read: {error.strerror}") from error


class _LocalFolder:
    """A folder of this machine."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = str(path)

    def waiting(self, now: float) -> list[str]:
        if not self._path.is_dir():
            raise SettingsError(
                f"[imports] folder {self._path} is no folder; make it, or correct the path"
            )
        found = [
            (changed, file.name)
            for file in self._path.iterdir()
            if file.is_file()
            and not file.name.startswith((".", "~$"))
            and now - (changed := file.stat().st_mtime) >= _SETTLED_SECONDS
        ]
        return [name for _, name in sorted(found)]

    def fetch(self, name: str, folder: Path, limit: int) -> Path | None:
        del folder, limit  # read where it is
        file = self._path / name
        return file if file.is_file() else None

    def move(self, name: str, where: str, as_: str, report: str) -> str:
        file, target = self._path / name, self._path / where / as_
        try:
            target.parent.mkdir(exist_ok=True)
            target.with_name(f"{as_}.txt").write_text(f"{report}\n", encoding="utf-8")
            return str(file.replace(target))
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
