-- Files that people brought, and what they typed: see revrec_pipeline/ledger/imports.py.

CREATE TABLE imported_file (
    sha256 TEXT NOT NULL,
    source TEXT NOT NULL,
    sync_key TEXT NOT NULL,
    name TEXT NOT NULL,
    path TEXT NOT NULL,
    bytes BIGINT NOT NULL,
    who TEXT NOT NULL,
    imported_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (sync_key)
);
