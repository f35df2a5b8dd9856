-- A row is a number that one of the five papers reports, beside what a cell's winner measured.
-- A cell stands beside the numbers of its network, data set and labels and, if these are compared,
-- of its optimizer and learning rate. In the folder of a study's own sweep only the study's numbers
-- count; those without such a cell stay, without a measurement.
CREATE OR REPLACE VIEW reported AS
WITH sweeps AS (
    SELECT results, any_value(sweep) AS sweep
    FROM (
        SELECT results, sweep FROM plan
        UNION ALL
        SELECT results, sweep FROM trials
    )
    GROUP BY results
),

winners AS (
    SELECT
        trials.results,
        trials.cell_id,
        trials.cell,
        trials.config_id,
        trials.role,
        trials.arch,
        trials.dataset,
        trials.labels,
        trials.optimizer,
        trials.lr,
        trials.batch_size,
        trials.image_size,
        trials.epochs,
        trials.config,
        trials.trial_id,
        trials.epochs_run::DOUBLE AS epochs_run,
        trials.train_top1,
        trials.train_loss,
        trials.val_top1,
        trials.val_loss,
        trials.test_top1,
        trials.test_loss,
        trials.test_macro_precision,
        trials.test_macro_recall,
        trials.test_macro_f1,
        trials.train_time_s,
        trials.epoch_time_s,
        trials.batch16_latency_ms,
        trials.trainable_params::DOUBLE AS trainable_params,
        trials.non_trainable_params::DOUBLE AS non_trainable_params,
        (trials.trainable_params + trials.non_trainable_params)::DOUBLE AS total_params
    FROM trials
    SEMI JOIN best
        ON best.results = trials.results
        AND best.cell_id = trials.cell_id
        AND best.config_id = trials.config_id
        AND best.role IS NOT DISTINCT FROM trials.role
    WHERE trials.state = 'complete'
),

-- A row is a number that a trial measured, over the run, in a class or at an epoch.
measured AS (
    SELECT results, cell_id, trial_id, metric, NULL AS class_name, NULL AS epoch, value
    FROM winners UNPIVOT (value FOR metric IN (
        epochs_run, train_top1, train_loss, val_top1, val_loss, test_top1, test_loss,
        test_macro_precision, test_macro_recall, test_macro_f1,
        train_time_s, epoch_time_s, batch16_latency_ms,
        trainable_params, non_trainable_params, total_params
    ))
    UNION ALL BY NAME
    SELECT results, cell_id, trial_id, metric, class_name, NULL AS epoch, value
    FROM (
        SELECT
            winners.results,
            winners.cell_id,
            winners.trial_id,
            classes.class_name,
            classes.precision,
            classes.recall,
            classes.f1
        FROM winners
        JOIN classes
            ON classes.results = winners.results
            AND classes.trial_id = winners.trial_id
            AND classes.split = 'test'
    ) UNPIVOT (value FOR metric IN (precision, recall, f1))
    UNION ALL BY NAME
    SELECT
        winners.results,
        winners.cell_id,
        winners.trial_id,
        'repaired_share' AS metric,
        NULL AS class_name,
        NULL AS epoch,
        enhancement.repaired_share AS value
    FROM winners
    JOIN enhancement
        ON enhancement.results = winners.results
        AND enhancement.trial_id = winners.trial_id
        AND enhancement.split = 'test'
        AND enhancement.transform = 'combined'
    UNION ALL BY NAME
    SELECT results, cell_id, trial_id, metric, NULL AS class_name, epoch, value
    FROM (
        SELECT
            winners.results,
            winners.cell_id,
            winners.trial_id,
            epochs.epoch,
            epochs.train_top1,
            epochs.train_loss
        FROM winners
        JOIN epochs
            ON epochs.results = winners.results AND epochs.trial_id = winners.trial_id
    ) UNPIVOT (value FOR metric IN (train_top1, train_loss))
),

summary AS (
    SELECT
        results,
        cell_id,
        metric,
        class_name,
        epoch,
        count(*) AS n,
        avg(value ORDER BY trial_id) AS measured_mean,
        stddev_samp(value ORDER BY trial_id) AS measured_sd
    FROM measured
    WHERE NOT isnan(value)
    GROUP BY results, cell_id, metric, class_name, epoch
),

