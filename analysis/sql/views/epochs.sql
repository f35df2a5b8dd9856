-- A row is an epoch of a trial, ended or running.
CREATE OR REPLACE VIEW epochs AS
SELECT epochs.*
FROM newest.epochs AS epochs
SEMI JOIN newest.members AS members
    ON members.results = epochs.results AND members.trial_id = epochs.trial_id;
