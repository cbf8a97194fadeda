"""Between systems: which order an invoice belongs to, and what does not fit between the two.

It looks at the documents as they were delivered, of all sources. An invoice finds its order by the
order's number, else its customer by an approved match, by the customer's id, or by exactly the same
name. Names that are alike only suggest a match, which a person approves (`matches`).

Everything is SQL over the delivered batches; nothing here changes what is delivered. What does not
fit is a warning in the ledger, stage sync, until a later delivery shows that it is gone.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from revrec_pipeline import batch_files
from revrec_pipeline.assignment import assign
from revrec_pipeline.canonical import ERRORS
from revrec_pipeline.codes import CODES
from revrec_pipeline.engine import engine
from revrec_pipeline.lake import Lake
from revrec_pipeline.ledger import Ledger, assignments, sync_errors
from revrec_pipeline.ledger.assignments import ASSIGNED
from revrec_pipeline.ledger.job_view import amount_text
from revrec_pipeline.matches import Match
from revrec_pipeline.model import BILLING_LINE, DELIVERY_LINE, ORDER_LINE, RecordType

_DELIVERED = pa.schema(
    [("record_type", pa.string()), ("document_id", pa.string()), ("path", pa.string())]
)
_STATE = (
    "SELECT count(*) AS batches, max(delivered_at) AS last FROM batch WHERE state = 'delivered'"
)
_ATTEMPTS = 3
_MATCHES = pa.schema(
    [(name, pa.string()) for name in ("source", "customer_id", "order_source", "order_customer_id")]
)


def record(ledger: Ledger, lake: Lake, matches: Iterable[Match], job_id: int) -> int:
    """Put what does not fit into the ledger, in place of what did not before. Returns how many.

    So are the order lines that delivered units count against.

    `job_id` is the job whose delivery, or last delivery, shows it. Deliveries of several sources
    end side by side: what was compared before another one ended must not replace what that found,
    so it is compared again.
    """
    matches = list(matches)
    for _ in range(_ATTEMPTS):
        state, found, units = _compare(ledger, lake, matches)
        with ledger.transaction() as tx:
            tx.lock("findings between systems")
            if tx.one(_STATE) == state:
                sync_errors.record_findings(tx, job_id=job_id, errors=found)
                assignments.record(tx, job_id=job_id, units=units)
                break
    # Else deliveries end faster than they can be compared, and the last of them will compare.
    return int(found.num_rows)


def _compare(
    ledger: Ledger, lake: Lake, matches: Iterable[Match]
) -> tuple[dict[str, Any] | None, pa.Table, pa.Table]:
    """What tells if other deliveries follow, the findings, and the units of order lines."""
    with ledger.transaction() as tx:
        state = tx.one(_STATE)  # first: what ends between the statements must count as later
        # Every finding is about an order or a delivery: a site that only bills has nothing to read.
        compared = tx.one(
            "SELECT 1 FROM document WHERE record_type IN ('sales', 'deliveries') LIMIT 1"
        )
    if compared is None:
        return state, ERRORS.empty_table(), ASSIGNED.empty_table()
    with _matched(lake, _delivered(ledger), matches) as db:
        assigned = assign(db)
        findings = [
            db.sql(_FINDINGS).to_arrow_table().cast(ERRORS),
            pa.Table.from_pylist(assigned.findings, schema=ERRORS),
        ]
    return state, pa.concat_tables(findings), assigned.units


def unmatched(
    ledger: Ledger, lake: Lake, matches: Iterable[Match]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Customers of unmatched invoices: those with a customer of a like name, and those without.

    `{source, customer_id, customer_name, invoices, amounts: {currency: text}, order_source,
    order_customer_id, order_customer_name}`; the last three are null where nothing is like it.
    """
    with _matched(lake, _delivered(ledger), matches) as db:
        found = db.sql(_CUSTOMERS).to_arrow_table().to_pylist()
    for row in found:
        row["amounts"] = {
            each["currency"]: amount_text([each["amount"]], each["currency"])
            for each in row["amounts"]
        }
    return (
        [row for row in found if row["order_customer_id"]],
        [row for row in found if not row["order_customer_id"]],
    )


