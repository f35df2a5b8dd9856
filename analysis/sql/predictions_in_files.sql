-- A row is a row of the prediction files; every question reads them again, as they are too many to
-- hold in memory.
CREATE OR REPLACE VIEW held.predictions AS
FROM empty.predictions
UNION ALL BY NAME
FROM read_parquet(getvariable('prediction_files'), union_by_name = true, filename = 'file');
