-- A row is a claimed trial that neither ended nor was stopped in order; its heartbeat may be old.
CREATE OR REPLACE VIEW newest.claims AS
SELECT
    running.trial_id,
    members.cell_id,
    members.config->>'$.arch' AS arch,
    members.config,
    running.epoch,
    coalesce(running.epochs, members.epochs) AS epochs,
    running.val_top1,
    running.objective,
    running.host,
    running.pid,
    running.slot,
    running.device,
    running.attempt,
    to_timestamp(running.started_at) AT TIME ZONE 'UTC' AS started_at,
    running.wall_time_s,
    running.heartbeat,
    running.cpu_wait,
    running.silent_s,
    running.results
FROM held.running AS running
LEFT JOIN newest.members AS members
    ON members.results = running.results AND members.trial_id = running.trial_id
LEFT JOIN newest.trials AS trials
    ON trials.results = running.results AND trials.trial_id = running.trial_id
-- An orderly stop writes the heartbeat 0.
WHERE running.heartbeat > 0
    AND (trials.ended_at IS NULL OR running.heartbeat > epoch(trials.ended_at))
QUALIFY row_number() OVER (
    PARTITION BY running.results, running.trial_id ORDER BY running.heartbeat DESC
) = 1;
