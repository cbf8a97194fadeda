"""What a canonical row must satisfy: one pandera schema per canonical table, one meaning per code.

A rule stands once, in a schema below, and names its code; the asset check that shows it, its
severity and its words follow from the code's entry in `codes.CODES`. A failing row of severity
`error` holds its whole document back (see `canonical`); a warning names the default that was
applied.
"""

from collections.abc import Iterator

import duckdb
import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa

from revrec_pipeline.codes import CHECKS, CODES, Code
from revrec_pipeline.conversion.template import load_template
from revrec_pipeline.model import AMOUNT, CANONICAL, RATE, RecordType

__all__ = [
    "CHECKS",
    "CODES",
    "SCHEMAS",
    "Code",
    "codes_of",
    "failures",
    "headings",
    "structure_differences",
]

#: Rows validated at a time; a pandas copy of one batch is about 20 MB.
_BATCH_ROWS = 30_000

_TEXT, _DATE = pd.ArrowDtype(pa.string()), pd.ArrowDtype(pa.date32())
_IDENTIFIER = pandera.Check.str_matches(r"^[A-Za-z0-9\-_:.]*$", error="IN_BAD_ID_CHARS")


def _text(missing: str | None = "IN_MISSING_REQUIRED", *checks: pandera.Check) -> pandera.Column:
    return pandera.Column(
        _TEXT, list(checks), nullable=missing is None, metadata={"missing": missing}
    )


def _date(missing: str | None = "IN_MISSING_REQUIRED") -> pandera.Column:
    return pandera.Column(_DATE, nullable=missing is None, metadata={"missing": missing})


def _number(kind: pa.DataType, missing: str | None = "IN_MISSING_REQUIRED") -> pandera.Column:
    return pandera.Column(
        pd.ArrowDtype(kind), nullable=missing is None, metadata={"missing": missing}
    )


def _measure(check: pandera.Check) -> pandera.Column:
    """A whole number that the query below derives from several columns.

    pandera repeats every failing row of a check over several columns for each column (100,000 bad
    rows gave 2.1 million failure cases), so such rules are measured in SQL and judged here.
    """
    return pandera.Column(
        pd.ArrowDtype(pa.int32()), check, nullable=True, metadata={"missing": None}
    )


_DERIVED = {
    "line_occurrences": _measure(pandera.Check.eq(1, error="IN_DUP_KEY")),
    "service_days": _measure(pandera.Check.ge(1, error="IN_END_BEFORE_START")),
    "amount_misfit": _measure(pandera.Check.eq(0, error="IN_BAD_NUMBER")),
}
#: The column that a person must look at when a derived column fails.
_BLAMED = {
    "line_occurrences": "line_id",
    "service_days": "service_end_date",
    "amount_misfit": "amount",
}
# Costs name their days otherwise, and no cost may be paid twice.
_BLAMED_OF_EXPENSES = {
    "line_occurrences": "reference_number",
    "service_days": "end_date",
    "amount_misfit": "amount",
}
#: What may stand once in a month, of record types without service dates and amounts. A customer is
#: one document, whose second line is a second row of it.
_ONCE = {
    RecordType.DELIVERIES: ("reference_number", "reference_number"),
    RecordType.CUSTOMERS: ("document_id", "customer_id"),
    RecordType.PRODUCTS: ("document_id", "product_code"),
}

