"""QuickBooks' rotating tokens: never lost, never shown, renewed once, by threads and processes."""

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import requests
from conftest import Sandbox

from resources.quickbooks_login import SOURCE, Login, QuickbooksSecrets
from revrec_pipeline.errors import SettingsError, SourceAuthError, SourceTimeoutError
from revrec_pipeline.ledger import Ledger, Transaction, now, open_ledger
from revrec_pipeline.ledger.source_tokens import LEASE, Account, Tokens
from revrec_pipeline.sandbox.quickbooks_objects import REALM
from revrec_pipeline.sandbox.quickbooks_tokens import CLIENT_SECRET, REFRESH_TOKEN

TOKENS = "/oauth2/v1/tokens/bearer"
COMPANY = f"/v3/company/{REALM}/companyinfo/{REALM}"
ACCOUNT = Account(SOURCE, REALM, CLIENT_SECRET)
_fork = multiprocessing.get_context("fork")


def secrets(sandbox: Sandbox, **fields: Any) -> QuickbooksSecrets:
    given = {
        name.removeprefix("QUICKBOOKS_").lower(): value
        for name, value in sandbox.env.items()
        if name.startswith("QUICKBOOKS_")
    }
    return QuickbooksSecrets.model_validate(given | fields)


@pytest.fixture(params=["duckdb", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new ledger of each kind."""
    if request.param == "duckdb":
        return f"duckdb:///{tmp_path}/ledger.duckdb"
    return str(request.getfixturevalue("postgres_database").url)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return open_ledger(f"duckdb:///{tmp_path}/ledger.duckdb")


@pytest.fixture
def intuit(sandbox: Sandbox) -> Sandbox:
    """The sandbox, which hands out a new refresh token with each answer and forgets old ones."""
    sandbox.command("tokens", source="quickbooks", rotate_every=0, grace=0)
    sandbox.command("limit", source="quickbooks", per_second=None)
    return sandbox


def login(sandbox: Sandbox, ledger: Ledger, **fields: Any) -> Login:
    options = {name: fields.pop(name) for name in ("sleep", "clock") if name in fields}
    return Login(secrets(sandbox, **fields), lambda: ledger, **{"sleep": _no_nap} | options)


def _no_nap(seconds: float) -> None:
    del seconds


def works(sandbox: Sandbox, token: str) -> bool:
    """Whether the API takes an access token."""
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
    answer = requests.get(f"{sandbox.origin}{COMPANY}?minorversion=75", headers=headers, timeout=10)
    return answer.status_code == 200


def renewals(sandbox: Sandbox) -> int:
    return sandbox.requests("quickbooks").get(TOKENS, 0)


def kept(ledger: Ledger) -> Tokens:
    with ledger.transaction() as tx:
        found = ACCOUNT.read(tx)
    assert found is not None
    return found


# -- one client ----------------------------------------------------------------------------------


def test_the_rotated_refresh_token_is_kept_python_quickbooks_397_airbyte_7296(
    intuit: Sandbox, ledger: Ledger
) -> None:
    assert works(intuit, login(intuit, ledger).access_token())
    first = kept(ledger)
    assert first.refresh != REFRESH_TOKEN
    intuit.command("tokens", source="quickbooks", expire=True)
    again = login(intuit, ledger, clock=lambda: now() + timedelta(hours=2))
    assert works(intuit, again.access_token())  # by the ledger's; the environment's is refused
    assert renewals(intuit) == 2
    assert kept(ledger).refresh not in {REFRESH_TOKEN, first.refresh}


def test_a_refresh_token_that_comes_back_unchanged_is_as_good(
    sandbox: Sandbox, ledger: Ledger
) -> None:
    assert works(sandbox, login(sandbox, ledger).access_token())
    assert kept(ledger).refresh == REFRESH_TOKEN


def test_new_tokens_are_saved_before_they_are_used_and_no_transaction_waits_for_the_vendor(
    intuit: Sandbox, ledger: Ledger
) -> None:
    watched = _Watched(ledger)
    mine = login(intuit, watched)
    asked, before = [], mine._api.call

    def call(*args: Any, **fields: Any) -> Any:
        asked.append(watched.open)
        return before(*args, **fields)

    mine._api.call = call  # type: ignore[method-assign]
    token = mine.access_token()
    assert asked == [0]
    assert kept(ledger).access == token


class _Watched:
    """A ledger that counts its open transactions."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.open = 0

    @contextmanager
    def transaction(self, *, deadline: float = 30.0) -> Iterator[Transaction]:
        with self._ledger.transaction(deadline=deadline) as tx:
            self.open += 1
            try:
                yield tx
            finally:
                self.open -= 1

    def close(self) -> None:
        self._ledger.close()


def test_eight_threads_with_an_expired_token_make_one_renewal(
    intuit: Sandbox, ledger: Ledger
) -> None:
    mine = login(intuit, ledger)
    old = mine.access_token()
    intuit.command("tokens", source="quickbooks", expire=True)
    barrier = threading.Barrier(8)

    def request() -> str:
        token = mine.access_token()
        assert token == old
        barrier.wait()  # all of them were refused
        mine.refused()
        return mine.access_token()

    with ThreadPoolExecutor(8) as threads:
        tokens = {future.result() for future in [threads.submit(request) for _ in range(8)]}
    assert renewals(intuit) == 2
    assert tokens == {kept(ledger).access}
    assert works(intuit, tokens.pop())


def test_a_late_word_that_the_old_token_was_refused_does_no_harm(
    intuit: Sandbox, ledger: Ledger
) -> None:
    mine = login(intuit, ledger)
    mine.access_token()
    late = threading.Thread(
        target=lambda: (mine.access_token(), ready.set(), go.wait(), mine.refused())
    )
    ready, go = threading.Event(), threading.Event()
    late.start()
    ready.wait()
    mine.refused()
    new = mine.access_token()
    go.set()
    late.join()
    assert mine.access_token() == new
    assert renewals(intuit) == 2


def test_a_token_is_renewed_before_it_ends(intuit: Sandbox, ledger: Ledger) -> None:
    login(intuit, ledger).access_token()
    soon = login(intuit, ledger, clock=lambda: now() + timedelta(minutes=59))
    soon.access_token()
    assert renewals(intuit) == 2


def test_an_outage_at_log_in_is_waited_out(sandbox: Sandbox, ledger: Ledger) -> None:
    naps: list[float] = []
    sandbox.fault("quickbooks", "500", path=TOKENS, times=2)
    assert works(sandbox, login(sandbox, ledger, sleep=naps.append).access_token())
    assert len([nap for nap in naps if nap > 0.3]) == 2


# -- which refresh token -------------------------------------------------------------------------


def test_a_new_token_in_the_environment_means_that_somebody_connected_again(
    intuit: Sandbox, ledger: Ledger
) -> None:
    login(intuit, ledger).access_token()
    newest = kept(ledger).refresh
    with ledger.transaction() as tx:  # the ledger's has ended after 100 idle days
        ACCOUNT.lease(tx, "x:1:y")
        ACCOUNT.save(tx, "x:1:y", Tokens("a", "ended", now(), REFRESH_TOKEN))
    again = login(intuit, ledger, refresh_token=newest)
    assert works(intuit, again.access_token())
    assert renewals(intuit) == 2
    assert kept(ledger).given == newest


def test_the_environments_token_is_the_last_resort(sandbox: Sandbox, ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        ACCOUNT.lease(tx, "x:1:y")
        ACCOUNT.save(tx, "x:1:y", Tokens("a", "forgotten", now(), REFRESH_TOKEN))
    assert works(sandbox, login(sandbox, ledger).access_token())
    assert renewals(sandbox) == 2


def test_a_changed_client_secret_leaves_the_environments_token(
    sandbox: Sandbox, ledger: Ledger
) -> None:
    other = Account(SOURCE, REALM, "the secret before")
    with ledger.transaction() as tx:
        other.lease(tx, "x:1:y")
        other.save(tx, "x:1:y", Tokens("a", "b", now() + timedelta(hours=1), "c"))
    assert works(sandbox, login(sandbox, ledger).access_token())


def test_when_all_are_refused_the_error_says_what_to_do_and_the_lease_is_given_back(
    intuit: Sandbox, ledger: Ledger
) -> None:
    wrong = login(intuit, ledger, refresh_token="RT1-wrong-and-secret")
    for _ in range(2):
        with pytest.raises(SourceAuthError, match="set QUICKBOOKS_REFRESH_TOKEN") as caught:
            wrong.access_token()
    assert "wrong-and-secret" not in str(caught.value)
    assert works(intuit, login(intuit, ledger).access_token())


def test_a_wrong_app_is_told_apart_from_a_wrong_token(sandbox: Sandbox, ledger: Ledger) -> None:
    with pytest.raises(SourceAuthError, match="check QUICKBOOKS_CLIENT_ID and"):
        login(sandbox, ledger, client_secret="no").access_token()


def test_no_log_and_no_representation_shows_a_secret(
    intuit: Sandbox, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        mine = login(intuit, ledger)
        intuit.fault("quickbooks", "reset", path=TOKENS)
        token = mine.access_token()
        mine.refused()
        mine.access_token()
        gone = login(intuit, ledger, clock=lambda: now() + timedelta(hours=2), refresh_token="xyz")
        gone.access_token()
    shown = caplog.text + repr(kept(ledger)) + repr(secrets(intuit))
    for secret in (token, kept(ledger).refresh, REFRESH_TOKEN, CLIENT_SECRET):
        assert secret not in shown
    assert "the refresh token of the environment was refused" in caplog.text


# -- several processes ---------------------------------------------------------------------------


def in_a_process(work: Callable[[Connection], None]) -> tuple[Any, Connection]:
    receiving, sending = _fork.Pipe(duplex=False)
    child = _fork.Process(target=work, args=(sending,))
    child.start()
    sending.close()
    return child, receiving


def test_two_processes_at_once_make_one_renewal_and_lose_no_token(
    intuit: Sandbox, ledger_url: str
) -> None:
    open_ledger(ledger_url).close()
    ready = _fork.Barrier(3)
    intuit.fault("quickbooks", "slow", path=TOKENS, seconds=0.5)

    def work(tell: Connection) -> None:
        mine = Login(secrets(intuit), lambda: open_ledger(ledger_url), sleep=_short_nap)
        ready.wait()
        tell.send(mine.access_token())

    children = [in_a_process(work) for _ in range(2)]
    ready.wait()
    tokens = {receiving.recv() for _, receiving in children}
    for child, _ in children:
        child.join()
    ledger = open_ledger(ledger_url)
    assert tokens == {kept(ledger).access}
    assert renewals(intuit) == 1
    intuit.command("tokens", source="quickbooks", expire=True)
    later = login(intuit, ledger, clock=lambda: now() + timedelta(hours=2))
    assert works(intuit, later.access_token())  # the rotated refresh token was not lost
    ledger.close()


def _short_nap(seconds: float) -> None:
    threading.Event().wait(min(seconds, 0.05))


def die_before_saving(sandbox: Sandbox, ledger_url: str) -> None:
    """A process that is killed after the vendor has answered and before the answer is saved."""

    def work(tell: Connection) -> None:
        def killed(*_args: Any, **_fields: Any) -> bool:
            tell.send("answered")
            os.kill(os.getpid(), signal.SIGKILL)
            return False

        Account.save = killed  # type: ignore[method-assign]
        Login(secrets(sandbox), lambda: open_ledger(ledger_url), sleep=_short_nap).access_token()

    child, receiving = in_a_process(work)
    assert receiving.recv() == "answered"
    child.join()
    assert child.exitcode == -signal.SIGKILL


def test_a_process_killed_between_renewal_and_saving_heals_by_itself(
    intuit: Sandbox, ledger_url: str
) -> None:
    intuit.command("tokens", source="quickbooks", grace=3600)
    ledger = open_ledger(ledger_url)
    login(intuit, ledger).access_token()
    before = kept(ledger)
    intuit.command("tokens", source="quickbooks", expire=True)
    with ledger.transaction() as tx:  # the access token has ended
        ACCOUNT.lease(tx, "x:1:y")
        ended = Tokens(before.access, before.refresh, now(), before.given)
        ACCOUNT.save(tx, "x:1:y", ended)
    ledger.close()
    die_before_saving(intuit, ledger_url)
    assert kept(ledger).refresh == before.refresh  # the rotated one is lost …
    naps: list[float] = []
    assert works(intuit, login(intuit, ledger, sleep=naps.append).access_token())
    assert [nap for nap in naps if nap > 0.15] == []  # … and nobody waits for the dead one's lease
    assert kept(ledger).refresh != before.refresh
    assert renewals(intuit) == 3
    ledger.close()


def test_a_killed_process_whose_old_token_is_refused_by_now_leaves_the_last_resort(
    intuit: Sandbox, ledger: Ledger, tmp_path: Path
) -> None:
    die_before_saving(intuit, f"duckdb:///{tmp_path}/ledger.duckdb")
    with pytest.raises(SourceAuthError, match="connect the app to the company again"):
        login(intuit, ledger).access_token()


# -- leases --------------------------------------------------------------------------------------


def test_whoever_finds_another_process_renewing_waits_and_takes_its_tokens(
    intuit: Sandbox, ledger: Ledger
) -> None:
    other = "elsewhere:1:a"
    theirs = Tokens("their-access", "their-refresh", now() + timedelta(hours=1), REFRESH_TOKEN)
    with ledger.transaction() as tx:
        ACCOUNT.lease(tx, other)
    naps: list[float] = []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            with ledger.transaction() as tx:
                ACCOUNT.save(tx, other, theirs)

    assert login(intuit, ledger, sleep=sleep).access_token() == "their-access"
    assert renewals(intuit) == 0


def test_a_lease_that_its_holder_never_gives_back_ends(intuit: Sandbox, ledger: Ledger) -> None:
    time = [now()]
    with ledger.transaction() as tx:
        ACCOUNT.lease(tx, "elsewhere:1:a", at=time[0])

    def sleep(seconds: float) -> None:
        time[0] += timedelta(seconds=seconds * 40)

    began = time[0]
    mine = login(intuit, ledger, sleep=sleep, clock=lambda: time[0])
    assert works(intuit, mine.access_token())
    assert time[0] - began >= LEASE


def test_waiting_for_ever_is_an_error_that_may_be_tried_again(
    intuit: Sandbox, ledger: Ledger
) -> None:
    time = [now()]

    def sleep(seconds: float) -> None:
        time[0] += timedelta(seconds=seconds * 100)
        with ledger.transaction() as tx:  # one after the other takes it
            ACCOUNT.lease(tx, f"elsewhere:1:{time[0]}", at=time[0] + LEASE)

    sleep(0)
    with pytest.raises(SourceTimeoutError, match="other processes have been renewing") as caught:
        login(intuit, ledger, sleep=sleep, clock=lambda: time[0]).access_token()
    assert caught.value.retryable


def test_whoever_was_slower_than_the_lease_takes_what_the_next_one_saved(
    intuit: Sandbox, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    mine = login(intuit, ledger)
    theirs = Tokens("their-access", "their-refresh", now() + timedelta(hours=1), REFRESH_TOKEN)
    ask = mine._ask

    def slow(tokens: Tokens | None) -> Tokens:
        found = ask(tokens)
        with ledger.transaction() as tx:
            ACCOUNT.lease(tx, "elsewhere:1:a", at=now() + LEASE)
            ACCOUNT.save(tx, "elsewhere:1:a", theirs)
        return found

    mine._ask = slow  # type: ignore[method-assign]
    assert mine.access_token() == "their-access"
    assert kept(ledger) == theirs
    assert "took longer than its lease" in caplog.text


# -- the environment -----------------------------------------------------------------------------


def test_a_missing_variable_is_named_and_no_value_is_shown(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in sandbox.env.items():
        monkeypatch.setenv(name, value)
    assert QuickbooksSecrets.from_env().realm_id == REALM
    monkeypatch.setenv("QUICKBOOKS_REALM_ID", "my company")
    with pytest.raises(SettingsError, match="QUICKBOOKS_REALM_ID has the wrong form") as caught:
        QuickbooksSecrets.from_env()
    assert "my company" not in str(caught.value)
    monkeypatch.setenv("QUICKBOOKS_REFRESH_TOKEN", "")
    with pytest.raises(SettingsError, match="QUICKBOOKS_REFRESH_TOKEN is not set; QuickBooks"):
        QuickbooksSecrets.from_env()
