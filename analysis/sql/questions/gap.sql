-- A row is a cell's winner: its training accuracy less val and test accuracy, trial by trial.
WITH measured AS (
    SELECT
        results,
        cell_id,
        cell,
        config_id,
        trial_id,
        nullif(train_top1, 'nan'::DOUBLE) AS train_top1,
        nullif(val_top1, 'nan'::DOUBLE) AS val_top1,
        nullif(test_top1, 'nan'::DOUBLE) AS test_top1
    FROM winner_trials
),

gaps AS (
    SELECT *, train_top1 - val_top1 AS train_val, train_top1 - test_top1 AS train_test
    FROM measured
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
FROM gaps
GROUP BY results, cell_id, cell, config_id
ORDER BY train_val_mean DESC NULLS LAST, results, config_id;
