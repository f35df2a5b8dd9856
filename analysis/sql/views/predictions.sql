-- A row is a test image of a trial.
CREATE OR REPLACE VIEW predictions AS
SELECT predictions.*
FROM newest.predictions AS predictions
SEMI JOIN newest.members AS members
    ON members.results = predictions.results AND members.trial_id = predictions.trial_id;
