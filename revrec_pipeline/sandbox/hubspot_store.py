"""The records of the sandbox's HubSpot portal, and what happens to them.

Association changes, archived lines and calculated properties leave a deal's `hs_lastmodifieddate`
alone, as in HubSpot (airbyte#27199, #30465, estuary#3515); archiving leaves a record's own one
alone, too (airbyte#19838). How requests read the records is in `hubspot_queries`.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal

from revrec_pipeline.currency import exponent
from revrec_pipeline.sandbox.hubspot_schema import (
    ASSOCIATION_TYPES,
    COMPANY_CURRENCY,
    PRIMARY,
    TYPES,
    stage_of,
)
from revrec_pipeline.sandbox.source import CommandError

Properties = dict[str, str | None]
#: HubSpot's first ids per object type; each further record's is 7 higher.
_FIRST_IDS = {
    "deals": 30100000003,
    "line_items": 41200000009,
    "companies": 22300000005,
    "products": 15400000001,
    "invoices": 44500000007,
    "deal_split": 31600000002,
}
_PAYMENTS_A_YEAR = {
    "monthly": 12,
    "quarterly": 4,
    "per_six_months": 2,
    "annually": 1,
}


@dataclass(slots=True)
class Record:
    """One record; `seen` is what the search index shows until `visible_at`."""

    id: str
    properties: Properties
    created: datetime
    updated: datetime
    archived_at: datetime | None = None
    visible_at: datetime | None = None
    seen: tuple[Properties, datetime] | None = None
    values: Properties | None = None  # what `shown` made last


@dataclass(slots=True)
class Portal:
    """All records of one portal."""

    records: dict[str, dict[str, Record]] = field(
        default_factory=lambda: {kind.name: {} for kind in TYPES}
    )
    #: (from, to) → id → ids, in the order in which they were associated, with the type ids.
    links: dict[tuple[str, str], dict[str, dict[str, list[int]]]] = field(
        default_factory=lambda: {pair: {} for pair in ASSOCIATION_TYPES}
    )
    merged: dict[tuple[str, str], str] = field(default_factory=dict)  # loser → winner
    index_lag: timedelta = timedelta()
    changed: bool = False
    _numbers: dict[str, "itertools.count[int]"] = field(
        default_factory=lambda: {
            name: itertools.count(first, 7) for name, first in _FIRST_IDS.items()
        }
    )

    def insert(self, kind: str, properties: Mapping[str, str | None], at: datetime) -> str:
        """A new record; its id."""
        identifier = str(next(self._numbers[kind]))
        record = Record(identifier, dict(properties), at, at, visible_at=at + self.index_lag)
        self.records[kind][identifier] = record
        self.changed = True
        return identifier

    def update(
        self, kind: str, identifier: str, properties: Mapping[str, str | None], at: datetime
    ) -> None:
        """New values of some properties."""
        record = self.live(kind, identifier)
        record.seen = (dict(record.properties), record.updated)
        record.visible_at = at + self.index_lag
        record.properties.update(properties)
        record.updated, record.values = at, None
        self.changed = True

    def archive(self, kind: str, identifier: str, at: datetime) -> None:
        """Into the recycle bin: no stamp changes, and nothing is associated with it any more."""
        self.live(kind, identifier).archived_at = at
        self.changed = True

    def restore(self, kind: str, identifier: str) -> None:
        """Out of the recycle bin, as it was: no stamp changes."""
        record = self.records.get(kind, {}).get(identifier)
        if record is None or record.archived_at is None:
            raise CommandError(f"hubspot: no archived {kind} {identifier}")
        record.archived_at = None
        self.changed = True

    def purge(self, kind: str, identifier: str) -> None:
        """Gone at once, as after a GDPR deletion."""
        self.live(kind, identifier)
        del self.records[kind][identifier]
        self.changed = True

    def merge(self, kind: str, winner: str, loser: str, at: datetime) -> None:
        """The loser's id disappears; what was associated with it goes over to the winner."""
        self.live(kind, loser)
        losers = [*_ids_in(self.live(kind, winner).properties.get("hs_merged_object_ids")), loser]
        for (left, right), table in list(self.links.items()):
            if left == kind and right == "line_items":
                for other in table.pop(loser, {}):
                    self.link(left, winner, right, other)
        del self.records[kind][loser]
        self.merged[kind, loser] = winner
        self.update(kind, winner, {"hs_merged_object_ids": ";".join(losers)}, at)

    def link(self, left: str, one: str, right: str, other: str, *, primary: bool = False) -> None:
        """Associate two records, in both directions."""
        for pair, start, end in (((left, right), one, other), ((right, left), other, one)):
            types = [ASSOCIATION_TYPES[pair]]
            if primary:
                types.append(PRIMARY[pair])
            self.links[pair].setdefault(start, {})[end] = types
        self.changed = True

    def linked(self, left: str, one: str, right: str) -> dict[str, list[int]]:
        """What is associated with a record: id → association types; archived ones are not."""
        found = self.links[left, right].get(one, {})
        there = self.records[right]
        return {
            other: types
            for other, types in found.items()
            if other in there and there[other].archived_at is None
        }

    def live(self, kind: str, identifier: str) -> Record:
        """A record that is not archived.

        Raises:
            CommandError: there is none.
        """
        record = self.records.get(kind, {}).get(identifier)
        if record is None or record.archived_at is not None:
            raise CommandError(f"hubspot: no {kind} {identifier}")
        return record

    def find(self, kind: str, name: str, value: str) -> str:
        """The id of the first record with that value."""
        for record in self.records[kind].values():
            if record.properties.get(name) == value:
                return record.id
        raise CommandError(f"hubspot: no {kind} whose {name} is {value!r}")

    # -- what is shown -----------------------------------------------------------------------

    def shown(self, kind: str, record: Record) -> Properties:
        """All values of a record, the calculated ones included."""
        if record.values is None:
            record.values = _calculated(kind, record, record.properties)
        return record.values

    def indexed(self, kind: str, record: Record, now: datetime) -> Properties | None:
        """A record as the search index has it at that moment; None when it has not."""
        if record.archived_at is not None:
            return None
        if record.visible_at is None or now >= record.visible_at:
            return self.shown(kind, record)
        if record.seen is None:
            return None
        properties, updated = record.seen
        return {
            **_calculated(kind, record, properties),
            "hs_lastmodifieddate": stamp(updated),
        }


