"""The processes that sync several sources side by side."""

from pathlib import Path

from command_line import MONTH, SETTINGS, Home
from conftest import Sandbox

# Python runs this when it starts.
COUNTING = """\
import os, sys
os.register_at_fork(before=lambda: print(
    "threads:", len(os.listdir("/proc/self/task")), file=sys.stderr
))
"""


def test_the_process_that_forks_workers_has_one_thread(tmp_path: Path, sandbox: Sandbox) -> None:
    """What others do in the moment of a fork, a child has for ever: half-done, or locked."""
    (tmp_path / "sitecustomize.py").write_text(COUNTING)
    wrong = {"STRIPE_API_KEY": "sk_test_wrong", "HUBSPOT_ACCESS_TOKEN": "pat-wrong"}  # ends early
    home = Home(tmp_path, {**sandbox.env, **wrong, "PYTHONPATH": str(tmp_path)})
    home.configure(SETTINGS)

    done = home.run("sync", "stripe", "hubspot", "--from", MONTH, "--to", MONTH, code=1)

    counted = [line for line in done.stderr.splitlines() if line.startswith("threads:")]
    assert counted == ["threads: 1"] * 2
