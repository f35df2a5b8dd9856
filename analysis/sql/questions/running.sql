-- A row is a trial that runs now, or whose heartbeat is old; by node and device.
SELECT
    trial_id,
    arch,
    epoch,
    epochs,
    val_top1,
    objective,
    objective_name(config) AS objective_name,
    host,
    coalesce(device, 'cpu') AS device,
    pid,
    attempt,
    cpu_wait,
    silent_s
FROM newest.claims
ORDER BY host, device, pid, trial_id;
