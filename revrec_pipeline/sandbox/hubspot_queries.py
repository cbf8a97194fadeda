"""How the sandbox's HubSpot reads lists, searches and batches, and what it refuses.

Errors have HubSpot's shape. Which records there are is in `hubspot_store`.
"""

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any

import msgspec
from starlette.datastructures import QueryParams

from revrec_pipeline.sandbox.hubspot_schema import BY_NAME, ObjectType
from revrec_pipeline.sandbox.hubspot_store import Portal, Properties, Record, stamp

LIST_LIMIT, SEARCH_LIMIT, BATCH_LIMIT, ASSOCIATION_LIMIT = 100, 200, 100, 1000
#: A search shows no more than this many results, over all of its pages.
SEARCH_CAP = 10_000
#: Associations that a list shows inline, and a batch of associations per page and record.
INLINE_ASSOCIATIONS, ASSOCIATION_PAGE = 100, 500
MAX_GROUPS, MAX_FILTERS_PER_GROUP, MAX_FILTERS = 5, 6, 18

Json = dict[str, Any]


class HubspotError(Exception):
    """A request that HubSpot refuses."""

    def __init__(
        self, status: int, category: str, message: str, context: Json | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body: Json = {"status": "error", "message": message, "category": category}
        if context:
            self.body["context"] = context


def invalid(message: str) -> HubspotError:
    """HTTP 400."""
    return HubspotError(400, "VALIDATION_ERROR", message)


def object_type(name: str) -> ObjectType:
    """The type that a path names, by word or number.

    Raises:
        HubspotError: there is none.
    """
    if name not in BY_NAME:
        raise invalid(f"Unable to infer object type from: {name}")
    return BY_NAME[name]


class _Filter(msgspec.Struct, forbid_unknown_fields=True):
    propertyName: str  # noqa: N815 - the vendor's spelling
    operator: str
    value: str | None = None
    highValue: str | None = None  # noqa: N815
    values: list[str] = []


class _Group(msgspec.Struct, forbid_unknown_fields=True):
    filters: list[_Filter]


class _Sort(msgspec.Struct, forbid_unknown_fields=True):
    propertyName: str  # noqa: N815
    direction: str = "ASCENDING"


class Search(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a search."""

    filterGroups: list[_Group] = []  # noqa: N815
    sorts: list[_Sort] = []
    properties: list[str] = []
    limit: int = 10
    after: str = "0"


class BatchId(msgspec.Struct):
    """One input of a batch; `after` pages one record's associations."""

    id: str
    after: str | None = None


class Batch(msgspec.Struct):
    """The body of a batch read."""

    inputs: list[BatchId]
    properties: list[str] = []


def read_body(body: bytes, shape: type[msgspec.Struct]) -> Any:
    """Decode a body.

    Raises:
        HubspotError: it is not JSON of that shape.
    """
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.MsgspecError as error:
        raise invalid(f"Invalid input JSON: {error}") from error


def show(portal: Portal, kind: ObjectType, record: Record, wanted: Iterable[str]) -> Json:
    """A record with the properties asked for; names that the portal does not know are left out."""
    values = portal.shown(kind.name, record)
    names = [*dict.fromkeys((*wanted, "createdate", "hs_lastmodifieddate", "hs_object_id"))]
    names = [name for name in (names if wanted else kind.defaults) if name in kind.properties]
    shown: Json = {
        "id": record.id,
        "properties": {name: values.get(name) for name in sorted(names)},
        "createdAt": stamp(record.created),
        "updatedAt": stamp(record.updated),
        "archived": record.archived_at is not None,
    }
    if record.archived_at is not None:
        shown["archivedAt"] = stamp(record.archived_at)
    return shown


def listed(portal: Portal, kind: ObjectType, query: QueryParams, path: str) -> Json:
    """One page of a list."""
    limit = _whole(query.get("limit", "10"), "limit", 1, LIST_LIMIT)
    after = query.get("after")
    archived = query.get("archived", "false").lower()
    if archived not in {"true", "false"}:
        raise invalid(f"archived must be true or false, not {archived}")
    if after is not None and not after.isdecimal():
        raise invalid(f"The after parameter {after} is not a cursor")
    wanted = [name for text in query.getlist("properties") for name in text.split(",") if name]
    found = [
        record
        for record in sorted(portal.records[kind.name].values(), key=lambda one: int(one.id))
        if (record.archived_at is not None) == (archived == "true")
        and (after is None or int(record.id) > int(after))
    ]
    results = [show(portal, kind, record, wanted) for record in found[:limit]]
    associated = [name for text in query.getlist("associations") for name in text.split(",")]
    for shown in results:
        _add_inline(portal, kind, shown, associated)
    answer: Json = {"results": results}
    if len(found) > limit:
        cursor = found[limit - 1].id
        link = f"https://api.hubapi.com{path}?after={cursor}"
        answer["paging"] = {"next": {"after": cursor, "link": link}}
    return answer


def _add_inline(portal: Portal, kind: ObjectType, shown: Json, associated: list[str]) -> None:
    """Associations beside a record, cut off after 100 (airbyte#56447)."""
    for name in filter(None, associated):
        other = object_type(name)
        if (kind.name, other.name) not in portal.links:
            raise invalid(f"No association between {kind.name} and {other.name}")
        # An archived record's own associations are still shown here.
        ids = list(portal.links[kind.name, other.name].get(shown["id"], {}))
        if not ids:
            continue
        label = f"{kind.singular}_to_{other.singular}"
        block: Json = {"results": [{"id": one, "type": label} for one in ids[:INLINE_ASSOCIATIONS]]}
        if len(ids) > INLINE_ASSOCIATIONS:
            block["paging"] = {"next": {"after": ids[INLINE_ASSOCIATIONS], "link": ""}}
        shown.setdefault("associations", {})[other.name.replace("_", " ")] = block


def batch_read(portal: Portal, kind: ObjectType, body: bytes, *, archived: bool) -> Json:
    """Records by id; ids that are missing are told of beside the others (HTTP 207)."""
    asked: Batch = read_body(body, Batch)
    if not asked.inputs or len(asked.inputs) > BATCH_LIMIT:
        raise invalid(f"A batch has 1 to {BATCH_LIMIT} inputs, not {len(asked.inputs)}")
    found: dict[str, Record] = {}
    missing = []
    for one in asked.inputs:
        # A merged record's old id is answered with the record that it went into.
        identifier = portal.merged.get((kind.name, one.id), one.id)
        record = portal.records[kind.name].get(identifier)
        if record is None or (record.archived_at is not None) != archived:
            missing.append(one.id)
        else:
            found[identifier] = record
    results = [show(portal, kind, record, asked.properties) for record in found.values()]
    errors = []
    if missing:
        errors.append(
            {
                "status": "error",
                "category": "OBJECT_NOT_FOUND",
                "message": f"Could not get some {kind.singular} objects, they may be deleted or "
                "not exist. Check that ids are valid.",
                "context": {"ids": missing},
            }
        )
    return batch_answer(results, errors)


def batch_answer(results: list[Json], errors: list[Json]) -> Json:
    """The envelope of a batch."""
    now = stamp(datetime.now(UTC))
    answer: Json = {"status": "COMPLETE", "results": results, "startedAt": now, "completedAt": now}
    if errors:
        answer |= {"numErrors": len(errors), "errors": errors}
    return answer


def associations(portal: Portal, left: ObjectType, right: ObjectType, body: bytes) -> Json:
    """What is associated with each record, 500 at a time; records without any are errors."""
    asked: Batch = read_body(body, Batch)
    if (left.name, right.name) not in portal.links:
        raise invalid(f"No association between {left.name} and {right.name}")
    if not asked.inputs or len(asked.inputs) > ASSOCIATION_LIMIT:
        raise invalid(f"A batch has 1 to {ASSOCIATION_LIMIT} inputs, not {len(asked.inputs)}")
    results, errors = [], []
    for one in asked.inputs:
        record = portal.records[left.name].get(one.id)
        gone = record is None or record.archived_at is not None
        found = {} if gone else portal.linked(left.name, one.id, right.name)
        start = int(one.after or 0)
        page = list(found.items())[start : start + ASSOCIATION_PAGE]
        if not page:
            errors.append(
                {
                    "status": "error",
                    "category": "OBJECT_NOT_FOUND",
                    "subCategory": "crm.associations.NO_ASSOCIATIONS_FOUND",
                    "message": f"No {right.singular} is associated with {left.singular} {one.id}.",
                    "context": {
                        "fromObjectId": [one.id],
                        "fromObjectType": [left.singular],
                        "toObjectType": [right.singular],
                    },
                }
            )
            continue
        shown: Json = {
            "from": {"id": one.id},
            "to": [
                {
                    "toObjectId": other,
                    "associationTypes": [
                        {
                            "category": "HUBSPOT_DEFINED",
                            "typeId": number,
                            "label": "Primary" if number in (5, 6) else None,
                        }
                        for number in types
                    ],
                }
                for other, types in page
            ],
        }
        if len(found) > start + ASSOCIATION_PAGE:
            shown["paging"] = {"next": {"after": str(start + ASSOCIATION_PAGE)}}
        results.append(shown)
    return batch_answer(results, errors)


def search(portal: Portal, kind: ObjectType, body: bytes, now: datetime) -> Json:
    """What the search index finds; no archived records, no associations."""
    asked: Search = read_body(body, Search)
    _check(asked, kind)
    start = int(asked.after)
    groups = [[_matcher(kind, one) for one in group.filters] for group in asked.filterGroups]
    found: list[tuple[Properties, Record]] = []
    for record in portal.records[kind.name].values():
        values = portal.indexed(kind.name, record, now)
        if values is not None and (
            not groups or any(all(match(values) for match in group) for group in groups)
        ):
            found.append((values, record))
    for sort in asked.sorts:
        name = sort.propertyName
        found.sort(
            key=lambda one: _sortable(kind, name, one[0].get(name)),
            reverse=sort.direction == "DESCENDING",
        )
    page = found[start : start + asked.limit]
    answer: Json = {
        "total": len(found),
        "results": [show(portal, kind, record, asked.properties) for _, record in page],
    }
    if len(found) > start + asked.limit:
        answer["paging"] = {"next": {"after": str(start + asked.limit)}}
    return answer


def _check(asked: Search, kind: ObjectType) -> None:
    filters = [one for group in asked.filterGroups for one in group.filters]
    if not 1 <= asked.limit <= SEARCH_LIMIT:
        raise invalid(f"limit must be 1 to {SEARCH_LIMIT}, not {asked.limit}")
    if not asked.after.isdecimal():
        raise invalid(f"after must be a number, not {asked.after}")
    if int(asked.after) + asked.limit > SEARCH_CAP:
        raise invalid(f"Search is limited to {SEARCH_CAP} results; {asked.after} is beyond them")
    if len(asked.filterGroups) > MAX_GROUPS or len(filters) > MAX_FILTERS:
        raise invalid("There are too many filters in this search")
    if any(len(group.filters) > MAX_FILTERS_PER_GROUP for group in asked.filterGroups):
        raise invalid("There are too many filters in one group of this search")
    named = [one.propertyName for one in filters] + [one.propertyName for one in asked.sorts]
    for name in named:
        if name not in kind.properties:
            raise invalid(f"Property {name} does not exist on {kind.name}")
    if len(asked.sorts) > 1:
        raise invalid("A search has at most one sort")


def _matcher(kind: ObjectType, one: _Filter) -> Callable[[Properties], bool]:
    name = one.propertyName
    value = None if one.value is None else _sortable(kind, name, one.value)
    high = None if one.highValue is None else _sortable(kind, name, one.highValue)
    values = [_sortable(kind, name, each) for each in one.values]
    tests: dict[str, Callable[[Any], bool]] = {
        "EQ": lambda own: own == value,
        "NEQ": lambda own: own != value,
        "LT": lambda own: own < value,
        "LTE": lambda own: own <= value,
        "GT": lambda own: own > value,
        "GTE": lambda own: own >= value,
        "BETWEEN": lambda own: value <= own <= high,
        "IN": lambda own: own in values,
        "NOT_IN": lambda own: own not in values,
    }
    match one.operator:
        case "HAS_PROPERTY":
            return lambda record: bool(record.get(name))
        case "NOT_HAS_PROPERTY":
            return lambda record: not record.get(name)
        case "IN" | "NOT_IN" if not values:
            raise invalid(f"operator {one.operator} requires values")
        case "BETWEEN" if value is None or high is None:
            raise invalid("operator BETWEEN requires value and highValue")
        case operator if operator not in tests:
            raise invalid(f"operator {operator} is invalid")
        case operator if operator not in {"IN", "NOT_IN"} and value is None:
            raise invalid(f"operator {operator} requires a value")
    test = tests[one.operator]
    return lambda record: bool(record.get(name)) and test(_sortable(kind, name, record[name]))


def _sortable(kind: ObjectType, name: str, text: str | None) -> Any:
    """A value as its property's type compares it."""
    match kind.properties[name]:
        case "number":
            try:
                return Decimal(text or "0")
            except InvalidOperation as error:
                raise invalid(f"{text} is not a number, which {name} is") from error
        case "date" | "datetime":
            return milliseconds(text or "0")
        case _:
            return (text or "").lower()


@lru_cache(maxsize=20_000)  # a search compares every record
def milliseconds(text: str) -> int:
    """Epoch milliseconds of a date or instant, which may be written as such."""
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise invalid(f"{text} is not a date") from error
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def _whole(text: str, name: str, low: int, high: int) -> int:
    if not text.isdecimal() or not low <= int(text) <= high:
        raise invalid(f"{name} must be {low} to {high}, not {text}")
    return int(text)
