-- A row is a metric of a split after an epoch, from the trial's newest file.
CREATE OR REPLACE VIEW newest.metrics AS
WITH newest_file AS (
    SELECT folder_of(file) AS path, trial_id, max(file_rank(file)) AS file_rank
    FROM held.metrics
    GROUP BY ALL
)

SELECT stored.* EXCLUDE (file), folders.results
FROM held.metrics AS stored
JOIN newest_file
    ON newest_file.path = folder_of(file)
    AND newest_file.trial_id = stored.trial_id
    AND newest_file.file_rank = file_rank(file)
JOIN held.folders AS folders ON folders.path = newest_file.path;
