"""The lake: raw pages as they came, canonical batches and conversion files, all append-only.

    raw/<source>/<2026-01 | changes>/<landing>/<object>.parquet  one row per page, as received
                                              /keys.parquet      one row per document: see KEYS
                                              /manifest.json     what was asked, what came
    canonical/<source>/<record type>/<2026-01>/<hash>/…          see `canonical`
    files/<job>/…                                                see `delivery`

A *landing* is one consistent pull of a window: documents together with all of their lines. It
appears under its name in one rename; a crash leaves at most a folder under `.partial/`, which
nobody reads and the next writer removes.
What a vendor's fields mean is in `mapping`; which version of a document counts is in `canonical`.
"""

import errno
import fcntl
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any, Literal, Self

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from revrec_pipeline.errors import LakeError, SourceSchemaError

#: One row per document on a page. `version` is the source's own stamp as text that sorts. `period`
#: is the month of the business date in the site's time zone. `window` is the month whose listing
#: holds the document: the same month, except where a source lists by another date than the business
#: date (Stripe lists by `created`, an invoice counts when it is finalised).
#:
#: A tombstone, which tells that a document was deleted, has neither period nor window, and a
#: version above the document's last one: the document then leaves its month. The body of its page
#: is what the vendor's feed of deletions answered.
KEYS = pa.schema(
    [
        ("id", pa.string()),
        ("version", pa.string()),
        ("period", pa.string()),
        ("window", pa.string()),
    ]
)
#: The window of an incremental pull, which may hold documents of any month.
CHANGES = "changes"

_PAGES = pa.schema(
    [
        ("page", pa.int32()),
        ("parent", pa.string()),
        ("format", pa.string()),
        ("request", pa.string()),
        ("request_id", pa.string()),
        ("server_time", pa.timestamp("us", tz="UTC")),
        ("sha256", pa.string()),
        ("body", pa.string()),
    ]
)
_KEYS_FILE = "keys.parquet"
_LANDED_KEYS = pa.schema(
    [("object", pa.string()), ("page", pa.int32()), *KEYS, ("digest", pa.string())]
)
# A DuckDB vector does not cross a row group, and pages reach 1 MB: with 16 in a group a month of a
# million lines took 305 MB inside of DuckDB, with 4 it takes 100 MB, and no more CPU.
_PAGES_PER_ROW_GROUP = 4


@dataclass(frozen=True, slots=True)
class Page:
    """One response body, with what is needed to index it and to prove where it came from."""

    object: str
    body: bytes  # UTF-8, exactly as received after transfer decoding
    request: str  # method, path and query; no secret
    server_time: datetime  # the Date header
    records: int  # how many records the page holds
    keys: pa.RecordBatch | None = None  # schema KEYS; None for pages of lines
    #: For each key what the whole document says, lines included, as a hash, or null. A document
    #: that says what its current version says touches no month.
    digests: pa.Array | None = None
    format: Literal["json", "csv", "xml"] = "json"
    parent: str | None = None  # the document whose further lines these are
    request_id: str | None = None  # the vendor's, for its support


@dataclass(frozen=True, slots=True)
class Landing:
    """The manifest of one landing."""

    id: str  # sorts by the time at which the pull began
    source: str
    window: str  # a month, or `changes`
    since: str | None  # bounds of an incremental window, ISO instants
    until: str | None
    run_id: str
    api_version: str
    started_at: str
    server_time: str | None  # of the last page
    objects: dict[str, dict[str, Any]]  # pages, records, bytes and sha256 of each object
    keys: dict[str, Any]  # rows and sha256 of keys.parquet
    periods: tuple[str, ...]  # months of the documents in it
    touched: tuple[str, ...]  # those of what it changed, where it is now and where it was before

    @property
    def folder(self) -> Path:
        """Where it lies below the lake's root."""
        return Path("raw", self.source, self.window, self.id)


