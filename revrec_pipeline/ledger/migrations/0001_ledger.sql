-- The whole ledger, in the SQL that DuckDB and PostgreSQL share. What each table means is written in
-- the module of its name; the tables of lines follow revrec_pipeline/model.py (a test compares).

CREATE TABLE schema_version (
    version INTEGER PRIMARY KEY,
    applied_at TIMESTAMPTZ NOT NULL
);

CREATE TABLE accounting_period (
    period TEXT PRIMARY KEY,
    set_at TIMESTAMPTZ NOT NULL,
    closed_at TIMESTAMPTZ
);

CREATE TABLE source_cursor (
    source TEXT PRIMARY KEY,
    position TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL
);

CREATE TABLE touched_period (
    source TEXT NOT NULL,
    period TEXT NOT NULL,
    landing TEXT NOT NULL,
    sync_key TEXT,
    touched_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (source, period, landing)
);

CREATE SEQUENCE job_id;

CREATE TABLE job (
    id BIGINT PRIMARY KEY DEFAULT nextval('job_id'),
    sync_key TEXT NOT NULL,
    source TEXT NOT NULL,
    record_type TEXT NOT NULL,
    name TEXT NOT NULL,
    trigger TEXT NOT NULL,
    route TEXT,
    attempt INTEGER NOT NULL,
    started_at TIMESTAMPTZ NOT NULL,
    sealed_at TIMESTAMPTZ,
    lease_until TIMESTAMPTZ,
    UNIQUE (sync_key, source, record_type)
);

CREATE TABLE job_run (
    job_id BIGINT NOT NULL,
    period TEXT NOT NULL, -- '' for a pull that has no month
    run_id TEXT NOT NULL,
    state TEXT NOT NULL, -- running, done, failed
    message TEXT,
    started_at TIMESTAMPTZ NOT NULL,
    ended_at TIMESTAMPTZ,
    PRIMARY KEY (job_id, period)
);

CREATE SEQUENCE batch_sequence;

CREATE TABLE batch (
    id TEXT PRIMARY KEY, -- <job>-<period>
    job_id BIGINT NOT NULL,
    source TEXT NOT NULL,
    record_type TEXT NOT NULL,
    period TEXT NOT NULL,
    state TEXT NOT NULL, -- ready, claimed, delivered, superseded
    route TEXT,
    sequence BIGINT NOT NULL, -- order of building, over all batches
    content_hash TEXT NOT NULL,
    path TEXT NOT NULL,
    claimed_by TEXT,
    lease_until TIMESTAMPTZ,
    built_at TIMESTAMPTZ NOT NULL,
    delivered_at TIMESTAMPTZ
);

CREATE TABLE batch_total (
    batch_id TEXT NOT NULL,
    bucket TEXT NOT NULL, -- source, flagged, excluded, delivered, unchanged, removed
    rule TEXT NOT NULL,
    currency TEXT NOT NULL,
    rows BIGINT NOT NULL,
    amount DECIMAL(18, 4) NOT NULL,
    PRIMARY KEY (batch_id, bucket, rule, currency)
);

CREATE TABLE document (
    source TEXT NOT NULL,
    record_type TEXT NOT NULL,
    document_id TEXT NOT NULL,
    period TEXT NOT NULL,
    hash TEXT NOT NULL,
    line_count INTEGER NOT NULL,
    sequence BIGINT NOT NULL, -- of the newest batch that held it so
    batch_id TEXT NOT NULL, -- that delivered it
    route TEXT NOT NULL,
    delivered_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (source, record_type, document_id)
);

CREATE TABLE removed_document (
    batch_id TEXT NOT NULL,
    document_id TEXT NOT NULL,
    period TEXT NOT NULL,
    PRIMARY KEY (batch_id, document_id)
);

CREATE TABLE job_file (
    job_id BIGINT NOT NULL,
    path TEXT NOT NULL,
    kind TEXT NOT NULL, -- xlsx, zip
    sha256 TEXT NOT NULL,
    bytes BIGINT NOT NULL,
    rows BIGINT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (job_id, path)
);

CREATE SEQUENCE sync_error_id;

