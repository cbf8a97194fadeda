"""The books of the sandbox's NetSuite account: its tables, and what posting does to them.

Which documents there are is in `netsuite_data`, how the tables are asked is in `netsuite_sql`.
Amounts are signed as in the ledger: what was sold is a credit, and so negative.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from revrec_pipeline.currency import exponent
from revrec_pipeline.sandbox import company
from revrec_pipeline.sandbox.clock import Clock
from revrec_pipeline.sandbox.netsuite_sql import Tables, insert

_SCHEMA = """
CREATE TABLE [transaction] (id INTEGER PRIMARY KEY, tranid, transactionnumber, type, recordtype,
    trandate NS_DATE, duedate NS_DATE, closedate NS_DATE, status, entity INTEGER, currency INTEGER,
    exchangerate, foreigntotal, foreignamountunpaid, postingperiod INTEGER, posting, memo,
    otherrefnum, externalid, void, voided, createddate NS_DATETIME, lastmodifieddate NS_DATETIME,
    custbody_sf_opportunity);
CREATE TABLE transactionline (uniquekey INTEGER PRIMARY KEY, id INTEGER, [transaction] INTEGER,
    linesequencenumber INTEGER, mainline, taxline, iscogs, transactiondiscount, donotdisplayline,
    item INTEGER, itemtype, quantity, rate, netamount, foreignamount, subsidiary INTEGER,
    class INTEGER, department INTEGER, memo, createdfrom INTEGER, kitcomponent, isclosed,
    quantitybilled, isrevrectransaction, revrecstartdate NS_DATE, revrecenddate NS_DATE,
    linelastmodifieddate NS_DATETIME, custcol_term_months);
CREATE INDEX lines_of ON transactionline ([transaction]);
CREATE TABLE transactionaccountingline ([transaction] INTEGER, transactionline INTEGER,
    accountingbook INTEGER, account INTEGER, amount, debit, credit, netamount, posting);
CREATE TABLE previoustransactionlinelink (previousdoc INTEGER, previousline INTEGER, previoustype,
    nextdoc INTEGER, nextline INTEGER, nexttype, linktype, foreignamount);
CREATE VIEW nexttransactionlinelink AS SELECT * FROM previoustransactionlinelink;
CREATE TABLE customer (id INTEGER PRIMARY KEY, entityid, companyname, altname, email, isperson,
    currency INTEGER, subsidiary INTEGER, lastmodifieddate NS_DATETIME, custentity_sf_account_id);
CREATE TABLE item (id INTEGER PRIMARY KEY, itemid, displayname, fullname, itemtype,
    lastmodifieddate NS_DATETIME, custitem_crm_code, custitem_product_type, custitem_term_months);
CREATE TABLE currency (id INTEGER PRIMARY KEY, name, symbol);
CREATE TABLE subsidiary (id INTEGER PRIMARY KEY, name, fullname, currency INTEGER);
CREATE TABLE accountingbook (id INTEGER PRIMARY KEY, name, isprimary);
CREATE TABLE deletedrecord (recordid INTEGER, recordtypeid INTEGER, scriptid, type, name,
    deleteddate NS_DATETIME);
