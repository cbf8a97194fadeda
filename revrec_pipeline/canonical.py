"""One month of one source and record type: from raw landings to a checked batch in the lake.

A pure function of the lake's landings, the settings and what people let through: no clock, no
network, no ledger. Here it is decided which documents are held back. Which version of a document
counts is in `versions`, what a vendor's fields mean in `mapping`, what recorded customers and
products add in `references`, what a row must satisfy in `checks`, what must tie in `controls`, what
becomes of the batch in `delivery`.

    canonical/<source>/<record type>/<2026-01>/<hash>/…    see `batch_files`

A month that was built before is built again of what changed since then, where each document's rows
come from its own pages alone (`Source.apart`), and whole where not.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any, TypeAlias

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from revrec_pipeline import (
    batch_files,
    batch_rows,
    checks,
    controls,
    references,
    verdicts,
    versions,
)
from revrec_pipeline.batch_files import Recipe
from revrec_pipeline.codes import CONTROL_DIFFERENCE
from revrec_pipeline.controls import Damage
from revrec_pipeline.engine import engine
from revrec_pipeline.errors import LakeError
from revrec_pipeline.lake import Lake, Landing, newest_listings
from revrec_pipeline.ledger.sync_errors import Waiver
from revrec_pipeline.mapping import Site, Source, SourceSettings
from revrec_pipeline.mapping.sql import identifier
from revrec_pipeline.model import (
    AMOUNT,
    CANONICAL,
    RecordType,
    SyncError,
    without_amount,
)

ERRORS = pa.schema([(column.name, pa.string()) for column in fields(SyncError)])
#: Rows and amount by bucket (source, excluded, flagged), rule and currency. `rule` names what
#: excluded or flagged the row (`order_held`: another line of its document failed). A row without a
#: currency counts under ISO 4217's XXX, a row without an amount with 0. The bucket `own_total` has
#: documents for rows and for their amount what the vendor itself says that they are over; its rule
#: is `differs` where their lines say otherwise.
TOTALS = pa.schema(
    [
        ("bucket", pa.string()),
        ("rule", pa.string()),
        ("currency", pa.string()),
        ("rows", pa.int64()),
        ("amount", AMOUNT),
    ]
)
_PREVIEW_ROWS = 10
#: Of a batch's documents, how many may have changed since for it to be built upon. More, and each
#: sync would build nearly all that changed since again.
_CHANGED_AT_MOST = 0.125
#: A batch's folder and recipe, to build upon.
_Base: TypeAlias = tuple[Path, Recipe]


@dataclass(frozen=True, slots=True)
class Built:
    """A checked month, ready for the ledger's outbox."""

    path: Path  # the batch's folder, below the lake's root
    content_hash: str
    totals: pa.Table  # schema TOTALS
    errors: pa.Table  # schema ERRORS
    preview: pa.Table  # first rows that count
    failed_rows: dict[str, int]  # asset check → rows that fail it
    lost: tuple[str, ...]  # current documents that the mapping gave no row
    damaged: tuple[Damage, ...]  # raw pages that are not as they landed
    landings: tuple[str, ...]  # all that were known; newer ones may have arrived since

    @property
    def faulty(self) -> str | None:
        """Why nothing of the month may be delivered: what we lost, not what a row lacks."""
        if self.lost:
            return f"documents without rows: {', '.join(self.lost)}"
        if self.damaged:
            return f"raw pages are not as they landed: {'; '.join(map(str, self.damaged))}"
        return None


def build(
    lake: Lake,
    source: Source,
    record_type: RecordType,
    period: str,
    settings: SourceSettings,
    site: Site,
    waived: Sequence[Waiver] = (),
) -> Built:
    """Build, check and store one month from what has landed.

    An error in `waived` lets its row through with the default of its code.

    Raises:
        LakeError: the month was pulled under settings that asked for less than these do.
    """
    # Read once: what lands or is recorded meanwhile is for the next build.
    known, records = lake.landings(source.name), tuple(references.landings(lake))
    month = _Month(
        lake, source.under(settings), record_type, period, settings, site, waived, known, records
    )
    base = month.base()
    built = month.build(base) if base else None
    return built or month.build_whole()


