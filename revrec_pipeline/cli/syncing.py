"""One sync of one source from the command line: pull, rebuild, seal, deliver.

Which months are listed or whether changes are pulled is decided here; what a run does is in the
asset graph. Each month fails or succeeds alone, unless the next one would fail in the same way.
"""

import fcntl
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from assets.context import DRY_RUN_TAG, SYNC_TAG, job_name
from revrec_pipeline.cli.output import counted
from revrec_pipeline.cli.progress import Progress
from revrec_pipeline.cli.runs import LEASE_SECONDS, TRIGGER, RunFailedError, Runner, lease
from revrec_pipeline.errors import RevrecError, UsageError
from revrec_pipeline.ledger import Ledger, cursors, jobs, outbox
from revrec_pipeline.mapping import Source
from revrec_pipeline.model import RecordType, Route
from revrec_pipeline.periods import period_of, period_range
from schedules.jobs import (
    changes_job_name,
    delivery_config,
    delivery_job_name,
    rebuild_job_name,
    sync_job_name,
)

# How long to wait for a delivery by another process, longer than its claim lives without it.
_PATIENCE_SECONDS = 360.0


@dataclass
class Span:
    """The months that were asked for; without `start`, what changed since the last sync."""

    start: str | None
    end: str | None


@dataclass
class Outcome:
    """What became of one source."""

    source: str
    job_ids: list[int] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    #: Of a dry run: the batches in the lake that nobody will deliver, by record type and month.
    built: dict[RecordType, dict[str, Path]] = field(default_factory=dict)


def sync_source(
    runner: Runner,
    ledger: Ledger,
    source: Source,
    span: Span,
    progress: Progress,
    *,
    dry_run: bool = False,
) -> Outcome:
    """Run one sync of one source, and route its batches before returning.

    Raises:
        UsageError: another sync of this source is running in this home.
    """
    sync = _Sync(runner, ledger, source, progress, dry_run)
    with _alone(runner.settings.home, source):
        if dry_run:
            sync.pull(span)
            return sync.outcome
        sync.finish_killed()
        sync.open_jobs()
        with lease(ledger, sync.outcome.job_ids):
            try:
                sync.pull(span)
            finally:
                sync.seal()
            sync.deliver()
    return sync.outcome


