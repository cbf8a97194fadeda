"""Requests to one Chargebee site: key, pace, limits, lists and their paging, and what errors mean.

Connections, retries and reading are `rest`'s. The official client is not used: it opens a
connection per call, retries a 429 for ever without waiting, and its models are 20 to 60 times
slower than the bytes (reference/chargebee.md section 5). Which requests make a month or a window is
in `chargebee`.
"""

import base64
import re
from collections.abc import Iterator
from typing import Generic, Self, TypeVar
from urllib.parse import urlencode

import msgspec
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from resources.http import Sleep
from resources.rest import (
    PASSING,
    Answer,
    Passing,
    Received,
    RestApi,
    Verdict,
    json_reader,
)
from resources.traffic import Traffic, Window
from revrec_pipeline.errors import (
    SettingsError,
    SourceAuthError,
    SourceError,
    SourceLimitError,
    SourceSchemaError,
)

SOURCE = "chargebee"
API_VERSION = "v2"
#: Connections, and requests in flight. Chargebee caps both without publishing the number.
CONCURRENCY = 4
#: What a list and the lines of a huge document hold at most.
PAGE_SIZE, LINES_PAGE = 100, 300
#: Seconds to wait after a 429 that does not say how long; a block lasts about a minute.
BLOCKED = 15.0

T = TypeVar("T")


class ChargebeeSecrets(BaseSettings):
    """The environment variables of the source."""

    model_config = SettingsConfigDict(env_prefix="CHARGEBEE_", extra="ignore", frozen=True)

    #: Name of the site, `acme` or `acme-test`, or the host that it answers at.
    site: str
    #: A read-only key is enough.
    api_key: SecretStr = Field(min_length=1)
    #: Origin that every request goes to instead of the site's.
    api_url: str | None = None

    @field_validator("site")
    @classmethod
    def _name(cls, site: str) -> str:
        """The host without its last part, which all sites share; `acme.eu` is one in Europe."""
        name = site.strip().lower().removeprefix("https://").rstrip("/")
        name = name.removesuffix(".chargebee.com")
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]*(\.[a-z]+)?", name):
            raise ValueError("no site name")
        return name

    @property
    def origin(self) -> str:
        """Where the site answers."""
        return f"https://{self.site}.chargebee.com"

    @classmethod
    def from_env(cls) -> Self:
        """Read them.

        Raises:
            SettingsError: one is missing or wrong; the first of them is named.
        """
        try:
            return cls.model_validate({})
        except ValidationError as error:
            wrong = error.errors(include_url=False, include_input=False)[0]
            name = f"CHARGEBEE_{str(wrong['loc'][0]).upper()}"
            if wrong["type"] == "value_error":
                raise SettingsError(
                    f"{name} is no site; write it like acme, as in https://acme.chargebee.com"
                ) from error
            raise SettingsError(
                f"{name} is not set; set CHARGEBEE_SITE to the name in https://acme.chargebee.com "
                "and CHARGEBEE_API_KEY to a read-only key of that site"
            ) from error


class ForbiddenError(SourceAuthError):
    """The key is right but may not read this."""


class NotFoundError(SourceError):
    """There is no such record (any more)."""

    def __init__(self, message: str) -> None:
        super().__init__(SOURCE, message, code="SYNC_SCHEMA_DRIFT")


class UnavailableError(SourceError):
    """The site has not switched this on, or its product catalogue is of another version."""

    def __init__(self, message: str) -> None:
        super().__init__(SOURCE, message, code="SYNC_SCHEMA_DRIFT")


class _Error(msgspec.Struct):
    message: str = "no reason given"
    api_error_code: str | None = None


class _List(msgspec.Struct, Generic[T]):
    elements: list[T] = msgspec.field(name="list")
    next_offset: str | None = None


