"""Delivering what a command has put into the outbox, by Dagster's own delivery jobs."""

from collections.abc import Sequence

from revrec_pipeline.cli.runs import RunFailedError, Runner, lease
from revrec_pipeline.errors import RevrecError
from revrec_pipeline.ledger import Ledger, outbox
from revrec_pipeline.model import Route
from revrec_pipeline.settings import Settings
from schedules.jobs import delivery_config, delivery_job_name


def deliver_jobs(settings: Settings, ledger: Ledger, source: str, job_ids: Sequence[int]) -> None:
    """Deliver these sealed jobs, and what a killed command left of the same source.

    Raises:
        RevrecError: one was not delivered; its batches stay READY for the routing sensor.
    """
    runner = Runner(settings)
    with ledger.transaction() as tx:
        waiting = outbox.undelivered(tx, source)
    with lease(ledger, job_ids):
        for row in waiting:
            route = Route(row["route"])
            try:
                runner.run(
                    delivery_job_name(route),
                    tags={"revrec/job": str(row["job_id"]), "revrec/source": source},
                    config=delivery_config(route, row["job_id"]),
                )
            except RunFailedError as error:
                raise RevrecError(f"job {row['job_id']} was not delivered: {error}") from error
