"""What a vendor itself says that a document is over ties with the lines, and a difference is named.

The real clients list every month of the sandbox; the mappings see all of it at once.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa
import pytest
from conftest import Sandbox

from resources.registry import resource_of
from revrec_pipeline import controls
from revrec_pipeline.engine import engine
from revrec_pipeline.model import RecordType
from revrec_pipeline.periods import period_range
from revrec_pipeline.sandbox import company
from revrec_pipeline.settings import Settings
from revrec_pipeline.sources import SOURCES
from revrec_pipeline.summary import own_totals

SALES, INVOICES = RecordType.SALES, RecordType.INVOICES
CONTRACT = "invoice_equals_contract = true"
HASTE = {
    "chargebee": "requests_per_minute = 1000000",
    "xero": "requests_per_minute = 1000000",
    "quickbooks": "requests_per_second = 10000",
}


class Case(NamedTuple):
    """A source under settings that pull the same, and where documents say what they are over."""

    source: str
    pulled: str  # settings that decide what is pulled
    mapped: tuple[tuple[RecordType, str], ...]  # and those under which it is mapped
    total: str  # what stands before the first digit of a total
    wrong: frozenset[str] = frozenset()  # documents that the vendor itself shows not to tie
    incomplete: frozenset[str] = frozenset()  # those without lines, or with amounts unknown


_BOTH = ((INVOICES, ""), (SALES, "invoice_equals_contract = true"))
CASES = {
    "chargebee": Case(
        "chargebee",
        "requests_per_minute = 1000000",
        _BOTH,
        '"total": ?',
        incomplete=frozenset({"GEYSIR-001"}),
    ),
    "xero": Case(
        "xero",
        "requests_per_minute = 1000000",
        _BOTH,
        '"(?:Sub)?Total": ?',
        incomplete=frozenset({"5eda1ba9-5f06-523c-8272-ec1f26578c21"}),
    ),
    "quickbooks": Case(
        "quickbooks",
        "requests_per_second = 10000",
        _BOTH,
        '"TotalAmt": ?-?',
        wrong=frozenset({"INV-257"}),
    ),
    "netsuite": Case("netsuite", "", ((INVOICES, ""),), '"total": ?"-?'),
    "netsuite's orders": Case("netsuite", "sales_orders = true", ((SALES, ""),), '"total": ?"-?'),
    "sage_intacct": Case("sage_intacct", "", _BOTH, "<TRX_TOTALENTERED>-?"),
    "opportunities": Case(
        "salesforce",
        "",
        ((SALES, ""),),
        '"Amount": ?',
        incomplete=frozenset({"006Hs000000002RIAQ"}),
    ),
    "orders": Case(
        "salesforce",
        'line_source = "order"',
        ((SALES, ""),),
        '"TotalAmount": ?-?',
        incomplete=frozenset({"801Hs000000001oIAA"}),
    ),
    "quotes": Case(
        "salesforce",
        'line_source = "cpq_quote"',
        ((SALES, ""),),
        '"SBQQ__NetAmount__c": ?-?',
    ),
}
_PAGES = pa.schema(
    [
        ("landing", pa.string()),
        ("page", pa.int32()),
        *((name, pa.string()) for name in ("parent", "format", "request", "body")),
    ]
)


class Pulled:
    """All documents of a source, as one month would hold them."""

    def __init__(self, case: Case, sandbox: Sandbox, home: Path) -> None:
        self._case, self._home = case, home
        if case.source in ("chargebee", "xero", "quickbooks"):
            sandbox.command("limit", source=case.source, per_second=None)
        self.settings = self.configured("")
        self.source = SOURCES[case.source].under(self.settings.source(case.source))
        pages: dict[str, list[dict[str, Any]]] = {name: [] for name in self.source.objects}
        keys: list[dict[str, Any]] = []
        with resource_of(case.source, self.settings).client() as client:
            for month in period_range(company.FOUNDED, company.LAST_MONTH):
                for page in client.listing(month):
                    number = len([one for one in pages[page.object] if one["landing"] == month])
                    place = {"landing": month, "page": number}
                    pages[page.object].append(
                        {
                            **place,
                            "parent": page.parent,
                            "format": page.format,
                            "request": page.request,
                            "body": page.body.decode(),
                        }
                    )
                    found = page.keys.to_pylist() if page.keys is not None else []
                    keys += [{"object": page.object, **place, **key} for key in found]
        self._pages = {name: pa.Table.from_pylist(rows, _PAGES) for name, rows in pages.items()}
        self._keys = pa.Table.from_pylist(keys)

    def configured(self, toml: str) -> Settings:
        """Settings with some lines more for the source."""
        (self._home / "revrec.toml").write_text(
            f'[site]\ntimezone = "America/New_York"\n[sources.{self._case.source}]\n'
            f"{self._case.pulled}\n{toml}\n"
        )
        return Settings.load()

    @contextmanager
    def mapped(
        self, record_type: RecordType, toml: str, planted: str | None = None
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection with the views of the mapping; a 9 stands before each total `planted`."""
        settings = self.configured(toml)
        with engine(self._home / "spill") as db:
            for name, table in self._pages.items():
                db.register(f"pages_{name}", table)
                body = "body"
                if planted:
                    body = f"regexp_replace(body, '({planted})(\\d)', '\\19\\2', 'g')"
                shown = f"SELECT * REPLACE ({body} AS body) FROM pages_{name}"
                db.execute(f"CREATE TABLE raw_{name} AS {shown}")
            db.register("keys", self._keys)
            db.execute(
                "CREATE TABLE current AS SELECT DISTINCT ON (object, id) object, id, version, "
                "landing, page FROM keys ORDER BY object, id, version DESC, landing DESC"
            )
            mapping = settings.source(self._case.source)
            self.source.rows(db, record_type, mapping, settings.mapping_site())
            yield db


