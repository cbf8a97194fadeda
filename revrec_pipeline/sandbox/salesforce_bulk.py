"""Query jobs of the sandbox's Bulk API 2.0: created, polled until complete, read page by page."""

import base64
import binascii
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from revrec_pipeline.sandbox import salesforce_wire as wire
from revrec_pipeline.sandbox.clock import Clock
from revrec_pipeline.sandbox.salesforce_org import Org, record_id
from revrec_pipeline.sandbox.salesforce_schema import API_VERSION, SObject
from revrec_pipeline.sandbox.soql import SoqlError, Statement, translate

_KNOWN = {"operation", "query", "contentType", "columnDelimiter", "lineEnding"}
#: Polls that a job takes: one finds it in progress, the next one complete.
_STATES = ("UploadComplete", "InProgress", "JobComplete")


@dataclass(slots=True)
class _Job:
    id: str
    operation: str
    created: str
    statement: Statement
    rows: list[tuple[Any, ...]]
    state: str = "UploadComplete"
    error: str | None = None

    def info(self, *, complete: bool) -> dict[str, Any]:
        """The job as the API shows it; the creating call does not tell results."""
        info: dict[str, Any] = {
            "id": self.id,
            "operation": self.operation,
            "object": self.statement.object.name,
            "createdById": "005Hs0000000009IAA",
            "createdDate": self.created,
            "systemModstamp": self.created,
            "state": self.state,
            "concurrencyMode": "Parallel",
            "contentType": "CSV",
            "apiVersion": float(API_VERSION),
            "lineEnding": "LF",
            "columnDelimiter": "COMMA",
        }
        if complete:
            done = self.state == "JobComplete"
            info |= {
                "numberRecordsProcessed": len(self.rows) if done else 0,
                "retries": 0,
                "totalProcessingTime": 350 if done else 0,
                "isPkChunkingSupported": True,
            }
            if self.error:
                info["errorMessage"] = self.error
        return info


class BulkJobs:
    """The jobs of one org."""

    def __init__(self, org: Org, clock: Clock) -> None:
        self._org = org
        self._clock = clock
        self._jobs: dict[str, _Job] = {}
        self._created = 0
        #: With which message the next job ends as Failed, if it is to fail.
        self.fail_next: str | None = None

    @property
    def open(self) -> int:
        """Jobs that nobody has deleted."""
        return len(self._jobs)

    async def create(self, request: Request, schema: dict[str, SObject]) -> Response:
        """POST /jobs/query."""
        try:
            asked = msgspec.json.decode(await request.body(), type=dict[str, str])
        except msgspec.MsgspecError:
            return wire.error(400, "JSON_PARSER_ERROR", "The request body is not a JSON object.")
        unknown = sorted(set(asked) - _KNOWN)
        if unknown:
            message = f"Unrecognized field '{unknown[0]}'"
            return wire.error(400, "JSON_PARSER_ERROR", message)
        wanted = {"contentType": "CSV", "columnDelimiter": "COMMA", "lineEnding": "LF"}
        for name, value in wanted.items():
            if asked.get(name, value) != value:
                return wire.error(400, "INVALIDJOB", f"Invalid {name}: {asked[name]}")
        operation = asked.get("operation", "")
        if operation not in ("query", "queryAll"):
            return wire.error(400, "INVALIDJOB", f"Invalid operation: {operation}")
        try:
            statement = translate(asked.get("query", ""), schema, deleted=operation == "queryAll")
        except SoqlError as error:
            return wire.error(400, error.code, str(error))
        if statement.count:
            message = "Aggregate Relationships not supported in Bulk Query"
            return wire.error(400, "API_ERROR", message)
        self._created += 1
        job = _Job(
            id=record_id("750", self._created),
            operation=operation,
            created=self._clock.now().strftime("%Y-%m-%dT%H:%M:%S.000+0000"),
            statement=statement,
            rows=self._org.select(statement.sql, statement.values),
        )
        self._jobs[job.id] = job
        return JSONResponse(job.info(complete=False))

    def status(self, job_id: str) -> Response:
        """GET /jobs/query/{id}: each look finds the job one step further."""
        job = self._jobs.get(job_id)
        if job is None:
            return _unknown()
        answer = JSONResponse(job.info(complete=True))
        if job.state in _STATES[:-1]:
            job.state = _STATES[_STATES.index(job.state) + 1]
            if job.state == "JobComplete" and self.fail_next is not None:
                job.state, job.error, self.fail_next = "Failed", self.fail_next, None
        return answer

    async def change(self, job_id: str, request: Request) -> Response:
        """PATCH /jobs/query/{id}: only to abort."""
        job = self._jobs.get(job_id)
        if job is None:
            return _unknown()
        asked = msgspec.json.decode(await request.body())
        if asked != {"state": "Aborted"} or job.state not in _STATES[:-1]:
            return wire.error(400, "INVALIDJOBSTATE", "The job can only be aborted while it runs.")
        job.state = "Aborted"
        return JSONResponse(job.info(complete=False))

    def delete(self, job_id: str) -> Response:
        """DELETE /jobs/query/{id}: only when it has ended."""
        job = self._jobs.get(job_id)
        if job is None:
            return _unknown()
        if job.state in _STATES[:-1]:
            return wire.error(400, "INVALIDJOBSTATE", "Only a job that has ended can be deleted.")
        del self._jobs[job_id]
        return Response(status_code=204)

    def results(self, job_id: str, request: Request) -> Response:
        """GET /jobs/query/{id}/results: one page of CSV; the last one's locator is `null`."""
        job = self._jobs.get(job_id)
        if job is None:
            return _unknown()
        if job.state != "JobComplete":
            return wire.error(400, "INVALIDJOBSTATE", f"The job is in state {job.state}.")
        try:
            size = int(request.query_params.get("maxRecords", "50000"))
            start = _offset(request.query_params.get("locator"))
        except (ValueError, binascii.Error):
            return wire.error(400, "INVALID_LOCATOR", "Invalid maxRecords or locator.")
        if size < 1 or start > len(job.rows):
            return wire.error(400, "INVALID_LOCATOR", "Invalid maxRecords or locator.")
        page = job.rows[start : start + size]
        end = start + len(page)
        return Response(
            wire.csv(job.statement, page),
            media_type="text/csv",
            headers={
                "Sforce-Locator": _locator(end) if end < len(job.rows) else "null",
                "Sforce-NumberOfRecords": str(len(page)),
            },
        )


def _locator(offset: int) -> str:
    """An opaque place in the results; the vendor's is the offset in base64 without padding, too."""
    return base64.b64encode(str(offset).encode()).decode().rstrip("=")


def _offset(locator: str | None) -> int:
    if locator is None:
        return 0
    padded = locator + "=" * (-len(locator) % 4)
    return int(base64.b64decode(padded, validate=True).decode())


def _unknown() -> Response:
    return wire.error(404, "NOT_FOUND", "The requested resource does not exist")
