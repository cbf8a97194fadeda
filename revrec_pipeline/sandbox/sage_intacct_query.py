"""Queries on the sandbox's Intacct: which fields, which rows, in which order, which page.

Whatever Intacct would refuse is refused: unknown objects, fields and operators, values of another
type, pages beyond 2,000 rows, order entry without a transaction definition.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation
from typing import Any
from xml.etree.ElementTree import Element

from revrec_pipeline.sandbox.sage_intacct_books import Books, Row, Value
from revrec_pipeline.sandbox.sage_intacct_schema import LINES, ORDER_ENTRY, RELATED, SCHEMA

MAX_PAGE, DEFAULT_PAGE = 2000, 100
_PARTS = frozenset(
    {"object", "select", "filter", "orderby", "options", "pagesize", "offset", "docparid"}
)


class IntacctError(Exception):
    """A function that fails, with Intacct's number for it."""

    def __init__(self, number: str, words: str) -> None:
        super().__init__(words)
        self.number = number


@dataclass(frozen=True, slots=True)
class User:
    """How the user reads and writes dates."""

    date_format: str = "/mdY"
    offset: timedelta = timedelta(hours=-8)
    clock: str = "24"

    @property
    def _days(self) -> str:
        return self.date_format[0].join(f"%{part}" for part in self.date_format[1:])

    def shown(self, value: Value) -> str:
        """A value as text."""
        if value is None:
            return ""
        if isinstance(value, datetime):
            local = value.astimezone(timezone(self.offset))
            return local.strftime(f"{self._days} %H:%M:%S")
        if isinstance(value, date):
            return value.strftime(self._days)
        if isinstance(value, Decimal):
            return format(value.normalize(), "f")
        return str(value)

    def read(self, kind: str, text: str) -> Value:
        """A value of a filter as the data type of its field."""
        try:
            match kind:
                case "INTEGER":
                    return int(text)
                case "DECIMAL" | "CURRENCY":
                    return Decimal(text)
                case "DATE":
                    return datetime.strptime(text, self._days).date()  # noqa: DTZ007 - a date
                case "TIMESTAMP":
                    local = datetime.strptime(text, f"{self._days} %H:%M:%S")  # noqa: DTZ007
                    return local.replace(tzinfo=timezone(self.offset)).astimezone(UTC)
                case _:
                    return text
        except (ValueError, InvalidOperation) as error:
            raise IntacctError("DL02000001", f"{text!r} is not a valid {kind} value") from error


@dataclass(frozen=True, slots=True)
class Page:
    """What a query found."""

    name: str
    fields: list[str]
    rows: list[list[str]]
    total: int
    offset: int

    @property
    def remaining(self) -> int:
        """Rows after this page."""
        return max(self.total - self.offset - len(self.rows), 0)


