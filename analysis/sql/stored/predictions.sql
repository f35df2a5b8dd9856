-- A row is a test image of a trial, as stored.
-- Stands for a folder without files, and gives old files the columns added since.
CREATE TABLE empty.predictions (
    trial_id VARCHAR,
    split VARCHAR,
    "index" INTEGER,
    label SMALLINT,
    predicted SMALLINT,
    confidence FLOAT,
    file VARCHAR
);
