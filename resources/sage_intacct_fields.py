"""Which fields a Sage Intacct company lets us select, from its object definitions.

Companies differ: one without revenue management has no dates on its lines, one with a single
currency no `CURRENCY`, and custom fields exist only where somebody made them.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from revrec_pipeline.mapping.sage_intacct_settings import (
    LINES,
    OBJECTS,
    PARENT,
    STANDARD,
    SageIntacctSettings,
)

#: What a page's index needs of a document.
_KEY_FIELDS = ("RECORDNO", "WHENCREATED", "AUWHENCREATED", "WHENMODIFIED")


@dataclass(frozen=True, slots=True)
class Selection:
    """What to select, and what the mapping would like and the company lacks."""

    fields: Mapping[str, tuple[str, ...]]  # by raw object
    missing: tuple[str, ...]  # fields that are read where there are any, as `ARINVOICE.CURRENCY`
    needed: tuple[str, ...]  # of those, fields without which nothing can be read
    wrong: tuple[str, ...]  # complaints about settings that name a field which no object has


def read_objects(settings: SageIntacctSettings) -> list[str]:
    """The raw objects that these settings read."""
    return [name for kind in settings.kinds for name in (kind, LINES[kind])]


def described(settings: SageIntacctSettings) -> list[str]:
    """Intacct's objects whose definitions `select` needs."""
    related = {
        path.partition(".")[0]
        for places in settings.lookups().values()
        for _, path in places
        if "." in path
    }
    return [*(OBJECTS[name] for name in read_objects(settings)), *sorted(related)]


def select(known: Mapping[str, set[str]], settings: SageIntacctSettings) -> Selection:
    """Choose fields; `known` are the names that each object of `described` has."""

    def has(name: str, path: str) -> bool:
        owner, _, field = path.rpartition(".")
        return field in known[owner or OBJECTS[name]]

    fields: dict[str, list[str]] = {}
    missing: list[str] = []
    needed: list[str] = []
    for name in read_objects(settings):
        fields[name] = [each for each in STANDARD[name] if has(name, each)]
        lacking = [each for each in STANDARD[name] if each not in fields[name]]
        essential = ("RECORDNO", PARENT[name]) if name in PARENT else _KEY_FIELDS
        missing += [f"{OBJECTS[name]}.{each}" for each in lacking]
        needed += [f"{OBJECTS[name]}.{each}" for each in lacking if each in essential]
    wrong: list[str] = []
    for setting, places in settings.lookups().items():
        found = [(name, path) for name, path in places if has(name, path)]
        for name, path in found:
            if path not in fields[name]:
                fields[name].append(path)
        if not found:
            wrong.append(_complaint(setting, places, known))
    return Selection(
        {name: tuple(chosen) for name, chosen in fields.items()},
        tuple(missing),
        tuple(needed),
        tuple(wrong),
    )


def _complaint(
    setting: str, places: tuple[tuple[str, str], ...], known: Mapping[str, set[str]]
) -> str:
    owner, _, field = places[0][1].rpartition(".")
    owners = [owner] if owner else list(dict.fromkeys(OBJECTS[name] for name, _ in places))
    there = {each for name in owners for each in known[name]}
    close = difflib.get_close_matches(field, sorted(there), n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"[sources.sage_intacct] {setting}: no field {field!r} in {' nor '.join(owners)}{hint}"
