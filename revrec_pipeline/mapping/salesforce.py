"""Salesforce as a source: which objects its settings ask for, and which mapping makes its rows.

Settings are in `salesforce_settings`, what is read in `salesforce_reads`, order lines in
`salesforce_sales`, commissions in `salesforce_commissions`, pages in `salesforce_pages`.
"""

import duckdb

from revrec_pipeline.mapping import Needs, Site, Source, SourceSettings
from revrec_pipeline.mapping.salesforce_commissions import commission_rows
from revrec_pipeline.mapping.salesforce_reads import documents, standard_paths
from revrec_pipeline.mapping.salesforce_sales import sales_rows
from revrec_pipeline.mapping.salesforce_settings import SalesforceSettings
from revrec_pipeline.model import RecordType


def record_types(settings: SourceSettings) -> tuple[RecordType, ...]:
    """Sales, and commissions where the settings ask for them."""
    if _own(settings).commissions:
        return RecordType.SALES, RecordType.COMMISSIONS
    return (RecordType.SALES,)


def needs(settings: SourceSettings) -> Needs:
    """The raw objects of these settings, and which of them are documents."""
    own = _own(settings)
    kinds = {document.header.name: document.record_types for document in documents(own)}
    return tuple(standard_paths(own)), kinds


def rows(
    db: duckdb.DuckDBPyConnection, record_type: RecordType, settings: SourceSettings, site: Site
) -> None:
    """Create the view `rows` of a record type."""
    own = _own(settings)
    match record_type:
        case RecordType.SALES:
            sales_rows(db, own, site)
        case RecordType.COMMISSIONS if own.commissions:
            commission_rows(db, own, site)
        case _:
            raise TypeError(f"salesforce has no {record_type} under these settings")


def _own(settings: SourceSettings) -> SalesforceSettings:
    if not isinstance(settings, SalesforceSettings):
        raise TypeError(f"{type(settings).__name__} are no settings of Salesforce")
    return settings


_objects, _documents = needs(SalesforceSettings())
SOURCE = Source(
    name="salesforce",
    title="Salesforce",
    objects=_objects,
    documents=_documents,
    settings=SalesforceSettings,
    record_types=record_types,
    rows=rows,
    needs=needs,
    apart=(RecordType.SALES,),
)
