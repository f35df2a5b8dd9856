"""The sub-command that looks into a finished trial; torch is loaded only once there is one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from grid.cli.options import Results
from grid.cli.terminal import answering, fail, print_table
from grid.explain.registry import ANALYSES, Options, find_analysis

if TYPE_CHECKING:
    from PIL.Image import Image

    from analysis.tables.table_formats import Table


def explain(
    results: Results,
    analysis: Annotated[str | None, typer.Argument(help="An analysis's name.")] = None,
    trial: Annotated[
        str | None, typer.Option(help="A trial's id, or its start [default: the best cell's best].")
    ] = None,
    layer: Annotated[str | None, typer.Option(help="A layer [default: the first one].")] = None,
    image: Annotated[int | None, typer.Option(min=0, help="Place of a test image, from 0.")] = None,
    count: Annotated[int | None, typer.Option(min=1, help="How many to show, at most.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", help="FILE.png of a figure; .md .csv .tex .html or .json of a table."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Where data sets are [default: $CNNGRID_DATA, else ~/.cache]."),
    ] = None,
) -> None:
    """Look into a finished trial's network; without an analysis, list them."""
    from grid.api import default_data_dir

    if analysis is None:
        for name, known in ANALYSES.items():
            print(f"{name:16} {known.meaning}")
        return
    options = Options(layer, image, count)
    make = find_analysis(analysis, options)
    from PIL.Image import Image

    from grid.explain.opened_trial import open_subject

    with answering():
        subject = open_subject(results, trial, data or default_data_dir())
        try:
            made = make(subject, options)
        except ValueError as problem:
            fail(f"{analysis} of trial {subject.trial_id}: {problem}")
        if isinstance(made, Image):
            _save_figure(made, output or Path(f"{analysis}.png"))
        else:
            _show_table(made, output)


def _save_figure(figure: Image, path: Path) -> None:
    if path.suffix.lower() != ".png":
        fail(f"{path}: a figure of this kind is a .png file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.save(path)
    except OSError as error:
        fail(f"{path}: cannot be written ({error.strerror})")
    print(path)


TABLE_FORMATS = {
    ".md": "markdown", ".csv": "csv", ".tex": "latex", ".html": "html", ".json": "json"
}  # fmt: skip


def _show_table(table: Table, path: Path | None) -> None:
    from rich.console import Console

    from analysis.tables.table_formats import render

    if path is None:
        print_table(table, Console())
        return
    if path.suffix.lower() not in TABLE_FORMATS:
        fail(f"{path}: a table's suffix is one of {', '.join(TABLE_FORMATS)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(render(table, TABLE_FORMATS[path.suffix.lower()]), encoding="utf-8")
    except OSError as error:
        fail(f"{path}: cannot be written ({error.strerror})")
    print(path)
