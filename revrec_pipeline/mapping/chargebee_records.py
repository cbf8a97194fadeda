"""Chargebee's pages as records: documents with all of their lines, and what lines refer to.

What lives here is where things are on a page: envelopes, nested pages of huge documents, context
records (customers, item prices, subscriptions, contract terms, credited invoices) of the same
landing. What the fields mean for a row is in `chargebee`.
"""

from collections.abc import Iterable, Mapping

import duckdb

from revrec_pipeline.mapping.sql import identifier, quoted_numbers

#: Context records of a landing: raw object → the name inside the list's envelope.
CONTEXT: Mapping[str, str] = {
    "customer": "customer",
    "item_price": "item_price",
    "subscription": "subscription",
    "contract_term": "contract_term",
    "credited_invoice": "invoice",
}
#: Where a document's further lines are, and its name inside the envelope.
NESTED: Mapping[str, str] = {"invoice_line": "invoice", "credit_note_line": "credit_note"}
DOCUMENTS = ("invoice", "credit_note")
#: Amounts of a document that belong to none of its lines: rounding to a coin, and what a credit
#: note over shares of lines lacks to the amount that was asked for (recorded: lines 19998, total
#: 20000, fractional_correction 2).
CORRECTIONS = ("round_off_amount", "fractional_correction")

# Amounts are minor units in whole numbers. As DECIMAL(18, 3) a fraction of one would show, make the
# row's amount NULL and flag it, where BIGINT would round it away. Where a number may be left out,
# it is read as text, so that nonsense is told from nothing.
_MINOR, _TEXT, _INSTANT, _FLAG = "DECIMAL(18,3)", "VARCHAR", "BIGINT", "BOOLEAN"
_LINE = {
    "id": _TEXT,
    "subscription_id": _TEXT,
    "date_from": _INSTANT,
    "date_to": _INSTANT,
    "unit_amount": _TEXT,
    "quantity": _TEXT,
    "amount": _MINOR,
    "unit_amount_in_decimal": _TEXT,
    "quantity_in_decimal": _TEXT,
    "amount_in_decimal": _TEXT,
    "discount_amount": _TEXT,
    "tax_amount": _TEXT,
    "entity_id": _TEXT,
    "reference_line_item_id": _TEXT,
}
_LINE_DISCOUNT = {"line_item_id": _TEXT, "discount_type": _TEXT, "discount_amount": _TEXT}
_TAX = {"amount": _TEXT}
_LINE_TAX = {"line_item_id": _TEXT, "tax_name": _TEXT}
_DOCUMENT = {
    **dict.fromkeys(
        ("id", "status", "customer_id", "subscription_id", "currency_code", "price_type"), _TEXT
    ),
    **dict.fromkeys(("date", "generated_at", "updated_at", "paid_at", "refunded_at"), _INSTANT),
    **dict.fromkeys(("total", "tax", "round_off_amount", "fractional_correction"), _TEXT),
    "deleted": _FLAG,
    "business_entity_id": _TEXT,
    "type": _TEXT,
    "reference_invoice_id": _TEXT,
}
_OTHERS: Mapping[str, Mapping[str, str]] = {
    "customer": dict.fromkeys(("id", "company", "first_name", "last_name"), _TEXT),
    "item_price": dict.fromkeys(("id", "name", "external_name", "item_family_id"), _TEXT),
    "subscription": {"id": _TEXT},
    "contract_term": {
        "id": _TEXT,
        "subscription_id": _TEXT,
        "contract_start": _INSTANT,
        "contract_end": _INSTANT,
    },
}


def create_records(db: duckdb.DuckDBPyConnection, wanted: Mapping[str, Iterable[str]]) -> None:
    """Create the views `document_line`, `line_tax`, `credited`, `credited_line` and the context.

    `wanted` names for each owner (`invoice`, `line_item`, `subscription`, `customer`, `item_price`)
    the further fields that the settings ask for; they are read as text.
    """
    body = quoted_numbers("body")  # or numbers of custom fields would lose digits
    line = _structure({**dict.fromkeys(wanted.get("line_item", ()), _TEXT), **_LINE})
    lists = {
        "line_items": f"[{line}]",
        "line_item_discounts": f"[{_structure(_LINE_DISCOUNT)}]",
        "line_item_taxes": f"[{_structure(_LINE_TAX)}]",
    }
    own = dict.fromkeys(wanted.get("invoice", ()), _TEXT)
    document = _structure({**own, **_DOCUMENT}, {**lists, "taxes": f"[{_structure(_TAX)}]"})
    for name in DOCUMENTS:
        _create_list(db, f"{name}_listed", f"raw_{name}", name, document, body)
    for name, envelope in CONTEXT.items():
        structure = document
        if name in _OTHERS:
            fields = dict.fromkeys(wanted.get(name, ()), _TEXT)
            structure = _structure({**fields, **_OTHERS[name]})
        _create_list(db, f"{name}_listed", f"raw_{name}", envelope, structure, body)
        if name in _OTHERS:
            _create_context(db, name)
    _create_nested(db, lists, body)
    db.execute(_document_views(line))