class ChargebeeApi:
    """GET requests of one site, from any thread."""

    def __init__(
        self, secrets: ChargebeeSecrets, *, requests_per_minute: int, sleep: Sleep
    ) -> None:
        self._origin = secrets.origin
        key = f"{secrets.api_key.get_secret_value()}:".encode()
        authorization = {"Authorization": f"Basic {base64.b64encode(key).decode()}"}
        # A month takes half a dozen requests, which need no spaces between them.
        self.traffic = Traffic(CONCURRENCY, Window(requests_per_minute, 60, sleep), sleep=sleep)
        self._rest = RestApi(
            SOURCE,
            self._origin,
            api_url=secrets.api_url,
            authorize=lambda _method, _url: authorization,
            judge=judge,
            traffic=self.traffic,
        )

    def close(self) -> None:
        """Close all connections."""
        self._rest.close()

    def get(self, path: str, shape: type[T], **params: str) -> tuple[Answer, T]:
        """GET a path below /api/v2: the bytes, and of them what `shape` names.

        Raises:
            NotFoundError: there is no such record.
            UnavailableError: the site does not offer this.
            SourceError: any other failure, after the retries that it deserves.
        """
        path = f"/api/{API_VERSION}{path}"
        query = f"?{urlencode(params)}" if params else ""
        readable = f"?{'&'.join(f'{name}={value}' for name, value in params.items())}"
        # The lake keeps the request with the site's own host: links to records are made from it.
        name = f"GET {self._origin}{path}{readable if params else ''}"
        return self._rest.call("GET", f"{path}{query}", json_reader(shape), name=name)

    def page(self, path: str, shape: type[T], **params: str) -> tuple[Answer, list[T], str | None]:
        """One page of a list, and the offset of the next one."""
        page: type[_List[T]] = _List[shape]  # type: ignore[valid-type]
        answer, found = self.get(path, page, limit=str(PAGE_SIZE), **params)
        return answer, found.elements, found.next_offset

    def pages(self, path: str, shape: type[T], **params: str) -> Iterator[tuple[Answer, list[T]]]:
        """All pages of a list; `next_offset` is passed back as it came.

        Raises:
            SourceSchemaError: a list leads back to a page that it has shown.
        """
        shown: set[str] = set()
        cursor: dict[str, str] = {}
        while True:
            answer, elements, following = self.page(path, shape, **params, **cursor)
            yield answer, elements
            if following is None:
                return
            if following in shown:
                raise SourceSchemaError(
                    SOURCE, f"{answer.request} leads back to a page that was read already"
                )
            shown.add(following)
            cursor = {"offset": following}


def judge(request: str, received: Received) -> Verdict:
    """What an answer of Chargebee's means; gateways in front of it answer 502 and 504 with HTML."""
    if 200 <= received.status < 300:
        return None
    try:
        error = msgspec.json.decode(received.body, type=_Error)
    except msgspec.MsgspecError:
        error = _Error()
        if received.status not in PASSING:
            return SourceSchemaError(
                SOURCE, f"{request} answered {received.summary}, and no error of Chargebee's"
            )
    reason = f"HTTP {received.status} ({error.api_error_code or 'no reason given'})"
    if received.status == 429:
        limit = SourceLimitError(
            SOURCE,
            f"{request} is limited for too long: {reason}; lower requests_per_minute",
            retryable=True,
        )
        return Passing(reason, limit, None if "Retry-After" in received.headers else BLOCKED)
    if received.status in PASSING:
        return Passing(reason)
    return _refusal(request, received.status, error)


def _refusal(request: str, status: int, error: _Error) -> SourceError:
    """An answer that will not change."""
    if status == 401:
        return SourceAuthError(
            SOURCE,
            f"the API refused the key ({error.message}); check CHARGEBEE_API_KEY, which belongs to "
            "one site, and CHARGEBEE_SITE",
        )
    if error.api_error_code == "site_not_found":
        return SourceAuthError(
            SOURCE, f"there is no such site ({error.message}); check CHARGEBEE_SITE"
        )
    if status == 403:
        return ForbiddenError(
            SOURCE, f"{request} is not permitted ({error.message}); give the key read access to it"
        )
    if error.api_error_code == "configuration_incompatible":
        return UnavailableError(f"{request} is not offered by this site: {error.message}")
    if status == 404:
        return NotFoundError(f"{request}: {error.message}")
    return SourceSchemaError(SOURCE, f"{request} was refused: {error.message}")
