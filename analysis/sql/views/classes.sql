-- A row is a class of a split of a trial.
CREATE OR REPLACE VIEW classes AS
SELECT classes.*
FROM newest.classes AS classes
SEMI JOIN newest.members AS members
    ON members.results = classes.results AND members.trial_id = classes.trial_id;