class Query:
    """One `<query>` over the books, as this user in this entity may ask it."""

    def __init__(self, books: Books, user: User, entity: str | None, asked: Element) -> None:
        self._books = books
        self._user = user
        self._asked = asked
        for part in asked:
            if part.tag not in _PARTS:
                raise IntacctError("DL02000001", f"Unexpected element {part.tag} in query")
        self.name = asked.findtext("object") or ""
        if self.name not in SCHEMA:
            raise IntacctError("DL02000001", f"Object definition {self.name} not found.")
        self._entity = entity
        self._private = asked.findtext("options/showprivate") == "true"

    def page(self) -> Page:
        """Filter, sort and cut."""
        fields = [field.text or "" for field in self._asked.iterfind("select/field")]
        if not fields:
            raise IntacctError("DL02000001", "The select element needs at least one field")
        for field in fields:
            self._kind(field)
        size = self._number("pagesize", DEFAULT_PAGE)
        offset = self._number("offset", 0)
        if not 1 <= size <= MAX_PAGE:
            raise IntacctError("DL02000001", f"pagesize must be between 1 and {MAX_PAGE}")
        where = self._asked.find("filter")
        keep = self._condition(where[0]) if where is not None and len(where) else _anything
        rows = [row for row in self._visible() if keep(row)]
        for order in reversed(self._asked.findall("orderby/order")):
            field = order.findtext("field") or ""
            self._kind(field)
            rows.sort(key=self._sort_key(field), reverse=order.find("descending") is not None)
        shown = [
            [self._user.shown(self._value(row, field)) for field in fields]
            for row in rows[offset : offset + size]
        ]
        return Page(self.name, fields, shown, len(rows), offset)

    def _number(self, name: str, default: int) -> int:
        text = self._asked.findtext(name)
        if text is None:
            return default
        if not text.isdigit():
            raise IntacctError("DL02000001", f"{name} must be an integer")
        return int(text)

    # -- rows --------------------------------------------------------------------------------

    def _visible(self) -> list[Row]:
        """Rows of this entity; at the top level those of entities only with showprivate."""
        rows = list(self._books.tables[self.name].values())
        if self.name in ORDER_ENTRY:
            definition = self._asked.findtext("docparid")
            known = {row["DOCID"] for row in self._books.tables["SODOCUMENTPARAMS"].values()}
            if definition not in known:
                raise IntacctError(
                    "DL02000001", f"Transaction definition {definition!r} not found; set docparid"
                )
            rows = [row for row in rows if self._document(row)["DOCPARID"] == definition]
        if "MEGAENTITYID" in SCHEMA[LINES[self.name][1] if self.name in LINES else self.name]:
            rows = [row for row in rows if self._allowed(self._document(row)["MEGAENTITYID"])]
        # The order without orderby is none that anyone should rely on.
        return rows[::-1]

    def _document(self, row: Row) -> Row:
        if self.name not in LINES:
            return row
        parent, name = LINES[self.name]
        return self._books.tables[name][int(str(row[parent]))]

    def _allowed(self, entity: Value) -> bool:
        if self._entity is not None:
            return entity == self._entity
        return entity is None or self._private

    def _kind(self, path: str) -> str:
        """The data type of a field, also of a related object's.

        Raises:
            IntacctError: there is no such field.
        """
        owner, _, field = path.rpartition(".")
        name = self.name
        if owner:
            if owner not in RELATED.get(self.name, {}):
                raise IntacctError("DL02000001", f"{owner} is not related to {self.name}")
            name = owner
        if field not in SCHEMA[name]:
            raise IntacctError("DL02000001", f"Field {path} not found in object {self.name}.")
        return SCHEMA[name][field]

    def _value(self, row: Row, path: str) -> Value:
        owner, _, field = path.rpartition(".")
        if not owner:
            return row.get(field)
        own, other = RELATED[self.name][owner]
        related = self._books.tables[owner].values()
        found: Row = next((each for each in related if each[other] == row[own]), {})
        return found.get(field)

    def _sort_key(self, field: str) -> Callable[[Row], Any]:
        def key(row: Row) -> Any:
            value = self._value(row, field)
            return (value is not None, value)

        return key

    # -- conditions --------------------------------------------------------------------------

    def _condition(self, node: Element) -> Callable[[Row], bool]:
        if node.tag in ("and", "or"):
            parts = [self._condition(each) for each in node]
            if len(parts) < 2:
                raise IntacctError("DL02000001", f"{node.tag} needs at least two conditions")
            every = node.tag == "and"
            return lambda row: (all if every else any)(part(row) for part in parts)
        field = node.findtext("field") or ""
        kind = self._kind(field)
        values = [self._user.read(kind, each.text or "") for each in node.iterfind("value")]
        if node.tag in ("isnull", "isnotnull"):
            null = node.tag == "isnull"
            return lambda row: (self._value(row, field) is None) == null
        if node.tag in ("in", "notin") and values:
            inside = node.tag == "in"
            return lambda row: (self._value(row, field) in values) == inside
        if node.tag not in _COMPARISONS or len(values) != 1:
            raise IntacctError("DL02000001", f"{node.tag} is not an operator for this many values")
        compare, wanted = _COMPARISONS[node.tag], values[0]

        def keep(row: Row) -> bool:
            value = self._value(row, field)
            if isinstance(value, datetime):
                value = value.replace(microsecond=0)
            return value is not None and compare(value, wanted)

        return keep


def _anything(row: Row) -> bool:
    del row
    return True


_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "equalto": lambda value, wanted: bool(value == wanted),
    "notequalto": lambda value, wanted: bool(value != wanted),
    "lessthan": lambda value, wanted: bool(value < wanted),
    "lessthanorequalto": lambda value, wanted: bool(value <= wanted),
    "greaterthan": lambda value, wanted: bool(value > wanted),
    "greaterthanorequalto": lambda value, wanted: bool(value >= wanted),
}