@dataclass(frozen=True, slots=True)
class _Month:
    """What a month is built from."""

    lake: Lake
    source: Source
    record_type: RecordType
    period: str
    settings: SourceSettings
    site: Site
    waived: Sequence[Waiver]
    known: list[Landing]  # all of the source, oldest first
    records: tuple[str, ...]  # landings of customers and products

    @property
    def folder(self) -> Path:
        """Where the month's batches are, below the lake's root."""
        return Path("canonical", self.source.name, self.record_type, self.period)

    def base(self) -> _Base | None:
        """The newest batch of the month that only documents of news since then may differ from.

        There is none after a listing of the month, for what it lacks is gone; nor without news
        since the last batch: who builds the month again then wants to see it built.
        """
        if self.record_type not in self.source.apart:
            return None
        made_with, listings = self.made_with(), newest_listings(self.known)
        best: _Base | None = None
        for folder, recipe in batch_files.recipes(self.lake.root / self.folder):
            newest = recipe.newest_landing
            if recipe.made_with != made_with or recipe.landings != _digest_of(self.known, newest):
                continue
            if not versions.news(self.known, self.period, newest):
                return None
            if recipe.base or listings.get(self.period, "") > newest:
                continue
            if best is None or best[1].newest_landing < newest:
                best = folder, recipe
        return best

    def made_with(self) -> str:
        """Everything beside the source's landings that decides what the month becomes."""
        parts = (
            _code(),
            duckdb.__version__,
            self.settings.model_dump_json(),
            repr(self.site),
            *sorted(map(repr, self.waived)),
            *self.records,
        )
        return sha256("\n".join(parts).encode()).hexdigest()

    def build_whole(self) -> Built:
        """Build all documents of the month."""
        built = self.build(None)
        assert built  # noqa: S101 - what is built upon nothing is never built again
        return built

    def build(self, base: _Base | None) -> Built | None:
        """Build the month: with a base, of what changed since. None: build it whole instead."""
        lake, record_type, known = self.lake, self.record_type, self.known
        landings = versions.relevant(known, self.period)
        with lake.reading(), lake.scratch() as folder, engine(folder / "spill") as db:
            batch = folder / "batch"
            batch.mkdir()
            if base is None:
                versions.choose(db, lake, known, landings, self.period)
            elif not self._choose_changed(db, base, landings):
                return None
            used = _open_pages(db, lake, self.source, landings, self.period)
            damaged = controls.damaged(lake, used, self.source.objects)
            self._map(db, batch / "rows.parquet")
            verdicts.judge(db, record_type)
            self._write(db, batch, damaged)
            lost = self._lost(db)
            if base and (lost or damaged):  # the whole month tells what is wrong
                return None
            if record_type in self.source.apart and not lost and not damaged:
                self._recipe(base).write(batch)
            content_hash = self._content_hash(db, batch / "rows.parquet", base)
            path = self.folder / content_hash[:16]
            built = Built(
                path=path,
                content_hash=content_hash,
                **_of_whole_month(db, lake, batch),
                preview=db.sql(
                    f"SELECT {_columns(record_type)} FROM stored WHERE excluded_by IS NULL "
                    f"LIMIT {_PREVIEW_ROWS}"
                ).to_arrow_table(),
                lost=lost,
                damaged=tuple(damaged),
                # Also those that do not count any more: a listing that was made again, say.
                landings=tuple(landing.id for landing in known),
            )
            lake.publish(batch, path)
        return built

    def _choose_changed(
        self, db: duckdb.DuckDBPyConnection, base: _Base, landings: list[Landing]
    ) -> bool:
        """Create `current` and `dropped`; False if too much has changed since the base."""
        folder, recipe = base
        changed = versions.choose_changed(
            db,
            self.lake,
            self.known,
            landings,
            self.period,
            base=folder,
            since=recipe.newest_landing,
        )
        documents = pq.read_metadata(folder / "current.parquet").num_rows
        return bool(changed <= documents * _CHANGED_AT_MOST)

    def _lost(self, db: duckdb.DuckDBPyConnection) -> tuple[str, ...]:
        objects = self.source.feeding(self.record_type)
        return tuple(id_ for (id_,) in db.execute(_LOST, {"objects": objects}).fetchall())

    def _content_hash(self, db: duckdb.DuckDBPyConnection, rows: Path, base: _Base | None) -> str:
        with rows.open("rb") as content:
            digest = file_digest(content, "sha256")
        for each in self.waived:  # the same rows, of which others may go out
            digest.update(repr(each).encode())
        if base:
            dropped = db.execute("SELECT id FROM dropped ORDER BY ALL").fetchall()
            digest.update(repr((base[0].name, dropped)).encode())
        return digest.hexdigest()

    def _recipe(self, base: _Base | None) -> Recipe:
        newest = self.known[-1].id if self.known else ""
        return Recipe(
            self.made_with(),
            newest,
            _digest_of(self.known, newest),
            str(base[0].relative_to(self.lake.root)) if base else None,
        )

    def _map(self, db: duckdb.DuckDBPyConnection, file: Path) -> None:
        """Write the rows of `current`, and create `stored`, which reads them."""
        record_type = self.record_type
        self.source.rows(db, record_type, self.settings, self.site)
        _waive(db, self.waived)
        given = _with_defaults(db, self.site)
        given = references.filled(db, self.lake, record_type, self.site.home_currency, given)
        # What the catalog says of the view: to plan the view itself takes 30 ms.
        nothing = ", ".join(
            f"NULL::{type_} AS {identifier(name)}" for name, type_ in db.execute(_ROWS).fetchall()
        )
        found = db.sql(f"SELECT {nothing}").to_arrow_table().schema
        if differences := checks.structure_differences(record_type, found):
            raise TypeError(f"mapping {self.source.name}, {record_type}: {'; '.join(differences)}")
        db.execute(
            f"COPY (SELECT {_columns(record_type)} FROM {given}) TO '{file}' "
            "(FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, ROW_GROUP_SIZE 50000)"
        )
        db.execute(
            f"CREATE VIEW stored AS SELECT *{without_amount(record_type)}, "
            f"file_row_number AS position FROM read_parquet('{file}', file_row_number = true)"
        )

    def _write(self, db: duckdb.DuckDBPyConnection, batch: Path, damaged: Sequence[Damage]) -> None:
        """Write what was found of the rows beside them."""
        errors = db.sql(verdicts.ERRORS).to_arrow_table().cast(ERRORS)
        damages = _damage(self.source, self.record_type, self.period, damaged)
        pq.write_table(pa.concat_tables([errors, damages]), batch / "errors.parquet")
        for name, content in (
            ("held", "FROM held"),
            ("failed", verdicts.FAILED),
            ("totals", verdicts.TOTALS),
            ("outgoing", batch_rows.outgoing(self.record_type, "stored", "held")),
            ("current", "FROM current"),
            ("dropped", "FROM dropped"),
        ):
            db.execute(f"COPY ({content}) TO '{batch / name}.parquet' (FORMAT parquet)")


