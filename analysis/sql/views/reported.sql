-- A row is a number that one of the five papers reports, beside what the cell's winner measured that
-- repeats the paper's run (`reported_runs`); counts of parameters stand beside every cell of the
-- network. A number stays, without a measurement, if no cell repeats its run but one has its network
-- and data; in the folder of a study's own sweep all numbers of the study stay, and no others count.
CREATE OR REPLACE VIEW reported AS
WITH pairs AS MATERIALIZED (FROM reported_runs),

sweeps AS (
    SELECT results, any_value(sweep) AS sweep
    FROM (
        SELECT results, sweep FROM plan
        UNION ALL
        SELECT results, sweep FROM trials
    )
    GROUP BY results
),

winners AS MATERIALIZED (
    SELECT
        results,
        cell_id,
        trial_id,
        epochs_run::DOUBLE AS epochs_run,
        train_top1,
        train_loss,
        val_top1,
        val_loss,
        test_top1,
        test_loss,
        test_macro_precision,
        test_macro_recall,
        test_macro_f1,
        -- Times on a shared GPU contain its other trials.
        CASE WHEN coalesce(gpu_share, 1) >= 1 THEN train_time_s END AS train_time_s,
        CASE WHEN coalesce(gpu_share, 1) >= 1 THEN epoch_time_s END AS epoch_time_s,
        CASE WHEN coalesce(gpu_share, 1) >= 1 THEN batch16_latency_ms END AS batch16_latency_ms,
        trainable_params::DOUBLE AS trainable_params,
        non_trainable_params::DOUBLE AS non_trainable_params,
        (trainable_params + non_trainable_params)::DOUBLE AS total_params
    FROM trials
    SEMI JOIN (SELECT results, unnest(trial_ids) AS trial_id FROM pairs) AS beside
        ON beside.results = trials.results AND beside.trial_id = trials.trial_id
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
    SELECT results, cell_id, trial_id, metric, NULL AS class_name, NULL AS epoch, value
    FROM (
        SELECT
            winners.results,
            winners.cell_id,
            winners.trial_id,
            sum(classes.precision * classes.support ORDER BY classes.class_index)
                / sum(classes.support) AS test_weighted_precision,
            sum(classes.recall * classes.support ORDER BY classes.class_index)
                / sum(classes.support) AS test_weighted_recall,
            sum(classes.f1 * classes.support ORDER BY classes.class_index)
                / sum(classes.support) AS test_weighted_f1
        FROM winners
        JOIN classes
            ON classes.results = winners.results
            AND classes.trial_id = winners.trial_id
            AND classes.split = 'test'
            AND classes.support > 0
        GROUP BY winners.results, winners.cell_id, winners.trial_id
    ) UNPIVOT (value FOR metric IN (
        test_weighted_precision, test_weighted_recall, test_weighted_f1
    ))
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

-- A row is a number of a paper in a folder that has its network and data, or is the study's own.
wanted AS (
    SELECT
        numbers.* EXCLUDE (note),
        numbers.metric LIKE '%_params' AS of_the_network,
        concat_ws('; ', numbers.note, if(of_the_network, NULL, runs.note)) AS protocol,
        runs.* EXCLUDE (study, run, note),
        sweeps.results,
        here.run IS NOT NULL AS has_network
    FROM held.reported AS numbers
    JOIN held.reported_runs AS runs ON runs.study = numbers.study AND runs.run = numbers.run
    JOIN sweeps
        ON numbers.study = sweeps.sweep
        OR sweeps.sweep NOT IN (SELECT study FROM held.reported)
    LEFT JOIN (SELECT DISTINCT results, study, run FROM pairs) AS here
        ON here.results = sweeps.results
        AND here.study = numbers.study
        AND here.run = numbers.run
    WHERE here.run IS NOT NULL OR numbers.study = sweeps.sweep
),

paired AS (
    SELECT
        wanted.* EXCLUDE (arch),
        coalesce(pairs.arch, wanted.arch) AS arch,
        pairs.cell_id,
        pairs.cell,
        pairs.config_id,
        pairs.role,
        if(wanted.epoch IS NULL, NULL, least(wanted.epoch, pairs.epochs_run)) AS our_epoch,
        CASE
            WHEN pairs.cell_id IS NULL AND NOT wanted.has_network THEN ['no run of the network']
            WHEN pairs.cell_id IS NULL THEN [concat_ws(
                ', ', 'no run with relu', wanted.optimizer, 'lr ' || printf('%g', wanted.lr)
            )]
            WHEN wanted.of_the_network THEN pairs.network_settings
            ELSE list_filter(
                pairs.differs,
                -- A quirk of evaluation changes no number of training.
                lambda text: wanted.split IS DISTINCT FROM 'train' OR NOT regexp_matches(
                    text,
                    '^quirk (none|\S+-(test|eval)) \(paper: (none|\S+-(test|eval))\)$'
                )
            ) || if(
                pairs.epochs_run < wanted.epoch,
                [printf('after epoch %d (paper: %d)', pairs.epochs_run, wanted.epoch)],
                []
            )
        END AS differs
    FROM wanted
    LEFT JOIN pairs
        ON pairs.results = wanted.results
        AND pairs.study = wanted.study
        AND pairs.run = wanted.run
        AND (pairs.same_run OR wanted.of_the_network)
)

SELECT
    paired.study,
    paired.run,
    paired.author,
    paired.item,
    paired.arch,
    paired.dataset,
    paired.labels,
    if(paired.of_the_network, NULL, paired.optimizer) AS optimizer,
    if(paired.of_the_network, NULL, paired.lr) AS lr,
    if(paired.of_the_network, NULL, paired.batch_size) AS batch_size,
    if(paired.of_the_network, NULL, paired.image_size) AS image_size,
    if(paired.of_the_network, NULL, paired.epochs) AS epochs,
    paired.setting,
    paired.epoch,
    paired.split,
    paired.metric,
    paired.class_name,
    paired.value AS reported,
    paired.standing,
    nullif(paired.protocol, '') AS protocol,
    paired.place,
    paired.cell_id,
    paired.cell,
    paired.config_id,
    paired.role,
    summary.n,
    summary.measured_mean,
    summary.measured_sd,
    nullif(array_to_string(paired.differs, '; '), '') AS differs,
    paired.results
FROM paired
LEFT JOIN summary
    ON summary.results = paired.results
    AND summary.cell_id = paired.cell_id
    AND summary.metric = paired.metric
    AND summary.class_name IS NOT DISTINCT FROM paired.class_name
    AND summary.epoch IS NOT DISTINCT FROM paired.our_epoch;
