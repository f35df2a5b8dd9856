-- A row is a metric that the sweep asked for, of a split after an epoch, as stored.
-- Used for a folder without files, and for columns that older files lack.
CREATE TABLE empty.metrics (
    trial_id VARCHAR,
    split VARCHAR,
    epoch BIGINT,
    name VARCHAR,
    value DOUBLE,
    reason VARCHAR,
    file VARCHAR
);
