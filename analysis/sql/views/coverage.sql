-- A row is a cell: its planned trials, counted by state.
CREATE OR REPLACE VIEW coverage AS
SELECT
    cell_id,
    any_value(cell) AS cell,
    count(*) AS planned,
    count(*) FILTER (state = 'running') AS running,
    count(*) FILTER (state = 'paused') AS paused,
    count(*) FILTER (state = 'complete') AS complete,
    count(*) FILTER (state = 'pruned') AS pruned,
    count(*) FILTER (state = 'failed') AS failed,
    count(*) FILTER (state = 'diverged') AS diverged,
    count(*) FILTER (state = 'planned') AS missing,
    min(position) AS position,
    results
FROM coverage_trials
GROUP BY results, cell_id
ORDER BY results, position;
