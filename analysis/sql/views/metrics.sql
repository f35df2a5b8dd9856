-- A row is a metric that the sweep asked for: of a trial, on a split, after an epoch.
CREATE OR REPLACE VIEW metrics AS
SELECT metrics.*
FROM newest.metrics AS metrics
SEMI JOIN newest.members AS members
    ON members.results = metrics.results AND members.trial_id = metrics.trial_id;
