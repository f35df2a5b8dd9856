-- A row is a suggestion of a tuned cell, as stored.
-- Used for a folder without files, and for columns that older files lack.
CREATE TABLE empty.asked (
    cell_id VARCHAR,
    suggestion BIGINT,
    config_id VARCHAR,
    config VARCHAR,
    params VARCHAR,
    role VARCHAR,
    sampled_by VARCHAR,
    told VARCHAR,
    draw BIGINT,
    trial_ids VARCHAR[],
    told_order BIGINT[],
    asked_at TIMESTAMPTZ,
    search_id VARCHAR,
    file VARCHAR
);