@contextmanager
def _alone(home: Path, source: Source) -> Iterator[None]:
    """Keep other commands from syncing the same source; the lock dies with the process."""
    with (home / f".{source.name}.lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise UsageError(
                f"{source.title} is being synced in {home} by process {file.read() or 'unknown'}; "
                "wait until it has ended"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


@dataclass
class _Sync:
    runner: Runner
    ledger: Ledger
    source: Source
    progress: Progress
    dry_run: bool
    key: str = field(default_factory=lambda: f"sync:{uuid.uuid4().hex[:12]}")

    def __post_init__(self) -> None:
        self.outcome = Outcome(self.source.name)
        self.tags = {SYNC_TAG: self.key, "revrec/source": self.source.name}
        if self.dry_run:
            self.tags[DRY_RUN_TAG] = "true"

    def finish_killed(self) -> None:
        """Seal and release what a killed command left: we hold its lock, so it is dead."""
        with self.ledger.transaction() as tx:
            left = tx.rows(
                "SELECT DISTINCT sync_key FROM job WHERE source = :source "
                "AND sealed_at IS NULL AND sync_key LIKE 'sync:%'",
                source=self.source.name,
            )
            for job in left:
                jobs.seal(tx, job["sync_key"])
            claims = outbox.claims(tx, self.source.name)
        # Else the delivery that it was killed in would have to wait for the end of its lease.
        dead = [claim for claim in claims if self.runner.was_ours(claim["claimed_by"])]
        with self.ledger.transaction() as tx:
            for claim in dead:
                outbox.release(tx, claim["job_id"], claimed_by=claim["claimed_by"])
        self.runner.report_killed(self.source.name)

    def open_jobs(self) -> None:
        settings = self.runner.settings.source(self.source.name)
        with self.ledger.transaction() as tx:
            self.outcome.job_ids = [
                jobs.open_job(
                    tx,
                    sync_key=self.key,
                    source=self.source.name,
                    record_type=record_type,
                    name=job_name(self.source, record_type, TRIGGER),
                    trigger=TRIGGER,
                    lease_seconds=LEASE_SECONDS,
                )
                for record_type in self.source.record_types(settings)
            ]

    def pull(self, span: Span) -> None:
        """List months or pull changes, then rebuild what that touched."""
        with self.ledger.transaction() as tx:
            position = cursors.position(tx, self.source.name)
        going_on = (
            self._list_months(span) if position is None or span.start else self._pull_changes()
        )
        if going_on:
            self._rebuild_touched()

    def _list_months(self, span: Span) -> bool:
        site = self.runner.settings.site
        start = span.start or site.history_start
        end = span.end or period_of(datetime.now(UTC), site.timezone)
        months = list(period_range(start, end))
        span_words = start if start == end else f"{start} to {end}"
        self.progress.begin(f"{self.source.title}, {span_words}", len(months))
        return all(self._month(sync_job_name(self.source.name), month) for month in months)

    def _pull_changes(self) -> bool:
        self.progress.begin(f"{self.source.title}, changes since the last sync", None)
        try:
            found = self.runner.run(changes_job_name(self.source.name), tags=self.tags)
        except RunFailedError as error:
            self.outcome.failures.append(str(error))
            return False
        (pulled,) = found.values()
        self.progress.step(
            f"{counted(pulled['records'], 'record')}; months to rebuild: {pulled['touched_months']}"
        )
        return True

    def _rebuild_touched(self) -> None:
        with self.ledger.transaction() as tx:
            if self.dry_run:
                months = cursors.pending_periods(tx, self.source.name)
            else:
                months = list(cursors.take(tx, self.source.name, self.key))
        if months:
            self.progress.begin(f"{self.source.title}, rebuild", len(months))
        for month in months:
            if not self._month(rebuild_job_name(self.source.name), month):
                return

    def _month(self, job: str, month: str) -> bool:
        """Run one month; False if the next one would fail in the same way."""
        began = time.monotonic()
        try:
            found = self.runner.run(job, month=month, tags={**self.tags, "revrec/period": month})
        except RunFailedError as error:
            self.outcome.failures.append(f"{month}: {error}")
            self.progress.step(f"{month}  FAILED: {error}")
            return not error.next_too
        built = {
            RecordType(key.rpartition("/")[2]): metadata
            for key, metadata in found.items()
            if not key.startswith("raw/")
        }
        for record_type, metadata in built.items():
            self.outcome.built.setdefault(record_type, {})[month] = Path(metadata["batch"])
        self.progress.step(f"{month}  {_sum_up(built)}  ({time.monotonic() - began:.1f} s)")
        return True

    def seal(self) -> None:
        """All runs have ended; the lease stays, so that the sensor leaves delivery to us."""
        with self.ledger.transaction() as tx:
            jobs.seal(tx, self.key)
            for job_id in self.outcome.job_ids:
                jobs.renew_lease(tx, job_id, LEASE_SECONDS)

    def deliver(self) -> None:
        """Deliver every READY batch of this source, also those that a killed command left."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while waiting := self._waiting():
            for job_id, route, free in waiting:
                if free:
                    self._deliver(job_id, route)
            if time.monotonic() > deadline:
                self.outcome.failures.append(
                    f"job {waiting[0][0]} is still being delivered by another process"
                )
                return
            if not any(free for _, _, free in waiting):
                time.sleep(0.5)

    def _waiting(self) -> list[tuple[int, Route, bool]]:
        """Sealed jobs with batches to deliver: id, route, and whether nobody else delivers them."""
        with self.ledger.transaction() as tx:
            return [
                (row["job_id"], Route(row["route"]), row["free"])
                for row in outbox.undelivered(tx, self.source.name)
            ]

    def _deliver(self, job_id: int, route: Route) -> None:
        try:
            self.runner.run(
                delivery_job_name(route),
                tags={**self.tags, "revrec/job": str(job_id)},
                config=delivery_config(route, job_id),
            )
        except RunFailedError as error:
            raise RevrecError(f"job {job_id} was not delivered: {error}") from error


def _sum_up(built: dict[RecordType, dict[str, Any]]) -> str:
    total, flagged, excluded = (
        sum(metadata[name] for metadata in built.values())
        for name in ("dagster/partition_row_count", "flagged_rows", "excluded_rows")
    )
    return f"{total} rows, {flagged} flagged, {excluded} excluded"
