"""`revrec jobs`, `job` and `conversion-file`."""

import os
import pty
import subprocess
from decimal import Decimal
from pathlib import Path

from command_line import MONTH, REVREC, Home, Synced

KEYS = [
    "id", "name", "source", "record_type", "route", "status", "started_at", "ended_at", "periods",
    "counts", "amounts", "files",
]  # fmt: skip


def sales_job(first_sync: Synced) -> str:
    """The number of Salesforce's job: sources are synced side by side."""
    (job,) = (job for job in first_sync.home.json("jobs") if job["record_type"] == "sales")
    return str(job["id"])


def test_jobs_stand_in_two_lines_each_that_fit_into_80_columns(first_sync: Synced) -> None:
    (sales,) = (job for job in first_sync.home.json("jobs") if job["record_type"] == "sales")
    assert set(KEYS) <= sales.keys()

    lines = first_sync.home.run("jobs").stdout.splitlines()

    assert lines[1] == "Conversion Data"
    assert lines[2].split() == [
        "Id", "Started", "(UTC)", "Status", "Source", "Delivered", "Unchanged", "Flagged",
        "Excluded",
    ]  # fmt: skip
    assert [line.split()[0] for line in lines[3::2]] == ["2", "1"]
    at = next(number for number, line in enumerate(lines) if line.strip().startswith("Salesforce"))
    assert lines[at - 1].split()[3:] == ["delivered", "22", "15", "0", "2", "5"]
    assert lines[at].strip() == f"Salesforce sales (command line), {MONTH}, 2 files"
    assert max(map(len, lines)) <= 80


def test_a_job_shows_its_counts_amounts_rules_and_files_that_can_be_opened(
    first_sync: Synced,
) -> None:
    shown = first_sync.home.run("job", sales_job(first_sync)).stdout
    job = first_sync.home.json("job", sales_job(first_sync))

    words = [line.split() for line in shown.splitlines()]
    assert ["rows", "22", "15", "0", "2", "5"] in words
    for currency, amounts in job["amounts"].items():
        row = [amounts[name] for name in ("source", "delivered", "unchanged", "flagged")]
        assert [currency, *row, amounts["excluded"]] in words
    assert ["not_closed_won", "5"] in words
    assert ["IN_MISSING_SERVICE_DATES", "1"] in words
    files = [Path(line.strip()) for line in shown.splitlines() if line.endswith((".xlsx", ".zip"))]
    assert [str(file) for file in files] == job["files"]
    assert all(file.is_file() for file in files)


def test_a_jobs_file_is_copied_in_either_form_and_the_same_bytes_each_time(
    first_sync: Synced, tmp_path: Path
) -> None:
    number = sales_job(first_sync)
    for stored in map(Path, first_sync.home.json("job", number)["files"]):
        target = tmp_path / f"january{stored.suffix}"
        done = first_sync.home.run("conversion-file", number, "--to", str(target))
        assert done.stdout == f"{target} (15 rows)\n"
        assert target.read_bytes() == stored.read_bytes()


def test_a_copy_that_cannot_be_written_leaves_nothing_beside_it(
    first_sync: Synced, tmp_path: Path
) -> None:
    target = tmp_path / "folder.zip"
    target.mkdir()

    said = first_sync.home.refuses("conversion-file", "1", "--to", str(target))

    assert str(target) in said
    assert [path.name for path in tmp_path.iterdir()] == ["folder.zip"]


def test_a_file_that_is_neither_workbook_nor_zip_and_a_job_that_is_not_there_are_refused(
    first_sync: Synced,
) -> None:
    assert first_sync.home.refuses("conversion-file", "1", "--to", "a.csv") == (
        "a.csv ends neither in .xlsx nor in .zip"
    )
    assert first_sync.home.refuses("conversion-file", "99", "--to", "a.zip") == (
        "there is no job 99; `revrec jobs` lists them"
    )


def on_terminal(home: Home, columns: int, *arguments: str) -> str:
    """What a command prints on a terminal of this width."""
    ours, theirs = pty.openpty()
    environment = {**home.environment, "COLUMNS": str(columns), "TERM": "xterm"}
    process = subprocess.Popen(
        [REVREC, *arguments],
        cwd=home.folder,
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    printed = b""
    try:
        while block := os.read(ours, 65536):
            printed += block
    except OSError:  # how Linux says that the other side has closed
        pass
    finally:
        os.close(ours)
    assert process.wait(timeout=60) == 0, printed
    return printed.decode().replace("\r\n", "\n")


def test_on_a_narrow_terminal_text_folds_between_words_and_ids_and_links_stay_whole(
    first_sync: Synced,
) -> None:
    errors = first_sync.home.json("errors")

    shown = on_terminal(first_sync.home, 60, "errors")

    words = shown.split()
    for error in errors[:20]:  # of the warnings of one code no more are shown
        assert error["url"] in words
        assert " ".join(error["message"].split()) in " ".join(words)
    assert max(len(line) for line in shown.splitlines() if "https://" not in line) <= 60
    table = on_terminal(first_sync.home, 60, "jobs")
    assert "…" not in table.replace(" … ", "")
    assert "delivered" in table.split()


def test_a_jobs_rows_and_amounts_tie_in_each_month_and_currency(first_sync: Synced) -> None:
    job = first_sync.home.json("job", sales_job(first_sync))
    assert job["controls"]
    for each in job["controls"]:
        for what in ("rows", "amounts"):
            source, *others = (
                Decimal(each[what][name])
                for name in ("source", "delivered", "unchanged", "flagged", "excluded")
            )
            assert source == sum(others)
        excluded = each["rules"]["excluded"]
        assert sum(rule["rows"] for rule in excluded.values()) == each["rows"]["excluded"]
        assert (each["difference"]["rows"], each["rows"]["waiting"]) == (0, 0)
    assert {each["currency"] for each in job["controls"]} == job["amounts"].keys()
    assert {(e["source"], e["record_type"], e["period"]) for e in job["controls"]} == {
        ("salesforce", "sales", MONTH)
    }

    shown = first_sync.home.run("job", sales_job(first_sync), "--months").stdout

    words = [line.split() for line in shown.splitlines()]
    usd = next(each for each in job["controls"] if each["currency"] == "USD")
    assert [MONTH, "USD", *map(str, usd["rows"].values()), "0"] in words
    assert "Ties: source = delivered + unchanged + flagged + excluded" in shown


def test_a_jobs_summary_says_what_came_what_is_missing_and_what_ties(first_sync: Synced) -> None:
    number = sales_job(first_sync)
    summary = first_sync.home.run("job", number, "--summary").stdout

    (error,) = (e for e in first_sync.home.json("errors") if e["severity"] == "error")
    assert summary.startswith(f"# Job {number}: Salesforce sales (command line)\n")
    assert [line for line in summary.splitlines() if line.startswith("## ")] == [
        "## What came",
        "## What is missing, and where to mend it",
        "## What was left out by a rule",
        "## What ties",
    ]
    assert "| rows | 22 | 15 | 0 | 2 | 5 |" in summary
    assert f"[{error['record_id']}]({error['url']}): {error['message']}" in summary
    assert "In every month and currency source = delivered" in summary
    written = Path(first_sync.home.json("job", number)["files"][0]).with_name("summary.md")
    assert written.read_text(encoding="utf-8").startswith(f"# Job {number}: ")
