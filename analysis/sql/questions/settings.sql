-- A row is a config of the newest plan, with the compared axes of its cell and the tuned ones.
WITH tuned AS (
    SELECT results, cell_id, any_value(params) AS params
    FROM newest.asked
    GROUP BY ALL
)

SELECT
    any_value(members.cell) AS cell,
    any_value(tuned.params) AS params,
    any_value(coalesce(members.config, trials.config)) AS config,
    any_value(trials.image_size) AS image_size
FROM newest.members AS members
LEFT JOIN tuned
    ON tuned.results = members.results AND tuned.cell_id = members.cell_id
LEFT JOIN newest.trials AS trials
    ON trials.results = members.results AND trials.trial_id = members.trial_id
GROUP BY members.results, members.cell_id, members.config_id
ORDER BY members.results, members.cell_id, members.config_id;
