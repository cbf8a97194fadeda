"""The schema's versions: numbered files in `migrations/`, applied when a connection is made.

A migration is SQL that both back ends understand. It is never edited once released; what changes
the schema is the next number.
"""

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from revrec_pipeline.errors import LedgerError

if TYPE_CHECKING:  # the back ends import this module before the package is complete
    from revrec_pipeline.ledger import Transaction


@cache
def migrations() -> dict[int, str]:
    """Version → SQL, in order."""
    folder = files("revrec_pipeline.ledger") / "migrations"
    return {
        int(file.name[:4]): file.read_text("utf-8")
        for file in sorted(folder.iterdir(), key=lambda file: file.name)
        if file.name.endswith(".sql")
    }


def migrate(tx: "Transaction", ledger: str) -> None:
    """Bring the schema up to date; `ledger` is its name in messages.

    Raises:
        LedgerError: the schema is newer than this program.
    """
    newest, found = max(migrations()), _version(tx)
    if found > newest:
        raise LedgerError(
            f"the ledger {ledger} has schema version {found}, this program knows {newest}: "
            "install the version of revrec_pipeline that wrote it, or a newer one"
        )
    if found < newest:
        tx.lock("migrate")
        found = _version(tx)  # another process may have been first
        for version, sql in migrations().items():
            if version > found:
                tx.execute(sql)
                tx.execute("INSERT INTO schema_version VALUES (:version, now())", version=version)


def _version(tx: "Transaction") -> int:
    known = tx.one(
        "SELECT 1 AS known FROM information_schema.tables "
        "WHERE table_schema = current_schema() AND table_name = 'schema_version'"
    )
    found = tx.one("SELECT max(version) AS version FROM schema_version") if known else None
    return found["version"] if found else 0
