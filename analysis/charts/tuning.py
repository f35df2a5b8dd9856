"""Configs of a search: the objective over the learning rate, and over all tuned axes at once."""

from __future__ import annotations

import json
import math
from typing import Any

import altair as alt

from analysis.charts.parts.encodings import (
    Points,
    colour_encoding,
    log_scale,
    plain,
    tooltips,
    varies,
)
from analysis.charts.parts.leading import (
    MOST_CONFIGS,
    MOST_LINES,
    MOST_POINTS,
    leading_groups,
    others_note,
)
from analysis.charts.parts.style import PALETTE, Chart
from analysis.results.database import Connection, rows
from analysis.results.sql_files import sql
from analysis.tables.cell_labels import (
    Row,
    cell_axes,
    cell_label,
    cell_value,
    compact,
    config_settings,
)
from analysis.tables.objectives import kind_of, title_of
from analysis.tables.table_formats import MISSING

Point = dict[str, Any]

MOST_CELLS = 12
GAP = 105  # points between two axes
HEIGHT = 190
FEW = 6  # so many distinct values, if each is frequent, are spaced evenly
ABSENT = -0.13  # height at which a config without the axis crosses it


def lr_sensitivity(connection: Connection) -> Chart | None:
    """Draw the objective over the learning rate, a point per config, a panel per network."""
    records = [row for row in _searched(connection) if (row["lr"] or 0) > 0]
    axes = [axis for axis in cell_axes(records) if axis != "lr"]
    varying = [axis for axis in axes if varies(records, axis)]
    panel = min(varying or axes, key=lambda axis: axis != "arch", default=None)
    others = [axis for axis in varying if axis != panel]
    groups: dict[str, list[Row]] = {}
    for row in records:
        name = json.dumps([row["results"], *(plain(cell_value(row, axis)) for axis in axes)])
        groups.setdefault(name, []).append(row)
    several = {
        name: group
        for name, group in groups.items()
        if len({row["lr"] for row in group if row["value_mean"] is not None}) > 1
    }
    shown = _leading_groups(several)
    points = [
        point
        for name, group in shown.items()
        for point in _group_points(name, group, axes, panel, others)
    ]
    if not points:
        return None
    goal = _goal(records)
    counts = [sum(map(len, each.values())) for each in (shown, several)]
    left_out = others_note(counts[0], counts[1], "configs", "validation")
    figure: Chart = _lr_panels(points, axes, ", ".join(others) or None, goal).properties(
        title=dict(
            text="Sensitivity to the learning rate", subtitle=[*_lr_subtitle(points), *left_out]
        )
    )
    return figure


def _leading_groups(groups: dict[str, list[Row]]) -> dict[str, list[Row]]:
    """Return the groups with the best configs that a figure has room for, in the given order."""
    ordered = {name: _best_first(group) for name, group in groups.items()}
    best = sorted(ordered, key=lambda name: _score(ordered[name][0]), reverse=True)
    kept = leading_groups({name: ordered[name] for name in best[:MOST_LINES]}, MOST_CONFIGS)
    configs = {name: {row["config_id"] for row in group} for name, group in kept.items()}
    return {
        name: [row for row in group if row["config_id"] in configs[name]]
        for name, group in groups.items()
        if name in configs
    }


def _best_first(group: list[Row]) -> list[Row]:
    return sorted(group, key=_score, reverse=True)


def _score(row: Row) -> float:
    """Return a config's score; that of one whose objective is missing ranks last."""
    return -math.inf if row["score"] is None else float(row["score"])


def _group_points(
    name: str, group: list[Row], axes: list[str], panel: str | None, others: list[str]
) -> list[Point]:
    """Return the configs of a group as points, joined if they differ in the learning rate alone."""
    joined = set(_differing(group)) <= {"lr"}
    complete = [row for row in group if row["state"] == "complete" and row["score"] is not None]
    best = max(complete, key=lambda row: row["score"], default=None)
    points = []
    for row in group:
        value, sd = row["value_mean"], row["value_sd"]
        if value is None and row["state"] != "diverged":
            continue
        known = value is not None and row["state"] != "diverged"
        points.append(
            {
                "group": name,
                "panel": plain(cell_value(row, panel)) if panel else "",
                "colour": plain(cell_label(row, others)),
                "lr": row["lr"],
                "state": row["state"],
                "value": value if known else None,
                "low": value - sd if known and sd is not None else None,
                "high": value + sd if known and sd is not None else None,
                "joined": joined and row["state"] == "complete",
                "best": row is best,
                "trials": row["n"],
                "shown": f"{value:.4g}" if known else "diverged",
                **{f"axis {axis}": plain(cell_value(row, axis)) for axis in axes},
            }
        )
    return points


