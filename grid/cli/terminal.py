"""Output of the command: messages, tables, the outcome of a run; errors turned into messages."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from analysis.results.location import as_folder, is_address
from grid.cli.output import plain
from grid.screen import print, print_warning, shown

# Rows of a table that a terminal gets, and that rich lays out.
MOST_ROWS = 200
LINE = "\N{BOX DRAWINGS LIGHT HORIZONTAL}"

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable

    from analysis.tables.table_formats import Table
    from grid.run.session import Summary


def fail(message: str, code: int = 2) -> NoReturn:
    """Print a message on standard error and exit."""
    print(f"cnngrid: {message}", file=sys.stderr)
    sys.exit(code)


@contextlib.contextmanager
def analysis_errors() -> Iterator[None]:
    """End the command with a message on an `AnalysisError`; print warnings about damaged files."""
    import warnings

    from analysis.results.errors import AnalysisError, ResultsWarning

    with warnings.catch_warnings():
        warnings.simplefilter("always", ResultsWarning)
        warnings.showwarning = print_warning
        try:
            yield
        except AnalysisError as problem:
            fail(str(problem))


@contextlib.contextmanager
def data_errors() -> Iterator[None]:
    """End the command with a message on a `DataError`."""
    from cnncore.data import DataError

    try:
        yield
    except DataError as problem:
        fail(str(problem))


@contextlib.contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """End the command with a message if a file cannot be written."""
    try:
        yield
    except OSError as error:
        fail(f"{path}: cannot be written ({error.strerror})")


def print_outcome(summary: Summary, console: Console) -> None:
    """Print the states of a run's trials, the table `comparison` and the path of the report."""
    from grid.phrases import counted, format_s

    counts = {**summary.states, **({"paused": summary.paused} if summary.paused else {})}
    states = ", ".join(f"{count} {state}" for state, count in counts.items()) or "nothing"
    others = f", {summary.elsewhere} left to other drivers" if summary.elsewhere else ""
    if not summary.ran and not summary.unfinished:
        print(f"{summary.folder}: nothing to do, {states}{others}")
        return
    duration = format_s(summary.wall_time_s)
    left = summary.unfinished - summary.paused
    not_run = f", {left} not run" if left else ""
    print(
        f"{summary.folder}: {states}{not_run}{others}; "
        f"{counted(summary.ran, 'trial')} in {duration}\n"
    )
    if summary.states.get("complete"):
        try:
            _print_answers(summary, console)
        except Exception as error:  # the trials are stored, whatever becomes of their page
            print(f"cnngrid: no report: {_reason(error)}", file=sys.stderr)
    if summary.interrupted or summary.unfinished:
        print("run the same command again to go on", file=sys.stderr)


def _reason(error: Exception) -> str:
    """Return the message of an error that users can meet, with its type for any other."""
    from analysis.results.errors import AnalysisError
    from cnncore.error_text import error_line

    return str(error) if isinstance(error, OSError | AnalysisError) else error_line(error)


def _print_answers(summary: Summary, console: Console) -> None:
    """Print the table `comparison`, write the report and print its path."""
    from analysis import make_table, write_report
    from analysis.results.database import connect

    connection = connect(summary.folder)
    command = f"cnngrid table {shlex.quote(str(summary.folder))} comparison --format csv"
    print_table(make_table(connection, "comparison"), console, command)
    if is_address(summary.folder):
        print(f"\nreport: cnngrid report {shlex.quote(str(summary.folder))}")
        return
    print(f"\nreport: {write_report(connection, as_folder(summary.folder) / 'report')}")


def print_table(table: Table, console: Console, all_rows: str = "--format csv has all") -> None:
    """Print a table of the analysis, with its title and its caption.

    A terminal gets the first rows; `all_rows` says where the others are.
    """
    from rich.text import Text

    more = len(table.rows) - MOST_ROWS
    if more > 0 and not console.is_terminal and console.encoding == "utf-8":
        console.file.write("".join(f"{line}\n" for line in _plain_lines(table)))
    elif more > 0 and console.is_terminal:
        print_rich(_rich_table(replace(table, rows=table.rows[:MOST_ROWS]), console), console)
        console.print(f"... {more:,} more rows: {all_rows}", highlight=False, markup=False)
    else:
        print_rich(_rich_table(table, console), console)
    if table.caption:
        console.print(Text(table.caption, style="dim"))


def _rich_table(table: Table, console: Console) -> RichTable:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    def cell(text: str, style: str = "") -> Text:
        return Text(plain(shown(text), console.encoding), style)

    heading = cell(table.title, "table.title") if table.title else None
    rich_table = RichTable(box=box.SIMPLE_HEAD, title=heading, title_justify="left")
    for column, title in zip(table.columns, table.titles(), strict=True):
        rich_table.add_column(cell(title), justify="right" if column.right else "left")
    for row in table.text_rows():
        rich_table.add_row(*map(cell, row))
    return rich_table


def _plain_lines(table: Table) -> Iterator[str]:
    """Yield the lines that rich prints into a file, which takes it a millisecond a row."""
    from rich.cells import cell_len

    lines = [[shown(text) for text in row] for row in (table.titles(), *table.text_rows())]
    sizes = [[cell_len(text) for text in row] for row in lines]
    widths = [max(column) for column in zip(*sizes, strict=True)]
    width = sum(widths) + 3 * len(widths) + 1
    if table.title:
        yield shown(table.title).ljust(width)
    yield " " * width
    for row, lengths in zip(lines, sizes, strict=True):
        padding = [" " * (w - length) for w, length in zip(widths, lengths, strict=True)]
        cells = [
            space + text if column.right else text + space
            for column, text, space in zip(table.columns, row, padding, strict=True)
        ]
        yield f"  {'   '.join(cells)}  "
        if row is lines[0]:
            yield f" {LINE * (width - 2)} "
    yield " " * width


def print_rich(table: RichTable, console: Console) -> None:
    """Print a table of rich's, fitted to a terminal, or at its full width into a file or pipe."""
    if not console.is_terminal:
        console.width = 10_000
        console.width = max(console.measure(table).maximum, 80)
    console.print(table)
