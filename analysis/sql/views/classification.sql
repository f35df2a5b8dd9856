-- A row is a class of a split of a trial: its scores by the confusion matrix, that is by the
-- stored predictions. A class without images, or never predicted, scores 0; one without both has no
-- row, as in scikit-learn.
CREATE OR REPLACE VIEW classification AS
WITH cells_of_the_matrix AS (
    SELECT results, trial_id, split, label AS class_index, n AS support, 0 AS predicted,
        n * (label = predicted)::BIGINT AS correct
    FROM confusion
    UNION ALL
    SELECT results, trial_id, split, predicted AS class_index, 0, n, 0
    FROM confusion
),

counted AS (
    SELECT
        results,
        trial_id,
        split,
        class_index,
        sum(support)::BIGINT AS support,
        sum(predicted)::BIGINT AS predicted,
        sum(correct)::BIGINT AS correct
    FROM cells_of_the_matrix
    GROUP BY ALL
)

SELECT
    trial_id,
    split,
    class_index,
    support,
    predicted,
    correct,
    CASE WHEN predicted > 0 THEN correct / predicted ELSE 0 END AS precision,
    CASE WHEN support > 0 THEN correct / support ELSE 0 END AS recall,
    2 * correct / (support + predicted) AS f1,
    results
FROM counted;