def _structure(fields: Mapping[str, str], lists: Mapping[str, str] | None = None) -> str:
    """The shape of an object for `from_json`; `lists` have shapes already."""
    named = [f'"{name}":"{kind}"' for name, kind in fields.items()]
    named += [f'"{name}":{shape}' for name, shape in (lists or {}).items()]
    return "{" + ",".join(named) + "}"


def _create_list(
    db: duckdb.DuckDBPyConnection, view: str, pages: str, envelope: str, structure: str, body: str
) -> None:
    """A view of what lists hold: (landing, page, request, it)."""
    shape = f'{{"list":[{{"{envelope}":{structure}}}]}}'
    db.execute(
        f"""
        CREATE VIEW {view} AS
        SELECT landing, page, request, element.{envelope} AS it FROM (
            SELECT landing, page, request, unnest(from_json({body}, '{shape}').list) AS element
            FROM {pages}
        )
        """
    )


def _create_context(db: duckdb.DuckDBPyConnection, name: str) -> None:
    """A view (landing, id, record) with each record of a landing once, as it was asked for last."""
    db.execute(
        f"""
        CREATE VIEW {identifier(name)} AS
        SELECT landing, it.id AS id, arg_max(it, page) AS record FROM {name}_listed GROUP BY ALL
        """
    )


def _create_nested(db: duckdb.DuckDBPyConnection, lists: Mapping[str, str], body: str) -> None:
    """The lists of documents that the vendor hands out in pages of their own, put together.

    What belongs to a line may stand on another page than the line.
    """
    whole = ", ".join(
        f"flatten(list(coalesce(found.{field}, []) ORDER BY page)) AS {field}" for field in lists
    )
    for name, envelope in NESTED.items():
        shape = f'{{"{envelope}":{_structure({}, lists)}}}'
        db.execute(
            f"""
            CREATE VIEW {envelope}_nested AS
            SELECT landing, parent, {whole} FROM (
                SELECT landing, page, parent, from_json({body}, '{shape}').{envelope} AS found
                FROM raw_{name}
            ) GROUP BY ALL
            """
        )


def _whole(kind: str, source: str) -> str:
    """Documents with all of their lines; a list shows none of a huge one's."""
    return f"""
    SELECT '{kind}' AS kind, listed.landing, listed.page, listed.request, listed.it,
        coalesce(nested.line_items, listed.it.line_items) AS line_items,
        coalesce(nested.line_item_discounts, listed.it.line_item_discounts) AS line_item_discounts,
        coalesce(nested.line_item_taxes, listed.it.line_item_taxes) AS line_item_taxes
    FROM {source} AS listed
    LEFT JOIN {kind}_nested AS nested
        ON nested.landing = listed.landing AND nested.parent = listed.it.id
    """


def _current(kind: str) -> str:
    return f"""
    SELECT whole.*, winner.version FROM ({_whole(kind, kind + "_listed")}) AS whole
    JOIN (FROM current WHERE object = '{kind}') AS winner
        ON winner.id = whole.it.id AND winner.landing = whole.landing AND winner.page = whole.page
    """


def _document_views(line: str) -> str:
    """`document_line`: one row per line of each current document, null for one without lines.

    What a document adds to or takes from the sum of its lines has lines of its own. `credits` are
    the promotional and prorated credits of the document's lines: they are paid with, and stand
    among a line's discounts where the site applies them before tax. They are no lower price.
    """
    corrections = ", ".join(
        f"""CASE WHEN it.{field} <> '0' THEN from_json(json_object(
            'id', it.id || ':{field}', 'entity_id', '{field}', 'quantity', '1',
            'amount', it.{field}, 'unit_amount', it.{field},
            'date_from', it.date, 'date_to', it.date), '{line}') END"""
        for field in CORRECTIONS
    )
    return f"""
    CREATE VIEW document AS {_current("invoice")} UNION ALL {_current("credit_note")};

    CREATE VIEW document_line AS
    SELECT * EXCLUDE (lines), unnest(CASE WHEN len(lines) > 0 THEN lines ELSE [NULL] END) AS line
    FROM (
        SELECT kind, landing, page, request, version, it,
            [one FOR one IN line_item_discounts
                IF one.discount_type IN ('promotional_credits', 'prorated_credits')] AS credits,
            list_concat(line_items, [one FOR one IN [{corrections}] IF one IS NOT NULL]) AS lines
        FROM document
    );

    CREATE VIEW line_tax AS
    SELECT kind, landing, document_id, tax.line_item_id AS line_id,
        string_agg(DISTINCT tax.tax_name, ', ' ORDER BY tax.tax_name) AS tax_name
    FROM (
        SELECT kind, landing, it.id AS document_id, unnest(line_item_taxes) AS tax FROM document
    ) GROUP BY ALL;

    CREATE VIEW credited AS
    SELECT landing, it.id AS id, arg_max(it, page) AS record,
        arg_max(line_items, page) AS line_items
    FROM ({_whole("invoice", "credited_invoice_listed")}) GROUP BY ALL;

    CREATE VIEW credited_line AS
    SELECT landing, line.id AS line_id, any_value(line) AS record
    FROM (SELECT landing, unnest(line_items) AS line FROM credited) GROUP BY ALL;
    """
