-- A row is a number that one of the five papers reports; `place` is its position in the files.
CREATE TABLE held.reported AS
SELECT *, row_number() OVER () AS place
FROM read_csv(
    $files,
    header = true,
    columns = {
        'study': 'VARCHAR', 'run': 'VARCHAR', 'item': 'VARCHAR', 'epoch': 'BIGINT',
        'split': 'VARCHAR', 'metric': 'VARCHAR', 'class_name': 'VARCHAR', 'value': 'DOUBLE',
        'standing': 'VARCHAR', 'note': 'VARCHAR'
    }
);
