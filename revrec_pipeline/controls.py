"""Controls that tie, from the pages that landed to the rows that go out.

    pages       each page of a landing is there and says what it said when it landed
    documents   each current document has rows (`canonical`), and none that went missing since
    lines       a document has as many lines, and they sum to what the vendor says, where it does
    delivery    what is written or loaded is what was stored (`delivery`, `ledger.batch_totals`)

What lives here compares and names the records that differ; it mends nothing. A mapping that knows a
document's own totals creates the view `document_total(document_id, lines, amount, outside)` beside
`rows`: `lines` and `amount` (net, before tax, credits negative) come from other fields than the
lines' and are null where the vendor gives none; `outside` lists the rules that exclude lines which
the vendor does not count, either. Which totals are used, and which are not and why, is in ADR 17.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from revrec_pipeline.lake import Lake, Landing

# As many as a row group of the lake has: a larger batch would hold more bodies at a time.
_PAGES_AT_A_TIME = 4


@dataclass(frozen=True, slots=True)
class Damage:
    """A file of raw pages that is not as it landed."""

    landing: str
    object: str
    what: str
    records: tuple[str, ...]  # the documents on those pages

    def __str__(self) -> str:
        return f"{self.object} of landing {self.landing}: {self.what}"


def damaged(lake: Lake, landings: Iterable[Landing], objects: Sequence[str]) -> list[Damage]:
    """The pages of these landings that are gone, doubled or changed since they landed."""
    return [
        found
        for landing in landings
        for name in objects
        if name in landing.objects and (found := _damage(lake, landing, name))
    ]


def _damage(lake: Lake, landing: Landing, name: str) -> Damage | None:
    promised = landing.objects[name]
    folder = lake.root / landing.folder
    digest = sha256()
    pages: list[int] = []
    changed: list[int] = []
    parents: dict[int, str | None] = {}
    try:
        for page, parent, stored, body in _read(folder / f"{name}.parquet"):
            number = page.as_py()
            pages.append(number)
            parents[number] = parent.as_py()
            digest.update(bytes.fromhex(stored.as_py()))
            if sha256(body.as_buffer()).hexdigest() != stored.as_py():
                changed.append(number)
    except (OSError, pa.ArrowException) as error:
        what = f"cannot be read: {next(iter(str(error).splitlines()), type(error).__name__)}"
        return Damage(landing.id, name, what, _documents(folder, name, set(), {}))
    missing = sorted(set(range(promised["pages"])) - set(pages))
    if missing:
        what = f"{_pages(missing)} missing of {promised['pages']}"
    elif changed:
        what = f"{_pages(changed)} changed since the landing"
    elif len(pages) != promised["pages"]:
        what = f"{len(pages)} pages, {promised['pages']} landed"
    elif digest.hexdigest() != promised["sha256"]:
        what = "the pages are others than those that landed"
    else:
        return None
    return Damage(landing.id, name, what, _documents(folder, name, {*missing, *changed}, parents))


def _read(file: Path) -> Iterator[tuple[Any, ...]]:
    """Page number, parent, hash and body of each page, a few at a time."""
    with pq.ParquetFile(file) as content:
        for batch in content.iter_batches(
            _PAGES_AT_A_TIME, columns=["page", "parent", "sha256", "body"]
        ):
            yield from zip(*batch.columns, strict=True)


def _pages(numbers: list[int]) -> str:
    listed = ", ".join(map(str, numbers[:5])) + (", …" if len(numbers) > 5 else "")
    return f"page {listed} is" if len(numbers) == 1 else f"pages {listed} are"


def _documents(
    folder: Path, name: str, pages: set[int], parents: dict[int, str | None]
) -> tuple[str, ...]:
    """The documents on these pages; of lines whose page is gone, all that the landing holds."""
    owners = {parents[page] for page in pages if parents.get(page)}
    keys = pq.read_table(folder / "keys.parquet", columns=["object", "page", "id"]).to_pylist()
    listed = {key["id"] for key in keys if key["object"] == name and key["page"] in pages}
    found = {*owners, *listed} or {key["id"] for key in keys}
    return tuple(sorted(id_ for id_ in found if id_))


def compare(db: duckdb.DuckDBPyConnection) -> None:
    """Create `compared`, empty where the mapping knows no totals of documents."""
    db.execute(
        "CREATE VIEW IF NOT EXISTS document_total AS SELECT NULL::VARCHAR AS document_id, "
        "NULL::BIGINT AS lines, NULL::DECIMAL(18, 4) AS amount, []::VARCHAR[] AS outside "
        "WHERE false"
    )
    db.execute(f"CREATE TABLE compared AS {COMPARED}")


#: The documents that count and have totals of their own, beside what their rows in `stored` say.
#: `unknown` is how many of their amounts are not known; each is flagged for that already.
COMPARED = """
FROM (
    SELECT document_id, any_value(document_type) AS document_type,
        min(position) FILTER (WHERE excluded_by IS NULL) AS position,
        count(line_id) AS lines, any_value(currency) AS currency,
        coalesce(sum(amount) FILTER (
            WHERE excluded_by IS NULL OR NOT list_contains(outside, excluded_by)), 0) AS amount,
        count(*) FILTER (WHERE amount IS NULL AND excluded_by IS NULL) AS unknown,
        any_value(promised_lines) AS promised_lines, any_value(promised_amount) AS promised_amount
    FROM stored JOIN (
        SELECT document_id, lines AS promised_lines, amount AS promised_amount, outside
        FROM document_total
    ) USING (document_id) GROUP BY document_id
) WHERE position IS NOT NULL
"""

#: Of those, as `compared`, the ones that differ: position of a row that counts, field, and what to
#: tell of it.
DIFFERENCES = """
SELECT position, 'line_id' AS field, concat('Lines do not tie: ', document_type, ' ', document_id,
    ' has ', promised_lines, ' by its own count, and ', lines, ' arrived') AS message
