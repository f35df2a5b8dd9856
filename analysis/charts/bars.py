"""Bars: the final numbers of every cell's winner, and the effect of each compared axis."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import altair as alt

from analysis.charts.parts.encodings import Points, domain, plain, varies
from analysis.charts.parts.leading import MOST_BARS, leading_groups, others_note
from analysis.charts.parts.style import PALETTE, Chart
from analysis.results.database import Connection, rows
from analysis.results.sql_files import sql
from analysis.tables.cell_labels import Row, cell_axes, cell_label, cell_value
from analysis.tables.measures import Measure, best_first, default_measure, measured_cells

BAR = 15  # points
LABEL = 320  # points; longer names are cut
# The network and its data are no settings of the training.
NOT_ABLATED = ("arch", "arch_options", "dataset", "labels")


def final(connection: Connection, measure: Measure | None = None) -> Chart | None:
    """Draw the measure and the test loss of every cell's winner, the best by the measure first.

    Beside the test loss stands test top-1.
    """
    measure = measure or default_measure(connection)
    other = Measure("test_top1" if measure.name == "test_loss" else "test_loss")
    other = replace(other, lower_is_better=other.name == "test_loss")
    records = _measured(connection, measure)
    if not records:
        return None
    total, records = len(records), records[:MOST_BARS]
    axes = cell_axes(records)
    several = len({row["results"] for row in records}) > 1
    labels = [
        (f"{row['results']} · " if several else "") + cell_label(row, axes) for row in records
    ]
    panels = [
        _panel(
            [{"cell": plain(label), **_ends(row, shown)} for row, label in pairs],
            shown.title,
            [plain(label) for label in labels],
            named=shown is measure,
        )
        for shown in (measure, other)
        if (
            pairs := [
                pair
                for pair in zip(records, labels, strict=True)
                if pair[0][f"{shown.name}_mean"] is not None
            ]
        )
    ]
    subtitle = [
        "a bar is a cell's best config; bars end at the mean, ± standard deviation",
        *([f"best at the top: {measure.sorting}"] if measure.lower_is_better else []),
        *others_note(len(records), total, by=measure.sorting),
    ]
    figure: Chart = alt.hconcat(*panels, spacing=24).properties(
        title=dict(text=_final_title(measure), subtitle=subtitle)
    )
    return figure


def _final_title(measure: Measure) -> str:
    if measure.name in ("test_top1", "test_loss"):
        return "Final test accuracy and loss"
    return f"Final {measure.words} and test loss"


def _measured(connection: Connection, measure: Measure) -> list[Row]:
    """Return the winners that have a value of the measure, with it, the best first."""
    values = measured_cells(connection, measure)
    records = [
        {**row, f"{measure.name}_mean": spread.mean, f"{measure.name}_sd": spread.sd}
        for row in rows(connection, sql("questions/winners"))
        if (spread := values.get((row["results"], row["cell_id"])))
    ]
    return best_first(records, measure, values)


def _panel(points: list[dict[str, Any]], title: str, order: list[str], named: bool) -> Chart:
    axis = dict(labels=named, ticks=False, labelLimit=LABEL)
    base = alt.Chart(Points(values=points)).encode(
        y=alt.Y("cell:N", sort=order, scale=dict(domain=order), title=None, axis=axis)
    )
    bars = base.mark_bar(color=PALETTE[0], opacity=0.8).encode(
        x=alt.X("value:Q", title=title, scale=dict(zero=True), axis=dict(tickCount=6)),
        tooltip=[alt.Tooltip("cell:N"), alt.Tooltip("shown:N", title=title)],
    )
    return alt.layer(bars, _whiskers(base)).properties(width=290, height={"step": BAR + 5})


def ablation(connection: Connection, measure: Measure | None = None) -> Chart | None:
    """Draw the measure over the values of each compared axis, the others being equal."""
    measure = measure or default_measure(connection)
    records = _measured(connection, measure)
    axes = cell_axes(records)
    compared = [
        axis for axis in axes if axis.partition(".")[0] not in NOT_ABLATED and varies(records, axis)
    ]
    panels = [panel for axis in compared if (panel := _axis_panel(records, axis, axes, measure))]
    if not panels:
        return None
    subtitle = ["bars of one group differ in nothing else that is compared; ± standard deviation"]
    if len(records) > MOST_BARS:
        subtitle.append(f"of each setting the groups of the best cells, up to {MOST_BARS} bars")
    figure: Chart = (
        alt.vconcat(*panels, spacing=28)
        .resolve_scale(color="independent", yOffset="independent")
        .properties(title=dict(text="What each setting changes", subtitle=subtitle))
    )
    return figure


def _axis_panel(records: list[Row], axis: str, axes: list[str], measure: Measure) -> Chart | None:
    """Draw grouped bars of one axis; a group is a combination of the others with two values."""
    others = [other for other in axes if other != axis and varies(records, other)]
    groups: dict[str, list[Row]] = {}
    for row in records:
        groups.setdefault(f"{plain(cell_label(row, others))}\n{row['results']}", []).append(row)
    comparable = leading_groups(
        {name: group for name, group in groups.items() if len(group) > 1}, MOST_BARS
    )
    if not comparable:
        return None
    points = [
        {
            "group": name.partition("\n")[0] or "all",
            "setting": plain(cell_value(row, axis)),
            **_ends(row, measure),
        }
        for name, group in comparable.items()
        for row in group
    ]
    values = sorted({cell_value(row, axis) for row in records}, key=_sort_key)
    names = [plain(value) for value in values if plain(value) in domain(points, "setting")]
    base = alt.Chart(Points(values=points)).encode(
        y=alt.Y(
            "group:N",
            sort=domain(points, "group"),
            title=None,
            axis=dict(labelLimit=LABEL, ticks=False),
            scale=dict(paddingInner=0.2, paddingOuter=0.1),
        ),
        yOffset=alt.YOffset("setting:N", sort=names, scale=dict(paddingInner=0.1)),
    )
    bars = base.mark_bar(opacity=0.85).encode(
        x=alt.X("value:Q", title=measure.axis_title, scale=dict(zero=True)),
        color=alt.Color(
            "setting:N",
            sort=names,
            scale=dict(domain=names, range=PALETTE)
            if len(names) <= len(PALETTE)
            else dict(domain=names, scheme="tableau20"),
            legend=dict(title=plain(axis)),
        ),
        tooltip=[
            alt.Tooltip("group:N"),
            alt.Tooltip("setting:N", title=plain(axis)),
            alt.Tooltip("shown:N", title=measure.title),
        ],
    )
    figure: Chart = alt.layer(bars, _whiskers(base)).properties(
        width=460, height={"step": BAR, "for": "offset"}
    )
    return figure


def _sort_key(value: Any) -> tuple[bool, Any]:
    """Return the key that sorts numbers by size, then texts."""
    number = isinstance(value, (int, float))
    return (not number, value if number else str(value))


def _ends(row: Row, measure: Measure) -> dict[str, Any]:
    """Return the end of a bar and the ends of its error bar, which is null for one trial."""
    value, sd = row[f"{measure.name}_mean"] * measure.factor, row[f"{measure.name}_sd"]
    spread = None if sd is None else sd * measure.factor
    return {
        "value": value,
        "low": None if spread is None else max(min(0.0, value), value - spread),
        "high": None if spread is None else value + spread,
        "shown": f"{value:.4g}" + ("" if spread is None else f" ± {spread:.2g}"),
    }


def _whiskers(base: alt.Chart) -> alt.Chart:
    """Draw the error bars of cells with more than one trial."""
    several = base.transform_filter("isValid(datum.low)")
    ends: alt.Chart = several.mark_rule(strokeWidth=1.5, color="#333333").encode(
        x="low:Q", x2="high:Q"
    )
    return ends
