"""One self-contained HTML page with every table and interactive figure, and the files beside it."""

from __future__ import annotations

import html
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from string import Template

from analysis.charts.catalog import PLOTS, make_plot
from analysis.charts.figure_formats import Spec, embedded, script
from analysis.charts.svg import svg_process
from analysis.results.database import Connection, held, rows
from analysis.results.errors import AnalysisError
from analysis.results.regular_file import read_small_text
from analysis.results.sql_files import sql
from analysis.results.table_files import damage, folders_of
from analysis.tables.catalog import TABLES, make_table
from analysis.tables.cell_labels import Row
from analysis.tables.sweep_tables import trials_text
from analysis.tables.table_formats import MISSING, Table, format_value, render, to_html

COSTS = [name for name in PLOTS if "-vs-" in name]
MOST_ROWS = 500  # of a table; the files beside the page have all
PAIRED_WIDTH = 410  # points; two figures stand side by side
TABLE_FILES = {"csv": ".csv", "markdown": ".md"}


def write_report(connection: Connection, out_dir: str | Path) -> Path:
    """Write `index.html`, `tables/*` and `figures/*.svg`; return the page's path."""
    out = Path(out_dir)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AnalysisError(f"{out}: cannot be made ({error.strerror})") from None
    with svg_process() as process, held(connection):
        figures = {}
        for name, spec in _figures(connection):
            figures[name] = spec
            process.draw(spec)
        tables = {name: make_table(connection, name) for name in TABLES}
        drawings = dict(zip(figures, process.drawings(), strict=True))
        page = _page(connection, tables, figures, drawings)
    files = {f"figures/{name}.svg": text.encode() for name, text in drawings.items() if text}
    for name, table in tables.items():
        for format, suffix in TABLE_FILES.items():
            files[f"tables/{name}{suffix}"] = render(table, format).encode()
    for name, content in {**files, "index.html": page.encode()}.items():
        _write(out / name, content)
    return out / "index.html"


def _figures(connection: Connection) -> Iterator[tuple[str, Spec]]:
    """Yield the figures that have something to show."""
    for name in PLOTS:
        try:
            spec = make_plot(connection, name)
        except AnalysisError:
            continue
        if name in COSTS:
            spec["width"] = PAIRED_WIDTH
        yield name, spec


def _write(path: Path, content: bytes) -> None:
    """Write a file atomically, so that a page that is open meanwhile stays readable."""
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        raise AnalysisError(f"{path}: cannot be written ({error.strerror})") from None


def _page(
    connection: Connection,
    tables: dict[str, Table],
    figures: dict[str, Spec],
    drawings: dict[str, str | None],
) -> str:
    overview = rows(connection, sql("questions/overview"))
    template = Template((Path(__file__).parent / "report.html").read_text(encoding="utf-8"))
    names = ", ".join(row["results"] for row in overview)
    return template.substitute(
        title=html.escape(names),
        facts=_facts(overview),
        notes=_notes(connection, overview),
        comparison=_table(tables["comparison"], "comparison"),
        real="\n".join(
            f"<h3>{html.escape(tables[name].title)}</h3>{_table(tables[name], name)}"
            for name in ("paired", "ranking")
            if tables[name].rows
        )
        + _available_figures(("ranks",), drawings),
        costs="\n".join(_figure(name, drawings) for name in COSTS),
        parameters=_table(tables["parameters"], "parameters"),
        scaling=(
            f"<h3>Scaling</h3>{_table(tables['scaling'], 'scaling')}"
            if tables["scaling"].rows
            else ""
        ),
        training_time=_table(tables["training-time"], "training-time"),
        curves="\n".join(
            _figure(name, drawings) for name in ("curves", "training-curves", "lr-schedule")
        ),
        gap=_table(tables["gap"], "gap"),
        settings_figures="\n".join(_figure(name, drawings) for name in ("final-bars", "ablation"))
        + _available_figures(("lr-sensitivity", "parallel-coordinates"), drawings),
        confusion="\n".join(
            _figure(name, drawings)
            for name in ("confusion", "confusion-counts", "confusion-networks")
        )
        + _available_figures(("confusion-reported",), drawings),
        per_class=_table(tables["per-class"], "per-class"),
        classification=_table(tables["classification-report"], "classification-report"),
        papers="\n".join(
            f"<h3>{html.escape(tables[name].title)}</h3>{_table(tables[name], name)}"
            + (_figure(name, drawings) if name in drawings else "")
            for name in ("reported", "enhancement", "label-sets", "coarse-from-fine")
            if tables[name].rows
        )
        or f'<p class="nothing">{html.escape(tables["reported"].caption)}</p>',
        coverage=_table(tables["coverage"], "coverage"),
        failures=_table(tables["failures"], "failures"),
        settings=_table(tables["settings"], "settings"),
        sweeps=_sweep_files(connection),
        provenance=_table(tables["provenance"], "provenance"),
        script=script(),
        specs=embedded({name: spec for name, spec in figures.items() if drawings[name]}),
    )


