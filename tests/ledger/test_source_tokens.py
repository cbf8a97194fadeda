"""Rotating tokens: one renewal at a time, saved under a lease, and shown to nobody."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from revrec_pipeline.export import export
from revrec_pipeline.ledger import Ledger
from revrec_pipeline.ledger.source_tokens import LEASE, Account, Tokens, new_holder

NOW = datetime(2026, 5, 2, 10, 30, tzinfo=UTC)
ACCOUNT = Account("quickbooks", "4620816365", "client-secret")
FIRST = Tokens("access-1", "refresh-1", NOW + timedelta(hours=1), "refresh-0")
SECOND = Tokens("access-2", "refresh-2", NOW + timedelta(hours=2), "refresh-0")


def put(ledger: Ledger, tokens: Tokens, account: Account = ACCOUNT) -> None:
    holder = new_holder()
    with ledger.transaction() as tx:
        assert account.lease(tx, holder)
        assert account.save(tx, holder, tokens)


def test_there_are_no_tokens_before_the_first_were_saved(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        assert ACCOUNT.read(tx) is None
        assert ACCOUNT.lease(tx, new_holder())
        assert ACCOUNT.read(tx) is None


def test_the_newest_tokens_are_read_back_and_accounts_are_kept_apart(ledger: Ledger) -> None:
    other = Account("quickbooks", "other", "client-secret")
    put(ledger, FIRST)
    put(ledger, SECOND)
    put(ledger, FIRST, other)
    with ledger.transaction() as tx:
        assert ACCOUNT.read(tx) == SECOND
        assert other.read(tx) == FIRST


def test_only_one_holds_the_lease_and_only_the_holder_saves(ledger: Ledger) -> None:
    mine, theirs = new_holder(), new_holder()
    with ledger.transaction() as tx:
        assert ACCOUNT.lease(tx, mine)
    with ledger.transaction() as tx:
        assert not ACCOUNT.lease(tx, theirs)
        assert not ACCOUNT.save(tx, theirs, SECOND)
        ACCOUNT.release(tx, theirs)
        assert ACCOUNT.save(tx, mine, FIRST)
    with ledger.transaction() as tx:
        assert ACCOUNT.read(tx) == FIRST
        assert ACCOUNT.lease(tx, theirs)  # saving has given it back


def test_a_released_lease_is_free_and_leaves_the_tokens(ledger: Ledger) -> None:
    put(ledger, FIRST)
    holder = new_holder()
    with ledger.transaction() as tx:
        ACCOUNT.lease(tx, holder)
        ACCOUNT.release(tx, holder)
        assert ACCOUNT.lease(tx, new_holder())
        assert ACCOUNT.read(tx) == FIRST


def test_a_lease_ends_by_itself_and_its_late_holder_saves_nothing(ledger: Ledger) -> None:
    late, next_one = "elsewhere:1:a", "elsewhere:2:b"
    with ledger.transaction() as tx:
        assert ACCOUNT.lease(tx, late, at=NOW)
        assert not ACCOUNT.lease(tx, next_one, at=NOW + LEASE - timedelta(seconds=1))
        assert ACCOUNT.lease(tx, next_one, at=NOW + LEASE)
        assert not ACCOUNT.save(tx, late, FIRST)
        assert ACCOUNT.save(tx, next_one, SECOND)
        assert ACCOUNT.read(tx) == SECOND


def test_the_lease_of_a_process_that_died_here_is_free_at_once(ledger: Ledger) -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    host, _, nonce = new_holder().rsplit(":", 2)
    with ledger.transaction() as tx:
        assert ACCOUNT.lease(tx, f"{host}:{child}:{nonce}")
        assert ACCOUNT.lease(tx, new_holder())


def test_tokens_that_another_secret_sealed_are_as_good_as_none(ledger: Ledger) -> None:
    put(ledger, FIRST)
    with ledger.transaction() as tx:
        assert Account("quickbooks", "4620816365", "a new secret").read(tx) is None
        assert ACCOUNT.read(tx) == FIRST


def test_no_row_no_export_and_no_representation_shows_a_token(
    ledger: Ledger, tmp_path: Path
) -> None:
    put(ledger, FIRST)
    files = export(ledger, tmp_path / "ledger.zip")
    with ledger.transaction() as tx:
        stored = repr(tx.rows("SELECT * FROM source_token"))
    written = b"".join(file.read_bytes() for file in files)
    for token in (FIRST.access, FIRST.refresh, FIRST.given):
        assert token not in stored
        assert token not in repr(FIRST)
        assert token not in repr(vars(ACCOUNT))
        assert token.encode() not in written


def test_a_statement_that_fails_shows_no_token(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        tx.execute("ALTER TABLE source_token RENAME COLUMN sealed TO shut")
    with pytest.raises(Exception, match="sealed") as raised, ledger.transaction() as tx:
        ACCOUNT.save(tx, new_holder(), FIRST)
    assert "refresh-" not in str(raised.value)


@settings(max_examples=50, deadline=None)
@given(st.text(), st.text(), st.text())
def test_any_token_survives_sealing(access: str, refresh: str, given: str) -> None:
    tokens = Tokens(access, refresh, NOW, given)
    assert ACCOUNT._unseal(ACCOUNT._seal(tokens)) == tokens
