"""Tests of the ledger, each on both back ends. A package, so that test modules may share names."""
