"""Confusion matrices of the test images."""

from __future__ import annotations

from typing import Any

import altair as alt

from analysis.charts.parts.encodings import Points, plain
from analysis.charts.parts.style import Chart
from analysis.results.database import Connection, rows
from analysis.results.sql_files import sql
from analysis.tables.cell_labels import Row, cell_axes, cell_label

NAMED = 20  # with more classes, names and numbers cannot be read
MOST_NETWORKS = 12


def shares(connection: Connection) -> Chart | None:
    """Draw the confusion matrix of each data set's best config, in shares of the true class."""
    return _best_of_each_data_set(connection, counts=False)


def counts(connection: Connection) -> Chart | None:
    """Draw the confusion matrix of each data set's best config, in images."""
    return _best_of_each_data_set(connection, counts=True)


def networks(connection: Connection) -> Chart | None:
    """Draw the confusion matrix of every network's best config, small and on one scale."""
    groups = _groups(connection, by_network=True)[:MOST_NETWORKS]
    if not groups:
        return None
    several = len({(group[0]["results"], group[0]["dataset"]) for group in groups}) > 1
    charts = [_small_matrix(group, several) for group in groups]
    subtitle = "shares of the true class; rows: true, columns: predicted"
    if any(group[0]["unchosen"] for group in groups):
        subtitle += "; a network's config is one of several, not chosen by validation"
    figure: Chart = alt.concat(*charts, columns=2 if len(charts) == 4 else 3).properties(
        title=dict(text="Confusion of every network", subtitle=subtitle)
    )
    return figure


def beside_papers(connection: Connection) -> Chart | None:
    """Draw the confusion matrices that a paper prints beside the best cell that repeats its run."""
    matrices: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows(connection, sql("questions/reported_confusion")):
        matrices.setdefault((row["results"], row["study"], row["run"]), []).append(row)
    if not matrices:
        return None
    axes = cell_axes(row for group in matrices.values() for row in group)
    charts = [_matrix_beside_papers(group, axes) for group in matrices.values()]
    subtitle = "shares of the true class; rows: true, columns: predicted"
    figure: Chart = alt.concat(*charts, columns=3).properties(
        title=dict(text="Confusion, printed in the paper and measured", subtitle=subtitle)
    )
    return figure


