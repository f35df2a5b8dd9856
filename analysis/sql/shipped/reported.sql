-- A row is a number that one of the five papers reports; `place` is its position in the files.
CREATE TABLE held.reported AS
SELECT *, row_number() OVER () AS place
FROM read_csv(
    $files,
    header = true,
    columns = {
        'study': 'VARCHAR', 'item': 'VARCHAR', 'arch': 'VARCHAR', 'dataset': 'VARCHAR',
        'labels': 'VARCHAR', 'optimizer': 'VARCHAR', 'lr': 'DOUBLE', 'batch_size': 'BIGINT',
        'image_size': 'BIGINT', 'epochs': 'BIGINT', 'setting': 'VARCHAR', 'epoch': 'BIGINT',
        'split': 'VARCHAR', 'metric': 'VARCHAR', 'class_name': 'VARCHAR', 'value': 'DOUBLE',
        'protocol': 'VARCHAR', 'standing': 'VARCHAR'
    }
);
