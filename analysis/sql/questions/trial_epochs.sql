-- A row is an epoch of the trial $trial_id.
SELECT epoch, train_loss, val_loss, val_top1, train_time_s
FROM epochs
WHERE trial_id = $trial_id
ORDER BY epoch;
