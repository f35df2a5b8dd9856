-- A row is a test image of a trial, as stored.
-- Used for a folder without files, and for columns that older files lack.
CREATE TABLE empty.predictions (
    trial_id VARCHAR,
    split VARCHAR,
    "index" INTEGER,
    label SMALLINT,
    predicted SMALLINT,
    confidence FLOAT,
    file VARCHAR
);
