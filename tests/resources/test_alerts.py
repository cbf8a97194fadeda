"""Alerts reach a real webhook and a real mail server, and a failure to send one is told."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from resources.alerts import WEBHOOK, AlertError, alert
from revrec_pipeline.settings import AlertSettings


@contextmanager
def webhook(status: int) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A server that takes webhooks: its URL, and what it got."""
    got: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/services/T0/secret", got
    server.shutdown()


@contextmanager
def mail_server() -> Iterator[tuple[int, list[str]]]:
    """A server that speaks as much SMTP as a sender needs: its port, and the mails it got."""
    got: list[str] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, connection.makefile("rwb") as wire:

            def say(line: bytes) -> None:
                wire.write(line + b"\r\n")
                wire.flush()

            say(b"220 test")
            while line := wire.readline():
                if line.upper().startswith(b"DATA"):
                    say(b"354 go on")
                    lines = []
                    while (part := wire.readline()) != b".\r\n":
                        lines.append(part.decode())
                    got.append("".join(lines))
                say(b"221 bye" if line.upper().startswith(b"QUIT") else b"250 fine")

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1], got
    listener.close()


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