def deliveries(ledger: Ledger, lake: Lake) -> list[dict[str, Any]]:
    """The deliveries that went out, and which order lines their units count against.

    `{delivery_date, source, document_id, line_id, customer_id, product_code, units, order_source,
    order_number, order_item_number}`, by day; one for each order line, and one without an order
    (the last three null) for units that no line takes.
    """
    delivered = _delivered(ledger)
    with ledger.transaction() as tx:
        active = [{name: row[name] for name in ASSIGNED.names} for row in assignments.active(tx)]
    with _matched(lake, delivered, []) as db:
        db.register("assigned", pa.Table.from_pylist(active, schema=ASSIGNED))
        found: list[dict[str, Any]] = db.sql(_ASSIGNMENTS).to_arrow_table().to_pylist()
    for row in found:
        row["units"] = f"{row['units'].normalize():f}"
        row["delivery_date"] = row["delivery_date"].isoformat()
    return found


def customer_name(
    ledger: Ledger, lake: Lake, kind: RecordType, source: str, id_: str
) -> str | None:
    """The name of a customer with delivered orders or invoices; None if there is no such one."""
    table = "orders" if kind is RecordType.SALES else "invoices"
    with _matched(lake, _delivered(ledger), []) as db:
        found = db.execute(
            f"SELECT max(coalesce(customer_name, '')) FROM {table} "
            "WHERE source = ? AND customer_id = ?",
            [source, id_],
        ).fetchall()
    return found[0][0] if found else None


def _delivered(ledger: Ledger) -> pa.Table:
    """The documents that stand delivered, with their batches."""
    with ledger.transaction() as tx:
        return tx.read(
            """
            SELECT document.record_type, document_id, path
            FROM document JOIN batch ON batch.id = document.batch_id
            WHERE document.record_type IN ('sales', 'invoices', 'deliveries')
            """,
            _DELIVERED,
        ).read_all()


