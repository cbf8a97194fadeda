"""The event log of the embedded instance: Dagster's own files, written with less work."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage

from revrec_pipeline import instances
from revrec_pipeline.instances.event_log import EventLog
from revrec_pipeline.settings import Settings


@dg.asset
def counted() -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster reads the annotation
    return dg.MaterializeResult(metadata={"rows": 3})


JOB = dg.Definitions(assets=[counted], jobs=[dg.define_asset_job("count")])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`DAGSTER_HOME` of a new home."""
    monkeypatch.setenv("REVREC_HOME", str(tmp_path / "home with a space"))
    monkeypatch.setenv("DAGSTER_HOME", "")
    settings = Settings.load()
    settings.make_home()
    instances.prepare(settings)
    return settings.home / "dagster"


def count() -> str:
    """Run the job; returns the run's id."""
    with dg.DagsterInstance.get() as instance:
        assert isinstance(instance.event_log_storage, EventLog)
        return JOB.resolve_job_def("count").execute_in_process(instance=instance).run_id


def told(storage: SqliteEventLogStorage, run_id: str) -> list[str]:
    return [
        entry.get_dagster_event().event_type_value for entry in storage.get_logs_for_run(run_id)
    ]


def schema(file: Path) -> list[str]:
    with closing(sqlite3.connect(file)) as connection:
        rows = connection.execute(
            "SELECT sql FROM sqlite_master UNION ALL SELECT version_num FROM alembic_version"
        )
        return sorted(str(sql) for (sql,) in rows)


def test_dagsters_own_class_reads_what_ours_wrote(folder: Path) -> None:
    run_id = count()
    with dg.DagsterInstance.get() as instance:
        ours = told(instance.event_log_storage, run_id)
    assert ours[0] == "ASSET_MATERIALIZATION_PLANNED"
    assert ours[-1] == "PIPELINE_SUCCESS"
    assert told(SqliteEventLogStorage(str(folder / "history" / "runs")), run_id) == ours
    config = yaml.safe_load((folder / "dagster.yaml").read_text())
    del config["event_log_storage"]
    (folder / "dagster.yaml").write_text(yaml.safe_dump(config))
    with dg.DagsterInstance.get() as plain:
        assert type(plain.event_log_storage) is SqliteEventLogStorage
        event = plain.get_latest_materialization_event(counted.key)
    assert event
    assert event.run_id == run_id


def test_the_file_of_a_later_run_has_the_schema_of_the_first_and_none_of_its_events(
    folder: Path,
) -> None:
    with dg.DagsterInstance.get() as instance:
        job = JOB.resolve_job_def("count")
        runs = [job.execute_in_process(instance=instance).run_id for _ in range(3)]
        logs = [told(instance.event_log_storage, run_id) for run_id in runs]
    assert logs[0] == logs[1] == logs[2]
    first, *later = (schema(folder / "history" / "runs" / f"{run_id}.db") for run_id in runs)
    assert later == [first, first]
    assert len(list((folder / "history" / "runs").glob("tmp*"))) == 0


def test_two_that_create_the_same_file_at_once_share_it(folder: Path) -> None:
    def events(storage: EventLog, run_id: str) -> object:
        with storage.run_connection(run_id) as connection:
            return connection.exec_driver_sql("SELECT count(*) FROM event_logs").scalar()

    both = [EventLog(str(folder / "runs")) for _ in range(2)]
    runs = [f"run_{number}" for number in range(30)]
    with ThreadPoolExecutor(2) as pool:
        counts = [list(pool.map(events, both, [run, run])) for run in runs]
    assert counts == [[0, 0]] * len(runs)
    (folder_schema,) = {tuple(schema(folder / "runs" / f"{run}.db")) for run in runs}
    assert any("event_logs" in sql for sql in folder_schema)
