"""`revrec sync --from-lake`, and a sync that goes on where a killed one stopped."""

from pathlib import Path

from command_line import MONTH, SETTINGS, Commands, Home

from revrec_pipeline.ledger import cursors, open_ledger


def test_a_month_is_built_again_from_the_lake_without_a_request_or_a_secret(
    synced: Home, sandbox: Commands
) -> None:
    before = {job["source"]: job for job in synced.json("jobs")}
    nowhere = synced.with_env(**dict.fromkeys(synced.env, ""))

    nowhere.run("sync", "--from", MONTH, "--to", MONTH, "--from-lake")

    after = {job["source"]: job for job in nowhere.json("jobs")[:2]}
    for source, job in after.items():
        assert job["status"] == "unchanged"
        assert job["counts"]["source"] == before[source]["counts"]["source"]
        assert job["counts"]["unchanged"] == before[source]["counts"]["delivered"]


def test_the_lake_alone_gives_a_new_ledger_the_same_files_byte_for_byte(synced: Home) -> None:
    def contents() -> dict[str, list[bytes]]:
        return {
            job["source"]: [Path(file).read_bytes() for file in job["files"]]
            for job in synced.json("jobs")
        }

    before = contents()
    (synced.path / "ledger.duckdb").unlink()

    synced.run("sync", "--from", MONTH, "--to", MONTH, "--from-lake")

    assert {job["status"] for job in synced.json("jobs")} == {"delivered"}
    assert contents() == before


def test_a_month_that_never_landed_cannot_come_from_the_lake(synced: Home) -> None:
    assert synced.refuses("sync", "stripe", "--from", "2026-04", "--to", MONTH, "--from-lake") == (
        "2026-04 of Stripe was never listed, so the lake cannot give it; leave out --from-lake"
    )
    assert synced.refuses("sync", "stripe", "--from-lake") == (
        "--from-lake needs --from or --full, for the months to build"
    )


def test_the_next_sync_lists_what_a_killed_one_did_not_get_to(synced: Home) -> None:
    synced.configure(SETTINGS)
    ledger = open_ledger(f"duckdb:///{synced.path / 'ledger.duckdb'}")
    with ledger.transaction() as tx:
        cursors.want(tx, "stripe", ["2026-06"])

    done = synced.run("sync", "stripe")

    assert done.stderr.splitlines()[0] == "Stripe, 2026-06 (1 month)"
    assert "Stripe, changes since the last sync" in done.stderr
    assert "2026-06" in synced.json("jobs")[0]["periods"]
    with ledger.transaction() as tx:
        assert cursors.wanted(tx, "stripe") == []
