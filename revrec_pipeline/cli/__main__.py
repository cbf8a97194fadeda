"""`python -m revrec_pipeline.cli`, for the demo's own sandbox."""

from revrec_pipeline.cli import main

main()
