"""Which fields a Salesforce org lets us select, from its descriptions and the mapping's needs.

Orgs differ: one with a single currency has no `CurrencyIsoCode`, custom fields exist only where
somebody made them, and a field that the integration user may not read is not described at all.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from revrec_pipeline.mapping.salesforce import (
    CURRENCY,
    HEADER,
    LINE,
    STANDARD,
    SalesforceSettings,
)

#: Raw object → Salesforce object.
OBJECTS: Mapping[str, str] = {HEADER: "Opportunity", LINE: "OpportunityLineItem"}
#: Parents whose names everybody may read who may read the child; they are not described for that.
_UNCHECKED = ("Account.Name", "Owner.Name")


@dataclass(frozen=True, slots=True)
class Selection:
    """What to select, and what the mapping would like and the org lacks."""

    paths: dict[str, list[str]]  # by raw object
    #: Standard fields, and default names of custom ones, as `Object.Field`.
    missing: tuple[str, ...]
    #: Complaints about settings that name a field which no object has.
    wrong: tuple[str, ...]


def described(settings: SalesforceSettings) -> list[str]:
    """The objects whose descriptions `select` needs."""
    places = [place for lookup in settings.lookups().values() for place in lookup]
    standard = [
        (name, path) for name, paths in STANDARD.items() for path in paths if path not in _UNCHECKED
    ]
    return sorted({_owner(name, path) for name, path in [*standard, *places]})


def select(fields: Mapping[str, set[str]], settings: SalesforceSettings) -> Selection:
    """Choose paths; `fields` are the names that each object of `described` has."""
    paths: dict[str, list[str]] = {}
    missing: list[str] = []
    wrong: list[str] = []
    for name, standard in STANDARD.items():
        paths[name] = [p for p in standard if p in _UNCHECKED or _has(fields, name, p)]
        missing += [_full(name, path) for path in standard if path not in paths[name]]
    if CURRENCY in fields[OBJECTS[HEADER]]:
        paths[HEADER].append(CURRENCY)
    for setting, places in settings.lookups().items():
        found = [(name, path) for name, path in places if _has(fields, name, path)]
        for name, path in found:
            if path not in paths[name]:
                paths[name].append(path)
        if found:
            continue
        if setting.partition(".")[0] in settings.model_fields_set:
            wrong.append(_complaint(setting, places, fields))
        else:
            missing.append(" or ".join(_full(name, path) for name, path in places))
    return Selection(paths, tuple(missing), tuple(wrong))


def _complaint(
    setting: str, places: tuple[tuple[str, str], ...], fields: Mapping[str, set[str]]
) -> str:
    field = places[0][1].rpartition(".")[2]
    owners = [_owner(name, path) for name, path in places]
    known = sorted({known for owner in owners for known in fields[owner]})
    by_lower_case = {known_name.lower(): known_name for known_name in known}
    near = by_lower_case.get(field.lower()) or next(
        iter(difflib.get_close_matches(field, known, n=1)), None
    )
    hint = f"; did you mean {near}?" if near else "; create it, or let the user read it"
    lack = f"neither {' nor '.join(owners)} has" if len(owners) > 1 else f"{owners[0]} lacks"
    return f"[sources.salesforce] {setting} names {field}, which {lack}{hint}"


def _has(fields: Mapping[str, set[str]], name: str, path: str) -> bool:
    return path.rpartition(".")[2] in fields[_owner(name, path)]


def _full(name: str, path: str) -> str:
    return f"{_owner(name, path)}.{path.rpartition('.')[2]}"


def _owner(name: str, path: str) -> str:
    """The Salesforce object that has the last field of a path."""
    return path.rpartition(".")[0] or OBJECTS[name]