CREATE TABLE dual (dummy);
INSERT INTO dual VALUES ('X');
CREATE TABLE statusname (code PRIMARY KEY, name);
"""
_SHOWN = {
    "entity": "SELECT trim(entityid || ' ' || ifnull(companyname, '')) FROM customer WHERE id = ?",
    "currency": "SELECT name FROM currency WHERE id = ?",
    "item": "SELECT fullname FROM item WHERE id = ?",
    "subsidiary": "SELECT fullname FROM subsidiary WHERE id = ?",
    "createdfrom": "SELECT recordtype || ' #' || tranid FROM [transaction] WHERE id = ?",
    "status": "SELECT name FROM statusname WHERE code = ?",
}  # fmt: skip
_OWNER = "SELECT [transaction] FROM transactionline WHERE uniquekey = ?"
#: Transaction type → record type, name in deletions, sign of a sale, statuses by letter.
TYPES: Mapping[str, tuple[str, str, int, Mapping[str, str]]] = {
    "CustInvc": ("invoice", "Invoice", -1, {"A": "Open", "B": "Paid In Full",
                 "D": "Pending Approval", "V": "Voided"}),
    "CashSale": ("cashsale", "CashSale", -1, {"B": "Not Deposited", "C": "Deposited",
                 "V": "Voided"}),
    "CustCred": ("creditmemo", "CreditMemo", 1, {"A": "Open", "B": "Fully Applied",
                 "V": "Voided"}),
    "CashRfnd": ("cashrefund", "CashRefund", 1, {"B": "Deposited", "V": "Voided"}),
    "SalesOrd": ("salesorder", "SalesOrder", -1, {"A": "Pending Approval",
                 "B": "Pending Fulfillment", "C": "Cancelled", "F": "Pending Billing",
                 "G": "Billed", "H": "Closed"}),
    "RtnAuth": ("returnauthorization", "ReturnAuthorization", 1, {"B": "Pending Receipt"}),
    "Journal": ("journalentry", "JournalEntry", 1, {"B": "Approved for Posting"}),
}  # fmt: skip
_SUBSIDIARIES = {
    1: ("Fernhill Software", "USD", {"US", "KW", "JP", "IS"}),
    2: ("Fernhill Software : Fernhill GmbH", "EUR", {"DE", "FR", "IT", "NL"}),
    3: ("Fernhill Software : Fernhill UK", "GBP", {"GB"}),
}
#: Items beside the company's products: id, name, type.
_OTHER_ITEMS = (
    (90, "Partner Discount 10%", "Discount"),
    (91, "Goodwill", "Discount"),
    (92, "Subtotal", "Subtotal"),
    (93, "Onboarding Bundle", "Group"),
    (94, "End of Group", "EndGroup"),
    (95, "STARTER-KIT", "Kit"),
    (96, "Courier", "ShipItem"),
    (97, "Sales Tax NY", "TaxItem"),
    (98, "VAT", "TaxItem"),
    (99, "Note", "Description"),
    (100, "Consulting & Advice", "Service"),
    (101, "Deposit", "Payment"),
)
_KINDS = {"Hardware": "InvtPart", "Professional Services": "Service"}
_FIRST_DAY = datetime(2023, 6, 1, 14, 0, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Sold:
    """One line as somebody enters it: an item with its amount, positive where it is charged."""

    item: str | None
    quantity: Decimal | None
    amount: Decimal | None
    fields: Mapping[str, Any] = field(default_factory=dict)  # further columns of the line


class Books:
    """Documents of one account with several subsidiaries, currencies and accounting books."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.tables = Tables(_SCHEMA, clock.now, _SHOWN)
        self._db = self.tables.db
        self._next_id, self._next_key = 1000, 50_000
        self._masters()

    def now(self) -> datetime:
        """The account's clock."""
        return self._clock.now()

    # -- masters -----------------------------------------------------------------------------

    def _masters(self) -> None:
        stamp = self._stamp(_FIRST_DAY)
        codes = list(company.PRICE_FACTORS)
        self.currencies = {code: number for number, code in enumerate(codes, start=1)}
        for code, number in self.currencies.items():
            insert(self._db, "currency", [{"id": number, "name": code, "symbol": code}])
        for number, (name, code, _) in _SUBSIDIARIES.items():
            row = {
                "id": number,
                "name": name.rpartition(" : ")[2],
                "fullname": name,
                "currency": self.currencies[code],
            }
            insert(self._db, "subsidiary", [row])
        for number, name, primary in ((1, "Primary Accounting Book", "T"), (2, "IFRS", "F")):
            insert(self._db, "accountingbook", [{"id": number, "name": name, "isprimary": primary}])
        for kind, (record, *_, statuses) in TYPES.items():
            for letter, text in statuses.items():
                name = f"{record.title()} : {text}"
                insert(self._db, "statusname", [{"code": kind + letter, "name": name}])
        self.customers = {}
        for number, customer in enumerate(company.CUSTOMERS, start=201):
            self.customers[customer.key] = number
            row = {
                "id": number,
                "entityid": f"C{number + 10_000}",
                "companyname": customer.billing_name,
                "email": customer.email,
                "isperson": "F",
                "currency": self.currencies[customer.currency],
                "subsidiary": subsidiary_of(customer),
                "lastmodifieddate": stamp,
                "custentity_sf_account_id": f"CRM-{customer.key}",
            }
            insert(self._db, "customer", [row])
        self.items: dict[str, tuple[int, str]] = {}
        for number, product in enumerate(company.PRODUCTS, start=11):
            kind = _KINDS.get(product.kind, "NonInvtPart")
            self._item(number, product.code, kind, stamp, product)
        for number, name, kind in _OTHER_ITEMS:
            self._item(number, name, kind, stamp, None)

    def _item(
        self, number: int, name: str, kind: str, stamp: str, product: company.Product | None
    ) -> None:
        self.items[name] = (number, kind)
        row = {
            "id": number,
            "itemid": name,
            "fullname": name,
            "displayname": product.name if product else name,
            "itemtype": kind,
            "lastmodifieddate": stamp,
            "custitem_crm_code": product.code if product else None,
            "custitem_product_type": product.kind if product else None,
            "custitem_term_months": product.term_months if product else None,
        }
        insert(self._db, "item", [row])

    # -- documents ---------------------------------------------------------------------------

    def add(
        self,
        kind: str,
        number: str | None,
        customer: company.Customer,
        day: str,
        lines: Iterable[Sold],
        *,
        at: datetime | None = None,
        tax: tuple[str, Decimal] | None = None,
        discount: Decimal | None = None,
        made_from: int | None = None,
        **header: Any,
    ) -> int:
        """Post a document and return its id.

        `tax` is an item and a rate in percent, `discount` an amount on the whole document,
        `made_from` the transaction whose lines it was made of, line by line.
        """
        record, _, sign, _ = TYPES[kind]
        sold = list(lines)
        stamp = self._stamp(at or datetime.fromisoformat(f"{day}T18:30:00+00:00"))
        identifier = self._next_id
        self._next_id += 1
        currency = header.pop("currency", customer.currency)
        rate = _rate(customer)
        if discount is not None:
            sold.append(Sold("Goodwill", None, -discount, {"transactiondiscount": "T"}))
        counted = [line for line in sold if _carries(line)]
        net = sum((line.amount or Decimal(0) for line in counted), Decimal(0))
        if tax is not None:
            shipped = sum((line.amount or 0 for line in sold if line.item == "Courier"), Decimal(0))
            taxed = _rounded((net - shipped) * tax[1] / 100, currency)
            sold.append(Sold(tax[0], None, taxed, {"taxline": "T"}))
            net += taxed
        row = {
            "id": identifier,
            "tranid": number,
            "transactionnumber": f"{record.upper()}{identifier}",
            "type": kind,
            "recordtype": record,
            "trandate": day,
            "status": "B" if kind in ("CashSale", "CashRfnd", "Journal", "SalesOrd") else "A",
            "entity": self.customers[customer.key],
            "currency": self.currencies.get(currency),
            "exchangerate": float(rate),
            "foreigntotal": float(-sign * net),
            "posting": "F" if kind in ("SalesOrd", "RtnAuth") else "T",
            "void": "F",
            "voided": "F",
            "createddate": stamp,
            "lastmodifieddate": stamp,
            **header,
        }
        insert(self._db, "transaction", [row])
        entity = subsidiary_of(customer)
        shared = {"subsidiary": entity, "linelastmodifieddate": stamp, "createdfrom": made_from}
        main = Sold(None, None, -net, {"mainline": "T"})
        before = self._sold_lines(made_from) if made_from else []
        for place, line in enumerate([main, *sold]):
            key, posted = self._line(identifier, place, line, sign, rate, shared)
            if before and posted["itemtype"] is not None and posted["taxline"] == "F":
                self._link(before.pop(0), identifier, place, kind, posted["foreignamount"])
            if posted["itemtype"] == "InvtPart" and kind != "SalesOrd":
                self._cost(identifier, 500 + 2 * place, posted, shared)
            self._account(identifier, place, key, posted["netamount"])
        return identifier

    def _line(
        self,
        transaction: int,
        place: int,
        line: Sold,
        sign: int,
        rate: Decimal,
        shared: Mapping[str, Any],
    ) -> tuple[int, dict[str, Any]]:
        amount = None if line.amount is None else sign * line.amount
        item, kind = self.items[line.item] if line.item else (None, None)
        base = None if amount is None else _rounded(amount * rate, _base_of(shared["subsidiary"]))
        price = line.amount / line.quantity if line.amount is not None and line.quantity else None
        row = {
            "uniquekey": self._next_key,
            "id": place,
            "transaction": transaction,
            "linesequencenumber": place,
            "mainline": "F",
            "taxline": "F",
            "iscogs": "F",
            "transactiondiscount": "F",
            "donotdisplayline": "F",
            "item": item,
            "itemtype": kind,
            "quantity": _float(line.quantity and sign * line.quantity),
            "rate": "-10.0%" if line.item == "Partner Discount 10%" else _float(price),
            "netamount": _float(base),
            "foreignamount": _float(amount),
            "isclosed": "F",
            **shared,
            **line.fields,
        }
        insert(self._db, "transactionline", [row])
        self._next_key += 1
        return self._next_key - 1, row

    def _cost(
        self, transaction: int, place: int, sold: Mapping[str, Any], shared: Mapping[str, Any]
    ) -> None:
        """The cost of goods and the stock that they left: two lines that cancel each other."""
        cost = round((sold["foreignamount"] or 0) * 0.4, 2)
        for offset, amount in ((0, -cost), (1, cost)):
            insert(
                self._db,
                "transactionline",
                [
                    {
                        **sold,
                        **shared,
                        "uniquekey": self._next_key,
                        "id": place + offset,
                        "transaction": transaction,
                        "linesequencenumber": place + offset,
                        "iscogs": "T",
                        "donotdisplayline": "T",
                        "foreignamount": amount,
                        "netamount": amount,
                    }
                ],
            )
            self._next_key += 1

    def _account(self, transaction: int, place: int, key: int, amount: float | None) -> None:
        """The line in both accounting books: who joins this table without choosing counts twice."""
        insert(
            self._db,
            "transactionaccountingline",
            (
                {
                    "transaction": transaction,
                    "transactionline": place,
                    "accountingbook": book,
                    "account": 400 + key % 3,
                    "amount": amount,
                    "netamount": amount,
                    "posting": "T",
                }
                for book in (1, 2)
            ),
        )

    def _sold_lines(self, transaction: int) -> list[tuple[int, int, str]]:
        return self._db.execute(
            "SELECT tl.[transaction], tl.id, t.type FROM transactionline tl"
            " JOIN [transaction] t ON t.id = tl.[transaction]"
            " WHERE tl.[transaction] = ? AND item IS NOT NULL AND taxline = 'F' AND iscogs = 'F'"
            " ORDER BY tl.id",
            [transaction],
        ).fetchall()

    def _link(
        self,
        before: tuple[int, int, str],
        document: int,
        line: int,
        kind: str,
        amount: float | None,
    ) -> None:
        previous, previous_line, previous_kind = before
        row = {
            "previousdoc": previous,
            "previousline": previous_line,
            "previoustype": previous_kind,
            "nextdoc": document,
            "nextline": line,
            "nexttype": kind,
            "linktype": "OrdBill" if previous_kind == "SalesOrd" else "SaleRet",
            "foreignamount": amount,
        }
        insert(self._db, "previoustransactionlinelink", [row])

    # -- what happens to documents -----------------------------------------------------------

    def edit(self, transaction: int, fields: Mapping[str, Any], at: datetime | None = None) -> None:
        """Change columns of the header, which moves its stamp."""
        self._update("transaction", "id", transaction, fields, "lastmodifieddate", at)

    def edit_line(self, key: int, fields: Mapping[str, Any], *, header: bool = False) -> None:
        """Change columns of a line; the header's stamp moves only where `header` says so."""
        self._update("transactionline", "uniquekey", key, fields, "linelastmodifieddate")
        if header:
            self.edit(self._one(_OWNER, key), {})

    def edit_master(self, table: str, identifier: int, fields: Mapping[str, Any]) -> None:
        """Change columns of a customer or an item; no transaction's stamp moves."""
        self._update(table, "id", identifier, fields, "lastmodifieddate")

    def delete_line(self, key: int) -> None:
        """A line goes without a trace, but that the header was saved."""
        transaction = self._one(_OWNER, key)
        self._db.execute("DELETE FROM transactionline WHERE uniquekey = ?", [key])
        self.edit(transaction, {})

    def delete(self, transaction: int) -> None:
        """The document goes, and leaves a record of its deletion."""
        kind = self._one("SELECT type FROM [transaction] WHERE id = ?", transaction)
        number = self._one("SELECT tranid FROM [transaction] WHERE id = ?", transaction)
        for table, column in (("transaction", "id"), ("transactionline", "transaction")):
            self._db.execute(f"DELETE FROM [{table}] WHERE [{column}] = ?", [transaction])
        self.record_deletion(transaction, TYPES[kind][0], TYPES[kind][1], number)

    def record_deletion(self, identifier: int, script: str, kind: str, name: str | None) -> None:
        """A row of `deletedrecord`; ids of different record types may be equal."""
        row = {
            "recordid": identifier,
            "recordtypeid": -30,
            "scriptid": script,
            "type": kind,
            "name": name,
            "deleteddate": self._stamp(self._clock.now()),
        }
        insert(self._db, "deletedrecord", [row])

    def void(self, transaction: int, at: datetime | None = None) -> None:
        """Void by flag: all amounts become nothing."""
        self.edit(transaction, {"voided": "T", "status": "V", "foreigntotal": 0.0}, at)
        self._db.execute(
            "UPDATE transactionline SET foreignamount = 0, netamount = 0 WHERE [transaction] = ?",
            [transaction],
        )

    def reverse(self, transaction: int, day: str, at: datetime | None = None) -> int:
        """Void by a journal of a later day: the document itself stays as it is."""
        key = self._one("SELECT entity FROM [transaction] WHERE id = ?", transaction)
        customer = next(one for one in company.CUSTOMERS if self.customers[one.key] == key)
        return self.add(
            "Journal",
            f"VOID{transaction}",
            customer,
            day,
            [Sold(None, None, None)],
            at=at or self._clock.now(),
            made_from=transaction,
            void="T",
        )

    def erase_stamps(self, transaction: int) -> None:
        """Header and lines lose their stamps: so some imports leave them."""
        for table, key, stamp in (
            ("transaction", "id", "lastmodifieddate"),
            ("transactionline", "transaction", "linelastmodifieddate"),
        ):
            self._db.execute(
                f"UPDATE [{table}] SET [{stamp}] = NULL WHERE [{key}] = ?", [transaction]
            )

    def find(self, number: str) -> int:
        """The id of the document with that number."""
        return int(self._one("SELECT id FROM [transaction] WHERE tranid = ?", number))

    def lines(self, transaction: int) -> list[int]:
        """The keys of a document's lines with an item, from above."""
        return [
            key
            for (key,) in self._db.execute(
                "SELECT uniquekey FROM transactionline WHERE [transaction] = ?"
                " AND mainline = 'F' AND iscogs = 'F' ORDER BY linesequencenumber",
                [transaction],
            )
        ]

    def bulk(self, count: int, day: str) -> None:
        """Many invoices of one line each, saved in the same second: what an import leaves."""
        stamp = self._stamp(self._clock.now())
        first, key = self._next_id, self._next_key
        header = (first, day, stamp, stamp, count)
        self._db.execute(
            "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?5)"
            " INSERT INTO [transaction] (id, tranid, type, recordtype, trandate, status, entity,"
            " currency, exchangerate, foreigntotal, posting, void, voided, createddate,"
            " lastmodifieddate) SELECT ?1 + i, 'BULK' || i, 'CustInvc', 'invoice', ?2, 'A', 201, 1,"
            " 1, 10, 'T', 'F', 'F', ?3, ?4 FROM n",
            header,
        )
        self._db.execute(
            "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?4)"
            " INSERT INTO transactionline (uniquekey, id, [transaction], linesequencenumber,"
            " mainline, taxline, iscogs, transactiondiscount, item, itemtype, quantity, netamount,"
            " foreignamount, subsidiary, linelastmodifieddate)"
            " SELECT ?1 + i, 1, ?2 + i, 1, 'F', 'F', 'F', 'F', 11, 'NonInvtPart', -1, -10, -10, 1,"
            " ?3 FROM n",
            (key, first, stamp, count),
        )
        self._next_id += count
        self._next_key += count

    def _update(
        self,
        table: str,
        key: str,
        value: int,
        fields: Mapping[str, Any],
        stamp: str,
        at: datetime | None = None,
    ) -> None:
        changed = {**fields, stamp: self._stamp(at or self._clock.now())}
        columns = ", ".join(f"[{name}] = ?" for name in changed)
        self._db.execute(
            f"UPDATE [{table}] SET {columns} WHERE [{key}] = ?", [*changed.values(), value]
        )

    def _one(self, sql: str, value: Any) -> Any:
        row = self._db.execute(sql, [value]).fetchone()
        if row is None:
            raise KeyError(value)
        return row[0]

    def _stamp(self, moment: datetime) -> str:
        return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def subsidiary_of(customer: company.Customer) -> int:
    """The id of the subsidiary that bills a customer."""
    return next(
        number for number, (_, _, lands) in _SUBSIDIARIES.items() if customer.country in lands
    )


def _base_of(subsidiary: int) -> str:
    return _SUBSIDIARIES[subsidiary][1]


def _rate(customer: company.Customer) -> Decimal:
    """Base currency of the subsidiary per unit of the customer's."""
    base = company.PRICE_FACTORS[_base_of(subsidiary_of(customer))]
    return (base / company.PRICE_FACTORS[customer.currency]).quantize(Decimal("0.00000001"))


def _carries(line: Sold) -> bool:
    """Whether a line's amount is part of the total: not a subtotal's, nor a kit's parts'."""
    return line.item not in ("Subtotal", "End of Group") and line.fields.get("kitcomponent") != "T"


def _rounded(amount: Decimal, currency: str) -> Decimal:
    return amount.quantize(Decimal(1).scaleb(-exponent(currency)), ROUND_HALF_UP)


def _float(number: Decimal | None) -> float | None:
    return None if number is None else float(number)
