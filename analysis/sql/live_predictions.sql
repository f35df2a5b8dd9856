-- A row is a row of the prediction files, read anew by every question: too many to hold.
CREATE OR REPLACE VIEW held.predictions AS
FROM empty.predictions
UNION ALL BY NAME
FROM read_parquet(getvariable('prediction_files'), union_by_name = true, filename = 'file');
