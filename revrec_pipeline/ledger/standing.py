"""What is broken right now: failed months, and whatever waits for longer than it should.

It only reads; the standing check in the UI and `revrec broken` show it.
"""

from datetime import datetime, timedelta
from typing import Any

from revrec_pipeline.ledger import Transaction, as_text, now

#: A batch is delivered within minutes, a touched month rebuilt; hours mean that the daemon is down.
WAITS_AT_MOST = timedelta(hours=1)
#: A backfill may take its time.
RUNS_AT_MOST = timedelta(days=1)


def broken(tx: Transaction, *, at: datetime | None = None) -> list[dict[str, Any]]:
    """`{what, source, record_type, period, job_id, since, message}` of each, by source and month.

    `what`: `failed` (the newest run of a month), `undelivered`, `not rebuilt`, `not listed`,
    `unfinished` (a job whose runs never ended).
    """
    at = at or now()
    found = tx.rows(
        """
        SELECT * FROM (
            SELECT 'failed' AS what, source, record_type, newest.period, newest.job_id,
                newest.ended_at AS since, newest.message
            FROM (
                SELECT DISTINCT ON (job.source, job.record_type, job_run.period)
                    job.source, job.record_type, job_run.*
                FROM job_run JOIN job ON job.id = job_run.job_id
                ORDER BY job.source, job.record_type, job_run.period, job_run.job_id DESC
            ) AS newest WHERE newest.state = 'failed'
            UNION ALL
            SELECT 'undelivered', batch.source, batch.record_type, batch.period, batch.job_id,
                batch.built_at, 'READY since then; is the daemon running?'
            FROM batch JOIN job ON job.id = batch.job_id
            WHERE job.sealed_at IS NOT NULL AND batch.state IN ('ready', 'claimed')
                AND batch.built_at < :waiting
            UNION ALL
            SELECT 'not rebuilt', source, NULL, period, NULL, min(touched_at),
                'changes have landed; run `revrec sync ' || source || '`'
            FROM touched_period WHERE touched_at < :waiting GROUP BY source, period
            UNION ALL
            SELECT 'not listed', source, NULL, period, NULL, NULL,
                'a sync was to list it; run `revrec sync ' || source || '`'
            FROM wanted_listing
            UNION ALL
            SELECT 'unfinished', source, record_type, NULL, id, started_at,
                'its runs have not ended; look at them in the UI'
            FROM job WHERE sealed_at IS NULL AND started_at < :running
        ) AS everything
        ORDER BY source, period, record_type, what
        """,
        waiting=at - WAITS_AT_MOST,
        running=at - RUNS_AT_MOST,
    )
    return [
        row | {"period": row["period"] or None, "since": as_text(row["since"])} for row in found
    ]
