"""What people type: a line of an order, a cost, a delivery, a customer or a product.

Each entry is recorded as a job of the source `manual`.

The whole document is written as a file in the template and imported like any other, so the same
checks judge it and the lake keeps what was typed, by whom and when. An edit lands the document once
more: the versions before stay where they are.
"""

import csv
import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import msgspec

from revrec_pipeline.conversion.template import Column, load_template
from revrec_pipeline.csv_cells import safe
from revrec_pipeline.errors import UsageError
from revrec_pipeline.imports.landing import KEY_COLUMN
from revrec_pipeline.lake import Lake
from revrec_pipeline.ledger import Ledger
from revrec_pipeline.mapping.file import MANUAL, OBJECTS
from revrec_pipeline.model import OWN_SOURCES, REFERENCES, SYNC_SOURCE, RecordType
from revrec_pipeline.settings import Settings

if TYPE_CHECKING:
    from revrec_pipeline.imports.run import Imported

LINE_COLUMN = "Order Item Number"
#: What people call one of a record type, and the command that enters it.
WHAT: dict[RecordType, str] = {
    RecordType.SALES: "order",
    RecordType.COMMISSIONS: "expense",
    RecordType.DELIVERIES: "delivery",
    RecordType.CUSTOMERS: "customer",
    RecordType.PRODUCTS: "product",
}
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)")
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the bytes of an entry depend on what was typed only

Cells = dict[str, str]


class _Row(msgspec.Struct):
    """A row of a landed page; what else it holds is derived anew."""

    id: str
    cells: dict[str, str | None]


def columns(record_type: RecordType) -> tuple[Column, ...]:
    """The columns of a record type's sheet that can be typed."""
    sheet = load_template().sheet_of(record_type)
    return tuple(column for column in sheet.columns if column.canonical not in (None, "source"))


def check(record_type: RecordType, cells: Mapping[str, str]) -> None:
    """Refuse a text that is not what its column holds.

    Raises:
        UsageError: names the column.
    """
    kinds = {column.header: column for column in columns(record_type)}
    for header, text in cells.items():
        column = kinds[header]
        if column.type == "date" and not _is_date(text):
            raise UsageError(f"{header} {text!r} is no date; write it like 2026-01-31")
        if column.is_number and not _NUMBER.fullmatch(text):
            raise UsageError(f"{header} {text!r} is no number; write it like -1234.50")
        if column.type == "bool" and text not in ("true", "false"):
            raise UsageError(f"{header} {text!r} is neither true nor false")


def add(
    ledger: Ledger,
    lake: Lake,
    settings: Settings,
    record_type: RecordType,
    cells: Mapping[str, str],
    *,
    who: str,
) -> "Imported":
    """Record a new line; an order that was typed before keeps its other lines.

    Raises:
        UsageError: there is such a line already, or a text is not what its column holds.
    """
    check(record_type, cells)
    key = cells[KEY_COLUMN[record_type]]
    lines = typed(lake, record_type, key)
    name = f"{KEY_COLUMN[record_type]} {key}"
    if record_type is RecordType.COMMISSIONS and lines:
        raise UsageError(
            f"{name} was entered before; correct it by an entry of its own, with the difference as "
            "its amount"
        )
    if record_type is not RecordType.SALES and lines:
        raise UsageError(
            f"{name} is known already; change it with `revrec {WHAT[record_type]} edit {key}`"
        )
    if any(line.get(LINE_COLUMN) == cells.get(LINE_COLUMN) for line in lines):
        raise UsageError(
            f"order {key} has a line {cells.get(LINE_COLUMN)}; change it with `revrec order edit "
            f"{key} {cells.get(LINE_COLUMN)}`"
        )
    return _record(ledger, lake, settings, record_type, key, [*lines, dict(cells)], who)


