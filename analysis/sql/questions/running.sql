-- A row is a trial that runs now, the one nearest to its end first.
SELECT trial_id, arch, epoch, epochs, val_top1, host, pid
FROM running
ORDER BY epoch / epochs DESC, trial_id;
