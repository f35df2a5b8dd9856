-- Base of all other files here: schemas, results folders, claims of running trials, macros.
CREATE SCHEMA empty;  -- the tables' columns and types, without rows
CREATE SCHEMA loaded; -- tables read from files
CREATE SCHEMA held;   -- one view per table: on empty at first, on loaded once it is read
CREATE SCHEMA newest; -- one row per trial, epoch, ...: the newest

CREATE TABLE held.options (all_trials BOOLEAN);
CREATE TABLE held.folders (
    results VARCHAR,
    path VARCHAR,
    argument_index BIGINT,
    many_files BOOLEAN -- whether a table has thousands of small files
);
CREATE TABLE held.damaged (results VARCHAR, table_name VARCHAR, file VARCHAR, reason VARCHAR);
CREATE TABLE held.running (
    results VARCHAR,
    trial_id VARCHAR,
    host VARCHAR,
    pid BIGINT,
    slot BIGINT,
    device VARCHAR,
    attempt BIGINT,
    started_at DOUBLE,
    wall_time_s DOUBLE,
    heartbeat DOUBLE,
    epoch BIGINT,
    epochs BIGINT,
    val_top1 DOUBLE,
    objective DOUBLE,
    cpu_wait DOUBLE,
    silent_s DOUBLE
);
-- The objective of a config by its name, and whether lower is better: as `LOWER_IS_BETTER` of
-- `cnncore/config/objective.py`.
CREATE MACRO objective_name(config) AS coalesce(config ->> '$.objective', 'val_top1');
CREATE MACRO lower_is_better(name) AS regexp_matches(name, '[_:](loss|error|deviance)$');

-- The score by which configs, trials and epochs rank: the objective, negated if lower is better.
-- Null, the worst, if the objective has no value.
CREATE MACRO score(config, val_top1, objective) AS nullif(CASE
    WHEN objective_name(config) = 'val_top1' THEN val_top1
    WHEN lower_is_better(objective_name(config)) THEN -objective
    ELSE objective
END, 'nan'::DOUBLE);

-- A tenth worse than the best score, whatever its sign: 0.9 of an accuracy, 1.1 of a loss.
CREATE MACRO tenth_below(best) AS best - 0.1 * abs(best);

-- results/<sweep> of results/<sweep>/<table>/<name>.parquet
CREATE MACRO folder_of(file) AS parse_dirpath(parse_dirpath(file));

-- A trial's own file wins over compacted ones, the highest compacted one over the others.
CREATE MACRO file_rank(file) AS coalesce(
    TRY_CAST(regexp_extract(parse_filename(file), '^compacted-(\d+)\.parquet$', 1) AS BIGINT),
    9223372036854775807
);

-- The 0.975 quantiles of Student's t for 1 to 200 degrees of freedom, in one row, so that views can
-- carry the list. Up to 30 as printed in the NIST/SEMATECH e-Handbook, 1.3.6.7.2, to more digits;
-- then by the expansion of Abramowitz and Stegun 26.7.5, right to 1e-6.
CREATE TABLE held.student AS
SELECT [
    12.706205, 4.302653, 3.182446, 2.776445, 2.570582,
    2.446912, 2.364624, 2.306004, 2.262157, 2.228139,
    2.200985, 2.178813, 2.160369, 2.144787, 2.131450,
    2.119905, 2.109816, 2.100922, 2.093024, 2.085963,
    2.079614, 2.073873, 2.068658, 2.063899, 2.059539,
    2.055529, 2.051831, 2.048407, 2.045230, 2.042272
]::DOUBLE[] || [
    1.959963985::DOUBLE
    + 2.372271230::DOUBLE / df
    + 2.822498616::DOUBLE / df ** 2
    + 2.555849680::DOUBLE / df ** 3
    + 1.589534053::DOUBLE / df ** 4
    FOR df IN range(31, 201)
] AS quantiles;

-- Ends of the 95 % t interval of the mean of x, summed in the order of sort_key; null below two
-- values. Beyond 201 values it is that of 200 degrees of freedom, at most 0.6 % too wide.
CREATE MACRO half_width(x, quantiles, sort_key) AS
    any_value(quantiles)[least(count(x) - 1, 200)]
    * stddev_samp(x ORDER BY sort_key) / sqrt(count(x));
CREATE MACRO interval_low(x, quantiles, sort_key) AS
    avg(x ORDER BY sort_key) - half_width(x, quantiles, sort_key);
CREATE MACRO interval_high(x, quantiles, sort_key) AS
    avg(x ORDER BY sort_key) + half_width(x, quantiles, sort_key);
