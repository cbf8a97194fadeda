"""From pages of SuiteQL rows to the sold lines of NetSuite transactions, net of discounts.

A transaction's lines are those of its journal: beside what was sold stand the receivable, taxes,
costs, the parts of a kit, discounts and texts. What is here: which is which, and how discounts and
taxes are spread to the cent. When a document counts is in `netsuite`.
"""

from collections.abc import Iterable

import duckdb

from revrec_pipeline.mapping import Site
from revrec_pipeline.mapping.sql import literal

#: What a page of headers shows, beside the columns that settings name.
HEADER_COLUMNS = (
    "id", "type", "tranid", "trandate", "modified", "status", "statusname", "posting", "voided",
    "total", "entity", "companyname", "altname", "currency", "closed",
)  # fmt: skip
#: What a page of lines shows, beside those.
LINE_COLUMNS = (
    "key", "transaction", "line", "sequence", "mainline", "taxline", "iscogs", "kitcomponent",
    "transactiondiscount", "item", "itemtype", "itemcode", "itemname", "quantity", "foreignamount",
    "netamount", "subsidiary", "subsidiaryname", "fromtype", "fromnumber", "modified",
)  # fmt: skip
#: What a page of links shows: a line, the line that it was made from, and the one before that.
LINK_COLUMNS = (
    "document", "line", "type1", "number1", "day1", "key1", "type2", "number2", "day2", "key2",
)  # fmt: skip
#: What a page of voiding journals shows: the journal and the transaction that it takes back.
VOID_COLUMNS = ("id", "voids")


def create_lines(
    db: duckdb.DuckDBPyConnection,
    objects: Iterable[str],
    site: Site,
    *,
    header_names: Iterable[str],
    line_names: Iterable[str],
) -> None:
    """Create the view `netsuite_line` over the current documents of these raw objects.

    A row is a document with one sold line, or with none. Beside the columns of both pages, under
    the names that the pages give them, it has:
        gross, amount: before and after discounts; invoices' are positive, credits' negative
        tax, tax_name: of the line's share in the document's taxes
        units: the quantity as the document shows it
        kind: sale, shipping or payment
        from_order, from_order_line, from_order_date, and the same from_invoice…: what the line was
            made from
    """
    header_columns = (*HEADER_COLUMNS, *dict.fromkeys(header_names))
    line_columns = (*LINE_COLUMNS, *dict.fromkeys(line_names))
    headers = " UNION ALL ".join(_headers(name, header_columns) for name in objects)
    # Tables, for each is read several times below, and reading means parsing all bodies.
    db.execute(f"CREATE TEMP TABLE netsuite_document AS {_documents(headers, site)}")
    db.execute(f"CREATE TEMP TABLE netsuite_posted AS {_posted(line_columns)}")
    db.execute(_MACROS)
    db.execute(_SCOPES)
    discounted = _spread("line_discount", "netsuite_bearer", "gross")
    db.execute(f"CREATE TEMP TABLE netsuite_discounted AS {_added(discounted, 'gross')}")
    db.execute(_LINES.format(links=_rows_of("line_link", LINK_COLUMNS)))


def _rows_of(name: str, columns: Iterable[str]) -> str:
    """The rows of a raw object's pages. Every value is a text; what is null is left out of a row.

    What the query tells is read per page: its text lists up to 1,000 ids, and repeated for each row
    it took 256 MB for 30,000 lines. Pages of deletions have rows without most of the columns.
    """
    fields = ",".join(f'"{column}":"VARCHAR"' for column in columns)
    return f"""
    SELECT landing, page, account, has_currencies, has_foreign_amounts,
        unnest(from_json(body, '{{"items":[{{{fields}}}]}}').items) AS it
    FROM (
        SELECT landing, page, body,
            nullif(regexp_extract(request, '^POST https://([^.]+)\\.suitetalk', 1), '') AS account,
            contains(request, ' AS currency') AS has_currencies,
            contains(request, ' AS foreignamount') AS has_foreign_amounts
        FROM raw_{name}
    )"""


