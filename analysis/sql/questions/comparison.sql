-- A row is a cell with its winner, the best in test_top1 first; cells without a complete trial last.
WITH tuned AS (
    SELECT results, cell_id, config_id, any_value(params) AS params
    FROM newest.asked
    GROUP BY ALL
),

folded AS (
    SELECT DISTINCT results, config_id
    FROM trials
    WHERE fold IS NOT NULL
)

SELECT
    coalesce(best.results, coverage.results) AS results,
    coalesce(coverage.cell, best.cell) AS cell,
    coverage.planned,
    coverage.running,
    coverage.paused,
    coverage.complete,
    coverage.pruned,
    coverage.failed,
    coverage.diverged,
    coverage.missing,
    tuned.params,
    best.config ->> '$.select' AS "select",
    folded.config_id IS NOT NULL AS folded,
    best.* EXCLUDE (results, cell)
FROM best
FULL JOIN coverage
    ON coverage.results = best.results AND coverage.cell_id = best.cell_id
LEFT JOIN tuned
    ON tuned.results = best.results
    AND tuned.cell_id = best.cell_id
    AND tuned.config_id = best.config_id
LEFT JOIN folded
    ON folded.results = best.results
    AND folded.config_id = best.config_id
ORDER BY best.test_top1_mean DESC NULLS LAST, coverage.results, coverage.position, best.config_id;
