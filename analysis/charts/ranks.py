"""Critical-difference diagram: mean ranks on a line, bars over ranks that do not differ."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import altair as alt

from analysis.charts.parts.encodings import Points, plain
from analysis.charts.parts.leading import others_note
from analysis.charts.parts.style import PALETTE, Chart
from analysis.results.database import Connection
from analysis.tables import statistics
from analysis.tables.measures import Measure
from analysis.tables.significance import MOST_VALUES, Ranked, rank_test, ranked

LINE = 54  # points from the top to the line of ranks
BAR = 11  # points from one bar to the next
NAME = 22  # points from one name to the next
EDGE = 0.05  # room at both ends of the line, of its length
INK = "#333333"


def critical_difference(connection: Connection, measure: Measure | None = None) -> Chart | None:
    """Draw mean ranks of the compared networks over data sets, as in Demsar (JMLR 7, 2006)."""
    answer = ranked(connection, measure)
    if answer is None or answer.ranking.critical_difference is None:
        return None
    ranks = answer.ranking.mean_ranks[:MOST_VALUES]
    k = len(ranks) if len(ranks) == len(answer.names) else math.ceil(max(ranks))
    difference = answer.ranking.critical_difference
    bars = [
        {"x": low - 0.008 * (k - 1), "x2": high + 0.008 * (k - 1), "y": y, "y2": y}
        for index, (low, high) in enumerate(statistics.alike(ranks, difference))
        for y in [LINE + BAR * (index + 1)]
    ]
    names, stems = _names(answer, ranks, k, LINE + BAR * len(bars) + 26)
    height = max(point["y"] for point in names) + 12
    step = math.ceil(k / MOST_VALUES)
    ticks = [{"x": rank, "x2": rank, "y": LINE - 6, "y2": LINE} for rank in range(1, k + 1, step)]
    at = partial(_at, k=k, height=height)
    line: dict[str, Any] = dict(color=INK, strokeWidth=1.2, strokeCap="square")
    text: dict[str, Any] = dict(color=INK, fontSize=12, baseline="middle", limit=320)
    axis = [{"x": 1, "x2": k, "y": LINE, "y2": LINE}, *ticks]
    numbers = [{"x": tick["x"], "y": LINE - 15, "text": str(tick["x"])} for tick in ticks]
    layers = [
        at(axis).mark_rule(**line),
        at(numbers).mark_text(**text),
        at(stems).mark_rule(strokeWidth=1, color="#777777"),
        *([at(bars).mark_rule(strokeWidth=5, strokeCap="round", color=PALETTE[0])] if bars else []),
        at([name for name in names if name["left"]]).mark_text(align="right", dx=-6, **text),
        at([name for name in names if not name["left"]]).mark_text(align="left", dx=6, **text),
    ]
    if answer.ranking.enough:
        far = 1 + difference
        ruler = [{"x": x, "x2": x, "y": 7, "y2": 15} for x in (1, far)]
        ruler.append({"x": 1, "x2": far, "y": 11, "y2": 11})
        label = [{"x": far, "y": 11, "text": f"critical difference {difference:.2f}"}]
        layers += [
            at(ruler).mark_rule(**{**line, "color": PALETTE[1]}),
            at(label).mark_text(align="left", dx=8, **{**text, "color": PALETTE[1]}),
        ]
    n = answer.ranking.n
    subtitle = [*_subtitle(answer), *others_note(len(ranks), len(answer.names), "values", "rank")]
    title = dict(text=f"Mean ranks of {answer.axis} over {n} blocks", subtitle=subtitle)
    figure: Chart = alt.layer(*layers).properties(
        width=max(300, min(640, 110 * (k - 1))), height=height, title=title
    )
    return figure


def _at(data: list[dict[str, Any]], k: int, height: float) -> alt.Chart:
    """Return a chart of lines and texts at x, a mean rank, and y, points from the top."""
    edge = EDGE * (k - 1)
    across = dict(domain=[1 - edge, k + edge], nice=False, zero=False)
    down = dict(domain=[0, height], reverse=True, nice=False)
    chart: alt.Chart = alt.Chart(Points(values=data)).encode(
        x=alt.X("x:Q", scale=across, axis=None), y=alt.Y("y:Q", scale=down, axis=None)
    )
    ends = {key: f"{key}:Q" for key in ("x2", "y2") if data and key in data[0]}
    return chart.encode(**ends, **({} if ends else {"text": "text:N"}))


def _names(
    answer: Ranked, ranks: list[float], k: int, top: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the names of these ranks at both sides, the better half left, and the lines to them.

    `k` is the end of the axis.
    """
    edge = EDGE * (k - 1)
    names, stems = [], []
    for index, (name, rank) in enumerate(zip(answer.names, ranks, strict=False)):
        left = index < (len(ranks) + 1) // 2
        level = top + NAME * (index if left else len(ranks) - 1 - index)
        end = 1 - edge if left else k + edge
        names.append({"x": end, "y": level, "text": f"{plain(name)} ({rank:.2f})", "left": left})
        stems += [
            {"x": rank, "x2": rank, "y": LINE, "y2": level},
            {"x": rank, "x2": end, "y": level, "y2": level},
        ]
    return names, stems


def _subtitle(answer: Ranked) -> list[str]:
    block = " x ".join(answer.block_axes) or "data set"
    lines = [
        f"by {answer.measure.sorting}, 1 the best; a block is one {block}, seeds averaged first",
        "a bar joins what is not told apart",
        rank_test(answer.ranking).rstrip("."),
    ]
    if not answer.ranking.enough:
        needed = statistics.blocks_needed(len(answer.names))
        lines[1] += f"; too few blocks: {needed} are needed before any two can be"
    return [plain(line) for line in lines]