def _searched(connection: Connection) -> list[Row]:
    """Return the configs that were searched, with the objective's values in the unit of axes."""
    return [
        {
            **row,
            **{
                key: row[key] * 100
                for key in ("value_mean", "value_sd")
                if kind_of(row["objective"]) == "percent" and row[key] is not None
            },
        }
        for row in rows(connection, sql("questions/searched"))
    ]


def _goal(records: list[Row]) -> str:
    """Return the title of an axis with the objective's values: `val top-1 (%)`."""
    names = dict.fromkeys(row["objective"] for row in records)
    return plain(title_of(next(iter(names)))) if len(names) == 1 else "objective"


def _lr_panels(points: list[Point], axes: list[str], title: str | None, goal: str) -> Chart:
    panels = len({point["panel"] for point in points})
    width, height = (560, 340) if panels == 1 else (270, 220)
    across = log_scale([point["lr"] for point in points])
    ticks = across["axis"]["values"]
    if ticks[-1] / ticks[0] > 100:  # a label at every power of ten, as far as there is room
        across["axis"]["values"] = [tick for tick in ticks if math.log10(tick) % 1 == 0]
    base = alt.Chart().encode(
        x=alt.X("lr:Q", title="learning rate", **across),
        color=colour_encoding(points, title),
    )
    y = alt.Y("value:Q", title=goal, scale=dict(zero=False, padding=10))
    tips = [
        *tooltips(axes, points),
        alt.Tooltip("lr:Q", title="lr", format=".3~g"),
        *tooltips([goal, "trials"], points),
        alt.Tooltip("state:N"),
    ]
    complete = base.transform_filter("datum.state == 'complete'")
    layers = [
        base.transform_filter("datum.joined")
        .mark_line(strokeWidth=1.5, opacity=0.7)
        .encode(y=y, detail="group:N"),
        complete.transform_filter("isValid(datum.low)")
        .mark_rule(strokeWidth=1.2, opacity=0.7)
        .encode(y=alt.Y("low:Q", title=goal), y2="high:Q"),
        base.transform_filter("datum.state == 'pruned'")
        .mark_point(filled=False, size=34, strokeWidth=1.2, opacity=0.7)
        .encode(y=y, tooltip=tips),
        complete.mark_point(filled=True, size=46, opacity=0.9).encode(y=y, tooltip=tips),
        base.transform_filter("datum.best")
        .mark_point(filled=False, size=150, strokeWidth=1.6, color="#111111", opacity=1)
        .encode(y=y, color=alt.value("#111111")),
        base.transform_filter("datum.state == 'diverged'")
        .mark_point(shape="M-1,-1L1,1M-1,1L1,-1", size=40, strokeWidth=2, opacity=0.9)
        .encode(y=alt.value(height - 6), tooltip=tips),
    ]
    figure: Chart = (
        alt.layer(*layers, data=Points(values=points))
        .properties(width=width, height=height)
        .facet(facet=alt.Facet("panel:N", title=None, sort=None), columns=min(3, panels))
    )
    return figure


def _lr_subtitle(points: list[Point]) -> list[str]:
    states = {point["state"] for point in points}
    lines = ["a point is a config as searched; ringed: the best that is complete"]
    if any(point["low"] is not None for point in points):
        lines[0] += "; bars: ± standard deviation"
    marks = [
        *(["open: pruned, its best epoch until then"] if "pruned" in states else []),
        *(["crosses at the foot: diverged"] if "diverged" in states else []),
    ]
    return [*lines, *(["; ".join(marks)] if marks else [])]


