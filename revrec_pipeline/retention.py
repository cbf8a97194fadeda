"""Which raw landings nothing needs any more.

The lake is evidence, so this is off until `[retention] raw_days` is set. What a month can be built
from, and what a delivered row is traced to, stays for ever.
"""

import shutil
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import duckdb

from revrec_pipeline.lake import CHANGES, Lake, Landing
from revrec_pipeline.ledger import Transaction, lines


def referenced(tx: Transaction, source: str) -> set[str]:
    """The landings that rows of the ledger came from, or that wait to be built."""
    tables = " UNION ".join(
        f"SELECT DISTINCT raw_batch AS landing FROM {table} WHERE source = :source"
        for table in lines.TABLE.values()
    )
    found = tx.rows(
        f"{tables} UNION SELECT landing FROM touched_period WHERE source = :source", source=source
    )
    return {row["landing"] for row in found}


def removable(
    lake: Lake, source: str, needed: Iterable[str], *, days: int, at: datetime | None = None
) -> list[Landing]:
    """Landings older than `days` in which no document's newest version is.

    The newest listing of a window stays in any case: it tells that what it lacks was deleted.
    """
    landings = lake.landings(source)
    newest = {one.window: one.id for one in landings if one.window != CHANGES}
    keep = {*needed, *newest.values(), *_with_newest_versions(lake, landings)}
    before = (at or datetime.now(UTC)) - timedelta(days=days)
    return [
        one
        for one in landings
        if one.id not in keep and datetime.fromisoformat(one.started_at) < before
    ]


def _with_newest_versions(lake: Lake, landings: list[Landing]) -> set[str]:
    files = lake.keys(landings)
    if not files:
        return set()
    with lake.reading(), duckdb.connect() as db:
        found = db.execute(
            """
            SELECT DISTINCT winner[2] FROM (
                SELECT max(row(version, parse_path(filename)[-2])) AS winner
                FROM read_parquet(?, filename = true) GROUP BY object, id
            )
            """,
            [files],
        ).fetchall()
    return {landing for (landing,) in found}


def remove(lake: Lake, landing: Landing) -> None:
    """Remove a landing's folder: its manifest first, so that a killed process leaves no landing."""
    folder = lake.root / landing.folder
    (folder / "manifest.json").unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
