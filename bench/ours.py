"""This pipeline, month by month, from first request to READY batch.

`steps` calls what the assets call: list and land, build and check, put into the outbox. `dagster`
is the job sync_stripe as users run it, with its runs, events and check evaluations.
"""

import os
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

from bench.contestant import report

SETTINGS = """\
[site]
history_start = "2025-01"
[sources.stripe]
requests_per_second = 100000
"""


def make_home(origin: str, folder: str) -> None:
    """Make a fresh home below `folder` and point this process and its Stripe at it."""
    home = Path(folder, "home")
    home.mkdir(parents=True)
    (home / "revrec.toml").write_text(SETTINGS)
    os.environ |= {
        "REVREC_HOME": str(home),
        "REVREC_CONFIG": str(home / "revrec.toml"),
        "STRIPE_API_KEY": "sk_test_bench",
        "STRIPE_API_URL": origin,
    }


def main(origin: str, folder: str, how: str) -> None:
    """Sync four months into a fresh home below `folder`."""
    make_home(origin, folder)
    # Imports are not counted for any contestant.
    from revrec_pipeline.cli.home import open_home
    from revrec_pipeline.periods import period_range

    run_month = _dagster() if how == "dagster" else _steps()
    _, ledger, _ = open_home()

    def work() -> tuple[int, Decimal]:
        for month in period_range("2025-01", "2025-04"):
            run_month(month)
        with ledger.transaction() as tx:
            found = tx.one(
                "SELECT sum(rows) AS rows, sum(amount) AS net FROM batch_total JOIN batch "
                "ON batch.id = batch_id WHERE bucket = 'source' AND state = 'ready'"
            )
        assert found is not None  # noqa: S101 - an aggregate has a row
        return int(found["rows"]), Decimal(found["net"])

    report(work)


def _dagster() -> Callable[[str], object]:
    from assets.context import SYNC_TAG
    from revrec_pipeline.cli.home import open_home
    from revrec_pipeline.cli.runs import Runner
    from schedules.jobs import sync_job_name

    runner = Runner(open_home()[0])
    job, tags = sync_job_name("stripe"), {SYNC_TAG: "sync:bench"}
    return lambda month: runner.run(job, month=month, tags=tags)


def _steps() -> Callable[[str], object]:
    from resources.registry import resource_of
    from revrec_pipeline import canonical
    from revrec_pipeline.cli.home import open_home
    from revrec_pipeline.hand_over import hand_over
    from revrec_pipeline.ledger import jobs
    from revrec_pipeline.model import RecordType
    from revrec_pipeline.sources import SOURCES

    settings, ledger, lake = open_home()
    source, invoices = SOURCES["stripe"], RecordType.INVOICES
    resource = resource_of("stripe", settings)

    def run_month(month: str) -> None:
        with ledger.transaction() as tx:
            job_id = jobs.open_job(
                tx,
                sync_key="bench",
                source="stripe",
                record_type=invoices,
                name="bench",
                trigger="bench",
            )
            jobs.start_run(tx, job_id, month, "bench")
        with resource.client() as client:
            lake.land(
                "stripe",
                month,
                client.listing(month),
                run_id="bench",
                api_version=client.api_version,
                objects=source.objects,
            )
        built = canonical.build(
            lake, source, invoices, month, settings.source("stripe"), settings.mapping_site()
        )
        with ledger.transaction() as tx:
            hand_over(tx, built, source, invoices, month, job_id, "bench")

    return run_month


if __name__ == "__main__":
    main(*sys.argv[1:])
