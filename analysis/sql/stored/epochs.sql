-- A row is an epoch of a trial, as stored.
-- Used for a folder without files, and for columns that older files lack.
CREATE TABLE empty.epochs (
    trial_id VARCHAR,
    epoch BIGINT,
    attempt BIGINT,
    lr DOUBLE,
    train_loss DOUBLE,
    val_loss DOUBLE,
    train_top1 DOUBLE,
    val_top1 DOUBLE,
    val_top5 DOUBLE,
    objective DOUBLE,
    train_time_s DOUBLE,
    eval_time_s DOUBLE,
    train_images_per_s DOUBLE,
    ended_at TIMESTAMPTZ,
    file VARCHAR
);
