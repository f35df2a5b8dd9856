-- A row is a results folder: its planned trials by state, its machines, its time.
WITH counted AS (
    SELECT
        results,
        count(*) AS cells,
        sum(planned) AS planned,
        sum(running) AS running,
        sum(paused) AS paused,
        sum(complete) AS complete,
        sum(pruned) AS pruned,
        sum(failed) AS failed,
        sum(diverged) AS diverged,
        sum(missing) AS missing
    FROM coverage
    GROUP BY results
),

ended AS (
    SELECT
        results,
        any_value(sweep) AS sweep,
        count(DISTINCT config_id) AS configs,
        count(DISTINCT seed) AS seeds,
        list_sort(list(DISTINCT arch)) AS archs,
        list_sort(list(DISTINCT dataset)) AS datasets,
        list_sort(list(DISTINCT device) FILTER (device IS NOT NULL)) AS devices,
        count(DISTINCT host) AS hosts,
        sum(wall_time_s) AS wall_time_s,
        strftime(min(started_at), '%Y-%m-%d %H:%M') AS first_start,
        strftime(max(ended_at), '%Y-%m-%d %H:%M') AS last_end
    FROM trials
    GROUP BY results
)

SELECT
    folders.results,
    counted.* EXCLUDE (results),
    ended.* EXCLUDE (results)
FROM held.folders AS folders
LEFT JOIN counted ON counted.results = folders.results
LEFT JOIN ended ON ended.results = folders.results
ORDER BY folders.argument_index;
