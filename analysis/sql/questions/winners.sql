-- A row is a cell's winner: accuracy, loss and time over its complete trials.
WITH ran AS (
    SELECT
        results,
        cell_id,
        avg(epochs_run) AS epochs_run_mean,
        stddev_samp(epochs_run) AS epochs_run_sd
    FROM winner_trials
    GROUP BY ALL
)

SELECT best.*, ran.epochs_run_mean, ran.epochs_run_sd
FROM best
JOIN ran ON ran.results = best.results AND ran.cell_id = best.cell_id
ORDER BY best.test_top1_mean DESC NULLS LAST, best.results, best.config_id;
