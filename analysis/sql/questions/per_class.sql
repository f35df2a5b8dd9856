-- A row is a class of the test split and a cell's winner: means over its complete trials in which
-- the class has an image or a prediction.
WITH measured AS (
    SELECT
        trials.results,
        trials.cell_id,
        trials.cell,
        trials.config_id,
        trials.place,
        trials.trial_id,
        classes.class_index,
        classes.class_name,
        classes.support,
        nullif(classes.precision, 'nan'::DOUBLE) AS precision,
        nullif(classes.recall, 'nan'::DOUBLE) AS recall,
        nullif(classes.f1, 'nan'::DOUBLE) AS f1,
        nullif(classes.auc, 'nan'::DOUBLE) AS auc
    FROM winner_trials AS trials
    JOIN classes
        ON classes.results = trials.results
        AND classes.trial_id = trials.trial_id
        AND classes.split = 'test'
)

SELECT
    results,
    cell_id,
    cell,
    class_index,
    any_value(class_name) AS class_name,
    any_value(support) AS support,
    count(f1) AS n,
    avg(COLUMNS(['precision', 'recall', 'f1', 'auc']) ORDER BY trial_id) AS '\0_mean',
    stddev_samp(COLUMNS(['precision', 'recall', 'f1', 'auc']) ORDER BY trial_id) AS '\0_sd'
FROM measured
GROUP BY results, cell_id, cell, config_id, place, class_index
ORDER BY place, class_index;
