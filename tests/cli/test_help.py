"""`--help`: the documentation that everybody reads."""

import re
import subprocess
import sys

import pytest
from click.testing import CliRunner

from revrec_pipeline.cli import revrec

SENTENCES = {
    "": "Everything that is pulled and produced lies below REVREC_HOME (default: .revrec).",
    "demo": "Run the main job from nothing: no account, no settings, nothing left running.",
    "sandbox": "Serve the sandbox until Ctrl-C: one small company in every source system.",
    "sync": "The exit code is 0 also when rows were flagged, and 1 when a source failed.",
    "import": "a near miss is refused with the right name",
    "order": "Each entry is a job of the source `manual`",
    "order add": "The amount is quantity times unit price.",
    "order edit": "The versions before stay in the lake, with who made them and when",
    "expense": "Enter commissions and other costs of a contract, in the home currency.",
    "expense add": "the same one is refused, so that nothing is paid twice",
    "delivery": "the oldest one that is open on that day and has units left",
    "delivery add": "say which line they count against",
    "delivery edit": "The versions before stay in the lake, with who made them and when",
    "delivery list": "Units that no line takes stand beside no order",
    "customer": "What is entered or imported last counts",
    "customer add": "the account id is the customer id of orders and invoices",
    "customer edit": "Customers of a system are changed there.",
    "product": "the list price where the currency is the same, and the end of service",
    "product add": "its code is the product code of order lines",
    "product edit": "Products of a system are changed there.",
    "jobs": "A job is one sync of one source and record type, however many months",
    "job": "For each currency, source = delivered + unchanged + flagged + excluded",
    "conversion-file": "asking again gives the same bytes",
    "errors": "Mend the record in the source system and sync again: the error resolves itself.",
    "errors show": "it is what was received, not what the source shows today",
    "errors ignore": "Never show this error again, even if it recurs.",
    "errors resolve": "It opens again if the next sync finds it again.",
    "trace": "of one that was not delivered, the rule or the error that stopped it",
    "matches": "nothing is matched by them until you approve it",
    "matches approve": "To take a match back, delete its line.",
    "period": "While none is set, a sync ends in a conversion file",
    "period set": "from now on syncs load live",
    "period list": "the times at which they were set and closed",
    "period close": "open the month after it",
    "export": "every row that was loaded live and still stands, in the sheets of the template.",
    "connections": "List every source: connected, or which variable is missing.",
    "dev": "Start the Dagster UI and daemon on this home, and stay until Ctrl-C.",
}


@pytest.mark.parametrize("command", SENTENCES)
def test_help_of_each_command_reads_like_documentation(command: str) -> None:
    shown = CliRunner().invoke(revrec, [*command.split(), "--help"])

    assert shown.exit_code == 0
    text = re.sub(r"\s+", " ", shown.output)
    assert SENTENCES[command] in text
    assert text.startswith(f"Usage: revrec{' ' + command if command else ''} ")


def test_help_names_every_command_of_the_design() -> None:
    listed = CliRunner().invoke(revrec, ["--help"]).output.partition("Commands:")[2]

    assert [line.split()[0] for line in listed.splitlines() if line] == [
        "demo", "sandbox", "sync", "import", "order", "expense", "delivery",
        "customer", "product", "jobs", "job", "conversion-file", "errors",
        "trace", "matches", "period", "export", "connections", "broken", "dev",
    ]  # fmt: skip


def test_help_and_version_do_not_wait_for_dagster() -> None:
    """Importing it takes seconds."""
    program = """
import sys
from revrec_pipeline.cli import main
for arguments in (["--help"], ["sync", "--help"], ["--version"]):
    sys.argv = ["revrec", *arguments]
    try:
        main()
    except SystemExit:
        pass
print("loaded:", sorted({"dagster", "resources"} & sys.modules.keys()))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-2:] == ["revrec 0.1.0", "loaded: []"]
