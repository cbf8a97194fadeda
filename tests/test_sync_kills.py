"""A small part of `make kills`: every source is killed once, in what ends in conversion files."""

from pathlib import Path

import pytest
from conftest import Sandbox
from forked import Forks
from sync_kills import children as children
from sync_kills import kill


@pytest.mark.timeout(1200)
def test_every_source_killed_once_leaves_the_files_of_an_undisturbed_run(
    sandbox: Sandbox, children: Forks, tmp_path: Path
) -> None:
    assert kill(sandbox, children, tmp_path, each=1, waves=1) == 8
