-- A row is a planned trial and its state: planned (not started), running, or how it ended.
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
        ELSE coalesce(trials.state, 'planned')
    END AS state,
    trials.reason,
    trials.epochs_run,
    plan.epochs,
    plan.results
FROM plan
LEFT JOIN newest.trials AS trials
    ON trials.results = plan.results AND trials.trial_id = plan.trial_id
LEFT JOIN running
    ON running.results = plan.results
    AND running.trial_id = plan.trial_id
ORDER BY plan.results, plan.position;
