"""A source that lives, and a ledger that is kept in step with it.

What lives here: the edits of a history on their way to the sandbox, the pulls, sweeps and
deliveries between them, and the comparison. Which edits a source knows is in `edits`, which
histories are tried in `test_year_of_life`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from itertools import count
from pathlib import Path
from shutil import rmtree
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import requests
from conftest import Sandbox

from assets.raw import _window
from resources.client import IDS, SourceClient
from resources.registry import resource_of
from revrec_pipeline import canonical, delivery, sweep, versions
from revrec_pipeline.batch_rows import UNHASHED
from revrec_pipeline.errors import SourceError
from revrec_pipeline.hand_over import hand_over
from revrec_pipeline.lake import CHANGES, Lake, Landing
from revrec_pipeline.ledger import (
    Ledger,
    accounting_periods,
    cursors,
    jobs,
    lines,
    open_ledger,
)
from revrec_pipeline.mapping import Source
from revrec_pipeline.model import RecordType, Route
from revrec_pipeline.settings import Settings
from revrec_pipeline.sources import SOURCES

#: Documents are dated in them, before and after they are edited.
MONTHS = ("2026-05", "2026-06")
#: A change becomes visible so long before lag and overlap together would miss it …
_IN_TIME = timedelta(minutes=5)
#: … and so long after a pull that could not see it yet.
_JUST_MISSED = timedelta(minutes=1)
#: So many records are tried for an edit that wants the first one to take it.
_PICKS = 40

Command = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Record:
    """A document or line as the sandbox's commands name it."""

    object: str
    id: str


class Records:
    """What an edit may pick from: the newest first, then in the order of the ids."""

    def __init__(self, rows: list[Mapping[str, Any]], ways: "Ways") -> None:
        self._line_object = ways.line_object
        self.documents: list[Record] = []
        self._lines: dict[Record, int] = {}
        #: Ids of lines, where the vendor names them.
        self.lines: list[str] = []
        for row in sorted(rows, key=lambda row: (row["document_id"], row["line_id"])):
            document = ways.named(row)
            if document not in self._lines:
                self.documents.append(document)
            self._lines[document] = self._lines.get(document, 0) + 1
            self.lines.append(row["line_id"])
        self.gone: list[Record] = []
        self.customers = sorted({row["customer_id"] for row in rows if row["customer_id"]})
        self.products = sorted({row["product_id"] for row in rows if row["product_id"]})
        self._names = count(1)

    def new_name(self) -> str:
        """A name that no document of this life has."""
        return f"LIFE-{next(self._names)}"

    def document(self, number: int, *objects: str) -> Record | None:
        """A document of one of these objects; of any without them."""
        found = [one for one in self.documents if not objects or one.object in objects]
        return found[number % len(found)] if found else None

    def line(self, number: int) -> str:
        """The id of a line."""
        return self.lines[number % len(self.lines)]

    def product(self, number: int) -> str:
        """The id of a product."""
        return self.products[number % len(self.products)]

    def customer(self, number: int) -> str:
        """The id of a customer."""
        return self.customers[number % len(self.customers)]

    def removed(self, number: int, *objects: str) -> Record | None:
        """What was deleted, of one of these objects."""
        found = [one for one in self.gone if one.object in objects]
        return found[number % len(found)] if found else None

    def learn(self, command: Command, answer: Mapping[str, Any]) -> None:
        """Note what a command made or removed."""
        made = [str(one) for one in answer.get("ids") or filter(None, [answer.get("id")])]
        known = str(command.get("object", ""))
        if known == self._line_object:
            self.lines[:0] = made
        else:
            self.documents[:0] = [Record(known, one) for one in made]
        if command["op"] == "delete":
            self.gone.append(Record(known, str(command["id"])))


@dataclass(frozen=True, slots=True)
class Edit:
    """One kind of edit: the values that it may be over, and the command that does it.

    `command` picks by a number what to edit; None where there is nothing to.
    """

    values: tuple[Any, ...]
    command: Callable[[Records, int, Any], Command | None]
    #: No feed of the vendor tells of it: the ledger follows with the next sweep of ids.
    silent: bool = False


@dataclass(frozen=True, slots=True)
class Ways:
    """How one source lives: its settings and all that may happen to it."""

    source: str
    edits: Mapping[str, Edit]
    #: How late a change may become visible, in seconds: the lag and the overlap that it was built
    #: with. Not read from the client, lest it shrink with them.
    late: int
    #: Faults of the sandbox that pass by themselves.
    faults: tuple[str, ...]
    #: Lines of `[sources.<source>]`.
    settings: str = ""
    #: Commands that make the account that it is; one of them is drawn.
    accounts: tuple[tuple[Command, ...], ...] = ((),)
    line_object: str | None = None  # of what is added, this is a line
    named: Callable[[Any], Record] = lambda row: Record(row["document_type"], row["document_id"])


