"""RevRec's import template as data: `template.yaml`, read and checked.

What lives here: which sheets and columns there are and what fills them. How rows become cells is in
`sheets`, how cells become files in `workbook` and `archive`.
"""

from functools import cache
from pathlib import Path
from typing import Literal

import msgspec
import pyarrow as pa

from revrec_pipeline.errors import SettingsError
from revrec_pipeline.model import CANONICAL, RecordType

#: The file in the package.
TEMPLATE = Path(__file__).parents[1] / "template.yaml"
#: Excel's limits for the name of a sheet (specifications and limits of Excel).
_NAME_LENGTH = 31
_NAME_FORBIDDEN = frozenset("[]:*?/\\")

ColumnType = Literal["id", "text", "date", "money", "decimal", "bool"]
RowSet = Literal["sales", "invoices", "commissions", "taxes", "deliveries", "customers", "products"]


class Column(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One column of a sheet."""

    header: str
    type: ColumnType
    required: bool
    grade: Literal["A", "A-", "B", "C", "D"]  # how sure the header is
    canonical: str | None  # the canonical column that fills it
    aliases: tuple[str, ...]  # other names in files that come in

    @property
    def is_number(self) -> bool:
        """Whether its cells are numbers in a workbook."""
        return self.type in {"money", "decimal"}


class Sheet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One sheet, and one CSV file of the archive."""

    name: str
    columns: tuple[Column, ...]
    rows: RowSet | None = None  # None: only the header is written


class Template(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All sheets, in their order."""

    sheets: tuple[Sheet, ...]

    def sheet_of(self, record_type: RecordType) -> Sheet:
        """The sheet that rows of this record type fill."""
        return next(sheet for sheet in self.sheets if sheet.rows == record_type)


def available_columns(rows: RowSet) -> dict[str, pa.DataType]:
    """The canonical columns that may fill a sheet of these rows, with their types."""
    # Taxes are those of the billing lines that carry one.
    schema = CANONICAL[RecordType.INVOICES if rows == "taxes" else RecordType(rows)]
    return {name: schema.field(name).type for name in schema.names}


@cache
def load_template(path: Path = TEMPLATE) -> Template:
    """Read the template.

    Raises:
        SettingsError: the file is no template; names the sheet, the column and the reason.
    """
    try:
        template = msgspec.yaml.decode(path.read_bytes(), type=Template)
    except OSError as error:
        raise SettingsError(f"{path.name} cannot be read: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise SettingsError(f"{path.name}: {' '.join(str(error).split())}") from error
    seen: set[str] = set()
    for sheet in template.sheets:
        if problem := _problem(sheet, seen):
            raise SettingsError(f"{path.name}: sheet {sheet.name!r}: {problem}")
        seen.add(sheet.name.casefold())
    missing = set(RecordType) - {sheet.rows for sheet in template.sheets}
    if missing:
        raise SettingsError(f"{path.name}: no sheet has rows: {min(missing)}")
    return template


def _problem(sheet: Sheet, seen: set[str]) -> str | None:
    """The first thing that is wrong with a sheet."""
    if not sheet.name or len(sheet.name) > _NAME_LENGTH:
        return f"a sheet's name has 1 to {_NAME_LENGTH} characters, this one {len(sheet.name)}"
    if bad := sorted(_NAME_FORBIDDEN.intersection(sheet.name)):
        return f"a sheet's name cannot hold {bad[0]!r}"
    if sheet.name.casefold() in seen:
        return "there are two sheets of this name"
    known = available_columns(sheet.rows) if sheet.rows else {}
    names: set[str] = set()
    for column in sheet.columns:
        for name in (column.header, *column.aliases):
            if not name.strip():
                return "a column has no header"
            if name.casefold() in names:
                return f"two columns are called {name!r}"
            names.add(name.casefold())
        if column.canonical is not None:
            if column.canonical not in known:
                return (
                    f"column {column.header!r}: {column.canonical!r} is no canonical column of "
                    f"{sheet.rows or 'a sheet without rows'}"
                )
            if not _fits(column.type, known[column.canonical]):
                return (
                    f"column {column.header!r}: {column.canonical!r} is "
                    f"{known[column.canonical]}, which is no {column.type}"
                )
    return None


def _fits(kind: ColumnType, canonical: pa.DataType) -> bool:
    """Whether a canonical column may fill a column of this type. There are no floats to allow."""
    match kind:
        case "id" | "text":
            return bool(pa.types.is_string(canonical))
        case "date":
            return bool(pa.types.is_date32(canonical))
        case "money" | "decimal":
            return bool(pa.types.is_decimal128(canonical))
        case "bool":
            return bool(pa.types.is_boolean(canonical) or pa.types.is_string(canonical))
