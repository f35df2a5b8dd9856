-- A row is a pair of true and predicted class, summed over the complete trials of the best config
-- (best mean of the objective) of a data set or, if by_network, of a network and data set.
-- `unchosen` is true if there are several, and no validation images or values to choose by.
WITH winner AS (
    SELECT
        *,
        count(*) OVER (PARTITION BY results, dataset, labels, if($by_network, arch, NULL)) > 1
        AND if(objective_missing = 0, score(config, val_top1_mean, objective_mean), NULL) IS NULL
            AS unchosen
    FROM best
    QUALIFY row_number() OVER (
        PARTITION BY results, dataset, labels, if($by_network, arch, NULL)
        ORDER BY
            if(objective_missing = 0, score(config, val_top1_mean, objective_mean), NULL)
                DESC NULLS LAST,
            config_id
    ) = 1
),

counted AS (
    SELECT
        winner.results,
        winner.dataset,
        winner.labels,
        winner.arch,
        any_value(winner.cell) AS cell,
        any_value(winner.n) AS n,
        any_value(winner.unchosen) AS unchosen,
        confusion.label,
        confusion.predicted,
        sum(confusion.n) AS images
    FROM winner
    JOIN winner_trials AS trials
        ON trials.results = winner.results AND trials.cell_id = winner.cell_id
    JOIN confusion
        ON confusion.results = trials.results
        AND confusion.trial_id = trials.trial_id
        AND confusion.split = 'test'
    GROUP BY ALL
),

names AS (
    SELECT
        trials.results,
        trials.dataset,
        trials.labels,
        classes.class_index,
        any_value(classes.class_name) AS class_name
    FROM classes
    JOIN trials
        ON trials.results = classes.results AND trials.trial_id = classes.trial_id
    GROUP BY ALL
)

SELECT
    counted.*,
    coalesce(truth.class_name, counted.label::VARCHAR) AS label_name,
    coalesce(guess.class_name, counted.predicted::VARCHAR) AS predicted_name,
    counted.images / sum(counted.images) OVER (
        PARTITION BY
            counted.results, counted.dataset, counted.labels, counted.arch, counted.label
    ) AS share
FROM counted
LEFT JOIN names AS truth
    ON truth.results = counted.results
    AND truth.dataset IS NOT DISTINCT FROM counted.dataset
    AND truth.labels IS NOT DISTINCT FROM counted.labels
    AND truth.class_index = counted.label
LEFT JOIN names AS guess
    ON guess.results = counted.results
    AND guess.dataset IS NOT DISTINCT FROM counted.dataset
    AND guess.labels IS NOT DISTINCT FROM counted.labels
    AND guess.class_index = counted.predicted
ORDER BY
    counted.results,
    counted.dataset,
    counted.arch,
    counted.labels,
    counted.label,
    counted.predicted;
