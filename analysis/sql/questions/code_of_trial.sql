-- A row is a trial that ended and whose id starts with $start, with the code that it ran.
SELECT trial_id, code_folder, code
FROM trials
WHERE starts_with(trial_id, $start)
ORDER BY trial_id;
