"""How Salesforce writes records and errors: JSON of the REST API, CSV of the Bulk API 2.0."""

from collections.abc import Iterable, Sequence
from typing import Any

from starlette.responses import JSONResponse, Response

from revrec_pipeline.sandbox.salesforce_schema import API_VERSION, Field
from revrec_pipeline.sandbox.soql import Statement

Row = Sequence[Any]


def error(status: int, code: str, message: str) -> Response:
    """An error body: always an array of one object."""
    return JSONResponse([{"message": message, "errorCode": code}], status)


def record(statement: Statement, row: Row) -> dict[str, Any]:
    """One row as the REST API nests it; a missing parent is null instead of an object."""
    result: dict[str, Any] = {"attributes": _attributes(statement.object.name, row[0])}
    for column, selected in enumerate(statement.selected, start=1):
        place = result
        for depth in range(1, len(selected.path)):
            prefix = selected.path[:depth]
            parent_id = row[statement.parents[prefix]]
            if parent_id is None:
                place[prefix[-1]] = None
                break
            kind = statement.parent_objects[prefix].name
            place = place.setdefault(prefix[-1], {"attributes": _attributes(kind, parent_id)})
        else:
            place[selected.path[-1]] = _json_value(selected.field, row[column])
    return result


def _attributes(kind: str, id_: str) -> dict[str, str]:
    return {"type": kind, "url": f"/services/data/v{API_VERSION}/sobjects/{kind}/{id_}"}


def _json_value(field: Field, value: Any) -> Any:
    if value is None:
        return None
    match field.type:
        case "boolean":
            return bool(value)
        case "datetime":
            return f"{value}+0000"
        case "int":
            return int(value)
        case "currency" | "double" | "percent":
            return float(value)
        case _:
            return value


def csv(statement: Statement, rows: Iterable[Row]) -> str:
    """Rows as the Bulk API writes them: every value in quotes, null and "" alike."""
    names = [".".join(selected.path) for selected in statement.selected]
    lines = [_csv_line(names)]
    for row in rows:
        lines.append(
            _csv_line(
                _csv_value(selected.field, row[column])
                for column, selected in enumerate(statement.selected, start=1)
            )
        )
    return "".join(lines)


def _csv_line(values: Iterable[str]) -> str:
    return ",".join('"' + value.replace('"', '""') + '"' for value in values) + "\n"


def _csv_value(field: Field, value: Any) -> str:
    if value is None:
        return ""
    match field.type:
        case "boolean":
            return "true" if value else "false"
        case "datetime":
            return f"{value}Z"
        case "int":
            return str(int(value))
        case "currency" | "double" | "percent":
            return java_double(float(value))
        case _:
            return str(value)


def java_double(value: float) -> str:
    """A double as Java prints it: with a point always, with an exponent from 10^7 on."""
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        return repr(value)
    shortest = next(
        text for precision in range(1, 18) if float(text := f"{value:.{precision}e}") == value
    )
    digits, _, exponent = shortest.partition("e")
    return f"{digits}E{int(exponent)}"
