"""`revrec connections`: which sources are configured, and whether they answer."""

import sys
from collections.abc import Iterator
from typing import Any

import click

from revrec_pipeline.cli.origins import unreachable
from revrec_pipeline.cli.output import print_json, print_table
from revrec_pipeline.errors import RevrecError
from revrec_pipeline.settings import Settings
from revrec_pipeline.sources import SOURCES


@click.command(short_help="Which sources are connected, and whether they answer.")
@click.option("--check", is_flag=True, help="Log in to each connected source and ask who it is.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
def connections(check: bool, as_json: bool) -> None:
    """List every source: connected, or which variable is missing.

    With --check, log in and say which account or company it is, the API version, what is left of
    the vendor's limits, and which permissions or fields the settings need but the source lacks.
    The exit code is then 1 if a connected source did not answer or lacks something.
    """
    settings = Settings.load()
    found = [_state(name, settings, check=check) for name in SOURCES]
    if as_json:
        print_json(found)
    else:
        print_table(
            ("Source", "State", ""),
            [(one["source"], one["state"], "\n".join(_words(one))) for one in found],
        )
    if any(one["state"] == "failed" or one["missing"] for one in found):
        sys.exit(1)


def _words(state: dict[str, Any]) -> Iterator[str]:
    """What is known of a source, a line for each matter."""
    if state["error"]:
        yield state["error"]
    if state["account_id"]:
        yield f"{state['account_id']} {state['account_name']}".strip()
        yield f"API version {state['api_version']}"
    if state["limits"]:
        yield f"limits: {state['limits']}"
    if state["missing"]:
        yield f"missing: {', '.join(state['missing'])}"


def _state(name: str, settings: Settings, *, check: bool) -> dict[str, Any]:
    # The resources import Dagster, which takes seconds.
    from resources.registry import resource_of, why_not_connected

    state: dict[str, Any] = {
        "source": name,
        "state": "connected",
        "account_id": None,
        "account_name": None,
        "api_version": None,
        "limits": None,
        "missing": [],
        "error": None,
    }
    if missing := why_not_connected(name):
        return state | {"state": "not connected", "error": str(missing)}
    if not check:
        return state
    if silent := unreachable(name):
        return state | {"state": "failed", "error": silent}
    try:
        with resource_of(name, settings).client() as client:
            answer = client.check()
    except RevrecError as error:
        return state | {"state": "failed", "error": str(error)}
    return state | {
        "account_id": answer.account_id,
        "account_name": answer.account_name,
        "api_version": answer.api_version,
        "limits": answer.limits,
        "missing": list(answer.missing),
    }
