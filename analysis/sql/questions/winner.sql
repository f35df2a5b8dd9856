-- A row is the sweep's best trial: the best of the best cell's winner, both by the objective.
WITH winner AS (
    SELECT results, cell_id, config_id, role
    FROM best
    ORDER BY
        if(objective_missing = 0, score(config, val_top1_mean, objective_mean), NULL)
            DESC NULLS LAST,
        config_id
    LIMIT 1
)

SELECT
    trials.trial_id,
    trials.state,
    trials.val_top1,
    (SELECT count(*) FROM trials WHERE state = 'complete') AS complete,
    trials.seed,
    trials.fold,
    trials.config,
    trials.data_fingerprint,
    trials.skipped_images,
    trials.code_folder
FROM trials
JOIN winner
    ON winner.results = trials.results
    AND winner.cell_id IS NOT DISTINCT FROM trials.cell_id
    AND winner.config_id = trials.config_id
    AND winner.role IS NOT DISTINCT FROM trials.role
WHERE trials.state = 'complete'
ORDER BY
    score(trials.config, trials.val_top1, trials.objective) DESC NULLS LAST,
    trials.seed,
    trials.fold
LIMIT 1;
