"""What each code of an error means: who can mend it, whether it holds its order back.

It imports nothing heavy, for the ledger and the command line read it. Which row breaks which rule
is in `checks`, whose schemas name these codes; the page of each code is in docs/errors. Codes are
those of reference/revrec-product.md section 6.2.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from revrec_pipeline.model import Severity

#: Where the page of each code stands, below the project's folder.
PAGES = "docs/errors"


@dataclass(frozen=True, slots=True)
class Code:
    """What stands behind a code."""

    #: The asset check that turns red; "" for what no check of a month shows (a failed pull).
    check: str
    severity: Severity
    stage: str  # sync, input or processing
    owner: str  # source, file or revrec
    words: str  # follows the field's name
    #: What happens instead: of a warning at once, of an error once a person has ignored it. An
    #: error without one holds its order back even then.
    default: str | None = None


#: The asset checks of every canonical asset, in the order in which people read them. The first and
#: the last two are about the table as a whole.
CHECKS: dict[str, str] = {
    "schema": "Columns and types are those of the model.",
    "unique_key": "No line of a document stands twice.",
    "required_fields": "Every row has what revenue recognition needs.",
    "identifiers": "Identifiers hold only characters that RevRec accepts.",
    "amounts": "Quantity times unit price is the amount, in whole minor units of the currency.",
    "service_dates": "Service does not end before it starts.",
    "known_references": "Customers have names and order lines have list prices (warnings).",
    "complete": "Every current document of the month has rows; none was lost on the way.",
    "controls": "Pages, documents, lines and amounts tie, from what was pulled to what is stored.",
}

_ERROR, _WARNING = Severity.ERROR, Severity.WARNING
#: Matching orders with invoices: findings about delivered documents of several systems.
BETWEEN_SYSTEMS = "between_systems"
#: What was pulled, what was made of it, and what went out do not tie.
CONTROL_DIFFERENCE = "PR_INPUT_CONTROL_DIFF"
#: What delivered units and order lines do not tie in.
UNMATCHED_DELIVERY, DELIVERED_NE_SOLD = "SYNC_UNMATCHED_DELIVERY", "SYNC_DELIVERED_NE_SOLD"

CODES: dict[str, Code] = {
    "SYNC_AUTH": Code("", _ERROR, "sync", "source", "refused the credentials"),
    "SYNC_RATE_LIMIT": Code("", _ERROR, "sync", "source", "allows no more requests for now"),
    "SYNC_TIMEOUT": Code("", _ERROR, "sync", "source", "did not answer in time"),
    "SYNC_SCHEMA_DRIFT": Code(
        "", _ERROR, "sync", "source", "answered something that its API does not promise"
    ),
    "SYNC_UNMATCHED_INVOICE": Code(
        BETWEEN_SYSTEMS,
        _WARNING,
        "sync",
        "source",
        "belongs to no order that was delivered",
        default="it goes out as it is, without an order",
    ),
    "SYNC_BILLING_NE_CONTRACT": Code(
        BETWEEN_SYSTEMS,
        _WARNING,
        "sync",
        "source",
        "is billed beyond its value",
        default="order and invoices go out as they are",
    ),
    "SYNC_CUSTOMER_NAME_MISMATCH": Code(
        BETWEEN_SYSTEMS,
        _WARNING,
        "sync",
        "source",
        "has another name in the system of its orders",
        default="each system's rows go out with its own name",
    ),
    "SYNC_CURRENCY_MISMATCH": Code(
        BETWEEN_SYSTEMS,
        _WARNING,
        "sync",
        "source",
        "is not in the currency of its order",
        default="order and invoice go out in their own currencies",
    ),
    "SYNC_NO_INVOICES": Code(
        BETWEEN_SYSTEMS,
        _WARNING,
        "sync",
        "source",
        "has orders and no invoices",
        default="the orders go out",
    ),
    UNMATCHED_DELIVERY: Code(
        BETWEEN_SYSTEMS,
        _WARNING,
        "sync",
        "file",
        "belongs to no order line that was delivered",
        default="the delivery goes out as it is, and its units are assigned to no order line",
    ),
    DELIVERED_NE_SOLD: Code(
        BETWEEN_SYSTEMS,
        _WARNING,
        "sync",
        "file",
        "is more than was sold, or takes back more than was delivered",
        default="the delivery goes out as it is, and the units beyond are assigned to no order "
        "line",
    ),
    "IN_MISSING_REQUIRED": Code("required_fields", _ERROR, "input", "source", "is missing"),
    "IN_CURRENCY_MISSING": Code(
        "required_fields",
        _ERROR,
        "input",
        "source",
        "is missing",
        default="the row is in the site's home currency",
    ),
    "IN_MISSING_SERVICE_DATES": Code(
        "required_fields",
        _ERROR,
        "input",
        "source",
        "is missing, and neither the line nor its product's term gives it",
        default="the row goes out without the date, and the product's delivery rule in RevRec "
        "decides when it is delivered",
    ),
    "IN_DUP_KEY": Code("unique_key", _ERROR, "input", "source", "stands more than once"),
    "IN_BAD_ID_CHARS": Code(
        "identifiers",
        _ERROR,
        "input",
        "source",
        "has characters other than letters, digits, - _ : and .",
    ),
    "IN_BAD_NUMBER": Code(
        "amounts", _ERROR, "input", "source", "does not fit quantity, unit price and currency"
    ),
    "IN_BAD_DATE": Code("", _ERROR, "input", "file", "is no date"),
    "IN_UNKNOWN_SHEET": Code("", _ERROR, "input", "file", "is no sheet of the template"),
    "IN_UNKNOWN_COLUMN": Code("", _ERROR, "input", "file", "is no column of the sheet"),
    "IN_SHEET_NAME_CASE": Code("", _ERROR, "input", "file", "is not written as in the template"),
    "IN_END_BEFORE_START": Code(
        "service_dates", _ERROR, "input", "source", "is before the start of service"
    ),
    "IN_UNKNOWN_CUSTOMER": Code(
        "known_references",
        _WARNING,
        "input",
        "source",
        "is missing; the customer's id is used as its name",
        default="the customer's id is used as its name",
    ),
    "PR_MISSING_FX_RATE": Code(
        "known_references",
        _ERROR,
        "processing",
        "revrec",
        "is missing: the amount is not in the home currency, and the source gives no rate",
    ),
    "PR_MISSING_SSP": Code(
        "known_references",
        _WARNING,
        "processing",
        "revrec",
        "is missing; supply a standalone selling price during the close",
        default="the order goes out without a list price",
    ),
    CONTROL_DIFFERENCE: Code(
        "controls", _ERROR, "processing", "revrec", "does not tie with what was pulled"
    ),
}


def of_check(check: str) -> tuple[str, ...]:
    """The codes that an asset check shows."""
    return tuple(code for code, meaning in CODES.items() if meaning.check == check)


def page_of(code: str) -> str | None:
    """Where the code's page stands; None for a code of another version."""
    return f"{PAGES}/{code}.md" if code in CODES else None


def pages(codes: Iterable[str]) -> list[str]:
    """The pages of several codes, each once, sorted."""
    return sorted({page for code in codes if (page := page_of(code))})
