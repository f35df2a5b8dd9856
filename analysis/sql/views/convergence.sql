-- A row is a complete trial of a cell's winner: how soon and how smoothly its objective on validation
-- came up. Trials of one data set are compared over the epochs that all of them reached
-- (`epochs_compared`), because longer curves are flatter; first epochs count over the whole curve.
-- A value that is missing or NaN counts as no value, and so does a trial without any.
CREATE OR REPLACE VIEW convergence AS
WITH curves AS MATERIALIZED (
    SELECT
        trials.results,
        trials.dataset,
        trials.labels,
        trials.cell_id,
        trials.cell,
        trials.config_id,
        trials.role,
        trials.trial_id,
        trials.seed,
        trials.fold,
        trials.config,
        trials.epochs_run,
        trials.place,
        epochs.epoch,
        nullif(
            if(objective_name(trials.config) = 'val_top1', epochs.val_top1, epochs.objective),
            'nan'::DOUBLE
        ) AS value,
        score(trials.config, epochs.val_top1, epochs.objective) AS score
    FROM winner_trials AS trials
    LEFT JOIN epochs ON epochs.results = trials.results AND epochs.trial_id = trials.trial_id
),

compared AS (
    SELECT
        *,
        min(epochs_run) FILTER (WHERE value IS NOT NULL) OVER data_set AS epochs_compared,
        max(score) OVER data_set AS best_here,
        max(score) OVER (PARTITION BY results, trial_id) AS best_of_trial,
        CASE WHEN lag(epoch) OVER trial = epoch - 1 THEN value - lag(value) OVER trial END AS change,
        CASE WHEN lag(epoch) OVER trial = epoch - 1 THEN lag(score) OVER trial - score END AS fall
    FROM curves
    WINDOW
        data_set AS (PARTITION BY results, dataset, labels, objective_name(config)),
        trial AS (PARTITION BY results, cell_id, trial_id ORDER BY epoch)
)

SELECT
    results,
    dataset,
    labels,
    cell_id,
    any_value(cell) AS cell,
    config_id,
    role,
    trial_id,
    any_value(seed) AS seed,
    any_value(fold) AS fold,
    any_value(objective_name(config)) AS objective,
    any_value(epochs_run) AS epochs_run,
    any_value(epochs_compared) AS epochs_compared,
    any_value(place) AS place,
    if(lower_is_better(any_value(objective_name(config))), -1, 1)
        * tenth_below(any_value(best_here)) AS threshold,
    min(epoch) FILTER (WHERE score >= tenth_below(best_here)) AS epoch_at_threshold,
    min(epoch) FILTER (WHERE score >= tenth_below(best_of_trial)) AS epoch_at_own_best,
    avg(abs(change) ORDER BY epoch) FILTER (WHERE epoch <= epochs_compared) AS swing,
    if(
        count(fall) FILTER (WHERE epoch <= epochs_compared) = 0,
        NULL,
        greatest(max(fall) FILTER (WHERE epoch <= epochs_compared), 0)
    ) AS largest_fall,
    avg(value ORDER BY epoch) FILTER (WHERE epoch <= epochs_compared) AS area,
    list(value ORDER BY epoch) FILTER (WHERE epoch IS NOT NULL) AS curve
FROM compared
GROUP BY results, dataset, labels, cell_id, config_id, role, trial_id;
