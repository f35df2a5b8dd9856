-- A row is a planned trial of the newest plan. A trial of a tuned cell has its id and config
-- once its suggestion was asked.
CREATE OR REPLACE VIEW plan AS
WITH numbered AS (
    SELECT
        *,
        row_number() OVER (
            PARTITION BY results, cell_id, role, suggestion ORDER BY position
        ) AS number
    FROM newest.plan
)

SELECT
    numbered.* EXCLUDE (number) REPLACE (
        coalesce(numbered.trial_id, asked.trial_ids[number]) AS trial_id,
        coalesce(numbered.config_id, asked.config_id) AS config_id,
        coalesce(numbered.config, asked.config) AS config
    )
FROM numbered
LEFT JOIN newest.asked AS asked
    ON asked.results = numbered.results
    AND asked.cell_id = numbered.cell_id
    AND asked.suggestion = numbered.suggestion
    AND asked.role = numbered.role
-- A confirmed rank without trials: the cell has no such config.
WHERE asked.cell_id IS NULL OR len(asked.trial_ids) > 0;
