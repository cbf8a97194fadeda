"""A ledger and a lake with synced months in it, as the canonical step leaves them.

Fixtures, to be imported: `ledger_url` and `ledger`, on a DuckDB file and on PostgreSQL.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from canonical_rows import canonical

from revrec_pipeline import batch_rows
from revrec_pipeline import canonical as canonical_step
from revrec_pipeline.delivery import Delivery, deliver
from revrec_pipeline.ledger import Ledger, accounting_periods, jobs, open_ledger, outbox
from revrec_pipeline.ledger.outbox import Total
from revrec_pipeline.model import RecordType, Route, without_amount

Rows = Sequence[dict[str, Any]]


@pytest.fixture(params=["duckdb", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a new ledger."""
    if request.param == "duckdb":
        return f"duckdb:///{tmp_path / 'ledger.duckdb'}"
    return str(request.getfixturevalue("postgres_database").url)


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    """A new, empty ledger."""
    opened = open_ledger(ledger_url)
    yield opened
    opened.close()


@dataclass
class Books:
    """The stores of one site, and what syncs and deliveries do to them."""

    ledger: Ledger
    lake: Path
    _keys: Any = field(default_factory=lambda: count(1))

    def synced(
        self,
        months: Mapping[str, Rows],
        *,
        held: Collection[str] = (),
        job: int | None = None,
        source: str | None = None,
        record_type: RecordType | None = None,
    ) -> int:
        """Put one batch for each month and seal the job; `held` documents failed a check.

        Gives a new job, or builds the months of `job` once more.
        """
        first = next((row for rows in months.values() for row in rows), {})
        source = source or first["source"]
        record_type = record_type or RecordType(first["record_type"])
        with self.ledger.transaction() as tx:
            key = f"sync-{next(self._keys)}" if job is None else _key(tx, job)
            job = jobs.open_job(
                tx,
                sync_key=key,
                source=source,
                record_type=record_type,
                name=f"{source} {record_type}",
                trigger="test",
            )
            for period, rows in months.items():
                jobs.start_run(tx, job, period, "run")
                content = self._write(source, record_type, period, rows, held)
                outbox.put_batch(
                    tx,
                    job_id=job,
                    source=source,
                    record_type=record_type,
                    period=period,
                    content_hash=content,
                    path=f"canonical/{source}/{record_type}/{period}/{content[:16]}",
                    totals=_totals(rows, held),
                )
                jobs.end_run(tx, job, period, "run")
            jobs.seal(tx, key)
        return job

    def delivered(
        self, months: Mapping[str, Rows], route: Route = Route.CONVERSION, **how: Any
    ) -> tuple[int, Delivery]:
        """Sync the months and deliver them."""
        job = self.synced(months, **how)
        return job, self.deliver(job, route)

    def deliver(self, job: int, route: Route = Route.CONVERSION) -> Delivery:
        """Deliver a job."""
        return deliver(self.ledger, self.lake, job, route, claimed_by=f"run-{next(self._keys)}")

    def set_period(self, period: str = "2026-01") -> None:
        """From now on everything is loaded live."""
        with self.ledger.transaction() as tx:
            accounting_periods.set_period(tx, period)

    def job(self, job: int) -> dict[str, Any]:
        """The job as `revrec job --json` shows it."""
        with self.ledger.transaction() as tx:
            (found,) = jobs.jobs(tx, job)
        return found

    def files(self, job: int) -> list[Path]:
        """The conversion files of a job."""
        return [self.lake / path for path in self.job(job)["files"]]

    def states(self, job: int) -> dict[str, tuple[str, str | None]]:
        """Month → state and route of the batch."""
        with self.ledger.transaction() as tx:
            found = outbox.batches(tx, job)
        return {row["period"]: (row["state"], row["route"]) for row in found}

    def documents(self) -> dict[str, tuple[str, str]]:
        """Document → month and route, of everything delivered."""
        with self.ledger.transaction() as tx:
            rows = tx.rows("SELECT document_id, period, route FROM document")
        return {row["document_id"]: (row["period"], row["route"]) for row in rows}

    def loaded(self, table: str = "billing_line") -> list[tuple[str, str, Decimal]]:
        """Document, line and amount of the lines that were loaded live and count."""
        with self.ledger.transaction() as tx:
            rows = tx.rows(
                f"SELECT document_id, line_id, amount FROM {table} WHERE removed_at IS NULL "
                "ORDER BY 1, 2"
            )
        return [(row["document_id"], row["line_id"], row["amount"]) for row in rows]

    def _write(
        self,
        source: str,
        record_type: RecordType,
        period: str,
        rows: Rows,
        held: Collection[str],
    ) -> str:
        """Write a batch's folder; returns the hash of what is in it."""
        known = {row["document_id"] for row in rows}
        ids = pa.table({"document_id": pa.array(sorted(known.intersection(held)), pa.string())})
        table = canonical(record_type, rows)
        buffers = []
        for each in (table, ids):
            sink = pa.BufferOutputStream()
            pq.write_table(each, sink)
            buffers.append(sink.getvalue().to_pybytes())
        content = sha256(b"".join(buffers)).hexdigest()
        folder = self.lake / "canonical" / source / record_type / period / content[:16]
        folder.mkdir(parents=True, exist_ok=True)
        for name, body in zip(("rows.parquet", "held.parquet"), buffers, strict=True):
            (folder / name).write_bytes(body)
        pq.write_table(_by_document(rows, held), folder / "totals.parquet")
        with duckdb.connect() as db:
            stored, kept = (f"'{folder}/{name}.parquet'" for name in ("rows", "held"))
            stored = f"(SELECT *{without_amount(record_type)} FROM {stored})"
            outgoing = batch_rows.outgoing(record_type, stored, kept)
            db.execute(f"COPY ({outgoing}) TO '{folder}/outgoing.parquet'")
        return content


def _key(tx: Any, job: int) -> str:
    found = tx.one("SELECT sync_key FROM job WHERE id = :job", job=job)
    return str(found["sync_key"])


def _by_document(rows: Rows, held: Collection[str]) -> pa.Table:
    """What the canonical step stores of each document beside the rows."""
    return pa.Table.from_pylist(
        [
            {"document_id": document} | asdict(total)
            for document in sorted({row["document_id"] for row in rows})
            for total in _totals([row for row in rows if row["document_id"] == document], held)
        ],
        schema=pa.schema([("document_id", pa.string()), *canonical_step.TOTALS]),
    )


def _totals(rows: Rows, held: Collection[str]) -> list[Total]:
    """What the canonical step counts: source, excluded and flagged rows."""
    counts: Counter[tuple[str, str, str]] = Counter()
    amounts: Counter[tuple[str, str, str]] = Counter()
    for row in rows:
        buckets = [("source", "")]
        if row.get("excluded_by"):
            buckets.append(("excluded", row["excluded_by"]))
        elif row["document_id"] in held:
            buckets.append(("flagged", "IN_MISSING_REQUIRED"))
        for bucket, rule in buckets:
            key = (bucket, rule, row.get("currency") or "XXX")
            counts[key] += 1
            amounts[key] += row.get("amount") or Decimal(0)
    return [
        Total(bucket, counts[key], amounts[key], currency, rule)  # type: ignore[arg-type]
        for key in counts
        for bucket, rule, currency in [key]
    ]
