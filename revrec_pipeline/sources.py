"""The registry of source systems. A new source is one line here, one mapping and one resource.

The resource of a source is found by name: `resources.<name>`.
"""

from revrec_pipeline.mapping import Source, salesforce, stripe, xero
from revrec_pipeline.mapping import Source, hubspot, salesforce, stripe
from revrec_pipeline.mapping import Source, chargebee, salesforce, stripe
from revrec_pipeline.mapping import Source, netsuite, salesforce, stripe
from revrec_pipeline.mapping import Source, sage_intacct, salesforce, stripe
from revrec_pipeline.mapping import Source, quickbooks, salesforce, stripe

SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        salesforce.SOURCE,
        hubspot.SOURCE,
        chargebee.SOURCE,
        xero.SOURCE,
        netsuite.SOURCE,
        quickbooks.SOURCE,
        stripe.SOURCE,
        sage_intacct.SOURCE,
    )
}
