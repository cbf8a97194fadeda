"""The text of NetSuite's queries, and which of their columns an account has.

Accounts differ by edition and features: one with a single currency has no currencies, custom
fields exist where somebody made them. Nothing describes the tables that queries see, so the columns
are tried; what an account lacks is left out of all queries.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from resources.netsuite_api import SOURCE, QueryError, UnexpectedError
from revrec_pipeline.errors import SettingsError, SourceSchemaError
from revrec_pipeline.mapping.netsuite import OBJECTS, TABLES, NetsuiteSettings

#: Wider results come back without rows and without any word (Estuary).
_WIDEST = 100
_DAY, _INSTANT = "'YYYY-MM-DD'", "'YYYY-MM-DD HH24:MI:SS'"
_FORMS = {
    "value": "{}",
    "text": "BUILTIN.DF({})",
    "day": f"TO_CHAR({{}}, {_DAY})",
    "instant": f"TO_CHAR({{}}, {_INSTANT})",
}
#: Tables and the alias that queries give them.
_ALIASES: Mapping[str, str] = {
    **TABLES,
    "currency": "cu",
    "deletedrecord": "d",
    "previoustransactionlinelink": "l",
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a query: where it is from, under which name and in which form."""

    name: str
    table: str
    column: str
    form: str = "value"
    #: What is lost without it; None: nothing works without it.
    optional: str | None = None

    @property
    def sql(self) -> str:
        """Its place in a select list."""
        return f"{_FORMS[self.form].format(f'{_ALIASES[self.table]}.{self.column}')} AS {self.name}"


_HEADER = (
    Column("id", "transaction", "id"),
    Column("type", "transaction", "type"),
    Column("tranid", "transaction", "tranid"),
    Column("trandate", "transaction", "trandate", "day"),
    Column("modified", "transaction", "lastmodifieddate", "instant"),
    Column("status", "transaction", "status"),
    Column("statusname", "transaction", "status", "text"),
    Column("posting", "transaction", "posting"),
    Column("voided", "transaction", "voided"),
    Column("total", "transaction", "foreigntotal", optional="the total"),
    Column("entity", "transaction", "entity"),
    Column("closed", "transaction", "closedate", "day", optional="the day of payment"),
    Column("companyname", "customer", "companyname"),
    Column("altname", "customer", "altname", optional="names of customers that are persons"),
    Column("currency", "currency", "symbol", optional="currencies other than the home currency"),
)
_LINE = (
    Column("key", "transactionline", "uniquekey"),
    Column("transaction", "transactionline", "transaction"),
    Column("line", "transactionline", "id"),
    Column("sequence", "transactionline", "linesequencenumber"),
    # Without one of these a tax, a cost or a discount would count as revenue.
    Column("mainline", "transactionline", "mainline"),
    Column("taxline", "transactionline", "taxline"),
    Column("iscogs", "transactionline", "iscogs"),
    Column("transactiondiscount", "transactionline", "transactiondiscount"),
    Column("itemtype", "transactionline", "itemtype"),
    Column("kitcomponent", "transactionline", "kitcomponent", optional="kits"),
    Column("item", "transactionline", "item"),
    Column("quantity", "transactionline", "quantity"),
    Column("foreignamount", "transactionline", "foreignamount", optional="foreign amounts"),
    Column("netamount", "transactionline", "netamount"),
    Column("subsidiary", "transactionline", "subsidiary", optional="subsidiaries"),
    Column("subsidiaryname", "transactionline", "subsidiary", "text", optional="subsidiaries"),
    Column("modified", "transactionline", "linelastmodifieddate", "instant"),
    Column("itemcode", "item", "itemid"),
    Column("itemname", "item", "displayname", optional="names of items"),
)
#: Columns that queries use beside those they show.
_USED = (
    Column("", "transaction", "currency", optional="currencies other than the home currency"),
    Column("", "transaction", "void", optional="voids by journals"),
    Column("", "transactionline", "createdfrom", optional="what a line was made from"),
    Column("", "customer", "lastmodifieddate", optional="changes of customers"),
    Column("", "item", "lastmodifieddate", optional="changes of items"),
    *(
        Column("", "previoustransactionlinelink", name, optional="links of order and credit lines")
        for name in ("nextdoc", "nextline", "previousdoc", "previousline", "previoustype")
    ),
    *(
        Column("", "deletedrecord", name, optional="deletions (permission Deleted Records)")
        for name in ("recordid", "type", "scriptid", "deleteddate")
    ),
)


