-- A row is a trial that ended and whose id starts with $start.
SELECT trial_id, state, seed, fold, config, data_fingerprint, skipped_images, code_folder
FROM trials
WHERE starts_with(trial_id, $start)
ORDER BY trial_id;
