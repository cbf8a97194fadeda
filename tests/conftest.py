"""Fixtures that many tests share: a sandbox that really serves on a loopback port."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from revrec_pipeline.sandbox.server import running, sandbox_env

pytest_plugins = ["postgres", "pipeline"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest tests, which say so: at the end they would run alone."""

    def patience(item: pytest.Item) -> float:
        marker = item.get_closest_marker("timeout")
        return float(marker.args[0]) if marker else 0.0

    items.sort(key=patience, reverse=True)


@dataclass(frozen=True)
class Sandbox:
    """The running sandbox as tests handle it."""

    origin: str
    env: dict[str, str]  # what points every source here

    def only(self, *sources: str) -> dict[str, str]:
        """What points these sources here, so that no other one is connected."""
        prefixes = tuple(f"{source.upper()}_" for source in sources)
        return {name: value for name, value in self.env.items() if name.startswith(prefixes)}

    def command(self, op: str, **fields: Any) -> dict[str, Any]:
        """Send one command to `/_control`; a refused one fails the test."""
        answer = requests.post(f"{self.origin}/_control", json={"op": op, **fields}, timeout=10)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def fault(self, source: str, kind: str, **fields: Any) -> None:
        """Arm a fault."""
        self.command("fault", source=source, kind=kind, **fields)

    def requests(self, source: str) -> dict[str, int]:
        """How often each path of a source was asked for since the test began."""
        return dict(self.state()["requests"].get(source, {}))

    def state(self) -> dict[str, Any]:
        """The clock and all counters."""
        return dict(requests.get(f"{self.origin}/_control", timeout=10).json())


@pytest.fixture(scope="session")
def _sandbox() -> Iterator[Sandbox]:
    with running() as origin:
        yield Sandbox(origin, sandbox_env(origin))


@pytest.fixture
def sandbox(_sandbox: Sandbox) -> Sandbox:
    """The sandbox with its first data, no faults armed and all counters at zero."""
    _sandbox.command("reset")
    return _sandbox
