"""One module per source system and one per store: connection, log-in, paging and limits.

No business rules: what a vendor's fields mean is in `revrec_pipeline.mapping`.
"""
