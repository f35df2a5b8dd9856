-- A row is a number of a complete trial of a cell's winner by which cells can be compared: a column
-- of `trials`, or a metric that the sweep asked for, with the weights that `select` chose. NaN is null.
CREATE OR REPLACE VIEW winner_measures AS
WITH columns AS (
    UNPIVOT (
        SELECT
            results,
            trial_id,
            place,
            train_top1, train_loss,
            val_top1, val_top5, val_loss,
            test_top1, test_top5, test_loss,
            test_macro_precision, test_macro_recall, test_macro_f1, test_macro_auc, test_ece
        FROM winner_trials
    )
    ON COLUMNS(* EXCLUDE (results, trial_id, place))
    INTO NAME measure VALUE value
),

asked_for AS (
    SELECT
        trials.results,
        trials.trial_id,
        trials.place,
        concat(metrics.split, '_', metrics.name) AS measure,
        metrics.value
    FROM metrics
    JOIN winner_trials AS trials
        ON trials.results = metrics.results
        AND trials.trial_id = metrics.trial_id
        AND trials.best_epoch = metrics.epoch
)

SELECT
    trial_id,
    place,
    measure,
    nullif(value, 'nan'::DOUBLE) AS value,
    results
FROM columns
UNION ALL
SELECT
    trial_id,
    place,
    measure,
    nullif(value, 'nan'::DOUBLE) AS value,
    results
FROM asked_for
-- What trials compute anyway is a column already.
ANTI JOIN columns USING (results, trial_id, measure);
