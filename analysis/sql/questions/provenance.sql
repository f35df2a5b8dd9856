-- A row is a combination of machine, versions, commit and data that trials ran with.
SELECT
    results,
    host,
    device,
    threads,
    git_commit,
    versions,
    dataset,
    data_fingerprint,
    count(*) AS trials,
    sum(attempts) AS attempts,
    strftime(min(started_at), '%Y-%m-%d %H:%M') AS first_start,
    strftime(max(ended_at), '%Y-%m-%d %H:%M') AS last_end,
    sum(wall_time_s) AS wall_time_s
FROM trials
GROUP BY ALL
ORDER BY min(started_at), host, dataset;
