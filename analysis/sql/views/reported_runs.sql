-- A row is a run of one of the five papers beside a cell's winner of the same network, data set and
-- labels. The cell repeats the run (`same_run`) if also
--   - its optimizer is the paper's, where the paper has one,
--   - its learning rate is the paper's, if learning rates are compared,
--   - its activation is ReLU, which all of these runs have, and
--   - its weights have one bit only if the run's have.
-- Every other setting may differ; `differs` lists what does, the most important first.
CREATE OR REPLACE VIEW reported_runs AS
WITH trials AS MATERIALIZED (FROM winner_trials),

images AS (
    SELECT
        trials.results,
        trials.cell_id,
        round(median(epochs.train_images_per_s * epochs.train_time_s))::BIGINT AS train_images
    FROM trials
    JOIN epochs ON epochs.results = trials.results AND epochs.trial_id = trials.trial_id
    WHERE isfinite(epochs.train_images_per_s * epochs.train_time_s)
    GROUP BY trials.results, trials.cell_id
),

winners AS (
    SELECT
        results,
        cell_id,
        any_value(COLUMNS([
            'cell', 'config_id', 'role', 'arch', 'dataset', 'labels', 'optimizer', 'lr', 'momentum',
            'batch_size', 'image_size', 'epochs', 'config', 'precision'
        ])),
        min(epochs_run) AS epochs_run,
        count(*) AS n,
        list(trial_id ORDER BY trial_id) AS trial_ids
    FROM trials
    GROUP BY results, cell_id
),

-- Settings that no run of a paper names, where they are not the default: `network` for those that
-- change the network.
own_settings AS (
    SELECT
        winners.results,
        winners.cell_id,
        setting.key IN (
            'arch_options', 'dropout', 'width', 'depth', 'stem', 'aux_weight'
        ) AS network,
        list(
            setting.key || ' ' || replace(setting.value ->> '$', '; ', ', ') ORDER BY setting.key
        ) AS texts
    FROM winners, json_each(winners.config) AS setting
    WHERE
        setting.type <> 'NULL'
        AND setting.value::VARCHAR <> 'false'
        AND setting.key NOT IN (
            'arch', 'activation', 'one_bit', 'pretrained', 'pretrained_fingerprint',
            'code_fingerprint', 'dataset', 'data_fingerprint', 'labels', 'limit_train',
            'limit_test', 'val_fraction', 'split_seed', 'image_size', 'normalize', 'augment',
            'quirk', 'optimizer', 'lr', 'momentum', 'betas', 'weight_decay', 'l2', 'schedule',
            'epochs', 'early_stop', 'select', 'batch_size', 'precision', 'deterministic'
        )
    GROUP BY winners.results, winners.cell_id, network
),

ours AS (
    SELECT
        winners.*,
        images.train_images,
        coalesce(network.texts, []) AS network_settings,
        coalesce(other.texts, []) AS other_settings,
        coalesce(
            nullif(array_to_string(
                list_sort(json_extract_string(winners.config, '$.augment[*].kind')), ' '
            ), ''),
            'none'
        ) AS augment,
        coalesce(winners.config ->> '$.schedule.kind', 'constant') AS schedule,
        coalesce(winners.config ->> '$.pretrained', 'none') AS pretrained,
        coalesce(winners.config ->> '$.normalize', 'dataset') AS normalize,
        coalesce((winners.config ->> '$.weight_decay')::DOUBLE, 0) AS weight_decay,
        coalesce((winners.config ->> '$.l2')::DOUBLE, 0) AS l2,
        (winners.config ->> '$.val_fraction')::DOUBLE AS val_fraction,
        json_exists(winners.config, '$.early_stop.metric') AS early_stop
    FROM winners
    LEFT JOIN images ON images.results = winners.results AND images.cell_id = winners.cell_id
    LEFT JOIN own_settings AS network
        ON network.results = winners.results
        AND network.cell_id = winners.cell_id
        AND network.network
    LEFT JOIN own_settings AS other
        ON other.results = winners.results
        AND other.cell_id = winners.cell_id
        AND NOT other.network
)

