-- A row is a cell whose winner learnt CIFAR-100's fine labels: its accuracy on them and on the
-- coarse labels that its predictions imply, beside the cell that learnt the coarse ones.
WITH per_trial AS (
    SELECT
        trials.results,
        trials.cell_id,
        trials.cell,
        trials.config_id,
        trials.trial_id,
        sum(confusion.n) FILTER (confusion.label = confusion.predicted) / sum(confusion.n)
            AS fine_top1,
        sum(confusion.n) FILTER (truth.coarse = guess.coarse) / sum(confusion.n) AS derived_top1
    FROM winner_trials AS trials
    JOIN confusion
        ON confusion.results = trials.results
        AND confusion.trial_id = trials.trial_id
        AND confusion.split = 'test'
    JOIN held.cifar100 AS truth ON truth.fine = confusion.label
    JOIN held.cifar100 AS guess ON guess.fine = confusion.predicted
    WHERE trials.dataset = 'cifar100' AND trials.labels = 'fine'
    GROUP BY ALL
),

fine AS (
    SELECT
        results,
        cell_id,
        cell,
        count(*) AS n,
        avg(COLUMNS(['fine_top1', 'derived_top1']) ORDER BY trial_id) AS '\0_mean',
        stddev_samp(COLUMNS(['fine_top1', 'derived_top1']) ORDER BY trial_id) AS '\0_sd'
    FROM per_trial
    GROUP BY ALL
)

SELECT
    fine.*,
    coarse.test_top1_mean AS coarse_top1_mean,
    coarse.test_top1_sd AS coarse_top1_sd
FROM fine
LEFT JOIN best AS coarse
    ON coarse.results = fine.results
    AND coarse.labels = 'coarse'
    AND coarse.dataset = 'cifar100'
    AND json_merge_patch(coarse.cell, '{"labels": null}')
        = json_merge_patch(fine.cell, '{"labels": null}')
ORDER BY derived_top1_mean DESC NULLS LAST, fine.results, fine.cell_id;
