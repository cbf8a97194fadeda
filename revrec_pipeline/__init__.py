"""The code location and the domain: what a sale, an invoice and a delivery are.

The domain (model, mapping, settings, ledger, lake, conversion) imports no Dagster, so each rule can
be read, run and tested without an orchestrator. Only `definitions` and `cli` look outward.
"""
