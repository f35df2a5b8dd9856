-- A row is a trial that ended whose id starts so.
SELECT trial_id, state, seed, config, data_fingerprint
FROM trials
WHERE starts_with(trial_id, $start)
ORDER BY trial_id;
