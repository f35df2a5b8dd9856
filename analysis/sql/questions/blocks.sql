-- A row is a complete trial of a cell's winner: its value of a measure, and the columns that pair it
-- with trials of other cells.
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
    measures.value
FROM winner_trials AS trials
JOIN winner_measures AS measures
    ON measures.results = trials.results
    AND measures.trial_id = trials.trial_id
    AND measures.place = trials.place
LEFT JOIN tuned ON tuned.results = trials.results AND tuned.cell_id = trials.cell_id
WHERE measures.measure = $measure AND measures.value IS NOT NULL
ORDER BY trials.place, trials.seed, trials.fold, trials.trial_id;
