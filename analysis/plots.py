"""The ready figures, by name: one Altair definition each gives SVG, PNG, PDF and HTML.

Every figure is dark on white, with Okabe and Ito's palette (jfly.uni-koeln.de/color), which
colour-blind readers can tell apart, and optimizers also as shapes.
"""

from __future__ import annotations

import contextlib
import difflib
import html
import json
import math
import os
import re
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from string import Template
from typing import Any

import altair as alt
import vl_convert

from analysis.database import AnalysisError, Connection, rows, sql
from analysis.formats import MISSING
from analysis.tables import Row, cell_axes, cell_label, cell_value

Spec = dict[str, Any]
Chart = alt.LayerChart | alt.FacetChart | alt.VConcatChart

# Blue, vermilion, green, purple, orange, sky blue, black; yellow is too faint on white.
PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
SHAPES = ["circle", "triangle-up", "square", "diamond", "cross", "triangle-down"]
DASHES = [[1, 0], [6, 3], [2, 2], [8, 3, 2, 3]]
FONT = "Helvetica, Arial, Liberation Sans, sans-serif"
VEGA_LITE = ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])


def make_plot(connection: Connection, name: str) -> Spec:
    """A ready figure as a Vega-Lite specification with its data.

    Raises `AnalysisError` for an unknown name, with the known ones, and where there is nothing
    to show yet.
    """
    if name not in PLOTS:
        close = difflib.get_close_matches(name, PLOTS, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise AnalysisError(f"there is no figure {name}{hint}; there are: {', '.join(PLOTS)}")
    chart = PLOTS[name][0](connection)
    if chart is None:
        raise AnalysisError(f"nothing to show in {name} yet: no trial has the numbers it needs")
    spec: Spec = _styled(chart).to_dict()
    return spec


def save_plot(connection: Connection, name: str, path: str | Path) -> Path:
    """Save a ready figure; the suffix chooses between `FILE_FORMATS`."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in FILE_FORMATS:
        raise AnalysisError(
            f"{path}: cannot write {suffix or 'a file without a suffix'}; "
            f"there are: {', '.join(FILE_FORMATS)}"
        )
    content = FILE_FORMATS[suffix](make_plot(connection, name))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise AnalysisError(f"{path}: cannot be written ({error.strerror})") from None
    return path


# -- the figures ------------------------------------------------------------------------------


def accuracy_vs_params(connection: Connection) -> Chart | None:
    """Test top-1 of every cell's winner over its trainable parameters."""
    return _scatter(
        connection,
        y="test_top1",
        y_title="test top-1 (%)",
        factor=100.0,
        title="Test top-1 against parameters",
    )


def epoch_time_vs_params(connection: Connection) -> Chart | None:
    """Training time of an epoch of every cell's winner over its trainable parameters."""
    return _scatter(
        connection,
        y="epoch_time_s",
        y_title="training time per epoch (s)",
        title="Time per epoch against parameters",
        log=True,
    )


def latency_vs_params(connection: Connection) -> Chart | None:
    """Latency of every cell's winner over its trainable parameters."""
    return _scatter(
        connection,
        y="latency_ms_p50",
        y_title="latency, batch 1 (ms)",
        title="Latency against parameters",
        log=True,
    )


def _scatter(
    connection: Connection,
    *,
    y: str,
    y_title: str,
    title: str,
    factor: float = 1.0,
    log: bool = False,
) -> Chart | None:
    """Points with error bars (± one standard deviation), one per cell, named by colour.

    Cells of one network have equally many parameters, so shapes stand side by side.
    """
    found = [
        row
        for row in rows(connection, sql("questions/costs"))
        if row[f"{y}_mean"] is not None and row["trainable_params"]
    ]
    if not found:
        return None
    colour, shape, axes = _roles(found)
    points = [_point(row, y, factor, colour, shape, axes) for row in found]
    x = alt.X("params:Q", title="trainable parameters", **_log_scale([p["params"] for p in points]))
    heights = [value for p in points for value in (p["value"], p["low"], p["high"]) if value]
    linear = {"scale": alt.Scale(zero=False, padding=18), "axis": alt.Axis(tickCount=6)}
    vertical = {"title": y_title, **(_log_scale(heights) if log else linear)}
    chosen = alt.selection_point(name="chosen", fields=["colour"], on="click", clear="dblclick")
    opacity = alt.when(chosen).then(alt.value(0.9)).otherwise(alt.value(0.12))
    layers = []
    shapes = _domain(points, "shape")
    for place, value in enumerate(shapes):
        offset = 11 * (place - (len(shapes) - 1) / 2)
        own = [point for point in points if point["shape"] == value]
        base = alt.Chart(alt.InlineData(values=own)).encode(
            x=x, color=_colour(points, None), opacity=opacity
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
                shape=_shape(points, shape),
                tooltip=_tooltips([*axes, "trials", "params", y_title, "image_size"], points),
            ),
        ]
    for below, anchors in _name_places(points, log).items():
        layers.append(
            alt.Chart(alt.InlineData(values=anchors))
            .mark_text(dy=14 if below else -13, fontSize=12, fontWeight="bold")
            .encode(x=x, y=alt.Y("edge:Q"), text="colour:N", color=_colour(points, None))
        )
    heading = alt.Title(title, subtitle=[_subtitle(found, colour), *_size_note(found)])
    return alt.layer(*layers).add_params(chosen).properties(width=580, height=360, title=heading)


