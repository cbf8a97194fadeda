"""One wording of SQL becomes each driver's own."""

import pytest

from revrec_pipeline.ledger import Ledger
from revrec_pipeline.ledger.parameters import bind, translate
from revrec_pipeline.model import Route


@pytest.mark.parametrize(
    ("sql", "duckdb", "psycopg2", "names"),
    [
        ("a = :a", "a = $a", "a = (%(a)s)", {"a"}),
        (":a + :b_2 + :a", "$a + $b_2 + $a", "(%(a)s) + (%(b_2)s) + (%(a)s)", {"a", "b_2"}),
        ("x::TEXT", "x::TEXT", "x::TEXT", set()),
        (":a::TEXT", "$a::TEXT", "(%(a)s)::TEXT", {"a"}),
        ("':a' || :a", "':a' || $a", "':a' || (%(a)s)", {"a"}),
        ("'it''s :a' || :b", "'it''s :a' || $b", "'it''s :a' || (%(b)s)", {"b"}),
        ('":a" = :b', '":a" = $b', '":a" = (%(b)s)', {"b"}),
        ('"a"":b" = :b', '"a"":b" = $b', '"a"":b" = (%(b)s)', {"b"}),
        ("1 -- it's :a\n+ :b", "1 -- it's :a\n+ $b", "1 -- it's :a\n+ (%(b)s)", {"b"}),
        ("/* ':a\n */ :b", "/* ':a\n */ $b", "/* ':a\n */ (%(b)s)", {"b"}),
        ("x LIKE '50%' || :a", "x LIKE '50%' || $a", "x LIKE '50%%' || (%(a)s)", {"a"}),
        ("7 % 2", "7 % 2", "7 %% 2", set()),
    ],
)
def test_only_parameters_are_translated(
    sql: str, duckdb: str, psycopg2: str, names: set[str]
) -> None:
    assert translate(sql, "duckdb") == (duckdb, names)
    assert translate(sql, "psycopg2") == (psycopg2, names)


@pytest.mark.parametrize("params", [{}, {"a": 1, "b": 2}, {"b": 1}])
def test_a_missing_or_superfluous_parameter_is_refused(params: dict[str, int]) -> None:
    with pytest.raises(TypeError, match=r"takes \['a'\]"):
        bind("SELECT :a", params, "duckdb")


def test_both_back_ends_understand_what_is_translated(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        found = tx.one(
            """
            SELECT ':a 100 % it''s' AS quoted, :a::TEXT AS given, 7 % 4 AS rest, -- :b isn't one
                :route AS route, :none::TEXT IS NULL AS is_null, 2 = ANY(:numbers) AS found,
                'x' = ANY(:nothing) AS missing
            """,
            a="%s :b ' \\ $a %(a)s",
            route=Route.LIVE,
            none=None,
            numbers=[1, 2],
            nothing=[],
        )
    assert found == {
        "quoted": ":a 100 % it's",
        "given": "%s :b ' \\ $a %(a)s",
        "rest": 3,
        "route": "live",
        "is_null": True,
        "found": True,
        "missing": False,
    }