def stamp(moment: datetime) -> str:
    """An instant as HubSpot writes it; without a fraction where there is none."""
    text = moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return text.replace(".000Z", "Z")


def number(text: str | None) -> Decimal | None:
    """A property's number; "" and null are none."""
    return Decimal(text) if text else None


def _ids_in(text: str | None) -> list[str]:
    return [one for one in (text or "").split(";") if one]


def _calculated(kind: str, record: Record, own: Properties) -> Properties:
    found: Properties = {
        "createdate": stamp(record.created),
        "hs_lastmodifieddate": stamp(record.updated),
        "hs_object_id": record.id,
        **own,
    }
    if kind == "deals":
        _calculate_deal(found)
    elif kind == "line_items":
        _calculate_line(found)
    elif kind == "invoices":
        found["hs_createdate"] = stamp(record.created)
    return found


def _calculate_deal(deal: Properties) -> None:
    closed, probability = stage_of(deal.get("dealstage"))
    won = Decimal(probability) >= 1
    deal["hs_is_closed_won"] = str(won).lower()
    deal["hs_is_closed"] = str(closed or won).lower()
    amount, rate = number(deal.get("amount")), number(deal.get("hs_exchange_rate"))
    home = None if amount is None else amount * (rate or 1)
    deal["amount_in_home_currency"] = None if home is None else str(home.normalize())


def _calculate_line(line: Properties) -> None:
    """HubSpot's formulas for one billing period of a line; a missing quantity counts as one."""
    currency = line.get("hs_line_item_currency_code") or COMPANY_CURRENCY
    unit = Decimal(1).scaleb(-exponent(currency))
    units = number(line.get("quantity"))
    units = Decimal(1) if units is None else units

    def rounded(value: Decimal) -> Decimal:
        return value.quantize(unit, ROUND_HALF_UP)

    gross = rounded((number(line.get("price")) or Decimal(0)) * units)
    each, percent = number(line.get("discount")), number(line.get("hs_discount_percentage"))
    if each is not None:
        off = rounded(each * units)
    else:
        off = rounded((percent or Decimal(0)) / 100 * gross)
    synced = number(line.get("hs_sync_amount"))
    net = rounded(gross - off if synced is None else synced)
    rate = number(line.get("hs_tax_rate"))
    tax = None if rate is None else rounded(net * rate / 100)
    line["hs_pre_discount_amount"], line["hs_total_discount"] = str(gross), str(off)
    line["amount"] = str(net) if line.get("price") or synced is not None else None
    line["hs_tax_amount"] = None if tax is None else str(tax)
    line["hs_post_tax_amount"] = str(net + (tax or 0))
    months = months_of(line.get("hs_recurring_billing_period"))
    line["hs_term_in_months"] = None if months is None else str(months)
    a_year = _PAYMENTS_A_YEAR.get(line.get("recurringbillingfrequency") or "")
    payments = -(-months * a_year // 12) if months and a_year else 1
    line["hs_recurring_billing_number_of_payments"] = str(payments)


def months_of(period: str | None) -> int | None:
    """Whole months of a term like P12M or P3Y."""
    if not period or period[-1] not in "MY":
        return None
    count = int(period[1:-1])
    return count * 12 if period.endswith("Y") else count
