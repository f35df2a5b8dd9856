-- A row is a cell and an enhancement that validation chose: its effect on the test images.
SELECT
    trials.results,
    trials.cell_id,
    trials.cell,
    enhancement.transform,
    string_agg(
        DISTINCT concat_ws(
            ', ',
            'brightness ' || enhancement.brightness,
            'contrast ' || enhancement.contrast,
            'sharpness ' || enhancement.sharpness
        ),
        '; '
    ) AS factors,
    count(*) AS n,
    avg(
        COLUMNS([
            'wrong_before', 'repaired', 'broken', 'net_change', 'top1_before', 'top1_after',
            'repaired_share', 'random_repaired', 'random_broken', 'random_net_change'
        ]) ORDER BY enhancement.trial_id
    ) AS '\0_mean',
    stddev_samp(
        COLUMNS([
            'wrong_before', 'repaired', 'broken', 'net_change', 'top1_before', 'top1_after',
            'repaired_share', 'random_repaired', 'random_broken', 'random_net_change'
        ]) ORDER BY enhancement.trial_id
    ) AS '\0_sd'
FROM enhancement
JOIN trials
    ON trials.results = enhancement.results AND trials.trial_id = enhancement.trial_id
WHERE enhancement.split = 'test'
GROUP BY trials.results, trials.cell_id, trials.cell, enhancement.transform
ORDER BY
    trials.results,
    top1_before_mean DESC,
    trials.cell_id,
    list_position(['brightness', 'contrast', 'sharpness', 'combined'], enhancement.transform);
