-- Which company a source is connected to: see revrec_pipeline/ledger/source_accounts.py.

CREATE TABLE source_account (
    source TEXT PRIMARY KEY,
    account_id TEXT NOT NULL,
    account_name TEXT NOT NULL,
    verified_at TIMESTAMPTZ NOT NULL
);

-- Months that a sync set out to list and has not landed yet: see revrec_pipeline/ledger/cursors.py.

CREATE TABLE wanted_listing (
    source TEXT NOT NULL,
    period TEXT NOT NULL,
    PRIMARY KEY (source, period)
);
