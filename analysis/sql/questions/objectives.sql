-- A row is an objective by which winners of a results folder were chosen.
SELECT DISTINCT
    results,
    objective_name(config) AS objective,
    lower_is_better(objective_name(config)) AS lower_is_better
FROM best
ORDER BY results, objective;
