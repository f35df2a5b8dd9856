-- A row is a trial, planned or ended, whose id starts with $start.
SELECT trial_id, cell, seed, state, reason
FROM coverage_trials
WHERE starts_with(trial_id, $start)
UNION
SELECT trial_id, cell, seed, state, reason
FROM trials
WHERE starts_with(trial_id, $start);
