"""Random histories of a source, with syncs in between: the ledger follows, step by step.

After each sync, what incremental pulls made of the ledger is compared with what a lake that has
never seen anything makes of a full listing: delivered + flagged + excluded is the source's state.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import requests
from conftest import Sandbox
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assets.raw import _window
from resources.registry import resource_of
from revrec_pipeline import canonical, delivery
from revrec_pipeline.hand_over import hand_over
from revrec_pipeline.lake import CHANGES, Lake
from revrec_pipeline.ledger import Ledger, accounting_periods, cursors, jobs, lines, open_ledger
from revrec_pipeline.mapping import Source
from revrec_pipeline.model import RecordType, Route
from revrec_pipeline.settings import Settings
from revrec_pipeline.sources import SOURCES

MONTHS = ("2026-05", "2026-06")
OBJECTS = {"salesforce": "Opportunity", "stripe": "invoice"}


@dataclass
class Life:
    """A source that is edited, and a ledger that is kept in step with it."""

    sandbox: Sandbox
    source: Source
    configuration: Settings
    lake: Lake
    ledger: Ledger
    folder: Path
    _numbers: Any = field(default_factory=lambda: count(1))

    @property
    def record_type(self) -> RecordType:
        return next(iter(self.source.record_types(self.configuration.source(self.source.name))))

    def _client(self) -> Any:
        return resource_of(self.source.name, self.configuration).client()

    def build(self, lake: Lake, month: str) -> canonical.Built:
        return canonical.build(
            lake,
            self.source,
            self.record_type,
            month,
            self.configuration.source(self.source.name),
            self.configuration.mapping_site(),
        )

    def list_months(self, lake: Lake) -> list[str]:
        touched: set[str] = set()
        with self._client() as client:
            began = client.server_time()
            for month in MONTHS:
                landing = lake.land(
                    self.source.name,
                    month,
                    client.listing(month),
                    run_id="listing",
                    api_version=client.api_version,
                    objects=self.source.objects,
                )
                touched |= set(landing.touched)
            self.listed_at = began - client.lag
        return sorted(touched)

    def first(self) -> None:
        months = self.list_months(self.lake)
        with self.ledger.transaction() as tx:
            cursors.advance(tx, self.source.name, self.listed_at)
        self.deliver(months)

    def sync(self) -> None:
        with self.ledger.transaction() as tx:
            position = cursors.position(tx, self.source.name)
        assert position
        with self._client() as client:
            since, until = _window(self.source, client, position, None)
            landing = self.lake.land(
                self.source.name,
                CHANGES,
                client.changes(since, until),
                run_id="changes",
                api_version=client.api_version,
                objects=self.source.objects,
                since=since,
                until=until,
            )
        with self.ledger.transaction() as tx:
            cursors.advance(tx, self.source.name, until)
        self.deliver(landing.touched)

    def deliver(self, months: Any) -> None:
        key = f"sync:{next(self._numbers)}"
        with self.ledger.transaction() as tx:
            job = jobs.open_job(
                tx,
                sync_key=key,
                source=self.source.name,
                record_type=self.record_type,
                name=key,
                trigger="test",
            )
        for month in months:
            built = self.build(self.lake, month)
            with self.ledger.transaction() as tx:
                jobs.start_run(tx, job, month, key)
                hand_over(tx, built, self.source, self.record_type, month, job, key)
        with self.ledger.transaction() as tx:
            jobs.seal(tx, key)
        delivery.deliver(self.ledger, self.lake.root, job, Route.LIVE, claimed_by=key)

    def check(self) -> None:
        """Delivered + flagged + excluded in the ledger is what a full listing says."""
        fresh = Lake(self.folder / f"fresh-{next(self._numbers)}")
        months = self.list_months(fresh)
        for month in sorted({*months, *MONTHS}):
            ours, theirs = self.build(self.lake, month), self.build(fresh, month)
            assert alive(ours) == alive(theirs), month
            assert counted(ours) == counted(theirs), month
        expected = {
            line: amount for month in MONTHS for line, amount in complete(fresh, self, month)
        }
        with self.ledger.transaction() as tx:
            rows = lines.read_active(tx, self.record_type).read_all().to_pylist()
            held = {
                row["record_id"]
                for row in tx.rows(
                    "SELECT DISTINCT record_id FROM sync_error "
                    "WHERE status = 'open' AND severity = 'error'"
                )
            }
        # What was delivered of a document before it became incomplete stays until it is mended.
        loaded = {
            (row["document_id"], row["line_id"]): (row["period"], row["amount"])
            for row in rows
            if row["document_id"] not in held and row["period"] in MONTHS
        }
        assert loaded == expected


def alive(built: canonical.Built) -> dict[tuple[str, str, str], tuple[int, Any]]:
    """Rows and amounts but for what was deleted: who lists a source anew never hears of that."""
    found = {
        (row["bucket"], row["rule"], row["currency"]): (row["rows"], row["amount"])
        for row in built.totals.to_pylist()
    }
    for (bucket, rule, currency), (rows, amount) in list(found.items()):
        if rule == "deleted":
            del found[bucket, rule, currency]
            all_rows, all_amount = found.pop(("source", "", currency))
            if all_rows > rows:
                found["source", "", currency] = (all_rows - rows, all_amount - amount)
    return found


def counted(built: canonical.Built) -> dict[str, int]:
    return built.failed_rows


def complete(lake: Lake, life: Life, month: str) -> list[tuple[Any, Any]]:
    """The lines of a month that may be delivered."""
    built = life.build(lake, month)
    folder = lake.root / built.path
    held = set(pq.read_table(folder / "held.parquet")["document_id"].to_pylist())
    return [
        ((row["document_id"], row["line_id"]), (row["period"], row["amount"]))
        for row in pq.read_table(folder / "rows.parquet").to_pylist()
        if row["excluded_by"] is None and row["document_id"] not in held
    ]


NUMBER = st.integers(0, 10_000)
SALESFORCE = st.one_of(
    st.tuples(st.just("stage"), NUMBER, st.sampled_from(["Closed Won", "Negotiation"])),
    st.tuples(st.just("date"), NUMBER, st.sampled_from(["2026-05-02", "2026-05-31", "2026-06-30"])),
    st.tuples(st.just("price"), NUMBER, st.sampled_from(["0", "17.25", "-3.5"])),
    st.tuples(st.just("term"), NUMBER, st.sampled_from([None, 1, 36])),
    st.tuples(st.just("remove_line"), NUMBER, st.booleans()),
    st.tuples(st.just("remove"), NUMBER, st.just(None)),
    st.tuples(st.just("create"), NUMBER, st.sampled_from(["2026-05-30", "2026-06-01"])),
)
STRIPE = st.one_of(
    st.tuples(st.just("create"), NUMBER, st.integers(-500, 100_000)),
    st.tuples(st.just("finalize"), NUMBER, st.just(None)),
    st.tuples(st.just("pay"), NUMBER, st.just(None)),
    st.tuples(st.just("void"), NUMBER, st.just(None)),
    st.tuples(st.just("mark_uncollectible"), NUMBER, st.just(None)),
    st.tuples(st.just("credit"), NUMBER, st.sampled_from(["1", "0.5", "0.3333"])),
    st.tuples(st.just("delete_draft"), NUMBER, st.just(None)),
)
FAULT = st.sampled_from([None, None, None, "429", "500", "reset", "truncate"])


def history(edits: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Up to five syncs with up to six edits before each, some in one and the same second."""
    step = st.tuples(st.lists(edits, max_size=6), st.sampled_from([0, 1, 7200]), FAULT)
    return st.lists(step, min_size=1, max_size=5)