def _headers(name: str, columns: Iterable[str]) -> str:
    return f"""
    SELECT {literal(name)} AS object, current.version, found.landing, found.page, account,
        has_currencies, it
    FROM ({_rows_of(name, columns)}) AS found
    JOIN current ON current.object = {literal(name)} AND current.id = it.id
        AND current.landing = found.landing AND current.page = found.page"""


def _documents(headers: str, site: Site) -> str:
    # A row leaves out what is null. Whether the account has currencies at all shows in what could
    # be asked: only where it has none is every amount in the home currency.
    return f"""
    SELECT object, version, header.landing, page, it.* EXCLUDE (currency, status, total),
        CASE WHEN has_currencies THEN it.currency
             ELSE {literal(site.home_currency)} END AS currency,
        right(it.status, 1) AS status,
        trim(regexp_replace(it.statusname, '^.* : ', '')) AS stage,
        try_cast(it.total AS DECIMAL(18, 4)) AS total,
        account, voided_by
    FROM ({headers}) AS header
    LEFT JOIN (
        SELECT landing, it.voids, min(it.id) AS voided_by
        FROM ({_rows_of("void_journal", VOID_COLUMNS)}) GROUP BY ALL
    ) AS journal ON journal.landing = header.landing AND journal.voids = it.id"""


def _posted(columns: Iterable[str]) -> str:
    """All lines of the documents, numbered from above, each with its kind.

    What is sold is a credit in the ledger, and so negative; hence the sign of `gross`.
    """
    return f"""
    WITH line AS (
        SELECT found.landing, found.page AS line_page, it.* EXCLUDE (modified),
            document.currency, document.object,
            -- `netamount` is in the subsidiary's currency: right only where there is no other.
            -try_cast(CASE WHEN has_foreign_amounts THEN it.foreignamount
                ELSE it.netamount END AS DECIMAL(18, 4)) AS gross,
            row_number() OVER (
                PARTITION BY found.landing, it.transaction
                ORDER BY try_cast(it.sequence AS BIGINT), try_cast(it.line AS BIGINT), it.key
            ) AS position,
            CASE WHEN it.mainline = 'T' THEN 'main'
                WHEN it.taxline = 'T' THEN 'tax'
                WHEN it.iscogs = 'T' THEN 'cost'
                WHEN it.kitcomponent = 'T' THEN 'component'
                WHEN it.transactiondiscount = 'T' THEN 'document_discount'
                WHEN it.itemtype IN ('Discount', 'Markup') THEN 'line_discount'
                WHEN it.itemtype IN ('Subtotal', 'Group', 'EndGroup', 'Description')
                    THEN lower(it.itemtype)
                WHEN it.itemtype = 'ShipItem' THEN 'shipping'
                WHEN it.itemtype = 'Payment' THEN 'payment'
                ELSE 'sale' END AS role
        FROM ({_rows_of("transaction_line", columns)}) AS found
        JOIN netsuite_document AS document
            ON document.landing = found.landing AND document.id = it.transaction
    )
    SELECT * EXCLUDE (role),
        -- A credit may be nothing but a discount; then that is what was sold.
        CASE WHEN role IN ('line_discount', 'document_discount')
                AND NOT bool_or(role = 'sale') OVER (PARTITION BY landing, transaction)
            THEN 'sale' ELSE role END AS kind
    FROM line"""


_MACROS = """
CREATE OR REPLACE MACRO units_of(amount) AS (amount * 10000)::HUGEINT;
-- A minor unit of the currency in the units of 10^-4 that amounts are kept in.
CREATE OR REPLACE MACRO minor_unit(currency) AS
    CASE minor_digits(currency) WHEN 0 THEN 10000 WHEN 3 THEN 10 ELSE 100 END::HUGEINT;
-- amount * upto / whole, in whole minor units, rounded half away from zero. `//` truncates.
CREATE OR REPLACE MACRO part_of(amount, upto, whole, unit) AS
    sign(amount)::INTEGER * sign(upto)::INTEGER * sign(whole)::INTEGER * unit
    * ((2 * (abs(amount) // unit) * abs(upto) + abs(whole)) // (2 * abs(whole)));
CREATE OR REPLACE MACRO amount_of(units) AS
    (units::DECIMAL(28, 0) * 0.0001::DECIMAL(5, 4))::DECIMAL(18, 4);
"""

