"""The folder of a batch, and how one that holds only what changed reads as its whole month.

A batch is a whole month. What was built whole has all of it in its own files. What was built after
changes holds only the documents that they touched, and names its *base*: a batch of the same month
that was built whole, and of which these documents no longer count. Nobody else needs to know:
`table` reads either as the whole month.

    batch.json         see `Recipe`; a batch without one is no base, as one that lost a document
    rows.parquet       all rows, also excluded ones
    held.parquet       the documents that an error holds back
    outgoing.parquet   see OUTGOING
    totals.parquet     `canonical.TOTALS` of each document, as they were when the rows were stored
    failed.parquet     how many rows of each document fail an asset check
    current.parquet    which version of each raw document counts, and where it is
    dropped.parquet    with a base: its documents that do not count here
    errors.parquet     the failures: see `canonical.ERRORS`
"""

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from revrec_pipeline.errors import LakeError
from revrec_pipeline.model import AMOUNT

#: Each document with what its lines that may go out say, as a hash, and how many they are; and the
#: rows and the amount of these in each currency, ISO 4217's XXX where there is none. One that is
#: held back has no hash and no rows. Documents of which no line may go out are not in it.
OUTGOING = pa.schema(
    [
        ("document_id", pa.string()),
        ("hash", pa.string()),
        ("line_count", pa.int32()),
        ("currency", pa.string()),
        ("rows", pa.int64()),
        ("amount", AMOUNT),
    ]
)
_RECIPE = "batch.json"


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a batch was made with and of."""

    #: Everything beside the landings that decides what a month becomes: see `canonical`.
    made_with: str
    #: The newest landing that was known, and a hash of the ids of all of them.
    newest_landing: str
    landings: str
    #: The batch's folder below the lake's root, of one that holds only what changed.
    base: str | None = None

    def write(self, folder: Path) -> None:
        """Put it into a batch's folder."""
        text = json.dumps(asdict(self), indent=2, sort_keys=True)
        (folder / _RECIPE).write_text(text + "\n", encoding="utf-8")


def recipe(folder: Path) -> Recipe | None:
    """The recipe of a batch; None of one that has none.

    Raises:
        LakeError: it cannot be read.
    """
    file = folder / _RECIPE
    try:
        return Recipe(**json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise LakeError(
            f"{file} is not what was written; remove the folder {folder} and sync the month again"
        ) from error


def recipes(month: Path) -> Iterator[tuple[Path, Recipe]]:
    """The batches of a month's folder that have a recipe, with that."""
    for file in sorted(month.glob(f"*/{_RECIPE}")):
        if found := recipe(file.parent):
            yield file.parent, found


def files(root: Path, folder: Path, name: str) -> list[Path]:
    """The batch's own file of this name and, where it has a base, those that belong to it."""
    base = _base(root, folder)
    more = [base / f"{name}.parquet", folder / "dropped.parquet"] if base else []
    return [folder / f"{name}.parquet", *more]


def is_there(root: Path, folder: Path) -> bool:
    """Whether all rows of a batch are in the lake."""
    return all(file.is_file() for file in files(root, folder, "rows"))


def table(
    root: Path,
    folders: Iterable[Path],
    name: str,
    *,
    alone: Collection[Path] = (),
    document: str = "document_id",
) -> str:
    """The file of this name of some batches as a table expression, with `folder` as a column more.

    Of those in `alone` only the own files are read. `document` is the column that names a row's
    document. There must be at least one batch.
    """
    own = sorted(set(folders))
    bases = {
        folder: base for folder in own if folder not in alone and (base := _base(root, folder))
    }
    listed = f"SELECT {_read(own, name)}"
    if not bases:
        return f"({listed})"
    links = ", ".join(
        f"({_literal(base)}, {_literal(folder)})" for folder, base in sorted(bases.items())
    )
    return f"""(
        {listed}
        UNION ALL BY NAME
        SELECT kept.* EXCLUDE (folder), link.folder
        FROM (SELECT {_read(sorted(set(bases.values())), name)}) AS kept
        JOIN (VALUES {links}) AS link(base, folder) ON link.base = kept.folder
        ANTI JOIN (SELECT {_read(sorted(bases), "dropped")}) AS gone
            ON gone.folder = link.folder AND gone.id = kept.{document}
    )"""


def complete_without_base(
    db: duckdb.DuckDBPyConnection, root: Path, folders: Iterable[Path], wanted: str
) -> set[Path]:
    """The batches whose own files have all documents of `wanted`, so that no base need be read.

    `wanted` is a table expression with `folder` and `document_id`.
    """
    based = sorted(folder for folder in set(folders) if _base(root, folder))
    if not based:
        return set()
    listed = ", ".join(f"({_literal(folder)})" for folder in based)
    found = db.execute(
        f"""
        SELECT folder FROM (VALUES {listed}) AS based(folder) WHERE folder NOT IN (
            SELECT folder FROM {wanted}
            ANTI JOIN (SELECT {_read(based, "outgoing")}) AS own USING (folder, document_id)
        )
        """
    ).fetchall()
    return {Path(folder) for (folder,) in found}


def _base(root: Path, folder: Path) -> Path | None:
    found = recipe(folder)
    return root / found.base if found and found.base else None


def _read(folders: Sequence[Path], name: str) -> str:
    """Columns and files of a SELECT, `folder` being where each file lies."""
    file = f"/{name}.parquet"
    parquet = ", ".join(_literal(Path(f"{folder}{file}")) for folder in folders)
    return (
        f"* EXCLUDE (filename), left(filename, -{len(file)}) AS folder "
        f"FROM read_parquet([{parquet}], filename = true, union_by_name = true)"
    )


def _literal(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