def parallel_coordinates(connection: Connection) -> Chart | None:
    """Draw the tuned axes of every cell beside the objective, a line per config."""
    records = [
        row
        for row in _searched(connection)
        if row["value_mean"] is not None and row["state"] != "diverged"
    ]
    axes = cell_axes(records)
    axes = [axis for axis in axes if varies(records, axis)] or axes
    several = len({row["results"] for row in records}) > 1
    cells: dict[tuple[str, str], list[Row]] = {}
    for row in records:
        cells.setdefault((row["results"], row["cell_id"]), []).append(row)
    tuned = [group for group in cells.values() if _differing(group)]
    if not tuned:
        return None
    drawn = [_best_first(group)[:MOST_POINTS] for group in tuned[:MOST_CELLS]]
    panels = [
        _lines(_name(group[0], axes, several), group if len(best) == len(group) else best)
        for group, best in zip(tuned, drawn, strict=False)
    ]
    subtitle = [
        "a line is a config as searched, the darker the better; orange: the best that is complete",
        "dashed: pruned, its best epoch until then",
    ]
    if not any(row["state"] == "pruned" for row in records):
        del subtitle[1]
    if len(tuned) > MOST_CELLS:
        subtitle.append(f"the first {MOST_CELLS} of {len(tuned)} cells")
    if any(len(group) > MOST_POINTS for group in tuned[:MOST_CELLS]):
        subtitle.append(f"of each cell the best {MOST_POINTS} configs")
    wide = max(len(_differing(group)) for group in tuned) > 5
    figure: Chart = (
        alt.concat(*panels, columns=1 if wide or len(panels) == 1 else 2, spacing=36)
        .resolve_scale(color="independent", x="independent")
        .properties(title=dict(text="What was searched", subtitle=subtitle))
    )
    return figure


def _name(row: Row, axes: list[str], several: bool) -> str:
    """Return the title of a cell's panel."""
    return plain((f"{row['results']} · " if several else "") + cell_label(row, axes))


def _differing(group: list[Row]) -> list[str]:
    """Return the tuned keys of a cell: those with several values in its configs."""
    configs = [config_settings(row["config"]) for row in group]
    keys = dict.fromkeys(key for config in configs for key in config)
    return [key for key in keys if len({compact(config.get(key)) for config in configs}) > 1]


def _lines(name: str, group: list[Row]) -> Chart:
    """Draw a cell's configs as lines through an axis per tuned key, the objective the last."""
    columns = _columns(group)
    drawn = [_axis(values) for values in columns.values()]
    last = len(columns) - 1
    ticks: list[Point] = [
        {"x": x, "y": y, "text": text} for x, (_, marks) in enumerate(drawn) for y, text in marks
    ]
    names = [{"x": x, "y": 1, "text": plain(key)} for x, key in enumerate(columns)]
    rulers = [{"x": x, "y": 0, "y2": 1} for x in range(last + 1)]
    points = _line_points(group, [heights for heights, _ in drawn])
    base = _at(points, last).encode(detail="config:N")
    shade = alt.Color(
        "shade:Q", scale=dict(range=["#c9dcee", "#08306b"], interpolate="lab"), legend=None
    )
    goal = _goal(group)
    digits = ".2f" if goal.endswith("(%)") else ".4~g"
    tips = [alt.Tooltip("value:Q", title=goal, format=digits)]
    opacity = max(0.35, min(0.9, 24 / len(group)))
    words: dict[str, Any] = dict(fontSize=11, color="#333333")
    halo: dict[str, Any] = dict(stroke="white", strokeWidth=5, strokeJoin="round")
    inner = _at([tick for tick in ticks if tick["x"] < last], last).encode(text="text:N")
    outer = _at([tick for tick in ticks if tick["x"] == last], last).encode(text="text:N")
    layers = [
        _at(rulers, last).mark_rule(color="#888888").encode(y2="y2:Q"),
        base.transform_filter("datum.pruned")
        .mark_line(strokeWidth=1.2, strokeDash=[4, 3], opacity=opacity * 0.8)
        .encode(color=shade, tooltip=tips),
        base.transform_filter("!datum.pruned && !datum.best")
        .mark_line(strokeWidth=1.6, opacity=opacity)
        .encode(color=shade, tooltip=tips),
        base.transform_filter("datum.best")
        .mark_line(strokeWidth=2.8, opacity=1)
        .encode(color=alt.value(PALETTE[1]), tooltip=tips),
        inner.mark_text(align="right", dx=-5, **words, **halo),
        inner.mark_text(align="right", dx=-5, **words),
        outer.mark_text(align="left", dx=5, **words),
        _at(names, last)
        .mark_text(dy=-16, **{**words, "fontSize": 12}, fontWeight="bold")
        .encode(text="text:N"),
    ]
    return alt.layer(*layers).properties(
        width=GAP * last, height=HEIGHT, title=alt.Title(name, fontSize=13, offset=26)
    )


