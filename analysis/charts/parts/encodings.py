"""Encodings: axes of a sweep as colours, shapes and dashes, values as scales and tooltips."""

from __future__ import annotations

import math
from typing import Any

import altair as alt

from analysis.charts.parts.style import DASHES, PALETTE, SHAPES
from analysis.tables.cell_labels import Row, cell_axes, cell_value
from analysis.tables.table_formats import MISSING


class Points(alt.InlineData):
    """Data that the copies of a chart share: Altair copies a chart at every step of building it."""

    def __deepcopy__(self, memo: Any = None) -> Points:
        return self


def cell_roles(records: list[Row]) -> tuple[str, str | None, list[str]]:
    """Return the axis for colours (or panels), the axis for shapes (or colours), and all axes.

    The network comes first, then the optimizer, then other axes that vary, as in the sweep file.
    """
    axes = cell_axes(records)
    differ = [axis for axis in axes if varies(records, axis)] or axes or ["arch"]
    order = sorted(differ, key=lambda axis: (axis != "arch", axis != "optimizer"))
    return order[0], order[1] if len(order) > 1 else None, axes


def varies(records: list[Row], axis: str) -> bool:
    """Return whether the rows' cells have different values of an axis."""
    return len({plain(cell_value(row, axis)) for row in records}) > 1


def plain(value: Any) -> str:
    """Return a value as text for a figure, on one line."""
    text = f"{value:g}" if isinstance(value, float) else MISSING if value is None else str(value)
    return "".join(char if char.isprintable() else " " for char in text)


def domain(points: list[dict[str, Any]], field: str) -> list[str]:
    """Return the values of a field, sorted."""
    return sorted({point[field] for point in points})


def colour_encoding(points: list[dict[str, Any]], title: str | None) -> alt.Color:
    """Assign colours in alphabetical order, so that a name keeps its colour in every figure."""
    names = domain(points, "colour")
    scale = (
        dict(domain=names, range=PALETTE[: len(names)])
        if len(names) <= len(PALETTE)
        else dict(domain=names, scheme="tableau20")
    )
    legend = dict(title=title, symbolOpacity=1) if title else None
    return alt.Color("colour:N", scale=scale, legend=legend)


def shape_encoding(points: list[dict[str, Any]], title: str | None) -> Any:
    """Assign shapes; without a title for them, circles."""
    if title is None:
        return alt.value("circle")
    scale = dict(domain=domain(points, "shape"), range=SHAPES)
    return alt.Shape("shape:N", scale=scale, legend=dict(title=title))


def dash_encoding(points: list[dict[str, Any]]) -> Any:
    """Assign dashes; if all lines are of one kind, full lines."""
    names = domain(points, "dash")
    if len(names) < 2:
        return alt.value([1, 0])
    legend = dict(
        title=None,
        symbolType="stroke",
        symbolSize=500,
        symbolStrokeColor="#333333",
        symbolStrokeWidth=2,
    )
    return alt.StrokeDash("dash:N", scale=dict(domain=names, range=DASHES), legend=legend)


def tooltips(names: list[str], points: list[dict[str, Any]]) -> list[alt.Tooltip]:
    """Return tooltips by title: an axis, a field, or the value's own title."""
    tips = []
    for name in names:
        if f"axis {name}" in points[0]:
            tips.append(alt.Tooltip(f"axis {name}:N".replace(".", "\\."), title=name))
        elif name in ("params", "MACs", "trials", "epoch", "image_size"):
            title = {"params": "trainable parameters", "image_size": "image size"}.get(name, name)
            tips.append(alt.Tooltip(f"{name}:Q", title=title, format=","))
        else:
            tips.append(alt.Tooltip("shown:N", title=name))
    return tips


def log_scale(values: list[float]) -> dict[str, Any]:
    """Return scale and axis of a logarithmic encoding, with room at both ends for names."""
    low, high = math.log10(min(values)), math.log10(max(values))
    margin = max(0.15, 0.14 * (high - low))
    low, high = low - margin, high + margin
    steps = (1, 3) if high - low > 2 else (1, 2, 5)
    ticks = [
        step * 10.0**power
        for power in range(math.floor(low), math.ceil(high) + 1)
        for step in steps
        if low <= math.log10(step * 10.0**power) <= high
    ]
    if len(ticks) < 2:
        ticks = sorted({float(f"{value:.3g}") for value in (min(values), max(values))})
    large = "~s" if min(values) >= 1 else "~g"
    return {
        "scale": dict(type="log", domain=[10**low, 10**high], nice=False),
        "axis": dict(values=ticks, format=large),
    }
