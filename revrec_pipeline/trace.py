"""Where a delivered row came from, and why a record was not delivered: `revrec trace`.

It only reads: the ledger for batches, jobs and errors, the lake for rows and for the page that a
record was received on. Nothing here decides anything.
"""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb

from revrec_pipeline import batch_files
from revrec_pipeline.codes import CHECKS, CODES
from revrec_pipeline.engine import engine
from revrec_pipeline.errors import UsageError
from revrec_pipeline.lake import Lake
from revrec_pipeline.ledger import Ledger, Transaction, as_text, sync_errors
from revrec_pipeline.model import CANONICAL, ORDER_LINE, RecordType

#: What people know a record by, in the canonical tables.
_NAMES = (
    "document_id",
    "line_id",
    "order_number",
    "order_item_number",
    "invoice_number",
    "reference_number",
)
_LINEAGE = ORDER_LINE.names[: ORDER_LINE.get_field_index("excluded_by") + 1]
#: A line that is received on a page of its own is looked for on so many pages.
_PAGES_SHOWN = 20

Row = dict[str, Any]


def trace(ledger: Ledger, lake: Lake, what: str) -> list[Row]:
    """Everything that is known of the records of this number or id, over all sources.

    `what` is an order number, an invoice number, or the id of a document or line. For each
    document: `{source, record_type, document_type, document_id, url, status, why, lines, delivered,
    jobs, checks, errors, received}`. `status` is delivered, waiting, held, excluded or removed;
    `why` says in words what stopped a record that was not delivered.

    Raises:
        UsageError: nothing of that name was ever built.
    """
    with ledger.transaction() as tx:
        batches = tx.rows("SELECT * FROM batch ORDER BY sequence")
    with lake.reading(), lake.scratch() as folder, engine(folder / "spill") as db:
        found = [
            document
            for source, record_type in sorted({(b["source"], b["record_type"]) for b in batches})
            for document in _documents(
                ledger,
                lake,
                db,
                [b for b in batches if (b["source"], b["record_type"]) == (source, record_type)],
                what,
            )
        ]
    if not found:
        raise UsageError(
            f"nothing is known by {what!r}: no order number, invoice number, document or line that "
            "was ever built; was its month synced?"
        )
    return found


def received(ledger: Ledger, lake: Lake, error: Row) -> list[Row]:
    """The pages and records that an error is about, as they came; none if it is about no record.

    `{object, page, landing, request, request_id, server_time, sha256, record}` for the document,
    and for its line where that came on another page. `record` is the text as received, null where
    it cannot be cut out of its page.
    """
    if error["record_id"] is None:
        return []
    with ledger.transaction() as tx:
        batches = tx.rows(
            "SELECT * FROM batch WHERE source = :source AND record_type = :record_type "
            "ORDER BY sequence",
            source=error["source"],
            record_type=error["record_type"],
        )
    record, line = error["record_id"], error["line_id"]
    with lake.reading(), lake.scratch() as folder, engine(folder / "spill") as db:
        landings = []
        if rows := _read(lake, _newest(batches), "rows"):
            landings = db.execute(
                f"SELECT raw_batch FROM {rows} WHERE document_id = $record "
                "ORDER BY raw_batch DESC LIMIT 1",
                {"record": record},
            ).fetchall()
        # Without a row (its month is not built), where the document stood last.
        landing = landings[0][0] if landings else _last_landing(lake, db, error["source"], record)
        return _received(lake, db, error["source"], landing, record, [line]) if landing else []


def _documents(
    ledger: Ledger, lake: Lake, db: duckdb.DuckDBPyConnection, batches: list[Row], what: str
) -> Iterator[Row]:
    """The documents of one source and record type that have this name."""
    record_type = RecordType(batches[0]["record_type"])
    known = [name for name in _NAMES if name in CANONICAL[record_type].names]
    named = " OR ".join(f"{name} = $what" for name in known)
    ids: list[str] = []
    # One that is gone is in no newest batch, but in an older one.
    for looked in (_newest(batches), batches):
        if not ids and (rows := _read(lake, looked, "rows")):
            ids = [
                id_
                for (id_,) in db.execute(
                    f"SELECT DISTINCT document_id FROM {rows} WHERE {named} ORDER BY ALL",
                    {"what": what},
                ).fetchall()
            ]
    for document_id in ids:
        yield _document(ledger, lake, db, batches, document_id)


