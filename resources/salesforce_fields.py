"""Which fields a Salesforce org lets us select, from its descriptions and the mapping's needs.

Orgs differ: one with a single currency has no `CurrencyIsoCode`, custom fields exist only where
somebody made them, one without CPQ lacks whole objects, and what the integration user may not read
is not described at all.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from revrec_pipeline.mapping.salesforce_reads import (
    COMMISSION,
    CURRENCY,
    CURRENCY_TYPE,
    DATED_RATE,
    NAMED,
    Place,
    documents,
    line_source,
    lookups,
    owner,
    payee_name,
    salesforce_object,
    standard_paths,
)
from revrec_pipeline.mapping.salesforce_settings import SalesforceSettings

#: What an org may lack as a whole: one with a single currency, or without dated rates.
_OPTIONAL = (CURRENCY_TYPE, DATED_RATE)
#: Of each Salesforce object that there is: field → the relationship that a lookup field opens.
Descriptions: TypeAlias = Mapping[str, Mapping[str, str | None]]


@dataclass(frozen=True, slots=True)
class Selection:
    """What to select, and what the mapping would like and the org lacks."""

    paths: dict[str, list[str]]  # by raw object; one without paths cannot be read
    #: Standard fields, and default names of custom ones, as `Object.Field`.
    missing: tuple[str, ...]
    #: Complaints about settings that name a field or need an object which the org lacks.
    wrong: tuple[str, ...]


def described(settings: SalesforceSettings) -> list[str]:
    """The objects whose descriptions `select` needs."""
    standard = [(name, path) for name, paths in standard_paths(settings).items() for path in paths]
    looked_up = [place for places in lookups(settings).values() for place in places]
    owners = {owner(*place, settings) for place in standard if place[1].split(".")[-1] != "Name"}
    owners |= {owner(*place, settings) for place in looked_up}
    return sorted(owners | {salesforce_object(name, settings) for name, _ in standard})


def select(org: Descriptions, settings: SalesforceSettings) -> Selection:
    """Choose paths; `org` has the objects of `described` that there are."""
    paths: dict[str, list[str]] = {}
    missing: list[str] = []
    wrong = _lacking_objects(org, settings)
    if wrong:
        return Selection(paths, (), tuple(wrong))

    def has(name: str, path: str) -> bool:
        object_ = owner(name, path, settings)
        field = path.rpartition(".")[2]
        return field in org.get(object_, {}) or (object_ in NAMED and field == "Name")

    def full(name: str, path: str) -> str:
        return f"{owner(name, path, settings)}.{path.rpartition('.')[2]}"

    for name, standard in standard_paths(settings).items():
        paths[name] = [path for path in standard if has(name, path)]
        if name not in _OPTIONAL:
            missing += [full(name, path) for path in standard if path not in paths[name]]
    for document in documents(settings):
        name = document.header.name
        if CURRENCY in org[salesforce_object(name, settings)]:
            paths[name].append(CURRENCY)
    for setting, places in lookups(settings).items():
        found = [(name, path) for name, path in places if has(name, path)]
        for name, path in found:
            if path not in paths[name]:
                paths[name].append(path)
        if found:
            continue
        if setting.partition(".")[0] in settings.model_fields_set:
            wrong.append(_complaint(setting, places, org, settings))
        else:
            missing.append(" or ".join(full(name, path) for name, path in places))
    if COMMISSION in paths and not wrong:
        payee = org[salesforce_object(COMMISSION, settings)][settings.commission_fields["payee"]]
        if payee:  # else a text, which is the name itself
            paths[COMMISSION].append(payee_name(settings))
    return Selection(paths, tuple(dict.fromkeys(missing)), tuple(wrong))


def _lacking_objects(org: Descriptions, settings: SalesforceSettings) -> list[str]:
    """What a setting asks for and this org has not at all, such as the objects of CPQ."""
    found: list[str] = []
    for name in standard_paths(settings):
        object_ = salesforce_object(name, settings)
        if name not in _OPTIONAL and object_ not in org:
            found.append(
                f"[sources.salesforce] {_asked_by(name, settings)} needs the object {object_}, "
                "which this org lacks or the integration user may not read"
            )
    return found


def _asked_by(name: str, settings: SalesforceSettings) -> str:
    """The setting on whose account a raw object is read."""
    sales = line_source(settings)
    if name in (sales.header, sales.line):
        return f'line_source = "{settings.line_source}"'
    if name == COMMISSION:
        return f'commission_object = "{settings.commission_object}"'
    return "commissions = true"


def _complaint(
    setting: str, places: tuple[Place, ...], org: Descriptions, settings: SalesforceSettings
) -> str:
    field = places[0][1].rpartition(".")[2]
    owners = list(dict.fromkeys(owner(name, path, settings) for name, path in places))
    known = sorted({known for each in owners for known in org.get(each, {})})
    by_lower_case = {known_name.lower(): known_name for known_name in known}
    near = by_lower_case.get(field.lower()) or next(
        iter(difflib.get_close_matches(field, known, n=1)), None
    )
    hint = f"; did you mean {near}?" if near else "; create it, or let the user read it"
    lack = f"neither {' nor '.join(owners)} has" if len(owners) > 1 else f"{owners[0]} lacks"
    return f"[sources.salesforce] {setting} names {field}, which {lack}{hint}"
