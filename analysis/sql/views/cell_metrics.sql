-- A row is a metric that the sweep asked for, of a config of a cell on a split, with the weights that
-- `select` chose: mean, standard deviation and 95 % t interval over the complete trials that have it.
CREATE OR REPLACE VIEW cell_metrics AS
SELECT
    trials.cell_id,
    trials.config_id,
    trials.role,
    any_value(trials.cell) AS cell,
    metrics.name,
    metrics.split,
    count(nullif(metrics.value, 'nan'::DOUBLE)) AS n,
    count(*) - count(nullif(metrics.value, 'nan'::DOUBLE)) AS missing,
    avg(nullif(metrics.value, 'nan'::DOUBLE) ORDER BY trials.trial_id) AS value_mean,
    stddev_samp(nullif(metrics.value, 'nan'::DOUBLE) ORDER BY trials.trial_id) AS value_sd,
    interval_low(nullif(metrics.value, 'nan'::DOUBLE), quantiles, trials.trial_id) AS value_low,
    interval_high(nullif(metrics.value, 'nan'::DOUBLE), quantiles, trials.trial_id) AS value_high,
    trials.results
FROM trials
JOIN metrics
    ON metrics.results = trials.results
    AND metrics.trial_id = trials.trial_id
    AND metrics.epoch = trials.best_epoch,
held.student
WHERE trials.state = 'complete'
GROUP BY trials.results, trials.cell_id, trials.config_id, trials.role, metrics.name, metrics.split
ORDER BY
    trials.results,
    trials.cell_id,
    trials.config_id,
    trials.role,
    metrics.name,
    metrics.split;
