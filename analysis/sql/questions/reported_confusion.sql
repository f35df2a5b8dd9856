-- A row is a pair of true and predicted class of a confusion matrix that a paper prints or, if
-- `printed` is false, of the best cell that repeats the paper's run; shares of the true class.
WITH best_beside AS (
    SELECT reported_confusion.*
    FROM reported_confusion
    JOIN (SELECT results, cell_id, min(place) AS place FROM winner_trials GROUP BY ALL) AS winners
        ON winners.results = reported_confusion.results
        AND winners.cell_id = reported_confusion.cell_id
    QUALIFY dense_rank() OVER (
        PARTITION BY reported_confusion.results, reported_confusion.study
        ORDER BY winners.place
    ) = 1
),

class_places AS (
    SELECT study, label AS class_name, min(place) AS place
    FROM best_beside
    GROUP BY study, label
),

matrices AS (
    SELECT results, study, run, true AS printed, cell, n, label, predicted, reported AS images
    FROM best_beside
    UNION ALL BY NAME
    SELECT
        results,
        study,
        NULL AS run,
        false AS printed,
        any_value(cell) AS cell,
        any_value(n) AS n,
        label,
        predicted,
        any_value(measured_mean) AS images
    FROM best_beside
    GROUP BY results, study, label, predicted
)

SELECT
    matrices.results,
    matrices.study,
    matrices.run,
    matrices.printed,
    matrices.cell,
    matrices.n,
    truth.place AS label,
    guess.place AS predicted,
    matrices.label AS label_name,
    matrices.predicted AS predicted_name,
    matrices.images,
    matrices.images / sum(matrices.images) OVER (
        PARTITION BY matrices.results, matrices.study, matrices.run, matrices.label
    ) AS share
FROM matrices
JOIN class_places AS truth
    ON truth.study = matrices.study AND truth.class_name = matrices.label
JOIN class_places AS guess
    ON guess.study = matrices.study AND guess.class_name = matrices.predicted
ORDER BY
    matrices.results, matrices.study, matrices.printed DESC, matrices.run, label, predicted;
