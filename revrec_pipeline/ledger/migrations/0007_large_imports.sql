-- Content that is being imported now: see revrec_pipeline/ledger/imports.py.

CREATE TABLE import_claim (
    source TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    sync_key TEXT NOT NULL, -- whose it is
    who TEXT NOT NULL,
    claimed_until TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (source, sha256)
);

-- only: duckdb
-- DuckDB holds the whole index of a primary key in memory while rows are written (1.5 GB for a
-- million lines, and nothing of it spills). Transactions on its file are serial, and `lines.upsert`
-- deletes before it inserts, so nothing needs the index. PostgreSQL keeps its own.

CREATE TABLE order_line_plain AS FROM order_line;
DROP TABLE order_line;
ALTER TABLE order_line_plain RENAME TO order_line;
CREATE TABLE billing_line_plain AS FROM billing_line;
DROP TABLE billing_line;
ALTER TABLE billing_line_plain RENAME TO billing_line;
CREATE TABLE expense_line_plain AS FROM expense_line;
DROP TABLE expense_line;
ALTER TABLE expense_line_plain RENAME TO expense_line;

ALTER TABLE order_line ALTER source SET NOT NULL;
ALTER TABLE order_line ALTER record_type SET NOT NULL;
ALTER TABLE order_line ALTER period SET NOT NULL;
ALTER TABLE order_line ALTER document_type SET NOT NULL;
ALTER TABLE order_line ALTER document_id SET NOT NULL;
ALTER TABLE order_line ALTER line_id SET NOT NULL;
ALTER TABLE order_line ALTER source_version SET NOT NULL;
ALTER TABLE order_line ALTER raw_batch SET NOT NULL;
ALTER TABLE order_line ALTER raw_page SET NOT NULL;
ALTER TABLE order_line ALTER job_id SET NOT NULL;
ALTER TABLE order_line ALTER batch_id SET NOT NULL;
ALTER TABLE order_line ALTER loaded_at SET NOT NULL;

ALTER TABLE billing_line ALTER source SET NOT NULL;
ALTER TABLE billing_line ALTER record_type SET NOT NULL;
ALTER TABLE billing_line ALTER period SET NOT NULL;
ALTER TABLE billing_line ALTER document_type SET NOT NULL;
ALTER TABLE billing_line ALTER document_id SET NOT NULL;
ALTER TABLE billing_line ALTER line_id SET NOT NULL;
ALTER TABLE billing_line ALTER source_version SET NOT NULL;
ALTER TABLE billing_line ALTER raw_batch SET NOT NULL;
ALTER TABLE billing_line ALTER raw_page SET NOT NULL;
ALTER TABLE billing_line ALTER job_id SET NOT NULL;
ALTER TABLE billing_line ALTER batch_id SET NOT NULL;
ALTER TABLE billing_line ALTER loaded_at SET NOT NULL;

ALTER TABLE expense_line ALTER source SET NOT NULL;
ALTER TABLE expense_line ALTER record_type SET NOT NULL;
ALTER TABLE expense_line ALTER period SET NOT NULL;
ALTER TABLE expense_line ALTER document_type SET NOT NULL;
ALTER TABLE expense_line ALTER document_id SET NOT NULL;
ALTER TABLE expense_line ALTER line_id SET NOT NULL;
ALTER TABLE expense_line ALTER source_version SET NOT NULL;
ALTER TABLE expense_line ALTER raw_batch SET NOT NULL;
ALTER TABLE expense_line ALTER raw_page SET NOT NULL;
ALTER TABLE expense_line ALTER job_id SET NOT NULL;
ALTER TABLE expense_line ALTER batch_id SET NOT NULL;
ALTER TABLE expense_line ALTER loaded_at SET NOT NULL;