@dataclass(slots=True)
class _ObjectWriter:
    """Pages of one raw object on their way into one Parquet file."""

    file: Path
    writer: pq.ParquetWriter
    pages: int = 0
    records: int = 0
    size: int = 0
    digest: Any = field(default_factory=sha256)
    waiting: list[dict[str, Any]] = field(default_factory=list)
    last: tuple[str | None, str] | None = None  # parent and hash of the page before

    @classmethod
    def open(cls, file: Path) -> Self:
        # zstd level 1 costs 0.4 CPU s per 488 MB; dictionaries and statistics of bodies are waste.
        writer = pq.ParquetWriter(
            file,
            _PAGES,
            compression="zstd",
            compression_level=1,
            use_dictionary=False,
            write_statistics=False,
        )
        return cls(file, writer)

    def add(self, source: str, page: Page) -> int:
        body_hash = sha256(page.body).hexdigest()
        if page.records and (page.parent, body_hash) == self.last:
            raise SourceSchemaError(
                source, f"{page.request} answered the page before it once more; nothing was landed"
            )
        self.last = (page.parent, body_hash)
        number = self.pages
        self.waiting.append(
            {
                "page": number,
                "parent": page.parent,
                "format": page.format,
                "request": page.request,
                "request_id": page.request_id,
                "server_time": page.server_time,
                "sha256": body_hash,
                "body": page.body,
            }
        )
        self.pages += 1
        self.records += page.records
        self.size += len(page.body)
        self.digest.update(bytes.fromhex(body_hash))
        if len(self.waiting) == _PAGES_PER_ROW_GROUP:
            self.flush()
        return number

    def flush(self) -> None:
        if self.waiting:
            columns = [[row[name] for row in self.waiting] for name in _PAGES.names]
            self.writer.write_table(
                pa.table(
                    [
                        pa.array(column, kind)
                        for column, kind in zip(columns, _PAGES.types, strict=True)
                    ],
                    schema=_PAGES,
                )
            )
            self.waiting.clear()

    def close(self) -> dict[str, Any]:
        self.flush()
        self.writer.close()
        return {
            "pages": self.pages,
            "records": self.records,
            "bytes": self.size,
            "sha256": self.digest.hexdigest(),
        }


