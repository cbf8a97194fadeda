from pathlib import Path

import pytest

from revrec_pipeline.errors import SettingsError
from revrec_pipeline.settings import Settings


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, and no setting in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in ("REVREC_HOME", "REVREC_CONFIG", "REVREC_LEDGER_URL", "REVREC_LAKE_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def refusal(folder: Path, toml: str) -> str:
    (folder / "revrec.toml").write_text(toml)
    with pytest.raises(SettingsError) as caught:
        Settings.load()
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_without_a_file_the_documented_defaults_hold(folder: Path) -> None:
    settings = Settings.load()
    assert settings.home == folder / ".revrec"
    assert settings.lake_root == folder / ".revrec" / "lake"
    assert settings.ledger == f"duckdb:///{folder / '.revrec' / 'ledger.duckdb'}"
    assert (settings.site.timezone, settings.site.home_currency) == ("UTC", "USD")


def test_the_file_in_the_current_folder_comes_before_the_one_in_the_home(folder: Path) -> None:
    (folder / ".revrec").mkdir()
    (folder / ".revrec" / "revrec.toml").write_text('[site]\ntimezone = "Europe/Berlin"\n')
    assert Settings.load().site.timezone == "Europe/Berlin"
    (folder / "revrec.toml").write_text('[site]\ntimezone = "Asia/Tokyo"\n')
    assert Settings.load().site.timezone == "Asia/Tokyo"


def test_the_environment_names_another_file_and_another_home(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "other.toml").write_text('[site]\nhome_currency = "EUR"\n')
    monkeypatch.setenv("REVREC_CONFIG", "other.toml")
    monkeypatch.setenv("REVREC_HOME", str(folder / "elsewhere"))
    settings = Settings.load()
    assert settings.site.home_currency == "EUR"
    assert settings.home == folder / "elsewhere"
    assert settings.environment() == {
        "REVREC_HOME": str(folder / "elsewhere"),
        "REVREC_CONFIG": str(folder / "other.toml"),
    }


def test_a_file_that_is_named_but_not_there_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REVREC_CONFIG", "nowhere.toml")
    with pytest.raises(SettingsError, match=r"REVREC_CONFIG names nowhere\.toml"):
        Settings.load()


@pytest.mark.parametrize(
    ("toml", "parts"),
    [
        ("[site]\ntimezon = 'UTC'\n", ["revrec.toml", "'site.timezon'", "did you mean 'timezone'"]),
        ("[site]\ntimezone = 'Mars'\n", ["site.timezone", "'Mars' is no time zone"]),
        ("[site]\nhome_currency = 'usd'\n", ["site.home_currency", "ISO 4217"]),
        ("[site]\nhistory_start = '2026-13'\n", ["site.history_start", "'2026-13' is not a month"]),
        ("[sources.strip]\n", ["'sources.strip'", "did you mean 'stripe'"]),
        (
            "[sources.stripe]\ninvoice_equals_contrakt = true\n",
            ["invoice_equals_contrakt", "did you mean 'invoice_equals_contract'"],
        ),
        ("[sources.stripe]\ndiscard_zero_invoices = 3\n", ["discard_zero_invoices", "boolean"]),
        ("[site\n", ["revrec.toml is not valid TOML"]),
        ("[sites]\n", ["'sites'", "did you mean 'site'"]),
    ],
)
def test_a_wrong_setting_is_refused_with_its_name_and_the_reason(
    folder: Path, toml: str, parts: list[str]
) -> None:
    message = refusal(folder, toml)
    for part in parts:
        assert part in message


def test_a_watched_folder_is_a_path_or_in_a_bucket(folder: Path) -> None:
    for given, found in (("in", str(folder / "in")), ("s3://books/in", "s3://books/in")):
        (folder / "revrec.toml").write_text(f'[imports]\nfolder = "{given}"\n')
        assert Settings.load().imports.folder == found
    for given in ("s3://", "gs://books/in", "s3://key:secret@books/in"):
        message = refusal(folder, f'[imports]\nfolder = "{given}"\n')
        assert "imports.folder: write a path, or s3://bucket/prefix" in message
        assert "secret" not in message


def test_a_lake_that_is_no_folder_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REVREC_LAKE_URL", "s3://bucket/lake")
    with pytest.raises(SettingsError, match="lake_url: only a folder can hold the lake"):
        Settings.load()


def test_a_message_about_settings_never_shows_the_ledgers_url(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REVREC_LEDGER_URL", "postgresql://u:hunter2@h/db")
    assert "hunter2" not in refusal(folder, "[nonsense]\n")
