"""The records of the sandbox's Intacct company, and what users do to them.

Which records there are is in `sage_intacct_data`, how they are queried in `sage_intacct_query`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import TypeAlias

from revrec_pipeline.sandbox import company
from revrec_pipeline.sandbox.sage_intacct_schema import LINES, SCHEMA
from revrec_pipeline.sandbox.source import CommandError

Value: TypeAlias = str | int | Decimal | date | datetime | None
Row: TypeAlias = dict[str, Value]

#: US dollars for one unit of a currency.
RATES: Mapping[str, Decimal] = {
    "USD": Decimal(1),
    "EUR": Decimal("1.0823"),
    "GBP": Decimal("1.2714"),
    "JPY": Decimal("0.00671"),
    "KWD": Decimal("3.2467"),
    "ISK": Decimal("0.00712"),
}
_CENT = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Line:
    """A row of a document on its way in; the amount is in the document's currency."""

    item: str | None
    amount: Decimal
    start: date | None = None
    end: date | None = None
    quantity: Decimal = Decimal(1)
    description: str | None = None
    subtotal: str | None = None  # the row is a subtotal of this name
    tax: tuple[str, Decimal] | None = None  # name and amount of a tax row below this one


def line_object(name: str) -> str:
    """The object that holds the lines of a document's object."""
    return next(lines for lines, (_, document) in LINES.items() if document == name)


