-- OAuth tokens that rotate, sealed; see revrec_pipeline/ledger/source_tokens.py.
CREATE TABLE source_token (
    source TEXT NOT NULL,
    account TEXT NOT NULL,
    sealed TEXT, -- null until the first tokens are saved
    saved_at TIMESTAMPTZ,
    leased_by TEXT,
    leased_until TIMESTAMPTZ,
    PRIMARY KEY (source, account)
);
