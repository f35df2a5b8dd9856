"""The sub-command `explain`; torch is loaded only for an analysis of a trial."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from grid.cli.options import DataDir, Results
from grid.cli.terminal import analysis_errors, fail, print_table, write_errors
from grid.explain.registry import ANALYSES, Options, find_analysis
from grid.screen import open_console, print

if TYPE_CHECKING:
    from PIL.Image import Image

    from analysis.tables.table_formats import Table

# The format of a table, by the suffix of its file.
TABLE_FORMATS = {
    ".md": "markdown", ".csv": "csv", ".tex": "latex", ".html": "html", ".json": "json"
}  # fmt: skip


def explain(
    results: Results,
    analysis: Annotated[str | None, typer.Argument(help="An analysis's name.")] = None,
    trial: Annotated[
        str | None,
        typer.Option(help="A trial's id, or the start of it (default: the best of the best cell)."),
    ] = None,
    layer: Annotated[str | None, typer.Option(help="A layer (default: the first one).")] = None,
    image: Annotated[
        int | None, typer.Option(min=0, help="Number of a test image, from 0.")
    ] = None,
    count: Annotated[
        int | None, typer.Option(min=1, help="Largest number of images, rows or maps.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", help="FILE.png of a figure; .md .csv .tex .html or .json of a table."),
    ] = None,
    data: DataDir = None,
    trust: Annotated[
        bool,
        typer.Option("--trust", help="Run the networks and data sets of others that it names."),
    ] = False,
) -> None:
    """Analyse the network of a finished trial; without an analysis, list them."""
    from grid.api import default_data_dir

    if analysis is None:
        for name, entry in ANALYSES.items():
            print(f"{name:16} {entry.meaning}")
        return
    options = Options(layer, image, count)
    analyse = find_analysis(analysis, options)
    from PIL.Image import Image

    from grid.explain.opened_trial import open_finished_trial

    with analysis_errors():
        opened = open_finished_trial(results, trial, data or default_data_dir(), trust=trust)
        try:
            figure_or_table = analyse(opened, options)
        except ValueError as problem:
            fail(f"{analysis} of trial {opened.trial_id}: {problem}")
        if isinstance(figure_or_table, Image):
            _save_figure(figure_or_table, output or Path(f"{analysis}.png"))
        else:
            _print_or_save_table(figure_or_table, output)


def _save_figure(figure: Image, path: Path) -> None:
    """Save a figure and print its path."""
    if path.suffix.lower() != ".png":
        fail(f"{path}: a figure of this kind is a .png file")
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.save(path)
    print(path)


def _print_or_save_table(table: Table, path: Path | None) -> None:
    """Save a table and print its path, or print the table if there is no path."""
    from analysis.tables.table_formats import render

    if path is None:
        print_table(table, open_console())
        return
    if path.suffix.lower() not in TABLE_FORMATS:
        fail(f"{path}: a table's suffix is one of {', '.join(TABLE_FORMATS)}")
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(render(table, TABLE_FORMATS[path.suffix.lower()]), encoding="utf-8")
    print(path)
