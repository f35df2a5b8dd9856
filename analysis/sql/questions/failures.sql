-- A row is a trial that failed, diverged or was pruned, with its reason.
SELECT results, cell, seed, fold, state, epochs_run, epochs, reason, trial_id
FROM trials
WHERE state <> 'complete'
ORDER BY state, ended_at, trial_id;
