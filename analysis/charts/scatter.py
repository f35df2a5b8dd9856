"""Accuracy of every cell's winner over its cost, and its times over its parameters."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence

import altair as alt

from analysis.charts.parts.encodings import cell_roles
from analysis.charts.parts.leading import MOST_POINTS, others_note
from analysis.charts.parts.pareto_front import front
from analysis.charts.parts.style import Chart
from analysis.charts.scatter_plot import Axis, Look, Point, cell_point, draw_plot
from analysis.results.database import Connection, rows
from analysis.results.sql_files import sql
from analysis.tables.cell_labels import Row
from analysis.tables.measures import Measure, default_measure, measured_cells
from analysis.tables.shared_gpus import shared_gpu_note
from analysis.tables.table_formats import Spread

# Width and height of a plot in pixels: alone, and beside others.
ALONE, BESIDE = (580, 360), (400, 300)


PARAMS = Axis("trainable_params", "trainable parameters", "parameters")
MACS = Axis("macs", "multiply-accumulates of one image", "multiply-accumulates")
EPOCH_TIME = Axis("epoch_time_s", "training time per epoch (s)", "time per epoch")
TRAINING_TIME = Axis("train_time_s", "training time of a trial (s)", "training time")
LATENCY = Axis("latency_ms_p50", "latency, batch 1 (ms)", "latency")
BATCH16 = Axis("batch16_latency_ms", "latency, batch 16 (ms)", "latency of 16 images")

# Costs that trials on a shared GPU do not have.
TIMES = {EPOCH_TIME, TRAINING_TIME, LATENCY, BATCH16}


def accuracy_vs_params(connection: Connection, measure: Measure | None = None) -> Chart | None:
    """Draw the measure of every cell's winner over its trainable parameters."""
    return _of_measure(connection, PARAMS, measure)


def accuracy_vs_macs(connection: Connection, measure: Measure | None = None) -> Chart | None:
    """Draw the measure of every cell's winner over its multiply-accumulates."""
    return _of_measure(connection, MACS, measure)


def accuracy_vs_epoch_time(connection: Connection, measure: Measure | None = None) -> Chart | None:
    """Draw the measure of every cell's winner over the training time of an epoch."""
    return _of_measure(connection, EPOCH_TIME, measure)


def accuracy_vs_training_time(
    connection: Connection, measure: Measure | None = None
) -> Chart | None:
    """Draw the measure of every cell's winner over the training time of a trial."""
    return _of_measure(connection, TRAINING_TIME, measure)


def accuracy_vs_latency(connection: Connection, measure: Measure | None = None) -> Chart | None:
    """Draw the measure of every cell's winner over its latency."""
    return _of_measure(connection, LATENCY, measure)


def _of_measure(connection: Connection, cost: Axis, measure: Measure | None) -> Chart | None:
    measure = measure or default_measure(connection)
    axis = Axis(
        measure.name,
        measure.axis_title,
        measure.words,
        measure.factor,
        percent=measure.kind == "percent",
        better=-1 if measure.lower_is_better else 1,
    )
    values = measured_cells(connection, measure)
    records = [
        {**row, **_with_values(row, measure.name, values)}
        for row in rows(connection, sql("questions/costs"))
    ]
    return _scatter(connection, records, cost, axis)


def _with_values(
    row: Row, name: str, values: dict[tuple[str, str], Spread]
) -> dict[str, float | None]:
    spread = values.get((row["results"], row["cell_id"]), Spread(None, None))
    return {f"{name}_mean": spread.mean, f"{name}_sd": spread.sd}


def epoch_time_vs_params(connection: Connection) -> Chart | None:
    """Draw the training time of an epoch of every cell's winner over its trainable parameters."""
    return _scatter(connection, rows(connection, sql("questions/costs")), PARAMS, EPOCH_TIME)


def latency_vs_params(connection: Connection) -> Chart | None:
    """Draw the latency of every cell's winner over its trainable parameters."""
    return _scatter(connection, rows(connection, sql("questions/costs")), PARAMS, LATENCY)


def batch16_latency_vs_params(connection: Connection) -> Chart | None:
    """Draw the latency of every cell's winner at batch 16 over its trainable parameters."""
    return _scatter(connection, rows(connection, sql("questions/costs")), PARAMS, BATCH16)


