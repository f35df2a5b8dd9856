"""The numbers of the views, against plain Python and NumPy."""

from __future__ import annotations

import math
import statistics
from collections import Counter

import pytest
from scipy import stats

from analysis import connect, make_table
from analysis.charts.catalog import PLOTS
from analysis.results.database import rows


def three_trials(sweep, values, **columns):
    """Store a cell of one config with a trial per value of val_top1; return the view `cells`."""
    for seed, value in enumerate(values):
        row = sweep.trial(sweep.planned({"arch": "cnn3"}, seed), val_top1=value, **columns)
        sweep.store(row)
    sweep.write_plan()
    return rows(connect(sweep.folder), "FROM cells")


def test_mean_sd_and_t_interval_by_hand(blank):
    (cell,) = three_trials(blank(), [0.90, 0.92, 0.97])
    assert cell["n"] == 3
    assert cell["val_top1_mean"] == pytest.approx(0.93, abs=1e-12)
    sd = math.sqrt((0.03**2 + 0.01**2 + 0.04**2) / 2)
    assert cell["val_top1_sd"] == pytest.approx(sd, abs=1e-12)
    half = 4.302653 * sd / math.sqrt(3)  # the 0.975 quantile of t with 2 degrees of freedom
    assert cell["val_top1_low"] == pytest.approx(0.93 - half, abs=1e-9)
    assert cell["val_top1_high"] == pytest.approx(0.93 + half, abs=1e-9)


def test_one_trial_has_a_mean_and_no_spread(blank):
    (cell,) = three_trials(blank(), [0.9])
    assert (cell["n"], cell["val_top1_mean"]) == (1, 0.9)
    assert cell["val_top1_sd"] is cell["val_top1_low"] is cell["val_top1_high"] is None


def test_nan_and_null_count_as_missing(blank):
    (cell,) = three_trials(blank(), [0.9, math.nan, 0.8], energy_j=None, test_ece=math.nan)
    assert cell["n"] == 3
    assert cell["val_top1_mean"] == pytest.approx(0.85)
    assert cell["val_top1_sd"] == pytest.approx(statistics.stdev([0.9, 0.8]))
    assert cell["energy_j_mean"] is None
    assert cell["test_ece_mean"] is None


def test_times_on_a_shared_gpu_do_not_count(blank):
    sweep = blank()
    for seed, (share, epoch_s) in enumerate([(1.0, 2.0), (0.5, 30.0), (None, 4.0)]):
        times = {"epoch_time_s": epoch_s, "latency_ms_p50": epoch_s, "wall_time_s": epoch_s}
        row = sweep.trial(sweep.planned({"arch": "cnn3"}, seed), gpu_share=share, **times)
        sweep.store(row)
    sweep.write_plan()
    connection = connect(sweep.folder)
    (cell,) = rows(connection, "FROM cells")
    assert (cell["n"], cell["epoch_time_s_mean"], cell["latency_ms_p50_mean"]) == (3, 3.0, 3.0)
    assert cell["wall_time_s_mean"] == 12.0
    said = "1 of the trials shared a GPU"
    assert said in make_table(connection, "comparison").caption
    assert said not in make_table(connection, "coverage").caption
    assert said in str(PLOTS["latency-vs-params"][0](connection).to_dict()["title"])
    assert said not in str(PLOTS["accuracy-vs-params"][0](connection).to_dict()["title"])


@pytest.mark.parametrize("df", [1, 2, 5, 30, 31, 60, 200])
def test_t_quantiles_are_students(opened, df):
    (quantile_row,) = rows(opened, "SELECT quantiles[$df] AS q FROM held.student", df=df)
    assert quantile_row["q"] == pytest.approx(stats.t.ppf(0.975, df), abs=1.5e-6)


def test_cells_have_every_metric_in_four_columns(opened):
    names = set(opened.sql("FROM cells").columns)
    means = {name.removesuffix("_mean") for name in names if name.endswith("_mean")}
    assert {"val_top1", "test_top1", "test_loss", "test_macro_f1", "test_ece"} < means
    assert {"epoch_time_s", "train_time_s", "latency_ms_p50", "peak_memory_mib"} < means
    assert len(means) == 23
    for metric in means:
        assert {f"{metric}_sd", f"{metric}_low", f"{metric}_high"} < names


def test_only_complete_trials_make_cells(opened):
    connection = opened
    assert connection.execute("SELECT count(*), sum(n) FROM cells").fetchone() == (13, 21)


def test_best_is_the_highest_mean_val_top1(blank):
    sweep = blank()
    for lr, values in {0.1: [0.9, 0.8, 0.8], 0.2: [0.86, 0.86], 0.3: [0.8]}.items():
        for seed, value in enumerate(values):
            planned = sweep.planned({"arch": "cnn3", "lr": lr}, seed, cell_id="c", cell='{"a": 1}')
            sweep.store(sweep.trial(planned, val_top1=value))
    sweep.write_plan()
    (best,) = rows(connect(sweep.folder), "FROM best")
    assert (best["lr"], best["n"], best["configs"]) == (0.2, 2, 3)


