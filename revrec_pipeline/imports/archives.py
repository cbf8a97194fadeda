"""What a zip or workbook may not hold, found before anything of it is read.

Nothing is ever unpacked to a path that the file names. What a member says of its size is a limit,
too: `zipfile` reads no byte beyond it.
"""

import re
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from revrec_pipeline.imports.refusals import FileRefusedError

#: Bytes of all members together; the format of our own files ends at 4 GiB.
MAX_SIZE = 4 << 30
# Deflate reaches 1032 to 1. A workbook with a million rows that say the same was measured at 60.
_MAX_RATIO = 200
_RATIO_FROM = 16 << 20
_MAX_MEMBERS = 1_000
_OLE = bytes.fromhex("d0cf11e0a1b11ae1")  # .xls, and every workbook with a password
_STORED_OR_DEFLATED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# A reader holds these whole: the texts that cells share, and what is neither texts nor a sheet.
_MAX_TEXTS, _MAX_PART = 512 << 20, 64 << 20
_MERGED = re.compile(rb"<(?:\w+:)?mergeCell[\s/>]")
_CHUNK = 1 << 20
_FORBIDDEN = {
    "xl/vbaproject": "holds macros; save it as .xlsx without them",
    "xl/macrosheets/": "holds macros; save it as .xlsx without them",
    "xl/dialogsheets/": "holds dialogs; save it as .xlsx without them",
    "xl/externallinks/": "links to other workbooks; paste the values instead of the links",
    "xl/connections": "is connected to a database; paste the values into a workbook of their own",
    "xl/querytables/": "is connected to a database; paste the values into a workbook of their own",
    "xl/embeddings/": "has other files embedded; remove them",
    "xl/activex/": "holds controls; remove them",
}
_MACRO_TYPE = re.compile(rb"macroEnabled|ms-office\.vbaProject", re.IGNORECASE)


@contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The container of a workbook or of CSV files, if it is a sane one.

    Raises:
        FileRefusedError: it is not; says why.
    """
    name = path.name
    if path.suffix.lower() not in {".xlsx", ".zip"}:
        raise FileRefusedError(name, ["it is neither .xlsx nor .zip (one CSV file for each sheet)"])
    try:
        with path.open("rb") as content:
            if content.read(len(_OLE)) == _OLE:
                raise FileRefusedError(
                    name, ["it is an old .xls or has a password; save it as .xlsx without one"]
                )
        with zipfile.ZipFile(path) as container:
            if problem := _problem(container):
                raise FileRefusedError(name, [problem])
            yield container
    except OSError as error:
        raise FileRefusedError(name, [f"it cannot be read: {error.strerror or error}"]) from error
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError) as error:
        raise FileRefusedError(name, [f"it is damaged: {error}"]) from error


def refuse_workbook(path: Path, container: zipfile.ZipFile) -> None:
    """Refuse what a workbook may hold beside values.

    Raises:
        FileRefusedError: macros, external links and the like, or merged cells.
    """
    for member in container.infolist():
        lower = member.filename.lower()
        for start, problem in _FORBIDDEN.items():
            if lower.startswith(start):
                raise FileRefusedError(path.name, [f"it {problem}"])
        limit = _MAX_TEXTS if lower == "xl/sharedstrings.xml" else _MAX_PART
        if member.file_size > limit and not lower.startswith("xl/worksheets/"):
            raise FileRefusedError(
                path.name, [f"its part {member.filename} is too large; split it, or bring a .zip"]
            )
    types = next((m for m in container.infolist() if m.filename == "[Content_Types].xml"), None)
    if types is None or types.file_size > _RATIO_FROM:
        raise FileRefusedError(path.name, ["it is a zip, but no workbook"])
    if _MACRO_TYPE.search(container.read(types)):
        raise FileRefusedError(path.name, ["it holds macros; save it as .xlsx without them"])
    for member in container.infolist():
        if member.filename.lower().startswith("xl/worksheets/") and _merged(container, member):
            raise FileRefusedError(
                path.name,
                [f"it has merged cells ({member.filename.rpartition('/')[2]}); unmerge them"],
            )


def _problem(container: zipfile.ZipFile) -> str | None:
    members = container.infolist()
    if len(members) > _MAX_MEMBERS:
        return f"it has {len(members):,} members; at most {_MAX_MEMBERS:,} are read"
    seen: set[str] = set()
    for member in members:
        name = member.filename
        parts = name.replace("\\", "/").split("/")
        if ".." in parts or name.startswith(("/", "\\")) or ":" in parts[0] or "\\" in name:
            return f"member {name!r} points outside of it"
        if stat.S_ISLNK(member.external_attr >> 16):
            return f"member {name!r} is a link to another file"
        if name.casefold() in seen:
            return f"it has two members called {name!r}"
        if member.flag_bits & 0x1:
            return f"member {name!r} has a password; remove it"
        if member.compress_type not in _STORED_OR_DEFLATED:
            return f"member {name!r} is packed in an unusual way; zip it anew"
        seen.add(name.casefold())
    size = sum(member.file_size for member in members)
    packed = sum(member.compress_size for member in members)
    if size > MAX_SIZE:
        return f"it would unpack to {size:,} bytes; at most {MAX_SIZE:,} are read, so split it"
    worst = max((_ratio(each) for each in members if each.file_size > _RATIO_FROM), default=0.0)
    if worst > _MAX_RATIO or size > _MAX_RATIO * packed + _RATIO_FROM:
        return "it unpacks to far more than it is (a zip bomb, or blanks without end)"
    return None


def _ratio(member: zipfile.ZipInfo) -> float:
    return member.file_size / max(member.compress_size, 1)


def _merged(container: zipfile.ZipFile, member: zipfile.ZipInfo) -> bool:
    """Whether a sheet has merged cells, which a streaming reader does not tell."""
    tail = b""
    with container.open(member) as content:
        while chunk := content.read(_CHUNK):
            if _MERGED.search(tail + chunk):
                return True
            tail = chunk[-64:]
    return False
