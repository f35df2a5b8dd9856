-- A row is an enhancement of a split by a trial, from the trial's newest file. Times are UTC.
CREATE OR REPLACE VIEW newest.enhancement AS
WITH newest_file AS (
    SELECT folder_of(file) AS path, trial_id, max(file_rank(file)) AS file_rank
    FROM held.enhancement
    GROUP BY ALL
)

SELECT
    stored.* EXCLUDE (file) REPLACE (made_at AT TIME ZONE 'UTC' AS made_at),
    folders.results
FROM held.enhancement AS stored
JOIN newest_file
    ON newest_file.path = folder_of(file)
    AND newest_file.trial_id = stored.trial_id
    AND newest_file.file_rank = file_rank(file)
JOIN held.folders AS folders ON folders.path = newest_file.path;