@dataclass(frozen=True, slots=True)
class Selection:
    """What this account lets us ask for."""

    header: tuple[Column, ...]
    line: tuple[Column, ...]
    lacking: frozenset[tuple[str, str]]  # table and column
    #: What is lost by that, and which settings name a column that is not there.
    missing: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()

    def has(self, table: str, *columns: str) -> bool:
        """Whether all of these columns are there."""
        return not self.lacking.intersection((table, column) for column in columns)

    # -- queries -----------------------------------------------------------------------------

    def headers(self) -> str:
        """Documents, without the condition."""
        shown = ", ".join(column.sql for column in self.header)
        currency = " LEFT JOIN currency cu ON cu.id = t.currency" if self.has_currencies else ""
        return (
            f"SELECT {shown} FROM transaction t LEFT JOIN customer c ON c.id = t.entity{currency}"
        )

    def lines(self) -> str:
        """Lines of documents, without the condition."""
        shown = ", ".join(column.sql for column in self.line)
        origin = ""
        if self.has("transactionline", "createdfrom"):
            shown += ", o.type AS fromtype, o.tranid AS fromnumber"
            origin = " LEFT JOIN transaction o ON o.id = tl.createdfrom"
        return f"SELECT {shown} FROM transactionline tl LEFT JOIN item i ON i.id = tl.item{origin}"

    @property
    def has_currencies(self) -> bool:
        """Whether documents name their currency."""
        return any(column.name == "currency" for column in self.header)

    def links(self, ids: str) -> str | None:
        """What lines of these documents were made from, and what that was made from."""
        table = "previoustransactionlinelink"
        if not self.has(table, "nextdoc", "nextline", "previousdoc", "previousline"):
            return None
        return (
            "SELECT l.nextdoc AS document, l.nextline AS line, p.type AS type1, p.tranid AS number1"
            f", TO_CHAR(p.trandate, {_DAY}) AS day1, pl.uniquekey AS key1, pp.type AS type2"
            f", pp.tranid AS number2, TO_CHAR(pp.trandate, {_DAY}) AS day2, ppl.uniquekey AS key2"
            f" FROM {table} l JOIN transaction p ON p.id = l.previousdoc"
            " JOIN transactionline pl ON pl.transaction = l.previousdoc AND pl.id = l.previousline"
            f" LEFT JOIN {table} ll ON ll.nextdoc = l.previousdoc AND ll.nextline = l.previousline"
            " LEFT JOIN transaction pp ON pp.id = ll.previousdoc"
            " LEFT JOIN transactionline ppl ON ppl.transaction = ll.previousdoc"
            " AND ppl.id = ll.previousline"
            f" WHERE l.nextdoc IN ({ids}) ORDER BY l.nextdoc, l.nextline, pl.uniquekey"
        )

    def voids(self, ids: str) -> str | None:
        """The journals that take these documents back."""
        if not (self.has("transaction", "void") and self.has("transactionline", "createdfrom")):
            return None
        return (
            "SELECT DISTINCT j.id AS id, jl.createdfrom AS voids FROM transaction j"
            " JOIN transactionline jl ON jl.transaction = j.id"
            f" WHERE j.type = 'Journal' AND j.void = 'T' AND jl.createdfrom IN ({ids})"
            " ORDER BY j.id"
        )

    def changed(self) -> list[tuple[str, str]]:
        """Joins and the stamp, for each reason that makes a document a changed one.

        Headers and lines are stamped independently; names and codes come from customers and items.
        """
        lines = " JOIN transactionline tl ON tl.transaction = t.id"
        found = [("", "t.lastmodifieddate"), (lines, "tl.linelastmodifieddate")]
        if self.has("customer", "lastmodifieddate"):
            found.append((" JOIN customer c ON c.id = t.entity", "c.lastmodifieddate"))
        if self.has("item", "lastmodifieddate"):
            found.append((f"{lines} JOIN item i ON i.id = tl.item", "i.lastmodifieddate"))
        if self.has("transaction", "void") and self.has("transactionline", "createdfrom"):
            journals = (
                " JOIN transactionline jl ON jl.createdfrom = t.id"
                " JOIN transaction j ON j.id = jl.transaction AND j.type = 'Journal'"
                " AND j.void = 'T'"
            )
            found.append((journals, "j.lastmodifieddate"))
        return found

    def deletions(self, window: str) -> str | None:
        """What was deleted in a window, of any record type."""
        if not self.has("deletedrecord", "recordid", "type", "scriptid", "deleteddate"):
            return None
        return (
            "SELECT d.recordid AS id, d.type AS type, d.scriptid AS name"
            f", TO_CHAR(d.deleteddate, {_INSTANT}) AS modified FROM deletedrecord d"
            f" WHERE {window} ORDER BY d.deleteddate, d.recordid"
        )


