"""Curves by epoch: accuracy, loss and learning rate of every cell's winner."""

from __future__ import annotations

from itertools import count
from typing import Any

import altair as alt

from analysis.charts.parts.encodings import (
    Points,
    cell_roles,
    colour_encoding,
    dash_encoding,
    log_scale,
    plain,
    tooltips,
    varies,
)
from analysis.charts.parts.leading import MOST_LINES, others_note
from analysis.charts.parts.style import Chart
from analysis.results.database import Connection, rows
from analysis.results.sql_files import sql
from analysis.tables.cell_labels import Row, cell_label, cell_value
from analysis.tables.objectives import kind_of, title_of

Point = dict[str, Any]

OVER_TRIALS = "mean ± standard deviation over the trials that reached the epoch"


def val_top1(connection: Connection) -> Chart | None:
    """Draw validation accuracy by epoch of every cell's winner, a panel per network."""
    records = rows(connection, sql("questions/curves"), most=MOST_LINES)
    panel, colour, axes = cell_roles(records)
    others = [axis for axis in axes if axis not in (panel, colour) and varies(records, axis)]
    points = [
        {
            **point,
            "colour": plain(cell_value(row, colour)) if colour else "",
            "dash": " · ".join(f"{axis} {plain(cell_value(row, axis))}" for axis in others),
        }
        for row, point in _points(records, "val_top1", 100.0)
    ]
    if not points:
        return None
    figure: Chart = _panels(points, "val top-1 (%)", axes, colour).properties(
        title=dict(text="Learning curves", subtitle=[OVER_TRIALS, *_others(records)])
    )
    return figure


def both_splits(connection: Connection) -> Chart | None:
    """Draw accuracy and loss by epoch on train and val of each winner, a panel per network."""
    records = rows(connection, sql("questions/curves"), most=MOST_LINES)
    _, _, axes = cell_roles(records)
    charts = []
    for measure, factor, title in (("top1", 100.0, "top-1 (%)"), ("loss", 1.0, "loss")):
        points = [
            {**point, "dash": split}
            for split in ("train", "val")
            for _, point in _points(records, f"{split}_{measure}", factor)
        ]
        log = measure == "loss" and all(point["value"] > 0 for point in points)
        if points:
            charts.append(_panels(points, title, axes, "setting", log=log))
    if not charts:
        return None
    subtitle = [
        OVER_TRIALS,
        "train: running mean in training mode, on augmented images",
        *_others(records),
    ]
    figure: Chart = alt.vconcat(*charts).properties(
        title=dict(text="Training and validation", subtitle=subtitle)
    )
    return figure


def metrics(connection: Connection) -> Chart | None:
    """Draw each metric that the sweep asked for by epoch of every cell's winner, on validation."""
    records = rows(connection, sql("questions/metric_curves"), most=MOST_LINES)
    _, _, axes = cell_roles(records)
    charts = []
    for name in dict.fromkeys(row["name"] for row in records):
        of_name = [row for row in records if row["name"] == name]
        factor = 100.0 if kind_of(name) == "percent" else 1.0
        points = [{**point, "dash": ""} for _, point in _points(of_name, "value", factor)]
        charts.append(_panels(points, plain(title_of(name)), axes, "setting"))
    if not charts:
        return None
    figure: Chart = alt.vconcat(*charts).properties(
        title=dict(text="Metrics on validation", subtitle=[OVER_TRIALS, *_others(records)])
    )
    return figure


def lr_schedule(connection: Connection) -> Chart | None:
    """Draw the learning rate by epoch, and validation accuracy below it, a panel per network."""
    records = rows(connection, sql("questions/curves"), most=MOST_LINES)
    _, _, axes = cell_roles(records)
    charts = [
        _panels([{**point, "dash": ""} for _, point in points], title, axes, "setting")
        for column, factor, title in (
            ("lr", 1.0, "learning rate"),
            ("val_top1", 100.0, "val top-1 (%)"),
        )
        if (points := _points(records, column, factor))
    ]
    if len(charts) < 2:
        return None
    subtitle = ["learning rate at the epoch's last step, of one of the trials", *_others(records)]
    figure: Chart = alt.vconcat(*charts).properties(
        title=dict(text="Learning rate and what it gives", subtitle=subtitle)
    )
    return figure