class Editor:
    """Does the edits; one that the source refuses (voiding a draft) changes nothing."""

    def __init__(self, sandbox: Sandbox, documents: list[str], lines_: list[str]) -> None:
        self.sandbox, self.documents, self.lines = sandbox, documents, lines_

    def _command(self, op: str, **fields: Any) -> dict[str, Any]:
        answer = requests.post(
            f"{self.sandbox.origin}/_control", json={"op": op, **fields}, timeout=10
        )
        return dict(answer.json()) if answer.status_code == 200 else {}

    def salesforce(self, what: str, number: int, value: Any) -> None:
        document = self.documents[number % len(self.documents)]
        line = self.lines[number % len(self.lines)]
        edit = {"source": "salesforce"}
        match what:
            case "stage" | "date":
                name = "StageName" if what == "stage" else "CloseDate"
                fields = {"object": "Opportunity", "id": document, "fields": {name: value}}
                self._command("edit", **edit, **fields)
            case "price" | "term":
                name = "UnitPrice" if what == "price" else "Term__c"
                fields = {"object": "OpportunityLineItem", "id": line, "fields": {name: value}}
                self._command("edit", **edit, **fields)
            case "remove_line":
                fields = {"object": "OpportunityLineItem", "id": line, "hard": value}
                self._command("delete", **edit, **fields)
            case "remove":
                self._command("delete", **edit, object="Opportunity", id=document)
            case "create":
                fields = {"Name": "New", "StageName": "Closed Won", "CloseDate": value}
                made = self._command("add", **edit, object="Opportunity", fields=fields)
                self.documents += [made["id"]] if made else []

    def stripe(self, what: str, number: int, value: Any) -> None:
        document = self.documents[number % len(self.documents)]
        edit: dict[str, Any] = {"source": "stripe"}
        match what:
            case "create":
                fields = {"amount": value, "customer": "northwind", "product": "SEAT"}
                fields["created"] = 1_780_000_000 + number  # the end of May 2026
                made = self._command(
                    "add", **edit, object="invoice", fields=fields | {"seed": f"life-{number}"}
                )
                self.documents += [made["id"]] if made else []
            case "credit":
                fields = {"object": "credit_note", "id": document, "fields": {"share": value}}
                self._command("add", **edit, **fields)
            case "delete_draft":
                self._command("delete", **edit, object="invoice", id=document)
            case verb:
                self._command(verb, **edit, id=document)