class Lake:
    """The files below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    # -- writing -----------------------------------------------------------------------------

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder to write into, for `publish`. What is not published is gone at the end.

        It is locked as long as its process lives; what killed processes left is removed here.

        Raises:
            LakeError: the disk is full or may not be written.
        """
        partial = self.root / ".partial"
        folder = partial / secrets.token_hex(8)
        try:
            partial.mkdir(parents=True, exist_ok=True)
            _remove_left_behind(partial)
            with _locked_folder(folder):
                yield folder
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
                raise LakeError(
                    f"cannot write the lake at {self.root}: {error.strerror}; make room or change "
                    "REVREC_LAKE_URL, then run the same command again"
                ) from error
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def publish(self, folder: Path, target: Path) -> None:
        """Give a scratch folder its name below the root, in one rename.

        An existing `target` stays: names carry a hash or a time, so it has the same content.
        """
        final = self.root / target
        final.parent.mkdir(parents=True, exist_ok=True)
        if not final.exists():
            folder.rename(final)

    def land(
        self,
        source: str,
        window: str,
        pages: Iterable[Page],
        *,
        run_id: str,
        api_version: str,
        objects: Iterable[str],
        since: datetime | None = None,
        until: datetime | None = None,
        note: Callable[[Landing], None] | None = None,
    ) -> Landing:
        """Write all pages of one pull as one landing, or nothing at all.

        `objects` are the raw objects to expect, so that a month without records still has a file.
        `note` is told of the landing before it appears: whoever is killed in between has noted one
        that never came, and not the other way round.
        """
        started = datetime.now(UTC)
        landing_id = f"{started:%Y%m%dT%H%M%S.%fZ}-{secrets.token_hex(4)}"
        with self.scratch() as folder:
            writers = {name: _ObjectWriter.open(folder / f"{name}.parquet") for name in objects}
            server_time: datetime | None = None
            keys: list[pa.RecordBatch] = []
            for page in pages:
                number = writers[page.object].add(source, page)
                server_time = page.server_time
                if page.keys is not None and page.keys.num_rows:
                    keys.append(_landed(page, number, page.keys))
            summaries = {name: writer.close() for name, writer in writers.items()}
            table = pa.Table.from_batches(keys, _LANDED_KEYS)
            keys_file = folder / _KEYS_FILE
            pq.write_table(table, keys_file, compression="zstd")
            periods = tuple(sorted({p for p in table["period"].unique().to_pylist() if p}))
            landing = Landing(
                id=landing_id,
                source=source,
                window=window,
                since=since.isoformat() if since else None,
                until=until.isoformat() if until else None,
                run_id=run_id,
                api_version=api_version,
                started_at=started.isoformat(),
                server_time=server_time.isoformat() if server_time else None,
                objects=summaries,
                keys={"rows": table.num_rows, "sha256": _sha256(keys_file)},
                periods=periods,
                touched=self._touched(source, window, table),
            )
            manifest = json.dumps(asdict(landing), indent=2, sort_keys=True)
            (folder / "manifest.json").write_text(manifest + "\n", encoding="utf-8")
            if note:
                note(landing)
            self.publish(folder, landing.folder)
        return landing

    def _touched(self, source: str, window: str, keys: pa.Table) -> tuple[str, ...]:
        """The months to rebuild: where these documents are now and where they were before.

        Stripe lists its open invoices anew with each sync, so a document whose digest is that of
        the version that counts by now changes nothing. Which one counts: see `canonical`.
        """
        known = self.landings(source)
        touched = set()
        if window != CHANGES:
            touched.add(window)
            earlier = [landing for landing in known if landing.window == window]
            if earlier:  # a document that is gone from the new listing leaves its month, too
                touched.update(earlier[-1].periods)
        if keys.num_rows:
            files, listings = self.keys(known), newest_listings(known)
            with self.reading(), duckdb.connect() as connection:
                connection.register("landed", keys)
                connection.execute("CREATE TABLE listing (window_name VARCHAR, landing VARCHAR)")
                if listings:
                    connection.executemany(
                        "INSERT INTO listing VALUES (?, ?)", list(listings.items())
                    )
                rows = connection.execute(_TOUCHED.format(known=_all_keys(files))).fetchall()
            touched.update(period for (period,) in rows)
        return tuple(sorted(touched))

    # -- reading -----------------------------------------------------------------------------

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Name a file of the lake that DuckDB finds missing or damaged, and say how to mend it.

        Raises:
            LakeError: for such a file; any other error of DuckDB passes.
        """
        try:
            yield
        except duckdb.Error as error:
            found = re.search(re.escape(str(self.root)) + r"/[^'\"]+\.parquet", str(error))
            if found is None:
                raise
            file = Path(found[0])
            raise self._unusable(file, "damaged" if file.is_file() else "missing") from error

    def keys(self, landings: Iterable[Landing]) -> list[str]:
        """The files with the documents of these landings, each found to be as it landed.

        A document that such a file has lost would leave its month as if it had been deleted.

        Raises:
            LakeError: names a file that is missing or not as it landed.
        """
        files = []
        for landing in landings:
            file = self.root / landing.folder / _KEYS_FILE
            if not file.is_file():
                raise self._unusable(file, "missing")
            if _sha256(file) != landing.keys["sha256"]:
                raise self._unusable(file, _what_became_of(file, landing.keys["rows"]))
            files.append(str(file))
        return files

    def _unusable(self, file: Path, what: str) -> LakeError:
        return LakeError(
            f"{file} is {what}; restore it from a backup, or remove the folder {file.parent} and "
            f"run `{_mended_by(file.relative_to(self.root))}`"
        )

    def landings(self, source: str) -> list[Landing]:
        """All landings of a source, oldest first."""
        found = (self.root / "raw" / source).glob("*/*/manifest.json")
        return sorted((_read_manifest(path) for path in found), key=lambda landing: landing.id)


def newest_listings(landings: list[Landing]) -> dict[str, str]:
    """The newest full listing of each window; `landings` are ordered from old to new."""
    return {landing.window: landing.id for landing in landings if landing.window != CHANGES}


_TOUCHED = """
WITH known AS (FROM ({known}) SEMI JOIN landed USING (object, id)), counting AS (
    SELECT object, id, max(row(version, known.landing, page, period, digest)) AS winner
    FROM known LEFT JOIN listing AS newest ON newest.window_name = known."window"
    WHERE newest.landing IS NULL OR known.landing >= newest.landing
    GROUP BY object, id
), changed AS (
    SELECT landed.* FROM landed LEFT JOIN counting USING (object, id)
    WHERE winner IS NULL OR landed.digest IS NULL OR winner[5] IS DISTINCT FROM landed.digest
        OR winner[4] IS DISTINCT FROM landed.period
)
SELECT period FROM changed WHERE period IS NOT NULL
UNION
SELECT known.period FROM known SEMI JOIN changed USING (object, id) WHERE known.period IS NOT NULL
"""


def _all_keys(files: list[str]) -> str:
    """The keys of these files, with the landing's id; older ones have no digests."""
    columns = "NULL::VARCHAR AS landing, " + ", ".join(
        f'NULL::{"INTEGER" if name == "page" else "VARCHAR"} AS "{name}"'
        for name in _LANDED_KEYS.names
    )
    nothing = f"SELECT {columns} WHERE false"
    if not files:
        return nothing
    listed = ", ".join("'" + file.replace("'", "''") + "'" for file in files)
    return (
        f"{nothing} UNION ALL BY NAME SELECT * EXCLUDE (filename), "
        "parse_path(filename)[-2] AS landing "
        f"FROM read_parquet([{listed}], filename = true, union_by_name = true)"
    )


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return file_digest(content, "sha256").hexdigest()


