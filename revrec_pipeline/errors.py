"""Errors that a person reads. Each is one line that names the thing and what to do about it.

Every error that the command line may print derives from `RevrecError`; anything else is a bug and
keeps its traceback. No message may contain a secret.
"""

from datetime import datetime


class RevrecError(Exception):
    """A failure with a one-line explanation for the person who caused or can mend it."""

    exit_code = 1


class UsageError(RevrecError):
    """What was asked for makes no sense: an unknown source, a month that is no month."""

    exit_code = 2


class SettingsError(RevrecError):
    """A setting or an environment variable is missing, unknown or wrong."""

    exit_code = 2


class LakeError(RevrecError):
    """The lake cannot be written, or holds a file that is missing, truncated or not ours."""


class LedgerError(RevrecError):
    """The ledger cannot be opened, is of a newer schema, or refused a change of state."""


class LedgerBusyError(LedgerError):
    """Another process held the ledger until the deadline."""


class ContentBusyError(LedgerBusyError):
    """Another process is importing the same content."""


class SourceError(RevrecError):
    """A source system refused, failed, or answered something that its API does not promise.

    `code` is the sync error's code. `retry_after` is the number of seconds that the vendor asked
    for; `resets_at` is when a daily limit opens again. Only `retryable` errors may be tried again
    within the same run.
    """

    def __init__(
        self,
        source: str,
        message: str,
        *,
        code: str,
        retryable: bool = False,
        retry_after: float | None = None,
        resets_at: datetime | None = None,
    ) -> None:
        super().__init__(f"{source}: {message}")
        self.source = source
        self.code = code
        self.retryable = retryable
        self.retry_after = retry_after
        self.resets_at = resets_at


class SourceAuthError(SourceError):
    """The source refused the credentials or lacks a permission. Trying again cannot help."""

    def __init__(self, source: str, message: str) -> None:
        super().__init__(source, message, code="SYNC_AUTH")


class SourceSchemaError(SourceError):
    """A body is not what the API promises: HTML, cut off, a repeated page, a missing field."""

    def __init__(self, source: str, message: str, *, retryable: bool = False) -> None:
        super().__init__(source, message, code="SYNC_SCHEMA_DRIFT", retryable=retryable)


class SourceLimitError(SourceError):
    """A burst limit (retryable after some seconds) or a daily limit (not in this run)."""

    def __init__(
        self,
        source: str,
        message: str,
        *,
        retryable: bool,
        retry_after: float | None = None,
        resets_at: datetime | None = None,
    ) -> None:
        super().__init__(
            source,
            message,
            code="SYNC_RATE_LIMIT",
            retryable=retryable,
            retry_after=retry_after,
            resets_at=resets_at,
        )


class SourceTimeoutError(SourceError):
    """The source did not answer in time, or the connection broke, after all retries."""

    def __init__(self, source: str, message: str) -> None:
        super().__init__(source, message, code="SYNC_TIMEOUT", retryable=True)
