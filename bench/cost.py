"""What a sync costs by how much has changed: of everything, of nothing, of one record in a hundred.

python -m bench.cost ORIGIN FOLDER NEWEST    prints one JSON document

Each is `revrec sync` as users run it, delivery included, in this process; imports are not counted.
The full one lists every month and writes a conversion file. What changed is either one record in a
hundred of every month, or the newest hundredth.
"""

import json
import sys
import time
from typing import Any
from urllib.request import urlopen

from bench.ours import make_home


def main(origin: str, folder: str, newest: str) -> None:
    """Sync a fresh home below `folder` again and again."""
    make_home(origin, folder)
    from revrec_pipeline.cli.home import open_home
    from revrec_pipeline.cli.progress import progress
    from revrec_pipeline.cli.runs import Runner
    from revrec_pipeline.cli.syncing import Span, sync_source
    from revrec_pipeline.sources import SOURCES

    settings, ledger, lake = open_home()
    runner, source = Runner(settings), SOURCES["stripe"]

    def asked(path: str) -> int:
        with urlopen(f"{origin}{path}") as answer:  # noqa: S310 - our own server
            return int(answer.read())

    def measure(span: Span) -> dict[str, Any]:
        requests, wall, cpu = asked("/_requests"), time.perf_counter(), time.process_time()
        with progress() as shown:
            outcome = sync_source(runner, ledger, lake, source, span, shown)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        if outcome.failures:
            sys.exit("; ".join(outcome.failures))
        with ledger.transaction() as tx:
            delivered = tx.one(
                "SELECT coalesce(sum(rows), 0)::BIGINT AS rows FROM batch_total "
                "JOIN batch ON batch.id = batch_id "
                "WHERE bucket = 'delivered' AND job_id = ANY(:jobs)",
                jobs=outcome.job_ids,
            )
        return {
            "requests": asked("/_requests") - requests,
            "cpu": cpu,
            "wall": wall,
            "delivered": (delivered or {})["rows"],
        }

    changes = Span(None, None)
    found = {"everything": measure(Span("2025-01", "2025-12")), "nothing": measure(changes)}
    asked("/_edit?every=100")
    found["one in a hundred of every month"] = measure(changes)
    asked(f"/_edit?newest={newest}")
    found["the newest hundredth"] = measure(changes)
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
