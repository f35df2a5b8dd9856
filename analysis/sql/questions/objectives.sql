-- A row is an objective by which winners of a results folder were chosen: the cells of these
-- winners, and those of them without validation images, where nothing was chosen.
SELECT
    results,
    objective_name(config) AS objective,
    lower_is_better(objective_name(config)) AS lower_is_better,
    count(*) AS cells,
    count(*) FILTER (TRY_CAST(config ->> '$.val_fraction' AS DOUBLE) = 0) AS unchosen
FROM best
GROUP BY ALL
ORDER BY results, objective;
