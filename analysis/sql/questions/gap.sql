-- A row is a cell's winner: how far its training accuracy lies above val and test, trial by trial.
WITH gaps AS (
    SELECT
        best.results,
        best.cell_id,
        best.cell,
        best.config_id,
        trials.trial_id,
        nullif(trials.train_top1, 'nan'::DOUBLE) AS train_top1,
        nullif(trials.val_top1, 'nan'::DOUBLE) AS val_top1,
        nullif(trials.test_top1, 'nan'::DOUBLE) AS test_top1
    FROM best
    JOIN trials
        ON trials.results = best.results
        AND trials.cell_id = best.cell_id
        AND trials.config_id = best.config_id
        AND trials.role IS NOT DISTINCT FROM best.role
        AND trials.state = 'complete'
),

metrics AS (
    SELECT *, train_top1 - val_top1 AS train_val, train_top1 - test_top1 AS train_test
    FROM gaps
)

SELECT
    results,
    cell_id,
    cell,
    config_id,
    count(*) AS n,
    avg(
        COLUMNS(['train_top1', 'val_top1', 'test_top1', 'train_val', 'train_test'])
        ORDER BY trial_id
    ) AS '\0_mean',
    stddev_samp(
        COLUMNS(['train_top1', 'val_top1', 'test_top1', 'train_val', 'train_test'])
        ORDER BY trial_id
    ) AS '\0_sd'
FROM metrics
GROUP BY results, cell_id, cell, config_id
ORDER BY train_val_mean DESC NULLS LAST, results, config_id;
