-- A row is a pair of true and predicted class of a confusion matrix that a paper prints.
CREATE TABLE held.reported_confusion AS
SELECT *, row_number() OVER () AS place
FROM read_csv(
    $files,
    header = true,
    columns = {
        'study': 'VARCHAR', 'run': 'VARCHAR', 'label': 'VARCHAR', 'predicted': 'VARCHAR',
        'n': 'BIGINT'
    }
);
