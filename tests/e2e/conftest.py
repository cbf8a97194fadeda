"""The home of an end-to-end test; what is done in it is in `dagster_dev`."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from dagster_dev import SETTINGS


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home with settings; removed at the end, for it holds some thousand files."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "revrec.toml").write_text(SETTINGS)
    yield folder
    shutil.rmtree(folder)
