"""A figure of early stopping over all cells and inside each cell.

One of the two cells starts slowly and ends best. The curves are made up, to show the mechanism;
`bench_replay.py` uses recorded ones.

    python -m benchmarks.search.fairness      # draws docs/figures/fairness.svg
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from benchmarks.search.bench_replay import METHODS
from benchmarks.search.curves import Curve, Curves

FIGURE = Path(__file__).parents[2] / "docs" / "figures" / "fairness.svg"
EPOCHS = 27
RATES = [0.0001 * 10 ** (n / 5) for n in range(16)]
FAST, SLOW = ("cnn3", "adam"), ("cnn3", "sgd")
SIDES = {"Ray's ASHA over all cells": "over all cells", "ours: asha 3, random": "inside each cell"}


def made_up_curves() -> Curves:
    """Return two cells of 16 configs: one rises in the first epochs, one after the tenth."""
    cells: dict[tuple[str, str], dict[tuple[float, float], Curve]] = {FAST: {}, SLOW: {}}
    for index, rate in enumerate(RATES):
        quality = 1 - 0.03 * abs(index - 9)
        fast = [0.70 * quality * (1 - math.exp(-n / 2)) for n in range(1, EPOCHS + 1)]
        slow = [0.82 * quality / (1 + math.exp((12 - n) / 2.5)) for n in range(1, EPOCHS + 1)]
        for cell, values in ((FAST, fast), (SLOW, slow)):
            cells[cell][rate, 0.0] = Curve(tuple(values), 1.0, max(values))
    return Curves(cells)


def trained_epochs(name: str, curves: Curves, seed: int = 0) -> list[dict[str, Any]]:
    """Return a row per config and epoch that a method trains."""
    epochs_of = METHODS[name](curves, 8, seed).epochs_of
    return [
        {
            "stopping": SIDES[name],
            "cell": "starts slowly" if cell == SLOW else "starts fast",
            "config": f"{cell[1]} {config[0]:.5f}",
            "epoch": epoch,
            "val top-1 (%)": 100 * curves.cells[cell][config].val_top1[epoch - 1],
        }
        for (cell, config), epochs in epochs_of.items()
        for epoch in range(1, epochs + 1)
    ]


def draw(path: Path = FIGURE) -> None:
    """Write the figure."""
    import altair as alt

    rows = [row for name in SIDES for row in trained_epochs(name, made_up_curves())]
    chart = (
        alt.Chart(alt.InlineData(values=rows), width=300, height=220)
        .mark_line(point=alt.OverlayMarkDef(size=14), strokeWidth=1.5)
        .encode(
            x=alt.X("epoch:Q", title="epoch"),
            y=alt.Y("val top-1 (%):Q"),
            detail="config:N",
            color=alt.Color(
                "cell:N",
                title="cell",
                scale=alt.Scale(
                    domain=["starts fast", "starts slowly"], range=["#0072b2", "#d55e00"]
                ),
            ),
        )
        .facet(column=alt.Column("stopping:N", title="early stopping", sort=list(SIDES.values())))
    )
    chart.save(path)


if __name__ == "__main__":
    draw()
    print(FIGURE)
