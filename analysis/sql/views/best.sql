-- A row is the winner of a cell: the config with the highest mean val_top1, chosen among the
-- confirmed ones if there are any.
CREATE OR REPLACE VIEW best AS
SELECT cells.*, count(DISTINCT config_id) OVER (PARTITION BY results, cell_id) AS configs
FROM cells
QUALIFY row_number() OVER (
    PARTITION BY results, cell_id
    ORDER BY role = 'confirmed' DESC NULLS LAST, val_top1_mean DESC NULLS LAST, n DESC, config_id
) = 1
ORDER BY results, test_top1_mean DESC NULLS LAST, config_id;
