"""One wording of SQL for both drivers: `:name` parameters become what the driver understands.

What lives here is text only. `::` casts, quoted text, quoted names and comments stay as they are.
"""

import re
from collections.abc import Mapping
from enum import Enum
from functools import lru_cache
from typing import Any, Literal

Style = Literal["duckdb", "psycopg2"]

_TOKEN = re.compile(
    r"""'(?:[^']|'')*' | "(?:[^"]|"")*" | --[^\n]* | /\*.*?\*/ | :: | :(?P<name>[A-Za-z_]\w*)""",
    re.VERBOSE | re.DOTALL,
)


@lru_cache(maxsize=256)
def translate(sql: str, style: Style) -> tuple[str, frozenset[str]]:
    """The statement in the driver's own notation, and the names of its parameters."""
    names: set[str] = set()

    def placeholder(match: re.Match[str]) -> str:
        name = match["name"]
        if name is None:
            return match[0]
        names.add(name)
        if style == "duckdb":
            return f"${name}"
        # psycopg2 writes values into the text, and `-1::BIGINT` negates after the cast: hence the
        # brackets. It reads every '%' as its own: the NUL keeps ours apart until they are doubled.
        return f"(\0({name})s)"

    text = _TOKEN.sub(placeholder, sql)
    if style == "psycopg2":
        text = text.replace("%", "%%").replace("\0", "%")
    return text, frozenset(names)


def bind(sql: str, params: Mapping[str, Any], style: Style) -> tuple[str, dict[str, Any]]:
    """The statement and its parameters, as the driver wants both.

    Raises:
        TypeError: a parameter is missing, or is not in the statement.
    """
    text, names = translate(sql, style)
    if names != params.keys():
        raise TypeError(f"the statement takes {sorted(names)}, not {sorted(params)}: {sql}")
    return text, {
        name: value.value if isinstance(value, Enum) else value for name, value in params.items()
    }
