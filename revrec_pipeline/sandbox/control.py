"""`/_control`: the sandbox's remote control, for tests, the demo and the curious."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from revrec_pipeline.sandbox.clock import Clock
from revrec_pipeline.sandbox.faults import WIRE_KINDS, Fault, Faults
from revrec_pipeline.sandbox.source import CommandError, SandboxSource


class Control:
    """Commands on the clock, the faults and the sources."""

    def __init__(self, clock: Clock, faults: Faults, sources: Mapping[str, SandboxSource]) -> None:
        self._clock = clock
        self._faults = faults
        self._sources = sources
        #: Commands that show later: when, what they are stamped with, and the command.
        self._later: list[tuple[datetime, datetime, Mapping[str, Any]]] = []

    async def endpoint(self, request: Request) -> Response:
        """GET: counters and time. POST: one command."""
        if request.method == "GET":
            return JSONResponse(self.state())
        try:
            command = msgspec.json.decode(await request.body(), type=dict[str, Any])
            return JSONResponse(self.run(command))
        except (CommandError, msgspec.MsgspecError) as error:
            return JSONResponse({"error": str(error)}, status_code=400)

    def state(self) -> dict[str, Any]:
        """The clock; since the last reset, requests by path, most at once and most in a time."""
        return {
            "now": self._clock.now().isoformat(),
            "requests": {name: dict(paths) for name, paths in self._faults.requests.items()},
            "most_at_once": dict(self._faults.most_at_once),
            "most_in": {str(seconds): self._faults.most_in(seconds) for seconds in (1, 10, 60)},
        }

    def settle(self) -> None:
        """Show what was done earlier and becomes visible by now.

        What is refused by then, as that a deleted record be edited, has never happened.
        """
        now = self._clock.now()
        due = [each for each in self._later if each[0] <= now]
        self._later = [each for each in self._later if each[0] > now]
        for _, stamped, command in due:
            with suppress(CommandError):
                self._at(stamped, command)

    def _at(self, stamped: datetime, command: Mapping[str, Any]) -> dict[str, Any]:
        with self._clock.held_at(stamped):
            return self.run(command)

    def run(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """Do one command and say what it did.

        `as_of` does a `command` as if it had been done `at` some instant; `visible_in` seconds
        after that it shows. `mend` disarms all faults.

        Raises:
            CommandError: it names an operation, a source or a record that is not here.
        """
        match command.get("op"):
            case "reset":
                self._clock.reset(behind=float(command.get("behind", 0)))
                self._later.clear()
                self._faults.reset()
                for source in self._sources.values():
                    source.reset()
                return {"ok": True}
            case "advance":
                self._clock.advance(float(command["seconds"]))
                return {"now": self._clock.now().isoformat()}
            case "as_of":
                at = datetime.fromisoformat(command["at"])
                shown = at + timedelta(seconds=float(command.get("visible_in", 0)))
                if shown <= self._clock.now():
                    return self._at(at, command["command"])
                self._later.append((shown, at, command["command"]))
                return {"visible_at": shown.isoformat()}
            case "mend":
                self._faults.armed.clear()
                return {"ok": True}
            case "fault":
                fault = Fault.from_command(command)
                source = self._source(fault.source)
                if fault.kind not in WIRE_KINDS:
                    source.fault_body(fault.kind)  # refuses a kind that it does not know
                self._faults.armed.append(fault)
                return {"ok": True}
            case "story":
                named = command.get("source")
                tellers = [self._source(named)] if named else list(self._sources.values())
                return {source.name: source.control(command) for source in tellers}
            case _:
                return self._source(command.get("source")).control(command)

    def _source(self, name: object) -> SandboxSource:
        if not isinstance(name, str) or name not in self._sources:
            raise CommandError(f"no source {name!r}; here are {', '.join(self._sources)}")
        return self._sources[name]
