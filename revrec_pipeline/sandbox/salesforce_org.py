"""The sandbox's Salesforce org: its records in SQLite, and what happens to them when they change.

What a client may ask is in `salesforce` and `soql`; with which records the org starts, and what the
demo's story changes, is in `salesforce_data`.
"""

import sqlite3
from collections.abc import Mapping
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from revrec_pipeline.currency import exponent
from revrec_pipeline.sandbox.clock import Clock
from revrec_pipeline.sandbox.salesforce_schema import SObject, schema
from revrec_pipeline.sandbox.soql import stamp
from revrec_pipeline.sandbox.source import CommandError

#: Stage → (IsClosed, IsWon, Probability), as an administrator has set it up.
STAGES = {
    "Qualification": (False, False, 20),
    "Negotiation": (False, False, 70),
    "Closed Won": (True, True, 100),
    "Signed Renewal": (True, True, 100),
    "Closed Lost": (True, False, 0),
}
ORG_ID = "00DHs0000012345MAA"
_ID_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def record_id(prefix: str, number: int) -> str:
    """An 18-character id: 15 that depend on case, and 3 that tell the case of those."""
    digits = ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        digits = _BASE62[digit] + digits
    short = f"{prefix}Hs0000{digits}"
    check = "".join(
        _ID_CHARACTERS[sum(short[start + bit].isupper() << bit for bit in range(5))]
        for start in (0, 5, 10)
    )
    return short + check


