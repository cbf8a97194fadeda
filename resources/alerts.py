"""Alerts: a line to a Slack-compatible webhook and an e-mail; to the log in any case.

An alert that cannot be sent must not hide what it tells: the failure to send it is raised after the
line has been logged.
"""

import logging
import os
import smtplib
from email.message import EmailMessage

import requests

from resources.http import CONNECT_TIMEOUT
from revrec_pipeline.errors import RevrecError
from revrec_pipeline.settings import AlertSettings

WEBHOOK = "REVREC_ALERT_WEBHOOK"
SMTP_USERNAME, SMTP_PASSWORD = "REVREC_SMTP_USERNAME", "REVREC_SMTP_PASSWORD"

_log = logging.getLogger(__name__)


class AlertError(RevrecError):
    """An alert could not be sent."""


def alert(settings: AlertSettings, subject: str, text: str) -> list[str]:
    """Tell people; returns the ways that were taken: log, webhook, e-mail.

    Raises:
        AlertError: a way that is set up failed. The message names neither URL nor password.
    """
    _log.error("%s: %s", subject, text)
    ways = ["log"]
    if url := os.environ.get(WEBHOOK):
        _post(url, f"*{subject}*\n{text}")
        ways.append("webhook")
    if settings.email_to:
        _mail(settings, subject, text)
        ways.append("e-mail")
    return ways


def _post(url: str, text: str) -> None:
    try:
        answer = requests.post(url, json={"text": text}, timeout=CONNECT_TIMEOUT)
    except requests.RequestException as error:
        raise AlertError(
            f"{WEBHOOK} could not be reached ({type(error).__name__}); check its URL"
        ) from None  # the exception's text holds the URL, which is a secret
    if not answer.ok:
        raise AlertError(f"{WEBHOOK} answered HTTP {answer.status_code}; check its URL")


def _mail(settings: AlertSettings, subject: str, text: str) -> None:
    message = EmailMessage()
    message["Subject"] = f"revrec: {subject}"
    message["From"] = settings.email_from
    message["To"] = ", ".join(settings.email_to)
    message.set_content(text)
    where = f"[alerts] smtp_host {settings.smtp_host}:{settings.smtp_port}"
    try:
        with smtplib.SMTP(
            settings.smtp_host, settings.smtp_port, timeout=CONNECT_TIMEOUT
        ) as server:
            if password := os.environ.get(SMTP_PASSWORD):
                server.starttls()
                server.login(os.environ.get(SMTP_USERNAME, settings.email_from), password)
            server.send_message(message)
    except (OSError, smtplib.SMTPException) as error:
        raise AlertError(f"{where} did not take the alert: {type(error).__name__}") from error
