"""Xero's `where` and `order`, as the sandbox understands them; the grammar is in `xero_where.lark`.

A filter becomes a test of one document, an order a list of keys to sort by. What Xero would not
understand is refused with its `QueryParseException`.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedInput, UnexpectedToken

Kind = Literal["text", "number", "date", "guid", "boolean"]
Test = Callable[[Mapping[str, Any]], bool]

#: What may be asked about an invoice or a credit note, and of which type it is.
_SHARED: dict[str, Kind] = {
    "Type": "text",
    "Status": "text",
    "Reference": "text",
    "CurrencyCode": "text",
    "LineAmountTypes": "text",
    "Contact.ContactID": "guid",
    "Contact.Name": "text",
    "Date": "date",
    "DueDate": "date",
    "FullyPaidOnDate": "date",
    "UpdatedDateUTC": "date",
    "SubTotal": "number",
    "TotalTax": "number",
    "Total": "number",
    "CurrencyRate": "number",
    "HasAttachments": "boolean",
}
FIELDS: dict[str, dict[str, Kind]] = {
    "Invoice": {
        **_SHARED,
        "InvoiceID": "guid",
        "InvoiceNumber": "text",
        "AmountDue": "number",
        "AmountPaid": "number",
        "AmountCredited": "number",
    },
    "CreditNote": {
        **_SHARED,
        "CreditNoteID": "guid",
        "CreditNoteNumber": "text",
        "RemainingCredit": "number",
    },
}
_LITERALS: dict[str, Kind] = {
    "STRING": "text",
    "NUMBER": "number",
    "INTEGER": "number",
    "BOOLEAN": "boolean",
    "datetime": "date",
    "guid": "guid",
}
_TYPES = {"text": "String", "number": "Decimal", "date": "DateTime", "guid": "Guid",
          "boolean": "Boolean"}  # fmt: skip
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "=": operator.eq,
    "!=": operator.ne,
    "<>": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_METHODS: dict[str, Callable[[str, str], bool]] = {
    "Contains": lambda text, part: part in text,
    "StartsWith": str.startswith,
    "EndsWith": str.endswith,
}


class QueryParseError(Exception):
    """A filter or an order that Xero would answer with 400 and this message."""


@cache
def _grammar() -> Lark:
    text = files("revrec_pipeline.sandbox").joinpath("xero_where.lark").read_text(encoding="utf-8")
    return Lark(text, start="where", parser="lalr")


def parse_where(text: str, kind: str) -> Test:
    """The test that a filter on `Invoice` or `CreditNote` means.

    Raises:
        QueryParseError: wrong syntax, an unknown field, or types that cannot be compared.
    """
    try:
        tree = _grammar().parse(text)
    except UnexpectedInput as error:
        ended = isinstance(error, UnexpectedToken) and error.token.type == "$END"
        index = len(text) if ended else error.pos_in_stream
        raise QueryParseError(f"Syntax error (at index {index})") from error
    return _test(tree.children[0], kind)


def parse_order(text: str, kind: str) -> list[tuple[str, bool]]:
    """The fields of an order, each with whether it is descending.

    Raises:
        QueryParseError: an unknown field, or a direction other than ASC and DESC.
    """
    found = []
    for part in text.split(","):
        path, *direction = part.split() or [""]
        if direction and direction not in (["ASC"], ["DESC"]):
            raise QueryParseError(f"Syntax error in order '{part.strip()}'")
        _kind_of(path, kind)
        found.append((path, direction == ["DESC"]))
    return found


def in_order(
    documents: Sequence[Mapping[str, Any]], order: Sequence[tuple[str, bool]]
) -> list[Mapping[str, Any]]:
    """The documents sorted; those without a value come first, as in SQL Server."""
    found = list(documents)
    for path, descending in reversed(order):
        found.sort(key=lambda one: _sortable(value_of(one, path)), reverse=descending)
    return found


def value_of(document: Mapping[str, Any], path: str) -> Any:
    """A field of a document, or of the object that a dotted path leads to."""
    value: Any = document
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _sortable(value: Any) -> tuple[bool, Any]:
    return (value is not None, value)


def _test(node: Any, kind: str) -> Test:
    parts = node.children
    match node.data:
        case "disjunction" | "conjunction":
            tests = [_test(part, kind) for part in parts if isinstance(part, Tree)]
            decide = any if node.data == "disjunction" else all
            return lambda one: decide(test(one) for test in tests)
        case "comparison":
            return _comparison(_spelled(parts[0]), str(parts[1]), parts[2], kind)
        case _:
            return _call(_spelled(parts[0]), _text(parts[1]), kind)


def _comparison(path: str, sign: str, literal: Any, kind: str) -> Test:
    wanted = _kind_of(path, kind)
    if isinstance(literal, Token) and literal.type == "NULL":
        value = None
    else:
        given = _LITERALS[literal.type if isinstance(literal, Token) else literal.data]
        # A Guid must be written Guid("…"); text of the same characters is another type.
        if given != wanted:
            raise QueryParseError(
                f"Operator '{sign}' incompatible with operand types '{_TYPES[wanted]}' and "
                f"'{_TYPES[given]}'"
            )
        value = _value(literal)
    compare = _OPERATORS[sign]
    same = sign in {"==", "=", "!=", "<>"}

    def test(one: Mapping[str, Any]) -> bool:
        found = value_of(one, path)
        if found is None or value is None:
            return same and compare(found, value)
        return compare(found, value)

    return test


def _call(path: str, part: str, kind: str) -> Test:
    field, _, method = path.rpartition(".")
    if method not in _METHODS or _kind_of(field, kind) != "text":
        raise QueryParseError(f"No applicable method '{method}' exists in type 'String'")
    return lambda one: _METHODS[method](value_of(one, field) or "", part)


def _kind_of(path: str, kind: str) -> Kind:
    known = FIELDS[kind].get(path)
    if known is None:
        raise QueryParseError(f"No property or field '{path}' exists in type '{kind}'")
    return known


def _spelled(path: Any) -> str:
    return ".".join(str(name) for name in path.children)


def _value(literal: Any) -> Any:
    if isinstance(literal, Tree):
        parts: list[Any] = literal.children
        if literal.data == "guid":
            return _text(parts[0]).lower()
        try:
            return datetime(*map(int, parts))  # type: ignore[arg-type]  # noqa: DTZ001 - no zone
        except (TypeError, ValueError) as error:
            raise QueryParseError("No applicable constructor exists in type 'DateTime'") from error
    match literal.type:
        case "STRING":
            return _text(literal)
        case "BOOLEAN":
            return str(literal).lower() == "true"
        case _:
            return Decimal(str(literal))


def _text(token: Token) -> str:
    return str(token)[1:-1].replace('\\"', '"').replace("\\\\", "\\")
