"""The table `convergence` and its view, by numbers computed by hand."""

from __future__ import annotations

import json
import math

import pytest

from analysis import AnalysisError, connect, make_table
from analysis.results.database import rows


def trained(sweep, axes, curves, *, column="val_top1", state="complete", **columns):
    """Store trials of a cell, a seed per curve: the values of `column` after each epoch."""
    for seed, curve in enumerate(curves):
        planned = sweep.planned(axes, seed, cell=json.dumps(axes))
        row = sweep.trial(planned, state=state, epochs_run=len(curve), **columns)
        sweep.store(row, epochs=len(curve))
        epochs = [
            {"trial_id": row["trial_id"], "epoch": epoch, "attempt": 1, column: value}
            for epoch, value in enumerate(curve, start=1)
        ]
        sweep.write("epochs", row["trial_id"], epochs)


def table_rows(connection, **options):
    """Return the table's rows by the cells' values, and its caption."""
    table = make_table(connection, "convergence", **options)
    names = [column.name for column in table.columns]
    by_name = [dict(zip(names, row, strict=True)) for row in table.rows]
    return {row["arch"]: row for row in by_name}, table.caption


def approx(spread):
    return (pytest.approx(spread.mean), pytest.approx(spread.sd))


@pytest.mark.slow
def test_first_epochs_swing_fall_and_area_are_those_computed_by_hand(blank):
    sweep = blank()
    trained(sweep, {"arch": "fast"}, [[0.2, 0.6, 0.5, 0.8], [0.4, 0.6, 0.74, 0.8]])
    trained(sweep, {"arch": "slow"}, [[0.1, 0.2, 0.5, 0.75], [0.1, 0.3, 0.6, 0.7]])
    trained(sweep, {"arch": "lost"}, [[0.9, 0.99]], state="pruned")
    sweep.write_plan()
    connection = connect(sweep.folder)
    cells, caption = table_rows(connection)
    assert list(cells) == ["fast", "slow"]  # a pruned trial is no trial, and its 0.99 no best value
    assert "on the data set (72.00 on digits)" in caption
    fast, slow = cells["fast"], cells["slow"]
    assert fast["threshold"].mean == pytest.approx(0.72)
    # 0.72 is reached in epochs 4 and 3; of the others in epoch 4 and never, so there is no mean.
    assert approx(fast["epoch_at_threshold"]) == (3.5, 0.5**0.5)
    assert (fast["reached"], slow["reached"]) == (2, 1)
    assert slow["epoch_at_threshold"].mean is slow["epoch_at_threshold"].sd is None
    # A tenth below 0.8, 0.8, 0.75 and 0.7.
    assert approx(fast["epoch_at_own_best"]) == (3.5, 0.5**0.5)
    assert approx(slow["epoch_at_own_best"]) == (4, 0)
    # (0.4 + 0.1 + 0.3) / 3 and (0.2 + 0.14 + 0.06) / 3
    assert approx(fast["swing"]) == (0.2, (2 / 225) ** 0.5)
    assert approx(fast["largest_fall"]) == (0.05, 0.005**0.5)
    assert approx(slow["largest_fall"]) == (0, 0)
    # 2.1 / 4 and 2.54 / 4
    assert approx(fast["area"]) == (0.58, 0.11 / 2**0.5)
    assert (fast["n"], fast["epochs"]) == (2, "4")
    assert "Swing, fall and mean are over all epochs." in caption

    cells, caption = table_rows(connection, threshold=0.5)
    assert approx(cells["fast"]["epoch_at_threshold"]) == (2, 0)
    assert approx(cells["slow"]["epoch_at_threshold"]) == (3, 0)
    assert "Threshold: as asked for." in caption
    with pytest.raises(
        AnalysisError, match=r"val_top1 is a fraction, but got 60; for 60 % give 0\."
    ):
        make_table(connection, "convergence", threshold=60)
    with pytest.raises(AnalysisError, match="must be a finite number, but got nan"):
        make_table(connection, "convergence", threshold=math.nan)
    with pytest.raises(AnalysisError, match="--threshold is for the table convergence; gap has"):
        make_table(connection, "gap", threshold=0.5)


@pytest.mark.slow
def test_curves_of_other_lengths_data_and_without_values_are_told_apart(blank):
    sweep = blank()
    trained(sweep, {"arch": "long"}, [[0.2, 0.4, 0.1, 0.8]])
    trained(sweep, {"arch": "short"}, [[0.3, 0.5]])
    trained(sweep, {"arch": "gap"}, [[0.3, math.nan, 0.5]])
    trained(sweep, {"arch": "unseen"}, [[None, None, None]])
    trained(sweep, {"arch": "once", "dataset": "flowers"}, [[0.5]])
    sweep.write_plan()
    connection = connect(sweep.folder)
    cells, caption = table_rows(connection)
    # Compared are two epochs of digits, although the rest of a curve counts for first epochs.
    assert cells["long"]["swing"].mean == pytest.approx(0.2)
    assert cells["long"]["largest_fall"].mean == 0
    assert cells["long"]["area"].mean == pytest.approx(0.3)
    assert cells["long"]["epoch_at_threshold"].mean == 4
    assert "the first 2 on digits, which all its trials reached (the longest has 4)" in caption
    # No change goes over a value that is missing.
    assert cells["gap"]["swing"].mean is cells["gap"]["largest_fall"].mean is None
    assert cells["gap"]["area"].mean == 0.3
    unseen = cells["unseen"]
    assert (unseen["n"], unseen["reached"], unseen["area"].mean) == (0, 0, None)
    assert "1 cell has no values on validation." in caption
    # Flowers have a threshold of their own, and one epoch no swing.
    once = cells["once"]
    assert once["threshold"].mean == pytest.approx(0.45)
    assert once["epoch_at_threshold"].mean == 1
    assert once["swing"].mean is once["largest_fall"].mean is None
    assert "(72.00 on digits, 45.00 on flowers)" in caption
    assert "n = 1: no spread over seeds" in caption


@pytest.mark.slow
def test_of_a_loss_lower_is_better(blank):
    sweep = blank()
    curves = [[2.0, 1.05, 1.0, 1.5], [1.2, 1.08, 1.3, 1.0]]
    axes = {"arch": "cnn3", "objective": "val_loss"}
    trained(sweep, axes, curves, column="objective", objective=1.0)
    sweep.write_plan()
    connection = connect(sweep.folder)
    cells, caption = table_rows(connection)
    row = cells["cnn3"]
    assert row["threshold"].mean == pytest.approx(1.1)
    assert approx(row["epoch_at_threshold"]) == (2, 0)
    assert approx(row["largest_fall"]) == (0.36, (0.5 - 0.22) / 2**0.5)
    assert "Val loss on validation" in caption
    cells, _ = table_rows(connection, threshold=1.0)
    assert approx(cells["cnn3"]["epoch_at_threshold"]) == (3.5, 0.5**0.5)
    (first, *_) = rows(connection, "FROM convergence ORDER BY seed")
    assert (first["objective"], first["curve"]) == ("val_loss", curves[0])
