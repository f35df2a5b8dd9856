"""Style of every figure: dark on white, with Okabe and Ito's palette (jfly.uni-koeln.de/color),
whose colours colour-blind readers can distinguish.
"""

from __future__ import annotations

from typing import Any

import altair as alt

Chart = alt.LayerChart | alt.FacetChart | alt.VConcatChart | alt.HConcatChart | alt.ConcatChart

# Blue, vermilion, green, purple, orange, sky blue, black; yellow is too faint on white.
PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
# Marks that are not what a figure is about.
FAINT = "#b0b0b0"
SHAPES = ["circle", "triangle-up", "square", "diamond", "cross", "triangle-down"]
DASHES = [[1, 0], [6, 3], [2, 2], [8, 3, 2, 3]]
GREYS = {"labelColor": "#333333", "titleColor": "#222222"}
# The `config` of every Vega-Lite specification.
CONFIG: dict[str, Any] = {
    "font": "Helvetica, Arial, Liberation Sans, sans-serif",
    "background": "white",
    "padding": 12,
    "view": {"stroke": None, "continuousWidth": 300, "continuousHeight": 300},
    "title": {
        "anchor": "start",
        "fontSize": 16,
        "subtitleFontSize": 12,
        "subtitleColor": "#555555",
        "subtitlePadding": 4,
        "offset": 12,
        "color": "#111111",
    },
    "axis": {
        "gridColor": "#e6e6e6",
        "domainColor": "#888888",
        "tickColor": "#888888",
        "labelFontSize": 12,
        "titleFontSize": 13,
        "titleFontWeight": "normal",
        "titlePadding": 8,
        **GREYS,
    },
    "legend": {"labelFontSize": 12, "titleFontSize": 12, **GREYS},
    "header": {"labelFontSize": 13, "labelFontWeight": "bold", "labelColor": "#222222"},
}
