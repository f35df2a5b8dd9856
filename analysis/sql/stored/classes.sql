-- A row is a class of a split of a trial, as stored.
-- Used for a folder without files, and for columns that older files lack.
CREATE TABLE empty.classes (
    trial_id VARCHAR,
    split VARCHAR,
    class_index BIGINT,
    class_name VARCHAR,
    support BIGINT,
    precision DOUBLE,
    recall DOUBLE,
    f1 DOUBLE,
    auc DOUBLE,
    file VARCHAR
);
