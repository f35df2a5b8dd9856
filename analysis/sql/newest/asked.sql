-- A row is a suggestion of a tuned cell: of several rows the one asked last. Times are UTC.
-- Without values and `trial_ids` it says that the suggestion no longer counts.
CREATE OR REPLACE VIEW newest.asked AS
WITH last_asked AS (
    SELECT
        stored.* EXCLUDE (file) REPLACE (asked_at AT TIME ZONE 'UTC' AS asked_at),
        folders.results
    FROM held.asked AS stored
    JOIN held.folders AS folders ON folders.path = folder_of(file)
    QUALIFY row_number() OVER (
        PARTITION BY folders.results, cell_id, suggestion, role
        ORDER BY asked_at DESC NULLS LAST
    ) = 1
)

FROM last_asked
WHERE trial_ids IS NOT NULL OR params IS NOT NULL;
