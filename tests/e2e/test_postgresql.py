"""The whole way through real processes, with PostgreSQL for the ledger and Dagster's storage."""

from pathlib import Path

import pytest
from conftest import Sandbox
from dagster_dev import dagster_dev, environment, whole_way
from postgres import Database

pytestmark = pytest.mark.timeout(2400)


def test_the_whole_way_on_postgresql(
    home: Path, sandbox: Sandbox, postgres_database: Database
) -> None:
    with postgres_database.another() as storage:
        env = environment(home, sandbox) | {
            "REVREC_LEDGER_URL": postgres_database.url,
            "DAGSTER_PG_HOST": storage.host,
            "DAGSTER_PG_PORT": str(storage.port),
            "DAGSTER_PG_USERNAME": storage.user,
            "DAGSTER_PG_PASSWORD": storage.password,
            "DAGSTER_PG_DB": storage.name,
        }
        with dagster_dev(home, env) as dagster:
            whole_way(dagster, sandbox)
        assert not (home / "ledger.duckdb").exists()