def _columns(record_type: RecordType) -> str:
    return ", ".join(CANONICAL[record_type].names)


def _of_whole_month(db: duckdb.DuckDBPyConnection, lake: Lake, batch: Path) -> dict[str, Any]:
    """What `Built` has of all documents, those of the base included."""
    errors, totals, failed = (
        batch_files.table(lake.root, [batch], name, document=document)
        for name, document in (
            ("errors", "record_id"),
            ("totals", "document_id"),
            ("failed", "document_id"),
        )
    )
    return {
        "errors": db.sql(
            f"SELECT * EXCLUDE (folder) FROM {errors} ORDER BY record_id, line_id, code, field"
        )
        .to_arrow_table()
        .cast(ERRORS),
        "totals": db.sql(_SUMMED.format(totals=totals)).to_arrow_table().cast(TOTALS),
        "failed_rows": dict(
            db.execute(
                f"SELECT check_name, sum(rows)::BIGINT FROM {failed} GROUP BY ALL"
            ).fetchall()
        ),
    }


@cache
def _code() -> str:
    """A hash of all that maps and checks: a batch that other code built is no base."""
    package = Path(__file__).parent
    digest = sha256()
    for file in sorted(package.rglob("*")):
        inner = file.relative_to(package)
        if file.suffix in (".py", ".toml", ".json") and inner.parts[0] not in ("sandbox", "cli"):
            digest.update(f"{inner}".encode() + file.read_bytes())
    return digest.hexdigest()