def _point(
    row: Row, y: str, factor: float, colour: str, shape: str | None, axes: list[str]
) -> dict[str, Any]:
    """A cell's winner as a point of a scatter plot, with the ends of its error bar."""
    value, sd = row[f"{y}_mean"] * factor, row[f"{y}_sd"]
    sd = None if sd is None else sd * factor
    low = None if sd is None else value - sd
    return {
        "colour": _text(cell_value(row, colour)),
        "shape": _text(cell_value(row, shape)) if shape else "",
        "params": row["trainable_params"],
        "value": value,
        "low": low if low is None or low > 0 else value,
        "high": None if sd is None else value + sd,
        **{f"axis {axis}": _text(cell_value(row, axis)) for axis in axes},
        "shown": f"{value:.4g}" + ("" if sd is None else f" ± {sd:.2g}"),
        "trials": row["n"],
        "image_size": row["image_size"],
    }


def _name_places(points: list[dict[str, Any]], log: bool) -> dict[bool, list[dict[str, Any]]]:
    """Where each colour's name stands: False above its highest point, True below its lowest one
    because another name is near.
    """
    height = math.log if log else float
    edges = [height(point[end] or point["value"]) for point in points for end in ("low", "high")]
    near = 0.07 * (max(edges) - min(edges) or 1.0)
    places: dict[bool, list[dict[str, Any]]] = {}
    for colour in dict.fromkeys(point["colour"] for point in points):
        own = [point for point in points if point["colour"] == colour]
        high = max(own, key=lambda point: point["high"] or point["value"])
        low = min(own, key=lambda point: point["low"] or point["value"])
        edge = high["high"] or high["value"]
        below = any(
            abs(height(edge) - height(other["edge"])) < near
            and 0.3 < high["params"] / other["params"] < 3.3
            for anchors in places.values()
            for other in anchors
        )
        if below:
            high, edge = low, low["low"] or low["value"]
        anchor = {"colour": colour, "params": high["params"], "edge": edge}
        places.setdefault(below, []).append(anchor)
    return places


