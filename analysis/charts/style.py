"""How every figure looks: dark on white, with Okabe and Ito's palette (jfly.uni-koeln.de/color),
which colour-blind readers can tell apart.
"""

from __future__ import annotations

import altair as alt

Chart = alt.LayerChart | alt.FacetChart | alt.VConcatChart

# Blue, vermilion, green, purple, orange, sky blue, black; yellow is too faint on white.
PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
SHAPES = ["circle", "triangle-up", "square", "diamond", "cross", "triangle-down"]
DASHES = [[1, 0], [6, 3], [2, 2], [8, 3, 2, 3]]
FONT = "Helvetica, Arial, Liberation Sans, sans-serif"


def styled(chart: Chart) -> Chart:
    """The chart in the fonts and greys of all figures."""
    grey = {"labelColor": "#333333", "titleColor": "#222222"}
    styled: Chart = (
        chart.configure(font=FONT, background="white", padding=12)
        .configure_view(stroke=None)
        .configure_title(
            anchor="start",
            fontSize=16,
            subtitleFontSize=12,
            subtitleColor="#555555",
            subtitlePadding=4,
            offset=12,
            color="#111111",
        )
        .configure_axis(
            gridColor="#e6e6e6",
            domainColor="#888888",
            tickColor="#888888",
            labelFontSize=12,
            titleFontSize=13,
            titleFontWeight="normal",
            titlePadding=8,
            **grey,
        )
        .configure_legend(labelFontSize=12, titleFontSize=12, **grey)
        .configure_header(labelFontSize=13, labelFontWeight="bold", labelColor="#222222")
    )
    return styled
