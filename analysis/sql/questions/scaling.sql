-- A row is a network at a width, a depth and an image side: its best winner by the objective.
WITH built AS (
    SELECT
        results,
        cell_id,
        coalesce(json_extract(any_value(config), '$.width')::DOUBLE, 1.0) AS width,
        coalesce(json_extract(any_value(config), '$.depth')::DOUBLE, 1.0) AS depth
    FROM winner_trials
    GROUP BY ALL
)

SELECT
    best.results,
    best.cell_id,
    best.cell,
    best.arch,
    best.dataset,
    built.width,
    built.depth,
    best.image_size,
    best.trainable_params,
    best.macs,
    best.n,
    best.test_top1_mean,
    best.test_top1_sd
FROM best
JOIN built ON built.results = best.results AND built.cell_id = best.cell_id
WHERE best.macs > 0
QUALIFY row_number() OVER (
    PARTITION BY
        best.results, best.arch, best.dataset, built.width, built.depth, best.image_size
    ORDER BY
        if(
            best.objective_missing = 0,
            score(best.config, best.val_top1_mean, best.objective_mean),
            NULL
        ) DESC NULLS LAST,
        best.config_id
) = 1
ORDER BY best.results, best.dataset, best.arch, best.macs, best.config_id;