def _matrix_beside_papers(group: list[Row], axes: list[str]) -> Chart:
    """Draw one matrix, with its share of right images."""
    pairs, order = _pairs(group)
    right = sum(row["images"] for row in group if row["label"] == row["predicted"])
    total = sum(row["images"] for row in group)
    first = group[0]
    trials = f"mean of {first['n']} trials" if first["n"] > 1 else "1 trial"
    name = first["run"] if first["printed"] else f"measured: {cell_label(first, axes)} ({trials})"
    title = f"{first['study']}, {name}" if first["printed"] else name
    side = max(6, 300 // len(order))
    axis = dict(labelFontSize=10, domain=False, title=None)
    base = alt.Chart(Points(values=pairs)).encode(
        x=alt.X("predicted:N", scale=dict(domain=order), axis={**axis, "labelAngle": -90}),
        y=alt.Y("label:N", scale=dict(domain=order), axis=axis),
    )
    cells = base.mark_rect().encode(color=_share_colour(), tooltip=_matrix_tooltips())
    ink = alt.when("datum.share > 0.5").then(alt.value("white")).otherwise(alt.value("#222222"))
    numbers = base.mark_text(fontSize=9).encode(text=alt.Text("share:Q", format=".2f"), color=ink)
    return alt.layer(cells, numbers).properties(
        width=side * len(order),
        height=side * len(order),
        title=alt.Title(
            plain(title),
            subtitle=f"{right:,.0f} of {total:,.0f} right ({right / total:.2%})",
            fontSize=13,
        ),
    )


def _best_of_each_data_set(connection: Connection, *, counts: bool) -> Chart | None:
    groups = _groups(connection, by_network=False)
    if not groups:
        return None
    charts = [_matrix(group, counts) for group in groups]
    figure: Chart = alt.vconcat(*charts).resolve_scale(color="independent")
    return figure


def _groups(connection: Connection, *, by_network: bool) -> list[list[Row]]:
    """Return the pairs of classes of each matrix."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows(connection, sql("questions/confusion"), by_network=by_network):
        key = (row["results"], row["dataset"], row["labels"], row["arch"])
        groups.setdefault(key, []).append(row)
    return list(groups.values())


def _pairs(group: list[Row]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return a matrix's pairs by the classes' names, and the names in the classes' order."""
    names = {row["label"]: plain(row["label_name"]) for row in group}
    names |= {row["predicted"]: plain(row["predicted_name"]) for row in group}
    pairs = [
        {
            "label": names[row["label"]],
            "predicted": names[row["predicted"]],
            "images": round(float(row["images"]), 1) if row["images"] % 1 else int(row["images"]),
            "share": row["share"],
        }
        for row in group
    ]
    return pairs, [names[index] for index in sorted(names)]


def _small_matrix(group: list[Row], several: bool) -> Chart:
    pairs, order = _pairs(group)
    named = len(order) <= NAMED
    axis = dict(labels=named, ticks=named, labelAngle=0, labelFontSize=10, domain=False)
    side = max(2, 200 // len(order))
    name = [group[0]["arch"], group[0]["labels"], f"({group[0]['dataset']})" if several else None]
    cells = (
        alt.Chart(Points(values=pairs))
        .mark_rect()
        .encode(
            x=alt.X(
                "predicted:N",
                title=None,
                scale=dict(domain=order),
                axis={**axis, "labelAngle": -90},
            ),
            y=alt.Y("label:N", title=None, scale=dict(domain=order), axis=axis),
            color=_share_colour(),
            tooltip=_matrix_tooltips(),
        )
    )
    title = alt.Title(plain(" ".join(str(part) for part in name if part)), fontSize=13)
    return alt.layer(cells).properties(
        width=side * len(order), height=side * len(order), title=title
    )


def _matrix(group: list[Row], counts: bool) -> Chart:
    pairs, order = _pairs(group)
    side = max(8, min(42, 560 // len(order)))
    axes = cell_axes(group)
    right = sum(pair["images"] for pair in pairs if pair["label"] == pair["predicted"])
    total = sum(pair["images"] for pair in pairs)
    font = min(12, side)
    base = alt.Chart(Points(values=pairs)).encode(
        x=alt.X(
            "predicted:N",
            title="predicted class",
            scale=dict(domain=order),
            axis=dict(labelAngle=-45 if len(order) <= NAMED else -90, labelFontSize=font),
        ),
        y=alt.Y(
            "label:N",
            title="true class",
            scale=dict(domain=order),
            axis=dict(labelFontSize=font),
        ),
    )
    most = max(pair["images"] for pair in pairs)
    colour = (
        alt.Color("images:Q", title="images", scale=dict(scheme="blues", domain=[0, most]))
        if counts
        else _share_colour()
    )
    cells = base.mark_rect(stroke="white", strokeWidth=1 if len(order) <= NAMED else 0).encode(
        color=colour, tooltip=_matrix_tooltips()
    )
    layers: list[alt.Chart] = [cells]
    if len(order) <= NAMED:
        dark = alt.when(f"datum.images > {most / 2}" if counts else "datum.share > 0.5")
        ink = dark.then(alt.value("white")).otherwise(alt.value("#222222"))
        number = alt.Text("images:Q") if counts else alt.Text("share:Q", format=".2f")
        layers.append(base.mark_text(fontSize=11).encode(text=number, color=ink))
    trials = "1 trial" if group[0]["n"] == 1 else f"{group[0]['n']} trials"
    subtitle = (
        f"{cell_label(group[0], axes)} · {trials} · {right:,} of {total:,} test "
        f"images right ({right / total:.2%})"
    )
    data = f"{group[0]['dataset'] or ''} {group[0]['labels'] or ''}".strip()
    config = "one config (validation chose none)" if group[0]["unchosen"] else "the best config"
    heading = f"{'Confused images' if counts else 'Confusion'} of {config} on"
    return alt.layer(*layers).properties(
        width=side * len(order),
        height=side * len(order),
        title=dict(text=f"{heading} {data}", subtitle=plain(subtitle)),
    )


def _share_colour() -> alt.Color:
    """Return the colour of shares, on one scale from 0 to 1, so that matrices can be compared."""
    return alt.Color(
        "share:Q",
        title="share of the true class",
        scale=dict(scheme="blues", domain=[0, 1]),
        legend=dict(format=".1f"),
    )


def _matrix_tooltips() -> list[alt.Tooltip]:
    return [
        alt.Tooltip("label:N", title="true class"),
        alt.Tooltip("predicted:N", title="predicted class"),
        alt.Tooltip("images:Q", title="images"),
        alt.Tooltip("share:Q", title="share of the true class", format=".1%"),
    ]