def _document(
    ledger: Ledger, lake: Lake, db: duckdb.DuckDBPyConnection, batches: list[Row], document: str
) -> Row:
    source, record_type = batches[0]["source"], RecordType(batches[0]["record_type"])
    versions = _versions(lake, db, batches, document)
    with ledger.transaction() as tx:
        delivered = tx.one(
            """
            SELECT document.batch_id, batch.job_id, document.route, document.delivered_at
            FROM document JOIN batch ON batch.id = document.batch_id
            WHERE document.source = :source AND document.record_type = :record_type
                AND document_id = :document
            """,
            source=source,
            record_type=record_type,
            document=document,
        )
        removed = {
            row["batch_id"]
            for row in tx.rows(
                "SELECT batch_id FROM removed_document WHERE document_id = :document",
                document=document,
            )
        }
        errors = sync_errors.of_record(tx, source, record_type, document)
        deliveries = _deliveries(tx, batches, versions, removed)
    newest = versions[-1]
    shown = next(
        (each for each in versions if delivered and each["batch"]["id"] == delivered["batch_id"]),
        newest,
    )
    lines = _lines(lake, db, shown["batch"], document, record_type)
    status, why = _status(delivered, newest, removed, errors)
    line_ids = [line["line_id"] for line in lines]
    return {
        "source": source,
        "record_type": str(record_type),
        "document_type": lines[0]["document_type"],
        "document_id": document,
        "url": lines[0]["url"],
        "status": status,
        "why": why,
        "lines": lines,
        "delivered": delivered
        and {**delivered, "delivered_at": as_text(delivered["delivered_at"])},
        "jobs": deliveries,
        "checks": _checks(lake, db, shown, document),
        "errors": [
            {name: error[name] for name in ("id", "code", "status", "message", "line_id")}
            for error in errors
        ],
        "received": _received(lake, db, source, lines[0]["raw_batch"], document, line_ids),
    }


def _newest(batches: list[Row]) -> list[Row]:
    """Of each month the batch that was built last; `batches` are ordered by building."""
    return list({batch["period"]: batch for batch in batches}.values())


def _read(
    lake: Lake, batches: Iterable[Row], name: str, *, document: str = "document_id"
) -> str | None:
    """The file of that name of these batches, as `batch_files.table`; None if none is there."""
    folders = {lake.root / batch["path"] for batch in batches}
    there = [
        folder
        for folder in folders
        if all(file.is_file() for file in batch_files.files(lake.root, folder, name))
    ]
    return batch_files.table(lake.root, there, name, document=document) if there else None


def _versions(
    lake: Lake, db: duckdb.DuckDBPyConnection, batches: list[Row], document: str
) -> list[Row]:
    """What each batch that holds a document makes of it, in the order of building.

    `{batch, content, excluded_by, held}`; `content` is a hash of all that its lines say.
    """
    stored = _read(lake, batches, "rows")
    rows = f"(FROM {stored} WHERE document_id = $document)"
    there = set(db.sql(f"FROM {stored} LIMIT 0").columns)
    record_type = RecordType(batches[0]["record_type"])
    said = [name for name in CANONICAL[record_type].names if name in there and name not in _LINEAGE]
    content = ", ".join(f"{name} := {name}" for name in ["line_id", *said])
    found = db.execute(
        f"""
        SELECT folder, md5(string_agg(struct_pack({content})::VARCHAR, chr(30) ORDER BY line_id)),
            list_sort(list_distinct(list(excluded_by))), count(*) FILTER (excluded_by IS NULL)
        FROM {rows} GROUP BY folder
        """,
        {"document": document},
    ).fetchall()
    held: set[str] = set()
    if kept := _read(lake, batches, "held"):
        held = {
            folder
            for (folder,) in db.execute(
                f"SELECT DISTINCT folder FROM {kept} WHERE document_id = $document",
                {"document": document},
            ).fetchall()
        }
    by_folder = {folder: rest for folder, *rest in found}
    versions = []
    for batch in batches:
        folder = str(lake.root / batch["path"])
        if folder in by_folder:
            hash_, rules, counting = by_folder[folder]
            versions.append(
                {
                    "batch": batch,
                    "content": hash_,
                    "excluded_by": [] if counting else [rule for rule in rules if rule],
                    "held": folder in held,
                }
            )
    return versions


def _deliveries(
    tx: Transaction, batches: list[Row], versions: list[Row], removed: set[str]
) -> list[Row]:
    """What each job did with the document, oldest first.

    `{job_id, name, batch_id, period, outcome, at}`; the outcome is delivered, unchanged, held,
    excluded, removed or waiting.
    """
    of_batch = {version["batch"]["id"]: version for version in versions}
    names = {
        row["id"]: row["name"]
        for row in tx.rows(
            "SELECT id, name FROM job WHERE id = ANY(:ids)",
            ids=sorted({batch["job_id"] for batch in batches}),
        )
    }
    result: list[Row] = []
    last: tuple[str, str] | None = None
    for batch in batches:
        version = of_batch.get(batch["id"])
        if batch["id"] in removed:
            outcome, last = "removed", None
        elif version is None:
            continue
        elif version["held"]:
            outcome = "held"
        elif version["excluded_by"]:
            outcome = "excluded"
        elif batch["state"] == "superseded":
            outcome = "unchanged"
        elif batch["state"] != "delivered":
            outcome = "waiting"
        else:
            said = (version["content"], batch["period"])
            outcome = "unchanged" if said == last else "delivered"
            last = said
        result.append(
            {
                "job_id": batch["job_id"],
                "name": names.get(batch["job_id"]),
                "batch_id": batch["id"],
                "period": batch["period"],
                "route": batch["route"],
                "outcome": outcome,
                "at": as_text(batch["delivered_at"] or batch["built_at"]),
            }
        )
    return result


