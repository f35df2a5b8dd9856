"""The sub-command that looks into a finished trial; torch is loaded only once there is one."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from grid.answers import Results, answering
from grid.terminal import fail, print_table

if TYPE_CHECKING:
    from PIL.Image import Image

    from analysis.formats import Table
    from grid.subject import Subject


@dataclass(frozen=True)
class Options:
    """What to look at; None where the command said nothing."""

    layer: str | None = None
    image: int | None = None
    count: int | None = None


@dataclass(frozen=True)
class Analysis:
    """An analysis: `module:function` that makes it, what it shows, the options it takes."""

    make: str
    meaning: str
    options: tuple[str, ...] = ()


ANALYSES: dict[str, Analysis] = {
    "samples": Analysis(
        "grid.explanations:samples", "validation images of every class, a class a row", ("count",)
    ),
    "predictions": Analysis(
        "grid.explanations:predictions", "test images with true class, predicted class, confidence",
        ("count",),
    ),
    "errors": Analysis(
        "grid.explanations:errors", "misclassified test images, the most confident first",
        ("count",),
    ),
    "feature-maps": Analysis(
        "grid.explanations:feature_maps", "what a layer makes of a test image",
        ("layer", "image", "count"),
    ),
    "attributions": Analysis(
        "grid.explanations:attributions",
        "which pixels speak for a prediction, by three methods, checked against fresh weights",
        ("image", "count"),
    ),
    "receptive-field": Analysis(
        "grid.explanations:receptive_field", "how much of the image each layer's elements see"
    ),
    "separable-cost": Analysis(
        "grid.explanations:separable_cost",
        "depthwise-separable blocks: multiply-accumulates counted and by 1/N + 1/DK^2",
    ),
    "enhancement": Analysis(
        "grid.explanations:enhancement",
        "errors that brightness, contrast and sharpness repair, and right answers they break; "
        "also stored as the table enhancement",
    ),
}  # fmt: skip


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
    from grid.runner import default_data_dir

    if analysis is None:
        for name, known in ANALYSES.items():
            print(f"{name:16} {known.meaning}")
        return
    options = Options(layer, image, count)
    make = _find(analysis, options)
    from PIL.Image import Image

    from grid.subject import open_subject

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


def _find(name: str, options: Options) -> Callable[[Subject, Options], Image | Table]:
    """The function of an analysis; leaves where there is none, or it does not take an option."""
    if name not in ANALYSES:
        close = difflib.get_close_matches(name, ANALYSES, n=1)
        hint = f" (closest: {close[0]})" if close else ""
        fail(f"there is no analysis {name!r}{hint}; there are: {', '.join(ANALYSES)}")
    takes = ANALYSES[name].options
    for option, value in vars(options).items():
        if value is not None and option not in takes:
            fail(f"{name} takes no --{option}; its options: {', '.join(takes) or 'none'}")
    module, _, function = ANALYSES[name].make.partition(":")
    found: Callable[[Subject, Options], Image | Table]
    found = getattr(importlib.import_module(module), function)
    return found


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

    from analysis.formats import render

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
