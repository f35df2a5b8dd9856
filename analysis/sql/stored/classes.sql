-- A row is a class of a split of a trial, as stored.
-- Stands for a folder without files, and gives old files the columns added since.
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