def curves(connection: Connection) -> Chart | None:
    """Validation accuracy by epoch of every cell's winner, a panel per network."""
    found = [
        row for row in rows(connection, sql("questions/curves")) if row["val_top1_mean"] is not None
    ]
    if not found:
        return None
    panel, colour, axes = _roles(found)
    others = [axis for axis in axes if axis not in (panel, colour) and _varies(found, axis)]
    points = []
    for row in found:
        value, sd = row["val_top1_mean"] * 100, row["val_top1_sd"]
        points.append(
            {
                "panel": _text(cell_value(row, panel)),
                "colour": _text(cell_value(row, colour)) if colour else "",
                "dash": " · ".join(f"{axis} {_text(cell_value(row, axis))}" for axis in others),
                "epoch": row["epoch"],
                "value": value,
                "low": None if sd is None else value - sd * 100,
                "high": None if sd is None else value + sd * 100,
                "trials": row["n"],
                "shown": f"{value:.2f}" + ("" if sd is None else f" ± {sd * 100:.2f}"),
                **{f"axis {axis}": _text(cell_value(row, axis)) for axis in axes},
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
        color=_colour(points, colour),
        detail="dash:N",
    )
    scale = alt.Scale(zero=False)
    band = base.mark_area(opacity=0.15).encode(
        y=alt.Y("low:Q", scale=scale, title="val top-1 (%)"), y2="high:Q"
    )
    y = alt.Y("value:Q", scale=scale, title="val top-1 (%)")
    line = base.mark_line(strokeWidth=2).encode(y=y, strokeDash=_dash(points))
    dots = base.mark_point(filled=True, size=22, opacity=1).encode(
        y=y, tooltip=_tooltips([*axes, "epoch", "trials", "val top-1 (%)"], points)
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


def confusion(connection: Connection) -> Chart | None:
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
    names = {row["label"]: _text(row["label_name"]) for row in group}
    names |= {row["predicted"]: _text(row["predicted_name"]) for row in group}
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
        title=alt.Title(f"Confusion of the best config on {data}", subtitle=_text(subtitle)),
    )


# Name -> (what makes it, what it shows).
PLOTS: dict[str, tuple[Callable[[Connection], Chart | None], str]] = {
    "accuracy-vs-params": (accuracy_vs_params, "test top-1 over trainable parameters"),
    "epoch-time-vs-params": (epoch_time_vs_params, "training time per epoch over parameters"),
    "latency-vs-params": (latency_vs_params, "latency at batch 1 over parameters"),
    "curves": (curves, "val top-1 by epoch"),
    "confusion": (confusion, "confusion matrix of the best config of each data set"),
}


# -- what figures share -----------------------------------------------------------------------


def _roles(found: list[Row]) -> tuple[str, str | None, list[str]]:
    """The axis that colours (or panels) stand for, the one for shapes (or colours), all axes.

    Networks come first, then optimizers, then what else differs, in the sweep file's order.
    """
    axes = cell_axes(found)
    differ = [axis for axis in axes if _varies(found, axis)] or axes or ["arch"]
    order = sorted(differ, key=lambda axis: (axis != "arch", axis != "optimizer"))
    return order[0], order[1] if len(order) > 1 else None, axes


def _varies(found: list[Row], axis: str) -> bool:
    return len({_text(cell_value(row, axis)) for row in found}) > 1


def _text(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else MISSING if value is None else str(value)
    return "".join(char if char.isprintable() else " " for char in text)


def _domain(points: list[dict[str, Any]], field: str) -> list[str]:
    return sorted({point[field] for point in points})


def _colour(points: list[dict[str, Any]], title: str | None) -> alt.Color:
    """Colours in the names' alphabetical order, so that a name keeps its colour in every figure."""
    domain = _domain(points, "colour")
    scale = (
        alt.Scale(domain=domain, range=PALETTE[: len(domain)])
        if len(domain) <= len(PALETTE)
        else alt.Scale(domain=domain, scheme="tableau20")
    )
    legend = alt.Legend(title=title, symbolOpacity=1) if title else None
    return alt.Color("colour:N", scale=scale, legend=legend)


def _shape(points: list[dict[str, Any]], title: str | None) -> Any:
    if title is None:
        return alt.value("circle")
    scale = alt.Scale(domain=_domain(points, "shape"), range=SHAPES)
    return alt.Shape("shape:N", scale=scale, legend=alt.Legend(title=title))


def _dash(points: list[dict[str, Any]]) -> Any:
    domain = _domain(points, "dash")
    if len(domain) < 2:
        return alt.value([1, 0])
    legend = alt.Legend(
        title=None,
        symbolType="stroke",
        symbolSize=500,
        symbolStrokeColor="#333333",
        symbolStrokeWidth=2,
    )
    return alt.StrokeDash("dash:N", scale=alt.Scale(domain=domain, range=DASHES), legend=legend)


def _tooltips(names: list[str], points: list[dict[str, Any]]) -> list[alt.Tooltip]:
    """Tooltips by title: an axis, a field, or the value's own title."""
    tips = []
    for name in names:
        if f"axis {name}" in points[0]:
            tips.append(alt.Tooltip(f"axis {name}:N".replace(".", "\\."), title=name))
        elif name in ("params", "trials", "epoch", "image_size"):
            title = {"params": "trainable parameters", "image_size": "image size"}.get(name, name)
            tips.append(alt.Tooltip(f"{name}:Q", title=title, format=","))
        else:
            tips.append(alt.Tooltip("shown:N", title=name))
    return tips


def _log_scale(values: list[float]) -> dict[str, Any]:
    """Scale and axis of a logarithmic encoding with room at both ends for names and bars."""
    low, high = math.log10(min(values)), math.log10(max(values))
    margin = max(0.15, 0.14 * (high - low))
    low, high = low - margin, high + margin
    steps = (1, 3) if high - low > 2 else (1, 2, 5)
    ticks = [
        step * 10.0**power
        for power in range(math.floor(low), math.ceil(high) + 1)
        for step in steps
        if low <= math.log10(step * 10.0**power) <= high
    ]
    large = "~s" if min(values) >= 1 else "~g"
    return {
        "scale": alt.Scale(type="log", domain=[10**low, 10**high], nice=False),
        "axis": alt.Axis(values=ticks, format=large),
    }


def _subtitle(found: list[Row], colour: str) -> str:
    counts = sorted({row["n"] for row in found})
    n = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return (
        f"a point is a cell's best config, named by {colour}; bars: ± standard deviation, n = {n}"
    )


def _size_note(found: list[Row]) -> list[str]:
    sizes = sorted({row["image_size"] for row in found if row["image_size"]})
    if len(sizes) < 2:
        return []
    return [
        f"image sizes differ ({', '.join(map(str, sizes))} px): not networks alone are compared"
    ]


def _styled(chart: Chart) -> Chart:
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


# -- files ------------------------------------------------------------------------------------


def to_svg(spec: Spec) -> bytes:
    """The figure as SVG, the same bytes whatever was drawn before it in this process."""
    text = vl_convert.vegalite_to_svg(spec, vl_version=VEGA_LITE)
    # Vega numbers gradients and clips on from figure to figure.
    ids = dict.fromkeys(re.findall(r'\bid="((?:gradient_|clip)\d+)"', text))
    numbers = {name: f"{name.rstrip('0123456789')}{n}" for n, name in enumerate(ids)}
    text = re.sub(
        r'(\bid="|url\(#)((?:gradient_|clip)\d+)(?=["\)])',
        lambda found: found[1] + numbers.get(found[2], found[2]),
        text,
    )
    return text.encode()


def to_png(spec: Spec) -> bytes:
    """The figure as PNG, two pixels to a point."""
    content: bytes = vl_convert.vegalite_to_png(spec, vl_version=VEGA_LITE, scale=2)
    return content


def to_pdf(spec: Spec) -> bytes:
    """The figure as PDF."""
    content: bytes = vl_convert.vegalite_to_pdf(spec, vl_version=VEGA_LITE)
    return content


def to_page(spec: Spec) -> bytes:
    """The figure as an HTML page that needs no network."""
    title = spec.get("title", "figure")
    text = title.get("text", "figure") if isinstance(title, dict) else title
    page = Template((Path(__file__).parent / "figure.html").read_text(encoding="utf-8"))
    return page.substitute(
        title=html.escape(str(text)), script=script(), spec=embedded(spec)
    ).encode()


FILE_FORMATS: dict[str, Callable[[Spec], bytes]] = {
    ".svg": to_svg,
    ".png": to_png,
    ".pdf": to_pdf,
    ".html": to_page,
}


def embedded(spec: Spec) -> str:
    """A specification as JSON that cannot end the script element it stands in."""
    return json.dumps(spec).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def script() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script; made once a version (1.2 s), then kept."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    kept = Path(home) / "cnngrid" / f"vega-{version('vl-convert-python')}-{VEGA_LITE}.js"
    with contextlib.suppress(OSError):
        return kept.read_text(encoding="utf-8")
    text = vl_convert.javascript_bundle(vl_version=VEGA_LITE)  # type: ignore[call-arg]  # its stub is wrong
    text = text.replace("</script", "<\\/script")
    with contextlib.suppress(OSError):  # a page is made all the same where nothing can be kept
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=kept.parent, delete=False) as file:
            file.write(text)
        os.replace(file.name, kept)
    return text