def select(try_query: Callable[[str], object], settings: NetsuiteSettings) -> Selection:
    """Find out which of the wanted columns the account has.

    Raises:
        SourceSchemaError: it lacks one that nothing works without.
        SettingsError: the settings name more columns than a query may have.
    """
    named = settings.named()
    chosen = [
        Column(one.alias, one.table, one.column, one.form, optional=f"the setting {setting}")
        for setting, one in named.items()
    ]
    _refuse_too_many(len(chosen))
    wanted: dict[str, dict[str, None]] = {}
    for column in (*_HEADER, *_LINE, *_USED, *chosen):
        wanted.setdefault(column.table, {})[column.column] = None
    lacking = frozenset(
        (table, column)
        for table, columns in wanted.items()
        for column in _lacking(try_query, table, list(columns))
    )
    if ("transaction", "currency") in lacking:
        lacking |= {("currency", "symbol")}
    missing: dict[str, None] = {}
    wrong = []
    for column in (*_HEADER, *_LINE, *_USED, *chosen):
        if (column.table, column.column) not in lacking:
            continue
        if column.optional is None:
            raise SourceSchemaError(
                SOURCE,
                f"the account shows no {column.table}.{column.column}; give the integration's role "
                "view access to transactions, customers and items",
            )
        missing[f"{column.table}.{column.column}: {column.optional}"] = None
    for setting, one in named.items():
        if (one.table, one.column) in lacking and (
            setting.partition(".")[0] in settings.model_fields_set
        ):
            wrong.append(
                f"sources.netsuite.{setting} names {one.table}.{one.column}, which the account "
                "does not have or the integration's role may not see"
            )
    headers = [one for one in chosen if one.table in ("transaction", "customer")]
    lines = [one for one in chosen if one not in headers]
    return Selection(
        header=_present((*_HEADER, *headers), lacking),
        line=_present((*_LINE, *lines), lacking),
        lacking=lacking,
        missing=tuple(missing),
        wrong=tuple(wrong),
    )


def _refuse_too_many(chosen: int) -> None:
    most = _WIDEST - max(len(_HEADER), len(_LINE) + 2)
    if chosen > most:
        raise SettingsError(
            f"sources.netsuite names {chosen} columns, and {most} are possible: NetSuite answers "
            f"queries of more than {_WIDEST} columns with no rows at all; shorten custom_fields"
        )


def _present(columns: Iterable[Column], lacking: frozenset[tuple[str, str]]) -> tuple[Column, ...]:
    by_name = {one.name: one for one in columns if (one.table, one.column) not in lacking}
    return tuple(by_name.values())


def _lacking(try_query: Callable[[str], object], table: str, columns: list[str]) -> Iterable[str]:
    """Which of these columns a table has not; all of them, if there is no such table."""
    left = list(columns)
    while left:
        try:
            try_query(_probe(table, left))
        except QueryError as error:
            named = _named_in(error.detail)
            if named in left:
                left.remove(named)
                continue
        except UnexpectedError:
            pass  # one of NetSuite's answers to a bad column; which one, it does not say
        else:
            return [column for column in columns if column not in left]
        break
    return [column for column in columns if column not in left or _fails(try_query, table, column)]


def _fails(try_query: Callable[[str], object], table: str, column: str) -> bool:
    try:
        try_query(_probe(table, [column]))
    except (QueryError, UnexpectedError):
        return True
    return False


def _probe(table: str, columns: list[str]) -> str:
    name = _ALIASES[table]
    shown = ", ".join(f"{name}.{column}" for column in columns)
    return f"SELECT {shown} FROM {table} {name} WHERE 1 = 0"


def _named_in(detail: str) -> str | None:
    """The column that a refusal names, in either of its two wordings."""
    match = re.search(r"Field '(\w+)' for record|[Uu]nknown identifier '?(?:\w+\.)?(\w+)", detail)
    return (match[1] or match[2]).lower() if match else None


def types_of(name: str) -> str:
    """The transaction types of a raw object, as a list for IN."""
    return ", ".join(f"'{kind}'" for kind, owner in OBJECTS.items() if owner == name)


def instant(moment: datetime) -> str:
    """A literal; `moment` has no zone and is on the integration user's clocks."""
    return f"TO_TIMESTAMP('{moment:%Y-%m-%d %H:%M:%S}', {_INSTANT})"


def day(text: str) -> str:
    """A literal of a day (YYYY-MM-DD)."""
    return f"TO_DATE('{text}', {_DAY})"
