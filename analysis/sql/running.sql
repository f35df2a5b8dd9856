-- A row is a trial that runs now: its last sign of life is less than 60 s old, and later than its
-- end where it ended before.
CREATE OR REPLACE VIEW running AS
SELECT
    running.trial_id,
    members.cell_id,
    members.config->>'$.arch' AS arch,
    running.epoch,
    coalesce(running.epochs, members.epochs) AS epochs,
    running.val_top1,
    running.host,
    running.pid,
    running.slot,
    to_timestamp(running.started_at) AT TIME ZONE 'UTC' AS started_at,
    running.heartbeat,
    running.results
FROM held.running AS running
LEFT JOIN newest.members AS members
    ON members.results = running.results AND members.trial_id = running.trial_id
LEFT JOIN newest.trials AS trials
    ON trials.results = running.results AND trials.trial_id = running.trial_id
WHERE running.heartbeat > epoch(current_timestamp) - 60
    AND (trials.ended_at IS NULL OR running.heartbeat > epoch(trials.ended_at))
QUALIFY row_number() OVER (
    PARTITION BY running.results, running.trial_id ORDER BY running.heartbeat DESC
) = 1;
