"""QuickBooks Online's query language: parsed by `quickbooks.lark`, run over dicts, page by page.

What cannot be queried is refused as Intuit does it: a wrong form with 4000, a wrong name, value or
position with 4001.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from functools import cache
from importlib.resources import files
from typing import Any

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedInput

Object = dict[str, Any]
DEFAULT_RESULTS, MOST_RESULTS = 100, 1000


class QueryError(Exception):
    """A query that Intuit would refuse: code, message and detail of the fault."""

    def __init__(self, code: str, message: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.message = message
        self.detail = detail


def _invalid(detail: str) -> QueryError:
    return QueryError("4001", "Invalid query", f"QueryValidationError: {detail}")


def _number(text: str) -> Any:
    return Decimal(text)


def _instant(text: str) -> Any:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("no offset")
    return moment


#: How the values of a property compare.
Kind = Callable[[str], Any]
_TEXT: Kind = str
_STAMPS: dict[str, Kind] = {"MetaData.CreateTime": _instant, "MetaData.LastUpdatedTime": _instant}
_LIST: dict[str, Kind] = {"Id": _number, "Name": _TEXT, "Active": _TEXT, **_STAMPS}
_SALE: dict[str, Kind] = {
    "Id": _number,
    "DocNumber": _TEXT,
    "TxnDate": date.fromisoformat,
    "CustomerRef": _number,
    "TotalAmt": _number,
    "Balance": _number,
    **_STAMPS,
}
#: Entity → the properties that a query may filter and sort by. Others can only be selected.
ENTITIES: dict[str, dict[str, Kind]] = {
    "Invoice": {**_SALE, "DueDate": date.fromisoformat},
    "SalesReceipt": _SALE,
    "CreditMemo": _SALE,
    "RefundReceipt": _SALE,
    "Customer": {**_LIST, "DisplayName": _TEXT},
    "Item": {**_LIST, "Sku": _TEXT, "Type": _TEXT},
    "TaxRate": _LIST,
    "CompanyInfo": {"Id": _number},
    "Preferences": {"Id": _number},
}
#: Properties that every object may have; selecting another one is refused.
SELECTABLE = frozenset(
    {"Id", "SyncToken", "DocNumber", "TxnDate", "DueDate", "CustomerRef", "CurrencyRef", "Line"}
    | {"TotalAmt", "Balance", "PrivateNote", "MetaData", "CustomField"}
    | {"Name", "Sku", "Type", "Active"}
)
#: Entities whose inactive objects are left out unless the query asks for them.
_WITH_INACTIVE = frozenset({"Customer", "Item", "TaxRate"})


@dataclass(frozen=True, slots=True)
class Query:
    """A query that has been understood."""

    entity: str
    count: bool
    fields: tuple[str, ...]  # empty: all of them
    tests: tuple[Callable[[Object], bool], ...]
    order: tuple[tuple[str, bool], ...]  # property, descending
    start: int
    most: int

    def run(self, objects: Sequence[Object]) -> Object:
        """The `QueryResponse` over all objects of the entity."""
        found = [one for one in objects if all(test(one) for test in self.tests)]
        if self.count:
            return {"totalCount": len(found)}
        kinds = ENTITIES[self.entity]
        for path, descending in reversed(self.order):
            found.sort(key=_sorting(kinds[path], path), reverse=descending)
        page = found[self.start - 1 : self.start - 1 + self.most]
        if not page:  # a page past the end has no entity key at all
            return {}
        shown = [self._show(one) for one in page]
        size = len(page)
        return {
            self.entity: shown,
            "startPosition": self.start,
            "maxResults": size,
            "totalCount": size,  # of the page, not of the set
        }

    def _show(self, one: Object) -> Object:
        if not self.fields:
            return one
        kept = {name: one[name] for name in self.fields if name in one}
        return {**kept, "domain": "QBO", "sparse": True}


@cache
def _grammar() -> Lark:
    text = files("revrec_pipeline.sandbox").joinpath("quickbooks.lark").read_text(encoding="utf-8")
    return Lark(text, start="query", parser="lalr")


def parse(text: str) -> Query:
    """Understand a query.

    Raises:
        QueryError: it is none, or names what cannot be queried.
    """
    try:
        tree = _grammar().parse(text)
    except UnexpectedInput as error:
        column = getattr(error, "column", 1)
        near = text[error.pos_in_stream or 0 :].split(" ")[0] or "<EOF>"
        detail = f'QueryParserError: Encountered " <{near}> "" at line 1, column {column}.'
        raise QueryError("4000", "Error parsing query", detail) from error
    selection: Any
    selection, name, *rest = tree.children
    entity = next((one for one in ENTITIES if one.lower() == str(name).lower()), None)
    if entity is None:
        raise _invalid(f"Invalid context declaration: {name}")
    clauses = {str(clause.data): clause for clause in rest if isinstance(clause, Tree)}
    tests = [_test(entity, each) for each in _children(clauses.get("where"))]
    asks_active = any(
        _path(each.children[0]) == "Active" for each in _children(clauses.get("where"))
    )
    if entity in _WITH_INACTIVE and not asks_active:
        tests.append(lambda one: bool(one.get("Active", True)))
    return Query(
        entity=entity,
        count=selection.data == "count",
        fields=tuple(
            _selected(entity, _path(path))
            for path in (selection.children if selection.data == "fields" else ())
        ),
        tests=tuple(tests),
        order=tuple(_ordering(entity, each) for each in _children(clauses.get("order"))),
        start=_position(clauses.get("start"), 1, None),
        most=_position(clauses.get("most"), DEFAULT_RESULTS, MOST_RESULTS),
    )


def _children(clause: Tree[Token] | None) -> list[Tree[Token]]:
    found = clause.children if clause is not None else []
    return [child for child in found if isinstance(child, Tree)]


def _path(tree: Any) -> str:
    return ".".join(str(part) for part in tree.children)


def _selected(entity: str, path: str) -> str:
    if path.partition(".")[0] not in SELECTABLE:
        raise _invalid(f"Property {path} not found for Entity {entity}")
    return path.partition(".")[0]


def _queryable(entity: str, path: str) -> str:
    kinds = ENTITIES[entity]
    found = next((one for one in kinds if one.lower() == path.lower()), None)
    if found is None:
        known = path.partition(".")[0] in SELECTABLE
        reason = "is not queryable" if known else f"not found for Entity {entity}"
        raise _invalid(f"Property {path} {reason}")
    return found


def _ordering(entity: str, tree: Tree[Token]) -> tuple[str, bool]:
    path, direction = tree.children
    return _queryable(entity, _path(path)), str(direction or "").upper() == "DESC"


def _position(clause: Tree[Token] | None, default: int, largest: int | None) -> int:
    if clause is None:
        return default
    value = int(str(clause.children[0]))
    if value < 1:
        raise _invalid(f"value {value} is too small. Min allowed value is 1")
    if largest is not None and value > largest:
        raise _invalid(f"value {value} is too large. Max allowed value is {largest}")
    return value


def _test(entity: str, tree: Tree[Token]) -> Callable[[Object], bool]:
    path = _queryable(entity, _path(tree.children[0]))
    kind = ENTITIES[entity][path]
    match str(tree.data):
        case "comparison":
            operator, wanted = str(tree.children[1]), _value(kind, path, tree.children[2])
            compare = _COMPARISONS[operator]
            return lambda one: _known(one, path) and compare(_key(kind, one, path), wanted)
        case "like":
            pattern = ".*".join(map(re.escape, _text(tree.children[1]).split("%")))
            return lambda one: (
                _known(one, path)
                and bool(re.fullmatch(pattern, str(_at(one, path)), re.IGNORECASE))
            )
        case _:
            among = [_value(kind, path, value) for value in tree.children[1:]]
            return lambda one: _known(one, path) and _key(kind, one, path) in among


_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": lambda a, b: bool(a == b),
    "<": lambda a, b: bool(a < b),
    ">": lambda a, b: bool(a > b),
    "<=": lambda a, b: bool(a <= b),
    ">=": lambda a, b: bool(a >= b),
}


def _text(token: Any) -> str:
    text = str(token)
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if text.startswith("'") else text.lower()


def _value(kind: Kind, path: str, token: Any) -> Any:
    text = _text(token)
    try:
        return kind(text)
    except (ValueError, InvalidOperation) as error:
        raise _invalid(f"Invalid value '{text}' for property {path}") from error


def _at(one: Object, path: str) -> Any:
    found: Any = one
    for part in path.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found["value"] if isinstance(found, dict) else found


def _known(one: Object, path: str) -> bool:
    return _at(one, path) is not None


def _sorting(kind: Kind, path: str) -> Callable[[Object], Any]:
    """A sort key; objects without the property come first."""
    return lambda one: (1, _key(kind, one, path)) if _known(one, path) else (0,)


def _key(kind: Kind, one: Object, path: str) -> Any:
    found = _at(one, path)
    return kind(str(found).lower() if isinstance(found, bool) else str(found))
