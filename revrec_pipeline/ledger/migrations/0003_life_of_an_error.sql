-- What became of each error, who did it and when; see sync_errors.py.

ALTER TABLE sync_error ADD COLUMN ignored_until DATE; -- the last day on which it stays ignored

ALTER TABLE sync_error ADD COLUMN resolved_job_id BIGINT; -- whose rows proved that it is gone

CREATE SEQUENCE sync_error_event_id;

CREATE TABLE sync_error_event (
    id BIGINT PRIMARY KEY DEFAULT nextval('sync_error_event_id'),
    error_id BIGINT NOT NULL,
    happened_at TIMESTAMPTZ NOT NULL,
    action TEXT NOT NULL, -- found, recurred, resolved, ignored, expired
    who TEXT, -- null: the job found it out by itself
    job_id BIGINT,
    reason TEXT,
    ignored_until DATE
);
