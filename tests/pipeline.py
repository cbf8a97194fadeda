"""A whole pipeline in this process: real definitions, a real Dagster instance, the real sandbox.

What real daemons and run workers do with it is in `tests/e2e`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import dagster as dg
import pytest

from resources.stores import LedgerResource
from revrec_pipeline.definitions import build_definitions
from revrec_pipeline.ledger import Ledger, jobs, open_ledger
from revrec_pipeline.settings import Settings
from schedules.sensors import ROUTING_SENSOR

SITE = """\
[site]
timezone = "America/New_York"
history_start = "2025-01"
"""
# A failing test shows what the run raised; its log lines would bury that.
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class _HasEnvironment(Protocol):
    env: Mapping[str, str]


@dataclass
class Pipeline:
    """One home with its definitions, instance and ledger."""

    settings: Settings
    ledger: Ledger
    instance: dg.DagsterInstance
    definitions: dg.Definitions
    skipped: str | None = None  # the reason of the last tick that asked for nothing
    _seen: set[str] = field(default_factory=set)

    def run(
        self,
        job: str,
        month: str | None = None,
        *,
        tags: Mapping[str, str] | None = None,
        config: Mapping[str, Any] | None = None,
        assets: list[str] | None = None,
        may_fail: bool = False,
    ) -> dg.ExecuteInProcessResult:
        """Execute one run; `assets` selects some of the job's, as `a/b`."""
        return self.definitions.resolve_job_def(job).execute_in_process(
            instance=self.instance,
            partition_key=month,
            tags=dict(tags or {}),
            run_config={**_QUIET, **(config or {})},
            asset_selection=[dg.AssetKey(name.split("/")) for name in assets] if assets else None,
            raise_on_error=not may_fail,
        )

    def tick(
        self, *, remember: bool = True, ledger: LedgerResource | None = None
    ) -> list[dg.RunRequest]:
        """What the routing sensor asks for, but for run keys that the daemon would know.

        `remember=False` is a tick that was killed before it launched anything.
        """
        repository = self.definitions.get_repository_def()
        context = dg.build_sensor_context(
            instance=self.instance,
            repository_def=repository,
            resources={"ledger": ledger or (self.definitions.resources or {})["ledger"]},
        )
        found = repository.get_sensor_def(ROUTING_SENSOR).evaluate_tick(context)
        self.skipped = found.skip_message
        new = [each for each in found.run_requests or [] if each.run_key not in self._seen]
        if remember:
            self._seen |= {each.run_key for each in new if each.run_key}
        return new

    def launch(self, request: dg.RunRequest) -> None:
        """Do what the daemon does with a request of the sensor."""
        assert request.job_name
        self.run(
            request.job_name,
            request.partition_key,
            tags={**request.tags, "dagster/run_key": request.run_key or ""},
            config=request.run_config,
        )

    def created(self, request: dg.RunRequest, status: dg.DagsterRunStatus) -> None:
        """A run that the daemon made of a request, but that no step of ours ever saw."""
        assert request.job_name
        self.instance.create_run_for_job(
            self.definitions.resolve_job_def(request.job_name),
            tags={**request.tags, "dagster/run_key": request.run_key or ""},
            status=status,
        )

    def route(self) -> list[str]:
        """Tick and launch until nothing is left; the jobs that ran, with month or job number."""
        ran = []
        while requests := self.tick():
            for request in requests:
                self.launch(request)
                what = request.partition_key or request.tags["revrec/job"]
                ran.append(f"{request.job_name} {what}")
        return ran

    def jobs(self) -> list[dict[str, Any]]:
        """The jobs, oldest first, as `revrec jobs --json` prints them."""
        with self.ledger.transaction() as tx:
            return jobs.jobs(tx)[::-1]

    def job(self, source: str, record_type: str) -> dict[str, Any]:
        """The newest job of a source and record type."""
        return next(
            job
            for job in reversed(self.jobs())
            if (job["source"], job["record_type"]) == (source, record_type)
        )


@pytest.fixture
def make_pipeline(
    sandbox: _HasEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Pipeline]]:
    """Makes a pipeline on the sandbox: `make_pipeline(ledger_url=…, toml=…)`."""
    with dg.DagsterInstance.ephemeral() as instance:

        def make(*, ledger_url: str | None = None, toml: str = "") -> Pipeline:
            (tmp_path / "revrec.toml").write_text(SITE + toml)
            environment = {
                **sandbox.env,
                "REVREC_HOME": str(tmp_path / "home"),
                "REVREC_CONFIG": str(tmp_path / "revrec.toml"),
            }
            if ledger_url:
                environment["REVREC_LEDGER_URL"] = ledger_url
            else:
                monkeypatch.delenv("REVREC_LEDGER_URL", raising=False)
            monkeypatch.delenv("REVREC_LAKE_URL", raising=False)
            for name, value in environment.items():
                monkeypatch.setenv(name, value)
            settings = Settings.load()
            settings.make_home()
            return Pipeline(
                settings, open_ledger(settings.ledger), instance, build_definitions(settings)
            )

        yield make


@pytest.fixture
def pipeline(make_pipeline: Callable[..., Pipeline]) -> Pipeline:
    """A pipeline with the embedded ledger."""
    return make_pipeline()
