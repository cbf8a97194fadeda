"""SOQL as the sandbox understands it: parsed by the grammar in `soql.lark`, translated to SQLite.

The result of `translate` is one SQL statement over the tables of `salesforce_org`, and the paths in
the order in which they were selected. What cannot be translated is refused as Salesforce does it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedInput

from revrec_pipeline.sandbox.salesforce_schema import (
    NUMBER_TYPES,
    TEXT_TYPES,
    Field,
    SObject,
)

#: How the store writes a datetime, so that text sorts as time.
STAMP = "%Y-%m-%dT%H:%M:%S.%f"
_MAX_SOQL = 100_000


class SoqlError(Exception):
    """A query that Salesforce would refuse: code and message of its error body."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Selected:
    """One selected field: the path as the object spells it, and its type."""

    path: tuple[str, ...]
    field: Field


@dataclass(slots=True)
class Statement:
    """A translated query. Columns of the SQL: the row's id, then one per selected path.

    For each parent on a path, `parents` tells which column holds the parent's id, since a record
    without a parent shows null instead of an object.
    """

    object: SObject
    selected: list[Selected]
    parents: dict[tuple[str, ...], int]
    parent_objects: dict[tuple[str, ...], SObject]
    sql: str
    values: list[Any]
    count: bool


@cache
def _grammar() -> Lark:
    text = files("revrec_pipeline.sandbox").joinpath("soql.lark").read_text(encoding="utf-8")
    return Lark(text, start="query", parser="lalr")


def translate(soql: str, schema: dict[str, SObject], *, deleted: bool) -> Statement:
    """Translate a query; `deleted` is the difference between query and queryAll.

    Raises:
        SoqlError: MALFORMED_QUERY, INVALID_TYPE or INVALID_FIELD.
    """
    if len(soql) > _MAX_SOQL:
        raise SoqlError("QUERY_TOO_COMPLICATED", "SOQL statements may have 100,000 characters")
    try:
        tree = _grammar().parse(soql)
    except UnexpectedInput as error:
        near = soql[error.pos_in_stream or 0 :].split(" ")[0] or "<EOF>"
        raise SoqlError("MALFORMED_QUERY", f"unexpected token: '{near}'") from error
    return _Translation(schema, deleted).query(tree)


@dataclass(slots=True)
class _Scope:
    """One object with the parents that its paths reach, each joined once."""

    object: SObject
    alias: str
    joins: dict[tuple[str, ...], tuple[str, SObject, str]] = field(default_factory=dict)

    def from_clause(self) -> str:
        joins = "".join(
            f' LEFT JOIN "{parent.name}" AS {alias} ON {alias}."Id" = {on}'
            for alias, parent, on in self.joins.values()
        )
        return f'FROM "{self.object.name}" AS {self.alias}{joins}'


