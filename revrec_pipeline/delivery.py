"""Delivering a job's batches, each exactly once: into a conversion file, or into the ledger.

Claim, compare with what was delivered, write or stage, and one transaction that makes it true. A
process may be killed at any point: until that transaction there is a claim whose lease ends, and
perhaps files that nobody knows of, which the next attempt writes again with the same bytes.

What changed is decided in `ledger.documents`, who may deliver in `ledger.outbox`, what the rows are
in `batch_rows`, how a file looks in `conversion`.

    files/<job>/<source>-<record type>-<months>.xlsx and .zip    a second delivery's end in -2
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from hashlib import file_digest
from pathlib import Path
from typing import Literal

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from revrec_pipeline import batch_rows, controls
from revrec_pipeline.conversion import disk_errors, write_files
from revrec_pipeline.engine import engine
from revrec_pipeline.errors import LakeError, LedgerError
from revrec_pipeline.lake import Lake
from revrec_pipeline.ledger import Ledger, Transaction, documents, jobs, lines, now, outbox
from revrec_pipeline.ledger.accounting_periods import current_route
from revrec_pipeline.ledger.outbox import Batch, Total
from revrec_pipeline.model import OWN_SOURCES, RecordType, Route

#: Each thread that writes holds two groups of rows.
_ROWS_PER_GROUP = 20_480


@dataclass(frozen=True, slots=True)
class Delivery:
    """What came of one attempt.

    `rerouted`: the batches must go the other way now, and stay READY. `nothing`: there was nothing
    to deliver, or somebody else has delivered it.
    """

    state: Literal["delivered", "rerouted", "nothing"]
    batches: tuple[str, ...] = ()
    #: Documents that were added, changed, unchanged and removed.
    documents: Mapping[str, int] = field(default_factory=dict)
    #: By batch: rows and amounts delivered, unchanged and removed, for each currency.
    totals: Mapping[str, Sequence[Total]] = field(default_factory=dict)
    #: Conversion files, below the lake's root.
    files: tuple[Path, ...] = ()
    #: Lines that files had brought of the same documents; from now on their system's count.
    taken_over: int = 0

    def rows(self, bucket: str) -> int:
        """The rows of all batches in a bucket: delivered, unchanged or removed."""
        return sum(
            total.rows for each in self.totals.values() for total in each if total.bucket == bucket
        )


@dataclass(frozen=True, slots=True)
class _File:
    path: Path  # below the lake's root
    sha256: str
    size: int
    lines: int


@dataclass(frozen=True, slots=True)
class _Claim:
    """The batches of one job that this process may deliver, as long as it renews."""

    ledger: Ledger
    claimed_by: str
    lease_seconds: float
    batches: Sequence[Batch]

    @property
    def job_id(self) -> int:
        return self.batches[0].job_id

    @property
    def source(self) -> str:
        return self.batches[0].source

    @property
    def record_type(self) -> RecordType:
        return RecordType(self.batches[0].record_type)

    def renew(self) -> None:
        with self.ledger.transaction() as tx:
            outbox.renew(
                tx, self.job_id, claimed_by=self.claimed_by, lease_seconds=self.lease_seconds
            )

    def release(self) -> None:
        # What went wrong is what must be reported; if this fails as well, the lease ends by itself.
        with suppress(LedgerError), self.ledger.transaction() as tx:
            outbox.release(tx, self.job_id, claimed_by=self.claimed_by)


def deliver(
    ledger: Ledger,
    lake_root: Path,
    job_id: int,
    route: Route,
    *,
    claimed_by: str,
    lease_seconds: float = 300.0,
) -> Delivery:
    """Deliver every READY batch of a job that goes this way.

    `lease_seconds` must be longer than comparing, and than writing a file, takes.

    Raises:
        LedgerBusyError: another job of this source and record type is being delivered.
        LedgerError: the claim was lost meanwhile; whoever has it now delivers.
        LakeError: a batch's file is missing, or the disk is full; the batches are READY again.
    """
    with ledger.transaction() as tx:
        claimed = outbox.claim(
            tx, job_id, claimed_by=claimed_by, route=route, lease_seconds=lease_seconds
        )
        if not claimed:
            return Delivery(_why_nothing(tx, job_id, route))
    claim = _Claim(ledger, claimed_by, lease_seconds, claimed)
    lake = Lake(lake_root)
    try:
        with (
            lake.reading(),
            lake.scratch() as scratch,
            disk_errors(lake_root),
            engine(scratch / "spill") as db,
        ):
            return _deliver(claim, lake, scratch, db, route)
    except BaseException:
        claim.release()
        raise


def _why_nothing(tx: Transaction, job_id: int, route: Route) -> Literal["rerouted", "nothing"]:
    current = current_route(tx)
    waiting = [
        batch
        for batch in outbox.batches(tx, job_id)
        if batch["state"] == "ready" and (batch["route"] or current) != route
    ]
    return "rerouted" if waiting else "nothing"


def _deliver(
    claim: _Claim, lake: Lake, scratch: Path, db: duckdb.DuckDBPyConnection, route: Route
) -> Delivery:
    batch_rows.open_documents(db, lake.root, claim.batches)
    arriving = batch_rows.incoming(db, scratch / "arriving.parquet")
    comparison = scratch / "comparison.parquet"
    with claim.ledger.transaction() as tx:
        found = documents.compare(
            tx,
            source=claim.source,
            record_type=claim.record_type,
            batches=documents.by_period(claim.batches),
            incoming=arriving,
        )
        earlier = sum(file["kind"] == "zip" for file in jobs.files(tx, claim.job_id))
    with pq.ParquetWriter(comparison, found.schema) as writer:
        for some in found:
            writer.write_batch(some)
    count = batch_rows.choose(db, lake.root, claim.record_type, comparison)
    _refuse_changed(claim, lake, db)
    removed = batch_rows.removed(db)
    delivered_from = _delivered_from(claim, lake, removed)
    summed = batch_rows.totals(db, lake.root, claim.record_type, removed, delivered_from)
    totals = {batch.id: summed.get(batch.id, []) for batch in claim.batches}
    claim.renew()
    files: list[_File] = []
    staged = scratch / "lines.parquet"
    if count and route is Route.CONVERSION:
        files = _write(claim, lake, scratch, db, count, f"-{earlier + 1}" if earlier else "")
    elif count:
        db.execute(
            f"COPY (SELECT * EXCLUDE (batch_id) FROM outgoing) TO '{staged}' "
            f"(FORMAT parquet, ROW_GROUP_SIZE {_ROWS_PER_GROUP})"
        )
        claim.renew()
    with claim.ledger.transaction() as tx:
        if not outbox.complete(
            tx, claim.job_id, claimed_by=claim.claimed_by, totals=totals
        ):  # committed before, by a call that never heard of it
            return Delivery("nothing")
        documents.record(
            tx,
            source=claim.source,
            record_type=claim.record_type,
            route=route,
            comparison=comparison,
        )
        taken_over = 0
        if route is Route.LIVE:
            taken_over = _load(tx, claim, removed, staged if count else None, totals)
        for file in files:
            jobs.record_file(
                tx,
                claim.job_id,
                path=str(file.path),
                kind=file.path.suffix.removeprefix("."),
                sha256=file.sha256,
                size=file.size,
                rows=file.lines,
            )
    return Delivery(
        "delivered",
        tuple(batch.id for batch in claim.batches),
        batch_rows.changes(db),
        totals,
        tuple(file.path for file in files),
        taken_over,
    )


def _refuse_changed(claim: _Claim, lake: Lake, db: duckdb.DuckDBPyConnection) -> None:
    """Deliver only what was stored: a row that was lost or changed since names its document.

    Raises:
        LakeError: a batch's file is not what was stored.
    """
    changed = batch_rows.changed_since_stored(db, lake.root, claim.record_type)
    for batch in claim.batches:
        folder = lake.root / batch.path
        if folder in changed:
            raise LakeError(
                f"{folder} does not tie with what was stored, so nothing of job "
                f"{claim.job_id} was delivered; records: {controls.named(changed[folder])}. "
                f"Restore the folder, or remove it and sync {batch.source} --from {batch.period} "
                f"--to {batch.period}"
            )


def _delivered_from(claim: _Claim, lake: Lake, removed: pa.Table) -> dict[str, Path]:
    """For each removed document, the folder of the batch that delivered it."""
    if not removed.num_rows:
        return {}
    with claim.ledger.transaction() as tx:
        found = tx.rows(
            """
            SELECT document_id, path FROM document JOIN batch ON batch.id = document.batch_id
            WHERE document.source = :source AND document.record_type = :record_type
                AND document_id = ANY(:ids)
            """,
            source=claim.source,
            record_type=claim.record_type,
            ids=removed["document_id"].to_pylist(),
        )
    return {row["document_id"]: lake.root / row["path"] for row in found}


def _write(
    claim: _Claim,
    lake: Lake,
    scratch: Path,
    db: duckdb.DuckDBPyConnection,
    count: int,
    suffix: str,
) -> list[_File]:
    """Write the conversion file in both forms and put it into the lake."""
    months = sorted({claim.batches[0].period, claim.batches[-1].period})
    name = f"{claim.source}-{claim.record_type}-{'_'.join(months)}{suffix}"
    work, ready = scratch / "work", scratch / "ready"
    work.mkdir()
    written = write_files(
        db,
        {claim.record_type: "outgoing"},
        [ready / f"{name}.xlsx", ready / f"{name}.zip"],
        scratch=work,
    )
    for form in (".xlsx", ".zip"):
        lines = sum(file.lines for file in written if file.path.suffix == form)
        if lines != count:
            raise LakeError(
                f"the {form} of job {claim.job_id} would hold {lines} of {count} lines, so nothing "
                "was delivered; please report this"
            )
    folder = Path("files", str(claim.job_id))
    files = []
    for file in written:
        with file.path.open("rb") as content:
            digest = file_digest(content, "sha256").hexdigest()
        size = file.path.stat().st_size
        files.append(_File(folder / file.path.name, digest, size, file.lines))
    # Only who still holds the claim may replace a file: a slow loser would put back old rows.
    claim.renew()
    (lake.root / folder).mkdir(parents=True, exist_ok=True)
    for draft in written:
        draft.path.replace(lake.root / folder / draft.path.name)
    return files


def _load(
    tx: Transaction,
    claim: _Claim,
    removed: pa.Table,
    staged: Path | None,
    totals: Mapping[str, Sequence[Total]],
) -> int:
    """Load and remove; returns how many lines of files give way."""
    taken_over = 0
    if staged:
        at = now()
        lines.upsert(tx, claim.record_type, staged, job_id=claim.job_id, at=at)
        if claim.source not in OWN_SOURCES:
            taken_over = lines.take_over(tx, claim.record_type, staged, at=at)
        _check_loaded(tx, claim, totals, at)
    if removed.num_rows:
        lines.remove(
            tx,
            claim.record_type,
            source=claim.source,
            documents=removed.select(["document_id"]),
        )
    return taken_over


def _check_loaded(
    tx: Transaction, claim: _Claim, totals: Mapping[str, Sequence[Total]], at: datetime
) -> None:
    """What stands in the ledger now is what was to be delivered, in rows and in amount.

    Raises:
        LedgerError: it is not; the transaction that loaded it must not be committed.
    """
    loaded = lines.loaded(tx, claim.record_type, source=claim.source, at=at)
    due: defaultdict[str, tuple[int, Decimal]] = defaultdict(lambda: (0, Decimal(0)))
    for total in (each for listed in totals.values() for each in listed):
        if total.bucket == "delivered":
            rows, amount = due[total.currency]
            due[total.currency] = (rows + total.rows, amount + total.amount)
    for currency in sorted(due.keys() | loaded.keys()):
        if due.get(currency) != loaded.get(currency):
            (rows, amount), (found, sum_) = (
                each.get(currency, (0, Decimal(0))) for each in (due, loaded)
            )
            raise LedgerError(
                f"job {claim.job_id} was not loaded: {rows} rows over {amount} {currency} were "
                f"due, {found} over {sum_} reached the ledger; please report this"
            )
