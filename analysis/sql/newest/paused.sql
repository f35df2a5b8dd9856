-- A row is a trial that waits with a checkpoint, without those that ended since.
CREATE OR REPLACE VIEW newest.paused AS
SELECT stored.trial_id, stored.reason, stored.epochs_run, stored.val_top1, stored.objective,
    stored.wall_time_s, folders.results
FROM held.paused AS stored
JOIN held.folders AS folders ON folders.path = folder_of(file)
ANTI JOIN newest.trials AS trials
    ON trials.results = folders.results AND trials.trial_id = stored.trial_id;
