"""What a HubSpot portal lets us read: properties, stages, scopes. Records are read in `hubspot`."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from resources.hubspot_api import SOURCE, HubspotApi, MissingScopeError
from revrec_pipeline.errors import SettingsError, SourceSchemaError
from revrec_pipeline.mapping.hubspot import STANDARD, HubspotSettings
from revrec_pipeline.mapping.hubspot_records import (
    COMPANY,
    DEAL,
    INVOICE,
    LINE,
    PLURALS,
    PRODUCT,
)

#: Without these a document cannot be read; a portal that lacks one has changed under us.
REQUIRED: Mapping[str, tuple[str, ...]] = {
    DEAL: ("dealstage", "pipeline", "closedate", "createdate", "hs_lastmodifieddate"),
    LINE: ("hs_product_id", "hs_sku", "price", "amount", "hs_lastmodifieddate"),
    COMPANY: ("name",),
    PRODUCT: ("hs_sku",),
    INVOICE: ("hs_number", "hs_invoice_status", "hs_invoice_date", "hs_lastmodifieddate"),
}


class _Named(msgspec.Struct):
    name: str


class _Names(msgspec.Struct):
    results: list[_Named]


class _Stage(msgspec.Struct):
    id: str
    label: str = ""


class _Pipeline(msgspec.Struct):
    id: str
    label: str = ""
    stages: list[_Stage] = []


class Pipelines(msgspec.Struct):
    """All deal pipelines."""

    results: list[_Pipeline]


class _Anything(msgspec.Struct):
    results: list[msgspec.Raw]


@dataclass(slots=True)
class Selection:
    """Which properties to ask for, by raw object, and what the portal lacks."""

    properties: dict[str, list[str]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)  # complaints about settings


def documents(settings: HubspotSettings) -> tuple[str, ...]:
    """The raw objects that these settings pull as documents."""
    return (DEAL, INVOICE) if settings.invoices else (DEAL,)


def _described(settings: HubspotSettings) -> tuple[str, ...]:
    return (*documents(settings), LINE, COMPANY, PRODUCT)


def select(api: HubspotApi, settings: HubspotSettings) -> Selection:
    """Hold what the settings want against what the portal has.

    HubSpot answers an unknown property with nothing, so that a renamed one would pass for an empty
    one. New properties do not matter: only what is named is asked for (airbyte#36352).

    Raises:
        SourceSchemaError: a property is gone without which a document cannot be read.
    """
    there: dict[str, set[str]] = {}
    for name in _described(settings):
        _, found = api.get(f"/crm/properties/{{}}/{PLURALS[name]}", _Names)
        there[name] = {one.name for one in found.results}
        for wanted in REQUIRED[name]:
            if wanted not in there[name]:
                raise SourceSchemaError(
                    SOURCE,
                    f"{PLURALS[name]} have no property {wanted} that the token may read; nothing "
                    "was pulled, for they cannot be read without it",
                )
    selection = Selection()
    wanted_by_object = settings.properties(STANDARD)
    for name, names in there.items():
        selection.properties[name] = [one for one in wanted_by_object[name] if one in names]
    for setting, places in settings.lookups().items():
        asked = [(name, one) for name, one in places if name in there]
        if not asked or any(one in there[name] for name, one in asked):
            continue
        named = " or ".join(f"{name}.{one}" for name, one in asked)
        if setting.partition(".")[0] in settings.model_fields_set:
            selection.wrong.append(
                f"sources.hubspot.{setting} names {named}, which the portal does not have"
            )
        else:
            selection.missing.append(f"property {named} ({setting})")
    return selection


def missing_scopes(api: HubspotApi, settings: HubspotSettings) -> list[str]:
    """What the token may not ask for of what these settings need."""
    paths = [f"/crm/objects/{{}}/{PLURALS[name]}" for name in _described(settings)]
    missing: list[str] = []
    for path in (*paths, "/crm/owners/{}"):
        try:
            api.get(path, _Anything, limit="1")
        except MissingScopeError as error:
            missing += error.named
    if settings.commissions:
        try:
            next(api.splits(["1"]))
        except MissingScopeError as error:
            missing += error.named
    return missing


def check_stages(api: HubspotApi, wanted: tuple[str, ...]) -> None:
    """Hold `closed_stages` against the pipelines.

    Raises:
        SettingsError: no pipeline has such a stage.
    """
    _, found = api.get("/crm/pipelines/{}/deals", Pipelines)
    names: set[str] = set()
    for pipeline in found.results:
        for stage in pipeline.stages:
            own = {stage.id, stage.label.strip()}
            names |= own
            names |= {f"{p}/{s}" for p in (pipeline.id, pipeline.label.strip()) for s in own}
    for one in wanted:
        if one not in names:
            labels = dict.fromkeys(s.label.strip() for p in found.results for s in p.stages)
            raise SettingsError(
                f"sources.hubspot.closed_stages names {one!r}, which no deal pipeline has; there "
                f"are {', '.join(labels)}"
            )
