"""`revrec connections` and `revrec sandbox`."""

import shlex
import signal
import subprocess

import requests
from command_line import REVREC, Home, Synced

from revrec_pipeline.sources import SOURCES


def test_connections_name_what_is_missing_and_ask_connected_sources_who_they_are(
    home: Home,
) -> None:
    without_stripe = home.with_env(STRIPE_API_KEY="")

    found = {one["source"]: one for one in without_stripe.json("connections", "--check")}

    assert list(found) == list(SOURCES)
    salesforce, stripe = found["salesforce"], found["stripe"]
    assert salesforce["source"] == "salesforce"
    assert salesforce["state"] == "connected"
    assert salesforce["account_name"] == "Fernhill Software"
    assert salesforce["api_version"] == "68.0"
    assert salesforce["missing"] == []
    assert stripe["state"] == "not connected"
    assert stripe["error"].startswith("STRIPE_API_KEY is not set; ")


def test_a_source_that_refuses_the_key_is_failed_and_the_other_one_still_answers(
    home: Home,
) -> None:
    wrong = home.with_env(STRIPE_API_KEY="sk_test_of_somebody_else")

    done = wrong.run("connections", "--check", code=1)

    rows = [line for line in done.stdout.splitlines() if line.startswith(("salesforce", "stripe"))]
    assert rows[0].split()[:2] == ["salesforce", "connected"]
    assert rows[1].split()[:2] == ["stripe", "failed"]
    assert "check STRIPE_API_KEY" in rows[1]
    assert "somebody_else" not in done.stdout


def test_without_check_nothing_is_asked(first_sync: Synced) -> None:
    nowhere = first_sync.home.with_env(STRIPE_API_URL="http://127.0.0.1:9")

    states = {c["source"]: c["state"] for c in nowhere.json("connections")}
    assert [states["salesforce"], states["stripe"]] == ["connected", "connected"]


def test_sandbox_env_prints_what_points_every_source_at_it(home: Home) -> None:
    printed = home.run("sandbox", "--env", "--port", "8799").stdout

    exported = dict(shlex.split(line)[1].split("=", 1) for line in printed.splitlines() if line)
    assert exported["STRIPE_API_URL"] == exported["SALESFORCE_API_URL"] == "http://127.0.0.1:8799"
    theirs = {name: value for name, value in home.env.items() if not name.endswith("_API_URL")}
    assert {name: exported[name] for name in theirs} == theirs
    shell = subprocess.run(
        ["sh", "-c", f'eval "$({REVREC} sandbox --env)"; printf %s "$SALESFORCE_PRIVATE_KEY"'],
        env={"PATH": home.environment["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shell.stdout == home.env["SALESFORCE_PRIVATE_KEY"]


def test_a_sandbox_says_where_it_serves_once_it_does_and_ends_quietly(home: Home) -> None:
    process = home.start("sandbox", "--port", "0")
    assert process.stderr
    origin = process.stderr.readline().split()[1]
    answer = requests.get(f"{origin}/_control", timeout=10)
    assert answer.json()["requests"] == {}
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (0, "")


def test_a_sandbox_whose_port_is_taken_says_so(home: Home) -> None:
    port = home.env["STRIPE_API_URL"].rpartition(":")[2]

    assert home.refuses("sandbox", "--port", port) == (
        f"port {port} on 127.0.0.1 cannot be used (Address already in use); choose another "
        "with --port"
    )
