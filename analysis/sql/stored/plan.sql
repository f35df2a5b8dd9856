-- A row is a planned trial of one version of the plan, as stored.
-- Used for a folder without files, and for columns that older files lack.
CREATE TABLE empty.plan (
    plan_id VARCHAR,
    sweep VARCHAR,
    cell_id VARCHAR,
    cell VARCHAR,
    trial_id VARCHAR,
    config_id VARCHAR,
    lineage_id VARCHAR,
    role VARCHAR,
    position BIGINT,
    suggestion BIGINT,
    seed BIGINT,
    fold BIGINT,
    epochs BIGINT,
    config VARCHAR,
    written_at TIMESTAMPTZ,
    file VARCHAR
);
