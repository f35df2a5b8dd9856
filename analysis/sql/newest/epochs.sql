-- A row is an epoch of a trial: of several rows the one that ended last. Times are UTC.
CREATE OR REPLACE VIEW newest.epochs AS
SELECT
    stored.* EXCLUDE (file) REPLACE (ended_at AT TIME ZONE 'UTC' AS ended_at),
    folders.results
FROM held.epochs AS stored
JOIN held.folders AS folders ON folders.path = folder_of(file)
QUALIFY row_number() OVER (
    PARTITION BY folders.results, trial_id, epoch
    ORDER BY ended_at DESC NULLS LAST, attempt DESC NULLS LAST, file_rank(file) DESC
) = 1;
