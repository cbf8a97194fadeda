"""`docs/settings.md` is written by hand; here it is held against the settings that there are."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from resources import alerts, registry
from revrec_pipeline import instances
from revrec_pipeline.mapping import SourceSettings
from revrec_pipeline.settings import AlertSettings, RetentionSettings, Settings, SiteSettings
from revrec_pipeline.sources import SOURCES

PAGE = (Path(__file__).parents[2] / "docs" / "settings.md").read_text(encoding="utf-8")
SECRETS = {f"{name.upper()}_": registry.secrets_of(name) for name in SOURCES}
TABLES: dict[str, tuple[type[BaseModel], set[str]]] = {
    "[site]": (SiteSettings, set()),
    "[alerts]": (AlertSettings, set()),
    "[retention]": (RetentionSettings, set()),
    "[sources.<source>]": (SourceSettings, set()),
    **{
        f"[sources.{name}]": (source.settings, set(SourceSettings.model_fields))
        for name, source in SOURCES.items()
    },
}


def rows(section: str) -> dict[str, list[str]]:
    """The table of a section, by its first column."""
    text = PAGE.partition(f"\n## `{section}`\n")[2].partition("\n## ")[0]
    cells = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in text.splitlines()
        if line.startswith("| `")
    ]
    return {first.strip("`"): others for first, *others in cells}


def written(default: Any) -> str:
    """A default as a TOML file says it."""
    if default is None:
        return "—"
    return f"`{json.dumps(list(default) if isinstance(default, tuple) else default)}`"


@pytest.mark.parametrize("section", TABLES)
def test_every_setting_stands_on_the_page_with_its_default(section: str) -> None:
    model, elsewhere = TABLES[section]
    expected = {
        name: written(field.get_default(call_default_factory=True))
        for name, field in model.model_fields.items()
        if name not in elsewhere
    }

    assert {name: default for name, (_, default, *_) in rows(section).items()} == expected


def test_every_setting_has_a_meaning_and_a_word_on_revrec() -> None:
    for section in TABLES:
        for name, (kind, _, meaning, revrec) in rows(section).items():
            assert all((kind, meaning, revrec)), (section, name)
            assert meaning.endswith("."), (section, name)


def test_every_variable_of_the_environment_stands_on_the_page() -> None:
    named = set(re.findall(r"^\| `([A-Z_]+)` \|", PAGE, flags=re.MULTILINE))

    ours = {f"REVREC_{name.upper()}" for name in ("home", "ledger_url", "lake_url", "config")}
    assert {f"REVREC_{name.upper()}" for name in Settings.model_fields} <= ours | {
        "REVREC_SITE",
        "REVREC_SOURCES",
        "REVREC_ALERTS",
        "REVREC_RETENTION",
    }
    secrets = {
        f"{prefix}{name.upper()}"
        for prefix, model in SECRETS.items()
        for name in model.model_fields
    }
    told = {alerts.WEBHOOK, alerts.SMTP_USERNAME, alerts.SMTP_PASSWORD}
    assert named == ours | secrets | told | {*instances._POSTGRES, "DAGSTER_PG_PORT"}