def _scatter(connection: Connection, cells: list[Row], x: Axis, y: Axis) -> Chart | None:
    """Draw points with error bars (± one standard deviation), one per cell, named by colour.

    Data sets, whose accuracies say nothing about each other, have a plot each. If more or less of
    `y` is better, a line joins each plot's Pareto front.
    """
    records = [row for row in cells if y.value(row) is not None and (x.value(row) or 0) > 0]
    if not records:
        return None
    colour, shape, axes = _roles(records)
    points = [cell_point(row, x, y, colour, shape, axes) for row in records]
    plots = {name: _leading(own, y) for name, own in _by_data_set(points).items()}
    shown = sum(len(own) for own in plots.values())
    size = ALONE if len(plots) == 1 else BESIDE
    chosen = alt.selection_point(name="chosen", fields=["colour"], on="click", clear="dblclick")
    look = Look(points, shape, axes, chosen, fronts=y.better != 0)
    drawn = [draw_plot(own, x, y, size, look).properties(**_sized(size)) for own in plots.values()]
    title = f"{y.short[0].upper()}{y.short[1:]} against {x.short}"
    by = y.short if y.better else "test top-1"  # the front stays in any case
    shared = shared_gpu_note(connection) if {x, y} & TIMES else ""
    left_out = others_note(shown, len(records), by=by)
    notes = [*_size_note(records), *left_out, *([shared] if shared else [])]
    heading = dict(text=title, subtitle=[*_subtitle(records, y, look), *notes])
    if len(drawn) == 1:
        return drawn[0].add_params(chosen).properties(title=heading)
    titled = [
        plot.properties(title=dict(text=name, fontSize=13, frame="group", offset=22))
        for name, plot in zip(plots, drawn, strict=True)
    ]
    beside = alt.concat(*titled, columns=2, bounds="flush", spacing=dict(row=80, column=80))
    with warnings.catch_warnings():
        # The plots share the selection on purpose.
        warnings.filterwarnings("ignore", message="Automatically deduplicated selection")
        return beside.add_params(chosen).properties(title=dict(**heading, offset=20))


def _by_data_set(points: list[Point]) -> dict[str, list[Point]]:
    plots: dict[str, list[Point]] = {}
    for point in sorted(points, key=lambda point: point["plot"]):
        plots.setdefault(point["plot"], []).append(point)
    return plots


def _leading(points: list[Point], y: Axis) -> list[Point]:
    """Mark a data set's points on the Pareto front; return those that have room, these first."""
    if y.better:
        for place in front([(point["cost"], y.better * point["value"]) for point in points]):
            points[place]["front"] = True
        points = sorted(points, key=lambda point: (not point["front"], -y.better * point["value"]))
    return points[:MOST_POINTS]


def _sized(size: tuple[int, int]) -> dict[str, int]:
    return dict(width=size[0], height=size[1])


def _roles(records: list[Row]) -> tuple[str, str | None, list[str]]:
    """Return the axes for colours and shapes, and all; a data set has a plot, not a colour."""
    _, _, axes = cell_roles(records)
    apart = [{**row, "cell": _without_data(row["cell"])} for row in records]
    colour, shape, _ = cell_roles(apart)
    return colour, shape, axes


def _without_data(cell: str | None) -> str:
    values = json.loads(cell or "{}")
    return json.dumps({key: values[key] for key in values if key not in ("dataset", "labels")})


def _subtitle(records: list[Row], y: Axis, look: Look) -> list[str]:
    """Return what points, bars and the line are."""
    counts = sorted({row["n"] for row in records})
    n = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    bars = "" if counts[-1] == 1 else "; bars: ± standard deviation"
    lines = [f"a point is a cell's best config, n = {n}{bars}"]
    if y.better:
        rest = "" if look.coloured else "; the other cells are grey"
        lines.append(f"dashed: Pareto front, the best to be had at each cost{rest}")
    return lines


def _size_note(records: Sequence[Row]) -> list[str]:
    sizes = sorted({row["image_size"] for row in records if row["image_size"]})
    if len(sizes) < 2:
        return []
    return [
        f"image sizes differ ({', '.join(map(str, sizes))} px): not networks alone are compared"
    ]
