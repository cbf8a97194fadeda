"""Opening a ledger, the transaction's promise, and what people read when the world interferes."""

import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg2
import pyarrow as pa
import pytest
from postgres import Database

from revrec_pipeline.errors import LedgerBusyError, LedgerError, RevrecError, SettingsError
from revrec_pipeline.ledger import Ledger, Transaction, open_ledger
from revrec_pipeline.ledger.migrate import migrations

SECRET = "pa55-w0rd"


def add(tx: Transaction, period: str) -> None:
    tx.execute(
        "INSERT INTO accounting_period (period, set_at) VALUES (:period, now())", period=period
    )


def count(ledger: Ledger) -> int:
    with ledger.transaction() as tx:
        found = tx.one("SELECT count(*) AS rows FROM accounting_period")
    assert found is not None
    return int(found["rows"])


def test_a_block_that_ends_is_committed_and_one_that_raises_is_not(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        add(tx, "2026-01")

    def fail() -> None:
        with ledger.transaction() as tx:
            add(tx, "2026-02")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert count(ledger) == 1


def test_execute_tells_how_many_rows_it_wrote(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        add(tx, "2026-01")
        add(tx, "2026-02")
        assert tx.execute("UPDATE accounting_period SET closed_at = set_at") == 2
        assert tx.execute("DELETE FROM accounting_period WHERE period = :p", p="2026-03") == 0
        assert tx.execute("CREATE TEMPORARY TABLE nothing (n BIGINT)") == 0


def test_a_wrong_statement_stays_the_drivers_error_for_it_is_a_bug(ledger: Ledger) -> None:
    with pytest.raises(Exception, match="no_such_table") as raised, ledger.transaction() as tx:
        tx.rows("SELECT * FROM no_such_table")
    assert not isinstance(raised.value, RevrecError)
    assert count(ledger) == 0


def test_opening_again_keeps_what_is_there(ledger: Ledger, ledger_url: str) -> None:
    with ledger.transaction() as tx:
        add(tx, "2026-01")
    again = open_ledger(ledger_url)
    assert count(again) == 1
    again.close()


def test_each_migration_is_recorded_once(ledger: Ledger, ledger_url: str) -> None:
    open_ledger(ledger_url).close()
    with ledger.transaction() as tx:
        found = tx.rows("SELECT version FROM schema_version ORDER BY version")
    assert [row["version"] for row in found] == list(migrations())


def test_a_ledger_of_a_newer_schema_is_refused_by_name(ledger: Ledger, ledger_url: str) -> None:
    with ledger.transaction() as tx:
        tx.execute("INSERT INTO schema_version VALUES (9999, now())")
    with pytest.raises(LedgerError, match=r"ledger.*has schema version 9999.*knows \d+: install"):
        open_ledger(ledger_url)


def test_two_processes_may_open_a_new_ledger_at_once(
    tmp_path: Path, postgres_database: Database
) -> None:
    for url in (f"duckdb:///{tmp_path}/new.duckdb", postgres_database.url):
        opening = (
            "import sys; from revrec_pipeline.ledger import open_ledger; open_ledger(sys.argv[1])"
        )
        started = [
            subprocess.Popen([sys.executable, "-c", opening, url], stderr=subprocess.PIPE)
            for _ in range(3)
        ]
        assert [process.communicate()[1].decode() for process in started] == [""] * 3


def test_threads_share_a_ledger(ledger: Ledger) -> None:
    def work(number: int) -> None:
        for step in range(3):
            with ledger.transaction() as tx:
                add(tx, f"{2000 + number}-{step:02d}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count(ledger) == 18


def in_a_fork(work: Callable[[], None]) -> int:
    """The exit code of a forked child that does this."""
    child = os.fork()
    if child == 0:  # it must never return into pytest
        try:
            work()
            os._exit(0)
        finally:
            traceback.print_exc()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def add_one(ledger: Ledger, period: str) -> None:
    with ledger.transaction() as tx:
        add(tx, period)


def test_a_forked_child_has_transactions_of_its_own(ledger: Ledger) -> None:
    add_one(ledger, "2026-01")
    assert in_a_fork(lambda: add_one(ledger, "2026-02")) == 0
    add_one(ledger, "2026-03")
    assert count(ledger) == 3


def test_a_fork_during_the_transaction_of_another_thread_does_no_harm(ledger: Ledger) -> None:
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with ledger.transaction() as tx:
            add(tx, "2026-01")
            inside.set()
            leave.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    inside.wait()
    threading.Timer(0.2, leave.set).start()
    assert in_a_fork(lambda: add_one(ledger, "2026-02")) == 0
    holder.join()
    assert count(ledger) == 2


# DuckDB: the file


HOLD = """
import sys, time
from revrec_pipeline.ledger import open_ledger
ledger = open_ledger(sys.argv[1])
with ledger.transaction() as tx:
    print("inside", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def duckdb_url(tmp_path: Path) -> str:
    return f"duckdb:///{tmp_path / 'ledger.duckdb'}"


def hold(url: str, seconds: float) -> "subprocess.Popen[str]":
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, url, str(seconds)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "inside\n"
    return holder


def test_a_busy_file_is_named_with_the_process_that_holds_it(duckdb_url: str) -> None:
    ledger = open_ledger(duckdb_url)
    holder = hold(duckdb_url, 60)
    try:
        with pytest.raises(LedgerBusyError) as raised, ledger.transaction(deadline=0.3):
            pass
    finally:
        holder.kill()
        holder.wait()
    path = duckdb_url.removeprefix("duckdb:///")
    assert f"the ledger {path} is held by process {holder.pid} (" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_given_back_in_time_is_waited_for(duckdb_url: str) -> None:
    ledger = open_ledger(duckdb_url)
    holder = hold(duckdb_url, 0.5)
    with ledger.transaction(deadline=30) as tx:
        add(tx, "2026-01")
    holder.wait()
    assert count(ledger) == 1


def test_a_file_that_is_read_half_written_is_tried_again(duckdb_url: str) -> None:
    """In 2 of 2,000 transactions DuckDB read too few bytes (reference/dagster.md section 11.1)."""
    ledger = open_ledger(duckdb_url)
    path = Path(duckdb_url.removeprefix("duckdb:///"))
    whole = path.read_bytes()
    path.write_bytes(whole[:5000])
    with (
        pytest.raises(LedgerBusyError, match=r"ledger\.duckdb is being written by others"),
        ledger.transaction(deadline=0.1),
    ):
        pass
    # In one step, for an empty or foreign file is another matter.
    mended = path.with_name("mended")
    mended.write_bytes(whole)
    threading.Timer(0.3, mended.replace, [path]).start()
    with ledger.transaction(deadline=30) as tx:
        add(tx, "2026-01")
    assert count(ledger) == 1


def test_between_transactions_nobody_holds_the_file(duckdb_url: str) -> None:
    ledger = open_ledger(duckdb_url)
    numbers = pa.table({"n": [1, 2, 3]})
    with ledger.transaction() as tx:
        name = tx.stage(numbers)
        reader = tx.read(f"SELECT n FROM {name}", numbers.schema)
    hold(duckdb_url, 0).wait()
    assert reader.read_all().num_rows == 3


def test_transactions_do_not_nest(duckdb_url: str) -> None:
    ledger = open_ledger(duckdb_url)
    with (
        ledger.transaction(),
        pytest.raises(RuntimeError, match="inside of another"),
        ledger.transaction(),
    ):
        pass
    assert count(ledger) == 0


@pytest.mark.parametrize("slashes", ["duckdb://", "duckdb:///"])
def test_three_slashes_or_four_are_the_same_file(tmp_path: Path, slashes: str) -> None:
    open_ledger(f"{slashes}{tmp_path}/ledger.duckdb")
    assert (tmp_path / "ledger.duckdb").is_file()


def test_a_missing_folder_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(
        LedgerError, match=r"no/ledger\.duckdb.*No such file or directory"
    ) as raised:
        open_ledger(f"duckdb:///{tmp_path}/no/ledger.duckdb")
    assert not isinstance(raised.value, LedgerBusyError)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_no_ledger_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("these are notes\n" * 1000)
    with pytest.raises(LedgerError, match=r"notes\.txt.*not a valid DuckDB database"):
        open_ledger(f"duckdb:///{tmp_path}/notes.txt")


FILL = """
import resource, sys
import pyarrow as pa
from revrec_pipeline.errors import LedgerError
from revrec_pipeline.ledger import open_ledger
ledger = open_ledger(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
try:
    with ledger.transaction() as tx:
        rows = pa.table({"period": [f"{n:064x}" * 4 for n in range(100_000)]})
        tx.execute(
            "INSERT INTO accounting_period (period, set_at) "
            f"SELECT period, now() FROM {tx.stage(rows)}"
        )
except LedgerError as error:
    print(error)
"""


def test_a_full_disk_is_one_line_and_leaves_nothing_half_done(duckdb_url: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", FILL, duckdb_url], capture_output=True, text=True, check=True
    )
    assert ended.stdout.count("\n") == 1
    assert ended.stdout.startswith(f"the ledger {duckdb_url.removeprefix('duckdb:///')}: ")
    assert count(open_ledger(duckdb_url)) == 0


# PostgreSQL: the server


def test_a_lost_connection_is_one_line_and_the_next_transaction_connects_again(
    postgres_server: Database, postgres_database: Database
) -> None:
    ledger = open_ledger(postgres_database.url)
    kill = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        f"WHERE datname = '{postgres_database.name}'"
    )

    def lose() -> None:
        with ledger.transaction() as tx:
            postgres_server.admin(kill)
            add(tx, "2026-01")

    with pytest.raises(LedgerError) as raised:
        lose()
    assert str(raised.value).startswith(
        f"the ledger postgresql://revrec@127.0.0.1:{postgres_database.port}/"
    )
    assert "\n" not in str(raised.value)
    assert count(ledger) == 0
    postgres_server.admin(kill)  # now an idle one
    assert count(ledger) == 0
    ledger.close()


def test_a_lock_that_is_not_given_back_in_time_is_busy(postgres_database: Database) -> None:
    ledger, other = open_ledger(postgres_database.url), open_ledger(postgres_database.url)
    with ledger.transaction() as tx:
        tx.lock("delivery")
        with other.transaction() as second:
            second.lock("another")
        with (
            pytest.raises(LedgerBusyError, match=r"is held by another process"),
            other.transaction(deadline=0.2) as second,
        ):
            second.lock("delivery")
    with other.transaction(deadline=0.2) as second:
        second.lock("delivery")
    ledger.close()
    other.close()


def test_a_forked_child_leaves_the_connection_to_its_parent(postgres_database: Database) -> None:
    ledger = open_ledger(postgres_database.url)

    def backend() -> int:
        with ledger.transaction() as tx:
            found = tx.one("SELECT pg_backend_pid() AS pid")
        assert found is not None
        return int(found["pid"])

    def differs() -> None:
        assert backend() != mine

    mine = backend()
    assert in_a_fork(differs) == 0
    assert backend() == mine
    ledger.close()


def test_text_is_utf_8_and_times_are_utc_whatever_the_server_prefers(
    postgres_database: Database,
) -> None:
    name = postgres_database.name
    postgres_database.admin(f"ALTER DATABASE {name} SET timezone = 'Asia/Tokyo'")
    postgres_database.admin(f"ALTER DATABASE {name} SET client_encoding = 'LATIN1'")
    ledger = open_ledger(postgres_database.url)
    with ledger.transaction() as tx:
        found = tx.one(
            "SELECT :text AS text, '2026-01-01 00:00:00'::TIMESTAMPTZ::TEXT AS time", text="€"
        )
    ledger.close()
    assert found == {"text": "€", "time": "2026-01-01 00:00:00+00"}


# URLs and passwords


def refusal(url: str) -> tuple[RevrecError, str]:
    """The error of a URL, and everything that a traceback would show of it."""
    with pytest.raises(RevrecError) as raised:
        open_ledger(url)
    return raised.value, "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize(
    "url",
    [
        f"mysql://me:{SECRET}@host/db",
        f"postgresql://me:{SECRET}@host",
        f"postgresql://me:{SECRET}/x@host/db",
        f"postgresql://me:12/{SECRET}@host/db",
        f"postgresql://me:{SECRET}@host:port/db",
        f"postgresql+psycopg2://me:{SECRET}@host/db",
        f"{SECRET}",
        "duckdb://relative.duckdb",
        "",
    ],
)
def test_a_url_that_is_none_is_refused_and_never_shown(url: str) -> None:
    error, shown = refusal(url)
    assert isinstance(error, SettingsError)
    assert str(error).startswith("REVREC_LEDGER_URL")
    assert "duckdb:///folder/ledger.duckdb or postgresql://user:password@host" in str(error)
    assert SECRET not in str(error)
    assert SECRET not in shown.replace(f"{url!r}", "")


def test_no_error_of_the_server_shows_the_password(postgres_database: Database) -> None:
    where = f"127.0.0.1:{postgres_database.port}/{postgres_database.name}"
    for url in (
        f"postgresql://revrec:{SECRET}@{where}",
        f"postgresql://{SECRET[:3]}:{SECRET}@{where}",
        f"postgresql://revrec:{SECRET}@127.0.0.1:1/db",
        f"postgresql://revrec:{SECRET}@no-such-host.invalid/db",
        f"postgresql://revrec:{SECRET}@{where}?no_such_option=1",
        f"postgresql://revrec:{SECRET}@{where}?sslmode=sometimes",
    ):
        error, shown = refusal(url)
        assert SECRET not in shown
        assert "\n" not in str(error)
    assert 'password authentication failed for user "revrec"' in str(
        refusal(f"postgresql://revrec:{SECRET}@{where}")[0]
    )


def test_a_password_is_percent_decoded(postgres_database: Database) -> None:
    awkward = "p/a@s:s?#%"
    postgres_database.admin(f"CREATE ROLE awkward LOGIN SUPERUSER PASSWORD '{awkward}'")
    where = f"127.0.0.1:{postgres_database.port}/{postgres_database.name}"
    try:
        open_ledger(f"postgresql://awkward:p%2Fa%40s%3As%3F%23%25@{where}").close()
        with closing(psycopg2.connect(postgres_database.url)) as con, con.cursor() as cursor:
            cursor.execute("SELECT tableowner FROM pg_tables WHERE tablename = 'schema_version'")
            assert cursor.fetchall() == [("awkward",)]
    finally:
        postgres_database.admin("REASSIGN OWNED BY awkward TO revrec")
        postgres_database.admin("DROP ROLE awkward")
