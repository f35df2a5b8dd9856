-- A row is a cell's winner: mean and standard deviation of one measure over its complete trials.
SELECT
    trials.results,
    trials.cell_id,
    avg(measures.value ORDER BY trials.trial_id) AS value_mean,
    stddev_samp(measures.value ORDER BY trials.trial_id) AS value_sd
FROM winner_measures AS measures
JOIN winner_trials AS trials
    ON trials.results = measures.results
    AND trials.trial_id = measures.trial_id
    AND trials.place = measures.place
WHERE measures.measure = $measure
GROUP BY trials.results, trials.cell_id;
