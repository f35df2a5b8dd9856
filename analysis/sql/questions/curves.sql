-- A row is an epoch of a cell's winner or, before a trial of the cell is complete, of the config
-- with the highest mean val_top1 so far.
WITH chosen AS (
    SELECT
        learning_curves.results,
        learning_curves.cell_id,
        learning_curves.config_id,
        learning_curves.role
    FROM learning_curves
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
            max(learning_curves.val_top1_mean) DESC NULLS LAST,
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