CREATE TABLE sync_error (
    id BIGINT PRIMARY KEY DEFAULT nextval('sync_error_id'),
    fingerprint TEXT NOT NULL UNIQUE,
    job_id BIGINT NOT NULL,
    stage TEXT NOT NULL,
    code TEXT NOT NULL,
    severity TEXT NOT NULL,
    owner TEXT NOT NULL,
    source TEXT NOT NULL,
    record_type TEXT NOT NULL,
    period TEXT,
    record_id TEXT,
    line_id TEXT,
    field TEXT,
    message TEXT NOT NULL,
    url TEXT,
    status TEXT NOT NULL, -- open, ignored, resolved
    reason TEXT,
    first_seen TIMESTAMPTZ NOT NULL,
    last_seen TIMESTAMPTZ NOT NULL,
    resolved_at TIMESTAMPTZ
);

CREATE TABLE order_line (
    source TEXT NOT NULL,
    record_type TEXT NOT NULL,
    period TEXT NOT NULL,
    document_type TEXT NOT NULL,
    document_id TEXT NOT NULL,
    line_id TEXT NOT NULL,
    source_version TEXT NOT NULL,
    raw_batch TEXT NOT NULL,
    raw_page INTEGER NOT NULL,
    url TEXT,
    customer_id TEXT,
    customer_name TEXT,
    order_number TEXT,
    order_item_number TEXT,
    order_name TEXT,
    product_id TEXT,
    product_code TEXT,
    product_name TEXT,
    product_family TEXT,
    product_type TEXT,
    order_start_date DATE,
    service_start_date DATE,
    service_end_date DATE,
    quantity DECIMAL(28, 12),
    list_price DECIMAL(28, 12),
    unit_price DECIMAL(28, 12),
    amount DECIMAL(18, 4),
    currency TEXT,
    account_owner TEXT,
    opportunity_id TEXT,
    reference_invoice_number TEXT,
    custom_fields TEXT, -- a JSON object
    job_id BIGINT NOT NULL,
    batch_id TEXT NOT NULL,
    loaded_at TIMESTAMPTZ NOT NULL,
    removed_at TIMESTAMPTZ,
    PRIMARY KEY (source, record_type, document_id, line_id)
);

CREATE TABLE billing_line (
    source TEXT NOT NULL,
    record_type TEXT NOT NULL,
    period TEXT NOT NULL,
    document_type TEXT NOT NULL,
    document_id TEXT NOT NULL,
    line_id TEXT NOT NULL,
    source_version TEXT NOT NULL,
    raw_batch TEXT NOT NULL,
    raw_page INTEGER NOT NULL,
    url TEXT,
    customer_id TEXT,
    customer_name TEXT,
    order_number TEXT,
    order_item_number TEXT,
    contract_date DATE,
    product_id TEXT,
    product_code TEXT,
    product_name TEXT,
    billing_date DATE,
    invoice_number TEXT,
    amount DECIMAL(18, 4),
    currency TEXT,
    service_start_date DATE,
    service_end_date DATE,
    quantity DECIMAL(28, 12),
    reference_invoice_number TEXT,
    reference_line_id TEXT,
    tax_amount DECIMAL(18, 4),
    tax_name TEXT,
    custom_fields TEXT, -- a JSON object
    job_id BIGINT NOT NULL,
    batch_id TEXT NOT NULL,
    loaded_at TIMESTAMPTZ NOT NULL,
    removed_at TIMESTAMPTZ,
    PRIMARY KEY (source, record_type, document_id, line_id)
);

CREATE TABLE expense_line (
    source TEXT NOT NULL,
    record_type TEXT NOT NULL,
    period TEXT NOT NULL,
    document_type TEXT NOT NULL,
    document_id TEXT NOT NULL,
    line_id TEXT NOT NULL,
    source_version TEXT NOT NULL,
    raw_batch TEXT NOT NULL,
    raw_page INTEGER NOT NULL,
    url TEXT,
    order_number TEXT,
    order_item_number TEXT,
    product_code TEXT,
    reference_number TEXT,
    expense_code TEXT,
    expense_date DATE,
    amount DECIMAL(18, 4),
    currency TEXT,
    exchange_rate DECIMAL(28, 12),
    document_amount DECIMAL(18, 4),
    document_currency TEXT,
    payee_id TEXT,
    payee_name TEXT,
    start_date DATE,
    end_date DATE,
    description TEXT,
    custom_fields TEXT, -- a JSON object
    job_id BIGINT NOT NULL,
    batch_id TEXT NOT NULL,
    loaded_at TIMESTAMPTZ NOT NULL,
    removed_at TIMESTAMPTZ,
    PRIMARY KEY (source, record_type, document_id, line_id)
);
