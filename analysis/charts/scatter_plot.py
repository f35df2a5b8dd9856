"""One plot of a scatter figure: points with error bars, the Pareto front and names."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any, cast

import altair as alt

from analysis.charts.parts.encodings import (
    Points,
    colour_encoding,
    domain,
    log_scale,
    plain,
    shape_encoding,
    tooltips,
)
from analysis.charts.parts.name_places import Box, mark_box, place_names
from analysis.charts.parts.pareto_front import steps
from analysis.charts.parts.style import FAINT, PALETTE, SHAPES
from analysis.tables.cell_labels import Row, cell_value

Point = dict[str, Any]


@dataclass(frozen=True)
class Axis:
    """A number of the cells' winners as an axis of a figure.

    `better` is 1 if more of it is better, -1 if less is; 0 for a cost, on a logarithmic axis.
    """

    column: str
    title: str
    short: str  # as in the figure's title
    factor: float = 1.0
    percent: bool = False
    better: int = 0

    def value(self, row: Row) -> float | None:
        """Return a cell's value in the axis's unit; None if it was not measured."""
        value = row[self.column] if self.column in row else row[f"{self.column}_mean"]
        return None if value is None else value * self.factor


class Look:
    """How points look in every plot of a figure: a colour for each of a few names.

    With more names, the points off the front are grey; without a front, all have one colour.
    """

    def __init__(
        self,
        points: list[Point],
        shape: str | None,
        axes: list[str],
        chosen: alt.Parameter,
        *,
        fronts: bool,
    ) -> None:
        self.points, self.axes, self.chosen, self.fronts = points, axes, chosen, fronts
        self.names = domain(points, "colour")
        self.coloured = len(self.names) <= len(PALETTE)
        few = len(domain(points, "shape")) <= len(SHAPES)
        self.shape = shape if few else None

    def colour(self) -> Any:
        """Return the colour of marks: the name's, or that of the front."""
        if self.coloured:
            return colour_encoding(self.points, None)
        if not self.fronts:
            return alt.value(PALETTE[0])
        return alt.when("datum.front").then(alt.value(PALETTE[0])).otherwise(alt.value(FAINT))

    def opacity(self, full: float) -> Any:
        """Return the opacity of marks; a click on one name makes the others faint."""
        return alt.when(self.chosen).then(alt.value(full)).otherwise(alt.value(0.12))


def draw_plot(
    points: list[Point], x: Axis, y: Axis, size: tuple[int, int], look: Look
) -> alt.LayerChart:
    """Draw one data set's points: error bars, marks, the front and names."""
    across, x_span = _axis("cost", x, [point["cost"] for point in points])
    ends = [point[end] for point in points for end in ("value", "low", "high")]
    heights = [end for end in ends if end is not None]
    _, y_span = _axis("value", y, heights)
    down: dict[str, Any] = {"title": y.title, **_scale(y, heights)}
    layers: list[Any] = []
    corners: list[Point] = []
    if y.better:
        places = [(point["cost"], y.better * point["value"]) for point in points]
        corners = [
            {"cost": cost, "best": y.better * best, "order": order}
            for order, (cost, best) in enumerate(steps(places, x_span[1]))
        ]
        layers.append(
            alt.Chart(Points(values=corners))
            .mark_line(color="#777777", strokeWidth=1.2, strokeDash=[4, 3])
            .encode(x=across, y=alt.Y("best:Q", **down), order="order:Q")
        )
    base = alt.Chart(Points(values=sorted(points, key=lambda point: point["front"]))).encode(
        x=across, color=look.colour()
    )
    bars = base.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=1.5)
    layers.append(bars.encode(y=alt.Y("low:Q", **down), y2="high:Q", opacity=look.opacity(0.7)))
    shown = [*look.axes, "trials", "params", "MACs", y.title, "image_size"]
    layers.append(
        base.mark_point(filled=True, size=85, stroke="white", strokeWidth=0.6).encode(
            y=alt.Y("value:Q", **down),
            shape=shape_encoding(look.points, look.shape),
            opacity=look.opacity(0.9),
            tooltip=tooltips(shown, look.points),
        )
    )
    names = _names(points, corners, (x_span, y_span), size, look, y)
    if names:
        text = alt.Chart(Points(values=names)).mark_text(fontSize=12, fontWeight="bold")
        colour = colour_encoding(look.points, None) if look.coloured else alt.value("#222222")
        layers.append(
            text.encode(
                x=across,
                y=alt.Y("value:Q", **down),
                text="name:N",
                color=colour,
            )
        )
    return cast("alt.LayerChart", alt.layer(*layers))