@pytest.mark.slow
def test_best_prefers_confirmed_rows(blank):
    sweep = blank()
    for lr, role, value in [
        (0.1, "searched", 0.99),
        (0.2, "searched", 0.9),
        (0.2, "confirmed", 0.8),
    ]:
        seed = 1_000_000 if role == "confirmed" else 0
        planned = sweep.planned({"lr": lr, "arch": "cnn3"}, seed, cell_id="c", role=role)
        sweep.store(sweep.trial(planned, val_top1=value))
    sweep.write_plan()
    (best,) = rows(connect(sweep.folder), "FROM best")
    assert (best["lr"], best["role"], best["val_top1_mean"]) == (0.2, "confirmed", 0.8)
    assert len(rows(connect(sweep.folder), "FROM cells")) == 3
    assert len(rows(connect(sweep.folder), "FROM pareto")) == 1


def test_coverage_adds_up_in_every_cell(opened):
    view_rows = rows(opened, "FROM coverage")
    assert len(view_rows) == 13
    for row in view_rows:
        states = ("running", "complete", "pruned", "failed", "diverged", "missing")
        assert row["planned"] == sum(row[state] for state in states)
    total: Counter[str] = Counter()
    for row in view_rows:
        total.update({key: value for key, value in row.items() if isinstance(value, int)})
    expected = {"planned": 28, "complete": 21, "pruned": 1, "failed": 1, "diverged": 1}
    assert {key: total[key] for key in expected} == expected
    assert (total["missing"], total["running"]) == (4, 0)


def test_a_planned_trial_has_one_state(opened):
    view_rows = rows(opened, "SELECT state, count(*) AS n FROM coverage_trials GROUP BY ALL")
    assert {row["state"]: row["n"] for row in view_rows} == {
        "complete": 21,
        "pruned": 1,
        "failed": 1,
        "diverged": 1,
        "planned": 4,
    }


def test_confusion_counts_every_test_image(opened):
    connection = opened
    view_rows = connection.execute(
        "SELECT trial_id, sum(n), sum(n) FILTER (label = predicted) FROM confusion GROUP BY 1"
    ).fetchall()
    right = connection.execute(
        "SELECT trial_id, count(*) FILTER (label = predicted) FROM predictions GROUP BY 1"
    ).fetchall()
    assert len(view_rows) == 21
    assert {total for _, total, _ in view_rows} == {60}
    assert {trial: correct for trial, _, correct in view_rows} == dict(right)


def test_learning_curves_leave_out_failed_and_diverged_trials(opened):
    view_rows = rows(
        opened,
        "SELECT epoch, n FROM learning_curves "
        "WHERE cell ->> '$.arch' = 'resnet18' AND cell ->> '$.optimizer' = 'sgd' "
        "AND cell ->> '$.lr' = '0.01' ORDER BY epoch",
    )
    assert [(row["epoch"], row["n"]) for row in view_rows] == [(1, 1), (2, 1), (3, 1), (4, 1)]


def test_learning_curves_are_means_over_seeds(opened):
    connection = opened
    (curve,) = rows(
        connection, "FROM learning_curves WHERE epoch = 2 AND n = 2 ORDER BY cell, epoch LIMIT 1"
    )
    values = [
        row["val_top1"]
        for row in rows(
            connection,
            "SELECT e.val_top1 FROM epochs e JOIN trials t USING (trial_id) "
            "WHERE e.epoch = 2 AND t.config_id = $config",
            config=curve["config_id"],
        )
    ]
    assert curve["val_top1_mean"] == pytest.approx(statistics.mean(values))
    assert curve["val_top1_sd"] == pytest.approx(statistics.stdev(values))


def test_running_trials_have_learning_curves(opened):
    view_rows = rows(
        opened,
        "SELECT epoch, n FROM learning_curves WHERE cell ->> '$.optimizer' = 'adamw' ORDER BY 1",
    )
    assert [(row["epoch"], row["n"]) for row in view_rows] == [(1, 2), (2, 2), (3, 1), (4, 1)]


def test_pareto_keeps_configs_that_no_other_beats(blank):
    sweep = blank()
    costs = {  # name: test_top1, params, macs, latency
        "small": (0.80, 10, 10, 1.0),
        "large": (0.95, 100, 100, 3.0),
        "beaten": (0.79, 20, 20, 2.0),
        "quick": (0.85, 200, 200, 0.5),
        "unmeasured": (0.96, 90, 90, None),
        "twin": (0.80, 10, 10, 1.0),
        "lean": (0.80, 20, 5, 2.0),
    }
    for name, (top1, params, macs, latency) in costs.items():
        planned = sweep.planned({"arch": name}, 0)
        columns = {"test_top1": top1, "trainable_params": params, "macs": macs}
        sweep.store(sweep.trial(planned, **columns, latency_ms_p50=latency))
    sweep.write_plan()
    by_arch = {row["arch"]: row for row in rows(connect(sweep.folder), "FROM pareto")}
    assert set(by_arch) == {"small", "large", "quick", "unmeasured", "twin", "lean"}
    assert not by_arch["large"]["params_front"]
    assert by_arch["unmeasured"]["params_front"]
    assert not by_arch["quick"]["params_front"]
    assert by_arch["quick"]["latency_front"]


def test_data_sets_have_fronts_of_their_own(blank):
    sweep = blank()
    for dataset, top1 in {"digits": 0.99, "cifar10": 0.5}.items():
        planned = sweep.planned({"arch": "cnn3", "dataset": dataset}, 0)
        sweep.store(sweep.trial(planned, test_top1=top1, latency_ms_p50=1.0))
    sweep.write_plan()
    assert len(rows(connect(sweep.folder), "FROM pareto")) == 2
