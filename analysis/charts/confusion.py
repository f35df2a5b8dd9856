"""Confusion matrices of the test images."""

from __future__ import annotations

from typing import Any

import altair as alt

from analysis.cells import Row, cell_axes, cell_label
from analysis.charts.encodings import plain
from analysis.charts.style import Chart
from analysis.database import Connection, rows, sql


def best_of_each_data_set(connection: Connection) -> Chart | None:
    """Confusion matrix of the best config of every data set, in shares of the true class."""
    found = rows(connection, sql("questions/confusion"))
    if not found:
        return None
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in found:
        groups.setdefault((row["results"], row["dataset"], row["labels"]), []).append(row)
    charts = [_matrix(group) for group in groups.values()]
    figure: Chart = alt.vconcat(*charts).resolve_scale(color="independent")
    return figure


def _matrix(group: list[Row]) -> Chart:
    names = {row["label"]: plain(row["label_name"]) for row in group}
    names |= {row["predicted"]: plain(row["predicted_name"]) for row in group}
    order = [names[index] for index in sorted(names)]
    points = [
        {
            "label": names[row["label"]],
            "predicted": names[row["predicted"]],
            "images": int(row["images"]),
            "share": row["share"],
        }
        for row in group
    ]
    side = max(8, min(42, 560 // len(order)))
    axes = cell_axes(group)
    right = sum(point["images"] for point in points if point["label"] == point["predicted"])
    total = sum(point["images"] for point in points)
    base = alt.Chart(alt.InlineData(values=points)).encode(
        x=alt.X("predicted:N", title="predicted class", sort=order, axis=alt.Axis(labelAngle=-45)),
        y=alt.Y("label:N", title="true class", sort=order),
    )
    cells = base.mark_rect(stroke="white", strokeWidth=1 if len(order) <= 20 else 0).encode(
        color=alt.Color(
            "share:Q",
            title="share of the true class",
            scale=alt.Scale(scheme="blues", domain=[0, 1]),
            legend=alt.Legend(format=".0%"),
        ),
        tooltip=[
            alt.Tooltip("label:N", title="true class"),
            alt.Tooltip("predicted:N", title="predicted class"),
            alt.Tooltip("images:Q", title="images"),
            alt.Tooltip("share:Q", title="share of the true class", format=".1%"),
        ],
    )
    layers: list[alt.Chart] = [cells]
    if len(order) <= 20:
        dark = alt.when("datum.share > 0.5")
        ink = dark.then(alt.value("white")).otherwise(alt.value("#222222"))
        layers.append(base.mark_text(fontSize=11).encode(text="images:Q", color=ink))
    subtitle = (
        f"{cell_label(group[0], axes)} · {group[0]['n']} trials · {right:,} of {total:,} test "
        f"images right ({right / total:.2%})"
    )
    data = f"{group[0]['dataset'] or ''} {group[0]['labels'] or ''}".strip()
    return alt.layer(*layers).properties(
        width=side * len(order),
        height=side * len(order),
        title=alt.Title(f"Confusion of the best config on {data}", subtitle=plain(subtitle)),
    )