def _axis(field: str, axis: Axis, values: list[float]) -> tuple[alt.X, tuple[float, float]]:
    """Return the encoding of a horizontal axis, and the ends of an axis with these values."""
    options = _scale(axis, values)
    low, high = options["scale"]["domain"]
    return alt.X(f"{field}:Q", title=axis.title, **options), (low, high)


def _scale(axis: Axis, values: list[float]) -> dict[str, Any]:
    """Return scale and axis: logarithmic for costs; percent end where no accuracy can be."""
    if not axis.better:
        return log_scale(values)
    low, high = min(values), max(values)
    margin = max(0.12 * (high - low), 0.02 * abs(high)) or 1.0
    ends = [low - margin, high + margin]
    if axis.percent:
        ends = [max(ends[0], 0.0), min(ends[1], 100.0)]
    return {"scale": dict(domain=ends, nice=False, zero=False), "axis": dict(tickCount=6)}


def cell_point(
    row: Row, x: Axis, y: Axis, colour: str, shape: str | None, axes: list[str]
) -> Point:
    """Return a cell's winner as a point, with the ends of its error bar."""
    value, sd = y.value(row), row[f"{y.column}_sd"]
    assert value is not None
    sd = None if sd is None else sd * y.factor
    low, high = (None, None) if sd is None else _bar(value, sd, y)
    labels = "" if row["labels"] is None else f" ({row['labels']})"
    return {
        "plot": plain(f"{row['dataset']}{labels}"),
        "colour": plain(cell_value(row, colour)),
        "shape": plain(cell_value(row, shape)) if shape else "",
        "cost": x.value(row),
        "params": row["trainable_params"],
        "MACs": row["macs"],
        "value": value,
        "low": low,
        "high": high,
        "front": False,
        **{f"axis {axis}": plain(cell_value(row, axis)) for axis in axes},
        "shown": f"{value:.4g}" + ("" if sd is None else f" ± {sd:.2g}"),
        "trials": row["n"],
        "image_size": row["image_size"],
    }


def _bar(value: float, sd: float, axis: Axis) -> tuple[float, float]:
    """Return the ends of an error bar, within what the axis can show."""
    low, high = value - sd, value + sd
    if axis.percent:
        return max(low, 0.0), min(high, 100.0)
    if not axis.better and low <= 0:  # its axis is logarithmic
        low = value
    return low, high


def _names(
    points: list[Point],
    corners: list[Point],
    spans: tuple[tuple[float, float], tuple[float, float]],
    size: tuple[int, int],
    look: Look,
    axis: Axis,
) -> list[dict[str, Any]]:
    """Return names at their places: of every colour, or of the front's points."""
    (left, right), (bottom, top) = spans
    height, value_at = (float, float) if axis.better else (math.log, math.exp)
    low, span = height(bottom), height(top) - height(bottom)

    def pixel(cost: float, value: float) -> tuple[float, float]:
        across = math.log(cost / left) / math.log(right / left)
        return size[0] * across, size[1] * (1 - (height(value) - low) / span)

    marks = []
    for point in points:
        x, y = pixel(point["cost"], point["value"])
        marks.append(mark_box(x, y))
        if point["low"] is not None and point["high"] is not None:
            ends = [pixel(point["cost"], max(point[end], bottom))[1] for end in ("high", "low")]
            marks.append(Box(x - 1, ends[0], x + 1, ends[1]))
    turns = [pixel(corner["cost"], corner["best"]) for corner in corners]
    for (x1, y1), (x2, y2) in itertools.pairwise(turns):
        marks.append(Box(x1 - 1, min(y1, y2) - 1, x2 + 1, max(y1, y2) + 1))
    named = _named(points, look, axis.better)
    wanted = [(name, *pixel(point["cost"], point["value"])) for name, point in named]
    places = place_names(wanted, marks, size)
    return [
        {
            "name": name,
            "colour": point["colour"],
            "cost": left * (right / left) ** (place[0] / size[0]),
            "value": value_at(low + span * (1 - place[1] / size[1])),
        }
        for (name, point), place in zip(named, places, strict=True)
        if place is not None
    ]


def _named(points: list[Point], look: Look, better: int) -> list[tuple[str, Point]]:
    """Return the points that are named, the most important first."""
    best = sorted(points, key=lambda point: (not point["front"], -(better or 1) * point["value"]))
    if look.coloured or not look.fronts:
        first = {point["colour"]: point for point in reversed(best)}
        return [(name, first[name]) for name in dict.fromkeys(point["colour"] for point in best)]
    return [
        (" · ".join(part for part in (point["colour"], point["shape"]) if part), point)
        for point in best
        if point["front"]
    ]
