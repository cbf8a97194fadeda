"""`revrec period` and `revrec export`: once an accounting period is set, syncs load live."""

from collections import Counter
from pathlib import Path

from command_line import MONTH, Commands, Home, Live
from conversion_files import column, read_archive


def test_once_a_period_is_set_a_sync_loads_live_and_export_gives_it_back(live: Live) -> None:
    invoices, sales = live.home.json("jobs")

    for job in (invoices, sales):
        assert (job["route"], job["status"], job["files"]) == ("live", "delivered", [])
    assert sales["counts"]["delivered"] == 15
    assert len(live.exported["OrderDetails"]) - 1 == 15
    assert len(live.exported["BillingSchedule"]) - 1 == invoices["counts"]["delivered"]
    shown = live.home.run("jobs").stdout
    assert "Conversion Data" not in shown
    assert f"Salesforce sales (command line), {MONTH}, loaded live" in shown


def test_what_came_after_the_first_period_is_loaded_live_and_conversion_jobs_stay(
    synced: Home, sandbox: Commands, tmp_path: Path
) -> None:
    orders = column(
        read_archive(Path(synced.json("job", "1")["files"][1])), "OrderDetails", "Order Number"
    )
    (gone, lines), *_ = Counter(orders).most_common()
    assert synced.run("period", "set", "2026-06").stdout == (
        "Accounting period 2026-06 is open; syncs now load live into the ledger.\n"
    )
    sandbox.command(
        "edit",
        source="salesforce",
        object="Opportunity",
        id=gone,
        fields={"StageName": "Negotiation"},
    )
    sandbox.command("advance", seconds=3600)

    synced.run("sync", "salesforce")

    reopened, *_, sales = synced.json("jobs")
    assert (sales["id"], sales["route"]) == (1, "conversion")
    assert (reopened["route"], reopened["status"]) == ("live", "delivered")
    assert reopened["counts"]["delivered"] == 0
    assert reopened["removed"] == [gone]
    assert reopened["excluded_by"] == {"not_closed_won": 5 + lines}
    words = synced.run("job", str(reopened["id"])).stdout
    assert (
        "Delivered before, and no longer counted (void, reopened or gone from the source):\n"
        f"  {gone}\n"
    ) in words
    assert "1 document no longer counted" in synced.run("jobs").stdout
    target = tmp_path / "ledger.zip"
    assert synced.run("export", "--to", str(target)).stdout == f"{target}\n"
    assert read_archive(target)["OrderDetails"][1:] == []
    assert synced.refuses("conversion-file", str(reopened["id"]), "--to", str(target)) == (
        f"job {reopened['id']} has no conversion file: it was loaded live; `revrec export` gives "
        "what the ledger holds"
    )


def test_periods_are_set_listed_and_closed(home: Home) -> None:
    assert home.run("period", "list").stdout == (
        "No accounting period is set; syncs end in a conversion file.\n"
    )
    home.run("period", "set", "2026-06")

    assert home.run("period", "close").stdout == (
        "Accounting period 2026-06 is closed, and 2026-07 is open.\n"
    )

    heading, *rows = [line.split() for line in home.run("period", "list").stdout.splitlines()]
    assert heading == ["Period", "State", "Set", "Closed"]
    assert sorted(row[:2] for row in rows) == [["2026-06", "closed"], ["2026-07", "open"]]


def test_an_export_needs_a_folder_and_a_kind_of_file(home: Home) -> None:
    assert home.refuses("export", "--to", "no/where.zip") == (
        "no is no folder; make it first, or choose another place"
    )
    assert home.refuses("export", "--to", "ledger.csv") == (
        "ledger.csv ends neither in .xlsx nor in .zip"
    )


def test_closing_when_no_period_is_open_says_how_to_set_one(home: Home) -> None:
    assert home.fails("period", "close", code=1) == [
        "no accounting period is set: set the first with `revrec period set`"
    ]


def test_a_period_that_is_no_month_is_refused(home: Home) -> None:
    assert home.refuses("period", "set", "June") == ("'June' is not a month; write it like 2026-01")