SCHEMAS: dict[RecordType, pandera.DataFrameSchema] = {
    RecordType.SALES: pandera.DataFrameSchema(
        {
            "line_id": _text(),
            "customer_id": _text("IN_MISSING_REQUIRED", _IDENTIFIER),
            "customer_name": _text("IN_UNKNOWN_CUSTOMER"),
            "order_number": _text("IN_MISSING_REQUIRED", _IDENTIFIER),
            "order_item_number": _text("IN_MISSING_REQUIRED", _IDENTIFIER),
            "product_code": _text("IN_MISSING_REQUIRED", _IDENTIFIER),
            "order_start_date": _date(),
            "service_start_date": _date("IN_MISSING_SERVICE_DATES"),
            "service_end_date": _date("IN_MISSING_SERVICE_DATES"),
            "quantity": _number(RATE),
            "list_price": _number(RATE, "PR_MISSING_SSP"),
            "unit_price": _number(RATE),
            "amount": _number(AMOUNT),
            "currency": _text("IN_CURRENCY_MISSING"),
            **_DERIVED,
        },
        name="order lines",
        strict=True,
        ordered=True,
    ),
    RecordType.INVOICES: pandera.DataFrameSchema(
        {
            "line_id": _text(),
            "customer_id": _text("IN_MISSING_REQUIRED", _IDENTIFIER),
            "customer_name": _text("IN_UNKNOWN_CUSTOMER"),
            "order_number": _text(None, _IDENTIFIER),
            "product_code": _text("IN_MISSING_REQUIRED", _IDENTIFIER),
            "billing_date": _date(),
            "invoice_number": _text("IN_MISSING_REQUIRED", _IDENTIFIER),
            "amount": _number(AMOUNT),
            "currency": _text("IN_CURRENCY_MISSING"),
            **_DERIVED,
        },
        name="billing lines",
        strict=True,
        ordered=True,
    ),
    RecordType.COMMISSIONS: pandera.DataFrameSchema(
        {
            "line_id": _text(),
            "order_number": _text(None, _IDENTIFIER),
            "order_item_number": _text(None, _IDENTIFIER),
            "product_code": _text(None, _IDENTIFIER),
            "reference_number": _text("IN_MISSING_REQUIRED", _IDENTIFIER),
            "expense_code": _text("IN_MISSING_REQUIRED", _IDENTIFIER),
            "expense_date": _date(),
            "exchange_rate": _number(RATE, "PR_MISSING_FX_RATE"),
            "document_amount": _number(AMOUNT),
            "currency": _text("IN_CURRENCY_MISSING"),
            **_DERIVED,
        },
        name="expense lines",
        strict=True,
        ordered=True,
    ),
    RecordType.DELIVERIES: pandera.DataFrameSchema(
        {
            "line_id": _text(),
            "customer_id": _text("IN_MISSING_REQUIRED", _IDENTIFIER),
            "order_number": _text(None, _IDENTIFIER),
            "order_item_number": _text(None, _IDENTIFIER),
            "product_code": _text("IN_MISSING_REQUIRED", _IDENTIFIER),
            "delivery_date": _date(),
            "units_delivered": _number(RATE),
            "reference_number": _text(None, _IDENTIFIER),
            **_DERIVED,
        },
        name="delivery lines",
        strict=True,
        ordered=True,
    ),
    RecordType.CUSTOMERS: pandera.DataFrameSchema(
        {
            "line_id": _text(),
            "customer_id": _text("IN_MISSING_REQUIRED", _IDENTIFIER),
            "customer_name": _text(),
            **_DERIVED,
        },
        name="customers",
        strict=True,
        ordered=True,
    ),
    RecordType.PRODUCTS: pandera.DataFrameSchema(
        {
            "line_id": _text(),
            "product_id": _text(None, _IDENTIFIER),
            "product_code": _text("IN_MISSING_REQUIRED", _IDENTIFIER),
            "product_name": _text(),
            **_DERIVED,
        },
        name="products",
        strict=True,
        ordered=True,
    ),
}


def codes_of(record_type: RecordType) -> frozenset[str]:
    """The codes that the schema of a record type can give, read from its rules."""
    columns = SCHEMAS[record_type].columns.values()
    missing = {column.metadata["missing"] for column in columns if column.metadata["missing"]}
    broken = {str(check.error) for column in columns for check in column.checks}
    return frozenset(missing | broken)


def headings(record_type: RecordType) -> dict[str, str]:
    """Canonical column → the name that people know from the template, where it has one."""
    columns = load_template().sheet_of(record_type).columns
    named = {column.canonical: column.header for column in columns}
    plain = {name: name.replace("_", " ").title() for name in CANONICAL[record_type].names}
    return plain | {name: header for name, header in named.items() if name} | {"line_id": "Lines"}


