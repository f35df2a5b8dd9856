"""The sub-commands `sql`, `table`, `plot` and `report`; none of them needs Ray or torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from analysis.results.location import as_folder, is_address, last_part
from grid.cli.options import All, Results
from grid.cli.terminal import analysis_errors, fail, print_table, write_errors
from grid.screen import open_console, print, print_data, print_warning

Metric = Annotated[
    str | None,
    typer.Option(
        help="Compare by another number than the objective's on test images: test_loss, "
        "test_macro_f1, objective, a metric of the sweep, ..."
    ),
]


def sql(
    results: Annotated[list[str], typer.Argument(help="Results folders, then the SQL.")],
    format: Annotated[
        str, typer.Option(help="table, markdown, csv, json or parquet (needs -o).")
    ] = "table",
    output: Annotated[Path | None, typer.Option("-o", help="Write the answer to a file.")] = None,
    all: All = False,
) -> None:
    """Ask the results anything: cnngrid sql results/digits "SELECT * FROM best"."""
    if len(results) < 2:
        fail('give a results folder and a question, such as "SELECT * FROM best"')
    *folders, question = results
    with analysis_errors():
        from analysis import ask
        from analysis.tables.table_formats import answer_table, render

        answer = ask(question, *folders, all=all)
        for warning in answer.warnings:
            print_warning(warning)
        if format == "parquet":
            if output is None:
                fail("--format parquet needs -o FILE")
            answer.write_parquet(output)
        elif format == "table" and output is None:
            print_table(answer_table(answer), open_console())
        else:
            text = render(answer_table(answer), "markdown" if format == "table" else format)
            _print_or_write(text, output)


def table(
    results: Results,
    name: Annotated[str | None, typer.Argument(help="A table's name.")] = None,
    format: Annotated[
        str, typer.Option(help="table, markdown, latex, csv, html or json.")
    ] = "table",
    output: Annotated[Path | None, typer.Option("-o", help="Write the table to a file.")] = None,
    metric: Metric = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            metavar="VALUE",
            help="Of convergence: the value to reach, such as 0.6 (default: near the best).",
        ),
    ] = None,
    all: All = False,
) -> None:
    """Print a ready table; without a name, list them."""
    with analysis_errors():
        from analysis import make_table
        from analysis.results.database import connect
        from analysis.tables.catalog import TABLES
        from analysis.tables.table_formats import render

        if name is None:
            connect(results)  # fails if there is no results folder
            for known_name, (_, meaning) in TABLES.items():
                print(f"{known_name:26} {meaning}")
            return
        ready_table = make_table(connect(results, all=all), name, metric, threshold=threshold)
        if format == "table" and output is None:
            print_table(ready_table, open_console())
        else:
            text = render(ready_table, "markdown" if format == "table" else format)
            _print_or_write(text, output)


def plot(
    results: Results,
    name: Annotated[str | None, typer.Argument(help="A figure's name.")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", help="FILE.svg, .png, .pdf or .html.")
    ] = None,
    metric: Metric = None,
    all: All = False,
) -> None:
    """Draw a ready figure; without a name, list them."""
    with analysis_errors():
        from analysis import save_plot
        from analysis.charts.catalog import PLOTS
        from analysis.results.database import connect

        if name is None:
            for known_name, (_, meaning) in PLOTS.items():
                print(f"{known_name:26} {meaning}")
            return
        path = output or Path(f"{name}.svg")
        save_plot(connect(results, all=all), name, path, metric)
        print(path)


def report(
    results: Results,
    output: Annotated[
        Path | None,
        typer.Option("-o", help="Folder (default: RESULTS/report; of an address: SWEEP-report)."),
    ] = None,
    all: All = False,
) -> None:
    """Write one self-contained HTML page with every table and figure, and the files beside it."""
    with analysis_errors():
        from analysis import write_report
        from analysis.results.database import connect

        print(write_report(connect(results, all=all), output or _report_folder(results)))


def _report_folder(results: str) -> Path:
    """Return the default folder of a report: on this machine, even if the results are not."""
    if is_address(results):
        return Path(f"{last_part(results)}-report")
    return as_folder(results) / "report"


def _print_or_write(text: str, output: Path | None) -> None:
    """Write a text to a file, or print it if there is none."""
    if output is None:
        print_data(text)
        return
    with write_errors(output):
        output.write_text(text, encoding="utf-8")