class _Translation:
    def __init__(self, schema: dict[str, SObject], deleted: bool) -> None:
        self._schema = schema
        self._deleted = deleted
        self._values: list[Any] = []
        self._aliases = 0

    def query(self, tree: Tree[Token]) -> Statement:
        selection: Any
        selection, name, *clauses = tree.children
        scope = self._scope(str(name))
        count = selection.data == "count"
        selected: list[Selected] = []
        columns = [f'{scope.alias}."Id"']
        for path in [] if count else selection.children:
            column, spelled, found = self._resolve(scope, path)
            if any(spelled == earlier.path for earlier in selected):
                raise SoqlError("INVALID_FIELD", f"duplicate field selected: {'.'.join(spelled)}")
            selected.append(Selected(spelled, found))
            columns.append(column)
        by_kind = {str(clause.data): clause for clause in clauses if isinstance(clause, Tree)}
        if count and "order" in by_kind:
            raise SoqlError("MALFORMED_QUERY", "Ordering is not allowed with COUNT()")
        where = self._where(scope, by_kind.get("where"))
        order = self._order(scope, by_kind.get("order"))
        limit = f" LIMIT {int(str(by_kind['limit'].children[0]))}" if "limit" in by_kind else ""
        parents: dict[tuple[str, ...], int] = {}
        for prefix, (alias, _, _) in scope.joins.items():
            if any(each.path[: len(prefix)] == prefix for each in selected):
                parents[prefix] = len(columns)
                columns.append(f'{alias}."Id"')
        return Statement(
            object=scope.object,
            selected=selected,
            parents=parents,
            parent_objects={prefix: join[1] for prefix, join in scope.joins.items()},
            sql=f"SELECT {', '.join(columns)} {scope.from_clause()}{where}{order}{limit}",
            values=self._values,
            count=count,
        )

    def _scope(self, name: str) -> _Scope:
        for known in self._schema.values():
            if known.name.lower() == name.lower():
                self._aliases += 1
                return _Scope(known, f"t{self._aliases}")
        raise SoqlError("INVALID_TYPE", f"sObject type '{name}' is not supported.")

    def _resolve(self, scope: _Scope, path: Any) -> tuple[str, tuple[str, ...], Field]:
        """The SQL of a path, the path as the objects spell it, and the field at its end."""
        *relations, last = (str(part) for part in path.children)
        current, alias = scope.object, scope.alias
        spelled: tuple[str, ...] = ()
        for relation in relations:
            link = next(
                (
                    each
                    for each in current.fields.values()
                    if each.relationship and each.relationship.lower() == relation.lower()
                ),
                None,
            )
            if link is None or link.parent is None:
                raise SoqlError(
                    "INVALID_FIELD",
                    f"Didn't understand relationship '{relation}' in field path. If you are "
                    "attempting to use a custom relationship, be sure to append the '__r'.",
                )
            spelled = (*spelled, str(link.relationship))
            if spelled not in scope.joins:
                self._aliases += 1
                on = f'{alias}."{link.name}"'
                scope.joins[spelled] = (f"t{self._aliases}", self._schema[link.parent], on)
            alias, current, _ = scope.joins[spelled]
        for found in current.fields.values():
            if found.name.lower() == last.lower():
                return f'{alias}."{found.name}"', (*spelled, found.name), found
        raise SoqlError(
            "INVALID_FIELD",
            f"No such column '{last}' on entity '{current.name}'. If you are attempting to use a "
            "custom field, be sure to append the '__c' after the custom field name.",
        )

    def _where(self, scope: _Scope, clause: Tree[Token] | None) -> str:
        conditions = []
        if not self._deleted and "IsDeleted" in scope.object.fields:
            conditions.append(f'{scope.alias}."IsDeleted" = 0')
        if clause is not None:
            conditions.append(self._condition(scope, clause.children[0]))
        return f" WHERE {' AND '.join(conditions)}" if conditions else ""

    def _condition(self, scope: _Scope, node: Any) -> str:
        parts = node.children
        match node.data:
            case "conjunction" | "disjunction":
                word = " AND " if node.data == "conjunction" else " OR "
                return f"({word.join(self._condition(scope, part) for part in parts)})"
            case "negation":
                return f"NOT ({self._condition(scope, parts[-1])})"
            case "comparison":
                return self._comparison(scope, *parts)
            case "like":
                column, _, found = self._resolve(scope, parts[0])
                self._values.append(_value(found, parts[1]))
                return f"coalesce({column} LIKE ?, 0)"
            case "among":
                return self._among(scope, *parts)
            case _:
                return self._semi_join(scope, *parts)

    def _comparison(self, scope: _Scope, path: Any, operator: Token, literal: Token) -> str:
        column, _, found = self._resolve(scope, path)
        value = _value(found, literal)
        unequal = operator in ("!=", "<>")
        if not unequal and operator != "=" and (value is None or found.type == "boolean"):
            raise SoqlError("INVALID_FIELD", f"{found.name} cannot be compared by {operator}")
        sql = {"=": "IS", "!=": "IS NOT", "<>": "IS NOT"}.get(operator, str(operator))
        self._values.append(value)
        return f"coalesce({_folded(column, found)} {sql} ?, 0)"

    def _among(self, scope: _Scope, path: Any, negated: Token | None, *literals: Token) -> str:
        column, _, found = self._resolve(scope, path)
        self._values.extend(_value(found, literal) for literal in literals)
        marks = ", ".join("?" * len(literals))
        inside = f"coalesce({_folded(column, found)} IN ({marks}), 0)"
        return f"NOT {inside}" if negated else inside

    def _semi_join(
        self, scope: _Scope, path: Any, negated: Token | None, inner: Any, name: Token, *rest: Any
    ) -> str:
        column, _, outer_field = self._resolve(scope, path)
        sub = self._scope(str(name))
        inner_column, _, inner_field = self._resolve(sub, inner)
        for each in (outer_field, inner_field):
            if each.type not in ("id", "reference"):
                raise SoqlError(
                    "MALFORMED_QUERY",
                    f"The left operand field and the selected field of a semi join must be ids: "
                    f"{each.name}",
                )
        where = self._where(sub, rest[0] if rest else None)
        query = f"SELECT {inner_column} {sub.from_clause()}{where}"
        word = "NOT IN" if negated else "IN"
        return f"coalesce({column} {word} ({query}), 0)"

    def _order(self, scope: _Scope, clause: Tree[Token] | None) -> str:
        terms = []
        for ordering in clause.children if clause else ():
            path, direction, nulls = ordering.children  # type: ignore[union-attr]  # by the grammar
            column, _, found = self._resolve(scope, path)
            terms.append(f"{_folded(column, found)} {direction or 'ASC'} NULLS {nulls or 'FIRST'}")
        return f" ORDER BY {', '.join(terms)}" if terms else ""