def _status(
    delivered: Row | None, newest: Row, removed: set[str], errors: list[Row]
) -> tuple[str, str | None]:
    """Where the document stands, and what stopped it if it does not go out as it is now."""
    why = None
    if newest["held"]:
        holding = [
            error
            for error in errors
            if error["status"] != "resolved" and error["severity"] == "error"
        ]
        listed = "; ".join(f"error {error['id']}, {error['message']}" for error in holding)
        why = f"held back by {listed or 'an error that was resolved since; sync again'}"
    elif newest["excluded_by"]:
        why = f"excluded by the rule {', '.join(newest['excluded_by'])}"
    elif newest["batch"]["state"] in ("ready", "claimed"):
        why = f"its batch {newest['batch']['id']} waits for its delivery"
    if delivered:
        return "delivered", why and f"the newest version is {why}"
    if removed:
        return "removed", why or "it was delivered, and is gone from its source or month since"
    if newest["held"]:
        return "held", why
    return ("excluded" if newest["excluded_by"] else "waiting"), why


def _lines(
    lake: Lake, db: duckdb.DuckDBPyConnection, batch: Row, document: str, record_type: RecordType
) -> list[Row]:
    """The document's rows as JSON holds them: decimals and days as text, nothing empty."""
    found = db.execute(
        f"SELECT * EXCLUDE (folder) FROM {_read(lake, [batch], 'rows')} "
        "WHERE document_id = $document ORDER BY line_id",
        {"document": document},
    )
    names = [column[0] for column in found.description or ()]
    kept = {"line_id", "url", "excluded_by", *CANONICAL[record_type].names[:1]}
    return [
        {
            name: _plain(value)
            for name, value in zip(names, row, strict=True)
            if value not in (None, {}) or name in kept
        }
        for row in found.fetchall()
    ]


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | dict | None) else str(value)


def _checks(
    lake: Lake, db: duckdb.DuckDBPyConnection, version: Row, document: str
) -> dict[str, str]:
    """Check → passed, failed with its codes, or not applied (excluded rows are not checked)."""
    failed: dict[str, list[str]] = {}
    if errors := _read(lake, [version["batch"]], "errors", document="record_id"):
        for (code,) in db.execute(
            f"SELECT DISTINCT code FROM {errors} WHERE record_id = $document ORDER BY code",
            {"document": document},
        ).fetchall():
            if code in CODES:
                failed.setdefault(CODES[code].check, []).append(code)
    otherwise = "not applied" if version["excluded_by"] else "passed"
    return {
        check: f"failed: {', '.join(failed[check])}" if check in failed else otherwise
        for check in CHECKS
    }


# -- the pages -----------------------------------------------------------------------------------


def _last_landing(
    lake: Lake, db: duckdb.DuckDBPyConnection, source: str, document: str
) -> str | None:
    files = lake.keys(lake.landings(source))
    if not files:
        return None
    found = db.execute(
        "SELECT max(parse_path(filename)[-2]) FROM read_parquet($files, filename = true, "
        "union_by_name = true) WHERE id = $document",
        {"files": files, "document": document},
    ).fetchall()
    return found[0][0] if found else None


def _received(
    lake: Lake,
    db: duckdb.DuckDBPyConnection,
    source: str,
    landing: str,
    document: str,
    line_ids: Sequence[str | None],
) -> list[Row]:
    """The document's page, then those pages that bring lines of it which are not on that one."""
    folder = next((lake.root / "raw" / source).glob(f"*/{landing}"), None)
    if folder is None:
        return []
    keys = db.execute(
        f"SELECT object, page FROM {_literal(folder / 'keys.parquet')} WHERE id = $document",
        {"document": document},
    ).fetchall()
    found = [
        _page(landing, object_, row, document)
        for object_, number in keys
        for row in _pages(db, folder, object_, "page = $number", {"number": number})
    ]
    text = "".join(page["record"] or "" for page in found)
    elsewhere = [line for line in line_ids if line and line not in text]
    headers = {"keys", *(object_ for object_, _ in keys)}
    for file in sorted(folder.glob("*.parquet")) if elsewhere else ():
        if file.stem in headers:
            continue
        named = _pages(
            db,
            folder,
            file.stem,
            "line IS NOT NULL AND (parent IS NULL OR parent = $document)",
            {"lines": elsewhere, "document": document},
            line="list_filter($lines, lambda one: contains(body, one))[1]",
        )
        pages = [_page(landing, file.stem, row, row.pop("line"), document) for row in named]
        # A short id stands in other numbers, too: a page without the record is about others.
        found += [page for page in pages if page["record"]]
    return found


