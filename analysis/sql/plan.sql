-- A row is a planned trial of the newest plan. A trial of a tuned cell has its id and config
-- once its suggestion was asked.
CREATE OR REPLACE VIEW plan AS
WITH placed AS (
    SELECT
        *,
        row_number() OVER (
            PARTITION BY results, cell_id, role, suggestion ORDER BY position
        ) AS place
    FROM newest.plan
)

SELECT
    placed.* EXCLUDE (place) REPLACE (
        coalesce(placed.trial_id, asked.trial_ids[place]) AS trial_id,
        coalesce(placed.config_id, asked.config_id) AS config_id,
        coalesce(placed.config, asked.config) AS config
    )
FROM placed
LEFT JOIN newest.asked AS asked
    ON asked.results = placed.results
    AND asked.cell_id = placed.cell_id
    AND asked.suggestion = placed.suggestion
    AND asked.role = placed.role
-- A confirmed rank without trials: the cell has no such config.
WHERE asked.cell_id IS NULL OR len(asked.trial_ids) > 0;
