-- A row is a cell: how soon and how smoothly its winner's complete trials came up. The first epoch at
-- the threshold has a mean only if all trials with a curve reached it: the mean of those that did would
-- be too early. Without $threshold it is that of the view.
WITH asked AS (
    SELECT $threshold::DOUBLE AS threshold
),

reached AS (
    SELECT
        convergence.* EXCLUDE (threshold, epoch_at_threshold),
        coalesce(asked.threshold, convergence.threshold) AS threshold,
        if(
            asked.threshold IS NULL,
            convergence.epoch_at_threshold,
            list_filter(
                range(1, len(convergence.curve) + 1),
                lambda epoch: if(
                    lower_is_better(convergence.objective),
                    convergence.curve[epoch] <= asked.threshold,
                    convergence.curve[epoch] >= asked.threshold
                )
            )[1]
        ) AS epoch_at_threshold
    FROM convergence
    CROSS JOIN asked
)

SELECT
    results,
    dataset,
    labels,
    cell_id,
    any_value(cell) AS cell,
    any_value(objective) AS objective,
    count(area) AS n,
    min(epochs_run) AS epochs_min,
    max(epochs_run) AS epochs_max,
    any_value(epochs_compared) AS epochs_compared,
    any_value(threshold) AS threshold,
    count(epoch_at_threshold) AS reached,
    if(
        count(epoch_at_threshold) = count(area), avg(epoch_at_threshold ORDER BY trial_id), NULL
    ) AS epoch_at_threshold_mean,
    if(
        count(epoch_at_threshold) = count(area),
        stddev_samp(epoch_at_threshold ORDER BY trial_id),
        NULL
    ) AS epoch_at_threshold_sd,
    avg(COLUMNS(['epoch_at_own_best', 'swing', 'largest_fall', 'area']) ORDER BY trial_id)
        AS '\0_mean',
    stddev_samp(COLUMNS(['epoch_at_own_best', 'swing', 'largest_fall', 'area']) ORDER BY trial_id)
        AS '\0_sd'
FROM reached
GROUP BY results, dataset, labels, cell_id
ORDER BY
    results,
    dataset,
    labels,
    epoch_at_threshold_mean NULLS LAST,
    any_value(place);
