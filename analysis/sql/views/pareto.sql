-- A row is a config that no other config of its data set beats in test_top1 (up),
-- trainable_params, macs and latency_ms_p50 (down) at once. The *_front columns say whether it is
-- also unbeaten in test_top1 and that one cost alone. If a cell has confirmed rows, only these
-- count; a cost that was not measured loses to any that was.
CREATE OR REPLACE VIEW pareto AS
WITH candidates AS (
    SELECT *
    FROM cells
    WHERE test_top1_mean IS NOT NULL
    QUALIFY role IS NOT DISTINCT FROM 'confirmed'
        OR NOT bool_or(role IS NOT DISTINCT FROM 'confirmed')
            OVER (PARTITION BY results, cell_id)
),

costs AS (
    SELECT
        *,
        coalesce(trainable_params, 'inf'::DOUBLE) AS params_cost,
        coalesce(macs, 'inf'::DOUBLE) AS macs_cost,
        coalesce(latency_ms_p50_mean, 'inf'::DOUBLE) AS latency_cost
    FROM candidates
),

-- b beats a if it is at least as good in everything and better in something.
compared AS (
    SELECT
        a.results,
        a.cell_id,
        a.config_id,
        b.test_top1_mean >= a.test_top1_mean AS accurate,
        b.test_top1_mean > a.test_top1_mean AS more_accurate,
        b.params_cost <= a.params_cost AS small,
        b.params_cost < a.params_cost AS smaller,
        b.macs_cost <= a.macs_cost AS cheap,
        b.macs_cost < a.macs_cost AS cheaper,
        b.latency_cost <= a.latency_cost AS fast,
        b.latency_cost < a.latency_cost AS faster
    FROM costs AS a
    JOIN costs AS b
        ON b.results = a.results
        AND b.dataset IS NOT DISTINCT FROM a.dataset
        AND b.labels IS NOT DISTINCT FROM a.labels
),

fronts AS (
    SELECT
        results,
        cell_id,
        config_id,
        NOT bool_or(accurate AND small AND (more_accurate OR smaller)) AS params_front,
        NOT bool_or(accurate AND cheap AND (more_accurate OR cheaper)) AS macs_front,
        NOT bool_or(accurate AND fast AND (more_accurate OR faster)) AS latency_front,
        NOT bool_or(
            accurate AND small AND cheap AND fast
            AND (more_accurate OR smaller OR cheaper OR faster)
        ) AS joint_front
    FROM compared
    GROUP BY results, cell_id, config_id
)

SELECT candidates.*, fronts.params_front, fronts.macs_front, fronts.latency_front
FROM candidates
JOIN fronts
    ON fronts.results = candidates.results
    AND fronts.cell_id = candidates.cell_id
    AND fronts.config_id = candidates.config_id
WHERE fronts.joint_front;