class Org:
    """Records by object. Numbers are doubles here, as they are at Salesforce."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._schema = schema()
        self._numbers: dict[str, int] = {}
        # The server's thread is not the one that made the org; requests come one at a time.
        self._db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        for kind in self._schema.values():
            columns = ", ".join(f'"{name}"' for name in kind.fields)
            self._db.execute(f'CREATE TABLE "{kind.name}" ({columns})')
            for index in ("Id", "OpportunityId", "SystemModstamp"):
                if index in kind.fields:
                    self._db.execute(
                        f'CREATE INDEX "{kind.name}_{index}" ON "{kind.name}" ("{index}")'
                    )

    def select(self, sql: str, values: list[Any]) -> list[tuple[Any, ...]]:
        """Run a translated query."""
        return self._db.execute(sql, values).fetchall()

    def value(self, name: str, id_: str, field: str) -> Any:
        """One field of one record.

        Raises:
            CommandError: there is no such record.
        """
        found = self._db.execute(f'SELECT "{field}" FROM "{name}" WHERE "Id" = ?', [id_]).fetchone()
        if found is None:
            raise CommandError(f"salesforce: no {name} {id_}")
        return found[0]

    def find(self, name: str, field: str, value: Any) -> str:
        """The id of the first record whose field has that value."""
        found = self._db.execute(
            f'SELECT "Id" FROM "{name}" WHERE "{field}" = ? ORDER BY "Id"', [value]
        ).fetchone()
        if found is None:
            raise CommandError(f"salesforce: no {name} with {field} {value!r}")
        return str(found[0])

    def insert(self, name: str, fields: Mapping[str, Any], at: datetime | None = None) -> str:
        """Add a record, stamped with the clock or `at`; returns its id."""
        kind = self._kind(name, fields)
        number = self._numbers[name] = self._numbers.get(name, 0) + 1
        moment = stamp(at or self._clock.now())
        flags = {field.name: 0 for field in kind.fields.values() if field.type == "boolean"}
        record: dict[str, Any] = {
            "Id": record_id(kind.prefix, number),
            **flags,
            **dict.fromkeys(("CreatedDate", "LastModifiedDate", "SystemModstamp"), moment),
            **self._derived(name, fields),
        }
        columns = ", ".join(f'"{field}"' for field in record)
        marks = ", ".join("?" * len(record))
        self._db.execute(
            f'INSERT INTO "{name}" ({columns}) VALUES ({marks})',
            [_stored(value) for value in record.values()],
        )
        if name == "OpportunityLineItem":
            self._price(record["Id"], fields)
            self._roll_up(record["OpportunityId"], moment)
        return str(record["Id"])

    def update(self, name: str, id_: str, fields: Mapping[str, Any]) -> None:
        """Change fields of a record, as a user does."""
        self._kind(name, fields)
        self.value(name, id_, "Id")
        moment = stamp(self._clock.now())
        self._set(name, id_, self._derived(name, fields), moment)
        if name == "OpportunityLineItem":
            self._price(id_, fields)
            self._roll_up(self.value(name, id_, "OpportunityId"), moment)

    def delete(self, name: str, id_: str, *, hard: bool, at: datetime | None = None) -> None:
        """Move a record into the recycle bin, or remove it for good; now, or `at` some time."""
        self._kind(name, {})
        moment = stamp(at or self._clock.now())
        if name == "Opportunity":
            for (line,) in self.select(
                'SELECT "Id" FROM "OpportunityLineItem" WHERE "OpportunityId" = ?', [id_]
            ):
                self._remove("OpportunityLineItem", line, moment, hard=hard)
        parent = None
        if name == "OpportunityLineItem":
            parent = self.value(name, id_, "OpportunityId")
        self.value(name, id_, "Id")
        self._remove(name, id_, moment, hard=hard)
        if parent:
            self._roll_up(parent, moment)

    def _remove(self, name: str, id_: str, moment: str, *, hard: bool) -> None:
        if hard:
            self._db.execute(f'DELETE FROM "{name}" WHERE "Id" = ?', [id_])
        else:
            self._set(name, id_, {"IsDeleted": True}, moment)

    def _kind(self, name: str, fields: Mapping[str, Any]) -> SObject:
        if name not in self._schema:
            raise CommandError(f"salesforce: no object {name!r}")
        kind = self._schema[name]
        unknown = [field for field in fields if field not in kind.fields]
        if unknown:
            raise CommandError(f"salesforce: {name} has no field {unknown[0]!r}")
        return kind

    def _set(self, name: str, id_: str, fields: Mapping[str, Any], moment: str) -> None:
        stamped = {"LastModifiedDate": moment, "SystemModstamp": moment, **fields}
        columns = ", ".join(f'"{field}" = ?' for field in stamped)
        values = [_stored(value) for value in stamped.values()]
        self._db.execute(f'UPDATE "{name}" SET {columns} WHERE "Id" = ?', [*values, id_])

    def _derived(self, name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Fields that follow from others: a stage says whether an opportunity is won."""
        if name == "Opportunity" and "StageName" in fields:
            if fields["StageName"] not in STAGES:
                raise CommandError(f"salesforce: no stage {fields['StageName']!r}")
            closed, won, probability = STAGES[fields["StageName"]]
            return {"IsClosed": closed, "IsWon": won, "Probability": probability, **fields}
        return dict(fields)

    def _price(self, line: str, fields: Mapping[str, Any]) -> None:
        """A line's totals follow from quantity, price and discount, unless they are given."""
        if not {"Quantity", "UnitPrice", "Discount"} & set(fields):
            return
        ((quantity, price, discount, currency),) = self.select(
            'SELECT "Quantity", "UnitPrice", coalesce("Discount", 0), "CurrencyIsoCode" '
            'FROM "OpportunityLineItem" WHERE "Id" = ?',
            [line],
        )
        subtotal = Decimal(str(quantity)) * Decimal(str(price))
        total = subtotal * (1 - Decimal(str(discount)) / 100)
        cent = Decimal(1).scaleb(-exponent(currency or "USD"))
        totals = {
            "Subtotal": subtotal.quantize(cent, ROUND_HALF_UP),
            "TotalPrice": total.quantize(cent, ROUND_HALF_UP),
        }
        for name, value in totals.items():
            if name not in fields:
                self._db.execute(
                    f'UPDATE "OpportunityLineItem" SET "{name}" = ? WHERE "Id" = ?',
                    [float(value), line],
                )

    def _roll_up(self, opportunity: str, moment: str) -> None:
        """A header's amount follows from its lines; only a new amount changes the header."""
        ((total, lines),) = self.select(
            'SELECT sum("TotalPrice"), count(*) FROM "OpportunityLineItem" '
            'WHERE "OpportunityId" = ? AND NOT "IsDeleted"',
            [opportunity],
        )
        if self.value("Opportunity", opportunity, "Amount") != total:
            fields = {"Amount": total, "HasOpportunityLineItem": lines > 0}
            before = self.value("Opportunity", opportunity, "SystemModstamp")
            self._set("Opportunity", opportunity, fields, max(before, moment))


def _stored(value: Any) -> Any:
    return float(value) if isinstance(value, Decimal) else value