def store(db: duckdb.DuckDBPyConnection, rows: str = "FROM rows") -> None:
    db.execute(
        "CREATE OR REPLACE TABLE stored AS SELECT *, row_number() OVER () AS position "
        f"FROM ({rows})"
    )


def untied(db: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """Document → what does not tie."""
    db.execute("DROP TABLE IF EXISTS compared")
    controls.compare(db)
    found = db.execute(
        f"SELECT document_id, message FROM ({controls.DIFFERENCES}) JOIN stored USING (position)"
    ).fetchall()
    assert len(found) == len(dict(found))
    return dict(found)


def compared(db: duckdb.DuckDBPyConnection) -> tuple[set[str], set[str]]:
    """The documents that count, and those of them with known amounts and a total."""
    found = db.execute(
        """
        SELECT document_id, count(amount) = count(*) AND any_value(total) IS NOT NULL
        FROM stored LEFT JOIN (SELECT document_id, amount AS total FROM document_total)
            USING (document_id)
        WHERE excluded_by IS NULL GROUP BY document_id
        """
    ).fetchall()
    return {id_ for id_, _ in found}, {id_ for id_, known in found if known}


def of_some_amount(db: duckdb.DuckDBPyConnection) -> tuple[set[str], set[str]]:
    """The documents that are over something, and those of them with several lines that count."""
    found = db.execute(
        """
        SELECT document_id, count(*) > 1 AND max(abs(amount)) > 0 FROM stored
        WHERE excluded_by IS NULL GROUP BY document_id HAVING sum(amount) <> 0
        """
    ).fetchall()
    return {id_ for id_, _ in found}, {id_ for id_, several in found if several}


@pytest.fixture(params=CASES)
def pulled(
    request: pytest.FixtureRequest,
    sandbox: Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[Case, Pulled]:
    environment = {"REVREC_HOME": tmp_path / "home", "REVREC_CONFIG": tmp_path / "revrec.toml"}
    for name, value in {**sandbox.env, **environment}.items():
        monkeypatch.setenv(name, str(value))
    case = CASES[request.param]
    return case, Pulled(case, sandbox, tmp_path)


#: What a mapping could lose or add, as a query over the true rows.
PLANTED = {
    "a lost row": "SELECT * FROM rows QUALIFY row_number() OVER "
    "(PARTITION BY document_id ORDER BY abs(amount) DESC) > 1 OR count(*) OVER "
    "(PARTITION BY document_id) = 1",
    "a doubled row": "FROM rows UNION ALL FROM rows",
    "a changed amount": "SELECT * REPLACE ((amount + 0.01)::DECIMAL(18, 4) AS amount) FROM rows",
}


def test_all_documents_tie_and_whatever_is_planted_is_named(pulled: tuple[Case, Pulled]) -> None:
    case, documents = pulled
    for record_type, toml in case.mapped:
        with documents.mapped(record_type, toml) as db:
            store(db)
            assert set(untied(db)) == case.wrong
            counting, tying = compared(db)
            assert counting - tying == case.incomplete
            assert len(tying) > 40
            moved, several = of_some_amount(db)
            store(db, PLANTED["a doubled row"])
            assert moved - set(untied(db)) == set()
            store(db, PLANTED["a changed amount"])
            # A document whose total is wrong already may tie by chance.
            assert tying - set(untied(db)) <= case.wrong
            store(db, PLANTED["a lost row"])
            assert several - set(untied(db)) == set()
    with documents.mapped(*case.mapped[0], planted=case.total) as db:
        store(db)
        found = untied(db)
        _, tying = compared(db)
        assert tying
        assert tying - set(found) == set()
        assert all(
            id_ in message and "by its own total" in message for id_, message in found.items()
        )


def control(documents: int, differing: int) -> dict[str, Any]:
    """What a job says of one month and currency, as far as totals are concerned."""
    return {"own_totals": {"documents": documents, "differing": differing, "amount": "1.00"}}


@pytest.mark.parametrize(
    ("controls", "said"),
    [
        ([], None),
        ([control(0, 0)], None),
        ([control(1, 0)], "The source's own totals of 1 document are what the lines sum to."),
        (
            [control(40, 1), control(8, 0)],
            "The source's own totals of 48 documents: 1 differs from the sum of the lines.",
        ),
        (
            [control(2, 2)],
            "The source's own totals of 2 documents: 2 differ from the sum of the lines.",
        ),
    ],
)
def test_a_job_says_of_how_many_documents_the_totals_were_compared(
    controls: list[dict[str, Any]], said: str | None
) -> None:
    assert own_totals(controls) == said
