"""The words of the product as types, and the columns of the canonical tables.

What lives here: enumerations, the canonical schemas as Arrow schemas, and nothing that computes.
The columns are those of RevRec's template (`template.yaml`) plus lineage.
"""

from dataclasses import dataclass
from enum import StrEnum

import pyarrow as pa


class RecordType(StrEnum):
    """What a canonical row describes; also the last part of the canonical asset's key.

    Systems yield the first three. The others come from files and by hand only.
    """

    SALES = "sales"
    INVOICES = "invoices"
    COMMISSIONS = "commissions"
    DELIVERIES = "deliveries"
    CUSTOMERS = "customers"
    PRODUCTS = "products"


class Route(StrEnum):
    """Where a batch goes: to a file for a person, or into the ledger."""

    CONVERSION = "conversion"
    LIVE = "live"


class JobStatus(StrEnum):
    """The state of a job as `revrec jobs` shows it."""

    RUNNING = "running"
    READY = "ready"
    DELIVERED = "delivered"
    UNCHANGED = "unchanged"
    FAILED = "failed"


class Severity(StrEnum):
    """`error` holds the row's order back; `warning` applies a default and goes on."""

    ERROR = "error"
    WARNING = "warning"


#: Extended amounts, in major units. Wide enough for 10^14 of any currency and its decimals.
AMOUNT = pa.decimal128(18, 4)
#: Quantities and prices per unit; vendors send up to 12 decimals (Stripe `unit_amount_decimal`).
RATE = pa.decimal128(28, 12)

#: Sources that are no system of others: files that people bring, and what they type. Their rows
#: carry the names of the template's columns without a canonical one among the custom fields.
OWN_SOURCES = ("file", "manual")
#: The column of the template that tells which system a row first came from.
SYNC_SOURCE = "Sync Source"

#: What the columns of every canonical row mean that the template does not name.
MEANINGS = {
    "source": "the system that the record is from",
    "record_type": "sales, invoices, commissions …",
    "period": "month of the business date, in the site's time zone",
    "document_type": "the vendor's word: opportunity, invoice, credit_note",
    "document_id": "the header's id; a document is the unit of delivery",
    "line_id": "the line's id; empty when a document has no lines",
    "source_version": "the version of the document that counts: the source's own stamp",
    "raw_batch": "the landing in the lake that the record came with",
    "raw_page": "the page's number in that landing",
    "url": "the record in the source system's own web page",
    "excluded_by": "the rule that keeps the row out; empty when it counts",
}
_LINEAGE = [(name, pa.int32() if name == "raw_page" else pa.string()) for name in MEANINGS]

ORDER_LINE = pa.schema(
    [
        *_LINEAGE,
        ("customer_id", pa.string()),
        ("customer_name", pa.string()),
        ("order_number", pa.string()),
        ("order_item_number", pa.string()),
        ("order_name", pa.string()),
        ("product_id", pa.string()),
        ("product_code", pa.string()),
        ("product_name", pa.string()),
        ("product_family", pa.string()),
        ("product_type", pa.string()),
        ("order_start_date", pa.date32()),
        ("service_start_date", pa.date32()),
        ("service_end_date", pa.date32()),  # the last day of service, included
        ("quantity", RATE),
        ("list_price", RATE),  # per unit
        ("unit_price", RATE),  # per unit, after discounts, before tax
        ("amount", AMOUNT),  # of the line, after discounts, before tax
        ("currency", pa.string()),
        ("account_owner", pa.string()),
        ("opportunity_id", pa.string()),
        ("reference_invoice_number", pa.string()),
        ("custom_fields", pa.map_(pa.string(), pa.string())),
    ]
)

BILLING_LINE = pa.schema(
    [
        *_LINEAGE,
        ("customer_id", pa.string()),
        ("customer_name", pa.string()),
        ("order_number", pa.string()),  # null when invoices are matched to orders by customer
        ("order_item_number", pa.string()),
        ("contract_date", pa.date32()),
        ("product_id", pa.string()),
        ("product_code", pa.string()),
        ("product_name", pa.string()),
        ("billing_date", pa.date32()),
        ("invoice_number", pa.string()),
        ("amount", AMOUNT),  # after discounts, before tax; credit notes negative
        ("currency", pa.string()),
        ("service_start_date", pa.date32()),
        ("service_end_date", pa.date32()),  # the last day of service, included
        ("quantity", RATE),
        ("reference_invoice_number", pa.string()),  # a credit note's invoice
        ("reference_line_id", pa.string()),  # the invoice line that a credit-note line credits
        ("tax_amount", AMOUNT),  # on top of `amount`; null unless the site asks for the tax sheet
        ("tax_name", pa.string()),  # of several taxes all names
        ("custom_fields", pa.map_(pa.string(), pa.string())),
    ]
)

