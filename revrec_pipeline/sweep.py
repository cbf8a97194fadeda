"""Id sweep: what the lake knows of a month, against the ids that the source has now.

It finds what no change feed reports: a record that was deleted for good, or that appeared without a
word. What is missing in the source gets a tombstone; what the lake lacks is for a listing to bring.
Asking the source is in `resources`, landing in `assets.raw`.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import duckdb
import pyarrow as pa

from revrec_pipeline.lake import CHANGES, KEYS, Lake, Page

_KNOWN = pa.schema([("object", pa.string()), ("id", pa.string()), ("version", pa.string())])


@dataclass(frozen=True, slots=True)
class Difference:
    """How the ids of a month differ."""

    period: str
    gone: pa.Table  # object, id and version of documents that the source no longer has
    unknown: int  # documents that the lake does not have in this month


def compare(
    lake: Lake, source: str, period: str, ids: pa.Table, objects: Iterable[str]
) -> Difference:
    """Compare `ids` (schema `resources.client.IDS`) with the documents of the month's listing.

    `objects` are the documents that the settings ask for: the lake may hold others, of which the
    source was not asked.
    """
    landings = lake.landings(source)
    newest = {one.window: one.id for one in landings if one.window != CHANGES}
    files = lake.keys(landings)
    with lake.reading(), duckdb.connect() as db:
        db.register("ids", ids)
        db.execute("CREATE TABLE listing (name VARCHAR, landing VARCHAR)")
        if newest:
            db.executemany("INSERT INTO listing VALUES (?, ?)", list(newest.items()))
        if not files:
            return Difference(period, _KNOWN.empty_table(), ids.num_rows)
        db.execute(
            """
            CREATE TABLE known AS
            WITH versions AS (
                SELECT object, id, version, period, "window",
                    parse_path(filename)[-2] AS landing
                FROM read_parquet($files, filename = true)
            ), winners AS (
                SELECT object, id,
                    max(row(version, versions.landing, period, "window")) AS winner
                FROM versions LEFT JOIN listing ON listing.name = versions."window"
                WHERE listing.landing IS NULL OR versions.landing >= listing.landing
                GROUP BY object, id
            )
            SELECT object, id, winner[1] AS version FROM winners
            WHERE winner[3] IS NOT NULL AND winner[4] = $period
                AND list_contains($objects, object)
            """,
            {"files": files, "period": period, "objects": list(objects)},
        )
        gone = db.sql("FROM known ANTI JOIN ids USING (object, id) ORDER BY ALL").to_arrow_table()
        (unknown,) = db.execute(
            "SELECT count(*) FROM ids ANTI JOIN known USING (object, id)"
        ).fetchall()[0]
    return Difference(period, gone.cast(_KNOWN), unknown)


def tombstones(difference: Difference, seen_at: datetime) -> list[Page]:
    """A page for each raw object with what is gone, to be landed."""
    pages = []
    for name in sorted(set(difference.gone["object"].to_pylist())):
        gone = [row for row in difference.gone.to_pylist() if row["object"] == name]
        keys = {
            "id": [row["id"] for row in gone],
            # Above the last version, and below the next one: a record that comes back wins.
            "version": [f"{row['version']} gone" for row in gone],
            "period": [None] * len(gone),
            # The next listing of the month knows better.
            "window": [difference.period] * len(gone),
        }
        body = json.dumps({"period": difference.period, "gone": keys["id"]})
        pages.append(
            Page(
                object=name,
                body=body.encode(),
                request=f"id sweep of {difference.period}",
                server_time=seen_at,
                records=len(gone),
                keys=pa.RecordBatch.from_pydict(keys, schema=KEYS),
            )
        )
    return pages
