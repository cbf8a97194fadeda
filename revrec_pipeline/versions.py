"""Which version of a document counts for a month, and which documents changed since a batch.

What lives here is the version guard over the keys of landings. What the documents say is in
`canonical` and the mappings.
"""

from pathlib import Path

import duckdb
import pyarrow as pa

from revrec_pipeline.lake import Lake, Landing, newest_listings

_PLACED = (
    "object, id, winner[1] AS version, winner[2] AS landing, winner[3] AS page, "
    'winner[5] AS "window"'
)
_LISTINGS = pa.schema([("window_name", pa.string()), ("landing", pa.string())])


def relevant(landings: list[Landing], period: str) -> list[Landing]:
    """The landings that must be asked which documents the month has, and in which version.

    Of the full listings of a window only the newest counts: what is gone from it is gone. A landing
    that touched the month may have brought an old version of a document whose newer one, in another
    month, had landed before; so the months that it touched beside this one are asked, too. And one
    that brought documents of the month as they were before has their newest versions.
    """
    newest = newest_listings(landings)
    counting = [
        landing for landing in landings if newest.get(landing.window, landing.id) == landing.id
    ]
    months = {landing.id: {*landing.touched, *landing.periods} for landing in counting}
    linked = {month for asked in months.values() if period in asked for month in asked}
    return [landing for landing in counting if linked & months[landing.id]]


def choose(
    db: duckdb.DuckDBPyConnection,
    lake: Lake,
    known: list[Landing],
    landings: list[Landing],
    period: str,
) -> None:
    """Create `current`: for each document of the month, the version that counts and where it is.

    The newest version by the source's own stamp wins, and of equal ones the newest landing. A
    change that landed before the newest full listing of its window is not asked any more: a
    document that the listing lacks has been deleted since.
    """
    _open_listings(db, known)
    db.execute("CREATE TABLE dropped (id VARCHAR)")
    db.execute(
        f"""
        CREATE TABLE current AS
        SELECT {_PLACED}
        FROM ({_winners(_keys(lake, landings))}) WHERE winner[4] = $period
        """,
        {"period": period},
    )


def news(known: list[Landing], period: str, since: str) -> list[Landing]:
    """The landings after `since` that brought documents of the month or took some from it."""
    return [
        landing
        for landing in known
        if landing.id > since and period in (*landing.touched, *landing.periods)
    ]


def choose_changed(
    db: duckdb.DuckDBPyConnection,
    lake: Lake,
    known: list[Landing],
    landings: list[Landing],
    period: str,
    *,
    base: Path,
    since: str,
) -> int:
    """Create `current` as `choose` does, but of what changed since a batch of this month was built.

    `base` is that batch's folder, `since` the newest landing that it knew; the month itself may not
    have been listed after it. `dropped` becomes the ids of the batch that do
    not count any more, be it that they are in `current` now. Returns how many ids changed.
    """
    _open_listings(db, known)
    landed = _keys(lake, news(known, period, since))
    db.execute(f"CREATE TABLE landed AS {_winners(landed)}")
    # Also those that another month's listing holds, which may lack them now; and whatever shares
    # an id with one of them, for an id is a document whatever object it is.
    db.execute(
        f"""
        CREATE TABLE before AS
        WITH held AS (
            SELECT object, id, row(version, landing, page, $period, "window") AS winner,
                "window" IN (SELECT window_name FROM listing WHERE landing > $since) AS listed
            FROM {_literal(base / "current.parquet")}
        )
        FROM held WHERE id IN (SELECT id FROM landed UNION SELECT id FROM held WHERE listed)
        """,
        {"period": period, "since": since},
    )
    # What the month did not have may be elsewhere, in a newer version than what landed.
    db.execute(
        """
        CREATE TABLE uncertain AS
        SELECT object, id FROM landed ANTI JOIN before USING (object, id)
        UNION ALL SELECT object, id FROM before WHERE listed
        """
    )
    looked_up = "SELECT object, id, winner FROM landed LIMIT 0"
    if db.execute("SELECT count(*) FROM uncertain").fetchall()[0][0]:
        keys = _keys(lake, landings)
        looked_up = _winners(f"(FROM {keys} SEMI JOIN uncertain USING (object, id))")
    db.execute(
        f"""
        CREATE TABLE after AS SELECT object, id, max(winner) AS winner FROM (
            SELECT object, id, winner FROM landed ANTI JOIN uncertain USING (object, id)
            UNION ALL SELECT object, id, winner FROM before WHERE NOT listed
            UNION ALL ({looked_up})
        ) GROUP BY object, id
        """
    )
    db.execute(
        """
        CREATE TABLE changed AS
        SELECT DISTINCT id FROM (
            SELECT id, after.winner[4] = $period AS here, before.winner IS NOT NULL AS was_here,
                row(after.winner[1], after.winner[2], after.winner[3]) <>
                    row(before.winner[1], before.winner[2], before.winner[3]) AS differs
            FROM after FULL JOIN before USING (object, id)
        ) WHERE CASE WHEN here THEN NOT was_here OR differs ELSE was_here END
        """,
        {"period": period},
    )
    db.execute(
        "CREATE TABLE dropped AS SELECT DISTINCT id FROM before SEMI JOIN changed USING (id)"
    )
    db.execute(
        f"""
        CREATE TABLE current AS SELECT {_PLACED}
        FROM after SEMI JOIN changed USING (id) WHERE winner[4] = $period
        """,
        {"period": period},
    )
    return int(db.execute("SELECT count(*) FROM changed").fetchall()[0][0])


def _open_listings(db: duckdb.DuckDBPyConnection, known: list[Landing]) -> None:
    listings = [
        {"window_name": window, "landing": landing}
        for window, landing in newest_listings(known).items()
    ]
    db.register("listing", pa.Table.from_pylist(listings, schema=_LISTINGS))


def _keys(lake: Lake, landings: list[Landing]) -> str:
    lake.keys(landings)  # once all of them are known to be whole
    return read_all(lake, landings, "keys", _NO_KEYS)


def _winners(keys: str) -> str:
    return f"""
        SELECT object, id, max(row(version, keys.landing, page, period, "window")) AS winner
        FROM {keys} AS keys LEFT JOIN listing AS newest ON newest.window_name = keys."window"
        WHERE newest.landing IS NULL OR keys.landing >= newest.landing
        GROUP BY object, id
    """


_NO_KEYS = (
    "(SELECT NULL::VARCHAR AS object, NULL::INTEGER AS page, NULL::VARCHAR AS id, "
    'NULL::VARCHAR AS version, NULL::VARCHAR AS period, NULL::VARCHAR AS "window", '
    "NULL::VARCHAR AS landing WHERE false)"
)


def read_all(lake: Lake, landings: list[Landing], name: str, nothing: str) -> str:
    """A table expression over the same file of several landings, with the landing's id."""
    if not landings:
        return nothing
    files = ", ".join(
        _literal(lake.root / landing.folder / f"{name}.parquet") for landing in landings
    )
    pages = f"read_parquet([{files}], filename = true)"
    return f"(SELECT *, parse_path(filename)[-2] AS landing FROM {pages})"


def _literal(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
