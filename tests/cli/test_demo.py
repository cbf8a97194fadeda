"""`revrec demo`: the main job from nothing."""

import re
from pathlib import Path

import pytest
from command_line import Home
from conversion_files import read_archive

from revrec_pipeline.sources import SOURCES

# Five minutes on two idle cores: 288 months are listed.
pytestmark = pytest.mark.timeout(1800)

#: The record types of the sources that give more than invoices.
EVERYTHING = {
    "salesforce": ("sales", "commissions"),
    "hubspot": ("sales", "invoices", "commissions"),
}


def test_the_demo_runs_the_main_job_from_nothing_and_says_where_each_thing_is(
    tmp_path: Path,
) -> None:
    home = Home(tmp_path)
    # An earlier demo was here, and somebody's own account must not be touched.
    home.path.mkdir()
    (home.path / ".made-by-revrec-demo").touch()
    (home.path / "left-by-the-earlier-one").touch()
    home = home.with_env(STRIPE_API_KEY="sk_live_of_somebody", REVREC_CONFIG="")

    said = home.run("demo", timeout=1700).stdout

    assert not (home.path / "left-by-the-earlier-one").exists()
    parts = re.split(r"^([1-5])\. ", said, flags=re.MULTILINE)
    assert parts[1::2] == ["1", "2", "3", "4", "5"]
    _, listed, files, changes, live = parts[2::2]
    jobs = home.json("jobs")
    kinds = {
        (source.name, str(record_type))
        for source in SOURCES.values()
        for record_type in EVERYTHING.get(source.name, ("invoices",))
    }
    later, first = jobs[: len(kinds)], jobs[len(kinds) :]
    assert {(job["source"], job["record_type"]) for job in first} == kinds
    for job in first:
        assert (job["route"], job["status"]) == ("conversion", "delivered"), job
        assert len(job["periods"]) == 36
    flagged = sum(job["counts"]["flagged"] for job in first)
    assert f"{flagged} rows are flagged and hold back the whole order or invoice" in listed
    assert "https://fernhill.lightning.force.com/lightning/r/Opportunity/" in listed
    written = [line.strip() for line in files.splitlines() if line.endswith((".xlsx", ".zip"))]
    assert sorted(written) == sorted(file for job in first for file in job["files"])
    assert all(Path(file).stat().st_size for file in written)
    assert "Accounting period 2026-07 is set" in changes
    for source in SOURCES.values():
        assert f"{source.title}: " in changes
    for job in later:
        assert job["route"] == "live" or job["status"] == "unchanged", job
        for removed in job["removed"]:
            assert removed in live
    delivered = {job["source"] for job in later if job["counts"]["delivered"]}
    assert delivered == set(SOURCES)
    assert sum(len(job["removed"]) for job in later) >= len(SOURCES) / 2
    commands = re.findall(r"revrec (\w[\w-]*) ", live)
    assert commands[-5:] == ["dev", "job", "errors", "conversion-file", "export"]
    target = tmp_path / "ledger.zip"
    home.run("export", "--to", str(target))
    exported = read_archive(target)
    sheets = ("OrderDetails", "BillingSchedule", "Expense")
    rows = sum(len(exported[sheet]) - 1 for sheet in sheets)
    assert rows == sum(job["counts"]["delivered"] for job in later)
