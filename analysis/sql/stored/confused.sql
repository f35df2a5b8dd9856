-- A row is a pair of true and predicted class of a split of a trial in a file of predictions.
-- Over the table `predictions` if that is read; else counted while its files are read, because
-- ten million predictions take gigabytes.
CREATE OR REPLACE VIEW held.confused AS
SELECT trial_id, split, label, predicted, count(*) AS n, file
FROM held.predictions
GROUP BY ALL;

CREATE TABLE empty.confused AS FROM held.confused;
