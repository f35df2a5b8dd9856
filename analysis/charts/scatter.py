"""Accuracy of every cell's winner over its cost, and its times over its parameters."""

from __future__ import annotations

import math
from typing import Any

import altair as alt

from analysis.charts.encodings import (
    Points,
    cell_roles,
    colour_encoding,
    domain,
    log_scale,
    plain,
    shape_encoding,
    tooltips,
)
from analysis.charts.style import Chart
from analysis.results.database import Connection, rows
from analysis.results.sql_files import sql
from analysis.tables.cell_labels import Row, cell_value


def accuracy_vs_params(connection: Connection) -> Chart | None:
    """Draw test top-1 of every cell's winner over its trainable parameters."""
    return _scatter(
        connection,
        y="test_top1",
        y_title="test top-1 (%)",
        factor=100.0,
        title="Test top-1 against parameters",
    )


def accuracy_vs_macs(connection: Connection) -> Chart | None:
    """Draw test top-1 of every cell's winner over its multiply-accumulates."""
    return _scatter(
        connection,
        x="macs",
        x_title="multiply-accumulates of one image",
        y="test_top1",
        y_title="test top-1 (%)",
        factor=100.0,
        title="Test top-1 against multiply-accumulates",
    )


def epoch_time_vs_params(connection: Connection) -> Chart | None:
    """Draw the training time of an epoch of every cell's winner over its trainable parameters."""
    return _scatter(
        connection,
        y="epoch_time_s",
        y_title="training time per epoch (s)",
        title="Time per epoch against parameters",
        log=True,
    )


def latency_vs_params(connection: Connection) -> Chart | None:
    """Draw the latency of every cell's winner over its trainable parameters."""
    return _scatter(
        connection,
        y="latency_ms_p50",
        y_title="latency, batch 1 (ms)",
        title="Latency against parameters",
        log=True,
    )


def batch16_latency_vs_params(connection: Connection) -> Chart | None:
    """Draw the latency of every cell's winner at batch 16 over its trainable parameters."""
    return _scatter(
        connection,
        y="batch16_latency_ms",
        y_title="latency, batch 16 (ms)",
        title="Latency of 16 images against parameters",
        log=True,
    )


def _scatter(
    connection: Connection,
    *,
    y: str,
    y_title: str,
    title: str,
    x: str = "trainable_params",
    x_title: str = "trainable parameters",
    factor: float = 1.0,
    log: bool = False,
) -> Chart | None:
    """Draw points with error bars (± one standard deviation), one per cell, named by colour.

    Cells of one network have equally many parameters, so their shapes are drawn side by side.
    """
    records = [
        row
        for row in rows(connection, sql("questions/costs"))
        if row[f"{y}_mean"] is not None and row[x]
    ]
    if not records:
        return None
    colour, shape, axes = cell_roles(records)
    points = [_point(row, x, y, factor, colour, shape, axes) for row in records]
    across = alt.X("cost:Q", title=x_title, **log_scale([p["cost"] for p in points]))
    heights = [value for p in points for value in (p["value"], p["low"], p["high"]) if value]
    linear = {"scale": dict(zero=False, padding=18), "axis": dict(tickCount=6)}
    vertical = {"title": y_title, **(log_scale(heights) if log else linear)}
    chosen = alt.selection_point(name="chosen", fields=["colour"], on="click", clear="dblclick")
    opacity = alt.when(chosen).then(alt.value(0.9)).otherwise(alt.value(0.12))
    layers = []
    shapes = domain(points, "shape")
    for index, value in enumerate(shapes):
        offset = 11 * (index - (len(shapes) - 1) / 2)
        own = [point for point in points if point["shape"] == value]
        base = alt.Chart(Points(values=own)).encode(
            x=across, color=colour_encoding(points, None), opacity=opacity
        )
        bars = base.transform_filter("isValid(datum.low)")
        layers += [
            bars.mark_rule(strokeWidth=1.5, xOffset=offset).encode(
                y=alt.Y("low:Q", **vertical), y2="high:Q"
            ),
            base.mark_point(
                filled=True, size=85, stroke="white", strokeWidth=0.6, xOffset=offset
            ).encode(
                y=alt.Y("value:Q", **vertical),
                shape=shape_encoding(points, shape),
                tooltip=tooltips(
                    [*axes, "trials", "params", "MACs", y_title, "image_size"], points
                ),
            ),
        ]
    for below, anchors in _name_anchors(points, log).items():
        layers.append(
            alt.Chart(Points(values=anchors))
            .mark_text(dy=14 if below else -13, fontSize=12, fontWeight="bold")
            .encode(
                x=across, y=alt.Y("edge:Q"), text="colour:N", color=colour_encoding(points, None)
            )
        )
    heading = dict(text=title, subtitle=[_subtitle(records, colour), *_size_note(records)])
    return alt.layer(*layers).add_params(chosen).properties(width=580, height=360, title=heading)


def _point(
    row: Row, x: str, y: str, factor: float, colour: str, shape: str | None, axes: list[str]
) -> dict[str, Any]:
    """Return a cell's winner as a point, with the ends of its error bar."""
    value, sd = row[f"{y}_mean"] * factor, row[f"{y}_sd"]
    sd = None if sd is None else sd * factor
    low = None if sd is None else value - sd
    return {
        "colour": plain(cell_value(row, colour)),
        "shape": plain(cell_value(row, shape)) if shape else "",
        "cost": row[x],
        "params": row["trainable_params"],
        "MACs": row["macs"],
        "value": value,
        "low": low if low is None or low > 0 else value,
        "high": None if sd is None else value + sd,
        **{f"axis {axis}": plain(cell_value(row, axis)) for axis in axes},
        "shown": f"{value:.4g}" + ("" if sd is None else f" ± {sd:.2g}"),
        "trials": row["n"],
        "image_size": row["image_size"],
    }


def _name_anchors(points: list[dict[str, Any]], log: bool) -> dict[bool, list[dict[str, Any]]]:
    """Return the point of each colour's name, by whether the name stands below it.

    A name stands above its highest point, or below its lowest one if another name is near.
    """
    height = math.log if log else float
    edges = [height(point[end] or point["value"]) for point in points for end in ("low", "high")]
    near = 0.07 * (max(edges) - min(edges) or 1.0)
    by_side: dict[bool, list[dict[str, Any]]] = {}
    for colour in dict.fromkeys(point["colour"] for point in points):
        own = [point for point in points if point["colour"] == colour]
        high = max(own, key=lambda point: point["high"] or point["value"])
        low = min(own, key=lambda point: point["low"] or point["value"])
        edge = high["high"] or high["value"]
        below = any(
            abs(height(edge) - height(other["edge"])) < near
            and 0.3 < high["cost"] / other["cost"] < 3.3
            for anchors in by_side.values()
            for other in anchors
        )
        if below:
            high, edge = low, low["low"] or low["value"]
        anchor = {"colour": colour, "cost": high["cost"], "edge": edge}
        by_side.setdefault(below, []).append(anchor)
    return by_side


def _subtitle(records: list[Row], colour: str) -> str:
    counts = sorted({row["n"] for row in records})
    n = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return (
        f"a point is a cell's best config, named by {colour}; bars: ± standard deviation, n = {n}"
    )


def _size_note(records: list[Row]) -> list[str]:
    sizes = sorted({row["image_size"] for row in records if row["image_size"]})
    if len(sizes) < 2:
        return []
    return [
        f"image sizes differ ({', '.join(map(str, sizes))} px): not networks alone are compared"
    ]
