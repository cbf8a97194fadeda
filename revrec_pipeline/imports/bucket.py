"""A watched folder in object storage: `s3://bucket/prefix`, on AWS or whatever speaks its protocol.

Credentials, region and endpoint come from the environment that every tool of AWS reads
(`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_PROFILE`, `AWS_REGION`,
`AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL`), or from the role of the machine. What is done with a
file is decided in `folder`.

An object appears whole, so none has to settle. It is moved by copying and then deleting it: whoever
is killed between the two finds it again, and its content was taken before.
"""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from pyarrow import fs

from revrec_pipeline.errors import SettingsError
from revrec_pipeline.imports.refusals import FileRefusedError

_CHUNK = 1 << 20
_CODE = re.compile(r"AWS Error (\w+)(?: \(HTTP status (\d+)\))? during (\w+) operation")
_WRONG_KEY = frozenset(
    {
        "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH", "INVALID_CLIENT_TOKEN_ID",
        "UNRECOGNIZED_CLIENT", "MISSING_AUTHENTICATION_TOKEN", "EXPIRED_TOKEN", "INVALID_SIGNATURE",
    }
)  # fmt: skip


class Bucket:
    """The objects right below one prefix."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.name = url
        self._bucket = parts.netloc
        self._root = PurePosixPath(parts.netloc, parts.path.strip("/"))
        self._fs = fs.S3FileSystem(**_connection())
        self._fetched: dict[str, tuple[int, int]] = {}  # when it was changed, and its size

    def waiting(self, now: float) -> list[str]:
        """The names of the objects that are there, the oldest first.

        Raises:
            SettingsError: the bucket cannot be listed; says why.
        """
        del now
        with _explained(self.name, self._bucket):
            # A prefix exists only as part of names: without objects there is none. Listing comes
            # first, for its answers say more than those about a bucket, which have no body.
            selected = fs.FileSelector(str(self._root), allow_not_found=True)
            found = [
                each
                for each in self._fs.get_file_info(selected)
                if each.type is fs.FileType.File and not each.base_name.startswith((".", "~$"))
            ]
            if not found and self._fs.get_file_info(self._bucket).type is fs.FileType.NotFound:
                raise SettingsError(
                    f"[imports] folder {self.name}: there is no bucket {self._bucket}; make it, "
                    "or correct the name"
                )
        found.sort(key=lambda each: (each.mtime_ns, each.base_name))
        return [each.base_name for each in found]

    def fetch(self, name: str, folder: Path, limit: int) -> Path | None:
        """A copy of an object in `folder`; None if somebody else has moved it away.

        Raises:
            FileRefusedError: it is larger than `limit` bytes; it was not fetched.
        """
        path, target = str(self._root / name), folder / name
        with _explained(self.name, self._bucket):
            info = self._fs.get_file_info(path)
            if info.type is not fs.FileType.File:
                return None
            if info.size > limit:
                raise FileRefusedError(name, [f"it has more than {limit:,} bytes; split it"])
            self._fetched[name] = (info.mtime_ns, info.size)
            with self._fs.open_input_stream(path) as content, target.open("wb") as copy:
                while chunk := content.read(_CHUNK):
                    copy.write(chunk)
        return target

    def move(self, name: str, where: str, as_: str, report: str) -> str:
        """Move an object below the prefix, with its report beside it; returns where it is now.

        One that was replaced since it was fetched stays, for the next look.
        """
        source, target = str(self._root / name), str(self._root / where / as_)
        with _explained(self.name, self._bucket):
            info = self._fs.get_file_info(source)
            if self._fetched.pop(name, None) not in (None, (info.mtime_ns, info.size)):
                return f"s3://{source}"
            with self._fs.open_output_stream(f"{target}.txt") as content:
                content.write(f"{report}\n".encode())
            self._fs.copy_file(source, target)
            self._fs.delete_file(source)
        return f"s3://{target}"


def _connection() -> dict[str, str]:
    """What the environment says of where to connect; credentials are found by the library."""
    found = {}
    if region := os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"):
        found["region"] = region
    for variable in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        if url := os.environ.get(variable):
            parts = urlsplit(url)
            if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username:
                raise SettingsError(f"{variable} is no URL; write it like https://s3.example.com")
            return {**found, "scheme": parts.scheme, "endpoint_override": parts.netloc}
    return found


@contextmanager
def _explained(url: str, bucket: str) -> Iterator[None]:
    """What the storage answers, in one line that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):  # of our own disk
            raise
        found = _CODE.search(str(error))
        code, status, operation = found.groups() if found else ("", None, "")
        if code == "NO_SUCH_BUCKET":
            reason = f"there is no bucket {bucket}; make it, or correct the name"
        elif code in _WRONG_KEY:
            reason = (
                f"the credentials were refused ({code}); check AWS_ACCESS_KEY_ID, "
                "AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN"
            )
        elif code == "ACCESS_DENIED" or status == "403":
            reason = (
                f"{operation} is not allowed; the credentials need s3:ListBucket, s3:GetObject, "
                f"s3:PutObject and s3:DeleteObject of {bucket}"
            )
        elif code == "NETWORK_CONNECTION":
            reason = "the storage cannot be reached; check the network and AWS_ENDPOINT_URL_S3"
        else:
            reason = str(error).splitlines()[0]
        raise SettingsError(f"[imports] folder {url}: {reason}") from error
