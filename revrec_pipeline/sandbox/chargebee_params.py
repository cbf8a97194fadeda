"""Chargebee's query parameters: operators in brackets, what each list takes, and its refusals."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import QueryParams

Object = dict[str, Any]

_OPERATORS = {
    "string": frozenset({"is", "is_not", "starts_with", "is_present", "in", "not_in"}),
    "enum": frozenset({"is", "is_not", "in", "not_in"}),
    "boolean": frozenset({"is"}),
    "number": frozenset({"is", "is_not", "lt", "lte", "gt", "gte", "between"}),
    "timestamp": frozenset({"after", "before", "on", "between", "is_present"}),
}
_DAY = 86400


class ChargebeeError(Exception):
    """An answer of 4xx with Chargebee's error object."""

    def __init__(
        self, status: int, code: str, message: str, *, kind: str = "", param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.kind = kind
        self.param = param

    def body(self) -> Object:
        """The error as Chargebee prints it."""
        error: Object = {"message": str(self)}
        if self.kind:
            error["type"] = self.kind
        error["api_error_code"] = self.code
        if self.param:
            error["param"] = self.param
        return error | {
            "error_code": self.code,
            "error_msg": str(self),
            "http_status_code": self.status,
        }


@dataclass(slots=True)
class Asked:
    """A request's parameters after validation."""

    limit: int = 10
    offset: list[str] | None = None  # sort value and serial of the last record shown
    include_deleted: bool = False
    sort_by: str | None = None
    descending: bool = False
    tests: list[Callable[[Object], bool]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a list takes: filters with their kinds, and what it can be sorted by."""

    filters: Mapping[str, str] = field(default_factory=dict)
    sorts: frozenset[str] = frozenset()
    deleted: bool = True

    def read(self, query: QueryParams) -> Asked:
        """Validate a query string.

        Raises:
            ChargebeeError: 400 for a parameter that is unknown or wrong.
        """
        asked = Asked()
        for key, value in query.multi_items():
            name, operator = _split(key)
            if key == "limit":
                asked.limit = _limit(key, value, 100)
            elif key == "offset":
                asked.offset = _offset(value)
            elif key == "include_deleted" and self.deleted:
                asked.include_deleted = _boolean(key, value)
            elif name == "sort_by" and self.sorts:
                if operator not in {"asc", "desc"} or value not in self.sorts:
                    raise _wrong(key, f"cannot sort by {value}")
                asked.sort_by, asked.descending = value, operator == "desc"
            elif name in self.filters and operator in _OPERATORS[self.filters[name]]:
                asked.tests.append(_test(key, name, operator or "", self.filters[name], value))
            else:
                raise _wrong(name, "there is no such parameter or operator")
        return asked


def lines_asked(query: QueryParams) -> tuple[int, int]:
    """How many lines of one document, and how many come before them.

    Raises:
        ChargebeeError: 400 for any other parameter, or a wrong one.
    """
    limit, first = 300, 0
    for key, value in query.multi_items():
        if key == "line_items_limit":
            limit = _limit(key, value, 300)
        elif key == "line_items_offset":
            first = int(_offset(value)[1])
        else:
            raise _wrong(key, "there is no such parameter")
    return limit, first


def _split(key: str) -> tuple[str, str | None]:
    match = re.fullmatch(r"(\w+)(?:\[(\w+)\])?", key)
    if match is None:
        raise _wrong(key, "there is no such parameter")
    return match[1], match[2]


def _wrong(param: str, why: str) -> ChargebeeError:
    return ChargebeeError(
        400, "param_wrong_value", f"{param} : {why}", kind="invalid_request", param=param
    )


def _limit(key: str, value: str, most: int) -> int:
    if not value.isdigit() or not 1 <= int(value) <= most:
        raise _wrong(key, f"must be between 1 and {most}")
    return int(value)


def _offset(value: str) -> list[str]:
    try:
        found = json.loads(value)
    except ValueError:
        found = None
    if not isinstance(found, list) or len(found) != 2 or not str(found[1]).isdigit():
        raise _wrong("offset", "is not one that a list has given out")
    return [str(part) for part in found]


def _boolean(key: str, value: str) -> bool:
    if value not in {"true", "false"}:
        raise _wrong(key, "must be true or false")
    return value == "true"


def _integer(key: str, value: Any) -> int:
    if not re.fullmatch(r"-?\d+", str(value)):
        raise _wrong(key, f"{value} is no whole number")
    return int(value)


def _list(key: str, value: str) -> list[str]:
    """A list of texts or numbers; the official client writes single quotes."""
    try:
        found = json.loads(value)
    except ValueError:
        try:
            found = json.loads(re.sub(r"'([^']*)'", lambda m: json.dumps(m[1]), value))
        except ValueError as error:
            raise _wrong(key, "is no list") from error
    if not isinstance(found, list):
        raise _wrong(key, "is no list")
    return [str(one) for one in found]


def _test(key: str, name: str, operator: str, kind: str, value: str) -> Callable[[Object], bool]:
    """A filter as a function of a record. A record without the field passes none but two."""
    if operator == "is_present":
        present = _boolean(key, value)
        return lambda one: (one.get(name) is not None) == present
    if kind in {"number", "timestamp"}:
        return _range(key, name, operator, value)
    if operator in {"in", "not_in"}:
        named = _list(key, value)
        return lambda one: (_text(one.get(name)) in named) == (operator == "in")
    if operator == "starts_with":
        return lambda one: _text(one.get(name)).startswith(value)
    return lambda one: (_text(one.get(name)) == value) == (operator == "is")


def _range(key: str, name: str, operator: str, value: str) -> Callable[[Object], bool]:
    if operator == "between":
        bounds = [_integer(key, one) for one in _list(key, value)]
        if len(bounds) != 2 or bounds[0] > bounds[1]:
            raise _wrong(key, "must be two instants, the earlier one first")
        low, high = bounds
        return lambda one: one.get(name) is not None and low <= one[name] <= high
    wanted = _integer(key, value)
    tests: dict[str, Callable[[int], bool]] = {
        "after": lambda found: found > wanted,
        "before": lambda found: found < wanted,
        "on": lambda found: found // _DAY == wanted // _DAY,
        "is": lambda found: found == wanted,
        "is_not": lambda found: found != wanted,
        "lt": lambda found: found < wanted,
        "lte": lambda found: found <= wanted,
        "gt": lambda found: found > wanted,
        "gte": lambda found: found >= wanted,
    }
    test = tests[operator]
    return lambda one: one.get(name) is not None and test(one[name])


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)


def page(records: list[Object], asked: Asked, serial: Callable[[Object], int]) -> Object:
    """The records of one page with where the next one begins.

    The place is a value of the sort and the record's serial number, so that what is added or
    changed meanwhile moves nothing.
    """
    field_name = asked.sort_by

    def place(one: Object) -> tuple[int, int]:
        value = (one.get(field_name) or 0) if field_name else serial(one)
        return (value, serial(one))

    kept = [
        one
        for one in records
        if (asked.include_deleted or not one.get("deleted")) and all(t(one) for t in asked.tests)
    ]
    kept.sort(key=place, reverse=asked.descending)
    if asked.offset is not None:
        last = (int(asked.offset[0]) // 1000, int(asked.offset[1]))
        kept = [
            one for one in kept if (place(one) < last) is asked.descending and place(one) != last
        ]
    shown = kept[: asked.limit]
    answer: Object = {"list": shown}
    if len(kept) > len(shown):
        value, number = place(shown[-1])
        answer["next_offset"] = json.dumps([f"{value * 1000}", f"{number}"], separators=(",", ":"))
    return answer
