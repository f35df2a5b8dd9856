-- A row is a complete trial of a cell's winner: its test top-1, and the columns that pair it with
-- trials of other cells.
WITH tuned AS (
    SELECT DISTINCT results, cell_id
    FROM newest.asked
)

SELECT
    trials.results,
    trials.cell_id,
    trials.cell,
    trials.dataset,
    trials.labels,
    trials.seed,
    trials.fold,
    CASE WHEN tuned.cell_id IS NOT NULL THEN trials.role END AS role,
    nullif(trials.test_top1, 'nan'::DOUBLE) AS test_top1
FROM winner_trials AS trials
LEFT JOIN tuned ON tuned.results = trials.results AND tuned.cell_id = trials.cell_id
ORDER BY trials.place, trials.seed, trials.fold, trials.trial_id;
