"""Stripe's query parameters: their form-style names, what each endpoint takes, and its refusals."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import QueryParams

RANGE_OPERATORS = frozenset({"gt", "gte", "lt", "lte"})


class StripeError(Exception):
    """An answer of 4xx with Stripe's error object."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.headers = dict(headers or {})

    def body(self, request_id: str, at: int) -> dict[str, Any]:
        """The error as Stripe prints it."""
        details: dict[str, Any] = {}
        if self.code:
            page = self.code.replace("_", "-")
            details["code"] = self.code
            details["doc_url"] = f"https://stripe.com/docs/error-codes/{page}"
        details["message"] = str(self)
        if self.param:
            details["param"] = self.param
        details["request_log_url"] = f"https://dashboard.stripe.com/test/logs/{request_id}?t={at}"
        details["type"] = "invalid_request_error"
        return {"error": details}


@dataclass(frozen=True, slots=True)
class Parameters:
    """A request's parameters after validation."""

    filters: dict[str, str] = field(default_factory=dict)
    ranges: dict[str, dict[str, int]] = field(default_factory=dict)
    lists: dict[str, list[str]] = field(default_factory=dict)
    limit: int = 10

    def within(self, name: str, value: int) -> bool:
        """Whether a value lies in the range asked for."""
        bounds = self.ranges.get(name, {})
        return (
            value > bounds.get("gt", value - 1)
            and value >= bounds.get("gte", value)
            and value < bounds.get("lt", value + 1)
            and value <= bounds.get("lte", value)
        )


@dataclass(frozen=True, slots=True)
class Accepted:
    """What an endpoint takes."""

    filters: frozenset[str] = frozenset()
    ranges: frozenset[str] = frozenset()
    lists: frozenset[str] = frozenset()
    paged: bool = True
    expandable: frozenset[str] = frozenset()
    statuses: tuple[str, ...] = ()

    def read(self, query: QueryParams) -> Parameters:
        """Validate a query string.

        Raises:
            StripeError: 400 for a parameter that is unknown or wrong.
        """
        found = Parameters()
        limit = 10
        for key, value in query.multi_items():
            name, index = _split(key)
            if name == "limit" and index is None and self.paged:
                limit = _limit(value)
            elif name in self.ranges:
                if index is not None and index not in RANGE_OPERATORS:
                    raise _unknown(key)
                bounds = found.ranges.setdefault(name, {})
                if index is None:
                    bounds["gte"] = bounds["lte"] = _integer(key, value)
                else:
                    bounds[index] = _integer(key, value)
            elif name in self.lists | {"expand"}:
                if index is None or not re.fullmatch(r"\d*", index):
                    raise StripeError(400, "Invalid array", param=name)
                found.lists.setdefault(name, []).append(value)
            elif index is None and name in self._plain():
                found.filters[name] = value
            else:
                raise _unknown(key)
        self._check(found)
        return Parameters(found.filters, found.ranges, found.lists, limit)

    def _plain(self) -> frozenset[str]:
        return self.filters | ({"starting_after", "ending_before"} if self.paged else frozenset())

    def _check(self, found: Parameters) -> None:
        for path in found.lists.get("expand", []):
            if path not in self.expandable:
                raise StripeError(
                    400, f"This property cannot be expanded ({path}).", param="expand"
                )
        status = found.filters.get("status")
        if self.statuses and status is not None and status not in self.statuses:
            message = f"Invalid status: must be one of {', '.join(self.statuses)}"
            raise StripeError(400, message, param="status")
        if len(found.lists.get("types", [])) > 20:
            raise StripeError(400, "You may pass up to 20 event types.", param="types")


def _split(key: str) -> tuple[str, str | None]:
    match = re.fullmatch(r"(\w+)(?:\[(\w*)\])?", key)
    if match is None:
        raise _unknown(key)
    return match[1], match[2]


def _unknown(key: str) -> StripeError:
    name = key.partition("[")[0]
    return StripeError(
        400, f"Received unknown parameter: {name}", code="parameter_unknown", param=name
    )


def _integer(key: str, value: str) -> int:
    if not re.fullmatch(r"-?\d+", value):
        raise StripeError(
            400, f"Invalid integer: {value}", code="parameter_invalid_integer", param=key
        )
    return int(value)


def _limit(value: str) -> int:
    limit = _integer("limit", value)
    if not 1 <= limit <= 100:
        bound = "less than or equal to 100" if limit > 100 else "greater than or equal to 1"
        raise StripeError(
            400,
            f"This value must be {bound}.",
            code="parameter_invalid_integer",
            param="limit",
        )
    return limit
