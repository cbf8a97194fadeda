"""The real command `revrec` in a process of its own, with a home of its own.

Each start costs one to three seconds, a synced month two or three more: what tests only read is
made once (in `cli/conftest.py`), and what they change is a copy of it.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

REVREC = str(Path(sys.executable).with_name("revrec"))
#: The sources that homes are connected to; more would only take longer.
SOURCES = ("salesforce", "stripe")
#: Month that homes are made of: it holds complete and incomplete records.
MONTH = "2026-05"
SETTINGS = """\
[site]
timezone = "America/New_York"
home_currency = "USD"
history_start = "2025-01"
"""


@dataclass(frozen=True)
class Home:
    """A folder with `home` and `revrec.toml`, and the environment of its commands."""

    folder: Path
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """REVREC_HOME."""
        return self.folder / "home"

    @property
    def environment(self) -> dict[str, str]:
        """All that a command gets: nothing of the environment of the tests shines through."""
        merged = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "REVREC_HOME": str(self.path),
            "REVREC_CONFIG": str(self.folder / "revrec.toml"),
            **self.env,
        }
        return {name: value for name, value in merged.items() if value}

    def with_env(self, **env: str) -> "Home":
        """The same home with other variables; an empty one is not set."""
        return replace(self, env={**self.env, **env})

    def configure(self, toml: str) -> None:
        """Write revrec.toml."""
        (self.folder / "revrec.toml").write_text(toml, encoding="utf-8")

    def start(self, *arguments: str, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        """Begin a command; it stands in the folder of its home."""
        return subprocess.Popen(
            [*prefix, REVREC, *arguments],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(
        self,
        *arguments: str,
        code: int = 0,
        prefix: tuple[str, ...] = (),
        timeout: float = 240,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command that ends with this exit code and without a traceback."""
        process = self.start(*arguments, prefix=prefix)
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        assert "Traceback" not in stderr, stderr
        assert process.returncode == code, f"{arguments}: {process.returncode}\n{stdout}\n{stderr}"
        return subprocess.CompletedProcess(process.args, code, stdout, stderr)

    def json(self, *arguments: str) -> Any:
        """What a command with `--json` prints: one document, and nothing else."""
        done = self.run(*arguments, "--json")
        assert done.stderr == ""
        return json.loads(done.stdout)

    def fails(self, *arguments: str, code: int, prefix: tuple[str, ...] = ()) -> list[str]:
        """The error lines of a command that fails."""
        done = self.run(*arguments, code=code, prefix=prefix)
        lines = done.stderr.splitlines()
        return [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]

    def refuses(self, *arguments: str) -> str:
        """The only line of a command that refuses to begin."""
        done = self.run(*arguments, code=2)
        (line,) = done.stderr.splitlines()
        assert done.stdout == ""
        assert line.startswith("error: ")
        return line.removeprefix("error: ")

    def left_behind(self) -> list[str]:
        """What a failure should not leave: half-written files, and jobs that nobody runs."""
        partial = [path.name for path in (self.path / "lake" / ".partial").glob("*")]
        hidden = [str(path) for path in (self.path / "lake").rglob(".*.partial")]
        running = [job["name"] for job in self.json("jobs") if job["status"] == "running"]
        return partial + hidden + running

    def copy(self, folder: Path) -> "Home":
        """A home of one's own with the same content."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        return replace(self, folder=folder)


@dataclass(frozen=True)
class Synced:
    """A home in which one month of both sources was synced, and what the command printed."""

    home: Home
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Live:
    """A home with an accounting period, one month of both sources in its ledger, and an export."""

    home: Home
    seconds: float  # that the sync worked, after its first words
    exported: dict[str, list[list[Any]]]


class Commands(Protocol):
    """What these tests ask of the sandbox."""

    env: dict[str, str]

    def only(self, *sources: str) -> dict[str, str]:
        """What points these sources at it."""

    def command(self, op: str, **fields: Any) -> dict[str, Any]:
        """Send one command to `/_control`."""

    def fault(self, source: str, kind: str, **fields: Any) -> None:
        """Arm a fault."""

    def requests(self, source: str) -> dict[str, int]:
        """How often each path of a source was asked for since the test began."""
