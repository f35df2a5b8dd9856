-- A row is a pair of true and predicted class of a split of a trial, with the images that have it.
CREATE OR REPLACE VIEW confusion AS
SELECT trial_id, split, label, predicted, count(*) AS n, results
FROM predictions
GROUP BY results, trial_id, split, label, predicted;
