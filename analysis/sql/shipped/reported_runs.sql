-- A row is a run of one of the five papers, or one that a paper cites: its settings, as far as they
-- are stated, are in the code or follow from either. Several values are separated by `|`.
CREATE TABLE held.reported_runs AS
FROM read_csv(
    $files,
    header = true,
    columns = {
        'study': 'VARCHAR', 'run': 'VARCHAR', 'arch': 'VARCHAR', 'dataset': 'VARCHAR',
        'labels': 'VARCHAR', 'setting': 'VARCHAR', 'author': 'VARCHAR', 'optimizer': 'VARCHAR',
        'lr': 'DOUBLE', 'momentum': 'DOUBLE', 'schedule': 'VARCHAR', 'batch_size': 'BIGINT',
        'image_size': 'BIGINT', 'normalize': 'VARCHAR', 'augment': 'VARCHAR', 'epochs': 'BIGINT',
        'train_images': 'BIGINT', 'val_fraction': 'DOUBLE', 'early_stop': 'BOOLEAN',
        'weight_decay': 'DOUBLE', 'l2': 'DOUBLE', 'pretrained': 'VARCHAR', 'one_bit': 'BOOLEAN',
        'quirk': 'VARCHAR', 'select': 'VARCHAR', 'runs': 'BIGINT', 'note': 'VARCHAR'
    }
);
