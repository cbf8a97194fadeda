"""`make bench`: this pipeline beside others, on one synthetic Stripe data set served from loopback.

Nothing here is part of the product. `data` makes the records, `server` serves them, each contestant
is a module that runs in a process of its own, `__main__` compares. docs/benchmark.md has results.
"""
