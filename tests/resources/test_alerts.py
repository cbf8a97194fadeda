"""Alerts reach a real webhook and a real mail server, and a failure to send one is told."""

import pytest
from receivers import mail_server, webhook

from resources.alerts import WEBHOOK, AlertError, alert
from revrec_pipeline.settings import AlertSettings


def test_without_settings_an_alert_goes_to_the_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(WEBHOOK, raising=False)

    assert alert(AlertSettings(), "sync_stripe 2026-05 failed", "HTTP 500") == ["log"]
    assert "sync_stripe 2026-05 failed: HTTP 500" in caplog.text


def test_an_alert_reaches_the_webhook_and_every_address(monkeypatch: pytest.MonkeyPatch) -> None:
    with webhook(200) as (url, posted), mail_server() as (port, mails):
        monkeypatch.setenv(WEBHOOK, url)
        settings = AlertSettings(
            email_to=("a@x.example", "b@x.example"), smtp_host="127.0.0.1", smtp_port=port
        )

        assert alert(settings, "sync_xero failed", "no tenant") == ["log", "webhook", "e-mail"]

    assert posted == [{"text": "*sync_xero failed*\nno tenant"}]
    (mail,) = mails
    assert "Subject: revrec: sync_xero failed" in mail
    assert "To: a@x.example, b@x.example" in mail
    assert "no tenant" in mail


@pytest.mark.parametrize(
    ("url", "words"), [(None, "HTTP 404"), ("http://127.0.0.1:9/secret", "ConnectionError")]
)
def test_a_webhook_that_does_not_take_it_is_told_without_its_url(
    monkeypatch: pytest.MonkeyPatch, url: str | None, words: str
) -> None:
    with webhook(404) as (served, _):
        monkeypatch.setenv(WEBHOOK, url or served)

        with pytest.raises(AlertError, match=words) as said:
            alert(AlertSettings(), "x failed", "y")

    assert "secret" not in str(said.value)


def test_a_mail_server_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(WEBHOOK, raising=False)
    settings = AlertSettings(email_to=("a@x.example",), smtp_host="127.0.0.1", smtp_port=9)

    with pytest.raises(AlertError, match=r"smtp_host 127\.0\.0\.1:9 did not take the alert"):
        alert(settings, "x failed", "y")
