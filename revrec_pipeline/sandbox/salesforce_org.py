"""The sandbox's Salesforce org: its records in SQLite, and what happens to them when they change.

What a client may ask is in `salesforce` and `soql`; with which records the org starts, and what the
demo's story changes, is in `salesforce_data`.
"""

import sqlite3
from collections.abc import Mapping
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, NamedTuple, Self

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
#: Status label → StatusCode. Administrators add labels, and each stands for one of the codes.
ORDER_STATUSES = {
    "Draft": "Draft",
    "Activated": "Activated",
    "Fulfilled": "Activated",
    "Cancelled": "Cancelled",
}
CONTRACT_STATUSES = {
    "Draft": "Draft",
    "In Approval Process": "InApproval",
    "Activated": "Activated",
}
#: What is deleted with a record: object, and its field with the record's id.
_CHILDREN = {
    "Opportunity": (
        ("OpportunityLineItem", "OpportunityId"),
        ("OpportunitySplit", "OpportunityId"),
    ),
    "Order": (("OrderItem", "OrderId"),),
    "Contract": (("SBQQ__Subscription__c", "SBQQ__Contract__c"),),
    "SBQQ__Quote__c": (("SBQQ__QuoteLine__c", "SBQQ__Quote__c"),),
}
#: Numbers that Salesforce gives a new record: field and form.
_AUTOMATIC = {
    "Order": ("OrderNumber", "{:08d}"),
    "OrderItem": ("OrderItemNumber", "{:010d}"),
    "Contract": ("ContractNumber", "{:08d}"),
    "SBQQ__Quote__c": ("Name", "Q-{:05d}"),
    "SBQQ__QuoteLine__c": ("Name", "QL-{:07d}"),
    "SBQQ__Subscription__c": ("Name", "SUB-{:07d}"),
    "Commission__c": ("Name", "C-{:05d}"),
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


class _Summed(NamedTuple):
    """How the lines of a kind add up in their header."""

    parent: str  # the line's field with its header's id
    line_total: str
    header: str  # object and field that hold the sum
    total: str
    counting: str = ""  # which lines count


_SUMMED = {
    "OrderItem": _Summed("OrderId", "TotalPrice", "Order", "TotalAmount"),
    "SBQQ__QuoteLine__c": _Summed(
        "SBQQ__Quote__c",
        "SBQQ__NetTotal__c",
        "SBQQ__Quote__c",
        "SBQQ__NetAmount__c",
        counting=' AND NOT coalesce("SBQQ__Optional__c", 0)',
    ),
}


class Org:
    """Records by object. Numbers are doubles here, as they are at Salesforce.

    An org that is made `like` another one begins with its records.
    """

    def __init__(self, clock: Clock, like: Self | None = None) -> None:
        self._clock = clock
        self._schema = schema()
        self._numbers: dict[str, int] = dict(like._numbers) if like else {}
        # The server's thread is not the one that made the org; requests come one at a time.
        self._db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        if like:
            like._db.backup(self._db)
            return
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
        automatic = _AUTOMATIC.get(name)
        record: dict[str, Any] = {
            "Id": record_id(kind.prefix, number),
            **({automatic[0]: automatic[1].format(100 + number)} if automatic else {}),
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
        self._follow(name, record["Id"], fields, moment)
        return str(record["Id"])

    def update(self, name: str, id_: str, fields: Mapping[str, Any]) -> None:
        """Change fields of a record, as a user does."""
        self._kind(name, fields)
        self.value(name, id_, "Id")
        moment = stamp(self._clock.now())
        self._set(name, id_, self._derived(name, fields), moment)
        self._follow(name, id_, fields, moment)

    def link(self, name: str, id_: str, fields: Mapping[str, Any]) -> None:
        """Fields that the system fills beside a record's own changes; its stamp stays."""
        self._kind(name, fields)
        moment = self.value(name, id_, "SystemModstamp")
        self._set(name, id_, fields, moment)
        self._follow(name, id_, fields, moment)

    def _follow(self, name: str, id_: str, fields: Mapping[str, Any], moment: str) -> None:
        """What follows from new values: totals, amounts of splits, formulas."""
        match name:
            case "OpportunityLineItem":
                self._price(id_, fields)
                self._roll_up(self.value(name, id_, "OpportunityId"), moment)
            case "OrderItem" if {"Quantity", "UnitPrice"} & set(fields):
                total = self._total(name, id_, "Quantity", "UnitPrice")
                self._calculate(name, id_, {"TotalPrice": total})
                self._sum(name, self.value(name, id_, _SUMMED[name].parent))
            case "OpportunitySplit" if "SplitAmount" not in fields:
                self._share(id_)
            case "SBQQ__QuoteLine__c":
                self._quote_line(id_)
                self._sum(name, self.value(name, id_, _SUMMED[name].parent))
            case "SBQQ__Quote__c":
                for (line,) in self._children("SBQQ__QuoteLine__c", "SBQQ__Quote__c", id_):
                    self._quote_line(line)
                self._sum("SBQQ__QuoteLine__c", id_)

    def _children(self, name: str, field: str, parent: str) -> list[tuple[Any, ...]]:
        return self.select(f'SELECT "Id" FROM "{name}" WHERE "{field}" = ?', [parent])

    def _calculate(self, name: str, id_: str, values: Mapping[str, Any]) -> None:
        """Formula fields; they never change a record's stamp."""
        columns = ", ".join(f'"{field}" = ?' for field in values)
        stored = [_stored(value) for value in values.values()]
        self._db.execute(f'UPDATE "{name}" SET {columns} WHERE "Id" = ?', [*stored, id_])

    def _total(self, name: str, id_: str, quantity: str, price: str) -> Decimal | None:
        """Quantity times price, to the currency's minor unit."""
        ((units, each, currency),) = self.select(
            f'SELECT "{quantity}", "{price}", "CurrencyIsoCode" FROM "{name}" WHERE "Id" = ?', [id_]
        )
        if units is None or each is None:
            return None
        return _rounded(Decimal(str(units)) * Decimal(str(each)), currency)

    def _sum(self, name: str, header: str) -> None:
        """The sum of the lines of an order or quote, in a field of its header."""
        parent, line_total, object_, total, counting = _SUMMED[name]
        ((amount,),) = self.select(
            f'SELECT sum("{line_total}") FROM "{name}" '
            f'WHERE "{parent}" = ? AND NOT "IsDeleted"{counting}',
            [header],
        )
        self._calculate(object_, header, {total: round(amount or 0, 3)})

    def _share(self, split: str) -> None:
        """A split's amount, each rounded for itself: three thirds of 100 are 99.99."""
        found = self.select(
            'SELECT o."Amount", s."SplitPercentage", o."CurrencyIsoCode" FROM "OpportunitySplit" '
            'AS s JOIN "Opportunity" AS o ON o."Id" = s."OpportunityId" WHERE s."Id" = ?',
            [split],
        )
        for amount, percentage, currency in found:
            if amount is not None and percentage is not None:
                share = Decimal(str(amount)) * Decimal(str(percentage)) / 100
                self._calculate(
                    "OpportunitySplit", split, {"SplitAmount": _rounded(share, currency)}
                )

    def _quote_line(self, line: str) -> None:
        """The formulas of CPQ: an amendment's net total is that of the difference it makes."""
        ((units, prior, price, currency, starts, ends, recurs, kind, quote_start, quote_end),) = (
            self.select(
                'SELECT l."SBQQ__Quantity__c", l."SBQQ__PriorQuantity__c", l."SBQQ__NetPrice__c", '
                'l."CurrencyIsoCode", l."SBQQ__StartDate__c", l."SBQQ__EndDate__c", '
                'l."SBQQ__SubscriptionPricing__c", q."SBQQ__Type__c", q."SBQQ__StartDate__c", '
                'q."SBQQ__EndDate__c" FROM "SBQQ__QuoteLine__c" AS l '
                'LEFT JOIN "SBQQ__Quote__c" AS q ON q."Id" = l."SBQQ__Quote__c" WHERE l."Id" = ?',
                [line],
            )
        )
        total = None
        if units is not None and price is not None:
            sold = Decimal(str(units)) - (Decimal(str(prior or 0)) if kind == "Amendment" else 0)
            total = _rounded(sold * Decimal(str(price)), currency)
        self._calculate(
            "SBQQ__QuoteLine__c",
            line,
            {
                "SBQQ__NetTotal__c": total,
                "SBQQ__EffectiveStartDate__c": starts or quote_start,
                "SBQQ__EffectiveEndDate__c": ends or (quote_end if recurs else None),
            },
        )

    def delete(self, name: str, id_: str, *, hard: bool, at: datetime | None = None) -> None:
        """Move a record into the recycle bin, or remove it for good; now, or `at` some time."""
        self._kind(name, {})
        moment = stamp(at or self._clock.now())
        for child, field in _CHILDREN.get(name, ()):
            for (each,) in self._children(child, field, id_):
                if hard or not self.value(child, each, "IsDeleted"):
                    self._remove(child, each, moment, hard=hard)
        parent = None
        if name == "OpportunityLineItem":
            parent = self.value(name, id_, "OpportunityId")
        self.value(name, id_, "Id")
        summed = self.value(name, id_, _SUMMED[name].parent) if name in _SUMMED else None
        self._remove(name, id_, moment, hard=hard)
        if parent:
            self._roll_up(parent, moment)
        if summed:
            self._sum(name, summed)

    def undelete(self, name: str, id_: str) -> None:
        """Take a record out of the recycle bin, with the children that went in with it."""
        self._kind(name, {})
        if not self.value(name, id_, "IsDeleted"):
            raise CommandError(f"salesforce: {name} {id_} is not in the recycle bin")
        since, moment = self.value(name, id_, "SystemModstamp"), stamp(self._clock.now())
        for child, field in _CHILDREN.get(name, ()):
            for (each,) in self._children(child, field, id_):
                if self.value(child, each, "SystemModstamp") == since:
                    self._set(child, each, {"IsDeleted": False}, moment)
        self._set(name, id_, {"IsDeleted": False}, moment)
        if name == "OpportunityLineItem":
            self._roll_up(self.value(name, id_, "OpportunityId"), moment)

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
        statuses = {"Order": ORDER_STATUSES, "Contract": CONTRACT_STATUSES}.get(name)
        if statuses and "Status" in fields:
            if fields["Status"] not in statuses:
                raise CommandError(f"salesforce: {name} has no status {fields['Status']!r}")
            return {"StatusCode": statuses[fields["Status"]], **fields}
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
        totals = {
            "Subtotal": _rounded(subtotal, currency),
            "TotalPrice": _rounded(total, currency),
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
            for (split,) in self.select(
                'SELECT "Id" FROM "OpportunitySplit" WHERE "OpportunityId" = ? '
                'AND "SplitAmount" IS NOT NULL',
                [opportunity],
            ):
                self._share(split)


def _rounded(amount: Decimal, currency: str | None) -> Decimal:
    return amount.quantize(Decimal(1).scaleb(-exponent(currency or "USD")), ROUND_HALF_UP)


def _stored(value: Any) -> Any:
    return float(value) if isinstance(value, Decimal) else value