@pytest.fixture
def begin(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Life]:
    """Begins a life: a listed source and a ledger with an accounting period."""
    monkeypatch.setenv("REVREC_CONFIG", str(tmp_path / "revrec.toml"))
    (tmp_path / "revrec.toml").write_text(
        '[site]\ntimezone = "America/New_York"\nhistory_start = "2026-04"\n'
    )
    for name, value in sandbox.env.items():
        monkeypatch.setenv(name, value)
    lives = count(1)

    def make(name: str, *commands: str) -> Life:
        sandbox.command("reset")
        for command in commands:
            sandbox.command(command, source=name)
        folder = tmp_path / str(next(lives))
        folder.mkdir()
        ledger = open_ledger(f"duckdb:///{folder / 'ledger.duckdb'}")
        with ledger.transaction() as tx:
            accounting_periods.set_period(tx, "2026-04")
        life = Life(sandbox, SOURCES[name], Settings.load(), Lake(folder / "lake"), ledger, folder)
        life.first()
        return life

    return make


def live(life: Life, steps: Any) -> None:
    with life.ledger.transaction() as tx:
        rows = lines.read_active(tx, life.record_type).read_all()
    editor = Editor(
        life.sandbox,
        sorted(set(rows["document_id"].to_pylist())),
        sorted(rows["line_id"].to_pylist()),
    )
    edit = getattr(editor, life.source.name)
    life.check()
    for edits, seconds, fault in steps:
        for one in edits:
            edit(*one)
        # Changes become visible with a lag: a sync looks no further than that.
        life.sandbox.command("advance", seconds=3600 + seconds)
        if fault:
            life.sandbox.fault(life.source.name, fault, after=1)
        life.sync()
        life.check()


_FEW = settings(
    max_examples=4,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.timeout(1800)
@_FEW
@given(steps=history(SALESFORCE))
def test_the_ledger_follows_any_history_of_salesforce(
    begin: Callable[[str], Life], steps: Any
) -> None:
    live(begin("salesforce"), steps)


@pytest.mark.timeout(1800)
@_FEW
@given(steps=history(STRIPE), account=st.sampled_from([(), ("upgrade",)]))
def test_the_ledger_follows_any_history_of_stripe(
    begin: Callable[..., Life], steps: Any, account: tuple[str, ...]
) -> None:
    """In an account that is upgraded, events serve as answers."""
    live(begin("stripe", *account), steps)
