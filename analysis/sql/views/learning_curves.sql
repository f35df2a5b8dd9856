-- A row is an epoch of a config of a cell: mean and standard deviation over the trials that
-- reached it, without those that failed or diverged. A NaN counts as missing.
CREATE OR REPLACE VIEW learning_curves AS
WITH measured AS (
    SELECT
        members.results,
        members.cell_id,
        members.config_id,
        members.role,
        members.cell,
        epochs.trial_id,
        epochs.epoch,
        nullif(epochs.train_top1, 'nan'::DOUBLE) AS train_top1,
        nullif(epochs.train_loss, 'nan'::DOUBLE) AS train_loss,
        nullif(epochs.val_top1, 'nan'::DOUBLE) AS val_top1,
        nullif(epochs.val_top5, 'nan'::DOUBLE) AS val_top5,
        nullif(epochs.val_loss, 'nan'::DOUBLE) AS val_loss,
        nullif(epochs.objective, 'nan'::DOUBLE) AS objective,
        nullif(epochs.train_time_s, 'nan'::DOUBLE) AS train_time_s,
        nullif(epochs.eval_time_s, 'nan'::DOUBLE) AS eval_time_s,
        nullif(epochs.train_images_per_s, 'nan'::DOUBLE) AS train_images_per_s,
        epochs.lr
    FROM newest.epochs AS epochs
    JOIN newest.members AS members
        ON members.results = epochs.results AND members.trial_id = epochs.trial_id
    LEFT JOIN newest.trials AS trials
        ON trials.results = epochs.results AND trials.trial_id = epochs.trial_id
    WHERE trials.state IS NULL OR trials.state NOT IN ('failed', 'diverged')
)

SELECT
    cell_id,
    config_id,
    role,
    any_value(cell) AS cell,
    epoch,
    count(*) AS n,
    any_value(lr ORDER BY trial_id) AS lr,
    avg(
        COLUMNS(* EXCLUDE (results, cell_id, config_id, role, cell, trial_id, epoch, lr))
        ORDER BY trial_id
    ) AS '\0_mean',
    stddev_samp(
        COLUMNS(* EXCLUDE (results, cell_id, config_id, role, cell, trial_id, epoch, lr))
        ORDER BY trial_id
    ) AS '\0_sd',
    results
FROM measured
GROUP BY results, cell_id, config_id, role, epoch
ORDER BY results, cell_id, config_id, role, epoch;
