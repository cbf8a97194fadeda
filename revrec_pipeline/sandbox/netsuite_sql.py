"""SuiteQL over tables named as NetSuite names them: translation to SQLite, types and refusals.

Only what exists at NetSuite may be asked for: its functions, and no LIMIT, which is a parameter of
the request there. Instants are kept in UTC and shown on the integration user's clocks, as NetSuite
does, and as a mere date unless they are formatted.
"""

import re
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

#: Rows beyond this are never returned, however the query is paged.
ROW_CAP = 100_000
#: Wider results come back empty, without any word (Estuary).
_COLUMN_CAP = 100

_TOKEN = re.compile(r"\s+|'(?:[^']|'')*'|\d+(?:\.\d+)?|[A-Za-z_]\w*|<=|>=|<>|!=|\|\||[=<>(),.*+/-]")
_KEYWORDS = frozenset(
    "select distinct from where and or not in is null as on join left inner outer order by asc "  # noqa: SIM905
    "desc group having case when then else end between like exists union all".split()
)
_FUNCTIONS = frozenset(
    "count max min sum avg nvl coalesce to_char to_date to_timestamp upper lower substr length "  # noqa: SIM905
    "abs round trim".split()
)
#: Words that may not name a column, as at Oracle, whose database is behind it.
_RESERVED = frozenset(
    "access char check column comment current date day decimal default file float index integer "  # noqa: SIM905
    "level long mode month number option prior raw resource row rows session size start table "
    "uid user values view year".split()
)
_CONSTANTS = {"current_timestamp": "now_here()", "sysdate": "now_here()"}
_FORMATS = {"YYYY-MM-DD": "%Y-%m-%d", "YYYY-MM-DD HH24:MI:SS": "%Y-%m-%d %H:%M:%S"}
_STORED = "%Y-%m-%d %H:%M:%S"


class SuiteQLError(ValueError):
    """A query that NetSuite refuses; the text is the detail of its error body."""


class _Instant(str):
    """An instant as it is stored, which shows itself as a date only."""


class _Day(str):
    """A day as it is stored, which shows itself in the user's date format."""


sqlite3.register_converter("NS_DATE", lambda stored: _Day(stored.decode()))
sqlite3.register_converter("NS_DATETIME", lambda stored: _Instant(stored.decode()))


class Tables:
    """The tables of one account in memory."""

    def __init__(self, schema: str, now: Callable[[], datetime], shown: Mapping[str, str]) -> None:
        self._now = now
        #: Columns (`table.column`) and tables that this account lacks or this user may not see.
        self.hidden: set[str] = set()
        #: Where the integration user's clocks are.
        self.zone = ZoneInfo("UTC")
        # The server's thread is not the one that made the tables; requests come one at a time.
        self.db = sqlite3.connect(
            ":memory:",
            isolation_level=None,
            check_same_thread=False,
            detect_types=sqlite3.PARSE_DECLTYPES,
        )
        self.db.executescript(schema)
        self._shown = shown
        for name, arguments, function in (
            ("to_char", 2, self._to_char),
            ("to_date", 2, _to_date),
            ("to_timestamp", 2, self._to_timestamp),
            ("now_here", 0, lambda: self._now().strftime(_STORED)),
            ("builtin_df", 2, self._display),
        ):
            # What depends on literals only is then computed once a query, and not once a row.
            constant = name in ("to_date", "to_timestamp")
            self.db.create_function(name, arguments, function, deterministic=constant)

    # -- queries -----------------------------------------------------------------------------

    def query(self, suiteql: str, limit: int, offset: int) -> tuple[int, list[dict[str, str]]]:
        """How many rows there are in all, and one page of them as NetSuite shows rows.

        Raises:
            SuiteQLError: NetSuite would refuse the query.
        """
        sql, tables = _translate(suiteql)
        for name in self.hidden.intersection(tables.values()):
            raise SuiteQLError(f"Search error occurred: Record '{name}' was not found.")
        self.db.set_authorizer(self._may)
        try:
            (total,) = self.db.execute(f"SELECT count(*) FROM ({sql})").fetchone()
            found = self.db.execute(f"{sql} LIMIT {min(limit, ROW_CAP - offset)} OFFSET {offset}")
            names = [column[0].lower() for column in found.description]
            rows = found.fetchall()
        except sqlite3.Error as error:
            raise SuiteQLError(_explain(str(error), tables)) from error
        finally:
            self.db.set_authorizer(None)
        if len(names) > _COLUMN_CAP:
            return 0, []
        return total, [
            {
                name: self._text(value)
                for name, value in zip(names, row, strict=True)
                if value is not None
            }
            for row in rows
        ]

    def _may(self, action: int, table: str | None, column: str | None, *_: Any) -> int:
        if action == sqlite3.SQLITE_READ and (
            f"{table}.{column}" in self.hidden or (table or "").startswith("sqlite_")
        ):
            return sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK

    def _text(self, value: Any) -> str:
        if isinstance(value, _Instant):
            value = _Day(self._here(value).strftime("%Y-%m-%d"))
        if isinstance(value, _Day):
            year, month, day = value.split("-")
            return f"{int(month)}/{int(day)}/{year}"
        if isinstance(value, float):
            return format(Decimal(repr(value)).normalize(), "f")
        return str(value)

    # -- functions ---------------------------------------------------------------------------

    def _here(self, stored: str) -> datetime:
        return datetime.strptime(stored, _STORED).replace(tzinfo=UTC).astimezone(self.zone)

    def _to_char(self, value: Any, wanted: str) -> str | None:
        if value is None:
            return None
        moment = self._here(value) if ":" in str(value) else datetime.fromisoformat(value)
        return moment.strftime(_FORMATS[wanted])

    def _to_timestamp(self, text: str, given: str) -> str:
        here = datetime.strptime(text, _FORMATS[given]).replace(tzinfo=self.zone)
        return here.astimezone(UTC).strftime(_STORED)

    def _display(self, column: str, value: Any) -> str | None:
        """BUILTIN.DF: what people see instead of an id."""
        if value is None or column not in self._shown:
            return None if value is None else self._text(value)
        row = self.db.execute(self._shown[column], [value]).fetchone()
        return row[0] if row else None


