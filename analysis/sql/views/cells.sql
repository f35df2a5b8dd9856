-- A row is a config of a cell: n complete trials, and the mean, standard deviation and 95 % t
-- interval of every metric over them. A NaN counts as missing, and so do times of a trial that
-- shared its GPU: they contain its neighbours. Sums are in the order of trial_id, so that every
-- answer is the same to the last bit.
CREATE OR REPLACE VIEW cells AS
WITH timed AS (
    SELECT * REPLACE (
        CASE WHEN whole THEN train_time_s END AS train_time_s,
        CASE WHEN whole THEN epoch_time_s END AS epoch_time_s,
        CASE WHEN whole THEN train_images_per_s END AS train_images_per_s,
        CASE WHEN whole THEN latency_ms_p50 END AS latency_ms_p50,
        CASE WHEN whole THEN latency_ms_p95 END AS latency_ms_p95,
        CASE WHEN whole THEN batch16_latency_ms END AS batch16_latency_ms
    )
    FROM (SELECT *, coalesce(gpu_share, 1) >= 1 AS whole FROM trials WHERE state = 'complete')
),

measured AS (
    SELECT
        results,
        cell_id,
        config_id,
        role,
        trial_id,
        nullif(COLUMNS([
            'train_top1', 'train_loss',
            'val_top1', 'val_top5', 'val_loss', 'objective',
            'test_top1', 'test_top5', 'test_loss',
            'test_macro_precision', 'test_macro_recall', 'test_macro_f1', 'test_macro_auc',
            'test_ece',
            'train_time_s', 'epoch_time_s', 'wall_time_s', 'train_images_per_s',
            'latency_ms_p50', 'latency_ms_p95', 'batch16_latency_ms',
            'peak_memory_mib', 'energy_j'
        ]), 'nan'::DOUBLE)
    FROM timed
),

summary AS (
    SELECT
        results,
        cell_id,
        config_id,
        role,
        avg(
            COLUMNS(* EXCLUDE (results, cell_id, config_id, role, trial_id, quantiles))
            ORDER BY trial_id
        ) AS '\0_mean',
        stddev_samp(
            COLUMNS(* EXCLUDE (results, cell_id, config_id, role, trial_id, quantiles))
            ORDER BY trial_id
        ) AS '\0_sd',
        interval_low(
            COLUMNS(* EXCLUDE (results, cell_id, config_id, role, trial_id, quantiles)),
            quantiles, trial_id
        ) AS '\0_low',
        interval_high(
            COLUMNS(* EXCLUDE (results, cell_id, config_id, role, trial_id, quantiles)),
            quantiles, trial_id
        ) AS '\0_high'
    FROM measured, held.student
    GROUP BY results, cell_id, config_id, role
),

configs AS (
    SELECT
        cell_id,
        config_id,
        role,
        count(*) AS n,
        count(*) FILTER (isnan(objective)) AS objective_missing,
        any_value(cell) AS cell,
        any_value(COLUMNS([
            'arch', 'dataset', 'labels', 'optimizer', 'lr', 'momentum', 'weight_decay',
            'batch_size', 'image_size', 'precision', 'epochs', 'config',
            'trainable_params', 'non_trainable_params', 'macs', 'activations', 'checkpoint_mib'
        ])),
        results
    FROM trials
    WHERE state = 'complete'
    GROUP BY results, cell_id, config_id, role
)

SELECT
    configs.* EXCLUDE (results),
    summary.* EXCLUDE (results, cell_id, config_id, role),
    configs.results
FROM configs
JOIN summary
    ON summary.results = configs.results
    AND summary.cell_id = configs.cell_id
    AND summary.config_id = configs.config_id
    AND summary.role IS NOT DISTINCT FROM configs.role;