def _what_became_of(file: Path, documents: int) -> str:
    """What is wrong with a file of keys that is not as it landed, with so many documents."""
    try:
        found = pq.read_metadata(file).num_rows
    except (OSError, pa.ArrowException):
        return "damaged"
    return f"not as it landed: it has {found} documents, and {documents} landed"


@contextmanager
def _locked_folder(folder: Path) -> Iterator[None]:
    """Make a folder whose lock ends with this process."""
    while True:
        folder.mkdir(exist_ok=True)
        # Before it is locked, another process may take it for left behind and remove it.
        try:
            descriptor = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            continue
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if folder.exists():
            break
        os.close(descriptor)
    try:
        yield
    finally:
        os.close(descriptor)


def _remove_left_behind(partial: Path) -> None:
    """Remove the scratch folders whose processes are dead."""
    for folder in partial.iterdir():
        try:
            descriptor = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:  # published or removed meanwhile
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        else:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(descriptor)


def _mended_by(file: Path) -> str:
    """The command that makes a file's content anew."""
    kind, source, window = file.parts[:3]
    if kind == "raw" and window != CHANGES:
        return f"revrec sync {source} --from {window} --to {window}"
    # A window of changes may have brought documents of any month.
    return f"revrec sync {source} --full" + ("" if kind == "raw" else " --from-lake")


def _landed(page: Page, number: int, keys: pa.RecordBatch) -> pa.RecordBatch:
    count = keys.num_rows
    return pa.RecordBatch.from_arrays(
        [
            pa.array([page.object] * count, pa.string()),
            pa.array([number] * count, pa.int32()),
            *(keys.column(column) for column in KEYS.names),
            pa.nulls(count, pa.string()) if page.digests is None else page.digests,
        ],
        schema=_LANDED_KEYS,
    )


def _read_manifest(path: Path) -> Landing:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        content["periods"] = tuple(content["periods"])
        content["touched"] = tuple(content["touched"])
        return Landing(**content)
    except (ValueError, TypeError, KeyError) as error:
        raise LakeError(
            f"{path} is not a manifest of this version; restore it from a backup, or remove its "
            f"folder and pull {path.parent.parent.name} again"
        ) from error
