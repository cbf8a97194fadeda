"""A zip file whose bytes depend on its content only: no clock, no user, no system zlib.

The standard library's `zipfile` deflates with whatever zlib the interpreter was linked to, and
zlib-ng gives other bytes than zlib (learningequality/ricecooker#722), so members arrive deflated:
by Arrow's own zlib or by the workbook writer, both of which come with the pinned wheels.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from revrec_pipeline.errors import LakeError

_STORED, _DEFLATED = 0, 8
_VERSION = 20  # 2.0: deflate and folders
_DATE = (0 << 9) | (1 << 5) | 1  # 1980-01-01, the first day that the format can tell
_UTF8_NAME = 0x800
#: Without the zip64 extension, which not every importer reads.
_MAX_SIZE = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Deflated:
    """A member's raw deflate stream."""

    chunks: Iterator[bytes]
    crc: int
    compressed: int  # bytes in the file
    size: int  # bytes when inflated


class Container:
    """Writes members one after the other; closing writes the directory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO = path.open("wb")
        self._directory: list[bytes] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._file:
            if kind is None:
                self._finish()

    def add_deflated(self, name: str, member: Deflated) -> None:
        """Append a member that is deflated already."""
        self._header(name, _DEFLATED, member.crc, member.compressed, member.size)
        for chunk in member.chunks:
            self._file.write(chunk)

    def add_stored(self, name: str, content: bytes) -> None:
        """Append a small member as it is."""
        self._header(name, _STORED, zlib.crc32(content), len(content), len(content))
        self._file.write(content)

    def _header(self, name: str, method: int, crc: int, compressed: int, size: int) -> None:
        offset = self._file.tell()
        if max(size, offset + compressed) > _MAX_SIZE:
            raise LakeError(
                f"{self._path.name} would be over 4 GiB, which its format cannot hold; "
                "sync fewer months at a time"
            )
        encoded = name.encode()
        common = struct.pack(
            "<HHHHHLLLHH",
            _VERSION,
            0 if name.isascii() else _UTF8_NAME,
            method,
            0,  # time of day
            _DATE,
            crc,
            compressed,
            size,
            len(encoded),
            0,  # no extra fields
        )
        self._file.write(b"PK\x03\x04" + common + encoded)
        self._directory.append(
            b"PK\x01\x02"
            + struct.pack("<H", _VERSION)
            + common
            + struct.pack("<HHHLL", 0, 0, 0, 0, offset)
            + encoded
        )

    def _finish(self) -> None:
        start = self._file.tell()
        directory = b"".join(self._directory)
        self._file.write(directory)
        count = len(self._directory)
        self._file.write(
            b"PK\x05\x06" + struct.pack("<HHHHLLH", 0, 0, count, count, len(directory), start, 0)
        )
