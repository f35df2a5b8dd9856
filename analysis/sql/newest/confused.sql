-- A row is a pair of true and predicted class of a split of a trial, from the trial's newest file.
CREATE OR REPLACE VIEW newest.confused AS
WITH newest_file AS (
    SELECT folder_of(file) AS path, trial_id, max(file_rank(file)) AS file_rank
    FROM held.confused
    GROUP BY ALL
)

SELECT stored.* EXCLUDE (file), folders.results
FROM held.confused AS stored
JOIN newest_file
    ON newest_file.path = folder_of(file)
    AND newest_file.trial_id = stored.trial_id
    AND newest_file.file_rank = file_rank(file)
JOIN held.folders AS folders ON folders.path = newest_file.path;
