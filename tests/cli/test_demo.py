"""`revrec demo`: the main job from nothing."""

import re
from pathlib import Path

import pytest
from command_line import Home
from conversion_files import read_archive

pytestmark = pytest.mark.timeout(600)


def test_the_demo_runs_the_main_job_from_nothing_and_says_where_each_thing_is(
    tmp_path: Path,
) -> None:
    home = Home(tmp_path)
    # An earlier demo was here, and somebody's own account must not be touched.
    home.path.mkdir()
    (home.path / ".made-by-revrec-demo").touch()
    (home.path / "left-by-the-earlier-one").touch()
    home = home.with_env(STRIPE_API_KEY="sk_live_of_somebody", REVREC_CONFIG="")

    said = home.run("demo", timeout=590).stdout

    assert not (home.path / "left-by-the-earlier-one").exists()
    parts = re.split(r"^([1-5])\. ", said, flags=re.MULTILINE)
    assert parts[1::2] == ["1", "2", "3", "4", "5"]
    _, listed, files, changes, live = parts[2::2]
    first = {(job["source"], job["record_type"]): job for job in home.json("jobs")[2:]}
    sales, invoices = first["salesforce", "sales"], first["stripe", "invoices"]
    assert [job["status"] for job in (sales, invoices)] == ["delivered", "delivered"]
    assert len(sales["periods"]) == len(invoices["periods"]) == 18
    flagged = sales["counts"]["flagged"] + invoices["counts"]["flagged"]
    assert f"{flagged} rows are flagged and hold back the whole order or invoice" in listed
    assert "https://fernhill.lightning.force.com/lightning/r/Opportunity/" in listed
    written = [line.strip() for line in files.splitlines() if line.endswith((".xlsx", ".zip"))]
    assert written == sales["files"] + invoices["files"]
    assert all(Path(file).stat().st_size for file in written)
    assert "Accounting period 2026-07 is set" in changes
    later = home.json("jobs")[:2]
    for job in later:
        assert (job["route"], job["status"], len(job["removed"])) == ("live", "delivered", 1)
        assert f"Job {job['id']}. Delivered before, and no longer counted" in live
        assert job["removed"][0] in live
    commands = re.findall(r"revrec (\w[\w-]*) ", live)
    assert commands[-5:] == ["dev", "job", "errors", "conversion-file", "export"]
    target = tmp_path / "ledger.zip"
    home.run("export", "--to", str(target))
    exported = read_archive(target)
    rows = len(exported["OrderDetails"]) + len(exported["BillingSchedule"]) - 2
    assert rows == sum(job["counts"]["delivered"] for job in later)