def _facts(overview: list[Row]) -> str:
    """Return the key facts of each folder: trials, cells, networks, time, devices."""
    lines = []
    for row in overview:
        facts = {
            "trials complete": trials_text(row).partition(",")[0] or MISSING,
            "cells": format_value(row["cells"], "count"),
            "networks": format_value(len(row["archs"] or []), "count"),
            "seeds": format_value(row["seeds"], "count"),
            "wall time of all trials": duration(row["wall_time_s"]),
            "devices": ", ".join(row["devices"] or []) or MISSING,
            "last trial ended (UTC)": row["last_end"] or MISSING,
        }
        name = f"<h3>{html.escape(row['results'])}</h3>" if len(overview) > 1 else ""
        items = "".join(
            f"<div><dt>{html.escape(key)}</dt><dd>{html.escape(value)}</dd></div>"
            for key, value in facts.items()
        )
        lines.append(f'{name}<dl class="facts">{items}</dl>')
    return "\n".join(lines)


def duration(seconds: float | None) -> str:
    """Return a time in the unit that fits it."""
    if seconds is None:
        return MISSING
    for factor, unit in ((3600, "h"), (60, "min")):
        if seconds >= factor:
            return f"{format_value(seconds / factor, 'seconds')} {unit}"
    return f"{format_value(seconds, 'seconds')} s"


def _notes(connection: Connection, overview: list[Row]) -> str:
    """Return warnings: incomplete sweeps, unequal image sizes, damaged files."""
    notes = []
    for row in overview:
        # Pruned trials are intended: stopping rules end them early.
        if row["planned"] and row["complete"] + row["pruned"] != row["planned"]:
            notes.append(f"{row['results']}: not every trial is complete ({trials_text(row)}).")
    sizes: dict[str, set[int]] = {}
    for row in rows(connection, sql("questions/costs")):
        if row["image_size"]:
            sizes.setdefault(row["results"], set()).add(row["image_size"])
    for results, sides in sizes.items():
        if len(sides) > 1:
            listed = ", ".join(map(str, sorted(sides)))
            notes.append(
                f"{results}: image sizes differ ({listed} px), so the table compares networks "
                "with their inputs, not networks alone."
            )
    notes += damage(connection)
    items = "".join(f"<li>{html.escape(note)}</li>" for note in notes)
    return f'<ul class="notes">{items}</ul>' if notes else ""


def _table(table: Table, name: str) -> str:
    """Return a table's element, its first rows if there are very many, with links to its files."""
    links = " · ".join(
        f'<a href="tables/{name}{suffix}">{suffix[1:]}</a>' for suffix in TABLE_FILES.values()
    )
    more = len(table.rows) - MOST_ROWS
    rest = f'<p class="caption">… and {more:,} more rows in the files</p>\n' if more > 0 else ""
    shown = replace(table, rows=table.rows[:MOST_ROWS])
    return (
        f'<div class="table">{to_html(shown)}</div>\n{rest}'
        f'<p class="caption">{html.escape(table.caption)}</p>\n<p class="files">{links}</p>'
    )


def _figure(name: str, drawings: dict[str, str | None]) -> str:
    """Return a figure's element: its SVG, until the script replaces it by the interactive one."""
    if name not in drawings:
        return f'<p class="nothing">Nothing to show in {html.escape(name)} yet.</p>'
    if not (drawing := drawings[name]):
        return f'<p class="nothing">{html.escape(name)} is too large to be drawn.</p>'
    return (
        f'<figure><div class="drawing" data-figure="{name}">{drawing}</div>'
        f'<p class="files"><a href="figures/{name}.svg">svg</a></p></figure>'
    )


def _available_figures(names: Iterable[str], drawings: dict[str, str | None]) -> str:
    """Return those of the figures that have something to show."""
    return "\n".join(_figure(name, drawings) for name in names if name in drawings)


def _sweep_files(connection: Connection) -> str:
    """Return the newest sweep file of each folder."""
    parts = []
    for results, folder in folders_of(connection).items():
        path = folder / "sweep.yaml"
        try:
            if path.is_symlink():  # a run writes a file; a link may lead to anything
                continue
            text = read_small_text(path, errors="replace")
        except OSError:
            continue
        parts.append(
            f"<details><summary>Sweep file of {html.escape(results)}</summary>"
            f"<pre>{html.escape(text)}</pre></details>"
        )
    return "\n".join(parts)
