"""The whole way through real processes, on SQLite files and a DuckDB ledger."""

from pathlib import Path

import pytest
from conftest import Sandbox
from dagster_dev import dagster_dev, environment, whole_way

pytestmark = pytest.mark.timeout(2400)


def test_the_whole_way_on_the_embedded_instance(home: Path, sandbox: Sandbox) -> None:
    with dagster_dev(home, environment(home, sandbox)) as dagster:
        whole_way(dagster, sandbox)
