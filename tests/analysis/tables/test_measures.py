"""Tables and figures by another number than test top-1: order, verdicts, axes and captions."""

import json

import pytest

from analysis import AnalysisError, connect, make_table
from analysis.charts.catalog import make_plot
from analysis.results.database import rows
from analysis.tables.measures import default_measure, find_measure
from tests.analysis.conftest import metric_rows

# The network with the higher accuracy has the higher loss: each seed and data set says so.
TOP1 = {"cnn3": 0.95, "lenet": 0.90}
LOSS = {"cnn3": 0.8, "lenet": 0.5}


@pytest.fixture
def opened_with(blank):
    def make(objective: str | None, own: str | None = None):
        sweep = blank()
        for arch in TOP1:
            for dataset in ("digits", "cifar10", "mnist", "svhn"):
                for seed in range(3):
                    axes = {"arch": arch, "dataset": dataset}
                    config = {**axes, "lr": 0.1, **({"objective": objective} if objective else {})}
                    planned = sweep.planned(axes, seed, config=json.dumps(config))
                    small = seed * (0.001 if arch == "cnn3" else 0.002)
                    row = sweep.trial(
                        planned,
                        val_top1=TOP1[arch],
                        test_top1=TOP1[arch] - small,
                        test_loss=LOSS[arch] + small,
                        objective=LOSS[arch] if objective else None,
                    )
                    sweep.store(row)
                    sweep.write("metrics", row["trial_id"], metric_rows(row))
        sweep.write_plan()
        return connect(sweep.folder)

    return make


def values(spec, encoding):
    """Return the titles of an encoding at any depth of a figure."""
    found = []
    if isinstance(spec, dict):
        if isinstance(spec.get(encoding), dict) and "title" in spec[encoding]:
            found.append(spec[encoding]["title"])
        for item in spec.values():
            found += values(item, encoding)
    elif isinstance(spec, list):
        for item in spec:
            found += values(item, encoding)
    return found


def test_tables_and_figures_follow_the_objective_and_know_that_a_lower_loss_is_better(opened_with):
    connection = opened_with("val_loss")
    assert default_measure(connection).name == "test_loss"
    comparison = make_table(connection, "comparison")
    assert [row[0] for row in comparison.rows] == ["lenet"] * 4 + ["cnn3"] * 4
    assert comparison.titles()[3:5] == ["n", "test loss"]
    assert [row[4].mean for row in comparison.rows[::4]] == pytest.approx([0.502, 0.801])
    assert "sorted by test loss (lower is better)" in comparison.caption
    (pair,) = make_table(connection, "paired").rows
    assert pair[:2] == ("lenet", "cnn3")
    assert pair[-1] == "lenet better"
    assert pair[5] == pytest.approx(-0.299)
    ranking = make_table(connection, "ranking")
    assert [row[:3] for row in ranking.rows] == [
        ("lenet", 1.0, pytest.approx(0.502)),
        ("cnn3", 2.0, pytest.approx(0.801)),
    ]
    assert "Mean rank by test loss (lower is better)" in ranking.caption
    # The other way round by accuracy, if one asks for it.
    assert [r[0] for r in make_table(connection, "ranking", "test_top1").rows] == ["cnn3", "lenet"]
    assert make_table(connection, "paired", "top1").rows[0][-1] == "cnn3 better"
    by_top1 = make_table(connection, "comparison", "test_top1")
    assert [row[0] for row in by_top1.rows] == ["cnn3"] * 4 + ["lenet"] * 4
    scatter = make_plot(connection, "accuracy-vs-params")
    assert "test loss, lower is better" in values(scatter, "y")
    assert scatter["title"]["text"] == "Test loss against parameters"
    assert "test top-1 (%)" in values(make_plot(connection, "accuracy-vs-macs", "test_top1"), "y")
    bars = make_plot(connection, "final-bars")
    assert [t for t in values(bars, "x") if t] == ["test loss", "test top-1 (%)"]
    assert "best at the top: test loss (lower is better)" in bars["title"]["subtitle"]
    assert (
        "by test loss (lower is better)" in make_plot(connection, "ranks")["title"]["subtitle"][0]
    )


def test_any_number_of_the_trials_can_be_named_and_others_are_refused(opened_with):
    connection = opened_with(None)
    assert default_measure(connection).name == "test_top1"
    assert find_measure(connection, "mine:cost").name == "test_mine:cost"
    assert find_measure(connection, "objective").name == "val_top1"
    assert [
        find_measure(connection, name).lower_is_better
        for name in ("ece", "val_loss", "val_macro_f1", "test_macro_f1")
    ] == [True, True, False, False]
    table = make_table(connection, "comparison", "mine:cost")
    assert table.titles().count("test mine:cost") == 1
    assert "sorted by test mine:cost." in table.caption
    # A number that trials have anyway is theirs, whatever the table of metrics holds.
    (stored,) = rows(
        connection,
        "SELECT count(*) AS n, count(DISTINCT trial_id) AS trials FROM winner_measures "
        "WHERE measure = 'test_macro_f1'",
    )
    assert stored == {"n": 24, "trials": 24}
    for arguments, text in (
        (
            ("comparison", "test_los"),
            r"no trial has a metric test_los \(did you mean test_loss\?\)",
        ),
        (("coverage", "test_loss"), "a metric goes with comparison, paired, ranking, not with cov"),
    ):
        with pytest.raises(AnalysisError, match=text):
            make_table(connection, *arguments)
    with pytest.raises(AnalysisError, match="a metric goes with accuracy-vs-params"):
        make_plot(connection, "curves", "test_loss")