def _to_date(text: str, given: str) -> str:
    return datetime.strptime(text, _FORMATS[given]).strftime("%Y-%m-%d")  # noqa: DTZ007


def _tokens(suiteql: str) -> list[str]:
    tokens, position = [], 0
    while position < len(suiteql):
        match = _TOKEN.match(suiteql, position)
        if match is None:
            raise SuiteQLError(f"Unexpected character {suiteql[position]!r} in the query.")
        if not match[0].isspace():
            tokens.append(match[0])
        position = match.end()
    return tokens


def _translate(suiteql: str) -> tuple[str, dict[str, str]]:
    """The query for SQLite, and the table behind each alias."""
    tokens = _tokens(suiteql)
    if not tokens or tokens[0].lower() != "select":
        raise SuiteQLError("Invalid or unsupported search.")
    out: list[str] = []
    tables: dict[str, str] = {}
    position = 0
    while position < len(tokens):
        token = tokens[position]
        low = token.lower()
        if low == "builtin":
            call, used = _builtin(tokens[position:])
            out.append(call)
            position += used
            continue
        after = tokens[position + 1].lower() if position + 1 < len(tokens) else ""
        if not (token[0].isalpha() or token[0] == "_"):
            out.append(token)
        elif low in _CONSTANTS:
            out.append(_CONSTANTS[low])
        elif after == "(" and low not in _KEYWORDS:
            if low not in _FUNCTIONS:
                raise SuiteQLError(f"Unknown function {token}.")
            out.append("coalesce" if low == "nvl" else low)
        elif low in _RESERVED and out[-1:] == ["as"]:
            raise SuiteQLError(f"Invalid or unsupported search: {token} is a reserved word.")
        elif low in _KEYWORDS:
            out.append(low)
        else:
            # In brackets: what is unknown and in quotation marks would be a text for SQLite.
            out.append(f"[{low}]")
            if out[-2:-1] in (["from"], ["join"]):
                following = tokens[position + 1 : position + 3]
                named = [each.lower() for each in following if each.lower() != "as"]
                tables[low] = low
                if named and named[0].isidentifier() and named[0] not in _KEYWORDS:
                    tables[named[0]] = low
        position += 1
    return " ".join(out), tables


def _builtin(tokens: list[str]) -> tuple[str, int]:
    """`BUILTIN.DF(alias.column)` as a call that knows its column."""
    match [each.lower() for each in tokens[:7]]:
        case ["builtin", ".", "df", "(", owner, ".", column] if tokens[7:8] == [")"]:
            if column == "status":
                return f"builtin_df('status', [{owner}].[type] || [{owner}].[status])", 8
            return f"builtin_df('{column}', [{owner}].[{column}])", 8
    raise SuiteQLError("Invalid use of BUILTIN.")


def _explain(message: str, tables: Mapping[str, str]) -> str:
    """SQLite's complaint in NetSuite's words."""
    if match := re.search(r"no such table: (\w+)", message):
        return f"Search error occurred: Record '{match[1]}' was not found."
    if match := re.search(r"no such column: (?:(\w+)\.)?(\w+)", message):
        record = tables.get(match[1] or next(iter(tables), ""), "unknown")
    elif match := re.search(r"access to (?:\w+\.)?(\w+)\.(\w+) is prohibited", message):
        record = match[1]
    else:
        return f"Invalid or unsupported search: {message}."
    return (
        f"Search error occurred: Field '{match[2]}' for record '{record}' was not found. "
        "Reason: NOT_EXPOSED"
    )


def insert(db: sqlite3.Connection, table: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Insert rows; a column that a row does not name stays null."""
    for row in rows:
        columns = ", ".join(f"[{name}]" for name in row)
        db.execute(
            f"INSERT INTO [{table}] ({columns}) VALUES ({', '.join('?' * len(row))})",
            list(row.values()),
        )