SELECT
    papers.study,
    papers.run,
    papers.author,
    ours.arch,
    ours.results,
    ours.cell_id,
    ours.cell,
    ours.config_id,
    ours.role,
    ours.n,
    ours.trial_ids,
    ours.epochs_run,
    coalesce(
        (papers.optimizer IS NULL OR papers.optimizer = ours.optimizer)
        AND (papers.lr IS NULL OR papers.lr = ours.lr OR NOT json_exists(ours.cell, '$.lr'))
        AND coalesce(ours.config ->> '$.activation', 'relu') = 'relu'
        AND coalesce(papers.one_bit, false)
            = coalesce((ours.config ->> '$.one_bit')::BOOLEAN, false),
        false
    ) AS same_run,
    ours.network_settings,
    list_filter(
        [
            CASE WHEN ours.dataset LIKE 'cifar%' AND json_exists(ours.config, '$.data_fingerprint')
                THEN 'other images than the published ' || ours.dataset END,
            'limit_train ' || (ours.config ->> '$.limit_train'),
            CASE WHEN ours.train_images <> papers.train_images THEN printf(
                'training images %s (paper: %s)',
                format('{:,}', ours.train_images), format('{:,}', papers.train_images)
            ) END,
            'limit_test ' || (ours.config ->> '$.limit_test'),
            array_to_string(nullif(ours.network_settings, []), '; '),
            CASE WHEN ours.pretrained <> papers.pretrained THEN printf(
                'pre-trained weights %s (paper: %s)', ours.pretrained, papers.pretrained
            ) END,
            CASE WHEN (ours.config ->> '$.quirk') IS DISTINCT FROM papers.quirk THEN printf(
                'quirk %s (paper: %s)',
                coalesce(ours.config ->> '$.quirk', 'none'), coalesce(papers.quirk, 'none')
            ) END,
            CASE WHEN ours.epochs IS DISTINCT FROM papers.epochs THEN printf(
                'epochs %d (paper: %s)',
                ours.epochs, coalesce(papers.epochs::VARCHAR, 'not stated')
            ) END,
            CASE WHEN ours.image_size IS DISTINCT FROM papers.image_size THEN printf(
                'image size %d (paper: %s)',
                ours.image_size, coalesce(papers.image_size::VARCHAR, 'not stated')
            ) END,
            CASE WHEN ours.lr <> papers.lr
                THEN printf('lr %g (paper: %g)', ours.lr, papers.lr) END,
            CASE WHEN ours.batch_size <> papers.batch_size
                THEN printf('batch size %d (paper: %d)', ours.batch_size, papers.batch_size) END,
            CASE WHEN NOT list_contains(string_split(papers.augment, '|'), ours.augment)
                THEN printf(
                    'augment %s (paper: %s)',
                    ours.augment, replace(papers.augment, '|', ' or ')
                ) END,
            CASE
                WHEN papers.schedule = 'decay' AND ours.schedule = 'constant'
                    THEN 'schedule constant (paper: a decay)'
                WHEN papers.schedule <> 'decay'
                    AND NOT list_contains(string_split(papers.schedule, '|'), ours.schedule)
                    THEN printf(
                        'schedule %s (paper: %s)',
                        ours.schedule, replace(papers.schedule, '|', ' or ')
                    )
            END,
            CASE WHEN ours.momentum <> papers.momentum
                THEN printf('momentum %g (paper: %g)', ours.momentum, papers.momentum) END,
            CASE WHEN ours.weight_decay <> papers.weight_decay THEN printf(
                'weight decay %g (paper: %g)', ours.weight_decay, papers.weight_decay
            ) END,
            CASE WHEN ours.l2 <> papers.l2 THEN printf('l2 %g (paper: %g)', ours.l2, papers.l2) END,
            CASE WHEN (ours.config ->> '$.select') <> papers."select" THEN printf(
                'select %s (paper: %s)', ours.config ->> '$.select', papers."select"
            ) END,
            CASE WHEN ours.early_stop AND papers.early_stop IS NULL THEN 'early stop (paper: none)'
                WHEN NOT ours.early_stop AND papers.early_stop THEN 'no early stop (paper: one)'
            END,
            CASE WHEN ours.val_fraction <> papers.val_fraction THEN printf(
                'validation part %g (paper: %s)',
                ours.val_fraction,
                if(papers.val_fraction = 0, 'none', printf('%g', papers.val_fraction))
            ) END,
            CASE WHEN ours.normalize <> papers.normalize THEN printf(
                'normalize %s (paper: %s)', ours.normalize, papers.normalize
            ) END,
            CASE WHEN ours.precision <> 'fp32' THEN 'precision ' || ours.precision END,
            array_to_string(nullif(ours.other_settings, []), '; '),
            CASE WHEN ours.n <> papers.runs
                THEN printf('trials %d (paper: %d)', ours.n, papers.runs) END
        ],
        lambda text: text IS NOT NULL
    ) AS differs
FROM held.reported_runs AS papers
JOIN ours
    ON list_contains(string_split(papers.arch, ' '), ours.arch)
    AND ours.dataset = papers.dataset
    AND (papers.labels IS NULL OR ours.labels = papers.labels);
