"""The schema's versions: numbered files in `migrations/`, applied when a connection is made.

A migration is SQL that both back ends understand; what stands below a line `-- only: duckdb` is
for that one. It is never edited once released; what changes the schema is another number. Numbers
may have gaps, and a lower one may arrive after a higher one (two branches were merged): what counts
is which ones a ledger has.
"""

import re
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from revrec_pipeline.errors import LedgerError

if TYPE_CHECKING:  # the back ends import this module before the package is complete
    from revrec_pipeline.ledger import Transaction

_ONLY = re.compile(r"^-- only: (\w+)\n", re.MULTILINE)


@cache
def migrations() -> dict[int, str]:
    """Version → SQL, in order."""
    folder = files("revrec_pipeline.ledger") / "migrations"
    return {
        int(file.name[:4]): file.read_text("utf-8")
        for file in sorted(folder.iterdir(), key=lambda file: file.name)
        if file.name.endswith(".sql")
    }


def migrate(tx: "Transaction", ledger: str, found: set[int] | None = None) -> None:
    """Bring the schema up to date; `ledger` is its name in messages.

    Give the versions that it has if you know them.

    Raises:
        LedgerError: the schema is newer than this program.
    """
    known = migrations()
    if found is None:
        found = _versions(tx)
    if unknown := found - known.keys():
        raise LedgerError(
            f"the ledger {ledger} has schema version {max(unknown)}, this program knows "
            f"{max(known)}: install the version of revrec_pipeline that wrote it, or a newer one"
        )
    if known.keys() - found:
        tx.lock("migrate")
        found = _versions(tx)  # another process may have been first
        for version, sql in known.items():
            if version not in found:
                both, *parts = _ONLY.split(sql)
                own = [
                    part
                    for name, part in zip(parts[::2], parts[1::2], strict=True)
                    if name == tx.dialect
                ]
                for part in (both, *own):
                    if part.strip():
                        tx.execute(part)
                tx.execute("INSERT INTO schema_version VALUES (:version, now())", version=version)


def _versions(tx: "Transaction") -> set[int]:
    """The migrations that this ledger has."""
    known = tx.one(
        "SELECT 1 AS known FROM information_schema.tables "
        "WHERE table_schema = current_schema() AND table_name = 'schema_version'"
    )
    found = tx.rows("SELECT version FROM schema_version") if known else []
    return {row["version"] for row in found}
