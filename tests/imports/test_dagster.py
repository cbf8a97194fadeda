"""Files as jobs of Dagster: the job `import_file`, and the folder by its schedule's job."""

import os
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from pipeline import Pipeline

ROWS = (
    "Product Code,Customer ID,Billing Date,Invoice Number,Amount,Currency\n"
    "P1,C1,2026-01-05,I1,100,USD\n"
)


def archive(file: Path, content: str = ROWS) -> Path:
    with zipfile.ZipFile(file, "w") as container:
        container.writestr("BillingSchedule.csv", content)
    return file


def config(path: Path) -> dict[str, object]:
    return {"ops": {"take_file": {"config": {"path": str(path), "job_name": "January"}}}}


def test_a_file_in_the_configuration_becomes_a_job_that_the_sensor_routes(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    file = archive(tmp_path / "january.zip")
    assert pipeline.run("import_file", config=config(file)).success
    (job,) = pipeline.jobs()
    assert (job["name"], job["source"], job["record_type"]) == ("January", "file", "invoices")
    assert pipeline.route() == [f"deliver_conversion_file {job['id']}"]
    assert pipeline.jobs()[0]["status"] == "delivered"
    assert pipeline.run("import_file", config=config(file)).success
    assert (len(pipeline.jobs()), pipeline.route()) == (1, [])


def test_a_refused_file_fails_its_run_and_leaves_no_job(pipeline: Pipeline, tmp_path: Path) -> None:
    file = archive(tmp_path / "bad.zip", ROWS.replace("Amount", "Amnt"))
    done = pipeline.run("import_file", config=config(file), may_fail=True)
    assert not done.success
    assert pipeline.jobs() == []


def test_the_folder_of_the_settings_is_taken_by_schedule(
    make_pipeline: Callable[..., Pipeline], tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    pipeline = make_pipeline(toml=f'[imports]\nfolder = "{folder}"\nschedule = "15 * * * *"\n')
    file = archive(folder / "january.zip")
    past = time.time() - 120
    os.utime(file, (past, past))
    schedule = pipeline.definitions.get_repository_def().get_schedule_def("import_folder_schedule")
    assert (schedule.cron_schedule, schedule.job_name) == ("15 * * * *", "import_folder")
    assert pipeline.run("import_folder").success
    assert [each["name"] for each in pipeline.jobs()] == ["january.zip"]
    assert [path.suffix for path in sorted((folder / "done").iterdir())] == [".zip", ".txt"]
