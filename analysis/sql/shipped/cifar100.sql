-- A row is a fine class of CIFAR-100 with the coarse one it belongs to, both counted from 0:
-- Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009, chapter 3.
CREATE TABLE held.cifar100 AS
FROM read_csv(
    $files,
    header = true,
    columns = {
        'fine': 'BIGINT', 'fine_name': 'VARCHAR', 'coarse': 'BIGINT', 'coarse_name': 'VARCHAR'
    }
);
