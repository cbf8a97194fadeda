-- Delivered units, and customers and products that somebody recorded; their columns follow
-- revrec_pipeline/model.py (a test compares).

CREATE TABLE delivery_line (
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
    order_number TEXT,
    order_item_number TEXT,
    product_code TEXT,
    delivery_date DATE,
    units_delivered DECIMAL(28, 12),
    reference_number TEXT,
    custom_fields TEXT, -- a JSON object
    job_id BIGINT NOT NULL,
    batch_id TEXT NOT NULL,
    loaded_at TIMESTAMPTZ NOT NULL,
    removed_at TIMESTAMPTZ,
    PRIMARY KEY (source, record_type, document_id, line_id)
);

CREATE TABLE customer (
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
    customer_address TEXT,
    customer_phone TEXT,
    state TEXT,
    customer_type TEXT,
    tier TEXT,
    custom_fields TEXT, -- a JSON object
    job_id BIGINT NOT NULL,
    batch_id TEXT NOT NULL,
    loaded_at TIMESTAMPTZ NOT NULL,
    removed_at TIMESTAMPTZ,
    PRIMARY KEY (source, record_type, document_id, line_id)
);

CREATE TABLE product (
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
    product_id TEXT,
    product_code TEXT,
    product_name TEXT,
    product_family TEXT,
    product_type TEXT,
    description TEXT,
    list_price DECIMAL(28, 12),
    pricebook_id TEXT,
    term DECIMAL(28, 12),
    is_recurring TEXT,
    price DECIMAL(28, 12),
    price_period TEXT,
    units TEXT,
    currency TEXT,
    delivery_start TEXT,
    delivery_end TEXT,
    custom_fields TEXT, -- a JSON object
    job_id BIGINT NOT NULL,
    batch_id TEXT NOT NULL,
    loaded_at TIMESTAMPTZ NOT NULL,
    removed_at TIMESTAMPTZ,
    PRIMARY KEY (source, record_type, document_id, line_id)
);

-- Which order lines delivered units count against: see revrec_pipeline/ledger/assignments.py.

CREATE SEQUENCE delivery_assignment_id;

CREATE TABLE delivery_assignment (
    id BIGINT PRIMARY KEY DEFAULT nextval('delivery_assignment_id'),
    source TEXT NOT NULL, -- of the delivery
    document_id TEXT NOT NULL,
    line_id TEXT NOT NULL,
    order_source TEXT NOT NULL,
    order_id TEXT NOT NULL,
    order_line_id TEXT NOT NULL,
    units DECIMAL(28, 12) NOT NULL,
    job_id BIGINT NOT NULL,
    assigned_at TIMESTAMPTZ NOT NULL,
    removed_at TIMESTAMPTZ
);
