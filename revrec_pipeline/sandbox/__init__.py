"""A local server that speaks the vendors' protocols with made-up data of one small company.

`server` puts the sources on one origin, `company` holds what they share, `clock` is the time that
all of them see, `faults` makes requests fail on demand, `control` takes commands. What a vendor's
bodies look like and how its API behaves is in one module per source. No real sync uses this.
"""
