"""Runs that really fail, in a real instance, are told to a real webhook and a real mail server."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from email import message_from_string

import dagster as dg
import pytest
from conftest import Sandbox
from pipeline import Pipeline
from receivers import mail_server, webhook

from assets.context import IN_PROCESS_TAG
from resources.alerts import SMTP_PASSWORD, WEBHOOK
from revrec_pipeline import instances
from revrec_pipeline.sources import SOURCES

MAIL = """
[alerts]
email_to = ["books@acme.example"]
smtp_host = "127.0.0.1"
smtp_port = {port}
"""
# What each source's alert must say: the vendor's own reason, and what to look at.
REFUSED = {
    "salesforce": ("invalid_client_id", "SALESFORCE_CLIENT_ID"),
    "hubspot": ("Authentication credentials not found", "HUBSPOT_ACCESS_TOKEN"),
    "chargebee": ("Invalid api key", "CHARGEBEE_API_KEY"),
    "xero": ("invalid_client", "XERO_CLIENT_SECRET"),
    "quickbooks": ("invalid_client", "QUICKBOOKS_CLIENT_SECRET"),
    "netsuite": ("invalid_client", "NETSUITE_CERTIFICATE_ID"),
    "stripe": ("Invalid API Key provided", "STRIPE_API_KEY"),
    "sage_intacct": ("Incorrect Intacct XML Partner ID", "SAGE_INTACCT_SENDER_PASSWORD"),
}
SECRET = ("_TOKEN", "_SECRET", "_PASSWORD", "_KEY")


@pytest.fixture
def on_disk(
    make_pipeline: Callable[..., Pipeline], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], Pipeline]]:
    """Makes a pipeline whose instance is the one in its home, as for commands and the daemon."""
    monkeypatch.setenv("DAGSTER_HOME", "")  # so that it is as it was afterwards
    opened: list[dg.DagsterInstance] = []

    def make(toml: str = "") -> Pipeline:
        pipeline = make_pipeline(toml=toml)
        instances.prepare(pipeline.settings)
        opened.append(dg.DagsterInstance.get().__enter__())
        return replace(pipeline, instance=opened[-1])

    yield make
    for instance in opened:
        instance.dispose()


class Watch:
    """The sensor's ticks, with what the daemon keeps between them."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._cursor: str | None = None
        self.told()  # the first tick only notes where it begins

    def told(self) -> list[str | None]:
        """Tick until nothing is left; for each failed run, the error of telling it, if any."""
        repository = self._pipeline.definitions.get_repository_def()
        sensor, met = repository.get_sensor_def("alert_on_failure"), list[str | None]()
        while True:
            context = dg.build_sensor_context(
                instance=self._pipeline.instance, repository_def=repository, cursor=self._cursor
            )
            found = sensor.evaluate_tick(context)
            self._cursor = found.cursor
            if not found.dagster_run_reactions:
                return met
            for one in found.dagster_run_reactions:
                met.append(one.error.to_string() if one.error else None)


def wrong_keys(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> list[str]:
    """Make every log-in fail; returns all secrets, as they were and as they are."""
    secrets = []
    for name, value in sandbox.env.items():
        if name.endswith((*SECRET, "_CLIENT_ID")):
            wrong = value if "PRIVATE" in name else f"{value}-wrong"
            monkeypatch.setenv(name, wrong)
            if name.endswith(SECRET):
                secrets += [value, wrong]
    assert len(secrets) > 2 * len(REFUSED)
    return secrets


def test_every_failed_run_is_told_once_with_its_reason_and_without_a_secret(
    on_disk: Callable[[str], Pipeline],
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with webhook() as (url, posted), mail_server() as (port, mails):
        pipeline = on_disk(MAIL.format(port=port))
        watch = Watch(pipeline)
        secrets = [*wrong_keys(monkeypatch, sandbox), url]
        monkeypatch.setenv(WEBHOOK, url)
        runs = {
            source: pipeline.run(f"sync_{source}", "2026-05", may_fail=True).run_id
            for source in REFUSED
        }

        assert watch.told() == [None] * len(REFUSED)
        assert watch.told() == []

    texts = [one["text"] for one in posted]
    for text, (source, reason) in zip(texts, REFUSED.items(), strict=True):
        first, *_, last = text.splitlines()
        assert first == f"*sync_{source} 2026-05 failed*"
        assert all(words in text for words in reason), text
        assert last == f"Run {runs[source]}"
    read = [message_from_string(mail) for mail in mails]
    bodies = [(one.get_payload(decode=True) or b"").decode() for one in read]
    for mail, body, text in zip(read, bodies, texts, strict=True):
        assert (f"*{str(mail['Subject']).removeprefix('revrec: ')}*", mail["To"]) == (
            text.splitlines()[0],
            "books@acme.example",
        )
        assert body.splitlines() == text.splitlines()[1:]
    everywhere = "\n".join([*texts, *bodies, caplog.text])
    assert [secret for secret in secrets if secret in everywhere] == []


def test_a_run_whose_worker_was_killed_is_told_and_a_commands_is_not(
    on_disk: Callable[[], Pipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    with webhook() as (url, posted):
        pipeline = on_disk()
        watch = Watch(pipeline)
        monkeypatch.setenv(WEBHOOK, url)
        job = pipeline.definitions.resolve_job_def("changes_stripe")
        for tags in ({}, {IN_PROCESS_TAG: "yes"}):
            run = pipeline.instance.create_run_for_job(
                job, tags=tags, status=dg.DagsterRunStatus.STARTED
            )
            pipeline.instance.report_run_failed(run, "Run worker has crashed")

        assert watch.told() == [None, None]  # it has looked at both

    (told,) = posted
    assert told["text"].startswith("*changes_stripe failed*\nRun worker has crashed\nRun ")


def test_assets_that_were_chosen_in_the_ui_are_told_by_their_source(
    on_disk: Callable[[], Pipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    with webhook() as (url, posted):
        pipeline = on_disk()
        watch = Watch(pipeline)
        monkeypatch.setenv(WEBHOOK, url)
        monkeypatch.setenv("STRIPE_API_KEY", "sk_test_wrong")
        chosen = [f"raw/stripe/{name}" for name in SOURCES["stripe"].objects]
        pipeline.run("__ASSET_JOB", "2026-05", assets=[*chosen, "stripe/invoices"], may_fail=True)

        assert watch.told() == [None]

    assert [one["text"].splitlines()[0] for one in posted] == ["*stripe 2026-05 failed*"]


def test_an_alert_that_could_not_be_sent_fails_the_tick_without_a_secret_and_not_the_next(
    on_disk: Callable[[str], Pipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    with webhook() as (url, posted), mail_server() as (port, mails):
        pipeline = on_disk(MAIL.format(port=port))
        watch = Watch(pipeline)
        monkeypatch.setenv(SMTP_PASSWORD, "mail-Pa55word")  # which needs STARTTLS, not offered here
        monkeypatch.setenv(WEBHOOK, url)
        monkeypatch.setenv("STRIPE_API_KEY", "sk_test_wrong")
        for month in ("2026-05", "2026-06"):
            pipeline.run("sync_stripe", month, may_fail=True)

        met = watch.told()

    assert len(met) == 2
    for error in met:
        assert error
        assert f"[alerts] smtp_host 127.0.0.1:{port} did not take the alert" in error
        assert "mail-Pa55word" not in error
        assert url not in error
    assert [one["text"].splitlines()[0] for one in posted] == [
        "*sync_stripe 2026-05 failed*",
        "*sync_stripe 2026-06 failed*",
    ]
    assert mails == []
