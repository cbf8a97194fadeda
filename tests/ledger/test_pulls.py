"""What a pull must know beside its cursor: which company it is, and which months are left."""

from datetime import timedelta

import pytest

from revrec_pipeline.errors import SettingsError
from revrec_pipeline.ledger import Ledger, cursors, jobs, source_accounts, standing

from .given import START, job, minutes


def test_another_company_under_the_same_source_is_refused_by_both_names(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        source_accounts.verify(tx, "stripe", "acct_1", "Fernhill", at=START)
    with (
        pytest.raises(SettingsError, match=r"belong to account acct_2 \(Other\).*acct_1 \(Fern"),
        ledger.transaction() as tx,
    ):
        source_accounts.verify(tx, "stripe", "acct_2", "Other", at=minutes(1))
    with ledger.transaction() as tx:
        source_accounts.verify(tx, "xero", "acct_2", "Other", at=minutes(1))
        assert source_accounts.is_known(tx, "stripe", at=minutes(59))
        assert not source_accounts.is_known(tx, "stripe", at=minutes(61))
        assert not source_accounts.is_known(tx, "hubspot", at=START)


def test_months_stay_wanted_until_they_are_listed(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        cursors.want(tx, "stripe", ["2026-02", "2026-01"])
        cursors.want(tx, "stripe", ["2026-02"])
        cursors.listed(tx, "stripe", "2026-01")
    with ledger.transaction() as tx:
        assert cursors.wanted(tx, "stripe") == ["2026-02"]
        assert cursors.wanted(tx, "salesforce") == []


def test_a_cursor_is_set_anew_also_backwards(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        cursors.advance(tx, "stripe", minutes(10))
        cursors.set_anew(tx, "stripe", minutes(5))
        assert cursors.position(tx, "stripe") == minutes(5)


def test_the_standing_check_lists_what_failed_last_and_what_waits_too_long(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        first = job(tx, "sync-1", sealed=False)
        for month in ("2026-01", "2026-02"):
            jobs.start_run(tx, first, month, "run-1")
            jobs.end_run(tx, first, month, "run-1", failure="HTTP 500")
        second = job(tx, "sync-2", sealed=False)
        jobs.start_run(tx, second, "2026-01", "run-2")
        jobs.end_run(tx, second, "2026-01", "run-2")
        jobs.seal(tx, "sync-1")
        jobs.seal(tx, "sync-2")
        job(tx, "sync-3", source="xero", sealed=False)
        cursors.want(tx, "stripe", ["2026-03"])

    with ledger.transaction() as tx:
        soon = standing.broken(tx, at=minutes(5))
        later = standing.broken(tx, at=START + timedelta(days=2))

    assert [(b["what"], b["source"], b["period"], b["message"]) for b in soon] == [
        ("failed", "stripe", "2026-02", "HTTP 500"),
        ("not listed", "stripe", "2026-03", "a sync was to list it; run `revrec sync stripe`"),
    ]
    assert soon[0]["job_id"] == first
    assert [b["what"] for b in later] == ["failed", "not listed", "unfinished"]
