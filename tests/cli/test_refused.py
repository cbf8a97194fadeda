"""What cannot be begun is refused in one line that names it and says what to do, with exit code 2.

Nothing is pulled and no job is opened. What goes wrong later is in `test_failures.py`.
"""

import sys
from dataclasses import dataclass

import pytest
from command_line import Home, Synced

from revrec_pipeline.cli import main
from revrec_pipeline.sources import SOURCES

REFUSED = {
    "sync foo": f"unknown source 'foo'; known are {', '.join(SOURCES)}",
    "sync --from 2026-13": "'2026-13' is not a month; write it like 2026-01",
    "sync --from January": "'January' is not a month; write it like 2026-01",
    "sync --from 2026-06 --to 2026-05": "--from 2026-06 is after --to 2026-05",
    "sync stripe --from 2023-12": "--from 2023-12 is before [site] history_start, 2025-01; begin "
    "there, or set that earlier",
    "sync --to 2026-05": "--to needs --from",
    "sync --full --from 2026-05": "--full lists every month; leave out --from and --to",
    "sync --bogus": "No such option '--bogus'; see `revrec sync --help`",
    "synk": "No such command 'synk'; see `revrec --help`",
    "job x": "Invalid value for 'ID': 'x' is not a valid integer; see `revrec job --help`",
    "job 99": "there is no job 99; `revrec jobs` lists them",
}


@dataclass(frozen=True)
class Here:
    """The command line in this process, for what it refuses before it does anything."""

    home: Home
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def refuses(self, *arguments: str) -> str:
        """The only line that is printed."""
        for name, value in self.home.environment.items():
            self.monkeypatch.setenv(name, value)
        self.monkeypatch.setattr(sys, "argv", ["revrec", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        stdout, stderr = self.capsys.readouterr()
        (line,) = stderr.splitlines()
        assert stdout == ""
        return str(line)


@pytest.fixture
def here(home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    """It, with the environment of a new home."""
    return Here(home, monkeypatch, capsys)


@pytest.mark.parametrize("command", REFUSED)
def test_a_command_that_makes_no_sense_is_refused(here: Here, command: str) -> None:
    assert here.refuses(*command.split()) == f"error: {REFUSED[command]}"
    assert not (here.home.path / "lake").exists()


SETTINGS = {
    "[site": "{file} is not valid TOML: Expected ']' at the end of a table declaration "
    "(at end of document)",
    '[site]\ntimezon = "UTC"': "{file}: unknown setting 'site.timezon'; did you mean 'timezone'?",
    "[sources.sap]": "{file}: unknown setting 'sources.sap'; known are "
    + ", ".join(sorted(SOURCES)),
    '[site]\nhistory_start = "2026-13"': "{file}: site.history_start: '2026-13' is not a month; "
    "write it like 2026-01",
    'ledger_url = "postgresql://u:hidden@h/d"': "{file}: 'ledger_url' is no setting of the file; "
    "set the environment variable REVREC_LEDGER_URL",
}


@pytest.mark.parametrize("toml", SETTINGS)
def test_a_wrong_file_of_settings_is_refused_with_its_name_and_the_reason(
    here: Here, toml: str
) -> None:
    here.home.configure(toml)

    said = here.refuses("jobs")

    assert said == "error: " + SETTINGS[toml].format(file=here.home.folder / "revrec.toml")
    assert not here.home.path.exists()


def test_a_file_of_settings_that_is_not_utf_8_is_refused(home: Home) -> None:
    file = home.folder / "revrec.toml"
    file.write_bytes(b'[site]\ntimezone = "\xff"\n')

    assert home.refuses("jobs") == f"{file} is not UTF-8: invalid start byte"


def test_a_credential_that_is_missing_is_named(home: Home) -> None:
    assert (
        home.with_env(STRIPE_API_KEY="")
        .refuses("sync", "stripe")
        .startswith("STRIPE_API_KEY is not set; ")
    )
    half = home.with_env(SALESFORCE_CLIENT_SECRET="", SALESFORCE_PRIVATE_KEY="")
    assert half.refuses("sync", "salesforce").startswith("SALESFORCE_PRIVATE_KEY is not set; ")
    none = Home(home.folder)
    assert none.refuses("sync") == (
        "no source is connected; `revrec connections` says which variables are missing"
    )


def test_a_home_that_is_no_folder_or_cannot_be_written_is_refused(home: Home) -> None:
    file = home.folder / "file"
    file.touch()
    assert home.with_env(REVREC_HOME=str(file)).refuses("jobs") == (
        f"REVREC_HOME {file} cannot be made: File exists"
    )
    # Not even root can make a folder there.
    assert home.with_env(REVREC_HOME="/proc/revrec").refuses("jobs") == (
        "REVREC_HOME /proc/revrec cannot be made: No such file or directory"
    )


@pytest.mark.parametrize("scheme", ["mysql", "postgresql+psycopg2"])
def test_a_ledger_of_another_kind_is_refused_without_showing_its_password(
    home: Home, scheme: str
) -> None:
    wrong = home.with_env(REVREC_LEDGER_URL=f"{scheme}://revrec:hidden@db.example/ledger")

    said = wrong.refuses("jobs")

    assert said.startswith("REVREC_LEDGER_URL is no ledger; write duckdb:///")
    assert "hidden" not in said


def test_the_demo_refuses_a_home_that_holds_real_data(first_sync: Synced) -> None:
    before = first_sync.home.json("jobs")

    assert first_sync.home.refuses("demo") == (
        f"{first_sync.home.path} holds data that no demo made; set REVREC_HOME to another folder"
    )
    assert first_sync.home.json("jobs") == before
