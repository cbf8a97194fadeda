"""Bulk API 2.0 query jobs: create, wait, read the result pages, delete.

simple-salesforce's own runner cannot fetch deleted rows, and does not log in again (its issue
#785). Which queries need a job is in `salesforce`.
"""

import io
import logging
from collections.abc import Iterator

import msgspec
import pyarrow as pa
import pyarrow.csv

from resources.at_once import to_the_end
from resources.salesforce_api import Answer, SalesforceApi, reader, unreadable
from resources.salesforce_login import SOURCE
from revrec_pipeline.errors import SourceError, SourceSchemaError, SourceTimeoutError

#: Records per result page. The API allows 50,000, but a landing's pages are decompressed some at a
#: time (see `lake`), and 10,000 records are 2 to 4 MB already.
RESULT_PAGE = 10_000
#: Seconds between two looks at a job, each of which costs an API call.
_FIRST_DELAY, _LONGEST_DELAY = 0.1, 20.0
#: Seconds of waiting after which a job is given up; 10 million rows take minutes.
_PATIENCE = 3_600.0
_RUNNING = ("UploadComplete", "InProgress")

_log = logging.getLogger(__name__)


class _Job(msgspec.Struct):
    id: str
    state: str
    apiVersion: float  # noqa: N815 - the vendor's spelling
    numberRecordsProcessed: int = 0  # noqa: N815
    errorMessage: str | None = None  # noqa: N815


_read_job = reader(_Job)


def pages(api: SalesforceApi, soql: str, columns: list[str]) -> Iterator[tuple[Answer, pa.Table]]:
    """All result pages of a query with deleted rows, each with some of its columns as text.

    Raises:
        SourceSchemaError: the job failed, or its pages are not the records that it processed.
        SourceTimeoutError: the job took too long.
    """
    created = api.call(
        "POST",
        api.url("/jobs/query"),
        body={
            "operation": "queryAll",
            "query": soql,
            "contentType": "CSV",
            "columnDelimiter": "COMMA",
            "lineEnding": "LF",
        },
    )
    job = _read_job(created)
    path = f"/jobs/query/{job.id}"
    try:
        for look in _looks(api, path, job):
            job = look
        if job.state != "JobComplete":
            why = " ".join((job.errorMessage or "no reason given").split())
            raise SourceSchemaError(SOURCE, f"query job {job.id} ended as {job.state}: {why}")
        yield from _results(api, f"{path}/results", soql, job, columns)
    finally:
        _clean_up(api, path, job)


def _looks(api: SalesforceApi, path: str, job: _Job) -> Iterator[_Job]:
    """Look at a job until it has ended."""
    delay, waited = _FIRST_DELAY, 0.0
    while job.state in _RUNNING:
        if waited >= _PATIENCE:
            raise SourceTimeoutError(
                SOURCE, f"query job {job.id} is {job.state} after {waited / 60:.0f} min"
            )
        api.sleep(delay)
        waited += delay
        delay = min(delay * 1.5, _LONGEST_DELAY)
        _, job = api.get(api.url(path), _read_job)
        yield job


def _results(
    api: SalesforceApi, path: str, soql: str, job: _Job, columns: list[str]
) -> Iterator[tuple[Answer, pa.Table]]:
    received = 0
    locator: str | None = None
    seen: set[str] = set()
    while True:
        params = {"maxRecords": str(RESULT_PAGE)}
        if locator is not None:
            params["locator"] = locator
        answer, table = api.get(
            api.url(path, **params),
            lambda answer: _read_csv(answer, columns),
            headers={"Accept": "text/csv"},
        )
        received += table.num_rows
        yield answer, table
        locator = answer.headers["Sforce-Locator"]
        if locator == "null":
            break
        if locator in seen:
            raise SourceSchemaError(SOURCE, f"GET {path} repeats the page at locator {locator}")
        seen.add(locator)
    if received != job.numberRecordsProcessed:
        raise SourceSchemaError(
            SOURCE,
            f"query job {job.id} processed {job.numberRecordsProcessed} records, its pages hold "
            f"{received}: {soql[:200]}",
        )


def _read_csv(answer: Answer, columns: list[str]) -> pa.Table:
    """The named columns as text, if the page holds as many records as its header promises."""
    promised = answer.headers.get("Sforce-NumberOfRecords")
    if promised is None or "Sforce-Locator" not in answer.headers:
        raise unreadable(answer, "it carries no Sforce-NumberOfRecords or Sforce-Locator")
    kinds = dict.fromkeys(columns, pa.string())
    if promised == "0":
        return pa.schema(list(kinds.items())).empty_table()
    try:
        table = pyarrow.csv.read_csv(
            io.BytesIO(answer.body),
            pyarrow.csv.ReadOptions(use_threads=False),
            pyarrow.csv.ParseOptions(newlines_in_values=True),
            pyarrow.csv.ConvertOptions(column_types=kinds, include_columns=columns),
        )
    except (pa.ArrowInvalid, pa.ArrowKeyError):  # its text quotes records
        raise unreadable(answer, f"it is no CSV with {', '.join(columns)}") from None
    if table.num_rows != int(promised):
        raise unreadable(answer, f"it holds {table.num_rows} of {promised} records")
    return table


def _clean_up(api: SalesforceApi, path: str, job: _Job) -> None:
    """Delete the job, after aborting it when it still runs. A failure here must hide no other."""
    try:
        with to_the_end():
            if job.state in _RUNNING:
                api.call("PATCH", api.url(path), body={"state": "Aborted"})
            api.call("DELETE", api.url(path))
    except SourceError as error:
        _log.warning("salesforce: query job %s was left behind: %s", job.id, error)
