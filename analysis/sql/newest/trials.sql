-- A row is a trial that ended: of several rows the one that ended last. Times are UTC.
CREATE OR REPLACE VIEW newest.trials AS
SELECT
    stored.* EXCLUDE (file) REPLACE (
        started_at AT TIME ZONE 'UTC' AS started_at,
        ended_at AT TIME ZONE 'UTC' AS ended_at
    ),
    folders.results
FROM held.trials AS stored
JOIN held.folders AS folders ON folders.path = folder_of(file)
QUALIFY row_number() OVER (
    PARTITION BY folders.results, trial_id
    ORDER BY ended_at DESC NULLS LAST, file_rank(file) DESC
) = 1;