def _at(data: list[Point], last: int) -> alt.Chart:
    """Return a chart of data at x, the number of an axis, and y, from 0 to 1."""
    chart: alt.Chart = alt.Chart(Points(values=data)).encode(
        x=alt.X("x:Q", scale=dict(domain=[0, last], nice=False), axis=None),
        y=alt.Y("y:Q", scale=dict(domain=[0, 1], nice=False), axis=None),
    )
    return chart


def _columns(group: list[Row]) -> dict[str, list[Any]]:
    """Return the values of each tuned key and the objective, one value per config."""
    configs = [config_settings(row["config"]) for row in group]
    tuned = {key: [config.get(key) for config in configs] for key in _differing(group)}
    return {**tuned, _goal(group): [row["value_mean"] for row in group]}


def _line_points(group: list[Row], heights: list[list[float]]) -> list[Point]:
    """Return a point per config and axis; `shade` is the config's rank from the worst."""
    scores = [_score(row) for row in group]
    complete = [index for index, row in enumerate(group) if row["state"] == "complete"]
    best = max(complete, key=lambda index: scores[index], default=None)
    return [
        {
            "config": row["config_id"],
            "x": x,
            "y": column[index],
            "value": group[index]["value_mean"],
            "shade": sum(other <= scores[index] for other in scores),
            "pruned": row["state"] == "pruned",
            "best": index == best,
        }
        for index, row in enumerate(group)
        for x, column in enumerate(heights)
    ]


def _axis(values: list[Any]) -> tuple[list[float], list[tuple[float, str]]]:
    """Return the height of each value on its axis, from 0 to 1, and the axis's ticks.

    Texts, and few numbers that repeat, are spaced evenly; numbers over more than a decade have a
    logarithmic axis. A config without the axis crosses below it.
    """
    given = [value for value in values if value is not None]
    numeric = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in given)
    distinct = list({compact(value): value for value in given}.values())
    if not numeric or (len(distinct) <= FEW and 2 * len(distinct) <= len(given)):
        order = sorted(distinct, key=lambda value: value if numeric else compact(value))
        names = [compact(value) for value in order]
        texts = [", ".join(map(str, v)) if isinstance(v, list) else compact(v) for v in order]
        even = [(0.5 if len(names) == 1 else i / (len(names) - 1)) for i in range(len(names))]
        marks = list(zip(even, map(plain, texts), strict=True))
        heights = [ABSENT if v is None else even[names.index(compact(v))] for v in values]
    else:
        low, high = min(given), max(given)
        log = low > 0 and high / low > 10
        ends = _decades(low, high) if log else _steps(low, high)
        scale = math.log10 if log else float
        first, span = scale(ends[0]), scale(ends[-1]) - scale(ends[0])
        marks = [((scale(tick) - first) / span, f"{tick:.4g}") for tick in ends]
        heights = [ABSENT if v is None else (scale(v) - first) / span for v in values]
    if len(given) < len(values):
        marks.append((ABSENT, MISSING))
    return heights, marks


def _steps(low: float, high: float) -> list[float]:
    """Return three to six round numbers from below the lowest value to above the highest."""
    raw = (high - low) / 4 or abs(low) / 4 or 1.0
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, max(last, first + 1) + 1)]


def _decades(low: float, high: float) -> list[float]:
    """Return the powers of ten between two numbers, inside ends of one digit that enclose both."""

    def one_digit(value: float, up: bool) -> float:
        power = 10.0 ** math.floor(math.log10(value) + 1e-9)
        digit = value / power
        return power * (math.ceil(digit - 1e-9) if up else math.floor(digit + 1e-9))

    first, last = one_digit(low, False), one_digit(high, True)
    powers = [10.0**n for n in range(math.floor(math.log10(first)), math.ceil(math.log10(last)))]
    inner = [power for power in powers if first * 1.9 < power < last / 1.9]
    return [first, *inner, last]
