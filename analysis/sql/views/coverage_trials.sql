-- A row is a planned trial and its state: planned (not started), running, paused (it waits with a
-- checkpoint), or the state in which it ended.
CREATE OR REPLACE VIEW coverage_trials AS
SELECT
    plan.cell_id,
    plan.cell,
    plan.role,
    plan.position,
    plan.suggestion,
    plan.trial_id,
    plan.config_id,
    plan.seed,
    plan.fold,
    CASE
        WHEN running.trial_id IS NOT NULL THEN 'running'
        WHEN trials.state IS NULL AND paused.trial_id IS NOT NULL THEN 'paused'
        ELSE coalesce(trials.state, 'planned')
    END AS state,
    coalesce(trials.reason, paused.reason) AS reason,
    coalesce(trials.epochs_run, paused.epochs_run) AS epochs_run,
    plan.epochs,
    plan.results
FROM plan
LEFT JOIN newest.trials AS trials
    ON trials.results = plan.results AND trials.trial_id = plan.trial_id
LEFT JOIN newest.paused AS paused
    ON paused.results = plan.results AND paused.trial_id = plan.trial_id
LEFT JOIN running
    ON running.results = plan.results
    AND running.trial_id = plan.trial_id
ORDER BY plan.results, plan.position;
