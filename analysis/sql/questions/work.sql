-- A row is a planned trial: its state, its epochs so far and their seconds.
SELECT
    coverage.cell_id,
    coverage.role,
    coverage.suggestion,
    coverage.trial_id,
    coverage.state,
    greatest(coverage.epochs_run, running.epoch, 0) AS epochs_run,
    coalesce(coverage.epochs, (plan.config->>'$.epochs')::BIGINT) AS epochs,
    coalesce(trials.wall_time_s, running.wall_time_s, paused.wall_time_s, 0) AS seconds,
    trials.ended_at
FROM coverage_trials AS coverage
JOIN plan
    ON plan.results = coverage.results AND plan.position = coverage.position
LEFT JOIN newest.trials AS trials
    ON trials.results = coverage.results AND trials.trial_id = coverage.trial_id
LEFT JOIN newest.paused AS paused
    ON paused.results = coverage.results AND paused.trial_id = coverage.trial_id
LEFT JOIN running
    ON running.results = coverage.results AND running.trial_id = coverage.trial_id
ORDER BY coverage.position;
