-- A row is a trial that ended, with the cell and role that the newest plan gives it.
CREATE OR REPLACE VIEW trials AS
SELECT
    trials.* EXCLUDE (results) REPLACE (members.role AS role),
    members.cell_id,
    members.cell,
    members.planned,
    trials.results
FROM newest.trials AS trials
JOIN newest.members AS members
    ON members.results = trials.results AND members.trial_id = trials.trial_id;