cells_beside AS (
    SELECT
        results,
        cell_id,
        any_value(cell) AS cell,
        any_value(config_id) AS config_id,
        any_value(role) AS role,
        any_value(COLUMNS([
            'arch', 'dataset', 'labels', 'optimizer', 'lr', 'batch_size', 'image_size', 'epochs',
            'config'
        ])),
        min(epochs_run) AS epochs_run
    FROM winners
    GROUP BY results, cell_id
),

paired AS (
    SELECT
        papers.*,
        sweeps.results,
        ours.cell_id,
        ours.cell,
        ours.config_id,
        ours.role,
        ours.arch AS our_arch,
        if(papers.epoch IS NULL, NULL, least(papers.epoch, ours.epochs_run)) AS our_epoch,
        CASE WHEN papers.metric NOT LIKE '%_params' THEN concat_ws(
            '; ',
            CASE WHEN ours.optimizer <> papers.optimizer
                THEN printf('optimizer %s (paper: %s)', ours.optimizer, papers.optimizer) END,
            CASE WHEN ours.lr <> papers.lr
                THEN printf('lr %g (paper: %g)', ours.lr, papers.lr) END,
            CASE WHEN ours.batch_size <> papers.batch_size
                THEN printf('batch size %d (paper: %d)', ours.batch_size, papers.batch_size) END,
            CASE WHEN ours.image_size <> papers.image_size
                THEN printf('image size %d (paper: %d)', ours.image_size, papers.image_size) END,
            CASE WHEN ours.epochs <> papers.epochs
                THEN printf('epochs %d (paper: %d)', ours.epochs, papers.epochs) END,
            CASE WHEN ours.epochs_run < papers.epoch THEN printf(
                'after epoch %d (paper: %d)', ours.epochs_run::BIGINT, papers.epoch
            ) END,
            CASE WHEN ours.config ->> '$.activation' <> 'relu' THEN printf(
                'activation %s (paper: relu)', ours.config ->> '$.activation'
            ) END,
            'limit_train ' || (ours.config ->> '$.limit_train'),
            'limit_test ' || (ours.config ->> '$.limit_test')
        ) END AS differs
    FROM held.reported AS papers
    JOIN sweeps
        ON papers.study = sweeps.sweep
        OR sweeps.sweep NOT IN (SELECT study FROM held.reported)
    LEFT JOIN cells_beside AS ours
        ON ours.results = sweeps.results
        AND list_contains(string_split(papers.arch, ' '), ours.arch)
        AND ours.dataset = papers.dataset
        AND (papers.labels IS NULL OR ours.labels = papers.labels)
        AND (
            papers.optimizer IS NULL
            OR ours.optimizer = papers.optimizer
            OR NOT json_exists(ours.cell, '$.optimizer')
        )
        AND (
            papers.lr IS NULL
            OR ours.lr = papers.lr
            OR NOT json_exists(ours.cell, '$.lr')
        )
    WHERE ours.cell_id IS NOT NULL OR papers.study = sweeps.sweep
)

SELECT
    paired.study,
    paired.item,
    coalesce(paired.our_arch, paired.arch) AS arch,
    paired.dataset,
    paired.labels,
    paired.optimizer,
    paired.lr,
    paired.batch_size,
    paired.image_size,
    paired.epochs,
    paired.setting,
    paired.epoch,
    paired.split,
    paired.metric,
    paired.class_name,
    paired.value AS reported,
    paired.standing,
    paired.protocol,
    paired.place,
    paired.cell_id,
    paired.cell,
    paired.config_id,
    paired.role,
    summary.n,
    summary.measured_mean,
    summary.measured_sd,
    nullif(paired.differs, '') AS differs,
    paired.results
FROM paired
LEFT JOIN summary
    ON summary.results = paired.results
    AND summary.cell_id = paired.cell_id
    AND summary.metric = paired.metric
    AND summary.class_name IS NOT DISTINCT FROM paired.class_name
    AND summary.epoch IS NOT DISTINCT FROM paired.our_epoch;
