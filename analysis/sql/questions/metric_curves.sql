-- A row is a metric of a cell's winner after an epoch, on validation, over the complete trials that
-- have it. Of the `cells` there are, the $most with the best test top-1.
WITH cells AS (
    SELECT count(*) AS cells
    FROM best
)

SELECT
    any_value(cells.cells) AS cells,
    trials.results,
    trials.cell_id,
    any_value(trials.cell) AS cell,
    metrics.name,
    metrics.epoch,
    count(*) AS n,
    avg(metrics.value ORDER BY trials.trial_id) AS value_mean,
    stddev_samp(metrics.value ORDER BY trials.trial_id) AS value_sd
FROM winner_trials AS trials
JOIN metrics
    ON metrics.results = trials.results
    AND metrics.trial_id = trials.trial_id
    AND metrics.split = 'val',
cells
WHERE NOT isnan(metrics.value) AND trials.place <= $most
GROUP BY trials.results, trials.cell_id, trials.place, metrics.name, metrics.epoch
ORDER BY metrics.name, trials.place, metrics.epoch;
