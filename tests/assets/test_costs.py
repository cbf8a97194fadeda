"""What a sync costs when nothing changed: some requests, no month to rebuild, no row to deliver."""

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Sandbox
from pipeline import Pipeline

from assets.raw import _window
from resources.registry import resource_of
from revrec_pipeline.lake import CHANGES, Lake
from revrec_pipeline.sources import SOURCES
from schedules.jobs import changes_job_name, sync_job_name

#: Log-in and the clock, and a feed for each kind of document: HubSpot has five, each with a search
#: and an archive; of NetSuite's tables each is asked by what changed, what went and what it knows.
MOST_REQUESTS = {"hubspot": 20, "netsuite": 20}
MOST_OF_OTHERS = 12


@pytest.mark.parametrize("name", SOURCES)
def test_a_window_in_which_nothing_changed_costs_a_handful_of_requests_and_touches_no_month(
    name: str, make_pipeline: Callable[..., Pipeline], sandbox: Sandbox, tmp_path: Path
) -> None:
    source, lake = SOURCES[name], Lake(tmp_path / "lake")
    settings = make_pipeline().settings
    resource = resource_of(name, settings)
    with resource.client() as client:
        position = client.server_time() - client.lag
        touched, asked = [], []
        # Open documents of months that were never listed come with the first window.
        for _ in range(2):
            before = sum(sandbox.requests(name).values())
            with resource.client() as fresh:
                since, until = _window(source, fresh, position, None)
                landing = lake.land(
                    name,
                    CHANGES,
                    fresh.changes(since, until),
                    run_id="test",
                    api_version=fresh.api_version,
                    objects=source.under(settings.source(name)).objects,
                )
            touched.append(landing.touched)
            asked.append(sum(sandbox.requests(name).values()) - before)
            position = until
    assert touched[1] == ()
    assert asked[1] <= MOST_REQUESTS.get(name, MOST_OF_OTHERS)


def test_a_sync_in_which_nothing_changed_rebuilds_no_month_and_delivers_nothing(
    pipeline: Pipeline,
) -> None:
    pipeline.run(sync_job_name("stripe"), "2026-06", tags={"revrec/sync": "first"})
    pipeline.run(changes_job_name("stripe"), tags={"revrec/sync": "second"})
    pipeline.route()
    pipeline.run(changes_job_name("stripe"), tags={"revrec/sync": "third"})
    assert pipeline.route() == []
    assert pipeline.jobs()[-1]["counts"]["delivered"] == 0
