"""`matches.csv`: which customer of a billing system is which customer of the system of its orders.

A person approves each pair; nothing is ever matched by similarity alone. The file stands beside
revrec.toml (else in the home), so that it is reviewed and versioned with the settings. How invoices
find their orders is in `between`.
"""

import csv
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from revrec_pipeline.errors import SettingsError
from revrec_pipeline.settings import Settings

FILE = "matches.csv"


@dataclass(frozen=True, slots=True, order=True)
class Match:
    """One approved pair."""

    source: str  # of the invoices
    customer_id: str
    order_source: str
    order_customer_id: str
    customer_name: str = ""  # as it was when it was approved, for the reader
    order_customer_name: str = ""
    approved_by: str = ""
    approved_at: str = ""
    reason: str = ""


_COLUMNS = [field.name for field in fields(Match)]
_KEY = _COLUMNS[:4]


def path(settings: Settings) -> Path:
    """Where the file is, or will be."""
    beside = settings.environment().get("REVREC_CONFIG")
    return (Path(beside).parent if beside else settings.home) / FILE


def read(file: Path) -> list[Match]:
    """The approved pairs; none if there is no file.

    Raises:
        SettingsError: the file cannot be read, or a line is not a pair; names the line.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as content:
            lines = csv.DictReader(content)
            rows = list(lines)
            if missing := [name for name in _KEY if name not in (lines.fieldnames or ())]:
                raise SettingsError(f"{file}: the first line lacks the column {missing[0]!r}")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SettingsError(f"{file} cannot be read: {error}") from error
    matches: dict[tuple[str, str], Match] = {}
    for number, row in enumerate(rows, start=2):
        values = {name: (row.get(name) or "").strip() for name in _COLUMNS}
        if empty := next((name for name in _KEY if not values[name]), None):
            raise SettingsError(f"{file}, line {number}: {empty} is empty")
        match = Match(**values)
        if (key := (match.source, match.customer_id)) in matches:
            raise SettingsError(
                f"{file}, line {number}: {match.source}:{match.customer_id} is matched twice"
            )
        matches[key] = match
    return list(matches.values())


def add(file: Path, match: Match) -> None:
    """Keep a pair, in place of an older one of the same customer; sorted, in one rename.

    Raises:
        SettingsError: the file cannot be read or written.
    """
    kept = [
        each
        for each in read(file)
        if (each.source, each.customer_id) != (match.source, match.customer_id)
    ]
    _write(file, sorted([*kept, match]))


def _write(file: Path, matches: Iterable[Match]) -> None:
    draft = file.with_name(f".{file.name}.partial")
    try:
        with draft.open("w", encoding="utf-8", newline="") as content:
            writer = csv.DictWriter(content, _COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(asdict(match) for match in matches)
        draft.replace(file)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise SettingsError(f"{file} cannot be written: {error.strerror}") from error
