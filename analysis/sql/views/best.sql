-- A row is the winner of a cell: the config with the best mean of its objective (val_top1, unless the
-- config has another), chosen among the confirmed ones if there are any. A config with a trial whose
-- objective is missing comes last.
CREATE OR REPLACE VIEW best AS
SELECT cells.*, count(DISTINCT config_id) OVER (PARTITION BY results, cell_id) AS configs
FROM cells
QUALIFY row_number() OVER (
    PARTITION BY results, cell_id
    ORDER BY
        role = 'confirmed' DESC NULLS LAST,
        if(objective_missing = 0, score(config, val_top1_mean, objective_mean), NULL)
            DESC NULLS LAST,
        n DESC,
        config_id
) = 1
ORDER BY results, test_top1_mean DESC NULLS LAST, config_id;