@dataclass(frozen=True)
class Step:
    """Some edits of one moment, then a sync."""

    #: Kind, number of the record to pick (None: the first one that the source lets edit), value.
    edits: tuple[tuple[str, int | None, Any], ...]
    late: int = 0  # so many of the last ones become visible late, after a sync
    wait: int = 0  # seconds until the sync, beside those that the source needs
    fault: str | None = None  # what a request of the sync meets …
    after: int = 1  # … once so many were answered
    sweep: bool = False  # whether the ids are swept, too


@dataclass
class Life:
    """A source that is edited, and a ledger that is kept in step with it."""

    sandbox: Sandbox
    ways: Ways
    configuration: Settings
    lake: Lake
    ledger: Ledger
    folder: Path
    _numbers: Any = field(default_factory=lambda: count(1))
    _delivered: dict[str, canonical.Built] = field(default_factory=dict)
    _told: dict[str, tuple[Any, "Told"]] = field(default_factory=dict)
    #: Months that were touched and are not built yet.
    _pending: set[str] = field(default_factory=set)
    _unswept: bool = False
    #: The kinds of edits that the source has taken.
    taken: set[str] = field(default_factory=set)

    @classmethod
    def begin(
        cls, sandbox: Sandbox, ways: Ways, account: Iterable[Command], folder: Path
    ) -> "Life":
        """A listed source, and a ledger with an accounting period; `folder` is the home."""
        limits = {"salesforce", "netsuite", "sage_intacct"}  # these have none to lift
        if ways.source not in limits:
            sandbox.command("limit", source=ways.source)
        for command in account:
            sandbox.command(**command, source=ways.source)
        configuration = Settings.load()
        ledger = open_ledger(configuration.ledger)
        with ledger.transaction() as tx:
            accounting_periods.set_period(tx, "2026-04")
        life = cls(sandbox, ways, configuration, Lake(folder / "lake"), ledger, folder)
        with life._client() as client:
            began = client.server_time()
            for month in MONTHS:
                life._pending.update(life._list(life.lake, client, month).touched)
            with ledger.transaction() as tx:
                cursors.advance(tx, ways.source, began - client.lag)
        life._deliver()
        return life

    @cached_property
    def source(self) -> Source:
        """The source under its settings."""
        known = SOURCES[self.ways.source]
        return known.under(self.configuration.source(known.name))

    @cached_property
    def record_type(self) -> RecordType:
        """The one that is followed."""
        return next(iter(self.source.record_types(self.configuration.source(self.source.name))))

    @cached_property
    def records(self) -> Records:
        """What there is to edit."""
        with self.ledger.transaction() as tx:
            rows = lines.read_active(tx, self.record_type).read_all().to_pylist()
        return Records(rows, self.ways)

    def live(self, steps: Iterable[Step]) -> None:
        """Go through a history; the ledger must be right after every step."""
        for step in steps:
            self._edit(step)
            if step.fault:
                times = 1000 if step.fault == "outage" else 1
                kind = "500" if step.fault == "outage" else step.fault
                # Nobody waits: how long the vendor lets one wait is tested with each client.
                self.sandbox.fault(
                    self.source.name,
                    kind,
                    after=step.after,
                    times=times,
                    headers={"Retry-After": "0"},
                )
            try:
                self._sync()
            except SourceError:
                assert step.fault == "outage"
                self.sandbox.command("mend")
                self._sync()
            self.sandbox.command("mend")  # a sync may need fewer requests
            if step.sweep or self._unswept:
                self._sweep()
                self._unswept = False
            self.check()

    # -- the source --------------------------------------------------------------------------

    def _client(self) -> SourceClient:
        return resource_of(self.source.name, self.configuration).client()

    def _edit(self, step: Step) -> None:
        """Do the edits, all stamped with one instant, and let pass what the source needs."""
        moment = self._now()
        late = timedelta(seconds=self.ways.late) - _IN_TIME
        shown = len(step.edits) - step.late
        for place, (what, number, value) in enumerate(step.edits):
            visible_in = timedelta() if place < shown else late
            for pick in range(_PICKS) if number is None else (number,):
                if self._do(what, pick, value, moment, visible_in):
                    break
        if step.late:
            self._wait_until(moment + late - _JUST_MISSED)
            self._pull()  # what it touches is built with the next sync
            self._wait_until(moment + late)
        # Changes become visible with a lag: a sync looks no further than that.
        lag = self._client().lag + timedelta(minutes=1, seconds=step.wait)
        self.sandbox.command("advance", seconds=lag.total_seconds())

    def _now(self) -> datetime:
        return datetime.fromisoformat(self.sandbox.state()["now"])

    def _wait_until(self, moment: datetime) -> None:
        """Not for so many seconds, for ours count as well."""
        left = (moment - self._now()).total_seconds()
        self.sandbox.command("advance", seconds=max(left, 0))

    def _do(
        self, what: str, number: int, value: Any, moment: datetime, visible_in: timedelta
    ) -> bool:
        """Whether the source took it; one that it refuses (voiding a draft) changes nothing."""
        edit = self.ways.edits[what]
        command = edit.command(self.records, number, value)
        if command is None:
            return False
        self._unswept |= edit.silent
        own = {**command, "source": self.source.name}
        seconds = visible_in.total_seconds()
        wrapped = {"op": "as_of", "at": moment.isoformat(), "visible_in": seconds, "command": own}
        answer = requests.post(f"{self.sandbox.origin}/_control", json=wrapped, timeout=10)
        if answer.status_code != 200:
            return False
        if "visible_at" not in answer.json():
            self.records.learn(command, answer.json())
            self.taken.add(what)
        return True

    # -- the pipeline ------------------------------------------------------------------------

    def _list(self, lake: Lake, client: SourceClient, month: str) -> Landing:
        return lake.land(
            self.source.name,
            month,
            client.listing(month),
            run_id="listing",
            api_version=client.api_version,
            objects=self.source.objects,
        )

    def _sync(self) -> None:
        self._pull()
        self._deliver()

    def _pull(self) -> None:
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
        self._pending.update(landing.touched)

    def _sweep(self) -> None:
        """What `assets.raw.raw_sweep` does."""
        name = self.source.name
        with self._client() as client:
            for month in MONTHS:
                ids = pa.Table.from_batches(client.ids(month), IDS)
                found = sweep.compare(self.lake, name, month, ids, self.source.documents)
                if found.gone.num_rows:
                    landing = self.lake.land(
                        name,
                        CHANGES,
                        sweep.tombstones(found, client.server_time()),
                        run_id="sweep",
                        api_version=client.api_version,
                        objects=self.source.objects,
                    )
                    self._pending.update(landing.touched)
                if found.unknown:
                    self._pending.update(self._list(self.lake, client, month).touched)
        self._deliver()

    def _build(self, lake: Lake, month: str) -> canonical.Built:
        return canonical.build(
            lake,
            SOURCES[self.source.name],
            self.record_type,
            month,
            self.configuration.source(self.source.name),
            self.configuration.mapping_site(),
        )

    def _deliver(self) -> None:
        """Build the touched months and load them."""
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
        for month in sorted(self._pending):
            built = self._delivered[month] = self._build(self.lake, month)
            with self.ledger.transaction() as tx:
                jobs.start_run(tx, job, month, key)
                hand_over(tx, built, self.source, self.record_type, month, job, key)
        with self.ledger.transaction() as tx:
            jobs.seal(tx, key)
        self._pending.clear()
        delivery.deliver(self.ledger, self.lake.root, job, Route.LIVE, claimed_by=key)

    # -- the comparison ----------------------------------------------------------------------

    def check(self) -> None:
        """Delivered + flagged + excluded is what a lake says that was listed only now."""
        told = self._listed_anew()
        for month, fresh in told.items():
            ours = self._delivered[month]
            assert alive(ours) == fresh.totals, month
            assert ours.failed_rows == fresh.failed_rows, month
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
            (row["document_id"], row["line_id"]): said(row)
            for row in rows
            if row["document_id"] not in held and row["period"] in MONTHS
        }
        expected = {key: row for one in told.values() for key, row in one.lines.items()}
        # Not as dicts: telling how they differ would take pytest minutes.
        for key in sorted(loaded.keys() | expected.keys()):
            assert loaded.get(key) == expected.get(key), key

    def _listed_anew(self) -> dict[str, "Told"]:
        """What a lake that has never seen anything makes of each month.

        A month whose pages are those of the last time is not built again.
        """
        fresh = Lake(self.folder / f"fresh-{next(self._numbers)}")
        with self._client() as client:
            for month in MONTHS:
                self._list(fresh, client, month)
        known = fresh.landings(self.source.name)
        for month in MONTHS:
            pages = [
                one["sha256"]
                for landing in versions.relevant(known, month)
                for one in landing.objects.values()
            ]
            if month not in self._told or self._told[month][0] != pages:
                told = Told.by(fresh, self._build(fresh, month))
                self._told[month] = pages, told
        rmtree(fresh.root)
        return {month: told for month, (_, told) in self._told.items()}


@dataclass(frozen=True, slots=True)
class Told:
    """What a built month says."""

    totals: dict[tuple[str, str, str], tuple[int, Any]]
    failed_rows: dict[str, int]
    lines: dict[tuple[str, str], dict[str, Any]]  # those that may be delivered

    @classmethod
    def by(cls, lake: Lake, built: canonical.Built) -> "Told":
        folder = lake.root / built.path
        held = set(pq.read_table(folder / "held.parquet")["document_id"].to_pylist())
        rows = pq.read_table(folder / "rows.parquet").to_pylist()
        counting = {
            (row["document_id"], row["line_id"]): said(row)
            for row in rows
            if row["excluded_by"] is None and row["document_id"] not in held
        }
        return cls(alive(built), built.failed_rows, counting)


def said(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a line says: its month, and all that makes a change of it."""
    columns = row.keys() - UNHASHED - {"job_id", "batch_id", "loaded_at", "removed_at"}
    return {name: row[name] for name in {*columns, "period"}}


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
