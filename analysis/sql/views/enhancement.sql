-- A row is an enhancement of a split by a trial.
CREATE OR REPLACE VIEW enhancement AS
SELECT enhancement.*
FROM newest.enhancement AS enhancement
SEMI JOIN newest.members AS members
    ON members.results = enhancement.results AND members.trial_id = enhancement.trial_id;
