-- A row is an enhancement of a split by a trial, as stored.
-- Used for a folder without files, and for columns that older files lack.
CREATE TABLE empty.enhancement (
    trial_id VARCHAR,
    split VARCHAR,
    transform VARCHAR,
    brightness DOUBLE,
    contrast DOUBLE,
    sharpness DOUBLE,
    chosen BOOLEAN,
    images BIGINT,
    wrong_before BIGINT,
    repaired BIGINT,
    broken BIGINT,
    net_change BIGINT,
    top1_before DOUBLE,
    top1_after DOUBLE,
    repaired_share DOUBLE,
    l2_norm DOUBLE,
    random_repaired BIGINT,
    random_broken BIGINT,
    random_net_change BIGINT,
    random_top1_after DOUBLE,
    random_l2_norm DOUBLE,
    made_at TIMESTAMPTZ,
    file VARCHAR
);