def _digest_of(known: list[Landing], newest: str) -> str:
    """A hash of the ids of the landings up to the newest one that a batch knew."""
    ids = [landing.id for landing in known if landing.id <= newest]
    return sha256("\n".join(ids).encode()).hexdigest()


_NO_PAGES = (
    "(SELECT NULL::VARCHAR AS landing, NULL::INTEGER AS page, NULL::VARCHAR AS parent, "
    "NULL::VARCHAR AS format, NULL::VARCHAR AS request, NULL::VARCHAR AS body WHERE false)"
)


def _open_pages(
    db: duckdb.DuckDBPyConnection,
    lake: Lake,
    source: Source,
    landings: list[Landing],
    period: str,
) -> list[Landing]:
    """Create a view `raw_<object>` over the pages of the landings that hold a current document.

    Returns these landings. One without one of the objects would give documents without some of
    their rows, and their delivered rows would be taken back; so it is refused.
    """
    wanted = {name for (name,) in db.execute("SELECT DISTINCT landing FROM current").fetchall()}
    used = [landing for landing in landings if landing.id in wanted]
    for name in source.objects:
        if any(name not in landing.objects for landing in used):
            raise LakeError(
                f"{source.title} {period} was pulled without {name}, which [sources.{source.name}] "
                f"asks for by now; list it again: revrec sync {source.name} --from {period} --to "
                f"{period}"
            )
        db.execute(
            f"CREATE VIEW raw_{name} AS SELECT landing, page, parent, format, request, body "
            f"FROM {versions.read_all(lake, used, name, _NO_PAGES)}"
        )
    return used


def _waive(db: duckdb.DuckDBPyConnection, waived: Sequence[Waiver]) -> None:
    """Create `waiver` and, of rows that are given the home currency, `defaulted`."""
    db.execute(
        "CREATE TABLE waiver (document_id VARCHAR, line_id VARCHAR, code VARCHAR, heading VARCHAR)"
    )
    if waived:
        db.executemany(
            "INSERT INTO waiver VALUES (?, ?, ?, ?)",
            [[each.record_id, each.line_id, each.code, each.field] for each in waived],
        )
    db.execute("CREATE TABLE defaulted (document_id VARCHAR, line_id VARCHAR)")
    if any(each.code == "IN_CURRENCY_MISSING" for each in waived):
        db.execute(
            "INSERT INTO defaulted SELECT document_id, line_id FROM rows "
            "WHERE currency IS NULL AND (document_id, line_id) IN "
            "(SELECT document_id, line_id FROM waiver WHERE code = 'IN_CURRENCY_MISSING')"
        )


def _with_defaults(db: duckdb.DuckDBPyConnection, site: Site) -> str:
    """The rows, those that a person let through without a currency in the home currency."""
    if not db.execute("SELECT count(*) FROM defaulted").fetchall()[0][0]:
        return "rows"
    return f"""(
        SELECT * REPLACE (CASE WHEN currency IS NULL AND (document_id, line_id) IN (FROM defaulted)
            THEN {_text(site.home_currency)} ELSE currency END AS currency) FROM rows
    )"""


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _damage(
    source: Source, record_type: RecordType, period: str, damaged: Sequence[Damage]
) -> pa.Table:
    """One error for each record on pages that are not as they landed."""
    code = checks.CODES[CONTROL_DIFFERENCE]
    rows = [
        {
            "stage": code.stage,
            "code": CONTROL_DIFFERENCE,
            "severity": code.severity.value,
            "owner": code.owner,
            "source": source.name,
            "record_type": str(record_type),
            "period": period,
            "record_id": record,
            "field": each.object,
            "message": f"{each}; restore the lake's file, or sync {source.name} --from {period} "
            f"--to {period}",
        }
        for each in damaged
        for record in each.records
    ]
    return pa.Table.from_pylist(rows, schema=ERRORS)


_SUMMED = """
SELECT bucket, rule, currency, sum(rows)::BIGINT AS rows, sum(amount)::DECIMAL(18, 4) AS amount
FROM {totals} GROUP BY ALL ORDER BY ALL
"""
_ROWS = "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = 'rows'"
_LOST = """
SELECT id FROM current
WHERE list_contains($objects, object) AND id NOT IN (SELECT document_id FROM stored) ORDER BY id
"""
