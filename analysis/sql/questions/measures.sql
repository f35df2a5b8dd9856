-- A row is a number by which the winners of cells can be compared: at least one trial has it.
SELECT
    measure,
    lower_is_better(measure) OR measure IN ('val_ece', 'test_ece') AS lower_is_better
FROM winner_measures
WHERE value IS NOT NULL
GROUP BY measure
ORDER BY measure;
