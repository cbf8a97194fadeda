"""What goes wrong while a command works: a line for each source, and nothing half done.

What is refused before anything begins is in `test_refused.py`, kills are in `test_kills.py`.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from command_line import MONTH, Commands, Home

ONE_MONTH = ("--from", MONTH, "--to", MONTH)
FULL_DISK = str(Path(__file__).with_name("full_disk.py"))


@pytest.fixture(scope="module", autouse=True)
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A command that waits for a ledger which this process holds; it waits for 30 seconds.

    So it begins before the other tests of this file, and is looked at after them.
    """
    home = Home(tmp_path_factory.mktemp("busy"))
    home.configure("")
    home.run("jobs")
    with duckdb.connect(str(home.path / "ledger.duckdb")):
        process = home.start("jobs")
        yield {"process": process, "home": home}
        process.kill()
        process.wait()


def raw_landings(home: Home, source: str) -> list[str]:
    """The windows of a source that have landed."""
    manifests = home.path.glob(f"lake/raw/{source}/*/*/manifest.json")
    return sorted(path.parent.parent.name for path in manifests)


def test_wrong_credentials_of_both_sources_are_two_lines_that_name_them(home: Home) -> None:
    wrong = home.with_env(
        STRIPE_API_KEY="sk_test_hidden0000000000000000000", SALESFORCE_CLIENT_SECRET="hidden"
    )

    done = wrong.run("sync", *ONE_MONTH, code=1)

    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert [re.sub(r" \(.*\)", "", line) for line in errors] == [
        f"error: {MONTH}: salesforce: the org refused the log-in; check SALESFORCE_DOMAIN, "
        "SALESFORCE_CLIENT_ID and the secret or key",
        f"error: {MONTH}: stripe: the API refused the key; check STRIPE_API_KEY",
    ]
    assert "hidden" not in done.stdout + done.stderr
    assert [job["status"] for job in home.json("jobs")] == ["failed", "failed"]
    assert {e["code"] for e in home.json("errors")} == {"SYNC_AUTH"}
    assert home.left_behind() == []
    assert raw_landings(home, "stripe") == raw_landings(home, "salesforce") == []


def test_a_sandbox_that_is_not_running_is_said_at_once_and_opens_no_job(home: Home) -> None:
    nowhere = home.with_env(
        STRIPE_API_URL="http://127.0.0.1:9", SALESFORCE_API_URL="http://127.0.0.1:9"
    )

    done = nowhere.run("sync", *ONE_MONTH, code=1)

    assert done.stderr.splitlines() == [
        f"error: {source}: nothing answers at {source.upper()}_API_URL http://127.0.0.1:9 "
        "(Connection refused); start the sandbox with `revrec sandbox`, or unset it"
        for source in ("salesforce", "stripe")
    ]
    assert home.json("jobs") == []


def test_html_and_a_truncated_body_fail_their_source_and_name_request_and_content_type(
    home: Home, sandbox: Commands
) -> None:
    sandbox.fault("stripe", "html", path="/v1/invoices", status=200, times=99)
    sandbox.fault("salesforce", "truncate", path="*/queryAll", times=99)

    salesforce, stripe = home.fails("sync", *ONE_MONTH, code=1)

    assert salesforce.startswith(f"{MONTH}: salesforce: GET https://fernhill.my.salesforce.com/")
    assert "application/json that are not what the API promises" in salesforce
    assert stripe.startswith(f"{MONTH}: stripe: GET /v1/invoices")
    assert "text/html" in stripe
    assert home.left_behind() == []
    assert [job["counts"]["source"] for job in home.json("jobs")] == [0, 0]


def test_a_page_that_repeats_itself_is_not_read_for_ever(home: Home, sandbox: Commands) -> None:
    # The first request asks for one invoice, to learn the time; its answer comes again and again.
    sandbox.fault("stripe", "repeat", path="/v1/invoices", after=1, times=99)

    (said,) = home.fails("sync", "stripe", *ONE_MONTH, code=1)

    assert said.startswith(f"{MONTH}: stripe: ")
    assert "GET /v1/invoices" in said
    assert home.left_behind() == []
    assert raw_landings(home, "stripe") == []


def test_a_month_that_fails_stops_no_other_month(home: Home, sandbox: Commands) -> None:
    # The clock, then the listing of the first month, which is asked for three times.
    sandbox.fault("stripe", "truncate", path="/v1/invoices", after=1, times=3)

    (said,) = home.fails("sync", "stripe", "--from", MONTH, "--to", "2026-06", code=1)

    assert said.startswith(f"{MONTH}: stripe: GET /v1/invoices")
    (job,) = home.json("jobs")
    assert job["status"] == "failed"
    assert [failure["period"] for failure in job["failures"]] == [MONTH]
    assert job["counts"]["delivered"] > 0
    assert raw_landings(home, "stripe") == ["2026-06"]
    (error,) = (e for e in home.json("errors") if e["stage"] == "sync")
    assert (error["code"], error["period"]) == ("SYNC_SCHEMA_DRIFT", MONTH)
    assert home.left_behind() == []


def test_a_full_disk_leaves_no_half_written_file_and_the_next_sync_finishes(
    synced: Home, sandbox: Commands
) -> None:
    before = synced.json("jobs")

    (nothing,) = synced.fails(
        "sync", "stripe", *ONE_MONTH, code=1, prefix=(sys.executable, FULL_DISK, "1")
    )
    (little,) = synced.fails(
        "sync", "stripe", *ONE_MONTH, code=1, prefix=(sys.executable, FULL_DISK, "4096")
    )

    assert nothing.startswith(f"Dagster cannot store its runs in {synced.path / 'dagster'} (")
    assert nothing.endswith("; make room; then run the same command again")
    assert little.startswith(f"{MONTH}: cannot write the lake at {synced.path / 'lake'}: ")
    assert "No space left on device; make room" in little
    assert synced.left_behind() == []
    failed, *others = synced.json("jobs")
    assert (failed["status"], failed["counts"]["source"], others) == ("failed", 0, before)

    synced.run("sync", "stripe", *ONE_MONTH)

    assert synced.json("jobs")[0]["status"] == "unchanged"


def test_a_home_in_which_the_same_source_is_being_synced_is_refused(
    home: Home, sandbox: Commands
) -> None:
    sandbox.fault("stripe", "slow", path="/v1/*", seconds=30, times=99)
    first = home.start("sync", "stripe", *ONE_MONTH)
    try:
        assert first.stderr
        assert first.stderr.readline() == f"Stripe, {MONTH} (1 month)\n"

        said = home.refuses("sync", "stripe", *ONE_MONTH)

        assert said == (
            f"Stripe is being synced in {home.path} by process {first.pid}; wait until it has ended"
        )
    finally:
        first.kill()
        first.communicate()


def test_a_ledger_that_another_process_holds_is_waited_for_and_then_said_to_be_held(
    waiting: dict[str, Any],
) -> None:
    process: subprocess.Popen[str] = waiting["process"]

    stdout, stderr = process.communicate(timeout=60)

    assert (process.returncode, stdout) == (1, "")
    assert re.sub(r"by process \d+ \(.*\)", "by process N", stderr) == (
        f"error: the ledger {waiting['home'].path / 'ledger.duckdb'} is held by process N; try "
        "again when that is done\n"
    )
