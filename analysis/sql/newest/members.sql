-- A row is a trial that tables count, with its cell and role: those of the newest plan, all
-- trials of a folder without a plan, and with `all` also trials that only an older plan had.
CREATE OR REPLACE VIEW newest.members AS
WITH planned AS (
    SELECT results, trial_id, cell_id, cell, config_id, role, config, seed, fold, epochs
    FROM main.plan
    WHERE trial_id IS NOT NULL
    QUALIFY row_number() OVER (PARTITION BY results, trial_id ORDER BY position) = 1
),

older AS (
    SELECT folders.results, trial_id, arg_max(cell_id, written_at) AS cell_id,
        arg_max(cell, written_at) AS cell
    FROM held.plan
    JOIN held.folders AS folders ON folders.path = folder_of(file)
    WHERE trial_id IS NOT NULL
    GROUP BY ALL
),

-- Without a plan the trial's config stands for its cell.
unplanned AS (
    SELECT
        trials.results,
        trials.trial_id,
        coalesce(older.cell_id, trials.config_id) AS cell_id,
        coalesce(older.cell, to_json({
            'arch': arch, 'dataset': dataset, 'optimizer': optimizer, 'lr': lr
        })::VARCHAR) AS cell,
        trials.config_id,
        trials.role,
        trials.config,
        trials.seed,
        trials.fold,
        trials.epochs
    FROM newest.trials AS trials
    LEFT JOIN older ON older.results = trials.results AND older.trial_id = trials.trial_id
    WHERE NOT EXISTS (
        FROM planned
        WHERE planned.results = trials.results AND planned.trial_id = trials.trial_id
    ) AND (
        (SELECT all_trials FROM held.options)
        OR NOT EXISTS (FROM newest.plan AS plan WHERE plan.results = trials.results)
    )
)

SELECT *, true AS planned FROM planned
UNION ALL BY NAME
SELECT *, false AS planned FROM unplanned;
