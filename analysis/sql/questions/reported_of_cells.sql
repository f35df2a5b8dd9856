-- A row is a number that a paper reports of a cell's whole run, its own and not one that it cites;
-- recomputed replaces printed.
SELECT results, cell_id, metric, class_name, setting, reported
FROM reported
WHERE cell_id IS NOT NULL AND author IS NULL AND (epoch IS NULL OR epoch = epochs)
QUALIFY row_number() OVER (
    PARTITION BY results, cell_id, metric, class_name, setting
    ORDER BY standing = 'recomputed' DESC, place
) = 1
ORDER BY place;
