-- A row is a metric that the sweep asked for, of a cell's winner on the test split.
SELECT
    cell_metrics.results,
    cell_metrics.cell_id,
    cell_metrics.name,
    cell_metrics.n,
    cell_metrics.value_mean,
    cell_metrics.value_sd
FROM cell_metrics
JOIN best
    ON best.results = cell_metrics.results
    AND best.cell_id = cell_metrics.cell_id
    AND best.config_id = cell_metrics.config_id
    AND best.role IS NOT DISTINCT FROM cell_metrics.role
WHERE cell_metrics.split = 'test'
ORDER BY cell_metrics.name, cell_metrics.results, cell_metrics.cell_id;
