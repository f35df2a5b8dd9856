"""Test images that enhancement repairs and breaks, beside noise of the same strength."""

from __future__ import annotations

from typing import Any

import altair as alt

from analysis.charts.parts.encodings import Points, plain
from analysis.charts.parts.style import PALETTE, Chart
from analysis.results.database import Connection, rows
from analysis.results.sql_files import sql
from analysis.tables.cell_labels import Row, cell_axes, cell_label

TRANSFORMS = ["brightness", "contrast", "sharpness", "combined"]
# Column prefix of each change -> its name in the figure.
CHANGES = {"": "enhanced", "random_": "noise"}


def enhancement(connection: Connection) -> Chart | None:
    """Draw repaired images to the right, broken ones to the left, a panel per cell."""
    records = rows(connection, sql("questions/enhancement"))
    if not records:
        return None
    axes = cell_axes(records)
    several = len({row["results"] for row in records}) > 1
    cells: dict[str, list[Row]] = {}
    for row in records:
        name = (f"{row['results']} · " if several else "") + cell_label(row, axes)
        cells.setdefault(plain(name), []).append(row)
    points = [
        point for name, group in cells.items() for row in group for point in _points(name, row)
    ]
    base = alt.Chart().encode(
        y=alt.Y("transform:N", sort=TRANSFORMS, title=None),
        yOffset=alt.YOffset("by:N", sort=list(CHANGES.values()), scale=dict(paddingInner=0.15)),
    )
    bars = base.mark_bar().encode(
        x=alt.X(
            "images:Q", title="test images: broken | repaired", axis=dict(format="d", tickCount=5)
        ),
        color=alt.Color(
            "what:N",
            scale=dict(domain=["repaired", "broken"], range=[PALETTE[0], PALETTE[1]]),
            legend=dict(title=None),
        ),
        opacity=alt.Opacity(
            "by:N",
            sort=list(CHANGES.values()),
            scale=dict(domain=list(CHANGES.values()), range=[0.9, 0.35]),
            legend=dict(title=None, symbolFillColor="#333333"),
        ),
        tooltip=[
            alt.Tooltip("transform:N", title="enhancement"),
            alt.Tooltip("factors:N"),
            alt.Tooltip("by:N", title="change"),
            alt.Tooltip("what:N", title="images"),
            alt.Tooltip("shown:N", title="how many"),
            alt.Tooltip("trials:Q"),
        ],
    )
    net = base.mark_tick(color="#111111", thickness=2, size=12).encode(x=alt.X("net:Q"))
    subtitle = "factors chosen on validation images; dark tick: net change; noise of equal strength"
    figure: Chart = (
        alt.layer(bars, net, data=Points(values=points))
        .properties(width=330, height={"step": 13, "for": "offset"})
        .facet(facet=alt.Facet("cell:N", title=None, sort=list(cells)), columns=2)
        .properties(title=dict(text="Enhancing the test images", subtitle=subtitle))
    )
    return figure


def _points(name: str, row: Row) -> list[dict[str, Any]]:
    """Return the four bars of an enhancement of a cell."""
    return [
        {
            "cell": name,
            "transform": row["transform"],
            "factors": row["factors"],
            "trials": row["n"],
            "by": by,
            "what": what,
            "images": sign * row[f"{prefix}{what}_mean"],
            "net": row[f"{prefix}net_change_mean"],
            "shown": _mean_and_sd(row, f"{prefix}{what}"),
        }
        for prefix, by in CHANGES.items()
        for what, sign in (("repaired", 1), ("broken", -1))
    ]


def _mean_and_sd(row: Row, column: str) -> str:
    mean, sd = row[f"{column}_mean"], row[f"{column}_sd"]
    return f"{mean:.4g}" + ("" if sd is None else f" ± {sd:.2g}")
