"""One sync of one source from the command line: pull, rebuild, seal, deliver.

Which months are listed or whether changes are pulled is decided here; what a run does is in the
asset graph. Each month fails or succeeds alone, unless the next one would fail in the same way.
"""

import fcntl
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from assets.context import DRY_RUN_TAG, SYNC_TAG, job_name
from revrec_pipeline.cli.output import counted
from revrec_pipeline.cli.progress import Progress
from revrec_pipeline.cli.runs import LEASE_SECONDS, TRIGGER, RunFailedError, Runner, lease
from revrec_pipeline.errors import RevrecError, UsageError
from revrec_pipeline.lake import Lake
from revrec_pipeline.ledger import Ledger, cursors, jobs, outbox
from revrec_pipeline.mapping import Source
from revrec_pipeline.model import RecordType, Route
from revrec_pipeline.periods import period_of, period_range
from revrec_pipeline.settings import SiteSettings
from schedules.jobs import (
    changes_job_name,
    delivery_config,
    delivery_job_name,
    rebuild_job_name,
    sweep_job_name,
    sync_job_name,
)

# How far our clock and a source's may be apart.
_CLOCKS_DIFFER = timedelta(hours=1)
# How long to wait for a delivery by another process, longer than its claim lives without it.
_PATIENCE_SECONDS = 360.0
_GLANCE_SECONDS = 0.5


@dataclass
class Span:
    """The months that were asked for; without `start`, what changed since the last sync."""

    start: str | None
    end: str | None
    #: Build them from what has landed, without a request.
    from_lake: bool = False
    #: Compare the source's ids with the lake, too.
    sweep: bool = False

    def covers(self, site: SiteSettings) -> bool:
        """Whether these are all months that there are."""
        return (self.start is None or self.start == site.history_start) and self.end is None


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
    lake: Lake,
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
    sync = _Sync(runner, ledger, lake, source, progress, dry_run)
    with _alone(runner.settings.home, source):
        if span.from_lake:
            sync.landed_months(span)  # before a job is opened
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
    lake: Lake
    source: Source
    progress: Progress
    dry_run: bool
    key: str = field(default_factory=lambda: f"sync:{uuid.uuid4().hex[:12]}")

    def __post_init__(self) -> None:
        self.began = datetime.now(UTC)
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
        name = self.source.name
        if span.from_lake:
            self._rebuild(self.landed_months(span))
            return
        with self.ledger.transaction() as tx:
            position = cursors.position(tx, name)
            unfinished = cursors.wanted(tx, name)
        if position is None or span.start:
            going_on = self._list_months(self._months(span))
            if going_on and span.covers(self.runner.settings.site) and not self.outcome.failures:
                self._forget_the_future()
        else:
            going_on = self._list_months(unfinished) and self._pull(
                "changes since the last sync", changes_job_name(name)
            )
        if going_on and span.sweep:
            going_on = self._pull("all ids", sweep_job_name(name))
        if going_on:
            self._rebuild_touched()

    def _months(self, span: Span) -> list[str]:
        site = self.runner.settings.site
        end = span.end or period_of(datetime.now(UTC), site.timezone)
        return list(period_range(span.start or site.history_start, end))

    def landed_months(self, span: Span) -> list[str]:
        """The months asked for, all of which must have been listed.

        Raises:
            UsageError: one has not.
        """
        months = self._months(span)
        landed = {landing.window for landing in self.lake.landings(self.source.name)}
        for month in months:
            if month not in landed:
                raise UsageError(
                    f"{month} of {self.source.title} was never listed, so the lake cannot give it; "
                    "leave out --from-lake"
                )
        return months

    def _list_months(self, months: Sequence[str]) -> bool:
        if not months:
            return True
        if not self.dry_run:
            with self.ledger.transaction() as tx:
                cursors.want(tx, self.source.name, months)
        span = months[0] if len(months) == 1 else f"{months[0]} to {months[-1]}"
        self.progress.begin(f"{self.source.title}, {span}", len(months))
        for month in months:
            self._await_turn()
            if not self._month(sync_job_name(self.source.name), month):
                return False
        return True

    def _forget_the_future(self) -> None:
        """Everything was listed anew: a position that a clock's jump had left is mended."""
        with self.ledger.transaction() as tx:
            position = cursors.position(tx, self.source.name)
            if position and position > self.began:
                cursors.set_anew(tx, self.source.name, self.began - _CLOCKS_DIFFER)

    def _pull(self, what: str, job: str) -> bool:
        self.progress.begin(f"{self.source.title}, {what}", None)
        self._await_turn()
        try:
            found = self.runner.run(job, tags=self.tags)
        except RunFailedError as error:
            self.outcome.failures.append(str(error))
            return False
        (pulled,) = found.values()
        self.progress.step(
            f"{counted(pulled['records'], 'record')}; months to rebuild: {pulled['touched_months']}"
        )
        return True

    def _rebuild_touched(self) -> None:
        span = self.runner.settings.site.months(datetime.now(UTC))
        with self.ledger.transaction() as tx:
            if self.dry_run:
                months = cursors.pending_periods(tx, self.source.name, span)
            else:
                months = list(cursors.take(tx, self.source.name, self.key, span))
        self._rebuild(months)

    def _rebuild(self, months: Sequence[str]) -> None:
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

    def _await_turn(self) -> None:
        """Wait for a pull of the same source by the daemon; Dagster's own wait ignores Ctrl-C."""
        told = False
        while run_id := self.runner.pulling(self.source.name):
            if not told:
                self.progress.step(f"waiting for run {run_id}, which is pulling in Dagster")
                told = True
            time.sleep(_GLANCE_SECONDS)

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
            mine = [(job_id, route) for job_id, route, free in waiting if free]
            for job_id, route in mine:
                self._deliver(job_id, route)
            if mine:  # which takes as long as it takes: 440 s for 5 million lines on a busy machine
                deadline = time.monotonic() + _PATIENCE_SECONDS
            elif time.monotonic() > deadline:
                self.outcome.failures.append(
                    f"job {waiting[0][0]} is still being delivered by another process"
                )
                return
            else:
                time.sleep(_GLANCE_SECONDS)

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
