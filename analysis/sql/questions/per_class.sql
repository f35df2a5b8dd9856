-- A row is a class of the test split under a cell's winner: means over its complete trials.
WITH metrics AS (
    SELECT
        best.results,
        best.cell_id,
        best.cell,
        best.config_id,
        best.test_top1_mean AS rank,
        trials.trial_id,
        classes.class_index,
        classes.class_name,
        classes.support,
        nullif(classes.precision, 'nan'::DOUBLE) AS precision,
        nullif(classes.recall, 'nan'::DOUBLE) AS recall,
        nullif(classes.f1, 'nan'::DOUBLE) AS f1,
        nullif(classes.auc, 'nan'::DOUBLE) AS auc
    FROM best
    JOIN trials
        ON trials.results = best.results
        AND trials.cell_id = best.cell_id
        AND trials.config_id = best.config_id
        AND trials.role IS NOT DISTINCT FROM best.role
        AND trials.state = 'complete'
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
    count(*) AS n,
    avg(COLUMNS(['precision', 'recall', 'f1', 'auc']) ORDER BY trial_id) AS '\0_mean',
    stddev_samp(COLUMNS(['precision', 'recall', 'f1', 'auc']) ORDER BY trial_id) AS '\0_sd'
FROM metrics
GROUP BY results, cell_id, cell, config_id, rank, class_index
ORDER BY rank DESC NULLS LAST, results, config_id, class_index;
