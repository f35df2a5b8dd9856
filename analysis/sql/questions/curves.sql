-- A row is an epoch of a cell's winner or, before a trial of the cell is complete, of the config
-- with the best mean of its objective so far. Of the `cells` there are, the $most that do best; each
-- data set has its share.
WITH configs AS (
    SELECT results, config_id, any_value(config) AS config
    FROM newest.members
    GROUP BY ALL
),

chosen AS (
    SELECT
        learning_curves.results,
        learning_curves.cell_id,
        learning_curves.config_id,
        learning_curves.role,
        bool_or(best.config_id IS NOT NULL) AS ended,
        max(score(
            configs.config, learning_curves.val_top1_mean, learning_curves.objective_mean
        )) AS score,
        any_value(configs.config ->> '$.dataset') AS dataset
    FROM learning_curves
    LEFT JOIN configs
        ON configs.results = learning_curves.results
        AND configs.config_id = learning_curves.config_id
    LEFT JOIN best
        ON best.results = learning_curves.results
        AND best.cell_id = learning_curves.cell_id
        AND best.config_id = learning_curves.config_id
        AND best.role IS NOT DISTINCT FROM learning_curves.role
    GROUP BY
        learning_curves.results,
        learning_curves.cell_id,
        learning_curves.config_id,
        learning_curves.role
    QUALIFY row_number() OVER (
        PARTITION BY learning_curves.results, learning_curves.cell_id
        ORDER BY ended DESC, score DESC NULLS LAST, learning_curves.config_id
    ) = 1
),

ranked AS (
    SELECT
        *,
        count(*) OVER () AS cells,
        row_number() OVER (
            PARTITION BY results, dataset
            ORDER BY score DESC NULLS LAST, cell_id
        ) AS place
    FROM chosen
),

shown AS (
    FROM ranked
    ORDER BY place, results, dataset
    LIMIT $most
)

SELECT learning_curves.*, chosen.cells
FROM learning_curves
JOIN shown AS chosen
    ON chosen.results = learning_curves.results
    AND chosen.cell_id = learning_curves.cell_id
    AND chosen.config_id = learning_curves.config_id
    AND chosen.role IS NOT DISTINCT FROM learning_curves.role
ORDER BY learning_curves.results, learning_curves.cell, learning_curves.epoch;