# Which sold lines bear a discount. One below a line is that line's; one below a subtotal is of the
# lines since the subtotal before; one below a group is the group's; any other is the document's.
_SCOPES = """
CREATE TEMP TABLE netsuite_scope AS
SELECT *,
    count(*) FILTER (kind = 'subtotal') OVER before AS subtotals,
    count(*) FILTER (kind = 'group') OVER before AS groups,
    count(*) FILTER (kind = 'endgroup') OVER before AS ended,
    last_value(CASE WHEN kind IN ('sale', 'subtotal', 'endgroup') THEN kind END IGNORE NULLS)
        OVER before AS above,
    last_value(CASE WHEN kind = 'sale' THEN position END IGNORE NULLS) OVER before AS line_above
FROM netsuite_posted
WINDOW before AS (PARTITION BY landing, transaction ORDER BY position
    ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING);

CREATE TEMP TABLE netsuite_bearer AS
WITH discount AS (FROM netsuite_scope WHERE kind = 'line_discount'),
sale AS (FROM netsuite_scope WHERE kind = 'sale'),
near AS (
    SELECT discount.position AS reduction, sale.landing, sale.transaction, sale.position
    FROM discount JOIN sale USING (landing, transaction)
    WHERE CASE discount.above
        WHEN 'sale' THEN sale.position = discount.line_above
        WHEN 'subtotal' THEN sale.subtotals = discount.subtotals - 1
        WHEN 'endgroup' THEN sale.groups = discount.groups AND sale.groups > sale.ended END
)
FROM near
UNION ALL
SELECT discount.position, sale.landing, sale.transaction, sale.position
FROM discount ANTI JOIN near
    ON near.landing = discount.landing AND near.transaction = discount.transaction
    AND near.reduction = discount.position
JOIN sale USING (landing, transaction);
"""


def _spread(kind: str, bearers: str, weight: str) -> str:
    """What each bearer takes over of the lines of a kind, by its part of their sum of weights.

    Shares are differences of rounded running parts, so that they always add up. An amount that is
    no whole number of minor units is not spread: the share is NULL, and the rows are flagged.
    """
    source = "netsuite_posted" if weight == "gross" else "netsuite_discounted"
    return f"""
    WITH weighed AS (
        SELECT bearer.*, reduction.currency, units_of(reduction.gross) AS total,
            coalesce(units_of(line.{weight}), 0) AS weight
        FROM {bearers} AS bearer
        JOIN netsuite_posted AS reduction
            ON reduction.landing = bearer.landing AND reduction.transaction = bearer.transaction
            AND reduction.position = bearer.reduction AND reduction.kind = '{kind}'
        JOIN {source} AS line
            ON line.landing = bearer.landing AND line.transaction = bearer.transaction
            AND line.position = bearer.position
    ), running AS (
        SELECT *, sum(weight) OVER (PARTITION BY landing, transaction, reduction
                ORDER BY position)::HUGEINT AS upto,
            sum(weight) OVER (PARTITION BY landing, transaction, reduction)::HUGEINT AS whole,
            row_number() OVER (PARTITION BY landing, transaction, reduction ORDER BY position) = 1
                AS first
        FROM weighed
    ), share AS (
        SELECT landing, transaction, position,
            CASE WHEN total % minor_unit(currency) <> 0 THEN NULL
                WHEN whole = 0 THEN CASE WHEN first THEN total ELSE 0 END
                ELSE part_of(total, upto, whole, minor_unit(currency))
                    - part_of(total, upto - weight, whole, minor_unit(currency)) END AS units
        FROM running
    )
    SELECT landing, transaction, position,
        CASE WHEN count(units) = count(*) THEN amount_of(sum(units)) END AS share
    FROM share GROUP BY ALL"""