FROM compared WHERE promised_lines <> lines
UNION ALL
SELECT position, 'amount', concat('Amount does not tie: ', document_type, ' ', document_id,
    ' is over ', promised_amount, ' by its own total, and its lines sum to ', amount, ' ', currency)
FROM compared
WHERE coalesce(promised_lines = lines, true) AND unknown = 0 AND promised_amount <> amount
"""

#: Of those, as `compared`, what the amounts of whole documents were compared with, and the rule
#: `differs` where they do.
OWN_TOTALS = """
SELECT document_id, CASE WHEN promised_amount <> amount THEN 'differs' ELSE '' END AS rule,
    coalesce(currency, 'XXX') AS currency, promised_amount AS amount
FROM compared WHERE unknown = 0 AND promised_amount IS NOT NULL
"""


def stored(rows: str, held: str) -> str:
    """What each document of some batches amounts to by its rows, and whether it is held back.

    `rows` and `held` are table expressions with `folder`, as `batch_files.table` gives them.
    """
    return f"""
        SELECT folder, document_id, coalesce(currency, 'XXX') AS currency,
            is_held IS NOT NULL AS held, count(*) AS rows,
            sum(coalesce(amount, 0))::DECIMAL(18, 4) AS amount
        FROM {rows} AS stored
        LEFT JOIN (SELECT folder, document_id, true AS is_held FROM {held}) AS held
            USING (folder, document_id)
        GROUP BY ALL
    """


def promised(totals: str) -> str:
    """The same by the totals that were stored beside the rows, which is what must go out."""
    return f"""
        SELECT folder, document_id, currency, is_held IS NOT NULL AS held, rows, amount
        FROM {totals} AS totals LEFT JOIN (
            SELECT DISTINCT folder, document_id, true AS is_held
            FROM {totals} WHERE bucket = 'flagged'
        ) AS flagged USING (folder, document_id)
        WHERE bucket = 'source'
    """


def differing(db: duckdb.DuckDBPyConnection, now: str, then: str) -> dict[Path, list[str]]:
    """The documents that differ between two queries as `stored`, by the folder of their batch."""
    found = db.execute(
        f"""
        SELECT DISTINCT folder, document_id FROM (
            (({now}) EXCEPT ALL ({then})) UNION ALL (({then}) EXCEPT ALL ({now}))
        ) ORDER BY ALL
        """
    ).fetchall()
    differ: dict[Path, list[str]] = {}
    for folder, document in found:
        differ.setdefault(Path(folder), []).append(document)
    return differ


def named(records: Sequence[str], shown: int = 10) -> str:
    """Some record ids for a message of one line."""
    more = f" and {len(records) - shown} more" if len(records) > shown else ""
    return ", ".join(records[:shown]) + more
