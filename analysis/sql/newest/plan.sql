-- A row is a row of each results folder's newest plan. Times are UTC.
CREATE OR REPLACE VIEW newest.plan AS
WITH last_written AS (
    SELECT folder_of(file) AS path, arg_max(plan_id, written_at) AS plan_id
    FROM held.plan
    GROUP BY ALL
)

SELECT
    stored.* EXCLUDE (file) REPLACE (written_at AT TIME ZONE 'UTC' AS written_at),
    folders.results
FROM held.plan AS stored
JOIN last_written
    ON last_written.path = folder_of(file) AND last_written.plan_id = stored.plan_id
JOIN held.folders AS folders ON folders.path = last_written.path
QUALIFY row_number() OVER (
    PARTITION BY folders.results, position ORDER BY stored.written_at DESC
) = 1;
