-- A row is a line of a cell's winner's classification report on the test split: a class, or one
-- of accuracy (as recall), macro average and weighted average; means over its complete trials.
WITH classes_of_trials AS (
    SELECT
        trials.results,
        trials.cell_id,
        trials.cell,
        trials.config_id,
        trials.place,
        trials.trial_id,
        classification.class_index,
        coalesce(classes.class_name, classification.class_index::VARCHAR) AS class_name,
        classification.support,
        classification.precision,
        classification.recall,
        classification.f1
    FROM winner_trials AS trials
    JOIN classification
        ON classification.results = trials.results
        AND classification.trial_id = trials.trial_id
        AND classification.split = 'test'
    LEFT JOIN classes
        ON classes.results = trials.results
        AND classes.trial_id = trials.trial_id
        AND classes.split = 'test'
        AND classes.class_index = classification.class_index
),

lines AS (
    SELECT
        *,
        class_name AS line
    FROM classes_of_trials
    UNION ALL BY NAME
    SELECT
        results, cell_id, cell, config_id, place, trial_id,
        1_000_000 AS class_index,
        'accuracy' AS line,
        sum(support) AS support,
        sum(recall * support ORDER BY class_index) / sum(support) AS recall
    FROM classes_of_trials
    GROUP BY ALL
    UNION ALL BY NAME
    SELECT
        results, cell_id, cell, config_id, place, trial_id,
        1_000_001 AS class_index,
        'macro average' AS line,
        sum(support) AS support,
        avg(precision ORDER BY class_index) AS precision,
        avg(recall ORDER BY class_index) AS recall,
        avg(f1 ORDER BY class_index) AS f1
    FROM classes_of_trials
    GROUP BY ALL
    UNION ALL BY NAME
    SELECT
        results, cell_id, cell, config_id, place, trial_id,
        1_000_002 AS class_index,
        'weighted average' AS line,
        sum(support) AS support,
        sum(precision * support ORDER BY class_index) / sum(support) AS precision,
        sum(recall * support ORDER BY class_index) / sum(support) AS recall,
        sum(f1 * support ORDER BY class_index) / sum(support) AS f1
    FROM classes_of_trials
    GROUP BY ALL
)

SELECT
    results,
    cell_id,
    cell,
    config_id,
    any_value(class_name) AS class_name,
    line,
    any_value(support) AS support,
    count(*) AS n,
    avg(COLUMNS(['precision', 'recall', 'f1']) ORDER BY trial_id) AS '\0_mean',
    stddev_samp(COLUMNS(['precision', 'recall', 'f1']) ORDER BY trial_id) AS '\0_sd'
FROM lines
GROUP BY results, cell_id, cell, config_id, place, class_index, line
ORDER BY place, class_index;