def _folded(column: str, found: Field) -> str:
    """Text compares without regard to case, ids exactly."""
    return f"{column} COLLATE NOCASE" if found.type in ("string", "picklist") else column


def _value(found: Field, literal: Token) -> Any:
    """A literal as the store holds it, if its form suits the field's type."""
    text = str(literal)
    kind = literal.type
    if kind == "NULL":
        return None
    if found.type in TEXT_TYPES:
        if kind == "STRING":
            return "".join(_unescape(text[1:-1]))
        _refuse(found, "should be enclosed in quotes")
    if kind == "STRING":
        _refuse(found, "should not be enclosed in quotes")
    if found.type == "boolean" and kind == "BOOLEAN":
        return int(text.lower() == "true")
    if found.type == "date" and kind == "DATE":
        return text
    if found.type == "datetime" and kind == "DATETIME":
        return stamp(datetime.fromisoformat(text))
    if found.type in NUMBER_TYPES and kind in ("INTEGER", "DECIMAL"):
        return float(text)
    return _refuse(found, "should not be enclosed in quotes")


def _refuse(found: Field, how: str) -> None:
    raise SoqlError(
        "INVALID_FIELD",
        f"value of filter criterion for field '{found.name}' must be of type "
        f"{'dateTime' if found.type == 'datetime' else found.type} and {how}",
    )


def _unescape(text: str) -> Iterator[str]:
    characters = iter(text)
    for character in characters:
        if character != "\\":
            yield character
            continue
        escaped = next(characters)
        if escaped not in _ESCAPES:
            raise SoqlError("MALFORMED_QUERY", f"Illegal string literal: \\{escaped}")
        yield _ESCAPES[escaped]


_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "'": "'", '"': '"', "\\": "\\", "%": "%", "_": "_"}


def stamp(moment: datetime) -> str:
    """An instant as the store holds it: UTC with milliseconds, as Salesforce keeps it."""
    return moment.astimezone(UTC).strftime(STAMP)[:-3]
