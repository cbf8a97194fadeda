"""The asset graph: raw, canonical, delivery. Steps are thin; the rules are in `revrec_pipeline`."""
