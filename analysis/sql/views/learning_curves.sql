-- A row is an epoch of a config of a cell: mean and standard deviation over the trials that
-- reached it, without those that failed or diverged. A NaN counts as missing. The trials of a row
-- are sorted once, as in `cells`.
CREATE OR REPLACE VIEW learning_curves AS
WITH collected AS (
    SELECT
        members.results,
        members.cell_id,
        members.config_id,
        members.role,
        epochs.epoch,
        any_value(members.cell) AS cell,
        list({
            'lr': epochs.lr,
            'train_top1': nullif(epochs.train_top1, 'nan'::DOUBLE),
            'train_loss': nullif(epochs.train_loss, 'nan'::DOUBLE),
            'val_top1': nullif(epochs.val_top1, 'nan'::DOUBLE),
            'val_top5': nullif(epochs.val_top5, 'nan'::DOUBLE),
            'val_loss': nullif(epochs.val_loss, 'nan'::DOUBLE),
            'objective': nullif(epochs.objective, 'nan'::DOUBLE),
            'train_time_s': nullif(epochs.train_time_s, 'nan'::DOUBLE),
            'eval_time_s': nullif(epochs.eval_time_s, 'nan'::DOUBLE),
            'train_images_per_s': nullif(epochs.train_images_per_s, 'nan'::DOUBLE)
        } ORDER BY epochs.trial_id) AS trials
    FROM newest.epochs AS epochs
    JOIN newest.members AS members
        ON members.results = epochs.results AND members.trial_id = epochs.trial_id
    LEFT JOIN newest.trials AS trials
        ON trials.results = epochs.results AND trials.trial_id = epochs.trial_id
    WHERE trials.state IS NULL OR trials.state NOT IN ('failed', 'diverged')
    GROUP BY
        members.results, members.cell_id, members.config_id, members.role, epochs.epoch
),

measured AS (
    SELECT
        * EXCLUDE (trials),
        len(trials) AS n,
        list_any_value([trial.lr FOR trial IN trials]) AS lr,
        [trial.train_top1 FOR trial IN trials] AS train_top1,
        [trial.train_loss FOR trial IN trials] AS train_loss,
        [trial.val_top1 FOR trial IN trials] AS val_top1,
        [trial.val_top5 FOR trial IN trials] AS val_top5,
        [trial.val_loss FOR trial IN trials] AS val_loss,
        [trial.objective FOR trial IN trials] AS objective,
        [trial.train_time_s FOR trial IN trials] AS train_time_s,
        [trial.eval_time_s FOR trial IN trials] AS eval_time_s,
        [trial.train_images_per_s FOR trial IN trials] AS train_images_per_s
    FROM collected
)

SELECT
    cell_id,
    config_id,
    role,
    cell,
    epoch,
    n,
    lr,
    list_avg(
        COLUMNS(* EXCLUDE (results, cell_id, config_id, role, cell, epoch, n, lr))
    ) AS '\0_mean',
    list_stddev_samp(
        COLUMNS(* EXCLUDE (results, cell_id, config_id, role, cell, epoch, n, lr))
    ) AS '\0_sd',
    results
FROM measured
ORDER BY results, cell_id, config_id, role, epoch;
