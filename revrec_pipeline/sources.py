"""The registry of source systems. A new source is one line here, one mapping and one resource.

The resource of a source is found by name: `resources.<name>`.
"""

from revrec_pipeline.mapping import (
    Source,
    chargebee,
    hubspot,
    netsuite,
    quickbooks,
    sage_intacct,
    salesforce,
    stripe,
    xero,
)

SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        salesforce.SOURCE,
        hubspot.SOURCE,
        chargebee.SOURCE,
        xero.SOURCE,
        quickbooks.SOURCE,
        netsuite.SOURCE,
        stripe.SOURCE,
        sage_intacct.SOURCE,
    )
}
