-- A row is an epoch of a cell's winner or, before a trial of the cell is complete, of the config
-- with the best mean of its objective so far.
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
        learning_curves.role
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
        ORDER BY
            bool_or(best.config_id IS NOT NULL) DESC,
            max(score(
                configs.config, learning_curves.val_top1_mean, learning_curves.objective_mean
            )) DESC NULLS LAST,
            learning_curves.config_id
    ) = 1
)

SELECT learning_curves.*
FROM learning_curves
JOIN chosen
    ON chosen.results = learning_curves.results
    AND chosen.cell_id = learning_curves.cell_id
    AND chosen.config_id = learning_curves.config_id
    AND chosen.role IS NOT DISTINCT FROM learning_curves.role
ORDER BY learning_curves.results, learning_curves.cell, learning_curves.epoch;
