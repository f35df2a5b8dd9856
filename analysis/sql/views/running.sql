-- A row is a trial that runs now: its last heartbeat is less than 60 s old, and later than its end if
-- it ended before.
CREATE OR REPLACE VIEW running AS
SELECT
    trial_id,
    cell_id,
    arch,
    epoch,
    epochs,
    val_top1,
    objective,
    host,
    pid,
    slot,
    device,
    attempt,
    started_at,
    wall_time_s,
    heartbeat,
    cpu_wait,
    silent_s,
    results
FROM newest.claims
WHERE silent_s < 60;
