"""What the sandbox asks of a source: the interface between `server` and the vendors' modules."""

from collections.abc import Mapping
from typing import Any, Protocol

from starlette.responses import Response
from starlette.routing import BaseRoute


class CommandError(ValueError):
    """A command that cannot be done; answered with 400 and this text."""


class SandboxSource(Protocol):
    """One vendor's API over made-up data."""

    name: str

    @property
    def at_once(self) -> tuple[int, str] | None:
        """How many requests may run at once, and the fault that one more meets; None: no number."""

    def routes(self) -> list[BaseRoute]:
        """The vendor's real paths, with a last one for the vendor's answer to unknown paths."""

    def env(self, origin: str) -> dict[str, str]:
        """The environment that points the real client here."""

    def control(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """Do `add`, `edit`, `delete`, `story` or a command of the source's own.

        Raises:
            CommandError: the command names something that is not here.
        """

    def reset(self) -> None:
        """Back to the data that the sandbox starts with."""

    def fault_body(self, kind: str) -> Response:
        """The vendor's answer to a fault such as `429`, `500` or one of its own.

        Raises:
            CommandError: the vendor has no such answer.
        """
