"""A file becomes jobs: read, landed, built, checked, and put into the outbox.

All of it happens in the caller's process, without a request to anybody. Delivering is the outbox's
business, as for every other source.
"""

import shutil
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import file_digest
from pathlib import Path
from typing import Any

from revrec_pipeline import canonical, references
from revrec_pipeline.conversion.template import Template, load_template
from revrec_pipeline.errors import LedgerError
from revrec_pipeline.hand_over import hand_over
from revrec_pipeline.imports.landing import Landed, land, numbers
from revrec_pipeline.imports.reading import ReadSheet, read
from revrec_pipeline.imports.refusals import FileRefusedError
from revrec_pipeline.lake import Lake
from revrec_pipeline.ledger import Ledger, Transaction, cursors, imports, jobs, lines, sync_errors
from revrec_pipeline.mapping import Source
from revrec_pipeline.mapping.file import OBJECTS, SOURCE, FileSettings
from revrec_pipeline.model import SYNC_SOURCE, RecordType
from revrec_pipeline.settings import Settings

#: Nobody brings a larger file by hand; its copy has to fit on the lake's disk.
MAX_FILE = 2 << 30
# No run of Dagster vouches for the job: without a lease, the routing sensor would take it for one
# whose process was killed, and seal it half built. A month takes less than this.
_LEASE_SECONDS = 600.0
# A workbook of a million rows took eight minutes to read on two busy cores.
_READING_SECONDS = 3_600.0


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of a file."""

    name: str
    #: By record type; empty when its content was taken before.
    job_ids: Mapping[RecordType, int] = field(default_factory=dict)
    #: The time before: `{name, who, at, job_ids}`.
    earlier: dict[str, Any] | None = None


def import_file(
    ledger: Ledger,
    lake: Lake,
    settings: Settings,
    path: Path,
    *,
    job_name: str,
    who: str,
    trigger: str,
    source: Source = SOURCE,
    lease_seconds: float | None = None,
    again: bool = False,
) -> Imported:
    """Take a file: its jobs are sealed, their batches READY.

    With a lease the caller delivers, else the routing sensor does.

    The same content is not taken twice, unless `again`.

    Raises:
        FileRefusedError: nothing of it was taken; the message says why.
        ContentBusyError: another process imports the same content just now.
    """
    key = f"import:{uuid.uuid4().hex[:12]}"
    try:
        return _import(
            ledger, lake, settings, path, key, job_name, who, trigger, source, lease_seconds, again
        )
    except BaseException:
        # What went wrong is what must be reported; if this fails as well, the claim runs out.
        with suppress(LedgerError), ledger.transaction() as tx:
            imports.release(tx, key)
        raise


def _import(
    ledger: Ledger,
    lake: Lake,
    settings: Settings,
    path: Path,
    key: str,
    job_name: str,
    who: str,
    trigger: str,
    source: Source,
    lease_seconds: float | None,
    again: bool,
) -> Imported:
    with lake.scratch() as folder:
        # A copy, so that what is checked, read and kept is one and the same.
        copy = folder / "original" / path.name
        digest = _copy(path, copy)
        claim = partial(imports.claim, sha256=digest, source=source.name, sync_key=key, who=who)
        with ledger.transaction() as tx:
            if not again and (earlier := imports.earlier(tx, source.name, digest)):
                return Imported(path.name, earlier=earlier)
            claim(tx, seconds=_READING_SECONDS)
        work = folder / "work"
        work.mkdir()
        template = load_template()
        sheets = read(copy, template, work)
        _refuse_loaded(ledger, path.name, sheets, template, work)
        landed = land(
            lake,
            source.name,
            path.name,
            sheets,
            template,
            work,
            run_id=key,
            fallback=settings.site.history_start,
        )
        size = copy.stat().st_size
        original = Path("raw", source.name, "original", digest)
        lake.publish(copy.parent, original)
        # The same content may have come before, under another name.
        kept = next(iter(sorted((lake.root / original).iterdir()))).name
    renew = partial(claim, seconds=_LEASE_SECONDS)
    job_ids = _build(ledger, lake, settings, source, landed, key, job_name, trigger, renew)
    with ledger.transaction() as tx:
        renew(tx)  # refuses if it ran out, and somebody else is at it
        imports.record(
            tx,
            sha256=digest,
            source=source.name,
            sync_key=key,
            name=path.name,
            path=str(original / kept),
            size=size,
            who=who,
        )
        imports.release(tx, key)
        jobs.seal(tx, key)
        if lease_seconds is not None:  # sealing ends it, and the caller is about to deliver
            for job_id in job_ids.values():
                jobs.renew_lease(tx, job_id, lease_seconds)
    return Imported(path.name, job_ids)


def _refuse_loaded(
    ledger: Ledger,
    file: str,
    sheets: Mapping[str, ReadSheet],
    template: Template,
    folder: Path,
) -> None:
    """Refuse what a system has loaded live: it would count twice.

    Raises:
        FileRefusedError: names the first of such documents.
    """
    problems = []
    for kind, table in lines.TABLE.items():
        if table not in imports.NUMBERS:  # systems load none of these
            continue
        named = numbers(sheets, template, kind, folder)
        if named is None:
            continue
        with ledger.transaction() as tx:
            found = imports.loaded_by_systems(tx, table, named)
        problems += [
            f"sheet {template.sheet_of(kind).name}, row {each['place']}: {each['key']} was loaded "
            f"live from {each['source']}, so it would count twice; leave it out"
            + ("" if each["named"] else f", or name the system that it is from in {SYNC_SOURCE!r}")
            for each in found
        ]
    if problems:
        raise FileRefusedError(file, problems, "IN_DUP_KEY")


def _copy(path: Path, target: Path) -> str:
    """Copy the file; returns the hash of its content."""
    target.parent.mkdir()
    try:
        if not path.is_file():
            raise FileRefusedError(path.name, [f"{path} is no file"])
        if path.stat().st_size > MAX_FILE:
            raise FileRefusedError(
                path.name, [f"it has more than {MAX_FILE:,} bytes; split it, by month for example"]
            )
        shutil.copyfile(path, target)
        with target.open("rb") as content:
            return file_digest(content, "sha256").hexdigest()
    except PermissionError as error:
        raise FileRefusedError(path.name, [f"it cannot be read: {error.strerror}"]) from error


def _build(
    ledger: Ledger,
    lake: Lake,
    settings: Settings,
    source: Source,
    landed: Landed,
    key: str,
    job_name: str,
    trigger: str,
    renew: Callable[[Transaction], None],
) -> dict[RecordType, int]:
    """Open one job for each record type, and build its months.

    New customers and products may mend errors of rows that came before: their months are built
    again, those of this source now, those of others with their next sync.
    """
    with ledger.transaction() as tx:
        for kind in landed.months:
            sync_errors.ask_again(tx, references.MENDED.get(kind, ()))
        mended = {RecordType(kind): () for kind in sync_errors.asked(tx, source.name)}
    touched: dict[RecordType, tuple[str, ...]] = {**mended, **landed.months}
    job_ids: dict[RecordType, int] = {}
    for record_type, months in touched.items():
        # A landing that is older than a sheet's support has none of its pages.
        narrow = replace(
            source,
            objects=(OBJECTS[record_type],),
            documents={OBJECTS[record_type]: (record_type,)},
        )
        with ledger.transaction() as tx:
            job_id = jobs.open_job(
                tx,
                sync_key=key,
                source=source.name,
                record_type=record_type,
                name=f"{job_name}: {record_type}" if len(touched) > 1 else job_name,
                trigger=trigger,
                lease_seconds=_LEASE_SECONDS,
            )
            # What people let through waits for the next import, whatever months that brings.
            asked = cursors.pending_periods(tx, source.name)
        job_ids[record_type] = job_id
        for month in sorted({*months, *asked}):
            with ledger.transaction() as tx:
                renew(tx)
                jobs.renew_lease(tx, job_id, _LEASE_SECONDS)
                jobs.start_run(tx, job_id, month, key)
                waivers = sync_errors.waivers(
                    tx, source=source.name, record_type=record_type, period=month
                )
            built = canonical.build(
                lake,
                narrow,
                record_type,
                month,
                FileSettings(),
                settings.mapping_site(),
                waivers.errors,
            )
            with ledger.transaction() as tx:
                hand_over(tx, built, source, record_type, month, job_id, key)
                if not built.faulty:
                    cursors.clear(tx, source.name, month, waivers.asked_by)
    return job_ids