def edit(
    ledger: Ledger,
    lake: Lake,
    settings: Settings,
    record_type: RecordType,
    key: str,
    changes: Mapping[str, str],
    *,
    item: str | None = None,
    who: str,
) -> "Imported":
    """Change cells of what was typed, or of a customer or product that a file brought.

    An empty text empties a cell; `item` is the line of an order.

    Raises:
        UsageError: there is no such one, or a text is not what its column holds.
    """
    check(record_type, {name: text for name, text in changes.items() if text})
    lines = typed(lake, record_type, key)
    if item is None:
        if not lines:
            raise UsageError(
                f"{WHAT[record_type]} {key} was not entered here; enter it with "
                f"`revrec {WHAT[record_type]} add`"
            )
        changed = [{**line, **changes} for line in lines]
    else:
        if not any(line.get(LINE_COLUMN) == item for line in lines):
            known = ", ".join(line.get(LINE_COLUMN, "") for line in lines)
            raise UsageError(
                f"order {key} has no line {item} that was entered here; it has {known}"
                if lines
                else f"order {key} was not entered here; what comes from a system is changed there"
            )
        changed = [{**line, **changes} if line.get(LINE_COLUMN) == item else line for line in lines]
    return _record(ledger, lake, settings, record_type, key, changed, who)


def typed(lake: Lake, record_type: RecordType, key: str) -> list[Cells]:
    """The lines of a document as they were typed last; [] if there is none.

    Of a customer or product as they were typed or imported last: there is one of them.
    """
    object_ = OBJECTS[record_type]
    sources = OWN_SOURCES if record_type in REFERENCES else (MANUAL.name,)
    landings = {
        each.id: each
        for source in sources
        for each in lake.landings(source)
        if object_ in each.objects
    }
    files = lake.keys(landings.values())
    if not files:
        return []
    with lake.reading(), duckdb.connect() as db:
        found = db.execute(
            """
            SELECT parse_path(filename)[-2], page FROM read_parquet($files, filename = true)
            WHERE object = $object AND id = $key ORDER BY version DESC, 1 DESC LIMIT 1
            """,
            {"files": files, "object": object_, "key": key},
        ).fetchall()
        if not found:
            return []
        landing, page = found[0]
        ((body,),) = db.execute(
            "SELECT body FROM read_parquet($file) WHERE page = $page",
            {
                "file": str(lake.root / landings[landing].folder / f"{object_}.parquet"),
                "page": page,
            },
        ).fetchall()
    rows = msgspec.json.decode(body, type=list[_Row])
    # Where an imported one first came from is over: from now on it is what was typed.
    return [
        {name: text for name, text in row.cells.items() if text is not None and name != SYNC_SOURCE}
        for row in rows
        if row.id == key
    ]


def _record(
    ledger: Ledger,
    lake: Lake,
    settings: Settings,
    record_type: RecordType,
    key: str,
    lines: Sequence[Cells],
    who: str,
) -> "Imported":
    # The checks take a second to import, and a wrong entry never gets here.
    from revrec_pipeline.imports.run import import_file

    sheet = load_template().sheet_of(record_type)
    what = WHAT[record_type]
    with lake.scratch() as folder:
        # The key may hold what no file name can.
        file = folder / f"{what}-{re.sub(r'[^A-Za-z0-9_.-]', '_', key)[:80]}.zip"
        _write(file, sheet.name, [column.header for column in sheet.columns], lines)
        return import_file(
            ledger,
            lake,
            settings,
            file,
            job_name=f"{what} {key} (by hand, {who})",
            who=who,
            trigger="by hand",
            source=MANUAL,
            again=True,
        )


def _write(file: Path, sheet: str, headers: Sequence[str], lines: Sequence[Cells]) -> None:
    text = io.StringIO()
    # A file may have brought columns beyond the template's.
    custom = sorted({name for line in lines for name in line} - set(headers))
    writer = csv.DictWriter(text, [*headers, *custom], lineterminator="\n")
    writer.writeheader()
    for line in lines:
        writer.writerow({name: safe(cell) for name, cell in line.items()})
    with zipfile.ZipFile(file, "w") as container:
        container.writestr(zipfile.ZipInfo(f"{sheet}.csv", _EPOCH), text.getvalue())


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