def structure_differences(record_type: RecordType, found: pa.Schema) -> list[str]:
    """How a table's columns differ from the model; empty when they do not."""
    expected = CANONICAL[record_type]
    differences = [
        f"{column.name} is {found.field(column.name).type}, expected {column.type}"
        for column in expected
        if column.name in found.names and found.field(column.name).type != column.type
    ]
    differences += [f"{name} is missing" for name in expected.names if name not in found.names]
    differences += [f"{name} is unknown" for name in found.names if name not in expected.names]
    return differences


def failures(
    engine: duckdb.DuckDBPyConnection, record_type: RecordType, rows: str
) -> Iterator[pa.Table]:
    """Validate the rows that count and yield (position, column, code) of each failure.

    `rows` is a table expression with the canonical columns and `position`, which names a row.
    """
    schema = SCHEMAS[record_type]
    columns = [name for name in schema.columns if name not in _DERIVED]
    misfit = "money(amount, currency) <> amount"
    if record_type is RecordType.SALES:
        # A product that overflows 38 digits is a misfit, not the end of the month: hence TRY.
        misfit += """ OR coalesce(
                money(TRY(quantity * unit_price), currency) <> amount,
                quantity IS NOT NULL AND unit_price IS NOT NULL)"""
    start, end, twice = "service_start_date", "service_end_date", "document_id, line_id"
    blamed = _BLAMED
    if record_type is RecordType.COMMISSIONS:
        start, end, twice = "start_date", "end_date", "reference_number"
        blamed = _BLAMED_OF_EXPENSES
    days = f"{end} - {start} + 1"
    if record_type in _ONCE:
        twice, blame = _ONCE[record_type]
        blamed, days = {"line_occurrences": blame}, "NULL"
    # A second connection, for the caller writes to the first one while this one is being read.
    reader = (
        engine.cursor()
        .sql(
            f"""
        WITH counted AS (SELECT * FROM {rows} WHERE excluded_by IS NULL),
        twice AS (
            SELECT {twice}, count(*)::INTEGER AS line_occurrences
            FROM counted WHERE line_id IS NOT NULL GROUP BY ALL HAVING count(*) > 1
        )
        SELECT position, {", ".join(columns)},
            coalesce(line_occurrences, 1)::INTEGER AS line_occurrences,
            ({days})::INTEGER AS service_days,
            (amount IS NOT NULL AND currency IS NOT NULL AND ({misfit}))::INTEGER AS amount_misfit
        FROM counted LEFT JOIN twice USING ({twice})
        """
        )
        .to_arrow_reader(_BATCH_ROWS)
    )
    for batch in reader:
        yield _validate(schema, blamed, pa.Table.from_batches([batch]))


def _validate(schema: pandera.DataFrameSchema, blamed: dict[str, str], rows: pa.Table) -> pa.Table:
    frame = rows.drop_columns("position").to_pandas(types_mapper=pd.ArrowDtype)
    try:
        schema.validate(frame, lazy=True)
    except pandera.errors.SchemaErrors as error:
        cases = error.failure_cases
        structural = cases[cases["index"].isna()]
        if len(structural):  # a wrong type is our bug, not a row's
            raise TypeError(f"{schema.name}: {structural.iloc[0]['check']}") from error
        missing = {name: column.metadata["missing"] for name, column in schema.columns.items()}
        null = cases["check"] == "not_nullable"
        code = cases["check"].where(~null, cases["column"].map(missing))
        return pa.table(
            {
                "position": rows["position"].take(pa.array(cases["index"], pa.int64())),
                "field": pa.array(cases["column"].replace(blamed), pa.string()),
                "code": pa.array(code, pa.string()),
            }
        )
    return _NO_FAILURES


_NO_FAILURES = pa.schema(
    [("position", pa.int64()), ("field", pa.string()), ("code", pa.string())]
).empty_table()