def _others(records: list[Row]) -> list[str]:
    """Return a line that counts the cells left out; the view `learning_curves` has them all."""
    shown = len({(row["results"], row["cell_id"]) for row in records})
    return others_note(shown, records[0]["cells"], by="validation")


def _points(records: list[Row], column: str, factor: float) -> list[tuple[Row, Point]]:
    """Return the rows that have a column, as points; colours stand for the other axes."""
    panel, _, axes = cell_roles(records)
    others = [axis for axis in axes if axis != panel and varies(records, axis)]
    points = []
    for row in records:
        mean, sd = row.get(f"{column}_mean", row.get(column)), row.get(f"{column}_sd")
        if mean is None:
            continue
        value, spread = mean * factor, None if sd is None else sd * factor
        point = {
            "panel": plain(cell_value(row, panel)),
            "colour": plain(cell_label(row, others)),
            "epoch": row["epoch"],
            "value": value,
            "low": None if spread is None else value - spread,
            "high": None if spread is None else value + spread,
            "trials": row["n"],
            "shown": f"{value:.4g}" + ("" if spread is None else f" ± {spread:.2g}"),
            **{f"axis {axis}": plain(cell_value(row, axis)) for axis in axes},
        }
        points.append((row, point))
    return points


def epoch_ticks(last: int) -> list[int]:
    """Return the labels of an axis from 1 to `last`: round and evenly spaced, at most seven."""
    steps = (factor * 10**power for power in count() for factor in (1, 2, 5))
    step = next(step for step in steps if last <= 6 * step)
    named = range(step, last + 1, step)
    return [*named] if step <= 2 else [1, *named]


def _panels(
    points: list[Point], title: str, axes: list[str], colour: str | None, *, log: bool = False
) -> Chart:
    """Draw lines with bands and dots over epochs, a panel per network, three side by side."""
    if log:  # a band that goes below zero ends at its line
        points = [
            {**p, "low": p["value"] if p["low"] is not None and p["low"] <= 0 else p["low"]}
            for p in points
        ]
    last = max(point["epoch"] for point in points)
    base = alt.Chart().encode(
        x=alt.X(
            "epoch:Q",
            title="epoch",
            scale=dict(domain=[1, max(2, last)], nice=False),
            axis=dict(values=epoch_ticks(last), format="d"),
        ),
        color=colour_encoding(points, colour if any(p["colour"] for p in points) else None),
        detail="dash:N",
    )
    vertical: dict[str, Any] = (
        log_scale([p[end] for p in points for end in ("value", "low", "high") if p[end]])
        if log
        else {"scale": dict(zero=False)}
    )
    y = alt.Y("value:Q", title=title, **vertical)
    layers = [
        base.mark_line(strokeWidth=2).encode(y=y, strokeDash=dash_encoding(points)),
        base.mark_point(filled=True, size=22, opacity=1).encode(
            y=y, tooltip=tooltips([*axes, "epoch", "trials", title], points)
        ),
    ]
    if any(point["low"] is not None for point in points):
        band = base.mark_area(opacity=0.15).encode(
            y=alt.Y("low:Q", title=title, **vertical), y2="high:Q"
        )
        layers.insert(0, band)
    panels = len({point["panel"] for point in points})
    figure: Chart = (
        alt.layer(*layers, data=Points(values=points))
        .properties(width=560 if panels == 1 else 250, height=340 if panels == 1 else 220)
        .facet(facet=alt.Facet("panel:N", title=None, sort=None), columns=min(3, panels))
    )
    return figure
