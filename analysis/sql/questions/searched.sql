-- A row is a config that a cell's search tried: its state (the first of complete, pruned, diverged
-- that one of its trials has), and val top-1 and the objective over its trials of that state. `score`
-- is that by which the search ranks; null if a trial's objective is missing.
WITH ended AS (
    SELECT
        *,
        nullif(
            if(objective_name(config) = 'val_top1', val_top1, objective), 'nan'::DOUBLE
        ) AS value,
        CASE state WHEN 'complete' THEN 1 WHEN 'pruned' THEN 2 ELSE 3 END AS standing
    FROM trials
    WHERE role IS DISTINCT FROM 'confirmed' AND state != 'failed'
),

first_standing AS (
    SELECT *
    FROM ended
    QUALIFY standing = min(standing) OVER (PARTITION BY results, cell_id, config_id)
)

SELECT
    results,
    cell_id,
    cell,
    config_id,
    any_value(config) AS config,
    any_value(lr) AS lr,
    any_value(state) AS state,
    count(*) AS n,
    avg(nullif(val_top1, 'nan'::DOUBLE) ORDER BY trial_id) AS val_top1_mean,
    stddev_samp(nullif(val_top1, 'nan'::DOUBLE) ORDER BY trial_id) AS val_top1_sd,
    objective_name(any_value(config)) AS objective,
    lower_is_better(objective_name(any_value(config))) AS lower_is_better,
    avg(value ORDER BY trial_id) AS value_mean,
    stddev_samp(value ORDER BY trial_id) AS value_sd,
    if(
        count(value) = count(*),
        avg(score(config, val_top1, objective) ORDER BY trial_id),
        NULL
    ) AS score
FROM first_standing
GROUP BY results, cell_id, cell, config_id
ORDER BY results, cell, score, config_id;
