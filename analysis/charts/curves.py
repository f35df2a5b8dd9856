"""Learning curves: what every epoch of every cell's winner reached."""

from __future__ import annotations

import altair as alt

from analysis.cells import cell_value
from analysis.charts.encodings import (
    cell_roles,
    colour_encoding,
    dash_encoding,
    plain,
    tooltips,
    varies,
)
from analysis.charts.style import Chart
from analysis.database import Connection, rows, sql


def val_top1(connection: Connection) -> Chart | None:
    """Validation accuracy by epoch of every cell's winner, a panel per network."""
    found = [
        row for row in rows(connection, sql("questions/curves")) if row["val_top1_mean"] is not None
    ]
    if not found:
        return None
    panel, colour, axes = cell_roles(found)
    others = [axis for axis in axes if axis not in (panel, colour) and varies(found, axis)]
    points = []
    for row in found:
        value, sd = row["val_top1_mean"] * 100, row["val_top1_sd"]
        points.append(
            {
                "panel": plain(cell_value(row, panel)),
                "colour": plain(cell_value(row, colour)) if colour else "",
                "dash": " · ".join(f"{axis} {plain(cell_value(row, axis))}" for axis in others),
                "epoch": row["epoch"],
                "value": value,
                "low": None if sd is None else value - sd * 100,
                "high": None if sd is None else value + sd * 100,
                "trials": row["n"],
                "shown": f"{value:.2f}" + ("" if sd is None else f" ± {sd * 100:.2f}"),
                **{f"axis {axis}": plain(cell_value(row, axis)) for axis in axes},
            }
        )
    last = max(point["epoch"] for point in points)
    ticks = sorted({round(1 + (last - 1) * part / 5) for part in range(6)})
    base = alt.Chart().encode(
        x=alt.X(
            "epoch:Q",
            title="epoch",
            scale=alt.Scale(domain=[1, max(2, last)], nice=False),
            axis=alt.Axis(values=ticks, format="d"),
        ),
        color=colour_encoding(points, colour),
        detail="dash:N",
    )
    scale = alt.Scale(zero=False)
    band = base.mark_area(opacity=0.15).encode(
        y=alt.Y("low:Q", scale=scale, title="val top-1 (%)"), y2="high:Q"
    )
    y = alt.Y("value:Q", scale=scale, title="val top-1 (%)")
    line = base.mark_line(strokeWidth=2).encode(y=y, strokeDash=dash_encoding(points))
    dots = base.mark_point(filled=True, size=22, opacity=1).encode(
        y=y, tooltip=tooltips([*axes, "epoch", "trials", "val top-1 (%)"], points)
    )
    panels = len({point["panel"] for point in points})
    subtitle = "mean ± standard deviation over the trials that reached the epoch"
    figure: Chart = (
        alt.layer(band, line, dots, data=alt.InlineData(values=points))
        .properties(width=560 if panels == 1 else 250, height=340 if panels == 1 else 220)
        .facet(facet=alt.Facet("panel:N", title=None, sort=None), columns=min(3, panels))
        .properties(title=alt.Title("Learning curves", subtitle=subtitle))
    )
    return figure