def _pages(
    db: duckdb.DuckDBPyConnection,
    folder: Path,
    object_: str,
    which: str,
    values: Row,
    *,
    line: str = "NULL",
) -> list[Row]:
    found = db.execute(
        f"""
        SELECT page, format, request, request_id, server_time, sha256, body, {line} AS line
        FROM {_literal(folder / f"{object_}.parquet")} WHERE {which} ORDER BY page
        LIMIT {_PAGES_SHOWN}
        """,
        values,
    )
    names = [column[0] for column in found.description or ()]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def _page(landing: str, object_: str, row: Row, record: str, owner: str | None = None) -> Row:
    """A page with the record on it; for a line, with what names it and its `owner`, at least."""
    body, format_ = row.pop("body"), row.pop("format")
    cut = {"csv": _cut_csv, "xml": _cut_xml}.get(format_, _cut_json)
    # QuickBooks numbers each kind of document apart, so its ids are `INV-130` and `CM-130` here.
    found = cut(body, object_, record) or cut(body, object_, record.rpartition("-")[2])
    if found is None and owner and format_ == "json":
        found = _cut_link(body, record, owner)
    return {
        "object": object_,
        "landing": landing,
        **{name: value for name, value in row.items() if name != "line"},
        "server_time": as_text(row["server_time"]),
        "record": found,
    }


def _cut_csv(body: str, object_: str, record: str) -> str | None:
    """The heading and the row of a record."""
    del object_
    heading, *rows = csv.reader(io.StringIO(body)) if body else ([],)
    row = next((row for row in rows if record in row), None)
    if row is None:
        return None
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([heading, row])
    return text.getvalue().rstrip("\n")


_TAG = re.compile(r"<(?P<end>/?)(?P<name>[A-Za-z_][\w:.-]*)[^<>]*?(?P<empty>/?)>")


def _cut_xml(body: str, object_: str, record: str) -> str | None:
    """The text of the element that has a child with its own id, as it stands on its page."""
    starts: list[tuple[str, int, int]] = []  # name, and where the tag begins and ends
    owners: list[int] = []  # the depth of elements whose id was found
    for tag in _TAG.finditer(body):
        if tag["empty"]:
            continue
        if not tag["end"]:
            starts.append((tag["name"], *tag.span()))
            continue
        if not starts:
            return None
        name, begins, ends = starts.pop()
        if owners and owners[-1] == len(starts) + 1:
            return body[begins : tag.end()]
        if body[ends : tag.start()] == record and _rank(name, object_) < _OTHER:
            owners.append(len(starts))
    return None


def _cut_json(body: str, object_: str, record: str) -> str | None:
    """The text of the object whose own id this is, as it stands on its page."""
    decoder = json.JSONDecoder()
    best: tuple[int, str] | None = None
    for quoted in (json.dumps(record), record):
        at = body.find(quoted)
        while at >= 0:
            start = body.rfind("{", 0, at)
            while start >= 0:
                try:
                    value, end = decoder.raw_decode(body, start)
                except ValueError:  # a brace inside of a text
                    end = 0
                if end > at:
                    rank = min(
                        (_rank(key, object_) for key, v in value.items() if str(v) == record),
                        default=None,
                    )
                    if rank is not None and (best is None or rank < best[0]):
                        best = (rank, body[start:end])
                    break
                start = body.rfind("{", 0, start)
            at = body.find(quoted, at + 1)
        if best and best[0] < _OTHER:
            return best[1]
    return None


def _cut_link(body: str, record: str, owner: str) -> str | None:
    """The smallest object that names both a line and its document, as HubSpot's associations do."""
    decoder = json.JSONDecoder()
    line, document = (re.compile(rf"(?<!\w){re.escape(one)}(?!\w)") for one in (record, owner))
    for named in line.finditer(body):
        start = body.rfind("{", 0, named.start())
        while start >= 0 and body[:start].strip():  # the whole page names all that is on it
            try:
                _, end = decoder.raw_decode(body, start)
            except ValueError:  # a brace inside of a text
                end = 0
            if end > named.start() and document.search(body, start, end):
                return body[start:end]
            start = body.rfind("{", 0, start)
    return None


_OTHER = 9


def _rank(key: str, object_: str) -> int:
    """How likely a field of this name is the record's own id, and not a reference to another."""
    name = key.lower().replace("_", "")
    own = ("id", f"{object_.replace('_', '')}id", "recordno", "key", "internalid")
    return own.index(name) if name in own else _OTHER


def _literal(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
