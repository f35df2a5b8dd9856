-- A row is a pair of true and predicted class of a split of a trial, with the images that have it.
CREATE OR REPLACE VIEW confusion AS
SELECT
    confused.trial_id,
    confused.split,
    confused.label,
    confused.predicted,
    confused.n,
    confused.results
FROM newest.confused AS confused
SEMI JOIN newest.members AS members
    ON members.results = confused.results AND members.trial_id = confused.trial_id;
