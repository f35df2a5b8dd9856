-- A row is a row of the given files; columns that a file lacks are null.
FROM query_table($empty)
UNION ALL BY NAME
FROM read_parquet($files, union_by_name = true, filename = 'file');
