"""Salesforce pages in both forms, and the rows that a mapping makes of them."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from revrec_pipeline.engine import engine
from revrec_pipeline.mapping import Site
from revrec_pipeline.mapping.salesforce import SOURCE
from revrec_pipeline.mapping.salesforce_settings import SalesforceSettings
from revrec_pipeline.model import RecordType

SITE = Site(timezone="America/New_York", home_currency="USD", conversion_date=None)
STAMP = "2026-01-20T10:00:00.000Z"
_REQUEST = "GET https://acme.my.salesforce.com/services/data/v68.0/queryAll?q=SELECT+Id"


class Number(str):
    """The text of a JSON number, as it stands in the body."""

    __slots__ = ()


def _json_value(value: Any) -> str:
    return str(value) if isinstance(value, Number) else json.dumps(value)


def _nested(flat: dict[str, Any]) -> str:
    """One record as the REST API writes it."""
    parents: dict[str, dict[str, Any]] = {}
    own = ['"attributes":{"type":"X","url":"/x"}']
    for path, value in flat.items():
        field, _, rest_of_path = path.partition(".")
        if rest_of_path:
            parents.setdefault(field, {})[rest_of_path] = value
        else:
            own.append(f"{json.dumps(field)}:{_json_value(value)}")
    own += [f"{json.dumps(name)}:{_nested(fields)}" for name, fields in parents.items()]
    return "{" + ",".join(own) + "}"


def rest(*records: dict[str, Any]) -> str:
    """A REST page."""
    body = ",".join(map(_nested, records))
    return f'{{"totalSize":{len(records)},"done":true,"records":[{body}]}}'


def bulk(*records: dict[str, Any]) -> str:
    """A Bulk page."""
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerow(records[0])
    for record in records:
        writer.writerow(
            {None: "", True: "true", False: "false"}.get(value, value)
            if value is None or isinstance(value, bool)
            else value
            for value in record.values()
        )
    return out.getvalue()


Pages = dict[str, list[tuple[str, str]]]  # raw object → (landing, body)


def page(**records: list[dict[str, Any]]) -> Pages:
    """One landing with a REST page of each raw object."""
    return {name: [("L1", rest(*found))] for name, found in records.items()}


def mapped(
    pages: Pages,
    tmp_path: Path,
    settings: SalesforceSettings | None = None,
    site: Site = SITE,
    current: list[tuple[str, str, str, int]] | None = None,
    record_type: RecordType = RecordType.SALES,
) -> list[dict[str, Any]]:
    """The rows of these pages; by default every document of the first page is current."""
    found = table(pages, tmp_path, settings, site, current, record_type)
    return found.to_pylist(maps_as_pydicts="strict")


def table(
    pages: Pages,
    tmp_path: Path,
    settings: SalesforceSettings | None = None,
    site: Site = SITE,
    current: list[tuple[str, str, str, int]] | None = None,
    record_type: RecordType = RecordType.SALES,
) -> pa.Table:
    """The same as a table, ordered by document and line."""
    settings = settings or SalesforceSettings()
    source = SOURCE.under(settings)
    with engine(tmp_path) as db:
        for name in source.objects:
            db.execute(
                f"CREATE TABLE raw_{name} (landing VARCHAR, page INTEGER, parent VARCHAR, "
                "format VARCHAR, request VARCHAR, body VARCHAR)"
            )
            for number, (landing, body) in enumerate(pages.get(name, [])):
                kind = "json" if body.startswith("{") else "csv"
                db.execute(
                    f"INSERT INTO raw_{name} VALUES (?, ?, NULL, ?, ?, ?)",
                    [landing, number, kind, _REQUEST, body],
                )
        db.execute(
            "CREATE TABLE current (object VARCHAR, id VARCHAR, version VARCHAR, landing VARCHAR, "
            "page INTEGER)"
        )
        for name in source.documents:
            first = [(id_, STAMP, "L1", 0) for _, body in pages.get(name, []) for id_ in _ids(body)]
            for document in current or dict.fromkeys(first):
                db.execute(f"INSERT INTO current VALUES ('{name}', ?, ?, ?, ?)", document)
        source.rows(db, record_type, settings, site)
        return db.sql("SELECT * FROM rows ORDER BY document_id, line_id").to_arrow_table()


def _ids(body: str) -> list[str]:
    if body.startswith("{"):
        return [record["Id"] for record in json.loads(body)["records"]]
    return [record["Id"] for record in csv.DictReader(io.StringIO(body))]
