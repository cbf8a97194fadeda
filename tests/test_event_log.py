"""The event log of the embedded instance: Dagster's own files, written with less work."""

import os
import sqlite3
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster import DagsterEvent, DagsterEventType, EventLogEntry
from dagster._core.events import StepMaterializationData
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._core.storage.runs.sqlite.sqlite_run_storage import SqliteRunStorage

from revrec_pipeline import instances
from revrec_pipeline.instances.event_log import EventLog
from revrec_pipeline.instances.run_storage import RunStorage
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


def materialized(run_id: str) -> EventLogEntry:
    """A run's record that `counted` was materialized."""
    return EventLogEntry(
        error_info=None,
        level=20,
        user_message="",
        run_id=run_id,
        timestamp=time.time(),
        job_name="count",
        dagster_event=DagsterEvent(
            event_type_value=DagsterEventType.ASSET_MATERIALIZATION.value,
            job_name="count",
            event_specific_data=StepMaterializationData(dg.AssetMaterialization(counted.key)),
        ),
    )


def newest(storage: SqliteEventLogStorage) -> str | None:
    """The run that materialized `counted` last."""
    found = storage.fetch_materializations(counted.key, limit=1).records
    return found[0].run_id if found else None


def test_the_newest_materialization_is_the_newest_whoever_stored_it(folder: Path) -> None:
    ours, others = EventLog(str(folder)), SqliteEventLogStorage(str(folder))
    assert newest(ours) is None
    ours.store_event(materialized("run_1"))
    assert [newest(ours), newest(ours)] == ["run_1", "run_1"]
    others.store_event(materialized("run_2"))
    assert newest(ours) == "run_2"
    ours.delete_events("run_2")
    assert newest(ours) == "run_1"
    ours.wipe_asset(counted.key)
    assert newest(ours) is None
    ours.store_event(materialized("run_3"))
    assert newest(ours) == "run_3"
    ours.wipe()
    assert newest(ours) is None


def test_a_batch_of_events_is_stored_as_a_whole_or_not_at_all(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = EventLog(str(folder))
    stored = SqliteEventLogStorage.store_event

    def fail_at_the_third(storage: SqliteEventLogStorage, event: EventLogEntry) -> None:
        if event.timestamp == 3.0:
            raise OSError("the disk is full")
        stored(storage, event)

    monkeypatch.setattr(SqliteEventLogStorage, "store_event", fail_at_the_third)
    batch = [materialized("run_1")._replace(timestamp=float(number)) for number in (1, 2, 3)]
    with pytest.raises(OSError, match="disk is full"):
        log.store_event_batch(batch)
    assert told(log, "run_1") == []
    assert newest(log) is None
    log.store_event_batch(batch[:2])
    assert told(log, "run_1") == ["ASSET_MATERIALIZATION"] * 2
    assert len(log.fetch_materializations(counted.key, limit=9).records) == 2


def test_what_a_run_plans_is_one_transaction_in_each_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = []
    stored = EventLog.store_event_batch

    def noted(log: EventLog, events: Sequence[EventLogEntry]) -> None:
        batches.append([event.get_dagster_event().event_type_value for event in events])
        stored(log, events)

    monkeypatch.setattr(EventLog, "store_event_batch", noted)

    @dg.asset(check_specs=[dg.AssetCheckSpec(name, asset="checked") for name in "abc"])
    def checked() -> dg.MaterializeResult:  # type: ignore[type-arg]
        return dg.MaterializeResult(
            check_results=[dg.AssetCheckResult(passed=True, check_name=name) for name in "abc"]
        )

    job = dg.Definitions(assets=[checked], jobs=[dg.define_asset_job("check")])
    with dg.DagsterInstance.get() as instance:
        assert job.resolve_job_def("check").execute_in_process(instance=instance).success
    planned = [*["ASSET_CHECK_EVALUATION_PLANNED"] * 3, "ASSET_MATERIALIZATION_PLANNED"]
    assert sorted(batches[0]) == planned
    assert not set(planned) & {kind for batch in batches[1:] for kind in batch}


def test_a_home_that_is_made_anew_is_written_and_not_the_one_that_is_gone(folder: Path) -> None:
    log = EventLog(str(folder / "runs"))
    log.store_event(materialized("run_1"))
    (folder / "runs").rename(folder / "gone")
    SqliteEventLogStorage(str(folder / "runs")).store_event(materialized("run_2"))
    assert newest(log) == "run_2"


def test_a_forked_process_has_connections_of_its_own(folder: Path) -> None:
    def connection() -> object:
        with log.index_connection() as connected:
            return connected.connection.driver_connection

    log = EventLog(str(folder))
    log.store_event(materialized("run_1"))
    parents = connection()
    child = os.fork()
    if child == 0:
        log.store_event(materialized("run_2"))
        os._exit(0 if connection() is not parents and newest(log) == "run_2" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert connection() is parents
    assert newest(log) == "run_2"


def test_runs_lie_where_dagsters_own_class_finds_them(folder: Path) -> None:
    run_id = count()
    with dg.DagsterInstance.get() as instance:
        assert type(instance.run_storage) is RunStorage
        assert [run.run_id for run in instance.get_runs()] == [run_id]
    plain = SqliteRunStorage.from_local(str(folder / "history"))
    assert [(run.run_id, run.status.value) for run in plain.get_runs()] == [(run_id, "SUCCESS")]