def _added(shares: str, amount: str) -> str:
    """The sold lines with `net`: an amount and its share, where it has one."""
    source = "netsuite_posted" if amount == "gross" else "netsuite_discounted"
    return f"""
    SELECT line.landing, line.transaction, line.position,
        CASE WHEN taken.position IS NULL THEN line.{amount}
             ELSE (line.{amount} + taken.share)::DECIMAL(18, 4) END AS net
    FROM {source} AS line
    LEFT JOIN ({shares}) AS taken
        ON taken.landing = line.landing AND taken.transaction = line.transaction
        AND taken.position = line.position
    {"WHERE line.kind IN ('sale', 'shipping', 'payment')" if amount == "gross" else ""}"""


_ALL_BEAR = """(
    SELECT reduction.position AS reduction, sale.landing, sale.transaction, sale.position
    FROM netsuite_posted AS reduction JOIN netsuite_posted AS sale
        ON sale.landing = reduction.landing AND sale.transaction = reduction.transaction
    WHERE reduction.kind = '{kind}' AND sale.kind = 'sale')"""

_LINES = (
    """
CREATE TEMP TABLE netsuite_net AS
"""
    + _added(_spread("document_discount", _ALL_BEAR.format(kind="document_discount"), "net"), "net")
    + """;
CREATE TEMP TABLE netsuite_tax AS
"""
    + _spread("tax", _ALL_BEAR.format(kind="tax"), "net")
    + """;

CREATE VIEW netsuite_link AS
WITH link AS (SELECT landing, it.* FROM ({links})),
before AS (
    SELECT landing, document, line, type1 AS type, number1 AS number, day1 AS day, key1 AS key
    FROM link UNION ALL
    SELECT landing, document, line, type2, number2, day2, key2 FROM link
)
SELECT landing, document, line,
    arg_min({{number: number, day: day, key: key}}, key) FILTER (type = 'SalesOrd') AS sales_order,
    arg_min({{number: number, day: day, key: key}}, key)
        FILTER (type IN ('CustInvc', 'CashSale')) AS invoice
FROM before GROUP BY ALL;

CREATE VIEW netsuite_line AS
WITH whole AS (
    SELECT landing, transaction,
        max(gross) FILTER (kind = 'main') AS receivable,
        min(fromnumber) FILTER (fromtype = 'SalesOrd') AS order_number,
        min(fromnumber) FILTER (fromtype IN ('CustInvc', 'CashSale')) AS invoice_number,
        string_agg(DISTINCT itemcode, ', ' ORDER BY itemcode) FILTER (kind = 'tax') AS tax_name
    FROM netsuite_posted GROUP BY ALL
), sold AS (
    SELECT line.* EXCLUDE (currency, object), net.net AS amount, tax.share AS tax,
        sales_order, invoice
    FROM netsuite_posted AS line
    JOIN netsuite_net AS net USING (landing, transaction, position)
    LEFT JOIN netsuite_tax AS tax USING (landing, transaction, position)
    LEFT JOIN netsuite_link AS link
        ON link.landing = line.landing AND link.document = line.transaction
        AND link.line = line.line
)
SELECT document.* EXCLUDE (total), coalesce(total, receivable) AS total,
    sold.* EXCLUDE (landing, transaction, position, line, sequence, mainline, taxline, iscogs,
        kitcomponent, transactiondiscount, foreignamount, netamount, quantity, fromtype, fromnumber,
        sales_order, invoice),
    CASE WHEN tax IS NOT NULL THEN tax_name END AS tax_name,
    -- Quantities have the sign of the journal, too; an invoice shows them without.
    CASE object WHEN 'credit_memo' THEN 1 ELSE -1 END
        * try_cast(quantity AS DECIMAL(28, 12)) AS units,
    coalesce(sales_order.number, whole.order_number) AS from_order,
    sales_order.key AS from_order_line, try_cast(sales_order.day AS DATE) AS from_order_date,
    coalesce(invoice.number, whole.invoice_number) AS from_invoice,
    invoice.key AS from_invoice_line, try_cast(invoice.day AS DATE) AS from_invoice_date
FROM netsuite_document AS document
LEFT JOIN whole ON whole.landing = document.landing AND whole.transaction = document.id
LEFT JOIN sold ON sold.landing = document.landing AND sold.transaction = document.id;
"""
)