EXPENSE_LINE = pa.schema(
    [
        *_LINEAGE,
        ("order_number", pa.string()),  # null: a cost of no order
        ("order_item_number", pa.string()),
        ("product_code", pa.string()),
        ("reference_number", pa.string()),  # identifies the cost: no split is paid twice
        ("expense_code", pa.string()),  # which kind of cost; the key of RevRec's expense rule
        ("expense_date", pa.date32()),
        ("amount", AMOUNT),  # in the site's home currency; claw-backs negative
        ("currency", pa.string()),  # the home currency
        ("exchange_rate", RATE),  # home currency per unit of the document's; 1 when they are one
        ("document_amount", AMOUNT),  # in the document's own currency
        ("document_currency", pa.string()),
        ("payee_id", pa.string()),
        ("payee_name", pa.string()),
        ("start_date", pa.date32()),
        ("end_date", pa.date32()),  # the last day, included
        ("description", pa.string()),
        ("custom_fields", pa.map_(pa.string(), pa.string())),
    ]
)

#: Work that was done: units of a product, in the order line's own measure (hours, pieces). Which
#: order lines they count against is decided in `revrec_pipeline.assignment`.
DELIVERY_LINE = pa.schema(
    [
        *_LINEAGE,
        ("customer_id", pa.string()),
        ("order_number", pa.string()),  # null: the customer's oldest open line of the product
        ("order_item_number", pa.string()),
        ("product_code", pa.string()),
        ("delivery_date", pa.date32()),
        ("units_delivered", RATE),  # negative takes back
        ("reference_number", pa.string()),  # identifies the delivery
        ("custom_fields", pa.map_(pa.string(), pa.string())),
    ]
)

#: A customer or product that somebody recorded; they have no day, so all are in one month.
CUSTOMER = pa.schema(
    [
        *_LINEAGE,
        ("customer_id", pa.string()),
        ("customer_name", pa.string()),
        ("customer_address", pa.string()),
        ("customer_phone", pa.string()),
        ("state", pa.string()),
        ("customer_type", pa.string()),
        ("tier", pa.string()),
        ("custom_fields", pa.map_(pa.string(), pa.string())),
    ]
)
PRODUCT = pa.schema(
    [
        *_LINEAGE,
        ("product_id", pa.string()),
        ("product_code", pa.string()),
        ("product_name", pa.string()),
        ("product_family", pa.string()),
        ("product_type", pa.string()),
        ("description", pa.string()),
        ("list_price", RATE),  # per unit
        ("pricebook_id", pa.string()),
        ("term", RATE),  # months of service
        ("is_recurring", pa.string()),  # true or false
        ("price", RATE),
        ("price_period", pa.string()),
        ("units", pa.string()),  # per year, month or quarter
        ("currency", pa.string()),  # of the prices; null: the home currency
        ("delivery_start", pa.string()),  # RevRec's delivery rule: Order Date, or a custom field
        ("delivery_end", pa.string()),
        ("custom_fields", pa.map_(pa.string(), pa.string())),
    ]
)

CANONICAL: dict[RecordType, pa.Schema] = {
    RecordType.SALES: ORDER_LINE,
    RecordType.INVOICES: BILLING_LINE,
    RecordType.COMMISSIONS: EXPENSE_LINE,
    RecordType.DELIVERIES: DELIVERY_LINE,
    RecordType.CUSTOMERS: CUSTOMER,
    RecordType.PRODUCTS: PRODUCT,
}
#: Record types that other rows refer to by an id.
REFERENCES = (RecordType.CUSTOMERS, RecordType.PRODUCTS)
#: What people call the rows of a record type.
ROWS_NAME: dict[RecordType, str] = {
    RecordType.SALES: "order lines",
    RecordType.INVOICES: "billing lines",
    RecordType.COMMISSIONS: "expense lines",
    RecordType.DELIVERIES: "delivery lines",
    RecordType.CUSTOMERS: "customers",
    RecordType.PRODUCTS: "products",
}


def without_amount(record_type: RecordType) -> str:
    """SQL that gives rows without an amount or a currency what totals sum: 0 of no currency.

    It follows the columns of a SELECT; "" for record types that have both.
    """
    missing = {"amount": "0::DECIMAL(18, 4)", "currency": "NULL::VARCHAR"}
    names = CANONICAL[record_type].names
    return "".join(f", {sql} AS {name}" for name, sql in missing.items() if name not in names)


@dataclass(frozen=True, slots=True)
class SyncError:
    """One flagged row, or one failure of a whole run (`record_id` and `line_id` are then null)."""

    stage: str  # sync, input or processing
    code: str
    severity: Severity
    owner: str  # source, file or revrec
    source: str
    record_type: str
    period: str | None
    record_id: str | None
    line_id: str | None
    field: str | None
    message: str
    url: str | None
