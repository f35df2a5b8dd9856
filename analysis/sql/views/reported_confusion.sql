-- A row is a pair of true and predicted class of a confusion matrix that a paper prints, beside the
-- images of the pair in the cell's winner that repeats the paper's run: mean over its complete trials
-- with stored predictions, on the test split. Classes are matched by name.
CREATE OR REPLACE VIEW reported_confusion AS
WITH runs AS MATERIALIZED (
    FROM reported_runs
    WHERE same_run AND (study, run) IN (SELECT (study, run) FROM held.reported_confusion)
),

names AS (
    SELECT results, trial_id, class_index, class_name
    FROM classes
    WHERE split = 'test'
),

counted AS (
    SELECT
        confusion.results,
        confusion.trial_id,
        truth.class_name AS label,
        guess.class_name AS predicted,
        confusion.n
    FROM confusion
    JOIN names AS truth
        ON truth.results = confusion.results
        AND truth.trial_id = confusion.trial_id
        AND truth.class_index = confusion.label
    JOIN names AS guess
        ON guess.results = confusion.results
        AND guess.trial_id = confusion.trial_id
        AND guess.class_index = confusion.predicted
    WHERE
        confusion.split = 'test'
        AND truth.class_name IN (SELECT label FROM held.reported_confusion)
),

trials_beside AS (
    SELECT study, run, results, cell_id, trial_id
    FROM (SELECT study, run, results, cell_id, unnest(trial_ids) AS trial_id FROM runs) AS beside
    SEMI JOIN counted
        ON counted.results = beside.results
        AND counted.trial_id = beside.trial_id
),

beside AS (
    SELECT
        papers.study,
        papers.run,
        papers.place,
        trials.results,
        trials.cell_id,
        count(*) AS n,
        avg(coalesce(counted.n, 0) ORDER BY trials.trial_id) AS measured_mean,
        stddev_samp(coalesce(counted.n, 0) ORDER BY trials.trial_id) AS measured_sd
    FROM held.reported_confusion AS papers
    JOIN trials_beside AS trials ON trials.study = papers.study AND trials.run = papers.run
    LEFT JOIN counted
        ON counted.results = trials.results
        AND counted.trial_id = trials.trial_id
        AND counted.label = papers.label
        AND counted.predicted = papers.predicted
    GROUP BY papers.study, papers.run, papers.place, trials.results, trials.cell_id
)

SELECT
    papers.study,
    papers.run,
    papers.label,
    papers.predicted,
    papers.n AS reported,
    papers.place,
    pairs.arch,
    pairs.cell_id,
    pairs.cell,
    pairs.config_id,
    pairs.role,
    beside.n,
    beside.measured_mean,
    beside.measured_sd,
    array_to_string(pairs.differs, '; ') AS differs,
    pairs.results
FROM beside
JOIN held.reported_confusion AS papers ON papers.place = beside.place
JOIN runs AS pairs
    ON pairs.results = beside.results
    AND pairs.cell_id = beside.cell_id
    AND pairs.study = beside.study
    AND pairs.run = beside.run;
