-- A row is a pair of true and predicted class of a split of a trial in one of the given files.
SELECT trial_id, split, label, predicted, count(*) AS n, file
FROM (
    FROM query_table($empty)
    UNION ALL BY NAME
    FROM read_parquet($files, union_by_name = true, filename = 'file')
)
GROUP BY ALL;