class Books:
    """All objects by RECORDNO. Stamps are instants in UTC."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[int, Row]] = {name: {} for name in SCHEMA}
        self.changes = 0
        self._document, self._line = 200, 1000

    # -- documents ---------------------------------------------------------------------------

    def receivable(
        self,
        name: str,
        number: str | None,
        customer: company.Customer,
        created: date,
        lines: list[Line],
        at: datetime,
        *,
        edited: datetime | None = None,
        **fields: Value,
    ) -> int:
        """An AR invoice or adjustment; `edited` None leaves WHENMODIFIED empty."""
        self._document += 1
        record = self._document
        currency = customer.currency
        rate = RATES[currency]
        rows = self._rows(name, record, lines, created, rate)
        transaction = sum((_decimal(row["TRX_AMOUNT"]) for row in rows), Decimal(0))
        base = sum((_decimal(row["AMOUNT"]) for row in rows), Decimal(0))
        header: Row = {
            **dict.fromkeys(SCHEMA[name]),
            "RECORDNO": record,
            "RECORDTYPE": "ri" if name == "ARINVOICE" else "ra",
            "RECORDID": number,
            "STATE": "Posted",
            "CUSTOMERID": customer_id(customer),
            "CUSTOMERNAME": customer.billing_name,
            "MODULEKEY": "4.AR",
            "WHENCREATED": created,
            "WHENPOSTED": created,
            "WHENDUE": created + timedelta(days=30),
            "BASECURR": company.HOME_CURRENCY,
            "CURRENCY": currency,
            "EXCHANGE_RATE": rate,
            "TOTALENTERED": base,
            "TRX_TOTALENTERED": transaction,
            "TOTALDUE": base,
            "TRX_TOTALDUE": transaction,
            "MEGAENTITYID": ENTITIES.get(currency),
            "AUWHENCREATED": at,
            "WHENMODIFIED": edited,
            "RECORD_URL": f"https://www.intacct.com/ia/acct/ur.phtml?.r=fernhill{record}",
            **fields,
        }
        self.tables[name][record] = header
        return record

    def _rows(
        self, name: str, record: int, lines: list[Line], created: date, rate: Decimal
    ) -> list[Row]:
        rows: list[Row] = []
        for line in lines:
            rows.append(self._row(name, record, len(rows) + 1, line, created, rate))
            if line.tax is not None:
                parent = rows[-1]["RECORDNO"]
                tax = Line(None, line.tax[1], description=line.tax[0])
                rows.append(self._row(name, record, len(rows) + 1, tax, created, rate))
                rows[-1]["PARENTENTRY"] = parent
        return rows

    def _row(
        self, name: str, record: int, position: int, line: Line, created: date, rate: Decimal
    ) -> Row:
        self._line += 1
        names = {product.code: product.name for product in company.PRODUCTS}
        row: Row = {
            **dict.fromkeys(SCHEMA[line_object(name)]),
            "RECORDNO": self._line,
            "RECORDKEY": record,
            "LINE_NO": position,
            "LINEITEM": "T" if line.item else "F",
            "ITEMID": line.item,
            "ITEMNAME": names.get(line.item or ""),
            "ACCOUNTNO": "4000" if line.item else "2200",
            "AMOUNT": (line.amount * rate).quantize(_CENT, ROUND_HALF_UP),
            "TRX_AMOUNT": line.amount,
            "ENTRY_DATE": created,
            "ENTRYDESCRIPTION": line.description,
            "REVRECTEMPLATE": "Daily" if line.start else None,
            "REVRECSTARTDATE": line.start,
            "REVRECENDDATE": line.end,
            "DEFERREVENUE": "true" if line.start else "false",
            "SUBTOTAL": line.subtotal,
        }
        self.tables[line_object(name)][self._line] = row
        return row

    def order(
        self,
        document: str,
        number: str,
        customer: company.Customer,
        created: date,
        lines: list[Line],
        at: datetime,
        **fields: Value,
    ) -> int:
        """An order entry document; quantities of returns are positive here as well."""
        self._document += 1
        record, rate = self._document, RATES[customer.currency]
        names = {product.code: product.name for product in company.PRODUCTS}
        for position, line in enumerate(lines, start=1):
            self._line += 1
            price = line.amount / line.quantity
            self.tables["SODOCUMENTENTRY"][self._line] = {
                **dict.fromkeys(SCHEMA["SODOCUMENTENTRY"]),
                "RECORDNO": self._line,
                "DOCHDRNO": record,
                "LINE_NO": position,
                "ITEMID": line.item,
                "ITEMNAME": names.get(line.item or ""),
                "ITEMDESC": names.get(line.item or ""),
                "QUANTITY": line.quantity,
                "PRICE": price * rate,
                "TRX_PRICE": price,
                "TOTAL": (line.amount * rate).quantize(_CENT, ROUND_HALF_UP),
                "TRX_VALUE": line.amount,
                "REVRECSTARTDATE": line.start,
                "REVRECENDDATE": line.end,
                "WHENMODIFIED": at,
            }
        total = sum((line.amount for line in lines), Decimal(0))
        self.tables["SODOCUMENT"][record] = {
            **dict.fromkeys(SCHEMA["SODOCUMENT"]),
            "RECORDNO": record,
            "DOCPARID": document,
            "DOCNO": number,
            "DOCID": f"{document}-{number}",
            "STATE": "Pending",
            "CUSTVENDID": customer_id(customer),
            "CUSTVENDNAME": customer.billing_name,
            "WHENCREATED": created,
            "WHENDUE": created + timedelta(days=30),
            "BASECURR": company.HOME_CURRENCY,
            "CURRENCY": customer.currency,
            "EXCHANGE_RATE": rate,
            "TOTAL": (total * rate).quantize(_CENT, ROUND_HALF_UP),
            "TRX_TOTAL": total,
            "MEGAENTITYID": ENTITIES.get(customer.currency),
            "AUWHENCREATED": at,
            "WHENMODIFIED": at,
            "RECORD_URL": f"https://www.intacct.com/ia/acct/ur.phtml?.r=fernhill{record}",
            **fields,
        }
        return record

    # -- what happens to them ----------------------------------------------------------------

    def find(self, name: str, record: object) -> Row:
        """A record by number.

        Raises:
            CommandError: there is none.
        """
        found = self.tables.get(name, {}).get(int(str(record)))
        if found is None:
            raise CommandError(f"sage_intacct: no {name} {record}")
        return found

    def numbered(self, name: str, number: str) -> int:
        """The RECORDNO of the newest document with this number."""
        field = "DOCNO" if name == "SODOCUMENT" else "RECORDID"
        return max(key for key, row in self.tables[name].items() if row[field] == number)

    def lines(self, name: str, record: int) -> list[Row]:
        """The rows of a document."""
        lines = line_object(name)
        return [row for row in self.tables[lines].values() if row[LINES[lines][0]] == record]

    def edit(self, name: str, record: int, fields: Mapping[str, Value], at: datetime) -> None:
        """Change a document or a line; its document is stamped.

        Raises:
            CommandError: the object has no such field.
        """
        row = self.find(name, record)
        if unknown := fields.keys() - SCHEMA[name].keys():
            raise CommandError(f"sage_intacct: {name} has no {min(unknown)}")
        header = row
        if name in LINES:
            parent, document = LINES[name]
            header = self.find(document, row[parent])

        row.update(fields)
        header["WHENMODIFIED"] = at
        self.changes += 1

    def delete(self, name: str, record: int, at: datetime, *, suffix: str = "") -> None:
        """Remove a document with its lines. The audit history does not know adjustments."""
        self.find(name, record)
        lines = line_object(name)
        for row in self.lines(name, record):
            del self.tables[lines][int(str(row["RECORDNO"]))]
        del self.tables[name][record]
        self.changes += 1
        if name != "ARADJUSTMENT":
            number = len(self.tables["AUDITHISTORY"]) + 1
            self.tables["AUDITHISTORY"][number] = {
                "ID": f"{number:08d}",
                "OBJECTTYPE": name.lower(),
                "OBJECTKEY": f"{record}{suffix}",
                "ACCESSMODE": "D",
                "ACCESSTIME": at,
                "USERID": "ap.clerk",
            }

    def rewrite(self, record: int, factor: Decimal, at: datetime) -> int:
        """An order entry document was edited: its AR invoice is deleted and written anew."""
        written = self._copy(record, factor, at)
        self.delete("ARINVOICE", record, at, suffix="--REC")
        return written

    def reverse(self, record: int, on: date, at: datetime) -> int:
        """A posted AR invoice is reversed: it changes its state, and a negative copy appears."""
        number = self.find("ARINVOICE", record)["RECORDID"]
        reversal = self._copy(
            record,
            Decimal(-1),
            at,
            RECORDID=f"{number}-R",
            STATE="Reversal",
            WHENCREATED=on,
            WHENPOSTED=on,
        )
        self.edit("ARINVOICE", record, {"STATE": "Reversed"}, at)
        return reversal

    def _copy(self, record: int, factor: Decimal, at: datetime, **fields: Value) -> int:
        """The same AR invoice once more, with other amounts and its own RECORDNOs."""
        old = self.find("ARINVOICE", record)
        rows = self.lines("ARINVOICE", record)
        self._document += 1
        new: Row = {
            **old,
            "RECORDNO": self._document,
            "AUWHENCREATED": at,
            "WHENMODIFIED": at,
            **fields,
        }
        for field in ("TOTALENTERED", "TRX_TOTALENTERED", "TOTALDUE", "TRX_TOTALDUE"):
            new[field] = _scaled(old[field], factor)
        self.tables["ARINVOICE"][self._document] = new
        renumbered: dict[Value, Value] = {None: None}
        for row in rows:
            self._line += 1
            renumbered[row["RECORDNO"]] = self._line
            self.tables["ARINVOICEITEM"][self._line] = {
                **row,
                "RECORDNO": self._line,
                "RECORDKEY": self._document,
                "PARENTENTRY": renumbered[row["PARENTENTRY"]],
                "AMOUNT": _scaled(row["AMOUNT"], factor),
                "TRX_AMOUNT": _scaled(row["TRX_AMOUNT"], factor),
            }
        self.changes += 1
        return self._document


#: Currency → the entity whose customers pay in it; others belong to the top level.
ENTITIES: Mapping[str, str] = {"GBP": "UK", "EUR": "DE"}


def customer_id(customer: company.Customer) -> str:
    """The customer's id in Intacct."""
    return f"C-{company.CUSTOMERS.index(customer) + 1:05d}"


def _decimal(value: Value) -> Decimal:
    return Decimal(str(value))


def _scaled(value: Value, factor: Decimal) -> Decimal:
    return (_decimal(value) * factor).quantize(_CENT, ROUND_HALF_UP)
