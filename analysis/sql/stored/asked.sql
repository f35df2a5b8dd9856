-- A row is a suggestion of a tuned cell, as stored.
-- Stands for a folder without files, and gives old files the columns added since.
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
    file VARCHAR
);
