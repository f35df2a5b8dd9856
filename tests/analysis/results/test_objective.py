"""Winners by the objective, and the metrics of a sweep file, in views, tables and figures."""

import pytest

from analysis import make_table, open_results
from analysis.charts.catalog import make_plot
from analysis.results.database import rows
from analysis.results.sql_files import sql
from cnncore.config import OBJECTIVES, Objective


def test_sql_and_python_agree_which_direction_is_better(opened):
    names = [*OBJECTIVES, "a.b:cost_error", "m:loss", "m:terror", "m:error_rate", "m:x_deviance"]
    assert sum(Objective(name).lower_is_better for name in names) == 4
    for name in names:
        (answer,) = opened.execute("SELECT lower_is_better(?)", [name]).fetchone()
        assert answer == Objective(name).lower_is_better, name


def test_the_winner_of_a_cell_is_the_best_by_its_objective(measured):
    best = measured.execute(
        "SELECT arch, labels, objective_mean FROM best ORDER BY arch"
    ).fetchall()
    assert best == [
        ("cnn3", "good", pytest.approx(0.55)),
        ("mobilenet_small", "high", None),
        ("resnet18", "rare", 0.7),
    ]
    # `lost` has a lower mean than the winner, over the one trial that has a value.
    lost = "SELECT objective_mean, objective_missing, n FROM cells WHERE labels = 'lost'"
    assert measured.execute(lost).fetchall() == [(0.1, 1, 2)]
    winner = rows(measured, sql("questions/winner"))
    assert [row["seed"] for row in winner] == [0]


def test_a_missing_objective_is_the_worst_of_a_cell(measured):
    searched = rows(measured, sql("questions/searched"))
    scores = {row["config_id"]: row["score"] for row in searched if row["objective"] == "val_loss"}
    assert sorted(scores.values(), key=str) == [pytest.approx(-0.55), pytest.approx(-0.85), None]


def test_metrics_are_columns_of_the_comparison_and_captions_name_the_objective(measured):
    table = make_table(measured, "comparison")
    titles = table.titles()
    assert titles.index("objective") == titles.index("val top-1 (%)") + 1
    assert {"test macro-F1 (%)", "test mine:cost"} <= set(titles)
    (good,) = (row for row in table.rows if "cnn3" in row)
    assert good[titles.index("test mine:cost")].mean == pytest.approx(0.9)
    assert "Winners were chosen by val_loss (lower is better) and val_macro_f1 (higher" in (
        table.caption
    )
    assert "val_loss (lower is better)" in make_table(measured, "per-class").caption


def test_cell_metrics_are_those_of_the_chosen_epoch_and_curves_have_all(measured):
    answer = measured.execute(
        "SELECT split, name, n, missing FROM cell_metrics WHERE config_id = (SELECT config_id FROM "
        "best WHERE arch = 'cnn3') ORDER BY ALL"
    ).fetchall()
    assert answer == [(s, n, 2, 0) for s in ("test", "val") for n in ("macro_f1", "mine:cost")]
    curves = rows(measured, sql("questions/metric_curves"), most=40)
    epochs = [[row["epoch"] for row in curves if row["name"] == name and row["n"] == 2]
              for name in ("macro_f1", "mine:cost")]  # fmt: skip
    assert epochs == [[1, 2, 3, 4], [2, 3, 4]], "the missing value of epoch 1 is not drawn as one"
    assert len(make_plot(measured, "metric-curves")["vconcat"]) == 2


def test_without_an_objective_everything_goes_by_accuracy(opened, tiny):
    assert opened.execute(
        "SELECT count(objective_mean), sum(objective_missing) FROM best"
    ).fetchall() == [(0, 0)]
    assert "objective" not in make_table(opened, "comparison").titles()
    assert open_results(tiny).execute("FROM metrics").fetchall() == []