@contextmanager
def _matched(
    lake: Lake, delivered: pa.Table, matches: Iterable[Match]
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database with `orders`, `invoices`, `matched`, `unmatched`, and the tables of lines."""
    listed = [{name: asdict(match)[name] for name in _MATCHES.names} for match in matches]
    with lake.reading(), lake.scratch() as folder, engine(folder / "spill") as db:
        db.register("delivered_documents", delivered)
        db.register("listed_matches", pa.Table.from_pylist(listed, schema=_MATCHES))
        db.execute(
            "CREATE TABLE delivered AS SELECT record_type, document_id, "
            f"{_literal(lake.root)} || '/' || path AS folder FROM delivered_documents"
        )
        db.execute("CREATE TABLE approved AS FROM listed_matches")
        for kind, schema, name in (
            (RecordType.SALES, ORDER_LINE, "order_line"),
            (RecordType.INVOICES, BILLING_LINE, "billing_line"),
            (RecordType.DELIVERIES, DELIVERY_LINE, "delivery_line"),
        ):
            _open(db, lake, kind, schema, name)
        db.execute(_ORDERS_AND_INVOICES)
        yield db


def _open(
    db: duckdb.DuckDBPyConnection, lake: Lake, kind: RecordType, schema: pa.Schema, name: str
) -> None:
    """The delivered lines of a record type."""
    sent = f"(SELECT folder, document_id FROM delivered WHERE record_type = '{kind}')"
    folders = db.execute(f"SELECT DISTINCT folder FROM {sent} ORDER BY ALL").fetchall()
    # A month that is gone from the lake has nothing to compare; its delivery stands.
    there = [Path(folder) for (folder,) in folders if batch_files.is_there(lake.root, Path(folder))]
    if not there:
        db.register(f"no_{name}", schema.empty_table())
        db.execute(f"CREATE VIEW {name} AS FROM no_{name}")
        return
    alone = batch_files.complete_without_base(db, lake.root, there, sent)
    db.execute(
        f"""
        CREATE VIEW {name} AS SELECT rows.* EXCLUDE (folder)
        FROM {batch_files.table(lake.root, there, "rows", alone=alone)} AS rows
        SEMI JOIN {sent} AS sent USING (folder, document_id)
        WHERE excluded_by IS NULL
        """
    )


def _literal(root: Path) -> str:
    return "'" + str(root).replace("'", "''") + "'"


_FORMS = (
    "inc incorporated corp corporation co company llc llp lp ltd limited plc pty gmbh ag kg ug se "
    "sa sas sarl srl spa bv nv oy ab as aps kk"
).replace(" ", "|")
# Legal forms, punctuation, accents and case say nothing of who somebody is.
_ALIKE = (
    r"regexp_replace(regexp_replace(regexp_replace(lower(strip_accents(customer_name)), "
    r"'[^[:alnum:]]+', ' ', 'g'), "
    rf"'\b(the|{_FORMS})\b', '', 'g'), '\s+', '', 'g')"
)

_ORDERS_AND_INVOICES = f"""
CREATE TABLE orders AS
SELECT source, document_id, any_value(order_number) AS order_number,
    any_value(opportunity_id) AS opportunity_id, any_value(customer_id) AS customer_id,
    any_value(customer_name) AS customer_name, any_value(currency) AS currency,
    sum(amount) AS amount, any_value(period) AS period, any_value(url) AS url
FROM order_line GROUP BY source, document_id;

CREATE TABLE invoices AS
SELECT source, document_id, order_number, any_value(document_type) AS document_type,
    any_value(invoice_number) AS invoice_number, any_value(customer_id) AS customer_id,
    any_value(customer_name) AS customer_name, any_value(currency) AS currency,
    sum(amount) AS amount, any_value(period) AS period, any_value(url) AS url
FROM billing_line GROUP BY source, document_id, order_number;

-- Each name of an order once: two systems that number alike must not double an invoice.
CREATE TABLE order_name AS
SELECT name, arg_min(source, place) AS source, arg_min(document_id, place) AS document_id FROM (
    SELECT order_number AS name, source, document_id, row(1, source, document_id) AS place
    FROM orders
    UNION ALL SELECT document_id, source, document_id, row(2, source, document_id) FROM orders
    UNION ALL SELECT opportunity_id, source, document_id, row(3, source, document_id) FROM orders
) WHERE name IS NOT NULL GROUP BY name;

CREATE TABLE customer AS
SELECT DISTINCT source, customer_id, customer_name FROM orders WHERE customer_id IS NOT NULL;

CREATE TABLE matched AS
SELECT invoice.*,
    CASE WHEN named.name IS NOT NULL THEN 'reference' WHEN approved.customer_id IS NOT NULL
        THEN 'approved' WHEN same_id.id IS NOT NULL THEN 'customer id'
        WHEN same_name.name IS NOT NULL THEN 'customer name' END AS matched_by,
    named.source AS order_source, named.document_id AS order_id,
    coalesce(named.source, approved.order_source, same_id.source, same_name.source)
        AS customer_source,
    coalesce(numbered.customer_id, approved.order_customer_id, same_id.id, same_name.id)
        AS order_customer_id
FROM invoices AS invoice
LEFT JOIN order_name AS named ON named.name = invoice.order_number
LEFT JOIN orders AS numbered
    ON numbered.source = named.source AND numbered.document_id = named.document_id
LEFT JOIN (
    SELECT approved.* FROM approved SEMI JOIN customer
        ON customer.source = order_source AND customer.customer_id = order_customer_id
) AS approved
    ON approved.source = invoice.source AND approved.customer_id = invoice.customer_id
LEFT JOIN (
    SELECT customer_id AS id, min(source) AS source FROM customer GROUP BY customer_id
) AS same_id ON same_id.id = invoice.customer_id
LEFT JOIN (
    SELECT customer_name AS name, min(source) AS source, arg_min(customer_id, source) AS id
    FROM customer GROUP BY customer_name
) AS same_name ON same_name.name = invoice.customer_name;

CREATE TABLE unmatched AS
SELECT * EXCLUDE (order_source, order_id, customer_source, order_customer_id) FROM matched
WHERE matched_by IS NULL AND EXISTS (SELECT 1 FROM orders);

CREATE TABLE suggestion AS
SELECT billed.source, billed.customer_id, ordered.source AS order_source,
    ordered.customer_id AS order_customer_id, ordered.customer_name AS order_customer_name
FROM (
    SELECT DISTINCT source, customer_id, {_ALIKE} AS alike FROM unmatched
    WHERE customer_id IS NOT NULL
) AS billed
JOIN (SELECT *, {_ALIKE} AS alike FROM customer) AS ordered USING (alike)
WHERE alike <> ''
QUALIFY row_number() OVER (PARTITION BY billed.source, billed.customer_id
    ORDER BY ordered.source, ordered.customer_id) = 1;
"""

_ASSIGNMENTS = """
WITH counted AS (
    SELECT assigned.*, order_number, order_item_number
    FROM assigned LEFT JOIN order_line AS sold ON sold.source = order_source
        AND sold.document_id = order_id AND sold.line_id = order_line_id
), given AS (
    SELECT source, document_id, line_id, sum(units) AS units FROM assigned GROUP BY ALL
)
SELECT line.delivery_date, line.source, line.document_id, line.line_id, line.customer_id,
    line.product_code, part.units, part.order_source, part.order_number, part.order_item_number
FROM delivery_line AS line JOIN (
    SELECT source, document_id, line_id, units::DECIMAL(28, 12) AS units, order_source,
        order_number, order_item_number
    FROM counted
    UNION ALL
    SELECT source, document_id, line_id,
        (units_delivered - coalesce(given.units, 0))::DECIMAL(28, 12), NULL, NULL, NULL
    FROM delivery_line LEFT JOIN given USING (source, document_id, line_id)
    WHERE units_delivered <> coalesce(given.units, 0)
) AS part USING (source, document_id, line_id)
ORDER BY line.delivery_date, line.document_id, line.source, length(line.line_id), line.line_id,
    part.order_number NULLS LAST, length(part.order_item_number), part.order_item_number
"""

_CUSTOMERS = """
SELECT source, customer_id, any_value(customer_name) AS customer_name,
    sum(invoices)::BIGINT AS invoices,
    list(struct_pack(currency := currency, amount := amount) ORDER BY currency) AS amounts,
    any_value(order_source) AS order_source, any_value(order_customer_id) AS order_customer_id,
    any_value(order_customer_name) AS order_customer_name
FROM (
    SELECT source, customer_id, any_value(customer_name) AS customer_name, currency,
        count(*) AS invoices, coalesce(sum(amount), 0) AS amount
    FROM unmatched GROUP BY source, customer_id, currency
) AS by_currency LEFT JOIN suggestion USING (source, customer_id)
GROUP BY source, customer_id ORDER BY source, customer_name, customer_id
"""


def _finding(code: str, source: str) -> str:
    """A finding's columns before those that differ."""
    meaning = CODES[code]
    return (
        f"'{meaning.stage}' AS stage, '{code}' AS code, '{meaning.severity}' AS severity, "
        f"'{meaning.owner}' AS owner, {source} AS source"
    )


def _plain(amount: str) -> str:
    return f"rtrim(rtrim(({amount})::DECIMAL(18, 4)::VARCHAR, '0'), '.')"


_FINDINGS = f"""
SELECT * FROM (
    SELECT {_finding("SYNC_UNMATCHED_INVOICE", "unmatched.source")}, 'invoices' AS record_type,
        period, document_id AS record_id, NULL::VARCHAR AS line_id, 'Order Number' AS field,
        concat(document_type, ' ', coalesce(invoice_number, document_id), ' of customer ',
            coalesce(customer_name, 'without a name'), ' (', coalesce(customer_id, 'no id'),
            ') belongs to no order that was delivered',
            CASE WHEN order_customer_id IS NOT NULL THEN concat('; ', order_source,
                ' has orders of ', order_customer_name, ': see `revrec matches`') END) AS message,
        url
    FROM unmatched LEFT JOIN suggestion USING (source, customer_id)
    UNION ALL
    SELECT {_finding("SYNC_BILLING_NE_CONTRACT", "orders.source")}, 'sales', orders.period,
        orders.document_id, NULL, 'Amount',
        concat('order ', orders.order_number, ' is over ', {_plain("any_value(orders.amount)")},
            ' ', orders.currency, ' and is billed over ', {_plain("sum(matched.amount)")},
            ', by ', list_aggregate(list_slice(
                list(coalesce(matched.invoice_number, matched.document_id)
                    ORDER BY matched.invoice_number), 1, 5), 'string_agg', ', '),
            CASE WHEN count(*) > 5 THEN concat(' and ', count(*) - 5, ' more') END),
        any_value(orders.url)
    FROM matched JOIN orders ON orders.source = order_source AND orders.document_id = order_id
        AND orders.currency = matched.currency
    WHERE matched_by = 'reference'
    GROUP BY orders.source, orders.period, orders.document_id, orders.order_number, orders.currency
    HAVING sum(matched.amount) > any_value(orders.amount)
    UNION ALL
    SELECT {_finding("SYNC_CUSTOMER_NAME_MISMATCH", "matched.source")}, 'invoices',
        min(matched.period), matched.customer_id, NULL, 'Customer Name',
        concat('customer ', matched.customer_id, ' is called ', max(matched.customer_name),
            ', and ', max(customer.customer_name), ' in ', customer_source, ' (',
            order_customer_id, ')'),
        max(matched.url)
    FROM matched JOIN customer
        ON customer.source = customer_source AND customer.customer_id = order_customer_id
    WHERE matched_by IN ('reference', 'customer id') AND matched.customer_id IS NOT NULL
        AND trim(matched.customer_name) <> trim(customer.customer_name)
        AND NOT EXISTS (SELECT 1 FROM approved WHERE approved.source = matched.source
            AND approved.customer_id = matched.customer_id)
    GROUP BY matched.source, matched.customer_id, customer_source, order_customer_id
    UNION ALL
    SELECT {_finding("SYNC_CURRENCY_MISMATCH", "matched.source")}, 'invoices', matched.period,
        matched.document_id, NULL, 'Currency',
        concat(document_type, ' ', coalesce(invoice_number, matched.document_id), ' over ',
            {_plain("matched.amount")}, ' ', matched.currency, ' names order ',
            orders.order_number, ', which is in ', orders.currency),
        matched.url
    FROM matched JOIN orders ON orders.source = order_source AND orders.document_id = order_id
    WHERE matched_by = 'reference' AND orders.currency <> matched.currency
    UNION ALL
    SELECT {_finding("SYNC_NO_INVOICES", "orders.source")}, 'sales', period, NULL, NULL, NULL,
        concat(period, ' has ', count(*), CASE WHEN count(*) = 1 THEN ' order' ELSE ' orders' END,
            ' of ', orders.source, ' and no invoice of any system'), NULL
    FROM orders
    WHERE period NOT IN (SELECT period FROM invoices) AND EXISTS (SELECT 1 FROM invoices)
    GROUP BY orders.source, period
) ORDER BY code, source, period, record_id
"""
