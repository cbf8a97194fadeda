"""Which fields of Sage Intacct are read, and `[sources.sage_intacct]`.

What the fields mean is in `mapping.sage_intacct`.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from revrec_pipeline.mapping import SourceSettings

INVOICE, ADJUSTMENT, ORDER = "invoice", "adjustment", "order"
#: The raw object with the lines of a document.
LINES: Mapping[str, str] = {kind: f"{kind}_line" for kind in (INVOICE, ADJUSTMENT, ORDER)}
#: Raw object → Intacct's object, which is also the element of a record.
OBJECTS: Mapping[str, str] = {
    INVOICE: "ARINVOICE",
    LINES[INVOICE]: "ARINVOICEITEM",
    ADJUSTMENT: "ARADJUSTMENT",
    LINES[ADJUSTMENT]: "ARADJUSTMENTITEM",
    ORDER: "SODOCUMENT",
    LINES[ORDER]: "SODOCUMENTENTRY",
}
#: The field of a line that names its document's RECORDNO.
PARENT: Mapping[str, str] = {
    LINES[INVOICE]: "RECORDKEY",
    LINES[ADJUSTMENT]: "RECORDKEY",
    LINES[ORDER]: "DOCHDRNO",
}
_STAMPS = ("WHENCREATED", "AUWHENCREATED", "WHENMODIFIED")
_HEADER = ("RECORDNO", "STATE", *_STAMPS, "BASECURR", "CURRENCY", "MEGAENTITYID", "RECORD_URL")
_LINE = ("RECORDNO", "LINE_NO", "ITEMID", "ITEMNAME", "REVRECSTARTDATE", "REVRECENDDATE")
_AR_HEADER = (
    *_HEADER,
    *("RECORDID", "CUSTOMERID", "CUSTOMERNAME", "DOCNUMBER", "MODULEKEY", "WHENPAID"),
    *("TOTALENTERED", "TRX_TOTALENTERED"),
)
_AR_LINE = (
    *_LINE,
    *("RECORDKEY", "ENTRYDESCRIPTION", "AMOUNT", "TRX_AMOUNT", "SUBTOTAL", "PARENTENTRY"),
)
#: Fields that are read, by raw object. A company without revenue management, several currencies or
#: several entities lacks some of them.
STANDARD: Mapping[str, tuple[str, ...]] = {
    INVOICE: _AR_HEADER,
    LINES[INVOICE]: _AR_LINE,
    ADJUSTMENT: _AR_HEADER,
    LINES[ADJUSTMENT]: _AR_LINE,
    ORDER: (
        *_HEADER,
        *("DOCPARID", "DOCNO", "CUSTVENDID", "CUSTVENDNAME", "TOTAL", "TRX_TOTAL"),
    ),
    LINES[ORDER]: (
        *_LINE,
        *("DOCHDRNO", "ITEMDESC", "QUANTITY", "PRICE", "TRX_PRICE", "TOTAL", "TRX_VALUE"),
    ),
}

_Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
_HeaderPath = Annotated[str, StringConstraints(pattern=r"^(CUSTOMER\.)?[A-Za-z][A-Za-z0-9_]*$")]
_LinePath = Annotated[str, StringConstraints(pattern=r"^(ITEM\.)?[A-Za-z][A-Za-z0-9_]*$")]
_Path = Annotated[str, StringConstraints(pattern=r"^((CUSTOMER|ITEM)\.)?[A-Za-z][A-Za-z0-9_]*$")]
_Places = tuple[tuple[str, str], ...]


class SageIntacctSettings(SourceSettings):
    """`[sources.sage_intacct]`."""

    #: Each invoice is also its own sales order, with the dates of its lines.
    invoice_equals_contract: bool = False
    #: Order entry transaction definitions whose documents are sales orders (`Sales Order`).
    order_documents: tuple[str, ...] = ()
    #: Those whose documents take orders back: their quantities are positive and count negative.
    return_documents: tuple[str, ...] = ()
    #: States in which an order counts; without any, all but drafts and what awaits approval.
    closed_stages: tuple[str, ...] = ()
    #: Only paid invoices count, dated by the day of payment (rule `not_paid`).
    paid_invoices_only: bool = False
    #: Invoices over nothing are left out (rule `zero_invoice`).
    discard_zero_invoices: bool = False
    #: Entities (MEGAENTITYID) whose documents stay out (rule `excluded_business_entity`).
    exclude_business_entities: tuple[str, ...] = ()
    #: What a positive total of an AR adjustment means: more that the customer owes, or a credit.
    adjustment_sign: Literal["balance", "credit"] = "balance"
    #: Where the order number stands on an AR invoice or adjustment.
    order_number_field: _Name | None = None
    #: Where the CRM's id of the customer is kept; it becomes the customer id.
    customer_id_field: _HeaderPath | None = None
    #: Where the CRM's code of the product is kept; it becomes the product code.
    product_id_field: _LinePath | None = None
    #: Months of service, for lines without an end date.
    term_field: _LinePath | None = None
    #: RevRec's product type of an order line.
    product_type_field: _LinePath | None = None
    #: Also tell the tax of each line, from the tax rows below it.
    tax_enabled: bool = False
    #: Further columns: heading → field of the line, else of its document.
    custom_fields: dict[str, _Path] = Field(default_factory=dict)
    #: Requests in flight; performance tier 1 takes about two.
    concurrency: int = Field(default=2, ge=1, le=20)

    @model_validator(mode="after")
    def _one_meaning(self) -> Self:
        both = sorted(set(self.order_documents) & set(self.return_documents))
        if both:
            raise ValueError(f"{both[0]!r} is in order_documents and in return_documents")
        if self.invoice_equals_contract and self.documents:
            raise ValueError(
                "invoice_equals_contract and order_documents would both make sales orders; "
                "choose one"
            )
        return self

    @property
    def documents(self) -> tuple[str, ...]:
        """The transaction definitions that are read."""
        return self.order_documents + self.return_documents

    @property
    def kinds(self) -> tuple[str, ...]:
        """The documents that are read, as raw objects."""
        return (INVOICE, ADJUSTMENT, ORDER) if self.documents else (INVOICE, ADJUSTMENT)

    def lookups(self) -> dict[str, _Places]:
        """For each setting that names a field: (raw object, path) of the places to look, in order.

        A company may lack some of them. Custom fields stand under `custom_fields.<heading>`.
        """
        found: dict[str, _Places] = {}
        lines = [LINES[kind] for kind in self.kinds]
        for name, objects in (
            ("order_number_field", (INVOICE, ADJUSTMENT)),
            ("customer_id_field", self.kinds),
            ("product_id_field", lines),
            ("term_field", lines),
            ("product_type_field", lines),
        ):
            path = getattr(self, name)
            if path is not None:
                found[name] = _at(objects, path)
        for heading, path in self.custom_fields.items():
            places: list[str] = []
            if not path.startswith("CUSTOMER."):
                places += lines
            if not path.startswith("ITEM."):
                places += self.kinds
            found[f"custom_fields.{heading}"] = _at(places, path)
        return found


def _at(objects: Iterable[str], path: str) -> _Places:
    return tuple((name, path) for name in objects)
