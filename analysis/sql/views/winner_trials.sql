-- A row is a complete trial of a cell's winner.
CREATE OR REPLACE VIEW winner_trials AS
WITH winners AS (
    SELECT
        results,
        cell_id,
        config_id,
        role,
        row_number() OVER (
            ORDER BY test_top1_mean DESC NULLS LAST, results, config_id, cell_id
        ) AS place
    FROM best
)

SELECT trials.* EXCLUDE (results), winners.place, trials.results
FROM winners
JOIN trials
    ON trials.results = winners.results
    AND trials.cell_id = winners.cell_id
    AND trials.config_id = winners.config_id
    AND trials.role IS NOT DISTINCT FROM winners.role
    AND trials.state = 'complete';
