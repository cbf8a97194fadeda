"""Random histories of a source, with syncs in between: the ledger follows, step by step.

After each sync, what incremental pulls made of the ledger is compared with what a lake that has
never seen anything makes of a full listing: delivered + flagged + excluded is the source's state.
How a history is lived is in `life`, what may happen to a source in `edits`.

`make test` lives one history with every kind of edit and a few random ones for each source;
`make years` many random ones.
"""

import os
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from conftest import Sandbox
from edits import WAYS
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from life import Command, Life, Step, Ways

from revrec_pipeline import canonical

#: Random histories of each source, and the most syncs of one.
HISTORIES = int(os.environ.get("YEARS", "0"))
SYNCS = 5 if HISTORIES else 2
#: Small, so that edits meet the same documents.
NUMBER = st.integers(0, 11)


def edits(ways: Ways) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.tuples(st.just(name), NUMBER, st.sampled_from(edit.values))
        for name, edit in ways.edits.items()
    )


@st.composite
def steps(draw: st.DrawFn, ways: Ways) -> Step:
    """Up to six edits of one moment, of which some show late; with a fault in every other sync."""
    done = draw(st.lists(edits(ways), max_size=6))
    return Step(
        edits=tuple(done),
        late=draw(st.integers(0, len(done))),
        wait=draw(st.sampled_from([0, 1, 7200, 2 * 86_400])),
        fault=draw(st.one_of(st.none(), st.sampled_from([*ways.faults, "outage"]))),
        after=draw(st.integers(0, 12)),
        sweep=draw(st.booleans()),
    )


def all_edits(ways: Ways) -> list[Step]:
    """Every kind of edit at once; then once more with other values, half of it seen late.

    What no feed tells of comes last, with a sweep: one before would find what the feed must tell.
    What is created is so twice, lest what ends one document leaves none for the others.
    """
    told = [(name, edit) for name, edit in ways.edits.items() if not edit.silent]
    silent = [(name, edit) for name, edit in ways.edits.items() if edit.silent]
    twice = [(name, edit) for name, edit in told if name.startswith("create")]
    first = tuple((name, None, edit.values[0]) for name, edit in twice + told)
    second = tuple(
        (name, place + 3, edit.values[1 % len(edit.values)])
        for place, (name, edit) in enumerate(told)
    )
    return [
        Step(first, fault=ways.faults[0]),
        Step(second, late=len(second) // 2, fault="outage", after=3),
        Step(tuple((name, None, edit.values[0]) for name, edit in silent), sweep=True),
    ]


Begin = Callable[..., Life]


@pytest.fixture
def begin(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Begin:
    """Begins a life of a source, each in a home of its own."""
    # What is built of changes must hold however much changed.
    monkeypatch.setattr(canonical, "_CHANGED_AT_MOST", 100)
    for name, value in sandbox.env.items():
        monkeypatch.setenv(name, value)
    numbers = count(1)

    def make(ways: Ways, account: tuple[Command, ...], behind: float) -> Life:
        sandbox.command("reset", behind=behind)
        home = tmp_path / str(next(numbers))
        home.mkdir()
        (home / "revrec.toml").write_text(
            '[site]\ntimezone = "America/New_York"\nhistory_start = "2026-04"\n'
            f"[sources.{ways.source}]\n{ways.settings}"
        )
        monkeypatch.setenv("REVREC_HOME", str(home))
        monkeypatch.setenv("REVREC_CONFIG", str(home / "revrec.toml"))
        return Life.begin(sandbox, ways, account, home)

    return make


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("source", WAYS)
def test_the_ledger_follows_a_history_with_every_kind_of_edit(begin: Begin, source: str) -> None:
    ways = WAYS[source]
    life = begin(ways, ways.accounts[-1], 0)

    life.live(all_edits(ways))

    assert life.taken == ways.edits.keys()


@pytest.mark.timeout(1800 if not HISTORIES else 36_000)
@pytest.mark.parametrize("source", WAYS)
def test_the_ledger_follows_any_history(begin: Begin, source: str) -> None:
    """Also where the source's clock is a day behind ours."""
    ways = WAYS[source]

    @settings(
        max_examples=HISTORIES or 1,
        derandomize=not HISTORIES,  # a change is not held up by what it has not done
        deadline=None,
        suppress_health_check=list(HealthCheck),
        # In `make test` a failure is not made smaller: that takes as long as many histories.
        phases=[Phase.explicit, Phase.generate] + ([Phase.shrink] if HISTORIES else []),
        print_blob=True,
    )
    @given(
        history=st.lists(steps(ways), min_size=1, max_size=SYNCS),
        account=st.sampled_from(ways.accounts),
        behind=st.sampled_from([0, 86_400]),
    )
    def lives(history: list[Step], account: tuple[Command, ...], behind: float) -> None:
        # The first one to come is always the simplest: nothing happens.
        assume(sum(len(step.edits) for step in history) > 2)
        begin(ways, account, behind).live(history)

    lives()
